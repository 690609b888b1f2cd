"""What operators ask of their inputs, and how large results may be."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from math import prod
from typing import Any

import numpy as np

from fastconv import _limits
from fastconv._arrays import Array, Shape

FLOATS, INTEGERS, REALS, NUMBERS = "f", "iu", "fiu", "fiuc"
"""The kinds of dtypes that operators take, by NumPy's letters."""


@cache
def most_bytes() -> int:
    """Return the size beyond which no result can be: half of what this process may use.

    The other half is for the values that are there already, whose sum has the same limit.
    """
    return _limits.memory() // 2


class Memory:
    """Counts the bytes of the values that a run holds.

    Every result may fit, and all of them may not: a model of some hundred bytes can double a value
    60 times.
    """

    def __init__(self) -> None:
        self._held = 0
        self._uses: dict[int, int] = {}
        """How many values lie in an array, by its identity."""

    def add(self, value: Array) -> None:
        """Count a value that has come; those that are views of one array are counted once."""
        array = _owner(value)
        self._uses[id(array)] = self._uses.get(id(array), 0) + 1
        if self._uses[id(array)] == 1:
            self._held += array.nbytes
        if self._held > most_bytes():
            raise ValueError(f"it and the values before it take {self._held} bytes")

    def remove(self, value: Array) -> None:
        """Forget a value that is freed."""
        array = _owner(value)
        self._uses[id(array)] -= 1
        if not self._uses[id(array)]:
            self._held -= array.nbytes
            del self._uses[id(array)]


def _owner(array: Array) -> Array:
    """Return the array that has the memory of a view."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def room(shape: Sequence[int], dtype: np.dtype[Any]) -> Shape:
    """Return a result's shape if it fits into memory.

    Numbers in a file decide about many results. A few bytes may ask for more memory than there is,
    which the operating system would rather end the process for than refuse. An axis of length 0
    counts as 1: the others may not be longer because of it, as operators list their positions.
    """
    if min(shape, default=0) < 0:
        raise ValueError(f"the result would have the shape {tuple(shape)}")
    size = prod(n or 1 for n in shape) * dtype.itemsize
    if size > most_bytes():
        raise ValueError(f"the result of shape {tuple(shape)} would take {size} bytes")
    return tuple(shape)


def common_shape(*arrays: Array) -> Shape:
    """Return the shape of arrays that are broadcast, if it fits into memory."""
    shape = np.broadcast_shapes(*(array.shape for array in arrays))
    return room(shape, np.result_type(*(array.dtype for array in arrays)))


def require(array: Array, kinds: str) -> Array:
    """Return an array whose dtype is of one of some kinds."""
    if array.dtype.kind not in kinds:
        raise NotImplementedError(f"it is not supported for elements of dtype {array.dtype}")
    return array


def same_dtypes(*arrays: Array | None) -> None:
    """Refuse arrays of several dtypes, which the operators of ONNX never convert."""
    dtypes = {array.dtype for array in arrays if array is not None}
    if len(dtypes) > 1:
        raise ValueError(f"inputs are of several dtypes: {', '.join(sorted(map(str, dtypes)))}")


def rank(array: Array, least: int, most: int | None = None) -> Array:
    """Return an array whose number of dimensions is within limits."""
    if array.ndim < least or (most is not None and array.ndim > most):
        limits = f"{least}" if most == least else f"{least} or more" if most is None else ""
        limits = limits or f"{least} to {most}"
        raise ValueError(f"an input has shape {array.shape}, but must have {limits} dimensions")
    return array


def axis_of(axis: int, ndim: int) -> int:
    """Return the number of an axis, which may be counted from the end."""
    if not -ndim <= axis < ndim:
        raise ValueError(f"axis {axis} is none of {ndim} dimensions")
    return axis % ndim


def axes_of(axes: Iterable[int], ndim: int) -> tuple[int, ...]:
    """Return the numbers of axes, of which none may be there twice."""
    found = tuple(axis_of(axis, ndim) for axis in axes)
    if len(set(found)) < len(found):
        raise ValueError(f"axes {found} are not all different")
    return found


def ints(array: Array, what: str) -> tuple[int, ...]:
    """Return the elements of an input that is a list of integers, or one integer."""
    if array.dtype.kind not in INTEGERS or array.ndim > 1:
        raise ValueError(f"{what} must be a list of integers, got {array.dtype}{array.shape}")
    return tuple(array.ravel().tolist())


def single(array: Array, what: str) -> Any:
    """Return the only element of an input."""
    if array.size != 1:
        raise ValueError(f"{what} must be one number, got shape {array.shape}")
    return array.reshape(()).item()


def choice(value: str, what: str, *choices: str) -> str:
    """Return a word that is one of those allowed."""
    if value not in choices:
        raise ValueError(f"{what} must be one of {', '.join(choices)}, got {value[:50]!r}")
    return value


def as_type(array: Array, dtype: np.dtype[Any]) -> Array:
    """Convert what was computed with more digits back, without a copy if it is of this dtype."""
    return np.asarray(array).astype(dtype, copy=False)


def wide(array: Array) -> Array:
    """Return float16 as float32, in which sums and functions of it are computed."""
    return array.astype(np.float32) if array.dtype == np.float16 else array
