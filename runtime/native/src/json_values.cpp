// The parser with what it must not be given.
#include "json_values.hpp"

#include <algorithm>

#include "failure.hpp"

namespace mlic {
namespace {

constexpr size_t most_shown = 300;  // bytes of what the parser says, which may quote the file

[[noreturn]] void refuse(const std::string &text) { throw Failure(Status::bad_bundle, text); }

}  // namespace

Json json_from(Bytes text, const std::string &name, const JsonWatch &watch) {
    const auto check_depth = [&](int depth, Json::parse_event_t event, Json &value) {
        const bool begins = event == Json::parse_event_t::object_start || event == Json::parse_event_t::array_start;
        if (begins && depth >= max_depth) {
            refuse(name + ": objects and lists lie more than " + std::to_string(max_depth) + " deep in one another");
        }
        if (watch) watch(depth, event, value);
        return true;
    };
    try {
        return Json::parse(text.begin(), text.end(), check_depth);
    } catch (const Json::exception &error) {
        std::string reason = std::string(error.what()).substr(0, most_shown);
        std::replace_if(
            reason.begin(), reason.end(), [](char byte) { return byte < ' ' || byte > '~'; }, '?');
        refuse(name + " is not JSON: " + reason);
    }
}

std::string shown(const Json &value) { return value.dump(-1, ' ', true, Json::error_handler_t::replace).substr(0, 40); }

std::optional<int64_t> integer_from(const Json &value) {
    if (!value.is_number_integer()) return std::nullopt;
    if (value.is_number_unsigned() && value.get<uint64_t>() > INT64_MAX) return std::nullopt;
    return value.get<int64_t>();
}

bool is_hex(const std::string &text, size_t digits) {
    return text.size() == digits && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

}  // namespace mlic
