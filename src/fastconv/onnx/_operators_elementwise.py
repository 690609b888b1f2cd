"""Operators on numbers by themselves: arithmetic, comparisons, activations, casts."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from fastconv._arrays import Array
from fastconv._elementwise import activate
from fastconv._elementwise import add as add_arrays
from fastconv._epilogue import (
    ACTIVATIONS,
    CLIP,
    HARD_SIGMOID,
    LEAKY_RELU,
    Activation,
)
from fastconv.onnx._checks import (
    FLOATS,
    INTEGERS,
    NUMBERS,
    REALS,
    as_type,
    choice,
    common_shape,
    require,
    same_dtypes,
    single,
    wide,
)
from fastconv.onnx._table import operator
from fastconv.onnx._tensors import BFLOAT16, dtype_of, round_bfloat16

Ufunc = Callable[..., Any]


def _unary(name: str, versions: tuple[int, ...], function: Ufunc, kinds: str) -> None:
    """Enter a function of every element into the table."""

    def compute(x: Array) -> Array:
        return np.asarray(function(require(x, kinds)))

    operator(name, *versions)(compute)


def _reciprocal(x: Array) -> Array:
    return np.asarray(x.dtype.type(1) / x)


_unary("Abs", (6, 13), np.abs, REALS)
_unary("Neg", (6, 13), np.negative, FLOATS + "i")
_unary("Sign", (9, 13), np.sign, REALS)
_unary("Floor", (6, 13), np.floor, FLOATS)
_unary("Ceil", (6, 13), np.ceil, FLOATS)
_unary("Round", (11, 22), np.rint, FLOATS)
_unary("Sqrt", (6, 13), np.sqrt, FLOATS)
_unary("Reciprocal", (6, 13), _reciprocal, FLOATS)
_unary("Exp", (6, 13), np.exp, FLOATS)
_unary("Log", (6, 13), np.log, FLOATS)
_unary("Tanh", (6, 13), np.tanh, FLOATS)
_unary("Sin", (7, 22), np.sin, FLOATS)
_unary("Cos", (7, 22), np.cos, FLOATS)
_unary("Tan", (7, 22), np.tan, FLOATS)
_unary("Asin", (7, 22), np.arcsin, FLOATS)
_unary("Acos", (7, 22), np.arccos, FLOATS)
_unary("Atan", (7, 22), np.arctan, FLOATS)
_unary("Sinh", (9, 22), np.sinh, FLOATS)
_unary("Cosh", (9, 22), np.cosh, FLOATS)
_unary("Asinh", (9, 22), np.arcsinh, FLOATS)
_unary("Acosh", (9, 22), np.arccosh, FLOATS)
_unary("Atanh", (9, 22), np.arctanh, FLOATS)
_unary("IsNaN", (9, 13, 20), np.isnan, FLOATS)
_unary("Not", (1,), np.logical_not, "b")


def _binary(name: str, versions: tuple[int, ...], function: Ufunc, kinds: str) -> None:
    """Enter a function of two elements into the table; arrays are broadcast as NumPy does."""

    def compute(a: Array, b: Array) -> Array:
        same_dtypes(a, b)
        require(a, kinds)
        if a.shape != b.shape:
            common_shape(a, b)
        return np.asarray(function(a, b))

    operator(name, *versions)(compute)


def _divide(a: Array, b: Array) -> Array:
    """Divide; integers towards zero, as C does."""
    if a.dtype.kind in INTEGERS:
        return np.asarray((a - np.fmod(a, b)) // b)
    return np.asarray(a / b)


def _plus(a: Array, b: Array) -> Array:
    return add_arrays(a, b)


_binary("Add", (7, 13, 14), _plus, NUMBERS)
_binary("Sub", (7, 13, 14), np.subtract, NUMBERS)
_binary("Mul", (7, 13, 14), np.multiply, NUMBERS)
_binary("Div", (7, 13, 14), _divide, NUMBERS)
_binary("Equal", (7, 11, 13, 19), np.equal, REALS + "b")
_binary("Less", (7, 9, 13), np.less, REALS)
_binary("Greater", (7, 9, 13), np.greater, REALS)
_binary("LessOrEqual", (12, 16), np.less_equal, REALS)
_binary("GreaterOrEqual", (12, 16), np.greater_equal, REALS)
_binary("And", (7,), np.logical_and, "b")
_binary("Or", (7,), np.logical_or, "b")
_binary("Xor", (7,), np.logical_xor, "b")


@operator("Mod", 10, 13, 28)
def modulo(a: Array, b: Array, *, fmod: int = 0) -> Array:
    """Take the remainder, with the divisor's sign as Python does, or the dividend's."""
    same_dtypes(a, b)
    require(a, REALS)
    common_shape(a, b)
    return np.asarray(np.fmod(a, b) if fmod else np.remainder(a, b))


@operator("Pow", 7, 12, 13, 15)
def power(base: Array, exponent: Array) -> Array:
    """Raise to a power, whose dtype may be another one; the result is of the base's."""
    require(base, REALS)
    require(exponent, REALS)
    common_shape(base, exponent)
    if base.dtype.kind in INTEGERS and exponent.dtype.kind in INTEGERS:
        if exponent.size and exponent.min() >= 0:
            return np.asarray(np.power(base, exponent.astype(base.dtype)))
        return as_type(np.power(base.astype(np.float64), exponent), base.dtype)
    dtype = np.result_type(base, exponent)
    return as_type(np.power(base.astype(dtype), exponent.astype(dtype)), base.dtype)


