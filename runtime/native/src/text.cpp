// UTF-8 is taken apart as far as counting and looking up take.
#include "text.hpp"

#include <algorithm>
#include <cstdint>
#include <iterator>

namespace mlic {
namespace {

constexpr size_t most_listed = 20;
constexpr size_t most_of_one = 300;  // bytes

struct Range {
    uint32_t first;
    uint32_t last;
};
// Unicode's categories Cc, Cf, Co, Cs, Zl, Zp and Zs without the space.
constexpr Range unprintable[] = {
    {0x0, 0x1F},        {0x7F, 0xA0},       {0xAD, 0xAD},         {0x600, 0x605},     {0x61C, 0x61C},
    {0x6DD, 0x6DD},     {0x70F, 0x70F},     {0x890, 0x891},       {0x8E2, 0x8E2},     {0x1680, 0x1680},
    {0x180E, 0x180E},   {0x2000, 0x200F},   {0x2028, 0x202F},     {0x205F, 0x2064},   {0x2066, 0x206F},
    {0x3000, 0x3000},   {0xD800, 0xF8FF},   {0xFEFF, 0xFEFF},     {0xFFF9, 0xFFFB},   {0x110BD, 0x110BD},
    {0x110CD, 0x110CD}, {0x13430, 0x1343F}, {0x1BCA0, 0x1BCA3},   {0x1D173, 0x1D17A}, {0xE0001, 0xE0001},
    {0xE0020, 0xE007F}, {0xF0000, 0xFFFFD}, {0x100000, 0x10FFFD},
};

bool continues(char byte) { return (static_cast<uint8_t>(byte) & 0xC0) == 0x80; }

bool is_unprintable(uint32_t character) {
    const auto *range = std::lower_bound(std::begin(unprintable), std::end(unprintable), character,
                                         [](const Range &one, uint32_t value) { return one.last < value; });
    return range != std::end(unprintable) && range->first <= character;
}

}  // namespace

std::string shortened(const std::string &text, size_t most) {
    if (text.size() <= most) return text;
    while (most > 0 && continues(text[most])) --most;
    return text.substr(0, most);
}

std::string listed(const std::vector<std::string> &problems, const char *separator) {
    std::string text;
    for (size_t number = 0; number < std::min(problems.size(), most_listed); ++number) {
        text += (number == 0 ? "" : separator) + shortened(problems[number], most_of_one);
    }
    if (problems.size() > most_listed)
        text += separator + ("and " + std::to_string(problems.size() - most_listed)) + " more";
    return text;
}

size_t characters_in(const std::string &text) {
    return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char byte) { return !continues(byte); }));
}

bool is_printable(const std::string &text) {
    for (size_t place = 0; place < text.size();) {
        const auto lead = static_cast<uint8_t>(text[place++]);
        uint32_t character = lead < 0xC0 ? lead : lead < 0xE0 ? lead & 0x1FU : lead < 0xF0 ? lead & 0xFU : lead & 0x7U;
        for (; place < text.size() && continues(text[place]); ++place) {
            character = character << 6 | (static_cast<uint8_t>(text[place]) & 0x3FU);
        }
        if (is_unprintable(character)) return false;
    }
    return true;
}

}  // namespace mlic
