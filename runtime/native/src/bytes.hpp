// Views of arrays, and little-endian numbers read and written with checked bounds.
#pragma once

#include <cassert>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace mlic {

// A read-only view of consecutive elements; C++17 has no std::span. It owns nothing.
template <typename T>
struct View {
    const T *data = nullptr;
    size_t size = 0;

    View() = default;
    View(const T *first, size_t count) : data(first), size(count) {}
    View(const std::vector<T> &values) : data(values.data()), size(values.size()) {}  // NOLINT: meant to convert

    const T &operator[](size_t place) const {
        assert(place < size);
        return data[place];
    }
    const T *begin() const { return data; }
    const T *end() const { return data + size; }
    bool empty() const { return size == 0; }

    // The elements from `first` on, `count` of them or as many as there are.
    View part(size_t first, size_t count) const {
        assert(first <= size);
        return View(data + first, count < size - first ? count : size - first);
    }
    std::vector<T> copy() const { return std::vector<T>(begin(), end()); }
};

using Bytes = View<uint8_t>;

// Whether `count` bytes lie behind `offset`; cannot overflow.
inline bool has(Bytes bytes, uint64_t offset, uint64_t count) {
    return offset <= bytes.size && count <= bytes.size - offset;
}

// The caller has checked that the bytes are there; a mistake is caught in builds with assertions.
inline uint16_t u16_at(Bytes bytes, uint64_t offset) {
    assert(has(bytes, offset, 2));
    const uint8_t *at = bytes.data + offset;
    return static_cast<uint16_t>(at[0] | at[1] << 8);
}

inline uint32_t u32_at(Bytes bytes, uint64_t offset) {
    assert(has(bytes, offset, 4));
    const uint8_t *at = bytes.data + offset;
    return at[0] | static_cast<uint32_t>(at[1]) << 8 | static_cast<uint32_t>(at[2]) << 16 |
           static_cast<uint32_t>(at[3]) << 24;
}

inline void put_u16(std::vector<uint8_t> &bytes, uint32_t value) {
    bytes.push_back(static_cast<uint8_t>(value));
    bytes.push_back(static_cast<uint8_t>(value >> 8));
}

inline void put_u32(std::vector<uint8_t> &bytes, uint32_t value) {
    put_u16(bytes, value & 0xFFFF);
    put_u16(bytes, value >> 16);
}

inline void put(std::vector<uint8_t> &bytes, Bytes more) { bytes.insert(bytes.end(), more.begin(), more.end()); }

}  // namespace mlic
