"""Columns, convolution and pooling as a course on NumPy writes them.

Loops go over the kernel, steps over whole arrays. They are a peer in the benchmark and the
reference that every contender is compared with.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Shape = tuple[int, int, int, int]

FILTERED_ROWS = 16


def im2col(image: Array, kernel: int, stride: int, pad: int, fill: float = 0.0) -> Array:
    n, c, h, w = image.shape
    out_h, out_w = _out(h, kernel, stride, pad), _out(w, kernel, stride, pad)
    padded = np.pad(image, ((0, 0), (0, 0), (pad, pad), (pad, pad)), constant_values=fill)
    col = np.zeros((n, c, kernel, kernel, out_h, out_w), image.dtype)
    for kh in range(kernel):
        for kw in range(kernel):
            rows = slice(kh, kh + stride * out_h, stride)
            columns = slice(kw, kw + stride * out_w, stride)
            col[:, :, kh, kw] = padded[:, :, rows, columns]
    return col.transpose(0, 4, 5, 1, 2, 3).reshape(n * out_h * out_w, -1)


def col2im(col: Array, shape: Shape, kernel: int, stride: int, pad: int) -> Array:
    n, c, h, w = shape
    out_h, out_w = _out(h, kernel, stride, pad), _out(w, kernel, stride, pad)
    planes = col.reshape(n, out_h, out_w, c, kernel, kernel).transpose(0, 3, 4, 5, 1, 2)
    padded = np.zeros((n, c, h + 2 * pad + stride - 1, w + 2 * pad + stride - 1), col.dtype)
    for kh in range(kernel):
        for kw in range(kernel):
            rows = slice(kh, kh + stride * out_h, stride)
            columns = slice(kw, kw + stride * out_w, stride)
            padded[:, :, rows, columns] += planes[:, :, kh, kw]
    return padded[:, :, pad : pad + h, pad : pad + w]


def convolution(image: Array, weight: Array, bias: Array, stride: int, pad: int) -> Array:
    n, c, h, w = image.shape
    kernel = weight.shape[2]
    rows = _product(im2col(image, kernel, stride, pad), _by_group(weight, c)) + bias
    shape = (n, _out(h, kernel, stride, pad), _out(w, kernel, stride, pad), len(weight))
    return rows.reshape(shape).transpose(0, 3, 1, 2)


def filtered(image: Array, weight: Array, bias: Array, pad: int) -> Array:
    """Convolve one plane with one filter, whose columns would not fit into memory.

    Every thread adds up the taps of a band of rows that stays in its cache.
    """
    kernel, (size, width) = weight.shape[2], image.shape[2:]
    padded = np.pad(image[0, 0], pad)
    out = np.empty((1, 1, _out(size, kernel, 1, pad), _out(width, kernel, 1, pad)), image.dtype)

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
    # For filters of one channel some three times as fast as matmul.
    products: Array = np.einsum("pgk,gkf->pgf", _grouped(rows, len(matrices)), matrices)
    return products.reshape(len(rows), -1)


def _grouped(rows: Array, groups: int) -> Array:
    return rows.reshape(len(rows), groups, -1)


def max_pool(image: Array, kernel: int, stride: int, pad: int) -> tuple[Array, Array]:
    """Give the maxima, and which pixel of its window each one is."""
    windows = im2col(image, kernel, stride, pad, -np.inf).reshape(-1, kernel * kernel)
    pixel = windows.argmax(axis=1)
    n, c, h, w = image.shape
    shape = (n, _out(h, kernel, stride, pad), _out(w, kernel, stride, pad), c)
    maxima = windows.max(axis=1).reshape(shape)
    return maxima.transpose(0, 3, 1, 2), pixel.reshape(shape).transpose(0, 3, 1, 2)


def max_pool_backward(
    grad: Array, pixel: Array, shape: Shape, kernel: int, stride: int, pad: int
) -> Array:
    flat = grad.transpose(0, 2, 3, 1).ravel()
    windows = np.zeros((flat.size, kernel * kernel), grad.dtype)
    windows[np.arange(flat.size), pixel.transpose(0, 2, 3, 1).ravel()] = flat
    return col2im(windows.reshape(-1, shape[1] * kernel * kernel), shape, kernel, stride, pad)


def max_unpool(values: Array, indices: Array, shape: Shape) -> Array:
    planes = (shape[0], shape[1], -1)
    image = np.zeros(shape, values.dtype)
    np.put_along_axis(image.reshape(planes), indices.reshape(planes), values.reshape(planes), 2)
    return image


def avg_pool(image: Array, kernel: int, stride: int, pad: int) -> Array:
    n, c, h, w = image.shape
    means: Array = im2col(image, kernel, stride, pad).reshape(-1, kernel * kernel).mean(axis=1)
    shape = (n, _out(h, kernel, stride, pad), _out(w, kernel, stride, pad), c)
    return means.reshape(shape).transpose(0, 3, 1, 2)


def avg_pool_backward(grad: Array, shape: Shape, kernel: int, stride: int, pad: int) -> Array:
    flat = grad.transpose(0, 2, 3, 1).reshape(-1, 1) / np.float32(kernel * kernel)
    windows = np.repeat(flat, kernel * kernel, axis=1)
    return col2im(windows.reshape(-1, shape[1] * kernel * kernel), shape, kernel, stride, pad)


def plane_indices(pixel: Array, size: int, kernel: int, stride: int, pad: int) -> Array:
    """Positions in windows (N, C, OH, OW) as flat positions in their square input planes."""
    starts = np.arange(pixel.shape[2]) * stride - pad
    rows = starts[:, None] + pixel // kernel
    columns = starts[None, :] + pixel % kernel
    return np.ascontiguousarray(rows * size + columns)


def _out(size: int, kernel: int, stride: int, pad: int) -> int:
    return (size + 2 * pad - kernel) // stride + 1
