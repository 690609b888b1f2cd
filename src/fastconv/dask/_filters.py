"""The filters of `fastconv.ndimage` on Dask arrays.

A filter is described by how far it reaches along each axis. A chunk of the result is that of a
filtered box, which is the chunk and what the filter reaches around it. Where the array ends, the
box ends too, so that the filter's own mode continues it there; in mode "wrap", the box is made of
what lies at the other end.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from dask.base import tokenize

from fastconv import ndimage
from fastconv._arrays import Array
from fastconv._errors import argument_error, named, reason
from fastconv.dask._chunks import Box, Interval, checked, computed
from fastconv.ndimage import _fourier
from fastconv.ndimage._arguments import (
    extents,
    per_axis,
    read_axes,
    read_axis,
    read_footprint,
    read_mode,
)

Reaches: TypeAlias = dict[int, tuple[int, int]]
"""How many elements before and behind an element a filter sees, by axis."""

LEAST = 16
"""The least number of elements of a box's axis, if there are so many."""
ROWS = 4
"""Boxes begin at multiples of this number, the height of the register tiles of `dense.h`.

In long sums, the order of the products depends on the row within a tile.
"""


def filter_of(function: Callable[..., Array], reaches: Callable[..., Reaches]) -> Any:
    """Make the twin of a filter for Dask arrays.

    Parameters
    ----------
    function : callable
        The filter.
    reaches : callable
        A function of the number of dimensions and of the filter's arguments by name.
    """
    signature = inspect.signature(function)

    def on_dask(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs)
        given.apply_defaults()
        arguments = dict(given.arguments)
        arguments.update(arguments.pop("extra_keywords", None) or {})
        arguments.update(arguments.pop("kwargs", None) or {})
        x = checked(arguments.pop("input"), "input")
        dtype = _dtype(arguments.get("output"), x.dtype)
        arguments["output"] = dtype
        call = partial(function, **arguments)
        _try(call, x)
        return _filtered(function.__name__, call, x, dtype, reaches(x.ndim, **arguments), arguments)

    # Messages find the name of what was called by its code, of which each filter needs its own.
    on_dask.__code__ = on_dask.__code__.replace(co_name=function.__name__)
    on_dask.__name__ = on_dask.__qualname__ = function.__name__
    on_dask.__doc__ = _document(function)
    on_dask.__signature__ = signature  # type: ignore[attr-defined]
    return named(on_dask)


def _document(function: Callable[..., Array]) -> str:
    name = function.__name__
    summary = (function.__doc__ or "").partition("\n")[0]
    return f"""{summary}

    This is `fastconv.ndimage.{name}` on a Dask array: `input` is a `dask.array.Array` in chunks of
    any shape, and `output` a dtype. The other arguments, and errors, are the same. The result has
    the input's chunks, and is that of the call in memory, bit for bit. Only kernels of floats that
    are so large that the call in memory takes Fourier transforms are the exception: chunks are then
    summed directly, which differs by rounding, and is the same for all chunks.
    """


def _dtype(output: Any, like: np.dtype[Any]) -> np.dtype[Any]:
    """Read the dtype of the result."""
    if isinstance(output, np.ndarray):
        raise argument_error(TypeError, "output must be a dtype or None: the result is a new array")
    return like.newbyteorder("=") if output is None else np.dtype(output)


def _try(call: Callable[..., Array], x: Any) -> None:
    """Let the filter refuse its arguments before anything is computed."""
    try:
        call(np.zeros((1,) * x.ndim, x.dtype))
    except (TypeError, ValueError, RuntimeError, NotImplementedError) as error:
        raise argument_error(type(error), reason(error)) from error


def _filtered(
    name: str,
    call: Callable[..., Array],
    x: Any,
    dtype: np.dtype[Any],
    reaches: Reaches,
    arguments: dict[str, Any],
) -> Any:
    along = sorted(reaches)
    modes = dict(zip(along, per_axis(arguments.get("mode", "constant"), "mode", len(along))))
    wraps_of = {axis for axis in along if read_mode(modes[axis]) == "wrap"}

    def needed(box: Box) -> Box:
        return tuple(
            _reached(interval, size, reaches.get(axis, (0, 0)), axis in wraps_of)
            for axis, (interval, size) in enumerate(zip(box, x.shape))
        )

    identity = tokenize(sorted((key, value) for key, value in arguments.items()))
    return computed(f"fastconv-{name}", x, x.chunks, needed, FilterWork(call), dtype, identity)


