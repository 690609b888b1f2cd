"""The product of matrices."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastconv import _kernels, _threads
from fastconv._arrays import BOOL, FLOATS, INTEGERS, Array, check_dtype, computed_dtype, result


def matmul(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    *,
    out: Array | None = None,
) -> Array:
    """Multiply two matrices, as `numpy.matmul`, on the threads of this library.

    ``out[m, n] = bias[n] + sum over k of a[m, k] * b[k, n]``

    Parameters
    ----------
    a : array_like, shape (M, K)
        Matrix of floats, integers or bool, of any strides. A transposed one costs no copy.
    b : array_like, shape (K, N)
        Matrix likewise.
    bias : array_like, shape (N,), optional
        What is added to every row.
    out : ndarray, optional
        Where to write the result: of its shape and dtype, C-contiguous, not overlapping an input.

    Returns
    -------
    ndarray, shape (M, N)
        Of the dtype that `numpy.result_type` gives for the arguments, float64 for integers. float16
        is computed in float32. Long sums are taken in blocks of 256 terms. Bit-identical for every
        number of threads.

    Raises
    ------
    TypeError
        If a dtype is none of those named.
    ValueError
        If shapes do not match, or `out` cannot hold the result.
    MemoryError
        If the result is too large to allocate.

    Notes
    -----
    NumPy's product by itself is about as fast, but the threads of its BLAS library wait busily
    after each call: where they fill all cores, convolutions that follow may take 20 times longer.

    Examples
    --------
    >>> import fastconv
    >>> fastconv.matmul([[1.0, 2.0]], [[3.0], [4.0]], [100.0])
    array([[111.]])
    """
    left, right = _matrix(a, "a"), _matrix(b, "b")
    if left.shape[1] != right.shape[0]:
        raise ValueError(
            f"a's columns must be as many as b's rows, got shapes {left.shape} and {right.shape}"
        )
    inputs: tuple[Array, ...] = (left, right)
    if bias is not None:
        row = np.asarray(bias)
        check_dtype(row, "bias", FLOATS, INTEGERS, BOOL)
        if row.shape != right.shape[1:]:
            raise ValueError(f"bias must have shape {right.shape[1:]}, got {row.shape}")
        inputs = (left, right, row)
    dtype = computed_dtype(*inputs)
    out = result(out, (len(left), right.shape[1]), dtype, *inputs)
    if dtype == np.float16:
        with np.errstate(over="ignore"):
            out[...] = _multiply(np.dtype(np.float32), None, *inputs)
    else:
        _multiply(dtype, out, *inputs)
    return out


def _multiply(
    dtype: np.dtype[Any], out: Array | None, left: Array, right: Array, row: Array | None = None
) -> Array:
    target = result(None, (len(left), right.shape[1]), dtype) if out is None else out
    if row is not None:
        row = np.require(row, dtype, ["C", "A"])
    if not left.shape[1]:
        target[...] = 0 if row is None else row
        return target
    kernel = _kernels.product
    left, right = (
        array if array.dtype == dtype and kernel.reads(array) else array.astype(dtype, "C")
        for array in (left, right)
    )
    kernel.multiply(left, right, row, target, _threads.count)
    return target


def _matrix(value: npt.ArrayLike, name: str) -> Array:
    array = np.asarray(value)
    check_dtype(array, name, FLOATS, INTEGERS, BOOL)
    if array.ndim != 2:
        raise ValueError(f"{name} must have 2 dimensions, got shape {array.shape}")
    return array
