// The ways to cut each side, and the pair of them that computes least.
#include "tiles.hpp"

#include <algorithm>
#include <cassert>
#include <utility>

namespace mlic {
namespace {

// A side cut into `tiles` of `size` pixels, halos included.
struct Cut {
    int64_t size;
    int64_t tiles;
};

struct Place {
    int64_t start;
    int64_t kept_start;
    int64_t kept_size;
};

int64_t divided_up(int64_t number, int64_t divisor) { return (number + divisor - 1) / divisor; }

// The ways to cut a side, the largest tiles first; those over `largest` only if there are no others.
std::vector<Cut> cuts_of(int64_t length, const Tiling &tiling, int64_t largest) {
    const int64_t multiple = tiling.multiple, overlap = 2 * tiling.halo;
    std::vector<Cut> cuts{{length, 1}};
    for (int64_t count = 2; count <= length / multiple; ++count) {
        const int64_t size = divided_up(length + overlap * (count - 1), count * multiple) * multiple;
        if (size - overlap < multiple || size >= length) break;
        // Rounded up, the last tile may have nothing left to do; then fewer do as well.
        if (size < cuts.back().size && (count - 2) * (size - overlap) < length - size) cuts.push_back({size, count});
    }
    const auto fits = std::find_if(cuts.begin(), cuts.end(), [&](const Cut &cut) { return cut.size <= largest; });
    return {fits == cuts.end() ? cuts.end() - 1 : fits, cuts.end()};
}

// The pair that computes least within `tile_pixels`, or has the smallest tiles if none is.
std::pair<Cut, Cut> best_cuts(const std::vector<Cut> &down, const std::vector<Cut> &across, int64_t tile_pixels) {
    std::pair<Cut, Cut> best{down.back(), across.back()};
    std::optional<std::pair<int64_t, int64_t>> least;
    for (const Cut &rows : down) {
        // Larger tiles overlap less: the first cut across that fits is the best for these rows.
        const int64_t widest = tile_pixels / rows.size;
        const auto columns = std::lower_bound(across.begin(), across.end(), widest,
                                              [](const Cut &cut, int64_t limit) { return cut.size > limit; });
        if (columns == across.end()) continue;
        const std::pair<int64_t, int64_t> computed{rows.size * rows.tiles * columns->size * columns->tiles,
                                                   rows.tiles * columns->tiles};
        if (least && !(computed < *least)) continue;
        best = {rows, *columns};
        least = computed;
    }
    return best;
}

// For each tile along a side: where it begins, where what it keeps begins, and how long that is.
std::vector<Place> places_of(int64_t length, const Cut &cut, int64_t halo) {
    std::vector<Place> places;
    for (int64_t number = 0; number < cut.tiles; ++number) {
        const int64_t start = std::min(number * (cut.size - 2 * halo), length - cut.size);
        places.push_back({start, number == 0 ? 0 : start + halo, 0});
    }
    for (size_t number = 0; number < places.size(); ++number) {
        const int64_t end = number + 1 < places.size() ? places[number + 1].kept_start : length;
        places[number].kept_size = end - places[number].kept_start;
    }
    return places;
}

}  // namespace

Box Box::divided(int64_t stride) const {
    assert(top % stride == 0 && left % stride == 0 && height % stride == 0 && width % stride == 0);
    return {top / stride, left / stride, height / stride, width / stride};
}

std::optional<Box> Box::common(const Box &other) const {
    const int64_t first_row = std::max(top, other.top), first_column = std::max(left, other.left);
    const int64_t rows = std::min(bottom(), other.bottom()) - first_row;
    const int64_t columns = std::min(right(), other.right()) - first_column;
    if (rows <= 0 || columns <= 0) return std::nullopt;
    return Box{first_row, first_column, rows, columns};
}

std::vector<Tile> tile_grid(int64_t height, int64_t width, const std::optional<Tiling> &tiling, int64_t tile_pixels,
                            const std::array<int64_t, 2> &largest) {
    const Box whole{0, 0, height, width};
    if (!tiling || (height * width <= tile_pixels && height <= largest[0] && width <= largest[1])) {
        return {{whole, whole}};
    }
    const auto [down, across] =
        best_cuts(cuts_of(height, *tiling, largest[0]), cuts_of(width, *tiling, largest[1]), tile_pixels);
    const std::vector<Place> columns = places_of(width, across, tiling->halo);
    std::vector<Tile> tiles;
    for (const Place &row : places_of(height, down, tiling->halo)) {
        for (const Place &column : columns) {
            tiles.push_back({{row.start, column.start, down.size, across.size},
                             {row.kept_start, column.kept_start, row.kept_size, column.kept_size}});
        }
    }
    return tiles;
}

}  // namespace mlic
