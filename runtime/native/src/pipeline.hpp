// Pictures to the contents of a file and back, transforms, chain, and cells where one latent would be too large: twin
// of runtime/pipeline.py.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "chain.hpp"
#include "grid.hpp"
#include "transforms.hpp"

namespace mlic {

// The graphs of a model in the order in which pictures pass through them; may be used from several threads at once.
class Pipeline {
   public:
    // `bundle`, its `graphs` and `engine`, which runs them, have to live as long as this. `cache` knows which engines
    // have passed. Pictures of more than `latent_pixels` are cut into cells. Throws Failure(invalid_argument) if
    // `tile_pixels` or `latent_pixels` is too small for any picture.
    Pipeline(const Bundle &bundle, Graphs &graphs, const Engine &engine, CertificateCache cache, uint64_t tile_pixels,
             uint64_t latent_pixels);

    // Opens graphs, and makes sure that the engine passes the certificate of an integer bundle. Throws Failure:
    // engine_failed, engine_mismatch.
    void prepare(bool encode, bool decode);

    // Sizes of the cells of a picture, in the order of the file; one where it is a single latent.
    std::vector<Box> cells(uint32_t height, uint32_t width) const;

    // Returns what a picture's file holds, without metadata. Throws Failure: engine_failed, engine_mismatch.
    Bitstream encode(const Pixels &pixels, uint32_t height, uint32_t width, const Progress &progress);

    // Throws Failure(unsupported_stream) if a file is of another model, or needs another arithmetic.
    void check(const Bitstream &stream) const { chain_.check(stream); }

    // Writes the part of a file's picture that lies in `region`, whose first pixel goes to the first of `target`, and
    // returns the indexes that had to be corrected. Throws Failure: corrupt_stream, unsupported_stream,
    // engine_mismatch, engine_failed.
    std::vector<Change> decode(const Bitstream &stream, const Box &region, const Target &target,
                               const Progress &progress);

   private:
    CellSize layout(uint32_t height, uint32_t width) const;

    const Manifest &manifest_;
    uint64_t latent_pixels_;
    Chain chain_;
    Transforms transforms_;
    LazyGraph &h_a_;
};

}  // namespace mlic
