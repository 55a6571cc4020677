// Manifest, wiring, files, hashes, tables: in this order, and what is wrong in one of them is listed together.
#include "bundle.hpp"

#include "container.hpp"
#include "failure.hpp"

namespace mlic {
namespace {

constexpr const char *manifest_name = "manifest.json";
constexpr uint64_t max_manifest_bytes = 1U << 24;  // a codec of 30 graphs has 30 kB
constexpr uint64_t max_tables_bytes = 1U << 28;    // also after decompression; the released models have 100 kB

[[noreturn]] void refuse(const std::string &text) { throw Failure(Status::bad_bundle, text); }

std::string joined(const std::vector<std::string> &texts, const char *between) {
    std::string all;
    for (const std::string &text : texts) all += (all.empty() ? "" : between) + text;
    return all;
}

// Runs `read` and says in its failure which bundle it was.
template <typename Read>
auto named(const std::string &where, Read read) {
    try {
        return read();
    } catch (const Failure &failure) {
        throw Failure(failure.status, where + ": " + failure.what());
    }
}

using File = std::pair<std::string, std::string>;  // path and SHA-256

// Calls `is_wrong` for each file and refuses with a list of those for which it is true.
template <typename IsWrong>
void refuse_where(const std::vector<File> &files, const std::string &text, IsWrong is_wrong) {
    std::vector<std::string> wrong;
    for (const File &file : files) {
        if (is_wrong(file)) wrong.push_back(file.first);
    }
    if (!wrong.empty()) refuse(text + joined(wrong, ", "));
}

}  // namespace

Manifest read_manifest(const FileSource &source) {
    source.check();
    return named("bundle " + source.name(), [&] {
        if (!source.is_file(manifest_name)) refuse("cannot read manifest.json: there is no such file");
        return manifest_from_json(source.read(manifest_name, max_manifest_bytes));
    });
}

Bundle Bundle::open(const std::filesystem::path &folder, bool verify_hashes) {
    return open(std::make_shared<FolderSource>(folder), verify_hashes);
}

Bundle Bundle::open(std::shared_ptr<const FileSource> source, bool verify_hashes) {
    Manifest manifest = read_manifest(*source);
    const std::string where = "bundle " + manifest.name;
    if (manifest.arithmetic != float32_syndrome) {
        refuse(where + ": arithmetic '" + manifest.arithmetic + "'; this reader knows " + float32_syndrome);
    }
    const std::vector<std::string> problems = wiring_problems(manifest);
    if (!problems.empty()) refuse(where + ": " + joined(problems, "; "));

    std::vector<File> files{{manifest.tables_path, manifest.tables_sha256}};
    for (const auto &[name, graph] : manifest.graphs) {
        files.emplace_back(graph.path, graph.sha256);
        if (graph.symmetric) files.emplace_back(graph.symmetric->path, graph.symmetric->sha256);
    }
    refuse_where(files, where + ": paths lead out of the folder: ", [&](const File &file) {
        return !source->is_inside(file.first);
    });
    refuse_where(files, where + ": missing ", [&](const File &file) { return !source->is_file(file.first); });
    if (!verify_hashes) files.resize(1);
    std::map<std::string, std::string> found;  // each file is read once, however often it is named
    named(where, [&] {
        refuse_where(files, "SHA-256 differs from the manifest's: ", [&](const File &file) {
            const auto [hash, is_new] = found.try_emplace(file.first);
            if (is_new) hash->second = source->sha256(file.first);
            return hash->second != file.second;
        });
    });

    EntropyModel entropy = named(where, [&] {
        const std::vector<uint8_t> data = source->read(manifest.tables_path, max_tables_bytes);
        return EntropyModel::from_arrays(arrays_from_npz(data, max_tables_bytes));
    });
    if (entropy.z().rows() != static_cast<size_t>(manifest.z_channels)) {
        refuse(where + ": tables have " + std::to_string(entropy.z().rows()) + " rows of z; the manifest has " +
               std::to_string(manifest.z_channels) + " channels");
    }
    return Bundle(std::move(source), std::move(manifest), std::move(entropy));
}

}  // namespace mlic
