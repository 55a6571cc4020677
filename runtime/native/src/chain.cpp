// The walk with what goes before and after it.
#include "chain.hpp"

#include <utility>

#include "backtrack.hpp"
#include "failure.hpp"

namespace mlic {
namespace {

size_t product(const std::vector<int64_t> &shape) {
    size_t product = 1;
    for (const int64_t side : shape) product *= static_cast<size_t>(side);
    return product;
}

}  // namespace

Chain::Chain(const Bundle &bundle, Graphs &graphs, const Engine &engine, CertificateCache cache)
    : bundle_(bundle),
      engine_(engine),
      models_(bundle.entropy(), *arithmetic_named(bundle.manifest().arithmetic)),
      proof_(bundle, graphs, engine, std::move(cache)),
      h_s_(graphs.at("h_s")),
      finish_(graphs.at("finish")),
      z_spec_(graphs.at("h_a").spec().outputs.at("z_symbols")) {
    std::vector<const GraphSpec *> chain{&h_s_.spec()};
    for (const StepSpec &step : bundle.manifest().steps) {
        steps_.push_back({step, graphs.at(step.graph), models_.indexing->arithmetic()});
        chain.push_back(&steps_.back().graph.spec());
    }
    chain.push_back(&finish_.spec());
    needed_ = std::make_shared<Needed>(needed_after(chain));
}

void Chain::prepare(bool decode) {
    h_s_.open();
    for (const Step &step : steps_) step.graph.open();
    if (decode) finish_.open();
}

// Returns the state in which the walk begins.
State Chain::begin(Tensor z_symbols, const Progress &progress) {
    Arrays arrays;
    arrays["z_symbols"] = std::move(z_symbols);
    State state(needed_, std::move(arrays), progress);
    state.run(h_s_);
    return state;
}

void Chain::encode(const Tensor &y, const Tensor &z_symbols, Bitstream &stream, const Progress &progress) {
    prove();
    report(progress, "coder");
    SymbolEncoder coder(models_);
    State state = begin(coder.code_z(z_symbols), progress);
    walk(steps_, coder, state, &y);
    report(progress, "container");
    coder.finish(stream);
}

DecodedLatent Chain::decode(const Bitstream &stream, const Progress &progress) {
    check(stream);
    prove();
    const Frame frame = Frame::around(stream.height, stream.width, bundle_.manifest().padding);
    std::vector<size_t> step_sizes;
    for (const Step &step : steps_) {
        const TensorSpec &means = step.graph.spec().outputs.at(step.spec.means());
        step_sizes.push_back(product(means.concrete(frame.padded_height, frame.padded_width)));
    }
    report(progress, "coder");
    SymbolDecoder coder(models_, stream, step_sizes, engine_.granted());
    State state = begin(coder.code_z(z_spec_.concrete(frame.padded_height, frame.padded_width)), progress);
    (models_.indexing->repairs() ? decode_walk : straight_walk)(steps_, coder, state);
    return {frame, state.run(finish_).at("y_hat"), coder.indexes().changes};
}

void Chain::check(const Bitstream &stream) const {
    const Manifest &manifest = bundle_.manifest();
    if (stream.model_id != manifest.model_id) {
        std::string theirs, ours;
        if (stream.arithmetic != manifest.arithmetic) {  // perhaps two bundles of one checkpoint
            theirs = ", arithmetic " + stream.arithmetic;
            ours = ", arithmetic " + manifest.arithmetic;
        }
        throw Failure(Status::unsupported_stream, "the file is of model " + hex(stream.model_id) + theirs +
                                                      "; bundle " + manifest.name + " is model " +
                                                      hex(manifest.model_id) + ours + "; name the bundle that wrote it (at byte 8)");
    }
    if (stream.arithmetic != manifest.arithmetic)
        throw Failure(Status::unsupported_stream, "the file needs arithmetic " + stream.arithmetic + "; bundle " +
                                                      manifest.name + " has " + manifest.arithmetic + " (at byte 5)");
}

}  // namespace mlic
