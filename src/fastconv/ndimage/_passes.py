"""Correlation along one axis after the other: from arrays of any layout to the kernel's passes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import numpy as np

from fastconv import _kernels, _threads
from fastconv._errors import argument_error
from fastconv.ndimage._arguments import COMPUTED, Array, extents
from fastconv.ndimage._borders import source_indices
from fastconv.ndimage._buffers import constant_of, deliver, readable, stages, writable

VECTOR_BYTES = 64
"""A pass whose lanes are neighbouring elements needs as many of them as fit into a vector."""
LONGEST_IN_FLOAT32 = 65
"""Sums of more products in float32 may differ from SciPy's by more than 1e-6."""
SMALLEST = 2.0**-60
"""Sums of weights below this, or above its inverse, are too near to the limits of float32."""
LARGEST = float(1 << 31)
"""SciPy's conversions to integers of up to 32 bits keep the lower bits of smaller magnitudes."""
CANCELLING = 1.5
"""Weights cancel if the sum of their magnitudes exceeds the magnitude of their sum so many
times."""
LARGEST_BYTE = 256.0
LARGEST_MARGIN = 2.0**-9
"""With a larger margin, too many sums would be computed twice: one of 16 is that close to an
integer with a probability of 6 %."""
FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
UINT16, UINT32 = np.dtype(np.uint16), np.dtype(np.uint32)


class Taps:
    """The weights of a filter, and what is known of them."""

    def __init__(self, weights: Array) -> None:
        self.weights = np.array(weights, np.float64)  # A copy: the output may be `weights`.
        self.size = len(self.weights)
        self.symmetry = _symmetry(self.weights)
        self.magnitude = float(np.abs(self.weights).sum())
        self.suits_float32 = (
            self.size <= LONGEST_IN_FLOAT32 and SMALLEST < self.magnitude < 1 / SMALLEST
        )
        self.cancels = not self.magnitude <= CANCELLING * abs(float(self.weights.sum()))
        self.is_difference = self.size <= 3 and self.symmetry == -1
        low, *others = self.weights.tolist()
        self.is_second_difference = others == [-2 * low, low]
        self.are_integers = self.magnitude < LARGEST and bool(
            (np.rint(self.weights) == self.weights).all()
        )
        self.margin = _margin(self)
        self._converted = {np.dtype(np.float64): self.weights}

    def of(self, dtype: np.dtype[Any]) -> Array:
        """Return the weights in the dtype that is computed with."""
        if dtype not in self._converted:
            integers = self.are_integers and dtype.kind == "u"
            weights = self.weights.astype(np.int64) if integers else self.weights
            self._converted[dtype] = weights.astype(dtype)
        return self._converted[dtype]


def _margin(taps: Taps) -> float:
    """Return how much sums of products with 8-bit integers differ at most in float32 and float64.

    Weights, products and each of the sums are rounded by a part of 2 ** -24 of no more than the
    magnitude of all products. A rounding to spare covers what is of second order.
    """
    sums = taps.size // 2 + 1 if taps.symmetry else taps.size
    return (sums + 3) * 2.0**-24 * taps.magnitude * LARGEST_BYTE


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


def check_dtypes(input: Array, output: Array) -> None:
    """Raise an error unless filters compute with the dtypes, as SciPy does."""
    for name, array in (("input", input), ("output", output)):
        if array.dtype.char not in COMPUTED:
            raise argument_error(
                RuntimeError,
                f"array type {array.dtype!r} of the {name} is not supported: it must be bool, "
                "integers, float32 or float64",
            )


def run(
    input: Array,
    output: Array,
    parts: Sequence[Sequence[Line]],
    cval: float,
    squared: bool = False,
) -> None:
    """Filter the input, and write the result to the output.

    Each part is a list of passes, which run one after the other. The result is the sum of the
    parts' results or, if it is `squared`, the root of the sum of their squares; then the output
    must be float32 or float64. If there are several parts, all have passes. All values have the
    output's dtype after each pass. The arrays may have any strides, and share memory.
    """
    if not parts or not parts[0]:
        output[...] = input
        return
    check_dtypes(input, output)
    if output.size == 0:
        return
    source, target = readable(input), writable(output, input)
    i = 0
    while i < len(parts):
        combination = _combination(i, len(parts), squared)
        step = None if squared else _added(source, target, parts[i : i + 2], cval)
        if step is not None:
            _run_step(source, target, step, [parts[i][0], parts[i + 1][0]], cval, combination)
        else:
            _run_part(source, target, parts[i], cval, combination)
        i += 1 if step is None else 2
    deliver(target, output)


