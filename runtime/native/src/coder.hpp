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
#include "indexing.hpp"
#include "walk.hpp"

namespace mlic {

// The entropy model and its rows made ready for coding, shared by all coders of a codec.
struct Models {
    // `model` has to live as long as this; `arithmetic`: by which indexes come about.
    Models(const EntropyModel &model, const Arithmetic &arithmetic)
        : entropy(model), y(model.y()), z(model.z()), indexing(Indexing::of(arithmetic, model)) {}

    const EntropyModel &entropy;
    CoderTables y;
    CoderTables z;
    std::unique_ptr<const Indexing> indexing;
};

// Rounds and collects symbols; `finish` writes them.
class SymbolEncoder final : public Coder {
   public:
    explicit SymbolEncoder(const Models &models) : models_(models), checks_(models.indexing->writer()) {}

    // Encodes z; call it first. Returns the same without negative zeros: exactly what the decoder returns.
    // Throws Failure(engine_failed) if a value is not a whole number that can be coded.
    Tensor code_z(const Tensor &z_symbols);
    // Throws Failure(engine_failed) if scales or means are not finite, an index is beyond the tables, or a symbol is
    // too large to be coded.
    Tensor code(const StepSpec &step, const Tensor &given, const Tensor &means,
                const std::vector<float> *part) override;
    // Puts everything coded where the file has it.
    void finish(Bitstream &stream) const;

   private:
    const Models &models_;
    AnsEncoder ans_;
    EscapeWriter escapes_;
    std::unique_ptr<IndexWriter> checks_;
};

// Takes symbols from a file, after it has made sure that the indexes are the encoder's. A copy goes on from here on its
// own.
class SymbolDecoder final : public Coder {
   public:
    // `step_sizes`: number of symbols of each step, in coding order. `engine`: what runs the graphs, for errors.
    // Throws Failure: corrupt_stream, unsupported_stream.
    SymbolDecoder(const Models &models, const Bitstream &stream, const std::vector<size_t> &step_sizes,
                  const std::string &engine);
    SymbolDecoder(const SymbolDecoder &other);
    SymbolDecoder(SymbolDecoder &&) = default;
    SymbolDecoder &operator=(SymbolDecoder &&) = default;

    // Decodes z, of shape [1, N, H, W]; call it first. Throws Failure(corrupt_stream) for an impossible escape, or if
    // the file holds more than its symbols can take.
    Tensor code_z(const std::vector<int64_t> &shape);
    // Throws Failure: engine_failed for scales that are not finite or an index beyond the tables, engine_mismatch if
    // the indexes are not the encoder's and there is no reading `pick`, corrupt_stream for an impossible escape.
    Tensor code(const StepSpec &step, const Tensor &given, const Tensor &means,
                const std::vector<float> *part) override;
    // Checks that everything was used up and all indexes agree. Throws Failure: corrupt_stream, engine_mismatch.
    void finish() const;

    // How the indexes were read so far, and whom to blame if nothing leads further.
    const IndexReader &indexes() const { return *indexes_; }

    size_t pick = 0;  // which reading of the next step's indexes to take, 0 for the likeliest

   private:
    const Models *models_;
    std::unique_ptr<IndexReader> indexes_;
    AnsDecoder ans_;
    EscapeReader escapes_;
    uint64_t latents_size_, escapes_size_;  // in bytes
    uint64_t num_symbols_;                  // of the steps; those of z come to it
};

}  // namespace mlic
