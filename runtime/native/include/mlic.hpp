// libmlic for C++17: mlic.h with owners instead of handles and exceptions instead of statuses.
//
//     mlic::Options options;
//     options.onnxruntime = "/opt/onnxruntime/lib/libonnxruntime.so.1";
//     mlic::Codec codec("mlicpp-n64-m192-medium", options);
//     std::vector<std::uint8_t> data = codec.encode(pixels, width, height);
//     mlic::Picture picture = codec.decode(data.data(), data.size());
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

// Reads the first 24 bytes of a file; see mlic_read_header.
inline Header read_header(const void *data, std::size_t size, std::uint64_t max_pixels = 0) {
    Header header;
    check(mlic_read_header(data, size, max_pixels, &header));
    return header;
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

    std::vector<std::uint8_t> encode(const std::uint8_t *pixels, std::uint32_t width, std::uint32_t height,
                                     std::size_t stride = 0) {
        std::size_t size = 0;
        check(mlic_encode_bound(codec_.get(), width, height, &size));
        const std::unique_ptr<std::uint8_t[]> room(new std::uint8_t[size]);  // a vector would write zeros to all of it
        check(mlic_encode(codec_.get(), pixels, width, height, stride, room.get(), size, &size));
        return std::vector<std::uint8_t>(room.get(), room.get() + size);
    }

    Picture decode(const void *data, std::size_t size) {
        const Header header = read_header(data, size, max_pixels_);
        Picture picture{header.width, header.height, {}};
        picture.pixels.resize(std::size_t{3} * header.width * header.height);
        check(mlic_decode(codec_.get(), data, size, picture.pixels.data(), picture.pixels.size(), 0));
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
        return plain;
    }

    std::uint64_t max_pixels_;
    std::unique_ptr<mlic_codec, Close> codec_;
};

}  // namespace wrapper
}  // namespace mlic

#endif
