// Shows the parts below the codec to tests/native/test_core.py, one request at a time.
#include <optional>
#include <sstream>

#include "ans.hpp"
#include "bundle.hpp"
#include "checkerboard.hpp"
#include "container.hpp"
#include "escape.hpp"
#include "external_data.hpp"
#include "grid.hpp"
#include "gzip_file.hpp"
#include "image.hpp"
#include "integer_answers.hpp"
#include "orientation.hpp"
#include "probe_io.hpp"
#include "sha256.hpp"
#include "syndrome.hpp"
#include "text.hpp"
#include "tiles.hpp"
#include "transforms.hpp"

namespace {

using namespace mlic;
using probe::Answer;
using probe::Arguments;
using probe::Blob;
using probe::blob;
using probe::number;

std::optional<EntropyModel> model;  // set by "tables", used by what follows

const FrequencyTables &tables_of(Arguments &arguments) { return arguments.text() == "z" ? model->z() : model->y(); }

Answer header_answer(const Header &header) {
    return {Blob(header.model_id.begin(), header.model_id.end()), number(header.width), number(header.height),
            blob(header.arithmetic)};
}

// Contents of LATS, ESCP and SYND or CHCK; for a grid the cell's size, then each cell's.
void put_coded(const Bitstream &stream, Answer &answer) {
    if (!stream.grid) {
        answer.insert(answer.end(), {stream.latents, stream.escapes, stream.checks});
        return;
    }
    answer.push_back(number(stream.grid->cell_width));
    answer.push_back(number(stream.grid->cell_height));
    for (const Bitstream &cell : stream.grid->cells) put_coded(cell, answer);
}

// Whether a part is there, and the part.
void put_part(const std::optional<Blob> &part, Answer &answer) {
    answer.push_back(number<uint8_t>(part ? 1 : 0));
    answer.push_back(part.value_or(Blob()));
}

std::optional<Blob> take_part(Arguments &arguments) {
    const bool is_there = arguments.number<uint8_t>() != 0;
    const Blob &part = arguments.bytes();
    return is_there ? std::optional<Blob>(part) : std::nullopt;
}

Metadata take_metadata(Arguments &arguments) {
    Metadata metadata;
    metadata.icc_profile = take_part(arguments);
    metadata.exif = take_part(arguments);
    metadata.xmp = take_part(arguments);
    metadata.source = arguments.number<uint8_t>();
    return metadata;
}

void put_metadata(const Metadata &metadata, Answer &answer) {
    put_part(metadata.icc_profile, answer);
    put_part(metadata.exif, answer);
    put_part(metadata.xmp, answer);
    answer.push_back(number(metadata.source));
}

Answer read_container_answer(Arguments &arguments) {
    const auto &file = arguments.bytes();
    const auto max_pixels = arguments.number<uint64_t>(), latent_pixels = arguments.number<uint64_t>();
    // A buffer of its own, so that AddressSanitizer sees the first byte behind it.
    const Bitstream stream = read_container(file.data(), file.size(), max_pixels, latent_pixels);
    Answer answer = header_answer(stream);
    put_metadata(stream.metadata, answer);
    put_coded(stream, answer);
    return answer;
}

// Reads a file and writes it again.
Answer rewrite_container(Arguments &arguments) {
    const auto &file = arguments.bytes();
    return {write_container(read_container(file.data(), file.size()))};
}

Answer read_header_answer(Arguments &arguments) {
    const auto &file = arguments.bytes();
    return header_answer(read_header(file.data(), file.size(), arguments.number<uint64_t>()));
}

Answer write_container_answer(Arguments &arguments) {
    Bitstream stream;
    const auto &model_id = arguments.bytes();
    std::copy_n(model_id.begin(), 8, stream.model_id.begin());
    stream.width = arguments.number<uint32_t>();
    stream.height = arguments.number<uint32_t>();
    stream.arithmetic = arguments.text();
    stream.metadata = take_metadata(arguments);
    stream.latents = arguments.bytes();
    stream.escapes = arguments.bytes();
    stream.checks = arguments.bytes();
    return {write_container(stream)};
}

Answer upright_answer(Arguments &arguments) {
    Answer answer;
    put_metadata(upright(take_metadata(arguments)), answer);
    return answer;
}

std::vector<int64_t> numbers_of(const Box &box) { return {box.top, box.left, box.height, box.width}; }

Answer tiles_answer(Arguments &arguments) {
    const auto numbers = arguments.array<int64_t>();  // height, width, multiple, halo, pixels, largest sides
    const Tiling tiling{numbers.at(2), numbers.at(3)};
    Answer answer;
    for (const Tile &tile :
         tile_grid(numbers.at(0), numbers.at(1), numbers.at(2) > 0 ? std::optional(tiling) : std::nullopt,
                   numbers.at(4), {numbers.at(5), numbers.at(6)})) {
        answer.push_back(blob(numbers_of(tile.computed)));
        answer.push_back(blob(numbers_of(tile.kept)));
    }
    return answer;
}

Answer cells_answer(Arguments &arguments) {
    const auto numbers = arguments.array<int64_t>();  // height, width, multiple, pixels
    const CellSize size = cell_size(numbers.at(0), numbers.at(1), numbers.at(2), static_cast<uint64_t>(numbers.at(3)));
    Answer answer{number<int64_t>(size.height), number<int64_t>(size.width)};
    for (const Box &box : cell_boxes(numbers.at(0), numbers.at(1), size)) answer.push_back(blob(numbers_of(box)));
    return answer;
}

Answer bundle_answer(const Bundle &bundle) {
    const Manifest &manifest = bundle.manifest();
    const Arithmetic &arithmetic = *arithmetic_named(manifest.arithmetic);
    std::string steps;
    for (const StepSpec &step : manifest.steps) {
        steps += step.graph + " " + std::to_string(step.first_channel) + " " + std::to_string(step.end_channel) + " " +
                 std::to_string(step.size(128, 192)) + " " + step.given(arithmetic) + " " + step.symbols() + "\n";
    }
    std::string graphs;
    for (const auto &[name, graph] : manifest.graphs) {
        graphs += name + " " + graph.path + " " + graph.sha256 + " " + (graph.spec.exact ? "exact" : "free");
        if (graph.tiling) {
            graphs += " tiles " + std::to_string(graph.tiling->multiple) + " " + std::to_string(graph.tiling->halo);
        }
        for (const auto &[input, spec] : graph.spec.inputs) graphs += " " + input + " " + spec.text();
        for (const std::string &output : graph.spec.output_order) {
            graphs += " " + output;
            for (int64_t side : graph.spec.outputs.at(output).concrete(128, 192)) graphs += " " + std::to_string(side);
        }
        graphs += "\n";
    }
    return {blob(manifest.name),
            Blob(manifest.model_id.begin(), manifest.model_id.end()),
            blob(steps),
            blob(graphs),
            blob(bundle.entropy().scale_table()),
            blob(bundle.entropy().y().frequencies),
            blob(bundle.entropy().z().offsets)};
}

Answer open_memory(Arguments &arguments) {
    std::map<std::string, Bytes> files;
    while (arguments.left() > 0) {
        const std::string name = arguments.text();
        files[name] = arguments.bytes();
    }
    return bundle_answer(Bundle::open(std::make_shared<MemorySource>(std::move(files))));
}

Answer ans_encode(Arguments &arguments) {
    const CoderTables y(model->y()), z(model->z());
    AnsEncoder encoder;
    while (arguments.left() > 0) {
        const bool of_z = arguments.text() == "z";
        const auto slots = arguments.array<int32_t>();
        if (of_z) {
            encoder.add<uint16_t>(z, slots, arguments.array<uint16_t>());
        } else {
            encoder.add<uint8_t>(y, slots, arguments.array<uint8_t>());
        }
    }
    return {encoder.finish_bytes()};
}

// Takes every group twice, the second time from a copy made before.
Answer ans_decode(Arguments &arguments) {
    const CoderTables y(model->y()), z(model->z());
    AnsDecoder decoder = AnsDecoder::from_bytes(arguments.bytes());
    Answer answer;
    while (arguments.left() > 0) {
        const bool of_z = arguments.text() == "z";
        const auto rows = of_z ? arguments.array<uint16_t>() : std::vector<uint16_t>();
        const auto indexes = of_z ? std::vector<uint8_t>() : arguments.array<uint8_t>();
        AnsDecoder copy = decoder;
        const auto take = [&](AnsDecoder &from) {
            return of_z ? from.take<uint16_t>(z, rows) : from.take<uint8_t>(y, indexes);
        };
        const Taken taken = take(decoder);
        answer.push_back(blob(taken.symbols));
        answer.push_back(number<uint64_t>(taken.escapes));
        if (take(copy).symbols != taken.symbols) throw Failure(Status::internal, "a copy went another way");
    }
    bool ended = true;
    try {
        decoder.finish();
    } catch (const Failure &) {
        ended = false;
    }
    answer.push_back(number<uint8_t>(ended ? 1 : 0));
    return answer;
}

Answer escape_read(Arguments &arguments) {
    EscapeReader reader(arguments.bytes());
    Answer answer;
    for (uint64_t count : arguments.array<uint64_t>()) answer.push_back(blob(reader.take(count)));
    reader.finish();
    return answer;
}

Answer syndrome_write(Arguments &arguments) {
    const auto chunk_log2 = arguments.number<uint32_t>();
    SyndromeWriter writer(chunk_log2, arguments.number<uint32_t>());
    while (arguments.left() > 0) writer.add(arguments.bytes());
    return {writer.finish()};
}

Answer syndrome_read(Arguments &arguments) {
    const auto &payload = arguments.bytes();
    const auto sizes = arguments.array<uint64_t>();
    const auto table = arguments.array<float>();
    const SyndromeReader reader(payload, std::vector<size_t>(sizes.begin(), sizes.end()), table);
    if (arguments.left() == 0) return {};
    const auto step = arguments.number<uint64_t>();
    const auto indexes = arguments.array<uint8_t>();
    const auto scales = arguments.array<float>();
    const auto pick = arguments.number<uint64_t>();
    const std::vector<size_t> wrong = reader.wrong_chunks(step, indexes);
    Answer answer{blob(std::vector<uint64_t>(wrong.begin(), wrong.end()))};
    const auto found = reader.reading(step, "step", indexes, scales, wrong, pick);
    if (!found) return answer;
    std::vector<double> changes;
    for (const Change &change : found->changes) {
        changes.insert(changes.end(), {static_cast<double>(change.place), static_cast<double>(change.ours),
                                       static_cast<double>(change.theirs), change.distance});
    }
    answer.insert(answer.end(), {blob(found->indexes), number(found->cost), blob(changes)});
    if (found->next_cost) answer.push_back(number(*found->next_cost));
    return answer;
}

Answer effects(Arguments &arguments) {
    const Checksum *checksum = Checksum::of_width(arguments.number<uint32_t>());
    const auto behind = arguments.array<uint64_t>();
    const auto changes = arguments.array<uint8_t>();
    std::vector<uint32_t> found;
    for (size_t place = 0; place < behind.size(); ++place) {
        found.push_back(checksum->effect(behind[place], changes[place]));
    }
    return {blob(found)};
}

Answer sets(Arguments &arguments) {
    const auto values = arguments.array<uint32_t>();
    const auto wanted = arguments.number<uint32_t>();
    const auto reach = arguments.array<uint64_t>();
    Answer answer;
    for (const PlaceSet &set : sets_with_sum(values, wanted, {reach.at(0), reach.at(1), reach.at(2), reach.at(3)})) {
        answer.push_back(blob(set));
    }
    return answer;
}

Padding padding_of(Arguments &arguments) {
    Padding padding;
    padding.multiple = arguments.number<int64_t>();
    if (arguments.text() == "centre") padding.placement = Padding::Placement::centre;
    if (arguments.text() == "edge") padding.fill = Padding::Fill::edge;
    return padding;
}

Answer picture(Arguments &arguments, bool to_pixels) {
    const Padding padding = padding_of(arguments);
    const auto size = arguments.array<int64_t>();  // height, width, channels, and a box in the padded picture
    const Frame frame = Frame::around(size.at(0), size.at(1), padding);
    const auto channels = static_cast<unsigned>(size.at(2));
    const Box box{size.at(3), size.at(4), size.at(5), size.at(6)};
    const auto width = static_cast<size_t>(to_pixels ? box.width : frame.width);
    const auto height = static_cast<size_t>(to_pixels ? box.height : frame.height);
    const size_t row = width * channels, stride = row + 5;  // rows that do not touch
    std::vector<uint8_t> rows(stride * height);
    if (!to_pixels) {
        const auto &pixels = arguments.bytes();
        for (size_t place = 0; place < pixels.size(); ++place) {
            rows[place / row * stride + place % row] = pixels[place];
        }
        return {blob(x_from_pixels(rows.data(), stride, channels, frame, padding, box))};
    }
    pixels_in_box(arguments.array<float>(), frame.padded_height, frame.padded_width, box, rows.data(), stride);
    if (arguments.number<uint8_t>() != 0) make_grey(rows.data(), stride, height, width);
    Blob packed;
    for (size_t line = 0; line < height; ++line) {
        const uint8_t *from = rows.data() + line * stride;
        packed.insert(packed.end(), from, from + row);
    }
    return {packed};
}

// Whether each line of a text is printable.
Answer printable(Arguments &arguments) {
    std::istringstream lines(arguments.text());
    Blob answer;
    for (std::string line; std::getline(lines, line);) answer.push_back(is_printable(line) ? 1 : 0);
    return {answer};
}

// Whether a file, given in parts, keeps data elsewhere.
Answer external(Arguments &arguments) {
    ExternalData external;
    while (arguments.left() > 0) external.add(arguments.bytes());
    return {number<uint8_t>(external.found() ? 1 : 0)};
}

Answer part(Arguments &arguments) {
    const auto y = arguments.array<float>();
    const auto numbers = arguments.array<int64_t>();  // height, width, first and end channel
    const std::string kind = arguments.text();
    StepSpec step{"step_00", numbers.at(2), numbers.at(3), Positions::all};
    if (kind != "all") step.positions = kind == "anchor" ? Positions::anchor : Positions::nonanchor;
    return {blob(part_of_y(y, numbers.at(0), numbers.at(1), step))};
}

}  // namespace

