// JSON that may come from anybody: twin of runtime/strict_json.py. What is refused is the same in both.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "bytes.hpp"

namespace mlic {

using Json = nlohmann::json;

constexpr int max_depth = 32;  // of objects and lists in one another

// Called with depth, kind and, for keys, text of what is read, in the order of the file.
using JsonWatch = std::function<void(int, Json::parse_event_t, const Json &)>;

// Parses a file, `name` in errors. Throws Failure(bad_bundle).
Json json_from(Bytes text, const std::string &name, const JsonWatch &watch = {});

// The beginning of a value, for errors.
std::string shown(const Json &value);

// A whole number that fits; JSON's may be larger.
std::optional<int64_t> integer_from(const Json &value);

// Whether a text is so many lower-case hexadecimal digits.
bool is_hex(const std::string &text, size_t digits);

}  // namespace mlic
