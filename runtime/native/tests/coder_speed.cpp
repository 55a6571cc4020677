// How fast the coder is: 10^6 symbols of about 1 bit each on one core, sorting by row included.
//
//     coder_speed runtime/models/mlicpp-n64-m192-medium/tables.npz
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <random>

#include "ans.hpp"
#include "npz.hpp"

namespace {

constexpr size_t count = 1000000;
constexpr int repetitions = 41;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

void report(const char *what, std::vector<double> seconds) {
    std::sort(seconds.begin(), seconds.end());
    const auto rate = [](double time) { return count / time / 1e6; };
    std::printf("    %-22s median %6.1f Msymbol/s, %6.1f to %6.1f\n", what, rate(seconds[seconds.size() / 2]),
                rate(seconds.back()), rate(seconds.front()));
}

// Codes the symbols as steps of a picture, `step` at a time.
void measure(const mlic::EntropyModel &model, const mlic::CoderTables &tables, mlic::View<float> scales,
             mlic::View<int32_t> symbols, size_t step) {
    std::vector<double> indexing, slotting, adding, finishing, encoding, decoding;
    for (int repetition = 0; repetition < repetitions; ++repetition) {
        std::vector<std::vector<uint8_t>> rows;
        std::vector<mlic::Slots> slots;
        auto start = Clock::now();
        for (size_t at = 0; at < count; at += step) rows.push_back(model.build_indexes(scales.part(at, step)));
        indexing.push_back(seconds_since(start));
        start = Clock::now();
        for (size_t at = 0; at < count; at += step) {
            slots.push_back(model.y().slots_from_symbols<uint8_t>(symbols.part(at, step), rows[at / step]));
        }
        slotting.push_back(seconds_since(start));
        mlic::AnsEncoder encoder;
        start = Clock::now();
        for (size_t number = 0; number < rows.size(); ++number) {
            encoder.add<uint8_t>(tables, slots[number].slots, rows[number]);
        }
        adding.push_back(seconds_since(start));
        const auto added = Clock::now();
        const std::vector<uint32_t> words = encoder.finish();
        finishing.push_back(seconds_since(added));
        encoding.push_back(seconds_since(start));
        mlic::AnsDecoder decoder(words);
        double seconds = 0;
        for (size_t number = 0; number < rows.size(); ++number) {
            start = Clock::now();
            const mlic::Taken taken = decoder.take<uint8_t>(tables, rows[number]);
            seconds += seconds_since(start);
            const auto same = [](float one, int32_t other) { return one == static_cast<float>(other); };
            const int32_t *expected = symbols.data + number * step;
            if (taken.escapes == 0 && !std::equal(taken.symbols.begin(), taken.symbols.end(), expected, same))
                std::puts("other symbols came back");
        }
        decoding.push_back(seconds);
        decoder.finish();
        if (repetition == 0) {
            std::printf("steps of %zu symbols, %.3f bits each\n", step,
                        32.0 * static_cast<double>(words.size()) / count);
        }
    }
    report("indexes from scales", indexing);
    report("slots from symbols", slotting);
    report("encode: sort by row", adding);
    report("encode: push", finishing);
    report("encode", encoding);
    report("decode", decoding);
}

}  // namespace

int main(int argc, char **argv) {
    if (argc != 2) return std::fprintf(stderr, "usage: coder_speed tables.npz\n"), 2;
    std::ifstream file(argv[1], std::ios::binary);
    const std::vector<uint8_t> data{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    const auto model = mlic::EntropyModel::from_arrays(mlic::arrays_from_npz(data, 1U << 28));
    const mlic::CoderTables tables(model.y());
    // As in a codec, which has held a picture before: glibc keeps freed memory once an array as large was freed, and
    // gives it back to the system, page by page, until then.
    std::vector<float>(size_t{1} << 22);

    // Scales spread about a row of about 1 bit, symbols drawn from their rows.
    std::mt19937_64 random(20);
    std::normal_distribution<double> normal;
    std::vector<float> scales(count);
    for (float &scale : scales) scale = static_cast<float>(0.4 * std::exp(0.7 * normal(random)));
    std::vector<int32_t> symbols(count);
    for (size_t place = 0; place < count; ++place) {
        symbols[place] = static_cast<int32_t>(std::lrint(normal(random) * static_cast<double>(scales[place])));
    }
    for (size_t step : {count, count / 20}) measure(model, tables, scales, symbols, step);
}
