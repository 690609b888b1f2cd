"""Networks in training and in use.

    python -m bench.networks --contender torch --network simple --dtype float32 --what step
                             [--threads N] [--quick]

prints, as JSON, the seconds of every sample, taken in a process of the contender's own: threads of
another library that wait busily, OpenBLAS's for 30 ms, would disturb it. The benchmark starts such
processes in turn, after it has compared the contenders' results.

All have the weights of our network, whose layers say how the others are built. A step computes the
loss of a batch and the gradients of all parameters; inference the scores of many batches.
"""

import argparse
import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any, Protocol

import numpy as np

import fastconv
from bench import peers, textbook_layers, timing
from bench.cases import Array
from bench.shapes import NETWORKS, NetworkTask
from fastconv import layers, models

KINDS = {"simple": models.SimpleConvNet, "deep": models.DeepConvNet}
BATCH = 100
BATCHES, QUICK_BATCHES = 100, 10  # of an inference
DROPOUT = 0.5
# Of a result's largest number. Float32 decides between pixels that are equal but for rounding, and
# a gradient that goes to another pixel of a window changes sums of gradients by 1e-3.
SCORE_TOLERANCES = {"float32": 1e-5, "float64": 1e-10}
GRADIENT_TOLERANCES = {"float32": 5e-3, "float64": 1e-10}
LOSS_TOLERANCE = 1e-4  # PyTorch does not add the textbook's 1e-7 to probabilities


class Network(Protocol):
    """Made from our network, images in batches, and the labels of the first batch."""

    batches: list[Any]

    def step(self) -> tuple[Any, list[Any]]:
        """Compute the loss of the first batch and the gradients, in the order of `params`."""

    def scores(self, x: Any) -> Any:
        """Compute those of a batch."""


class Fastconv:
    def __init__(self, net: models.Sequential, batches: list[Array], labels: Array) -> None:
        self.net, self.batches, self.labels = net, batches, labels

    def step(self) -> tuple[Any, list[Any]]:
        gradients = self.net.gradient(self.batches[0], self.labels)
        return self.net.last_layer.loss, list(gradients.values())

    def scores(self, x: Any) -> Any:
        return self.net.predict(x)


class Numpy:
    def __init__(self, net: models.Sequential, batches: list[Array], labels: Array) -> None:
        self.layers = [self._layer(layer) for layer in net.layers.values()]
        self.last_layer = textbook_layers.SoftmaxWithLoss()
        self.batches, self.labels = batches, labels

    def step(self) -> tuple[Any, list[Any]]:
        loss = self.last_layer.forward(self._forward(self.batches[0], True), self.labels)
        dout = self.last_layer.backward()
        for layer in reversed(self.layers):
            dout = layer.backward(dout)
        return loss, [gradient for layer in self.layers for gradient in layer.gradients]

    def scores(self, x: Any) -> Any:
        return self._forward(x, False)

    def _forward(self, x: Any, train: bool) -> Any:
        return _through([layer.forward for layer in self.layers], x, train)

    def _layer(self, layer: Any) -> textbook_layers.Layer:
        match type(layer).__name__:
            case "Convolution":
                return textbook_layers.Convolution(layer.W, layer.b, layer.stride, layer.pad)
            case "Affine":
                return textbook_layers.Affine(layer.W, layer.b)
            case "Pooling":
                return textbook_layers.Pooling(layer.pool_h, layer.stride, layer.pad)
            case "Relu":
                return textbook_layers.Relu()
            case "Dropout":
                return textbook_layers.Dropout(layer.dropout_ratio)
        raise TypeError(f"there is no {type(layer).__name__} to compare with")


class Torch:
    """PyTorch's functions on NCHW tensors, gradients by autograd."""

    def __init__(self, net: models.Sequential, batches: list[Array], labels: Array) -> None:
        self.torch = importlib.import_module("torch")
        self.F = self.torch.nn.functional
        self.params: list[Any] = []
        self.layers = [self._layer(layer) for layer in net.layers.values()]
        self.batches = [self.torch.from_numpy(batch) for batch in batches]
        self.labels = self.torch.from_numpy(labels)

    def step(self) -> tuple[Any, list[Any]]:
        with self.torch.enable_grad():
            loss = self.F.cross_entropy(self._forward(self.batches[0], True), self.labels)
            gradients = self.torch.autograd.grad(loss, self.params)
        return loss.detach(), [g.T if g.ndim == 2 else g for g in gradients]

    def scores(self, x: Any) -> Any:
        with self.torch.no_grad():
            return self._forward(x, False)

    def _forward(self, x: Any, train: bool) -> Any:
        return _through(self.layers, x, train)

    def _layer(self, layer: Any) -> Callable[[Any, bool], Any]:
        match type(layer).__name__:
            case "Convolution":
                weight, bias = self._learned(layer.W, layer.b)
                stride, pad = layer.stride, layer.pad
                return lambda x, train: self.F.conv2d(x, weight, bias, stride, pad)
            case "Affine":
                weight, bias = self._learned(layer.W.T.copy(), layer.b)  # its own, faster layout
                return lambda x, train: self.F.linear(x.flatten(1), weight, bias)
            case "Pooling":
                window = layer.pool_h, layer.stride, layer.pad
                return lambda x, train: self.F.max_pool2d(x, *window)
            case "Relu":
                return lambda x, train: self.F.relu(x)
            case "Dropout":
                return lambda x, train: self.F.dropout(x, layer.dropout_ratio, train)
        raise TypeError(f"there is no {type(layer).__name__} to compare with")

    def _learned(self, *arrays: Array) -> list[Any]:
        params = [self.torch.from_numpy(array).requires_grad_() for array in arrays]
        self.params += params
        return params


