// A CRC is the remainder of the data, read as a polynomial over GF(2), modulo a fixed polynomial. It is linear: two
// runs of bytes of one length have checksums that differ by the sum of what each changed byte contributes, wherever it
// stands and whatever the other bytes are. The repair of indexes rests on this.
#include "checksums.hpp"

#include <zlib.h>

namespace mlic {
namespace {

uint32_t reversed(uint32_t value, unsigned bits) {
    uint32_t result = 0;
    for (unsigned bit = 0; bit < bits; ++bit) result |= (value >> bit & 1) << (bits - 1 - bit);
    return result;
}

}  // namespace

uint32_t crc32_of(Bytes bytes, uint32_t before) {
    // crc32 takes no pointer to nothing for empty data: it would start over.
    if (bytes.empty()) return before;
    return static_cast<uint32_t>(crc32_z(before, bytes.data, bytes.size));
}

const Checksum *Checksum::of_width(unsigned width) {
    // Never change once made; C++ makes them once, whatever threads ask first.
    static const Checksum crc16(16, 0x1021, false);
    static const Checksum crc32(32, 0x04C11DB7, true);
    return width == 16 ? &crc16 : width == 32 ? &crc32 : nullptr;
}

Checksum::Checksum(unsigned width, uint32_t polynomial, bool reflected)
    : width_(width), polynomial_(polynomial), reflected_(reflected) {
    for (unsigned value = 0; value < 256; ++value) {
        uint32_t remainder = value << 8;
        for (int bit = 0; bit < 8; ++bit) remainder = remainder << 1 ^ (remainder & 0x8000 ? 0x11021U : 0U);
        crc16_[0][value] = static_cast<uint16_t>(remainder);
    }
    for (size_t behind = 1; behind < crc16_.size(); ++behind) {
        for (size_t value = 0; value < 256; ++value) {
            const uint16_t before = crc16_[behind - 1][value];
            crc16_[behind][value] = static_cast<uint16_t>(before << 8 ^ crc16_[0][before >> 8]);
        }
    }
    uint32_t step = 1;  // x^8, then x^(8 * 256), then x^(8 * 256^2)
    for (int bit = 0; bit < 8; ++bit) step = times_x(step);
    for (size_t digit = 0; digit < powers_.size(); ++digit) {
        uint32_t plain = 1;
        uint32_t power = digit == 0 ? polynomial_ : 1;  // x^width itself, reduced once, is the polynomial
        for (uint32_t &entry : powers_[digit]) {
            entry = power;
            power = product(power, step);
            plain = product(plain, step);
        }
        step = plain;
    }
}

uint32_t Checksum::of(Bytes bytes) const {
    if (width_ == 32) return crc32_of(bytes);
    uint32_t remainder = 0;
    const uint8_t *at = bytes.begin();
    for (; bytes.end() - at >= 8; at += 8) {
        remainder = static_cast<uint32_t>(crc16_[7][at[0] ^ remainder >> 8] ^ crc16_[6][at[1] ^ (remainder & 0xFF)] ^
                                          crc16_[5][at[2]] ^ crc16_[4][at[3]] ^ crc16_[3][at[4]] ^ crc16_[2][at[5]] ^
                                          crc16_[1][at[6]] ^ crc16_[0][at[7]]);
    }
    for (; at != bytes.end(); ++at) remainder = (remainder << 8 & 0xFFFF) ^ crc16_[0][(remainder >> 8) ^ *at];
    return remainder;
}

uint32_t Checksum::difference(uint32_t ours, uint32_t theirs) const {
    const uint32_t changed = ours ^ theirs;
    return reflected_ ? reversed(changed, width_) : changed;
}

uint32_t Checksum::effect(size_t behind, uint8_t change) const {
    uint32_t factor = reflected_ ? reversed(change, 8) : change;
    for (size_t digit = 0; digit < powers_.size(); ++digit) {
        factor = product(powers_[digit][behind >> (8 * digit) & 0xFF], factor);
    }
    return factor;
}

uint32_t Checksum::times_x(uint32_t remainder) const {
    const uint32_t mask = width_ == 32 ? 0xFFFFFFFFU : (1U << width_) - 1;
    const bool carries = (remainder >> (width_ - 1) & 1) != 0;
    return (remainder << 1 & mask) ^ (carries ? polynomial_ : 0);
}

// Modulo the polynomial, by Horner's rule over the bits of `right`.
uint32_t Checksum::product(uint32_t left, uint32_t right) const {
    uint32_t result = 0;
    for (unsigned bit = width_; bit-- > 0;) result = times_x(result) ^ (right >> bit & 1 ? left : 0);
    return result;
}

}  // namespace mlic
