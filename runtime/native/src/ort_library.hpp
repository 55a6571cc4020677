// ONNX Runtime's library, opened at run time, and what of it belongs to the process.
#pragma once

#include <onnxruntime_c_api.h>

#include <string>

namespace mlic {

// One for each library that was opened; lives until the process ends, since the engine's threads and other codecs may
// use it up to then.
class OrtLibrary {
   public:
    // Opens the library, or finds it if it is open.
    //
    // `path` empty: $MLIC_ONNXRUNTIME, else libonnxruntime.so.1 as the loader finds it.
    // Fails with engine_missing.
    static const OrtLibrary &open(const std::string &path);

    const OrtApi &api() const { return *api_; }
    OrtEnv *env() const { return env_; }
    const OrtMemoryInfo *memory() const { return memory_; }
    const std::string &version() const { return version_; }
    bool shares_arena() const { return shares_arena_; }

    // Fails with engine_failed if `status` is not null; `what` begins the text.
    void check(OrtStatus *status, const std::string &what) const;

    OrtLibrary(const OrtLibrary &) = delete;
    OrtLibrary &operator=(const OrtLibrary &) = delete;

   private:
    OrtLibrary(const OrtApi *api, std::string version);
    bool share_arena() const;

    const OrtApi *api_;
    std::string version_;
    OrtEnv *env_ = nullptr;
    OrtMemoryInfo *memory_ = nullptr;
    bool shares_arena_ = false;
};

}  // namespace mlic
