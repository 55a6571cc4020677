// What a file says about its picture beside the pixels: twin of runtime/metadata.py, whose head describes the chunks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bytes.hpp"

namespace mlic {

constexpr size_t max_metadata_bytes = 1U << 24;  // of the profile, of EXIF and of XMP

// What the picture was before it was encoded; the values are those of the file.
constexpr uint8_t source_grey = 1;         // it had no colour, and is given back so
constexpr uint8_t source_transparent = 2;  // it had transparency, which was composited on white
constexpr uint8_t source_deep = 4;         // it had more than 8 bits a channel
constexpr uint8_t known_sources = source_grey | source_transparent | source_deep;

struct Metadata {
    std::optional<std::vector<uint8_t>> icc_profile;  // of the RGB values, or of grey ones if `source` says so
    std::optional<std::vector<uint8_t>> exif;         // from its TIFF header on
    std::optional<std::vector<uint8_t>> xmp;          // a packet in UTF-8
    uint8_t source = 0;

    bool is_grey() const { return (source & source_grey) != 0; }
    bool operator==(const Metadata &other) const {
        return icc_profile == other.icc_profile && exif == other.exif && xmp == other.xmp && source == other.source;
    }
};

// Throws Failure(invalid_argument) if the profile, EXIF or XMP is empty or larger than max_metadata_bytes.
void check_metadata(const Metadata &metadata);

// Name and contents of each chunk, in the order of the file. Throws as check_metadata.
std::vector<std::pair<std::string, std::vector<uint8_t>>> chunks_from_metadata(const Metadata &metadata);

// What the chunks of a file hold, given by name; other chunks may be among them. Throws Failure(corrupt_stream) if one
// cannot be decompressed, is cut, empty or followed by other data, or holds more than max_metadata_bytes.
Metadata metadata_from_chunks(const std::map<std::string, Bytes> &contents);

// A number of bytes that the chunks of this metadata fit in.
size_t metadata_bound(const Metadata &metadata);

}  // namespace mlic
