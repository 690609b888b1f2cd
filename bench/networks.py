"""Networks in training and in use: the case, and who computes it without a library of tensors.

All have the weights of our network, whose layers say how the others are built. A step computes the
loss of a batch and the gradients of all parameters, and training also changes the parameters.
Inference computes the scores of many batches with the network as it is in training; prediction
those of one batch, with what each library has for networks that are not trained any more.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from math import prod
from typing import Any, Protocol

import numpy as np

from bench import textbook
from bench.cases import Array, Contender, relative_rms
from bench.shapes import NETWORK_OPERATIONS, NetworkTask
from fastconv import layers, models
from fastconv._arguments import window
from fastconv._layer import walk
from fastconv.training import Momentum

KINDS: dict[str, Callable[..., models.Sequential]] = {
    "simple": models.SimpleConvNet,
    "deep": models.DeepConvNet,
    "lenet": models.LeNet,
    "alexnet": models.AlexNet,
    "vgg11": partial(models.VGG, 11),
    "vgg16": partial(models.VGG, 16),
    "resnet20": partial(models.ResNet, 20),
    "resnet50": partial(models.ResNet, 50),
    "googlenet": models.GoogLeNet,
    "mobilenet": models.MobileNet,
}
# Results may differ by this part of their largest number. Float32 decides between pixels that are
# equal but for rounding, and a gradient that goes to another pixel of a window changes sums of
# gradients by 1e-3.
SCORE_TOLERANCES = {"float32": 1e-5, "float64": 1e-10}
GRADIENT_TOLERANCES = {"float32": 5e-3, "float64": 1e-10}
# Gradients of images of noise nearly cancel, so that one rectification that is decided otherwise
# changed some of ResNet-20's and of VGG-11's by 3e-2.
TRAINING_TOLERANCES = {"float32": 1e-1, "float64": 1e-10}
# Errors are measured with a batch of at most this number of pixels.
ERROR_NUMBERS = 1 << 18
# The loss may differ more: PyTorch does not add the textbook's 1e-7 to probabilities.
LOSS_TOLERANCE = 1e-4
# Training is with this learning rate and momentum. The rate is small, because the same batch comes
# again and again while the step is timed, and the parameters must not grow beyond all bounds.
LEARNING_RATE, MOMENTUM = 1e-3, 0.9
# A parameter may differ by this part of the largest one beside what its gradient may differ by.
ROUNDING = {"float32": 2.0**-22, "float64": 2.0**-50}
# Of arrays in training with more numbers than this, every n-th number is compared: the largest
# networks have a hundred million parameters, which would fill memory and disk in every process.
COMPARED_NUMBERS = 1 << 16


class NetworkCase:
    """What `Case` is for layers: inputs, and the results that every contender must give.

    Dropout is random, so results are compared of the `plain` case: without dropout, and of an
    inference the first batch. A prediction has no dropout anyway.

    What the textbook has no layers for, or what would take it minutes, is compared with our own
    layers in float64, one by one. That tells errors of the kernels in float32, of what
    `optimized` does to a network, and of the peers' networks. A mistake that our float64 layers
    share would show as wrong results of all peers.
    """

    moved = (0, 0)  # The bytes are unknown, because nobody knows what stays in caches.
    has_columns = True

    def __init__(
        self, operation: str, task: NetworkTask, plain: bool = False, dtype: str = ""
    ) -> None:
        self.operation, self.workload, self.plain = operation, task, plain
        self.dtype = dtype or task.dtype  # The textbook computes in it what is expected.
        self.is_prediction = operation == "network_prediction"
        self.is_training = operation == "network_training"
        self.is_inference = self.is_prediction or operation == "network_inference"
        self.is_of_textbook = operation in NETWORK_OPERATIONS
        # An inference has as many batches as each has images.
        self.count = task.batch if operation == "network_inference" and not plain else 1

    @cached_property
    def net(self) -> models.Sequential:
        net = KINDS[self.workload.network](dtype=self.workload.dtype, seed=0)
        if not self.is_of_textbook:
            temper(net)
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
        """The loss and the gradients in the order of `params`; or the first batch's scores.

        In training, the changed parameters follow the gradients.
        """
        case = self.without_dropout()
        reference = Textbook(case) if self.is_of_textbook else Float64(case)
        results = case.arrays(_call(case, reference)())
        return tuple(result.astype(case.dtype, copy=False) for result in results)

    def without_dropout(self) -> "NetworkCase":
        if not self.is_random:
            return self
        return NetworkCase(self.operation, self.workload, plain=True, dtype=self.dtype)

    @property
    def is_random(self) -> bool:
        """Whether two calls give different results."""
        return not (self.plain or self.is_prediction)

    def arrays(self, results: list[Any]) -> tuple[Array, ...]:
        """Give results as arrays, in training as much of them as is compared."""
        return tuple(map(_sample if self.is_training else np.asarray, results))

    def for_errors(self, dtype: str = "") -> "NetworkCase":
        """Give the plain case with no more images than float64 has memory for."""
        images = max(1, ERROR_NUMBERS // prod(self.net.input_dim))
        task = replace(self.workload, batch=min(self.workload.batch, images))
        return NetworkCase(self.operation, task, plain=True, dtype=dtype)

    def errors(self, results: tuple[Array, ...], exact: tuple[Array, ...]) -> list[float]:
        """Give the scores' error, or the worst of the gradients'.

        The loss's is left out: without the textbook's 1e-7 it is another number. So are those of
        changed parameters, which are hardly other numbers than before.
        """
        _, scores_or_gradients, _ = self._parts(results)
        return [max(map(relative_rms, scores_or_gradients, self._parts(exact)[1]))]

    def _parts(self, results: tuple[Array, ...]) -> tuple[tuple[Array, ...], ...]:
        """Divide results into the loss, scores or gradients, and changed parameters."""
        loss = 0 if self.is_inference else 1
        changed = (len(results) + loss) // 2 if self.is_training else len(results)
        return results[:loss], results[loss:changed], results[changed:]

    def agrees(self, results: tuple[Array, ...], expected: tuple[Array, ...]) -> bool:
        tolerances = self._tolerances(expected)
        return all(
            got.dtype == want.dtype
            and got.shape == want.shape
            and np.allclose(got, want, 0, tolerance)
            for got, want, tolerance in zip(results, expected, tolerances, strict=True)
        )

    def _tolerances(self, expected: tuple[Array, ...]) -> list[float]:
        """Say by how much each result may differ from what is expected."""
        dtype = self.workload.dtype
        of_gradients = TRAINING_TOLERANCES if self.is_training else GRADIENT_TOLERANCES
        of_part = SCORE_TOLERANCES if self.is_inference else of_gradients
        loss, part, changed = (
            [float(np.abs(array).max()) for array in arrays] for arrays in self._parts(expected)
        )
        return [
            *(LOSS_TOLERANCE * largest for largest in loss),
            *(of_part[dtype] * largest for largest in part),
            *(
                ROUNDING[dtype] * largest + LEARNING_RATE * of_part[dtype] * of_gradient
                for largest, of_gradient in zip(changed, part if changed else [], strict=True)
            ),
        ]

    @cached_property
    def flops(self) -> int:
        """Operations of the convolutions and products, as in `Case`.

        Backwards there are twice as many, but nobody needs the gradient of the first one's input.
        """
        once = 2 * self.net.multiply_adds()
        if not self.is_inference:
            first = next(iter(self.net.layers.values()))
            once = 3 * once - 2 * models.Sequential(self.net.input_dim, [first]).multiply_adds()
        return once * self.workload.batch * self.count


class Network(Protocol):
    """A case's network in one library."""

    batches: list[Any]

    def step(self) -> list[Any]:
        """Compute the loss of the first batch and the gradients, in the order of `params`.

        In training, descend with momentum, and return the changed parameters as well.
        """

    def scores(self, x: Any) -> Any:
        """Compute those of a batch."""


