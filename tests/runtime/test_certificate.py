"""The certificate of an integer bundle: inputs, hashes, file, and what is remembered of engines that passed."""

import dataclasses
import hashlib
import json
import shutil

import numpy as np
import pytest

from mlic.runtime import Codec, certificate_cache
from mlic.runtime.backends.onnxruntime import OnnxRuntimeBackend
from mlic.runtime.bundle import Bundle
from mlic.runtime.certificate import (
    DEFAULT_CASES,
    MAX_BYTES,
    Case,
    certificate_of,
    chain_names,
    digest_of,
    prove,
    run_case,
    symbols_of,
)
from mlic.runtime.entropy_model import MAX_SYMBOL
from mlic.runtime.errors import EngineMismatchError
from mlic.runtime.manifest import GraphSpec, TensorSpec
from mlic.runtime.proof import Proof
from tests.runtime.damaged_bundle import TEXTS, edit, refused
from tests.runtime.damaged_certificate import (
    CERTIFICATES,
    MANIFESTS,
    TOO_LARGE,
    edit_certificate,
    write_certificate,
)

WORD = (1 << 64) - 1


def splitmix64(seed, count):
    """Return the first outputs, one by one."""
    for _ in range(count):
        seed = (seed + 0x9E3779B97F4A7C15) & WORD
        z = ((seed ^ (seed >> 30)) * 0xBF58476D1CE4E5B9) & WORD
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & WORD
        yield z ^ (z >> 31)


def by_definition(case, seed, count):
    """Return made symbols as the format describes them."""
    for r in splitmix64(seed, count):
        if case.outliers and r % case.outliers == 0:
            size = (r >> 40) % (1 << (1 + (r >> 32) % 24))
            yield -size if r >> 20 & 1 else size
        else:
            yield (r >> 16) % (case.magnitude + 1) - (r >> 40) % (case.magnitude + 1)


@pytest.fixture(scope="module")
def bundle(integer_folder):
    return Bundle.open(integer_folder)


@pytest.fixture(scope="module")
def graphs(bundle):
    backend = OnnxRuntimeBackend(1)
    files = bundle.manifest.graphs
    return {name: backend.open(bundle.path_of(files[name]), files[name]) for name in chain_names(bundle.manifest)}


def test_splitmix64_is_the_published_one():
    # The first outputs for seed 1234567, as in the reference implementation's tests.
    assert list(splitmix64(1234567, 3)) == [6457827717110365317, 3203168211198807973, 9817491932198370423]


@pytest.mark.parametrize("case", [*DEFAULT_CASES, Case(64, 64, 9, 0, 2), Case(64, 64, WORD >> 1, 1 << 20, 1)])
def test_symbols_are_made_as_the_format_describes(case):
    found = symbols_of(case, case.seed, (1, 5, 40, 7))
    assert found.dtype == np.float32
    assert found.shape == (1, 5, 40, 7)
    assert found.reshape(-1).astype(int).tolist() == list(by_definition(case, case.seed, 1400))
    assert np.abs(found).max() <= MAX_SYMBOL


def test_default_cases_reach_from_ordinary_symbols_to_the_largest():
    ordinary, wide, wild = (symbols_of(case, 5, (1, 192, 8, 12)) for case in DEFAULT_CASES)
    assert np.abs(ordinary).max() == 2
    assert np.mean(ordinary == 0) > 0.3
    assert np.percentile(np.abs(wide), 99) <= 24 < np.abs(wide).max()
    assert np.abs(wild).max() > 1 << 22
    assert (wild < -1000).any()
    assert not any(np.signbit(values[values == 0]).any() for values in (ordinary, wide, wild))


def test_the_hash_is_over_names_types_shapes_and_values():
    spec = GraphSpec("g", {}, {"b": TensorSpec("int8", (1, 2)), "a.x": TensorSpec("float32", (2,))}, exact=True)
    outputs = {"a.x": np.array([-0.0, 1.5], np.float32), "b": np.array([[-1, 2]], np.int8)}
    text = b"b int8 1,2\n\xff\x02" + b"a.x float32 2\n" + bytes(4) + b"\x00\x00\xc0\x3f"
    assert digest_of(spec, outputs) == hashlib.sha256(text).hexdigest()
    outputs["b"] = np.asfortranarray(outputs["b"].astype(">i2").astype(np.int8))
    assert digest_of(spec, outputs) == hashlib.sha256(text).hexdigest()


