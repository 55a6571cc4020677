// A stack of symbols in a state x of 64 bits and words of 32. Within one group slots are sorted stably by row and coded
// row by row, ascending; the encoder pushes everything last to first.
//
// Both directions are one long chain of dependent operations on x, so everything else is arranged to run beside it:
// rows are sorted before, divisions are multiplications with a reciprocal and one correction, and a decoder looks up an
// entry by the upper bits of x mod 2^24 before it compares.
#include "ans.hpp"

#include <algorithm>

#include "failure.hpp"

// The branch is predicted and keeps what it guards off the chain; compilers would make a conditional move of it.
#if defined(__GNUC__)
#define MLIC_RARELY(condition) __builtin_expect_with_probability(condition, 0, 0.99)
#else
#define MLIC_RARELY(condition) (condition)
#endif

namespace mlic {
namespace {

constexpr uint32_t quantile_mask = (1U << precision_bits) - 1;
constexpr uint32_t middle = 1U << (precision_bits - 1);
constexpr uint32_t most = quantile_mask / 4 * 3;         // a guess that is right less often costs more than it saves
constexpr unsigned renormal_bits = 64 - precision_bits;  // pushing an entry of frequency f needs x < f * 2^40
constexpr size_t most_lookups = 1U << 20;                // of all rows together; 64 rows have 2^13
constexpr size_t block = 1U << 12;                       // symbols between two looks at the buffer's size

#if defined(__SIZEOF_INT128__)
__extension__ using Wide = unsigned __int128;
inline uint64_t high_product(uint64_t left, uint64_t right) { return static_cast<uint64_t>(Wide{left} * right >> 64); }
#else
inline uint64_t high_product(uint64_t left, uint64_t right) {
    const uint64_t low = (left & 0xFFFFFFFF) * (right & 0xFFFFFFFF);
    const uint64_t one = (left >> 32) * (right & 0xFFFFFFFF) + (low >> 32);
    const uint64_t two = (left & 0xFFFFFFFF) * (right >> 32) + (one & 0xFFFFFFFF);
    return (left >> 32) * (right >> 32) + (one >> 32) + (two >> 32);
}
#endif

// The stable order of a group's elements by row. Counting and placing run in four parts of the group side by side:
// equal rows often follow one another, and then each step has to wait for the counter that the one before wrote.
template <typename Row>
class RowOrder {
   public:
    RowOrder(View<Row> rows, size_t row_count) : rows_(rows), row_count_(row_count), next_(lanes * row_count, 0) {
        if (rows.size > UINT32_MAX) throw Failure(Status::invalid_argument, "a step has more than 2^32 symbols");
        const size_t length = rows.size / lanes;
        each([this](size_t lane, size_t place) { ++next_[lane * row_count_ + rows_[place]]; }, length);
        counts_.resize(row_count, 0);
        uint32_t start = 0;
        for (size_t row = 0; row < row_count; ++row) {
            for (size_t lane = 0; lane < lanes; ++lane) {
                uint32_t &next = next_[lane * row_count + row];
                const uint32_t count = next;
                next = start;
                start += count;
                counts_[row] += count;
            }
        }
    }

    const std::vector<uint32_t> &counts() const { return counts_; }

    // Calls `visit(place, position in the sorted order)` for every element; once only.
    template <typename Visit>
    void visit(Visit visit) {
        each([&](size_t lane, size_t place) { visit(place, next_[lane * row_count_ + rows_[place]]++); },
             rows_.size / lanes);
    }

   private:
    static constexpr size_t lanes = 4;

    template <typename Do>
    void each(Do act, size_t length) {
        for (size_t place = 0; place < length; ++place) {
            for (size_t lane = 0; lane < lanes; ++lane) act(lane, lane * length + place);
        }
        for (size_t place = lanes * length; place < rows_.size; ++place) act(lanes - 1, place);
    }

