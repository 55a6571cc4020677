// Encodes a PPM picture (P6, 8 bits) to a .mlic file, and decodes it again to say how close it comes:
//
//     encode BUNDLE photo.ppm photo.mlic [LIBONNXRUNTIME]
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <fstream>
#include <mlic.hpp>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

mlic::Picture read_ppm(const std::string &path) {
    std::ifstream file(path, std::ios::binary);
    std::string magic;
    unsigned width = 0, height = 0, largest = 0;
    if (!(file >> magic >> width >> height >> largest) || magic != "P6" || largest != 255)
        throw std::runtime_error(path + " is not a PPM picture of 8 bits");
    if (width == 0 || height == 0 || std::uint64_t{width} * height > 1U << 26)
        throw std::runtime_error(path + " is larger than 64 megapixels, or empty");
    file.get();  // one space ends the header
    mlic::Picture picture{width, height, std::vector<std::uint8_t>(std::size_t{3} * width * height)};
    const auto size = static_cast<std::streamsize>(picture.pixels.size());
    if (!file.read(reinterpret_cast<char *>(picture.pixels.data()), size))
        throw std::runtime_error(path + " ends early");
    return picture;
}

double psnr(const std::vector<std::uint8_t> &one, const std::vector<std::uint8_t> &other) {
    double sum = 0;
    for (std::size_t i = 0; i < one.size(); ++i) sum += std::pow(one[i] - other[i], 2);
    return 10 * std::log10(255.0 * 255.0 * static_cast<double>(one.size()) / sum);
}

}  // namespace

int main(int argc, char **argv) {
    if (argc != 4 && argc != 5) {
        std::fprintf(stderr, "usage: encode BUNDLE photo.ppm photo.mlic [LIBONNXRUNTIME]\n");
        return 2;
    }
    try {
        mlic::Options options;
        if (argc == 5) options.onnxruntime = argv[4];
        mlic::Codec codec(argv[1], options);
        const mlic::Picture picture = read_ppm(argv[2]);
        const std::vector<std::uint8_t> data = codec.encode(picture.pixels.data(), picture.width, picture.height);
        std::ofstream file(argv[3], std::ios::binary);
        file.write(reinterpret_cast<const char *>(data.data()), static_cast<std::streamsize>(data.size()));
        file.close();
        if (!file) throw std::runtime_error(std::string(argv[3]) + " cannot be written");
        const mlic::Picture decoded = codec.decode(data.data(), data.size());
        const double bpp = 8.0 * static_cast<double>(data.size()) / picture.width / picture.height;
        std::printf("%zu bytes, %.3f bits per pixel, PSNR %.2f dB\n", data.size(), bpp,
                    psnr(picture.pixels, decoded.pixels));
    } catch (const std::exception &error) {
        std::fprintf(stderr, "encode: %s\n", error.what());
        return 1;
    }
}
