// One loop serves every architecture: arrays go from graph to graph by name and are dropped when nobody takes them.
#include "walk.hpp"

#include "checkerboard.hpp"

namespace mlic {

Needed needed_after(const std::vector<const GraphSpec *> &chain) {
    Needed needed(chain.size());
    for (size_t i = chain.size(); i-- > 1;) {
        needed[i - 1] = needed[i];
        for (const auto &input : chain[i]->inputs) needed[i - 1].insert(input.first);
    }
    return needed;
}

Arrays State::run(LazyGraph &graph) {
    report(progress_, graph.spec().name);
    Arrays outputs = graph.run(arrays_);
    const std::set<std::string> &needed = (*needed_)[position_++];
    for (auto array = arrays_.begin(); array != arrays_.end();)
        array = needed.count(array->first) > 0 ? std::next(array) : arrays_.erase(array);
    for (const auto &output : outputs)
        if (needed.count(output.first) > 0) arrays_[output.first] = output.second;
    return outputs;
}

void State::put(const std::string &name, Tensor array) {
    if ((*needed_)[position_ - 1].count(name) > 0) arrays_[name] = std::move(array);
}

void visit(const Step &step, Coder &coder, State &state, const Tensor *y) {
    const Arrays outputs = state.run(step.graph);
    const StepSpec &spec = step.spec;
    state.begin("coder");
    std::vector<float> part;
    if (y != nullptr) part = part_of_y(y->floats(), y->shape[2], y->shape[3], spec);
    const Tensor &given = outputs.at(spec.given(step.arithmetic));
    state.put(spec.symbols(), coder.code(spec, given, outputs.at(spec.means()), y == nullptr ? nullptr : &part));
}

void walk(const std::vector<Step> &steps, Coder &coder, State &state, const Tensor *y) {
    for (const Step &step : steps) visit(step, coder, state, y);
}

}  // namespace mlic