def _variadic(name: str, versions: tuple[int, ...], function: Ufunc, kinds: str) -> None:
    """Enter a function of any number of arrays into the table, taken two by two."""

    def compute(first: Array, *others: Array) -> Array:
        same_dtypes(first, *others)
        total = require(first, kinds)
        for other in others:
            common_shape(total, other)
            total = np.asarray(function(total, other))
        return total

    operator(name, *versions)(compute)


_variadic("Min", (6, 8, 12, 13), np.minimum, REALS)
_variadic("Max", (6, 8, 12, 13), np.maximum, REALS)
_variadic("Sum", (6, 8, 13), _plus, FLOATS)


@operator("Mean", 6, 8, 13)
def mean(first: Array, *others: Array) -> Array:
    """Take the mean of arrays."""
    same_dtypes(first, *others)
    total = require(first, FLOATS)
    for other in others:
        common_shape(total, other)
        total = np.asarray(total + other)
    return np.asarray(total / total.dtype.type(1 + len(others)))


def _activated(name: str, versions: tuple[int, ...], function: Activation) -> None:
    """Enter an activation without parameters, which the kernels compute."""

    def compute(x: Array) -> Array:
        return activate(require(x, FLOATS), function)

    operator(name, *versions)(compute)


_activated("Sigmoid", (6, 13), ACTIVATIONS["sigmoid"])
_activated("HardSwish", (14, 22), ACTIVATIONS["hardswish"])


@operator("Relu", 6, 13, 14)
def relu(x: Array) -> Array:
    """Replace negative numbers by 0."""
    if x.dtype.kind == "i":
        return np.asarray(np.maximum(x, x.dtype.type(0)))
    return activate(require(x, FLOATS), ACTIVATIONS["relu"])


@operator("LeakyRelu", 6, 16)
def leaky_relu(x: Array, *, alpha: float = 0.01) -> Array:
    """Multiply negative numbers by a slope."""
    return activate(require(x, FLOATS), Activation(LEAKY_RELU, alpha, 0.0))


@operator("HardSigmoid", 6, 22)
def hard_sigmoid(x: Array, *, alpha: float = 0.2, beta: float = 0.5) -> Array:
    """Clip a line to 0 and 1."""
    return activate(require(x, FLOATS), Activation(HARD_SIGMOID, alpha, beta))


@operator("PRelu", 7, 9, 16)
def prelu(x: Array, slope: Array) -> Array:
    """Multiply negative numbers by slopes that are broadcast."""
    same_dtypes(x, slope)
    require(x, REALS)
    if common_shape(x, slope) != x.shape:
        raise ValueError(f"slopes of shape {slope.shape} do not fit into {x.shape}")
    return np.where(x < 0, x * slope, x)


@operator("Elu", 6, 22)
def elu(x: Array, *, alpha: float = 1.0) -> Array:
    """Bend negative numbers towards -alpha."""
    return _bent(x, alpha, 1.0)


@operator("Selu", 6, 22)
def selu(x: Array, *, alpha: float = 1.67326319, gamma: float = 1.05070102) -> Array:
    """Bend negative numbers towards -alpha, and scale all."""
    return _bent(x, alpha, gamma)


