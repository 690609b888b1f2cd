"""Correlation along one axis after the other: from arrays of any layout to the kernel's passes."""

from __future__ import annotations

import math
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

VECTOR_BYTES = 64
"""A pass whose lanes are neighbouring elements needs as many of them as fit into a vector."""
LONGEST_IN_FLOAT32 = 65
"""Sums of more products in float32 may differ from SciPy's by more than 1e-6."""
LARGEST = float(1 << 31)
"""SciPy's conversions to integers of up to 32 bits keep the lower bits of smaller magnitudes."""
CANCELLING = 1.5
"""Weights cancel if the sum of their magnitudes exceeds the magnitude of their sum so many
times."""
FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
UINT16, UINT32 = np.dtype(np.uint16), np.dtype(np.uint32)


class Taps:
    """The weights of a filter, and what is known of them."""

    def __init__(self, weights: Array) -> None:
        self.weights = np.ascontiguousarray(weights, np.float64)
        self.size = len(self.weights)
        self.symmetry = _symmetry(self.weights)
        self.is_short = self.size <= LONGEST_IN_FLOAT32
        self.magnitude = float(np.abs(self.weights).sum())
        self.cancels = not self.magnitude <= CANCELLING * abs(float(self.weights.sum()))
        self.are_integers = self.magnitude < LARGEST and bool(
            (np.rint(self.weights) == self.weights).all()
        )
        self._converted = {np.dtype(np.float64): self.weights}

    def of(self, dtype: np.dtype[Any]) -> Array:
        """Return the weights in the dtype that is computed with."""
        if dtype not in self._converted:
            integers = self.are_integers and dtype.kind == "u"
            weights = self.weights.astype(np.int64) if integers else self.weights
            self._converted[dtype] = weights.astype(dtype)
        return self._converted[dtype]


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
    computed = _computed_dtype(source.dtype, target.dtype, lines, cval)
    axes = tuple((line.axis, line.taps.size) for line in lines)
    steps = _steps(input.shape, axes, target.dtype, VECTOR_BYTES // computed.itemsize)
    # Results go from array to array, so that the last ones go to the target.
    spare = [new_array(target.shape, target.dtype) for _ in steps[1:3]]
    integers = computed.kind == "u"
    constant = np.array([int(cval) if integers and math.isfinite(cval) else cval])
    constant = constant.astype(computed)
    for i, step in enumerate(steps):
        left = len(steps) - 1 - i
        into = target if left == 0 else spare[(left - 1) % 2]
        _run_step(source, into, step, lines, constant)
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


def _computed_dtype(
    read: np.dtype[Any], written: np.dtype[Any], lines: Sequence[Line], cval: float
) -> np.dtype[Any]:
    """Return the fastest dtype in which results are SciPy's."""
    if read == written == np.float32 and _float32_suffices(lines):
        return FLOAT32
    if read.kind in "iu" and written.kind in "iu" and read.itemsize <= 2 and written.itemsize <= 4:
        computed = UINT32 if written.itemsize == 4 else UINT16
        if _is_modular(read, written, lines, cval):
            return computed
    return FLOAT64


def _is_modular(
    read: np.dtype[Any], written: np.dtype[Any], lines: Sequence[Line], cval: float
) -> bool:
    """Tell whether the sums of all passes may wrap around.

    They may if what SciPy converts after each pass are integers that keep their lower bits: below
    2 ** 31, or 2 ** 53 for uint32.
    """
    limit = float(1 << 53) if written == UINT32 else LARGEST
    beyond = abs(cval) if any(line.mode == "constant" for line in lines) else 0.0
    if not (beyond < LARGEST and beyond == int(beyond)):
        return False
    largest = float(1 << 8 * read.itemsize)
    for line in lines:
        if not line.taps.are_integers:
            return False
        largest = max(largest, beyond) * line.taps.magnitude
        if largest >= limit:
            return False
        if written.itemsize <= 2 or written.kind == "u":
            largest = float(1 << 8 * written.itemsize)
    return True


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
    shape: tuple[int, ...], passes: tuple[tuple[int, int], ...], dtype: np.dtype[Any], lanes: int
) -> tuple[_Step, ...]:
    """Divide passes, each an axis and its number of taps, among calls of the kernel.

    Rows of fewer elements than a vector has lanes are filtered horizontally only. Two passes along
    neighbouring axes are one call if the later axis is the last one, or almost.
    """
    steps, i = [], 0
    while i < len(passes):
        pair = passes[i : i + 2]
        fused = _fused(shape, i, pair, dtype, lanes) if len(pair) == 2 else None
        steps.append(fused or _single(shape, i, passes[i][0], lanes))
        i += 2 if fused else 1
    return tuple(steps)


def _single(shape: tuple[int, ...], number: int, axis: int, lanes: int) -> _Step:
    outer, inner = prod(shape[:axis]), prod(shape[axis + 1 :])
    if inner >= lanes:
        return _Step((outer, shape[axis], inner, 1), number, None)
    return _Step((1, outer, shape[axis], inner), None, number)


def _fused(
    shape: tuple[int, ...],
    number: int,
    pair: tuple[tuple[int, int], ...],
    dtype: np.dtype[Any],
    lanes: int,
) -> _Step | None:
    (first, _), (second, _) = pair
    high, low = min(first, second), max(first, second)
    planes, inner = prod(shape[:high]), prod(shape[low + 1 :])
    columns, lines_first = shape[low] * inner, second < first
    if low - high != 1 or inner >= lanes or columns < lanes:
        return None
    if not _kernels.separable.fits(columns, pair[1][1], dtype.itemsize, lines_first):
        return None
    vertical, horizontal = (number + 1, number) if lines_first else (number, number + 1)
    return _Step((planes, shape[high], shape[low], inner), vertical, horizontal)


def _run_step(
    source: Array, into: Array, step: _Step, lines: Sequence[Line], constant: Array
) -> None:
    """Run one call of the kernel."""

    def described(number: int | None, length: int) -> tuple[Any, ...] | None:
        if number is None:
            return None
        taps, _, mode, origin = lines[number]
        before, after = extents(taps.size, origin)
        sources = source_indices(length, before, after, mode)
        return taps.of(constant.dtype), taps.symmetry, sources, before

    _, height, width, _ = step.shape
    _kernels.separable.correlate(
        source.reshape(step.shape),
        into.reshape(step.shape),
        described(step.vertical, height),
        described(step.horizontal, width),
        None not in step[1:] and step.vertical > step.horizontal,  # type: ignore[operator]
        constant,
        _threads.count(),
    )
