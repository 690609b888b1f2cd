"""Dask arrays whose chunks are computed from boxes of another array.

The graph has three kinds of tasks: the work, which all chunks share and workers get once; slices of
the source's chunks, so that no whole chunk travels for the sake of its border; and a task for each
chunk of the result, which puts slices together and computes.
"""

from __future__ import annotations

import multiprocessing
import operator
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from typing import Any, TypeAlias

import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from fastconv import _precision, _threads
from fastconv._arrays import Array
from fastconv._errors import argument_error
from fastconv._memory import new_array

Interval: TypeAlias = tuple[int, int]
Box: TypeAlias = tuple[Interval, ...]
Chunks: TypeAlias = tuple[tuple[int, ...], ...]
Work: TypeAlias = Callable[[Array, Box, Box], Array]
"""From an array, the box of the source that it is, and a box of the result, to that box."""


def is_lazy(x: Any) -> bool:
    """Tell whether something is a Dask array."""
    return isinstance(x, da.Array)


def checked(x: Any, name: str) -> Any:
    """Return a Dask array whose shape is known."""
    if not is_lazy(x):
        raise argument_error(
            TypeError, f"{name} must be a dask.array.Array, got {type(x).__name__}"
        )
    if any(np.isnan(size) for size in x.shape):
        raise argument_error(
            ValueError,
            f"{name} must have chunks of known sizes, got {x.chunks}: call compute_chunk_sizes()",
        )
    return x


def computed(
    what: str,
    x: Any,
    chunks: Chunks,
    needed: Callable[[Box], Box],
    work: Work,
    dtype: Any,
    *identity: Any,
) -> Any:
    """Return the Dask array that work makes of boxes of another one.

    Parameters
    ----------
    what : str
        What the names of tasks begin with.
    x : dask.array.Array
        The source.
    chunks : tuple of tuple of int
        The chunks of the result.
    needed : callable
        From a box of the result to the one of the source that it depends on. Where this reaches
        beyond the ends of the source, the source continues periodically.
    work : callable
        What computes; it is sent to the workers.
    dtype : dtype
        That of the result.
    *identity : objects
        What, besides the source, decides about the numbers.
    """
    name = f"{what}-{tokenize(x.name, chunks, _precision.get_precision(), *identity)}"
    layer: dict[Any, Any] = {f"{name}-work": Constant(work, _precision.get_precision())}
    source = Source(x, name, layer)
    for place in product(*(range(len(axis)) for axis in chunks)):
        box = tuple(bounds(axis)[i] for axis, i in zip(chunks, place))
        wanted = needed(box)
        pieces = source.pieces(wanted)
        layer[(name, *place)] = (_compute, f"{name}-work", pieces, wanted, box)
    graph = HighLevelGraph.from_collections(name, layer, dependencies=[x])
    return da.Array(graph, name, chunks, dtype=dtype)


class Constant:
    """Work, and the precision that was set when its graph was made."""

    def __init__(self, work: Work, precision: Any) -> None:
        self.work, self.precision = work, precision


class Source:
    """The chunks of an array, of which tasks slice what others need."""

    def __init__(self, x: Any, name: str, layer: dict[Any, Any]) -> None:
        self.x, self.name, self.layer = x, f"{name}-slice", layer
        self.bounds = [bounds(axis) for axis in x.chunks]
        self.starts = [np.array([first for first, _ in axis]) for axis in self.bounds]

    def pieces(self, box: Box) -> Any:
        """Return nested lists of the keys of slices that make a box."""
        axes = [list(self._cuts(axis, *interval)) for axis, interval in enumerate(box)]
        return self._nested(axes, ())

    def _cuts(self, axis: int, first: int, last: int) -> Iterator[tuple[int, int, int]]:
        """Cut an interval at the ends of chunks: number of the chunk, and where it is cut."""
        size = self.x.shape[axis]
        while first < last:
            start = first % size
            i = int(np.searchsorted(self.starts[axis], start, side="right")) - 1
            begin, end = self.bounds[axis][i]
            stop = min(end, start + last - first)
            yield i, start - begin, stop - begin
            first += stop - start

    def _nested(self, axes: list[list[tuple[int, int, int]]], chosen: tuple[Any, ...]) -> Any:
        if len(chosen) < len(axes):
            return [self._nested(axes, (*chosen, cut)) for cut in axes[len(chosen)]]
        place = tuple(i for i, _, _ in chosen)
        key = (self.x.name, *place)
        whole = all((a, b) == (0, self.x.chunks[axis][i]) for axis, (i, a, b) in enumerate(chosen))
        if whole:
            return key
        piece = (self.name, *place, *(end for _, a, b in chosen for end in (a, b)))
        if piece not in self.layer:
            index = tuple(slice(a, b) for _, a, b in chosen)
            self.layer[piece] = (operator.getitem, key, index)
        return piece


def bounds(sizes: Sequence[int]) -> list[Interval]:
    """Return where the chunks of an axis begin and end."""
    ends = np.cumsum(sizes).tolist()
    return list(zip([0, *ends[:-1]], ends))


def _compute(constant: Constant, pieces: Any, wanted: Box, box: Box) -> Array:
    """Put pieces together and compute a chunk of the result."""
    array = _joined(pieces, tuple(last - first for first, last in wanted))
    with _one_thread(), _precision.precision(constant.precision), np.errstate(all="ignore"):
        return constant.work(array, wanted, box)


def _joined(pieces: Any, shape: tuple[int, ...]) -> Array:
    """Put nested lists of pieces together: one as it is, several into a new array."""
    first = pieces
    while isinstance(first, list):
        first = first[0]
    one = np.asarray(first)
    if one.shape == shape:
        return one
    whole = new_array(shape, one.dtype)
    _fill(whole, pieces, 0)
    return whole


def _fill(whole: Array, pieces: Any, axis: int) -> None:
    """Copy pieces to an array, from the beginning of an axis and of those behind it."""
    if not isinstance(pieces, list):
        whole[tuple(map(slice, pieces.shape))] = pieces
        return
    at = 0
    for piece in pieces:
        inner = piece
        for _ in range(whole.ndim - axis - 1):
            inner = inner[0]
        _fill(whole[(slice(None),) * axis + (slice(at, None),)], piece, axis + 1)
        at += inner.shape[axis]


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let kernels run on one thread if the scheduler runs several tasks at once.

    Such schedulers run tasks in other threads than the main one, or in other processes.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and multiprocessing.parent_process() is None:
        yield
        return
    with _threads.num_threads(1):
        yield
