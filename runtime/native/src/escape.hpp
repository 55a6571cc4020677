// The side stream of values outside their table, Exp-Golomb codes: twin of runtime/escape.py.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "bytes.hpp"

namespace mlic {

constexpr unsigned max_zeros = 26;  // of a code; symbols stay within +-(2^24 - 1), offsets within +-2^20
constexpr int64_t max_raw = (int64_t{1} << (max_zeros + 1)) - 2;
constexpr uint64_t max_escape_bits = 2 * max_zeros + 1;  // of one raw number

// Collects raw numbers in coding order and writes them as bits.
class EscapeWriter {
   public:
    void add(View<int64_t> raws);  // each in 0..max_raw
    // The side stream; empty if there were no raw numbers. Zero bits fill the last byte.
    std::vector<uint8_t> finish() const { return bytes_; }

   private:
    std::vector<uint8_t> bytes_;
    uint64_t bits_ = 0;
};

// Reads raw numbers back. A copy goes on from here on its own, and copying is cheap.
class EscapeReader {
   public:
    explicit EscapeReader(std::vector<uint8_t> data);
    // The next raw numbers. Throws Failure(corrupt_stream) if the stream ends before, or holds a code longer than any
    // encoder writes.
    std::vector<int64_t> take(size_t count);
    // Checks that the stream is used up. Throws Failure(corrupt_stream).
    void finish() const;

   private:
    bool bit(uint64_t place) const { return ((*data_)[place >> 3] >> (7 - (place & 7)) & 1) != 0; }
    uint64_t total() const { return uint64_t{8} * data_->size(); }

    std::shared_ptr<const std::vector<uint8_t>> data_;
    uint64_t position_ = 0;  // in bits
};

}  // namespace mlic
