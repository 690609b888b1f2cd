"""Networks in training and in use: the case, and who computes it without a library of tensors.

All have the weights of our network, whose layers say how the others are built. A step computes the
loss of a batch and the gradients of all parameters; inference the scores of many batches.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from math import prod
from typing import Any, Protocol

import numpy as np

from bench import textbook
from bench.cases import Array, Contender, relative_rms
from bench.shapes import NetworkTask
from fastconv import layers, models

KINDS: dict[str, Callable[..., models.Sequential]] = {
    "simple": models.SimpleConvNet,
    "deep": models.DeepConvNet,
    "lenet": models.LeNet,
    "alexnet": models.AlexNet,
    "vgg16": models.VGG,
}
# Results may differ by this part of their largest number. Float32 decides between pixels that are
# equal but for rounding, and a gradient that goes to another pixel of a window changes sums of
# gradients by 1e-3.
SCORE_TOLERANCES = {"float32": 1e-5, "float64": 1e-10}
GRADIENT_TOLERANCES = {"float32": 5e-3, "float64": 1e-10}
# Errors are measured with a batch of at most this number of pixels.
ERROR_NUMBERS = 1 << 18
# The loss may differ more: PyTorch does not add the textbook's 1e-7 to probabilities.
LOSS_TOLERANCE = 1e-4


class NetworkCase:
    """What `Case` is for layers: inputs, and the results that every contender must give.

    Dropout is random, so results are compared of the `plain` case: without dropout, and of an
    inference the first batch.
    """

    moved = (0, 0)  # The bytes are unknown, because nobody knows what stays in caches.
    has_columns = True

    def __init__(
        self, operation: str, task: NetworkTask, plain: bool = False, dtype: str = ""
    ) -> None:
        self.operation, self.workload, self.plain = operation, task, plain
        self.dtype = dtype or task.dtype  # The textbook computes in it what is expected.
        self.is_inference = operation == "network_inference"
        # An inference has as many batches as each has images.
        self.count = task.batch if self.is_inference and not plain else 1

    @cached_property
    def net(self) -> models.Sequential:
        net = KINDS[self.workload.network](dtype=self.workload.dtype, seed=0)
        if self.plain:
            for layer in _dropouts(net):
                layer.dropout_ratio = 0.0
        return net

    @cached_property
    def batches(self) -> list[Array]:
        rng = np.random.default_rng(0)
        shape = (self.workload.batch, *self.net.input_dim)
        return [rng.random(shape).astype(self.net.dtype, copy=False) for _ in range(self.count)]

    @cached_property
    def labels(self) -> Array:
        (classes,) = self.net.output_dim
        return np.random.default_rng(1).integers(0, classes, self.workload.batch)

    @property
    def expected(self) -> tuple[Array, ...]:
        """The loss and the gradients in the order of `params`; or the first batch's scores."""
        case = self.without_dropout()
        return _arrays(_call(case, Textbook(case))())

    def without_dropout(self) -> "NetworkCase":
        if self.plain:
            return self
        return NetworkCase(self.operation, self.workload, plain=True, dtype=self.dtype)

    def for_errors(self, dtype: str = "") -> "NetworkCase":
        """Give the plain case with no more images than float64 has memory for."""
        images = max(1, ERROR_NUMBERS // prod(self.net.input_dim))
        task = replace(self.workload, batch=min(self.workload.batch, images))
        return NetworkCase(self.operation, task, plain=True, dtype=dtype)

    def errors(self, results: tuple[Array, ...], exact: tuple[Array, ...]) -> list[float]:
        """Give the scores' error, or the worst of the gradients'.

        The loss's is left out: without the textbook's 1e-7 it is another number.
        """
        first = 0 if self.is_inference else 1
        return [max(map(relative_rms, results[first:], exact[first:]))]

    def agrees(self, results: tuple[Array, ...], expected: tuple[Array, ...]) -> bool:
        dtype = self.workload.dtype
        if self.is_inference:
            tolerances = [SCORE_TOLERANCES[dtype]]
        else:
            tolerances = [LOSS_TOLERANCE] + [GRADIENT_TOLERANCES[dtype]] * (len(expected) - 1)
        return all(
            got.dtype == want.dtype
            and got.shape == want.shape
            and np.allclose(got, want, 0, tolerance * np.abs(want).max())
            for got, want, tolerance in zip(results, expected, tolerances, strict=True)
        )

    @cached_property
    def flops(self) -> int:
        """Operations of the convolutions and products, as in `Case`.

        Backwards there are twice as many, but nobody needs the gradient of the first one's input.
        """
        none = np.empty((0, *self.net.input_dim), self.net.dtype)
        outputs = self.net.activations(none).values()
        forward = [
            2 * prod(output.shape[1:]) * _terms(layer)
            for layer, output in zip(self.net.layers.values(), outputs, strict=True)
            if learned(layer)
        ]
        once = sum(forward) if self.is_inference else 3 * sum(forward) - forward[0]
        return once * self.workload.batch * self.count


class Network(Protocol):
    """A case's network in one library."""

    batches: list[Any]

    def step(self) -> list[Any]:
        """Compute the loss of the first batch and the gradients, in the order of `params`."""

    def scores(self, x: Any) -> Any:
        """Compute those of a batch."""


def contender(name: str, case: NetworkCase, library: Callable[[NetworkCase], Network]) -> Contender:
    network = library(case)

    def results(returned: list[Any]) -> tuple[Array, ...]:
        if case.plain or not _dropouts(case.net):
            return _arrays(returned[:1] if case.is_inference else returned)
        plain = case.without_dropout()
        return _arrays(_call(plain, library(plain))())

    warm_up = (lambda: network.scores(network.batches[0])) if case.is_inference else None
    return Contender(name, "fresh", _call(case, network), results, warm_up=warm_up)


def learned(layer: Any) -> list[Array]:
    return [layer.W, layer.b] if hasattr(layer, "W") else []


def window_of(pooling: Any) -> tuple[int, int, int]:
    return pooling.pool_h, pooling.stride, pooling.pad


def through(
    functions: Mapping[type, Callable[..., Any]], net: models.Sequential, params: list[Any], x: Any
) -> Any:
    """Apply to `x` the functions of the network's layers; they take layer, x, weight and bias."""
    left = iter(params)
    for layer in net.layers.values():
        x = functions[type(layer)](layer, x, *(next(left) for _ in learned(layer)))
    return x


class Ours:
    def __init__(self, case: NetworkCase) -> None:
        self.net, self.batches, self.labels = case.net, case.batches, case.labels

    def step(self) -> list[Any]:
        gradients = self.net.gradient(self.batches[0], self.labels)
        return [self.net.last_layer.loss, *gradients.values()]

    def scores(self, x: Any) -> Any:
        return self.net.predict(x)


class Textbook:
    """The layers of a course on NumPy, which computes in the case's dtype."""

    def __init__(self, case: NetworkCase) -> None:
        self.net, self.labels = case.net, case.labels
        self.params = [p.astype(case.dtype, copy=False) for p in case.net.params.values()]
        self.batches = [batch.astype(case.dtype, copy=False) for batch in case.batches]

    def step(self) -> list[Any]:
        scores, tape = self._forward(textbook.TRAINING, self.batches[0])
        loss, dout = textbook.softmax_with_loss(scores, self.labels)
        gradients: list[Array] = []
        for backward in reversed(tape):
            dout, *of_params = backward(dout)
            gradients = [*of_params, *gradients]
        return [loss, *gradients]

    def scores(self, x: Any) -> Any:
        return self._forward(textbook.INFERENCE, x)[0]

    def _forward(self, functions: Any, x: Any) -> tuple[Any, list[textbook.Backward]]:
        left, tape = iter(self.params), []
        for layer in self.net.layers.values():
            x, backward = functions[type(layer)](layer, x, *(next(left) for _ in learned(layer)))
            tape.append(backward)
        return x, tape


def _dropouts(net: models.Sequential) -> list[layers.Dropout]:
    return [layer for layer in net.layers.values() if isinstance(layer, layers.Dropout)]


def _terms(layer: Any) -> int:
    """Count the products that are summed in each output."""
    return layer.W[0].size if isinstance(layer, layers.Convolution) else len(layer.W)


def _call(case: NetworkCase, network: Network) -> Callable[[], list[Any]]:
    if case.is_inference:
        return lambda: [network.scores(batch) for batch in network.batches]
    return network.step


def _arrays(results: list[Any]) -> tuple[Array, ...]:
    return tuple(map(np.asarray, results))