def contender(name: str, case: NetworkCase, library: Callable[[NetworkCase], Network]) -> Contender:
    network = library(case)

    def results(returned: list[Any]) -> tuple[Array, ...]:
        if not (case.is_random and _dropouts(case.net)):
            return case.arrays(returned[:1] if case.is_inference else returned)
        plain = case.without_dropout()
        return plain.arrays(_call(plain, library(plain))())

    warm_up = (lambda: network.scores(network.batches[0])) if case.count > 1 else None
    return Contender(name, "fresh", _call(case, network), results, warm_up=warm_up)


def learned(layer: Any) -> list[Array]:
    return [layer.W, layer.b] if hasattr(layer, "W") else []


def pads_of(layer: Any, kernel: Sequence[int], shape: Sequence[int]) -> list[list[int]]:
    """Give the rows and columns that a layer adds, [[top, bottom], [left, right]].

    Its window has `kernel` taps, and its inputs have this shape, without the batch.
    """
    dilation = getattr(layer, "dilation", 1)
    (_, h, w), (kernel_h, kernel_w) = shape, kernel
    found = window((h, w), (kernel_h, kernel_w), layer.stride, layer.pad, dilation)
    pads: list[list[int]] = found.packed[:, 5:7].tolist()
    return pads


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
        self.rule = Momentum(LEARNING_RATE, MOMENTUM) if case.is_training else None

    def step(self) -> list[Any]:
        gradients = self.net.gradient(self.batches[0], self.labels)
        results = [self.net.last_layer.loss, *gradients.values()]
        if self.rule:
            self.rule.update(self.net.params, gradients)
            results += self.net.params.values()
        return results

    def scores(self, x: Any) -> Any:
        return self.net.predict(x)


