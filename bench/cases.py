"""The inputs of one measurement and the result that every contender must give.

Values are small integers, so that sums are exact in any order and results can be compared for
equality; maxima are taken over normal variates, so that ties do not make the search easier. Errors
of convolutions are measured on normal variates.
"""

from dataclasses import replace
from functools import cached_property
from math import prod, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from bench import textbook
from bench.shapes import Workload

Array = npt.NDArray[Any]

# Convolutions are computed of as many images at once as have this number of columns, or of one.
COL_ELEMENTS = 1 << 25
# Contenders that need all columns at once take no part where these are larger.
MOST_COLUMN_BYTES = 2 << 30
# Errors of filters of a single image are measured on an image of this size.
ERROR_SIZE = 512


class Case:
    dtype = "float32"

    def __init__(self, operation: str, workload: Workload, normal: bool = False) -> None:
        self.operation = operation
        self.workload = workload
        self.normal = normal
        self.window = (workload.kernel, workload.stride, workload.pad)

    @cached_property
    def image(self) -> Array:
        normal = self.normal or self.operation.startswith("max_")
        return _values(self.workload.image_shape, 0, normal)

    @cached_property
    def col(self) -> Array:
        return _values(self.workload.col_shape, 0, self.normal)

    @cached_property
    def grad(self) -> Array:
        return _values(self.workload.output_shape, 1, self.normal)

    @cached_property
    def weight(self) -> Array:
        return _values(self.workload.weight_shape, 2, self.normal)

    @cached_property
    def bias(self) -> Array:
        return _values((self.workload.filters,), 3, self.normal)

    @cached_property
    def unfolded(self) -> Array:
        """`col` in the layout of torch's fold: (N, C*KH*KW, OH*OW)."""
        return np.ascontiguousarray(rows_to_unfolded(self.col, self.workload))

    @cached_property
    def saved_col(self) -> Array:
        """What the textbook's convolution keeps for its backward pass."""
        return textbook.im2col(self.image, *self.window)

    @property
    def has_columns(self) -> bool:
        """Whether all columns together are small enough to be made."""
        return 4 * prod(self.workload.col_shape) <= MOST_COLUMN_BYTES

    @cached_property
    def pooled(self) -> tuple[Array, Array]:
        return textbook.max_pool(self.image, *self.window)

    @cached_property
    def indices(self) -> Array:
        """The maxima's flat positions in their planes."""
        return textbook.plane_indices(self.pooled[1], self.workload.size, *self.window)

    @property
    def expected(self) -> tuple[Array, ...]:
        return self.computed(np.float32)

    @property
    def exact(self) -> tuple[Array, ...]:
        return self.computed(np.float64)

    def computed(self, dtype: type[np.floating[Any]]) -> tuple[Array, ...]:
        """Compute the results in `dtype` as the textbook does."""
        if self.workload.filters:
            return self._convolved(dtype)
        image, grad = self.image.astype(dtype, copy=False), self.grad.astype(dtype, copy=False)
        shape = self.workload.image_shape
        match self.operation:
            case "im2col":
                return (textbook.im2col(image, *self.window),)
            case "unfold":
                return (rows_to_unfolded(textbook.im2col(image, *self.window), self.workload),)
            case "col2im" | "fold":
                return (textbook.col2im(self.col.astype(dtype, copy=False), shape, *self.window),)
            case "max_pool2d":
                return (textbook.max_pool(image, *self.window)[0],)
            case "max_pool2d_indices":
                return (textbook.max_pool(image, *self.window)[0], self.indices)
            case "max_pool2d_backward":
                return (textbook.max_pool_backward(grad, self.pooled[1], shape, *self.window),)
            case "max_unpool2d":
                return (textbook.max_unpool(grad, self.indices, shape),)
            case "avg_pool2d":
                return (textbook.avg_pool(image, *self.window),)
            case "avg_pool2d_backward":
                return (textbook.avg_pool_backward(grad, shape, *self.window),)
        raise ValueError(f"unknown operation {self.operation!r}")

    def _convolved(self, dtype: type[np.floating[Any]]) -> tuple[Array, ...]:
        """Go through the images in runs whose columns fit into memory."""
        w = self.workload
        run = max(1, COL_ELEMENTS // (w.out_size**2 * w.c * w.kernel**2))
        parts = [
            self._convolved_images(slice(first, min(first + run, w.n)), dtype)
            for first in range(0, w.n, run)
        ]
        if len(parts) == 1:
            return parts[0]
        images, *of_weights = zip(*parts, strict=True)
        return (np.concatenate(images), *(np.sum(part, axis=0) for part in of_weights))

    def _convolved_images(self, images: slice, dtype: type[np.floating[Any]]) -> tuple[Array, ...]:
        image, weight = self.image[images].astype(dtype), self.weight.astype(dtype)
        shape = (len(image), *self.workload.image_shape[1:])
        _, stride, pad = self.window
        if self.operation == "conv2d" and self.workload.is_single_image and stride == 1:
            return (textbook.filtered(image, weight, self.bias.astype(dtype), pad),)
        if self.operation == "conv2d":
            return (textbook.convolution(image, weight, self.bias.astype(dtype), stride, pad),)
        grad = self.grad[images].astype(dtype)
        match self.operation:
            case "conv2d_backward":
                col = textbook.im2col(image, *self.window)
                return textbook.convolution_backward(grad, col, weight, shape, stride, pad)
            case "conv_transpose2d":
                return (textbook.convolution_transpose(grad, weight, shape, stride, pad),)
        raise ValueError(f"unknown operation {self.operation!r}")

    def for_errors(self) -> "Case":
        """Give the same on normal variates, and as few images as tell the error."""
        w = self.workload
        images = COL_ELEMENTS // (w.out_size**2 * w.c * w.kernel**2)
        size = min(w.size, ERROR_SIZE) if w.is_single_image else w.size
        fewer = replace(w, n=min(w.n, 4, max(1, images)), size=size)
        return Case(self.operation, fewer, normal=True)

    def errors(self, results: tuple[Array, ...], exact: tuple[Array, ...]) -> list[float]:
        return list(map(relative_rms, results, exact))

    def agrees(self, results: tuple[Array, ...], expected: tuple[Array, ...]) -> bool:
        """Whether `results`, or as many of them as the contender computes, are as expected."""
        return all(map(self._equal, results, expected))

    def _equal(self, got: Array, want: Array) -> bool:
        if self.operation.startswith("avg_"):  # Quotients are rounded.
            return got.shape == want.shape and np.allclose(got, want, rtol=1e-6, atol=1e-6)
        if self.workload.filters:  # Fourier's and Winograd's transforms round.
            return np.array_equal(np.rint(got), want)
        return np.array_equal(got, want)

    @cached_property
    def moved(self) -> tuple[int, int]:
        """Bytes of the operation's inputs and of its results, each once."""
        w = self.workload
        shapes = (w.image_shape, w.output_shape, w.col_shape, w.weight_shape)
        image, output, col, weight = (4 * prod(shape) for shape in shapes)
        match self.operation:
            case "im2col" | "unfold":
                return image, col
            case "col2im" | "fold":
                return col, image
            case "max_pool2d_indices":
                return image, 3 * output  # An index has 8 bytes.
            case "max_pool2d_backward" | "max_unpool2d":
                return 3 * output, image
            case "max_pool2d" | "avg_pool2d":
                return image, output
            case "avg_pool2d_backward":
                return output, image
            case "conv2d":
                return image + weight, output
            case "conv_transpose2d":
                return output + weight, image
            case "conv2d_backward":
                return output + image + weight, image + weight
        raise ValueError(f"unknown operation {self.operation!r}")

    @cached_property
    def flops(self) -> int:
        """Operations of a convolution, a multiplication and an addition being two; otherwise 0."""
        w = self.workload
        if not w.filters:
            return 0
        both = 2 if self.operation == "conv2d_backward" else 1
        return both * 2 * prod(w.output_shape) * prod(w.weight_shape[1:])


def relative_rms(got: Array, want: Array) -> float:
    """Give the root mean square of the error, relative to that of the numbers."""
    power = float(np.mean(np.square(want, dtype=np.float64)))
    error = float(np.mean(np.square(got - want, dtype=np.float64)))
    return sqrt(error / power) if power else sqrt(error)


def rows_to_unfolded(col: Array, workload: Workload) -> Array:
    return col.reshape(workload.n, -1, col.shape[1]).transpose(0, 2, 1)


def unfolded_to_rows(col: Array) -> Array:
    return col.transpose(0, 2, 1).reshape(-1, col.shape[1])


def _values(shape: tuple[int, ...], seed: int, normal: bool) -> Array:
    rng = np.random.default_rng(seed)
    if normal:
        return rng.standard_normal(shape, dtype=np.float32)
    return rng.integers(-8, 9, shape, np.int8).astype(np.float32)
