"""Operators that shift and scale channels."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from fastconv._arrays import Array
from fastconv._normalization import batch_normalization, local_response
from fastconv.onnx._checks import FLOATS, as_type, rank, require, same_dtypes, wide
from fastconv.onnx._table import operator


def _normalized(
    x: Array, scale: Array, bias: Array, mean: Array, variance: Array, epsilon: float
) -> Array:
    """Normalise channels by statistics that are given."""
    require(rank(x, 2), FLOATS)
    channels = x.shape[1]
    for array in (scale, bias, mean, variance):
        require(array, FLOATS)
        if array.shape != (channels,):
            raise ValueError(f"{channels} channels need as many numbers, got shape {array.shape}")
    if not x.size:
        return x
    statistics = np.array([mean, variance, variance], np.float64)
    # With a variance of 0 and no epsilon the scale is infinite, and results NaN.
    planes = x.reshape(len(x), channels, prod(x.shape[2:]))
    return batch_normalization(planes, scale, bias, statistics, epsilon, False).reshape(x.shape)


@operator("BatchNormalization", 7)
def batch_normalization_spatial(
    x: Array,
    scale: Array,
    bias: Array,
    mean: Array,
    variance: Array,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    spatial: int = 1,
    n_outputs: int,
) -> Array:
    """Normalise channels, or every element by itself."""
    _refuse_training(n_outputs)
    if spatial:
        return _normalized(x, scale, bias, mean, variance, epsilon)
    require(rank(x, 2), FLOATS)
    shape = (x.size // len(x), 1) if len(x) else (0, 1)
    scale, bias, mean, variance = (array.reshape(-1) for array in (scale, bias, mean, variance))
    rows = x.reshape(len(x), *shape)
    return _normalized(rows, scale, bias, mean, variance, epsilon).reshape(x.shape)


@operator("BatchNormalization", 9)
def batch_normalization_by_channel(
    x: Array,
    scale: Array,
    bias: Array,
    mean: Array,
    variance: Array,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    n_outputs: int,
) -> Array:
    """Normalise channels."""
    _refuse_training(n_outputs)
    return _normalized(x, scale, bias, mean, variance, epsilon)


def _refuse_training(n_outputs: int) -> None:
    if n_outputs > 1:
        raise NotImplementedError("the outputs of training are not supported in this version")


@operator("BatchNormalization", 14, 15)
def batch_normalization_training(
    x: Array,
    scale: Array,
    bias: Array,
    mean: Array,
    variance: Array,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    training_mode: int = 0,
    n_outputs: int,
) -> Any:
    """Normalise channels by statistics that are given or, in training, by their own."""
    if not training_mode:
        if n_outputs > 1:
            raise ValueError("only training has further outputs")
        return _normalized(x, scale, bias, mean, variance, epsilon)
    axes = (0, *range(2, rank(x, 2).ndim))
    own_mean, own_variance = wide(x).mean(axis=axes), wide(x).var(axis=axes)
    y = _normalized(x, scale, bias, own_mean, own_variance, epsilon)
    kept = (
        as_type(old * momentum + new * (1 - momentum), old.dtype)
        for old, new in ((mean, own_mean), (variance, own_variance))
    )
    return (y, *kept)[:n_outputs]


@operator("InstanceNormalization", 6, 22)
def instance_normalization(x: Array, scale: Array, bias: Array, *, epsilon: float = 1e-5) -> Array:
    """Normalise every channel of every image by its own mean and variance."""
    require(rank(x, 3), FLOATS)
    same_dtypes(x, scale, bias)
    n, c = x.shape[:2]
    if scale.shape != (c,) or bias.shape != (c,):
        raise ValueError(f"{c} channels need as many numbers, got {scale.shape} and {bias.shape}")
    if not x.size:
        return x
    rows = x.reshape(1, n * c, -1)
    return _by_own_statistics(rows, np.tile(scale, n), np.tile(bias, n), epsilon).reshape(x.shape)


def _by_own_statistics(x: Array, scale: Array, bias: Array, epsilon: float) -> Array:
    """Normalise the rows of an array (1, rows, elements)."""
    statistics = np.empty((3, x.shape[1]))
    return batch_normalization(x, scale, bias, statistics, epsilon, True)


@operator("GroupNormalization", 21)
def group_normalization(
    x: Array,
    scale: Array,
    bias: Array,
    *,
    num_groups: int,
    epsilon: float = 1e-5,
    stash_type: int = 1,
) -> Array:
    """Normalise groups of channels of every image by their own mean and variance."""
    require(rank(x, 3), FLOATS)
    same_dtypes(x, scale, bias)
    n, c = x.shape[:2]
    if num_groups < 1 or c % num_groups or scale.shape != (c,) or bias.shape != (c,):
        raise ValueError(f"{num_groups} groups of {c} channels, scales of shape {scale.shape}")
    if not x.size:
        return x
    ones = np.ones(n * num_groups)
    y = _by_own_statistics(x.reshape(1, n * num_groups, -1), ones, 0 * ones, epsilon)
    spread = (c, *[1] * (x.ndim - 2))
    return np.asarray(y.reshape(x.shape) * scale.reshape(spread) + bias.reshape(spread))


@operator("LRN", 1, 13)
def local_response_normalization(
    x: Array, *, size: int, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0
) -> Array:
    """Divide by a power of the sum of squares of the channels around."""
    require(rank(x, 3), FLOATS)
    if size < 1:
        raise ValueError(f"size must be positive, got {size}")
    n, c = x.shape[:2]
    if size % 2 and x.size:
        planes = x.reshape(n, c, 1, -1)
        return local_response(planes, size, alpha, beta, bias).reshape(x.shape)
    y = wide(x)
    squares = y * y
    total = np.zeros_like(squares)
    for shift in range(max(-((size - 1) // 2), 1 - c), min(size // 2, c - 1) + 1):
        low, high = max(0, -shift), min(c, c - shift)
        total[:, low:high] += squares[:, low + shift : high + shift]
    divisor = (bias + alpha / size * total) ** beta
    return as_type(y / divisor, x.dtype)


@operator("LpNormalization", 1, 22)
def lp_normalization(x: Array, *, axis: int = -1, p: int = 2) -> Array:
    """Divide by the norm along an axis."""
    require(rank(x, 1), FLOATS)
    if p not in (1, 2):
        raise ValueError(f"p must be 1 or 2, got {p}")
    y = wide(x)
    norm = np.linalg.norm(y, p, axis, keepdims=True)
    return as_type(np.where(norm == 0, 0, y / norm), x.dtype)


@operator("MeanVarianceNormalization", 9, 13)
def mean_variance_normalization(x: Array, *, axes: tuple[int, ...] = (0, 2, 3)) -> Array:
    """Subtract the mean of some axes, and divide by their standard deviation."""
    y = wide(require(x, FLOATS))
    centered = y - y.mean(axis=axes, keepdims=True)
    deviation = np.sqrt((centered * centered).mean(axis=axes, keepdims=True))
    return as_type(centered / (deviation + y.dtype.type(1e-9)), x.dtype)
