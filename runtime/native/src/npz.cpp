// Zip's central directory, zlib for what is deflated, and the header of an array, which is a Python dictionary as text.
#include "npz.hpp"

#include <zlib.h>

#include <algorithm>
#include <cstring>

#include "checksums.hpp"
#include "failure.hpp"

namespace mlic {
namespace {

constexpr size_t end_size = 22, central_size = 46, local_size = 30;
constexpr size_t most_comment = 0xFFFF;
constexpr uint32_t end_magic = 0x06054b50, central_magic = 0x02014b50, local_magic = 0x04034b50;
constexpr uint16_t refused_flags = 0x1 | 0x20 | 0x40;  // encrypted, patched data
constexpr uint16_t newest_version = 63;                // 6.3, the newest that Python reads
constexpr size_t most_header = 10000;                  // of an array, in bytes; numpy's limit
constexpr size_t most_sides = 64;                      // of an array; numpy's limit
constexpr size_t most_members = 64;                    // a bundle's tables have 8
constexpr uint64_t most_expansion = 1100;              // deflate makes 1032 bytes of one at most

[[noreturn]] void refuse(const std::string &text) { throw Failure(Status::bad_bundle, "cannot read arrays: " + text); }

struct Member {
    std::string name;
    Bytes packed;
    uint16_t method;
    uint32_t crc;
    uint64_t size;
};

// Where the end of the central directory is: in the last bytes, before a comment.
size_t end_of_directory(Bytes data) {
    if (data.size < end_size) refuse("it is not a zip file");
    const size_t lowest = data.size - end_size > most_comment ? data.size - end_size - most_comment : 0;
    for (size_t at = data.size - end_size + 1; at-- > lowest;) {
        if (u32_at(data, at) == end_magic && u16_at(data, at + 20) == data.size - at - end_size) return at;
    }
    refuse("it is not a zip file");
}

Member member_at(Bytes data, size_t at, size_t end) {
    if (end - at < central_size || u32_at(data, at) != central_magic) refuse("the zip directory is damaged");
    const uint16_t flags = u16_at(data, at + 8), method = u16_at(data, at + 10);
    const uint32_t crc = u32_at(data, at + 16), packed_size = u32_at(data, at + 20), size = u32_at(data, at + 24);
    const size_t name_size = u16_at(data, at + 28), local = u32_at(data, at + 42);
    if (!has(data.part(0, end), at + central_size, name_size)) refuse("the zip directory is damaged");
    const Bytes name = data.part(at + central_size, name_size);
    const std::string text(name.begin(), name.end());
    if (!std::all_of(name.begin(), name.end(), [](uint8_t byte) { return byte >= 32 && byte < 127; })) {
        refuse("a member's name is not ASCII");
    }
    if (u16_at(data, at + 6) > newest_version) refuse("a member needs another version of zip");
    if (flags & refused_flags) refuse("a member is encrypted or patched");
    if (method != 0 && method != Z_DEFLATED) {
        refuse("'" + text.substr(0, 40) + "' is packed by method " + std::to_string(method) +
               ", neither stored nor deflated");
    }
    // The sizes in local heads may be elsewhere (numpy writes zip64 there); those of the directory count.
    if (!has(data, local, local_size) || u32_at(data, local) != local_magic) refuse("a member's head is damaged");
    const size_t local_name = u16_at(data, local + 26), local_extra = u16_at(data, local + 28);
    const uint64_t start = uint64_t{local} + local_size + local_name + local_extra;
    if (!has(data, start, packed_size)) refuse("a member is cut");
    const Bytes there = data.part(local + local_size, local_name);
    if (!std::equal(name.begin(), name.end(), there.begin(), there.end())) refuse("a member has two names");
    return {text, data.part(start, packed_size), method, crc, size};
}

std::vector<uint8_t> unpack(const Member &member) {
    std::vector<uint8_t> bytes;
    if (member.method == 0) {
        if (member.packed.size != member.size) refuse("a member has two sizes");
        bytes = member.packed.copy();
    } else {
        if (member.size > member.packed.size * most_expansion) refuse("a member cannot be as large as it says");
        bytes.resize(member.size + 1);  // one more, to notice what is longer
        z_stream stream{};
        if (inflateInit2(&stream, -MAX_WBITS) != Z_OK) {
            throw Failure(Status::out_of_memory, "zlib cannot be initialised");
        }
        stream.next_in = const_cast<Bytef *>(member.packed.data);  // zlib does not write to it
        stream.avail_in = static_cast<uInt>(member.packed.size);
        stream.next_out = bytes.data();
        stream.avail_out = static_cast<uInt>(bytes.size());
        const int result = inflate(&stream, Z_FINISH);
        const uint64_t made = stream.total_out;
        inflateEnd(&stream);
        if (result != Z_STREAM_END || made != member.size) refuse("a member cannot be unpacked");
        bytes.resize(member.size);
    }
    if (crc32_of(bytes) != member.crc) refuse("a member has another checksum than it says");
    return bytes;
}

// Reads the text of a header: {'descr': '<f4', 'fortran_order': False, 'shape': (64,), }
class HeaderText {
   public:
    explicit HeaderText(std::string text) : text_(std::move(text)) {}

