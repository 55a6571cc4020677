// One kind of problem after another, the cheapest first: no file is read before its size is known.
#include "bundle_files.hpp"

#include <algorithm>
#include <map>

#include "failure.hpp"
#include "text.hpp"

namespace mlic {
namespace {

constexpr uint64_t max_graph_bytes = (uint64_t{1} << 31) - 1;  // what protobuf, hence ONNX, can hold
constexpr uint64_t max_all_bytes = uint64_t{1} << 33;          // of all graphs; full-size models have 0.4 GB
constexpr const char *suffix = ".onnx";

[[noreturn]] void refuse(const std::string &text) { throw Failure(Status::bad_bundle, text); }

// Refuses with a list of the paths for which `is_wrong` is true.
template <typename IsWrong>
void refuse_where(const std::vector<std::string> &paths, const std::string &text, const IsWrong &is_wrong) {
    std::vector<std::string> wrong;
    std::copy_if(paths.begin(), paths.end(), std::back_inserter(wrong), is_wrong);
    if (!wrong.empty()) refuse(text + listed(wrong, ", "));
}

void require_inside(const std::string &where, const FileSource &source, const std::vector<std::string> &paths) {
    refuse_where(paths, where + ": paths lead out of the folder: ",
                 [&](const std::string &path) { return !source.is_inside(path); });
}

bool is_onnx(const std::string &path) {
    const std::string end = suffix;
    return path.size() >= end.size() && path.compare(path.size() - end.size(), end.size(), end) == 0;
}

}  // namespace

std::vector<uint8_t> read_limited(const std::string &where, const FileSource &source, const std::string &path,
                                  uint64_t limit) {
    require_inside(where, source, {path});
    if (!source.is_file(path)) refuse(where + ": cannot read " + path + ": there is no such regular file");
    try {
        return source.read(path, limit);
    } catch (const Failure &failure) {
        throw Failure(failure.status, where + ": " + failure.what());
    }
}

void check_graph_files(const std::string &where, const FileSource &source, const std::vector<BundleFile> &files,
                       bool every_byte) {
    std::vector<std::string> paths;  // each file is looked at once, however often it is named
    for (const auto &[path, sha256] : files) {
        if (std::find(paths.begin(), paths.end(), path) == paths.end()) paths.push_back(path);
    }
    require_inside(where, source, paths);
    // Engines take the suffix for the format; others than ONNX are not what this file has checked.
    refuse_where(paths, where + ": graphs have to be files .onnx: ",
                 [](const std::string &path) { return !is_onnx(path); });
    refuse_where(paths, where + ": missing ", [&](const std::string &path) { return !source.is_file(path); });
    uint64_t largest = 0, all = 0;
    for (const std::string &path : paths) {
        const uint64_t size = source.size(path);
        largest = std::max(largest, size);
        all = size > UINT64_MAX - all ? UINT64_MAX : all + size;
    }
    if (largest > max_graph_bytes || all > max_all_bytes) {
        refuse(where + ": graphs of " + std::to_string(largest) + " bytes, " + std::to_string(all) +
               " in all; the limits are " + std::to_string(max_graph_bytes) + " and " + std::to_string(max_all_bytes));
    }
    if (!every_byte) return;
    std::map<std::string, Digest> found;
    for (const std::string &path : paths) {
        try {
            found[path] = source.digest(path);
        } catch (const Failure &failure) {
            throw Failure(failure.status, where + ": " + failure.what());
        }
    }
    std::vector<std::string> changed;
    for (const auto &[path, sha256] : files) {
        if (found[path].sha256 != sha256) changed.push_back(path);
    }
    if (!changed.empty()) refuse(where + ": SHA-256 differs from the manifest's: " + listed(changed, ", "));
    refuse_where(paths, where + ": graphs keep weights in other files: ",
                 [&](const std::string &path) { return found[path].refers_elsewhere; });
}

}  // namespace mlic
