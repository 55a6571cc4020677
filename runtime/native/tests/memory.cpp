// Encodes and decodes a picture once and prints the peak of the process's resident memory in bytes, for
// tests/native/test_large_pictures.py:
//
//     memory BUNDLE LIBONNXRUNTIME PIXELS WIDTH HEIGHT
#include <sys/resource.h>

#include <fstream>
#include <iostream>
#include <iterator>
#include <string>

#include "mlic.hpp"

int main(int argc, char **argv) {
    if (argc != 6) return 2;
    try {
        mlic::Options options;
        options.onnxruntime = argv[2];
        options.threads = 1;
        mlic::Codec codec(argv[1], options);
        const auto width = static_cast<std::uint32_t>(std::stoul(argv[4]));
        const auto height = static_cast<std::uint32_t>(std::stoul(argv[5]));
        std::vector<std::uint8_t> pixels(std::size_t{3} * width * height);
        std::ifstream(argv[3], std::ios::binary)
            .read(reinterpret_cast<char *>(pixels.data()), static_cast<std::streamsize>(pixels.size()));
        const std::vector<std::uint8_t> data = codec.encode(pixels.data(), width, height);
        codec.decode(data.data(), data.size());
        rusage usage{};
        getrusage(RUSAGE_SELF, &usage);
        std::cout << usage.ru_maxrss * 1024 << '\n';
    } catch (const std::exception &error) {
        std::cerr << "memory: " << error.what() << '\n';
        return 1;
    }
}
