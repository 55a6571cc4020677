// From a chunk's wrong checksum to the likeliest indexes of the encoder: twin of runtime/repair.py, whose head says why
// it works. Same reach, same costs, same order, so that both find the same readings.
#pragma once

#include <cstdint>
#include <vector>

#include "bytes.hpp"
#include "checksums.hpp"

namespace mlic {

// How many of the nearest candidates are searched for sets of each size.
struct Reach {
    size_t singles;
    size_t pairs;
    size_t triples;
    size_t any;
};

// One index that may differ from the encoder's.
struct Candidate {
    size_t place;     // in the chunk
    uint8_t index;    // what it would become
    double distance;  // of the scale from the boundary
    uint32_t effect;  // of the change on the checksum
};

// A set of changes that explains a checksum.
struct Explanation {
    double cost;                     // negative log-likelihood relative to no change
    std::vector<Candidate> changes;  // nearest first; empty for no change
};

using PlaceSet = std::vector<uint32_t>;  // rising positions among the candidates

class Repair {
   public:
    // `scale_table` is rising; `checksum` is the file's.
    Repair(View<float> scale_table, const Checksum &checksum);

    // A chunk's candidates, nearest boundary first; equal distances in the order of their places.
    std::vector<Candidate> candidates(View<uint8_t> indexes, View<float> scales) const;
    // All sets found with a given effect that are not less likely than chance, likeliest first.
    std::vector<Explanation> explanations(const std::vector<Candidate> &candidates, uint32_t difference) const;

   private:
    std::vector<double> bounds_;  // scale_table[:-1]
    const Checksum *checksum_;
    Reach reach_;
};

// Sets of effects whose exclusive or is `wanted`, each once, in lexical order.
std::vector<PlaceSet> sets_with_sum(const std::vector<uint32_t> &effects, uint32_t wanted, const Reach &reach);
// The cost of each set of candidates.
std::vector<double> costs_of(const std::vector<double> &distances, const std::vector<PlaceSet> &sets);

}  // namespace mlic
