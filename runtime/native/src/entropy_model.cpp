// Scales to indexes, floats to symbols. Tables are checked when they are read; everything after that relies on them.
#include "entropy_model.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "failure.hpp"
#include "npz_values.hpp"
#include "rounding.hpp"

namespace mlic {
namespace {

constexpr unsigned bucket_shift = 16;  // a bucket is the upper half of a float32: sign, exponent, 7 bits of mantissa
constexpr size_t buckets = 1U << 16;

uint32_t bits_of(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    return bits;
}

float float_of(uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

// np.searchsorted(table[:-1], scale): the number of entries below; NaN sorts behind all.
size_t searched(const std::vector<float> &table, float scale) {
    if (std::isnan(scale)) return table.size() - 1;
    return static_cast<size_t>(std::lower_bound(table.begin(), table.end() - 1, scale) - table.begin());
}

std::vector<uint8_t> bucket_table(const std::vector<float> &table) {
    std::vector<uint8_t> rows(buckets);
    for (uint32_t bucket = 0; bucket < buckets; ++bucket) {
        const uint32_t bits = bucket << bucket_shift;
        const size_t first = searched(table, float_of(bits));
        // Only positive finite buckets can hold entries: those of a table are positive.
        if (bucket < 0x7F80 && searched(table, float_of(bits | 0xFFFF)) - first > 1) return {};
        rows[bucket] = static_cast<uint8_t>(first);
    }
    return rows;
}

}  // namespace

EntropyModel::EntropyModel(std::vector<float> scale_table, FrequencyTables y, FrequencyTables z)
    : scale_table_(std::move(scale_table)),
      y_(std::move(y)),
      z_(std::move(z)),
      buckets_(bucket_table(scale_table_)),
      bounds_(scale_table_) {
    bounds_.back() = std::numeric_limits<float>::infinity();  // nothing is above the last
}

EntropyModel EntropyModel::from_arrays(const NpzArrays &arrays) {
    npz::require(arrays, {{"scale_table", "float32"}, {"medians", "float32"}});
    std::vector<float> scale_table = npz::values_of<float>(arrays, "scale_table");
    const size_t medians = arrays.at("medians").shape[0];
    FrequencyTables y = FrequencyTables::from_arrays(arrays, "y");
    FrequencyTables z = FrequencyTables::from_arrays(arrays, "z");
    std::vector<std::string> problems;
    if (scale_table.empty() || scale_table.size() > max_rows || scale_table.size() != y.rows()) {
        problems.push_back(std::to_string(scale_table.size()) + " scales and " + std::to_string(y.rows()) +
                           " rows of y; expected as many, at most " + std::to_string(max_rows));
    } else {
        bool rising = true;
        float before = 0;
        for (float scale : scale_table) {
            rising = rising && std::isfinite(scale) && scale > before;
            before = scale;
        }
        if (!rising) problems.emplace_back("scale_table is not positive, finite and rising");
    }
    if (medians != z.rows()) {
        problems.push_back(std::to_string(medians) + " medians and " + std::to_string(z.rows()) +
                           " rows of z; expected as many");
    }
    if (!problems.empty()) npz::refuse("tables", problems);
    return EntropyModel(std::move(scale_table), std::move(y), std::move(z));
}

std::vector<uint8_t> EntropyModel::build_indexes(View<float> scales) const {
    std::vector<uint8_t> indexes(scales.size);
    if (buckets_.empty()) {
        std::transform(scales.begin(), scales.end(), indexes.begin(),
                       [this](float scale) { return static_cast<uint8_t>(searched(scale_table_, scale)); });
        return indexes;
    }
    // The upper 16 bits of a scale look up a row, and one comparison decides between it and the next.
    for (size_t place = 0; place < scales.size; ++place) {
        const uint8_t row = buckets_[bits_of(scales[place]) >> bucket_shift];
        indexes[place] = static_cast<uint8_t>(row + (scales[place] > bounds_[row] ? 1 : 0));
    }
    return indexes;
}

std::vector<int32_t> quantize(View<float> values, View<float> means, const std::string &what) {
    assert(values.size == means.size);
    std::vector<int32_t> symbols(values.size);
    for (size_t place = 0; place < values.size; ++place) {
        const float difference = values[place] - means[place];
        // From 2^23 on all float32 are whole, so rounding cannot lead beyond the bound. NaN compares false.
        if (!(std::fabs(difference) <= static_cast<float>(max_symbol))) {
            throw Failure(Status::engine_failed, what + ": symbol " + std::to_string(difference) +
                                                     " is not a whole number within ±" + std::to_string(max_symbol));
        }
        symbols[place] = rounded(difference);
    }
    return symbols;
}

std::vector<int32_t> integers_from_floats(View<float> symbols, const std::string &what) {
    std::vector<int32_t> integers(symbols.size);
    for (size_t place = 0; place < symbols.size; ++place) {
        const float symbol = symbols[place];
        const bool small = std::fabs(symbol) <= static_cast<float>(max_symbol);
        integers[place] = small ? rounded(symbol) : 0;
        if (!small || static_cast<float>(integers[place]) != symbol) {
            throw Failure(Status::engine_failed, what + ": symbol " + std::to_string(symbol) +
                                                     " is not a whole number within ±" + std::to_string(max_symbol));
        }
    }
    return integers;
}

std::vector<float> floats_from_integers(View<int32_t> symbols) {
    std::vector<float> floats(symbols.size);
    std::transform(symbols.begin(), symbols.end(), floats.begin(),
                   [](int32_t symbol) { return static_cast<float>(symbol); });
    return floats;
}

std::vector<uint16_t> channel_rows(size_t channels, size_t positions) {
    if (channels > 1U << 16) throw Failure(Status::internal, "z has more than 65536 channels");
    std::vector<uint16_t> rows(channels * positions);
    for (size_t channel = 0; channel < channels; ++channel) {
        std::fill_n(rows.begin() + static_cast<std::ptrdiff_t>(channel * positions), positions,
                    static_cast<uint16_t>(channel));
    }
    return rows;
}

}  // namespace mlic
