// Symbols of the steps in and out of a file, the decoder's after its indexes were compared with the encoder's.
#include "coder.hpp"

#include <numeric>
#include <utility>

namespace mlic {
namespace {

// A symbol takes 24 bits at most, at frequency 1, and rounding in the coder's state far less than one more.
constexpr uint64_t max_symbol_bits = precision_bits + 1;

// Checks the size of a part of the file; 8 bytes are the final state of the coder, or what fills the last byte.
void require_at_most(const char *name, uint64_t size, uint64_t bits) {
    const uint64_t most = bits / 8 + 8;
    if (size <= most) return;
    throw Failure(Status::corrupt_stream, std::string(name) + " has " + std::to_string(size) +
                                              " bytes; the symbols of this picture take at most " +
                                              std::to_string(most));
}

std::vector<uint16_t> rows_of_z(const std::vector<int64_t> &shape) {
    return channel_rows(static_cast<size_t>(shape[1]), static_cast<size_t>(shape[2] * shape[3]));
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

Tensor SymbolEncoder::code(const StepSpec &step, const Tensor &given, const Tensor &means,
                           const std::vector<float> *part) {
    require_finite(step.graph, "means", means.floats());
    const std::vector<uint8_t> indexes = models_.indexing->indexes(step.graph, given);
    const std::vector<int32_t> symbols = quantize(*part, means.floats(), "graph " + step.graph);
    const Slots coded = models_.entropy.y().slots_from_symbols<uint8_t>(symbols, indexes);
    ans_.add<uint8_t>(models_.y, coded.slots, indexes);
    escapes_.add(coded.raws);
    checks_->add(indexes);
    return Tensor::from(floats_from_integers(symbols), given.shape);
}

void SymbolEncoder::finish(Bitstream &stream) const {
    stream.latents = ans_.finish_bytes();
    stream.escapes = escapes_.finish();
    stream.checks = checks_->finish();
}

SymbolDecoder::SymbolDecoder(const Models &models, const Bitstream &stream, const std::vector<size_t> &step_sizes,
                             const std::string &engine)
    : models_(&models),
      indexes_(
          models.indexing->reader(stream.checks, step_sizes, "engine " + engine + ", arithmetic " + stream.arithmetic)),
      ans_(AnsDecoder::from_bytes(stream.latents)),
      escapes_(stream.escapes),
      latents_size_(stream.latents.size()),
      escapes_size_(stream.escapes.size()),
      num_symbols_(std::accumulate(step_sizes.begin(), step_sizes.end(), uint64_t{0})) {}

SymbolDecoder::SymbolDecoder(const SymbolDecoder &other)
    : pick(other.pick),
      models_(other.models_),
      indexes_(other.indexes_->copy()),
      ans_(other.ans_),
      escapes_(other.escapes_),
      latents_size_(other.latents_size_),
      escapes_size_(other.escapes_size_),
      num_symbols_(other.num_symbols_) {}

Tensor SymbolDecoder::code_z(const std::vector<int64_t> &shape) {
    uint64_t symbols_in_all = 1;
    for (const int64_t side : shape) symbols_in_all *= static_cast<uint64_t>(side);
    symbols_in_all += num_symbols_;
    require_at_most("LATS", latents_size_, max_symbol_bits * symbols_in_all);
    require_at_most("ESCP", escapes_size_, max_escape_bits * symbols_in_all);
    const std::vector<uint16_t> rows = rows_of_z(shape);
    Taken taken = ans_.take<uint16_t>(models_->z, rows);
    if (taken.escapes > 0)
        models_->entropy.z().put_escapes<uint16_t>(taken.symbols, rows, escapes_.take(taken.escapes));
    return Tensor::from(std::move(taken.symbols), shape);
}

Tensor SymbolDecoder::code(const StepSpec &step, const Tensor &given, const Tensor &, const std::vector<float> *) {
    const std::vector<uint8_t> indexes = indexes_->read(step.graph, given, pick);
    Taken taken = ans_.take<uint8_t>(models_->y, indexes);
    if (taken.escapes > 0)
        models_->entropy.y().put_escapes<uint8_t>(taken.symbols, indexes, escapes_.take(taken.escapes));
    return Tensor::from(std::move(taken.symbols), given.shape);
}

void SymbolDecoder::finish() const {
    indexes_->finish();
    ans_.finish();
    escapes_.finish();
}

}  // namespace mlic
