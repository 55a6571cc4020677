// Table indexes on both sides of a file, one implementation for each arithmetic; the one of `integer` is in
// indexing.cpp. Twin of runtime/indexing.py.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "arithmetic.hpp"
#include "bytes.hpp"
#include "entropy_model.hpp"
#include "failure.hpp"
#include "syndrome.hpp"
#include "tensor.hpp"

namespace mlic {

// Collects what a picture's file has to say about its indexes.
class IndexWriter {
   public:
    virtual ~IndexWriter() = default;
    virtual void add(View<uint8_t> indexes) = 0;  // one step's
    // The contents of the arithmetic's chunk.
    virtual std::vector<uint8_t> finish() const = 0;
};

// Gives a decoder the encoder's indexes, step by step.
class IndexReader {
   public:
    virtual ~IndexReader() = default;
    // A reader that goes on from here on its own.
    virtual std::unique_ptr<IndexReader> copy() const = 0;
    // The next step's indexes as the encoder had them. `given`: what the step's graph gives to the coder; `pick`: which
    // reading to take, 0 for the likeliest, others only where Indexing::repairs. Throws Failure: engine_failed if
    // `given` cannot be what the graph means, engine_mismatch if the indexes are not the encoder's and there is no
    // reading `pick`.
    virtual std::vector<uint8_t> read(const std::string &graph, const Tensor &given, size_t pick) = 0;
    // Checks that all indexes together are the encoder's. Throws Failure(engine_mismatch).
    virtual void finish() const = 0;
    // The error to report if nothing leads further than to `failure`.
    virtual Failure blame(const Failure &failure) const = 0;

    bool agreed = true;               // whether the last step's indexes were taken as this engine made them
    double cost = 0;                  // negative natural logarithm of the likelihood of all readings so far
    std::optional<double> next_cost;  // what `cost` would be with the next reading of the last step
    std::vector<Change> changes;      // indexes in which this engine differed from the encoder, so far
};

// How the indexes of one arithmetic come about.
class Indexing {
   public:
    virtual ~Indexing() = default;
    virtual const Arithmetic &arithmetic() const = 0;
    // Whether a reader may have several readings of a step.
    virtual bool repairs() const = 0;
    // This engine's indexes. Throws Failure(engine_failed) if `given` cannot be what the graph means.
    virtual std::vector<uint8_t> indexes(const std::string &graph, const Tensor &given) const = 0;
    virtual std::unique_ptr<IndexWriter> writer() const = 0;
    // `checks`: contents of the arithmetic's chunk; `where`: engine and arithmetic, for errors. Throws Failure:
    // corrupt_stream, unsupported_stream.
    virtual std::unique_ptr<IndexReader> reader(Bytes checks, const std::vector<size_t> &step_sizes,
                                                const std::string &where) const = 0;

    // That of an arithmetic; `entropy` has to live as long as what is returned.
    static std::unique_ptr<Indexing> of(const Arithmetic &arithmetic, const EntropyModel &entropy);
};

// Indexes by the scale table, with checksums by which a decoder corrects its own (repaired_indexes.cpp).
std::unique_ptr<Indexing> repaired_indexing(const EntropyModel &entropy);

// Throws Failure(engine_failed) if a value is NaN or infinite; `name` is what the values are.
void require_finite(const std::string &graph, const char *name, View<float> values);

}  // namespace mlic
