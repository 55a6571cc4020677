// Decodes arbitrary bytes through mlic.h. Environment: MLIC_FUZZ_BUNDLE, a small bundle such as tests/tiny_bundle.py
// makes, and MLIC_ONNXRUNTIME.
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
    if (bundle == nullptr || mlic_open(bundle, &options, &codec) != MLIC_OK) {
        const char *reason = bundle == nullptr ? "MLIC_FUZZ_BUNDLE is not set" : mlic_last_error();
        std::fprintf(stderr, "fuzz_decode: %s\n", reason);
        std::exit(2);
    }
    return codec;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static mlic_codec *const codec = open_codec();
    static std::vector<uint8_t> pixels(3 * MAX_PIXELS);
    switch (mlic_decode(codec, data, size, pixels.data(), pixels.size(), 0)) {
        case MLIC_OK:
        case MLIC_TRUNCATED_STREAM:
        case MLIC_CORRUPT_STREAM:
        case MLIC_UNSUPPORTED_STREAM:
        case MLIC_ENGINE_MISMATCH:
            return 0;
        case MLIC_ENGINE_FAILED:  // symbols that no encoder writes may lead a network to values that are not finite
            return 0;
        default:
            std::fprintf(stderr, "fuzz_decode: %s\n", mlic_last_error());
            std::abort();
    }
}
