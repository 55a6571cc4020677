// The `.mlic` file, version 1: twin of runtime/container.py, whose head has the byte table.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "arithmetic.hpp"
#include "metadata.hpp"

namespace mlic {

constexpr uint32_t max_side = 1U << 20;
constexpr uint64_t default_max_pixels = 1U << 28;  // 268 megapixels; 0.8 GB of pixels
constexpr uint64_t max_latent_pixels = 1U << 26;   // 67 megapixels, of a picture or of a cell

// The fixed part of a file.
struct Header {
    std::array<uint8_t, 8> model_id{};
    uint32_t width = 0;  // before padding
    uint32_t height = 0;
    std::string arithmetic = float32_syndrome.name;
};

struct Grid;  // grid.hpp

// A whole file, taken apart.
struct Bitstream : Header {
    std::vector<uint8_t> latents;      // LATS, a multiple of 4 bytes
    std::vector<uint8_t> escapes;      // ESCP, empty if there is none
    std::vector<uint8_t> checks;       // SYND, or CHCK where the arithmetic is integer
    std::shared_ptr<const Grid> grid;  // GRID, the three above are empty then; null for a picture in one latent
    Metadata metadata;
};

// An identity as text.
std::string hex(const std::array<uint8_t, 8> &bytes);

// Takes a file apart and checks everything that can be checked without a model. `latent_pixels` limits pictures without
// a grid, and cells. Throws Failure with truncated_stream, corrupt_stream or unsupported_stream, as Python's `read`
// raises the class of that name.
Bitstream read_container(const uint8_t *data, size_t size, uint64_t max_pixels = default_max_pixels,
                         uint64_t latent_pixels = max_latent_pixels);

// Reads the first 24 bytes; no checksum is compared. Throws as read_container.
Header read_header(const uint8_t *data, size_t size, uint64_t max_pixels = default_max_pixels);

// Returns the file's bytes. Throws Failure(invalid_argument) for metadata that is empty or larger than its limit, a
// side out of range, an unknown arithmetic or latents that are not whole words.
std::vector<uint8_t> write_container(const Bitstream &stream);

}  // namespace mlic
