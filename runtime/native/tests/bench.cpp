// Times encoding and decoding, the engine's share apart, for tools/bench/native.py: each line of standard input,
// "encode" or "decode", runs once and is answered with the milliseconds of the whole and of the graphs.
//
//     bench BUNDLE LIBONNXRUNTIME THREADS PIXELS WIDTH HEIGHT
#include <chrono>
#include <cstdint>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <vector>

#include "codec.hpp"

namespace {

using Clock = std::chrono::steady_clock;

// Adds up the time of stages by whether they are graphs.
class Stopwatch {
   public:
    void begin(const std::string &stage) {
        end();
        in_graph_ = stage != "image" && stage != "coder" && stage != "container";
    }
    void end() {
        const Clock::time_point now = Clock::now();
        if (in_graph_) graphs_ += now - last_;
        last_ = now;
        in_graph_ = false;
    }
    double total_ms() const { return std::chrono::duration<double, std::milli>(last_ - first_).count(); }
    double graphs_ms() const { return std::chrono::duration<double, std::milli>(graphs_).count(); }

   private:
    Clock::time_point first_ = Clock::now(), last_ = first_;
    Clock::duration graphs_{};
    bool in_graph_ = false;
};

}  // namespace

int main(int argc, char **argv) {
    if (argc != 7) return 2;
    std::ifstream file(argv[4], std::ios::binary);
    std::vector<uint8_t> pixels(std::istreambuf_iterator<char>(file), {});
    const auto width = static_cast<uint32_t>(std::stoul(argv[5])), height = static_cast<uint32_t>(std::stoul(argv[6]));
    if (pixels.size() != size_t{3} * width * height) return 2;
    try {
        mlic::Codec codec(mlic::Bundle::open(argv[1]), mlic::Engine(argv[2], std::stoi(argv[3])),
                          mlic::CertificateCache("off"), {});
        codec.prepare(true, true);
        const mlic::Pixels picture{pixels.data(), size_t{3} * width, 3};
        std::vector<uint8_t> data = codec.encode(picture, width, height, {});
        std::vector<uint8_t> decoded(pixels.size());
        for (std::string line; std::getline(std::cin, line);) {
            Stopwatch watch;
            const mlic::Progress progress = [&watch](const std::string &stage) { watch.begin(stage); };
            if (line == "encode") {
                data = codec.encode(picture, width, height, {}, progress);
            } else {
                const mlic::Bitstream stream = codec.read(data.data(), data.size(), progress);
                codec.decode(stream, mlic::region_box(stream, {}), decoded.data(), size_t{3} * width, progress);
            }
            watch.end();
            std::cout << watch.total_ms() << ' ' << watch.graphs_ms() << std::endl;
        }
    } catch (const std::exception &error) {
        std::cerr << "bench: " << error.what() << '\n';
        return 1;
    }
}
