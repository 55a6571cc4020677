"""The native reader of integer bundles: what it opens and refuses, its made symbols, hashes and keys."""

from __future__ import annotations

import itertools
import json
import os
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlic.runtime.bundle import Bundle
from mlic.runtime.certificate import DEFAULT_CASES, MAX_BYTES, Case, digest_of, symbols_of
from mlic.runtime.manifest import GraphSpec, TensorSpec
from tests.integer_bundle import build_integer_bundle
from tests.native.core_probe import status_of
from tests.native.test_core_limits import accepted_by_both, json_values, refused_by_both
from tests.runtime.damaged_bundle import TEXTS, edit
from tests.runtime.damaged_certificate import (
    CERTIFICATES,
    MANIFESTS,
    TOO_LARGE,
    case_with,
    edit_certificate,
    write_certificate,
)

pytestmark = pytest.mark.xdist_group("native_core")  # one build


@pytest.fixture
def folder(integer_folder, tmp_path):
    return shutil.copytree(integer_folder, tmp_path / "copy")


@pytest.mark.parametrize(("change", "message"), CERTIFICATES)
def test_wrong_certificates_are_refused_by_both(probe, folder, change, message):
    edit_certificate(folder, change)
    refused_by_both(probe, folder, message)


@pytest.mark.parametrize("name", TEXTS)
def test_certificates_that_are_deep_or_no_json_are_refused_by_both(probe, folder, name):
    write_certificate(folder, TEXTS[name])
    refused_by_both(probe, folder, "is not JSON|deep|not a certificate")


@pytest.mark.parametrize(("change", "message"), MANIFESTS)
def test_wrong_manifests_of_integer_bundles_are_refused_by_both(probe, folder, change, message):
    edit(folder, change)
    refused_by_both(probe, folder, message)


def test_large_and_missing_certificates_are_refused_by_both(probe, folder):
    write_certificate(folder, TOO_LARGE)
    refused_by_both(probe, folder, f"certificate.json is larger than {MAX_BYTES} bytes")
    (folder / "certificate.json").unlink()
    refused_by_both(probe, folder, r"cannot read certificate\.json")


@pytest.mark.parametrize(
    "change",
    [
        case_with(0, seed=(1 << 63) - 1, magnitude=1 << 20, outliers=1 << 32),
        case_with(0, height=512, width=512, more=1),
        lambda value: value.update(future=[1 << 64, 1e300], cases=value["cases"][:1] * 8),
    ],
)
def test_the_last_that_is_within_the_limits_is_accepted_by_both(probe, folder, change):
    edit_certificate(folder, change)
    accepted_by_both(probe, folder)
    path = folder / "certificate.json"
    write_certificate(folder, path.read_bytes() + b" " * (MAX_BYTES - path.stat().st_size))
    accepted_by_both(probe, folder)


def test_a_certificate_of_a_bundle_in_floats_is_not_looked_at(probe, bundle_folder, tmp_path):
    folder = shutil.copytree(bundle_folder, tmp_path / "copy")
    edit(folder, lambda value: value.update(certificate={"path": "../none", "sha256": "0" * 64}))
    accepted_by_both(probe, folder)
    edit(folder, lambda value: value.update(certificate={"path": "../none"}))
    refused_by_both(probe, folder, r"certificate\.sha256 is missing")


@pytest.fixture(scope="module")
def shared_folder(integer_folder, tmp_path_factory):
    return shutil.copytree(integer_folder, tmp_path_factory.mktemp("shared") / "copy")


@given(st.data())
def test_any_value_anywhere_in_a_certificate_is_judged_alike(probe, shared_folder, integer_folder, data):
    root = json.loads((integer_folder / "certificate.json").read_text())
    place = root
    while True:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if isinstance(place[key], (dict, list)) and place[key] and data.draw(st.booleans()):
            place = place[key]
            continue
        place[key] = data.draw(json_values | st.sampled_from([0, 1, 64, 1 << 18, 1 << 20, 1 << 32, 1 << 63]))
        break
    write_certificate(shared_folder, json.dumps(root).encode())
    assert probe.status("open", str(shared_folder)) == status_of(Bundle.open, shared_folder)


def orders_of(probe, folder):
    """Return the order of the outputs of step_02 as the native reader has it, and as Python has it."""
    lines = dict(line.split(" ", 1) for line in probe.ask("open", str(folder))[3].decode().splitlines())
    outputs = Bundle.open(folder).manifest.graphs["step_02"].spec.outputs
    words = lines["step_02"].split(" ")
    return [word for word in words[-5 * len(outputs) :] if word in outputs], list(outputs)


