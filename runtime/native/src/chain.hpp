// From latents to the symbols in a file and back, h_s, the steps and finish around the entropy coder: twin of
// runtime/chain.py.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "bundle.hpp"
#include "coder.hpp"
#include "container.hpp"
#include "engine.hpp"
#include "image.hpp"
#include "proof.hpp"
#include "walk.hpp"

namespace mlic {

using Graphs = std::map<std::string, LazyGraph>;  // by name

// A file on its way to pixels.
struct DecodedLatent {
    Frame frame;
    Tensor y_hat;                 // [1, M, padded height / 16, padded width / 16]
    std::vector<Change> changes;  // indexes that had to be corrected
};

// The entropy path of a model on an engine; may be used from several threads at once.
class Chain {
   public:
    // `bundle`, its `graphs` and `engine`, which runs them, have to live as long as this.
    Chain(const Bundle &bundle, Graphs &graphs, const Engine &engine, CertificateCache cache);

    // Opens its graphs. Throws Failure(engine_failed).
    void prepare(bool decode);

    // Makes sure that the engine computes what the bundle's certificate says, if it has one. Throws Failure:
    // engine_mismatch, engine_failed.
    void prove() { proof_.require(); }

    // Puts the contents of a file into `stream`. `y` is [1, M, h, w], `z_symbols` [1, N, h/4, w/4], whole numbers.
    // Throws Failure: engine_mismatch, engine_failed.
    void encode(const Tensor &y, const Tensor &z_symbols, Bitstream &stream, const Progress &progress);

    // Returns the latent that a file without a grid holds. Throws Failure: corrupt_stream, unsupported_stream,
    // engine_mismatch, engine_failed.
    DecodedLatent decode(const Bitstream &stream, const Progress &progress);

    // Throws Failure(unsupported_stream) if a file is of another model, or needs another arithmetic.
    void check(const Bitstream &stream) const;

   private:
    State begin(Tensor z_symbols, const Progress &progress);

    const Bundle &bundle_;
    const Engine &engine_;
    Models models_;
    Proof proof_;
    std::vector<Step> steps_;
    std::shared_ptr<const Needed> needed_;
    LazyGraph &h_s_;
    LazyGraph &finish_;
    const TensorSpec &z_spec_;
};

}  // namespace mlic
