// zlib with bounds: what unpacks is as large as max_icc_bytes allows, whatever the packed bytes say.
#include "icc_profile.hpp"

#include <zlib.h>

#include <algorithm>
#include <string>

#include "container.hpp"
#include "failure.hpp"

namespace mlic {
namespace {

[[noreturn]] void corrupt(const std::string &text) { throw Failure(Status::corrupt_stream, text); }

// Owns zlib's state while a profile is unpacked.
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

}  // namespace

std::vector<uint8_t> decompress_profile(Bytes data) {
    Inflater inflater;
    z_stream &stream = inflater.stream;
    stream.next_in = const_cast<Bytef *>(data.data);  // zlib does not write to it
    stream.avail_in = static_cast<uInt>(data.size);   // a chunk's length has 32 bits
    std::vector<uint8_t> profile;
    int result = Z_OK;
    // The buffer grows with what comes out, so a small file cannot ask for much memory.
    while (result == Z_OK && profile.size() <= max_icc_bytes) {
        const size_t before = profile.size();
        const size_t room = std::min(std::max<size_t>(before, 1U << 14), max_icc_bytes + 1 - before);
        profile.resize(before + room);
        stream.next_out = profile.data() + before;
        stream.avail_out = static_cast<uInt>(room);
        result = inflate(&stream, Z_NO_FLUSH);
        profile.resize(before + room - stream.avail_out);
        if (stream.avail_in == 0 && stream.avail_out > 0) break;
    }
    if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR) {
        corrupt(std::string("ICC profile cannot be decompressed: ") +
                (stream.msg ? stream.msg : "it needs a dictionary"));
    }
    if (profile.size() > max_icc_bytes) {
        corrupt("ICC profile is larger than " + std::to_string(max_icc_bytes) + " bytes");
    }
    if (profile.empty() || result != Z_STREAM_END || stream.avail_in > 0) {
        corrupt("ICC profile is empty, cut or followed by other data");
    }
    return profile;
}

std::vector<uint8_t> compress_profile(Bytes profile) {
    if (profile.size < 1 || profile.size > max_icc_bytes) {
        throw Failure(Status::invalid_argument, "ICC profile of " + std::to_string(profile.size) +
                                                    " bytes; expected 1 to " + std::to_string(max_icc_bytes));
    }
    uLongf size = compressBound(static_cast<uLong>(profile.size));
    std::vector<uint8_t> packed(size);
    if (compress2(packed.data(), &size, profile.data, static_cast<uLong>(profile.size), 9) != Z_OK) {
        throw Failure(Status::out_of_memory, "zlib cannot compress the ICC profile");
    }
    packed.resize(size);
    return packed;
}

}  // namespace mlic
