// Symbols of the steps in and out of a file, the decoder's after its indexes were compared with the encoder's.
#include "coder.hpp"

#include <cstring>
#include <utility>

namespace mlic {
namespace {

std::vector<uint16_t> rows_of_z(const std::vector<int64_t> &shape) {
    return channel_rows(static_cast<size_t>(shape[1]), static_cast<size_t>(shape[2] * shape[3]));
}

void require_finite(const StepSpec &step, const char *name, View<float> values) {
    constexpr uint32_t exponent = 0x7F800000;
    uint32_t wrong = 0;  // gathered without a branch, so that the compiler takes many at once
    for (const float value : values) {
        uint32_t bits;
        std::memcpy(&bits, &value, sizeof bits);
        wrong |= static_cast<uint32_t>((bits & exponent) == exponent);
    }
    if (wrong != 0)
        throw Failure(Status::engine_failed, "graph " + step.graph + ": " + name + " hold NaN or infinite values");
}

}  // namespace

Tensor SymbolEncoder::code_z(const Tensor &z_symbols) {
    const std::vector<int32_t> symbols = integers_from_floats(z_symbols.floats(), "graph h_a");
    const std::vector<uint16_t> rows = rows_of_z(z_symbols.shape);
    const Slots coded = models_.entropy.z().slots_from_symbols<uint16_t>(symbols, rows);
    ans_.add<uint16_t>(models_.z, coded.slots, rows);
    escapes_.add(coded.raws);
    return Tensor::from(floats_from_integers(symbols), z_symbols.shape);
}

Tensor SymbolEncoder::code(const StepSpec &step, const Tensor &scales, const Tensor &means,
                           const std::vector<float> *part) {
    require_finite(step, "scales", scales.floats());
    require_finite(step, "means", means.floats());
    const std::vector<uint8_t> indexes = models_.entropy.build_indexes(scales.floats());
    const std::vector<int32_t> symbols = quantize(*part, means.floats(), "graph " + step.graph);
    const Slots coded = models_.entropy.y().slots_from_symbols<uint8_t>(symbols, indexes);
    ans_.add<uint8_t>(models_.y, coded.slots, indexes);
    escapes_.add(coded.raws);
    syndromes_.add(indexes);
    return Tensor::from(floats_from_integers(symbols), scales.shape);
}

void SymbolEncoder::finish(Bitstream &stream) const {
    stream.latents = ans_.finish_bytes();
    stream.escapes = escapes_.finish();
    stream.syndromes = syndromes_.finish();
}

SymbolDecoder::SymbolDecoder(const Models &models, const Bitstream &stream, const std::vector<size_t> &step_sizes,
                             const std::string &engine)
    : models_(&models),
      syndromes_(std::make_shared<SyndromeReader>(stream.syndromes, step_sizes, models.entropy.scale_table())),
      ans_(AnsDecoder::from_bytes(stream.latents)),
      escapes_(stream.escapes),
      where_("engine " + engine + ", arithmetic " + stream.arithmetic) {}

Tensor SymbolDecoder::code_z(const std::vector<int64_t> &shape) {
    const std::vector<uint16_t> rows = rows_of_z(shape);
    Taken taken = ans_.take<uint16_t>(models_->z, rows);
    if (taken.escapes > 0)
        models_->entropy.z().put_escapes<uint16_t>(taken.symbols, rows, escapes_.take(taken.escapes));
    return Tensor::from(std::move(taken.symbols), shape);
}

Tensor SymbolDecoder::code(const StepSpec &step, const Tensor &scales, const Tensor &, const std::vector<float> *) {
    require_finite(step, "scales", scales.floats());
    const std::vector<uint8_t> indexes = encoder_indexes(step.graph, scales.floats());
    checksum_ = crc32_of(indexes, checksum_);
    ++step_;
    Taken taken = ans_.take<uint8_t>(models_->y, indexes);
    if (taken.escapes > 0)
        models_->entropy.y().put_escapes<uint8_t>(taken.symbols, indexes, escapes_.take(taken.escapes));
    return Tensor::from(std::move(taken.symbols), scales.shape);
}

void SymbolDecoder::finish() const {
    if (!syndromes_->all_agree(checksum_))
        throw mismatch("the whole picture: the scale indexes differ from the encoder's");
    ans_.finish();
    escapes_.finish();
}

Failure SymbolDecoder::blame(const Failure &failure) const {
    if (suspect_.empty() || failure.status == Status::engine_mismatch) return failure;
    return mismatch(suspect_);
}

std::vector<uint8_t> SymbolDecoder::encoder_indexes(const std::string &graph, View<float> scales) {
    std::vector<uint8_t> indexes = models_->entropy.build_indexes(scales);
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
    std::optional<Reading> reading = syndromes_->reading(step_, graph, indexes, scales, wrong, pick);
    if (!reading) throw mismatch(suspect_.empty() ? graph + ": no other reading of the scale indexes" : suspect_);
    if (reading->next_cost) next_cost = cost + *reading->next_cost;
    cost += reading->cost;
    changes.insert(changes.end(), reading->changes.begin(), reading->changes.end());
    return std::move(reading->indexes);
}

Failure SymbolDecoder::mismatch(const std::string &what) const {
    return {Status::engine_mismatch, what + " beyond repair (" + where_ + ")"};
}

}  // namespace mlic
