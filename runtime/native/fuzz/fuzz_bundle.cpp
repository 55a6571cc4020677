// Reads arbitrary bytes as what a bundle's author gives: a manifest, tables, an array in them, a certificate, or a
// compressed graph. What is wrong is a failure of one kind, with a text of one short line.
#include <zlib.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "bytes.hpp"
#include "certificate.hpp"
#include "checksums.hpp"
#include "entropy_model.hpp"
#include "external_data.hpp"
#include "failure.hpp"
#include "gzip_file.hpp"
#include "manifest.hpp"
#include "npz.hpp"
#include "text.hpp"

namespace {

constexpr uint64_t most_unpacked = 1U << 26;  // as bundle.cpp has it
constexpr size_t most_text = 8192;

void require(bool holds) {
    if (!holds) std::abort();
}

// A zip file of one member with a checksum that fits, which a mutator hardly finds.
std::vector<uint8_t> zipped(mlic::Bytes member) {
    const std::string name = "scale_table.npy";
    const mlic::Bytes letters(reinterpret_cast<const uint8_t *>(name.data()), name.size());
    const auto size = static_cast<uint32_t>(member.size);
    std::vector<uint8_t> file;
    const auto put_common = [&](uint32_t magic, bool central) {
        mlic::put_u32(file, magic);
        if (central) mlic::put_u16(file, 20);
        for (const uint32_t value : {20U, 0U, 0U, 0U, 0U}) mlic::put_u16(file, value);  // stored, no date
        for (const uint32_t value : {mlic::crc32_of(member), size, size}) mlic::put_u32(file, value);
        mlic::put_u16(file, static_cast<uint32_t>(name.size()));
        mlic::put_u16(file, 0);
    };
    put_common(0x04034b50, false);
    mlic::put(file, letters);
    mlic::put(file, member);
    const auto start = static_cast<uint32_t>(file.size());
    put_common(0x02014b50, true);
    for (int place = 0; place < 7; ++place) mlic::put_u16(file, 0);  // no comment, first disk, where the member begins
    mlic::put(file, letters);
    const auto directory = static_cast<uint32_t>(file.size()) - start;
    mlic::put_u32(file, 0x06054b50);
    for (const uint32_t value : {0U, 0U, 1U, 1U}) mlic::put_u16(file, value);
    mlic::put_u32(file, directory);
    mlic::put_u32(file, start);
    mlic::put_u16(file, 0);
    return file;
}

// A gzip file whose deflated data are what was given, with the checksum and the size of what they unpack to, which a
// mutator hardly finds.
std::vector<uint8_t> gzipped(mlic::Bytes deflated) {
    std::vector<uint8_t> made(1 << 16);
    z_stream stream{};
    require(inflateInit2(&stream, -MAX_WBITS) == Z_OK);
    stream.next_in = const_cast<Bytef *>(deflated.data);
    stream.avail_in = static_cast<uInt>(deflated.size);
    stream.next_out = made.data();
    stream.avail_out = static_cast<uInt>(made.size());
    inflate(&stream, Z_FINISH);
    const size_t used = deflated.size - stream.avail_in;
    made.resize(made.size() - stream.avail_out);
    inflateEnd(&stream);
    std::vector<uint8_t> file{0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 3};
    mlic::put(file, deflated.part(0, used));
    mlic::put_u32(file, mlic::crc32_of(made));
    mlic::put_u32(file, static_cast<uint32_t>(made.size()));
    return file;
}

// As much of the manifest of tests/integer_bundle.py as certificates are compared with.
mlic::Manifest integer_manifest() {
    mlic::Manifest manifest;
    for (char number = '0'; number < '5'; ++number)
        manifest.steps.push_back({std::string("step_0") + number, 0, 1, mlic::Positions::all});
    return manifest;
}

// What was read can be computed with: sides that are padded, inputs of a moderate number, hashes of all graphs.
void check_certificate(const mlic::Certificate &certificate, const mlic::Manifest &manifest) {
    require(!certificate.cases.empty());
    for (const mlic::Case &one : certificate.cases) {
        require(one.height > 0 && one.width > 0 && one.height * one.width <= 1 << 18);
        require(one.height % manifest.padding.multiple == 0 && one.width % manifest.padding.multiple == 0);
        for (const float symbol : mlic::symbols_of(one, static_cast<uint64_t>(one.seed), 64))
            require(symbol >= -mlic::max_symbol && symbol <= mlic::max_symbol);
        for (const std::string &name : mlic::chain_names(manifest)) require(one.sha256.at(name).size() == 64);
    }
}

template <typename Read>
void read_or_refuse(const Read &read) {
    try {
        read();
    } catch (const mlic::Failure &failure) {
        require(failure.status == mlic::Status::bad_bundle);
        require(std::string(failure.what()).size() < most_text && mlic::is_printable(failure.what()));
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const mlic::Bytes bytes(data, size);
    read_or_refuse([&] {
        const mlic::Manifest manifest = mlic::manifest_from_json(bytes);
        require(mlic::listed(mlic::wiring_problems(manifest)).size() < most_text);
        for (const auto &[name, graph] : manifest.graphs)
            require(graph.spec.output_order.size() == graph.spec.outputs.size());
    });
    static const mlic::Manifest integer = integer_manifest();
    read_or_refuse([&] { check_certificate(mlic::certificate_from_json(bytes, integer), integer); });
    read_or_refuse([&] { mlic::EntropyModel::from_arrays(mlic::arrays_from_npz(bytes, most_unpacked)); });
    read_or_refuse([&] {
        const mlic::NpzArrays arrays = mlic::arrays_from_npz(zipped(bytes), most_unpacked);
        require(arrays.at("scale_table").data.size() <= size);
    });
    for (const bool right : {false, true}) {
        const std::vector<uint8_t> file = right ? gzipped(bytes) : bytes.copy();
        read_or_refuse([&] {
            const std::vector<uint8_t> found = mlic::unpacked(file, most_unpacked);
            require(found.size() <= most_unpacked && found.size() <= mlic::most_unpacked(file.size()));
            require(*mlic::unpacked_size(file, file) == found.size());
        });
    }
    mlic::ExternalData whole, cut;
    whole.add(bytes);
    cut.add(bytes.part(0, size / 2));
    cut.add(bytes.part(size / 2, size));
    require(whole.found() == cut.found());
    require(whole.found() == mlic::has_external_data(bytes));
    return 0;
}
