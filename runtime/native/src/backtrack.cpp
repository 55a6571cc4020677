// Goes back to the likeliest reading that has not been tried, at whatever step, within a bounded number of visits.
#include "backtrack.hpp"

#include <algorithm>
#include <optional>
#include <tuple>
#include <utility>

namespace mlic {
namespace {

// Beyond twice the number of steps; a bundle with few steps has to try readings too.
constexpr size_t EXTRA_VISITS = 16;
constexpr int CONFIRMED_AFTER = 2;   // steps in a row that agree; one may agree where a wrong reading hardly mattered
constexpr double UNNOTICED_COST = 11;  // of a reading other than the one whose checksums agree: a chance of 2^-16

// A reading of one step that has not been tried.
struct Branch {
    double cost;  // of all readings up to here and this one
    size_t position;
    size_t pick;
    State state;  // before the step
    SymbolDecoder decoder;
};

// Puts the cheapest branch at the heap's front.
bool dearer(const Branch &one, const Branch &other) {
    return std::tie(one.cost, one.position, one.pick) > std::tie(other.cost, other.position, other.pick);
}

}  // namespace

void straight_walk(const std::vector<Step> &steps, SymbolDecoder &decoder, State &state) {
    walk(steps, decoder, state, nullptr);
    decoder.finish();
}

void decode_walk(const std::vector<Step> &steps, SymbolDecoder &decoder, State &state) {
    std::vector<Branch> branches;
    size_t visits_left = 2 * steps.size() + EXTRA_VISITS;
    size_t position = 0, pick = 0;
    int agreed = 0;
    std::optional<Failure> first_failure;
    for (;;) {
        try {
            while (position < steps.size()) {
                if (first_failure && visits_left == 0) throw *first_failure;
                if (visits_left > 0) --visits_left;
                Branch before{decoder.indexes().cost, position, pick, state, decoder};
                decoder.pick = pick;
                visit(steps[position], decoder, state, nullptr);
                const IndexReader &read = decoder.indexes();
                agreed = read.agreed ? agreed + 1 : 0;
                if (agreed >= CONFIRMED_AFTER) branches.clear();
                const std::optional<double> next_cost = read.agreed ? read.cost + UNNOTICED_COST : read.next_cost;
                if (next_cost) {
                    before.cost = *next_cost;
                    before.pick = pick + 1;
                    branches.push_back(std::move(before));
                    std::push_heap(branches.begin(), branches.end(), dearer);
                }
                ++position;
                pick = 0;
            }
            decoder.finish();
            return;
        } catch (const Failure &failure) {
            if (!first_failure) first_failure = decoder.indexes().blame(failure);
        }
        if (branches.empty() || visits_left == 0) throw *first_failure;
        std::pop_heap(branches.begin(), branches.end(), dearer);
        Branch chosen = std::move(branches.back());
        branches.pop_back();
        position = chosen.position;
        pick = chosen.pick;
        state = std::move(chosen.state);
        decoder = std::move(chosen.decoder);
        agreed = 0;
    }
}

}  // namespace mlic
