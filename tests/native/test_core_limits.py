"""Bundles and files made to harm go to both readers, which refuse them for the same reason."""

from __future__ import annotations

import json
import shutil
import struct
import sys
import unicodedata
import zlib

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlic.runtime import container
from mlic.runtime.bundle import Bundle
from mlic.runtime.container import MAX_CHUNKS, MAX_LATENT_PIXELS, MAX_PIXELS
from mlic.runtime.errors import BundleError, CorruptStreamError
from mlic.runtime.external_data import has_entry
from mlic.runtime.manifest_json import MAX_CHANNELS, MAX_MULTIPLE, MAX_SIDE
from mlic.runtime.strict_json import MAX_DEPTH
from tests.native.core_probe import RefusedError, files_of, status_of
from tests.runtime.damaged_bundle import (
    FILES,
    GRAPHS,
    KEYS,
    MANIFESTS,
    PATH_REFUSALS,
    PATHS,
    TABLES,
    TEXTS,
    edit,
    nested,
    put_graph,
    put_in_place_of,
    set_at,
    write_tables,
)

pytestmark = pytest.mark.xdist_group("native_core")  # one build

BAD_BUNDLE = 30
MOST_TEXT = 8192  # bytes of an error, however much is wrong


@pytest.fixture
def folder(bundle_folder, tmp_path):
    return shutil.copytree(bundle_folder, tmp_path / "copy")


def refused_by_both(probe, folder, message, in_memory=True):
    """Expect that both refuse a bundle, with a text of one line that matches."""
    with pytest.raises(BundleError, match=message):
        Bundle.open(folder)
    arguments = [("open", str(folder)), *([("open_memory", *files_of(folder))] if in_memory else [])]
    for name, *rest in arguments:
        with pytest.raises(RefusedError, match=message) as caught:
            probe.ask(name, *rest)
        assert caught.value.status == BAD_BUNDLE
        text = str(caught.value)
        assert text.isprintable(), text
        assert len(text) < MOST_TEXT


def accepted_by_both(probe, folder):
    assert Bundle.open(folder)
    assert probe.ask("open", str(folder)) == probe.ask("open_memory", *files_of(folder))


@pytest.mark.parametrize(("change", "message"), MANIFESTS)
def test_absurd_manifests_are_refused_by_both(probe, folder, change, message):
    edit(folder, change)
    refused_by_both(probe, folder, message)


@pytest.mark.parametrize("name", TEXTS)
def test_text_that_is_deep_or_no_json_is_refused_by_both(probe, folder, name):
    (folder / "manifest.json").write_bytes(TEXTS[name])
    refused_by_both(probe, folder, "is not JSON|deep|not the manifest")


def test_the_last_that_is_within_the_limits_is_accepted_by_both(probe, folder):
    edit(folder, set_at("future", value=nested(MAX_DEPTH - 1)))
    accepted_by_both(probe, folder)
    edit(folder, set_at("future", value={"a": nested(MAX_DEPTH - 2)}))
    accepted_by_both(probe, folder)
    edit(folder, set_at("future", value=[10**308, -(10**308), 1 << 64, "\u2028\x9b", "x" * 2000]))
    accepted_by_both(probe, folder)
    edit(folder, set_at("name", value="ä" * 1024))
    accepted_by_both(probe, folder)
    edit(folder, set_at("graphs", 3, "outputs", "ß" * 1024, value={"dtype": "uint8", "shape": [(1 << 31) - 1] * 8}))
    accepted_by_both(probe, folder)
    edit(folder, set_at("sizes", value={"min": [1, 1], "opt": [9, 9], "max": [MAX_SIDE, MAX_SIDE]}))
    accepted_by_both(probe, folder)
    edit(folder, set_at("padding", "multiple", value=MAX_MULTIPLE))
    edit(folder, set_at("graphs", 0, "tiling", value={"multiple": MAX_MULTIPLE, "halo": MAX_SIDE}))
    accepted_by_both(probe, folder)
    text = (folder / "manifest.json").read_bytes()
    (folder / "manifest.json").write_bytes(b"\xef\xbb\xbf" + text + b" " * ((1 << 22) - len(text) - 3))
    accepted_by_both(probe, folder)


@pytest.mark.parametrize("depth", [MAX_DEPTH, MAX_DEPTH + 1, 500, 900])
def test_what_is_deeper_is_refused_by_both(probe, folder, depth):
    for value in (nested(depth), [{"a": nested(depth - 2)}]):
        edit(folder, set_at("future", value=value))
        refused_by_both(probe, folder, f"lie more than {MAX_DEPTH} deep")


def test_wiring_takes_channels_up_to_the_limit(probe, folder):
    edit(folder, set_at("latent", "y_channels", value=MAX_CHANNELS))
    refused_by_both(probe, folder, f"{MAX_CHANNELS - 6} channels of y are not filled exactly once at anchors")


@pytest.mark.parametrize("name", ["manifest.json", "tables.npz", "onnx/g_a.onnx"])
@pytest.mark.parametrize("kind", ["pipe", "folder", "circle", "outside", "device"])
def test_a_file_that_is_none_is_refused_by_both(probe, folder, tmp_path, name, kind):
    put_in_place_of(folder / name, kind, tmp_path / "moved")
    refused_by_both(probe, folder, "paths lead out of the folder|not a regular file|no such regular|missing", False)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("what", ["graph", "tables"])
