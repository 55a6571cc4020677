// The contents of a graph's compressed file, `.onnx.gz`; plain ones engines open themselves. Twin of
// runtime/graph_bytes.py.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "file_source.hpp"

namespace mlic {

// The ONNX file in the compressed file of a graph, which has all of its data in itself. Throws Failure(bad_bundle) if it
// cannot be read, is no gzip file of one member, cut or damaged, unpacks to more than it names or than the limits, or
// keeps weights in other files.
std::vector<uint8_t> unpacked_graph(const std::string &graph, const FileSource &files, const std::string &path);

}  // namespace mlic
