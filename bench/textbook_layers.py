"""Layers as a course on NumPy writes them; every one computes the gradient of its input."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from bench.textbook import Array, col2im, im2col, max_pool, max_pool_backward


class Layer(ABC):
    gradients: tuple[Array, ...] = ()  # of the parameters, after `backward`

    @abstractmethod
    def forward(self, x: Array, train: bool) -> Array: ...

    @abstractmethod
    def backward(self, dout: Array) -> Array: ...


class Convolution(Layer):
    def __init__(self, weight: Array, bias: Array, stride: int, pad: int) -> None:
        self.weight, self.bias = weight, bias
        self.stride, self.pad = stride, pad

    def forward(self, x: Array, train: bool) -> Array:
        n, _, h, w = x.shape
        filters, _, kernel, _ = self.weight.shape
        out_h, out_w = ((size + 2 * self.pad - kernel) // self.stride + 1 for size in (h, w))
        self.shape = x.shape
        self.col = im2col(x, kernel, self.stride, self.pad)
        self.col_weight = self.weight.reshape(filters, -1).T
        out: Array = np.dot(self.col, self.col_weight) + self.bias
        return out.reshape(n, out_h, out_w, filters).transpose(0, 3, 1, 2)

    def backward(self, dout: Array) -> Array:
        filters, _, kernel, _ = self.weight.shape
        dout = dout.transpose(0, 2, 3, 1).reshape(-1, filters)
        grad_weight = np.dot(self.col.T, dout).T.reshape(self.weight.shape)
        self.gradients = (grad_weight, np.sum(dout, axis=0))
        dcol = np.dot(dout, self.col_weight.T)
        return col2im(dcol, self.shape, kernel, self.stride, self.pad)


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


class Relu(Layer):
    def forward(self, x: Array, train: bool) -> Array:
        self.mask = x <= 0
        out = x.copy()
        out[self.mask] = 0
        return out

    def backward(self, dout: Array) -> Array:
        dout[self.mask] = 0
        return dout


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
