// Anchors are the positions whose row plus column is odd, nonanchors the others. A packed half is half as wide: column
// k holds column 2k + 1 where the row plus the kind is odd (anchor, row even; nonanchor, row odd), else column 2k.
#include "checkerboard.hpp"

#include "failure.hpp"

namespace mlic {

std::vector<float> part_of_y(View<float> y, int64_t height, int64_t width, const StepSpec &step) {
    const bool all = step.positions == Positions::all;
    const auto plane = static_cast<size_t>(height * width);
    const auto first = static_cast<size_t>(step.first_channel), end = static_cast<size_t>(step.end_channel);
    if (end * plane > y.size) throw Failure(Status::invalid_argument, "y has fewer channels than its steps");
    if (!all && width % 2 != 0) {
        throw Failure(Status::invalid_argument, "a checkerboard needs an even width; got " + std::to_string(width));
    }
    const View<float> channels = y.part(first * plane, (end - first) * plane);
    if (all) return channels.copy();
    std::vector<float> packed;
    packed.reserve(channels.size / 2);
    const size_t rows = (end - first) * static_cast<size_t>(height);
    for (size_t row = 0; row < rows; ++row) {
        const bool odd_row = row % static_cast<size_t>(height) % 2 != 0;
        const float *at = channels.data + row * static_cast<size_t>(width);
        const size_t column = odd_row == (step.positions == Positions::nonanchor) ? 1 : 0;
        for (size_t k = column; k < static_cast<size_t>(width); k += 2) packed.push_back(at[k]);
    }
    return packed;
}

}  // namespace mlic