def _reached(interval: Interval, size: int, reach: tuple[int, int], wraps: bool) -> Interval:
    """Return the elements that a filter needs of an axis to compute some of them."""
    before, after = reach
    first, last = interval
    if not before and not after:
        return interval
    more = max(0, LEAST - (last - first))
    if wraps:
        return (first - before - more // 2) // ROWS * ROWS, last + after + more
    low, high = first - before, last + after
    if low < 0:  # What lies beyond an end is made of as many elements as are seen there.
        high = max(high, before + 1)
    if high > size:
        low = min(low, size - after - 1)
    low, high = max(0, low), min(size, high)
    low = max(0, min(low, high - LEAST - before - after)) // ROWS * ROWS
    return low, min(size, max(high, low + LEAST + before + after))


class FilterWork:
    """Filters boxes, and cuts the chunks out of them."""

    def __init__(self, call: Callable[..., Array]) -> None:
        self.call = call

    def __call__(self, array: Array, wanted: Box, box: Box) -> Array:
        """Compute a box of the result."""
        with _fourier.never():
            result = self.call(array)
        index = tuple(slice(a - c, b - c) for (a, b), (c, _) in zip(box, wanted))
        return np.ascontiguousarray(result[index])


# ---- how far filters reach ---------------------------------------------------------------------


def _turned(size: int, origin: int) -> int:
    """Return the origin of a kernel that is turned around, as SciPy does it."""
    return -origin - (size % 2 == 0)


def _of_sizes(
    sizes: Sequence[int], origin: Any, along: Sequence[int], turned: bool = False
) -> Reaches:
    origins = per_axis(origin, "origin", len(along))
    return {
        axis: extents(size, _turned(size, at) if turned else at)
        for axis, size, at in zip(along, sizes, origins)
    }


def _kernel(turned: bool, ndim: int, *, weights: Any, origin: Any, axes: Any, **_: Any) -> Reaches:
    along = read_axes(axes, ndim)
    return _of_sizes(np.shape(weights), origin, along, turned)


def _line(turned: bool, ndim: int, *, weights: Any, origin: int, axis: int, **_: Any) -> Reaches:
    return _of_sizes(np.shape(weights), origin, [read_axis(axis, ndim)], turned)


def _size_1d(ndim: int, *, size: int, origin: int, axis: int, **_: Any) -> Reaches:
    return _of_sizes([size], origin, [read_axis(axis, ndim)])


def _sizes(ndim: int, *, size: Any, origin: Any, axes: Any, **_: Any) -> Reaches:
    along = read_axes(axes, ndim)
    return _of_sizes(per_axis(size, "size", len(along)), origin, along)


def _footprint(
    ndim: int, *, origin: Any, size: Any = None, footprint: Any = None, axes: Any = None, **_: Any
) -> Reaches:
    along = read_axes(axes, ndim)
    given = None if footprint is not None else size
    neighbours, _is_whole = read_footprint(given, footprint, len(along))
    return _of_sizes(neighbours.shape, origin, along)


def _structure(
    turned: bool,
    ndim: int,
    *,
    size: Any,
    footprint: Any,
    structure: Any,
    origin: Any,
    axes: Any = None,
    **_: Any,
) -> Reaches:
    along = read_axes(axes, ndim)
    shape = np.shape(structure if structure is not None else footprint)
    sizes = shape or per_axis(size, "size", len(along))
    return _of_sizes(sizes, origin, along, turned)


def _gaussian(
    ndim: int, *, sigma: Any, truncate: float = 4.0, radius: Any = None, axes: Any = None, **_: Any
) -> Reaches:
    along = read_axes(axes, ndim)
    sigmas = per_axis(sigma, "sigma", len(along))
    radii = per_axis(radius, "radius", len(along))
    return {axis: _radius(s, r, truncate) for axis, s, r in zip(along, sigmas, radii)}


def _radius(sigma: float, radius: int | None, truncate: float) -> tuple[int, int]:
    reach = int(truncate * float(sigma) + 0.5) if radius is None else int(radius)
    return reach, reach


def _gaussian_1d(
    ndim: int, *, sigma: float, axis: int, truncate: float, radius: Any, **_: Any
) -> Reaches:
    return {read_axis(axis, ndim): _radius(sigma, radius, truncate)}


def _neighbours(ndim: int, *, axes: Any = None, **_: Any) -> Reaches:
    return dict.fromkeys(read_axes(axes, ndim), (1, 1))


convolve = filter_of(ndimage.convolve, partial(_kernel, True))
convolve1d = filter_of(ndimage.convolve1d, partial(_line, True))
correlate = filter_of(ndimage.correlate, partial(_kernel, False))
correlate1d = filter_of(ndimage.correlate1d, partial(_line, False))
gaussian_filter = filter_of(ndimage.gaussian_filter, _gaussian)
gaussian_filter1d = filter_of(ndimage.gaussian_filter1d, _gaussian_1d)
gaussian_gradient_magnitude = filter_of(ndimage.gaussian_gradient_magnitude, _gaussian)
gaussian_laplace = filter_of(ndimage.gaussian_laplace, _gaussian)
grey_dilation = filter_of(ndimage.grey_dilation, partial(_structure, True))
grey_erosion = filter_of(ndimage.grey_erosion, partial(_structure, False))
laplace = filter_of(ndimage.laplace, _neighbours)
maximum_filter = filter_of(ndimage.maximum_filter, _footprint)
maximum_filter1d = filter_of(ndimage.maximum_filter1d, _size_1d)
median_filter = filter_of(ndimage.median_filter, _footprint)
minimum_filter = filter_of(ndimage.minimum_filter, _footprint)
minimum_filter1d = filter_of(ndimage.minimum_filter1d, _size_1d)
percentile_filter = filter_of(ndimage.percentile_filter, _footprint)
prewitt = filter_of(ndimage.prewitt, _neighbours)
rank_filter = filter_of(ndimage.rank_filter, _footprint)
sobel = filter_of(ndimage.sobel, _neighbours)
uniform_filter = filter_of(ndimage.uniform_filter, _sizes)
uniform_filter1d = filter_of(ndimage.uniform_filter1d, _size_1d)
