"""What the layers that normalise compute: arrays are made ready, and kernels called.

The arrays of a call become one dtype, the widest of theirs. Parameters and statistics are float64.
"""

from __future__ import annotations

import numpy as np

from fastconv import _kernels, _threads
from fastconv._arrays import FLOAT64, Array, computed_dtype, contiguous
from fastconv._memory import new_array


def batch_normalization(
    x: Array, gamma: Array, beta: Array, statistics: Array, eps: float, of_batch: bool
) -> Array:
    """Normalise x, of shape (N, D, pixels).

    Parameters
    ----------
    x : ndarray
        Floats.
    gamma, beta : ndarray, shape (D,)
        Scale and shift.
    statistics : ndarray of float64, shape (3, D), C-contiguous
        Means, variances, and ``sqrt(variance + eps)``. All are written with `of_batch`, and only
        the last ones without.
    eps : float
        What is added to the variance.
    of_batch : bool
        Whether mean and variance are those of `x`.
    """
    _check(x, (gamma, beta), statistics)
    x = contiguous(x, computed_dtype(x.dtype))
    out = new_array(x.shape, x.dtype)
    parameters = np.array([gamma, beta], FLOAT64)
    _kernels.normalization.forward(x, parameters, statistics, eps, of_batch, out, _threads.count())
    return out


def batch_normalization_backward(
    x: Array, dout: Array, gamma: Array, statistics: Array, of_batch: bool
) -> tuple[Array, Array, Array]:
    """Return the gradients of `x`, `gamma` and `beta`, the last two in float64.

    `dout` has the shape of `x`; `statistics` are those that the forward pass left, and `of_batch`
    tells whether they are those of `x`.
    """
    _check(x, (gamma,), statistics)
    assert dout.shape == x.shape
    dtype = computed_dtype(x.dtype, dout.dtype)
    x, dout = contiguous(x, dtype), contiguous(dout, dtype)
    out, gradients = new_array(x.shape, dtype), np.empty((2, len(gamma)))
    parameters = np.array([gamma], FLOAT64)
    _kernels.normalization.backward(
        x, dout, parameters, statistics, of_batch, gradients, out, _threads.count()
    )
    return out, gradients[0], gradients[1]


def _check(x: Array, parameters: tuple[Array, ...], statistics: Array) -> None:
    """Make sure that kernels stay within the arrays."""
    assert x.ndim == 3
    assert all(array.shape == x.shape[1:2] for array in parameters)
    assert statistics.shape == (3, x.shape[1])
    assert statistics.dtype == FLOAT64
    assert statistics.flags.carray


def local_response(
    x: Array, size: int, alpha: float, beta: float, k: float, dout: Array | None = None
) -> Array:
    """Normalise images (N, C, H, W) by the `size` channels around, or return their gradient.

    It is the gradient of `x` if `dout`, the output's, is given. The scale is `k` plus `alpha` times
    the mean of the squares, and `beta` its exponent.
    """
    assert x.ndim == 4
    assert dout is None or dout.shape == x.shape
    dtype = computed_dtype(x.dtype, x.dtype if dout is None else dout.dtype)
    n, c, h, w = x.shape
    out = new_array(x.shape, dtype)
    planes, result = (contiguous(a, dtype).reshape(n, c, h * w) for a in (x, out))
    grads = None if dout is None else contiguous(dout, dtype).reshape(n, c, h * w)
    # More channels than there are on both sides make no difference, but may be too large for C.
    _kernels.local_response.normalize(
        planes, grads, min(size, 2 * c), alpha / size, beta, k, result, _threads.count()
    )
    return out
