// Pictures to `.mlic` files and back: twin of runtime/codec.py.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "bundle.hpp"
#include "container.hpp"
#include "engine.hpp"
#include "pipeline.hpp"
#include "walk.hpp"

namespace mlic {

// What a codec refuses and how it cuts pictures; 0 for the defaults.
struct Limits {
    uint64_t max_pixels = 0;     // of a picture that is encoded or decoded; padded, it may have four times as many
    uint64_t tile_pixels = 0;    // what one run of a transform may compute
    uint64_t latent_pixels = 0;  // larger pictures are cut into cells when encoding
};

// A model on an engine. One object may encode and decode in several threads at once: everything that changes during a
// call belongs to the call, graphs are opened under a lock, and engines run one graph in several threads.
class Codec {
   public:
    // Throws Failure(invalid_argument) if a limit is too small for any picture.
    Codec(Bundle bundle, Engine engine, CertificateCache cache, const Limits &limits);
    Codec(const Codec &) = delete;
    Codec &operator=(const Codec &) = delete;

    const std::array<uint8_t, 8> &model_id() const { return bundle_.manifest().model_id; }

    // Opens graphs now, so that the first picture need not wait for it. Throws Failure: engine_failed, engine_mismatch.
    void prepare(bool encode, bool decode) { pipeline_.prepare(encode, decode); }

    // Throws Failure(invalid_argument) if a picture has no pixels or too many, padded or not.
    void check_size(uint32_t width, uint32_t height) const;
    // A number of bytes that the file of any picture of this size with this metadata fits in. Throws as check_size.
    size_t encode_bound(uint32_t width, uint32_t height, const Metadata &metadata) const;

    // Returns the file of a picture. Throws Failure: invalid_argument, engine_failed, engine_mismatch.
    std::vector<uint8_t> encode(const Pixels &pixels, uint32_t width, uint32_t height, const Metadata &metadata,
                                const Progress &progress = {});

    // Takes a file apart. Throws Failure: truncated_stream, corrupt_stream, unsupported_stream.
    Bitstream read(const uint8_t *data, size_t size, const Progress &progress = {}) const;
    // Throws Failure(unsupported_stream) if a file is not of this model.
    void check(const Bitstream &stream) const { pipeline_.check(stream); }
    // Writes a part of the picture of a file that `read` has taken apart, 3 bytes a pixel, rows `stride` bytes apart,
    // and returns the indexes that had to be corrected. Throws Failure: corrupt_stream, unsupported_stream,
    // engine_mismatch, engine_failed; `pixels` holds some tiles of the picture then, or is as it was.
    std::vector<Change> decode(const Bitstream &stream, const Box &region, uint8_t *pixels, size_t stride,
                               const Progress &progress = {});

   private:
    Bundle bundle_;
    Engine engine_;
    uint64_t max_pixels_;
    uint64_t latent_pixels_;
    Graphs graphs_;
    Pipeline pipeline_;
};

// A region of a picture as a box, or all of it. Throws Failure(invalid_argument) if it is empty or not inside.
struct Region {
    uint32_t x, y, width, height;
};
Box region_box(const Header &picture, const std::optional<Region> &region);

}  // namespace mlic
