// A case runs as decoding does, with made symbols in the place of those in a file.
#include "proof.hpp"

#include <memory>
#include <utility>
#include <vector>

#include "failure.hpp"

namespace mlic {
namespace {

Tensor made_symbols(const Case &one, uint64_t seed, const TensorSpec &spec) {
    Tensor symbols;
    symbols.shape = spec.concrete(one.height, one.width);
    return Tensor::from(symbols_of(one, seed, symbols.count()), symbols.shape);
}

}  // namespace

Proof::Proof(const Bundle &bundle, std::map<std::string, LazyGraph> &graphs, const Engine &engine,
             CertificateCache cache)
    : bundle_(bundle), graphs_(graphs), engine_(engine), cache_(std::move(cache)), given_(!bundle.certificate()) {}

void Proof::require() {
    const std::lock_guard<std::mutex> hold(lock_);
    if (given_) return;
    const Certificate &certificate = *bundle_.certificate();
    const std::string key = certificate_key(bundle_.manifest(), certificate, engine_.fingerprint());
    if (!cache_.knows(key)) {
        run(certificate);
        cache_.remember(key);
    }
    given_ = true;
}

void Proof::run(const Certificate &certificate) {
    for (const Case &one : certificate.cases) run(one);
}

void Proof::run(const Case &one) {
    const Manifest &manifest = bundle_.manifest();
    const std::vector<std::string> names = chain_names(manifest);
    const std::vector<uint64_t> seeds = splitmix64(static_cast<uint64_t>(one.seed), 1 + manifest.steps.size());
    std::vector<const GraphSpec *> chain;
    for (const std::string &name : names) chain.push_back(&manifest.graph(name).spec);
    Arrays arrays;
    arrays["z_symbols"] = made_symbols(one, seeds[0], manifest.graph("h_a").spec.outputs.at("z_symbols"));
    State state(std::make_shared<Needed>(needed_after(chain)), std::move(arrays), {});
    for (size_t place = 0; place < names.size(); ++place) {
        const GraphSpec &spec = *chain[place];
        if (digest_of(spec, state.run(graphs_.at(spec.name))) != one.sha256.at(spec.name))
            throw Failure(Status::engine_mismatch,
                          "graph " + spec.name + ": engine " + engine_.granted() +
                              " does not compute the integers that the certificate of bundle " + manifest.name +
                              " has (" + std::to_string(one.width) + "x" + std::to_string(one.height) + ", seed " +
                              std::to_string(one.seed) + "); use another engine or version");
        if (place == 0 || place > manifest.steps.size()) continue;  // h_s and finish code no symbols
        const StepSpec &step = manifest.steps[place - 1];
        state.put(step.symbols(), made_symbols(one, seeds[place], spec.outputs.at(step.means())));
    }
}

}  // namespace mlic
