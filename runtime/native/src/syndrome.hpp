// Checksums of the scale indexes, the contents of SYND: twin of runtime/syndrome.py.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "bytes.hpp"
#include "checksums.hpp"
#include "repair.hpp"

namespace mlic {

// Collects the checksums of one picture's indexes.
class SyndromeWriter {
   public:
    // log2 of the chunk length, 6..24, and width of a chunk's checksum in bits, 16 or 32; files have the defaults.
    explicit SyndromeWriter(unsigned chunk_log2 = 15, unsigned width = 16);
    void add(View<uint8_t> indexes);  // one step's, flattened
    std::vector<uint8_t> finish() const;

   private:
    unsigned chunk_log2_;
    const Checksum *checksum_;
    std::vector<uint32_t> chunks_;
    uint32_t all_ = 0;
};

// One index in which the encoder and this engine differed.
struct Change {
    std::string graph;
    size_t place;  // among the step's indexes, flattened
    uint8_t ours;
    uint8_t theirs;
    double distance;  // of the scale from the boundary between the two
};

// One step's indexes as the encoder may have had them.
struct Reading {
    std::vector<uint8_t> indexes;
    double cost = 0;  // negative log-likelihood, relative to this engine's own indexes
    std::vector<Change> changes;
    std::optional<double> next_cost;  // of the next likeliest reading; none if there is none
};

// Tells which indexes agree with the encoder's, and what the encoder's were. Never changes once made.
class SyndromeReader {
   public:
    // `payload` is SYND, `step_sizes` the number of indexes of each step in coding order, `scale_table` rising.
    // Throws Failure: corrupt_stream if the payload does not fit the steps, unsupported_stream for other checksums.
    SyndromeReader(Bytes payload, const std::vector<size_t> &step_sizes, View<float> scale_table);

    size_t count(size_t step) const { return steps_[step].size(); }  // chunks of a step

    // Which chunks of a step differ from the encoder's.
    std::vector<size_t> wrong_chunks(size_t step, View<uint8_t> indexes) const;

    // What the encoder's indexes were, if they were not this engine's; none if there are not as many readings: the
    // engines differ beyond repair. `wrong` as wrong_chunks returned them; if there are none, all chunks, whose
    // checksums might agree by chance. `pick` is 0 for the likeliest reading, 1 for the next one, and so on. `scales`
    // are those from which the indexes were made, and finite.
    std::optional<Reading> reading(size_t step, const std::string &graph, View<uint8_t> indexes, View<float> scales,
                                   const std::vector<size_t> &wrong, size_t pick) const;

    // Whether the CRC-32 of all indexes in coding order (crc32_of, step by step) is the encoder's.
    bool all_agree(uint32_t checksum) const { return checksum == all_; }

   private:
    const Checksum *checksum_ = nullptr;
    size_t chunk_length_ = 0;
    std::vector<std::vector<uint32_t>> steps_;
    uint32_t all_ = 0;
    std::optional<Repair> repair_;
};

// All ways to take one of each, cheapest sum first, made one by one. `costs` are rising, none is empty.
class Cheapest {
   public:
    struct Combination {
        double total;
        std::vector<size_t> chosen;  // which option of each
        size_t first;                // options before this one are not raised any more
    };
    explicit Cheapest(std::vector<std::vector<double>> costs);
    std::optional<Combination> next();

   private:
    std::vector<std::vector<double>> costs_;
    std::vector<Combination> heap_;
};

}  // namespace mlic
