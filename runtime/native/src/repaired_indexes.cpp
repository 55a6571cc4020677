// Table indexes in float32-syndrome: made of scales, and by a decoder corrected where its engine disagrees. Twin of
// runtime/repaired_indexes.py.
#include <cstring>
#include <utility>

#include "checksums.hpp"
#include "indexing.hpp"

namespace mlic {
namespace {

// Makes the contents of SYND.
class RepairWriter final : public IndexWriter {
   public:
    void add(View<uint8_t> indexes) override { syndromes_.add(indexes); }
    std::vector<uint8_t> finish() const override { return syndromes_.finish(); }

   private:
    SyndromeWriter syndromes_;
};

class RepairedIndexing final : public Indexing {
   public:
    explicit RepairedIndexing(const EntropyModel &entropy) : entropy_(entropy) {}

    const Arithmetic &arithmetic() const override { return float32_syndrome; }
    bool repairs() const override { return true; }
    std::vector<uint8_t> indexes(const std::string &graph, const Tensor &given) const override {
        require_finite(graph, "scales", given.floats());
        return entropy_.build_indexes(given.floats());
    }
    std::unique_ptr<IndexWriter> writer() const override { return std::make_unique<RepairWriter>(); }
    std::unique_ptr<IndexReader> reader(Bytes checks, const std::vector<size_t> &step_sizes,
                                        const std::string &where) const override;

   private:
    const EntropyModel &entropy_;
};

// Makes sure that the indexes are the encoder's before a symbol is taken.
class RepairingReader final : public IndexReader {
   public:
    RepairingReader(const RepairedIndexing &indexing, std::shared_ptr<const SyndromeReader> syndromes,
                    std::string where)
        : indexing_(indexing), syndromes_(std::move(syndromes)), where_(std::move(where)) {}

    std::unique_ptr<IndexReader> copy() const override { return std::make_unique<RepairingReader>(*this); }

    std::vector<uint8_t> read(const std::string &graph, const Tensor &given, size_t pick) override {
        std::vector<uint8_t> indexes = encoder_indexes(graph, given, pick);
        checksum_ = crc32_of(indexes, checksum_);
        ++step_;
        return indexes;
    }

    void finish() const override {
        if (!syndromes_->all_agree(checksum_))
            throw mismatch("the whole picture: the scale indexes differ from the encoder's");
    }

    // Names the first step of those that differed, if the last steps before the failure did.
    Failure blame(const Failure &failure) const override {
        if (suspect_.empty() || failure.status == Status::engine_mismatch) return failure;
        return mismatch(suspect_);
    }

   private:
    std::vector<uint8_t> encoder_indexes(const std::string &graph, const Tensor &scales, size_t pick);
    Failure mismatch(const std::string &what) const {
        return {Status::engine_mismatch, what + " beyond repair (" + where_ + ")"};
    }

    const RepairedIndexing &indexing_;
    std::shared_ptr<const SyndromeReader> syndromes_;
    std::string where_;
    size_t step_ = 0;
    uint32_t checksum_ = 0;
    std::string suspect_;  // what differed first since the last step that agreed; empty if nothing did
};

std::vector<uint8_t> RepairingReader::encoder_indexes(const std::string &graph, const Tensor &scales, size_t pick) {
    std::vector<uint8_t> indexes = indexing_.indexes(graph, scales);
    const std::vector<size_t> wrong = syndromes_->wrong_chunks(step_, indexes);
    agreed = wrong.empty() && pick == 0;
    next_cost.reset();
    if (agreed) {
        suspect_.clear();
        return indexes;
    }
    if (!wrong.empty() && suspect_.empty())
        suspect_ = graph + ": " + std::to_string(wrong.size()) + " of " + std::to_string(syndromes_->count(step_)) +
                   " chunks of scale indexes differ from the encoder's";
    std::optional<Reading> reading = syndromes_->reading(step_, graph, indexes, scales.floats(), wrong, pick);
    if (!reading) throw mismatch(suspect_.empty() ? graph + ": no other reading of the scale indexes" : suspect_);
    if (reading->next_cost) next_cost = cost + *reading->next_cost;
    cost += reading->cost;
    changes.insert(changes.end(), reading->changes.begin(), reading->changes.end());
    return std::move(reading->indexes);
}

std::unique_ptr<IndexReader> RepairedIndexing::reader(Bytes checks, const std::vector<size_t> &step_sizes,
                                                      const std::string &where) const {
    return std::make_unique<RepairingReader>(
        *this, std::make_shared<SyndromeReader>(checks, step_sizes, entropy_.scale_table()), where);
}

}  // namespace

std::unique_ptr<Indexing> repaired_indexing(const EntropyModel &entropy) {
    return std::make_unique<RepairedIndexing>(entropy);
}

void require_finite(const std::string &graph, const char *name, View<float> values) {
    constexpr uint32_t exponent = 0x7F800000;
    uint32_t wrong = 0;  // gathered without a branch, so that the compiler takes many at once
    for (const float value : values) {
        uint32_t bits;
        std::memcpy(&bits, &value, sizeof bits);
        wrong |= static_cast<uint32_t>((bits & exponent) == exponent);
    }
    if (wrong != 0)
        throw Failure(Status::engine_failed, "graph " + graph + ": " + name + " hold NaN or infinite values");
}

}  // namespace mlic
