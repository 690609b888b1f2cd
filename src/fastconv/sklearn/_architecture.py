"""The networks that estimators train: the one that their parameters describe, or the user's."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from fastconv._arguments import pair
from fastconv._arrays import Shape
from fastconv.layers import Dropout, Pooling, Relu
from fastconv.models import Sequential

__all__ = ["described_network", "network_of"]


def described_network(
    estimator: Any, outputs: int, dtype: np.dtype[Any], seed: np.random.Generator
) -> Sequential:
    """Build the network of an estimator's parameters: convolutions, then fully connected layers.

    Each number in ``filters`` is a convolution that keeps the size of its input, rectification and
    maximum pooling. Along an axis too short for it, a kernel has as many taps as can meet a pixel,
    and a window as many as there are pixels.
    """
    net = Sequential(estimator.image_shape_, dtype=dtype, seed=seed)
    kernel = pair(estimator.kernel_size, "kernel_size")
    window = pair(estimator.pool_size, "pool_size")
    normalizes = estimator.batch_normalization
    for count in _numbers(estimator.filters):
        sizes = net.output_dim[1:]
        taps = tuple(min(k, 2 * size - 1) for k, size in zip(kernel, sizes, strict=True))
        net.convolution(count, taps, pad="same", bias=not normalizes)
        if normalizes:
            net.batch_normalization()
        net.add(Relu())
        pooled = tuple(min(k, size) for k, size in zip(window, sizes, strict=True))
        if pooled != (1, 1):
            net.add(Pooling(*pooled, stride=pooled))
    for units in _numbers(estimator.hidden_layer_sizes):
        net.affine(units)
        if normalizes:
            net.batch_normalization()
        net.add(Relu())
        if estimator.dropout:
            net.add(Dropout(estimator.dropout))
    return net.affine(outputs)


def _numbers(value: int | Sequence[int]) -> list[int]:
    """Read one number or several, as ``hidden_layer_sizes`` of scikit-learn does."""
    return [int(number) for number in np.atleast_1d(np.asarray(value, dtype=int))]


def network_of(
    build: Any, shape: Shape, outputs: int, dtype: np.dtype[Any], seed: np.random.Generator
) -> Any:
    """Call what the user gave as ``network``, and check what it returns.

    The networks of `fastconv.models` take the keywords ``dtype`` and ``seed``; a function of the
    user's need not.
    """
    keywords = {"dtype": dtype, "seed": seed}
    network = build(shape, outputs, **{name: keywords[name] for name in _taken(build, keywords)})
    for name in ("predict", "gradient", "params", "last_layer"):
        if not hasattr(network, name):
            raise TypeError(
                f"network must return a network with predict, gradient, params and last_layer, "
                f"got {type(network).__name__} without {name}."
            )
    given = np.shape(network.predict(np.zeros((1, *shape), np.float32)))
    if given != (1, outputs):
        raise ValueError(
            f"network must return a network that gives {outputs} outputs for an image of {shape}, "
            f"it gives {given[1:]}."
        )
    return network


def _taken(build: Any, keywords: Collection[str]) -> set[str]:
    """Tell which of some keywords a callable has."""
    try:
        parameters = inspect.signature(build).parameters
    except (TypeError, ValueError):  # Some callables of C do not tell.
        return set()
    return {name for name in keywords if name in parameters}
