"""What is done to the results of a convolution on their way out: bias, residual, activation."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from fastconv._arguments import number
from fastconv._arrays import NUMBERS, Array, Shape, read, read_bias
from fastconv._errors import argument_error, shown

ActivationLike: TypeAlias = str | tuple[str, float, float]


class Activation(NamedTuple):
    """A function of `_kernels/epilogue.h`, and its two parameters."""

    kind: int
    a: float
    b: float


Epilogue: TypeAlias = tuple[Array | None, Array | None, Activation | None]
"""Bias and residual, which kernels add to sums, and the activation that they apply then."""


CLIP, LEAKY_RELU, HARD_SIGMOID, HARD_SWISH, SIGMOID, SILU = range(1, 7)
IDENTITY = Activation(0, 0.0, 0.0)

ACTIVATIONS: dict[str, Activation] = {
    "relu": Activation(CLIP, 0.0, math.inf),
    "relu6": Activation(CLIP, 0.0, 6.0),
    "leaky_relu": Activation(LEAKY_RELU, 0.01, 0.0),
    "hardswish": Activation(HARD_SWISH, 1 / 6, 0.5),
    "hardsigmoid": Activation(HARD_SIGMOID, 0.2, 0.5),
    "sigmoid": Activation(SIGMOID, 0.0, 0.0),
    "silu": Activation(SILU, 0.0, 0.0),
}

NOTHING: tuple[Epilogue | None, tuple[Array, ...]] = (None, ())
"""What `read_epilogue` returns if nothing is added and nothing applied."""


def read_activation(value: object) -> Activation | None:
    """Read the name of an activation, or ("clip", low, high)."""
    if value is None:
        return None
    if isinstance(value, str) and value in ACTIVATIONS:
        return ACTIVATIONS[value]
    if isinstance(value, (tuple, list)) and len(value) == 3:
        word, *bounds = value
        if isinstance(word, str) and word == "clip":
            low, high = (number(bound, "a bound of activation") for bound in bounds)
            if low <= high:
                return Activation(CLIP, low, high)
    names = ", ".join(f'"{name}"' for name in ACTIVATIONS)
    message = (
        f'activation must be None, {names} or ("clip", low, high) with low <= high, '
        f"got {shown(value)}"
    )
    if isinstance(value, (str, tuple, list)):
        raise argument_error(ValueError, message)
    raise argument_error(TypeError, message)


def read_epilogue(
    bias: npt.ArrayLike | None,
    residual: npt.ArrayLike | None,
    activation: object,
    shape: Shape,
    filters: int,
    dtype: np.dtype[Any],
    out: Array | None,
) -> tuple[Epilogue | None, tuple[Array, ...]]:
    """Read what is done to results of a shape and dtype.

    Return it with the arrays that `out` must not overlap: bias and residual, unless the residual is
    `out` itself.
    """
    function = read_activation(activation)
    offsets = None if bias is None else read_bias(bias, filters, "filter", dtype)
    apart: tuple[Array, ...] = () if offsets is None else (offsets,)
    added = None
    if residual is not None:
        added = read(residual, "residual", NUMBERS)
        if added.shape != shape:
            raise argument_error(
                ValueError, f"residual must have the output's shape {shape}, got {added.shape}"
            )
        if not _is_same_memory(added, out):
            apart = (*apart, added)
        if added.dtype != dtype or not added.flags.carray:
            with np.errstate(over="ignore"):
                added = np.require(added, dtype, ["C", "A"])
    if offsets is None and added is None and function is None:
        return NOTHING
    return (offsets, added, function), apart


def _is_same_memory(array: Array, out: Array | None) -> bool:
    """Whether an array is `out` or another view of the same elements."""
    if out is None or array is out:
        return array is out
    return isinstance(out, np.ndarray) and array.__array_interface__ == out.__array_interface__
