// libmlic for C++17: mlic.h with owners instead of handles and exceptions instead of statuses.
//
//     mlic::Options options;
//     options.onnxruntime = "/opt/onnxruntime/lib/libonnxruntime.so.1";
//     mlic::Codec codec("mlicpp-n64-m192-medium", options);
//     std::vector<std::uint8_t> data = codec.encode(pixels, width, height);
//     mlic::Picture picture = codec.decode(data.data(), data.size());
//     mlic::Picture part = codec.decode(data.data(), data.size(), {x, y, part_width, part_height});
//     mlic::Metadata metadata = mlic::read_metadata(data.data(), data.size());
//
// Header only: the exceptions are thrown in the program's own code, by its own compiler. Errors of the library are
// mlic::Error. Threads as in mlic.h: one codec serves any number of them.
#ifndef MLIC_HPP
#define MLIC_HPP

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "mlic.h"

namespace mlic {
inline namespace wrapper {  // so that no name here is one of the library's own, which may be linked statically

// A call that failed; what() is one line.
class Error : public std::runtime_error {
   public:
    Error(mlic_status status, const std::string &text) : std::runtime_error(text), status_(status) {}
    mlic_status status() const noexcept { return status_; }

   private:
    mlic_status status_;
};

// Throws if a call failed: std::bad_alloc for want of memory, else Error.
inline void check(mlic_status status) {
    if (status == MLIC_OUT_OF_MEMORY) throw std::bad_alloc();
    if (status != MLIC_OK) throw Error(status, mlic_last_error());
}

// See mlic_options.
struct Options {
    std::int32_t threads = 0;
    std::string onnxruntime;
    std::uint64_t max_pixels = 0;
    std::uint64_t tile_pixels = 0;
    std::uint64_t latent_pixels = 0;
    std::string certificate_cache;
};

// Part of a picture, in pixels.
struct Region {
    std::uint32_t x = 0;
    std::uint32_t y = 0;
    std::uint32_t width = 0;
    std::uint32_t height = 0;
};

// What goes with a picture; empty parts are not there. See mlic_metadata and mlic_source.
struct Metadata {
    std::vector<std::uint8_t> icc_profile;
    std::vector<std::uint8_t> exif;
    std::vector<std::uint8_t> xmp;
    std::uint32_t source = 0;
};

// 8-bit RGB, interleaved, rows from top to bottom: 3 * width * height bytes.
struct Picture {
    std::uint32_t width = 0;
    std::uint32_t height = 0;
    std::vector<std::uint8_t> pixels;
};

// One file of a bundle in memory, which must stay as it is as long as the codec lives.
using File = mlic_file;
using Header = mlic_header;
using Info = mlic_info;

// Reads the first 24 bytes of a file; see mlic_read_header.
inline Header read_header(const void *data, std::size_t size, std::uint64_t max_pixels = 0) {
    Header header;
    check(mlic_read_header(data, size, max_pixels, &header));
    return header;
}

// Checks a file and reads what it says of its picture; see mlic_read_info.
inline Info read_info(const void *data, std::size_t size, std::uint64_t max_pixels = 0) {
    Info info = MLIC_INFO_INIT;
    check(mlic_read_info(data, size, max_pixels, &info));
    return info;
}

// Reads what goes with a file's picture; see mlic_read_metadata.
inline Metadata read_metadata(const void *data, std::size_t size, std::uint64_t max_pixels = 0) {
    const Info info = read_info(data, size, max_pixels);
    const auto part = [&](std::int32_t which, std::size_t part_size) {
        std::vector<std::uint8_t> contents(part_size);
        if (part_size > 0)
            check(mlic_read_metadata(data, size, max_pixels, which, contents.data(), part_size, &part_size));
        return contents;
    };
    return {part(MLIC_ICC_PROFILE, info.icc_profile_size), part(MLIC_EXIF, info.exif_size),
            part(MLIC_XMP, info.xmp_size), info.source};
}

// A model on an engine. Moves, does not copy.
class Codec {
   public:
    explicit Codec(const std::string &folder, const Options &options = {}) : max_pixels_(options.max_pixels) {
        mlic_codec *codec = nullptr;
        const mlic_options plain = plain_options(options);
        check(mlic_open(folder.c_str(), &plain, &codec));
        codec_.reset(codec);
    }

    explicit Codec(const std::vector<File> &files, const Options &options = {}) : max_pixels_(options.max_pixels) {
        mlic_codec *codec = nullptr;
        const mlic_options plain = plain_options(options);
        check(mlic_open_memory(files.data(), files.size(), &plain, &codec));
        codec_.reset(codec);
    }

    // Opens graphs now rather than for the first picture.
    void prepare(bool encode = true, bool decode = true) { check(mlic_prepare(codec_.get(), encode, decode)); }

    // RGB; or grey, one byte a pixel, with 1 for `channels`.
    std::vector<std::uint8_t> encode(const std::uint8_t *pixels, std::uint32_t width, std::uint32_t height,
                                     std::size_t stride = 0, const Metadata &metadata = {},
                                     std::uint32_t channels = 3) {
        mlic_encode_options options = MLIC_ENCODE_OPTIONS_INIT;
        const auto give = [](const std::vector<std::uint8_t> &part, const void *&data, std::size_t &part_size) {
            if (part.empty()) return;
            data = part.data();
            part_size = part.size();
        };
        give(metadata.icc_profile, options.icc_profile, options.icc_profile_size);
        give(metadata.exif, options.exif, options.exif_size);
        give(metadata.xmp, options.xmp, options.xmp_size);
        options.source = metadata.source;
        options.channels = channels;
        std::size_t size = 0;
        check(mlic_encode_bound_with(codec_.get(), width, height, &options, &size));
        const std::unique_ptr<std::uint8_t[]> room(new std::uint8_t[size]);  // a vector would write zeros to all of it
        check(mlic_encode_with(codec_.get(), pixels, width, height, stride, &options, room.get(), size, &size));
        return std::vector<std::uint8_t>(room.get(), room.get() + size);
    }

    Picture decode(const void *data, std::size_t size) {
        const Header header = read_header(data, size, max_pixels_);
        Picture picture = room_for(header.width, header.height);
        check(mlic_decode(codec_.get(), data, size, picture.pixels.data(), picture.pixels.size(), 0));
        return picture;
    }

    // The part of a picture that lies in a region.
    Picture decode(const void *data, std::size_t size, const Region &region) {
        const Header header = read_header(data, size, max_pixels_);
        const bool inside = region.width <= header.width && region.height <= header.height;  // else no room is made
        Picture picture = inside ? room_for(region.width, region.height) : room_for(1, 1);
        if (picture.pixels.empty()) picture.pixels.resize(1);  // for a pointer that is not null
        check(mlic_decode_region(codec_.get(), data, size, region.x, region.y, region.width, region.height,
                                 picture.pixels.data(), picture.pixels.size(), 0));
        return picture;
    }

    std::array<std::uint8_t, 8> model_id() const {
        std::array<std::uint8_t, 8> id{};
        const std::uint8_t *found = mlic_model_id(codec_.get());
        for (std::size_t i = 0; i < id.size(); ++i) id[i] = found[i];
        return id;
    }

    std::string engine() const { return mlic_engine(codec_.get()); }

    // For functions of mlic.h that have no counterpart here.
    mlic_codec *get() const noexcept { return codec_.get(); }

   private:
    struct Close {
        void operator()(mlic_codec *codec) const noexcept { mlic_close(codec); }
    };

    static mlic_options plain_options(const Options &options) {
        mlic_options plain = MLIC_OPTIONS_INIT;
        plain.threads = options.threads;
        plain.onnxruntime = options.onnxruntime.empty() ? nullptr : options.onnxruntime.c_str();
        plain.max_pixels = options.max_pixels;
        plain.tile_pixels = options.tile_pixels;
        plain.latent_pixels = options.latent_pixels;
        plain.certificate_cache = options.certificate_cache.empty() ? nullptr : options.certificate_cache.c_str();
        return plain;
    }

    static Picture room_for(std::uint32_t width, std::uint32_t height) {
        return {width, height, std::vector<std::uint8_t>(std::size_t{3} * width * height)};
    }

    std::uint64_t max_pixels_;
    std::unique_ptr<mlic_codec, Close> codec_;
};

}  // namespace wrapper
}  // namespace mlic

#endif
