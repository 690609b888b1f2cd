"""Correlation and convolution with a kernel of any shape."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from fastconv._arrays import native_dtype
from fastconv._errors import argument_error, named, shown
from fastconv.ndimage import _arguments, _correlation, _passes
from fastconv.ndimage._arguments import Axes, Ints, Modes, Output
from fastconv.ndimage._borders import source_indices
from fastconv.ndimage._buffers import deliver, readable, writable
from fastconv.ndimage._complex import Part, combine, input_parts, weight_parts
from fastconv.ndimage._passes import Line, Taps

Array = npt.NDArray[Any]

LEAST_WEIGHT = float(np.finfo(np.float64).eps)
"""Weights up to this size count as zero, as in SciPy."""


LEAST_OF_RANK_ONE = 49
"""Kernels of fewer elements take no longer than two passes."""
RANK_ERROR = 2.0**-51
"""How far products of a column and a row may be from weights, relative to each weight."""


@named
def correlate(
    input: npt.ArrayLike,
    weights: npt.ArrayLike,
    output: Output = None,
    mode: Modes = "reflect",
    cval: complex = 0.0,
    origin: Ints = 0,
    *,
    axes: Axes = None,
) -> Array:
    """Correlate an array with a kernel.

    Each element of the result is the sum of its neighbours times the kernel's elements; the
    kernel's centre, element ``size // 2`` of each axis, lies over the element itself.

    Parameters
    ----------
    input : array_like
        The array to filter.
    weights : array_like
        The kernel, with as many dimensions as axes are filtered. As in SciPy, elements of at most
        2.2e-16 count as zero, and what lies under them may be infinite or NaN.
    output : ndarray or dtype, optional
        An array of the input's shape that takes the result, or the dtype of a new array. The
        default is the input's dtype.
    mode : str, default "reflect"
        How the array continues beyond its ends: "reflect" (d c b a | a b c d | d c b a), "mirror"
        (d c b | a b c d | c b a), "nearest" (a a a | a b c d | d d d), "wrap" (b c d | a b c d | a
        b c), or "constant" with the value `cval`. "grid-mirror", "grid-wrap" and "grid-constant"
        are other names of "reflect", "wrap" and "constant".
    cval : scalar, default 0.0
        The value beyond the ends in mode "constant".
    origin : int or sequence of int, default 0
        How far the kernel's centre is moved along all axes or along each: positive values move the
        kernel towards lower indices.
    axes : int, sequence of int or None, default None
        The axes to filter along, all of them for None.

    Returns
    -------
    ndarray
        The result, of the input's shape. Complex arrays and kernels give a complex result; a
        complex kernel is conjugated.

    Notes
    -----
    The results are those of `scipy.ndimage.correlate`: integers are equal, and others differ by at
    most 1e-6 (float32) or 1e-14 (float64) of the largest element. SciPy adds products in float64
    and cuts off what lies behind the point. Integers with integral weights are added exactly. For
    8-bit images and other weights, sums are computed in float32 with a bound of their error, and
    again in SciPy's order where it leaves the integer open. Registers hold the sums of several rows
    of pixels, so that one load of a pixel serves several products.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import ndimage
    >>> image = np.arange(25).reshape(5, 5)
    >>> ndimage.correlate(image, [[0, 1, 0], [1, 1, 1], [0, 1, 0]])
    array([[  6,  10,  15,  20,  24],
           [ 26,  30,  35,  40,  44],
           [ 51,  55,  60,  65,  69],
           [ 76,  80,  85,  90,  94],
           [ 96, 100, 105, 110, 114]])
    """
    return _filter("correlate", input, weights, output, mode, cval, origin, axes)


@named
def convolve(
    input: npt.ArrayLike,
    weights: npt.ArrayLike,
    output: Output = None,
    mode: Modes = "reflect",
    cval: complex = 0.0,
    origin: Ints = 0,
    *,
    axes: Axes = None,
) -> Array:
    """Convolve an array with a kernel, that is, correlate it with the reversed kernel.

    Parameters
    ----------
    input : array_like
        The array to filter.
    weights : array_like
        The kernel, with as many dimensions as axes are filtered.
    output : ndarray or dtype, optional
        An array of the input's shape that takes the result, or the dtype of a new array. The
        default is the input's dtype.
    mode : str, default "reflect"
        How the array continues beyond its ends, as for `correlate`.
    cval : scalar, default 0.0
        The value beyond the ends in mode "constant".
    origin : int or sequence of int, default 0
        How far the kernel's centre is moved along all axes or along each: positive values move the
        kernel towards higher indices.
    axes : int, sequence of int or None, default None
        The axes to filter along, all of them for None.

    Returns
    -------
    ndarray
        The result, of the input's shape.

    See Also
    --------
    correlate : the same without the reversal; its notes apply here, too.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import ndimage
    >>> image = np.array([[1, 2, 0, 0], [5, 3, 0, 4], [0, 0, 0, 7], [9, 3, 0, 0]])
    >>> kernel = np.array([[1, 1, 1], [1, 1, 0], [1, 0, 0]])
    >>> ndimage.convolve(image, kernel, mode="constant", cval=0.0)
    array([[11, 10,  7,  4],
           [10,  3, 11, 11],
           [15, 12, 14,  7],
           [12,  3,  7,  0]])
    """
    return _filter("convolve", input, weights, output, mode, cval, origin, axes)


def _filter(
    name: str,
    input: npt.ArrayLike,
    weights: npt.ArrayLike,
    output: Output,
    mode: Modes,
    cval: complex,
    origin: Ints,
    axes: Axes,
) -> Array:
    """Correlate or convolve, as the name says."""
    array, kernel = np.asarray(input), np.asarray(weights)
    if kernel.dtype.kind == "c" and name == "correlate":
        kernel = kernel.conj()
    numbers = _arguments.read_axes(axes, array.ndim)
    kernel, origins = _expanded(array, kernel, origin, numbers)
    if name == "convolve":
        kernel = np.flip(kernel)
        origins = [-each - (size % 2 == 0) for each, size in zip(origins, kernel.shape)]
    for each, size in zip(origins, kernel.shape):
        _arguments.check_origin(each, size)
    if not isinstance(mode, str) and isinstance(mode, Iterable):
        raise argument_error(RuntimeError, f"mode must be one for all axes, got {shown(mode)}")
    known = _arguments.read_mode(mode)
    out = _arguments.make_output(output, array, "c" in array.dtype.kind + kernel.dtype.kind)

    def apply(part: Part, taps: Array, into: Array) -> None:
        _passes.check_dtypes(part.array, into)
        _compute(part.array, taps, into, known, part.cval, origins)

    combine(apply, input_parts(array, cval, out), weight_parts(kernel), out)
    return out


def _expanded(
    array: Array, kernel: Array, origin: Ints, axes: tuple[int, ...]
) -> tuple[Array, list[int]]:
    """Return the kernel and its origins with all dimensions of the array, in their order."""
    kernel = kernel.astype(np.complex128 if kernel.dtype.kind == "c" else np.float64, copy=False)
    origins = _arguments.per_axis(origin, "origin", len(axes))
    if kernel.ndim != len(axes) or 0 in kernel.shape:
        raise argument_error(
            RuntimeError,
            f"weights.ndim ({np.count_nonzero(kernel.shape)}) must match len(axes) ({len(axes)}), "
            f"not counting empty dimensions, got weights of shape {kernel.shape}",
        )
    kernel = np.expand_dims(kernel, tuple(set(range(array.ndim)) - set(axes)))
    return kernel, list(_arguments.footprint_origins(origins, axes, array.ndim))


def _compute(
    array: Array, kernel: Array, out: Array, mode: str, cval: float, origins: list[int]
) -> None:
    """Correlate on the kernels."""
    if array.size == 0:
        return
    weights = np.where(np.abs(kernel) > LEAST_WEIGHT, kernel, 0.0)
    dtypes = native_dtype(array), native_dtype(out)
    lines = _lines_of(weights, *dtypes, mode, cval, origins)
    if lines:
        _passes.run(array, out, [lines], cval)
        return
    array, result = readable(array), writable(out, array)
    _correlate(array, weights, result, mode, cval, origins)
    deliver(result, out)


def _correlate(
    array: Array, weights: Array, result: Array, mode: str, cval: float, origins: list[int]
) -> None:
    """Correlate arrays that kernels can read and write."""
    if result.ndim == 0:
        array, weights, result, origins = array.reshape(1), weights[None], result[None], [0]
    planes = _planes(array.shape, weights.shape, tuple(map(int, origins)), mode)
    sees_constant = mode == "constant" and weights.size > 1
    arithmetic = _correlation.choose(array, result.dtype, weights, cval if sees_constant else None)
    _correlation.correlate(array, weights, planes, cval, result, arithmetic, skips_zeros=True)


@lru_cache(maxsize=16)
def _planes(
    shape: tuple[int, ...], kernel: tuple[int, ...], origins: tuple[int, ...], mode: str
) -> _correlation.Geometry:
    """Return the planes of an array and of a result of its shape."""
    axes = []
    for length, size, origin in zip(shape, kernel, origins):
        before, after = _arguments.extents(size, origin)
        axes.append(_correlation.Axis(source_indices(length, before, after, mode), before))
    return _correlation.geometry(shape, shape, kernel, axes)


def _lines_of(
    weights: Array,
    dtype: np.dtype[Any],
    out: np.dtype[Any],
    mode: str,
    cval: float,
    origins: list[int],
) -> list[Line]:
    """Return passes along two axes that together are the kernel, if they are faster.

    A kernel of rank one is the outer product of a column and a row. Only floats are correlated this
    way, because SciPy's integers show in which order it adds. The column and the row are those of
    the largest weight, and their products differ from the weights by rounding errors at most; so
    this needs no singular values, of which the smaller ones would have to be 0. float32 is rounded
    between the passes, so that weights must not cancel.
    """
    axes = [axis for axis, size in enumerate(weights.shape) if size > 1]
    if dtype != out or dtype.kind != "f" or len(axes) != 2 or (mode == "constant" and cval != 0):
        return []
    flat = weights.reshape([weights.shape[axis] for axis in axes])
    if flat.size < LEAST_OF_RANK_ONE or not np.isfinite(flat).all():
        return []
    least, most = float(flat.min()), float(flat.max())
    if dtype == np.float32 and least < 0 < most:
        return []
    i, j = divmod(int(np.abs(flat).argmax()), flat.shape[1])
    if flat[i, j] == 0:
        return []
    column, row = flat[:, j], flat[i] / flat[i, j]
    if (np.abs(np.multiply.outer(column, row) - flat) > RANK_ERROR * np.abs(flat)).any():
        return []
    return [Line(Taps(part), axis, mode, origins[axis]) for part, axis in zip((column, row), axes)]