def _run_part(
    source: Array, target: Array, lines: Sequence[Line], cval: float, combination: int
) -> None:
    """Run passes one after the other, and combine their result with what is in the target."""
    computed = _computed_dtype(source.dtype, target.dtype, lines, cval)
    axes = tuple((line.axis, line.taps.size) for line in lines)
    steps = _steps(source.shape, axes, target.dtype, VECTOR_BYTES // computed.itemsize)
    last = len(steps) - 1
    for i, (read, written) in enumerate(stages(source, target, len(steps))):
        how = combination if i == last else REPLACE
        _run_step(read, written, steps[i], lines, cval, how, computed)


REPLACE, ADD, SQUARE, ADD_SQUARE, ADD_LAST_SQUARE, MAGNITUDE = range(6)
"""How results are combined with what is in the output, as combine.h has it."""


def _combination(part: int, parts: int, squared: bool) -> int:
    """Return how the results of a part are combined with those of the parts before it."""
    is_first, is_last = part == 0, part == parts - 1
    if not squared:
        return REPLACE if is_first else ADD
    if is_first:
        return MAGNITUDE if is_last else SQUARE
    return ADD_LAST_SQUARE if is_last else ADD_SQUARE


def _added(
    source: Array, target: Array, parts: Sequence[Sequence[Line]], cval: float
) -> _Step | None:
    """Return the step that computes two parts at once, each of one pass, if there is one."""
    if [len(part) for part in parts] != [1, 1]:
        return None
    (first,), (second,) = parts
    if first.axis > second.axis:
        return None
    dtypes = {_computed_dtype(source.dtype, target.dtype, part, cval) for part in parts}
    axes = ((first.axis, first.taps.size), (second.axis, second.taps.size))
    lanes = VECTOR_BYTES // max(dtype.itemsize for dtype in dtypes)
    step = _fused(source.shape, 0, axes, None, lanes) if len(dtypes) == 1 else None
    return None if step is None else step._replace(order=ADDED)


def _computed_dtype(
    read: np.dtype[Any], written: np.dtype[Any], lines: Sequence[Line], cval: float
) -> np.dtype[Any]:
    """Return the fastest dtype in which results are SciPy's."""
    small = read.kind in "iu" and read.itemsize <= 2
    if written == FLOAT32 and (small or read == FLOAT32) and _float32_suffices(lines):
        return FLOAT32
    if not small or written.kind not in "iu":
        return FLOAT64
    if written.itemsize <= 4 and _is_modular(read, written, lines, cval):
        return UINT32 if written.itemsize == 4 else UINT16
    if read.itemsize == written.itemsize == 1 and _is_certified(lines, cval):
        return FLOAT32
    return FLOAT64


def _is_certified(lines: Sequence[Line], cval: float) -> bool:
    """Tell whether 8-bit integers are worth computing in float32, and can be.

    Sums of two values must be exact in float32, and few sums so near to an integer that they must
    be computed again.
    """
    beyond = abs(cval) if any(line.mode == "constant" for line in lines) else 0.0
    if not beyond <= LARGEST_BYTE or beyond * LARGEST_BYTE != int(beyond * LARGEST_BYTE):
        return False
    return all(line.taps.margin <= LARGEST_MARGIN for line in lines)


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

    Where weights cancel, the rounding of a large offset would remain. Differences of neighbours as
    the first pass are free of it: they are exact, or as large as their rounding allows.
    """
    if len(lines) == 1 and lines[0].taps.is_second_difference:
        return True
    return all(
        line.taps.suits_float32 and (not line.taps.cancels or (i == 0 and line.taps.is_difference))
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
    order: int = 0
    """What becomes of two passes, as separable.pyx has it."""


ROWS_FIRST, LINES_FIRST, ADDED = range(3)


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
    dtype: np.dtype[Any] | None,
    lanes: int,
) -> _Step | None:
    """Return a step of two passes, or None; the dtype is that of what is between them, if any."""
    (first, _), (second, _) = pair
    high, low = min(first, second), max(first, second)
    planes, inner = prod(shape[:high]), prod(shape[low + 1 :])
    columns, lines_first = shape[low] * inner, second < first
    if low - high != 1 or inner >= lanes or columns < lanes:
        return None
    fits = _kernels.separable.fits
    if dtype is not None and not fits(columns, pair[1][1], dtype.itemsize, lines_first):
        return None
    view = (planes, shape[high], shape[low], inner)
    if lines_first:
        return _Step(view, number + 1, number, LINES_FIRST)
    return _Step(view, number, number + 1, ROWS_FIRST)


def _run_step(
    source: Array,
    into: Array,
    step: _Step,
    lines: Sequence[Line],
    cval: float,
    combination: int,
    computed: np.dtype[Any] | None = None,
) -> None:
    """Run one call of the kernel."""
    if computed is None:
        computed = _computed_dtype(source.dtype, into.dtype, lines[:1], cval)
    if computed.kind == "u":  # A `cval` that is beyond these integers is not looked at.
        cval = int(cval) if abs(cval) < LARGEST else 0
    constant = constant_of(cval, computed)

    def described(number: int | None, length: int) -> tuple[Any, ...] | None:
        if number is None:
            return None
        taps, _, mode, origin = lines[number]
        before, after = extents(taps.size, origin)
        sources = source_indices(length, before, after, mode)
        symmetry = taps.symmetry
        if taps.is_second_difference and into.dtype == FLOAT32 == computed:
            symmetry = 2
        return taps.of(computed), taps.weights, taps.margin, symmetry, sources, before

    _, height, width, _ = step.shape
    _kernels.separable.correlate(
        source.reshape(step.shape),
        into.reshape(step.shape),
        described(step.vertical, height),
        described(step.horizontal, width),
        step.order,
        combination,
        constant,
        _threads.count(),
    )
