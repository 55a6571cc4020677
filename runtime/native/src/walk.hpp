// The walk over the steps, shared by both directions, and the state that flows along it: twin of runtime/walk.py.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "engine.hpp"
#include "manifest.hpp"
#include "tensor.hpp"

namespace mlic {

// Called with the name of each stage before it begins: a graph's name, "image", "coder" or "container". May be empty.
using Progress = std::function<void(const std::string &)>;

inline void report(const Progress &progress, const std::string &stage) {
    if (progress) progress(stage);
}

// For each graph of a chain, the names that later graphs take.
using Needed = std::vector<std::set<std::string>>;
Needed needed_after(const std::vector<const GraphSpec *> &chain);

// What lies between two uses of the entropy coder.
struct Step {
    const StepSpec &spec;
    LazyGraph &graph;
    const Arithmetic &arithmetic;  // tells whether the graph gives scales or indexes
};

// One direction of the entropy coder.
class Coder {
   public:
    virtual ~Coder() = default;
    // Encodes or decodes one step's symbols. `given` are scales or indexes, as the arithmetic has it; `part` is the
    // step's part of y when encoding, null when decoding. Returns the symbols, equal on both sides, as whole numbers of
    // the shape of `given`.
    virtual Tensor code(const StepSpec &step, const Tensor &given, const Tensor &means,
                        const std::vector<float> *part) = 0;
};

// The named arrays that later graphs still need. A copy goes on from here on its own; the arrays themselves are shared.
class State {
   public:
    // `needed` is of the chain of all graphs that will run.
    State(std::shared_ptr<const Needed> needed, Arrays arrays, Progress progress)
        : needed_(std::move(needed)), arrays_(std::move(arrays)), progress_(std::move(progress)) {}

    // Says that a stage begins that is no graph.
    void begin(const std::string &stage) const { report(progress_, stage); }
    // Runs the next graph of the chain, keeps what is needed later, and returns all of its outputs.
    Arrays run(LazyGraph &graph);
    // Sets an array that does not come from a graph, if it is needed later.
    void put(const std::string &name, Tensor array);

   private:
    std::shared_ptr<const Needed> needed_;
    size_t position_ = 0;
    Arrays arrays_;
    Progress progress_;
};

// Visits one step: runs its graph, codes its symbols, and keeps them. `y`, [1, M, H, W], is null when decoding.
void visit(const Step &step, Coder &coder, State &state, const Tensor *y);

// Visits every step in coding order. A decoder, which may have to go back, walks with decode_walk instead.
void walk(const std::vector<Step> &steps, Coder &coder, State &state, const Tensor *y);

}  // namespace mlic
