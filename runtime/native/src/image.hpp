// Pictures as the graphs see them: twin of runtime/image.py, equal to the last bit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "bytes.hpp"
#include "failure.hpp"
#include "manifest.hpp"
#include "tiles.hpp"

namespace mlic {

// Where a picture lies in its padded version; all in pixels.
struct Frame {
    int64_t height;
    int64_t width;
    int64_t padded_height;
    int64_t padded_width;
    int64_t top;   // rows above the picture
    int64_t left;  // columns left of it

    // The frame of a picture with sides of 1..2^20; odd remainders of `centre` go right and below.
    static Frame around(int64_t height, int64_t width, const Padding &padding);

    Box padded() const { return {0, 0, padded_height, padded_width}; }
};

// The frame of a picture, unless padding makes far more of it than `max_pixels`, the limit of the picture itself.
// Throws Failure with the status `refusal`.
Frame frame_within(int64_t height, int64_t width, const Padding &padding, uint64_t max_pixels, Status refusal);

// A part of the padded picture as the analysis transform takes it: [1, 3, box height, box width] in 0..1. `pixels` are
// frame.height rows, `stride` bytes apart, of `channels` bytes a pixel: 3, or 1 for grey.
std::vector<float> x_from_pixels(const uint8_t *pixels, size_t stride, unsigned channels, const Frame &frame,
                                 const Padding &padding, const Box &box);

// Writes the pixels in a part of what the synthesis gave: clipped, rounded to the nearest, ties to even, 3 bytes a
// pixel, rows `stride` bytes apart. `x_hat` is [1, 3, height, width]. Throws Failure(engine_failed) at NaN, and then
// has written nothing.
void pixels_in_box(View<float> x_hat, int64_t height, int64_t width, const Box &box, uint8_t *pixels, size_t stride);

// Makes the three planes of a picture the mean of what they were, rounded to the nearest; see `grey_from_pixels` in
// runtime/image.py for why. `height` rows of `width` pixels, `stride` bytes apart.
void make_grey(uint8_t *pixels, size_t stride, size_t height, size_t width);

}  // namespace mlic