def test_outputs_keep_the_order_of_the_manifest(probe, folder):
    """Every order; then names, lists and graphs that are there twice, of which the last value counts in both."""
    path = folder / "manifest.json"
    outputs = next(graph for graph in json.loads(path.read_text())["graphs"] if graph["name"] == "step_02")["outputs"]
    seen = set()
    for order in itertools.permutations(outputs):
        changed = {name: outputs[name] for name in order}

        def reorder(value, changed=changed):
            next(graph for graph in value["graphs"] if graph["name"] == "step_02")["outputs"] = changed

        edit(folder, reorder)
        ours, theirs = orders_of(probe, folder)
        assert ours == theirs == list(order)
        seen.add(order)
    assert len(seen) == 6
    text, (first, *_, last) = path.read_text(), order
    entry = f'"outputs": {json.dumps(changed)}'
    assert entry in text
    twice = entry[:-1] + f', "{first}": {json.dumps(outputs[first])}' + "}"
    before = f'"outputs": {{"{last}": 3, "{first}": 4}}, '
    graphs = json.dumps(json.loads(text)["graphs"])
    for other in (
        text.replace(entry, twice),
        text.replace(entry, before + entry),
        "{" + f'"graphs": {graphs.replace(entry, before[:-2])}, ' + text[1:],
        "{" + '"graphs": {"outputs": {"a": 1}}, "steps": [{"outputs": {"a": {"outputs": 1}}}], ' + text[1:],
    ):
        assert other != text
        path.write_text(other)
        ours, theirs = orders_of(probe, folder)
        assert ours == theirs == list(order)


@pytest.mark.parametrize("case", [*DEFAULT_CASES, Case(64, 64, 9, 0, 2), Case(64, 64, (1 << 63) - 1, 1 << 20, 1)])
def test_symbols_are_made_as_in_python(probe, case):
    for seed in (case.seed, 0, (1 << 64) - 1):
        _, found = probe.ask("symbols_of_case", case.magnitude, case.outliers, seed, 5000)
        assert found == symbols_of(case, seed, (5000,)).tobytes()


def test_splitmix64_is_the_published_one(probe):
    found, _ = probe.ask("symbols_of_case", 1, 0, 1234567, 3)
    assert np.frombuffer(found, np.uint64).tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_hashes_of_outputs_are_those_of_python(probe, rng):
    special = [0.0, -0.0, 1.5, -1.5, np.inf, -np.inf, 6e-8, -6e-8]
    arrays = {
        "b": np.array([[-1, 2]], np.int8),
        "a.x": np.array([*special, 1e-45, -1e-45], np.float32),
        "half": np.array(special, np.float16),
        "c": rng.integers(0, 256, (1, 3, 5, 7)).astype(np.uint8),
        "i": rng.integers(-(1 << 31), 1 << 31, (2, 3)).astype(np.int32),
        "l": np.array([1 << 62, -1]),
        "none": np.zeros((1, 0), np.float32),
        "one": np.array(-0.0, np.float32),
    }
    for order in (list(arrays), list(arrays)[::-1]):
        outputs = {name: TensorSpec(arrays[name].dtype.name, arrays[name].shape) for name in order}
        blobs = [
            blob
            for name in order
            for blob in (name, arrays[name].dtype.name, np.array(arrays[name].shape, np.int64), arrays[name])
        ]
        (found,) = probe.ask("digest", *blobs)
        assert found.decode() == digest_of(GraphSpec("g", {}, outputs, exact=True), arrays)


def test_the_key_covers_engine_graphs_and_certificate(probe, folder, tmp_path):
    def key(bundle=folder, fingerprint="engine 1"):
        (found,) = probe.ask("certificate_key", str(bundle), fingerprint)
        assert len(found) == 64
        return found

    first = key()
    other = build_integer_bundle(tmp_path / "other", seed=3)
    keys = {first, key(fingerprint="engine 2"), key(other)}
    assert key() == first
    edit_certificate(folder, lambda value: value.update(more=1))
    keys.add(key())
    edit(folder, lambda value: value.update(model_id="0" * 16))
    keys.add(key())
    graph = folder / "onnx/step_01.onnx"
    graph.write_bytes((other / "onnx/step_01.onnx").read_bytes())
    manifest = json.loads((other / "manifest.json").read_text())
    sha256 = next(entry for entry in manifest["graphs"] if entry["name"] == "step_01")["sha256"]
    edit(folder, lambda value: next(e for e in value["graphs"] if e["name"] == "step_01").update(sha256=sha256))
    keys.add(key())
    assert len(keys) == 6
    assert not os.environ.get("ONEDNN_MAX_CPU_ISA")
