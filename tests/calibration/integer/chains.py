"""Integer chains of small models, and of graphs of a few nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from mlic.calibration.integer.chain_builder import IntegerChain, build
from mlic.calibration.integer.float_chain import FloatChain
from mlic.calibration.integer.grids import Grid
from mlic.calibration.integer.lowering import Lowering
from mlic.calibration.integer.reference import run_chain, run_graph
from mlic.calibration.integer.statistics import Measured, Recorder, Source, measure, shapes_of
from mlic.calibration.observe import session
from mlic.runtime.arrays import Array
from mlic.runtime.manifest import StepSpec

Run = Callable[[onnx.ModelProto, Mapping[str, Array]], dict[str, Array]]
Symbols = Callable[[str, tuple[int, ...]], Array]  # of a name and a shape

SCALE_TABLE = np.exp(np.linspace(np.log(0.11), np.log(64), 32)).astype(np.float32)
LEVELS = (
    (onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL, 1),
    (onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL, 1),
    (onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL, 2),
)
SIZES = ((128, 192), (192, 64))


def noise(seed: int, spread: float = 2.0) -> Symbols:
    """Return symbols as photos have them."""
    rng = np.random.default_rng(seed)
    return lambda _, shape: np.rint(rng.laplace(0, spread, shape)).astype(np.float32)


def constant(value: float) -> Symbols:
    return lambda _, shape: np.full(shape, value, np.float32)


def alternating(value: float) -> Symbols:
    """Return symbols as far apart as neighbours can be, with signs at random."""
    rng = np.random.default_rng(9)
    return lambda _, shape: (value * rng.choice([-1, 1], shape)).astype(np.float32)


def rare(value: float) -> Symbols:
    """Return noise in which one symbol of 50 is huge."""
    rng = np.random.default_rng(10)
    return lambda _, shape: np.where(
        rng.random(shape) < 0.02, value * rng.choice([-1, 1], shape), np.rint(rng.normal(0, 3, shape))
    ).astype(np.float32)


@dataclass
class Lowered:
    """A float chain and the integer one that it became.

    Attributes:
        floats: graphs, in running order.
        steps: in coding order.
        z_channels: N.
        source: statistics of the float chain's tensors.
        chain: the integer one.
        engines: run its graphs, as ``LEVELS`` says.
    """

    floats: Mapping[str, onnx.ModelProto]
    steps: Sequence[StepSpec]
    z_channels: int
    source: Source
    chain: IntegerChain = field(init=False)
    engines: list[Run] = field(init=False)  # sessions take longer to open than to run

    def __post_init__(self) -> None:
        self.chain = self.build_again()
        self.engines = [engine(*level) for level in LEVELS]

    def build_again(self) -> IntegerChain:
        return build(FloatChain.joined(self.floats), self.steps, SCALE_TABLE, self.source)

    def run(self, size: tuple[int, int], symbols: Symbols, run=run_graph) -> dict[str, Array]:
        """Run the integer chain for a padded picture of a size in pixels."""
        return run_chain(self.chain.models, self._asked(size, symbols), run)

    def run_floats(self, size: tuple[int, int], symbols: Symbols) -> dict[str, Array]:
        return run_chain(self.floats, self._asked(size, symbols), engine())

    def _asked(self, size: tuple[int, int], symbols: Symbols) -> Callable[[str, Mapping[str, Array]], Array]:
        means = {step.symbols: step.means for step in self.steps}

        def asked(name: str, state: Mapping[str, Array]) -> Array:
            if name == "z_symbols":
                return symbols(name, (1, self.z_channels, size[0] // 64, size[1] // 64))
            return symbols(name, state[means[name]].shape)

        return asked


def lowered(
    floats: Mapping[str, onnx.ModelProto],
    steps: Sequence[StepSpec],
    z_channels: int,
    sizes: Sequence[tuple[int, int]] = SIZES,
) -> Lowered:
    """Lower a chain whose tensors are seen on noise of two sizes, in pixels."""
    chain = FloatChain.joined(floats)
    means = {step.symbols: step.means for step in steps}

    def runs(names: Sequence[str]) -> list[Callable[[], Mapping[str, Array]]]:
        def run(size: tuple[int, int], seed: int) -> Mapping[str, Array]:
            symbols = noise(seed)
            state: dict[str, Array] = {"z_symbols": symbols("", (1, z_channels, size[0] // 64, size[1] // 64))}
            for graph, model in floats.items():
                outputs = [n for n in names if n in chain.producer and chain.owner(n) == graph]
                asked = [value.name for value in model.graph.output]
                asked = list(dict.fromkeys([*asked, *(name.removeprefix(f"{graph}/") for name in outputs)]))
                for value in model.graph.input:
                    if value.name not in state:
                        state[value.name] = symbols("", state[means[value.name]].shape)
                given = {value.name: state[value.name] for value in model.graph.input}
                found = dict(zip(asked, session(model, 1, asked).run(asked, given), strict=True))
                state |= {value.name: found[value.name] for value in model.graph.output}
                state |= {name: found[name.removeprefix(f"{graph}/")] for name in outputs}
            return state

        return [lambda size=size, seed=seed: run(size, seed) for seed, size in enumerate(sizes)]

    shapes = shapes_of([run() for run in runs(list(chain.types))])
    recorder = Recorder(shapes)
    build(chain, steps, SCALE_TABLE, recorder)
    return Lowered(floats, steps, z_channels, Measured(shapes, measure(list(recorder.keys), runs)))


def engine(
    level: onnxruntime.GraphOptimizationLevel = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL, threads: int = 1
) -> Run:
    """Return what runs a graph on ONNX Runtime; each is opened once."""
    opened: dict[str, onnxruntime.InferenceSession] = {}

    def run(model: onnx.ModelProto, state: Mapping[str, Array]) -> dict[str, Array]:
        if model.graph.name not in opened:
            options = onnxruntime.SessionOptions()
            options.graph_optimization_level, options.intra_op_num_threads = level, threads
            options.log_severity_level = 3
            opened[model.graph.name] = onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        names = [value.name for value in model.graph.output]
        given = {value.name: np.asarray(state[value.name]) for value in model.graph.input}
        return dict(zip(names, opened[model.graph.name].run(names, given), strict=True))

    return run


# Graphs of a few nodes


class Small:
    """A graph of a few nodes on float inputs, lowered to one fixed result.

    Args:
        nodes: op, inputs, output, attributes; what is no node's output nor a constant is an input.
        constants: by name.
        examples: inputs that statistics are taken from; several, of more than one size where sides may vary.
    """

    def __init__(
        self,
        nodes: Sequence[tuple[str, Sequence[str], str, Mapping[str, object]]],
        constants: Mapping[str, Array],
        examples: Sequence[Mapping[str, Array]],
    ) -> None:
        protos = [helper.make_node(op, inputs, [out], **attributes) for op, inputs, out, attributes in nodes]
        names = list(examples[0])
        shapes = shapes_of(examples)
        graph = helper.make_graph(
            protos,
            "small",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes[name]) for name in names],
            [helper.make_tensor_value_info(nodes[-1][2], TensorProto.FLOAT, None)],
            [numpy_helper.from_array(array, name) for name, array in constants.items()],
        )
        self.float_model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
        self.chain = FloatChain.joined({"small": self.float_model})
        self.examples = examples
        self.shapes = shapes_of([run() for run in self.runs(list(self.chain.types))])
        self.out = nodes[-1][2]

    def runs(self, names: Sequence[str]) -> list[Callable[[], Mapping[str, Array]]]:
        def run(example: Mapping[str, Array]) -> Mapping[str, Array]:
            asked = [name for name in names if name not in example]
            if not asked:  # an engine gives everything then
                return dict(example)
            locals_ = [name.removeprefix("small/") for name in asked]
            found = session(self.float_model, 1, locals_).run(locals_, dict(example))
            return dict(zip(asked, found, strict=True)) | dict(example)

        return [lambda example=example: run(example) for example in self.examples]

    def lower(self, bits: int) -> tuple[onnx.ModelProto, int]:
        """Return the integer graph that gives the result times 2^bits, and its bound."""
        recorder = Recorder(self.shapes)
        Lowering(self.chain, recorder).fixed(self.out, bits)
        lowering = Lowering(self.chain, Measured(self.shapes, measure(list(recorder.keys), self.runs)))
        made = lowering.fixed(self.out, bits)
        model = lowering.emit.models({"small": [made]})["small"]
        return model, lowering.bound[made]

    def lower_code(self, axis: int | None) -> tuple[onnx.ModelProto, Grid]:
        """Return the integer graph that gives the result's codes, and their grid: natural, or along an axis."""

        def code(lowering: Lowering) -> tuple[str, Grid]:
            grid = lowering.natural_grid(self.out) or lowering.symmetric_grid(self.out, axis)
            return lowering.code(self.out, grid), grid

        recorder = Recorder(self.shapes)
        code(Lowering(self.chain, recorder))
        lowering = Lowering(self.chain, Measured(self.shapes, measure(list(recorder.keys), self.runs)))
        made, grid = code(lowering)
        return lowering.emit.models({"small": [made]})["small"], grid

    def run_float(self, example: Mapping[str, Array]) -> Array:
        result: Array = session(self.float_model, 1).run([self.out], dict(example))[0]
        return result


def result_of(model: onnx.ModelProto, example: Mapping[str, Array]) -> Array:
    """Return the only result of a graph, by the reference; ONNX Runtime must agree."""
    names = {value.name for value in model.graph.input}
    given = {name: array for name, array in example.items() if name in names}
    (found,) = run_graph(model, given).values()
    (other,) = engine()(model, given).values()
    np.testing.assert_array_equal(found, other)
    return found
