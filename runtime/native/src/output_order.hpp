// In which order a manifest names the outputs of its graphs. The parser sorts the entries of objects, as nothing else
// depends on their order; hashes of certificates do.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "json_values.hpp"
#include "manifest.hpp"

namespace mlic {

class OutputOrder {
   public:
    // Takes what JsonWatch is called with.
    void watch(int depth, Json::parse_event_t event, const Json &value);
    // The names of the outputs of a graph, by its place in the list.
    std::vector<std::string> of(size_t graph, const Tensors &outputs) const;

   private:
    std::string in_root_, in_graph_;               // the keys whose values are being read
    std::vector<std::vector<std::string>> names_;  // by graph; names that are given twice occur twice
};

}  // namespace mlic
