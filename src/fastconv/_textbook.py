"""Columns and max-pooling in plain NumPy, as a course writes them: loops over taps, whole arrays.

The demo and the benchmark compare fastconv with these functions. Windows and images may have any
shape, but a window is as wide as it is high and moves by one stride in both directions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["col2im", "im2col", "max_pool", "max_pool_backward", "out_size", "plane_indices"]

Array = NDArray[Any]
Shape = tuple[int, ...]


def out_size(size: int, kernel: int, stride: int, pad: int) -> int:
    """Return the number of windows along one side of an image."""
    return (size + 2 * pad - kernel) // stride + 1


def im2col(image: Array, kernel: int, stride: int, pad: int, fill: float = 0.0) -> Array:
    """Lay out all windows as rows: (N, C, H, W) -> (N*OH*OW, C*KH*KW)."""
    n, c, h, w = image.shape
    out_h, out_w = out_size(h, kernel, stride, pad), out_size(w, kernel, stride, pad)
    padded = np.pad(image, ((0, 0), (0, 0), (pad, pad), (pad, pad)), constant_values=fill)
    col = np.zeros((n, c, kernel, kernel, out_h, out_w), image.dtype)
    for kh, kw, rows, columns in _taps(kernel, stride, out_h, out_w):
        col[:, :, kh, kw] = padded[:, :, rows, columns]
    return col.transpose(0, 4, 5, 1, 2, 3).reshape(n * out_h * out_w, -1)


def col2im(col: Array, shape: Shape, kernel: int, stride: int, pad: int) -> Array:
    """Add up all windows, the adjoint of im2col: (N*OH*OW, C*KH*KW) -> `shape`."""
    n, c, h, w = shape
    out_h, out_w = out_size(h, kernel, stride, pad), out_size(w, kernel, stride, pad)
    windows = col.reshape(n, out_h, out_w, c, kernel, kernel).transpose(0, 3, 4, 5, 1, 2)
    padded = np.zeros((n, c, h + 2 * pad + stride - 1, w + 2 * pad + stride - 1), col.dtype)
    for kh, kw, rows, columns in _taps(kernel, stride, out_h, out_w):
        padded[:, :, rows, columns] += windows[:, :, kh, kw]
    return padded[:, :, pad : pad + h, pad : pad + w]


def _taps(
    kernel: int, stride: int, out_h: int, out_w: int
) -> Iterator[tuple[int, int, slice, slice]]:
    """Name each tap of a window, and the pixels of the padded image that it meets."""
    for kh in range(kernel):
        for kw in range(kernel):
            rows = slice(kh, kh + stride * out_h, stride)
            yield kh, kw, rows, slice(kw, kw + stride * out_w, stride)


def max_pool(image: Array, kernel: int, stride: int, pad: int) -> tuple[Array, Array]:
    """Find the maximum of every window, and which pixel of the window, row by row, it is."""
    n, c, h, w = image.shape
    windows = im2col(image, kernel, stride, pad, -np.inf if pad else 0.0).reshape(-1, kernel**2)
    pixels = windows.argmax(axis=1)
    shape = (n, out_size(h, kernel, stride, pad), out_size(w, kernel, stride, pad), c)
    maxima = windows.max(axis=1).reshape(shape)
    return maxima.transpose(0, 3, 1, 2), pixels.reshape(shape).transpose(0, 3, 1, 2)


def max_pool_backward(
    grad: Array, pixels: Array, shape: Shape, kernel: int, stride: int, pad: int
) -> Array:
    """Add each gradient to the pixel that was its window's maximum; the others get zero."""
    flat = grad.transpose(0, 2, 3, 1).ravel()
    windows = np.zeros((flat.size, kernel**2), grad.dtype)
    windows[np.arange(flat.size), pixels.transpose(0, 2, 3, 1).ravel()] = flat
    return col2im(windows.reshape(-1, shape[1] * kernel**2), shape, kernel, stride, pad)


def plane_indices(pixels: Array, width: int, kernel: int, stride: int, pad: int) -> Array:
    """Turn pixels of windows (N, C, OH, OW) into fastconv's indices: h * `width` + w."""
    out_h, out_w = pixels.shape[2:]
    rows = (np.arange(out_h) * stride - pad)[:, np.newaxis] + pixels // kernel
    columns = np.arange(out_w) * stride - pad + pixels % kernel
    return np.ascontiguousarray(rows * width + columns, np.int64)
