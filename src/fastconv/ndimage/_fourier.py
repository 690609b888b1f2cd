"""When correlation by Fourier transforms pays, and how far its results can be trusted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from math import ceil, log2, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastconv import _kernels, _threads

if TYPE_CHECKING:
    from fastconv.ndimage._correlation import Problem

Array = npt.NDArray[Any]

SIZES = (32, 64, 128, 256, 512, 1024)
"""The heights and widths of tiles."""
LARGEST_CHECKED = 256
"""The largest height and width of tiles of integers, if the kernel is at most half as large: the
bound of the error grows with a tile's size, and with it the number of pixels to compute again."""
ROUNDING = 2.0**-53
STEP_ERROR = 10.0
"""The most units of rounding that a step of radix 2 adds to the 2-norm of a transform.

N. J. Higham, "Accuracy and Stability of Numerical Algorithms", theorem 24.2, has 7 for roots of
unity that are rounded correctly."""
PRODUCTS = {"float": 18.0, "double": 10.0, "order": 5.0, "integer": 3.0}
"""How many products of a direct correlation take the time that is the unit of `_cost`."""
LEAST_STEPS = 10
TRANSFORMED = 0.75
"""How much of that time a number of a tile takes for each step of radix 2, of which the smallest
tile has LEAST_STEPS."""
LARGEST = 1e100
"""Larger weights are not transformed."""


_is_off: ContextVar[bool] = ContextVar("is_off", default=False)


@contextmanager
def never() -> Iterator[None]:
    """Compute no floats by transforms in a ``with`` block.

    Two tiles are transformed as one, so that the last bits of a tile depend on what lies in another
    one, and with it on where an image is cut.
    """
    token = _is_off.set(True)
    try:
        yield
    finally:
        _is_off.reset(token)


def tile_for(problem: Problem) -> tuple[int, int] | None:
    """Return the height and width of tiles, or None for what is better computed directly."""
    if _is_off.get() and problem.out.dtype.kind == "f":
        return None
    planes, height, width = problem.weights.shape
    products = planes * height * width / PRODUCTS[problem.arithmetic.name]
    # No number takes fewer than LEAST_STEPS, half in each direction and two tiles at once.
    least = (planes + 1) / 2 * LEAST_STEPS * TRANSFORMED
    if problem.step != 1 or min(height, width) < 2 or products <= least:
        return None
    sizes: tuple[int, ...] = SIZES
    if problem.out.dtype.kind != "f" and max(height, width) <= LARGEST_CHECKED // 2:
        sizes = tuple(size for size in SIZES if size <= LARGEST_CHECKED)
    tile = min(
        ((h, w) for h in sizes for w in sizes if h >= height and w >= width),
        key=lambda tile: _cost(problem, *tile),
        default=None,
    )
    if tile is None:
        return None
    if _cost(problem, *tile) >= products * problem.out.size or not _is_safe(problem, tile):
        return None
    return tile


def _cost(problem: Problem, h: int, w: int) -> float:
    """Estimate the time of tiles of a size, in cycles."""
    count, height, width = problem.weights.shape
    planes, out_h, out_w = problem.out.shape
    tiles = planes * ceil(out_h / (h - height + 1)) * ceil(out_w / (w - width + 1))
    # Two tiles are transformed at once; the kernel's planes are transformed, too.
    transforms = ceil(tiles / 2) * (count + 1) + count
    slow = 1.0 if h * w <= 128 * 128 else 1.1  # Larger tiles do not stay in L2.
    return float(transforms * h * w * log2(h * w) * TRANSFORMED * slow)


def _is_safe(problem: Problem, tile: tuple[int, int]) -> bool:
    """Tell whether errors are small enough, for all inputs that are not reported."""
    weights = problem.weights
    if not np.abs(weights).max() < LARGEST or not abs(float(problem.constant)) < LARGEST:
        return False
    if problem.out.dtype.kind == "f":
        return True
    if problem.array.dtype.kind == "f":
        return False
    return _error(problem, tile) < (0.45 if _is_integral(problem) else 1e-3)


def _is_integral(problem: Problem) -> bool:
    """Tell whether all sums are integers."""
    weights, constant = problem.weights, float(problem.constant)
    return bool((weights == np.rint(weights)).all()) and constant == np.rint(constant)


def _error(problem: Problem, tile: tuple[int, int]) -> float:
    """Bound the error of sums of integers, against the exact sum or SciPy's.

    With t steps, the transforms of inputs, of the kernel and of the product have errors of t *
    STEP_ERROR units of rounding in the 2-norm. The spectrum of the kernel is at most the sum of its
    absolute values, and has an error of at most its 2-norm times that of the tile's size.
    """
    array, weights = problem.array, problem.weights.astype(np.float64)
    if array.dtype.kind == "b":
        largest = 1.0
    elif array.dtype.itemsize <= 2:
        limits = np.iinfo(array.dtype)
        largest = float(max(-int(limits.min), int(limits.max)))
    else:
        largest = max(float(array.max()), -float(array.min()))
    largest = max(largest, abs(float(problem.constant)))
    numbers = tile[0] * tile[1]
    steps = log2(numbers) * STEP_ERROR + 4
    one_norm = float(np.abs(weights).sum())
    two_norms = float(np.sqrt((weights**2).sum(axis=(1, 2))).sum())
    # Both tiles of a pair are parts of one complex tile.
    inputs = largest * sqrt(2 * numbers)
    error = inputs * steps * ROUNDING * (2 * one_norm + sqrt(numbers) * two_norms)
    added = (weights.size + len(weights)) * ROUNDING * one_norm * largest
    return 1.01 * (error + added)


def correlate(problem: Problem, tile: tuple[int, int]) -> Iterator[tuple[int, slice, slice]]:
    """Correlate by tiles, and return the planes, rows and columns that have to be done directly."""
    _, height, width = problem.weights.shape
    planes, out_h, out_w = problem.out.shape
    h, w = tile[0] - height + 1, tile[1] - width + 1
    failed = np.zeros((planes, ceil(out_h / h), ceil(out_w / w)), np.uint8)
    is_float = problem.out.dtype.kind == "f"
    rounds = not is_float and _is_integral(problem)
    _kernels.fourier.correlate(
        problem.array,
        problem.out,
        problem.lead,
        np.ascontiguousarray(problem.rows.sources),
        np.ascontiguousarray(problem.columns.sources),
        problem.columns.before,
        problem.weights.astype(np.float64, order="C", copy=False),
        np.array([problem.constant]).astype(np.float64),
        _roots(tile[0]),
        _roots(tile[1]),
        problem.wraps,
        rounds,
        0.0 if is_float or rounds else _error(problem, tile),
        failed,
        _threads.count(),
    )
    for plane, i, j in np.argwhere(failed):
        y, x = slice(i * h, min(i * h + h, out_h)), slice(j * w, min(j * w + w, out_w))
        yield int(plane), y, x


@lru_cache(maxsize=16)
def _roots(n: int) -> Array:
    """Return the cosines and then the sines of the multiples of a circle's n-th part."""
    angles = np.arange(n, dtype=np.longdouble) * (8 * np.arctan(np.longdouble(1)) / n)
    return np.concatenate([np.cos(angles), np.sin(angles)]).astype(np.float64)
