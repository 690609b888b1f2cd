"""Layers as a course on NumPy writes them; every one computes the gradient of its input."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from bench.textbook import (
    Array,
    avg_pool,
    avg_pool_backward,
    convolution_backward,
    im2col,
    max_pool,
    max_pool_backward,
)


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
        out_h, out_w = ((size + 2 * self.pad - kernel) // self.stride + 1 for size in (h, w))
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
        out, self.pixel = max_pool(x, *self.window)
        return out

    def backward(self, dout: Array) -> Array:
        return max_pool_backward(dout, self.pixel, self.shape, *self.window)


class AveragePooling(Layer):
    def __init__(self, kernel: int, stride: int, pad: int) -> None:
        self.window = (kernel, stride, pad)

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
