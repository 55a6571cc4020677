// Dimensions, tensors and steps as text and as numbers.
#include "manifest.hpp"

namespace mlic {

int64_t Dim::evaluate(int64_t height, int64_t width) const {
    if (side == Side::fixed) return number;
    return (side == Side::height ? height : width) / (number ? number : 1);
}

std::string Dim::text() const {
    if (side == Side::fixed) return std::to_string(number);
    return (side == Side::height ? "height" : "width") + (number ? "/" + std::to_string(number) : "");
}

std::vector<int64_t> TensorSpec::concrete(int64_t height, int64_t width) const {
    std::vector<int64_t> sizes;
    for (const Dim &dim : shape) sizes.push_back(dim.evaluate(height, width));
    return sizes;
}

std::string TensorSpec::text() const {
    std::string dims;
    for (const Dim &dim : shape) dims += (dims.empty() ? "" : ", ") + dim.text();
    return dtype + " [" + dims + "]";
}

int64_t StepSpec::size(int64_t height, int64_t width) const {
    const int64_t columns = width / (positions == Positions::all ? latent_stride : 2 * latent_stride);
    return channels() * (height / latent_stride) * columns;
}

std::string StepSpec::renamed(const char *what) const {
    std::string name = graph;
    const std::string step = "step", other = what;
    for (size_t at = name.find(step); at != std::string::npos; at = name.find(step, at + other.size())) {
        name.replace(at, step.size(), other);
    }
    return name;
}

std::vector<std::string> chain_names(const Manifest &manifest) {
    std::vector<std::string> names{"h_s"};
    for (const StepSpec &step : manifest.steps) names.push_back(step.graph);
    names.emplace_back("finish");
    return names;
}

std::array<int64_t, 2> SizeRange::padded_max(int64_t multiple) const {
    std::array<int64_t, 2> padded = max;
    for (int64_t &side : padded) side = (side + multiple - 1) / multiple * multiple;
    return padded;
}

}  // namespace mlic
