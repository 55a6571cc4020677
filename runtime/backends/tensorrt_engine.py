"""From an ONNX file to a plan, as TensorRT calls a built engine: parse, choose sizes and precision, build.

Precision is what the ONNX file says: networks are strongly typed, in every version. What is left to choose is TF32,
which both flavours use unless told not to; here it is cleared wherever float32 is meant.

Profiles, configuration, the timing cache and the build itself are Polygraphy's. Making the network is not: its loaders
print the parser's errors and raise one that names none of them, and a report should name the nodes.
"""

from __future__ import annotations

import threading
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlic.runtime.arrays import Array
from mlic.runtime.backends.base import allows_tf32, shape_text, symmetric_form
from mlic.runtime.backends.tensorrt_flavour import Flavour, logger_for, polygraphy_for
from mlic.runtime.errors import BackendError, GraphRefusedError
from mlic.runtime.graph_bytes import source_of
from mlic.runtime.manifest import GraphFile, GraphSpec, SizeRange, TensorSpec

Shapes = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]  # for the least, the usual and the largest picture

# TensorRT times kernels while it builds, and those timed beside other work are chosen badly. Polygraphy's logger, ours
# and the filters of warnings are the process's own, too.
_building = threading.Lock()


@dataclass(frozen=True)
class BuildOptions:
    """What a plan depends on beside its ONNX file.

    Attributes:
        sizes: of padded pictures.
        workspace_bytes: most that a kernel may use beside its inputs and outputs; None: all of the device's memory,
            as TensorRT has it. A lower limit does not make it choose smaller kernels where a graph is fused into one:
            it then refuses the graph. Full-size g_a at 3840x2160 needs between 1 and 8 GiB.
    """

    sizes: SizeRange
    workspace_bytes: int | None = None


def profile_from(spec: GraphSpec, sizes: SizeRange) -> dict[str, Shapes]:
    """Return the shapes of every input for the least, the usual and the largest picture.

    Args:
        spec: names and shapes.
        sizes: of padded pictures.
    """
    return {
        name: (tensor.concrete(*sizes.min), tensor.concrete(*sizes.opt), tensor.concrete(*sizes.max))
        for name, tensor in spec.inputs.items()
    }


def build_plan(
    flavour: Flavour, path: Path, graph: GraphFile, options: BuildOptions, timing_cache: Path | None = None
) -> bytes:
    """Build an engine; seconds with TensorRT-RTX, up to minutes with TensorRT. One at a time in a process.

    Args:
        flavour: what builds.
        path: of the graph's file; of a graph in two forms the plain one, whose other is built.
        graph: its entry in the manifest.
        options: what else the plan depends on.
        timing_cache: file of kernel timings to start from and to complete; TensorRT only.

    Returns:
        The serialized engine, for this version, and with TensorRT for the device of this process.

    Raises:
        GraphRefusedError: nodes are not supported; all that the parser found are named.
        BackendError: the graph is not the manifest's, or could not be built.
        BundleError: a compressed file cannot be unpacked.
    """
    polygraphy = polygraphy_for(flavour)
    from polygraphy.exception import PolygraphyException  # noqa: PLC0415 - an extra, loaded when chosen
    from polygraphy.logger import G_LOGGER  # noqa: PLC0415

    path, graph = symmetric_form(path, graph)
    name, trt, source = graph.spec.name, flavour.module, source_of(path, graph)
    # Polygraphy prints to stdout, where results go, and touches what newer versions deprecate.
    with _building, G_LOGGER.verbosity(G_LOGGER.CRITICAL + 1), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        errors = logger_for(flavour).errors
        errors.clear()
        builder, network, parser = _parsed(flavour, source, path.name, name)
        _require_like(trt, network, graph.spec)
        # The network refers to these arrays until it is built.
        weights = _widened_weights(trt, network)
        profile = polygraphy.Profile()
        for tensor, shapes in profile_from(graph.spec, options.sizes).items():
            profile.add(tensor, *shapes)
        limits = {trt.MemoryPoolType.WORKSPACE: options.workspace_bytes} if options.workspace_bytes else None
        # Not CreateConfigRTX: that one leaves TF32 on.
        create = polygraphy.CreateConfig(
            profiles=[profile],
            tf32=allows_tf32(graph),
            memory_pool_limits=limits,
            load_timing_cache=str(timing_cache) if timing_cache and timing_cache.exists() else None,
            profiling_verbosity=trt.ProfilingVerbosity.LAYER_NAMES_ONLY,
        )
        try:
            config = create(builder, network)
            if config.get_flag(trt.BuilderFlag.TF32) != allows_tf32(graph):
                raise BackendError(f"graph {name}: {flavour.label} does not let TF32 be switched")
            # Work that allocates while it runs cannot be captured.
            if (no_allocation := getattr(trt.BuilderFlag, "REQUIRE_USER_ALLOCATION", None)) is not None:
                config.set_flag(no_allocation)
            build = polygraphy.EngineBytesFromNetwork(
                (builder, network, parser), config, save_timing_cache=str(timing_cache) if timing_cache else None
            )
            plan = bytes(memoryview(build()))
        except (PolygraphyException, RuntimeError, TypeError) as error:
            raise BackendError(f"graph {name}: {_first(errors) or error}") from error
        del weights
        return plan