    bool take(char wanted) {
        skip();
        if (at_ == text_.size() || text_[at_] != wanted) return false;
        ++at_;
        return true;
    }
    void expect(char wanted) {
        if (!take(wanted)) refuse("an array's header is damaged");
    }
    std::string string() {
        skip();
        const char quote = take('"') ? '"' : '\'';
        if (quote == '\'') expect('\'');
        const size_t end = text_.find(quote, at_);
        if (end == std::string::npos) refuse("an array's header is damaged");
        std::string found = text_.substr(at_, end - at_);
        at_ = end + 1;
        return found;
    }
    std::string word() {
        skip();
        const size_t end = std::min(text_.find_first_not_of("abcdefghijklmnopqrstuvwxyzFT", at_), text_.size());
        std::string found = text_.substr(at_, end - at_);
        at_ = end;
        return found;
    }
    uint64_t number() {
        skip();
        const size_t end = std::min(text_.find_first_not_of("0123456789", at_), text_.size());
        if (end == at_ || end - at_ > 18) refuse("an array's shape is damaged");
        const uint64_t found = std::stoull(text_.substr(at_, end - at_));
        at_ = end;
        return found;
    }
    bool at_end() {
        skip();
        return at_ == text_.size();
    }

   private:
    void skip() { at_ = std::min(text_.find_first_not_of(" \t\n\r", at_), text_.size()); }

