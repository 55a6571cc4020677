// Whether the engine of a chain may be trusted with a bundle's files, at once in floats, by certificate in integers:
// twin of runtime/proof.py.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "bundle.hpp"
#include "certificate_cache.hpp"
#include "engine.hpp"
#include "walk.hpp"

namespace mlic {

// Asks an engine for its proof when it is first needed, and no more often than that. Safe to use from several threads.
class Proof {
   public:
    // All but `cache` have to live as long as this. `graphs` are those of the bundle on the engine.
    Proof(const Bundle &bundle, std::map<std::string, LazyGraph> &graphs, const Engine &engine, CertificateCache cache);

    // Does nothing if the engine has passed, in this process or another; otherwise runs the certificate. Throws
    // Failure: engine_mismatch if the engine computes something else, engine_failed.
    void require();

   private:
    void run(const Certificate &certificate);
    void run(const Case &one);

    const Bundle &bundle_;
    std::map<std::string, LazyGraph> &graphs_;
    const Engine &engine_;
    CertificateCache cache_;
    std::mutex lock_;
    bool given_;
};

}  // namespace mlic