    View<Row> rows_;
    size_t row_count_;
    std::vector<uint32_t> next_;  // of each lane and row: first how many, then where the next one goes
    std::vector<uint32_t> counts_;
};

// An entry in one word, since loading the slot first and its frequency after that would be on the chain: start in the
// lowest 24 bits, slot, frequency in the highest 24. Rows whose slots do not fit have frequency 0, which no quantile
// lies in.
constexpr unsigned slot_bits = 64 - 2 * precision_bits;
constexpr unsigned frequency_shift = 64 - precision_bits;

uint64_t packed(uint32_t start, uint32_t slot, uint32_t frequency) {
    if (slot >> slot_bits != 0) return 0;
    return uint64_t{frequency} << frequency_shift | uint64_t{slot} << precision_bits | start;
}

}  // namespace

CoderTables::CoderTables(const FrequencyTables &tables) : first_entry_(tables.starts), offsets_(tables.offsets), lookup_bits_(7) {
    while (lookup_bits_ > 0 && rows() << lookup_bits_ > most_lookups) --lookup_bits_;
    const size_t parts = size_t{1} << lookup_bits_;
    entries_.reserve(tables.frequencies.size());
    starts_.reserve(tables.frequencies.size() + rows());
    lookup_.reserve(rows() * parts);
    for (size_t row = 0; row < rows(); ++row) {
        const auto length = static_cast<uint32_t>(tables.lengths[row]);
        uint32_t start = 0, part = 0;
        for (uint32_t slot = 0; slot < length; ++slot) {
            const uint32_t frequency = tables.frequencies[tables.starts[row] + slot];
            entries_.push_back(Entry{UINT64_MAX / frequency, frequency, start});
            starts_.push_back(start);
            start += frequency;
            for (; part < parts && part << (precision_bits - lookup_bits_) < start; ++part)
                lookup_.push_back(packed(start - frequency, slot, frequency));
        }
        starts_.push_back(start);
    }
}

template <typename Row>
void AnsEncoder::add(const CoderTables &tables, View<int32_t> slots, View<Row> rows) {
    assert(slots.size == rows.size);
    RowOrder<Row> order(rows, tables.rows());
    std::vector<int32_t> sorted(slots.size);
    order.visit([&](size_t place, uint32_t position) { sorted[position] = slots[place]; });
    groups_.push_back(Group{&tables, std::move(sorted), order.counts()});
}

std::vector<uint32_t> AnsEncoder::finish() const {
    std::vector<uint32_t> words;
    size_t used = 0;
    uint64_t state = 0;
    for (auto group = groups_.rbegin(); group != groups_.rend(); ++group) {
        size_t end = group->slots.size();
        for (size_t row = group->counts.size(); row-- > 0;) {
            const CoderTables::Entry *entries = group->tables->entries_.data() + group->tables->first_entry_[row];
            const size_t begin = end - group->counts[row];
            while (end > begin) {
                const size_t stop = end - begin > block ? end - block : begin;
                if (words.size() - used < block) words.resize(2 * words.size() + block);  // a symbol writes one at most
                uint32_t *next = words.data() + used;
                for (const int32_t *slot = group->slots.data() + end; slot != group->slots.data() + stop;) {
                    const CoderTables::Entry entry = entries[*--slot];
                    if (state >> renormal_bits >= entry.frequency) {
                        *next++ = static_cast<uint32_t>(state);
                        state >>= 32;
                    }
                    // The product is short of state / frequency by less than one, hence the quotient by one at most.
                    // state becomes quotient * 2^24 + start + state mod frequency.
                    const uint64_t quotient = high_product(state, entry.reciprocal);
                    const uint64_t gain = (uint64_t{1} << precision_bits) - entry.frequency;
                    const uint64_t rest = state - quotient * entry.frequency;
                    state += quotient * gain + entry.start;
                    if (MLIC_RARELY(rest >= entry.frequency)) state += gain;
                }
                used = static_cast<size_t>(next - words.data());
                end = stop;
            }
        }
    }
    words.resize(used);
    for (; state != 0; state >>= 32) words.push_back(static_cast<uint32_t>(state));
    return words;
}

std::vector<uint8_t> AnsEncoder::finish_bytes() const {
    const std::vector<uint32_t> words = finish();
    std::vector<uint8_t> bytes;
    bytes.reserve(4 * words.size());
    for (uint32_t word : words) put_u32(bytes, word);
    return bytes;
}

AnsDecoder::AnsDecoder(std::vector<uint32_t> words)
    : words_(std::make_shared<const std::vector<uint32_t>>(std::move(words))), left_(words_->size()) {
    if (left_ > 0 && words_->back() == 0) throw Failure(Status::corrupt_stream, "the coded symbols end in a zero word");
    for (int word = 0; word < 2 && left_ > 0; ++word) state_ = state_ << 32 | (*words_)[--left_];
}

AnsDecoder AnsDecoder::from_bytes(Bytes latents) {
    std::vector<uint32_t> words(latents.size / 4);
    for (size_t place = 0; place < words.size(); ++place) words[place] = u32_at(latents, 4 * place);
    return AnsDecoder(std::move(words));
}

size_t AnsDecoder::take_run(const CoderTables &tables, size_t row, float *symbols, size_t count) {
    const uint32_t *starts = tables.starts_.data() + tables.first_entry_[row] + row;
    const uint32_t *ends = starts + tables.entries_of(row) + 1;
    const uint64_t *lookup = tables.lookup_.data() + (row << tables.lookup_bits_);
    const unsigned shift = precision_bits - tables.lookup_bits_;
    const uint32_t *words = words_->data();
    const auto slot_of = [=](uint32_t quantile) {
        return static_cast<uint32_t>(std::upper_bound(starts, ends, quantile) - starts) - 1;
    };
    // Of a row with an entry of more than three quarters, that entry. A guess that is mostly right does not wait for
    // the tables.
    const uint32_t likely = slot_of(middle), likely_start = starts[likely];
    const uint32_t likely_frequency = starts[likely + 1] - likely_start > most ? starts[likely + 1] - likely_start : 0;
    const uint32_t escape = static_cast<uint32_t>(tables.entries_of(row)) - 1;
    const auto offset = static_cast<uint32_t>(tables.offsets_[row]);
    size_t left = left_, escapes = 0;
    uint64_t state = state_;
    for (float *end = symbols + count; symbols != end; ++symbols) {
        uint32_t slot = likely;
        const uint32_t quantile = static_cast<uint32_t>(state) & quantile_mask;
        if (quantile - likely_start < likely_frequency) {
            state = (state >> precision_bits) * likely_frequency + (quantile - likely_start);
        } else {
            const uint64_t entry = lookup[quantile >> shift];
            uint64_t frequency = entry >> frequency_shift;
            uint32_t rest = quantile - (static_cast<uint32_t>(entry) & quantile_mask);
            slot = static_cast<uint32_t>(entry >> precision_bits) & ((1U << slot_bits) - 1);
            if (MLIC_RARELY(rest >= frequency)) {  // another entry begins in this part, before the quantile
                slot = slot_of(quantile);
                frequency = starts[slot + 1] - starts[slot];
                rest = quantile - starts[slot];
            }
            state = (state >> precision_bits) * frequency + rest;
        }
        escapes += slot == escape ? 1 : 0;
        *symbols = static_cast<float>(static_cast<int32_t>(slot + offset));
        // One word is enough: the state was at least 2^32, unless no words were left.
        if (state < uint64_t{1} << 32 && left > 0) state = state << 32 | words[--left];
    }
    left_ = left;
    state_ = state;
    return escapes;
}

template <typename Row>
Taken AnsDecoder::take(const CoderTables &tables, View<Row> rows) {
    RowOrder<Row> order(rows, tables.rows());
    Taken taken{std::vector<float>(rows.size), 0};
    const std::unique_ptr<float[]> in_order(new float[rows.size]);  // not zeroed first, as a vector would be
    size_t start = 0;
    for (size_t row = 0; row < tables.rows(); ++row) {
        const size_t count = order.counts()[row];
        if (count > 0) taken.escapes += take_run(tables, row, in_order.get() + start, count);
        start += count;
    }
    order.visit([&](size_t place, uint32_t position) { taken.symbols[place] = in_order[position]; });
    return taken;
}

void AnsDecoder::finish() const {
    if (state_ != 0 || left_ > 0) {
        throw Failure(Status::corrupt_stream, "the coded symbols do not end where they should");
    }
}

template void AnsEncoder::add(const CoderTables &, View<int32_t>, View<uint8_t>);
template void AnsEncoder::add(const CoderTables &, View<int32_t>, View<uint16_t>);
template Taken AnsDecoder::take(const CoderTables &, View<uint8_t>);
template Taken AnsDecoder::take(const CoderTables &, View<uint16_t>);

}  // namespace mlic
