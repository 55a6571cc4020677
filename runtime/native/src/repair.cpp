// Candidates, the search for sets of them, and the costs of sets. Every size is bounded by the reach, whatever a file
// holds.
#include "repair.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace mlic {
namespace {

constexpr double infinite = std::numeric_limits<double>::infinity();
constexpr int lowest_level = -27, end_level = -7;  // noise of 2^-27 to 2^-8
// An explanation may be less likely than a checksum that fits by chance, by so many nats: the true one is still found
// among some e^5 false ones, and later steps tell them apart.
constexpr double margin = 5.0;

// log(e^left + e^right), as numpy's logaddexp computes it.
double log_of_sum(double left, double right) {
    if (left == right) return left + std::log(2.0);
    const double difference = left - right;
    return difference > 0 ? left + std::log1p(std::exp(-difference)) : right + std::log1p(std::exp(difference));
}

// Calls `found(left position, right position)` for all pairs with left[a] == right[b] ^ target.
template <typename Found>
void join(const std::vector<uint32_t> &left, const std::vector<uint32_t> &right, uint32_t target, Found found) {
    struct Keyed {
        uint32_t value, place;
    };
    std::vector<Keyed> ordered(left.size());
    for (uint32_t place = 0; place < left.size(); ++place) ordered[place] = {left[place], place};
    const auto below = [](const Keyed &one, const Keyed &two) { return one.value < two.value; };
    std::sort(ordered.begin(), ordered.end(), below);
    for (uint32_t place = 0; place < right.size(); ++place) {
        const auto equal = std::equal_range(ordered.begin(), ordered.end(), Keyed{right[place] ^ target, 0}, below);
        for (auto one = equal.first; one != equal.second; ++one) found(one->place, place);
    }
}

// The exclusive or of every subset; bit k of the position says whether effect k is in it.
std::vector<uint32_t> sums(const uint32_t *effects, size_t count) {
    std::vector<uint32_t> all{0};
    for (size_t k = 0; k < count; ++k) {
        for (size_t subset = 0; subset < size_t{1} << k; ++subset) all.push_back(all[subset] ^ effects[k]);
    }
    return all;
}

}  // namespace

Repair::Repair(View<float> scale_table, const Checksum &checksum)
    : bounds_(scale_table.begin(), scale_table.end() - 1),
      checksum_(&checksum),
      reach_(checksum.width() == 16 ? Reach{1024, 512, 96, 20} : Reach{8192, 2048, 256, 26}) {}

std::vector<Candidate> Repair::candidates(View<uint8_t> indexes, View<float> scales) const {
    std::vector<double> distances(indexes.size);
    const auto sides = [&](size_t place) {
        const size_t index = indexes[place];
        const double scale = scales[place];
        return std::pair(index > 0 ? scale - bounds_[index - 1] : infinite,
                         index < bounds_.size() ? bounds_[index] - scale : infinite);
    };
    for (size_t place = 0; place < indexes.size; ++place) {
        const auto [down, up] = sides(place);
        distances[place] = std::min(down, up);
    }
    std::vector<size_t> places(indexes.size);
    std::iota(places.begin(), places.end(), size_t{0});
    const auto nearer = [&](size_t one, size_t two) {
        return distances[one] < distances[two] || (distances[one] == distances[two] && one < two);
    };
    const size_t count = std::min(reach_.singles, places.size());
    std::partial_sort(places.begin(), places.begin() + static_cast<std::ptrdiff_t>(count), places.end(), nearer);
    places.resize(count);
    std::vector<Candidate> found;
    for (size_t place : places) {
        const auto [down, up] = sides(place);
        if (!std::isfinite(distances[place])) break;  // with a table of one entry there is nothing to change to
        const auto changed = static_cast<uint8_t>(up < down ? indexes[place] + 1 : indexes[place] - 1);
        const auto change = static_cast<uint8_t>(indexes[place] ^ changed);
        found.push_back({place, changed, distances[place], checksum_->effect(indexes.size - 1 - place, change)});
    }
    return found;
}

