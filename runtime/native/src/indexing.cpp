// Indexes as the graphs give them, and one checksum at the end.
#include "indexing.hpp"

#include <algorithm>

#include "checksums.hpp"

namespace mlic {
namespace {

// Makes the contents of CHCK.
class CheckWriter final : public IndexWriter {
   public:
    void add(View<uint8_t> indexes) override { all_ = crc32_of(indexes, all_); }
    std::vector<uint8_t> finish() const override {
        std::vector<uint8_t> contents;
        put_u32(contents, all_);
        return contents;
    }

   private:
    uint32_t all_ = 0;
};

class ExactIndexing final : public Indexing {
   public:
    // `num_rows`: of the frequency tables of y; indexes lie below it.
    explicit ExactIndexing(size_t num_rows) : num_rows_(num_rows) {}

    const Arithmetic &arithmetic() const override { return integer_arithmetic; }
    bool repairs() const override { return false; }
    std::vector<uint8_t> indexes(const std::string &graph, const Tensor &given) const override;
    std::unique_ptr<IndexWriter> writer() const override { return std::make_unique<CheckWriter>(); }
    std::unique_ptr<IndexReader> reader(Bytes checks, const std::vector<size_t> &step_sizes,
                                        const std::string &where) const override;

   private:
    size_t num_rows_;
};

// Takes this engine's indexes for the encoder's, and finds out at the end whether they were.
class CheckReader final : public IndexReader {
   public:
    CheckReader(const ExactIndexing &indexing, uint32_t expected, std::string where)
        : indexing_(indexing), expected_(expected), where_(std::move(where)) {}

    std::unique_ptr<IndexReader> copy() const override { return std::make_unique<CheckReader>(*this); }

    std::vector<uint8_t> read(const std::string &graph, const Tensor &given, size_t) override {
        std::vector<uint8_t> indexes = indexing_.indexes(graph, given);
        all_ = crc32_of(indexes, all_);
        return indexes;
    }

    void finish() const override {
        if (all_ == expected_) return;
        throw Failure(Status::engine_mismatch,
                      "the table indexes differ from the encoder's: this engine's integer arithmetic is not the "
                      "encoder's, or the file is damaged (" +
                          where_ + ")");
    }

    // Whether an index differed shows at the end alone, and the engine has proved itself: the file is to blame.
    Failure blame(const Failure &failure) const override { return failure; }

   private:
    const ExactIndexing &indexing_;
    uint32_t expected_;
    std::string where_;
    uint32_t all_ = 0;
};

// An index beyond the tables would be read as a row that is not there.
std::vector<uint8_t> ExactIndexing::indexes(const std::string &graph, const Tensor &given) const {
    const Bytes found = given.bytes();
    const size_t largest = found.empty() ? 0 : *std::max_element(found.begin(), found.end());
    if (largest >= num_rows_)
        throw Failure(Status::engine_failed, "graph " + graph + ": table index " + std::to_string(largest) +
                                                 "; expected 0 to " + std::to_string(num_rows_ - 1));
    return found.copy();
}

std::unique_ptr<IndexReader> ExactIndexing::reader(Bytes checks, const std::vector<size_t> &,
                                                   const std::string &where) const {
    return std::make_unique<CheckReader>(*this, u32_at(checks, 0), where);
}

}  // namespace

std::unique_ptr<Indexing> Indexing::of(const Arithmetic &arithmetic, const EntropyModel &entropy) {
    if (&arithmetic == &integer_arithmetic) return std::make_unique<ExactIndexing>(entropy.y().rows());
    return repaired_indexing(entropy);
}

}  // namespace mlic