def test_paths_of_any_kind_are_refused_by_both(probe, folder, path, what):
    edit(folder, lambda value: (value["graphs"][0] if what == "graph" else value["tables"]).update(path=path))
    refused_by_both(probe, folder, PATH_REFUSALS)


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_too_large_or_of_another_kind_are_refused_by_both(probe, folder, name):
    change, message = FILES[name]
    change(folder)
    refused_by_both(probe, folder, message, in_memory="sparse" not in name)


@pytest.mark.parametrize("name", TABLES)
def test_tables_that_claim_or_unpack_to_too_much_are_refused_by_both(probe, folder, name):
    data, message = TABLES[name]
    write_tables(folder, data)
    refused_by_both(probe, folder, message)


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_with_data_in_another_file_is_refused_by_both(probe, folder, name):
    (folder / "onnx" / "inside").write_bytes(bytes(16))
    put_graph(folder, GRAPHS[name]())
    refused_by_both(probe, folder, "graphs keep weights in other files: onnx/g_a.onnx")


def test_names_that_hold_the_word_are_fine(probe, folder):
    model = onnx.load(folder / "onnx" / "g_a.onnx")
    model.graph.node[0].name = "/allocation/location"
    model.graph.doc_string = "location"
    put_graph(folder, model.SerializeToString())
    accepted_by_both(probe, folder)


def test_the_word_is_found_where_the_expression_finds_it(probe, rng):
    """In random bytes of the kind that the expression looks at, and in the keys cut and stretched."""
    pieces = [b"\x0a", b"\x08", b"\x8a", b"\x88", b"\x80", b"\xff", b"\x00", b"\x7f", b"locatio", b"location", *KEYS]
    seen = set()
    for _ in range(4000):
        data = b"".join(pieces[place] for place in rng.integers(0, len(pieces), rng.integers(1, 16)))
        if rng.random() < 0.5:
            data = data[: -len(KEYS)] + b"location"
        expected = has_entry(data)
        cut = int(rng.integers(0, len(data) + 1))
        assert probe.ask("external", data[:cut], data[cut:]) == [bytes([expected])], data
        seen.add(expected)
    assert seen == {True, False}
    for between in range(7, 11):
        data = b"\x8a" + b"\x80" * between + b"\0\x88" + b"\xff" * 8 + b"\x08location"
        assert probe.ask("external", *(data[place : place + 1] for place in range(len(data)))) == [
            bytes([between <= 8])
        ]


def test_the_same_texts_are_printable(probe):
    """But for characters that this Python's Unicode does not know, which the native reader lets pass."""
    numbers = [number for number in range(sys.maxunicode + 1) if not 0xD800 <= number < 0xE000 and number != ord("\n")]
    known = [number for number in numbers if unicodedata.category(chr(number)) != "Cn"]
    (found,) = probe.ask("printable", "\n".join(f"a{chr(number)}b" for number in known))
    wrong = [
        number for number, is_printable in zip(known, found, strict=True) if is_printable != chr(number).isprintable()
    ]
    assert not wrong


def with_chunks(count):
    """Return a file of 8 x 8 pixels with so many chunks that nobody knows."""
    names = [bytes([97 + n // 676 % 26, 97 + n // 26 % 26, 97 + n % 26, 97]) for n in range(count - 2)]
    chunks = b"".join(struct.pack("<I", 0) + name for name in names)
    coded = struct.pack("<I", 4) + b"LATS\1\0\0\0" + struct.pack("<I", 2) + b"SYNDab"
    body = b"MLIC\1\1\0\0" + bytes(8) + struct.pack("<II", 8, 8) + coded + chunks + struct.pack("<I", 4) + b"ENDS"
    return body + struct.pack("<I", zlib.crc32(body))


@pytest.mark.parametrize("count", [MAX_CHUNKS, MAX_CHUNKS + 1, 5000])
def test_chunks_are_counted_by_both(probe, count):
    data = with_chunks(count)
    if count <= MAX_CHUNKS:
        assert container.read(data)
        assert probe.ask("read_container", data, MAX_PIXELS, MAX_LATENT_PIXELS)
        return
    message = f"more than {MAX_CHUNKS} chunks"
    with pytest.raises(CorruptStreamError, match=message) as ours:
        container.read(data)
    with pytest.raises(RefusedError, match=message) as theirs:
        probe.ask("read_container", data, MAX_PIXELS, MAX_LATENT_PIXELS)
    assert (theirs.value.status, str(theirs.value)) == (21, str(ours.value))


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=["Cn"]), max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=20,
)
near_limits = st.sampled_from(
    [0, 1, 8, 9, 16, 17, 64, 4095, 4096, 4097, 1 << 20, (1 << 20) + 1, (1 << 31) - 1, 1 << 31]
)


@pytest.fixture(scope="module")
def shared_folder(bundle_folder, tmp_path_factory):
    return shutil.copytree(bundle_folder, tmp_path_factory.mktemp("shared") / "copy")


@given(st.data())
def test_any_value_anywhere_is_judged_alike(probe, shared_folder, bundle_folder, data):
    root = json.loads((bundle_folder / "manifest.json").read_text())
    place = root
    while True:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if isinstance(place[key], (dict, list)) and place[key] and data.draw(st.booleans()):
            place = place[key]
            continue
        if data.draw(st.booleans()) and isinstance(place, dict):
            key = data.draw(st.text(max_size=9))
        place[key] = data.draw(near_limits | json_values)
        break
    (shared_folder / "manifest.json").write_text(json.dumps(root))
    assert probe.status("open", str(shared_folder)) == status_of(Bundle.open, shared_folder)
