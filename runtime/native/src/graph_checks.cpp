// Compares what the engine found in a graph, and what it gave, with what the manifest says.
#include "graph_checks.hpp"

#include <map>
#include <memory>
#include <vector>

#include "failure.hpp"

namespace mlic {
namespace {

struct Type {
    const char *name;
    DType dtype;
    ONNXTensorElementDataType element;
    size_t size;
};

constexpr Type TYPES[] = {
    {"float32", DType::float32, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, 4},
    {"float16", DType::float16, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16, 2},
    {"int32", DType::int32, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32, 4},
    {"int64", DType::int64, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64, 8},
    {"uint8", DType::uint8, ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8, 1},
    {"int8", DType::int8, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8, 1},
};

const Type &type_of(DType dtype) { return TYPES[static_cast<size_t>(dtype)]; }

// A session's input or output.
struct Node {
    ONNXTensorElementDataType element = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
    std::vector<int64_t> shape;  // -1 where the graph has a name or nothing

    std::string text() const {
        std::string text = "another type";
        for (const Type &type : TYPES)
            if (type.element == element) text = type.name;
        text += " [";
        for (size_t i = 0; i < shape.size(); ++i)
            text += (i == 0 ? "" : ", ") + (shape[i] < 0 ? "?" : std::to_string(shape[i]));
        return text + "]";
    }
};

template <class Map>
std::string names_of(const Map &map) {
    std::string names;
    for (const auto &entry : map) names += (names.empty() ? "" : ", ") + entry.first;
    return names;
}

// Reads the inputs or outputs of a session through the three functions that count, name and describe them.
template <class Count, class Name, class Info>
std::map<std::string, Node> nodes_of(const OrtLibrary &library, const OrtSession *session, const std::string &what,
                                     Count count_of, Name name_of, Info info_of) {
    const OrtApi &api = library.api();
    OrtAllocator *allocator = nullptr;
    library.check(api.GetAllocatorWithDefaultOptions(&allocator), what);
    size_t count = 0;
    library.check(count_of(session, &count), what);
    std::map<std::string, Node> nodes;
    for (size_t i = 0; i < count; ++i) {
        char *text = nullptr;
        library.check(name_of(session, i, allocator, &text), what);
        const auto release = [&](char *name) { allocator->Free(allocator, name); };
        const std::unique_ptr<char, decltype(release)> name(text, release);
        OrtTypeInfo *found = nullptr;
        library.check(info_of(session, i, &found), what);
        const std::unique_ptr<OrtTypeInfo, void (*)(OrtTypeInfo *)> info(found, api.ReleaseTypeInfo);
        const OrtTensorTypeAndShapeInfo *tensor = nullptr;  // belongs to `info`
        library.check(api.CastTypeInfoToTensorInfo(info.get(), &tensor), what);
        Node &node = nodes[name.get()];
        if (tensor == nullptr) continue;  // no tensor: its type stays undefined
        size_t dimensions = 0;
        library.check(api.GetTensorElementType(tensor, &node.element), what);
        library.check(api.GetDimensionsCount(tensor, &dimensions), what);
        node.shape.resize(dimensions);
        library.check(api.GetDimensions(tensor, node.shape.data(), dimensions), what);
    }
    return nodes;
}

void compare(const char *side, const Tensors &specs, const std::map<std::string, Node> &nodes,
             std::vector<std::string> &problems) {
    if (names_of(nodes) != names_of(specs))
        problems.push_back(std::string(side) + "s are " + names_of(nodes) + "; the manifest names " + names_of(specs));
    for (const auto &entry : specs) {
        const auto found = nodes.find(entry.first);
        if (found == nodes.end()) continue;
        const Node &node = found->second;
        const TensorSpec &spec = entry.second;
        bool same = node.element == element_type(dtype_of(spec.dtype)) && node.shape.size() == spec.shape.size();
        for (size_t i = 0; same && i < spec.shape.size(); ++i)
            same = node.shape[i] < 0 || spec.shape[i].side != Dim::Side::fixed || node.shape[i] == spec.shape[i].number;
        if (!same)
            problems.push_back(std::string(side) + " " + entry.first + " is " + node.text() + "; the manifest has " +
                               spec.text());
    }
}

std::string text_of(const Tensor &array) {
    std::string text = std::string(type_of(array.dtype).name) + " [";
    for (size_t i = 0; i < array.shape.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(array.shape[i]);
    return text + "]";
}

bool fits(const Dim &dim, int64_t found, PaddedSize &size) {
    if (dim.side == Dim::Side::fixed) return found == dim.number;
    int64_t &side = dim.side == Dim::Side::height ? size.height : size.width;
    const int64_t meant = found * (dim.number == 0 ? 1 : dim.number);
    if (side == 0) side = meant;
    return side == meant;
}

}  // namespace

DType dtype_of(const std::string &name) {
    for (const Type &type : TYPES)
        if (name == type.name) return type.dtype;
    throw Failure(Status::bad_bundle, "dtype " + name + " is unknown");
}

const char *dtype_name(DType dtype) { return type_of(dtype).name; }

size_t size_of(DType dtype) { return type_of(dtype).size; }

ONNXTensorElementDataType element_type(DType dtype) { return type_of(dtype).element; }

DType dtype_of_element(ONNXTensorElementDataType element, const std::string &what) {
    for (const Type &type : TYPES)
        if (type.element == element) return type.dtype;
    throw Failure(Status::engine_failed, what + ": an output has ONNX's type " + std::to_string(element));
}

void check_session(const OrtLibrary &library, const OrtSession *session, const GraphSpec &spec) {
    const OrtApi &api = library.api();
    const std::string what = "graph " + spec.name;
    std::vector<std::string> problems;
    compare("input", spec.inputs,
            nodes_of(library, session, what, api.SessionGetInputCount, api.SessionGetInputName,
                     api.SessionGetInputTypeInfo),
            problems);
    compare("output", spec.outputs,
            nodes_of(library, session, what, api.SessionGetOutputCount, api.SessionGetOutputName,
                     api.SessionGetOutputTypeInfo),
            problems);
    if (problems.empty()) return;
    std::string text = what;
    for (size_t i = 0; i < problems.size(); ++i) text += (i == 0 ? ": " : "; ") + problems[i];
    throw Failure(Status::engine_failed, text);
}

void check_arrays(const std::string &graph, const char *side, const Arrays &arrays, const Tensors &specs,
                  PaddedSize &size) {
    for (const auto &entry : specs) {
        const auto found = arrays.find(entry.first);
        const TensorSpec &spec = entry.second;
        if (found == arrays.end())
            throw Failure(Status::engine_failed, "graph " + graph + ": " + side + " " + entry.first + " is missing");
        const Tensor &array = found->second;
        bool good = array.dtype == dtype_of(spec.dtype) && array.shape.size() == spec.shape.size();
        for (size_t i = 0; good && i < spec.shape.size(); ++i) good = fits(spec.shape[i], array.shape[i], size);
        if (good) continue;
        throw Failure(Status::engine_failed, "graph " + graph + ": " + side + " " + entry.first + " is " +
                                                 text_of(array) + "; expected " + spec.text() + " with height " +
                                                 std::to_string(size.height) + ", width " +
                                                 std::to_string(size.width));
    }
}

}  // namespace mlic
