// manifest.json to Manifest: the same entries are refused as in runtime/manifest_json.py.
#include <algorithm>
#include <optional>

#include "container.hpp"
#include "failure.hpp"
#include "json_values.hpp"
#include "manifest.hpp"
#include "output_order.hpp"
#include "text.hpp"

namespace mlic {
namespace {

constexpr int format_version = 1;

[[noreturn]] void refuse(const std::string &text) { throw Failure(Status::bad_bundle, text); }

// Texts stand in messages, and in names of files.
bool is_short_text(const std::string &text) { return characters_in(text) <= max_text && is_printable(text); }

const std::string &short_text() {
    static const std::string text = "; expected at most " + std::to_string(max_text) + " printable characters";
    return text;
}

// "height", "width", "height/N" or "width/N"; a number of 1 to max_dim.
std::optional<Dim> dim_from(const Json &value) {
    if (!value.is_string()) {
        const std::optional<int64_t> number = integer_from(value);
        const bool fits = number && *number >= 1 && *number <= max_dim;
        return fits ? std::optional(Dim{Dim::Side::fixed, *number}) : std::nullopt;
    }
    const auto &text = value.get_ref<const std::string &>();
    const size_t slash = std::min(text.find('/'), text.size());
    const std::string side = text.substr(0, slash), divisor = text.substr(slash);
    Dim dim{side == "height" ? Dim::Side::height : Dim::Side::width, 0};
    if (side != "height" && side != "width") return std::nullopt;
    if (divisor.empty()) return dim;
    const bool digits = divisor.find_first_not_of("0123456789", 1) == std::string::npos;
    if (!digits || divisor.size() < 2 || divisor.size() > 10 || divisor[1] == '0') return std::nullopt;
    dim.number = std::stoll(divisor.substr(1));
    return dim;
}

// One JSON object being read: notes every problem and goes on with a stand-in.
class Object {
   public:
    Object(const Json *value, std::string where, std::vector<std::string> &problems)
        : value_(value), where_(std::move(where)), problems_(problems) {}

    void problem(const std::string &key, const std::string &text) { problems_.push_back(where_ + key + " " + text); }
    bool has(const char *key) const { return value_ && value_->contains(key); }

    // The entry if it has the type, else null and a problem.
    const Json *get(const std::string &key, bool (Json::*is)() const noexcept, const char *kind) {
        const auto found = value_ ? value_->find(key) : Json::const_iterator();
        if (!value_ || found == value_->end()) {
            problem(key, "is missing");
            return nullptr;
        }
        if (((*found).*is)()) return &*found;
        problem(key, "is " + shown(*found) + "; expected " + kind);
        return nullptr;
    }

    Object object(const std::string &key) {
        return Object(get(key, &Json::is_object, "dict"), where_ + key + ".", problems_);
    }

    std::vector<Object> objects(const char *key, size_t most) {
        const Json *entries = get(key, &Json::is_array, "list");
        std::vector<Object> found;
        if (!entries) return found;
        if (entries->empty()) problem(key, "is empty");
        if (entries->size() > most) {
            problem(key, "has " + std::to_string(entries->size()) + " entries; expected 1 to " + std::to_string(most));
            return found;
        }
        for (size_t index = 0; index < entries->size(); ++index) {
            const Json &entry = (*entries)[index];
            const std::string name = std::string(key) + "[" + std::to_string(index) + "]";
            if (!entry.is_object()) {
                problem(name, "is " + shown(entry) + "; expected dict");
            } else {
                found.emplace_back(&entry, where_ + name + ".", problems_);
            }
        }
        return found;
    }

    std::string text(const char *key, size_t hex_digits = 0) {
        const Json *found = get(key, &Json::is_string, "str");
        if (!found) return "";
        if (!is_short_text(*found)) {
            problem(key, "is " + shown(*found) + short_text());
        } else if (hex_digits > 0 && !is_hex(*found, hex_digits)) {
            problem(key, "is " + shown(*found) + "; expected " + std::to_string(hex_digits) + " digits 0-9a-f");
        }
        return *found;
    }

    std::string choice(const char *key, const std::vector<std::string> &choices) {
        const std::string found = text(key);
        if (has(key) && std::find(choices.begin(), choices.end(), found) == choices.end()) {
            std::string all;
            for (const std::string &one : choices) all += (all.empty() ? "" : ", ") + one;
            problem(key, "is " + shown(found) + "; expected one of " + all);
        }
        return found;
    }

