// Takes arbitrary bytes apart as a .mlic file; what can be read has to come back from what is written of it.
#include <algorithm>
#include <cstdlib>
#include <vector>

#include "chunk_mutator.hpp"
#include "container.hpp"
#include "failure.hpp"
#include "grid.hpp"
#include "orientation.hpp"

namespace {

void require(bool holds) {
    if (!holds) std::abort();
}

bool same_coded(const mlic::Bitstream &one, const mlic::Bitstream &other) {
    if (one.model_id != other.model_id || one.width != other.width || one.height != other.height) return false;
    if (one.grid == nullptr || other.grid == nullptr) {
        return one.grid == other.grid && one.latents == other.latents && one.escapes == other.escapes &&
               one.checks == other.checks;
    }
    const std::vector<mlic::Bitstream> &cells = one.grid->cells, &others = other.grid->cells;
    return one.grid->cell_width == other.grid->cell_width && one.grid->cell_height == other.grid->cell_height &&
           std::equal(cells.begin(), cells.end(), others.begin(), others.end(), same_coded);
}

bool about_the_file(const mlic::Failure &failure) {
    return failure.status == mlic::Status::truncated_stream || failure.status == mlic::Status::corrupt_stream ||
           failure.status == mlic::Status::unsupported_stream;
}

// What has been turned upright once stays as it is.
void check_upright(const mlic::Metadata &metadata) {
    mlic::Metadata turned;
    try {
        turned = mlic::upright(metadata);
    } catch (const mlic::Failure &failure) {
        require(failure.status == mlic::Status::invalid_argument);
        return;
    }
    require(mlic::upright(turned) == turned);
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
        require(same_coded(again, stream) && again.metadata == stream.metadata);
        check_upright(stream.metadata);
    } catch (const mlic::Failure &failure) {
        require(about_the_file(failure));
    }
    return 0;
}
