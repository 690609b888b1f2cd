"""Layers in plain NumPy, as course code writes them: what those of the library are measured by."""

from __future__ import annotations

from typing import Any

import numpy as np
import reference
from helpers import Array


class Convolution:
    def __init__(self, W: Array, b: Any, stride: int = 1, pad: int = 0) -> None:
        self.W, self.b, self.stride, self.pad = W, b, stride, pad

    def forward(self, x: Array) -> Array:
        self.x = x
        out = reference.textbook_conv2d(x, self.W, self.stride, self.pad)
        rows = out.transpose(0, 2, 3, 1).reshape(-1, len(self.W)) + self.b
        result: Array = rows.reshape(len(x), *out.shape[2:], -1).transpose(0, 3, 1, 2)
        return result

    def backward(self, dout: Array) -> Array:
        window = (self.stride, self.pad)
        grads = reference.textbook_conv2d_backward(dout, self.x, self.W, *window)
        dx, self.dW, self.db = grads
        return dx


class Pooling:
    def __init__(self, pool_h: int, pool_w: int, stride: int = 1) -> None:
        self.window = (pool_h, pool_w, stride, 0)

    def forward(self, x: Array) -> Array:
        n, c, h, w = self.shape = x.shape
        pool_h, pool_w, stride, _ = self.window
        self.col_shape = (-1, pool_h * pool_w)
        col = reference.textbook_im2col(x, *self.window).reshape(self.col_shape)
        self.arg_max = col.argmax(axis=1)
        out_h, out_w = (h - pool_h) // stride + 1, (w - pool_w) // stride + 1
        out: Array = col.max(axis=1).reshape(n, out_h, out_w, c).transpose(0, 3, 1, 2)
        return out

    def backward(self, dout: Array) -> Array:
        grads = dout.transpose(0, 2, 3, 1)
        col = np.zeros((grads.size, self.col_shape[1]), dout.dtype)
        col[np.arange(grads.size), self.arg_max] = grads.ravel()
        col = col.reshape(grads[..., 0].size, -1)
        return reference.textbook_col2im(col, self.shape, *self.window)


class Affine:
    def __init__(self, W: Array, b: Any) -> None:
        self.W, self.b = W, b

    def forward(self, x: Array) -> Array:
        self.shape = x.shape
        self.x = x.reshape(x.shape[0], -1)
        out: Array = np.dot(self.x, self.W) + self.b
        return out

    def backward(self, dout: Array) -> Array:
        self.dW, self.db = np.dot(self.x.T, dout), dout.sum(axis=0)
        dx: Array = np.dot(dout, self.W.T).reshape(self.shape)
        return dx


class Relu:
    def forward(self, x: Array) -> Array:
        self.mask = x <= 0
        out = x.copy()
        out[self.mask] = 0
        return out

    def backward(self, dout: Array) -> Array:
        dx = dout.copy()
        dx[self.mask] = 0
        return dx


class Sigmoid:
    def forward(self, x: Array) -> Array:
        self.out: Array = 1 / (1 + np.exp(-x))
        return self.out

    def backward(self, dout: Array) -> Array:
        return dout * (1.0 - self.out) * self.out


class BatchNormalization:
    """Of features, which for images are pixels."""

    def __init__(self, gamma: Array, beta: Array, momentum: float = 0.9) -> None:
        self.gamma, self.beta, self.momentum = gamma, beta, momentum
        self.running_mean: Any = np.zeros(gamma.size)
        self.running_var: Any = np.zeros(gamma.size)

    def forward(self, x: Array, train_flg: bool = True) -> Array:
        self.shape = x.shape
        x = x.reshape(x.shape[0], -1)
        mean, var = self.running_mean, self.running_var
        if train_flg:
            mean = x.mean(axis=0)
            var = np.mean((x - mean) ** 2, axis=0)
            for name, new in (("running_mean", mean), ("running_var", var)):
                old = getattr(self, name)
                setattr(self, name, self.momentum * old + (1 - self.momentum) * new)
        self.xc = x - mean
        self.std = np.sqrt(var + 10e-7)
        self.xn = self.xc / self.std
        out: Array = (self.gamma * self.xn + self.beta).reshape(self.shape)
        return out

    def backward(self, dout: Array) -> Array:
        dout = dout.reshape(len(dout), -1)
        count = len(dout)
        self.dbeta, self.dgamma = dout.sum(axis=0), np.sum(self.xn * dout, axis=0)
        dxn = self.gamma * dout
        dxc = dxn / self.std
        dstd = -np.sum((dxn * self.xc) / (self.std * self.std), axis=0)
        dvar = 0.5 * dstd / self.std
        dxc += (2.0 / count) * self.xc * dvar
        dmean = dxc.sum(axis=0)
        dx: Array = (dxc - dmean / count).reshape(self.shape)
        return dx


class SoftmaxWithLoss:
    def forward(self, x: Array, t: Array) -> float:
        powers = np.exp(x - x.max(axis=1, keepdims=True))
        self.y: Array = powers / powers.sum(axis=1, keepdims=True)
        self.t = t.argmax(axis=1) if t.size == self.y.size else t
        count = len(self.y)
        return float(-np.sum(np.log(self.y[np.arange(count), self.t] + 1e-7)) / count)

    def backward(self) -> Array:
        dx = self.y.copy()
        dx[np.arange(len(dx)), self.t] -= 1
        return dx / len(dx)


def local_response(x: Array, size: int, alpha: float, beta: float, k: float) -> Array:
    """Divide by a norm of the channels around, in loops."""
    out = np.zeros_like(x)
    channels = x.shape[1]
    for c in range(channels):
        near = x[:, max(0, c - size // 2) : min(channels, c + (size - 1) // 2 + 1)]
        out[:, c] = x[:, c] / (k + alpha / size * (near**2).sum(axis=1)) ** beta
    return out
