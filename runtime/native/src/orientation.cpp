// Only the bytes of the orientation change: maker notes point to places by their distance from the beginning. The
// thumbnail of a picture that was turned is not turned with it, so its link is cut and its bytes become zeros.
#include "orientation.hpp"

#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>

#include "failure.hpp"

namespace mlic {
namespace {

using Data = std::vector<uint8_t>;

constexpr uint32_t is_upright = 1;  // the others, 2 to 8, are in EXIF's table 4.6.4, "Orientation"
constexpr uint32_t orientation_tag = 0x0112, thumbnail_tag = 0x0201, thumbnail_size_tag = 0x0202;
const std::string prefix("Exif\0\0", 6);  // of a JPEG segment; some writers put it in other files, too

[[noreturn]] void damaged(const std::string &text) {
    throw Failure(Status::invalid_argument, "EXIF is damaged: " + text);
}

// A number in a directory, where it lies and how long it is.
struct Entry {
    uint32_t tag;
    uint32_t value;
    size_t position;
    unsigned size;
};

// EXIF with its byte order; the caller has checked that what is asked for is there.
class Tiff {
   public:
    explicit Tiff(Data &data) : data_(data) {
        const auto begins = [&](const char *magic) {
            return data.size() >= 4 && std::equal(magic, magic + 4, data.begin(), [](char one, uint8_t other) {
                       return static_cast<uint8_t>(one) == other;
                   });
        };
        big_ = begins("MM\0*");
        if ((!big_ && !begins("II*\0")) || data.size() < 8) damaged("it begins with neither II*, 0 nor MM, 0, *");
    }

    size_t size() const { return data_.size(); }

    uint32_t number(size_t position, unsigned size) const {
        uint32_t value = 0;
        for (unsigned i = 0; i < size; ++i) value |= uint32_t{data_.at(position + i)} << shift(i, size);
        return value;
    }
    void put(size_t position, unsigned size, uint32_t value) {
        for (unsigned i = 0; i < size; ++i) data_.at(position + i) = static_cast<uint8_t>(value >> shift(i, size));
    }

    // The single numbers of a directory, as far as it is there.
    std::vector<Entry> entries(size_t start) const {
        std::vector<Entry> found;
        if (start + 2 > size()) return found;
        const size_t end = start + 2 + size_t{12} * number(start, 2);
        for (size_t at = start + 2; at < end && at + 12 <= size(); at += 12) {
            const uint32_t kind = number(at + 2, 2);
            const unsigned bytes = kind == 1 ? 1 : kind == 3 ? 2 : kind == 4 ? 4 : 0;  // BYTE, SHORT, LONG
            if (number(at + 4, 4) == 1 && bytes > 0)
                found.push_back({number(at, 2), number(at + 8, bytes), at + 8, bytes});
        }
        return found;
    }

   private:
    unsigned shift(unsigned place, unsigned size) const { return 8 * (big_ ? size - 1 - place : place); }

    Data &data_;
    bool big_ = false;
};

// An orientation in XMP: tiff:Orientation="6", or <tiff:Orientation>6.
struct Digits {
    size_t start;
    size_t end;
};

std::optional<Digits> next_orientation(const Data &xmp, size_t from) {
    static const std::string name = "tiff:Orientation";
    for (auto at = xmp.begin() + static_cast<std::ptrdiff_t>(from);; ++at) {
        at = std::search(at, xmp.end(), name.begin(), name.end());
        if (at == xmp.end()) return std::nullopt;
        auto place = at + static_cast<std::ptrdiff_t>(name.size());
        const auto skip = [&](const char *set) {
            const std::string any = set;
            const auto before = place;
            place = std::find_if(place, xmp.end(),
                                 [&](uint8_t byte) { return any.find(static_cast<char>(byte)) == std::string::npos; });
            return place != before;
        };
        const auto take = [&](char wanted) {
            if (place == xmp.end() || *place != static_cast<uint8_t>(wanted)) return false;
            ++place;
            return true;
        };
        const char *space = " \t\n\r\f\v";
        skip(space);
        if (take('=')) {
            skip(space);
            if (!take('"') && !take('\'')) continue;
        } else if (!take('>')) {
            continue;
        }
        skip(space);
        const auto start = place;
        if (skip("0123456789"))
            return Digits{static_cast<size_t>(start - xmp.begin()), static_cast<size_t>(place - xmp.begin())};
    }
}

std::optional<uint32_t> orientation_of_xmp(const Data &xmp) {
    const std::optional<Digits> digits = next_orientation(xmp, 0);
    if (!digits) return std::nullopt;
    uint32_t value = 0;  // two digits tell that it is not one of 1 to 8
    for (size_t at = digits->start; at < std::min(digits->end, digits->start + 2); ++at)
        value = 10 * value + xmp[at] - '0';
    return value;
}

void turn_exif(Data &exif, const std::optional<Data> &xmp) {
    auto first = exif.begin();
    while (exif.end() - first >= 6 && std::equal(prefix.begin(), prefix.end(), first)) first += 6;
    exif.erase(exif.begin(), first);
    Data original = exif;  // directories may lie within one another
    const Tiff tiff(original);
    Tiff upright(exif);
    const size_t start = tiff.number(4, 4);
    if (start < 8 || start + 2 > tiff.size()) {
        damaged("its directory lies at byte " + std::to_string(start) + " of " + std::to_string(tiff.size()));
    }
    const size_t count = tiff.number(start, 2), end = start + 2 + 12 * count;
    if (end > tiff.size()) {
        damaged("its directory of " + std::to_string(count) + " entries ends at byte " + std::to_string(end) + " of " +
                std::to_string(tiff.size()));
    }
    std::optional<uint32_t> orientation;
    for (const Entry &entry : tiff.entries(start)) {
        if (entry.tag != orientation_tag) continue;
        if (!orientation) orientation = entry.value;
        upright.put(entry.position, entry.size, is_upright);
    }
    if (!orientation && xmp) orientation = orientation_of_xmp(*xmp);
    const bool turned = orientation && *orientation >= 2 && *orientation <= 8;
    if (!turned || end + 4 > tiff.size()) return;
    const size_t link = tiff.number(end, 4);
    size_t thumbnail = 0, bytes = 0;
    if (link != 0) {
        for (const Entry &entry : tiff.entries(link)) {
            if (entry.tag == thumbnail_tag) thumbnail = entry.value;
            if (entry.tag == thumbnail_size_tag) bytes = entry.value;
        }
    }
    upright.put(end, 4, 0);
    // A damaged link must not wipe something else
    const bool is_jpeg = thumbnail >= end + 4 && thumbnail + bytes <= tiff.size() && thumbnail + 2 <= tiff.size() &&
                         original[thumbnail] == 0xFF && original[thumbnail + 1] == 0xD8;
    if (is_jpeg) std::fill_n(exif.begin() + static_cast<std::ptrdiff_t>(thumbnail), bytes, uint8_t{0});
}

void turn_xmp(Data &xmp) {
    Data turned;
    size_t from = 0;
    while (const std::optional<Digits> digits = next_orientation(xmp, from)) {
        const Bytes all(xmp);
        put(turned, all.part(from, digits->start - from));
        turned.push_back('1');
        from = digits->end;
    }
    put(turned, Bytes(xmp).part(from, xmp.size() - from));
    xmp = std::move(turned);
}

}  // namespace

Metadata upright(Metadata metadata) {
    if (metadata.exif) turn_exif(*metadata.exif, metadata.xmp);
    if (metadata.xmp) turn_xmp(*metadata.xmp);
    return metadata;
}

}  // namespace mlic
