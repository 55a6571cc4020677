// Files of a bundle in a folder, and in memory.
#include "file_source.hpp"

#include <algorithm>
#include <fstream>

#include "external_data.hpp"
#include "failure.hpp"
#include "sha256.hpp"

namespace mlic {
namespace {

namespace fs = std::filesystem;

constexpr size_t block = 1U << 20;

[[noreturn]] void refuse(const std::string &text) { throw Failure(Status::bad_bundle, text); }

// Whether a path could lie inside, whatever is on disk.
bool is_relative_within(const std::string &path) {
    if (path.empty() || path[0] == '/' || path.find('\0') != std::string::npos ||
        path.find('\\') != std::string::npos) {
        return false;
    }
    const fs::path parts(path);
    return !parts.is_absolute() && std::find(parts.begin(), parts.end(), fs::path("..")) == parts.end();
}

// Calls `take` for one block after another; throws if the file cannot be read to its end.
template <typename Take>
void read_blocks(const fs::path &path, Take take) {
    std::ifstream file(path, std::ios::binary);
    std::vector<uint8_t> bytes(block);
    while (file) {
        file.read(reinterpret_cast<char *>(bytes.data()), static_cast<std::streamsize>(block));
        take(Bytes(bytes.data(), static_cast<size_t>(file.gcount())));
    }
    if (!file.eof()) refuse("cannot read " + path.string());
}

}  // namespace

void FolderSource::check() const {
    std::error_code error;
    if (!fs::is_directory(folder_, error)) refuse("bundle " + name() + ": there is no such folder");
}

bool FolderSource::is_inside(const std::string &path) const {
    if (!is_relative_within(path)) return false;
    std::error_code error;
    const fs::path folder = fs::weakly_canonical(folder_, error);
    if (error) return false;
    const fs::path file = fs::weakly_canonical(folder_ / path, error);
    if (error) return false;
    return std::mismatch(folder.begin(), folder.end(), file.begin(), file.end()).first == folder.end();
}

bool FolderSource::is_file(const std::string &path) const {
    std::error_code error;
    return fs::is_regular_file(folder_ / path, error);
}

std::vector<uint8_t> FolderSource::read(const std::string &path, uint64_t limit) const {
    std::vector<uint8_t> contents;
    read_blocks(folder_ / path, [&](Bytes bytes) {
        if (bytes.size > limit - contents.size()) {
            refuse(path + " is larger than " + std::to_string(limit) + " bytes");
        }
        put(contents, bytes);
    });
    return contents;
}

std::vector<uint8_t> FolderSource::part(const std::string &path, uint64_t first, size_t count) const {
    std::ifstream file(folder_ / path, std::ios::binary);
    std::vector<uint8_t> bytes(count);
    file.seekg(static_cast<std::streamoff>(first));
    file.read(reinterpret_cast<char *>(bytes.data()), static_cast<std::streamsize>(count));
    if (!file) refuse("cannot read " + path);
    return bytes;
}

uint64_t FolderSource::size(const std::string &path) const {
    std::error_code error;
    const uint64_t size = fs::file_size(folder_ / path, error);
    if (error) refuse("cannot read " + path + ": " + error.message());
    return size;
}

Digest FolderSource::digest(const std::string &path) const {
    Sha256 hash;
    ExternalData external;
    read_blocks(folder_ / path, [&](Bytes bytes) {
        hash.add(bytes);
        external.add(bytes);
    });
    return {hash.finish(), external.found()};
}

bool MemorySource::is_inside(const std::string &path) const { return is_relative_within(path); }

Bytes MemorySource::in_memory(const std::string &path) const {
    const auto found = files_.find(path);
    if (found == files_.end()) refuse("missing " + path);
    return found->second;
}

std::vector<uint8_t> MemorySource::read(const std::string &path, uint64_t limit) const {
    const Bytes bytes = in_memory(path);
    if (bytes.size > limit) refuse(path + " is larger than " + std::to_string(limit) + " bytes");
    return bytes.copy();
}

std::vector<uint8_t> MemorySource::part(const std::string &path, uint64_t first, size_t count) const {
    const Bytes bytes = in_memory(path);
    if (!has(bytes, first, count)) refuse("cannot read " + path);
    return bytes.part(static_cast<size_t>(first), count).copy();
}

uint64_t MemorySource::size(const std::string &path) const { return in_memory(path).size; }

Digest MemorySource::digest(const std::string &path) const {
    const Bytes bytes = in_memory(path);
    Sha256 hash;
    ExternalData external;
    hash.add(bytes);
    for (size_t first = 0; first < bytes.size; first += block) external.add(bytes.part(first, block));  // it copies
    return {hash.finish(), external.found()};
}

}  // namespace mlic
