"""Arrays at the boundary: what comes in is checked, what goes out is made or checked."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NoReturn, TypeAlias

import numpy as np
import numpy.typing as npt

from fastconv._errors import argument_error
from fastconv._memory import new_array

Array: TypeAlias = npt.NDArray[Any]
Shape: TypeAlias = tuple[int, ...]

# Dtypes are told by numpy.dtype.char. These sets hold those that operations compute with.
FLOATS = frozenset("efd")
INTEGERS = frozenset("bhilqBHILQ")
BOOL = frozenset("?")
REALS = FLOATS | INTEGERS
NUMBERS = REALS | BOOL

FLOAT32 = np.dtype(np.float32)
FLOAT64 = np.dtype(np.float64)

_NAMES = {FLOATS: "float16, float32, float64", INTEGERS: "integers", BOOL: "bool"}


def read(value: npt.ArrayLike, name: str, accepted: frozenset[str]) -> Array:
    """Convert `value` to an array, and raise a TypeError unless its dtype is accepted."""
    array = value if type(value) is np.ndarray else array_of(value, name)
    if array.dtype.char not in accepted:
        names = ", ".join(text for chars, text in _NAMES.items() if chars <= accepted)
        _refuse(value, array, f"{name} must be of {names}")
    return array


def read_movable(value: npt.ArrayLike, name: str) -> Array:
    """Convert `value` to an array, and refuse elements that hold Python objects or nothing."""
    array = value if type(value) is np.ndarray else array_of(value, name)
    dtype = array.dtype
    if dtype.char in NUMBERS:
        return array
    if dtype.hasobject or dtype.itemsize == 0 or isinstance(value, (str, bytes)):
        what = "an array of a dtype of fixed size that holds no Python objects"
        _refuse(value, array, f"{name} must be {what}")
    return array


def array_of(value: npt.ArrayLike, name: str) -> Array:
    """Convert `value` to an array of any dtype."""
    try:
        return np.asarray(value)
    except ValueError as error:  # NumPy refuses nested sequences of different lengths.
        raise argument_error(ValueError, f"{name} cannot be made an array: {error}") from None


def _refuse(value: npt.ArrayLike, array: Array, message: str) -> NoReturn:
    """Raise a TypeError that shows the dtype of an array, or the type of anything else."""
    is_array = array.ndim or isinstance(value, (np.ndarray, np.generic))
    raise argument_error(
        TypeError, f"{message}; got {f'dtype {array.dtype}' if is_array else type(value).__name__}"
    )


def batch_shape(shape: Shape, name: str, ndim: int, unbatched: bool = True) -> Shape:
    """Check a shape of `ndim` dimensions, of which only the first may be of size 0.

    With `unbatched`, a shape without the batch is accepted, and returned with a batch of one.
    """
    batch = (1, *shape) if unbatched and len(shape) == ndim - 1 else shape
    if len(batch) != ndim:
        wanted = f"{ndim} dimensions" + f" or {ndim - 1} (no batch)" * unbatched
        hint = ""
        if ndim == 4:
            hint = _hint(shape, name, unbatched)
        elif name == "weight" and len(shape) == 2:
            hint = "; weight[:, None] are filters of one channel each, weight[None] is one filter"
        raise argument_error(ValueError, f"{name} must have {wanted}, got shape {shape}{hint}")
    if 0 in batch[1:]:
        exception = "" if name == "weight" else " but in its batch"
        raise argument_error(ValueError, f"{name} must not be empty{exception}, got shape {shape}")
    return batch


def weight_shape(shape: Shape, axes: int = 2) -> Shape:
    """Check the shape of a convolution's weight, of windows that slide along some axes."""
    batch_shape(shape, "weight", axes + 2, unbatched=False)
    if shape[0] == 0:
        raise argument_error(ValueError, f"weight must not be empty, got shape {shape}")
    return shape


def _hint(shape: Shape, name: str, unbatched: bool) -> str:
    """Say how an array with another number of dimensions becomes images or filters."""
    if len(shape) == 5:
        return "; windows over three dimensions are not covered, scipy.ndimage.correlate has them"
    if len(shape) == 3 and name == "weight":
        return "; weight[:, None] are filters of one channel each, weight[None] is one filter"
    if len(shape) == 3:
        return f"; {name}[None] is a batch of one"
    if len(shape) == 2:
        return f"; {name}[None{', None' * (not unbatched)}] is one with one channel"
    return ""


def as_images(array: Array, shape: Shape) -> Array:
    """View an image without a batch, or signals, as images of `shape`, which has as many pixels.

    Only axes of size 1 are new, so nothing is ever copied.
    """
    return array if array.ndim == 4 else array.reshape(shape)


def as_planes(shape: Shape, axes: int) -> Shape:
    """Return the shape (N, C, H, W) of images or signals, of which a batch may be missing.

    To kernels a signal is an image of one row, which they read as vectors.
    """
    n, c, *size = (1, *shape) if len(shape) < axes + 2 else shape
    return (n, c, *size) if axes == 2 else (n, c, 1, *size)


def contiguous(array: Array, dtype: np.dtype[Any]) -> Array:
    """Return an array that is contiguous, aligned and of a native dtype: itself, or a copy."""
    flags = array.flags
    if array.dtype is dtype and flags.c_contiguous and flags.aligned:
        return array
    return np.require(array, dtype, ["C", "A"])


def native_dtype(array: Array) -> np.dtype[Any]:
    """Return the dtype in native byte order."""
    dtype = array.dtype
    return dtype if dtype.isnative else dtype.newbyteorder("=")


@lru_cache(maxsize=512)
def computed_dtype(*dtypes: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype in which arrays of these dtypes are computed, float64 for integers."""
    char = np.result_type(*dtypes).char
    return np.dtype(char) if char in FLOATS else FLOAT64


def read_bias(value: npt.ArrayLike, count: int, each: str, dtype: np.dtype[Any]) -> Array:
    """Read one number for each filter or column, in the dtype that the other arguments decide."""
    array = read(value, "bias", NUMBERS)
    if array.shape != (count,):
        raise argument_error(
            ValueError, f"bias must have shape {(count,)}, one a {each}, got {array.shape}"
        )
    if array.dtype is dtype or array.dtype == dtype:
        return array
    with np.errstate(over="ignore"):
        return array.astype(dtype)


def result(
    out: Array | None, shape: Shape, dtype: np.dtype[Any], inputs: tuple[Array, ...]
) -> Array:
    """Return `out` if it can hold the result and overlaps no input, or a new array for None."""
    if out is None:
        return new_array(shape, dtype)
    if not isinstance(out, np.ndarray):
        raise argument_error(TypeError, f"out must be an array, got {type(out).__name__}")
    if out.dtype != dtype:
        raise argument_error(TypeError, f"out must be of dtype {dtype}, got {out.dtype}")
    if out.shape != shape:
        raise argument_error(ValueError, f"out must have shape {shape}, got {out.shape}")
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
        raise argument_error(
            ValueError, f"out must be C-contiguous, writable and aligned; it is not {missing[0]}"
        )
    for array in inputs:
        if np.may_share_memory(out, array) and _overlap(out, array):
            raise argument_error(ValueError, "out must not overlap an input")
    return out


def _overlap(a: Array, b: Array) -> bool:
    try:
        return np.shares_memory(a, b, max_work=10_000)  # type: ignore[arg-type]
    except np.exceptions.TooHardError:  # We refuse views that would take long to tell apart.
        return True
