// Where a bundle's files come from: a folder, or memory.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "bytes.hpp"

namespace mlic {

// What reading every byte of a file tells.
struct Digest {
    std::string sha256;             // lower-case hex
    bool refers_elsewhere = false;  // whether it may be an ONNX file that keeps data in others
};

class FileSource {
   public:
    virtual ~FileSource() = default;
    FileSource(const FileSource &) = delete;
    FileSource &operator=(const FileSource &) = delete;

    // For errors: the folder's path, or "in memory".
    virtual std::string name() const = 0;
    // Throws Failure(bad_bundle) if there is no such folder.
    virtual void check() const = 0;
    // Whether a path from a manifest stays inside, symbolic links included.
    virtual bool is_inside(const std::string &path) const = 0;
    virtual bool is_file(const std::string &path) const = 0;
    // The whole file. Throws Failure(bad_bundle) if it cannot be read or has more than `limit` bytes.
    virtual std::vector<uint8_t> read(const std::string &path, uint64_t limit) const = 0;
    // `count` bytes from `first` on. Throws Failure(bad_bundle) if the file cannot be read or has not as many.
    virtual std::vector<uint8_t> part(const std::string &path, uint64_t first, size_t count) const = 0;
    // Of a regular file, in bytes. Throws Failure(bad_bundle) if there is none.
    virtual uint64_t size(const std::string &path) const = 0;
    // Throws Failure(bad_bundle) if the file cannot be read.
    virtual Digest digest(const std::string &path) const = 0;
    // Where the file lies on disk, for engines that open it themselves; none in memory.
    virtual std::optional<std::filesystem::path> disk_path(const std::string &path) const = 0;
    // The file's bytes if they lie in memory already, else an empty view: saves a copy.
    virtual Bytes in_memory(const std::string &path) const = 0;

   protected:
    FileSource() = default;
};

class FolderSource final : public FileSource {
   public:
    explicit FolderSource(std::filesystem::path folder) : folder_(std::move(folder)) {}
    std::string name() const override { return folder_.string(); }
    void check() const override;
    bool is_inside(const std::string &path) const override;
    bool is_file(const std::string &path) const override;
    std::vector<uint8_t> read(const std::string &path, uint64_t limit) const override;
    std::vector<uint8_t> part(const std::string &path, uint64_t first, size_t count) const override;
    uint64_t size(const std::string &path) const override;
    Digest digest(const std::string &path) const override;
    std::optional<std::filesystem::path> disk_path(const std::string &path) const override { return folder_ / path; }
    Bytes in_memory(const std::string &) const override { return {}; }

   private:
    std::filesystem::path folder_;
};

// Files by their path in the bundle ("manifest.json", "onnx/g_a.onnx"). The bytes are the caller's and have to stay
// where they are as long as the source lives.
class MemorySource final : public FileSource {
   public:
    explicit MemorySource(std::map<std::string, Bytes> files) : files_(std::move(files)) {}
    std::string name() const override { return "in memory"; }
    void check() const override {}
    bool is_inside(const std::string &path) const override;
    bool is_file(const std::string &path) const override { return files_.count(path) > 0; }
    std::vector<uint8_t> read(const std::string &path, uint64_t limit) const override;
    std::vector<uint8_t> part(const std::string &path, uint64_t first, size_t count) const override;
    uint64_t size(const std::string &path) const override;
    Digest digest(const std::string &path) const override;
    std::optional<std::filesystem::path> disk_path(const std::string &) const override { return std::nullopt; }
    Bytes in_memory(const std::string &path) const override;

   private:
    std::map<std::string, Bytes> files_;
};

}  // namespace mlic
