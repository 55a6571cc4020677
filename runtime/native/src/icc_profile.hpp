// The contents of the file's `iccp` chunk.
#pragma once

#include <cstdint>
#include <vector>

#include "bytes.hpp"

namespace mlic {

// Throws Failure(invalid_argument) for a profile of 0 or more than max_icc_bytes bytes.
std::vector<uint8_t> compress_profile(Bytes profile);

// Throws Failure(corrupt_stream) if the data is damaged, followed by other data, or unpacks to 0 or too many bytes.
std::vector<uint8_t> decompress_profile(Bytes data);

}  // namespace mlic
