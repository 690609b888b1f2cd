"""The product of matrices."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastconv import _kernels, _threads
from fastconv._arrays import (
    FLOAT32,
    NUMBERS,
    Array,
    computed_dtype,
    read,
    read_bias,
    result,
)
from fastconv._errors import argument_error, named
from fastconv._memory import new_array


@named
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
        Matrix of floats, integers or bool, of any strides. A transposed one costs no copy.
    bias : array_like, shape (N,), optional
        Row that is added to every row of the product.
    out : ndarray, optional
        Array for the result, of its shape and dtype, C-contiguous, overlapping no input.

    Returns
    -------
    ndarray, shape (M, N)
        Product. Its dtype is the `numpy.result_type` of `a` and `b`, or float64 if those are
        integers; the bias is converted to it. float16 is computed in float32. Long sums are taken
        in blocks of 256 terms. The result is bit-identical for every number of threads.

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
    after each call: where they fill all cores, convolutions that follow compute on one thread.

    Examples
    --------
    >>> import fastconv
    >>> fastconv.matmul([[1.0, 2.0]], [[3.0], [4.0]], [100.0])
    array([[111.]])
    """
    left, right = read(a, "a", NUMBERS), read(b, "b", NUMBERS)
    if not (left.ndim == right.ndim == 2):
        _check_dimensions(left, "a")
        _check_dimensions(right, "b")
    (m, inner), (rows, n) = left.shape, right.shape
    if inner != rows:
        raise argument_error(
            ValueError,
            f"a's columns must be as many as b's rows, got shapes {left.shape} and {right.shape}",
        )
    dtype = computed_dtype(left.dtype, right.dtype)
    row = None if bias is None else read_bias(bias, n, "column", dtype)
    inputs = (left, right) if row is None else (left, right, row)
    out = result(out, (m, n), dtype, inputs)
    if not inner:
        out[...] = 0 if row is None else row
    elif dtype.char == "e":
        wide = new_array((m, n), FLOAT32)
        _multiply(left, right, row, wide)
        with np.errstate(over="ignore"):
            out[...] = wide
    else:
        _multiply(left, right, row, out)
    return out


def _multiply(left: Array, right: Array, row: Array | None, out: Array) -> None:
    """Run the kernel in the dtype of `out`, on copies of the matrices that it cannot read.

    Dtypes are compared by what they are: readers of files make objects of their own for native
    ones, as ``newbyteorder`` does.
    """
    kernel, dtype, threads = _kernels.product, out.dtype, _threads.count()
    if row is not None:
        row = np.require(row, dtype, ["C", "A"])
    if left.dtype == right.dtype == dtype and kernel.multiply(left, right, row, out, threads):
        return
    if left.dtype != dtype or not kernel.reads(left):
        left = left.astype(dtype, "C")
    if right.dtype != dtype or not kernel.reads(right):
        right = right.astype(dtype, "C")
    kernel.multiply(left, right, row, out, threads)


def _check_dimensions(array: Array, name: str) -> None:
    if array.ndim != 2:
        raise argument_error(ValueError, f"{name} must have 2 dimensions, got shape {array.shape}")
