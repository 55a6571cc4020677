"""Names, types and shapes of what the integer graphs take and give, found by running them at two sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx

from mlic.calibration.errors import CalibrationError
from mlic.calibration.observe import session
from mlic.runtime.arrays import Array
from mlic.runtime.manifest import Dim, GraphSpec, StepSpec, TensorSpec

SIZES = ((128, 192), (192, 320))  # padded height and width in pixels; no quotients of them coincide


def specs_of(models: Mapping[str, onnx.ModelProto], steps: Sequence[StepSpec], z_channels: int) -> dict[str, GraphSpec]:
    """Return the spec of each graph, and write its dimensions into the model.

    Args:
        models: of h_s, the steps and finish, in running order; changed.
        steps: in coding order.
        z_channels: N.

    Raises:
        CalibrationError: a dimension is neither fixed nor a share of the picture's height or width.
    """
    runs = [_run(models, steps, z_channels, *size) for size in SIZES]
    specs = {}
    for graph, model in models.items():
        taken, given = (
            {value.name: _spec(value.name, runs) for value in values}
            for values in (model.graph.input, model.graph.output)
        )
        for values, found in ((model.graph.input, taken), (model.graph.output, given)):
            for value in values:
                _name_dimensions(value, found[value.name])
        onnx.checker.check_model(model, full_check=False)
        specs[graph] = GraphSpec(graph, taken, given, exact=True)
    return specs


def _run(
    models: Mapping[str, onnx.ModelProto], steps: Sequence[StepSpec], z_channels: int, height: int, width: int
) -> dict[str, Array]:
    state: dict[str, Array] = {"z_symbols": np.zeros((1, z_channels, height // 64, width // 64), np.float32)}
    for graph, model in models.items():
        names = [value.name for value in model.graph.output]
        given = {value.name: state[value.name] for value in model.graph.input}
        state |= dict(zip(names, session(model, 1).run(names, given), strict=True))
        state |= {step.symbols: np.zeros_like(state[step.means]) for step in steps if step.graph == graph}
    return state


def _spec(name: str, runs: Sequence[Mapping[str, Array]]) -> TensorSpec:
    arrays = [run[name] for run in runs]
    sides = zip(*(array.shape for array in arrays), strict=True)
    return TensorSpec(arrays[0].dtype.name, tuple(_dim(name, both) for both in sides))


def _dim(name: str, sides: tuple[int, ...]) -> Dim:
    if len(set(sides)) == 1:
        return sides[0]
    for title, wholes in zip(("height", "width"), zip(*SIZES, strict=True), strict=True):
        quotients = {whole / side for whole, side in zip(wholes, sides, strict=True)}
        if len(quotients) == 1 and (quotient := quotients.pop()).is_integer():
            return title if quotient == 1 else f"{title}/{int(quotient)}"
    raise CalibrationError(f"{name}: sides {sides} of pictures of {SIZES} follow neither height nor width")


def _name_dimensions(value: onnx.ValueInfoProto, spec: TensorSpec) -> None:
    tensor = value.type.tensor_type
    tensor.ClearField("shape")
    for dim in spec.shape:
        entry = tensor.shape.dim.add()
        if isinstance(dim, int):
            entry.dim_value = dim
        else:
            entry.dim_param = dim
    if not spec.shape:
        tensor.shape.SetInParent()
