"""What a course on NumPy builds on its columns: convolutions, poolings and layers.

It is a peer in the benchmark, and the reference that every contender is compared with.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from fastconv import layers
from fastconv._textbook import (
    Array,
    Shape,
    col2im,
    im2col,
    max_pool,
    max_pool_backward,
    out_size,
    plane_indices,
)

__all__ = ["col2im", "im2col", "max_pool", "max_pool_backward", "plane_indices"]

EPS = 1e-5  # What batch normalisation adds to the variance, in every library.
RNG = np.random.default_rng(0)


# ---- functions ---------------------------------------------------------------------------------


def convolution(image: Array, weight: Array, bias: Array, stride: int, pad: int) -> Array:
    col = im2col(image, weight.shape[2], stride, pad)
    return _of_columns(col, image.shape, weight, bias, stride, pad)


def _of_columns(
    col: Array, shape: Shape, weight: Array, bias: Array, stride: int, pad: int
) -> Array:
    """Convolve images of this shape, whose columns are given."""
    n, c, h, w = shape
    out_h, out_w = (out_size(size, weight.shape[2], stride, pad) for size in (h, w))
    rows = _product(col, _by_group(weight, c)) + bias
    return rows.reshape(n, out_h, out_w, len(weight)).transpose(0, 3, 1, 2)


def filtered(image: Array, weight: Array, bias: Array, stride: int, pad: int) -> Array:
    """Convolve one plane with one filter, whose columns would not fit into memory."""
    windows = sliding_window_view(np.pad(image[0, 0], pad), weight.shape[2:])
    sums: Array = np.einsum("hwij,ij->hw", windows[::stride, ::stride], weight[0, 0])
    return (sums + bias)[np.newaxis, np.newaxis]


def convolution_of_signals(
    x: Array, weight: Array, bias: Array, stride: int, pad: int, dilation: int
) -> Array:
    """Convolve signals (N, C, L), whose windows are a view."""
    n, c, _ = x.shape
    span, groups = dilation * (weight.shape[2] - 1) + 1, c // weight.shape[1]
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad)))
    windows = sliding_window_view(padded, span, axis=2)[:, :, ::stride, ::dilation]
    if groups == 1:
        sums = np.tensordot(weight, windows, ((1, 2), (1, 3))).transpose(1, 0, 2)
    else:
        by_group = windows.reshape(n, groups, c // groups, *windows.shape[2:])
        filters = weight.reshape(groups, -1, *weight.shape[1:])
        sums = np.einsum("ngclk,gfck->ngfl", by_group, filters).reshape(n, len(weight), -1)
    result: Array = sums + bias[:, np.newaxis]
    return result


def convolution_backward(
    grad: Array, col: Array, weight: Array, shape: Shape, stride: int, pad: int
) -> tuple[Array, Array, Array]:
    """Give the gradients of image, weight and bias; `col` was kept by the forward pass."""
    rows, groups = _rows(grad), shape[1] // weight.shape[1]
    if groups == 1:
        grad_weight = np.dot(col.T, rows).T
    elif weight.shape[1] == 1:
        grad_weight = np.einsum("pgf,pgk->gfk", _grouped(rows, groups), _grouped(col, groups))
    else:
        parts = zip(np.split(rows, groups, 1), np.split(col, groups, 1), strict=True)
        grad_weight = np.stack([np.dot(of_col.T, of_rows).T for of_rows, of_col in parts])
    return (
        convolution_transpose(grad, weight, shape, stride, pad),
        grad_weight.reshape(weight.shape),
        np.sum(rows, axis=0),
    )


def convolution_transpose(
    image: Array, weight: Array, shape: Shape, stride: int, pad: int
) -> Array:
    matrices = _by_group(weight, shape[1]).transpose(0, 2, 1)
    return col2im(_product(_rows(image), matrices), shape, weight.shape[2], stride, pad)


def _rows(image: Array) -> Array:
    return image.transpose(0, 2, 3, 1).reshape(-1, image.shape[1])


def _by_group(weight: Array, channels: int) -> Array:
    """Give the filters as matrices (groups, terms, filters of the group)."""
    groups = channels // weight.shape[1]
    return weight.reshape(groups, len(weight) // groups, -1).transpose(0, 2, 1)


def _product(rows: Array, matrices: Array) -> Array:
    """Multiply the terms of each group by the group's matrix."""
    groups = len(matrices)
    product: Array
    if groups == 1:
        product = np.dot(rows, matrices[0])
    elif 1 in matrices.shape[1:]:  # For groups of one channel, einsum is 5 times as fast as dot.
        product = np.einsum("pgk,gkf->pgf", _grouped(rows, groups), matrices)
    else:
        parts = zip(np.split(rows, groups, 1), matrices, strict=True)
        product = np.concatenate([np.dot(part, matrix) for part, matrix in parts], 1)
    return product.reshape(len(rows), -1)


def _grouped(rows: Array, groups: int) -> Array:
    return rows.reshape(len(rows), groups, -1)


def max_unpool(values: Array, indices: Array, shape: Shape) -> Array:
    planes = (shape[0], shape[1], -1)
    image = np.zeros(shape, values.dtype)
    np.put_along_axis(image.reshape(planes), indices.reshape(planes), values.reshape(planes), 2)
    return image


def avg_pool(image: Array, kernel: int, stride: int, pad: int) -> Array:
    n, c, h, w = image.shape
    means: Array = im2col(image, kernel, stride, pad).reshape(-1, kernel**2).mean(axis=1)
    shape = (n, out_size(h, kernel, stride, pad), out_size(w, kernel, stride, pad), c)
    return means.reshape(shape).transpose(0, 3, 1, 2)


