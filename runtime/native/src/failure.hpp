// What goes wrong inside the library, as an exception; never crosses the C ABI.
#pragma once

#include <stdexcept>
#include <string>

namespace mlic {

// Fixed values in groups of ten; `mlic_status` in mlic.h has the same.
enum class Status : int {
    ok = 0,
    invalid_argument = 10,  // a null pointer, a size of zero, a picture too large
    buffer_too_small = 11,
    out_of_memory = 12,
    truncated_stream = 20,  // the Python runtime's TruncatedStreamError
    corrupt_stream = 21,    // CorruptStreamError
    unsupported_stream = 22,  // UnsupportedStreamError
    bad_bundle = 30,          // BundleError
    engine_missing = 40,      // the ONNX Runtime library cannot be loaded
    engine_failed = 41,       // BackendError
    engine_mismatch = 42,     // EngineMismatchError
    internal = 90,
};

class Failure : public std::runtime_error {
   public:
    Failure(Status status, const std::string &text) : std::runtime_error(text), status(status) {}
    Status status;
};

}  // namespace mlic
