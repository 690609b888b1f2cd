"""Operators that reduce axes, choose elements along them, or normalise by them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastconv import _kernels, _threads
from fastconv._arrays import FLOAT32, Array, contiguous
from fastconv._memory import new_array
from fastconv.onnx._checks import (
    FLOATS,
    INTEGERS,
    REALS,
    as_type,
    axes_of,
    axis_of,
    ints,
    require,
    same_dtypes,
    single,
    wide,
)
from fastconv.onnx._table import operator

Reduce = Callable[[Array, tuple[int, ...], bool], Any]
"""A function of an array, the axes to reduce, and whether to keep them."""


def _reduced(x: Array, axes: tuple[int, ...] | None, keepdims: int, noop: int, f: Reduce) -> Array:
    """Reduce axes: those given, or all, or none if an empty list means that."""
    if not axes:
        axes = () if noop else tuple(range(x.ndim))
    return np.asarray(f(x, axes_of(axes, x.ndim), bool(keepdims)))


def _reduction(
    name: str, by_attribute: tuple[int, ...], by_input: tuple[int, ...], kinds: str, f: Reduce
) -> None:
    """Enter a reduction: in its first versions axes are an attribute, later an input."""

    def with_attribute(
        x: Array, *, axes: tuple[int, ...] | None = None, keepdims: int = 1
    ) -> Array:
        return _reduced(require(x, kinds), axes, keepdims, 0, f)

    def with_input(
        x: Array, axes: Array | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
    ) -> Array:
        chosen = None if axes is None else ints(axes, "axes")
        return _reduced(require(x, kinds), chosen, keepdims, noop_with_empty_axes, f)

    operator(name, *by_attribute)(with_attribute)
    operator(name, *by_input)(with_input)


def _sum(x: Array, axes: tuple[int, ...], keep: bool) -> Array:
    return as_type(np.sum(wide(x), axis=axes, keepdims=keep, dtype=wide(x).dtype), x.dtype)


def _mean(x: Array, axes: tuple[int, ...], keep: bool) -> Array:
    dtype = np.float64 if x.dtype.kind in INTEGERS else None
    mean = np.mean(wide(x), axis=axes, keepdims=keep, dtype=dtype)
    return as_type(np.asarray(mean), x.dtype)


def _prod(x: Array, axes: tuple[int, ...], keep: bool) -> Array:
    return as_type(np.prod(wide(x), axis=axes, keepdims=keep, dtype=wide(x).dtype), x.dtype)


def _least(dtype: np.dtype[Any]) -> Any:
    """Return the number that is the maximum of nothing."""
    if dtype.kind == "f":
        return dtype.type(-np.inf)
    return dtype.type(False) if dtype.kind == "b" else np.iinfo(dtype).min


def _greatest(dtype: np.dtype[Any]) -> Any:
    """Return the number that is the minimum of nothing."""
    if dtype.kind == "f":
        return dtype.type(np.inf)
    return dtype.type(True) if dtype.kind == "b" else np.iinfo(dtype).max


def _max(x: Array, axes: tuple[int, ...], keep: bool) -> Array:
    return as_type(np.max(x, axis=axes, keepdims=keep, initial=_least(x.dtype)), x.dtype)


def _min(x: Array, axes: tuple[int, ...], keep: bool) -> Array:
    return as_type(np.min(x, axis=axes, keepdims=keep, initial=_greatest(x.dtype)), x.dtype)


def _exact(x: Array) -> Array:
    """Return numbers in a dtype in which sums of them and of their squares are floats."""
    return x.astype(np.float64) if x.dtype.kind in INTEGERS else wide(x)


def _l1(x: Array, axes: tuple[int, ...], keep: bool) -> Array:
    return _sum(np.abs(x), axes, keep)


def _sum_square(x: Array, axes: tuple[int, ...], keep: bool) -> Array:
    y = wide(x)
    return as_type(np.sum(y * y, axis=axes, keepdims=keep, dtype=y.dtype), x.dtype)


def _l2(x: Array, axes: tuple[int, ...], keep: bool) -> Array:
    y = _exact(x)
    return as_type(np.sqrt(np.sum(y * y, axis=axes, keepdims=keep)), x.dtype)


def _log_sum(x: Array, axes: tuple[int, ...], keep: bool) -> Array:
    return as_type(np.log(np.sum(_exact(x), axis=axes, keepdims=keep)), x.dtype)


def _log_sum_exp(x: Array, axes: tuple[int, ...], keep: bool) -> Array:
    y = _exact(x)
    top = np.max(y, axis=axes, keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, 0)
    total = np.log(np.sum(np.exp(y - top), axis=axes, keepdims=True)) + top
    return as_type(total if keep else np.squeeze(total, axes), x.dtype)


_reduction("ReduceSum", (1, 11), (13,), REALS, _sum)
_reduction("ReduceMean", (1, 11, 13), (18,), REALS, _mean)
_reduction("ReduceProd", (1, 11, 13), (18,), REALS, _prod)
_reduction("ReduceMax", (1, 11, 12, 13), (18, 20), REALS + "b", _max)
_reduction("ReduceMin", (1, 11, 12, 13), (18, 20), REALS + "b", _min)
_reduction("ReduceL1", (1, 11, 13), (18,), REALS, _l1)
_reduction("ReduceL2", (1, 11, 13), (18,), REALS, _l2)
_reduction("ReduceSumSquare", (1, 11, 13), (18,), REALS, _sum_square)
_reduction("ReduceLogSum", (1, 11, 13), (18, 28), REALS, _log_sum)
_reduction("ReduceLogSumExp", (1, 11, 13), (18, 28), REALS, _log_sum_exp)


def _argument(x: Array, axis: int, keepdims: int, last: int, choose: Callable[..., Any]) -> Array:
    """Return where the largest or smallest element along an axis is: the first or last of them."""
    require(x, REALS)
    axis = axis_of(axis, x.ndim)
    if last:
        found = x.shape[axis] - 1 - choose(np.flip(x, axis), axis=axis)
    else:
        found = choose(x, axis=axis)
    found = np.asarray(found, np.int64)
    return np.expand_dims(found, axis) if keepdims else found


def _argument_reduction(name: str, choose: Callable[..., Any]) -> None:
    def first(x: Array, *, axis: int = 0, keepdims: int = 1) -> Array:
        return _argument(x, axis, keepdims, 0, choose)

    def first_or_last(
        x: Array, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0
    ) -> Array:
        return _argument(x, axis, keepdims, select_last_index, choose)

    operator(name, 1, 11)(first)
    operator(name, 12, 13)(first_or_last)


_argument_reduction("ArgMax", np.argmax)
_argument_reduction("ArgMin", np.argmin)


def _softmax(x: Array, axis: int) -> Array:
    """Divide exponentials by their sum along an axis; the largest exponent is subtracted first."""
    y = wide(require(x, FLOATS))
    if y.dtype == FLOAT32 and axis == x.ndim - 1 and x.size:
        rows = contiguous(y, FLOAT32).reshape(-1, x.shape[-1])
        out = new_array(rows.shape, FLOAT32)
        _kernels.loss.softmax(rows, out, _threads.count())
        return as_type(out.reshape(x.shape), x.dtype)
    y = np.exp(y - y.max(axis=axis, keepdims=True, initial=-np.inf))
    y /= y.sum(axis=axis, keepdims=True)
    return as_type(y, x.dtype)


def _log_softmax(x: Array, axis: int) -> Array:
    """Subtract the logarithm of the sum of exponentials along an axis."""
    y = wide(require(x, FLOATS))
    y = y - y.max(axis=axis, keepdims=True, initial=-np.inf)
    return as_type(y - np.log(np.exp(y).sum(axis=axis, keepdims=True)), x.dtype)


def _normalization(name: str, f: Callable[[Array, int], Array]) -> None:
    """Enter softmax or its logarithm: the first versions take all axes from one on as one."""

    def from_axis(x: Array, *, axis: int = 1) -> Array:
        at = x.ndim if axis == x.ndim else axis_of(axis, x.ndim)
        rows = int(np.prod(x.shape[:at]))
        return f(x.reshape(rows, x.size // rows if rows else 0), 1).reshape(x.shape)

    def along_axis(x: Array, *, axis: int = -1) -> Array:
        return f(x, axis_of(axis, x.ndim))

    operator(name, 1, 11)(from_axis)
    operator(name, 13)(along_axis)


_normalization("Softmax", _softmax)
_normalization("LogSoftmax", _log_softmax)


def _order(x: Array, axis: int, largest: bool) -> Array:
    """Sort along an axis; of equal elements the one with the lower index comes first."""
    if not largest:
        return np.argsort(x, axis=axis, kind="stable")
    backwards = np.argsort(np.flip(x, axis), axis=axis, kind="stable")
    return np.asarray(x.shape[axis] - 1 - np.flip(backwards, axis))


def _top(x: Array, count: int, axis: int, largest: int) -> tuple[Array, Array]:
    require(x, REALS)
    axis = axis_of(axis, x.ndim)
    if not 0 <= count <= x.shape[axis]:
        raise ValueError(f"k is {count} for {x.shape[axis]} elements")
    order = np.take(_order(x, axis, bool(largest)), np.arange(count), axis)
    return np.take_along_axis(x, order, axis), order.astype(np.int64)


@operator("TopK", 1)
def top_by_attribute(x: Array, *, k: int, axis: int = -1) -> tuple[Array, Array]:
    """Return the largest elements along an axis, and where they are."""
    return _top(x, k, axis, 1)


@operator("TopK", 10)
def top_by_input(x: Array, k: Array, *, axis: int = -1) -> tuple[Array, Array]:
    """Return the largest elements along an axis, and where they are."""
    return _top(x, int(single(k, "k")), axis, 1)


@operator("TopK", 11, 24)
def top(
    x: Array, k: Array, *, axis: int = -1, largest: int = 1, sorted: int = 1
) -> tuple[Array, Array]:
    """Return the largest or smallest elements along an axis, always sorted, and where they are."""
    return _top(x, int(single(k, "k")), axis, largest)


@operator("CumSum", 11, 14)
def cumulative_sum(x: Array, axis: Array, *, exclusive: int = 0, reverse: int = 0) -> Array:
    """Add up along an axis."""
    require(x, REALS)
    at = axis_of(int(single(axis, "axis")), x.ndim)
    y = np.flip(x, at) if reverse else x
    total = np.cumsum(y, at, dtype=x.dtype)
    if exclusive:
        total = np.asarray(total - y)
    return np.flip(total, at) if reverse else total


@operator("LayerNormalization", 17)
def layer_normalization(
    x: Array,
    scale: Array,
    bias: Array | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
    n_outputs: int,
) -> Any:
    """Normalise by the mean and variance of all axes from one on.

    The statistics that other nodes may read are float32, whatever the input is.
    """
    require(x, FLOATS)
    same_dtypes(x, scale, bias)
    axes = tuple(range(axis_of(axis, x.ndim), x.ndim))
    y = wide(x)
    mean = y.mean(axis=axes, keepdims=True)
    centered = y - mean
    variance = (centered * centered).mean(axis=axes, keepdims=True)
    inverse = 1 / np.sqrt(variance + y.dtype.type(epsilon))
    y = centered * inverse * scale
    if bias is not None:
        y = y + bias
    statistics = (array.astype(np.float32, copy=False) for array in (mean, np.asarray(inverse)))
    return (as_type(y, x.dtype), *statistics)[:n_outputs]
