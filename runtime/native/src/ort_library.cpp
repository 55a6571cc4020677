// Opens ONNX Runtime's library and makes its environment; twin of the process-wide part of backends/onnxruntime.py.
#include "ort_library.hpp"

#include <dlfcn.h>

#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "failure.hpp"

namespace mlic {
namespace {

// The table of functions is append-only, so every library from 1.20 on serves this version, and newer headers do no
// harm as long as no function is called that came after it.
constexpr uint32_t API_VERSION = 20;
constexpr const char *OLDEST = "1.20";
constexpr const char *VARIABLE = "MLIC_ONNXRUNTIME";
constexpr const char *DEFAULT_NAME = "libonnxruntime.so.1";

std::string first_line(const std::string &text) {
    // The engine puts places in its own source below the first line
    const std::string line = text.substr(0, text.find('\n'));
    return line.empty() ? "no reason given" : line;
}

const OrtApiBase *load(const std::string &path) {
    std::string name = path;
    if (name.empty()) {
        const char *variable = secure_getenv(VARIABLE);
        name = variable != nullptr && *variable != '\0' ? variable : DEFAULT_NAME;
    }
    // Local: an application may hold another version of the same library
    void *library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
        const char *reason = dlerror();
        throw Failure(Status::engine_missing, "cannot load ONNX Runtime: " +
                                                  first_line(reason == nullptr ? "" : reason) +
                                                  "; give its path, or set " + VARIABLE);
    }
    using GetApiBase = const OrtApiBase *(*)();
    const auto get = reinterpret_cast<GetApiBase>(dlsym(library, "OrtGetApiBase"));
    if (get == nullptr) {
        dlclose(library);
        throw Failure(Status::engine_missing, "cannot load ONNX Runtime: " + name + " has no OrtGetApiBase");
    }
    return get();
}

}  // namespace

const OrtLibrary &OrtLibrary::open(const std::string &path) {
    // Neither is ever destroyed: threads may outlive the destructors that run when a process ends
    static auto &lock = *new std::mutex;
    static auto &opened = *new std::map<const OrtApiBase *, std::unique_ptr<OrtLibrary>>;
    const OrtApiBase *base = load(path);
    const std::lock_guard<std::mutex> hold(lock);
    std::unique_ptr<OrtLibrary> &found = opened[base];
    if (!found) {
        const std::string version = base->GetVersionString();
        const OrtApi *api = base->GetApi(API_VERSION);
        if (api == nullptr)
            throw Failure(Status::engine_missing,
                          "ONNX Runtime is version " + version + "; expected " + OLDEST + " or later");
        found.reset(new OrtLibrary(api, version));
    }
    return *found;
}

OrtLibrary::OrtLibrary(const OrtApi *api, std::string version) : api_(api), version_(std::move(version)) {
    check(api_->CreateEnv(ORT_LOGGING_LEVEL_FATAL, "mlic", &env_), "ONNX Runtime");
    check(api_->CreateCpuMemoryInfo(OrtDeviceAllocator, OrtMemTypeDefault, &memory_), "ONNX Runtime");
    shares_arena_ = share_arena();
}

// Makes sure that the process has an arena that sessions can share; only sessions that ask for it use it.
bool OrtLibrary::share_arena() const {
    OrtMemoryInfo *place = nullptr;
    OrtArenaCfg *exactly_as_asked = nullptr;
    OrtStatus *failed = api_->CreateMemoryInfo("Cpu", OrtArenaAllocator, 0, OrtMemTypeDefault, &place);
    if (failed == nullptr) failed = api_->CreateArenaCfg(0, 1, -1, -1, &exactly_as_asked);
    // Fails too if the application has registered one of its own
    if (failed == nullptr) failed = api_->CreateAndRegisterAllocator(env_, place, exactly_as_asked);
    if (exactly_as_asked != nullptr) api_->ReleaseArenaCfg(exactly_as_asked);
    if (place != nullptr) api_->ReleaseMemoryInfo(place);
    if (failed != nullptr) api_->ReleaseStatus(failed);
    return failed == nullptr;
}

void OrtLibrary::check(OrtStatus *status, const std::string &what) const {
    if (status == nullptr) return;
    const std::unique_ptr<OrtStatus, void (*)(OrtStatus *)> owned(status, api_->ReleaseStatus);
    throw Failure(Status::engine_failed, what + ": " + first_line(api_->GetErrorMessage(status)));
}

}  // namespace mlic
