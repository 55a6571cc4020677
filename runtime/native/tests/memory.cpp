// Encodes and decodes a picture once and prints the peak of the process's resident memory in bytes, for
// tests/native/test_large_pictures.py:
//
//     memory BUNDLE LIBONNXRUNTIME PIXELS WIDTH HEIGHT
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>

#include "mlic.hpp"

namespace {

// Not getrusage(), whose peak is that of the program from which this one was started, if that had more.
std::size_t peak_bytes() {
    std::ifstream status("/proc/self/status");
    const std::string name = "VmHWM:";
    for (std::string line; std::getline(status, line);)
        if (line.compare(0, name.size(), name) == 0) return std::stoul(line.substr(name.size())) * 1024;
    throw std::runtime_error("/proc/self/status has no VmHWM");
}

}  // namespace

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
        std::cout << peak_bytes() << '\n';
    } catch (const std::exception &error) {
        std::cerr << "memory: " << error.what() << '\n';
        return 1;
    }
}
