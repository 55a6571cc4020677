// Whether a manifest's graphs and steps fit together: every array is made before it is taken, and every value of y is
// coded once. Twin of runtime/wiring.py.
#include <algorithm>

#include "manifest.hpp"
#include "text.hpp"

namespace mlic {
namespace {

using Problems = std::vector<std::string>;

TensorSpec latent(int64_t channels, int64_t stride, int64_t across) {
    return {
        "float32",
        {{Dim::Side::fixed, 1}, {Dim::Side::fixed, channels}, {Dim::Side::height, stride}, {Dim::Side::width, across}}};
}

TensorSpec part(const StepSpec &step, const char *dtype = "float32") {
    const int64_t across = step.positions == Positions::all ? latent_stride : 2 * latent_stride;
    return {dtype, latent(step.channels(), latent_stride, across).shape};
}

// Checks a graph's inputs against the state and puts its outputs into it.
void advance(const GraphSpec &graph, Tensors &state, Problems &problems) {
    for (const auto &[name, spec] : graph.inputs) {
        const auto found = state.find(name);
        if (found == state.end()) {
            problems.push_back("graph " + graph.name + " takes " + name + ", which nothing gives before");
        } else if (found->second != spec) {
            problems.push_back("graph " + graph.name + " takes " + name + " as " + spec.text() + "; it is " +
                               found->second.text());
        }
    }
    for (const auto &[name, spec] : graph.outputs) {
        if (state.count(name)) problems.push_back("graph " + graph.name + " gives " + name + " a second time");
        state[name] = spec;
    }
}

void gives(const GraphSpec &graph, const Tensors &expected, Problems &problems) {
    for (const auto &[name, spec] : expected) {
        const auto found = graph.outputs.find(name);
        if (found != graph.outputs.end() && found->second == spec) continue;
        problems.push_back("graph " + graph.name + " gives " + name + " as " +
                           (found == graph.outputs.end() ? "nothing" : found->second.text()) + "; expected " +
                           spec.text());
    }
}

std::string listed(const Tensors &tensors) {
    std::string text;
    for (const auto &[name, spec] : tensors) text += (text.empty() ? "" : ", ") + name + " " + spec.text();
    return text.empty() ? "nothing" : text;
}

void exactly(const GraphSpec &graph, const Tensors &inputs, const Tensors &outputs, Problems &problems) {
    gives(graph, outputs, problems);
    if (graph.inputs != inputs) {
        problems.push_back("graph " + graph.name + " takes " + listed(graph.inputs) + "; expected " + listed(inputs));
    }
}

// Checks that tiles hold whole positions of y, and that pictures end where a tile may.
void tilings(const Manifest &manifest, Problems &problems) {
    for (const auto &[name, graph] : manifest.graphs) {
        if (!graph.tiling) continue;
        const int64_t multiple = graph.tiling->multiple, end = manifest.padding.multiple;
        if (name != "g_a" && name != "g_s") {
            problems.push_back("graph " + name + " has a tiling; only g_a and g_s run over tiles");
        } else if (multiple % latent_stride != 0 || end % multiple != 0) {
            problems.push_back("graph " + name + " has tiles of a multiple of " + std::to_string(multiple) +
                               "; expected a multiple of " + std::to_string(latent_stride) +
                               " that divides the padding's, " + std::to_string(end));
        }
    }
}

// Checks that the steps fill each channel of y exactly once at each kind of position. Counts are kept as changes from
// channel to channel, so that the time does not depend on how many channels how many steps claim.
void coverage(const Manifest &manifest, Problems &problems) {
    const auto channels = static_cast<size_t>(manifest.y_channels);
    const std::pair<const char *, Positions> kinds[] = {{"anchor", Positions::anchor},
                                                        {"nonanchor", Positions::nonanchor}};
    for (const StepSpec &step : manifest.steps) {
        if (step.end_channel > manifest.y_channels) {
            problems.push_back("step " + step.graph + " fills channels " + std::to_string(step.first_channel) + " to " +
                               std::to_string(step.end_channel - 1) + " of " + std::to_string(channels));
        }
    }
    for (const auto &[kind, positions] : kinds) {
        std::vector<int64_t> changes(channels + 1, 0);
        for (const StepSpec &step : manifest.steps) {
            const bool filled = step.positions == Positions::all || step.positions == positions;
            if (!filled || step.end_channel > manifest.y_channels) continue;
            ++changes[static_cast<size_t>(step.first_channel)];
            --changes[static_cast<size_t>(step.end_channel)];
        }
        size_t wrong = 0, first = 0;
        int64_t times = 0;
        for (size_t channel = 0; channel < channels; ++channel) {
            times += changes[channel];
            if (times != 1 && wrong++ == 0) first = channel;
        }
        if (wrong > 0) {
            problems.push_back(std::to_string(wrong) + " channels of y are not filled exactly once at " + kind +
                               "s, the first is " + std::to_string(first));
        }
    }
}

}  // namespace

std::vector<std::string> wiring_problems(const Manifest &manifest) {
    const Arithmetic *arithmetic = arithmetic_named(manifest.arithmetic);
    if (arithmetic == nullptr) {
        std::string known;
        for (const Arithmetic *one : arithmetics) known += (known.empty() ? "" : ", ") + std::string(one->name);
        return {"arithmetic '" + shortened(manifest.arithmetic, 40) + "'; this reader knows " + known};
    }
    Problems names{"g_a", "h_a", "h_s"};
    Tensors seen;  // its keys alone matter
    for (const StepSpec &step : manifest.steps) {
        if (seen.emplace(step.graph, TensorSpec()).second) names.push_back(step.graph);
    }
    names.insert(names.end(), {"finish", "g_s"});
    std::string missing;
    for (const std::string &name : names) {
        if (!manifest.graphs.count(name)) missing += (missing.empty() ? "" : ", ") + name;
    }
    if (!missing.empty()) return {"graphs are missing: " + missing};
    const auto graph = [&](const std::string &name) -> const GraphSpec & { return manifest.graph(name).spec; };

    Problems problems;
    if (manifest.padding.multiple % hyper_stride != 0) {
        problems.push_back("padding is to a multiple of " + std::to_string(manifest.padding.multiple) +
                           "; expected a multiple of " + std::to_string(hyper_stride));
    }
    const TensorSpec x{"float32",
                       {{Dim::Side::fixed, 1}, {Dim::Side::fixed, 3}, {Dim::Side::height, 0}, {Dim::Side::width, 0}}};
    const TensorSpec y = latent(manifest.y_channels, latent_stride, latent_stride);
    const TensorSpec z = latent(manifest.z_channels, hyper_stride, hyper_stride);
    exactly(graph("g_a"), {{"x", x}}, {{"y", y}}, problems);
    exactly(graph("h_a"), {{"y", y}}, {{"z_symbols", z}}, problems);
    exactly(graph("g_s"), {{"y_hat", y}}, {{"x_hat", x}}, problems);
    tilings(manifest, problems);

    Tensors state{{"z_symbols", z}};
    advance(graph("h_s"), state, problems);
    for (size_t number = 0; number < manifest.steps.size(); ++number) {
        const StepSpec &step = manifest.steps[number];
        const std::string expected = std::string(number < 10 ? "step_0" : "step_") + std::to_string(number);
        if (step.graph != expected) {
            problems.push_back("step " + std::to_string(number) + " has graph " + step.graph + "; expected " +
                               expected);
        }
        advance(graph(step.graph), state, problems);
        const Tensors expected_outputs{{step.given(*arithmetic), part(step, arithmetic->dtype)},
                                       {step.means(), part(step)}};
        gives(graph(step.graph), expected_outputs, problems);
        state[step.symbols()] = part(step);
    }
    advance(graph("finish"), state, problems);
    gives(graph("finish"), {{"y_hat", y}}, problems);
    coverage(manifest, problems);
    if (arithmetic == &integer_arithmetic && !manifest.certificate) {
        problems.emplace_back("there is no certificate, by which engines prove that they compute integers exactly");
    }
    for (auto name = names.begin() + 2; name != names.end() - 1; ++name) {
        if (!graph(*name).exact) problems.push_back("graph " + *name + " is not exact; the entropy path has to be");
    }
    return problems;
}

}  // namespace mlic
