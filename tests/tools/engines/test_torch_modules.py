"""PyTorch's modules as an engine."""

import numpy as np
import pytest
import torch

from mlic.runtime import Codec
from mlic.runtime.bundle import Bundle
from mlic.runtime.errors import BackendError
from mlic.tools.engines.torch_modules import TorchBackend

pytestmark = pytest.mark.xdist_group("small_bundle")

KINDS = {
    "onednn": {},
    "without oneDNN": {"onednn": False},
    "float64": {"dtype": torch.float64},
}


@pytest.mark.parametrize("kind", KINDS)
def test_modules_read_and_write_what_graphs_do(small_bundle, make_photo, kind):
    bundle = Bundle.open(small_bundle.folder)
    graphs = Codec.load(small_bundle.folder, "onnxruntime", threads=1)
    modules = Codec(bundle, TorchBackend.of(small_bundle.loaded, **KINDS[kind]))
    pixels = make_photo(128, 192)
    for writer, reader in ((graphs, modules), (modules, graphs)):
        data = writer.encode(pixels)
        assert np.abs(reader.decode(data).astype(int) - writer.decode(data)).max() <= 1


def test_what_runs_is_named(small_bundle):
    granted = TorchBackend.of(small_bundle.loaded, torch.float64, onednn=False).granted
    assert granted == f"torch {torch.__version__}, float64, without oneDNN"


def test_a_graph_that_the_model_does_not_have_is_named(small_bundle, bundle_folder):
    backend = TorchBackend.of(small_bundle.loaded)
    backend._subgraphs.clear()
    file = Bundle.open(small_bundle.folder).manifest.graphs["h_s"]
    with pytest.raises(BackendError, match="graph h_s: the checkpoint's model has none"):
        backend.open(small_bundle.folder, file)
