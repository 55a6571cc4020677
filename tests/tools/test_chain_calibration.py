"""``mlic-calibrate --chain integer``: the bundle it makes, what it says, and one line for each likely mistake."""

from __future__ import annotations

import json
import subprocess
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlic.calibration.integer.information import Cost
from mlic.calibration.integer.sensitivity import ChainSensitivity, LayerCost
from mlic.export.identity import integer_model_id
from mlic.runtime import Codec
from mlic.runtime.arrays import Float32Array, UInt8Array
from mlic.runtime.bundle import Bundle
from mlic.runtime.certificate import chain_names
from mlic.runtime.errors import UnsupportedStreamError
from mlic.runtime.shipped import shipped_bundle
from mlic.tools.bench.agreement import emulated_engines, native_engines
from mlic.tools.chain_report import sensitivity_table
from mlic.tools.engines.available import foreign_engines
from mlic.tools.engines.worker import WorkerBackend
from mlic.tools.quality import psnr
from tests.commands import run
from tests.conftest import photo

pytestmark = pytest.mark.xdist_group("chain_calibration")  # one calibration

QUALITY = "low"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three parts of a photo."""
    folder = tmp_path_factory.mktemp("photos")
    with Image.open(Path(__file__).parents[1] / "photos/kodim03.png") as image:
        for number in range(3):
            image.convert("RGB").crop((200 * number, 100, 200 * number + 200, 300)).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def made(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[bytes]]:
    """A bundle made by the command, and what the command said."""
    folder = tmp_path_factory.mktemp("made") / "integers"
    arguments = ("--pictures", 3, "--crop", 192, "--threads", 1, "--json", "--plot", folder.parent / "layers.svg")
    result = run(
        "mlic-calibrate", shipped_bundle(QUALITY), photos, "-o", folder, "--chain", "integer", "--compress", *arguments
    )
    assert result.returncode == 0, result.stderr
    return folder, result


def test_json_says_what_the_integers_cost(made):
    folder, result = made
    row = json.loads(result.stdout)
    bundle = Bundle.open(folder)
    assert (
        row["model_id"]
        == bundle.manifest.model_id.hex()
        != Bundle.open(shipped_bundle(QUALITY)).manifest.model_id.hex()
    )
    assert (row["arithmetic"], row["engine"]) == ("integer", "fp32")
    assert abs(row["rate_percent"]) < 2  # 40 bytes of checksums fewer in 3 kB
    assert abs(row["psnr_loss_db"]) < 0.2
    assert row["bytes"] == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_json_and_plot_say_what_each_layer_costs(made):
    row = json.loads(made[1].stdout)
    expected = [layer["expected_rate_percent"] for layer in row["layers"]]
    assert expected == sorted(expected, reverse=True)
    assert {layer["operator"] for layer in row["layers"]} == {"Conv", "Gemm", "MatMul"}
    assert sum(expected) == pytest.approx(row["layers_sum"]["expected_rate_percent"], abs=1e-3)
    assert row["layers_together"]["expected_rate_percent"] == pytest.approx(sum(expected), rel=0.5)
    assert row["layers_pictures"] == 3
    assert 0 < expected[0] < 1  # percent
    drawn = (made[0].parent / "layers.svg").read_text()
    worst, best = row["layers"][0], row["layers"][-1]
    assert f"<!-- {worst['graph']} {worst['layer']} -->" in drawn
    assert f"<!-- {best['graph']} {best['layer']} -->" not in drawn


def test_table_has_a_line_for_each_layer_and_the_totals():
    layers = (
        LayerCost("h_s", "small", "Conv", Cost(0.001, -0.002)),
        LayerCost("step_00", "large.one", "MatMul", Cost(0.25, 0.2)),
        LayerCost("finish", "none", "Gemm", Cost(-1e-7, 0)),
    )
    assert sensitivity_table(ChainSensitivity(layers, Cost(0.3, 0.1), 8)).splitlines() == [
        "graph   layer                 expected      coded",
        "step_00 large.one   MatMul   +0.2500 %  +0.2000 %",
        "h_s     small       Conv     +0.0010 %  -0.0020 %",
        "finish  none        Gemm     +0.0000 %  +0.0000 %",
        "all layers alone, added up   +0.2510 %  +0.1980 %",
        "the integer chain            +0.3000 %  +0.1000 %",
    ]


def test_chain_alone_is_new(made):
    bundle, source = Bundle.open(made[0]), Bundle.open(shipped_bundle(QUALITY))
    assert bundle.manifest.arithmetic == "integer"
    assert bundle.manifest.name == "integers"
    assert bundle.manifest.steps == source.manifest.steps
    for graph in ("g_a", "h_a", "g_s"):
        assert bundle.manifest.graphs[graph].sha256 == source.manifest.graphs[graph].sha256
    provenance = bundle.manifest.details["provenance"]
    assert provenance["chain"]["float_model_id"] == source.manifest.model_id.hex()
    assert provenance["checkpoint"] == source.manifest.details["provenance"]["checkpoint"]


def test_identity_is_that_of_the_onnx_files_and_not_of_how_they_are_compressed(made):
    bundle = Bundle.open(made[0])
    manifest = bundle.manifest
    assert all(graph.path.endswith(".onnx.gz") for graph in manifest.graphs.values())
    hashes = {name: sha256(bundle.read_graph(manifest.graphs[name])).hexdigest() for name in chain_names(manifest)}
    with np.load(bundle.folder / "tables.npz") as tables:
        assert integer_model_id(hashes, dict(tables), manifest.steps) == manifest.model_id


def test_latents_are_those_of_the_encoder_to_the_last_bit(made):
    one, two = (Codec.load(made[0], "onnxruntime", threads=threads) for threads in (1, 2))
    float_codec = Codec.load(shipped_bundle(QUALITY), "onnxruntime", threads=1)
    for size in ((64, 64), (130, 70), (1, 1)):
        pixels = photo(*size)
        data = one.encode(pixels)
        latents = [codec.decode_latent(data) for codec in (one, two)]
        assert np.array_equal(*latents)
        assert np.array_equal(latents[0] * 256, np.round(latents[0] * 256))
        ours, theirs = (codec.decode(codec.encode(pixels)) for codec in (one, float_codec))
        assert psnr(pixels, ours) > psnr(pixels, theirs) - 1


def test_float_and_integer_bundles_refuse_each_others_files(made):
    codecs = [Codec.load(path, "onnxruntime", threads=1) for path in (made[0], shipped_bundle(QUALITY))]
    files = [codec.encode(photo(64, 64)) for codec in codecs]
    for codec, file in zip(codecs, files[::-1], strict=True):
        with pytest.raises(UnsupportedStreamError, match="model"):
            codec.decode(file)


def test_verify_and_commands_take_the_bundle(made, photos: Path, tmp_path: Path):
    verified = run("mlic-run", "verify", made[0])
    assert verified.returncode == 0, verified.stderr
    encoded = run("mlic-run", "encode", photos / "0.png", "a.mlic", "--model", made[0], cwd=tmp_path)
    assert encoded.returncode == 0, encoded.stderr
    told = run("mlic-run", "info", "a.mlic", "--json", cwd=tmp_path)
    assert json.loads(told.stdout)["arithmetic"] == "integer"
    decoded = run("mlic-run", "decode", "a.mlic", "a.png", "--model", made[0], cwd=tmp_path)
    assert decoded.returncode == 0, decoded.stderr


def hard_pictures() -> list[UInt8Array]:
    """A photo, noise, and pictures without any detail or beyond what a sensor gives; odd sizes."""
    noise = np.random.default_rng(0).integers(0, 256, (65, 33, 3)).astype(np.uint8)
    stripes = np.zeros((64, 100, 3), np.uint8)
    stripes[:, ::2] = 255
    return [photo(130, 70), noise, np.full((64, 64, 3), 128, np.uint8), np.full((1, 1, 3), 255, np.uint8), stripes]


@pytest.fixture(scope="module")
def files(made) -> list[tuple[bytes, Float32Array]]:
    """Files of hard pictures, and what this engine decodes them to."""
    codec = Codec.load(made[0], "onnxruntime", threads=1)
    written = [codec.encode(pixels) for pixels in hard_pictures()]
    return [(data, codec.decode_latent(data)) for data in written]


@pytest.mark.parametrize("name", [*native_engines(), *dict(foreign_engines()), *emulated_engines()])
def test_every_engine_decodes_to_the_same_bits(name, made, files):
    starters = native_engines() | dict(foreign_engines()) | emulated_engines()
    few = files[-2:] if name in emulated_engines() else files
    with ExitStack() as stack:
        engine = starters[name]()
        if isinstance(engine, WorkerBackend):
            stack.enter_context(engine)
        codec = Codec(Bundle.open(made[0]), engine)
        for data, latent in few:
            assert np.array_equal(codec.decode_latent(data), latent)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--max-psnr-loss", "0.1"), "--max-psnr-loss is for the transforms, which --chain integer leaves as they are"),
        (("--all-layers",), "--all-layers is for the transforms"),
    ],
)
def test_options_of_transforms_are_refused(arguments, problem, photos: Path, tmp_path: Path):
    command = ("mlic-calibrate", shipped_bundle(QUALITY), photos, "-o", "out", "--chain", "integer", *arguments)
    result = run(*command, cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.decode().startswith(f"mlic-calibrate: {problem}")
    assert list(tmp_path.iterdir()) == []


def test_integer_bundle_is_not_calibrated_again(made, photos: Path, tmp_path: Path):
    result = run("mlic-calibrate", made[0], photos, "-o", "out", "--chain", "integer", cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr == b"mlic-calibrate: bundle integers: its chain is integer; expected a float one\n"
    assert list(tmp_path.iterdir()) == []
