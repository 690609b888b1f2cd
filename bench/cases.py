"""The inputs of one measurement and the result that every contender must give.

Values are small integers, so that sums are exact in any order and results can be compared for
equality; maxima are taken over normal variates, so that ties do not make the search easier.
"""

from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from bench import textbook
from bench.shapes import Workload

Array = npt.NDArray[Any]


class Case:
    def __init__(self, operation: str, workload: Workload) -> None:
        self.operation = operation
        self.workload = workload
        self.window = (workload.kernel, workload.stride, workload.pad)

    @cached_property
    def image(self) -> Array:
        if self.operation.startswith("max_"):
            rng = np.random.default_rng(0)
            return rng.standard_normal(self.workload.image_shape, dtype=np.float32)
        return _integers(self.workload.image_shape)

    @cached_property
    def col(self) -> Array:
        return _integers(self.workload.col_shape)

    @cached_property
    def grad(self) -> Array:
        return _integers(self.workload.output_shape)

    @cached_property
    def unfolded(self) -> Array:
        """`col` in the layout of torch's fold: (N, C*KH*KW, OH*OW)."""
        return np.ascontiguousarray(rows_to_unfolded(self.col, self.workload))

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
        raise ValueError(f"unknown operation {self.operation!r}")

    def agrees(self, results: tuple[Array, ...]) -> bool:
        """Whether `results`, or as many of them as the contender computes, are as expected."""
        return all(
            self._equal(got, want) for got, want in zip(results, self.expected, strict=False)
        )

    def _equal(self, got: Array, want: Array) -> bool:
        if self.operation.startswith("avg_"):  # quotients are rounded
            return got.shape == want.shape and np.allclose(got, want, rtol=1e-6, atol=0.0)
        return np.array_equal(got, want)

    @cached_property
    def nbytes(self) -> int:
        """What rates count: the columns, or a pooling's input and results."""
        w = self.workload
        if self.operation in ("im2col", "unfold", "col2im", "fold"):
            return 4 * int(np.prod(w.col_shape))
        pooled_bytes = 4 if self.operation in ("max_pool2d", "avg_pool2d") else 12
        return 4 * int(np.prod(w.image_shape)) + pooled_bytes * int(np.prod(w.output_shape))


def rows_to_unfolded(col: Array, workload: Workload) -> Array:
    return col.reshape(workload.n, -1, col.shape[1]).transpose(0, 2, 1)


def unfolded_to_rows(col: Array) -> Array:
    return col.transpose(0, 2, 1).reshape(-1, col.shape[1])


def _integers(shape: tuple[int, ...]) -> Array:
    return np.random.default_rng(0).integers(-8, 9, shape, np.int8).astype(np.float32)
