// Symbols to 32-bit words and back, one stream a picture, with the very words of constriction's AnsCoder: twin of
// runtime/ans.py and ans_reference.py. docs/file-format.md says how the words come about.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "bytes.hpp"
#include "entropy_model.hpp"

namespace mlic {

// A table's rows made ready for coding. Made once a codec (`CoderTables y(bundle.entropy().y())`); threads share it.
class CoderTables {
   public:
    explicit CoderTables(const FrequencyTables &tables);
    size_t rows() const { return first_entry_.size(); }

   private:
    friend class AnsEncoder;
    friend class AnsDecoder;

    // Entries of a row, the escape's included.
    size_t entries_of(size_t row) const {
        return (row + 1 < rows() ? first_entry_[row + 1] : entries_.size()) - first_entry_[row];
    }

    // One entry of a row, as an encoder needs it.
    struct Entry {
        uint64_t reciprocal;  // (2^64 - 1) div frequency
        uint32_t frequency;
        uint32_t start;  // sum of the frequencies before
    };
    std::vector<Entry> entries_;
    std::vector<uint32_t> first_entry_;  // of each row
    std::vector<int32_t> offsets_;       // symbol of each row's first entry
    // Decoding: starts of each row's entries and 2^24 behind them, hence first_entry_[row] + row; and for each of
    // 2^lookup_bits_ equal parts of a row's 2^24, the entry that its beginning lies in, packed into one word. There are
    // few parts: the graphs that run between two steps leave nothing of these tables in the nearest caches.
    std::vector<uint32_t> starts_;
    std::vector<uint64_t> lookup_;
    unsigned lookup_bits_;
};

// Collects groups of slots in coding order (z first, then the steps), then writes them as one stream.
class AnsEncoder {
   public:
    // Appends one group: `slots` lie within their rows, `rows` name the row of each; Row is uint8_t or uint16_t.
    // `tables` have to live until finish.
    template <typename Row>
    void add(const CoderTables &tables, View<int32_t> slots, View<Row> rows);

    // The stream, the decoder's first word last; may be empty.
    std::vector<uint32_t> finish() const;
    // The same as LATS holds it.
    std::vector<uint8_t> finish_bytes() const;

   private:
    struct Group {
        const CoderTables *tables;
        std::vector<int32_t> slots;    // sorted stably by row
        std::vector<uint32_t> counts;  // slots of each row
    };
    std::vector<Group> groups_;
};

// A group as it comes out of a stream: whole numbers, as graphs take them. An escape stands as the symbol behind its
// row's last, which nothing else gives; FrequencyTables::put_escapes puts the right one in its place.
struct Taken {
    std::vector<float> symbols;
    size_t escapes;  // how many of them are
};

// Takes groups of symbols from a stream, in coding order. A copy goes on from here on its own, and copying is cheap: the
// words are shared.
class AnsDecoder {
   public:
    // Throws Failure(corrupt_stream) if the last word is zero, which no encoder writes.
    explicit AnsDecoder(std::vector<uint32_t> words);
    // Opens the contents of LATS; a multiple of 4 bytes.
    static AnsDecoder from_bytes(Bytes latents);

    // The next group's symbols, in the order of `rows`. A stream that is too short gives a row's first symbol for ever;
    // `finish` and the checksums notice wrong symbols.
    template <typename Row>
    Taken take(const CoderTables &tables, View<Row> rows);

    // Checks that the stream is used up. Throws Failure(corrupt_stream).
    void finish() const;

   private:
    // Takes symbols of one row and returns the number of escapes.
    size_t take_run(const CoderTables &tables, size_t row, float *symbols, size_t count);

    std::shared_ptr<const std::vector<uint32_t>> words_;
    size_t left_;  // words not yet taken: those before this position
    uint64_t state_ = 0;
};

}  // namespace mlic
