"""Rectification and its gradient."""

from __future__ import annotations

from typing import Literal, overload

import numpy as np
import numpy.typing as npt

from fastconv import _kernels, _threads
from fastconv._arrays import BOOL, FLOATS, Array, contiguous, native_dtype, read, result
from fastconv._errors import argument_error, named
from fastconv._memory import new_array

MASK = np.dtype(np.bool_)


@overload
def relu(
    input: npt.ArrayLike, return_mask: Literal[False] = ..., *, out: Array | None = ...
) -> Array: ...
@overload
def relu(
    input: npt.ArrayLike, return_mask: Literal[True], *, out: Array | None = ...
) -> tuple[Array, npt.NDArray[np.bool_]]: ...
@overload
def relu(
    input: npt.ArrayLike, return_mask: bool = ..., *, out: Array | None = ...
) -> Array | tuple[Array, npt.NDArray[np.bool_]]: ...
@named
def relu(
    input: npt.ArrayLike, return_mask: bool = False, *, out: Array | None = None
) -> Array | tuple[Array, npt.NDArray[np.bool_]]:
    """Replace numbers that are not positive by zero, as `torch.nn.functional.relu` does.

    Parameters
    ----------
    input : array_like
        Floats of any shape.
    return_mask : bool, default False
        Whether to return the mask that `relu_backward` needs, too.
    out : ndarray, optional
        Array for the result, of its shape and dtype, C-contiguous, not overlapping the input.

    Returns
    -------
    output : ndarray
        ``max(input, 0)``, of the input's shape and dtype. NaN stays NaN.
    mask : ndarray of bool, same shape
        ``input <= 0``. Only with `return_mask`.

    Raises
    ------
    TypeError
        If the dtype is none of float16, float32 and float64.
    ValueError
        If `out` cannot hold the result.
    MemoryError
        If the result is too large to allocate.

    Examples
    --------
    >>> import fastconv
    >>> fastconv.relu([-1.0, 2.0])
    array([0., 2.])
    """
    array = read(input, "input", FLOATS)
    out = result(out, array.shape, native_dtype(array), (array,))
    mask = new_array(array.shape, MASK) if return_mask else None
    _kernels.activation.relu(contiguous(array, out.dtype), mask, out, _threads.count())
    return out if mask is None else (out, mask)


@named
def relu_backward(
    grad_output: npt.ArrayLike, mask: npt.ArrayLike, *, out: Array | None = None
) -> Array:
    """Compute the gradient of `relu`.

    Parameters
    ----------
    grad_output : array_like
        Gradient of the output, of floats.
    mask : array_like of bool, same shape
        Mask of the inputs that were not positive, which `relu` returned.
    out : ndarray, optional
        Array for the result, of its shape and dtype, C-contiguous, overlapping no input.

    Returns
    -------
    ndarray
        Gradient of the input: `grad_output`, and zero where `mask` is set.

    Raises
    ------
    TypeError
        If the gradient's dtype is none of float16, float32 and float64, or the mask's not bool.
    ValueError
        If the shapes differ, or `out` cannot hold the result.
    MemoryError
        If the result is too large to allocate.

    Examples
    --------
    >>> import fastconv
    >>> y, mask = fastconv.relu([-1.0, 2.0], return_mask=True)
    >>> fastconv.relu_backward([3.0, 4.0], mask)
    array([0., 4.])
    """
    grads, masked = read(grad_output, "grad_output", FLOATS), read(mask, "mask", BOOL)
    if grads.shape != masked.shape:
        raise argument_error(
            ValueError,
            f"grad_output must have the shape of mask, {masked.shape}, got {grads.shape}",
        )
    out = result(out, grads.shape, native_dtype(grads), (grads, masked))
    _kernels.activation.relu_backward(
        contiguous(grads, out.dtype), contiguous(masked, MASK), out, _threads.count()
    )
    return out
