// Manifest, wiring, graphs, tables: in this order, and what is wrong in one of them is listed together.
#include "bundle.hpp"

#include "bundle_files.hpp"
#include "failure.hpp"
#include "sha256.hpp"
#include "text.hpp"

namespace mlic {
namespace {

constexpr const char *manifest_name = "manifest.json";
constexpr uint64_t max_manifest_bytes = 1U << 22;  // a codec of 30 graphs has 30 kB
constexpr uint64_t max_tables_bytes = 1U << 24;    // the released models have 100 kB
constexpr uint64_t max_unpacked_bytes = 1U << 26;  // twice what tables of max_entries (entropy_model.hpp) need

[[noreturn]] void refuse(const std::string &text) { throw Failure(Status::bad_bundle, text); }

// Runs `read` and says in its failure which bundle it was.
template <typename Read>
auto named(const std::string &where, Read read) {
    try {
        return read();
    } catch (const Failure &failure) {
        throw Failure(failure.status, where + ": " + failure.what());
    }
}

// The SHA-256 is that of the very bytes that are read, and none are read beyond the limit.
std::vector<uint8_t> read_hashed(const std::string &where, const FileSource &source, const std::string &path,
                                 const std::string &sha256, uint64_t limit) {
    std::vector<uint8_t> data = read_limited(where, source, path, limit);
    Sha256 hash;
    hash.add(data);
    if (hash.finish() != sha256) refuse(where + ": SHA-256 differs from the manifest's: " + path);
    return data;
}

std::optional<Certificate> read_certificate(const std::string &where, const FileSource &source,
                                            const Manifest &manifest) {
    if (manifest.arithmetic != integer_arithmetic.name) return std::nullopt;
    const CertificateFile &file = *manifest.certificate;  // wiring.cpp asks for it
    const std::vector<uint8_t> data = read_hashed(where, source, file.path, file.sha256, max_certificate_bytes);
    return named(where, [&] { return certificate_from_json(data, manifest); });
}

EntropyModel read_tables(const std::string &where, const FileSource &source, const Manifest &manifest) {
    const std::vector<uint8_t> data =
        read_hashed(where, source, manifest.tables_path, manifest.tables_sha256, max_tables_bytes);
    return named(where, [&] { return EntropyModel::from_arrays(arrays_from_npz(data, max_unpacked_bytes)); });
}

}  // namespace

Manifest read_manifest(const FileSource &source) {
    source.check();
    const std::string where = "bundle " + source.name();
    const std::vector<uint8_t> text = read_limited(where, source, manifest_name, max_manifest_bytes);
    return named(where, [&] { return manifest_from_json(text); });
}

Bundle Bundle::open(const std::filesystem::path &folder, bool verify_hashes) {
    return open(std::make_shared<FolderSource>(folder), verify_hashes);
}

Bundle Bundle::open(std::shared_ptr<const FileSource> source, bool verify_hashes) {
    Manifest manifest = read_manifest(*source);
    const std::string where = "bundle " + manifest.name;
    const std::vector<std::string> problems = wiring_problems(manifest);
    if (!problems.empty()) refuse(where + ": " + listed(problems));

    std::vector<BundleFile> files;
    for (const auto &[name, graph] : manifest.graphs) {
        files.emplace_back(graph.path, graph.sha256);
        if (graph.symmetric) files.emplace_back(graph.symmetric->path, graph.symmetric->sha256);
    }
    check_graph_files(where, *source, files, verify_hashes);
    EntropyModel entropy = read_tables(where, *source, manifest);
    if (entropy.z().rows() != static_cast<size_t>(manifest.z_channels)) {
        refuse(where + ": tables have " + std::to_string(entropy.z().rows()) + " rows of z; the manifest has " +
               std::to_string(manifest.z_channels) + " channels");
    }
    std::optional<Certificate> certificate = read_certificate(where, *source, manifest);
    return Bundle(std::move(source), std::move(manifest), std::move(entropy), std::move(certificate));
}

}  // namespace mlic
