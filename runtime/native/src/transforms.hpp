// g_a and g_s over the tiles of a picture, so that memory follows the tile, not the picture: twin of
// runtime/transforms.py.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "chain.hpp"
#include "image.hpp"
#include "tiles.hpp"
#include "walk.hpp"

namespace mlic {

// Measured in docs/performance.md, "Tiles"; Python has the same, else the two would write different files.
constexpr uint64_t default_tile_pixels = 5U << 18;

// A picture of the caller's: rows `stride` bytes apart, of `channels` bytes a pixel, 3 or 1 for grey.
struct Pixels {
    const uint8_t *data;
    size_t stride;
    unsigned channels;
};

// Where a picture goes: rows `stride` bytes apart, 3 bytes a pixel. `grey`: make the three planes equal.
struct Target {
    uint8_t *data;
    size_t stride;
    bool grey;

    // The same picture from another pixel on.
    Target from(int64_t row, int64_t column) const {
        return {data + static_cast<size_t>(row) * stride + 3 * static_cast<size_t>(column), stride, grey};
    }
};

// The two transforms of a model; may be used from several threads at once.
class Transforms {
   public:
    // `manifest` and `graphs` have to live as long as this. `tile_pixels`: what one run of a graph may compute, halos
    // included.
    Transforms(const Manifest &manifest, Graphs &graphs, uint64_t tile_pixels);

    // Opens the graph that encoding takes, and the one that decoding takes. Throws Failure(engine_failed).
    void prepare(bool encode, bool decode);

    // Returns the latent of a picture, [1, M, padded height / 16, padded width / 16]. Throws Failure(engine_failed).
    Tensor analyse(const Pixels &pixels, const Frame &frame, const Progress &progress);

    // Writes a part of a picture, computing no tiles but those that it needs, which are those of the whole picture:
    // so a part equals what the whole has there. `region` is in the picture's own pixels, its first one goes to the
    // first of `target`. Throws Failure(engine_failed).
    void synthesise(const Tensor &y_hat, const Frame &frame, const Box &region, const Target &target,
                    const Progress &progress);

   private:
    const Padding padding_;
    const std::array<int64_t, 2> largest_;
    const int64_t tile_pixels_;
    const std::optional<Tiling> analysis_, synthesis_;
    LazyGraph &g_a_;
    LazyGraph &g_s_;
};

}  // namespace mlic
