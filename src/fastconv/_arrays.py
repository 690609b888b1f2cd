"""Arrays at the boundary: what comes in is checked, what goes out is made or checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from fastconv._memory import new_array
from fastconv._window import integers, is_sequence

Array: TypeAlias = npt.NDArray[Any]
Shape: TypeAlias = tuple[int, ...]

# numpy.dtype.char of the dtypes that operations compute with.
FLOATS = frozenset("efd")
INTEGERS = frozenset("bhilqBHILQ")
BOOL = frozenset("?")

_NAMES = {FLOATS: "float16, float32, float64", INTEGERS: "integers", BOOL: "bool"}


def as_array(value: npt.ArrayLike, name: str, ndim: int, unbatched: bool = True) -> Array:
    """Return `value` as a batch of `ndim` dimensions, without zero-size axes but the first.

    With `unbatched`, one dimension less is accepted and a batch of one made of it.
    """
    array = np.asarray(value)
    if array.ndim != ndim:
        if not unbatched or array.ndim != ndim - 1:
            wanted = f"{ndim} dimensions" + f" or {ndim - 1} (no batch)" * unbatched
            raise ValueError(f"{name} must have {wanted}, got shape {array.shape}")
        array = array[None]
    if 0 in array.shape[1:]:
        raise ValueError(f"{name} must not be empty but in its batch, got shape {array.shape}")
    return array


def check_dtype(array: Array, name: str, *accepted: frozenset[str]) -> None:
    """Raise a TypeError unless the dtype is in one of the sets."""
    for chars in accepted:
        if array.dtype.char in chars:
            return
    raise TypeError(
        f"{name} must be of {', '.join(_NAMES[chars] for chars in accepted)}; "
        f"got dtype {array.dtype}"
    )


def check_movable(array: Array, name: str) -> None:
    """Raise a TypeError for elements that hold Python objects or nothing."""
    if array.dtype.hasobject or array.dtype.itemsize == 0:
        raise TypeError(
            f"{name} must be of a dtype of fixed size that holds no Python objects; "
            f"got dtype {array.dtype}"
        )


def native_dtype(array: Array) -> np.dtype[Any]:
    """Return the dtype in native byte order."""
    dtype = array.dtype
    return dtype if dtype.isnative else dtype.newbyteorder("=")


def computed_dtype(*arrays: Array) -> np.dtype[Any]:
    """Return the dtype that arrays are computed in together: float64 for integers."""
    dtype = arrays[0].dtype
    if not dtype.isnative or any(array.dtype is not dtype for array in arrays):
        dtype = np.result_type(*[array.dtype for array in arrays])
    return dtype if dtype.char in FLOATS else np.dtype(np.float64)


def as_shape(array: Array, shape: Shape) -> Array:
    """Return a view of `array`, which may lack the batch, in `shape`."""
    return array if array.ndim == len(shape) else array.reshape(shape)


def check_shape(value: Sequence[int], name: str, ndim: int) -> Shape:
    """Read a shape of positive ints, of which only a batch, the first of four, may be 0."""
    accepted = "a sequence of positive ints"
    if not is_sequence(value):
        raise TypeError(f"{name} must be {accepted}, got {value!r}")
    shape = integers(value, name, accepted)
    if len(shape) != ndim or min(shape) < 0 or 0 in shape[-3:]:
        raise ValueError(f"{name} must be {accepted} and of length {ndim}, got {value!r}")
    return shape


def result(out: Array | None, shape: Shape, dtype: np.dtype[Any], *inputs: Array) -> Array:
    """Return `out` if it can hold the result and overlaps no input, or a new array for None."""
    if out is None:
        return new_array(shape, dtype)
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out must be an array, got {type(out).__name__}")
    if out.dtype != dtype:
        raise TypeError(f"out must be of dtype {dtype}, got {out.dtype}")
    if out.shape != shape:
        raise ValueError(f"out must have shape {shape}, got {out.shape}")
    flags = out.flags
    if not flags.carray:
        missing = [
            name
            for name, has in [
                ("C-contiguous", flags.c_contiguous),
                ("writable", flags.writeable),
                ("aligned", flags.aligned),
            ]
            if not has
        ]
        raise ValueError(f"out must be C-contiguous, writable and aligned; it is not {missing[0]}")
    for array in inputs:
        if np.may_share_memory(out, array) and _overlap(out, array):
            raise ValueError("out must not overlap an input")
    return out


def _overlap(a: Array, b: Array) -> bool:
    try:
        return np.shares_memory(a, b, max_work=10_000)  # type: ignore[arg-type]
    except np.exceptions.TooHardError:  # views so entangled are not worth more time
        return True
