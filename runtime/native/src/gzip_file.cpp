// zlib compares CRC-32 and size at the end with what comes out; here it is seen to that no more comes out than was named.
#include "gzip_file.hpp"

#include <zlib.h>

#include <algorithm>
#include <string>

#include "failure.hpp"

namespace mlic {
namespace {

constexpr uint8_t magic[gzip_head_size] = {0x1F, 0x8B};

[[noreturn]] void refuse(const std::string &text) { throw Failure(Status::bad_bundle, text); }

}  // namespace

std::optional<uint64_t> unpacked_size(Bytes head, Bytes end) {
    if (!has(head, 0, gzip_head_size) || !has(end, 0, gzip_end_size)) return std::nullopt;
    if (!std::equal(head.begin(), head.begin() + gzip_head_size, magic)) return std::nullopt;
    return u32_at(end, end.size - gzip_end_size);
}

std::vector<uint8_t> unpacked(Bytes file, uint64_t limit) {
    const bool is_long = file.size >= least_gzip_bytes;
    const std::optional<uint64_t> size = is_long ? unpacked_size(file, file) : std::nullopt;
    if (!size) refuse("it is no gzip file");
    limit = std::min(limit, most_unpacked(file.size));
    if (*size > limit)
        refuse("it unpacks to " + std::to_string(*size) + " bytes; the limit is " + std::to_string(limit));

    std::vector<uint8_t> bytes(static_cast<size_t>(*size) + 1);  // one more, so that it is seen
    z_stream stream{};
    if (inflateInit2(&stream, 16 + MAX_WBITS) != Z_OK) {
        throw Failure(Status::out_of_memory, "zlib cannot be initialised");
    }
    stream.next_in = const_cast<Bytef *>(file.data);  // zlib does not write to it
    stream.avail_in = static_cast<uInt>(file.size);
    stream.next_out = bytes.data();
    stream.avail_out = static_cast<uInt>(bytes.size());
    const int result = inflate(&stream, Z_FINISH);
    const uInt room = stream.avail_out, left = stream.avail_in;
    inflateEnd(&stream);
    if (result != Z_STREAM_END && result != Z_OK && result != Z_BUF_ERROR) refuse("it is damaged");
    if (room == 0) refuse("it unpacks to more than the " + std::to_string(*size) + " bytes that it names");
    if (result != Z_STREAM_END) refuse("it ends early");
    if (left > 0) refuse("something follows its first member");
    bytes.resize(bytes.size() - room);
    return bytes;
}

}  // namespace mlic
