// The C functions: arguments checked, exceptions turned into statuses, the last error's text kept for each thread.
#include <algorithm>
#include <cstring>
#include <exception>
#include <map>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "codec.hpp"
#include "container.hpp"
#include "failure.hpp"
#include "grid.hpp"
#include "mlic.h"

struct mlic_codec {
    mlic::Codec codec;
    std::string engine;
};

namespace {

using mlic::Failure;
using mlic::Status;

static_assert(static_cast<int>(Status::ok) == MLIC_OK);
static_assert(static_cast<int>(Status::invalid_argument) == MLIC_INVALID_ARGUMENT);
static_assert(static_cast<int>(Status::buffer_too_small) == MLIC_BUFFER_TOO_SMALL);
static_assert(static_cast<int>(Status::out_of_memory) == MLIC_OUT_OF_MEMORY);
static_assert(static_cast<int>(Status::truncated_stream) == MLIC_TRUNCATED_STREAM);
static_assert(static_cast<int>(Status::corrupt_stream) == MLIC_CORRUPT_STREAM);
static_assert(static_cast<int>(Status::unsupported_stream) == MLIC_UNSUPPORTED_STREAM);
static_assert(static_cast<int>(Status::bad_bundle) == MLIC_BAD_BUNDLE);
static_assert(static_cast<int>(Status::engine_missing) == MLIC_ENGINE_MISSING);
static_assert(static_cast<int>(Status::engine_failed) == MLIC_ENGINE_FAILED);
static_assert(static_cast<int>(Status::engine_mismatch) == MLIC_ENGINE_MISMATCH);
static_assert(static_cast<int>(Status::internal) == MLIC_INTERNAL);
static_assert(mlic::float32_syndrome.code == MLIC_FLOAT32_SYNDROME);
static_assert(mlic::integer_arithmetic.code == MLIC_INTEGER);
static_assert(mlic::source_grey == MLIC_SOURCE_GREY);
static_assert(mlic::source_transparent == MLIC_SOURCE_TRANSPARENT);
static_assert(mlic::source_deep == MLIC_SOURCE_DEEP);

constexpr int32_t MAX_THREADS = 1024;  // beyond any processor that latents could keep busy

// Plain memory: keeping a text must not need any, and a thread that ends must not call into a library that was
// unloaded.
thread_local char last_error[1024];

mlic_status remember(mlic_status status, const char *text) noexcept {
    std::strncpy(last_error, text, sizeof last_error - 1);
    return status;
}

template <class Body>
mlic_status guarded(const Body &body) noexcept {
    try {
        body();
        return MLIC_OK;
    } catch (const Failure &failure) {
        return remember(static_cast<mlic_status>(failure.status), failure.what());
    } catch (const std::bad_alloc &) {
        return remember(MLIC_OUT_OF_MEMORY, "not enough memory");
    } catch (const std::length_error &) {
        return remember(MLIC_OUT_OF_MEMORY, "not enough memory");
    } catch (const std::exception &error) {
        return remember(MLIC_INTERNAL, error.what());
    } catch (...) {
        return remember(MLIC_INTERNAL, "unknown exception");
    }
}

void require(bool holds, const std::string &otherwise) {
    if (!holds) throw Failure(Status::invalid_argument, otherwise);
}

// Returns the number of bytes of a struct that both the program and the library have: a program compiled with an
// earlier header has fewer members, one compiled with a later header more.
size_t shared_size(size_t struct_size, size_t ours, const std::string &name, const std::string &init) {
    require(struct_size >= sizeof(size_t),
            name + " has struct_size " + std::to_string(struct_size) + "; begin with " + init);
    return std::min(struct_size, ours);
}

mlic_options given(const mlic_options *options) {
    mlic_options all = MLIC_OPTIONS_INIT;
    if (options == nullptr) return all;
    std::memcpy(&all, options, shared_size(options->struct_size, sizeof all, "options", "MLIC_OPTIONS_INIT"));
    require(all.threads >= 0 && all.threads <= MAX_THREADS,
            "threads is " + std::to_string(all.threads) + "; expected 0 to " + std::to_string(MAX_THREADS));
    return all;
}

mlic_encode_options given(const mlic_encode_options *options) {
    mlic_encode_options all = MLIC_ENCODE_OPTIONS_INIT;
    if (options != nullptr)
        std::memcpy(&all, options,
                    shared_size(options->struct_size, sizeof all, "options", "MLIC_ENCODE_OPTIONS_INIT"));
    if (all.channels == 0) all.channels = 3;
    require(all.channels == 1 || all.channels == 3,
            "channels is " + std::to_string(all.channels) + "; expected 3, or 1 for grey");
    return all;
}

std::optional<std::vector<uint8_t>> part_given(const void *data, size_t size, const std::string &name) {
    require(data != nullptr || size == 0, name + " is null and has a size of " + std::to_string(size));
    if (data == nullptr) return std::nullopt;
    require(size <= mlic::max_metadata_bytes, name + " of " + std::to_string(size) + " bytes; expected 1 to " +
                                                  std::to_string(mlic::max_metadata_bytes));  // before it is copied
    const auto *first = static_cast<const uint8_t *>(data);
    return std::vector<uint8_t>(first, first + size);
}

mlic::Metadata metadata_given(const mlic_encode_options &options) {
    mlic::Metadata metadata;
    metadata.icc_profile = part_given(options.icc_profile, options.icc_profile_size, "ICC profile");
    metadata.exif = part_given(options.exif, options.exif_size, "EXIF");
    metadata.xmp = part_given(options.xmp, options.xmp_size, "XMP");
    metadata.source = static_cast<uint8_t>(options.source & mlic::known_sources);
    return metadata;
}

mlic::Bitstream read_without_codec(const void *data, size_t size, uint64_t max_pixels) {
    require(data != nullptr || size == 0, "data is null");
    const uint64_t limit = max_pixels == 0 ? mlic::default_max_pixels : max_pixels;
    return mlic::read_container(static_cast<const uint8_t *>(data), size, limit);
}

mlic_codec *opened(mlic::Bundle bundle, const mlic_options &options) {
    const mlic::Engine engine(options.onnxruntime == nullptr ? "" : options.onnxruntime, options.threads);
    const mlic::Limits limits{options.max_pixels, options.tile_pixels, options.latent_pixels};
    const mlic::CertificateCache cache(options.certificate_cache == nullptr ? "" : options.certificate_cache);
    return new mlic_codec{{std::move(bundle), engine, cache, limits}, engine.granted()};
}

// Returns the number of bytes that a picture takes, or fails if its rows overlap or no memory is so large.
size_t picture_size(uint32_t width, uint32_t height, size_t stride, size_t channels) {
    const size_t row = channels * width;
    require(stride == 0 || stride >= row, "stride is " + std::to_string(stride) + "; a row has " + std::to_string(row));
    const size_t step = stride == 0 ? row : stride;
    require(step <= (SIZE_MAX - row) / height, "stride is " + std::to_string(stride) + ": beyond any memory");
    return (height - 1) * step + row;
}

void decode(mlic_codec *codec, const void *data, size_t size, const std::optional<mlic::Region> &region,
            uint8_t *pixels, size_t capacity, size_t stride) {
    require(codec != nullptr && (data != nullptr || size == 0) && pixels != nullptr, "codec, data or pixels is null");
    const mlic::Bitstream stream = codec->codec.read(static_cast<const uint8_t *>(data), size);
    const mlic::Box box = mlic::region_box(stream, region);
    codec->codec.check(stream);
    const auto width = static_cast<uint32_t>(box.width), height = static_cast<uint32_t>(box.height);
    const size_t needed = picture_size(width, height, stride, 3);
    if (capacity < needed)
        throw Failure(Status::buffer_too_small, "the picture needs " + std::to_string(needed) +
                                                    " bytes; there is room for " + std::to_string(capacity));
    codec->codec.decode(stream, box, pixels, stride == 0 ? size_t{3} * width : stride);
}

}  // namespace