    int64_t number(const char *key, int64_t least, int64_t most) {
        const Json *found = get(key, &Json::is_number_integer, "int");
        const std::optional<int64_t> value = found ? integer_from(*found) : least;
        if (value && *value >= least && *value <= most) return *value;
        problem(key, "is " + shown(*found) + "; expected " + std::to_string(least) + " to " + std::to_string(most));
        return least;
    }

    bool flag(const char *key, bool otherwise) {
        const Json *found = get(key, &Json::is_boolean, "bool");
        return found ? found->get<bool>() : otherwise;
    }

    // Two whole numbers that fit.
    template <typename Fits>
    std::optional<std::array<int64_t, 2>> pair(const char *key, const std::string &expected, const Fits &fits) {
        const Json *found = get(key, &Json::is_array, "list");
        if (!found) return std::nullopt;
        if (found->size() == 2) {
            const std::optional<int64_t> first = integer_from((*found)[0]), second = integer_from((*found)[1]);
            if (first && second && fits(*first, *second)) return std::array<int64_t, 2>{*first, *second};
        }
        problem(key, "is " + shown(*found) + "; expected " + expected);
        return std::nullopt;
    }

    Tensors tensors() {
        Tensors found;
        if (!value_) return found;
        if (value_->size() > max_tensors) {
            problems_.push_back(where_.substr(0, where_.size() - 1) + " has " + std::to_string(value_->size()) +
                                " entries; expected at most " + std::to_string(max_tensors));
            return found;
        }
        for (const auto &[name, unused] : value_->items()) {
            if (!is_short_text(name)) {
                problem(shown(name), "is a name" + short_text());
                continue;
            }
            Object tensor = object(name);
            TensorSpec &spec = found[name];
            const Json *shape = tensor.get("shape", &Json::is_array, "list");
            if (shape && shape->size() > max_rank) {
                tensor.problem("shape", "has " + std::to_string(shape->size()) + " dimensions; expected at most " +
                                            std::to_string(max_rank));
            } else if (shape) {
                for (const Json &entry : *shape) {
                    const std::optional<Dim> dim = dim_from(entry);
                    if (dim) {
                        spec.shape.push_back(*dim);
                    } else {
                        tensor.problem("shape", "holds " + shown(entry) + "; expected 1 to " + std::to_string(max_dim) +
                                                    ", height/N or width/N");
                    }
                }
            }
            spec.dtype = tensor.choice("dtype", {"float32", "float16", "int32", "int64", "uint8", "int8"});
        }
        return found;
    }

