"""The networks that estimators train: the one that their parameters describe, or the user's."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Sequence
from math import prod, sqrt
from typing import Any

import numpy as np

from fastconv._arguments import pair
from fastconv._arrays import Shape
from fastconv._window import Pair
from fastconv.layers import Dropout, Pooling, Relu
from fastconv.models import Sequential

__all__ = ["described_network", "network_of"]


LARGE = 8
"""Images with more pixels than this along an axis are pooled behind every convolution."""


def described_network(
    estimator: Any, outputs: int, dtype: np.dtype[Any], seed: np.random.Generator
) -> Sequential:
    """Build the network of an estimator's parameters: convolutions, then fully connected layers.

    Each number in ``filters`` is a convolution that keeps the size of its input, and rectification.
    Maximum pooling comes between the two, where it gives the same numbers as behind them and leaves
    a quarter of them to rectify. Behind the last convolution there is always pooling; behind others
    only while the image is large: in three folds, digits of 8x8 pixels are recognised better if the
    second convolution sees all of them (0.960 instead of 0.942). Weights between the first and the
    last layer begin with a variance of 1 / fan_in, half of what is usual, which gives 0.962.
    """
    net = Sequential(estimator.image_shape_, dtype=dtype, seed=seed)
    kernel = pair(estimator.kernel_size, "kernel_size")
    window = pair(estimator.pool_size, "pool_size")
    filters, normalizes = _numbers(estimator.filters), estimator.batch_normalization
    for i, count in enumerate(filters, 1):
        sizes = net.output_dim[1:]
        taps = _taps(kernel, sizes)
        std = sqrt((2 if i == 1 else 1) / (prod(taps) * net.output_dim[0]))
        net.convolution(count, taps, pad="same", bias=not normalizes, std=std)
        if normalizes:
            net.batch_normalization()
        pooled = tuple(min(k, size) for k, size in zip(window, sizes, strict=True))
        if pooled != (1, 1) and (i == len(filters) or max(sizes) > LARGE):
            net.add(Pooling(pooled[0], pooled[1], stride=pooled))
        net.add(Relu())
    for units in _numbers(estimator.hidden_layer_sizes):
        net.affine(units, std=sqrt(1 / prod(net.output_dim)))
        if normalizes:
            net.batch_normalization()
        net.add(Relu())
        if estimator.dropout:
            net.add(Dropout(estimator.dropout))
    return net.affine(outputs)


def _taps(kernel: Pair, sizes: Shape) -> Pair:
    """Cut a kernel to the taps that can meet a pixel: an axis of one pixel needs one."""
    (kernel_h, kernel_w), (height, width) = kernel, sizes
    return min(kernel_h, 2 * height - 1), min(kernel_w, 2 * width - 1)


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
