// The same checks in the same order as runtime/grid.py.
#include "grid.hpp"

#include <algorithm>
#include <cassert>
#include <optional>
#include <string>

#include "failure.hpp"

namespace mlic {
namespace {

constexpr int64_t cell_multiple = 64;  // pixels; part of the format: a position of z
constexpr size_t cell_size_bytes = 8;
constexpr size_t length_bytes = 4;

[[noreturn]] void corrupt(const std::string &text) { throw Failure(Status::corrupt_stream, text); }

int64_t divided_up(int64_t number, int64_t divisor) { return (number + divisor - 1) / divisor; }

// The side of `count` cells that are as equal as a multiple allows.
int64_t side_of(int64_t length, int64_t count, int64_t multiple) {
    return divided_up(length, count * multiple) * multiple;
}

std::string sides(uint32_t width, uint32_t height) { return std::to_string(width) + " x " + std::to_string(height); }

Bitstream read_cell(Bytes data, const std::string &name, const std::function<Bitstream(Bytes)> &read) {
    try {
        return read(data);
    } catch (const Failure &failure) {
        // The file is whole, so a cell that ends early is damage, too
        const bool truncated = failure.status == Status::truncated_stream;
        throw Failure(truncated ? Status::corrupt_stream : failure.status, name + ": " + failure.what());
    }
}

void check_side(const char *name, uint32_t value, uint32_t length) {
    const int64_t largest = side_of(length, 1, cell_multiple);
    if (value % cell_multiple == 0 && value > 0 && value <= largest) return;
    corrupt(std::string("GRID has cells of ") + name + " " + std::to_string(value) + "; expected a multiple of " +
            std::to_string(cell_multiple) + " up to " + std::to_string(largest));
}

}  // namespace

std::vector<Box> cell_boxes(int64_t height, int64_t width, CellSize cell) {
    std::vector<Box> boxes;
    for (int64_t top = 0; top < height; top += cell.height) {
        for (int64_t left = 0; left < width; left += cell.width) {
            boxes.push_back(
                {top, left, std::min<int64_t>(cell.height, height - top), std::min<int64_t>(cell.width, width - left)});
        }
    }
    return boxes;
}

CellSize cell_size(int64_t height, int64_t width, int64_t multiple, uint64_t latent_pixels) {
    assert(latent_pixels >= static_cast<uint64_t>(multiple * multiple));
    std::optional<std::pair<int64_t, int64_t>> least;
    int64_t best_height = 0, best_width = 0;
    for (int64_t columns = 1; columns <= divided_up(width, multiple); ++columns) {
        const int64_t cell_width = side_of(width, columns, multiple);
        const uint64_t most = latent_pixels / static_cast<uint64_t>(cell_width * multiple);
        if (most == 0) continue;
        // More than the picture is high is no more use, and could not be counted for limits near 2^64
        const int64_t tallest =
            static_cast<int64_t>(std::min(most, static_cast<uint64_t>(divided_up(height, multiple)))) * multiple;
        const int64_t rows = divided_up(height, tallest), across = divided_up(width, cell_width);
        const std::pair<int64_t, int64_t> cost{rows * across, (across - 1) * height + (rows - 1) * width};
        if (least && !(cost < *least)) continue;
        least = cost;
        best_height = side_of(height, rows, multiple);
        best_width = cell_width;
    }
    assert(least);
    // A side that is not cut need not be more than the format asks for
    return {static_cast<uint32_t>(std::min(best_height, side_of(height, 1, cell_multiple))),
            static_cast<uint32_t>(std::min(best_width, side_of(width, 1, cell_multiple)))};
}

std::vector<uint8_t> grid_bytes(const Grid &grid, const std::function<std::vector<uint8_t>(const Bitstream &)> &write) {
    std::vector<uint8_t> contents;
    put_u32(contents, grid.cell_width);
    put_u32(contents, grid.cell_height);
    for (const Bitstream &cell : grid.cells) {
        const std::vector<uint8_t> data = write(cell);
        if (data.size() > UINT32_MAX) throw Failure(Status::invalid_argument, "a cell of the grid is too large");
        put_u32(contents, static_cast<uint32_t>(data.size()));
        put(contents, data);
    }
    return contents;
}

Grid read_grid(Bytes contents, const Header &header, const std::function<Bitstream(Bytes)> &read) {
    if (contents.size < cell_size_bytes) {
        corrupt("GRID has " + std::to_string(contents.size) + " bytes; expected 8 and cells");
    }
    Grid grid{u32_at(contents, 0), u32_at(contents, 4), {}};
    check_side("width", grid.cell_width, header.width);
    check_side("height", grid.cell_height, header.height);
    const int64_t count = divided_up(header.width, grid.cell_width) * divided_up(header.height, grid.cell_height);
    if (count < 2) {
        corrupt("GRID has cells of " + sides(grid.cell_width, grid.cell_height) + " for " +
                sides(header.width, header.height) + " pixels; expected two or more");
    }
    size_t position = cell_size_bytes;
    // The boxes are not made beforehand: a small file may speak of millions
    for (int64_t number = 0; number < count; ++number) {
        const int64_t across = divided_up(header.width, grid.cell_width);
        const auto left = static_cast<uint32_t>(number % across) * grid.cell_width;
        const auto top = static_cast<uint32_t>(number / across) * grid.cell_height;
        const uint32_t width = std::min(grid.cell_width, header.width - left);
        const uint32_t height = std::min(grid.cell_height, header.height - top);
        const std::string name = "cell " + std::to_string(number + 1) + " of " + std::to_string(count);
        if (!has(contents, position, length_bytes)) corrupt("GRID ends before " + name);
        const size_t length = u32_at(contents, position), start = position + length_bytes;
        if (!has(contents, start, length)) {
            corrupt(name + " needs " + std::to_string(length) + " bytes; GRID has " +
                    std::to_string(contents.size - start) + " left");
        }
        position = start + length;
        Bitstream cell = read_cell(contents.part(start, length), name, read);
        if (cell.model_id != header.model_id || cell.arithmetic != header.arithmetic || cell.width != width ||
            cell.height != height) {
            corrupt(name + " is of model " + hex(cell.model_id) + ", " + cell.arithmetic + ", " +
                    sides(cell.width, cell.height) + " pixels; expected " + hex(header.model_id) + ", " +
                    header.arithmetic + ", " + sides(width, height));
        }
        grid.cells.push_back(std::move(cell));
    }
    if (position != contents.size) {
        corrupt(std::to_string(contents.size - position) + " bytes follow the last cell of GRID");
    }
    return grid;
}

}  // namespace mlic
