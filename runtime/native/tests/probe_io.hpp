// How core_probe talks to pytest: a request is a name and a list of byte strings, an answer a status and another list.
// All numbers are little-endian, as this program's are.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <map>
#include <new>
#include <string>
#include <vector>

#include "bytes.hpp"
#include "failure.hpp"

namespace probe {

using Blob = std::vector<uint8_t>;

inline Blob blob(const std::string &text) { return Blob(text.begin(), text.end()); }

template <typename T>
Blob blob(const std::vector<T> &values) {
    Blob bytes(values.size() * sizeof(T));
    if (!bytes.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
    return bytes;
}

template <typename T>
Blob number(T value) {
    return blob(std::vector<T>{value});
}

// What a request brings, taken from front to back.
class Arguments {
   public:
    explicit Arguments(std::vector<Blob> blobs) : blobs_(std::move(blobs)) {}
    size_t left() const { return blobs_.size() - next_; }
    const Blob &bytes() { return blobs_.at(next_++); }
    std::string text() {
        const Blob &found = bytes();
        return std::string(found.begin(), found.end());
    }
    template <typename T>
    std::vector<T> array() {
        const Blob &found = bytes();
        std::vector<T> values(found.size() / sizeof(T));
        if (!values.empty()) std::memcpy(values.data(), found.data(), values.size() * sizeof(T));
        return values;
    }
    template <typename T>
    T number() {
        return array<T>().at(0);
    }

   private:
    std::vector<Blob> blobs_;
    size_t next_ = 0;
};

using Answer = std::vector<Blob>;
using Handlers = std::map<std::string, std::function<Answer(Arguments &)>>;

inline bool read_exactly(void *to, size_t size) { return size == 0 || std::fread(to, 1, size, stdin) == size; }

inline bool read_blob(Blob &bytes) {
    uint32_t size = 0;
    if (!read_exactly(&size, 4)) return false;
    bytes.resize(size);
    return read_exactly(bytes.data(), size);
}

inline void write_answer(uint8_t status, const Answer &answer) {
    const auto count = static_cast<uint32_t>(answer.size());
    std::fwrite(&status, 1, 1, stdout);
    std::fwrite(&count, 4, 1, stdout);
    for (const Blob &one : answer) {
        const auto size = static_cast<uint32_t>(one.size());
        std::fwrite(&size, 4, 1, stdout);
        if (size > 0) std::fwrite(one.data(), 1, size, stdout);
    }
    std::fflush(stdout);
}

// Answers requests until there are no more. A failure's status and text are its answer.
inline int serve(const Handlers &handlers) {
    Blob name;
    while (read_blob(name)) {
        uint32_t count = 0;
        if (!read_exactly(&count, 4)) return 1;
        std::vector<Blob> blobs(count);
        for (Blob &one : blobs) {
            if (!read_blob(one)) return 1;
        }
        Arguments arguments(std::move(blobs));
        try {
            write_answer(0, handlers.at(std::string(name.begin(), name.end()))(arguments));
        } catch (const mlic::Failure &failure) {
            write_answer(static_cast<uint8_t>(failure.status), {blob(std::string(failure.what()))});
        }
    }
    return 0;
}

}  // namespace probe
