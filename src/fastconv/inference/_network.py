"""A network that only computes scores, as fast as it can."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastconv import _kernels, _precision
from fastconv._arrays import Array
from fastconv._classifier import Classifier
from fastconv._errors import named
from fastconv.inference._lowering import graph_of
from fastconv.inference._passes import simplify
from fastconv.inference._program import Pool, Program

if TYPE_CHECKING:
    from fastconv.models import Sequential


@named
class InferenceNetwork(Classifier):
    """A twin of a network that computes its scores faster, and cannot be trained.

    `fastconv.models.Sequential.optimized` makes it. It holds copies of the parameters as they were.
    Several threads may use it at the same time.

    Parameters
    ----------
    network : Sequential
        The network whose scores it computes.

    Attributes
    ----------
    input_dim, output_dim : tuple of int
        Shapes of one input and of its scores.
    dtype : dtype
        What inputs are converted to, and scores are of.
    graph : Graph
        The steps of the computation.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.models import SimpleConvNet
    >>> twin = SimpleConvNet(seed=0).optimized()
    >>> twin
    InferenceNetwork(input (1, 28, 28), output (10,), 5 steps)
    >>> twin.predict(np.zeros((5, 1, 28, 28))).shape
    (5, 10)
    """

    def __init__(self, network: Sequential) -> None:
        self.input_dim, self.output_dim = network.input_dim, network.output_dim
        self.dtype = network.dtype
        self.graph = graph_of(network)
        simplify(self.graph)
        self._pool = Pool()

    def __repr__(self) -> str:
        """Summarise the network in a line."""
        return (
            f"{type(self).__name__}(input {self.input_dim}, output {self.output_dim}, "
            f"{len(self.graph.steps) - 1} steps)"
        )

    def __getstate__(self) -> dict[str, Any]:
        """Leave the memory of results out of pickles and copies."""
        return {**vars(self), "_pool": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Begin without programs."""
        vars(self).update(state, _pool=Pool())

    def predict(self, x: npt.ArrayLike) -> Array:
        """Compute the scores of inputs.

        Parameters
        ----------
        x : array_like, shape (N, *input_dim)
            Inputs.

        Returns
        -------
        ndarray, shape (N, *output_dim)
            Scores, to which no softmax has been applied.

        Raises
        ------
        TypeError, ValueError
            If the inputs are no numbers or of another shape.
        """
        array = np.ascontiguousarray(self._inputs(x))
        if not len(array):
            return np.empty((0, *self.output_dim), self.dtype)
        program = self.take_program(len(array))
        try:
            return program.run(array)
        finally:
            self.give_back(program)

    def take_program(self, batch: int) -> Program:
        """Return what computes batches of a size; nobody else uses it until it is given back."""
        key = batch, _precision.get_precision(), _kernels.level
        return self._pool.take(key, lambda: Program(self.graph, batch, key))

    def give_back(self, program: Program) -> None:
        """Keep a program for the next batch of its size."""
        self._pool.give_back(program)

    @property
    def nbytes(self) -> int:
        """Size of all weights."""
        return sum(int(step.operation.nbytes) for step in self.graph)

    def multiply_adds(self) -> int:
        """Count the multiply-adds of convolutions and products for one input."""
        return sum(
            int(step.operation.multiply_adds(*(source.shape for source in step.inputs)))
            for step in self.graph
        )
