// The `.mlic` file: same checks in the same order as runtime/container.py. Reading frames the chunks first, then
// compares the checksum, and judges the contents last: damage is reported as damage, and only an intact file is called
// unsupported.
#include "container.hpp"

#include <algorithm>
#include <cstring>
#include <map>
#include <set>
#include <utility>

#include "bytes.hpp"
#include "checksums.hpp"
#include "failure.hpp"
#include "grid.hpp"

namespace mlic {
namespace {

constexpr size_t header_size = 24;
constexpr size_t chunk_head_size = 8;
constexpr size_t crc_size = 4;
constexpr size_t max_chunks = 1024;  // names differ, so that there could be millions
constexpr uint8_t file_version = 1;
// The first four are the chunks of a picture in one latent, SYND or CHCK by its arithmetic, and all that a cell may
// have.
const char *const chunk_order[] = {"LATS", "ESCP", "SYND", "CHCK", "GRID", "iccp", "exif", "xmpd", "orig"};
constexpr size_t coded_chunks = 4;

struct Foreign {
    size_t start;
    const char *signature;
    size_t size;
    const char *name;
};
const Foreign foreign_files[] = {
    {0, "\x89PNG", 4, "a PNG picture"},
    {0, "\xff\xd8\xff", 3, "a JPEG picture"},
    {0, "GIF8", 4, "a GIF picture"},
    {0, "BM", 2, "a BMP picture"},
    {0, "II*\0", 4, "a TIFF picture"},
    {0, "MM\0*", 4, "a TIFF picture"},
    {8, "WEBP", 4, "a WebP picture"},
    {4, "ftypavif", 8, "an AVIF picture"},
    {4, "ftyp", 4, "an ISO media file, such as HEIC or MP4"},
    {0, "\xff\x0a", 2, "a JPEG XL picture"},
    {4, "JXL ", 4, "a JPEG XL picture"},
    {0, "%PDF", 4, "a PDF file"},
    {0, "PK\x03\x04", 4, "a ZIP archive"},
    {0, "\x1f\x8b", 2, "a gzip file"},
    {0, "{", 1, "a text file, perhaps JSON"},
};

struct Chunk {
    std::string name;
    size_t start;
    size_t size;
};

[[noreturn]] void fail(Status status, const std::string &text, size_t offset) {
    throw Failure(status, text + " (at byte " + std::to_string(offset) + ")");
}

[[noreturn]] void corrupt(const std::string &text) { throw Failure(Status::corrupt_stream, text); }

bool is_letter(uint8_t byte) { return (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z'); }

std::string digits_of(uint32_t value, int digits) {
    std::string text(static_cast<size_t>(digits), '0');
    for (auto at = text.rbegin(); at != text.rend(); ++at, value >>= 4) *at = "0123456789abcdef"[value & 15];
    return text;
}

std::string listed(const std::vector<std::string> &names) {
    std::string text;
    for (const std::string &name : names) text += (text.empty() ? "" : ", ") + name;
    return text;
}

bool is_coded(const std::string &name) {
    return std::find(chunk_order, chunk_order + coded_chunks, name) != chunk_order + coded_chunks;
}

// The bytes as text, for errors; what cannot be printed becomes a dot.
std::string printable(Bytes bytes) {
    std::string text;
    for (uint8_t byte : bytes) text += byte >= 32 && byte < 127 ? static_cast<char>(byte) : '.';
    return "'" + text + "'";
}

// Checks magic, version and that the header is there.
void check_kind(Bytes data) {
    const Bytes magic = data.part(0, 4);
    if (!std::equal(magic.begin(), magic.end(), "MLIC")) {
        for (const Foreign &one : foreign_files) {
            if (has(data, one.start, one.size) && std::memcmp(data.data + one.start, one.signature, one.size) == 0) {
                fail(Status::unsupported_stream, std::string("this is ") + one.name + ", not a .mlic file", 0);
            }
        }
        fail(Status::unsupported_stream, "not a .mlic file: it begins with " + printable(magic), 0);
    }
    if (data.size > 4 && data[4] != file_version) {
        fail(Status::unsupported_stream,
             "file version " + std::to_string(data[4]) + "; this reader knows version " + std::to_string(file_version),
             4);
    }
    if (data.size < header_size) {
        fail(Status::truncated_stream,
             "header needs " + std::to_string(header_size) + " bytes, got " + std::to_string(data.size), data.size);
    }
}

void check_side(const char *name, uint32_t value, size_t offset) {
    if (value < 1 || value > max_side) {
        fail(Status::corrupt_stream,
             std::string(name) + " is " + std::to_string(value) + "; expected 1 to " + std::to_string(max_side),
             offset);
    }
}

Header header_from(Bytes data, uint64_t max_pixels) {
    const Arithmetic *arithmetic = arithmetic_of_code(data[5]);
    if (arithmetic == nullptr) {
        std::vector<std::string> known;
        for (const Arithmetic *one : arithmetics) known.push_back(std::to_string(one->code) + " (" + one->name + ")");
        fail(Status::unsupported_stream,
             "arithmetic " + std::to_string(data[5]) + "; this reader knows " + listed(known), 5);
    }
    const uint16_t flags = u16_at(data, 6);
    if (flags != 0) fail(Status::unsupported_stream, "flags 0x" + digits_of(flags, 4) + "; this reader knows none", 6);
    Header header;
    header.arithmetic = arithmetic->name;
    std::copy_n(data.data + 8, header.model_id.size(), header.model_id.begin());
    header.width = u32_at(data, 16);
    header.height = u32_at(data, 20);
    check_side("width", header.width, 16);
    check_side("height", header.height, 20);
    if (uint64_t{header.width} * header.height > max_pixels) {
        fail(Status::unsupported_stream,
             "picture of " + std::to_string(header.width) + " x " + std::to_string(header.height) +
                 " pixels; the limit is " + std::to_string(max_pixels) + " (max_pixels)",
             16);
    }
    return header;
}

// Returns the chunks up to ENDS; sets where the file ends.
std::vector<Chunk> frame(Bytes data, size_t &end) {
    std::vector<Chunk> chunks;
    size_t position = header_size;
    while (true) {
        if (!has(data, position, chunk_head_size)) {
            fail(Status::truncated_stream, "chunk header needs 8 bytes, got " + std::to_string(data.size - position),
                 position);
        }
        const size_t length = u32_at(data, position);
        const Bytes name = data.part(position + 4, 4);
        if (!std::all_of(name.begin(), name.end(), is_letter)) {
            fail(Status::corrupt_stream, "chunk name " + printable(name) + "; expected four letters", position + 4);
        }
        const Chunk chunk{std::string(name.begin(), name.end()), position + chunk_head_size, length};
        const bool last = chunk.name == "ENDS";
        if (last && length != crc_size) {
            fail(Status::corrupt_stream, "ENDS has " + std::to_string(length) + " bytes; expected 4", chunk.start);
        }
        if (!has(data, chunk.start, length)) {
            fail(Status::truncated_stream,
                 "chunk " + chunk.name + " needs " + std::to_string(length) + " bytes, got " +
                     std::to_string(data.size - chunk.start),
                 data.size);
        }
        position = chunk.start + length;
        if (last) break;
        if (chunks.size() == max_chunks) {
            fail(Status::corrupt_stream, "more than " + std::to_string(max_chunks) + " chunks",
                 chunk.start - chunk_head_size);
        }
        chunks.push_back(chunk);
    }
    if (data.size > position) {
        fail(Status::corrupt_stream, std::to_string(data.size - position) + " bytes follow the end of the file",
             position);
    }
    end = position;
    return chunks;
}

// Checks that the coded chunks are those of the arithmetic whose chunk of checks is `own`, or none beside a grid.
void check_coded(const std::map<std::string, Bytes> &known, const std::string &own) {
    std::vector<std::string> coded, missing, foreign;
    for (size_t place = 0; place < coded_chunks; ++place) {
        if (known.count(chunk_order[place])) coded.emplace_back(chunk_order[place]);
    }
    if (known.count("GRID")) {
        if (!coded.empty()) corrupt("GRID stands beside " + listed(coded) + "; expected one or the other");
        return;
    }
    for (const std::string &name : {std::string("LATS"), own}) {
        if (!known.count(name)) missing.push_back(name);
    }
    if (!missing.empty()) corrupt("chunks are missing: " + listed(missing));
    for (const Arithmetic *one : arithmetics) {
        if (one->chunk != own && known.count(one->chunk)) foreign.emplace_back(one->chunk);
    }
    if (!foreign.empty()) corrupt(listed(foreign) + " stands in a file that has " + own + "; expected one");
    if (own == integer_arithmetic.chunk && known.at(own).size != crc_size) {
        corrupt(own + " has " + std::to_string(known.at(own).size) + " bytes; expected " + std::to_string(crc_size));
    }
}

// Returns the contents of the chunks that this version knows.
std::map<std::string, Bytes> known_chunks(Bytes data, const std::vector<Chunk> &chunks, const std::string &own) {
    std::map<std::string, Bytes> known;
    std::set<std::string> seen;
    size_t last = 0;
    for (const Chunk &chunk : chunks) {
        const size_t head = chunk.start - chunk_head_size;
        if (!seen.insert(chunk.name).second) {
            fail(Status::corrupt_stream, "chunk " + chunk.name + " occurs twice", head);
        }
        const auto found = std::find(std::begin(chunk_order), std::end(chunk_order), chunk.name);
        if (found == std::end(chunk_order)) {
            if (chunk.name[0] >= 'A' && chunk.name[0] <= 'Z') {
                fail(Status::unsupported_stream, "critical chunk " + chunk.name + " is unknown to this reader",
                     head + 4);
            }
            continue;
        }
        const auto place = static_cast<size_t>(found - std::begin(chunk_order));
        if (place < last) fail(Status::corrupt_stream, "chunk " + chunk.name + " stands too late", head);
        last = place;
        known[chunk.name] = data.part(chunk.start, chunk.size);
    }
    check_coded(known, own);
    return known;
}

Bitstream read(Bytes data, uint64_t max_pixels, uint64_t latent_pixels, bool is_cell) {
    check_kind(data);
    size_t end = 0;
    const std::vector<Chunk> chunks = frame(data, end);
    const uint32_t stored = u32_at(data, end - crc_size);
    const uint32_t computed = crc32_of(data.part(0, end - crc_size));
    if (stored != computed) {
        fail(Status::corrupt_stream,
             "checksum is " + digits_of(stored, 8) + ", the contents have " + digits_of(computed, 8), end - crc_size);
    }
    Bitstream stream;
    static_cast<Header &>(stream) = header_from(data, max_pixels);
    const std::string own = arithmetic_named(stream.arithmetic)->chunk;
    bool has_grid = false;
    std::vector<std::string> strangers;
    for (const Chunk &chunk : chunks) {
        has_grid = has_grid || chunk.name == "GRID";
        if (!is_coded(chunk.name)) strangers.push_back(chunk.name);
    }
    if (is_cell && !strangers.empty()) {
        corrupt("a cell holds " + listed(strangers) + "; expected LATS, ESCP and " + own + " alone");
    }
    if (!has_grid && uint64_t{stream.width} * stream.height > latent_pixels) {
        fail(Status::unsupported_stream,
             std::to_string(stream.width) + " x " + std::to_string(stream.height) +
                 " pixels in one latent; the limit is " + std::to_string(latent_pixels) + " (latent_pixels)",
             16);
    }
    const std::map<std::string, Bytes> known = known_chunks(data, chunks, own);
    const auto contents = [&](const char *name) {
        const auto found = known.find(name);
        return found == known.end() ? Bytes() : found->second;
    };
    if (has_grid) {
        const auto read_cell = [&](Bytes cell) { return read(cell, max_pixels, latent_pixels, true); };
        stream.grid = std::make_shared<const Grid>(read_grid(contents("GRID"), stream, read_cell));
    }
    stream.latents = contents("LATS").copy();
    if (stream.latents.size() % 4 != 0) {
        corrupt("LATS has " + std::to_string(stream.latents.size()) + " bytes; expected a multiple of 4");
    }
    stream.escapes = contents("ESCP").copy();
    if (known.count("ESCP") && stream.escapes.empty()) corrupt("ESCP is empty; expected no such chunk");
    stream.checks = contents(own.c_str()).copy();
    stream.metadata = metadata_from_chunks(known);
    return stream;
}

void put_chunk(std::vector<uint8_t> &file, const char *name, Bytes contents) {
    if (contents.size > UINT32_MAX) {
        throw Failure(Status::invalid_argument, std::string("chunk ") + name + " is too large");
    }
    put_u32(file, static_cast<uint32_t>(contents.size));
    file.insert(file.end(), name, name + 4);
    put(file, contents);
}

}  // namespace

std::string hex(const std::array<uint8_t, 8> &bytes) {
    std::string text;
    for (const uint8_t byte : bytes) text += digits_of(byte, 2);
    return text;
}

Bitstream read_container(const uint8_t *data, size_t size, uint64_t max_pixels, uint64_t latent_pixels) {
    return read(Bytes(data, size), max_pixels, latent_pixels, false);
}

Header read_header(const uint8_t *data, size_t size, uint64_t max_pixels) {
    check_kind(Bytes(data, size));
    return header_from(Bytes(data, size), max_pixels);
}

std::vector<uint8_t> write_container(const Bitstream &stream) {
    const auto side_is_fine = [](uint32_t side) { return side >= 1 && side <= max_side; };
    const Arithmetic *arithmetic = arithmetic_named(stream.arithmetic);
    if (!side_is_fine(stream.width) || !side_is_fine(stream.height) || arithmetic == nullptr ||
        stream.latents.size() % 4 != 0) {
        throw Failure(Status::invalid_argument, "sides, arithmetic or words cannot be written to a file");
    }
    std::vector<uint8_t> file{'M', 'L', 'I', 'C', file_version, arithmetic->code, 0, 0};
    file.insert(file.end(), stream.model_id.begin(), stream.model_id.end());
    put_u32(file, stream.width);
    put_u32(file, stream.height);
    if (stream.grid) {
        put_chunk(file, "GRID", grid_bytes(*stream.grid, write_container));
    } else {
        put_chunk(file, "LATS", stream.latents);
        if (!stream.escapes.empty()) put_chunk(file, "ESCP", stream.escapes);
        put_chunk(file, arithmetic->chunk, stream.checks);
    }
    for (const auto &[name, contents] : chunks_from_metadata(stream.metadata)) {
        put_chunk(file, name.c_str(), contents);
    }
    put_u32(file, crc_size);
    file.insert(file.end(), {'E', 'N', 'D', 'S'});
    put_u32(file, crc32_of(file));  // CRC last: it covers the header
    return file;
}

}  // namespace mlic
