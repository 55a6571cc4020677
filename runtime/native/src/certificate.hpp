// The certificate of an integer bundle, what its entropy path gives for known inputs: twin of runtime/certificate.py,
// whose head says how inputs and hashes are made.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "bytes.hpp"
#include "manifest.hpp"
#include "tensor.hpp"

namespace mlic {

// A certificate may come from anybody, and engines run it before anything else.
constexpr uint64_t max_certificate_bytes = 1U << 20;  // one case of 25 graphs has 2.3 kB

// One run of the entropy path.
struct Case {
    int64_t height = 0;  // of the padded picture, in pixels
    int64_t width = 0;
    int64_t seed = 0;
    int64_t magnitude = 0;                      // ordinary symbols lie within +-magnitude, smaller ones oftener
    int64_t outliers = 0;                       // one symbol in so many is as large as may be; 0 for none
    std::map<std::string, std::string> sha256;  // what has to come out: of each graph's outputs, lower-case hex
};

struct Certificate {
    std::vector<Case> cases;  // one or more
    std::string sha256;       // of the file
};

// Parses a certificate and sees that it covers the entropy path of its bundle. Throws Failure(bad_bundle) that lists
// all wrong entries.
Certificate certificate_from_json(Bytes text, const Manifest &manifest);

// The first outputs of SplitMix64 (Steele, Lea, Flood 2014).
std::vector<uint64_t> splitmix64(uint64_t seed, size_t count);

// Made symbols, whole numbers within +-(2^24 - 1). `seed` is of SplitMix64.
std::vector<float> symbols_of(const Case &one, uint64_t seed, size_t count);

// The SHA-256 of a graph's outputs, lower-case hex.
std::string digest_of(const GraphSpec &spec, const Arrays &outputs);

}  // namespace mlic
