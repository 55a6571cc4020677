// What reading any of the arrays in tables.npz needs; for the files that read them.
#pragma once

#include <cstring>
#include <string>
#include <vector>

#include "failure.hpp"
#include "npz.hpp"

namespace mlic::npz {

[[noreturn]] inline void refuse(const std::string &where, const std::vector<std::string> &problems) {
    std::string text;
    for (const std::string &problem : problems) text += (text.empty() ? "" : "; ") + problem;
    throw Failure(Status::bad_bundle, where + ": " + text);
}

struct Expected {
    std::string name;
    const char *dtype;
};

inline void require(const NpzArrays &arrays, const std::vector<Expected> &expected) {
    std::vector<std::string> problems;
    for (const Expected &one : expected) {
        const auto found = arrays.find(one.name);
        if (found == arrays.end()) {
            problems.push_back(one.name + " is missing");
        } else if (found->second.dtype != one.dtype || found->second.shape.size() != 1) {
            problems.push_back(one.name + " is " + found->second.text() + "; expected " + one.dtype + " [n]");
        }
    }
    if (!problems.empty()) refuse("tables", problems);
}

template <typename T>
std::vector<T> values_of(const NpzArrays &arrays, const std::string &name) {
    const std::vector<uint8_t> &data = arrays.at(name).data;
    std::vector<T> values(data.size() / 4);
    for (size_t place = 0; place < values.size(); ++place) {
        const uint32_t bits = u32_at(data, 4 * place);
        std::memcpy(&values[place], &bits, 4);
    }
    return values;
}

}  // namespace mlic::npz