std::vector<Explanation> Repair::explanations(const std::vector<Candidate> &candidates, uint32_t difference) const {
    std::vector<uint32_t> effects;
    std::vector<double> distances;
    for (const Candidate &candidate : candidates) {
        effects.push_back(candidate.effect);
        distances.push_back(candidate.distance);
    }
    const std::vector<PlaceSet> sets = sets_with_sum(effects, difference, reach_);
    const std::vector<double> costs = costs_of(distances, sets);
    const double limit = checksum_->width() * std::log(2.0) + margin;
    std::vector<size_t> ranked;
    for (size_t set = 0; set < sets.size(); ++set) {
        if (costs[set] <= limit) ranked.push_back(set);
    }
    // Sets are in lexical order, which decides between equal costs.
    std::stable_sort(ranked.begin(), ranked.end(), [&](size_t one, size_t two) { return costs[one] < costs[two]; });
    std::vector<Explanation> found;
    for (size_t set : ranked) {
        Explanation explanation{costs[set], {}};
        for (uint32_t position : sets[set]) explanation.changes.push_back(candidates[position]);
        found.push_back(std::move(explanation));
    }
    return found;
}

std::vector<PlaceSet> sets_with_sum(const std::vector<uint32_t> &effects, uint32_t wanted, const Reach &reach) {
    std::vector<PlaceSet> found;
    const auto nearest = [&](size_t count) {
        const size_t kept = std::min(count, effects.size());
        return std::vector<uint32_t>(effects.begin(), effects.begin() + static_cast<std::ptrdiff_t>(kept));
    };
    if (wanted == 0) found.emplace_back();
    const std::vector<uint32_t> singles = nearest(reach.singles);
    for (uint32_t place = 0; place < singles.size(); ++place) {
        if (singles[place] == wanted) found.push_back({place});
    }
    const std::vector<uint32_t> pairs = nearest(reach.pairs);
    join(pairs, pairs, wanted, [&](uint32_t one, uint32_t two) {
        if (one < two) found.push_back({one, two});  // the join finds each pair both ways
    });
    const std::vector<uint32_t> triples = nearest(reach.triples);
    std::vector<uint32_t> two_sums;
    std::vector<PlaceSet::value_type> firsts, seconds;
    for (uint32_t one = 0; one < triples.size(); ++one) {
        for (uint32_t two = one + 1; two < triples.size(); ++two) {
            two_sums.push_back(triples[one] ^ triples[two]);
            firsts.push_back(one);
            seconds.push_back(two);
        }
    }
    join(two_sums, triples, wanted, [&](uint32_t pair, uint32_t third) {
        if (seconds[pair] < third) found.push_back({firsts[pair], seconds[pair], third});  // likewise, three ways
    });
    const std::vector<uint32_t> any = nearest(reach.any);
    const size_t half = any.size() / 2;
    join(sums(any.data(), half), sums(any.data() + half, any.size() - half), wanted,
         [&](uint32_t left, uint32_t right) {
             PlaceSet chosen;
             for (uint32_t place = 0; place < any.size(); ++place) {
                 const bool taken = place < half ? left >> place & 1 : right >> (place - half) & 1;
                 if (taken) chosen.push_back(place);
             }
             found.push_back(std::move(chosen));
         });
    std::sort(found.begin(), found.end());
    found.erase(std::unique(found.begin(), found.end()), found.end());
    return found;
}

std::vector<double> costs_of(const std::vector<double> &distances, const std::vector<PlaceSet> &sets) {
    if (sets.empty()) return {};
    double no_change = -infinite;
    std::vector<double> likelihoods(sets.size(), -infinite);
    std::vector<double> ratios(distances.size());
    for (int exponent = lowest_level; exponent < end_level; ++exponent) {
        const double level = std::ldexp(1.0, exponent);
        double nothing = 0;
        for (size_t place = 0; place < distances.size(); ++place) {
            const double crossed = std::log(0.5) - distances[place] / level;
            const double stayed = std::log1p(-std::exp(crossed));
            nothing += stayed;
            ratios[place] = crossed - stayed;
        }
        no_change = log_of_sum(no_change, nothing);
        for (size_t set = 0; set < sets.size(); ++set) {
            double sum = 0;
            for (uint32_t place : sets[set]) sum += ratios[place];
            likelihoods[set] = log_of_sum(likelihoods[set], nothing + sum);
        }
    }
    std::vector<double> costs(sets.size());
    std::transform(likelihoods.begin(), likelihoods.end(), costs.begin(),
                   [no_change](double likelihood) { return no_change - likelihood; });
    return costs;
}

}  // namespace mlic
