// An exported model directory, read and checked: twin of runtime/bundle.py. Includes what manifests are made of.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>

#include "certificate.hpp"
#include "entropy_model.hpp"
#include "file_source.hpp"
#include "manifest.hpp"

namespace mlic {

// A bundle whose manifest, tables and files have been checked. Never changes once made; threads may share it.
class Bundle {
   public:
    // Reads and checks a bundle. `verify_hashes` reads every byte of the graphs, to compare their SHA-256 and to see
    // that they refer to no other files; false only for a bundle of one's own. Those of tables and certificate are
    // always compared. Throws Failure(bad_bundle).
    static Bundle open(const std::filesystem::path &folder, bool verify_hashes = true);
    static Bundle open(std::shared_ptr<const FileSource> source, bool verify_hashes = true);

    const Manifest &manifest() const { return manifest_; }
    const EntropyModel &entropy() const { return entropy_; }
    // Of its entropy path; none where that is in floats.
    const std::optional<Certificate> &certificate() const { return certificate_; }
    // For opening graphs: `files().disk_path(graph.path)`, or `files().in_memory(graph.path)`.
    const FileSource &files() const { return *source_; }

   private:
    Bundle(std::shared_ptr<const FileSource> source, Manifest manifest, EntropyModel entropy,
           std::optional<Certificate> certificate)
        : source_(std::move(source)),
          manifest_(std::move(manifest)),
          entropy_(std::move(entropy)),
          certificate_(std::move(certificate)) {}

    std::shared_ptr<const FileSource> source_;
    Manifest manifest_;
    EntropyModel entropy_;
    std::optional<Certificate> certificate_;
};

// Reads what a bundle says about itself, without a look at its other files. Throws Failure(bad_bundle).
Manifest read_manifest(const FileSource &source);

}  // namespace mlic
