// Which half of a latent's positions a step codes, and how the half is packed: twin of runtime/checkerboard.py.
#pragma once

#include <cstdint>
#include <vector>

#include "bytes.hpp"
#include "manifest.hpp"

namespace mlic {

// The part of y, [1, M, height, width], that one step codes: [1, C, height, width / 2], or all columns for `all`.
// Throws Failure(invalid_argument) if a half is asked of an odd width or y has other channels than M.
std::vector<float> part_of_y(View<float> y, int64_t height, int64_t width, const StepSpec &step);

}  // namespace mlic
