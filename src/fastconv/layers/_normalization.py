"""Layers that normalise, over the batch or over channels."""

from __future__ import annotations

from math import inf, prod
from typing import SupportsIndex

import numpy as np
import numpy.typing as npt

from fastconv._arguments import Padding, number, positive
from fastconv._arrays import Array
from fastconv._errors import argument_error
from fastconv._layer import Base, check_gradient, floats, images, narrowed, saved, widened
from fastconv.pooling import avg_pool2d, avg_pool2d_backward


class BatchNormalization(Base):
    """Normalise every feature over the batch, then scale and shift it.

    Parameters
    ----------
    gamma, beta : array_like, shape (D,)
        Scale and shift. Inputs of shape (N, D) are normalised feature by feature. For images
        (N, C, H, W) it is the size that says what a feature is: a channel (D = C), as in [1]_,
        or a pixel of a channel (D = C*H*W), as in the textbook.
    momentum : float, default 0.9
        How much of the running mean and variance each training step keeps.
    running_mean, running_var : array_like, shape (D,), optional
        What is normalised with when not in training; 0 at first.
    eps : float, default 10e-7
        What is added to the variance, which may be 0. The textbook's; PyTorch's is 1e-5.

    Attributes
    ----------
    dgamma, dbeta : ndarray
        Gradients of `gamma` and `beta`, after `backward`.

    References
    ----------
    .. [1] S. Ioffe and C. Szegedy, "Batch Normalization: Accelerating Deep Network Training by
       Reducing Internal Covariate Shift", 2015, https://arxiv.org/abs/1502.03167

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import BatchNormalization
    >>> layer = BatchNormalization(np.ones(1), np.zeros(1))
    >>> layer.forward(np.array([[1.0], [3.0]])).round(3)
    array([[-1.],
           [ 1.]])
    """

    _transient = ("normalized", "std", "dgamma", "dbeta")

    def __init__(
        self,
        gamma: npt.ArrayLike,
        beta: npt.ArrayLike,
        momentum: float = 0.9,
        running_mean: npt.ArrayLike | None = None,
        running_var: npt.ArrayLike | None = None,
        *,
        eps: float = 10e-7,
    ) -> None:
        self.momentum, self.eps = number(momentum, "momentum"), number(eps, "eps")
        if not 0 <= self.eps < inf:
            raise argument_error(ValueError, f"eps must be a number from 0 on, got {eps}")
        self.gamma, self.beta = floats(gamma, "gamma"), floats(beta, "beta")
        self.running_mean, self.running_var = (
            None if running is None else floats(running, name)
            for running, name in ((running_mean, "running_mean"), (running_var, "running_var"))
        )
        self.normalized: Array | None = None  # (N, D, pixels)
        self.std: Array | None = None  # (D, 1)
        self.of_batch = True  # whether it was normalised with the batch's mean and variance
        self.dgamma: Array | None = None
        self.dbeta: Array | None = None

    def forward(self, x: npt.ArrayLike, train_flg: bool = True) -> Array:
        """Normalise with the batch's mean and variance or, without `train_flg`, the running ones.

        Raises
        ------
        ValueError
            If the sizes of the parameters and of the features do not agree, only one of the running
            arrays was given, or the batch is empty in training.
        """
        array = floats(x)
        features = self._features(array)
        wide = widened(features)
        if self.running_mean is None and self.running_var is None:
            self.running_mean = np.zeros(self.gamma.size, wide.dtype)
            self.running_var = np.zeros(self.gamma.size, wide.dtype)
        if self.running_mean is None or self.running_var is None:
            raise argument_error(ValueError, "running_mean and running_var must be given together")
        for running in (self.running_mean, self.running_var):
            if running.shape != self.gamma.shape:
                raise argument_error(
                    ValueError,
                    f"running_mean and running_var must have shape {self.gamma.shape}, got "
                    f"{running.shape}",
                )
        if train_flg:
            if not len(array):
                raise argument_error(ValueError, "an empty batch has no mean and variance")
            mean = wide.mean(axis=(0, 2))
            centered = wide - mean[:, None]
            var = np.square(centered).mean(axis=(0, 2))
            kept, new = self.momentum, 1 - self.momentum
            self.running_mean = kept * self.running_mean + new * mean
            self.running_var = kept * self.running_var + new * var
        else:
            mean, var = self.running_mean, self.running_var
            centered = wide - mean[:, None]
        self.of_batch = train_flg
        self.std = np.sqrt(var + self.eps)[:, None]
        self.normalized = centered / self.std
        out: Array = self.gamma[:, None] * self.normalized + self.beta[:, None]
        dtype = np.result_type(array.dtype, self.gamma.dtype, self.beta.dtype)
        return out.astype(dtype, copy=False).reshape(array.shape)

    def backward(self, dout: npt.ArrayLike) -> Array:
        """Compute `dgamma` and `dbeta`; return the gradient of the input."""
        normalized, std = saved(self.normalized, self), saved(self.std, self)
        array = floats(dout, "dout")
        if array.shape[:1] != normalized.shape[:1] or array.size != normalized.size:
            raise argument_error(
                ValueError,
                f"dout must have the shape of x, {len(normalized)} times "
                f"{normalized[0].size} numbers, got {array.shape}",
            )
        grads = array.reshape(normalized.shape).astype(normalized.dtype, copy=False)
        dbeta = grads.sum(axis=(0, 2))
        dgamma = (grads * normalized).sum(axis=(0, 2))
        if self.of_batch:  # mean and variance depend on the input, too
            count = normalized.size // len(dbeta)
            grads = grads - (dbeta[:, None] + normalized * dgamma[:, None]) / count
        dx: Array = grads * (self.gamma[:, None] / std)
        self.dgamma, self.dbeta = narrowed(dgamma, self.gamma), narrowed(dbeta, self.beta)
        return narrowed(dx, array).reshape(array.shape)

    def _features(self, x: Array) -> Array:
        """View the input as (N, D, pixels)."""
        size = self.gamma.size
        if self.gamma.shape != (size,) or self.beta.shape != (size,):
            raise argument_error(
                ValueError,
                f"gamma and beta must have one shape (D,), got {self.gamma.shape} and "
                f"{self.beta.shape}",
            )
        if x.ndim in (2, 4):
            for features in (x.shape[1], prod(x.shape[1:])):
                if features == size:
                    return x.reshape(len(x), size, prod(x.shape[1:]) // size)
        raise argument_error(
            ValueError,
            f"x must be (N, {size}) or images of {size} channels or {size} numbers for gamma of "
            f"shape {self.gamma.shape}, got shape {x.shape}",
        )


class LocalResponseNormalization(Base):
    """Divide every number by a norm of the channels around it.

    ``y[c] = x[c] / (k + alpha / size * sum of x[c']**2)**beta``, the sum being over the `size`
    channels from ``c - size // 2`` on.

    Parameters
    ----------
    size : int, default 5
        How many channels.
    alpha, beta, k : float, default 1e-4, 0.75, 1.0
        As in the formula, which is that of PyTorch and ONNX. The paper's alpha [1]_ is not divided
        by the size.

    References
    ----------
    .. [1] A. Krizhevsky, I. Sutskever and G. Hinton, "ImageNet Classification with Deep
       Convolutional Neural Networks", NIPS 2012, section 3.3

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import LocalResponseNormalization
    >>> layer = LocalResponseNormalization(1, alpha=1.0, beta=0.5, k=0.0)
    >>> layer.forward(np.full((1, 1, 1, 1), 7.0))
    array([[[[1.]]]])
    """

    _transient = ("x", "scale")

    def __init__(
        self, size: SupportsIndex = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
    ) -> None:
        self.size = positive(size, "size")
        self.alpha, self.beta, self.k = (
            number(value, name) for name, value in (("alpha", alpha), ("beta", beta), ("k", k))
        )
        self.x: Array | None = None
        self.scale: Array | None = None

    def forward(self, x: npt.ArrayLike) -> Array:
        """Normalise images (N, C, H, W)."""
        array = images(x)
        self.x = widened(array)
        squares = np.square(self.x)
        self.scale = self.k + self.alpha * avg_pool2d(_along(squares), *self._window())
        self.scale = self.scale.reshape(array.shape)
        return narrowed(self.x * self.scale**-self.beta, array)

    def backward(self, dout: npt.ArrayLike) -> Array:
        """Compute the gradient of the input."""
        x, scale = saved(self.x, self), saved(self.scale, self)
        array = floats(dout, "dout")
        check_gradient(array, x.shape)
        grads = array.astype(x.dtype, copy=False) * scale**-self.beta
        shape = _along(x).shape
        sums = avg_pool2d_backward(_along(grads * x / scale), shape, *self._window())
        grads -= 2 * self.alpha * self.beta * x * sums.reshape(x.shape)
        return narrowed(grads, array)

    def _window(self) -> tuple[tuple[int, int], int, Padding]:
        """Give the window, stride and padding of a mean over channels."""
        return (self.size, 1), 1, ((self.size // 2, (self.size - 1) // 2), (0, 0))


def _along(x: Array) -> Array:
    """View images so that a column of pixels holds all channels: (N, 1, C, H*W)."""
    n, c, h, w = x.shape
    return x.reshape(n, 1, c, h * w)
