"""Readers of the arguments that SciPy's filters share.

Where SciPy raises a RuntimeError or a ValueError, so do these readers: code that catches one keeps
working.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from fastconv._errors import argument_error, shown, warn
from fastconv._memory import new_array

Array: TypeAlias = npt.NDArray[Any]
Output: TypeAlias = Array | npt.DTypeLike | None
Axes: TypeAlias = int | Sequence[int] | None
Ints: TypeAlias = int | Sequence[int]
Modes: TypeAlias = str | Sequence[str]

MODES = {
    "reflect": "reflect",
    "grid-mirror": "reflect",
    "mirror": "mirror",
    "nearest": "nearest",
    "wrap": "wrap",
    "grid-wrap": "wrap",
    "constant": "constant",
    "grid-constant": "constant",
}
"""All names of modes, and the one of each that `_borders.source_indices` knows."""

COMPUTED = frozenset("?bhilqBHILQfd")
"""The dtypes that kernels compute with, as `numpy.dtype.char` tells them."""


def read_mode(mode: str) -> str:
    """Read how an axis continues beyond its ends."""
    known = MODES.get(mode) if isinstance(mode, str) else None
    if known is None:
        accepted = ", ".join(map(repr, MODES))
        raise argument_error(RuntimeError, f"mode must be one of {accepted}, got {shown(mode)}")
    return known


def read_modes(mode: Modes, count: int) -> list[str]:
    """Read one mode for each of `count` axes."""
    return [read_mode(each) for each in per_axis(mode, "mode", count)]


def per_axis(value: Any, name: str, count: int) -> list[Any]:
    """Return a value for each of `count` axes: those of a sequence, or the same for all."""
    if isinstance(value, str) or not np.iterable(value):
        return [value] * count
    values = list(value)
    if len(values) != count:
        raise argument_error(
            RuntimeError,
            f"sequence argument must have length equal to input rank: {name} must have a value "
            f"for each of the {count} axes, got {shown(value)}",
        )
    return values


def read_axes(axes: Axes, ndim: int) -> tuple[int, ...]:
    """Read the axes to filter along, all of them for None, as numbers from 0 to ndim - 1."""
    if axes is None:
        return tuple(range(ndim))
    if np.isscalar(axes):
        axes = (operator.index(axes),)  # type: ignore[arg-type]
    if not isinstance(axes, Iterable):
        raise argument_error(
            ValueError, f"axes must be an int, a sequence of ints or None, got {shown(axes)}"
        )
    numbers = tuple(map(operator.index, axes))
    if any(not -ndim <= axis < ndim for axis in numbers):
        raise argument_error(
            ValueError,
            f"axes is out of range: they must lie from {-ndim} to {ndim - 1}, got {shown(axes)}",
        )
    numbers = tuple(axis % ndim for axis in numbers)
    if len(set(numbers)) != len(numbers):
        raise argument_error(ValueError, f"axes must be unique, got {shown(axes)}")
    return numbers


def read_axis(axis: int, ndim: int) -> int:
    """Read one axis as a number from 0 to ndim - 1; NumPy raises an AxisError for others."""
    axis = operator.index(axis)
    if not -ndim <= axis < ndim:
        raise np.exceptions.AxisError(axis, ndim)
    return axis % ndim


def check_origin(origin: int, size: int) -> int:
    """Check that a filter of `size` elements, moved by `origin`, still covers its centre."""
    if not -(size // 2) <= origin <= (size - 1) // 2:
        raise argument_error(
            ValueError,
            f"origin must lie from {-(size // 2)} to {(size - 1) // 2} for a filter of "
            f"{size} elements, got {shown(origin)}",
        )
    return operator.index(origin)


def extents(size: int, origin: int) -> tuple[int, int]:
    """Return how many elements before and after its centre a filter covers."""
    before = size // 2 + origin
    return before, size - 1 - before


def footprint_origins(origins: Sequence[int], axes: tuple[int, ...], ndim: int) -> tuple[int, ...]:
    """Return the origin of a footprint along each axis of an array.

    As in SciPy, the dimensions of a footprint belong to the filtered axes in ascending order. The
    origins belong to the axes in the order in which they were named, unless all axes are filtered.
    """
    if len(axes) == ndim:
        return tuple(origins)
    by_axis = dict(zip(axes, origins, strict=True))
    return tuple(by_axis.get(axis, 0) for axis in range(ndim))


def read_footprint(size: Any, footprint: Any, count: int) -> tuple[Array, bool]:
    """Read the neighbours that a rank filter looks at.

    Returns
    -------
    footprint : ndarray of bool, with `count` dimensions
        The neighbours.
    is_rectangle : bool
        Whether all are looked at.
    """
    if size is not None and footprint is not None:
        warn("ignoring size because footprint is set")
    if footprint is None:
        if size is None:
            raise argument_error(RuntimeError, "size or footprint must be given")
        sizes = [operator.index(each) for each in per_axis(size, "size", count)]
        return np.ones(sizes, bool), True
    neighbours = np.asarray(footprint, bool)
    if neighbours.ndim != count:
        raise argument_error(
            RuntimeError,
            f"footprint.ndim ({neighbours.ndim}) must match len(axes) ({count})",
        )
    if not neighbours.any():
        raise argument_error(ValueError, "footprint must not be all zero")
    return neighbours, bool(neighbours.all())


def make_output(output: Output, like: Array, is_complex: bool = False) -> Array:
    """Return the array that a filter's result goes to: a new one, or the one that was passed.

    Parameters
    ----------
    output : ndarray, dtype or None
        An array of the shape of `like`, of any dtype and strides; or the dtype of a new array,
        which is that of `like` for None.
    like : ndarray
        The filter's input.
    is_complex : bool, default False
        Whether the result has an imaginary part, so that its dtype must be complex.
    """
    if output is None:
        dtype = like.dtype.newbyteorder("=")
        return _new(like.shape, np.promote_types(dtype, np.complex64) if is_complex else dtype)
    if isinstance(output, (type, np.dtype)):
        dtype = np.dtype(output)
        if is_complex and dtype.kind != "c":
            warn("promoting specified output dtype to complex")
            dtype = np.promote_types(dtype, np.complex64)
        return _new(like.shape, dtype)
    if isinstance(output, str):
        dtype = np.dtype(output)
        if not issubclass(dtype.type, np.number):
            raise argument_error(RuntimeError, f"output must have a numeric dtype, got {output!r}")
        array = _new(like.shape, dtype)
    else:
        array = np.asarray(output)
    if array.shape != like.shape:
        raise argument_error(
            RuntimeError, f"output must have the input's shape {like.shape}, got {array.shape}"
        )
    if is_complex and array.dtype.kind != "c":
        raise argument_error(RuntimeError, f"output must have a complex dtype, got {array.dtype}")
    if not array.flags.writeable:
        raise argument_error(ValueError, "output must be writeable, got a read-only array")
    return array


def _new(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return an array for a result. Dtypes that no filter computes with may need zeros."""
    return new_array(shape, dtype) if dtype.kind in "biufc" else np.zeros(shape, dtype)


def read_scalar(cval: Any) -> float:
    """Read the real number that lies beyond the borders in mode "constant"."""
    try:
        if not isinstance(cval, str):
            return float(cval)
    except (TypeError, ValueError):
        pass
    raise argument_error(TypeError, f"cval must be a real number, got {shown(cval)}")
