"""The simulation of repair."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

pytest.importorskip("matplotlib")

from mlic.runtime.backends.onnxruntime import OnnxRuntimeBackend
from mlic.tools.bench import noise as noise_tool
from mlic.tools.bench.repair_rate import Tally, app, simulate
from mlic.tools.noise import Noise


def test_noise_is_drawn_among_scales_of_the_same_size(rng):
    """Here small scales differ by little and large ones by much."""
    ours = np.concatenate([np.full(5000, 0.5), np.full(5000, 20.0)]).astype(np.float32)
    theirs = ours + np.concatenate([np.full(5000, 1e-3), np.full(5000, 0.5)]).astype(np.float32)
    noise = Noise(ours, theirs)
    drawn = noise.draw(rng, np.array([0.4, 30.0], np.float32), (1000, 2))
    assert drawn.shape == (1000, 2)
    assert np.allclose(np.abs(drawn[:, 0]), 1e-3, rtol=1e-3)
    assert np.allclose(np.abs(drawn[:, 1]), 0.5)
    assert 0.4 < (drawn > 0).mean() < 0.6
    assert noise.largest == 0.5


def pictures(rng, apart):
    ours = [[np.exp(rng.uniform(-2, 3, 3000)).astype(np.float32) for _ in range(2)]]
    return ours, [[(step + rng.normal(0, apart, step.shape)).astype(np.float32) for step in ours[0]]]


def test_without_noise_nothing_differs(rng, codec):
    ours, _ = pictures(rng, 0)
    tally, chunks = simulate(rng, codec.bundle.entropy, ours, ours, 11, 16, 1.0, 100)
    assert (tally.chunks, tally.flips, tally.lost, tally.first, chunks) == (100, 0, 0, 0, 4)


def test_little_noise_is_repaired_and_much_is_not(rng, codec):
    ours, theirs = pictures(rng, 1e-5)
    results = [simulate(rng, codec.bundle.entropy, ours, theirs, 12, 16, factor, 400)[0] for factor in (1.0, 10_000.0)]
    assert results[0].first > 0
    assert results[0].lost == 0
    assert results[1].lost > 0.9 * results[1].chunks
    for tally in results:
        assert tally.first + tally.listed + tally.unnoticed + tally.lost <= tally.chunks


def test_wider_checksums_lose_less(rng, codec):
    ours, theirs = pictures(rng, 1e-3)
    lost = [simulate(rng, codec.bundle.entropy, ours, theirs, 12, width, 1.0, 200)[0].lost for width in (16, 32)]
    assert lost[1] < lost[0]


def test_probabilities_of_pictures_follow_from_those_of_chunks():
    tally = Tally(chunks=1000, indexes=10, flips=5, lost=10)
    assert tally.flips_per_million == 500
    assert tally.per_picture(tally.lost, 20) == pytest.approx(1 - 0.99**20)
    assert tally.per_picture(0, 20) == 0


def test_the_command_writes_a_plot_and_figures(bundle_folder, tmp_path, picture):
    options = ["--trials", "50", "--option", "15:16", "--factor", "1", "--factor", "1000"]
    result = CliRunner().invoke(app, [str(bundle_folder), str(picture), "-o", str(tmp_path / "r.svg"), *options])
    assert result.exit_code == 0, result.output
    rows = json.loads((tmp_path / "r.json").read_text())
    assert [(row["chunk_log2"], row["width"], row["factor"]) for row in rows] == [(15, 16, 1), (15, 16, 1000)]
    assert "2^15 indexes, 16 bits" in (tmp_path / "r.svg").read_text()


def test_an_engine_that_is_not_here_is_named(bundle_folder, tmp_path, picture):
    options = ["-o", str(tmp_path / "r.svg"), "--engines", "onnxruntime", "tpu"]
    result = CliRunner().invoke(app, [str(bundle_folder), str(picture), *options])
    assert result.exit_code == 1
    assert "tpu: not among onnxruntime" in result.output


def test_real_files_are_read_with_noise_or_refused(codec, make_photo, rng):
    data = codec.encode(make_photo(256, 256))
    scales = np.concatenate([step.reshape(-1) for step in codec.trace(make_photo(256, 256))["scales"]])
    source = Noise(scales, scales + rng.normal(0, 1e-6, scales.shape).astype(np.float32))
    expected = [codec.decode_latent(data)]
    rows = [
        noise_tool.measure(codec.bundle, OnnxRuntimeBackend(1), source, factor, [data], expected, 4)
        for factor in (0.0, 1.0, 3e5)
    ]
    assert [(row["read"], row["refused"], row["wrong"]) for row in rows] == [(4, 0, 0), (4, 0, 0), (0, 4, 0)]
    assert (rows[0]["flips"], rows[0]["went_back"], rows[0]["repair_percent"]) == (0, 0, 0)


def test_the_command_reads_files_with_noise(bundle_folder, picture):
    options = ["--repeat", "1", "--factor", "0", "--json"]
    result = CliRunner().invoke(noise_tool.app, [str(bundle_folder), str(picture), *options])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["read"] == 1
