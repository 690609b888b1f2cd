"""The inputs of one measurement and the result that every contender must give.

Values are small integers, so that sums are exact in any order and results can be compared for
equality; maxima are taken over normal variates, so that ties do not make the search easier. Errors
of convolutions are measured on normal variates.
"""

from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from bench import textbook
from bench.shapes import Workload

Array = npt.NDArray[Any]


class Case:
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

    @cached_property
    def pooled(self) -> tuple[Array, Array]:
        return textbook.max_pool(self.image, *self.window)

    @cached_property
    def indices(self) -> Array:
        """The maxima's flat positions in their planes."""
        return textbook.plane_indices(self.pooled[1], self.workload.size, *self.window)

    @cached_property
    def expected(self) -> tuple[Array, ...]:
        shape = self.workload.image_shape
        match self.operation:
            case "im2col":
                return (textbook.im2col(self.image, *self.window),)
            case "unfold":
                return (rows_to_unfolded(textbook.im2col(self.image, *self.window), self.workload),)
            case "col2im" | "fold":
                return (textbook.col2im(self.col, shape, *self.window),)
            case "max_pool2d":
                return (self.pooled[0],)
            case "max_pool2d_indices":
                return (self.pooled[0], self.indices)
            case "max_pool2d_backward":
                return (textbook.max_pool_backward(self.grad, self.pooled[1], shape, *self.window),)
            case "max_unpool2d":
                return (textbook.max_unpool(self.grad, self.indices, shape),)
            case "avg_pool2d":
                return (textbook.avg_pool(self.image, *self.window),)
            case "avg_pool2d_backward":
                return (textbook.avg_pool_backward(self.grad, shape, *self.window),)
            case _:
                return self.convolved(np.float32)

    def convolved(self, dtype: type[np.floating[Any]]) -> tuple[Array, ...]:
        """Compute the convolution or its gradients in `dtype`, as the textbook does."""
        image, weight, bias, grad = (
            array.astype(dtype, copy=False)
            for array in (self.image, self.weight, self.bias, self.grad)
        )
        _, stride, pad = self.window
        if self.operation == "conv2d":
            return (textbook.convolution(image, weight, bias, stride, pad),)
        shape = self.workload.image_shape
        if self.operation == "conv2d_backward":
            col = self.saved_col.astype(dtype, copy=False)
            return textbook.convolution_backward(grad, col, weight, shape, stride, pad)
        if self.operation == "conv_transpose2d":
            return (textbook.convolution_transpose(grad, weight, shape, stride, pad),)
        raise ValueError(f"unknown operation {self.operation!r}")

    def agrees(self, results: tuple[Array, ...]) -> bool:
        """Whether `results`, or as many of them as the contender computes, are as expected."""
        return all(
            self._equal(got, want) for got, want in zip(results, self.expected, strict=False)
        )

    def _equal(self, got: Array, want: Array) -> bool:
        if self.operation.startswith("avg_"):  # quotients are rounded
            return got.shape == want.shape and np.allclose(got, want, rtol=1e-6, atol=0.0)
        if self.operation.startswith("conv"):  # Winograd's transforms round
            return np.array_equal(np.rint(got), want)
        return np.array_equal(got, want)

    @cached_property
    def nbytes(self) -> int:
        """What rates count: the columns; otherwise all inputs and results, each once."""
        w = self.workload
        if w.filters:
            image, weight, output = (
                int(np.prod(shape)) for shape in (w.image_shape, w.weight_shape, w.output_shape)
            )
            both = 2 if self.operation == "conv2d_backward" else 1
            return 4 * (both * (image + weight) + output)
        if self.operation in ("im2col", "unfold", "col2im", "fold"):
            return 4 * int(np.prod(w.col_shape))
        pooled_bytes = 4 if self.operation in ("max_pool2d", "avg_pool2d") else 12
        return 4 * int(np.prod(w.image_shape)) + pooled_bytes * int(np.prod(w.output_shape))

    @cached_property
    def flops(self) -> int:
        """Operations of a convolution, a multiplication and an addition being two; otherwise 0."""
        w = self.workload
        if not w.filters:
            return 0
        both = 2 if self.operation == "conv2d_backward" else 1
        return both * 2 * int(np.prod(w.output_shape) * np.prod(w.weight_shape[1:]))


def rows_to_unfolded(col: Array, workload: Workload) -> Array:
    return col.reshape(workload.n, -1, col.shape[1]).transpose(0, 2, 1)


def unfolded_to_rows(col: Array) -> Array:
    return col.transpose(0, 2, 1).reshape(-1, col.shape[1])


def _values(shape: tuple[int, ...], seed: int, normal: bool) -> Array:
    rng = np.random.default_rng(seed)
    if normal:
        return rng.standard_normal(shape, dtype=np.float32)
    return rng.integers(-8, 9, shape, np.int8).astype(np.float32)