def _through(layers: list[Callable[[Any, bool], Any]], x: Any, train: bool) -> Any:
    for layer in layers:
        x = layer(x, train)
    return x


# What sets the number of threads, and the network.
CONTENDERS: dict[str, tuple[Callable[[int], Any], Callable[..., Network]]] = {
    peers.Fastconv.name: (peers.Fastconv, Fastconv),
    peers.Numpy.name: (peers.Numpy, Numpy),
    peers.Torch.name: (peers.Torch, Torch),
}


def describe(what: str, quick: bool) -> str:
    if what == "step":
        return f"loss and gradients of {BATCH} images"
    return f"scores of {BATCH * _batches(quick)} images in batches of {BATCH}"


def agrees(name: str, network: str, dtype: str) -> bool:
    """Whether loss, gradients and scores, without dropout, are those of the textbook's layers."""
    gradients = [GRADIENT_TOLERANCES[dtype]] * len(KINDS[network]().params)
    tolerances = (LOSS_TOLERANCE, *gradients, SCORE_TOLERANCES[dtype])
    results, wanted = _results(name, network, dtype), _results(peers.Numpy.name, network, dtype)
    return all(
        got.dtype == dtype
        and got.shape == want.shape
        and np.allclose(got, want, 0, tolerance * np.abs(want).max())
        for got, want, tolerance in zip(results, wanted, tolerances, strict=True)
    )


def timed(
    names: list[str], task: NetworkTask, threads: int, quick: bool
) -> dict[str, timing.Timing]:
    """Time the contenders in turn, each in processes of its own."""
    blocks: dict[str, list[list[float]]] = {name: [] for name in names}
    for _ in range(_effort(quick).rounds):
        for name, own in blocks.items():
            own.append(_in_own_process(name, task, threads, quick))
    return {name: timing.summary(own) for name, own in blocks.items()}


def _effort(quick: bool) -> timing.Effort:
    """Give a new process longer than usual to warm up."""
    effort = timing.QUICK if quick else timing.FULL
    return replace(effort, seconds=3 * effort.seconds, warm_up=10 * effort.warm_up)


def _batches(quick: bool) -> int:
    return QUICK_BATCHES if quick else BATCHES


def _network(name: str, network: str, dtype: str, batches: int, dropout: float) -> Network:
    net = KINDS[network](dtype=dtype, seed=0)
    for layer in net.layers.values():
        if isinstance(layer, layers.Dropout):
            layer.dropout_ratio = dropout
    rng = np.random.default_rng(0)
    images = [rng.random((BATCH, *net.input_dim)).astype(dtype, copy=False) for _ in range(batches)]
    labels = rng.integers(0, net.output_dim[0], BATCH)
    return CONTENDERS[name][1](net, images, labels)


@cache
def _results(name: str, network: str, dtype: str) -> list[Array]:
    made = _network(name, network, dtype, batches=1, dropout=0.0)
    loss, gradients = made.step()
    return [np.asarray(r) for r in (loss, *gradients, made.scores(made.batches[0]))]


def _in_own_process(name: str, task: NetworkTask, threads: int, quick: bool) -> list[float]:
    command = [sys.executable, "-m", __name__, "--contender", name, "--network", task.network]
    command += ["--dtype", task.dtype, "--what", task.what, "--threads", str(threads)]
    command += ["--quick"] if quick else []
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    samples: list[float] = json.loads(output)
    return samples


def _samples(name: str, task: NetworkTask, threads: int, quick: bool) -> list[float]:
    CONTENDERS[name][0](threads)
    effort = _effort(quick)
    network = _network(name, task.network, task.dtype, _batches(quick), DROPOUT)
    if task.what == "step":
        return timing.block(network.step, 1, effort)
    return timing.block(
        lambda: [network.scores(batch) for batch in network.batches],
        1,
        effort,
        warm_up=lambda: network.scores(network.batches[0]),
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.networks")
    parser.add_argument("--contender", choices=CONTENDERS, required=True)
    for name in ("what", "network", "dtype"):
        choices = dict.fromkeys(getattr(task, name) for task in NETWORKS)
        parser.add_argument(f"--{name}", choices=choices, required=True)
    parser.add_argument("--threads", type=int, default=fastconv.get_num_threads(), metavar="N")
    parser.add_argument("--quick", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    o = _options()
    task = NetworkTask(o.what, o.network, o.dtype)
    print(json.dumps(_samples(o.contender, task, o.threads, o.quick)))