int main() {
    using A = Arguments;
    const probe::Handlers handlers{
        {"read_container", read_container_answer},
        {"read_header", read_header_answer},
        {"write_container", write_container_answer},
        {"rewrite_container", rewrite_container},
        {"open", [](A &a) { return bundle_answer(Bundle::open(std::filesystem::path(a.text()))); }},
        {"open_memory", open_memory},
        {"tables",
         [](A &a) {
             model = EntropyModel::from_arrays(arrays_from_npz(a.bytes(), 1U << 28));
             return Answer();
         }},
        {"indexes", [](A &a) { return Answer{blob(model->build_indexes(a.array<float>()))}; }},
        {"quantize",
         [](A &a) {
             const auto values = a.array<float>();
             return Answer{blob(quantize(values, a.array<float>(), "graph step_00"))};
         }},
        {"integers", [](A &a) { return Answer{blob(integers_from_floats(a.array<float>(), "graph h_a"))}; }},
        {"slots",
         [](A &a) {
             const FrequencyTables &tables = tables_of(a);
             const auto symbols = a.array<int32_t>();
             const Slots found = tables.slots_from_symbols<uint16_t>(symbols, a.array<uint16_t>());
             return Answer{blob(found.slots), blob(found.raws)};
         }},
        {"symbols",
         [](A &a) {
             const FrequencyTables &tables = tables_of(a);
             auto symbols = a.array<float>();
             const auto rows = a.array<uint16_t>();
             const auto escapes = a.array<uint64_t>();
             EscapeReader reader(a.bytes());
             tables.put_escapes<uint16_t>(symbols, rows, reader.take(escapes.at(0)));
             return Answer{blob(symbols)};
         }},
        {"ans_encode", ans_encode},
        {"ans_decode", ans_decode},
        {"escape_write",
         [](A &a) {
             EscapeWriter writer;
             while (a.left() > 0) writer.add(a.array<int64_t>());
             return Answer{writer.finish()};
         }},
        {"escape_read", escape_read},
        {"syndrome_write", syndrome_write},
        {"syndrome_read", syndrome_read},
        {"effects", effects},
        {"sets", sets},
        {"tiles", tiles_answer},
        {"cells", cells_answer},
        {"tile_pixels", [](A &) { return Answer{number(default_tile_pixels)}; }},
        {"upright", upright_answer},
        {"x_from_pixels", [](A &a) { return picture(a, false); }},
        {"pixels_in_box", [](A &a) { return picture(a, true); }},
        {"part_of_y", part},
        {"printable", printable},
        {"external", external},
        {"unpacked",
         [](A &a) {
             const auto &file = a.bytes();
             return Answer{blob(unpacked(file, a.number<uint64_t>()))};
         }},
        {"symbols_of_case", probe::symbols_of_case},
        {"digest", probe::digest_of_outputs},
        {"certificate_key", probe::key_of_certificate},
        {"sha256",
         [](A &a) {
             Sha256 digest;
             while (a.left() > 0) digest.add(a.bytes());
             return Answer{blob(digest.finish())};
         }},
    };
    return probe::serve(handlers);
}
