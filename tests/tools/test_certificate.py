"""Engines of this machine read each other's files: ``mlic-run verify --engines``."""

import json

import numpy as np
import pytest

from mlic.runtime.backends.onnxruntime import OnnxRuntimeBackend
from mlic.runtime.errors import MlicError
from mlic.tools.certificate import certify, table
from mlic.tools.engines.here import OnnxRuntimeAtLevel, engines_here
from mlic.tools.engines.noisy import ChangedScales
from mlic.tools.verify import starters_from
from tests.tiny_bundle import Y_CHANNELS

ENGINES = {"all": lambda: OnnxRuntimeAtLevel("all", 1), "none": lambda: OnnxRuntimeAtLevel("none", 1)}


def test_every_pair_is_reported_in_both_directions(codec, make_photo):
    stages = []
    reports = certify(codec.bundle, ENGINES, [make_photo(100, 150), make_photo(64, 64)], stages.append)
    assert [(one.writer, one.reader) for one in reports] == [("all", "none"), ("none", "all")]
    assert stages == ["all", "none", "all > none", "none > all"]
    for one in reports:
        assert one.problem is None
        assert one.indexes == Y_CHANNELS * (8 * 12 + 4 * 4)  # padded to multiples of 64 pixels
        assert one.margin >= 1
        assert one.pixel_difference <= 1


def test_an_engine_beyond_repair_is_a_problem_and_the_others_are_tried(codec, make_photo):
    engines = {"first": ENGINES["all"], "second": ENGINES["none"]}
    broken = certify(codec.bundle, engines | {"wild": wild}, [make_photo(256, 256)])
    assert len(broken) == 6
    good = [one for one in broken if "wild" not in (one.writer, one.reader)]
    assert not any(one.problem for one in good)
    bad = [one for one in broken if "wild" in (one.writer, one.reader)]
    assert all("beyond repair" in one.problem for one in bad)
    assert all(one.margin == 0 for one in bad)
    assert "beyond repair" in table(broken)


def wild():
    """Open an engine with much noise, the same for every picture, so that it reads its own files."""

    def change(scales):
        return scales * np.random.default_rng(scales.size).normal(1, 0.2, scales.shape)

    return ChangedScales(OnnxRuntimeBackend(1), change)


def test_all_means_every_engine_that_can_be_loaded():
    assert list(starters_from("all", 1)) == list(engines_here(1))
    assert "openvino" in engines_here(1)
    assert starters_from(None, 1) == {}


@pytest.mark.parametrize(
    ("names", "problem"), [("onnxruntime", "two at least"), ("onnxruntime,tpu", "tpu not found; here are onnxruntime")]
)
def test_engines_that_are_not_here_and_single_ones_are_refused(names, problem):
    with pytest.raises(MlicError, match=problem):
        starters_from(names, 1)


def test_the_level_is_granted_and_named():
    assert OnnxRuntimeAtLevel("basic", 1).granted.endswith("1 threads, optimisation basic")


def test_the_command_prints_a_row_for_each_pair(mlic, bundle_folder, picture):
    result = mlic("verify", bundle_folder, "--threads", 1, "--engines", "onnxruntime,openvino", "--image", picture)
    assert result.code == 0, result.err
    lines = result.out.splitlines()
    heading = next(place for place, text in enumerate(lines) if text.startswith("written by"))
    assert [text.split()[:2] for text in lines[heading + 1 :]] == [
        ["onnxruntime", "openvino"],
        ["openvino", "onnxruntime"],
    ]


def test_the_command_prints_json_without_infinities(mlic, bundle_folder):
    names = "onnxruntime-basic,onnxruntime-none"
    result = mlic("verify", bundle_folder, "--threads", 1, "--engines", names, "--json")
    assert result.code == 0, result.err
    pairs = json.loads(result.out, parse_constant=pytest.fail)["engines"]
    assert [(pair["writer"], pair["reader"]) for pair in pairs] == [
        ("onnxruntime-basic", "onnxruntime-none"),
        ("onnxruntime-none", "onnxruntime-basic"),
    ]
    assert all(pair["margin"] is None or pair["margin"] >= 1 for pair in pairs)


def test_a_picture_that_cannot_be_read_is_one_line(mlic, bundle_folder, tmp_path):
    result = mlic("verify", bundle_folder, "--engines", "all", "--image", tmp_path / "none.png")
    assert result.code == 1
    assert "none.png" in result.err
    assert len(result.err.splitlines()) == 1
