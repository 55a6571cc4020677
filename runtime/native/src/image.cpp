// uint8 rows to float32 planes and back, padding and cropping.
#include "image.hpp"

#include <algorithm>
#include <array>
#include <cassert>
#include <string>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "rounding.hpp"

namespace mlic {
namespace {

// What the graphs see is padded; for a picture of one row that is 64 times what it holds.
constexpr uint64_t padded_factor = 4;
constexpr uint64_t padded_free = 1U << 20;  // small pictures are padded whatever the limit

bool holds_nan(const float *values, size_t count) {
    int found = 0;  // gathered without a branch, so that the compiler takes many at once
    for (size_t place = 0; place < count; ++place) found |= values[place] != values[place] ? 1 : 0;
    return found != 0;
}

// Clipped to 0..1, times 255, rounded to the nearest, ties to even. `from` holds no NaN.
void bytes_from_floats(const float *from, size_t count, uint8_t *to) {
    size_t place = 0;
#if defined(__SSE2__)
    const __m128 zero = _mm_setzero_ps(), one = _mm_set1_ps(1), largest = _mm_set1_ps(255);
    const auto four = [&](size_t first) {
        const __m128 clipped = _mm_min_ps(_mm_max_ps(_mm_loadu_ps(from + first), zero), one);
        return _mm_cvtps_epi32(_mm_mul_ps(clipped, largest));
    };
    for (; place + 16 <= count; place += 16) {
        const __m128i low = _mm_packs_epi32(four(place), four(place + 4));
        const __m128i high = _mm_packs_epi32(four(place + 8), four(place + 12));
        _mm_storeu_si128(reinterpret_cast<__m128i *>(to + place), _mm_packus_epi16(low, high));
    }
#endif
    for (; place < count; ++place) {
        float value = from[place] > 0.0F ? from[place] : 0.0F;
        value = value < 1.0F ? value : 1.0F;
        to[place] = static_cast<uint8_t>(rounded(value * 255.0F));
    }
}

// Which part of a picture's side lies in a part of its padded version, and where in that.
struct Span {
    size_t first;
    size_t count;
    size_t place;
};

// `length` is of the picture's side; the part begins at `start`, counted from the picture's beginning, negative in the
// padding before it, and has `size` rows or columns. `nearest`: take the picture's nearest where the part holds none.
Span span_of(int64_t length, int64_t start, int64_t size, bool nearest) {
    int64_t first = std::max<int64_t>(start, 0), end = std::min(start + size, length);
    if (first >= end) {
        first = nearest && start >= 0 ? length - 1 : 0;
        end = nearest ? first + 1 : first;
    }
    const int64_t place = std::min(std::max<int64_t>(first - start, 0), size - (end - first));
    return {static_cast<size_t>(first), static_cast<size_t>(end - first), static_cast<size_t>(place)};
}

}  // namespace

Frame Frame::around(int64_t height, int64_t width, const Padding &padding) {
    const auto padded = [&](int64_t side) {
        return (side + padding.multiple - 1) / padding.multiple * padding.multiple;
    };
    Frame frame{height, width, padded(height), padded(width), 0, 0};
    if (padding.placement == Padding::Placement::centre) {
        frame.top = (frame.padded_height - height) / 2;
        frame.left = (frame.padded_width - width) / 2;
    }
    return frame;
}

Frame frame_within(int64_t height, int64_t width, const Padding &padding, uint64_t max_pixels, Status refusal) {
    const Frame frame = Frame::around(height, width, padding);
    const uint64_t most = max_pixels > UINT64_MAX / padded_factor ? UINT64_MAX : padded_factor * max_pixels;
    const uint64_t limit = std::max(most, padded_free);
    if (static_cast<uint64_t>(frame.padded_height * frame.padded_width) > limit) {
        throw Failure(refusal, "picture of " + std::to_string(width) + " x " + std::to_string(height) +
                                   " pixels is padded to " + std::to_string(frame.padded_width) + " x " +
                                   std::to_string(frame.padded_height) + "; the limit is " + std::to_string(limit) +
                                   " pixels (" + std::to_string(padded_factor) + " times max_pixels)");
    }
    return frame;
}

std::vector<float> x_from_pixels(const uint8_t *pixels, size_t stride, unsigned channels, const Frame &frame,
                                 const Padding &padding, const Box &box) {
    if (channels != 1 && channels != 3) throw Failure(Status::invalid_argument, "a picture has 1 or 3 channels");
    std::array<float, 256> values;
    for (size_t value = 0; value < 256; ++value) values[value] = static_cast<float>(value) / 255.0F;
    const bool edge = padding.fill == Padding::Fill::edge;
    const auto across = static_cast<size_t>(box.width), down = static_cast<size_t>(box.height);
    const Span rows = span_of(frame.height, box.top - frame.top, box.height, edge);
    const Span columns = span_of(frame.width, box.left - frame.left, box.width, edge);
    const size_t left = columns.place, right = left + columns.count, top = rows.place, bottom = top + rows.count;
    std::vector<float> x(3 * down * across, 0.0F);
    for (size_t channel = 0; channel < 3; ++channel) {
        float *plane = x.data() + channel * down * across;
        for (size_t row = 0; row < rows.count; ++row) {
            const uint8_t *from =
                pixels + (rows.first + row) * stride + columns.first * channels + (channels == 3 ? channel : 0);
            float *line = plane + (top + row) * across;
            for (size_t column = 0; column < columns.count; ++column) {
                line[left + column] = values[from[column * channels]];
            }
            if (!edge) continue;
            std::fill(line, line + left, line[left]);
            std::fill(line + right, line + across, line[right - 1]);
        }
        if (!edge) continue;
        const float *first = plane + top * across, *last = plane + (bottom - 1) * across;
        for (size_t row = 0; row < top; ++row) std::copy(first, first + across, plane + row * across);
        for (size_t row = bottom; row < down; ++row) std::copy(last, last + across, plane + row * across);
    }
    return x;
}

void pixels_in_box(View<float> x_hat, int64_t height, int64_t width, const Box &box, uint8_t *pixels, size_t stride) {
    const auto across = static_cast<size_t>(width), down = static_cast<size_t>(height);
    if (x_hat.size != 3 * down * across) {
        throw Failure(Status::engine_failed, "graph g_s returned " + std::to_string(x_hat.size) + " values");
    }
    assert(box.common({0, 0, height, width}) == box);
    const auto columns = static_cast<size_t>(box.width), rows = static_cast<size_t>(box.height);
    const auto line = [&](size_t channel, size_t row) {
        return x_hat.data + (channel * down + static_cast<size_t>(box.top) + row) * across + box.left;
    };
    for (size_t row = 0; row < 3 * rows; ++row) {
        if (holds_nan(line(row / rows, row % rows), columns)) {
            throw Failure(Status::engine_failed, "graph g_s returned NaN");
        }
    }
    std::vector<uint8_t> bytes(3 * columns);  // of a row, channel by channel
    for (size_t row = 0; row < rows; ++row) {
        for (size_t channel = 0; channel < 3; ++channel) {
            bytes_from_floats(line(channel, row), columns, bytes.data() + channel * columns);
        }
        const uint8_t *red = bytes.data(), *green = red + columns, *blue = green + columns;
        uint8_t *to = pixels + row * stride;
        for (size_t column = 0; column < columns; ++column, to += 3) {
            to[0] = red[column];
            to[1] = green[column];
            to[2] = blue[column];
        }
    }
}

void make_grey(uint8_t *pixels, size_t stride, size_t height, size_t width) {
    for (size_t row = 0; row < height; ++row) {
        uint8_t *at = pixels + row * stride;
        for (size_t column = 0; column < width; ++column, at += 3) {
            std::fill_n(at, 3, static_cast<uint8_t>((at[0] + at[1] + at[2] + 1) / 3));
        }
    }
}

}  // namespace mlic
