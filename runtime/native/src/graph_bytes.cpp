// A file is unpacked when its graph is opened, once; the bundle's reader has compared its SHA-256.
#include "graph_bytes.hpp"

#include "bundle_files.hpp"
#include "external_data.hpp"
#include "failure.hpp"
#include "gzip_file.hpp"

namespace mlic {
namespace {

std::vector<uint8_t> unpacked_file(const FileSource &files, const std::string &path) {
    if (!files.disk_path(path)) return unpacked(files.in_memory(path), max_graph_bytes);
    return unpacked(files.read(path, max_graph_bytes), max_graph_bytes);
}

}  // namespace

std::vector<uint8_t> unpacked_graph(const std::string &graph, const FileSource &files, const std::string &path) {
    const std::string what = "graph " + graph + ": ";
    const std::string name = std::filesystem::path(path).filename().string();
    if (!files.is_file(path)) {
        throw Failure(Status::bad_bundle, what + "cannot read " + name + ": there is no such regular file");
    }
    std::vector<uint8_t> bytes;
    try {
        bytes = unpacked_file(files, path);
    } catch (const Failure &failure) {
        throw Failure(failure.status, what + "cannot unpack " + name + ": " + failure.what());
    }
    if (has_external_data(bytes)) throw Failure(Status::bad_bundle, what + name + " keeps weights in other files");
    return bytes;
}

}  // namespace mlic
