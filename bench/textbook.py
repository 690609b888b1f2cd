"""What a course on NumPy builds on its columns: convolutions, poolings and layers.

It is a peer in the benchmark, and the reference that every contender is compared with. Each layer
computes the gradient of its input.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

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

FILTERED_ROWS = 16


# ---- functions ---------------------------------------------------------------------------------


def convolution(image: Array, weight: Array, bias: Array, stride: int, pad: int) -> Array:
    n, c, h, w = image.shape
    kernel = weight.shape[2]
    rows = _product(im2col(image, kernel, stride, pad), _by_group(weight, c)) + bias
    shape = (n, out_size(h, kernel, stride, pad), out_size(w, kernel, stride, pad), len(weight))
    return rows.reshape(shape).transpose(0, 3, 1, 2)


def filtered(image: Array, weight: Array, bias: Array, pad: int) -> Array:
    """Convolve one plane with one filter, whose columns would not fit into memory.

    Every thread adds up the taps of a band of rows that stays in its cache.
    """
    kernel, (h, w) = weight.shape[2], image.shape[2:]
    padded = np.pad(image[0, 0], pad)
    out = np.empty((1, 1, out_size(h, kernel, 1, pad), out_size(w, kernel, 1, pad)), image.dtype)

    def fill(top: int) -> None:
        rows = out[0, 0, top : top + FILTERED_ROWS]
        rows[...] = bias[0]
        product = np.empty_like(rows)
        for kh in range(kernel):
            for kw in range(kernel):
                seen = padded[top + kh : top + kh + len(rows), kw : kw + rows.shape[1]]
                rows += np.multiply(seen, weight[0, 0, kh, kw], out=product)

    with ThreadPoolExecutor() as pool:
        list(pool.map(fill, range(0, out.shape[2], FILTERED_ROWS)))
    return out


def convolution_backward(
    grad: Array, col: Array, weight: Array, shape: Shape, stride: int, pad: int
) -> tuple[Array, Array, Array]:
    """Give the gradients of image, weight and bias; `col` was kept by the forward pass."""
    rows = _rows(grad)
    groups = shape[1] // weight.shape[1]
    if groups == 1:
        grad_weight = np.dot(col.T, rows).T
    else:
        grad_weight = np.einsum("pgf,pgk->gfk", _grouped(rows, groups), _grouped(col, groups))
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
    if len(matrices) == 1:
        product: Array = np.dot(rows, matrices[0])
        return product
    # For filters of one channel, einsum is about three times as fast as matmul.
    products: Array = np.einsum("pgk,gkf->pgf", _grouped(rows, len(matrices)), matrices)
    return products.reshape(len(rows), -1)


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


# ---- layers ------------------------------------------------------------------------------------


class Layer(ABC):
    gradients: tuple[Array, ...] = ()  # of the parameters, after `backward`

    @abstractmethod
    def forward(self, x: Array, train: bool) -> Array: ...

    @abstractmethod
    def backward(self, dout: Array) -> Array: ...


class Convolution(Layer):
    """Channels and filters are cut into groups, which are convolved one by one."""

    def __init__(self, weight: Array, bias: Array, stride: int, pad: int, groups: int) -> None:
        self.groups = list(zip(np.split(weight, groups), np.split(bias, groups), strict=True))
        self.stride, self.pad = stride, pad

    def forward(self, x: Array, train: bool) -> Array:
        images = np.split(x, len(self.groups), axis=1)
        self.shape = images[0].shape
        self.cols = []
        outs = []
        for image, (weight, bias) in zip(images, self.groups, strict=True):
            out, col = self._convolved(image, weight, bias)
            self.cols.append(col)
            outs.append(out)
        return _joined(outs, axis=1)

    def _convolved(self, image: Array, weight: Array, bias: Array) -> tuple[Array, Array]:
        """Give the columns, too, which the backward pass needs."""
        n, _, h, w = image.shape
        filters, _, kernel, _ = weight.shape
        out_h, out_w = (out_size(size, kernel, self.stride, self.pad) for size in (h, w))
        col = im2col(image, kernel, self.stride, self.pad)
        out = np.dot(col, weight.reshape(filters, -1).T) + bias
        return out.reshape(n, out_h, out_w, filters).transpose(0, 3, 1, 2), col

    def backward(self, dout: Array) -> Array:
        douts = np.split(dout, len(self.groups), axis=1)
        dx, *gradients = zip(
            *(
                convolution_backward(grad, col, weight, self.shape, self.stride, self.pad)
                for grad, col, (weight, _) in zip(douts, self.cols, self.groups, strict=True)
            ),
            strict=True,
        )
        self.gradients = tuple(_joined(gradient, axis=0) for gradient in gradients)
        return _joined(dx, axis=1)


class Affine(Layer):
    def __init__(self, weight: Array, bias: Array) -> None:
        self.weight, self.bias = weight, bias

    def forward(self, x: Array, train: bool) -> Array:
        self.shape = x.shape
        self.x = x.reshape(len(x), -1)
        out: Array = np.dot(self.x, self.weight) + self.bias
        return out

    def backward(self, dout: Array) -> Array:
        dx: Array = np.dot(dout, self.weight.T)
        self.gradients = (np.dot(self.x.T, dout), np.sum(dout, axis=0))
        return dx.reshape(self.shape)


class Pooling(Layer):
    def __init__(self, kernel: int, stride: int, pad: int) -> None:
        self.window = (kernel, stride, pad)

    def forward(self, x: Array, train: bool) -> Array:
        self.shape = x.shape
        out, self.pixels = max_pool(x, *self.window)
        return out

    def backward(self, dout: Array) -> Array:
        return max_pool_backward(dout, self.pixels, self.shape, *self.window)


class AveragePooling(Pooling):
    def forward(self, x: Array, train: bool) -> Array:
        self.shape = x.shape
        return avg_pool(x, *self.window)

    def backward(self, dout: Array) -> Array:
        return avg_pool_backward(dout, self.shape, *self.window)


class Relu(Layer):
    def forward(self, x: Array, train: bool) -> Array:
        self.mask = x <= 0
        out = x.copy()
        out[self.mask] = 0
        return out

    def backward(self, dout: Array) -> Array:
        dout[self.mask] = 0
        return dout


class Sigmoid(Layer):
    def forward(self, x: Array, train: bool) -> Array:
        self.out: Array = 1 / (1 + np.exp(-x))
        return self.out

    def backward(self, dout: Array) -> Array:
        dx: Array = dout * self.out * (1 - self.out)
        return dx


class LocalResponseNormalization(Layer):
    """Of an odd number of channels, as many on either side."""

    def __init__(self, size: int, alpha: float, beta: float, k: float) -> None:
        self.size, self.alpha, self.beta, self.k = size, alpha / size, beta, k

    def forward(self, x: Array, train: bool) -> Array:
        self.x = x
        self.scale = self.k + self.alpha * self._sums(x**2)
        self.factor = self.scale**-self.beta
        out: Array = x * self.factor
        return out

    def backward(self, dout: Array) -> Array:
        sums = self._sums(dout * self.factor * self.x / self.scale)
        dx: Array = dout * self.factor - 2 * self.alpha * self.beta * self.x * sums
        return dx

    def _sums(self, x: Array) -> Array:
        """Add the channels around every channel."""
        around, channels = self.size // 2, x.shape[1]
        padded = np.pad(x, ((0, 0), (around, around), (0, 0), (0, 0)))
        sums = np.zeros_like(x)
        for first in range(self.size):
            sums += padded[:, first : first + channels]
        return sums


class Dropout(Layer):
    def __init__(self, ratio: float) -> None:
        self.ratio = ratio
        self.rng = np.random.default_rng(0)

    def forward(self, x: Array, train: bool) -> Array:
        if not train:
            return x * (1 - self.ratio)
        self.mask = self.rng.random(x.shape) > self.ratio
        out: Array = x * self.mask
        return out

    def backward(self, dout: Array) -> Array:
        dx: Array = dout * self.mask
        return dx


class SoftmaxWithLoss:
    def forward(self, x: Array, t: Array) -> Any:
        self.t = t
        powers = np.exp(x - x.max(axis=1, keepdims=True))
        self.y = powers / powers.sum(axis=1, keepdims=True)
        return -np.sum(np.log(self.y[np.arange(len(t)), t] + 1e-7)) / len(t)

    def backward(self) -> Array:
        dx: Array = self.y.copy()
        dx[np.arange(len(self.t)), self.t] -= 1
        return dx / len(self.t)


def _joined(groups: Sequence[Array], axis: int) -> Array:
    return groups[0] if len(groups) == 1 else np.concatenate(groups, axis)
