// Sessions with the options of backends/onnxruntime.py, whose head says why: idle threads sleep, one arena for all.
#include "engine.hpp"

#include <sched.h>

#include <algorithm>
#include <iterator>
#include <thread>

#include "bundle_files.hpp"
#include "failure.hpp"
#include "graph_bytes.hpp"
#include "graph_checks.hpp"

namespace mlic {
namespace {

constexpr int MAX_DEFAULT_THREADS = 16;  // latents are small: more threads than this wait for one another

// Where work of one shape ends and work of another begins: what the arena kept for the one seldom fits the other. Above
// the pixels of a tile alone, since getting memory anew would slow small pictures down.
constexpr const char *RELEASING[] = {"h_a", "finish"};
constexpr int64_t RELEASED_ABOVE = 5 << 18;

using Options = std::unique_ptr<OrtSessionOptions, void (*)(OrtSessionOptions *)>;
using RunOptions = std::unique_ptr<OrtRunOptions, void (*)(OrtRunOptions *)>;
using Value = std::unique_ptr<OrtValue, void (*)(OrtValue *)>;

int usable_cpus() {
    cpu_set_t usable;
    if (sched_getaffinity(0, sizeof usable, &usable) == 0) return CPU_COUNT(&usable);
    return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

Options session_options(const OrtLibrary &library, int threads, const std::string &what) {
    const OrtApi &api = library.api();
    OrtSessionOptions *made = nullptr;
    library.check(api.CreateSessionOptions(&made), what);
    Options options(made, api.ReleaseSessionOptions);
    library.check(api.SetIntraOpNumThreads(made, threads), what);
    library.check(api.SetInterOpNumThreads(made, 1), what);
    // Nothing is printed: what fails is told to the caller
    library.check(api.SetSessionLogSeverityLevel(made, ORT_LOGGING_LEVEL_FATAL), what);
    library.check(api.AddSessionConfigEntry(made, "session.intra_op.allow_spinning", "0"), what);
    library.check(api.DisableMemPattern(made), what);
    if (library.shares_arena())
        library.check(api.AddSessionConfigEntry(made, "session.use_env_allocators", "1"), what);
    return options;
}

RunOptions releasing_options(const OrtLibrary &library, const std::string &what) {
    OrtRunOptions *made = nullptr;
    library.check(library.api().CreateRunOptions(&made), what);
    RunOptions options(made, library.api().ReleaseRunOptions);
    library.check(library.api().AddRunConfigEntry(made, "memory.enable_memory_arena_shrinkage", "cpu:0"), what);
    return options;
}

// An array as the engine takes it; the memory stays the array's.
Value value_of(const OrtLibrary &library, const Tensor &array, const std::string &what) {
    OrtValue *made = nullptr;
    library.check(library.api().CreateTensorWithDataAsOrtValue(
                      library.memory(), array.data, array.count() * size_of(array.dtype), array.shape.data(),
                      array.shape.size(), element_type(array.dtype), &made),
                  what);
    return {made, library.api().ReleaseValue};
}

// An array that the engine made; the memory is freed with the last copy.
Tensor tensor_of(const OrtLibrary &library, Value value, const std::string &what) {
    const OrtApi &api = library.api();
    OrtTensorTypeAndShapeInfo *found = nullptr;
    library.check(api.GetTensorTypeAndShape(value.get(), &found), what);
    const std::unique_ptr<OrtTensorTypeAndShapeInfo, void (*)(OrtTensorTypeAndShapeInfo *)> info(
        found, api.ReleaseTensorTypeAndShapeInfo);
    Tensor array;
    ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
    size_t dimensions = 0;
    library.check(api.GetTensorElementType(info.get(), &type), what);
    library.check(api.GetDimensionsCount(info.get(), &dimensions), what);
    array.shape.resize(dimensions);
    library.check(api.GetDimensions(info.get(), array.shape.data(), dimensions), what);
    array.dtype = dtype_of_element(type, what);
    library.check(api.GetTensorMutableData(value.get(), &array.data), what);
    array.memory = std::shared_ptr<void>(std::shared_ptr<OrtValue>(std::move(value)));
    return array;
}

}  // namespace

Engine::Engine(const std::string &library, int threads)
    : library_(OrtLibrary::open(library)),
      threads_(threads > 0 ? threads : std::min(usable_cpus(), MAX_DEFAULT_THREADS)) {}

std::string Engine::granted() const {
    return "onnxruntime " + library_.version() + ", CPUExecutionProvider, " + std::to_string(threads_) + " threads";
}

std::string Engine::fingerprint() const {
    return "libmlic " MLIC_VERSION ", " + granted() + ", " + library_.api().GetBuildInfoString();
}

std::unique_ptr<Graph> Engine::open(const GraphFile &graph, const FileSource &files) const {
    const OrtApi &api = library_.api();
    const std::string what = "graph " + graph.spec.name;
    const Options options = session_options(library_, threads_, what);
    OrtSession *made = nullptr;
    // No provider is asked for, so the CPU's is the only one
    if (is_packed(graph.path)) {
        const std::vector<uint8_t> bytes = unpacked_graph(graph.spec.name, files, graph.path);  // freed with this block
        library_.check(api.CreateSessionFromArray(library_.env(), bytes.data(), bytes.size(), options.get(), &made),
                       what);
    } else if (const auto path = files.disk_path(graph.path)) {
        library_.check(api.CreateSession(library_.env(), path->c_str(), options.get(), &made), what);
    } else {
        const Bytes bytes = files.in_memory(graph.path);
        library_.check(api.CreateSessionFromArray(library_.env(), bytes.data, bytes.size, options.get(), &made), what);
    }
    Graph::Session session(made, api.ReleaseSession);
    check_session(library_, made, graph.spec);
    return std::unique_ptr<Graph>(new Graph(library_, graph.spec, std::move(session)));
}

Arrays Graph::run(const Arrays &inputs, bool release) const {
    const OrtApi &api = library_.api();
    const std::string what = "graph " + spec_.name;
    RunOptions options(nullptr, api.ReleaseRunOptions);
    if (release) options = releasing_options(library_, what);
    std::vector<const char *> input_names, output_names;
    std::vector<Value> held;
    std::vector<const OrtValue *> values;
    for (const auto &input : spec_.inputs) {
        held.push_back(value_of(library_, inputs.at(input.first), what));
        values.push_back(held.back().get());
        input_names.push_back(input.first.c_str());
    }
    for (const auto &output : spec_.outputs) output_names.push_back(output.first.c_str());
    std::vector<OrtValue *> made(output_names.size(), nullptr);
    OrtStatus *status = api.Run(session_.get(), options.get(), input_names.data(), values.data(), values.size(),
                                output_names.data(), output_names.size(), made.data());
    std::vector<Value> owned;
    owned.reserve(made.size());
    for (OrtValue *value : made) owned.emplace_back(value, api.ReleaseValue);
    library_.check(status, what);
    Arrays outputs;
    for (size_t i = 0; i < owned.size(); ++i)
        outputs[output_names[i]] = tensor_of(library_, std::move(owned[i]), what);
    return outputs;
}

const Graph &LazyGraph::open() {
    const std::lock_guard<std::mutex> hold(lock_);
    if (!opened_) opened_ = engine_.open(graph_, files_);
    return *opened_;
}

Arrays LazyGraph::run(const Arrays &inputs) {
    const Graph &opened = open();
    PaddedSize size;
    check_arrays(graph_.spec.name, "input", inputs, graph_.spec.inputs, size);
    const auto found = std::find(std::begin(RELEASING), std::end(RELEASING), graph_.spec.name);
    const bool is_large = size.height * size.width > RELEASED_ABOVE;
    Arrays outputs = opened.run(inputs, is_large && found != std::end(RELEASING));
    check_arrays(graph_.spec.name, "output", outputs, graph_.spec.outputs, size);
    return outputs;
}

}  // namespace mlic
