"""Elementwise functions of one tensor: what tables are made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from mlic.calibration.integer.float_chain import Node
from mlic.runtime.arrays import Array


@dataclass(frozen=True)
class Function:
    """A function of one number.

    Attributes:
        apply: elementwise, in float64.
        is_positive: whether its values are seldom below zero.
        is_steep: whether 8 bits of the argument are too few.
    """

    apply: Callable[[Array], Array]
    is_positive: bool = False
    is_steep: bool = False

    def __call__(self, values: Array) -> Array:
        """Return the function of each value."""
        return self.apply(values)

    @classmethod
    def identity(cls) -> Function:
        """Return the function that changes nothing."""
        return cls(lambda values: values)

    def after_this(self, outer: Function) -> Function:
        """Return ``outer`` of this function."""
        return Function(
            lambda values: outer.apply(self.apply(values)),
            outer.is_positive or self.is_positive,
            outer.is_steep or self.is_steep,
        )


_erf = np.vectorize(math.erf, otypes=[np.float64])


def _gelu(values: Array) -> Array:
    result: Array = 0.5 * values * (1 + erf_of(values / math.sqrt(2)))
    return result


def erf_of(values: Array) -> Array:
    """Return erf, read off a fine table between whose entries it is linear to 1e-8."""
    return np.interp(values, _ERF_X, _ERF_Y)


_ERF_X = np.linspace(-6, 6, 1 << 16)
_ERF_Y = _erf(_ERF_X)

_SIMPLE = {
    "Gelu": Function(_gelu, is_positive=True),
    "Tanh": Function(np.tanh),
    "Log": Function(lambda values: np.log(np.maximum(values, 2.0**-12)), is_steep=True),
}


def _times(factor: float) -> Function:
    return Function(lambda values: values * factor)


def function_of(node: Node, constants: Mapping[str, Array]) -> tuple[str, Function] | None:
    """Return the tensor that a node applies a function of one number to, and the function; None for other nodes."""
    if node.op in _SIMPLE:
        return node.inputs[0], _SIMPLE[node.op]
    if node.op == "Mul":
        for source, other in (node.inputs, node.inputs[::-1]):
            value = constants.get(other)
            if value is not None and value.size == 1 and source not in constants:
                return source, _times(float(value.reshape(-1)[0]))
    return None
