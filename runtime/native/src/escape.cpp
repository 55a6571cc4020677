// Exp-Golomb codes of order 0, most significant bit first: a raw number r is b zero bits and the b + 1 bits of r + 1.
#include "escape.hpp"

#include <string>

#include "failure.hpp"

namespace mlic {
namespace {

[[noreturn]] void corrupt(const std::string &text) { throw Failure(Status::corrupt_stream, text); }

}  // namespace

void EscapeWriter::add(View<int64_t> raws) {
    for (int64_t raw : raws) {
        assert(raw >= 0 && raw <= max_raw);
        const auto value = static_cast<uint64_t>(raw) + 1;
        unsigned zeros = 0;
        while (value >> (zeros + 1) != 0) ++zeros;
        bits_ += zeros;
        bytes_.resize((bits_ + zeros + 8) / 8, 0);  // the zeros and the zeros + 1 bits of the value
        for (unsigned place = zeros + 1; place-- > 0; ++bits_) {
            if (value >> place & 1) bytes_[bits_ >> 3] = static_cast<uint8_t>(bytes_[bits_ >> 3] | 0x80 >> (bits_ & 7));
        }
    }
}

EscapeReader::EscapeReader(std::vector<uint8_t> data)
    : data_(std::make_shared<const std::vector<uint8_t>>(std::move(data))) {}

std::vector<int64_t> EscapeReader::take(size_t count) {
    if (count > total() - position_) {  // a code has one bit at least; checked before anything is allocated
        corrupt(std::to_string(count) + " escaped symbols need as many bits; " + std::to_string(total() - position_) +
                " left");
    }
    std::vector<int64_t> raws;
    raws.reserve(count);
    uint64_t position = position_;
    for (size_t index = 0; index < count; ++index) {
        unsigned zeros = 0;
        while (zeros <= max_zeros && position + zeros < total() && !bit(position + zeros)) ++zeros;
        if (zeros > max_zeros || position + 2 * zeros >= total()) {
            corrupt("escaped symbol at bit " + std::to_string(position) + " of " + std::to_string(total()) +
                    " is cut or too long");
        }
        position += zeros;
        int64_t value = 0;
        for (unsigned place = 0; place <= zeros; ++place, ++position) value = value << 1 | (bit(position) ? 1 : 0);
        raws.push_back(value - 1);
    }
    position_ = position;
    return raws;
}

void EscapeReader::finish() const {
    bool clean = total() - position_ <= 7;
    for (uint64_t place = position_; clean && place < total(); ++place) clean = !bit(place);
    if (!clean) corrupt(std::to_string(total() - position_) + " bits of escaped symbols are left over");
}

}  // namespace mlic
