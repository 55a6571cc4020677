// A mutator that knows chunks: what it makes has right lengths and right checksums most of the time, of cells within a
// grid and of what is packed, too, without which nothing behind the first look at a file would ever run.
#pragma once

#include <zlib.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "bytes.hpp"
#include "checksums.hpp"

extern "C" size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);

namespace mlic_fuzz {

constexpr size_t HEADER = 24, FRAME = 8, NAME = 4, CELL_SIZE = 8, LENGTH = 4;

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
        parts.push_back(data.part(position + 4, NAME + length).copy());
        position += FRAME + length;
    }
    return position == data.size ? parts : std::vector<Data>();
}

inline Data joined(const std::vector<Data> &parts) {
    Data data = parts[0];
    for (size_t i = 1; i < parts.size(); ++i) {
        mlic::put_u32(data, static_cast<uint32_t>(parts[i].size() - NAME));
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

inline bool is_named(const Data &part, const char *name) {
    return part.size() >= NAME && std::memcmp(part.data(), name, NAME) == 0;
}

// Changes bytes behind the first `kept` by as many as libFuzzer likes, and lets them grow by `room`.
inline void change(Data &data, size_t kept, size_t room) {
    const size_t before = data.size();
    data.resize(before + room);
    data.resize(kept + LLVMFuzzerMutate(data.data() + kept, before - kept, before - kept + room));
}

// Changes what a chunk packs, and packs it again; false if it packs nothing.
inline bool change_packed(Data &part, size_t room) {
    Data contents(1 << 16);
    uLongf size = contents.size();
    if (part.size() <= NAME || uncompress(contents.data(), &size, part.data() + NAME, part.size() - NAME) != Z_OK)
        return false;
    contents.resize(size);
    change(contents, 0, room);
    size = compressBound(contents.size());
    part.resize(NAME + size);
    if (compress2(part.data() + NAME, &size, contents.data(), contents.size(), 1) != Z_OK) size = 0;
    part.resize(NAME + size);
    return true;
}

inline bool change_file(Data &file, size_t room, std::minstd_rand &random);

// Changes one cell of a grid, drops one, or gives one twice; false if the chunk holds none.
inline bool change_cells(Data &part, size_t room, std::minstd_rand &random) {
    std::vector<Data> cells;
    const mlic::Bytes contents = mlic::Bytes(part).part(NAME, part.size());
    size_t position = CELL_SIZE;
    while (mlic::has(contents, position, LENGTH)) {
        const uint32_t length = mlic::u32_at(contents, position);
        if (!mlic::has(contents, position + LENGTH, length)) return false;
        cells.push_back(contents.part(position + LENGTH, length).copy());
        position += LENGTH + length;
    }
    if (cells.empty() || position != contents.size) return false;
    const size_t place = random() % cells.size();
    switch (random() % 8) {
        case 0:
            cells.erase(cells.begin() + static_cast<std::ptrdiff_t>(place));
            break;
        case 1:
            cells.push_back(cells[place]);
            break;
        case 2:
            std::swap(cells[place], cells[random() % cells.size()]);
            break;
        default:
            change_file(cells[place], room, random);
    }
    Data made = mlic::Bytes(part).part(0, NAME + CELL_SIZE).copy();
    for (const Data &cell : cells) {
        mlic::put_u32(made, static_cast<uint32_t>(cell.size()));
        mlic::put(made, cell);
    }
    part = made;
    return true;
}

// Changes one part of a file that is made of chunks, and its checksum with it; false if it is no such file.
inline bool change_file(Data &file, size_t room, std::minstd_rand &random) {
    std::vector<Data> parts = parts_of(file);
    if (parts.empty()) return false;
    const size_t number = random() % parts.size();
    Data &part = parts[number];
    const bool deep = random() % 4 != 0;
    const bool cells = number > 0 && deep && is_named(part, "GRID") && change_cells(part, room, random);
    const bool packs = is_named(part, "iccp") || is_named(part, "exif") || is_named(part, "xmpd");
    if (!cells && !(number > 0 && deep && packs && change_packed(part, room))) {
        change(part, random() % 16 == 0 ? 0 : NAME, room);  // a chunk's name, or magic and version
        part.resize(number == 0 ? HEADER : std::max(NAME, part.size()));
    }
    file = joined(parts);
    seal(file.data(), file.size());
    return true;
}

inline size_t mutate(uint8_t *data, size_t size, size_t max_size, unsigned seed) {
    std::minstd_rand random(seed);
    Data file(data, data + size);
    const size_t room = size < max_size ? max_size - size : 0;
    if (random() % 8 == 0 || !change_file(file, room, random)) {
        size = LLVMFuzzerMutate(data, size, max_size);
        if (random() % 4 != 0) seal(data, size);
        return size;
    }
    if (file.size() > max_size) return size;
    std::copy(file.begin(), file.end(), data);
    return file.size();
}

}  // namespace mlic_fuzz

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed) {
    return mlic_fuzz::mutate(data, size, max_size, seed);
}
