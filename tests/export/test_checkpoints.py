"""Checkpoints as people have them: every spelling is read, and what cannot be read is named in one line."""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mlic.export.checkpoints import CheckpointError, load_checkpoint
from mlic.export.models.mlicpp import Mlicpp, MlicppWidths
from mlic.export.models.slices import SliceWidths
from mlic.export.models.stf import Stf, StfWidths
from mlic.export.models.wacnn import Wacnn
from mlic.export.official_tables import fill_tables
from mlic.runtime.bundle_files import sha256_of

SLIM = MlicppWidths(n=16, m=64, entropy_parameters=(24, 20, 16), lrp=(20, 12), channel_context=(12, 10))
SLICES = SliceWidths(
    m=64, n=8, num_slices=4, support=2, h_a=(16, 16, 16, 16), h_s=(8, 8, 16, 16), stack=(24, 16, 16, 8)
)
MODELS: dict[str, Callable[[], nn.Module]] = {
    "mlicpp": lambda: Mlicpp(SLIM),
    "mlicpp_old": lambda: Mlicpp(MlicppWidths(n=16, m=64, old=True)),
    "stf": lambda: Stf(StfWidths(8, heads=(1, 2, 2, 4)), SLICES),
    "wacnn": lambda: Wacnn(16, SLICES),
}
WEIGHT = "g_a.analysis_transform.0.conv1.weight"
SPELLINGS = {
    "1.2": lambda key: key,
    "1.2.9": lambda key: _respelled(key, "{}s.", "matrice"),
    "very old": lambda key: _respelled(key, "_{}s.", "matrice"),
}

State = dict[str, Any]


def _respelled(key: str, form: str, matrix: str) -> str:
    for ours, theirs in (("_matrix", matrix), ("_bias", "biase"), ("_factor", "factor")):
        if key.startswith(f"entropy_bottleneck.{ours}"):
            return key.replace(ours, form.format(theirs))
    return key


@pytest.fixture(scope="module")
def state() -> State:
    torch.manual_seed(0)
    return Mlicpp(SLIM).state_dict()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "some.pth"


@pytest.fixture
def error_of(path: Path) -> Callable[..., str]:
    def error_of(content: object = None, raw: bytes | None = None, architecture: str = "auto") -> str:
        if raw is not None:
            path.write_bytes(raw)
        elif content is not None:
            torch.save(content, path)
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(path, architecture)
        text = str(caught.value)
        assert "\n" not in text
        assert path.name in text
        return text

    return error_of


def assert_holds(model: nn.Module, expected: State) -> None:
    found = model.state_dict()
    for key, value in expected.items():
        assert torch.equal(found[key], value), key


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("filled", [False, True], ids=["empty tables", "filled tables"])
def test_checkpoint_of_each_architecture_keeps_values_and_tables(name: str, filled: bool, path: Path):
    model = MODELS[name]()
    if filled:
        fill_tables(model)
    torch.save(model.state_dict(), path)
    found = load_checkpoint(path)
    assert found.architecture.name == name.removesuffix("_old")
    assert (found.name, found.sha256) == (path.name, sha256_of(path))
    assert not found.model.training
    assert set(found.model.state_dict()) == set(model.state_dict())
    assert_holds(found.model, model.state_dict())


def test_wrapped_state_dict_is_read_whatever_lies_beside_it(state: State, path: Path):
    parameter = nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.Adam([parameter])
    parameter.sum().backward()
    optimizer.step()
    torch.save(
        {
            "epoch": 7,
            "state_dict": state,
            "loss": torch.tensor(1.5),
            "optimizer": optimizer.state_dict(),
            "aux_optimizer": optimizer.state_dict(),
            "lr_scheduler": torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer).state_dict(),
        },
        path,
    )
    assert_holds(load_checkpoint(path).model, state)


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("name", ["mlicpp", "stf"])
def test_prefix_of_data_parallel_training_is_stripped(name: str, wrapped: bool, path: Path):
    state = MODELS[name]().state_dict()
    prefixed = {f"module.{key}": value for key, value in state.items()}
    torch.save({"state_dict": prefixed} if wrapped else prefixed, path)
    assert_holds(load_checkpoint(path).model, state)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_bottleneck_parameters_are_read_in_every_spelling(spelling: str, state: State, path: Path):
    renamed = {SPELLINGS[spelling](key): value for key, value in state.items()}
    if spelling != "1.2":
        assert ("entropy_bottleneck._matrices.0" in renamed) == (spelling == "very old")
        assert ("entropy_bottleneck.biases.4" in renamed) == (spelling == "1.2.9")
    torch.save(renamed, path)
    assert_holds(load_checkpoint(path).model, state)


