"""Rectification and its gradient."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastconv import _kernels, _threads
from fastconv._arrays import FLOATS, Array, check_dtype, native_dtype, result


def relu(input: npt.ArrayLike, *, out: Array | None = None) -> Array:
    """Replace what is not positive by zero, as `torch.nn.functional.relu`.

    Parameters
    ----------
    input : array_like
        Floats of any shape.
    out : ndarray, optional
        Where to write the result: of its shape and dtype, C-contiguous, not overlapping the input.

    Returns
    -------
    ndarray
        ``max(input, 0)``, of the input's shape and dtype. NaN stays NaN.

    Raises
    ------
    TypeError
        If the dtype is none of float16, float32 and float64.
    ValueError
        If `out` cannot hold the result.

    Examples
    --------
    >>> import fastconv
    >>> fastconv.relu([-1.0, 2.0])
    array([0., 2.])
    """
    array = np.asarray(input)
    check_dtype(array, "input", FLOATS)
    out = result(out, array.shape, native_dtype(array), array)
    _kernels.activation.relu(_contiguous(array, out), out, _threads.count)
    return out


def relu_backward(
    grad_output: npt.ArrayLike, output: npt.ArrayLike, *, out: Array | None = None
) -> Array:
    """Compute the gradient of `relu` from its result.

    Parameters
    ----------
    grad_output : array_like
        Gradient of the output, floats of its shape.
    output : array_like
        What `relu` returned: it is zero where the input was not positive, so that neither the input
        nor a mask has to be kept.
    out : ndarray, optional
        Where to write the result: of its shape and dtype, C-contiguous, not overlapping an input.

    Returns
    -------
    ndarray
        `grad_output` where `output` is positive or NaN, zero elsewhere.

    Raises
    ------
    TypeError
        If a dtype is none of float16, float32 and float64.
    ValueError
        If the shapes differ, or `out` cannot hold the result.

    Examples
    --------
    >>> import fastconv
    >>> fastconv.relu_backward([3.0, 4.0], fastconv.relu([-1.0, 2.0]))
    array([0., 4.])
    """
    grads, values = np.asarray(grad_output), np.asarray(output)
    check_dtype(grads, "grad_output", FLOATS)
    check_dtype(values, "output", FLOATS)
    if grads.shape != values.shape:
        raise ValueError(
            f"grad_output must have the shape of output, {values.shape}, got {grads.shape}"
        )
    out = result(out, grads.shape, native_dtype(grads), grads, values)
    _kernels.activation.relu_backward(
        _contiguous(grads, out), _contiguous(values, out), out, _threads.count
    )
    return out


def _contiguous(array: Array, out: Array) -> Array:
    return np.require(array, out.dtype, ["C", "A"])
