// The two checksums of scale indexes, and what a single changed index does to them: twin of runtime/checksums.py.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "bytes.hpp"

namespace mlic {

// CRC-32 of zlib and PNG. `before` is that of the bytes that went before.
uint32_t crc32_of(Bytes bytes, uint32_t before = 0);

// A CRC with what the repair needs to know of it. Differences and effects have the coefficient of x^0 in bit 0,
// whichever way the checksum itself is written.
class Checksum {
   public:
    // Of 16 or 32 bits; null for other widths.
    static const Checksum *of_width(unsigned width);

    unsigned width() const { return width_; }
    uint32_t of(Bytes bytes) const;
    // The sum of the effects of all bytes in which the data of two checksums differ.
    uint32_t difference(uint32_t ours, uint32_t theirs) const;
    // What a changed byte adds to the difference. `behind` bytes, fewer than 2^24, lie between it and the end of the
    // data; `change` is the exclusive or of the two bytes.
    uint32_t effect(size_t behind, uint8_t change) const;

   private:
    Checksum(unsigned width, uint32_t polynomial, bool reflected);
    uint32_t times_x(uint32_t remainder) const;
    uint32_t product(uint32_t left, uint32_t right) const;

    unsigned width_;
    uint32_t polynomial_;  // without its leading term
    bool reflected_;
    // Powers of x: [digit][value] is x^(8 * 256^digit * value), the first digit's times x^width.
    std::array<std::array<uint32_t, 256>, 3> powers_{};
    // Of 16 bits: [behind][value] is the remainder of a byte with so many bytes behind it, for eight bytes at once.
    std::array<std::array<uint16_t, 256>, 8> crc16_{};
};

}  // namespace mlic
