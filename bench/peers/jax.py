"""JAX on the CPU, compiled by XLA, on arrays that it holds already; networks by its autodiff.

XLA has no call that sets the number of threads. It makes its pools when the first array is placed,
as large as NPROC says or, without that, as the CPUs that the process may run on.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import count
from typing import Any

os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bench import peers
from bench.cases import Array, Case, Contender, as_tuple, unfolded_to_rows
from bench.networks import NetworkCase, through, window_of
from fastconv import layers

ready: Any = jax.block_until_ready  # The function itself has no types.


def _convolution(stride: int, pad: int, groups: int, x: Any, weight: Any, bias: Any) -> Any:
    steps, pads = (stride, stride), ((pad, pad), (pad, pad))
    product = lax.conv_general_dilated(x, weight, steps, pads, feature_group_count=groups)
    return product + bias[:, None, None]


def _convolution_of(case: Case) -> Callable[..., Any]:
    return partial(_convolution, case.s, case.p, case.groups)


def _gradients(case: Case, grad: Any, *inputs: Any) -> Any:
    return jax.vjp(_convolution_of(case), *inputs)[1](grad)


def _unfold(case: Case, x: Any) -> Any:
    k, s, p = case.window
    patches = lax.conv_general_dilated_patches(x, (k, k), (s, s), ((p, p), (p, p)))
    return patches.reshape(len(x), -1, case.workload.out_size**2)


def _max_pool(window: tuple[int, int, int], x: Any) -> Any:
    return _reduced(window, -np.inf, lax.max, x)


def _avg_pool(window: tuple[int, int, int], x: Any) -> Any:
    return _reduced(window, 0.0, lax.add, x) / window[0] ** 2


def _reduced(window: tuple[int, int, int], start: float, reduce: Any, x: Any) -> Any:
    k, s, p = window
    around = ((0, 0), (0, 0), (p, p), (p, p))
    return lax.reduce_window(x, start, reduce, (1, 1, k, k), (1, 1, s, s), around)


# The function that computes an operation, and its inputs.
CALLS: Mapping[str, Callable[[Case], tuple[Any, ...]]] = {
    "im2col": lambda c: (partial(_unfold, c), c.image),
    "unfold": lambda c: (partial(_unfold, c), c.image),
    "max_pool2d": lambda c: (partial(_max_pool, c.window), c.image),
    "avg_pool2d": lambda c: (partial(_avg_pool, c.window), c.image),
    "conv2d": lambda c: (_convolution_of(c), c.image, c.weight, c.bias),
    "conv2d_backward": lambda c: (partial(_gradients, c), c.grad, c.image, c.weight, c.bias),
}


class Peer(peers.Peer):
    """The first call compiles."""

    name, version = "jax", str(jax.__version__)

    def __init__(self, threads: int) -> None:
        os.environ["NPROC"] = str(threads)
        self.network = Network

    def contenders(self, case: Any) -> Iterator[Contender]:
        yield from super().contenders(case)
        if case.operation in CALLS:
            function, *inputs = CALLS[case.operation](case)
            compiled, placed = jax.jit(function), jax.device_put(inputs)
            yield self.contender(case, lambda: ready(compiled(*placed)))

    def results(self, case: Case, returned: Any) -> tuple[Array, ...]:
        arrays = tuple(map(np.asarray, as_tuple(returned)))
        return (unfolded_to_rows(*arrays),) if case.operation == "im2col" else arrays


# ---- networks ----------------------------------------------------------------------------------


class Network:
    """A network that is compiled as a whole."""

    def __init__(self, case: NetworkCase) -> None:
        self.net = case.net
        # JAX needs the flag for float64, while arrays are made and functions are compiled.
        with jax.enable_x64(case.net.dtype == np.float64):
            self.params = [jnp.asarray(array) for array in case.net.params.values()]
            self.batches = [jnp.asarray(batch) for batch in case.batches]
            self.rest = (jnp.asarray(case.labels), jax.random.key(0))
            if case.is_inference:
                self.predict = _compiled(self._scores, self.params, self.batches[0])
            else:
                gradient = jax.value_and_grad(self._loss)
                self.gradient = _compiled(gradient, self.params, self.batches[0], *self.rest)

    def step(self) -> list[Any]:
        loss, gradients = ready(self.gradient(self.params, self.batches[0], *self.rest))
        return [loss, *gradients]

    def scores(self, x: Any) -> Any:
        return ready(self.predict(self.params, x))

    def _loss(self, params: list[Any], x: Any, labels: Any, key: Any) -> Any:
        number = count()

        def dropout(layer: Any, x: Any) -> Any:
            kept = 1 - layer.dropout_ratio
            mask = jax.random.bernoulli(jax.random.fold_in(key, next(number)), kept, x.shape)
            return jnp.where(mask, x / kept, 0)

        scores = through(FUNCTIONS | {layers.Dropout: dropout}, self.net, params, x)
        return -jax.nn.log_softmax(scores)[jnp.arange(len(labels)), labels].mean()

    def _scores(self, params: list[Any], x: Any) -> Any:
        return through(FUNCTIONS | {layers.Dropout: lambda layer, x: x}, self.net, params, x)


def _compiled(function: Callable[..., Any], *arguments: Any) -> Any:
    return jax.jit(function).lower(*arguments).compile()


def _local_response_normalization(layer: Any, x: Any) -> Any:
    window, steps = (1, layer.size, 1, 1), (1, 1, 1, 1)
    sums = lax.reduce_window(jnp.square(x), 0.0, lax.add, window, steps, "SAME")
    return x * (layer.k + layer.alpha / layer.size * sums) ** -layer.beta


FUNCTIONS: dict[type, Callable[..., Any]] = {
    layers.Convolution: lambda layer, *inputs: _convolution(
        layer.stride, layer.pad, layer.groups, *inputs
    ),
    layers.Affine: lambda layer, x, weight, bias: x.reshape(len(x), -1) @ weight + bias,
    layers.Pooling: lambda layer, x: _max_pool(window_of(layer), x),
    layers.AveragePooling: lambda layer, x: _avg_pool(window_of(layer), x),
    layers.Relu: lambda layer, x: jax.nn.relu(x),
    layers.Sigmoid: lambda layer, x: jax.nn.sigmoid(x),
    layers.LocalResponseNormalization: _local_response_normalization,
}