def _parsed(flavour: Flavour, source: str | bytes, file: str, name: str) -> tuple[Any, Any, Any]:
    """Return builder, network and parser of an ONNX file, given by its path or its contents."""
    trt, logger = flavour.module, logger_for(flavour)
    try:
        builder = trt.Builder(logger)
    except Exception as error:  # pybind11 says TypeError where a driver is missing, and others
        raise BackendError(f"{flavour.label} cannot build here: {_first(logger.errors) or error}") from error
    # TensorRT 11 and newer RTX know no other networks, and may no longer have the flag.
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if flag is None else 1 << int(flag))
    parser = trt.OnnxParser(network, logger)
    if not (parser.parse_from_file(source) if isinstance(source, str) else parser.parse(source)):
        nodes = tuple(_refused(parser.get_error(index)) for index in range(parser.num_errors))
        told = [f"node {node} ({operator}): {reason}" if operator else reason for node, operator, reason in nodes]
        message = f"graph {name}: {flavour.label} refuses {'; '.join(told) or file}"
        raise GraphRefusedError(message, tuple(node for node in nodes if node[1]))
    return builder, network, parser


def _refused(error: Any) -> tuple[str, str, str]:
    """Return a node's name, operator and what is wrong with it; no operator if it is not about a node."""
    code, told = str(error.code()).rpartition(".")[2], " ".join(error.desc().split())
    reason = code.lower().replace("_", " ")
    if told and told != "false":  # all that it has to say of an operator that it does not know
        reason += f", {told}"
    operator = error.node_operator()
    return (error.node_name() or f"#{error.node()}") if operator else "", operator, reason


def _require_like(trt: Any, network: Any, spec: GraphSpec) -> None:
    """Check that the network's inputs and outputs are those of the manifest.

    Raises:
        BackendError: names, types, or sides that do not depend on the picture differ.
    """
    problems = []
    for side, specs, found in (
        ("input", spec.inputs, [network.get_input(i) for i in range(network.num_inputs)]),
        ("output", spec.outputs, [network.get_output(i) for i in range(network.num_outputs)]),
    ):
        if {tensor.name for tensor in found} != set(specs):
            names = ", ".join(tensor.name for tensor in found)
            problems.append(f"{side}s are {names}; the manifest names {', '.join(specs)}")
            continue
        for tensor in found:
            dtype, shape = np.dtype(trt.nptype(tensor.dtype)).name, tuple(tensor.shape)
            if not _fits(specs[tensor.name], dtype, shape):
                expected = f"{specs[tensor.name].dtype} {shape_text(specs[tensor.name].shape)}"
                problems.append(f"{side} {tensor.name} is {dtype} {shape_text(shape)}; the manifest has {expected}")
    if problems:
        raise BackendError(f"graph {spec.name}: {'; '.join(problems)}")


def _fits(spec: TensorSpec, dtype: str, shape: tuple[int, ...]) -> bool:
    """Tell whether a tensor is what the manifest says; -1 is a side known only at run time."""
    return (
        dtype == spec.dtype
        and len(shape) == len(spec.shape)
        and all(found in (-1, dim) for found, dim in zip(shape, spec.shape, strict=True) if isinstance(dim, int))
    )


def _widened_weights(trt: Any, network: Any) -> list[Array]:
    """Give casts of weights that are stored as int8 the same values as float32.

    TensorRT takes int8 constants for quantised ones, allowed before DequantizeLinear only. The casts stay and do
    nothing; what is dequantised stays int8, and a constant that is both becomes two.

    Returns:
        The arrays; TensorRT does not copy them.
    """
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    users: dict[str, list[Any]] = {}
    for layer in layers:
        for index in range(layer.num_inputs):
            if (tensor := layer.get_input(index)) is not None:
                users.setdefault(tensor.name, []).append(layer)
    kept = []
    for layer in layers:
        if layer.type != trt.LayerType.CONSTANT or layer.get_output(0).dtype != trt.DataType.INT8:
            continue
        taken_by = users.get(layer.get_output(0).name, [])
        casts = [user for user in taken_by if user.type == trt.LayerType.CAST]
        if not casts:
            continue
        layer.__class__ = trt.IConstantLayer  # the API's way to a layer's own attributes
        kept.append(layer.weights.astype(np.float32))
        if len(casts) == len(taken_by):
            layer.weights = kept[-1]
            continue
        twin = network.add_constant(layer.shape, trt.Weights(kept[-1]))
        for cast in casts:
            cast.set_input(0, twin.get_output(0))
    return kept


def _first(errors: Any) -> str:
    """Return the first error that TensorRT told, on one line."""
    return " ".join(errors[0].split()) if errors else ""