@operator("Celu", 12, 28)
def celu(x: Array, *, alpha: float = 1.0) -> Array:
    """Bend negative numbers towards -alpha with a smooth derivative."""
    require(x, FLOATS)
    scale = x.dtype.type(alpha)
    return np.where(x < 0, scale * np.expm1(np.minimum(x, 0) / scale), x)


def _bent(x: Array, alpha: float, gamma: float) -> Array:
    require(x, FLOATS)
    kind = x.dtype.type
    bent = np.where(x < 0, kind(alpha) * np.expm1(np.minimum(x, kind(0))), x)
    return np.asarray(bent * kind(gamma))


@operator("ThresholdedRelu", 10, 22)
def thresholded_relu(x: Array, *, alpha: float = 1.0) -> Array:
    """Replace numbers that are not larger than a threshold by 0; NaN stays."""
    require(x, FLOATS)
    return np.where(x <= x.dtype.type(alpha), x.dtype.type(0), x)


@operator("Softsign", 1, 22)
def softsign(x: Array) -> Array:
    """Divide by one plus the magnitude."""
    require(x, FLOATS)
    return np.asarray(x / (1 + np.abs(x)))


@operator("Softplus", 1, 22)
def softplus(x: Array) -> Array:
    """Compute ``log(1 + exp(x))`` without overflow."""
    return np.asarray(np.logaddexp(require(x, FLOATS), x.dtype.type(0)))


@operator("Mish", 18, 22)
def mish(x: Array) -> Array:
    """Compute ``x * tanh(softplus(x))``."""
    return np.asarray(x * np.tanh(softplus(x)))


@operator("Swish", 24)
def swish(x: Array, *, alpha: float = 1.0) -> Array:
    """Compute ``x * sigmoid(alpha * x)``."""
    require(x, FLOATS)
    if alpha == 1:
        return activate(x, ACTIVATIONS["silu"])
    return np.asarray(x * activate(np.asarray(x.dtype.type(alpha) * x), ACTIVATIONS["sigmoid"]))


@operator("Gelu", 20)
def gelu(x: Array, *, approximate: str = "none") -> Array:
    """Multiply by the normal distribution's function, or by its approximation by tanh."""
    choice(approximate, "approximate", "none", "tanh")
    y = wide(require(x, FLOATS))
    kind = y.dtype.type
    if approximate == "tanh":
        inner = np.tanh(kind(math.sqrt(2 / math.pi)) * (y + kind(0.044715) * y * y * y))
    else:
        inner = _erf(np.asarray(y * kind(math.sqrt(0.5))))
    return as_type(kind(0.5) * y * (kind(1) + inner), x.dtype)


@operator("Erf", 9, 13)
def erf(x: Array) -> Array:
    """Compute the error function."""
    return as_type(_erf(wide(require(x, REALS))), x.dtype)


ERF_STEPS, ERF_END = 1024, 4
"""Points of the table of erf for each unit, and where erf is 1 in float32."""


@cache
def _erf_table() -> tuple[Array, Array]:
    """Return values and derivatives of erf at equal distances."""
    points = np.arange(ERF_STEPS * ERF_END + 2) / ERF_STEPS
    values = np.array([math.erf(point) for point in points.tolist()])
    return values, 2 / math.sqrt(math.pi) / ERF_STEPS * np.exp(-points * points)


def _erf(x: Array) -> Array:
    """Compute erf: one by one in float64, by cubic polynomials between points in float32.

    Fourth derivatives of erf are at most 5, so that cubics over steps of 1/1024 that have its
    values and derivatives at both ends are wrong by 5 / 384 / 1024**4, about 1e-14.
    """
    if x.dtype != np.float32:
        return np.asarray(np.frompyfunc(math.erf, 1, 1)(x)).astype(np.float64)
    values, slopes = _erf_table()
    scaled = np.minimum(np.abs(x.astype(np.float64)), ERF_END) * ERF_STEPS
    i = np.nan_to_num(scaled).astype(np.intp)
    t = scaled - i
    a, b = values[i], values[i + 1]
    rise = b - a
    left, right = slopes[i] - rise, rise - slopes[i + 1]
    y = a + t * rise + t * (1 - t) * ((1 - t) * left + t * right)
    return np.asarray(np.copysign(y, x).astype(np.float32))


