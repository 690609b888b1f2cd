"""What lies beyond the borders of an array, in SciPy's words."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

CONSTANT = -1
"""Stands in `source_indices` for a position that shows the constant `cval`."""


@lru_cache(maxsize=64)
def source_indices(length: int, before: int, after: int, mode: str) -> NDArray[np.intp]:
    """Return which element each position of an extended axis shows.

    Parameters
    ----------
    length : int
        The number of elements of the axis, at least 1.
    before, after : int
        The numbers of positions in front of the first and behind the last element.
    mode : str
        One of SciPy's modes in the form that `_arguments.read_modes` returns: "reflect" (d c b a |
        a b c d), "mirror" (d c b | a b c d), "nearest", "wrap" or "constant". Positions further
        away than the array is long continue its reflections and repetitions periodically.

    Returns
    -------
    ndarray of intp, shape (before + length + after,)
        Indices from 0 to length - 1, or `CONSTANT`. The array is read-only, because it is kept.
    """
    positions = np.arange(-before, length + after, dtype=np.intp)
    sources: NDArray[np.intp] = _MODES[mode](positions, length)
    sources.flags.writeable = False
    return sources


@lru_cache(maxsize=64)
def end_indices(length: int, before: int, after: int, mode: str) -> NDArray[np.intp]:
    """Return which element each position beyond the ends of an axis shows.

    That is what `source_indices` returns, without the positions of the axis itself: their number
    does not depend on its length.
    """
    positions = np.concatenate([np.arange(-before, 0), np.arange(length, length + after)])
    sources: NDArray[np.intp] = _MODES[mode](positions.astype(np.intp), length)
    sources.flags.writeable = False
    return sources


def _constant(positions: NDArray[np.intp], length: int) -> NDArray[np.intp]:
    inside = (positions >= 0) & (positions < length)
    return np.where(inside, positions, CONSTANT)


def _nearest(positions: NDArray[np.intp], length: int) -> NDArray[np.intp]:
    return np.clip(positions, 0, length - 1)


def _wrap(positions: NDArray[np.intp], length: int) -> NDArray[np.intp]:
    return positions % length


def _reflect(positions: NDArray[np.intp], length: int) -> NDArray[np.intp]:
    folded = positions % (2 * length)
    return np.minimum(folded, 2 * length - 1 - folded)


def _mirror(positions: NDArray[np.intp], length: int) -> NDArray[np.intp]:
    if length == 1:
        return np.zeros_like(positions)
    folded = positions % (2 * length - 2)
    return np.minimum(folded, 2 * length - 2 - folded)


_MODES: dict[str, Any] = {
    "constant": _constant,
    "nearest": _nearest,
    "wrap": _wrap,
    "reflect": _reflect,
    "mirror": _mirror,
}
