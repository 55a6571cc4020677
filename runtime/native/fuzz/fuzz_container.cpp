// Takes arbitrary bytes apart as a .mlic file; what can be read has to come back from what is written of it.
#include <cstdlib>

#include "chunk_mutator.hpp"
#include "container.hpp"
#include "failure.hpp"

namespace {

void require(bool holds) {
    if (!holds) std::abort();
}

bool about_the_file(const mlic::Failure &failure) {
    return failure.status == mlic::Status::truncated_stream || failure.status == mlic::Status::corrupt_stream ||
           failure.status == mlic::Status::unsupported_stream;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    try {
        mlic::read_header(data, size);
    } catch (const mlic::Failure &failure) {
        require(about_the_file(failure));
    }
    try {
        const mlic::Bitstream stream = mlic::read_container(data, size);
        const std::vector<uint8_t> written = mlic::write_container(stream);
        const mlic::Bitstream again = mlic::read_container(written.data(), written.size());
        require(again.model_id == stream.model_id && again.width == stream.width && again.height == stream.height);
        require(again.latents == stream.latents && again.escapes == stream.escapes);
        require(again.syndromes == stream.syndromes && again.icc_profile == stream.icc_profile);
    } catch (const mlic::Failure &failure) {
        require(about_the_file(failure));
    }
    return 0;
}
