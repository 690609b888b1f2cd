"""What is done to the results of a convolution on their way out: bias, residual, activation."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy.typing as npt

ActivationName: TypeAlias = Literal[
    "relu", "relu6", "leaky_relu", "hardswish", "hardsigmoid", "sigmoid", "silu"
]
ActivationLike: TypeAlias = ActivationName | tuple[Literal["clip"], float, float]


class Activation(NamedTuple):
    """A function of `_kernels/epilogue.h`, and its two parameters."""

    kind: int
    a: float
    b: float


class Epilogue(NamedTuple):
    """What the kernels add to sums, and what they apply then; None is nothing."""

    bias: npt.NDArray[Any] | None
    residual: npt.NDArray[Any] | None
    activation: Activation | None


CLIP, LEAKY_RELU, HARD_SIGMOID, HARD_SWISH, SIGMOID, SILU = range(1, 7)

ACTIVATIONS: dict[str, Activation] = {
    "relu": Activation(CLIP, 0.0, math.inf),
    "relu6": Activation(CLIP, 0.0, 6.0),
    "leaky_relu": Activation(LEAKY_RELU, 0.01, 0.0),
    "hardswish": Activation(HARD_SWISH, 1 / 6, 0.5),
    "hardsigmoid": Activation(HARD_SIGMOID, 0.2, 0.5),
    "sigmoid": Activation(SIGMOID, 0.0, 0.0),
    "silu": Activation(SILU, 0.0, 0.0),
}
