// Pixels become floats, and floats pixels, one tile at a time.
#include "transforms.hpp"

#include <algorithm>
#include <utility>

namespace mlic {
namespace {

// Calls `copy` with where each row of a part lies in a map [1, channels, height, width], and where in the part.
template <class Copy>
void each_row(size_t channels, size_t height, size_t width, const Box &part, const Copy &copy) {
    const auto rows = static_cast<size_t>(part.height), columns = static_cast<size_t>(part.width);
    for (size_t channel = 0; channel < channels; ++channel) {
        for (size_t row = 0; row < rows; ++row) {
            const size_t line = channel * height + static_cast<size_t>(part.top) + row;
            copy(line * width + static_cast<size_t>(part.left), (channel * rows + row) * columns, columns);
        }
    }
}

Tensor part_of(const Tensor &map, const Box &box) {
    const auto channels = static_cast<size_t>(map.shape[1]);
    const View<float> values = map.floats();
    std::vector<float> part(channels * static_cast<size_t>(box.height * box.width));
    each_row(channels, static_cast<size_t>(map.shape[2]), static_cast<size_t>(map.shape[3]), box,
             [&](size_t in_map, size_t in_part, size_t count) {
                 std::copy_n(values.data + in_map, count, part.data() + in_part);
             });
    return Tensor::from(std::move(part), {1, map.shape[1], box.height, box.width});
}

}  // namespace

Transforms::Transforms(const Manifest &manifest, Graphs &graphs, uint64_t tile_pixels)
    : padding_(manifest.padding),
      largest_(manifest.sizes.padded_max(manifest.padding.multiple)),
      // No picture has more pixels than this, padded
      tile_pixels_(static_cast<int64_t>(std::min<uint64_t>(tile_pixels, uint64_t{1} << 42))),
      analysis_(manifest.graph("g_a").tiling),
      synthesis_(manifest.graph("g_s").tiling),
      g_a_(graphs.at("g_a")),
      g_s_(graphs.at("g_s")) {}

void Transforms::prepare(bool encode, bool decode) {
    if (encode) g_a_.open();
    if (decode) g_s_.open();
}

Tensor Transforms::analyse(const Pixels &pixels, const Frame &frame, const Progress &progress) {
    const std::vector<Tile> tiles =
        tile_grid(frame.padded_height, frame.padded_width, analysis_, tile_pixels_, largest_);
    const int64_t height = frame.padded_height / latent_stride, width = frame.padded_width / latent_stride;
    std::vector<float> y;
    int64_t channels = 0;
    for (const Tile &tile : tiles) {
        report(progress, "image");
        Tensor x =
            Tensor::from(x_from_pixels(pixels.data, pixels.stride, pixels.channels, frame, padding_, tile.computed),
                         {1, 3, tile.computed.height, tile.computed.width});
        report(progress, "g_a");
        Tensor part = g_a_.run({{"x", std::move(x)}}).at("y");
        if (tiles.size() == 1) return part;
        channels = part.shape[1];
        if (y.empty()) y.resize(static_cast<size_t>(channels * height * width));
        const Box inside = tile.kept.moved(-tile.computed.top, -tile.computed.left).divided(latent_stride);
        const Tensor kept = part_of(part, inside);
        each_row(static_cast<size_t>(channels), static_cast<size_t>(height), static_cast<size_t>(width),
                 tile.kept.divided(latent_stride), [&](size_t in_map, size_t in_part, size_t count) {
                     std::copy_n(kept.floats().data + in_part, count, y.data() + in_map);
                 });
    }
    return Tensor::from(std::move(y), {1, channels, height, width});
}

void Transforms::synthesise(const Tensor &y_hat, const Frame &frame, const Box &region, const Target &target,
                            const Progress &progress) {
    const Box wanted_in_all = region.moved(frame.top, frame.left);
    for (const Tile &tile : tile_grid(frame.padded_height, frame.padded_width, synthesis_, tile_pixels_, largest_)) {
        const std::optional<Box> wanted = tile.kept.common(wanted_in_all);
        if (!wanted) continue;
        report(progress, "g_s");
        const bool whole = tile.computed == frame.padded();
        Arrays arrays;
        arrays["y_hat"] = whole ? y_hat : part_of(y_hat, tile.computed.divided(latent_stride));
        const Tensor x_hat = g_s_.run(arrays).at("x_hat");
        report(progress, "image");
        const Target place = target.from(wanted->top - frame.top - region.top, wanted->left - frame.left - region.left);
        pixels_in_box(x_hat.floats(), tile.computed.height, tile.computed.width,
                      wanted->moved(-tile.computed.top, -tile.computed.left), place.data, place.stride);
        if (place.grey) {
            make_grey(place.data, place.stride, static_cast<size_t>(wanted->height),
                      static_cast<size_t>(wanted->width));
        }
    }
}

}  // namespace mlic
