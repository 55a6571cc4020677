// The data flow, top to bottom: picture, transforms, walk over the steps, file.
#include "codec.hpp"

#include <cstdio>
#include <functional>
#include <utility>

#include "backtrack.hpp"
#include "failure.hpp"
#include "image.hpp"

namespace mlic {
namespace {

// Of a symbol: at most 24 bits of the coder, as its frequency is 1 or more of 2^24, and 53 of an escape, which has up
// to 26 zeros and 27 bits behind them.
constexpr uint64_t MAX_BYTES_PER_SYMBOL = 10;
constexpr uint64_t MAX_BYTES_BESIDE = 256;  // header, frames of chunks, ends of streams

std::string hex(const std::array<uint8_t, 8> &bytes) {
    std::string text;
    char digits[3];
    for (const uint8_t byte : bytes) {
        std::snprintf(digits, sizeof digits, "%02x", byte);
        text += digits;
    }
    return text;
}

uint64_t product(const std::vector<int64_t> &shape) {
    uint64_t product = 1;
    for (const int64_t side : shape) product *= static_cast<uint64_t>(side);
    return product;
}

}  // namespace

Codec::Codec(Bundle bundle, Engine engine, uint64_t max_pixels)
    : bundle_(std::move(bundle)),
      engine_(engine),
      granted_(engine_.granted()),
      max_pixels_(max_pixels == 0 ? default_max_pixels : max_pixels),
      models_(bundle_.entropy()) {
    const Manifest &manifest = bundle_.manifest();
    for (const auto &entry : manifest.graphs)
        graphs_.emplace(std::piecewise_construct, std::forward_as_tuple(entry.first),
                        std::forward_as_tuple(std::cref(engine_), std::cref(bundle_.files()), std::cref(entry.second)));
    std::vector<const GraphSpec *> chain{&graph("h_s").spec()};
    for (const StepSpec &step : manifest.steps) {
        steps_.push_back({step, graph(step.graph)});
        chain.push_back(&steps_.back().graph.spec());
    }
    chain.push_back(&graph("finish").spec());
    needed_ = std::make_shared<Needed>(needed_after(chain));
}

void Codec::prepare(bool encode, bool decode) {
    if (encode)
        for (const char *name : {"g_a", "h_a"}) graph(name).open();
    graph("h_s").open();
    for (const Step &step : steps_) step.graph.open();
    if (decode)
        for (const char *name : {"finish", "g_s"}) graph(name).open();
}

void Codec::check_size(uint32_t width, uint32_t height) const {
    const std::string picture = "picture of " + std::to_string(width) + " x " + std::to_string(height) + " pixels";
    if (width < 1 || height < 1 || width > max_side || height > max_side)
        throw Failure(Status::invalid_argument, picture + "; expected sides of 1 to " + std::to_string(max_side));
    if (uint64_t{width} * height > max_pixels_)
        throw Failure(Status::invalid_argument,
                      picture + "; the limit is " + std::to_string(max_pixels_) + " (max_pixels)");
}

size_t Codec::encode_bound(uint32_t width, uint32_t height) const {
    check_size(width, height);
    const Manifest &manifest = bundle_.manifest();
    const Frame frame = Frame::around(height, width, manifest.padding);
    const auto positions = [&frame](int64_t stride) {
        return static_cast<uint64_t>(frame.padded_height / stride) * static_cast<uint64_t>(frame.padded_width / stride);
    };
    const uint64_t symbols = static_cast<uint64_t>(manifest.y_channels) * positions(latent_stride) +
                             static_cast<uint64_t>(manifest.z_channels) * positions(hyper_stride);
    const uint64_t checksums = symbols / (1 << 15) + steps_.size();  // each step's last chunk may be short
    return MAX_BYTES_PER_SYMBOL * symbols + 2 * checksums + MAX_BYTES_BESIDE;
}

std::vector<uint8_t> Codec::encode(const uint8_t *pixels, uint32_t width, uint32_t height, size_t stride,
                                   const Progress &progress) {
    check_size(width, height);
    const Manifest &manifest = bundle_.manifest();
    const Frame frame = Frame::around(height, width, manifest.padding);
    report(progress, "image");
    Tensor x = Tensor::from(x_from_pixels(pixels, stride, 3, frame, manifest.padding),
                            {1, 3, frame.padded_height, frame.padded_width});
    report(progress, "g_a");
    const Arrays analysed = graph("g_a").run({{"x", std::move(x)}});
    const Tensor &y = analysed.at("y");
    report(progress, "h_a");
    const Tensor z_symbols = graph("h_a").run(analysed).at("z_symbols");
    report(progress, "coder");
    SymbolEncoder coder(models_);
    State state = begin(coder.code_z(z_symbols), progress);
    walk(steps_, coder, state, &y);
    report(progress, "container");
    Bitstream stream;
    stream.model_id = manifest.model_id;
    stream.width = width;
    stream.height = height;
    stream.arithmetic = manifest.arithmetic;
    coder.finish(stream);
    return write_container(stream);
}

Bitstream Codec::read(const uint8_t *data, size_t size, const Progress &progress) const {
    report(progress, "container");
    Bitstream stream = read_container(data, size, max_pixels_);
    const Manifest &manifest = bundle_.manifest();
    if (stream.model_id != manifest.model_id)
        throw Failure(Status::unsupported_stream, "the file is of model " + hex(stream.model_id) + "; bundle " +
                                                      manifest.name + " is model " + hex(manifest.model_id) +
                                                      " (at byte 8)");
    if (stream.arithmetic != manifest.arithmetic)
        throw Failure(Status::unsupported_stream, "the file needs arithmetic " + stream.arithmetic + "; bundle " +
                                                      manifest.name + " has " + manifest.arithmetic + " (at byte 5)");
    return stream;
}

std::vector<Change> Codec::decode(const Bitstream &stream, uint8_t *pixels, size_t stride, const Progress &progress) {
    const Frame frame = Frame::around(stream.height, stream.width, bundle_.manifest().padding);
    const auto shape_of = [&frame](const LazyGraph &graph, const std::string &output) {
        return graph.spec().outputs.at(output).concrete(frame.padded_height, frame.padded_width);
    };
    std::vector<size_t> step_sizes;
    for (const Step &step : steps_) step_sizes.push_back(product(shape_of(step.graph, step.spec.scales())));
    report(progress, "coder");
    SymbolDecoder coder(models_, stream, step_sizes, granted_);
    State state = begin(coder.code_z(shape_of(graph("h_a"), "z_symbols")), progress);
    decode_walk(steps_, coder, state);
    const Arrays finished = state.run(graph("finish"));
    report(progress, "g_s");
    const Tensor x_hat = graph("g_s").run(finished).at("x_hat");
    report(progress, "image");
    pixels_from_x_hat(x_hat.floats(), frame, pixels, stride);
    return std::move(coder.changes);
}

// Returns the state in which the walk begins.
State Codec::begin(Tensor z_symbols, const Progress &progress) {
    Arrays arrays;
    arrays["z_symbols"] = std::move(z_symbols);
    State state(needed_, std::move(arrays), progress);
    state.run(graph("h_s"));
    return state;
}

}  // namespace mlic
