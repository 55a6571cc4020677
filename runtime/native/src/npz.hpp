// Arrays out of an `.npz` file: zip (stored or deflated, no zip64) around `.npy` versions 1 to 3.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "bytes.hpp"

namespace mlic {

// One array as its file describes it. Only arrays of one dimension and of a type named below keep their bytes.
struct NpyArray {
    std::string dtype;  // float32, uint32 or int32; anything else as the file writes it
    std::vector<uint64_t> shape;
    std::vector<uint8_t> data;

    std::string text() const;  // such as "float32 [64]"
};

using NpzArrays = std::map<std::string, NpyArray>;

// Unpacks and checks every member. Throws Failure(bad_bundle), also if they unpack to more than `limit` bytes.
NpzArrays arrays_from_npz(Bytes data, uint64_t limit);

}  // namespace mlic
