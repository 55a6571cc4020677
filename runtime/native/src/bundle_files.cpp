// One kind of problem after another, the cheapest first: no file is read before its size is known.
#include "bundle_files.hpp"

#include <algorithm>
#include <map>

#include "failure.hpp"
#include "gzip_file.hpp"
#include "text.hpp"

namespace mlic {
namespace {

constexpr const char *suffix = ".onnx", *packed_suffix = ".onnx.gz";

using Paths = std::vector<std::string>;
using Sizes = std::map<std::string, uint64_t>;

[[noreturn]] void refuse(const std::string &text) { throw Failure(Status::bad_bundle, text); }

// Runs `read` and says in its failure which bundle it was.
template <typename Read>
auto named(const std::string &where, const Read &read) {
    try {
        return read();
    } catch (const Failure &failure) {
        throw Failure(failure.status, where + ": " + failure.what());
    }
}

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

bool ends_with(const std::string &path, const std::string &end) {
    return path.size() >= end.size() && path.compare(path.size() - end.size(), end.size(), end) == 0;
}

uint64_t sum_of(const Sizes &sizes) {
    uint64_t all = 0;
    for (const auto &[path, size] : sizes) all = size > UINT64_MAX - all ? UINT64_MAX : all + size;
    return all;
}

void require_small(const std::string &where, const Sizes &sizes) {
    uint64_t largest = 0;
    for (const auto &[path, size] : sizes) largest = std::max(largest, size);
    const uint64_t all = sum_of(sizes);
    if (largest > max_graph_bytes || all > max_all_bytes) {
        refuse(where + ": graphs of " + std::to_string(largest) + " bytes, " + std::to_string(all) +
               " in all; the limits are " + std::to_string(max_graph_bytes) + " and " + std::to_string(max_all_bytes));
    }
}

void require_sound(const std::string &where, const FileSource &source, const std::vector<BundleFile> &files,
                   const Paths &paths) {
    std::map<std::string, Digest> found;
    for (const std::string &path : paths) found[path] = named(where, [&] { return source.digest(path); });
    Paths changed;
    for (const auto &[path, sha256] : files) {
        if (found[path].sha256 != sha256) changed.push_back(path);
    }
    if (!changed.empty()) refuse(where + ": SHA-256 differs from the manifest's: " + listed(changed, ", "));
    refuse_where(paths, where + ": graphs keep weights in other files: ",
                 [&](const std::string &path) { return !is_packed(path) && found[path].refers_elsewhere; });
}

// What compressed graphs say that they unpack to, one by one and all together.
void require_small_unpacked(const std::string &where, const FileSource &source, const Paths &paths,
                            const Sizes &sizes) {
    Paths packed;
    std::copy_if(paths.begin(), paths.end(), std::back_inserter(packed), is_packed);
    if (packed.empty()) return;
    Sizes unpacked, own, all = sizes;
    for (const std::string &path : packed) {
        const uint64_t size = sizes.at(path);
        if (size < least_gzip_bytes) continue;
        const auto head = named(where, [&] { return source.part(path, 0, gzip_head_size); });
        const auto end = named(where, [&] { return source.part(path, size - gzip_end_size, gzip_end_size); });
        if (const auto told = unpacked_size(head, end)) {
            unpacked[path] = all[path] = *told;
            own[path] = size;
        }
    }
    refuse_where(packed, where + ": no gzip files: ",
                 [&](const std::string &path) { return unpacked.count(path) == 0; });
    require_small(where, all);
    const std::string text = where + ": graphs unpack to more than " + std::to_string(free_bytes) + " bytes + " +
                             std::to_string(max_ratio) + " times their own: ";
    refuse_where(packed, text, [&](const std::string &path) { return unpacked[path] > most_unpacked(own[path]); });
    if (sum_of(unpacked) > most_unpacked(sum_of(own))) refuse(text + listed(packed, ", "));
}

}  // namespace

bool is_packed(const std::string &path) { return ends_with(path, packed_suffix); }

std::vector<uint8_t> read_limited(const std::string &where, const FileSource &source, const std::string &path,
                                  uint64_t limit) {
    require_inside(where, source, {path});
    if (!source.is_file(path)) refuse(where + ": cannot read " + path + ": there is no such regular file");
    return named(where, [&] { return source.read(path, limit); });
}

void check_graph_files(const std::string &where, const FileSource &source, const std::vector<BundleFile> &files,
                       bool every_byte) {
    Paths paths;  // each file is looked at once, however often it is named
    for (const auto &[path, sha256] : files) {
        if (std::find(paths.begin(), paths.end(), path) == paths.end()) paths.push_back(path);
    }
    require_inside(where, source, paths);
    // Engines take the suffix for the format; others than ONNX are not what this file has checked.
    refuse_where(paths, where + ": graphs have to be files " + suffix + " or " + packed_suffix + ": ",
                 [](const std::string &path) { return !ends_with(path, suffix) && !is_packed(path); });
    refuse_where(paths, where + ": missing ", [&](const std::string &path) { return !source.is_file(path); });
    Sizes sizes;
    for (const std::string &path : paths) sizes[path] = source.size(path);
    require_small(where, sizes);
    if (every_byte) require_sound(where, source, files, paths);
    require_small_unpacked(where, source, paths, sizes);
}

}  // namespace mlic
