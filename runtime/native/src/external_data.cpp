// The word is searched for, and what stands before it read backwards: numbers of protobuf, seven bits a byte, the last
// byte below 128.
#include "external_data.hpp"

#include <algorithm>
#include <cstddef>
#include <cstring>

namespace mlic {
namespace {

constexpr char word[] = "location";
constexpr size_t word_size = sizeof word - 1;
constexpr size_t most_between = 8;         // bytes of a number between its first and its last
constexpr uint8_t tag = 0x0A, length = 8;  // field 1, of bytes; how many
// What a part leaves for the next: more than the word and two numbers of ten bytes
constexpr size_t overlap = 32;

// Calls `begin` with each place where a number may begin that ends before `end` and has `low` in its lowest bits, until
// it returns true; returns whether it did.
template <typename Begin>
bool any_number(Bytes bytes, size_t end, uint8_t low, const Begin &begin) {
    if (end < 1) return false;
    if (bytes[end - 1] == low && begin(end - 1)) return true;
    if (bytes[end - 1] >= 0x80) return false;
    for (size_t between = 0; between <= most_between && end >= between + 2; ++between) {
        const size_t first = end - 2 - between;
        if (bytes[first] < 0x80) return false;
        if (bytes[first] == (low | 0x80) && begin(first)) return true;
    }
    return false;
}

bool has_entry(Bytes bytes) {
    for (const uint8_t *at = bytes.begin(); bytes.end() - at >= static_cast<std::ptrdiff_t>(word_size); ++at) {
        const auto left = static_cast<size_t>(bytes.end() - at) - (word_size - 1);
        at = static_cast<const uint8_t *>(std::memchr(at, word[0], left));
        if (at == nullptr) return false;
        if (std::memcmp(at, word, word_size) != 0) continue;
        const auto ends_with_tag = [bytes](size_t end) {
            return any_number(bytes, end, tag, [](size_t) { return true; });
        };
        if (any_number(bytes, static_cast<size_t>(at - bytes.begin()), length, ends_with_tag)) return true;
    }
    return false;
}

}  // namespace

bool has_external_data(Bytes file) { return has_entry(file); }

void ExternalData::add(Bytes bytes) {
    if (found_) return;
    put(window_, bytes);
    found_ = has_entry(window_);
    window_.erase(window_.begin(), window_.end() - static_cast<std::ptrdiff_t>(std::min(window_.size(), overlap)));
}

}  // namespace mlic
