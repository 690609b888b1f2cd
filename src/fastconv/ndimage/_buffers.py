"""The arrays that kernels read and write, and conversions of what they hold.

Kernels take arrays that are contiguous, aligned, native, and apart from each other.

A user's arrays have any strides, any byte order and any address, and the output may overlap the
input. Each filter reads `readable(input)`, writes to `writable(output, input)`, and ends with
`deliver`, which does nothing where the kernel has written to the output itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fastconv._arrays import contiguous, native_dtype
from fastconv._memory import new_array
from fastconv.ndimage._arguments import Array


def as_bytes(array: Array) -> Array:
    """Return bools as bytes, which SciPy and the kernels compute with; other arrays as they are."""
    return array.view(np.uint8) if array.dtype.kind == "b" else array


def readable(array: Array) -> Array:
    """Return an array that a kernel can read: the one that is given, if possible, or a copy."""
    array = as_bytes(array)
    return contiguous(array, native_dtype(array))


def writable(output: Array, *inputs: Array) -> Array:
    """Return an array that a kernel can write to while it reads the inputs.

    It is the output itself, if possible, or else a new array, from which `deliver` copies.
    """
    output = as_bytes(output)
    if (
        output.flags.carray
        and output.dtype.isnative
        and not any(np.may_share_memory(output, array) for array in inputs)
    ):
        return output
    return new_array(output.shape, native_dtype(output))


def deliver(result: Array, output: Array) -> None:
    """Copy a result that a kernel has written to `writable(output)`, unless it is there already."""
    output = as_bytes(output)
    if not np.may_share_memory(result, output):
        output[...] = result


def stages(source: Array, target: Array, count: int) -> Iterator[tuple[Array, Array]]:
    """Yield what each of `count` calls of a kernel reads, and what it writes to.

    The first one reads the source, and the last one writes to the target. Each of the others reads
    what the one before it has written to one of at most two arrays of the target's dtype.
    """
    spare = [new_array(target.shape, target.dtype) for _ in range(min(count - 1, 2))]
    for left in reversed(range(count)):
        into = spare[(left - 1) % 2] if left else target
        yield source, into
        source = into


HALF = 2.0**63
"""Half of the numbers that uint64 has."""


def convert(numbers: Array, dtype: np.dtype[Any], by_magnitude: bool = True) -> Array:
    """Convert float64 to another dtype as SciPy's C code does on x86-64.

    Numbers that the dtype does not hold are converted, too: they become an integer of 32 or 64
    bits, of which the lower bits are kept. NumPy's result for these depends on the CPU.

    Parameters
    ----------
    numbers : ndarray of float64
        The numbers.
    dtype : dtype
        A native dtype.
    by_magnitude : bool, default True
        Whether negative numbers that become uint64 are negated before and after the conversion.
        SciPy does that in filters with footprints, but not in those along one axis.
    """
    with np.errstate(all="ignore"):
        if dtype.kind == "f":
            return numbers.astype(dtype, copy=False)
        if dtype.kind == "u" and dtype.itemsize == 8:
            return _to_uint64(numbers, by_magnitude)
        is_wide = dtype.itemsize == 8 or (dtype.kind == "u" and dtype.itemsize == 4)
        integers = numbers.astype(np.int64 if is_wide else np.int32)
        if dtype.kind == "b":  # SciPy keeps all bits of the byte.
            return integers.astype(np.uint8).view(np.bool_)
        return integers.astype(dtype)


def constant_of(cval: Any, dtype: np.dtype[Any]) -> Array:
    """Return one number of a dtype as an array: what kernels see beyond the borders.

    A number that the dtype does not hold is infinite, or it is not looked at.
    """
    with np.errstate(all="ignore"):
        return np.array([cval]).astype(dtype)


def _to_uint64(numbers: Array, by_magnitude: bool) -> Array:
    """Convert float64 to uint64: the larger half of its range with an offset, as compilers do."""
    is_negated = (numbers <= -1) & by_magnitude
    numbers = np.where(is_negated, -numbers, numbers)
    is_large = numbers >= HALF
    integers = np.where(is_large, numbers - HALF, numbers).astype(np.int64).view(np.uint64)
    integers ^= is_large.astype(np.uint64) << np.uint64(63)
    return np.where(is_negated, -integers, integers)
