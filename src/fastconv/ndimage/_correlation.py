"""How a dense kernel is correlated with an array: the arithmetic, the tables, and the kernel."""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastconv import _kernels, _threads
from fastconv.ndimage._borders import CONSTANT

Array = npt.NDArray[Any]

NARROW = 64
"""Axes of fewer elements behind the filtered ones become part of the axis before them."""
FLOAT_RANGE = 2.0**24
"""Integers up to this size are exact in float32."""
DOUBLE_RANGE = 2.0**53
"""Integers up to this size are exact in float64."""
CHECKED_RANGE = 2.0**12
"""Sums in float32 up to this size are near an integer rarely enough to be checked."""
MODERATE = 1e30
"""Weights up to this size are far from the limits of float32."""


class Axis(NamedTuple):
    """An axis with its borders."""

    sources: Array
    """Which element each position shows (`_borders.source_indices`)."""
    before: int
    """The position that shows element 0, with all others behind it."""


class Arithmetic(NamedTuple):
    """What a correlation is computed in."""

    name: str
    """One of those that the kernel `dense` knows."""
    checked: float = 0.0
    """The largest input, if sums in float32 are to be truncated as if they were SciPy's."""


_DTYPES = {"float": np.float32, "double": np.float64, "order": np.float64, "integer": np.uint64}
_RESULTS = {"?": np.uint8}


def correlate(
    array: Array,
    weights: Array,
    axes: list[Axis],
    constant: Any,
    out: Array,
    arithmetic: Arithmetic,
    *,
    skips_zeros: bool,
    wraps: bool = False,
) -> None:
    """Correlate an array with a kernel of the same number of dimensions, at least 1.

    Parameters
    ----------
    array, out : ndarray
        The input and the result, C-contiguous, aligned and native, of dtypes in
        `_arguments.COMPUTED`.
    weights : ndarray of float64, or of an integer dtype
        The kernel.
    axes : list of Axis
        The axes of the input. Each shows as many positions as the output's axis has elements, plus
        the kernel's elements minus one.
    constant : number
        What the positions show that show no element.
    arithmetic : Arithmetic
        What sums are computed in.
    skips_zeros : bool
        Whether products with weights of zero are left out; else they may be NaN.
    wraps : bool, default False
        Whether sums are taken modulo the range of the output, an integer; else they are converted
        as C converts a float64.
    """
    if array.dtype.kind == "b":
        array = array.view(np.uint8)
    if out.dtype.kind == "b":
        out = out.view(np.uint8)
    step = 1
    shape, out_shape, kernel = list(array.shape), list(out.shape), list(weights.shape)
    axes = list(axes)
    while len(shape) > 1 and kernel[-1] == 1 and shape[-1] < NARROW:
        # The elements of the last axis are independent, so they are neighbouring lanes.
        width = shape.pop()
        out_shape.pop(), kernel.pop(), axes.pop()
        axes[-1] = _interleaved(axes[-1], width)
        shape[-1], out_shape[-1], step = shape[-1] * width, out_shape[-1] * width, width
    weights = weights.reshape(kernel)
    if len(shape) == 1:
        shape, out_shape, weights = [1, *shape], [1, *out_shape], weights[None]
        axes = [Axis(np.zeros(1, np.intp), 0), *axes]
    lead = _planes_of(axes[:-2], shape[:-2], out_shape[:-2], weights.shape[:-2])
    dtype = _DTYPES[arithmetic.name]
    cast = weights.astype(dtype, order="C", copy=False)
    _kernels.dense.correlate(
        array.reshape(-1, *shape[-2:]),
        out.reshape(-1, *out_shape[-2:]),
        lead,
        np.ascontiguousarray(axes[-2].sources),
        np.ascontiguousarray(axes[-1].sources),
        axes[-1].before,
        cast.reshape(-1, *weights.shape[-2:]),
        weights.astype(np.float64, order="C", copy=False).reshape(-1, *weights.shape[-2:]),
        step,
        np.array([constant]).astype(dtype),
        arithmetic.name,
        skips_zeros,
        wraps,
        arithmetic.checked,
        _threads.count(),
    )


def _interleaved(axis: Axis, width: int) -> Axis:
    """Return an axis whose elements are each `width` neighbours."""
    sources = axis.sources[:, None] * width + np.arange(width)
    sources[axis.sources == CONSTANT] = CONSTANT
    return Axis(sources.ravel(), axis.before * width)


def _planes_of(
    axes: list[Axis], shape: list[int], out_shape: list[int], kernel: tuple[int, ...]
) -> Array:
    """List the plane of inputs that each plane of outputs sees through each plane of the kernel.

    Returns
    -------
    ndarray of intp, shape (planes of outputs, planes of the kernel)
        Numbers of planes, or `CONSTANT`.
    """
    planes = np.zeros((1, 1), np.intp)
    for axis, length, outputs, taps in zip(axes, shape, out_shape, kernel, strict=True):
        seen = axis.sources[np.arange(outputs)[:, None] + np.arange(taps)]
        both = planes[:, None, :, None] * length + seen[None, :, None, :]
        both[np.broadcast_to(seen[None, :, None, :] == CONSTANT, both.shape)] = CONSTANT
        both[np.broadcast_to(planes[:, None, :, None] == CONSTANT, both.shape)] = CONSTANT
        planes = both.reshape(len(planes) * outputs, -1)
    return np.ascontiguousarray(planes)


def choose(array: Array, out: np.dtype[Any], weights: Array, constant: float | None) -> Arithmetic:
    """Choose what a correlation is computed in, so that its result is SciPy's.

    SciPy adds up products in float64, in the order of the kernel's elements, and converts the sum
    as C does. Integers that are the result of another computation have to be equal, not close.

    Parameters
    ----------
    array : ndarray
        The input.
    out : dtype
        The output's dtype.
    weights : ndarray of float64
        The kernel.
    constant : float or None
        What lies beyond the borders, or None if nothing is seen of it.
    """
    if array.dtype.kind == "f":
        if out.kind != "f":
            return Arithmetic("order")
        one_sign = bool((weights >= 0).all() or (weights <= 0).all())
        moderate = float(np.abs(weights).max(initial=0)) < MODERATE
        small = array.dtype == out == np.float32 and one_sign and moderate
        return Arithmetic("float" if small else "double")
    if out.kind == "f":
        return Arithmetic("double")
    largest = largest_of(array.dtype)
    if constant is not None:
        largest = max(largest, abs(constant))
    bound = largest * float(np.abs(weights).sum())
    if not bound < DOUBLE_RANGE:
        return Arithmetic("order")
    is_integral = constant is None or constant == int(constant)
    if is_integral and (weights == np.rint(weights)).all():
        return Arithmetic("float" if bound < FLOAT_RANGE else "double")
    is_exact = constant is None or constant == np.float32(constant)
    if array.dtype.itemsize == 1 and is_exact and bound < CHECKED_RANGE:
        return Arithmetic("float", largest)
    return Arithmetic("order")


def largest_of(dtype: np.dtype[Any]) -> float:
    """Return the largest absolute value of an integer dtype or bool."""
    if dtype.kind == "b":
        return 1.0
    limits = np.iinfo(dtype)
    return float(max(-int(limits.min), int(limits.max)))


def is_empty(*shapes: tuple[int, ...]) -> bool:
    """Tell whether any array has no elements."""
    return any(prod(shape) == 0 for shape in shapes)
