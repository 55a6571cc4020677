// The picture grid, a picture cut into cells that are pictures of their own: twin of runtime/grid.py, whose head has
// the byte table of the chunk GRID.
#pragma once

#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "bytes.hpp"
#include "container.hpp"
#include "tiles.hpp"

namespace mlic {

// Contents of the chunk GRID.
struct Grid {
    uint32_t cell_width = 0;       // in pixels, of all cells but those at the right edge
    uint32_t cell_height = 0;      // in pixels, of all cells but those at the lower edge
    std::vector<Bitstream> cells;  // from left to right and from top to bottom
};

struct CellSize {
    uint32_t height;
    uint32_t width;
};

// Where each cell lies in its picture, from left to right and from top to bottom.
std::vector<Box> cell_boxes(int64_t height, int64_t width, CellSize cell);

// Cells for a picture: the fewest, then those with the shortest seams. `multiple` is that of the padding,
// `latent_pixels` what a cell may have, multiple squared or more.
CellSize cell_size(int64_t height, int64_t width, int64_t multiple, uint64_t latent_pixels);

// The contents of the chunk; `write` returns a cell's file. Throws Failure(invalid_argument) if that is too large.
std::vector<uint8_t> grid_bytes(const Grid &grid, const std::function<std::vector<uint8_t>(const Bitstream &)> &write);

// Takes the chunk apart. `header` is of the file around it, `read` takes a cell's file apart. Throws Failure:
// corrupt_stream, unsupported_stream.
Grid read_grid(Bytes contents, const Header &header, const std::function<Bitstream(Bytes)> &read);

}  // namespace mlic
