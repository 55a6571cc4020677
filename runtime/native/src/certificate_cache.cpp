// One small file for each engine and bundle, whose name says all that the result depends on.
#include "certificate_cache.hpp"

#include <fcntl.h>
#include <pwd.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <set>
#include <vector>

#include "sha256.hpp"

namespace mlic {
namespace {

namespace fs = std::filesystem;

constexpr const char *variable = "MLIC_CERTIFICATE_CACHE";
constexpr const char *off = "off";
constexpr const char *version = "1";
constexpr size_t most_read = 1024;  // bytes; what is right is shorter
// By which oneDNN takes other instructions
constexpr const char *isa_variables[] = {"ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"};
constexpr const char *cpu_fields[] = {"vendor_id", "model name", "flags", "CPU implementer",
                                      "CPU part",  "Features",   "isa",   "cpu"};

std::string variable_or_empty(const char *name) {
    const char *value = secure_getenv(name);
    return value == nullptr ? "" : value;
}

std::string home() {
    const std::string named = variable_or_empty("HOME");
    if (!named.empty()) return named;
    std::vector<char> room(1 << 14);
    passwd entry{}, *found = nullptr;
    if (getpwuid_r(getuid(), &entry, room.data(), room.size(), &found) != 0 || found == nullptr) return "";
    return found->pw_dir;
}

std::optional<fs::path> default_folder() {
    if (variable_or_empty(variable) == off) return std::nullopt;
    fs::path base = variable_or_empty("XDG_CACHE_HOME");
    if (!base.is_absolute()) {  // the specification: relative ones are invalid, to be ignored
        const std::string own = home();
        if (own.empty()) return std::nullopt;
        base = fs::path(own) / ".cache";
    }
    return base / "mlic" / "certificates";
}

std::string contents_of(const std::string &key) {
    return std::string("mlic certificate ") + version + " passed " + key + "\n";
}

std::string trimmed(const std::string &text) {
    const size_t first = text.find_first_not_of(" \t"), last = text.find_last_not_of(" \t");
    return first == std::string::npos ? "" : text.substr(first, last - first + 1);
}

// The architecture, and models and instruction sets of the processors, a line each.
std::string machine() {
    utsname system{};
    std::set<std::string> found;
    std::ifstream processors("/proc/cpuinfo");
    for (std::string line; std::getline(processors, line);) {
        const size_t colon = std::min(line.find(':'), line.size());
        const std::string name = trimmed(line.substr(0, colon));
        const bool counts = std::find(std::begin(cpu_fields), std::end(cpu_fields), name) != std::end(cpu_fields);
        if (counts) found.insert(name + ":" + trimmed(line.substr(std::min(colon + 1, line.size()))));
    }
    std::string text = uname(&system) == 0 ? system.machine : "";
    for (const std::string &one : found) text += "\n" + one;
    return text;
}

// A file that is open as long as this lives; unlike a stream, it never waits for a pipe.
class Opened {
   public:
    explicit Opened(int descriptor) : descriptor_(descriptor) {}
    ~Opened() {
        if (descriptor_ >= 0) close(descriptor_);
    }
    Opened(const Opened &) = delete;
    Opened &operator=(const Opened &) = delete;

    bool is_regular() const {
        struct stat found {};
        return descriptor_ >= 0 && fstat(descriptor_, &found) == 0 && S_ISREG(found.st_mode);
    }

    bool holds(const std::string &text) const {
        char bytes[most_read];
        const ssize_t size = read(descriptor_, bytes, sizeof bytes);
        return size >= 0 && std::string(bytes, static_cast<size_t>(size)) == text;
    }

    bool take(const std::string &text) const {
        return descriptor_ >= 0 && write(descriptor_, text.data(), text.size()) == static_cast<ssize_t>(text.size());
    }

   private:
    int descriptor_;
};

}  // namespace

CertificateCache::CertificateCache(const std::string &folder) {
    if (folder.empty()) {
        folder_ = default_folder();
    } else if (folder != off) {
        folder_ = folder;
    }
}

bool CertificateCache::knows(const std::string &key) const {
    if (!folder_) return false;
    const Opened file(open((*folder_ / key).c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    return file.is_regular() && file.holds(contents_of(key));
}

void CertificateCache::remember(const std::string &key) const {
    if (!folder_) return;
    std::error_code error;
    fs::create_directories(*folder_, error);
    std::string name = (*folder_ / (key + ".XXXXXX")).string();
    bool written = false;
    {
        const Opened file(mkostemp(name.data(), O_CLOEXEC));
        written = file.take(contents_of(key));
    }
    // Renamed when it is whole: other processes see all of it or nothing
    if (written) fs::rename(name, *folder_ / key, error);
    if (!written || error) fs::remove(name, error);
}

std::string certificate_key(const Manifest &manifest, const Certificate &certificate, const std::string &fingerprint) {
    std::vector<std::string> parts{"libmlic", version};
    parts.emplace_back(manifest.model_id.begin(), manifest.model_id.end());
    for (const std::string &name : chain_names(manifest)) {
        parts.push_back(name);
        parts.push_back(manifest.graph(name).sha256);
    }
    parts.insert(parts.end(), {certificate.sha256, fingerprint});
    for (const char *name : isa_variables) parts.push_back(variable_or_empty(name));
    parts.push_back(machine());
    Sha256 hash;
    for (const std::string &part : parts) {
        const std::string framed = std::to_string(part.size()) + ":" + part;
        hash.add({reinterpret_cast<const uint8_t *>(framed.data()), framed.size()});
    }
    return hash.finish();
}

}  // namespace mlic
