// What a bundle says about itself: twin of runtime/manifest.py, manifest_json.py and wiring.py.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "arithmetic.hpp"
#include "bytes.hpp"

namespace mlic {

enum class Positions { all, anchor, nonanchor };

// One dimension of a shape: a number, or a side of the padded picture, divided or not.
struct Dim {
    enum class Side { fixed, height, width };
    Side side = Side::fixed;
    int64_t number = 1;  // fixed: the number itself; else the divisor, 0 where none is written

    int64_t evaluate(int64_t height, int64_t width) const;
    std::string text() const;  // as the manifest has it
    bool operator==(const Dim &other) const { return side == other.side && number == other.number; }
    bool operator!=(const Dim &other) const { return !(*this == other); }
};

struct TensorSpec {
    std::string dtype;  // float32, float16, int32, int64, uint8, int8
    std::vector<Dim> shape;

    // The shape for a padded picture of height x width pixels.
    std::vector<int64_t> concrete(int64_t height, int64_t width) const;
    std::string text() const;  // such as "float32 [1, 3, height, width]"
    bool operator==(const TensorSpec &other) const { return dtype == other.dtype && shape == other.shape; }
    bool operator!=(const TensorSpec &other) const { return !(*this == other); }
};

using Tensors = std::map<std::string, TensorSpec>;  // engines take and give arrays by name; the order means nothing

struct GraphSpec {
    std::string name;  // g_a, h_a, h_s, step_00..., finish, g_s
    Tensors inputs;
    Tensors outputs;
    std::vector<std::string> output_order;  // their names as the manifest has them; certificates go by it
    bool exact = true;                      // on the entropy path: strict fp32, or integers
};

// One of the files that hold a graph.
struct GraphForm {
    std::string path;    // relative to the bundle, with '/'
    std::string sha256;  // lower-case hex
};

// How a graph may be run over parts of a picture; all in pixels of the padded picture.
struct Tiling {
    int64_t multiple;  // where edges of tiles inside the picture may lie
    int64_t halo;      // how much more is computed on every side that is not the picture's edge
};

struct GraphFile {
    GraphSpec spec;
    std::string path;                    // of the plain form, which this runtime opens
    std::string sha256;                  // of that file
    std::string precision;               // fp32, fp16, bf16, int8
    std::optional<GraphForm> symmetric;  // for engines that this runtime does not have; its file is checked
    std::optional<Tiling> tiling;        // none where it has to run in one pass
};

// What lies between two uses of the entropy coder.
struct StepSpec {
    std::string graph;  // step_NN
    int64_t first_channel = 0;
    int64_t end_channel = 1;
    Positions positions = Positions::all;

    // scales_NN or indexes_NN, which the graph gives, by the bundle's arithmetic
    std::string given(const Arithmetic &arithmetic) const { return renamed(arithmetic.given); }
    std::string means() const { return renamed("means"); }      // means_NN, likewise
    std::string symbols() const { return renamed("symbols"); }  // symbols_NN, which later graphs take
    int64_t channels() const { return end_channel - first_channel; }
    // Number of symbols for a padded picture of height x width pixels.
    int64_t size(int64_t height, int64_t width) const;

   private:
    std::string renamed(const char *what) const;
};

struct Padding {
    enum class Placement { top_left, centre };
    enum class Fill { zeros, edge };
    int64_t multiple = 64;
    Placement placement = Placement::top_left;
    Fill fill = Fill::zeros;
};

// Sizes of pictures that built engines are for, each {height, width}. This runtime builds none; no tile is larger than
// the largest, so that tiles are those of runtimes that do.
struct SizeRange {
    std::array<int64_t, 2> min{64, 64};
    std::array<int64_t, 2> opt{512, 768};
    std::array<int64_t, 2> max{4096, 4096};

    // The largest, both sides rounded up to a multiple of `multiple`, as pictures are padded.
    std::array<int64_t, 2> padded_max(int64_t multiple) const;
};

// Where a bundle's certificate lies (certificate.hpp).
struct CertificateFile {
    std::string path;    // relative to the bundle, with '/'
    std::string sha256;  // of the file, lower-case hex
};

struct Manifest {
    std::string name;
    std::string architecture;
    std::string variant;
    std::array<uint8_t, 8> model_id{};
    std::string arithmetic;
    std::string engine;
    Padding padding;
    int64_t y_channels = 1;
    int64_t z_channels = 1;
    std::string tables_path;
    std::string tables_sha256;
    std::map<std::string, GraphFile> graphs;  // by name
    std::vector<StepSpec> steps;              // in coding order
    SizeRange sizes;
    std::optional<CertificateFile> certificate;  // by which engines prove themselves; none where the path is in floats

    // The graph of a name that the wiring has found to be there.
    const GraphFile &graph(const std::string &graph_name) const { return graphs.at(graph_name); }
};

constexpr int64_t latent_stride = 16;  // pixels a position of y
constexpr int64_t hyper_stride = 64;   // pixels a position of z

// The graphs of the entropy path in the order in which they run.
std::vector<std::string> chain_names(const Manifest &manifest);

// A manifest may come from anybody: what it asks for in numbers is bounded here as in manifest_json.py, far above any
// known model. Halos and sizes go up to the largest side of a picture.
constexpr size_t max_text = 1024;  // characters
constexpr size_t max_graphs = 1024;
constexpr size_t max_steps = 512;
constexpr size_t max_tensors = 256;  // inputs, and outputs, of one graph
constexpr size_t max_rank = 8;
constexpr int64_t max_dim = (int64_t{1} << 31) - 1;
constexpr int64_t max_channels = 4096;  // of y, and of z; the largest of the released models have 320 and 192
constexpr int64_t max_multiple = 4096;  // pixels of padding, and of tiles

// Parses manifest.json; types, names and ranges are checked, files and wiring are not.
// Throws Failure(bad_bundle) that lists all wrong entries.
Manifest manifest_from_json(Bytes text);

// Everything that keeps the graphs and steps from working together; empty if nothing does.
std::vector<std::string> wiring_problems(const Manifest &manifest);

}  // namespace mlic