def avg_pool_backward(grad: Array, shape: Shape, kernel: int, stride: int, pad: int) -> Array:
    flat = grad.transpose(0, 2, 3, 1).reshape(-1, 1) / np.float32(kernel**2)
    windows = np.repeat(flat, kernel**2, axis=1)
    return col2im(windows.reshape(-1, shape[1] * kernel**2), shape, kernel, stride, pad)


def normalize(image: Array) -> tuple[Array, Array]:
    """Normalise every channel; return the result and the standard deviations."""
    centered = image - image.mean(axis=(0, 2, 3), keepdims=True)
    variance = np.mean(centered**2, axis=(0, 2, 3), keepdims=True)
    std = np.sqrt(variance + EPS)
    return centered / std, std


def batch_normalization(image: Array, gamma: Array, beta: Array) -> Array:
    normalized, _ = normalize(image)
    out: Array = gamma[:, None, None] * normalized + beta[:, None, None]
    return out


def batch_normalization_backward(
    grad: Array, normalized: Array, std: Array, gamma: Array
) -> tuple[Array, Array, Array]:
    """Give the gradients of image, scale and shift."""
    count = grad[:, 0].size
    grad_beta, grad_gamma = grad.sum(axis=(0, 2, 3)), (grad * normalized).sum(axis=(0, 2, 3))
    means = (grad_beta[:, None, None] + normalized * grad_gamma[:, None, None]) / count
    return (grad - means) * gamma[:, None, None] / std, grad_gamma, grad_beta


# ---- layers ------------------------------------------------------------------------------------
# A layer is a function of one of our layers, which has the settings, of the input and of the
# parameters. It returns the output, and a function from the output's gradient to the gradients of
# the input and of the parameters.

Backward = Callable[[Array], tuple[Array, ...]]
Applied = tuple[Array, Backward]


def _convolution(layer: Any, x: Array, weight: Array, bias: Array) -> Applied:
    stride, pad = layer.stride, layer.pad
    col = im2col(x, weight.shape[2], stride, pad)

    def backward(dout: Array) -> tuple[Array, ...]:
        return convolution_backward(dout, col, weight, x.shape, stride, pad)

    return _of_columns(col, x.shape, weight, bias, stride, pad), backward


def _affine(layer: Any, x: Array, weight: Array, bias: Array) -> Applied:
    flat = x.reshape(len(x), -1)

    def backward(dout: Array) -> tuple[Array, ...]:
        dx = np.dot(dout, weight.T).reshape(x.shape)
        return dx, np.dot(flat.T, dout), np.sum(dout, axis=0)

    return np.dot(flat, weight) + bias, backward


def _pooling(layer: Any, x: Array) -> Applied:
    window = layer.pool_h, layer.stride, layer.pad
    out, pixels = max_pool(x, *window)
    return out, lambda dout: (max_pool_backward(dout, pixels, x.shape, *window),)


def _average_pooling(layer: Any, x: Array) -> Applied:
    window = layer.pool_h, layer.stride, layer.pad
    return avg_pool(x, *window), lambda dout: (avg_pool_backward(dout, x.shape, *window),)


def _relu(layer: Any, x: Array) -> Applied:
    mask = x <= 0
    out = x.copy()
    out[mask] = 0

    def backward(dout: Array) -> tuple[Array, ...]:
        dout[mask] = 0
        return (dout,)

    return out, backward


def _sigmoid(layer: Any, x: Array) -> Applied:
    out = 1 / (1 + np.exp(-x))
    return out, lambda dout: (dout * out * (1 - out),)


def _local_response(layer: Any, x: Array) -> Applied:
    """Of an odd number of channels, as many on either side."""

    def sums(x: Array) -> Array:
        around, channels = layer.size // 2, x.shape[1]
        padded = np.pad(x, ((0, 0), (around, around), (0, 0), (0, 0)))
        added = np.zeros_like(x)
        for first in range(layer.size):
            added += padded[:, first : first + channels]
        return added

    alpha = layer.alpha / layer.size
    scale = layer.k + alpha * sums(x**2)
    factor = scale**-layer.beta

    def backward(dout: Array) -> tuple[Array, ...]:
        around = sums(dout * factor * x / scale)
        return (dout * factor - 2 * alpha * layer.beta * x * around,)

    return x * factor, backward


def _dropout(layer: Any, x: Array) -> Applied:
    mask = RNG.random(x.shape) > layer.dropout_ratio
    return x * mask, lambda dout: (dout * mask,)


def softmax_with_loss(x: Array, t: Array) -> tuple[Any, Array]:
    """Give the loss, and the gradient of its input."""
    powers = np.exp(x - x.max(axis=1, keepdims=True))
    y = powers / powers.sum(axis=1, keepdims=True)
    loss = -np.sum(np.log(y[np.arange(len(t)), t] + 1e-7)) / len(t)
    y[np.arange(len(t)), t] -= 1
    return loss, y / len(t)


def adam(param: Array, grad: Array, m: Array, v: Array, step: int) -> None:
    """Change a parameter and the means of its gradient and of its square, in place."""
    lr = 0.001 * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
    m += (1 - 0.9) * (grad - m)
    v += (1 - 0.999) * (grad**2 - v)
    param -= (lr * m / (np.sqrt(v) + 1e-7)).astype(param.dtype)


TRAINING: dict[type, Callable[..., Applied]] = {
    layers.Convolution: _convolution,
    layers.Affine: _affine,
    layers.Pooling: _pooling,
    layers.AveragePooling: _average_pooling,
    layers.Relu: _relu,
    layers.Sigmoid: _sigmoid,
    layers.LocalResponseNormalization: _local_response,
    layers.Dropout: _dropout,
}
INFERENCE = TRAINING | {
    layers.Dropout: lambda layer, x: (x * (1 - layer.dropout_ratio), lambda dout: (dout,))
}
