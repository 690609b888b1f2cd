"""Where the results of a graph lie: in one block of memory, which they share in turn."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

from fastconv._arrays import Array, Shape
from fastconv.inference._graph import Graph, Step
from fastconv.inference._operations import Concatenate, Reshape

LINE_BYTES = 64
"""Arrays begin at multiples of a cache line."""


class Block:
    """Memory of a result, of those that are parts of it, and of those that take its place.

    Attributes
    ----------
    shape : tuple of int
        Shape of the whole, without the batch.
    first, last : int
        The numbers of the steps that write to it first, and read it last.
    offset : int
        Number of bytes from the start of the memory of all blocks.
    """

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.first, self.last = -1, -1
        self.offset = 0

    def include(self, first: int, last: int) -> None:
        """Keep the block from the writing of a result until its last use."""
        self.first = first if self.first < 0 else min(self.first, first)
        self.last = max(self.last, last)

    def overlaps(self, other: Block) -> bool:
        """Tell whether both are in use at the same time."""
        return self.first <= other.last and other.first <= self.last


class MemoryPlan:
    """Blocks for the results of all steps of a graph, for batches of one size.

    The blocks of the input and of the result are the caller's own.

    Attributes
    ----------
    blocks : dict of Step to Block
        Where each result lies.
    size : int
        Number of bytes of all blocks that are not the caller's.
    """

    def __init__(self, graph: Graph, batch: int, itemsize: int) -> None:
        self.blocks: dict[Step, Block] = {}
        self._places = _places(graph)
        order = {step: i for i, step in enumerate(graph.steps)}
        last = {step: order[step] for step in graph.steps}
        for step in graph.steps:
            for source in step.inputs:
                last[source] = max(last[source], order[step])
        last[graph.output] = len(graph.steps)
        for step in graph.steps:
            self._block_of(step).include(order[step], last[step])
        for step in graph.steps:
            self._take_over(step, order[step], batch, self.blocks[graph.input])
        outer = self.blocks[graph.input], self.blocks[graph.output]
        inner = [block for block in dict.fromkeys(self.blocks.values()) if block not in outer]
        self.size = _arrange(inner, batch * itemsize)

    def view(self, step: Step, whole: Array) -> Array:
        """Return a step's result as a view of the array of its block."""
        if step in self._places:
            parent, channels = self._places[step]
            return self.view(parent, whole)[:, channels]
        return whole.reshape(len(whole), *step.shape)

    def _block_of(self, step: Step) -> Block:
        """Return the block of a step's result, which may be a part of another one."""
        if step not in self.blocks:
            if step in self._places:
                self.blocks[step] = self._block_of(self._places[step][0])
            elif isinstance(step.operation, Reshape):
                self.blocks[step] = self._block_of(step.inputs[0])
            else:
                self.blocks[step] = Block(step.shape)
        return self.blocks[step]

    def _take_over(self, step: Step, now: int, batch: int, source: Block) -> None:
        """Let a result take the place of what is added to it, if that is read for the last time.

        A convolution must not overwrite its images, which are also what is added where a single
        convolution is the body of a residual connection.
        """
        shapes = [source.shape for source in step.inputs]
        if not step.operation.replaces_last(batch, *shapes):
            return
        *others, added = step.inputs
        old, new = self.blocks[added], self.blocks[step]
        is_whole = added not in self._places and prod(old.shape) == prod(new.shape)
        if not is_whole or old is new or old is source or old.last != now:
            return
        if any(self.blocks[other] is old for other in others):
            return
        old.include(new.first, new.last)
        for other, block in self.blocks.items():
            if block is new:
                self.blocks[other] = old


def _places(graph: Graph) -> dict[Step, tuple[Step, slice]]:
    """Find what is written to a part of what it is joined to, and to which channels."""
    places = {}
    for step in graph.steps:
        if isinstance(step.operation, Concatenate):
            first = 0
            for i, source in enumerate(step.inputs):
                if i in step.operation.placed:
                    places[source] = step, slice(first, first + source.shape[0])
                first += source.shape[0]
    return places


def _arrange(blocks: Iterable[Block], bytes_per_number: int) -> int:
    """Choose offsets so that blocks in use at the same time lie apart; return the whole size.

    The largest come first, and each goes to the first gap that is large enough.
    """
    placed: list[tuple[int, int, Block]] = []
    size = 0
    for block in sorted(blocks, key=lambda block: -prod(block.shape)):
        needed = -(-prod(block.shape) * bytes_per_number // LINE_BYTES) * LINE_BYTES
        offset = 0
        for begin, end, other in placed:
            if begin >= offset + needed:
                break
            if block.overlaps(other):
                offset = max(offset, end)
        block.offset = offset
        placed.append((offset, offset + needed, block))
        placed.sort(key=lambda part: part[0])
        size = max(size, offset + needed)
    return size