extern "C" {

mlic_status mlic_open(const char *folder, const mlic_options *options, mlic_codec **codec) {
    return guarded([&] {
        require(folder != nullptr && codec != nullptr, "folder or codec is null");
        const mlic_options all = given(options);
        *codec = opened(mlic::Bundle::open(folder), all);
    });
}

mlic_status mlic_open_memory(const mlic_file *files, size_t count, const mlic_options *options, mlic_codec **codec) {
    return guarded([&] {
        require(files != nullptr && codec != nullptr, "files or codec is null");
        std::map<std::string, mlic::Bytes> named;
        for (size_t i = 0; i < count; ++i) {
            require(files[i].path != nullptr && files[i].data != nullptr, "a file's path or data is null");
            named[files[i].path] = {static_cast<const uint8_t *>(files[i].data), files[i].size};
        }
        const mlic_options all = given(options);
        *codec = opened(mlic::Bundle::open(std::make_shared<mlic::MemorySource>(std::move(named))), all);
    });
}

void mlic_close(mlic_codec *codec) { delete codec; }

mlic_status mlic_prepare(mlic_codec *codec, int32_t encode, int32_t decode) {
    return guarded([&] {
        require(codec != nullptr, "codec is null");
        codec->codec.prepare(encode != 0, decode != 0);
    });
}

const uint8_t *mlic_model_id(const mlic_codec *codec) {
    return codec == nullptr ? nullptr : codec->codec.model_id().data();
}

const char *mlic_engine(const mlic_codec *codec) {
    return codec == nullptr ? nullptr : codec->engine.c_str();
}

mlic_status mlic_encode_bound(const mlic_codec *codec, uint32_t width, uint32_t height, size_t *size) {
    return mlic_encode_bound_with(codec, width, height, nullptr, size);
}

mlic_status mlic_encode_bound_with(const mlic_codec *codec, uint32_t width, uint32_t height,
                                   const mlic_encode_options *options, size_t *size) {
    return guarded([&] {
        require(codec != nullptr && size != nullptr, "codec or size is null");
        *size = codec->codec.encode_bound(width, height, metadata_given(given(options)));
    });
}

mlic_status mlic_encode(mlic_codec *codec, const uint8_t *pixels, uint32_t width, uint32_t height, size_t stride,
                        void *data, size_t capacity, size_t *size) {
    return mlic_encode_with(codec, pixels, width, height, stride, nullptr, data, capacity, size);
}

mlic_status mlic_encode_with(mlic_codec *codec, const uint8_t *pixels, uint32_t width, uint32_t height, size_t stride,
                             const mlic_encode_options *options, void *data, size_t capacity, size_t *size) {
    return guarded([&] {
        require(codec != nullptr && pixels != nullptr && data != nullptr && size != nullptr,
                "codec, pixels, data or size is null");
        const mlic_encode_options all = given(options);
        codec->codec.check_size(width, height);
        picture_size(width, height, stride, all.channels);
        const mlic::Pixels picture{pixels, stride == 0 ? size_t{all.channels} * width : stride, all.channels};
        const std::vector<uint8_t> file = codec->codec.encode(picture, width, height, metadata_given(all));
        *size = file.size();
        if (file.size() > capacity)
            throw Failure(Status::buffer_too_small, "the file has " + std::to_string(file.size()) +
                                                        " bytes; there is room for " + std::to_string(capacity));
        std::memcpy(data, file.data(), file.size());
    });
}

mlic_status mlic_read_header(const void *data, size_t size, uint64_t max_pixels, mlic_header *header) {
    return guarded([&] {
        require((data != nullptr || size == 0) && header != nullptr, "data or header is null");
        const uint64_t limit = max_pixels == 0 ? mlic::default_max_pixels : max_pixels;
        const mlic::Header found = mlic::read_header(static_cast<const uint8_t *>(data), size, limit);
        *header = {found.width, found.height, {}};
        std::copy(found.model_id.begin(), found.model_id.end(), header->model_id);
    });
}

mlic_status mlic_read_info(const void *data, size_t size, uint64_t max_pixels, mlic_info *info) {
    return guarded([&] {
        require(info != nullptr, "info is null");
        const size_t shared = shared_size(info->struct_size, sizeof *info, "info", "MLIC_INFO_INIT");
        const mlic::Bitstream stream = read_without_codec(data, size, max_pixels);
        const auto size_of = [](const std::optional<std::vector<uint8_t>> &part) { return part ? part->size() : 0; };
        mlic_info all = MLIC_INFO_INIT;
        all.struct_size = info->struct_size;
        all.width = stream.width;
        all.height = stream.height;
        std::copy(stream.model_id.begin(), stream.model_id.end(), all.model_id);
        all.source = stream.metadata.source;
        if (stream.grid) {
            all.cell_width = stream.grid->cell_width;
            all.cell_height = stream.grid->cell_height;
        }
        all.icc_profile_size = size_of(stream.metadata.icc_profile);
        all.exif_size = size_of(stream.metadata.exif);
        all.xmp_size = size_of(stream.metadata.xmp);
        all.arithmetic = mlic::arithmetic_named(stream.arithmetic)->code;
        std::memcpy(info, &all, shared);
    });
}

mlic_status mlic_read_metadata(const void *data, size_t size, uint64_t max_pixels, int32_t which, void *contents,
                               size_t capacity, size_t *contents_size) {
    return guarded([&] {
        require((contents != nullptr || capacity == 0) && contents_size != nullptr,
                "contents or contents_size is null");
        require(which >= MLIC_ICC_PROFILE && which <= MLIC_XMP, "there is no metadata " + std::to_string(which));
        const mlic::Metadata metadata = read_without_codec(data, size, max_pixels).metadata;
        const auto &part = which == MLIC_ICC_PROFILE ? metadata.icc_profile
                           : which == MLIC_EXIF      ? metadata.exif
                                                     : metadata.xmp;
        *contents_size = part ? part->size() : 0;
        if (*contents_size > capacity)
            throw Failure(Status::buffer_too_small, "the metadata has " + std::to_string(*contents_size) +
                                                        " bytes; there is room for " + std::to_string(capacity));
        if (part) std::memcpy(contents, part->data(), part->size());
    });
}

mlic_status mlic_decode(mlic_codec *codec, const void *data, size_t size, uint8_t *pixels, size_t capacity,
                        size_t stride) {
    return guarded([&] { decode(codec, data, size, std::nullopt, pixels, capacity, stride); });
}

mlic_status mlic_decode_region(mlic_codec *codec, const void *data, size_t size, uint32_t x, uint32_t y, uint32_t width,
                               uint32_t height, uint8_t *pixels, size_t capacity, size_t stride) {
    return guarded([&] { decode(codec, data, size, mlic::Region{x, y, width, height}, pixels, capacity, stride); });
}

const char *mlic_last_error(void) { return last_error; }

const char *mlic_status_name(mlic_status status) {
    switch (status) {
#define NAME(status) \
    case status:     \
        return #status
        NAME(MLIC_OK);
        NAME(MLIC_INVALID_ARGUMENT);
        NAME(MLIC_BUFFER_TOO_SMALL);
        NAME(MLIC_OUT_OF_MEMORY);
        NAME(MLIC_TRUNCATED_STREAM);
        NAME(MLIC_CORRUPT_STREAM);
        NAME(MLIC_UNSUPPORTED_STREAM);
        NAME(MLIC_BAD_BUNDLE);
        NAME(MLIC_ENGINE_MISSING);
        NAME(MLIC_ENGINE_FAILED);
        NAME(MLIC_ENGINE_MISMATCH);
        NAME(MLIC_INTERNAL);
#undef NAME
    }
    return "unknown status";
}

const char *mlic_version(void) { return MLIC_VERSION; }

}  // extern "C"
