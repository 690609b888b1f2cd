"""Rank filters: the median, and every other element of the sorted neighbours."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from functools import lru_cache, partial
from math import prod
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastconv import _kernels, _threads
from fastconv._arrays import native_dtype
from fastconv._errors import argument_error, named, shown
from fastconv._memory import new_array
from fastconv.ndimage._arguments import (
    COMPUTED,
    Array,
    Axes,
    Ints,
    Modes,
    Output,
    check_origin,
    extents,
    footprint_origins,
    make_output,
    per_axis,
    read_axes,
    read_footprint,
    read_mode,
    read_scalar,
)
from fastconv.ndimage._borders import end_indices
from fastconv.ndimage._buffers import as_bytes, convert, deliver, readable, writable
from fastconv.ndimage._running import maximum_filter, minimum_filter

FEW_COLUMNS = 64
"""A last axis that is not filtered becomes one with the axis before it if it is shorter."""


class Geometry(NamedTuple):
    """An array and a window in the form that kernels take (see `_kernels/rank.pyx`)."""

    lengths: tuple[int, ...]
    """The array's shape."""
    befores: tuple[int, ...]
    """How many positions a window covers in front of its pixel, along each axis."""
    extents: tuple[int, ...]
    """How many positions a window covers in all."""
    ends: tuple[npt.NDArray[np.intp], ...]
    """What the positions in front of the first element and behind the last one show."""
    taps: npt.NDArray[np.intp]
    """The positions of the window that are looked at, a row for each, in C order."""
    rank: int
    moves: tuple[tuple[int, npt.NDArray[np.intp], npt.NDArray[np.intp]], ...]
    """Axes, cheapest first, with the taps that the next window along it and the one before it do
    not have."""
    method: str
    """The kernel that computes it."""


class _Window(NamedTuple):
    """The neighbours of an element, along all axes of an array."""

    sizes: tuple[int, ...]
    befores: tuple[int, ...]
    """How many elements the window covers before its centre."""
    footprint: bytes | None
    """None for a box."""
    taps: int


class _Axis(NamedTuple):
    length: int
    before: int
    size: int
    ends: npt.NDArray[np.intp]


@lru_cache(maxsize=64)
def _geometry(
    shape: tuple[int, ...], neighbours: _Window, mode: str, rank: int, itemsize: int
) -> Geometry:
    """Describe a filter with as few axes as possible: neighbours that are not filtered are one."""
    content = neighbours.footprint
    window = np.ones(neighbours.sizes, bool) if content is None else np.frombuffer(content, bool)
    axes: list[_Axis] = []
    for length, size, before in zip(shape, neighbours.sizes, neighbours.befores, strict=True):
        if size == 1 and axes and axes[-1].size == 1:
            axes[-1] = axes[-1]._replace(length=axes[-1].length * length)
        else:
            ends = end_indices(length, before, size - 1 - before, mode)
            axes.append(_Axis(length, before, size, ends))
    window = window.reshape([axis.size for axis in axes])
    if len(axes) > 1 and axes[-1].size == 1 and axes[-1].length < FEW_COLUMNS:
        columns = axes.pop().length
        axes[-1] = _interleaved(axes[-1], columns)
        compact = window[..., 0]
        window = np.zeros([axis.size for axis in axes], bool)
        window[..., ::columns] = compact
    sizes = tuple(axis.size for axis in axes)
    taps = _positions(window)
    return Geometry(
        tuple(axis.length for axis in axes),
        tuple(axis.before for axis in axes),
        sizes,
        tuple(axis.ends for axis in axes),
        taps,
        rank,
        _moves(window),
        _method(taps, sizes, rank, itemsize),
    )