def test_the_chain_is_run_as_a_decoder_runs_it(bundle, graphs, integer_codec):
    """A run of the certificate against a replay of the same symbols."""
    case = DEFAULT_CASES[1]
    seeds = list(splitmix64(case.seed, 6))
    specs = [bundle.manifest.graphs[step.graph].spec.outputs[step.means] for step in bundle.manifest.steps]
    z = symbols_of(case, seeds[0], (1, 4, 1, 1))
    symbols = [symbols_of(case, seed, spec.concrete(64, 64)) for seed, spec in zip(seeds[1:], specs, strict=True)]
    seen = {}

    class Watched:
        def __init__(self, inner):
            self.spec, self._inner = inner.spec, inner

        def run(self, inputs):
            seen[self.spec.name] = self._inner.run(inputs)
            return seen[self.spec.name]

    digests = dict(run_case(case, {name: Watched(graph) for name, graph in graphs.items()}, bundle.manifest))
    indexes = integer_codec.replay(z, symbols)
    for number, expected in enumerate(indexes):
        assert np.array_equal(seen[f"step_{number:02d}"][f"indexes_{number:02d}"], expected)
    assert list(digests) == list(seen) == chain_names(bundle.manifest)
    assert digests == {name: digest_of(graphs[name].spec, outputs) for name, outputs in seen.items()}


def test_functions_do_as_well_as_graphs(bundle, graphs):
    functions = {name: graph.run for name, graph in graphs.items()}
    assert certificate_of(functions, bundle.manifest) == certificate_of(graphs, bundle.manifest)
    stored = json.loads((bundle.folder / "certificate.json").read_text())
    assert certificate_of(graphs, bundle.manifest) == stored
    prove(bundle.certificate, functions, bundle.manifest, "engine")


def test_cases_are_as_large_as_the_padding_asks_for(bundle, graphs):
    padding = dataclasses.replace(bundle.manifest.padding, multiple=128)
    rows = certificate_of(graphs, dataclasses.replace(bundle.manifest, padding=padding))["cases"]
    assert [(row["height"], row["width"]) for row in rows] == [(128, 256), (128, 128), (128, 128)]