class Optimized:
    """Ours in use, which has no layers any more."""

    def __init__(self, case: NetworkCase) -> None:
        self.net, self.batches = case.net.optimized(), case.batches

    def step(self) -> list[Any]:
        raise NotImplementedError("this network cannot be trained")

    def scores(self, x: Any) -> Any:
        return self.net.predict(x)


class Float64(Ours):
    """Our layers with the case's numbers, but computing in float64."""

    def __init__(self, case: NetworkCase) -> None:
        super().__init__(case)
        self.net = KINDS[case.workload.network](dtype=np.float64, seed=0)
        self.net.load_params(case.net.state)
        for layer in _dropouts(self.net) if case.plain else ():
            layer.dropout_ratio = 0.0


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
    return [layer for layer in walk(net) if isinstance(layer, layers.Dropout)]


def temper(net: models.Sequential) -> None:
    """Let batch normalisation do something, and no probability be near 0.

    Before training, batch normalisation in use shifts by 0 and scales by 1. And large scores make
    some of 1000 classes less likely than the textbook's 1e-7, which PyTorch does not add.
    """
    last: Any = list(net.layers.values())[-1]
    last.W *= 0.1
    rng = np.random.default_rng(2)
    for layer in walk(net):
        if isinstance(layer, layers.BatchNormalization):
            size, dtype = layer.gamma.size, layer.gamma.dtype
            for name in ("beta", "running_mean"):
                setattr(layer, name, rng.normal(0, 0.1, size).astype(dtype))
            for name in ("gamma", "running_var"):
                setattr(layer, name, rng.uniform(0.8, 1.2, size).astype(dtype))


def _sample(result: Any) -> Array:
    """Copy every n-th number of a large array: later steps change parameters in place."""
    array = np.asarray(result)
    return array.reshape(-1)[:: array.size // COMPARED_NUMBERS + 1].copy()


def _call(case: NetworkCase, network: Network) -> Callable[[], list[Any]]:
    if case.is_inference:
        return lambda: [network.scores(batch) for batch in network.batches]
    return network.step
