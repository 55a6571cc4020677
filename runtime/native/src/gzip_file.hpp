// Gzip files of others, read without trust: one member, no more bytes than it names, no more than its own size allows.
// Twin of runtime/gzip_file.py.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "bytes.hpp"

namespace mlic {

constexpr uint64_t free_bytes = uint64_t{1} << 24;  // what any file may unpack to; small graphs shrink to a hundredth
constexpr uint64_t max_ratio = 16;                  // beyond that; weights shrink to between 40 and 95 %
constexpr size_t gzip_head_size = 2, gzip_end_size = 4;
constexpr uint64_t least_gzip_bytes = 18;  // a header of 10, deflated data of none, CRC-32 and size of 4 each

// What gzip files of so many bytes may unpack to.
constexpr uint64_t most_unpacked(uint64_t size) { return free_bytes + max_ratio * size; }

// How many bytes a file says that it unpacks to; none if it is no gzip file. `head` and `end` are its first and its last
// bytes, as many as above.
std::optional<uint64_t> unpacked_size(Bytes head, Bytes end);

// What a file unpacks to. Throws Failure(bad_bundle) if it is no gzip file of one member, is cut or damaged, or unpacks
// to more than `limit`, than most_unpacked or than it names.
std::vector<uint8_t> unpacked(Bytes file, uint64_t limit);

}  // namespace mlic
