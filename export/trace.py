"""Modules to portable ONNX files: opset 20, dynamic height and width, nothing of this machine in the bytes."""

from __future__ import annotations

import logging
import re
import warnings
from typing import Any

import onnx
import onnxslim
import torch
from torch import Tensor

from mlic.export.errors import ExportError
from mlic.export.split.base import Subgraph
from mlic.runtime.manifest import TensorSpec

# Without torchvision, which nothing here uses, torch warns at every export.
logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)

OPSET = 20
TRACE_SIZE = (192, 320)  # padded height and width; no two dimensions of any tensor coincide
_DTYPES = {"float32": torch.float32, "int64": torch.int64}


def example_inputs(subgraph: Subgraph, height: int, width: int, seed: int = 0) -> dict[str, Tensor]:
    """Return inputs of the subgraph's shapes for a padded picture, filled with plausible values.

    Whole numbers where symbols are expected; indexes and masks are made by the model, see ``verify``.
    """
    generator = torch.Generator().manual_seed(seed)
    inputs = {}
    for name, spec in subgraph.spec.inputs.items():
        shape = spec.concrete(height, width)
        if spec.dtype == "float32":
            value = torch.randn(shape, generator=generator)
            inputs[name] = torch.round(2 * value) if "symbols" in name else value
        else:
            inputs[name] = torch.zeros(shape, dtype=_DTYPES[spec.dtype])
    return inputs


def trace(subgraph: Subgraph) -> onnx.ModelProto:
    """Return the subgraph as ONNX.

    Args:
        subgraph: its module must not branch on height or width in Python.

    Returns:
        Model with the input and output names of the subgraph's spec, symbolic dimensions named as there, weights
        inside. The same weights give the same bytes.

    Raises:
        ExportError: PyTorch or ONNX refused the module, naming the graph.
    """
    name = subgraph.spec.name
    inputs = example_inputs(subgraph, *TRACE_SIZE)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                subgraph.module,
                tuple(inputs.values()),
                input_names=list(subgraph.spec.inputs),
                output_names=list(subgraph.spec.outputs),
                dynamic_shapes=_dynamic_shapes(subgraph),
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        assert program is not None
        model = onnxslim.slim(program.model_proto)
    except Exception as error:  # exporters raise what they like
        raise ExportError(f"graph {name}: export to ONNX failed: {_first_line(error)}") from error
    assert isinstance(model, onnx.ModelProto)
    _clean(model, subgraph)
    onnx.checker.check_model(model)
    return model


def _dynamic_shapes(subgraph: Subgraph) -> Any:
    """Return torch's description of the dynamic dimensions, all derived from the latent of z."""
    rows, columns = torch.export.Dim("rows", min=1, max=4096), torch.export.Dim("columns", min=1, max=4096)

    def dimensions(spec: TensorSpec) -> dict[int, Any]:
        result = {}
        for axis, dim in enumerate(spec.shape):
            if isinstance(dim, str):
                side, _, divisor = dim.partition("/")
                factor = 64 // int(divisor or 1)
                unit = rows if side == "height" else columns
                result[axis] = unit if factor == 1 else factor * unit
        return result

    shapes = [dimensions(spec) for spec in subgraph.spec.inputs.values()]
    # A variadic forward sees its tail as one tuple argument.
    return _nest(subgraph, shapes)


def _nest(subgraph: Subgraph, shapes: list[Any]) -> Any:
    code = type(subgraph.module).forward.__code__
    if not code.co_flags & 0x04:  # no *args
        return tuple(shapes)
    fixed = code.co_argcount - 1
    return (*shapes[:fixed], tuple(shapes[fixed:])) if shapes[fixed:] else tuple(shapes)


def _clean(model: onnx.ModelProto, subgraph: Subgraph) -> None:
    """Remove what differs from run to run or from machine to machine, and name the dimensions as the spec does."""
    model.producer_name, model.producer_version, model.doc_string = "mlic", "", ""
    del model.metadata_props[:]
    graph = model.graph
    graph.name, graph.doc_string = subgraph.spec.name, ""
    del graph.metadata_props[:]
    del graph.value_info[:]
    for index, node in enumerate(graph.node):
        node.doc_string = ""
        node.name = f"{node.op_type}_{index}"
        del node.metadata_props[:]
    for initializer in graph.initializer:
        initializer.doc_string = ""
        del initializer.metadata_props[:]
    specs = subgraph.spec.inputs | subgraph.spec.outputs
    for value in (*graph.input, *graph.output):
        value.doc_string = ""
        del value.metadata_props[:]
        for dim, wanted in zip(value.type.tensor_type.shape.dim, specs[value.name].shape, strict=True):
            if isinstance(wanted, int):
                dim.dim_value = wanted
            else:
                dim.dim_param = wanted


def _first_line(error: BaseException) -> str:
    while error.__cause__ is not None:  # the first cause says what is wrong, its wrappers how to report it
        error = error.__cause__
    return re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip().partition("\n")[0] or type(error).__name__
