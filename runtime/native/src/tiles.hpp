// How a padded picture is cut into tiles: twin of runtime/tiles.py, whose head says why all tiles have one shape.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "manifest.hpp"

namespace mlic {

// A rectangle in pixels.
struct Box {
    int64_t top;
    int64_t left;
    int64_t height;
    int64_t width;

    int64_t bottom() const { return top + height; }
    int64_t right() const { return left + width; }
    Box moved(int64_t down, int64_t across) const { return {top + down, left + across, height, width}; }
    // The box on a map with one position for each stride x stride pixels, which it must fit.
    Box divided(int64_t stride) const;
    // What two boxes share; none if that is nothing.
    std::optional<Box> common(const Box &other) const;
    bool operator==(const Box &other) const {
        return top == other.top && left == other.left && height == other.height && width == other.width;
    }
};

// One run of a graph; boxes in pixels of the padded picture.
struct Tile {
    Box computed;  // what the graph sees and gives
    Box kept;      // what of that is right, a part of `computed`
};

// Cuts a picture into the tiles that together compute least; from left to right and from top to bottom, what they keep
// makes up the picture. `height` and `width` are of the padded picture, multiples of the tiling's; none for one tile.
// `tile_pixels` is what a tile may compute, `largest` the height and width that none may exceed; both are exceeded only
// where the halo leaves no choice.
std::vector<Tile> tile_grid(int64_t height, int64_t width, const std::optional<Tiling> &tiling, int64_t tile_pixels,
                            const std::array<int64_t, 2> &largest);

}  // namespace mlic
