// Cells one after another, so that memory does not depend on their number beyond pixels and bytes.
#include "pipeline.hpp"

#include <iterator>
#include <memory>
#include <utility>

#include "failure.hpp"

namespace mlic {
namespace {

uint64_t checked(const char *name, uint64_t value, int64_t multiple) {
    const auto least = static_cast<uint64_t>(multiple * multiple);
    if (value >= least) return value;
    throw Failure(Status::invalid_argument, std::string(name) + " is " + std::to_string(value) + "; expected " +
                                                std::to_string(least) + " or more");
}

}  // namespace

Pipeline::Pipeline(const Bundle &bundle, Graphs &graphs, const Engine &engine, CertificateCache cache,
                   uint64_t tile_pixels, uint64_t latent_pixels)
    : manifest_(bundle.manifest()),
      latent_pixels_(checked("latent_pixels", latent_pixels, manifest_.padding.multiple)),
      chain_(bundle, graphs, engine, std::move(cache)),
      transforms_(manifest_, graphs, checked("tile_pixels", tile_pixels, manifest_.padding.multiple)),
      h_a_(graphs.at("h_a")) {}

void Pipeline::prepare(bool encode, bool decode) {
    transforms_.prepare(encode, false);
    if (encode) h_a_.open();
    chain_.prepare(decode);
    transforms_.prepare(false, decode);
    chain_.prove();
}

CellSize Pipeline::layout(uint32_t height, uint32_t width) const {
    if (uint64_t{height} * width <= latent_pixels_) return {height, width};
    return cell_size(height, width, manifest_.padding.multiple, latent_pixels_);
}

std::vector<Box> Pipeline::cells(uint32_t height, uint32_t width) const {
    return cell_boxes(height, width, layout(height, width));
}

Bitstream Pipeline::encode(const Pixels &pixels, uint32_t height, uint32_t width, const Progress &progress) {
    chain_.prove();  // before the work, not after it
    Bitstream stream;
    stream.model_id = manifest_.model_id;
    stream.width = width;
    stream.height = height;
    stream.arithmetic = manifest_.arithmetic;
    if (uint64_t{height} * width <= latent_pixels_) {
        const Tensor y = transforms_.analyse(pixels, Frame::around(height, width, manifest_.padding), progress);
        report(progress, "h_a");
        const Tensor z_symbols = h_a_.run({{"y", y}}).at("z_symbols");
        chain_.encode(y, z_symbols, stream, progress);
        return stream;
    }
    const CellSize size = layout(height, width);
    auto grid = std::make_shared<Grid>();
    grid->cell_width = size.width;
    grid->cell_height = size.height;
    for (const Box &box : cell_boxes(height, width, size)) {
        const size_t first =
            static_cast<size_t>(box.top) * pixels.stride + static_cast<size_t>(box.left) * pixels.channels;
        const Pixels cell{pixels.data + first, pixels.stride, pixels.channels};
        grid->cells.push_back(
            encode(cell, static_cast<uint32_t>(box.height), static_cast<uint32_t>(box.width), progress));
    }
    stream.grid = std::move(grid);
    return stream;
}

std::vector<Change> Pipeline::decode(const Bitstream &stream, const Box &region, const Target &target,
                                     const Progress &progress) {
    check(stream);
    const CellSize size = stream.grid ? CellSize{stream.grid->cell_height, stream.grid->cell_width}
                                      : CellSize{stream.height, stream.width};
    const std::vector<Box> boxes = cell_boxes(stream.height, stream.width, size);
    std::vector<Change> changes;
    for (size_t number = 0; number < boxes.size(); ++number) {
        const Box &box = boxes[number];
        const std::optional<Box> wanted = box.common(region);
        if (!wanted) continue;
        DecodedLatent latent = chain_.decode(stream.grid ? stream.grid->cells.at(number) : stream, progress);
        transforms_.synthesise(latent.y_hat, latent.frame, wanted->moved(-box.top, -box.left),
                               target.from(wanted->top - region.top, wanted->left - region.left), progress);
        std::move(latent.changes.begin(), latent.changes.end(), std::back_inserter(changes));
    }
    return changes;
}

}  // namespace mlic
