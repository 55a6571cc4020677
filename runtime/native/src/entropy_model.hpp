// Integer frequency tables of y and z, and the way from scales and symbols to their rows and slots: twin of
// runtime/entropy_model.py.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bytes.hpp"
#include "npz.hpp"

namespace mlic {

constexpr unsigned precision_bits = 24;
constexpr int32_t max_symbol = (1 << 24) - 1;  // whole numbers up to here survive the way through float32
constexpr size_t max_rows = 256;               // of y: indexes are uint8
constexpr int32_t max_offset = 1 << 20;
constexpr size_t max_entries = 1U << 22;

// What slots_from_symbols returns.
struct Slots {
    std::vector<int32_t> slots;  // one a symbol
    std::vector<int64_t> raws;   // of those that escape, in the order of the symbols
};

// Rows of integer frequencies, each summing to 2^24; the last entry of a row is the escape.
struct FrequencyTables {
    std::vector<uint32_t> frequencies;  // one row after another
    std::vector<int32_t> lengths;       // entries of each row, at least 2
    std::vector<int32_t> offsets;       // symbol of each row's first entry
    std::vector<uint32_t> starts;       // where each row begins in `frequencies`

    // Reads and checks {prefix}_frequencies, _lengths and _offsets. Throws Failure(bad_bundle).
    static FrequencyTables from_arrays(const NpzArrays &arrays, const std::string &prefix);

    size_t rows() const { return lengths.size(); }

    // `symbols` lie within +-max_symbol, `rows` name the row of each; Row is uint8_t or uint16_t.
    template <typename Row>
    Slots slots_from_symbols(View<int32_t> symbols, View<Row> rows) const;

    // The rest of the inverse: a decoder has added the offsets, and a symbol behind its row's last is an escape, of
    // which there are as many as `raws`. Throws Failure(corrupt_stream) if one is larger than any encoder writes.
    template <typename Row>
    void put_escapes(std::vector<float> &symbols, View<Row> rows, View<int64_t> raws) const;
};

// What both ends know about the distribution of symbols. Never changes once made.
class EntropyModel {
   public:
    // Builds the model from the arrays of tables.npz. Throws Failure(bad_bundle).
    static EntropyModel from_arrays(const NpzArrays &arrays);

    // For each scale, the row whose scale is the first not below it; above the table the last row. NaN gets the first
    // or last row, as in Python; callers check that scales are finite.
    std::vector<uint8_t> build_indexes(View<float> scales) const;

    const std::vector<float> &scale_table() const { return scale_table_; }  // rising
    const FrequencyTables &y() const { return y_; }                         // one row a scale
    const FrequencyTables &z() const { return z_; }                         // one row a channel of z

   private:
    EntropyModel(std::vector<float> scale_table, FrequencyTables y, FrequencyTables z);

    std::vector<float> scale_table_;
    FrequencyTables y_;
    FrequencyTables z_;
    std::vector<uint8_t> buckets_;  // row of each bucket's smallest scale; empty if a bucket holds two entries
    std::vector<float> bounds_;     // a scale above its bucket's entry belongs to the next one
};

// round(values - means), ties to even, as whole numbers. `what` names the arrays in an error ("graph step_03").
// Throws Failure(engine_failed) if a difference is not finite or beyond +-max_symbol.
std::vector<int32_t> quantize(View<float> values, View<float> means, const std::string &what);

// Whole numbers held in float32. Throws Failure(engine_failed) if a value is not a whole number within +-max_symbol.
std::vector<int32_t> integers_from_floats(View<float> symbols, const std::string &what);

// What graphs take: symbols as float32, without negative zeros.
std::vector<float> floats_from_integers(View<int32_t> symbols);

// The row of each element of z: its channel, `positions` times. Throws Failure(internal) beyond 2^16 channels.
std::vector<uint16_t> channel_rows(size_t channels, size_t positions);

}  // namespace mlic