@pytest.mark.parametrize("name", ["stf", "wacnn"])
def test_legacy_keys_of_stf_and_wacnn_are_dropped(name: str, path: Path):
    state = MODELS[name]().state_dict()
    torch.save(state | {"h_s.0.weight": torch.zeros(3, 3), "h_s.0.bias": torch.zeros(3)}, path)
    assert_holds(load_checkpoint(path).model, state)


def test_weights_in_half_precision_are_read_as_float32(state: State, path: Path):
    half = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    torch.save(half, path)
    model = load_checkpoint(path).model
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert_holds(model, {key: value.to(state[key].dtype) for key, value in half.items()})


def test_file_without_tables_leaves_them_empty(state: State, path: Path):
    parameters = {name for name, _ in Mlicpp(SLIM).named_parameters()}
    torch.save({key: value for key, value in state.items() if key in parameters}, path)
    model = load_checkpoint(path).model
    assert model.get_buffer("entropy_bottleneck._quantized_cdf").numel() == 0
    assert model.get_buffer("gaussian_conditional.scale_bound").numel() == 1


def test_file_in_the_format_of_old_torch_is_read(state: State, path: Path):
    torch.save({"state_dict": state}, path, _use_new_zipfile_serialization=False)
    assert_holds(load_checkpoint(path).model, state)


def test_named_architecture_must_be_the_one_found(state: State, path: Path, error_of: Callable[..., str]):
    assert error_of(state, architecture="stf") == "some.pth: found a checkpoint of MLIC++; expected STF"
    assert load_checkpoint(path, "mlicpp").architecture.name == "mlicpp"


def test_missing_keys_are_counted_and_named(state: State, error_of: Callable[..., str]):
    text = error_of({key: value for key, value in state.items() if not key.startswith("lrp_anchor.1.")})
    assert "looks like MLIC++, but 6 of 249 parameters missing (lrp_anchor.1.lrp_transform.0.bias, " in text
    assert text.endswith("…)")


@pytest.mark.parametrize(
    "key",
    [
        "entropy_parameters_anchor.0.fusion.0.weight",
        "lrp_anchor.0.lrp_transform.2.weight",
        "g_a.analysis_transform.6.weight",
    ],
)
def test_missing_key_that_tells_a_width_is_named_alone(key: str, state: State, error_of: Callable[..., str]):
    text = error_of({name: value for name, value in state.items() if name != key})
    assert f"parameters missing ({key}" in text
    assert "expected" not in text


def test_missing_key_that_tells_a_width_of_stf_is_named(error_of: Callable[..., str]):
    state = MODELS["stf"]().state_dict()
    del state["h_a.8.weight"]
    assert error_of(state) == "some.pth: looks like STF, but h_a.8.weight is missing"


def test_unknown_keys_are_named(state: State, error_of: Callable[..., str]):
    text = error_of(state | {"foo.bar": torch.zeros(1), "loss": torch.zeros(())})
    assert text == "some.pth: looks like MLIC++, but 2 unknown keys (foo.bar, loss)"


def test_misshaped_values_are_named_with_both_shapes(state: State, error_of: Callable[..., str]):
    text = error_of(state | {"h_s.increase.0.bias": torch.zeros(3)})
    assert text == "some.pth: looks like MLIC++, but h_s.increase.0.bias is [3], expected [64]"


@pytest.mark.parametrize("shape", [(), (48, 16, 3, 3), (0, 16, 3, 3), (32 * 10**6, 16, 3, 3)])
def test_impossible_widths_are_refused_before_memory_is_taken(
    shape: tuple[int, ...], state: State, error_of: Callable[..., str]
):
    # Expanded, a file of some bytes claims gigabytes.
    value = torch.zeros(1).expand(shape) if shape else torch.zeros(())
    assert "looks like MLIC++, but" in error_of(state | {"g_a.analysis_transform.6.weight": value})


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(value: float, state: State, error_of: Callable[..., str]):
    broken = state[WEIGHT].clone()
    broken.view(-1)[5] = value
    assert error_of(state | {WEIGHT: broken}).endswith(f"values that are not finite in {WEIGHT}")


