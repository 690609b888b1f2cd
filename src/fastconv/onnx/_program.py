"""What a session runs: calls of functions on numbered values, which are freed after their last use.

A program is never changed once it is made, and keeps no arrays but constants, so that any number
of threads can run it at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from fastconv._arrays import Array
from fastconv.onnx._checks import Memory
from fastconv.onnx._table import Function


@dataclass
class Call:
    """A function of named values.

    Attributes
    ----------
    label : str
        What errors call it.
    name : str
        What tables call it.
    op : str
        Name of the operator, or of those that it does the work of.
    function : callable
        What computes.
    inputs, outputs : tuple of str
        Names of values; an empty one stands for nothing.
    attributes : dict
        Attributes of the operator.
    """

    label: str
    name: str
    op: str
    function: Function
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    def run(self, arrays: Sequence[Any], memory: Memory | None = None) -> tuple[Array, ...]:
        """Compute, and return as many arrays as there are outputs.

        Raises
        ------
        ValueError, NotImplementedError
            If the inputs are not for the operator, or the results that are wanted do not fit into
            memory beside others, with the name of the node.
        """
        try:
            results: Any = self.function(*arrays)
        except MemoryError as error:
            raise MemoryError(f"{self.label}: {error}") from error
        except NotImplementedError as error:
            raise NotImplementedError(f"{self.label}: {error}") from error
        except (ValueError, TypeError, LookupError, ArithmeticError) as error:
            raise ValueError(f"{self.label}: {error}") from error
        found: tuple[Array, ...] = results if isinstance(results, tuple) else (results,)
        if len(found) < len(self.outputs):
            text = f"{len(self.outputs)} outputs are wanted, but there are {len(found)}"
            raise ValueError(f"{self.label}: {text}")
        if memory is not None:
            try:
                for name, array in zip(self.outputs, found):
                    if name:
                        memory.add(array)
            except ValueError as error:
                raise ValueError(f"{self.label}: {error}") from None
        return found


class Numbered(NamedTuple):
    """A call, and the numbers of the values that it reads, writes, and is the last to read."""

    call: Call
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    freed: tuple[int, ...]


class StepTime(NamedTuple):
    """How long a step takes."""

    name: str
    operator: str
    algorithm: str
    """How it is computed, if there are several ways."""
    result: str
    """The shapes of its results."""
    seconds: float


NOTHING = 0
"""The number of the value that a missing input has, which is always None."""


class Program:
    """Calls in the order in which they are run.

    Parameters
    ----------
    calls : iterable of Call
        Calls, each behind those whose results it reads.
    constants : mapping of str to array
        Values that are there from the beginning.
    inputs, outputs : sequence of str
        Names of what a caller gives and gets.
    """

    def __init__(
        self,
        calls: Iterable[Call],
        constants: Mapping[str, Any],
        inputs: Sequence[str],
        outputs: Sequence[str],
    ) -> None:
        calls = list(calls)
        self.numbers: dict[str, int] = {"": NOTHING}
        used = {name for call in calls for name in call.inputs} | set(outputs)
        for name in [*inputs, *(name for name in constants if name in used)]:
            self.numbers.setdefault(name, len(self.numbers))
        for call in calls:
            for name in call.outputs:
                self.numbers.setdefault(name, len(self.numbers))
        self._start: list[Any] = [None] * len(self.numbers)
        for name, value in constants.items():
            if name in self.numbers:
                self._start[self.numbers[name]] = value
        self.outputs = [self.numbers[name] for name in outputs]
        self.steps = list(self._numbered(calls, {*inputs, *constants, *outputs}))

    def _numbered(self, calls: list[Call], kept: set[str]) -> Iterator[Numbered]:
        last = {name: i for i, call in enumerate(calls) for name in (*call.outputs, *call.inputs)}
        for i, call in enumerate(calls):
            names = dict.fromkeys((*call.inputs, *call.outputs))
            freed = (name for name in names if last[name] == i and name and name not in kept)
            yield Numbered(
                call,
                tuple(self.numbers[name] for name in call.inputs),
                tuple(self.numbers[name] for name in call.outputs),
                tuple(self.numbers[name] for name in freed),
            )

    @property
    def calls(self) -> list[Call]:
        """The calls in their order."""
        return [step.call for step in self.steps]

    def values(self, feeds: Mapping[str, Array]) -> list[Any]:
        """Return the list of all values, of which those of the caller and constants are there."""
        values = list(self._start)
        for name, array in feeds.items():
            values[self.numbers[name]] = array
        return values

    def run(self, values: list[Any], watch: Callable[[Numbered], None] | None = None) -> None:
        """Compute all values in their list; free those that are not needed any more.

        What watches is told of every step before its values are freed.

        Raises
        ------
        ValueError, NotImplementedError
            If a call has other inputs than it takes, or values take more memory than there is.
        """
        memory = Memory()
        for step in self.steps:
            results = step.call.run([values[i] for i in step.inputs], memory)
            for i, array in zip(step.outputs, results):
                values[i] = array
            values[NOTHING] = None
            if watch is not None:
                watch(step)
            for i in step.freed:
                memory.remove(values[i])
                values[i] = None

    def times(self, feeds: Mapping[str, Array], rounds: int) -> list[StepTime]:
        """Return the median time of every call."""
        spent: list[list[float]] = [[] for _ in self.steps]
        shapes: dict[int, str] = {}
        for _ in range(1 + rounds):
            values, clock = self.values(feeds), [time.perf_counter()]

            def watch(step: Numbered, values: list[Any] = values, clock: Any = clock) -> None:
                clock.append(time.perf_counter())
                found = [values[i].shape for i in step.outputs if i != NOTHING]
                shapes[id(step.call)] = ", ".join(map(str, found))

            self.run(values, watch)
            for column, begin, end in zip(spent, clock, clock[1:]):
                column.append(end - begin)
        return [
            StepTime(call.name, call.op, "", shapes[id(call)], float(np.median(column[1:])))
            for call, column in zip(self.calls, spent)
        ]


def owned(array: Array, others: Iterable[Array]) -> Array:
    """Return a contiguous array that shares no memory with others or with constants.

    Constants are read-only, and so is every view of them.
    """
    shares = not array.flags.writeable or any(np.may_share_memory(array, other) for other in others)
    return array.copy("C") if shares or not array.flags.c_contiguous else array
