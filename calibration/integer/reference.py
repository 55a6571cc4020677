"""The readable twin of an engine: the operators of integer graphs, in numpy and nothing but integers.

It is the specification in code (docs/integer-chain.md) and a proof by trial: it raises where a number leaves its type,
which engines let pass in silence.

Floats occur in six places, and ``float_use.complaints`` finds them anywhere else:

- the multipliers of ``QLinearConv``: one product in float32, of a sum that float32 holds exactly;
- those of ``DequantizeLinear``, likewise, whose result ``QuantizeLinear`` rounds to codes;
- the scales of ``Resize``, whole numbers, which repeats elements;
- ``Sqrt`` and the casts around it, a first guess at a root: any float near it does;
- symbols, which come as float32 and are cast at once;
- means and ``y_hat``, which leave as float32: an integer below 2^24, cast, times a power of two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

from mlic.calibration.errors import CalibrationError
from mlic.calibration.integer.reference_operators import OPERATORS, Operator
from mlic.runtime.arrays import Array


def run_graph(
    model: onnx.ModelProto, inputs: Mapping[str, Array], operators: Mapping[str, Operator] = OPERATORS
) -> dict[str, Array]:
    """Return what an integer graph gives.

    Args:
        model: an integer graph.
        inputs: arrays by name; more than the graph takes may be given.
        operators: by type.

    Raises:
        CalibrationError: an operator is unknown, or a result leaves the range of its type; the text names the graph,
            the operator and its result.
    """
    values: dict[str, Array] = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    values |= {given.name: np.asarray(inputs[given.name]) for given in model.graph.input}
    for node in model.graph.node:
        operator = operators.get(node.op_type)
        if operator is None:
            raise CalibrationError(f"graph {model.graph.name}: {node.op_type} is no operator of integer graphs")
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        try:
            values[node.output[0]] = operator([values[name] if name else None for name in node.input], attributes)
        except (ArithmeticError, IndexError, ValueError) as error:
            where = f"graph {model.graph.name}: {node.op_type} that gives {node.output[0]}"
            raise CalibrationError(f"{where}: {error}") from error
    return {result.name: values[result.name] for result in model.graph.output}


def run_chain(
    models: Mapping[str, onnx.ModelProto],
    symbols: Callable[[str, Mapping[str, Array]], Array],
    run: Callable[[onnx.ModelProto, Mapping[str, Array]], Mapping[str, Array]] = run_graph,
) -> dict[str, Array]:
    """Run graphs one after the other, as a decoder does, and return all they gave.

    Args:
        models: in running order.
        symbols: gives ``z_symbols`` and the symbols of each step, by name, from all tensors made so far.
        run: gives the outputs of one graph.
    """
    state: dict[str, Array] = {}
    for model in models.values():
        for given in model.graph.input:
            if given.name not in state:
                state[given.name] = symbols(given.name, state)
        state |= run(model, state)
    return state
