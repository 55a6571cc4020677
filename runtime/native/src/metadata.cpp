// zlib with bounds: what unpacks is as large as max_metadata_bytes allows, whatever the packed bytes say.
#include "metadata.hpp"

#include <zlib.h>

#include <algorithm>

#include "failure.hpp"

namespace mlic {
namespace {

constexpr size_t chunk_head_size = 8;
constexpr int compression = 9;  // as Python's: the same zlib writes the same bytes

// A kind of metadata that is compressed.
struct Part {
    const char *chunk;
    const char *what;
    std::optional<std::vector<uint8_t>> Metadata::*contents;
};
constexpr Part parts[] = {
    {"iccp", "ICC profile", &Metadata::icc_profile},
    {"exif", "EXIF", &Metadata::exif},
    {"xmpd", "XMP", &Metadata::xmp},
};
constexpr const char *source_chunk = "orig";

[[noreturn]] void corrupt(const std::string &text) { throw Failure(Status::corrupt_stream, text); }

// Owns zlib's state while a chunk is unpacked.
class Inflater {
   public:
    Inflater() {
        if (inflateInit(&stream) != Z_OK) throw Failure(Status::out_of_memory, "zlib cannot be initialised");
    }
    ~Inflater() { inflateEnd(&stream); }
    Inflater(const Inflater &) = delete;
    Inflater &operator=(const Inflater &) = delete;

    z_stream stream{};
};

std::vector<uint8_t> decompressed(Bytes data, const std::string &what) {
    Inflater inflater;
    z_stream &stream = inflater.stream;
    stream.next_in = const_cast<Bytef *>(data.data);  // zlib does not write to it
    stream.avail_in = static_cast<uInt>(data.size);   // a chunk's length has 32 bits
    std::vector<uint8_t> found;
    int result = Z_OK;
    // The buffer grows with what comes out, so a small file cannot ask for much memory.
    while (result == Z_OK && found.size() <= max_metadata_bytes) {
        const size_t before = found.size();
        const size_t room = std::min(std::max<size_t>(before, 1U << 14), max_metadata_bytes + 1 - before);
        found.resize(before + room);
        stream.next_out = found.data() + before;
        stream.avail_out = static_cast<uInt>(room);
        result = inflate(&stream, Z_NO_FLUSH);
        found.resize(before + room - stream.avail_out);
        if (stream.avail_in == 0 && stream.avail_out > 0) break;
    }
    if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR) {
        corrupt(what + " cannot be decompressed: " + (stream.msg ? stream.msg : "it needs a dictionary"));
    }
    if (found.size() > max_metadata_bytes) {
        corrupt(what + " is larger than " + std::to_string(max_metadata_bytes) + " bytes");
    }
    if (found.empty() || result != Z_STREAM_END || stream.avail_in > 0) {
        corrupt(what + " is empty, cut or followed by other data");
    }
    return found;
}

std::vector<uint8_t> compressed(Bytes contents, const std::string &what) {
    uLongf size = compressBound(static_cast<uLong>(contents.size));
    std::vector<uint8_t> packed(size);
    if (compress2(packed.data(), &size, contents.data, static_cast<uLong>(contents.size), compression) != Z_OK) {
        throw Failure(Status::out_of_memory, "zlib cannot compress the " + what);
    }
    packed.resize(size);
    return packed;
}

}  // namespace

void check_metadata(const Metadata &metadata) {
    for (const Part &part : parts) {
        const auto &contents = metadata.*part.contents;
        if (!contents || (contents->size() >= 1 && contents->size() <= max_metadata_bytes)) continue;
        throw Failure(Status::invalid_argument, std::string(part.what) + " of " + std::to_string(contents->size()) +
                                                    " bytes; expected 1 to " + std::to_string(max_metadata_bytes));
    }
}

std::vector<std::pair<std::string, std::vector<uint8_t>>> chunks_from_metadata(const Metadata &metadata) {
    check_metadata(metadata);
    std::vector<std::pair<std::string, std::vector<uint8_t>>> chunks;
    for (const Part &part : parts) {
        const auto &contents = metadata.*part.contents;
        if (contents) chunks.emplace_back(part.chunk, compressed(*contents, part.what));
    }
    const auto source = static_cast<uint8_t>(metadata.source & known_sources);
    if (source != 0) chunks.emplace_back(source_chunk, std::vector<uint8_t>{source});
    return chunks;
}

Metadata metadata_from_chunks(const std::map<std::string, Bytes> &contents) {
    Metadata metadata;
    for (const Part &part : parts) {
        const auto found = contents.find(part.chunk);
        if (found != contents.end()) metadata.*part.contents = decompressed(found->second, part.what);
    }
    const auto found = contents.find(source_chunk);
    if (found != contents.end()) {
        const Bytes flags = found->second;
        if (flags.size != 1) corrupt("orig has " + std::to_string(flags.size) + " bytes; expected 1");
        metadata.source = flags[0] & known_sources;
    }
    return metadata;
}

size_t metadata_bound(const Metadata &metadata) {
    size_t bound = chunk_head_size + 1;  // flags of the source
    for (const Part &part : parts) {
        const auto &contents = metadata.*part.contents;
        if (contents) bound += chunk_head_size + compressBound(static_cast<uLong>(contents->size()));
    }
    return bound;
}

}  // namespace mlic
