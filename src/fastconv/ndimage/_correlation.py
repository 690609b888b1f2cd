"""How a dense kernel is correlated with an array: the arithmetic, the tables, and the kernel."""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastconv import _kernels, _threads
from fastconv.ndimage import _fourier
from fastconv.ndimage._borders import CONSTANT
from fastconv.ndimage._buffers import as_bytes, constant_of, readable

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


ONE_PLANE = np.zeros((1, 1), np.intp)


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


class Geometry(NamedTuple):
    """Arrays as planes of the last two axes, with the tables of `dense.pyx`."""

    shape: tuple[int, int, int]
    out_shape: tuple[int, int, int]
    kernel: tuple[int, int, int]
    lead: Array
    """The plane of the input that each plane of the result sees through one of the kernel."""
    rows: Axis
    columns: Axis
    step: int
    """The distance of columns of the input that neighbouring columns of the kernel see."""


def geometry(
    shape: tuple[int, ...], out_shape: tuple[int, ...], kernel: tuple[int, ...], axes: list[Axis]
) -> Geometry:
    """Return the planes of a correlation.

    Parameters
    ----------
    shape, out_shape, kernel : tuple of int
        The shapes of the input, the result and the kernel, with the same number of dimensions.
    axes : list of Axis
        The axes of the input. Each shows as many positions as the output's axis has elements, plus
        the kernel's elements minus one.
    """
    step = 1
    sizes, outputs, taps, axes = list(shape), list(out_shape), list(kernel), list(axes)
    while len(sizes) > 1 and taps[-1] == 1 and sizes[-1] < NARROW:
        # The elements of the last axis are independent, so they are neighbouring lanes.
        step = sizes.pop()
        outputs.pop(), taps.pop(), axes.pop()
        axes[-1] = _interleaved(axes[-1], step)
        sizes[-1], outputs[-1] = sizes[-1] * step, outputs[-1] * step
    while len(sizes) < 2:
        sizes, outputs, taps = [1, *sizes], [1, *outputs], [1, *taps]
        axes = [Axis(np.zeros(1, np.intp), 0), *axes]
    return Geometry(
        (prod(sizes[:-2]), sizes[-2], sizes[-1]),
        (prod(outputs[:-2]), outputs[-2], outputs[-1]),
        (prod(taps[:-2]), taps[-2], taps[-1]),
        _planes_of(axes[:-2], sizes[:-2], outputs[:-2], taps[:-2]),
        axes[-2],
        axes[-1],
        step,
    )


def correlate(
    array: Array,
    weights: Array,
    planes: Geometry,
    constant: Any,
    out: Array,
    arithmetic: Arithmetic,
    *,
    skips_zeros: bool,
    wraps: bool = False,
) -> None:
    """Correlate an array with a kernel.

    Parameters
    ----------
    array : ndarray
        The input, of a dtype in `_arguments.COMPUTED`.
    out : ndarray
        An array for the result that `_buffers.writable` has returned, or a new one.
    weights : ndarray of float64, or of an integer dtype
        The kernel.
    planes : Geometry
        What `geometry` has returned for the shapes of these arrays.
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
    problem = Problem(
        readable(array).reshape(planes.shape),
        as_bytes(out).reshape(planes.out_shape),
        planes.lead,
        planes.rows,
        planes.columns,
        weights.reshape(planes.kernel),
        planes.step,
        constant,
        arithmetic,
        skips_zeros,
        wraps,
    )
    tile = _fourier.tile_for(problem)
    if tile is None:
        _direct(problem)
        return
    for plane, y, x in _fourier.correlate(problem, tile):
        _direct_part(problem, plane, y, x)


class Problem(NamedTuple):
    """A correlation of planes, as the kernels compute it (see `dense.pyx`)."""

    array: Array
    """The input (planes, h, w)."""
    out: Array
    """The result (planes, h, w)."""
    lead: Array
    """The plane of the input that each plane of the result sees through one of the kernel."""
    rows: Axis
    columns: Axis
    weights: Array
    """The kernel (planes, h, w)."""
    step: int
    """The distance of columns of the input that neighbouring columns of the kernel see."""
    constant: Any
    arithmetic: Arithmetic
    skips_zeros: bool
    wraps: bool


def _direct(problem: Problem) -> None:
    """Compute all products."""
    dtype = _DTYPES[problem.arithmetic.name]
    weights = problem.weights
    _kernels.dense.correlate(
        problem.array,
        problem.out,
        problem.lead,
        np.ascontiguousarray(problem.rows.sources),
        np.ascontiguousarray(problem.columns.sources),
        problem.columns.before,
        np.ascontiguousarray(weights, dtype),
        np.ascontiguousarray(weights, np.float64),
        problem.step,
        constant_of(problem.constant, np.dtype(dtype)),
        problem.arithmetic.name,
        problem.skips_zeros,
        problem.wraps,
        problem.arithmetic.checked,
        _threads.count(),
    )


def _direct_part(problem: Problem, plane: int, y: slice, x: slice) -> None:
    """Compute a part of a plane of the result."""
    _, height, width = problem.weights.shape
    rows = Axis(problem.rows.sources[y.start : y.stop + height - 1], problem.rows.before - y.start)
    reach = (width - 1) * problem.step
    columns = Axis(
        problem.columns.sources[x.start : x.stop + reach], problem.columns.before - x.start
    )
    result = np.empty((1, y.stop - y.start, x.stop - x.start), problem.out.dtype)
    lead = problem.lead[plane : plane + 1]
    _direct(problem._replace(out=result, lead=lead, rows=rows, columns=columns))
    problem.out[plane, y, x] = result[0]


def _interleaved(axis: Axis, width: int) -> Axis:
    """Return an axis whose elements are each `width` neighbours."""
    sources = axis.sources[:, None] * width + np.arange(width)
    sources[axis.sources == CONSTANT] = CONSTANT
    return Axis(sources.ravel(), axis.before * width)


def _planes_of(
    axes: list[Axis], shape: list[int], out_shape: list[int], kernel: list[int]
) -> Array:
    """List the plane of inputs that each plane of outputs sees through each plane of the kernel.

    Returns
    -------
    ndarray of intp, shape (planes of outputs, planes of the kernel)
        Numbers of planes, or `CONSTANT`.
    """
    planes = ONE_PLANE
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
        if not array.dtype == out == np.float32:
            return Arithmetic("double")
        least, most = float(weights.min()), float(weights.max())
        has_one_sign = least >= 0 or most <= 0
        is_moderate = max(-least, most) < MODERATE
        return Arithmetic("float" if has_one_sign and is_moderate else "double")
    if out.kind == "f":
        return Arithmetic("double")
    largest = largest_of(array.dtype)
    if constant is not None:
        largest = max(abs(constant), largest)  # NaN, if that is the constant.
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
