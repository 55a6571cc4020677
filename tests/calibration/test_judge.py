"""What the judge says that replaced transforms cost, against numpy and the files that the codec writes."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from mlic.calibration.judge import Effect, Judge, Quality, effect
from mlic.runtime import Codec, container
from mlic.runtime.backends.onnxruntime import OnnxRuntimeBackend
from mlic.runtime.bundle import Bundle

SIZES = ((64, 64), (75, 100), (128, 64))  # one is padded


@pytest.fixture(scope="module")
def bundle(bundle_folder):
    return Bundle.open(bundle_folder)


@pytest.fixture(scope="module")
def pictures(make_photo):
    return [make_photo(*size, seed) for seed, size in enumerate(SIZES)]


@pytest.fixture(scope="module")
def judge(bundle, pictures):
    return Judge(bundle, pictures, 1)


@pytest.fixture(scope="module")
def plain_codec(bundle):
    return Codec(bundle, OnnxRuntimeBackend(1))


def transform(bundle, name, factor=1.0):
    """Return a transform with its weights, there is one tensor of them, times a factor."""
    model = onnx.load(bundle.path_of(bundle.manifest.graphs[name]))
    (tensor,) = model.graph.initializer
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(factor), tensor.name))
    return model


def psnr_db(pixels, decoded):
    return 10 * np.log10(255**2 / np.mean((pixels.astype(float) - decoded) ** 2))


def decoded_by_numpy(model, y_hat, height, width):
    """Return the picture that the miniature g_s, a pattern for each channel, gives; padding is at right and below."""
    patterns = numpy_helper.to_array(model.graph.initializer[0])
    blocks = np.einsum("khw,kcij->chiwj", y_hat[0], patterns)
    planes = blocks.reshape(3, 16 * y_hat.shape[2], 16 * y_hat.shape[3])[:, :height, :width]
    return np.rint(np.clip(planes, 0, 1) * 255).transpose(1, 2, 0)


def test_effect_is_psnr_lost_and_bits_gained_in_percent():
    found = effect(Quality(40.0, 1000.0), Quality(39.75, 1020.0))
    assert (found.psnr_loss_db, found.rate_percent) == (0.25, pytest.approx(2.0))


def test_replacing_nothing_has_no_effect(judge):
    assert judge.measure() == Effect(0, 0)


def test_replacing_transforms_by_themselves_has_no_effect(judge, bundle):
    assert judge.measure(g_a=transform(bundle, "g_a"), g_s=transform(bundle, "g_s")) == Effect(0, 0)


def test_quality_before_is_that_of_what_the_codec_decodes(judge, plain_codec, pictures):
    decoded = [plain_codec.decode(plain_codec.encode(pixels)) for pixels in pictures]
    expected = np.mean([psnr_db(*both) for both in zip(pictures, decoded, strict=True)])
    assert judge.before.psnr_db == pytest.approx(expected, abs=1e-9)


def test_latents_and_inputs_are_those_of_the_codec(judge, plain_codec, pictures, bundle):
    for pixels, x, y_hat in zip(pictures, judge.x, judge.y_hat, strict=True):
        latent = plain_codec.decode_latent(plain_codec.encode(pixels))
        assert np.array_equal(y_hat, latent)
        assert x.shape == (1, 3, *(-(-side // 64) * 64 for side in pixels.shape[:2]))
        assert np.array_equal(x[0, :, : pixels.shape[0], : pixels.shape[1]], x_of(pixels))


def x_of(pixels):
    return pixels.transpose(2, 0, 1).astype(np.float32) / np.float32(255)


def test_damaged_synthesis_loses_the_psnr_that_numpy_finds_and_no_bits(judge, bundle, pictures):
    damaged = transform(bundle, "g_s", 1.2)
    means = []
    for model in (transform(bundle, "g_s"), damaged):
        found = [
            psnr_db(pixels, decoded_by_numpy(model, y_hat, *pixels.shape[:2]))
            for pixels, y_hat in zip(pictures, judge.y_hat, strict=True)
        ]
        means.append(np.mean(found))
    cost = judge.measure(g_s=damaged)
    assert cost.psnr_loss_db > 0.5
    assert cost.psnr_loss_db == pytest.approx(means[0] - means[1], abs=1e-3)  # sums in another order may round apart
    assert cost.rate_percent == 0


@pytest.mark.parametrize("index", range(len(SIZES)))
def test_bits_are_those_of_the_coded_symbols_in_the_file(index, bundle, plain_codec, pictures):
    stream = container.read(plain_codec.encode(pictures[index]), plain_codec.max_pixels)
    coded = len(stream.latents) + len(stream.escapes)
    found = Judge(bundle, pictures[index : index + 1], 1).before.bits / 8
    assert stream.escapes
    assert abs(found - coded) < 16 + 0.02 * coded  # whole words, and escapes are estimated


def test_bits_of_z_and_y_are_exact_to_words_where_few_escape(bundle, plain_codec, rng):
    pixels = rng.integers(0, 40, (256, 320, 3)).astype(np.uint8)
    stream = container.read(plain_codec.encode(pixels), plain_codec.max_pixels)
    found = Judge(bundle, [pixels], 1).before.bits / 8
    assert len(stream.escapes) < 0.05 * len(stream.latents)
    assert abs(found - len(stream.latents) - len(stream.escapes)) < 8  # z takes three times as much


def test_bits_of_pictures_add_up(judge, bundle, pictures):
    assert judge.before.bits == pytest.approx(sum(Judge(bundle, [p], 1).before.bits for p in pictures), rel=1e-12)


def test_other_analysis_changes_bits_and_psnr_as_encoding_with_it_does(judge, bundle, pictures, tmp_path):
    coarser = transform(bundle, "g_a", 0.5)

    class Replacing(OnnxRuntimeBackend):
        def open(self, path, graph):
            if graph.spec.name == "g_a":
                path = tmp_path / "g_a.onnx"
                onnx.save(coarser, path)
            return super().open(path, graph)

    codecs = [Codec(bundle, backend) for backend in (OnnxRuntimeBackend(1), Replacing(1))]
    files = [[codec.encode(pixels) for pixels in pictures] for codec in codecs]
    sizes = [
        sum(len(part) for data in each for part in parts(container.read(data, codecs[0].max_pixels))) for each in files
    ]
    means = [
        np.mean([psnr_db(p, codec.decode(data)) for p, data in zip(pictures, each, strict=True)])
        for codec, each in zip(codecs, files, strict=True)
    ]
    cost = judge.measure(g_a=coarser)
    assert cost.rate_percent < -10
    assert cost.rate_percent == pytest.approx(100 * (sizes[1] / sizes[0] - 1), abs=3)
    assert cost.psnr_loss_db == pytest.approx(means[0] - means[1], abs=1e-9)


def parts(stream):
    return stream.latents, stream.escapes


def test_both_transforms_are_judged_together(judge, bundle):
    halved, doubled = transform(bundle, "g_a", 0.5), transform(bundle, "g_s", 2)
    alone, together = judge.measure(g_a=halved), judge.measure(g_a=halved, g_s=doubled)
    assert together.rate_percent == alone.rate_percent
    assert together.psnr_loss_db < alone.psnr_loss_db - 3  # brightness is right again


def test_what_was_replaced_comes_back(judge, bundle):
    judge.measure(g_a=transform(bundle, "g_a", 0.5), g_s=transform(bundle, "g_s", 2))
    assert judge.measure() == Effect(0, 0)
    assert judge.measure(g_s=transform(bundle, "g_s")) == Effect(0, 0)


def test_what_was_replaced_comes_back_after_a_failure_too(judge, bundle, pictures):
    broken = transform(bundle, "g_a")
    broken.graph.output[0].name = broken.graph.node[0].output[0] = "other"
    with pytest.raises(Exception, match="y"):
        judge.measure(g_a=broken)
    assert np.array_equal(judge._codec.trace(pictures[0])["y_hat"], judge.y_hat[0])


def test_perfect_picture_has_a_finite_psnr(bundle):
    grey = np.zeros((64, 64, 3), np.uint8)
    judge = Judge(bundle, [grey], 1)
    assert np.isfinite(judge.before.psnr_db)
    assert judge.before.psnr_db > 40
