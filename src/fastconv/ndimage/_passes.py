"""Correlation along one axis after the other: from arrays of any layout to the kernel's passes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import numpy as np

from fastconv import _kernels, _threads
from fastconv._errors import argument_error
from fastconv._memory import new_array
from fastconv.ndimage._arguments import COMPUTED, Array, extents
from fastconv.ndimage._borders import source_indices

VECTOR = 16
"""A pass whose lanes are neighbouring elements needs as many of them as a vector has float32."""
LONGEST_IN_FLOAT32 = 65
"""Sums of more products in float32 may differ from SciPy's by more than 1e-6."""
CANCELLING = 1.5
"""Weights cancel if the sum of their magnitudes exceeds the magnitude of their sum so many
times."""


class Taps:
    """The weights of a filter, and what is known of them."""

    def __init__(self, weights: Array) -> None:
        self.weights = np.ascontiguousarray(weights, np.float64)
        self.size = len(self.weights)
        self.symmetry = _symmetry(self.weights)
        self.in_float32 = self.weights.astype(np.float32)
        self.is_short = self.size <= LONGEST_IN_FLOAT32
        total = abs(float(self.weights.sum()))
        self.cancels = not float(np.abs(self.weights).sum()) <= CANCELLING * total


def _symmetry(weights: Array) -> int:
    """Return 1 for a symmetric filter, -1 for an antisymmetric one, 0 for any other.

    The tolerance is SciPy's, because what is computed depends on the answer.
    """
    half = len(weights) // 2
    if len(weights) % 2 == 0:
        return 0
    low, high = weights[:half], weights[half + 1 :][::-1]
    tolerance = np.finfo(np.float64).eps
    if not (np.abs(high - low) > tolerance).any():
        return 1
    return 0 if (np.abs(high + low) > tolerance).any() else -1


class Line(NamedTuple):
    """A pass: correlation along one axis."""

    taps: Taps
    axis: int
    mode: str
    """One that `_arguments.read_mode` returns."""
    origin: int = 0


def check_dtypes(*arrays: Array) -> None:
    """Raise an error unless filters compute with the dtypes, as SciPy does."""
    for array in arrays:
        if array.dtype.char not in COMPUTED:
            raise argument_error(RuntimeError, f"array type {array.dtype!r} not supported")


def run(input: Array, output: Array, lines: Sequence[Line], cval: float) -> None:
    """Correlate the input along one axis after the other, and write the result to the output.

    Between passes, values have the output's dtype. The arrays may have any strides, and share
    memory. The dtypes were checked with `check_dtypes`.
    """
    if not lines:
        output[...] = input
    if not lines or output.size == 0:
        return
    source, target = _readable(input), _writable(output, input)
    steps = _steps(input.shape, tuple((line.axis, line.taps.size) for line in lines), target.dtype)
    # Results go from array to array, so that the last ones go to the target.
    spare = [new_array(target.shape, target.dtype) for _ in steps[1:3]]
    in_float32 = source.dtype == target.dtype == np.float32 and _float32_suffices(lines)
    for i, step in enumerate(steps):
        left = len(steps) - 1 - i
        into = target if left == 0 else spare[(left - 1) % 2]
        _run_step(source, into, step, lines, cval, in_float32)
        source = into
    if target.base is not output.base or target.ctypes.data != output.ctypes.data:
        output.view(target.dtype)[...] = target


def _readable(array: Array) -> Array:
    """Return an array that the kernel reads; bools are bytes, as in SciPy."""
    if array.dtype == np.bool_:
        array = array.view(np.uint8)
    dtype = array.dtype.newbyteorder("=")
    if array.flags.c_contiguous and array.flags.aligned and dtype == array.dtype:
        return array
    return np.ascontiguousarray(array, dtype)


def _writable(output: Array, input: Array) -> Array:
    """Return the output itself, or a new array, from which the result is copied."""
    if output.dtype == np.bool_:
        output = output.view(np.uint8)
    native = output.dtype.newbyteorder("=")
    if (
        output.flags.c_contiguous
        and output.flags.aligned
        and native == output.dtype
        and not np.may_share_memory(output, input)
    ):
        return output
    return new_array(output.shape, native)


def _float32_suffices(lines: Sequence[Line]) -> bool:
    """Tell whether the differences to SciPy's float64 stay below 1e-6 of the largest result.

    Where weights cancel, the rounding of a large offset would remain. A first pass of differences
    is free of it: the differences of neighbours are exact, or are as large as their rounding
    allows.
    """
    return all(
        line.taps.is_short and (not line.taps.cancels or (i == 0 and line.taps.symmetry == -1))
        for i, line in enumerate(lines)
    )


class _Step(NamedTuple):
    """What one call of the kernel computes."""

    shape: tuple[int, int, int, int]
    """The array as (planes, height, width, step)."""
    vertical: int | None
    """Which pass runs along the height, if any does."""
    horizontal: int | None
    """Which pass runs along the width, if any does."""


@lru_cache(maxsize=256)
def _steps(
    shape: tuple[int, ...], passes: tuple[tuple[int, int], ...], dtype: np.dtype[Any]
) -> tuple[_Step, ...]:
    """Divide passes, each an axis and its number of taps, among calls of the kernel.

    Two passes along neighbouring axes are one call if the later axis is the last one, or almost.
    """
    steps, i = [], 0
    while i < len(passes):
        pair = passes[i : i + 2]
        fused = _fused(shape, i, pair, dtype) if len(pair) == 2 else None
        steps.append(fused or _single(shape, i, passes[i][0]))
        i += 2 if fused else 1
    return tuple(steps)


def _single(shape: tuple[int, ...], number: int, axis: int) -> _Step:
    outer, inner = prod(shape[:axis]), prod(shape[axis + 1 :])
    if inner >= VECTOR:
        return _Step((outer, shape[axis], inner, 1), number, None)
    return _Step((1, outer, shape[axis], inner), None, number)


def _fused(
    shape: tuple[int, ...], number: int, pair: tuple[tuple[int, int], ...], dtype: np.dtype[Any]
) -> _Step | None:
    (first, _), (second, _) = pair
    high, low = min(first, second), max(first, second)
    planes, inner = prod(shape[:high]), prod(shape[low + 1 :])
    columns, lines_first = shape[low] * inner, second < first
    if low - high != 1 or inner >= VECTOR or columns < VECTOR:
        return None
    if not _kernels.separable.fits(columns, pair[1][1], dtype.itemsize, lines_first):
        return None
    vertical, horizontal = (number + 1, number) if lines_first else (number, number + 1)
    return _Step((planes, shape[high], shape[low], inner), vertical, horizontal)


def _run_step(
    source: Array, into: Array, step: _Step, lines: Sequence[Line], cval: float, in_float32: bool
) -> None:
    """Run one call of the kernel."""

    def described(number: int | None, length: int) -> tuple[Any, ...] | None:
        if number is None:
            return None
        taps, _, mode, origin = lines[number]
        before, after = extents(taps.size, origin)
        weights = taps.in_float32 if in_float32 else taps.weights
        sources = source_indices(length, before, after, mode)
        return weights, taps.symmetry, sources, before

    _, height, width, _ = step.shape
    _kernels.separable.correlate(
        source.reshape(step.shape),
        into.reshape(step.shape),
        described(step.vertical, height),
        described(step.horizontal, width),
        None not in step[1:] and step.vertical > step.horizontal,  # type: ignore[operator]
        cval,
        in_float32,
        _threads.count(),
    )
