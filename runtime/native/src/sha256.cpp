// SHA-256, block by block, after the text of FIPS 180-4.
#include "sha256.hpp"

#include <algorithm>
#include <cstring>

namespace mlic {
namespace {

constexpr std::array<uint32_t, 64> constants{
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

uint32_t turned(uint32_t value, unsigned bits) { return value >> bits | value << (32 - bits); }

}  // namespace

void Sha256::add(Bytes bytes) {
    size_t filled = length_ % 64;
    length_ += bytes.size;
    const uint8_t *at = bytes.data;
    size_t left = bytes.size;
    if (filled > 0) {
        const size_t taken = std::min(left, 64 - filled);
        std::copy_n(at, taken, pending_.data() + filled);
        at += taken;
        left -= taken;
        filled += taken;
        if (filled < 64) return;
        block(pending_.data());
    }
    for (; left >= 64; at += 64, left -= 64) block(at);
    std::copy_n(at, left, pending_.data());
}

std::string Sha256::finish() {
    const uint64_t bits = length_ * 8;
    std::vector<uint8_t> end{0x80};
    end.resize((length_ % 64 < 56 ? 56 : 120) - length_ % 64, 0);
    for (int shift = 56; shift >= 0; shift -= 8) end.push_back(static_cast<uint8_t>(bits >> shift));
    add(end);
    std::string text;
    for (uint32_t word : state_) {
        for (int shift = 28; shift >= 0; shift -= 4) text += "0123456789abcdef"[word >> shift & 15];
    }
    return text;
}

void Sha256::block(const uint8_t *bytes) {
    std::array<uint32_t, 64> words;
    for (size_t t = 0; t < 16; ++t, bytes += 4) {
        words[t] = static_cast<uint32_t>(bytes[0]) << 24 | static_cast<uint32_t>(bytes[1]) << 16 |
                   static_cast<uint32_t>(bytes[2]) << 8 | bytes[3];
    }
    for (size_t t = 16; t < 64; ++t) {
        const uint32_t early = words[t - 15], late = words[t - 2];
        words[t] = words[t - 16] + (turned(early, 7) ^ turned(early, 18) ^ early >> 3) + words[t - 7] +
                   (turned(late, 17) ^ turned(late, 19) ^ late >> 10);
    }
    auto [a, b, c, d, e, f, g, h] = state_;
    for (size_t t = 0; t < 64; ++t) {
        const uint32_t first =
            h + (turned(e, 6) ^ turned(e, 11) ^ turned(e, 25)) + ((e & f) ^ (~e & g)) + constants[t] + words[t];
        const uint32_t second = (turned(a, 2) ^ turned(a, 13) ^ turned(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
        h = g, g = f, f = e, e = d + first, d = c, c = b, b = a, a = first + second;
    }
    const std::array<uint32_t, 8> sums{a, b, c, d, e, f, g, h};
    for (size_t place = 0; place < 8; ++place) state_[place] += sums[place];
}

}  // namespace mlic
