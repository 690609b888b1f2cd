"""One step of Adam over all parameters of a network: the case, and who computes it."""

from collections.abc import Callable
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from bench import textbook
from bench.cases import Array, Contender, relative_rms
from bench.networks import KINDS
from bench.shapes import UpdateTask
from fastconv.training import Adam

# Parameters may differ by this much after a first step, which changes them by 1e-3.
TOLERANCE = 1e-6


class UpdateCase:
    """What `Case` is for layers: parameters and gradients, and the parameters after one step."""

    flops = 0  # Nobody counts them, because memory is the limit.
    has_columns = True

    def __init__(self, operation: str, task: UpdateTask, dtype: str = "float32") -> None:
        self.operation, self.workload, self.dtype = operation, task, dtype

    @cached_property
    def params(self) -> list[Array]:
        """The parameters of the network, which contenders copy before they change them."""
        net = KINDS[self.workload.network](seed=0)
        return [array.astype(self.dtype, copy=False) for array in net.params.values()]

    @cached_property
    def grads(self) -> list[Array]:
        """Numbers from 1 on: what is added to roots counts for nothing beside them."""
        rng = np.random.default_rng(0)
        values = (rng.standard_normal(param.shape, np.float32) for param in self.params)
        return [(value + np.copysign(1, value)).astype(self.dtype) for value in values]

    @property
    def expected(self) -> tuple[Array, ...]:
        return tuple(Textbook(self).step())

    def for_errors(self, dtype: str = "float32") -> "UpdateCase":
        return UpdateCase(self.operation, UpdateTask("lenet"), dtype)

    def errors(self, results: tuple[Array, ...], exact: tuple[Array, ...]) -> list[float]:
        return [max(map(relative_rms, results, exact))]

    def agrees(self, results: tuple[Array, ...], expected: tuple[Array, ...]) -> bool:
        return all(
            got.shape == want.shape and np.allclose(got, want, 0, TOLERANCE)
            for got, want in zip(results, expected, strict=True)
        )

    @cached_property
    def moved(self) -> tuple[int, int]:
        """Bytes that are read (parameters, gradients and two means) and written (all but one)."""
        count = sum(param.nbytes for param in self.params)
        return 4 * count, 3 * count


class Update(Protocol):
    """A case's parameters, and Adam with its defaults, in one library."""

    def step(self) -> list[Any]:
        """Change the parameters and return them."""


def contender(name: str, case: UpdateCase, library: Callable[[UpdateCase], Update]) -> Contender:
    def results(returned: list[Any]) -> tuple[Array, ...]:
        return tuple(map(np.asarray, returned))

    return Contender(name, "fresh", library(case).step, results)


class Ours:
    def __init__(self, case: UpdateCase) -> None:
        self.rule = Adam()
        self.params = {str(i): param.copy() for i, param in enumerate(case.params)}
        self.grads = {str(i): grad for i, grad in enumerate(case.grads)}

    def step(self) -> list[Any]:
        self.rule.update(self.params, self.grads)
        return list(self.params.values())


class Textbook:
    """The rule of a course on NumPy, array by array."""

    def __init__(self, case: UpdateCase) -> None:
        self.params, self.grads = [param.copy() for param in case.params], case.grads
        self.means = [(np.zeros_like(param), np.zeros_like(param)) for param in self.params]
        self.steps = 0

    def step(self) -> list[Any]:
        self.steps += 1
        for param, grad, (m, v) in zip(self.params, self.grads, self.means, strict=True):
            textbook.adam(param, grad, m, v, self.steps)
        return self.params
