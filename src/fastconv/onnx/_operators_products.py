"""Products of matrices."""

from __future__ import annotations

import numpy as np

from fastconv._arrays import Array
from fastconv.onnx._checks import REALS, as_type, rank, require, room, same_dtypes, wide
from fastconv.onnx._table import operator
from fastconv.product import matmul


def product(a: Array, b: Array) -> Array:
    """Multiply as `numpy.matmul`: floats on the threads of this library, integers exactly."""
    require(rank(a, 1), REALS)
    rank(b, 1)
    same_dtypes(a, b)
    if a.ndim > 2 or b.ndim > 2:
        batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        room((*batch, a.shape[-2] if a.ndim > 1 else 1, b.shape[-1]), a.dtype)
    if a.dtype.kind != "f" or b.ndim != 2 or a.ndim < 2 or a.shape[-1] != b.shape[0]:
        return as_type(np.matmul(wide(a), wide(b)), a.dtype)
    room((*a.shape[:-1], b.shape[1]), a.dtype)
    rows = a.reshape(-1, a.shape[-1]) if a.size else np.empty((0, a.shape[-1]), a.dtype)
    return matmul(rows, b).reshape(*a.shape[:-1], b.shape[1])


@operator("MatMul", 1, 9, 13)
def matrix_product(a: Array, b: Array) -> Array:
    """Multiply matrices, or stacks of them."""
    return product(a, b)


def _gemm(
    a: Array, b: Array, c: Array | None, alpha: float, beta: float, trans_a: int, trans_b: int
) -> Array:
    require(rank(a, 2, 2), REALS)
    rank(b, 2, 2)
    same_dtypes(a, b, c)
    left, right = a.T if trans_a else a, b.T if trans_b else b
    if left.shape[1] != right.shape[0]:
        raise ValueError(f"matrices of shapes {left.shape} and {right.shape} do not match")
    shape = room((left.shape[0], right.shape[1]), a.dtype)
    if c is not None and np.broadcast_shapes(c.shape, shape) != shape:
        raise ValueError(f"C of shape {c.shape} cannot be broadcast to {shape}")
    if (
        a.dtype.kind == "f"
        and alpha == beta == 1
        and c is not None
        and c.shape
        in (
            shape[1:],
            (1, shape[1]),
        )
    ):
        return matmul(left, right, c.reshape(-1))
    y = product(left, right)
    if alpha != 1:
        y = as_type(y * alpha, a.dtype)
    if c is not None and beta != 0:
        y = y + (c if beta == 1 else as_type(c * beta, a.dtype))
    return np.asarray(y)


@operator("Gemm", 7, 9)
def gemm_with_bias(
    a: Array,
    b: Array,
    c: Array,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Array:
    """Multiply matrices, and add another."""
    return _gemm(a, b, c, alpha, beta, transA, transB)


@operator("Gemm", 11, 13)
def gemm(
    a: Array,
    b: Array,
    c: Array | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Array:
    """Multiply matrices, and add another if it is given."""
    return _gemm(a, b, c, alpha, beta, transA, transB)