@pytest.mark.parametrize("change", [Tensor.int, Tensor.to_sparse, lambda t: t.to(torch.complex64)])
def test_values_of_another_type_are_refused(
    change: Callable[[Tensor], Tensor], state: State, error_of: Callable[..., str]
):
    assert error_of(state | {WEIGHT: change(state[WEIGHT])}).endswith(f"in {WEIGHT}; expected dense floats")


@pytest.mark.parametrize(
    "scales", [[[1.0, 2.0], [3.0, 4.0]], [1.0, np.nan], [2.0, 1.0], [0.0, 1.0], [1.0, 1e9], list(range(1, 300))]
)
def test_scale_table_without_possible_rows_is_refused(scales: Any, state: State, error_of: Callable[..., str]):
    text = error_of(state | {"gaussian_conditional.scale_table": torch.tensor(scales, dtype=torch.float32)})
    assert "expected up to 256 rising scales" in text


@pytest.mark.parametrize("share", [0.9, 0.5, 0.001])
@pytest.mark.parametrize("zipped", [True, False])
def test_cut_file_is_called_cut(zipped: bool, share: float, state: State, error_of: Callable[..., str]):
    buffer = io.BytesIO()
    torch.save(state, buffer, _use_new_zipfile_serialization=zipped)
    data = buffer.getvalue()
    text = error_of(raw=data[: int(share * len(data))])
    assert "cut" in text
    assert text.endswith("; expected a file of torch.save")


def _npz() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, a=np.zeros(3))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "is empty"),
        (b"\x89PNG\r\n\x1a\n" + bytes(64), "is a PNG picture"),
        (b"\xff\xd8\xff\xe0" + bytes(64), "is a JPEG picture"),
        (b"MLIC\x01\x01" + bytes(64), "is a .mlic file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "starts with bytes 76 65 72 73 69 6f 6e 20"),
        (_npz(), "is an archive of something else"),
        (pickle.dumps({"a": 1}), "is a pickle that is cut or of something else"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_files_are_told_by_their_beginning(data: bytes, kind: str, error_of: Callable[..., str]):
    assert error_of(raw=data) == f"some.pth: {kind}; expected a file of torch.save"


class _Trap:
    """Makes a folder when unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("plain", [False, True], ids=["torch.save", "pickle"])
def test_objects_in_a_pickle_are_never_made(
    plain: bool, state: State, tmp_path: Path, path: Path, error_of: Callable[..., str]
):
    trapped = {"state_dict": state, "args": _Trap(tmp_path / "trap")}
    text = error_of(raw=pickle.dumps(trapped["args"])) if plain else error_of(trapped)
    assert not (tmp_path / "trap").exists()
    if not plain:
        assert "holds Python objects other than tensors (posix.mkdir), which are never loaded; expected" in text


def test_whole_module_is_refused_by_its_class(error_of: Callable[..., str]):
    assert "other than tensors (torch.nn.modules.linear.Linear)" in error_of(nn.Linear(2, 2))


def test_state_dict_of_another_network_is_refused_by_its_keys(error_of: Callable[..., str]):
    text = error_of(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)).state_dict())
    assert text == ("some.pth: its keys are 0.weight, 0.bias, 1.weight…; expected a checkpoint of MLIC++, STF, WACNN")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (torch.zeros(3), "holds a Tensor; expected a state dict"),
        ([1, 2], "holds a list; expected a state dict"),
        ({}, "holds no tensors, it is empty; expected a state dict, alone or as state_dict"),
        ({"state_dict": {}}, "holds no tensors, it is empty; expected a state dict, alone or as state_dict"),
        ({"model": {}}, "holds no tensors, its keys are model; expected a state dict, alone or as state_dict"),
        ({1: torch.zeros(1)}, "holds no tensors, its keys are 1; expected a state dict, alone or as state_dict"),
    ],
    ids=["tensor", "list", "empty", "empty state_dict", "other wrapper", "numbers as keys"],
)
def test_anything_but_a_state_dict_is_named(content: object, problem: str, error_of: Callable[..., str]):
    assert error_of(content) == f"some.pth: {problem}"


def test_missing_file_and_folder_are_told_apart(path: Path, error_of: Callable[..., str]):
    assert error_of() == f"{path}: no such file"
    path.mkdir()
    assert error_of() == f"{path}: is a folder; expected a checkpoint file"


def test_unreadable_file_is_reported_with_the_systems_reason(path: Path, error_of: Callable[..., str]):
    path.symlink_to(path)
    assert error_of() == f"{path}: cannot be read: Too many levels of symbolic links"