   private:
    const Json *value_;  // null stands for an object that is not there, which has been noted
    std::string where_;
    std::vector<std::string> &problems_;
};

Tiling tiling_from(Object entry) {
    const Tiling tiling{entry.number("multiple", 1, max_multiple), entry.number("halo", 0, max_side)};
    if (tiling.halo % tiling.multiple != 0) {
        entry.problem("halo", "is " + std::to_string(tiling.halo) + "; expected a multiple of " +
                                  std::to_string(tiling.multiple));
    }
    return tiling;
}

GraphFile graph_from(Object &entry) {
    GraphFile graph;
    graph.spec.name = entry.text("name");
    graph.spec.inputs = entry.object("inputs").tensors();
    graph.spec.outputs = entry.object("outputs").tensors();
    graph.spec.exact = entry.flag("exact", true);
    graph.path = entry.text("path");
    graph.sha256 = entry.text("sha256", 64);
    graph.precision = entry.text("precision");
    if (entry.has("symmetric")) {
        Object symmetric = entry.object("symmetric");
        graph.symmetric = GraphForm{symmetric.text("path"), symmetric.text("sha256", 64)};
    }
    if (entry.has("tiling")) graph.tiling = tiling_from(entry.object("tiling"));
    return graph;
}

StepSpec step_from(Object &entry) {
    StepSpec step;
    const auto fits = [](int64_t first, int64_t end) { return 0 <= first && first < end && end <= max_channels; };
    const std::string expected = "[first, end], 0 <= first < end <= " + std::to_string(max_channels);
    if (const auto channels = entry.pair("channels", expected, fits)) {
        step.first_channel = (*channels)[0];
        step.end_channel = (*channels)[1];
    }
    const std::string positions = entry.choice("positions", {"all", "anchor", "nonanchor"});
    step.positions = positions == "anchor"      ? Positions::anchor
                     : positions == "nonanchor" ? Positions::nonanchor
                                                : Positions::all;
    step.graph = entry.text("graph");
    return step;
}

SizeRange sizes_from(Object entry) {
    const auto sides = [&entry](const char *key) {
        const auto fit = [](int64_t height, int64_t width) { return height <= max_side && width <= max_side; };
        return entry.pair(key, "[height, width], at most " + std::to_string(max_side), fit);
    };
    const auto min = sides("min"), opt = sides("opt"), max = sides("max");
    if (!min || !opt || !max) return {};
    for (size_t side = 0; side < 2; ++side) {
        const int64_t least = (*min)[side], tuned = (*opt)[side], most = (*max)[side];
        if (1 <= least && least <= tuned && tuned <= most) continue;
        entry.problem(side == 0 ? "height" : "width", "has min " + std::to_string(least) + ", opt " +
                                                          std::to_string(tuned) + ", max " + std::to_string(most) +
                                                          "; expected 1 <= min <= opt <= max");
    }
    return {*min, *opt, *max};
}

}  // namespace

Manifest manifest_from_json(Bytes text) {
    OutputOrder order;
    const Json value = json_from(text, "manifest.json", [&](int depth, Json::parse_event_t event, const Json &entry) {
        order.watch(depth, event, entry);
    });
    if (!value.is_object() || value.value("format", Json()) != "mlic-bundle") {
        refuse("manifest.json is not the manifest of a bundle: its format is not 'mlic-bundle'");
    }
    const Json version = value.value("format_version", Json());
    const std::optional<int64_t> number = integer_from(version);
    if (!number || *number < 1 || *number > format_version) {
        refuse("bundle format version " + shown(version) + "; this reader knows 1 to " +
               std::to_string(format_version));
    }
    std::vector<std::string> problems;
    Object root(&value, "", problems);
    Object latent = root.object("latent"), tables = root.object("tables"), padding = root.object("padding");
    Manifest manifest;
    const std::string model_id = root.text("model_id", 16);
    for (size_t byte = 0; is_hex(model_id, 16) && byte < 8; ++byte) {
        manifest.model_id[byte] = static_cast<uint8_t>(std::stoul(model_id.substr(2 * byte, 2), nullptr, 16));
    }
    bool twice = false;
    size_t place = 0;
    for (Object &entry : root.objects("graphs", max_graphs)) {
        GraphFile graph = graph_from(entry);
        graph.spec.output_order = order.of(place++, graph.spec.outputs);
        const std::string name = graph.spec.name;
        twice = !manifest.graphs.emplace(name, std::move(graph)).second || twice;
    }
    manifest.name = root.text("name");
    manifest.architecture = root.text("architecture");
    manifest.variant = root.text("variant");
    manifest.arithmetic = root.text("arithmetic");
    manifest.engine = root.text("engine");
    manifest.padding.multiple = padding.number("multiple", 1, max_multiple);
    const bool centre = padding.choice("placement", {"top-left", "centre"}) == "centre";
    manifest.padding.placement = centre ? Padding::Placement::centre : Padding::Placement::top_left;
    const bool edge = padding.choice("fill", {"zeros", "edge"}) == "edge";
    manifest.padding.fill = edge ? Padding::Fill::edge : Padding::Fill::zeros;
    manifest.y_channels = latent.number("y_channels", 1, max_channels);
    manifest.z_channels = latent.number("z_channels", 1, max_channels);
    manifest.tables_path = tables.text("path");
    manifest.tables_sha256 = tables.text("sha256", 64);
    for (Object &entry : root.objects("steps", max_steps)) manifest.steps.push_back(step_from(entry));
    if (root.has("sizes")) manifest.sizes = sizes_from(root.object("sizes"));
    if (root.has("certificate")) {
        Object certificate = root.object("certificate");
        manifest.certificate = CertificateFile{certificate.text("path"), certificate.text("sha256", 64)};
    }
    if (twice) problems.emplace_back("graphs: a name occurs twice");
    if (!problems.empty()) {
        refuse("manifest.json: " + listed(problems));
    }
    return manifest;
}

}  // namespace mlic
