// Decoding with second thoughts: the walk of a decoder whose engine may disagree with the encoder's. Twin of
// runtime/backtrack.py, whose head says how it goes back and why that ends.
#pragma once

#include <vector>

#include "coder.hpp"
#include "walk.hpp"

namespace mlic {

// Visits every step once, for an arithmetic without repair; otherwise as decode_walk.
void straight_walk(const std::vector<Step> &steps, SymbolDecoder &decoder, State &state);

// Visits every step as `walk` does, changing indexes where the encoder's must have been others.
//
// `decoder` has decoded z, `state` holds what h_s gave. Afterwards the state holds what `finish` takes, and the decoder
// has come to its end and passed all checks. Throws Failure: engine_mismatch if the engines differ beyond repair;
// others if the file is damaged or a graph failed, and no index differed before that.
void decode_walk(const std::vector<Step> &steps, SymbolDecoder &decoder, State &state);

}  // namespace mlic
