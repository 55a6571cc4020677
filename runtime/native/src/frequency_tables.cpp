// Tables are checked here; everything after that relies on them.
#include <algorithm>

#include "entropy_model.hpp"
#include "failure.hpp"
#include "npz_values.hpp"

namespace mlic {

FrequencyTables FrequencyTables::from_arrays(const NpzArrays &arrays, const std::string &prefix) {
    npz::require(arrays,
                 {{prefix + "_frequencies", "uint32"}, {prefix + "_lengths", "int32"}, {prefix + "_offsets", "int32"}});
    FrequencyTables tables;
    tables.frequencies = npz::values_of<uint32_t>(arrays, prefix + "_frequencies");
    tables.lengths = npz::values_of<int32_t>(arrays, prefix + "_lengths");
    tables.offsets = npz::values_of<int32_t>(arrays, prefix + "_offsets");
    const std::string where = "tables of " + prefix;
    const size_t rows = tables.rows();
    if (rows < 1 || rows > 1U << 16 || tables.offsets.size() != rows) {
        npz::refuse(where, {std::to_string(rows) + " lengths and " + std::to_string(tables.offsets.size()) +
                            " offsets; expected 1 to 65536 of each"});
    }
    int64_t entries = 0;
    for (int32_t length : tables.lengths) entries += length;
    const int32_t shortest = *std::min_element(tables.lengths.begin(), tables.lengths.end());
    if (shortest < 2 || static_cast<uint64_t>(entries) != tables.frequencies.size()) {
        npz::refuse(where, {"lengths from " + std::to_string(shortest) + " up, in all " + std::to_string(entries) +
                            "; expected 2 or more, in all " + std::to_string(tables.frequencies.size()) +
                            " as there are frequencies"});
    }
    if (tables.frequencies.size() > max_entries) {
        npz::refuse(where, {std::to_string(entries) + " frequencies; at most " + std::to_string(max_entries)});
    }
    std::vector<std::string> problems;
    uint32_t start = 0;
    for (size_t row = 0; row < rows; ++row) {
        tables.starts.push_back(start);
        uint64_t sum = 0;
        for (int32_t slot = 0; slot < tables.lengths[row]; ++slot) sum += tables.frequencies[start++];
        if (sum != 1U << precision_bits && problems.empty()) {
            problems.push_back("row " + std::to_string(row) + " sums to " + std::to_string(sum) + "; expected " +
                               std::to_string(1U << precision_bits));
        }
    }
    const auto zero = std::find(tables.frequencies.begin(), tables.frequencies.end(), 0U);
    if (zero != tables.frequencies.end()) {
        problems.push_back("frequency 0 at entry " + std::to_string(zero - tables.frequencies.begin()) +
                           "; expected 1 or more");
    }
    if (std::any_of(tables.offsets.begin(), tables.offsets.end(),
                    [](int32_t offset) { return offset < -max_offset || offset > max_offset; })) {
        problems.push_back("offsets beyond ±" + std::to_string(max_offset));
    }
    if (!problems.empty()) npz::refuse(where, problems);
    return tables;
}

template <typename Row>
Slots FrequencyTables::slots_from_symbols(View<int32_t> symbols, View<Row> rows) const {
    assert(symbols.size == rows.size);
    Slots found;
    found.slots.resize(symbols.size);
    for (size_t place = 0; place < symbols.size; ++place) {
        const int32_t slot = symbols[place] - offsets[rows[place]];
        const int32_t escape = lengths[rows[place]] - 1;
        const bool inside = static_cast<uint32_t>(slot) < static_cast<uint32_t>(escape);
        found.slots[place] = inside ? slot : escape;
        if (!inside) found.raws.push_back(slot < 0 ? -2 * int64_t{slot} - 1 : 2 * (int64_t{slot} - escape));
    }
    return found;
}

template <typename Row>
void FrequencyTables::put_escapes(std::vector<float> &symbols, View<Row> rows, View<int64_t> raws) const {
    assert(symbols.size() == rows.size);
    size_t next = 0;
    for (size_t place = 0; place < symbols.size() && next < raws.size; ++place) {
        const int32_t offset = offsets[rows[place]], escape = lengths[rows[place]] - 1;
        if (symbols[place] != static_cast<float>(offset + escape)) continue;
        const int64_t raw = raws[next++], half = raw >> 1;
        const int64_t symbol = (raw & 1 ? -half - 1 : half + escape) + offset;
        if (symbol < -max_symbol || symbol > max_symbol) {
            throw Failure(Status::corrupt_stream, "an escaped symbol lies beyond ±" + std::to_string(max_symbol));
        }
        symbols[place] = static_cast<float>(symbol);
    }
}

template Slots FrequencyTables::slots_from_symbols(View<int32_t>, View<uint8_t>) const;
template Slots FrequencyTables::slots_from_symbols(View<int32_t>, View<uint16_t>) const;
template void FrequencyTables::put_escapes(std::vector<float> &, View<uint8_t>, View<int64_t>) const;
template void FrequencyTables::put_escapes(std::vector<float> &, View<uint16_t>, View<int64_t>) const;

}  // namespace mlic
