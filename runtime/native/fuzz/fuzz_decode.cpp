// Decodes arbitrary bytes through mlic.h, whole and in part, and reads what goes with the picture. Environment:
// MLIC_FUZZ_BUNDLE, a small bundle such as tests/tiny_bundle.py or integer_bundle.py makes, and MLIC_ONNXRUNTIME.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "chunk_mutator.hpp"
#include "mlic.h"

namespace {

constexpr uint64_t MAX_PIXELS = 1 << 14;  // small pictures are decoded often

mlic_codec *open_codec() {
    const char *bundle = std::getenv("MLIC_FUZZ_BUNDLE");
    mlic_options options = MLIC_OPTIONS_INIT;
    mlic_codec *codec = nullptr;
    options.threads = 1;
    options.max_pixels = MAX_PIXELS;
    options.tile_pixels = 1 << 12;
    options.certificate_cache = "off";
    if (bundle == nullptr || mlic_open(bundle, &options, &codec) != MLIC_OK) {
        const char *reason = bundle == nullptr ? "MLIC_FUZZ_BUNDLE is not set" : mlic_last_error();
        std::fprintf(stderr, "fuzz_decode: %s\n", reason);
        std::exit(2);
    }
    return codec;
}

bool may_be(mlic_status status) {
    switch (status) {
        case MLIC_OK:
        case MLIC_TRUNCATED_STREAM:
        case MLIC_CORRUPT_STREAM:
        case MLIC_UNSUPPORTED_STREAM:
        case MLIC_ENGINE_MISMATCH:
        case MLIC_ENGINE_FAILED:  // symbols that no encoder writes may lead a network to values that are not finite
            return true;
        default:
            return false;
    }
}

void require(bool holds) {
    if (holds) return;
    std::fprintf(stderr, "fuzz_decode: %s\n", mlic_last_error());
    std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static mlic_codec *const codec = open_codec();
    static std::vector<uint8_t> pixels(3 * MAX_PIXELS), part(3 * MAX_PIXELS);
    mlic_info info = MLIC_INFO_INIT;
    const mlic_status known = mlic_read_info(data, size, MAX_PIXELS, &info);
    const mlic_status whole = mlic_decode(codec, data, size, pixels.data(), pixels.size(), 0);
    require(may_be(whole));
    if (known != MLIC_OK) {
        require(whole == known);
        return 0;
    }
    const uint32_t x = info.width / 3, y = info.height / 2, width = info.width - x, height = info.height - y;
    const mlic_status status = mlic_decode_region(codec, data, size, x, y, width, height, part.data(), part.size(), 0);
    require(may_be(status) && (whole != MLIC_OK || status == MLIC_OK));
    for (uint32_t row = 0; whole == MLIC_OK && row < height; ++row) {
        const uint8_t *same = pixels.data() + 3 * (size_t{info.width} * (y + row) + x);
        require(std::equal(same, same + 3 * width, part.data() + size_t{3} * width * row));
    }
    return 0;
}
