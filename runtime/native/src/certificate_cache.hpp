// Which engine has proved itself on which bundle, from one process to the next: twin of runtime/certificate_cache.py,
// with which it shares folder, contents of files and variables. Keys are its own, since they speak of libmlic.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "certificate.hpp"
#include "manifest.hpp"

namespace mlic {

// It only saves time: what cannot be read or written, or has other contents, is not there.
class CertificateCache {
   public:
    // `folder`: "off" for none; empty for mlic/certificates in $XDG_CACHE_HOME or ~/.cache, unless
    // $MLIC_CERTIFICATE_CACHE is "off".
    explicit CertificateCache(const std::string &folder);

    // Whether an engine has passed before.
    bool knows(const std::string &key) const;
    // Stores that an engine passed, if that is possible.
    void remember(const std::string &key) const;

   private:
    std::optional<std::filesystem::path> folder_;
};

// What a result depends on, as 64 hexadecimal digits. `fingerprint`: of the engine, with settings that may change
// results.
std::string certificate_key(const Manifest &manifest, const Certificate &certificate, const std::string &fingerprint);

}  // namespace mlic
