// ONNX Runtime on the CPU: opens graphs and runs them on named arrays. Twin of backends/onnxruntime.py and base.py.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "bundle.hpp"
#include "ort_library.hpp"
#include "tensor.hpp"

namespace mlic {

// An opened graph. `run` may be called from several threads at once.
class Graph {
   public:
    // `inputs` holds at least the arrays that the graph takes. `release`: give back what the arena keeps for later.
    // Throws Failure(engine_failed).
    Arrays run(const Arrays &inputs, bool release) const;

   private:
    friend class Engine;
    using Session = std::unique_ptr<OrtSession, void (*)(OrtSession *)>;
    Graph(const OrtLibrary &library, const GraphSpec &spec, Session session)
        : library_(library), spec_(spec), session_(std::move(session)) {}

    const OrtLibrary &library_;
    const GraphSpec &spec_;
    Session session_;
};

class Engine {
   public:
    // `library`: path of ONNX Runtime's library; see OrtLibrary. `threads`: of each graph, 0 for as many as the process
    // may use. Throws Failure: engine_missing, engine_failed.
    Engine(const std::string &library, int threads);

    // Engine, version, provider and threads.
    std::string granted() const;
    // All that its results may depend on, beside the machine: the build too, since versions are built for several
    // instruction sets.
    std::string fingerprint() const;

    // Opens a graph and checks its names, types and shapes. `graph` has to live as long as what is returned; its bytes
    // too, if they lie in memory. Throws Failure(engine_failed), Failure(bad_bundle) if they cannot be unpacked.
    std::unique_ptr<Graph> open(const GraphFile &graph, const FileSource &files) const;

   private:
    const OrtLibrary &library_;
    int threads_;
};

// A graph that is opened when first run, and whose arrays are checked against the manifest at every run. Safe to use
// from several threads.
class LazyGraph {
   public:
    // All three have to live as long as this.
    LazyGraph(const Engine &engine, const FileSource &files, const GraphFile &graph)
        : engine_(engine), files_(files), graph_(graph) {}

    const GraphSpec &spec() const { return graph_.spec; }
    const Graph &open();
    Arrays run(const Arrays &inputs);

   private:
    const Engine &engine_;
    const FileSource &files_;
    const GraphFile &graph_;
    std::mutex lock_;
    std::unique_ptr<Graph> opened_;
};

}  // namespace mlic
