// The `.mlic` file, version 1: twin of runtime/container.py, whose head has the byte table.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace mlic {

constexpr uint32_t max_side = 1U << 20;
constexpr uint64_t default_max_pixels = 1U << 26;
constexpr size_t max_icc_bytes = 1U << 24;
constexpr const char *float32_syndrome = "float32-syndrome";  // arithmetic 1, the only one so far

// The fixed part of a file.
struct Header {
    std::array<uint8_t, 8> model_id{};
    uint32_t width = 0;  // before padding
    uint32_t height = 0;
    std::string arithmetic = float32_syndrome;
};

// A whole file, taken apart.
struct Bitstream : Header {
    std::vector<uint8_t> latents;                     // LATS, a multiple of 4 bytes
    std::vector<uint8_t> escapes;                     // ESCP, empty if there is none
    std::vector<uint8_t> syndromes;                   // SYND
    std::optional<std::vector<uint8_t>> icc_profile;  // uncompressed
};

// Takes a file apart and checks everything that can be checked without a model. Throws Failure with
// truncated_stream, corrupt_stream or unsupported_stream, as Python's `read` raises the class of that name.
Bitstream read_container(const uint8_t *data, size_t size, uint64_t max_pixels = default_max_pixels);

// Reads the first 24 bytes; no checksum is compared. Throws as read_container.
Header read_header(const uint8_t *data, size_t size, uint64_t max_pixels = default_max_pixels);

// Returns the file's bytes. Throws Failure(invalid_argument) for a profile of 0 or more than max_icc_bytes bytes, a
// side out of range, an unknown arithmetic or latents that are not whole words.
std::vector<uint8_t> write_container(const Bitstream &stream);

}  // namespace mlic
