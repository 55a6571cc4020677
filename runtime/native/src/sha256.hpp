// SHA-256 (FIPS 180-4), for the hashes in manifests.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "bytes.hpp"

namespace mlic {

class Sha256 {
   public:
    void add(Bytes bytes);
    // The digest as lower-case hex; nothing may be added afterwards.
    std::string finish();

   private:
    void block(const uint8_t *bytes);

    std::array<uint32_t, 8> state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                   0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    std::array<uint8_t, 64> pending_{};
    uint64_t length_ = 0;
};

}  // namespace mlic
