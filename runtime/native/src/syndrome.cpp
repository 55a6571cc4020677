// SYND: log2 of the chunk length, width of a chunk's checksum, the checksums, and the CRC-32 of all indexes.
#include "syndrome.hpp"

#include <algorithm>

#include "failure.hpp"

namespace mlic {
namespace {

// Chunks of one step that are repaired at most: a file may have chunks as short as 64 indexes, all of them wrong, and
// the search must not take longer than the decoding.
constexpr size_t indexes_per_repair = 4096;
constexpr size_t free_repairs = 16;

std::vector<uint32_t> chunk_checksums(View<uint8_t> indexes, size_t chunk_length, const Checksum &checksum) {
    std::vector<uint32_t> values;
    for (size_t start = 0; start < indexes.size; start += chunk_length) {
        values.push_back(checksum.of(indexes.part(start, chunk_length)));
    }
    return values;
}

}  // namespace

SyndromeWriter::SyndromeWriter(unsigned chunk_log2, unsigned width)
    : chunk_log2_(chunk_log2), checksum_(Checksum::of_width(width)) {
    if (!checksum_ || chunk_log2 < 6 || chunk_log2 > 24) {
        throw Failure(Status::invalid_argument, "index checksums have 16 or 32 bits for 2^6..2^24 indexes");
    }
}

void SyndromeWriter::add(View<uint8_t> indexes) {
    const std::vector<uint32_t> values = chunk_checksums(indexes, size_t{1} << chunk_log2_, *checksum_);
    chunks_.insert(chunks_.end(), values.begin(), values.end());
    all_ = crc32_of(indexes, all_);
}

std::vector<uint8_t> SyndromeWriter::finish() const {
    std::vector<uint8_t> payload{static_cast<uint8_t>(chunk_log2_), static_cast<uint8_t>(checksum_->width())};
    for (uint32_t value : chunks_) checksum_->width() == 16 ? put_u16(payload, value) : put_u32(payload, value);
    put_u32(payload, all_);
    return payload;
}

SyndromeReader::SyndromeReader(Bytes payload, const std::vector<size_t> &step_sizes, View<float> scale_table) {
    const auto found = "SYND has " + std::to_string(payload.size) + " bytes; expected ";
    if (payload.size < 2) throw Failure(Status::corrupt_stream, found + "6 or more");
    const unsigned chunk_log2 = payload[0], width = payload[1];
    checksum_ = Checksum::of_width(width);
    if (!checksum_ || chunk_log2 < 6 || chunk_log2 > 24) {
        throw Failure(Status::unsupported_stream, "index checksums of " + std::to_string(width) + " bits for 2^" +
                                                      std::to_string(chunk_log2) +
                                                      " indexes; this version reads 16 or 32 bits for 2^6..2^24");
    }
    chunk_length_ = size_t{1} << chunk_log2;
    const auto chunks_of = [this](size_t size) { return size / chunk_length_ + (size % chunk_length_ ? 1 : 0); };
    uint64_t expected = 6;
    for (size_t size : step_sizes) expected += uint64_t{width / 8} * chunks_of(size);
    if (payload.size != expected) {
        throw Failure(Status::corrupt_stream, found + std::to_string(expected) + " for this picture and model");
    }
    uint64_t position = 2;
    for (size_t size : step_sizes) {
        std::vector<uint32_t> values(chunks_of(size));
        for (uint32_t &value : values) {
            value = width == 16 ? u16_at(payload, position) : u32_at(payload, position);
            position += width / 8;
        }
        steps_.push_back(std::move(values));
    }
    all_ = u32_at(payload, position);
    repair_.emplace(scale_table, *checksum_);
}

std::vector<size_t> SyndromeReader::wrong_chunks(size_t step, View<uint8_t> indexes) const {
    const std::vector<uint32_t> ours = chunk_checksums(indexes, chunk_length_, *checksum_);
    const std::vector<uint32_t> &theirs = steps_[step];
    if (ours.size() != theirs.size()) throw Failure(Status::internal, "a step has another size than announced");
    std::vector<size_t> wrong;
    for (size_t chunk = 0; chunk < ours.size(); ++chunk) {
        if (ours[chunk] != theirs[chunk]) wrong.push_back(chunk);
    }
    return wrong;
}

std::optional<Reading> SyndromeReader::reading(size_t step, const std::string &graph, View<uint8_t> indexes,
                                               View<float> scales, const std::vector<size_t> &wrong,
                                               size_t pick) const {
    const size_t chunks = wrong.empty() ? count(step) : wrong.size();
    if (chunks > free_repairs + indexes.size / indexes_per_repair) return std::nullopt;
    std::vector<size_t> starts;
    std::vector<std::vector<Explanation>> options;
    std::vector<std::vector<double>> costs;
    for (size_t number = 0; number < chunks; ++number) {
        const size_t chunk_number = wrong.empty() ? number : wrong[number];
        starts.push_back(chunk_number * chunk_length_);
        const View<uint8_t> chunk = indexes.part(starts.back(), chunk_length_);
        const uint32_t difference = checksum_->difference(checksum_->of(chunk), steps_[step][chunk_number]);
        const std::vector<Candidate> candidates = repair_->candidates(chunk, scales.part(starts.back(), chunk_length_));
        options.push_back(repair_->explanations(candidates, difference));
        if (options.back().empty()) return std::nullopt;
        costs.emplace_back();
        for (const Explanation &option : options.back()) costs.back().push_back(option.cost);
    }
    Cheapest ranked(std::move(costs));
    std::optional<Cheapest::Combination> taken = ranked.next();
    for (size_t skipped = 0; taken && skipped < pick; ++skipped) taken = ranked.next();
    if (!taken) return std::nullopt;
    Reading reading{indexes.copy(), taken->total, {}, std::nullopt};
    for (size_t number = 0; number < chunks; ++number) {
        std::vector<Candidate> &changes = options[number][taken->chosen[number]].changes;
        std::sort(changes.begin(), changes.end(),
                  [](const Candidate &a, const Candidate &b) { return a.place < b.place; });
        for (const Candidate &change : changes) {
            const size_t place = starts[number] + change.place;
            reading.changes.push_back({graph, place, indexes[place], change.index, change.distance});
            reading.indexes[place] = change.index;
        }
    }
    if (const auto following = ranked.next()) reading.next_cost = following->total;
    return reading;
}

namespace {

// std::push_heap keeps the largest on top: the cheapest is what is not after any other.
bool is_after(const Cheapest::Combination &one, const Cheapest::Combination &two) {
    if (one.total != two.total) return one.total > two.total;
    return one.chosen != two.chosen ? one.chosen > two.chosen : one.first > two.first;
}

}  // namespace

Cheapest::Cheapest(std::vector<std::vector<double>> costs) : costs_(std::move(costs)) {
    Combination first{0, std::vector<size_t>(costs_.size(), 0), 0};
    for (const std::vector<double> &options : costs_) first.total += options[0];
    heap_.push_back(std::move(first));
}

std::optional<Cheapest::Combination> Cheapest::next() {
    if (heap_.empty()) return std::nullopt;
    std::pop_heap(heap_.begin(), heap_.end(), is_after);
    Combination taken = std::move(heap_.back());
    heap_.pop_back();
    // Each combination is reached once: by raising options from left to right, each as far as it goes, before the next.
    for (size_t place = taken.first; place < costs_.size(); ++place) {
        const size_t option = taken.chosen[place] + 1;
        if (option == costs_[place].size()) continue;
        Combination raised{taken.total + costs_[place][option] - costs_[place][option - 1], taken.chosen, place};
        raised.chosen[place] = option;
        heap_.push_back(std::move(raised));
        std::push_heap(heap_.begin(), heap_.end(), is_after);
    }
    return taken;
}

}  // namespace mlic