@pytest.mark.parametrize("graph", ["h_s", "step_00", "step_04", "finish"])
@pytest.mark.parametrize("kind", ["value", "dtype", "shape"])
def test_the_first_graph_that_differs_is_named(bundle, graphs, graph, kind):
    def run(inputs):
        outputs = graphs[graph].run(inputs)
        name = next(iter(outputs))
        array = outputs[name].copy()
        if kind == "value":
            array.flat[array.size // 2] += 1
        elif kind == "dtype":
            array = array.astype(np.int64)
        else:
            array = np.concatenate([array, array[:, :1]], axis=1)
        changed[0] = True
        return outputs | {name: array}

    changed = [False]
    other = {name: one.run for name, one in graphs.items()} | {graph: run}
    if kind == "value":
        with pytest.raises(EngineMismatchError, match=rf"^graph {graph}: engine 7 does not .*192x128, seed 1\)"):
            prove(bundle.certificate, other, bundle.manifest, "engine 7")
    else:
        first = next(found for name, found in run_case(DEFAULT_CASES[0], other, bundle.manifest) if name == graph)
        assert first != bundle.certificate.cases[0].sha256[graph]
    assert changed[0]


@pytest.fixture
def copied(integer_folder, tmp_path):
    return shutil.copytree(integer_folder, tmp_path / "copy")


@pytest.mark.parametrize(("change", "message"), CERTIFICATES)
def test_a_wrong_certificate_is_refused(copied, change, message):
    edit_certificate(copied, change)
    refused(copied, message)


@pytest.mark.parametrize("name", TEXTS)
def test_a_certificate_that_is_deep_or_no_json_is_refused(copied, name):
    write_certificate(copied, TEXTS[name])
    refused(copied, "is not JSON|deep|not a certificate")


@pytest.mark.parametrize(("change", "message"), MANIFESTS)
def test_a_wrong_manifest_of_an_integer_bundle_is_refused(copied, change, message):
    edit(copied, change)
    refused(copied, message)


def test_a_large_certificate_is_not_parsed(copied):
    write_certificate(copied, TOO_LARGE)
    refused(copied, f"certificate.json is larger than {MAX_BYTES} bytes")


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """Turns the cache on, in a folder of its own."""
    monkeypatch.delenv(certificate_cache.VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "mlic" / "certificates"


@pytest.fixture
def proofs(monkeypatch):
    """Counts how often a certificate is run."""
    runs, run = [], Proof.run

    def counted(self):
        runs.append(self)
        run(self)

    monkeypatch.setattr(Proof, "run", counted)
    return runs


def use(folder, make_photo, threads=1):
    codec = Codec.load(folder, "onnxruntime", threads=threads)
    codec.decode(codec.encode(make_photo(20, 30)))
    return codec


def test_an_engine_proves_itself_once(integer_folder, cached, proofs, make_photo):
    use(integer_folder, make_photo)
    assert len(proofs) == 1
    (file,) = cached.iterdir()
    assert file.read_bytes() == f"mlic certificate 1 passed {file.name}\n".encode()
    codec = use(integer_folder, make_photo)
    assert len(proofs) == 1
    codec.prove()  # whatever was before
    assert len(proofs) == 2


def test_another_engine_bundle_or_setting_proves_itself_again(
    integer_folder, cached, proofs, make_photo, monkeypatch, tmp_path
):
    from tests.integer_bundle import build_integer_bundle

    use(integer_folder, make_photo)
    use(integer_folder, make_photo, threads=2)
    assert len(proofs) == 2
    use(build_integer_bundle(tmp_path / "other", seed=3), make_photo)
    assert len(proofs) == 3
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")
    use(integer_folder, make_photo)
    assert len(proofs) == 4
    monkeypatch.setattr(certificate_cache, "_machine", lambda: ["another processor"])
    use(integer_folder, make_photo)
    assert len(proofs) == 5
    assert len(list(cached.iterdir())) == 5


def test_the_key_covers_engine_graphs_and_certificate(bundle):
    def key(manifest=bundle.manifest, certificate=bundle.certificate, fingerprint="engine 1"):
        return certificate_cache.key_of(manifest, certificate, fingerprint)

    graph = bundle.manifest.graphs["step_03"]
    other_graph = bundle.manifest.graphs | {"step_03": dataclasses.replace(graph, sha256="0" * 64)}
    keys = {
        key(),
        key(fingerprint="engine 2"),
        key(certificate=dataclasses.replace(bundle.certificate, sha256="0" * 64)),
        key(dataclasses.replace(bundle.manifest, graphs=other_graph)),
        key(dataclasses.replace(bundle.manifest, model_id=bytes(8))),
    }
    assert len(keys) == 5
    assert key() == key()


@pytest.mark.parametrize("contents", [b"", b"mlic certificate 1 passed 00\n", bytes(5000)])
def test_damaged_entries_are_ignored_and_replaced(integer_folder, cached, proofs, make_photo, contents):
    use(integer_folder, make_photo)
    (file,) = cached.iterdir()
    good = file.read_bytes()
    file.write_bytes(contents)
    use(integer_folder, make_photo)
    assert len(proofs) == 2
    assert file.read_bytes() == good


def test_a_cache_that_cannot_be_written_is_fine(integer_folder, cached, proofs, make_photo):
    cached.parent.mkdir(parents=True)
    cached.write_text("a file where the folder should be")
    use(integer_folder, make_photo)
    use(integer_folder, make_photo)
    assert len(proofs) == 2


def test_the_variable_turns_the_cache_off(integer_folder, cached, proofs, make_photo, monkeypatch):
    monkeypatch.setenv(certificate_cache.VARIABLE, "off")
    use(integer_folder, make_photo)
    use(integer_folder, make_photo)
    assert len(proofs) == 2
    assert not cached.exists()


def test_relative_cache_folders_are_ignored(monkeypatch, tmp_path):
    monkeypatch.delenv(certificate_cache.VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    certificate_cache.remember("ab")
    assert [path.name for path in (tmp_path / ".cache" / "mlic" / "certificates").iterdir()] == ["ab"]
    assert certificate_cache.is_known("ab")
    assert not certificate_cache.is_known("cd")


def test_an_engine_that_fails_or_does_not_say_what_it_is_is_not_remembered(bundle, cached, proofs, make_photo):
    class Unknown:
        name, granted = "unknown", "unknown"

        def __init__(self):
            self.open = OnnxRuntimeBackend(1).open

    for _ in range(2):
        Codec(bundle, Unknown()).encode(make_photo(9, 9))
    assert len(proofs) == 2

    class Failing(OnnxRuntimeBackend):
        def open(self, path, graph):
            opened = super().open(path, graph)
            if graph.spec.name == "step_00":
                run = opened.run
                opened.run = lambda inputs: {name: array * 0 for name, array in run(inputs).items()}
            return opened

    with pytest.raises(EngineMismatchError, match="graph step_00"):
        Codec(bundle, Failing(1)).encode(make_photo(9, 9))
    assert not cached.exists() or not list(cached.iterdir())


def test_bundles_in_floats_have_nothing_to_prove(codec, cached, proofs, make_photo):
    codec.encode(make_photo(9, 9))
    codec.prove()
    assert not cached.exists()


def test_a_certificate_stays_small(bundle):
    assert (bundle.folder / "certificate.json").stat().st_size < MAX_BYTES // 100
