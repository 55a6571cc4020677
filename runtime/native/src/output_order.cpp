// Follows the parser's way to manifest["graphs"][i]["outputs"]. Of keys that occur twice the last one counts, and of
// names among the outputs the first place, as in Python's dictionaries.
#include "output_order.hpp"

#include <set>

namespace mlic {
namespace {

// How deep in the manifest what is read stands.
constexpr int of_root = 1, of_graphs = 2, of_graph = 3, of_outputs = 4;

}  // namespace

void OutputOrder::watch(int depth, Json::parse_event_t event, const Json &value) {
    if (event == Json::parse_event_t::key && depth == of_root) {
        in_root_ = value.get_ref<const std::string &>();
        if (in_root_ == "graphs") names_.clear();
        return;
    }
    if (in_root_ != "graphs") return;
    if (event == Json::parse_event_t::object_start && depth == of_graphs) {
        names_.emplace_back();
        in_graph_.clear();
    }
    if (event != Json::parse_event_t::key || names_.empty()) return;
    if (depth == of_graph) {
        in_graph_ = value.get_ref<const std::string &>();
        if (in_graph_ == "outputs") names_.back().clear();
    } else if (depth == of_outputs && in_graph_ == "outputs") {
        names_.back().push_back(value.get_ref<const std::string &>());
    }
}

std::vector<std::string> OutputOrder::of(size_t graph, const Tensors &outputs) const {
    std::vector<std::string> order;
    std::set<std::string> seen;
    if (graph >= names_.size()) return order;
    for (const std::string &name : names_[graph]) {
        if (outputs.count(name) > 0 && seen.insert(name).second) order.push_back(name);
    }
    return order;
}

}  // namespace mlic
