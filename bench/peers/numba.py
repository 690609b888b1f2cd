"""Numba: loops as one writes them first, in parallel over pieces of the result."""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numba
import numpy as np

from bench.cases import Array, Case
from bench.peers import Contender, one

F = TypeVar("F", bound=Callable[..., Any])


class Peer:
    """The first call compiles."""

    version = str(numba.__version__)

    def __init__(self, threads: int) -> None:
        numba.set_num_threads(threads)

    def im2col(self, case: Case) -> Iterator[Contender]:
        x, window = case.image, case.window
        yield _contender(lambda: _im2col(x, *window))

    def col2im(self, case: Case) -> Iterator[Contender]:
        col, shape, window = case.col, case.workload.image_shape, case.window
        yield _contender(lambda: _col2im(col, shape, *window))

    def max_pool2d(self, case: Case) -> Iterator[Contender]:
        x, window = case.image, case.window
        yield _contender(lambda: _max_pool2d(x, *window))

    def max_pool2d_indices(self, case: Case) -> Iterator[Contender]:
        x, window = case.image, case.window
        yield Contender("numba", "fresh", lambda: _max_pool2d_indices(x, *window), tuple)

    def conv2d(self, case: Case) -> Iterator[Contender]:
        x, weight, bias, (_, s, p) = case.image, case.weight, case.bias, case.window
        yield _contender(lambda: _conv2d(x, weight, bias, s, p))


def _contender(call: Callable[[], Any]) -> Contender:
    return Contender("numba", "fresh", call, one)


def _compiled(function: F) -> F:
    compiled: F = numba.njit(parallel=True)(function)
    return compiled


@_compiled
def _im2col(image: Array, kernel: int, stride: int, pad: int) -> Array:
    n, c, h, w = image.shape
    out_h = (h + 2 * pad - kernel) // stride + 1
    out_w = (w + 2 * pad - kernel) // stride + 1
    col = np.zeros((n * out_h * out_w, c * kernel * kernel), image.dtype)
    for piece in numba.prange(n * out_h):
        i, oh = divmod(np.int64(piece), out_h)
        for ow in range(out_w):
            row = col[np.int64(piece) * out_w + ow]
            for ch in range(c):
                for kh in range(kernel):
                    ih = oh * stride - pad + kh
                    if 0 <= ih < h:
                        for kw in range(kernel):
                            iw = ow * stride - pad + kw
                            if 0 <= iw < w:
                                row[(ch * kernel + kh) * kernel + kw] = image[i, ch, ih, iw]
    return col


@_compiled
def _col2im(
    col: Array, shape: tuple[int, int, int, int], kernel: int, stride: int, pad: int
) -> Array:
    n, c, h, w = shape
    out_h = (h + 2 * pad - kernel) // stride + 1
    out_w = (w + 2 * pad - kernel) // stride + 1
    image = np.zeros(shape, col.dtype)
    for piece in numba.prange(n * c):
        i, ch = divmod(np.int64(piece), c)
        for oh in range(out_h):
            for ow in range(out_w):
                row = col[(i * out_h + oh) * out_w + ow]
                for kh in range(kernel):
                    ih = oh * stride - pad + kh
                    if 0 <= ih < h:
                        for kw in range(kernel):
                            iw = ow * stride - pad + kw
                            if 0 <= iw < w:
                                image[i, ch, ih, iw] += row[(ch * kernel + kh) * kernel + kw]
    return image


@_compiled
def _max_pool2d(image: Array, kernel: int, stride: int, pad: int) -> Array:
    n, c, h, w = image.shape
    out_h = (h + 2 * pad - kernel) // stride + 1
    out_w = (w + 2 * pad - kernel) // stride + 1
    maxima = np.empty((n, c, out_h, out_w), image.dtype)
    for piece in numba.prange(n * c):
        i, ch = divmod(np.int64(piece), c)
        plane = image[i, ch]
        for oh in range(out_h):
            top = oh * stride - pad
            for ow in range(out_w):
                left = ow * stride - pad
                best = image.dtype.type(-np.inf)
                for ih in range(max(top, 0), min(top + kernel, h)):
                    for iw in range(max(left, 0), min(left + kernel, w)):
                        best = max(best, plane[ih, iw])
                maxima[i, ch, oh, ow] = best
    return maxima


@_compiled
def _max_pool2d_indices(image: Array, kernel: int, stride: int, pad: int) -> tuple[Array, Array]:
    n, c, h, w = image.shape
    out_h = (h + 2 * pad - kernel) // stride + 1
    out_w = (w + 2 * pad - kernel) // stride + 1
    maxima = np.empty((n, c, out_h, out_w), image.dtype)
    indices = np.empty((n, c, out_h, out_w), np.int64)
    for piece in numba.prange(n * c):
        i, ch = divmod(np.int64(piece), c)
        plane = image[i, ch]
        for oh in range(out_h):
            top = oh * stride - pad
            for ow in range(out_w):
                left = ow * stride - pad
                best, index = image.dtype.type(-np.inf), 0
                for ih in range(max(top, 0), min(top + kernel, h)):
                    for iw in range(max(left, 0), min(left + kernel, w)):
                        if plane[ih, iw] > best:
                            best, index = plane[ih, iw], ih * w + iw
                maxima[i, ch, oh, ow] = best
                indices[i, ch, oh, ow] = index
    return maxima, indices


@_compiled
def _conv2d(image: Array, weight: Array, bias: Array, stride: int, pad: int) -> Array:
    n, c, h, w = image.shape
    filters, channels, kernel, _ = weight.shape
    out_h = (h + 2 * pad - kernel) // stride + 1
    out_w = (w + 2 * pad - kernel) // stride + 1
    padded = np.zeros((n, c, h + 2 * pad, w + 2 * pad), image.dtype)
    padded[:, :, pad : pad + h, pad : pad + w] = image
    output = np.empty((n, filters, out_h, out_w), image.dtype)
    for piece in numba.prange(n * filters):
        i, f = divmod(np.int64(piece), filters)
        first = f // (filters // (c // channels)) * channels
        plane = output[i, f]
        plane[:] = bias[f]
        for ch in range(channels):
            source = padded[i, first + ch]
            for kh in range(kernel):
                for kw in range(kernel):
                    value = weight[f, ch, kh, kw]
                    for oh in range(out_h):
                        for ow in range(out_w):
                            plane[oh, ow] += value * source[oh * stride + kh, ow * stride + kw]
    return output
