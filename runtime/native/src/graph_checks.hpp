// Whether a graph's arrays are what the manifest says, when it is opened and when it runs. Twin of `differences` in
// backends/onnxruntime.py and of `check_arrays` in base.py.
#pragma once

#include <onnxruntime_c_api.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "manifest.hpp"
#include "ort_library.hpp"
#include "tensor.hpp"

namespace mlic {

// The dtype of a manifest's name for it. Throws Failure(bad_bundle) for others.
DType dtype_of(const std::string &name);
const char *dtype_name(DType dtype);
size_t size_of(DType dtype);
ONNXTensorElementDataType element_type(DType dtype);
// Throws Failure(engine_failed) for types that no manifest has; `what` begins the text.
DType dtype_of_element(ONNXTensorElementDataType type, const std::string &what);

// Sides of the padded picture as far as arrays have told them; 0: not yet.
struct PaddedSize {
    int64_t height = 0;
    int64_t width = 0;
};

// Compares a session's inputs and outputs with the manifest's. Throws Failure(engine_failed) with all differences.
void check_session(const OrtLibrary &library, const OrtSession *session, const GraphSpec &spec);

// Compares arrays with their specs; all of them must mean the same padded picture. `side` is "input" or "output".
// Throws Failure(engine_failed).
void check_arrays(const std::string &graph, const char *side, const Arrays &arrays, const Tensors &specs,
                  PaddedSize &size);

}  // namespace mlic
