"""A network that only computes scores, as fast as it can."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fastconv import _kernels, _precision
from fastconv._arrays import Array
from fastconv._errors import named
from fastconv.inference._lowering import graph_of
from fastconv.inference._passes import simplify
from fastconv.inference._program import Program

if TYPE_CHECKING:
    from fastconv.models import Sequential

KEPT_PROGRAMS = 4
"""The largest number of programs that are kept, each for a size of batches."""


@named
class InferenceNetwork:
    """A twin of a network that computes its scores faster, and cannot be trained.

    `fastconv.models.Sequential.optimized` makes it. It holds copies of the parameters as they were.

    Attributes
    ----------
    input_dim, output_dim : tuple of int
        Shapes of one input and of its scores.
    dtype : dtype
        What inputs are converted to, and scores are of.
    """

    def __init__(self, network: Sequential) -> None:
        self.input_dim, self.output_dim = network.input_dim, network.output_dim
        self.dtype = network.dtype
        self.graph = graph_of(network)
        simplify(self.graph)
        self._programs: dict[tuple[object, ...], list[Program]] = {}

    def program(self, batch: int) -> Program:
        """Return what computes batches of a size; nobody else uses it until it is given back."""
        idle = self._programs.get(self._key(batch))
        return idle.pop() if idle else Program(self.graph, batch, self.dtype)

    def predict(self, x: npt.ArrayLike) -> Array:
        """Compute the scores of inputs."""
        array = np.ascontiguousarray(x, self.dtype)
        program = self.program(len(array))
        try:
            return program.run(array)
        finally:
            self._programs.setdefault(self._key(len(array)), []).append(program)

    @property
    def nbytes(self) -> int:
        """Size of all weights."""
        return sum(step.operation.nbytes for step in self.graph)

    @property
    def multiply_adds(self) -> int:
        return sum(
            step.operation.multiply_adds(*(source.shape for source in step.inputs))
            for step in self.graph
        )

    def _key(self, batch: int) -> tuple[object, ...]:
        """Name all that a program depends on."""
        return batch, _precision.get_precision(), _kernels.level
