// The files of a bundle: where they may lie, how large they may be, and what they may refer to. Twin of
// runtime/bundle_files.py.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "file_source.hpp"

namespace mlic {

using BundleFile = std::pair<std::string, std::string>;  // path and SHA-256 as the manifest has them

// The contents of a file. `where` names the bundle. Throws Failure(bad_bundle) if the path leads out of the folder, or
// the file is missing, no regular file, or larger than `limit` bytes.
std::vector<uint8_t> read_limited(const std::string &where, const FileSource &source, const std::string &path,
                                  uint64_t limit);

// Checks that all graphs are there, within limits, unchanged, and complete in themselves; the last two, for which every
// byte is read, only if `every_byte`. Throws Failure(bad_bundle) that lists all problems of one kind.
void check_graph_files(const std::string &where, const FileSource &source, const std::vector<BundleFile> &files,
                       bool every_byte);

}  // namespace mlic
