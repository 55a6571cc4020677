// certificate.json: the same entries are refused as in runtime/certificate.py.
#include "certificate.hpp"

#include <optional>

#include "failure.hpp"
#include "json_values.hpp"
#include "sha256.hpp"
#include "text.hpp"

namespace mlic {
namespace {

constexpr const char *file_name = "certificate.json";
constexpr const char *format = "mlic-certificate";
constexpr int format_version = 1;
constexpr size_t max_cases = 8;
constexpr int64_t max_case_pixels = 1 << 18;
constexpr int64_t max_magnitude = 1 << 20;
constexpr int64_t max_outliers = int64_t{1} << 32;
constexpr size_t sha256_digits = 64;

[[noreturn]] void refuse(const std::string &text) { throw Failure(Status::bad_bundle, file_name + text); }

// One entry of the list of cases being read; notes what is wrong with it.
class CaseReader {
   public:
    CaseReader(const Json &value, size_t number, std::vector<std::string> &problems)
        : value_(value), name_("cases[" + std::to_string(number) + "] "), problems_(problems) {}

    Case read(const Manifest &manifest) {
        Case one;
        if (!value_.is_object()) {
            problem("is " + shown(value_) + "; expected an object");
            return one;
        }
        const size_t before = problems_.size();
        const int64_t multiple = manifest.padding.multiple;
        one.height = number("height", multiple, max_case_pixels, multiple);
        one.width = number("width", multiple, max_case_pixels, multiple);
        one.seed = number("seed", 0, INT64_MAX);
        one.magnitude = number("magnitude", 0, max_magnitude);
        one.outliers = number("outliers", 0, max_outliers);
        if (problems_.size() == before && one.height * one.width > max_case_pixels) {
            problem("has " + std::to_string(one.width) + "x" + std::to_string(one.height) +
                    " pixels; expected at most " + std::to_string(max_case_pixels));
        }
        one.sha256 = hashes(chain_names(manifest));
        return one;
    }

   private:
    void problem(const std::string &text) { problems_.push_back(name_ + text); }

    int64_t number(const char *key, int64_t least, int64_t most, int64_t multiple = 1) {
        const Json found = value_.value(key, Json());
        const std::optional<int64_t> value = integer_from(found);
        if (value && *value >= least && *value <= most && *value % multiple == 0) return *value;
        problem("has " + std::string(key) + " " + shown(found) + "; expected " + std::to_string(least) + " to " +
                std::to_string(most) + (multiple > 1 ? ", a multiple of " + std::to_string(multiple) : ""));
        return least;
    }

    std::map<std::string, std::string> hashes(const std::vector<std::string> &names) {
        const Json found = value_.value("sha256", Json());
        bool complete = found.is_object() && found.size() == names.size(), hex = true;
        for (const std::string &name : names) complete = complete && found.contains(name);
        if (!complete) {
            problem("has no sha256 of each of " + listed(names, ", ") + ", and of no others");
            return {};
        }
        std::map<std::string, std::string> hashes;
        for (const auto &[name, hash] : found.items()) {
            hex = hex && hash.is_string() && is_hex(hash.get_ref<const std::string &>(), sha256_digits);
            if (hex) hashes[name] = hash.get<std::string>();
        }
        if (!hex) problem("has a sha256 that is not 64 hexadecimal digits");
        return hashes;
    }

    const Json &value_;
    std::string name_;
    std::vector<std::string> &problems_;
};

}  // namespace

Certificate certificate_from_json(Bytes text, const Manifest &manifest) {
    const Json value = json_from(text, file_name);
    if (!value.is_object() || value.value("format", Json()) != format) {
        refuse(std::string(" is not a certificate: its format is not '") + format + "'");
    }
    const Json version = value.value("format_version", Json()), cases = value.value("cases", Json());
    const std::optional<int64_t> number = integer_from(version);
    if (!number || *number < 1 || *number > format_version) {
        refuse(": format version " + shown(version) + "; this reader knows 1 to " + std::to_string(format_version));
    }
    if (!cases.is_array() || cases.empty() || cases.size() > max_cases) {
        refuse(": cases are no list of 1 to " + std::to_string(max_cases));
    }
    std::vector<std::string> problems;
    Certificate certificate;
    for (size_t place = 0; place < cases.size(); ++place) {
        certificate.cases.push_back(CaseReader(cases[place], place, problems).read(manifest));
    }
    if (!problems.empty()) refuse(": " + listed(problems));
    Sha256 hash;
    hash.add(text);
    certificate.sha256 = hash.finish();
    return certificate;
}

}  // namespace mlic
