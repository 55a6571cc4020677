// What concerns a whole file: limits, bounds, metadata.
#include "codec.hpp"

#include <algorithm>
#include <functional>
#include <tuple>
#include <utility>

#include "failure.hpp"
#include "orientation.hpp"

namespace mlic {
namespace {

// Of a symbol: at most 24 bits of the coder, as its frequency is 1 or more of 2^24, and 53 of an escape, which has up
// to 26 zeros and 27 bits behind them.
constexpr uint64_t MAX_BYTES_PER_SYMBOL = 10;
constexpr uint64_t MAX_BYTES_BESIDE = 256;  // header, frames of chunks, ends of streams, length in a grid

Graphs graphs_of(const Bundle &bundle, const Engine &engine) {
    Graphs graphs;
    for (const auto &entry : bundle.manifest().graphs)
        graphs.emplace(std::piecewise_construct, std::forward_as_tuple(entry.first),
                       std::forward_as_tuple(std::cref(engine), std::cref(bundle.files()), std::cref(entry.second)));
    return graphs;
}

uint64_t or_default(uint64_t value, uint64_t otherwise) { return value == 0 ? otherwise : value; }

}  // namespace

Codec::Codec(Bundle bundle, Engine engine, CertificateCache cache, const Limits &limits)
    : bundle_(std::move(bundle)),
      engine_(engine),
      max_pixels_(or_default(limits.max_pixels, default_max_pixels)),
      latent_pixels_(or_default(limits.latent_pixels, max_latent_pixels)),
      graphs_(graphs_of(bundle_, engine_)),
      pipeline_(bundle_, graphs_, engine_, std::move(cache), or_default(limits.tile_pixels, default_tile_pixels),
                latent_pixels_) {}

void Codec::check_size(uint32_t width, uint32_t height) const {
    const std::string picture = "picture of " + std::to_string(width) + " x " + std::to_string(height) + " pixels";
    if (width < 1 || height < 1 || width > max_side || height > max_side)
        throw Failure(Status::invalid_argument, picture + "; expected sides of 1 to " + std::to_string(max_side));
    if (uint64_t{width} * height > max_pixels_)
        throw Failure(Status::invalid_argument,
                      picture + "; the limit is " + std::to_string(max_pixels_) + " (max_pixels)");
    frame_within(height, width, bundle_.manifest().padding, max_pixels_, Status::invalid_argument);
}

size_t Codec::encode_bound(uint32_t width, uint32_t height, const Metadata &metadata) const {
    check_size(width, height);
    const Manifest &manifest = bundle_.manifest();
    uint64_t bound = MAX_BYTES_BESIDE + metadata_bound(metadata);
    for (const Box &cell : pipeline_.cells(height, width)) {
        const Frame frame = Frame::around(cell.height, cell.width, manifest.padding);
        const auto positions = [&frame](int64_t stride) {
            return static_cast<uint64_t>(frame.padded_height / stride) *
                   static_cast<uint64_t>(frame.padded_width / stride);
        };
        const uint64_t symbols = static_cast<uint64_t>(manifest.y_channels) * positions(latent_stride) +
                                 static_cast<uint64_t>(manifest.z_channels) * positions(hyper_stride);
        const uint64_t checksums = symbols / (1 << 15) + manifest.steps.size();  // each step's last may be short
        bound += MAX_BYTES_PER_SYMBOL * symbols + 2 * checksums + MAX_BYTES_BESIDE;
    }
    return bound;
}

std::vector<uint8_t> Codec::encode(const Pixels &pixels, uint32_t width, uint32_t height, const Metadata &metadata,
                                   const Progress &progress) {
    check_size(width, height);
    check_metadata(metadata);
    Metadata stored = upright(metadata);  // what is wrong with it is said before the work begins
    if (pixels.channels == 1) stored.source |= source_grey;
    Bitstream stream = pipeline_.encode(pixels, height, width, progress);
    stream.metadata = std::move(stored);
    if (stream.grid) report(progress, "container");
    return write_container(stream);
}

Bitstream Codec::read(const uint8_t *data, size_t size, const Progress &progress) const {
    report(progress, "container");
    Bitstream stream = read_container(data, size, max_pixels_, std::max(max_latent_pixels, latent_pixels_));
    frame_within(stream.height, stream.width, bundle_.manifest().padding, max_pixels_, Status::unsupported_stream);
    return stream;
}

std::vector<Change> Codec::decode(const Bitstream &stream, const Box &region, uint8_t *pixels, size_t stride,
                                  const Progress &progress) {
    return pipeline_.decode(stream, region, {pixels, stride, stream.metadata.is_grey()}, progress);
}

Box region_box(const Header &picture, const std::optional<Region> &region) {
    if (!region) return {0, 0, picture.height, picture.width};
    const auto [x, y, width, height] = *region;
    if (width < 1 || height < 1 || uint64_t{x} + width > picture.width || uint64_t{y} + height > picture.height)
        throw Failure(Status::invalid_argument,
                      "region of " + std::to_string(width) + " x " + std::to_string(height) + " pixels at x " +
                          std::to_string(x) + ", y " + std::to_string(y) + "; expected a part of the picture's " +
                          std::to_string(picture.width) + " x " + std::to_string(picture.height) + " pixels");
    return {y, x, height, width};
}

}  // namespace mlic
