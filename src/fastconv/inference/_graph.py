"""A network as a list of steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastconv._arrays import Shape
from fastconv.inference._operations import Input, Operation


@dataclass(eq=False)
class Step:
    """An operation on what other steps give; the first step of a graph is its input."""

    name: str
    operation: Operation
    inputs: list[Step]
    shape: Shape
    """Shape of the result, without the batch."""


class Graph:
    """Steps in an order in which they can be computed. The last one gives the result.

    All arrays are of one dtype.
    """

    def __init__(self, input_shape: Shape, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype
        self.steps = [Step("input", Input(input_shape), [], input_shape)]

    @property
    def input(self) -> Step:
        """The step that stands for the caller's inputs."""
        return self.steps[0]

    @property
    def output(self) -> Step:
        """The step whose result is that of the graph."""
        return self.steps[-1]

    def add(self, name: str, operation: Operation, *inputs: Step) -> Step:
        """Append a step."""
        shape = operation.shape(*(step.shape for step in inputs))
        step = Step(name, operation, list(inputs), shape)
        self.steps.append(step)
        return step

    def users(self, step: Step) -> list[Step]:
        """List the steps that read a step's result."""
        return [other for other in self.steps if step in other.inputs]

    def move(self, step: Step, before: Step) -> None:
        """Compute a step later, just before another one."""
        self.steps.remove(step)
        self.steps.insert(self.steps.index(before), step)

    def replace(self, step: Step, by: Step) -> None:
        """Take a step away; the steps that read its result read that of another step instead."""
        for other in self.steps:
            other.inputs = [by if source is step else source for source in other.inputs]
        self.steps.remove(step)

    def __iter__(self) -> Iterator[Step]:
        """Go through the steps that compute."""
        return iter(self.steps[1:])