@operator("Clip", 6)
def clip_by_attributes(x: Array, *, min: float = -math.inf, max: float = math.inf) -> Array:
    """Bring numbers between two limits."""
    require(x, FLOATS)
    if min <= max:
        return activate(x, Activation(CLIP, min, max))
    return np.asarray(np.minimum(np.maximum(x, x.dtype.type(min)), x.dtype.type(max)))


@operator("Clip", 11, 12, 13)
def clip(x: Array, low: Array | None = None, high: Array | None = None) -> Array:
    """Bring numbers between two limits, of which the upper one prevails."""
    require(x, REALS)
    same_dtypes(x, low, high)
    bounds = [
        default if bound is None else single(bound, "a limit")
        for bound, default in ((low, -math.inf), (high, math.inf))
    ]
    if x.dtype.kind == "f" and bounds[0] <= bounds[1]:
        return activate(x, Activation(CLIP, *bounds))
    if low is not None:
        x = np.maximum(x, low.reshape(()))
    return x if high is None else np.minimum(x, high.reshape(()))


@operator("Where", 9, 16)
def where(condition: Array, a: Array, b: Array) -> Array:
    """Take elements of one array or another."""
    require(condition, "b")
    same_dtypes(a, b)
    common_shape(condition, a, b)
    return np.where(condition, a, b)


@operator("Identity", 1, 13, 14, 16, 19, 21, 23, 24, 25)
def identity(x: Array) -> Array:
    """Return the input."""
    return x


def _cast(x: Array, code: int) -> Array:
    """Convert to another element type. Floats become integers by dropping their fractions."""
    dtype = dtype_of(code, "the result")
    if x.dtype.kind == "c" and dtype.kind != "c":
        raise NotImplementedError("casts of complex numbers to real ones are not supported")
    if dtype == x.dtype and code != BFLOAT16:
        return x
    if x.dtype.kind == "f" and dtype.kind == "u":
        # What NumPy makes of negative floats depends on the processor.
        limits = np.iinfo(dtype)
        inside = (x > -1) & (x < float(limits.max) + 1)
        if not inside.all():
            return np.where(inside, x, 0).astype(dtype) + _wrapped(x, inside, dtype)
    y = x.astype(dtype)
    return round_bfloat16(y) if code == BFLOAT16 else y


def _wrapped(x: Array, inside: Array, dtype: np.dtype[Any]) -> Array:
    """Convert floats beyond unsigned integers by way of signed ones; NaN and infinity to 0."""
    usual = np.abs(x) < 2.0**63
    return np.where(inside | ~usual, 0, x).astype(np.int64).astype(dtype)


@operator("Cast", 6, 9, 13)
def cast(x: Array, *, to: int) -> Array:
    """Convert elements to another type."""
    return _cast(x, to)


@operator("Cast", 19, 21, 23)
def cast_saturated(x: Array, *, to: int, saturate: int = 1) -> Array:
    """Convert elements to another type; saturation concerns floats of 8 bits only."""
    return _cast(x, to)


@operator("Cast", 24, 25, 28)
def cast_rounded(x: Array, *, to: int, saturate: int = 1, round_mode: str = "up") -> Array:
    """Convert elements to another type; the rounding mode concerns floats of 8 bits only."""
    return _cast(x, to)


@operator("Dropout", 7)
def dropout_with_numbers_as_mask(x: Array, *, ratio: float = 0.5, n_outputs: int) -> Any:
    """Return the input, and a mask of ones of its dtype."""
    return (x, np.ones_like(x))[:n_outputs]


@operator("Dropout", 10)
def dropout_by_attribute(x: Array, *, ratio: float = 0.5, n_outputs: int) -> Any:
    """Return the input, and a mask that keeps everything."""
    return (x, np.ones(x.shape, bool))[:n_outputs]


@operator("Dropout", 12, 13, 22)
def dropout(
    x: Array,
    ratio: Array | None = None,
    training_mode: Array | None = None,
    *,
    seed: int = 0,
    n_outputs: int,
) -> Any:
    """Return the input and a mask that keeps everything, unless numbers are to be dropped."""
    if training_mode is not None and single(training_mode, "training_mode"):
        share = 0.5 if ratio is None else float(single(ratio, "ratio"))
        if share:
            raise NotImplementedError("dropping at random, as in training, is not supported")
    return (x, np.ones(x.shape, bool))[:n_outputs]
