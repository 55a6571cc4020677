// Pictures to `.mlic` files and back: twin of runtime/codec.py.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "bundle.hpp"
#include "coder.hpp"
#include "container.hpp"
#include "engine.hpp"
#include "walk.hpp"

namespace mlic {

// A model on an engine. One object may encode and decode in several threads at once: everything that changes during a
// call belongs to the call, graphs are opened under a lock, and engines run one graph in several threads.
class Codec {
   public:
    // `max_pixels`: of a picture that is encoded or decoded; 0 for the default.
    Codec(Bundle bundle, Engine engine, uint64_t max_pixels);
    Codec(const Codec &) = delete;
    Codec &operator=(const Codec &) = delete;

    const std::array<uint8_t, 8> &model_id() const { return bundle_.manifest().model_id; }

    // Opens graphs now, so that the first picture need not wait for it. Throws Failure(engine_failed).
    void prepare(bool encode, bool decode);

    // Throws Failure(invalid_argument) if a picture has no pixels or too many.
    void check_size(uint32_t width, uint32_t height) const;
    // A number of bytes that the file of any picture of this size fits in. Throws as check_size.
    size_t encode_bound(uint32_t width, uint32_t height) const;

    // Returns the file of a picture: RGB, rows `stride` bytes apart. Throws Failure: invalid_argument, engine_failed.
    std::vector<uint8_t> encode(const uint8_t *pixels, uint32_t width, uint32_t height, size_t stride,
                                const Progress &progress = {});

    // Takes a file apart and makes sure that it is of this model. Throws Failure: truncated_stream, corrupt_stream,
    // unsupported_stream.
    Bitstream read(const uint8_t *data, size_t size, const Progress &progress = {}) const;
    // Writes the picture of a file that `read` has taken apart, rows `stride` bytes apart, and returns the indexes that
    // had to be corrected. Throws Failure: corrupt_stream, unsupported_stream, engine_mismatch, engine_failed; `pixels`
    // is as it was then.
    std::vector<Change> decode(const Bitstream &stream, uint8_t *pixels, size_t stride, const Progress &progress = {});

   private:
    State begin(Tensor z_symbols, const Progress &progress);
    LazyGraph &graph(const std::string &name) { return graphs_.at(name); }

    Bundle bundle_;
    Engine engine_;
    std::string granted_;
    uint64_t max_pixels_;
    Models models_;
    std::map<std::string, LazyGraph> graphs_;
    std::vector<Step> steps_;
    std::shared_ptr<const Needed> needed_;
};

}  // namespace mlic
