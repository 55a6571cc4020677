// Arrays on their way from graph to graph, by name.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bytes.hpp"

namespace mlic {

enum class DType { float32, float16, int32, int64, uint8, int8 };

// A dense array in C order. Copies share the memory, and nobody writes to it once it is made.
struct Tensor {
    DType dtype = DType::float32;
    std::vector<int64_t> shape;
    std::shared_ptr<void> memory;  // keeps `data` alive: a vector, or a value of the engine's
    void *data = nullptr;

    static Tensor from(std::vector<float> values, std::vector<int64_t> shape) {
        auto owned = std::make_shared<std::vector<float>>(std::move(values));
        float *first = owned->data();
        return {DType::float32, std::move(shape), std::move(owned), first};
    }

    size_t count() const {
        size_t product = 1;
        for (const int64_t side : shape) product *= static_cast<size_t>(side);
        return product;
    }

    // The elements of a uint8 tensor.
    Bytes bytes() const {
        assert(dtype == DType::uint8);
        return {static_cast<const uint8_t *>(data), count()};
    }

    // The elements of a float32 tensor.
    View<float> floats() const {
        assert(dtype == DType::float32);
        return {static_cast<const float *>(data), count()};
    }
};

using Arrays = std::map<std::string, Tensor>;

}  // namespace mlic
