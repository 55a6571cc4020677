// What a bundle says about itself: twin of runtime/manifest.py, manifest_json.py and wiring.py.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

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
    std::string dtype;  // float32, float16, int32, int64, uint8
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
    bool exact = true;  // on the entropy path: strict fp32
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

    std::string scales() const { return renamed("scales"); }    // scales_NN, which the graph gives
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

    // The graph of a name that the wiring has found to be there.
    const GraphFile &graph(const std::string &graph_name) const { return graphs.at(graph_name); }
};

constexpr int64_t latent_stride = 16;  // pixels a position of y
constexpr int64_t hyper_stride = 64;   // pixels a position of z

// Beyond what manifest_json.py asks: sizes that no model comes near, so that nothing later has to fear them.
constexpr int64_t max_channels = 1 << 16;
constexpr int64_t max_multiple = 1 << 10;
constexpr int64_t max_halo = 1 << 21;  // more than any side: such a graph runs in one pass
constexpr int64_t max_engine_side = 1 << 30;

// Parses manifest.json; types, names and ranges are checked, files and wiring are not.
// Throws Failure(bad_bundle) that lists all wrong entries.
Manifest manifest_from_json(Bytes text);

// Everything that keeps the graphs and steps from working together; empty if nothing does.
std::vector<std::string> wiring_problems(const Manifest &manifest);

}  // namespace mlic
