// The files of a bundle: where they may lie, how large they may be, and what they may refer to. Twin of
// runtime/bundle_files.py.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "file_source.hpp"

namespace mlic {

constexpr uint64_t max_graph_bytes = (uint64_t{1} << 31) - 1;  // what protobuf, hence ONNX, can hold
constexpr uint64_t max_all_bytes = uint64_t{1} << 33;          // of all graphs; full-size models have 0.4 GB

using BundleFile = std::pair<std::string, std::string>;  // path and SHA-256 as the manifest has them

// The contents of a file. `where` names the bundle. Throws Failure(bad_bundle) if the path leads out of the folder, or
// the file is missing, no regular file, or larger than `limit` bytes.
std::vector<uint8_t> read_limited(const std::string &where, const FileSource &source, const std::string &path,
                                  uint64_t limit);

// Whether a graph's file is compressed, by its name.
bool is_packed(const std::string &path);

// Checks that all graphs are there, within limits, unchanged, and complete in themselves; the last two, for which every
// byte is read, only if `every_byte`. Nothing is unpacked: what compressed graphs unpack to is bounded by what they name,
// and they are looked at when they are opened (graph_bytes.hpp). Throws Failure(bad_bundle) that lists all problems of
// one kind.
void check_graph_files(const std::string &where, const FileSource &source, const std::vector<BundleFile> &files,
                       bool every_byte);

}  // namespace mlic
