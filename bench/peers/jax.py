"""JAX on the CPU, compiled by XLA, on arrays that it holds already; networks by its autodiff.

XLA has no call that sets the number of threads. It makes its pools when the first array is placed,
as large as NPROC says or, without that, as the CPUs that the process may run on.
"""

import os
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from typing import Any

os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bench import networks
from bench.cases import Array, Case, unfolded_to_rows
from bench.networks import NetworkCase, through
from bench.peers import Contender
from fastconv import layers

ready: Any = jax.block_until_ready  # The function itself has no types.


class Peer:
    """The first call compiles."""

    version = str(jax.__version__)

    def __init__(self, threads: int) -> None:
        os.environ["NPROC"] = str(threads)

    def im2col(self, case: Case) -> Iterator[Contender]:
        def results(value: Any) -> tuple[Array, ...]:
            return (unfolded_to_rows(np.asarray(value)),)

        yield _contender(_unfold(case), case.image, results=results)

    def unfold(self, case: Case) -> Iterator[Contender]:
        yield _contender(_unfold(case), case.image)

    def max_pool2d(self, case: Case) -> Iterator[Contender]:
        yield _contender(partial(_reduced, case.window, -np.inf, lax.max), case.image)

    def avg_pool2d(self, case: Case) -> Iterator[Contender]:
        pixels = case.workload.kernel**2
        yield _contender(lambda x: _reduced(case.window, 0.0, lax.add, x) / pixels, case.image)

    def conv2d(self, case: Case) -> Iterator[Contender]:
        yield _contender(_convolution_of(case), case.image, case.weight, case.bias)

    def conv2d_backward(self, case: Case) -> Iterator[Contender]:
        def gradients(grad: Any, *inputs: Any) -> Any:
            return jax.vjp(_convolution_of(case), *inputs)[1](grad)

        inputs = case.grad, case.image, case.weight, case.bias
        yield _contender(gradients, *inputs, results=lambda found: tuple(map(np.asarray, found)))

    def network_step(self, case: NetworkCase) -> Iterator[Contender]:
        yield networks.contender("jax", case, Network)

    network_inference = network_step


def _one(value: Any) -> tuple[Array, ...]:
    return (np.asarray(value),)


def _contender(
    function: Callable[..., Any],
    *inputs: Array,
    results: Callable[[Any], tuple[Array, ...]] = _one,
) -> Contender:
    compiled = jax.jit(function)
    placed = jax.device_put(inputs)
    return Contender("jax", "fresh", lambda: ready(compiled(*placed)), results)


def _convolution(stride: int, pad: int, groups: int, x: Any, weight: Any, bias: Any) -> Any:
    steps, pads = (stride, stride), ((pad, pad), (pad, pad))
    product = lax.conv_general_dilated(x, weight, steps, pads, feature_group_count=groups)
    return product + bias[:, None, None]


def _convolution_of(case: Case) -> Callable[..., Any]:
    return partial(_convolution, *case.window[1:], case.workload.groups)


def _unfold(case: Case) -> Callable[[Any], Any]:
    n, (k, s, p) = case.workload.n, case.window

    def unfold(x: Any) -> Any:
        patches = lax.conv_general_dilated_patches(x, (k, k), (s, s), ((p, p), (p, p)))
        return patches.reshape(n, -1, case.workload.out_size**2)

    return unfold


def _reduced(window: tuple[int, int, int], start: float, reduce: Any, x: Any) -> Any:
    k, s, p = window
    around = ((0, 0), (0, 0), (p, p), (p, p))
    return lax.reduce_window(x, start, reduce, (1, 1, k, k), (1, 1, s, s), around)


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


def _window(layer: Any) -> tuple[int, int, int]:
    return layer.pool_h, layer.stride, layer.pad


FUNCTIONS: dict[type, Callable[..., Any]] = {
    layers.Convolution: lambda layer, *inputs: _convolution(
        layer.stride, layer.pad, layer.groups, *inputs
    ),
    layers.Affine: lambda layer, x, weight, bias: x.reshape(len(x), -1) @ weight + bias,
    layers.Pooling: lambda layer, x: _reduced(_window(layer), -jnp.inf, lax.max, x),
    layers.AveragePooling: lambda layer, x: (
        _reduced(_window(layer), 0.0, lax.add, x) / layer.pool_h**2
    ),
    layers.Relu: lambda layer, x: jax.nn.relu(x),
    layers.Sigmoid: lambda layer, x: jax.nn.sigmoid(x),
    layers.LocalResponseNormalization: _local_response_normalization,
}
