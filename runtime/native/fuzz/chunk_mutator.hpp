// A mutator that knows chunks: what it makes has right lengths and a right checksum most of the time, without which
// nothing behind the first look at a file would ever run.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "bytes.hpp"
#include "checksums.hpp"

extern "C" size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);

namespace mlic_fuzz {

constexpr size_t HEADER = 24, FRAME = 8;

using Data = std::vector<uint8_t>;

// Header first, then each chunk's name and contents; empty if the data are no such thing.
inline std::vector<Data> parts_of(mlic::Bytes data) {
    std::vector<Data> parts;
    if (data.size < HEADER) return parts;
    parts.push_back(data.part(0, HEADER).copy());
    size_t position = HEADER;
    while (mlic::has(data, position, FRAME)) {
        const uint32_t length = mlic::u32_at(data, position);
        if (!mlic::has(data, position + FRAME, length)) return {};
        parts.push_back(data.part(position + 4, size_t{4} + length).copy());
        position += FRAME + length;
    }
    return position == data.size ? parts : std::vector<Data>();
}

inline Data joined(const std::vector<Data> &parts) {
    Data data = parts[0];
    for (size_t i = 1; i < parts.size(); ++i) {
        mlic::put_u32(data, static_cast<uint32_t>(parts[i].size() - 4));
        mlic::put(data, parts[i]);
    }
    return data;
}

// Makes the last four bytes the checksum of those before.
inline void seal(uint8_t *data, size_t size) {
    if (size < 4) return;
    const uint32_t checksum = mlic::crc32_of({data, size - 4});
    for (size_t i = 0; i < 4; ++i) data[size - 4 + i] = static_cast<uint8_t>(checksum >> (8 * i));
}

inline size_t mutate(uint8_t *data, size_t size, size_t max_size, unsigned seed) {
    std::minstd_rand random(seed);
    std::vector<Data> parts = parts_of({data, size});
    if (parts.empty() || random() % 8 == 0) {
        size = LLVMFuzzerMutate(data, size, max_size);
        if (random() % 4 != 0) seal(data, size);
        return size;
    }
    Data &part = parts[random() % parts.size()];
    const size_t before = part.size(), kept = random() % 16 == 0 ? 0 : 4;  // a chunk's name, or magic and version
    const size_t room = size < max_size ? max_size - size : 0;
    part.resize(before + room);
    const size_t changed = LLVMFuzzerMutate(part.data() + kept, before - kept, before - kept + room);
    part.resize(std::max<size_t>(4, kept + changed));
    if (&part == &parts[0]) part.resize(HEADER);
    const Data made = joined(parts);
    if (made.size() > max_size) return size;
    std::copy(made.begin(), made.end(), data);
    seal(data, made.size());
    return made.size();
}

}  // namespace mlic_fuzz

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed) {
    return mlic_fuzz::mutate(data, size, max_size, seed);
}
