"""A graph for batches of one size: prepared steps, and the memory of their results."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from fastconv._arrays import Array
from fastconv._memory import new_array
from fastconv.inference._graph import Graph, Step
from fastconv.inference._memory_plan import LINE_BYTES, Block, MemoryPlan
from fastconv.inference._operations import Runner

KEPT_PROGRAMS = 4
"""The largest number of idle programs that are kept, each with the memory of its results."""


class Prepared(NamedTuple):
    """A step, what computes it, and the numbers of the arrays that it reads and writes."""

    step: Step
    run: Runner
    inputs: tuple[int, ...]
    out: int


class Pool:
    """Programs that nobody uses, for threads that take one each and give it back."""

    def __init__(self) -> None:
        self._idle: list[Program] = []
        """The last used one is last."""
        self._lock = threading.Lock()

    def take(self, key: object, make: Callable[[], Program]) -> Program:
        """Return a program with a key; nobody else uses it until it is given back."""
        with self._lock:
            for i in reversed(range(len(self._idle))):
                if self._idle[i].key == key:
                    return self._idle.pop(i)
        return make()

    def give_back(self, program: Program) -> None:
        """Keep a program for the next use of its key, and forget the one used least recently."""
        with self._lock:
            self._idle.append(program)
            del self._idle[:-KEPT_PROGRAMS]


class Program:
    """What computes batches of one size, one after the other.

    Attributes
    ----------
    batch : int
        Number of inputs.
    key : object
        What the caller looks for when it needs a program.
    steps : list of Prepared
        The steps in the order in which they are run.
    memory_bytes : int
        Size of the memory of all results but the last.
    """

    def __init__(self, graph: Graph, batch: int, key: object = None) -> None:
        self.key = key
        dtype = graph.dtype
        self._graph, self.batch, self._dtype = graph, batch, dtype
        self._plan = MemoryPlan(graph, batch, dtype.itemsize)
        self.memory_bytes = self._plan.size
        self._memory = _aligned(self._plan.size)
        blocks = self._plan.blocks
        source, result = blocks[graph.input], blocks[graph.output]
        wholes = {block: self._whole(block) for block in set(blocks.values()) - {source, result}}
        wholes[source] = np.empty((batch, *source.shape), dtype)
        wholes[result] = new_array((batch, *result.shape), dtype)
        self._arrays = [self._plan.view(step, wholes[blocks[step]]) for step in graph.steps]
        self._of_caller = [
            (i, step, blocks[step] is not source)
            for i, step in enumerate(graph.steps)
            if blocks[step] in (source, result)
        ]
        self.steps = list(self._prepared())

    def run(self, x: Array) -> Array:
        """Compute the result of a batch, contiguous and of the network's dtype."""
        arrays = self.arrays_for(x)
        for _, run, inputs, out in self.steps:
            run([arrays[i] for i in inputs], arrays[out])
        return self.result(arrays, x)

    def arrays_for(self, x: Array) -> list[Array]:
        """Return the arrays of all steps, of which those of the caller are new."""
        arrays = list(self._arrays)
        result = self._plan.blocks[self._graph.output]
        new = new_array((self.batch, *result.shape), self._dtype)
        for i, step, is_result in self._of_caller:
            arrays[i] = self._plan.view(step, new if is_result else x)
        return arrays

    def result(self, arrays: list[Array], x: Array) -> Array:
        """Return the last array, or a copy if it is a view of the input: nothing but reshaped."""
        last = arrays[-1]
        return last.copy() if np.may_share_memory(last, x) else last

    def _prepared(self) -> Iterator[Prepared]:
        number = {step: i for i, step in enumerate(self._graph.steps)}
        for out, step in enumerate(self._graph, 1):
            inputs = tuple(number[source] for source in step.inputs)
            run = step.operation.prepare([self._arrays[i] for i in inputs], self._arrays[out])
            yield Prepared(step, run, inputs, out)

    def _whole(self, block: Block) -> Array:
        """View a block of the memory as an array."""
        size = self.batch * int(np.prod(block.shape)) * self._dtype.itemsize
        part = self._memory[block.offset : block.offset + size]
        return part.view(self._dtype).reshape(self.batch, *block.shape)


def _aligned(size: int) -> Array:
    """Return memory that begins with a cache line."""
    memory = new_array((size + LINE_BYTES,), np.dtype(np.uint8))
    skipped = -memory.ctypes.data % LINE_BYTES
    return memory[skipped : skipped + size]
