// What the probe tells of certificates: made symbols, hashes of arrays, keys of the cache.
#pragma once

#include <string>
#include <vector>

#include "bundle.hpp"
#include "certificate.hpp"
#include "certificate_cache.hpp"
#include "graph_checks.hpp"
#include "probe_io.hpp"

namespace probe {

// Magnitude, outliers, seed and count; gives outputs of SplitMix64 and made symbols.
inline Answer symbols_of_case(Arguments &arguments) {
    mlic::Case one;
    one.magnitude = arguments.number<int64_t>();
    one.outliers = arguments.number<int64_t>();
    const auto seed = arguments.number<uint64_t>();
    const auto count = arguments.number<uint64_t>();
    return {blob(mlic::splitmix64(seed, count)), blob(mlic::symbols_of(one, seed, count))};
}

// Name, dtype, shape and values of each output in turn.
inline Answer digest_of_outputs(Arguments &arguments) {
    mlic::GraphSpec spec;
    mlic::Arrays outputs;
    std::vector<Blob> values;
    values.reserve(arguments.left());  // arrays point into them
    while (arguments.left() > 0) {
        const std::string name = arguments.text(), dtype = arguments.text();
        mlic::Tensor &array = outputs[name];
        array.dtype = mlic::dtype_of(dtype);
        array.shape = arguments.array<int64_t>();
        values.push_back(arguments.bytes());
        array.data = values.back().data();
        spec.output_order.push_back(name);
    }
    return {blob(mlic::digest_of(spec, outputs))};
}

// A bundle's folder and an engine's fingerprint.
inline Answer key_of_certificate(Arguments &arguments) {
    const mlic::Bundle bundle = mlic::Bundle::open(std::filesystem::path(arguments.text()));
    return {blob(mlic::certificate_key(bundle.manifest(), *bundle.certificate(), arguments.text()))};
}

}  // namespace probe