def _positions(window: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """Return the positions that are looked at, a row for each."""
    return np.ascontiguousarray(np.argwhere(window), np.intp)


def _interleaved(axis: _Axis, columns: int) -> _Axis:
    """Return an axis whose elements are rows of `columns` elements, as one axis."""
    ends = axis.ends[:, None]
    spread = np.where(ends < 0, ends, ends * columns + np.arange(columns)).ravel()
    return _Axis(
        axis.length * columns, axis.before * columns, (axis.size - 1) * columns + 1, spread
    )


def _moves(
    footprint: npt.NDArray[np.bool_],
) -> tuple[tuple[int, npt.NDArray[np.intp], npt.NDArray[np.intp]], ...]:
    """Return, for each axis, the taps that have no tap before them and that have none behind."""
    moves = []
    for axis in range(footprint.ndim):
        inner = np.moveaxis(footprint, axis, 0)
        is_back, is_front = inner.copy(), inner.copy()
        is_back[1:] &= ~inner[:-1]
        is_front[:-1] &= ~inner[1:]
        back, front = (_positions(np.moveaxis(each, 0, axis)) for each in (is_back, is_front))
        moves.append((axis, back, front))
    return tuple(sorted(moves, key=lambda move: len(move[1])))


MOST_BISECTED = {1: 255, 2: 160}
"""The most taps for which bisection is used, by the size of elements."""
MOST_SELECTED = {1: 8, 2: 27, 4: 60, 8: 40}
"""The most taps for which forgetful selection is used, by the size of elements."""

FEWEST_COUNTED = 160
"""The fewest taps of a box of bytes for which histograms are faster than bisection."""


def _method(taps: npt.NDArray[np.intp], sizes: tuple[int, ...], rank: int, itemsize: int) -> str:
    """Choose the kernel: the fastest one that was measured for such a window."""
    count = len(taps)
    if 2 * rank + 1 == count:
        if count in (3, 5, 27):
            return f"median_of_{count}"
        for size in (3, 5):
            if count == size * size and _is_square(taps, size):
                return f"median_of_{size}x{size}"
    held = min(rank, count - 1 - rank) + 2
    if held <= _kernels.rank.most_held and count <= MOST_SELECTED[itemsize]:
        return "select"
    if itemsize == 1 and count >= FEWEST_COUNTED and _is_counted(sizes, count):
        return "histograms"
    return "bisect" if count <= MOST_BISECTED.get(itemsize, 0) else "sort"


def _is_counted(sizes: tuple[int, ...], taps: int) -> bool:
    """Tell whether histograms serve a window: a box of the last two axes."""
    box = sizes[-2:]
    return (
        len(box) == 2
        and taps == prod(box) == prod(sizes)
        and taps <= _kernels.rank.most_counted
        and box[0] <= _kernels.rank.tallest_column
    )


def _is_square(taps: npt.NDArray[np.intp], size: int) -> bool:
    """Tell whether taps are `size` runs along the last axis of as many, at equal distances."""
    runs = taps.reshape(size, size, -1)
    steps = runs - runs[:, :1]
    along = np.diff(steps[0, :, -1])
    return not steps[..., :-1].any() and bool((steps == steps[0]).all() and np.ptp(along) == 0)


def _compute(
    source: Array, cval: float, output: Array, geometry_of: Callable[[int], Geometry], is_line: bool
) -> None:
    """Run the kernel, and write its results to the output."""
    constant = _constant(cval, source.dtype, is_line)
    source = readable(source.astype(constant.dtype, copy=False))
    is_same = native_dtype(output) == constant.dtype
    result = writable(output, source) if is_same else new_array(source.shape, source.dtype)
    geometry = geometry_of(source.itemsize)
    _kernels.rank.filter(source, result, as_bytes(constant), geometry, _threads.count())
    if is_same:
        deliver(result, output)
        return
    if not is_line:
        result = convert(result.astype(np.float64), native_dtype(output))
    with np.errstate(all="ignore"):
        np.copyto(as_bytes(output), as_bytes(result), casting="unsafe")


@lru_cache(maxsize=16)
def _constant(cval: float, dtype: np.dtype[Any], is_line: bool) -> Array:
    """Return an array of `cval`, of the dtype that the kernel computes with.

    That is the dtype of the input. Only SciPy's algorithm for one dimension leaves integers that
    are out of its range as they are; all others wrap around.
    """
    dtype = np.dtype(np.float32) if dtype.char == "e" else dtype.newbyteorder("=")
    if is_line and dtype.kind != "f":
        if not math.isfinite(cval):
            raise argument_error(OverflowError, f"cval must be finite for {dtype}, got {cval}")
        low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        wider = np.result_type(dtype, np.int64)  # That is float64 for uint64, as in SciPy.
        return np.array([int(cval)], dtype if low <= int(cval) <= high else wider)
    return convert(np.array([cval]), dtype)


def _read_window(
    size: Ints | None, footprint: Any, origin: Ints, filtered: tuple[int, ...], ndim: int
) -> _Window:
    """Read the neighbours."""
    content = None
    count = len(filtered)
    if footprint is None and size is not None:
        sizes = tuple(map(operator.index, per_axis(size, "size", count)))
        taps = prod(sizes)
    else:
        if footprint is not None and not np.any(footprint):
            raise argument_error(RuntimeError, "footprint must not be all zero")
        neighbours, is_box = read_footprint(size, footprint, count)
        sizes, taps = neighbours.shape, int(np.count_nonzero(neighbours))
        content = None if is_box else neighbours.tobytes()
    if sizes and min(sizes) < 1:
        kind = ValueError if min(sizes) < 0 else RuntimeError  # As in SciPy.
        raise argument_error(kind, f"size must be positive, got {shown(size)}")
    origins = tuple(map(operator.index, per_axis(origin, "origin", count)))
    return _window(sizes, origins, content, taps, filtered, ndim)


@lru_cache(maxsize=64)
def _window(
    sizes: tuple[int, ...],
    origins: tuple[int, ...],
    footprint: bytes | None,
    taps: int,
    filtered: tuple[int, ...],
    ndim: int,
) -> _Window:
    """Give a window all axes of an array."""
    origins = footprint_origins(origins, filtered, ndim)
    each = iter(sizes)
    sizes = tuple(next(each) if axis in filtered else 1 for axis in range(ndim))
    befores = tuple(
        extents(size, check_origin(at, size))[0] for size, at in zip(sizes, origins, strict=True)
    )
    return _Window(sizes, befores, footprint, taps)


def _extreme(
    array: Array,
    window: _Window,
    is_lowest: bool,
    output: Output,
    mode: Modes,
    cval: float,
    filtered: tuple[int, ...],
) -> Array:
    """Return the smallest or largest neighbours, for which there are faster algorithms."""
    modes = mode
    if not isinstance(mode, str) and np.iterable(mode):
        by_axis = dict(zip(filtered, per_axis(mode, "mode", len(filtered)), strict=True))
        modes = [by_axis.get(axis, "constant") for axis in range(array.ndim)]
    origins = [
        before - size // 2 for before, size in zip(window.befores, window.sizes, strict=True)
    ]
    size, footprint = window.sizes, None
    if window.footprint is not None:
        footprint = np.frombuffer(window.footprint, bool).reshape(window.sizes)
    extreme = minimum_filter if is_lowest else maximum_filter
    return extreme(
        array, None if footprint is not None else size, footprint, output, modes, cval, origins
    )


def _filter(
    input: npt.ArrayLike,
    rank_of: Callable[[int], int],
    size: Ints | None,
    footprint: npt.ArrayLike | None,
    output: Output,
    mode: Modes,
    cval: float,
    origin: Ints,
    axes: Axes,
) -> Array:
    """Read the arguments, in SciPy's order, and compute."""
    array = np.asarray(input)
    if array.dtype.kind == "c":
        raise argument_error(TypeError, f"input must be real, got {array.dtype}")
    filtered = read_axes(axes, array.ndim)
    window = _read_window(size, footprint, origin, filtered, array.ndim)
    rank = rank_of(window.taps)
    if rank in (0, window.taps - 1):
        return _extreme(array, window, rank == 0, output, mode, cval, filtered)
    if not isinstance(mode, str) and np.iterable(mode):
        raise argument_error(
            RuntimeError,
            "mode must be the same for all axes, unless the smallest or largest element is taken, "
            f"got {shown(mode)}",
        )
    shown_mode = read_mode(mode)
    if array.dtype.char not in COMPUTED and not (array.dtype.char == "e" and array.ndim == 1):
        raise argument_error(
            RuntimeError, f"input must be of integers, bool, float32 or float64, got {array.dtype}"
        )
    value = read_scalar(cval)
    result = make_output(output, array)
    if result.dtype.kind not in "biuf":
        raise argument_error(RuntimeError, f"output must have a real dtype, got {result.dtype}")
    if array.size:
        # SciPy has an algorithm of its own for one dimension, but not for windows far beyond it.
        overhang = (prod(window.sizes) - 1) // 2 - (window.befores[0] - prod(window.sizes) // 2)
        is_line = array.ndim == 1 and (overhang <= array.size or array.size == 1)
        constant = value if shown_mode == "constant" else 0.0
        geometry = partial(_geometry, array.shape, window, shown_mode, rank)
        _compute(array, constant, result, geometry, is_line)
    return result


def _checked_rank(rank: int, taps: int, asked: Any) -> int:
    """Return a rank from 0 on, where negative ones count from the largest element."""
    rank += taps if rank < 0 else 0
    if not 0 <= rank < taps:
        raise argument_error(
            RuntimeError,
            f"rank must lie from {-taps} to {taps - 1} for {taps} elements, got {asked}",
        )
    return rank


@named
def rank_filter(
    input: npt.ArrayLike,
    rank: int,
    size: Ints | None = None,
    footprint: npt.ArrayLike | None = None,
    output: Output = None,
    mode: Modes = "reflect",
    cval: float = 0.0,
    origin: Ints = 0,
    *,
    axes: Axes = None,
) -> Array:
    """Replace each element by one of given rank among its sorted neighbours.

    Parameters
    ----------
    input : array_like
        Array of integers, bool, float32 or float64, of any dimension. One dimension may also be
        float16.
    rank : int
        Place in the sorted neighbours: 0 is the smallest, and -1 the largest.
    size : int or sequence of ints, optional
        Lengths of the box of neighbours along each axis, or the same along all.
    footprint : array_like of bool, optional
        The neighbours, if they are not a box. One of `size` and `footprint` must be given.
    output : ndarray or dtype, optional
        Array for the result, of the input's shape, or the result's dtype. The default is the dtype
        of `input`.
    mode : str, default "reflect"
        What lies beyond the borders: "reflect" (d c b a | a b c d | d c b a), "mirror" (d c b | a b
        c d | c b a), "nearest", "wrap" or "constant", or a "grid-" name for the same.
    cval : float, default 0.0
        What lies beyond the borders in mode "constant".
    origin : int or sequence of ints, default 0
        How far the neighbours are moved towards the beginning of each axis.
    axes : int or tuple of ints, optional
        The axes to filter along; all by default.

    Returns
    -------
    ndarray
        The filtered array.

    Raises
    ------
    RuntimeError
        If the rank, the mode, a length or a dtype is not one of those.
    ValueError
        If an axis or an origin is out of range.
    TypeError
        If the input is complex.

    See Also
    --------
    median_filter, percentile_filter

    Notes
    -----
    Results are those of `scipy.ndimage.rank_filter`, except that they are

    * exact for integers beyond 2**53, which SciPy rounds to float64 in two dimensions and more;
    * defined for NaN, which is larger than all numbers, as `numpy.sort` has it, and of which all
      are the same. Equal zeros of different signs are sorted, too, -0.0 first;
    * of the neighbours alone if a one-dimensional `footprint` has holes, which SciPy 1.17 ignores,
      and converted to the dtype of a one-dimensional `output`, whose bytes it overwrites.

    Small windows are computed by sorting networks, forgetful selection and bisection, in which the
    lanes of vectors are neighbouring elements. For other windows the elements of a block are
    sorted once, and a window is a set of places in that order, of which each step replaces only
    what leaves and enters [1]_.

    References
    ----------
    .. [1] J. Suomela, "Median filtering is equivalent to sorting", 2014, arXiv:1406.1717.

    Examples
    --------
    >>> from fastconv import ndimage
    >>> ndimage.rank_filter([1, 9, 2, 8, 3], 1, size=3)
    array([1, 2, 8, 3, 3])
    """
    rank = operator.index(rank)
    return _filter(
        input,
        lambda taps: _checked_rank(rank, taps, rank),
        size,
        footprint,
        output,
        mode,
        cval,
        origin,
        axes,
    )


@named
def median_filter(
    input: npt.ArrayLike,
    size: Ints | None = None,
    footprint: npt.ArrayLike | None = None,
    output: Output = None,
    mode: Modes = "reflect",
    cval: float = 0.0,
    origin: Ints = 0,
    *,
    axes: Axes = None,
) -> Array:
    """Replace each element by the median of its neighbours.

    The median of an even number of neighbours is the upper one of the two in the middle.

    Parameters
    ----------
    input, size, footprint, output, mode, cval, origin, axes
        See `rank_filter`.

    Returns
    -------
    ndarray
        The filtered array.

    Raises
    ------
    RuntimeError, ValueError, TypeError
        See `rank_filter`.

    Notes
    -----
    Results and algorithms are those of `rank_filter`, with half the number of neighbours as rank.
    Medians of 3, 5 and 27 neighbours, of 3x3 and of 5x5 have networks of their own. Those of
    squares sort each column once for all windows that share it.

    Examples
    --------
    Impulses disappear, and edges stay:

    >>> from fastconv import ndimage
    >>> ndimage.median_filter([1, 1, 9, 1, 1, 7, 7, 7], size=3)
    array([1, 1, 1, 1, 1, 7, 7, 7])
    """
    return _filter(input, lambda taps: taps // 2, size, footprint, output, mode, cval, origin, axes)


@named
def percentile_filter(
    input: npt.ArrayLike,
    percentile: float,
    size: Ints | None = None,
    footprint: npt.ArrayLike | None = None,
    output: Output = None,
    mode: Modes = "reflect",
    cval: float = 0.0,
    origin: Ints = 0,
    *,
    axes: Axes = None,
) -> Array:
    """Replace each element by a percentile of its neighbours.

    Parameters
    ----------
    percentile : float
        From 0 to 100, or from -100 on to count from the largest: -20 is 80.
    input, size, footprint, output, mode, cval, origin, axes
        See `rank_filter`.

    Returns
    -------
    ndarray
        The filtered array. Its elements are elements of the input: of n neighbours the one of
        rank n * percentile / 100, rounded down.

    Raises
    ------
    RuntimeError, ValueError, TypeError
        See `rank_filter`.

    Examples
    --------
    >>> from fastconv import ndimage
    >>> ndimage.percentile_filter([1, 9, 2, 8, 3], 40, size=3)
    array([1, 2, 8, 3, 3])
    """

    def rank_of(taps: int) -> int:
        share = percentile + 100.0 if percentile < 0.0 else percentile
        if share < 0 or share > 100:
            raise argument_error(
                RuntimeError, f"percentile must lie from -100 to 100, got {shown(percentile)}"
            )
        rank = taps - 1 if share == 100.0 else int(float(taps) * share / 100.0)
        return _checked_rank(rank, taps, rank)

    return _filter(input, rank_of, size, footprint, output, mode, cval, origin, axes)