    std::string text_;
    size_t at_ = 0;
};

std::vector<uint64_t> shape_from(HeaderText &header) {
    std::vector<uint64_t> shape;
    header.expect('(');
    while (!header.take(')')) {
        shape.push_back(header.number());
        if (!header.take(',')) {
            if (shape.size() < 2) refuse("an array's shape is no tuple");  // "(64)" is a number to Python
            header.expect(')');
            break;
        }
    }
    return shape;
}

// Bytes of one element, which has to be a number, whatever this version does with it: '<f4', '|u1'.
uint64_t item_size(const std::string &descr) {
    const size_t kind = descr.empty() || std::string("<>|=").find(descr[0]) == std::string::npos ? 0 : 1;
    const std::pair<char, std::vector<std::string>> numbers[] = {{'b', {"1"}},
                                                                 {'i', {"1", "2", "4", "8"}},
                                                                 {'u', {"1", "2", "4", "8"}},
                                                                 {'f', {"2", "4", "8", "12", "16"}},
                                                                 {'c', {"8", "16", "24", "32"}}};
    for (const auto &[code, sizes] : numbers) {
        if (kind >= descr.size() || descr[kind] != code) continue;
        const std::string size = descr.substr(kind + 1);
        if (std::find(sizes.begin(), sizes.end(), size) != sizes.end()) return std::stoull(size);
    }
    refuse("array of " + descr.substr(0, 40) + "; expected numbers");
}

// Checks that an array is no larger than its member, whose header may claim anything.
void check_claim(const NpyArray &array, uint64_t item, size_t found) {
    const bool empty = std::count(array.shape.begin(), array.shape.end(), 0U) > 0;
    uint64_t most = found / item;  // elements
    for (const uint64_t side : array.shape) most = side == 0 ? 0 : most / side;
    if (!empty && most == 0) {
        refuse("an array's header claims " + array.text() + "; the member has " + std::to_string(found) +
               " bytes left");
    }
}

NpyArray described(HeaderText header) {
    NpyArray array;
    bool descr = false, order = false, shape = false;
    header.expect('{');
    while (!header.take('}')) {
        const std::string key = header.string();
        header.expect(':');
        if (key == "descr") {
            array.dtype = header.string();  // a list, for records, is refused
            const auto shows = [](char letter) { return letter > ' ' && letter < 127; };  // it stands in messages
            if (!std::all_of(array.dtype.begin(), array.dtype.end(), shows)) refuse("an array's header is damaged");
            descr = true;
        } else if (key == "fortran_order") {
            const std::string value = header.word();
            order = value == "True" || value == "False";
        } else if (key == "shape") {
            array.shape = shape_from(header);
            shape = true;
        } else {
            refuse("an array's header has an unknown entry");
        }
        if (!header.take(',')) {
            header.expect('}');
            break;
        }
    }
    if (!header.at_end() || !descr || !order || !shape) refuse("an array's header is damaged");
    if (array.dtype.find('O') != std::string::npos) refuse("an array holds objects");
    if (array.shape.size() > most_sides) {
        refuse("an array has " + std::to_string(array.shape.size()) + " sides; expected at most " +
               std::to_string(most_sides));
    }
    return array;
}

// The name of a type that tables have; others as the file writes them.
std::string named(const std::string &descr) {
    return descr == "<f4" ? "float32" : descr == "<u4" ? "uint32" : descr == "<i4" ? "int32" : descr;
}

NpyArray array_from(const std::vector<uint8_t> &data) {
    const Bytes bytes(data);
    if (bytes.size < 6 || std::memcmp(bytes.data, "\x93NUMPY", 6) != 0) return {"no array", {}, {}};
    if (bytes.size < 10) refuse("an array's header is cut");
    const uint8_t version = bytes[6];
    if (version < 1 || version > 3 || bytes[7] != 0) refuse("an array has an unknown version");
    const size_t length_size = version == 1 ? 2 : 4;
    if (!has(bytes, 8, length_size)) refuse("an array's header is cut");
    const size_t length = version == 1 ? u16_at(bytes, 8) : u32_at(bytes, 8), start = 8 + length_size;
    if (length > most_header || !has(bytes, start, length)) refuse("an array's header is cut or too long");
    const Bytes text = bytes.part(start, length);
    NpyArray array = described(HeaderText(std::string(text.begin(), text.end())));
    const Bytes rest = bytes.part(start + length, bytes.size);
    check_claim(array, item_size(array.dtype), rest.size);
    array.dtype = named(array.dtype);
    const bool known = array.dtype == "float32" || array.dtype == "uint32" || array.dtype == "int32";
    if (!known || array.shape.size() != 1) return array;
    array.data = rest.part(0, 4 * array.shape[0]).copy();
    return array;
}

}  // namespace

std::string NpyArray::text() const {
    std::string sides;
    for (uint64_t side : shape) sides += (sides.empty() ? "" : ", ") + std::to_string(side);
    return dtype + " [" + sides + "]";
}

NpzArrays arrays_from_npz(Bytes data, uint64_t limit) {
    const size_t end = end_of_directory(data);
    const size_t count = u16_at(data, end + 10), directory_size = u32_at(data, end + 12),
                 start = u32_at(data, end + 16);
    if (count > most_members) {
        refuse("it has " + std::to_string(count) + " members; expected at most " + std::to_string(most_members));
    }
    if (u32_at(data, 0) != local_magic && count > 0) refuse("it is not a zip file");
    if (u16_at(data, end + 4) != 0 || start > end || end - start != directory_size) {
        refuse("the zip directory is damaged");
    }
    std::vector<Member> members;
    uint64_t total = 0;
    for (size_t number = 0, at = start; number < count; ++number) {
        members.push_back(member_at(data, at, end));
        total += members.back().size;
        if (total > limit) refuse("they unpack to more than " + std::to_string(limit) + " bytes");
        at += central_size + u16_at(data, at + 28) + size_t{u16_at(data, at + 30)} + u16_at(data, at + 32);
        if (at > end || (number + 1 == count && at < end)) refuse("the zip directory is damaged");
    }
    NpzArrays arrays;
    for (const Member &member : members) {
        const std::string &name = member.name;
        const bool suffixed = name.size() > 4 && name.compare(name.size() - 4, 4, ".npy") == 0;
        arrays[suffixed ? name.substr(0, name.size() - 4) : name] = array_from(unpack(member));
    }
    return arrays;
}

}  // namespace mlic
