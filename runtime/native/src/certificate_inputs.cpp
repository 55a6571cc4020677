// What goes into the graphs of a certificate's case, and the hashes of what comes out.
#include <cstring>

#include "certificate.hpp"
#include "graph_checks.hpp"
#include "sha256.hpp"

namespace mlic {
namespace {

constexpr uint64_t golden = 0x9E3779B97F4A7C15;  // SplitMix64's increment

Bytes bytes_of(const std::string &text) { return {reinterpret_cast<const uint8_t *>(text.data()), text.size()}; }

// The bytes of an array, negative zeros as zeros: -0 + 0 is 0, and no other number changes.
std::vector<uint8_t> without_negative_zeros(const Tensor &array) {
    std::vector<uint8_t> bytes(array.count() * size_of(array.dtype));
    if (!bytes.empty()) std::memcpy(bytes.data(), array.data, bytes.size());
    if (array.dtype == DType::float32) {
        for (size_t at = 0; at < bytes.size(); at += sizeof(float)) {
            float value;
            std::memcpy(&value, bytes.data() + at, sizeof value);
            value += 0.0F;
            std::memcpy(bytes.data() + at, &value, sizeof value);
        }
    } else if (array.dtype == DType::float16) {
        for (size_t at = 0; at < bytes.size(); at += 2) {
            if (bytes[at] == 0 && bytes[at + 1] == 0x80) bytes[at + 1] = 0;
        }
    }
    return bytes;
}

}  // namespace

std::vector<uint64_t> splitmix64(uint64_t seed, size_t count) {
    std::vector<uint64_t> outputs(count);
    for (uint64_t &z : outputs) {
        z = seed += golden;
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
        z = (z ^ z >> 27) * 0x94D049BB133111EB;
        z ^= z >> 31;
    }
    return outputs;
}

std::vector<float> symbols_of(const Case &one, uint64_t seed, size_t count) {
    const auto span = static_cast<uint64_t>(one.magnitude) + 1, outliers = static_cast<uint64_t>(one.outliers);
    std::vector<float> symbols;
    symbols.reserve(count);
    for (const uint64_t r : splitmix64(seed, count)) {
        auto value = static_cast<int64_t>((r >> 16) % span) - static_cast<int64_t>((r >> 40) % span);
        if (outliers > 0 && r % outliers == 0) {
            const uint64_t bits = 1 + (r >> 32) % 24;
            const auto size = static_cast<int64_t>(r >> 40 & ((uint64_t{1} << bits) - 1));
            value = (r >> 20 & 1) != 0 ? -size : size;
        }
        symbols.push_back(static_cast<float>(value));
    }
    return symbols;
}

std::string digest_of(const GraphSpec &spec, const Arrays &outputs) {
    Sha256 hash;
    for (const std::string &name : spec.output_order) {
        const Tensor &array = outputs.at(name);
        std::string line = name + " " + dtype_name(array.dtype) + " ";
        for (size_t i = 0; i < array.shape.size(); ++i) line += (i == 0 ? "" : ",") + std::to_string(array.shape[i]);
        hash.add(bytes_of(line + "\n"));
        hash.add(without_negative_zeros(array));
    }
    return hash.finish();
}

}  // namespace mlic
