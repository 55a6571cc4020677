// Whether an ONNX file keeps data in other files, which engines would open: twin of runtime/external_data.py.
#pragma once

#include <cstdint>
#include <vector>

#include "bytes.hpp"

namespace mlic {

// Looks for the entry that an initialiser outside the file has: its key, field 1 of 8 bytes, is `location`, and both
// numbers before it may be written in more bytes than they need.
class ExternalData {
   public:
    void add(Bytes bytes);  // the file, in parts of any size
    bool found() const { return found_; }

   private:
    std::vector<uint8_t> window_;  // what the last part ended with, in which an entry may begin
    bool found_ = false;
};

// Whether a file that lies in memory as a whole has such an entry.
bool has_external_data(Bytes file);

}  // namespace mlic
