// The two directions of the entropy coder as the walk sees them: twin of runtime/coder.py.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ans.hpp"
#include "container.hpp"
#include "entropy_model.hpp"
#include "escape.hpp"
#include "failure.hpp"
#include "syndrome.hpp"
#include "walk.hpp"

namespace mlic {

// The entropy model and its rows made ready for coding, shared by all coders of a codec.
struct Models {
    // `model` has to live as long as this.
    explicit Models(const EntropyModel &model) : entropy(model), y(model.y()), z(model.z()) {}

    const EntropyModel &entropy;
    CoderTables y;
    CoderTables z;
};

// Rounds and collects symbols; `finish` writes them.
class SymbolEncoder final : public Coder {
   public:
    explicit SymbolEncoder(const Models &models) : models_(models) {}

    // Encodes z; call it first. Returns the same without negative zeros: exactly what the decoder returns.
    // Throws Failure(engine_failed) if a value is not a whole number that can be coded.
    Tensor code_z(const Tensor &z_symbols);
    // Throws Failure(engine_failed) if scales or means are not finite, or a symbol is too large to be coded.
    Tensor code(const StepSpec &step, const Tensor &scales, const Tensor &means,
                const std::vector<float> *part) override;
    // Puts everything coded where the file has it.
    void finish(Bitstream &stream) const;

   private:
    const Models &models_;
    AnsEncoder ans_;
    EscapeWriter escapes_;
    SyndromeWriter syndromes_;
};

// Takes symbols from a file, after it has made sure that the indexes are the encoder's. A copy goes on from here on its
// own.
class SymbolDecoder final : public Coder {
   public:
    // `step_sizes`: number of symbols of each step, in coding order. `engine`: what runs the graphs, for errors.
    // Throws Failure: corrupt_stream, unsupported_stream.
    SymbolDecoder(const Models &models, const Bitstream &stream, const std::vector<size_t> &step_sizes,
                  const std::string &engine);

    // Decodes z, of shape [1, N, H, W]; call it first. Throws Failure(corrupt_stream).
    Tensor code_z(const std::vector<int64_t> &shape);
    // Throws Failure: engine_failed for scales that are not finite, engine_mismatch if the indexes are not the
    // encoder's and there is no reading `pick`, corrupt_stream for an impossible escape.
    Tensor code(const StepSpec &step, const Tensor &scales, const Tensor &means,
                const std::vector<float> *part) override;
    // Checks that everything was used up and all indexes agree. Throws Failure: corrupt_stream, engine_mismatch.
    void finish() const;
    // The error to report if nothing else leads further: names the first step of those that differed, if the last steps
    // before the failure did.
    Failure blame(const Failure &failure) const;

    size_t pick = 0;      // which reading of the next step's indexes to take, 0 for the likeliest
    bool agreed = true;   // whether the last step's indexes were taken as this engine made them
    double cost = 0;      // negative natural logarithm of the likelihood of all readings so far
    std::optional<double> next_cost;  // what `cost` would be with the next reading of the last step
    std::vector<Change> changes;      // indexes in which this engine differed from the encoder, so far

   private:
    std::vector<uint8_t> encoder_indexes(const std::string &graph, View<float> scales);
    Failure mismatch(const std::string &what) const;

    const Models *models_;
    std::shared_ptr<const SyndromeReader> syndromes_;
    AnsDecoder ans_;
    EscapeReader escapes_;
    std::string where_;
    size_t step_ = 0;
    uint32_t checksum_ = 0;
    std::string suspect_;  // what differed first since the last step that agreed; empty if nothing did
};

}  // namespace mlic
