"""Networks by JAX's functions on NCHW arrays, compiled as a whole, gradients by its autodiff."""

from collections.abc import Callable
from itertools import count
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bench.networks import NetworkCase, through
from fastconv import layers

ready: Any = jax.block_until_ready  # has no types


class Network:
    def __init__(self, case: NetworkCase) -> None:
        self.net = case.net
        # Needed for float64, and only while arrays are made and functions compiled.
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


def _convolution(layer: Any, x: Any, weight: Any, bias: Any) -> Any:
    out = lax.conv_general_dilated(
        x,
        weight,
        (layer.stride, layer.stride),
        [(layer.pad, layer.pad)] * 2,
        feature_group_count=layer.groups,
    )
    return out + bias[:, None, None]


def _windows(layer: Any, x: Any, start: float, function: Callable[..., Any]) -> Any:
    k, s, p = layer.pool_h, layer.stride, layer.pad
    pads = [(0, 0), (0, 0), (p, p), (p, p)]
    return lax.reduce_window(x, start, function, (1, 1, k, k), (1, 1, s, s), pads)


def _local_response_normalization(layer: Any, x: Any) -> Any:
    window, steps = (1, layer.size, 1, 1), (1, 1, 1, 1)
    sums = lax.reduce_window(jnp.square(x), 0.0, lax.add, window, steps, "SAME")
    return x * (layer.k + layer.alpha / layer.size * sums) ** -layer.beta


FUNCTIONS: dict[type, Callable[..., Any]] = {
    layers.Convolution: _convolution,
    layers.Affine: lambda layer, x, weight, bias: x.reshape(len(x), -1) @ weight + bias,
    layers.Pooling: lambda layer, x: _windows(layer, x, -jnp.inf, lax.max),
    layers.AveragePooling: lambda layer, x: _windows(layer, x, 0.0, lax.add) / layer.pool_h**2,
    layers.Relu: lambda layer, x: jax.nn.relu(x),
    layers.Sigmoid: lambda layer, x: jax.nn.sigmoid(x),
    layers.LocalResponseNormalization: _local_response_normalization,
}
