"""Layers that normalise, over the batch or over channels."""

from __future__ import annotations

from math import inf, prod
from typing import SupportsIndex

import numpy as np
import numpy.typing as npt

from fastconv._arguments import number, positive
from fastconv._arrays import Array
from fastconv._errors import argument_error
from fastconv._layer import Base, check_gradient, floats, images, narrowed, saved
from fastconv._normalization import (
    batch_normalization,
    batch_normalization_backward,
    local_response,
)


class BatchNormalization(Base):
    """Normalise every feature over the batch, then scale and shift it.

    Parameters
    ----------
    gamma, beta : array_like, shape (D,)
        Scale and shift. Inputs of shape (N, D) are normalised feature by feature. For images
        (N, C, H, W) and signals (N, C, L) it is the size that says what a feature is: a channel (D
        = C), as in [1]_, or a pixel of a channel (D = C*H*W), as in the textbook.
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
    mean, std : ndarray of float64, shape (D,)
        What the last `forward` subtracted from every feature, and divided it by.

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

    _transient = ("x", "mean", "std", "dgamma", "dbeta", "statistics")

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
        self.x: Array | None = None  # (N, D, pixels)
        self.mean: Array | None = None
        self.std: Array | None = None
        self.statistics: Array | None = None  # the rows are mean, variance and std
        self.of_batch = True  # whether it was normalised with the batch's mean and variance
        self.dgamma: Array | None = None
        self.dbeta: Array | None = None

    def forward(self, x: npt.ArrayLike, train_flg: bool = True) -> Array:
        """Normalise with the batch's mean and variance or, without `train_flg`, the running ones.

        Raises
        ------
        ValueError
            If the sizes of the parameters and of the features do not agree, only one of the running
            arrays was given, or there is no number to compute a mean of in training.
        """
        array = floats(x)
        features = self._features(array)
        running_dtype = np.result_type(array.dtype, np.float32)
        if self.running_mean is None and self.running_var is None:
            self.running_mean = np.zeros(self.gamma.size, running_dtype)
            self.running_var = np.zeros(self.gamma.size, running_dtype)
        if self.running_mean is None or self.running_var is None:
            raise argument_error(ValueError, "running_mean and running_var must be given together")
        for running in (self.running_mean, self.running_var):
            if running.shape != self.gamma.shape:
                raise argument_error(
                    ValueError,
                    f"running_mean and running_var must have shape {self.gamma.shape}, got "
                    f"{running.shape}",
                )
        if train_flg and not features.size and self.gamma.size:
            raise argument_error(ValueError, "an empty batch has no mean and variance")
        statistics = np.empty((3, self.gamma.size))
        if not train_flg:
            statistics[:2] = self.running_mean, self.running_var
        dtype = np.result_type(array.dtype, self.gamma.dtype, self.beta.dtype)
        features = features.astype(dtype, copy=False)
        out = batch_normalization(
            features, self.gamma, self.beta, statistics, self.eps, bool(train_flg)
        )
        if train_flg:
            mean, var = statistics[:2].astype(running_dtype)
            kept, new = self.momentum, 1 - self.momentum
            self.running_mean = kept * self.running_mean + new * mean
            self.running_var = kept * self.running_var + new * var
        self.of_batch = bool(train_flg)
        self.x, self.statistics = features, statistics
        self.mean, self.std = statistics[0], statistics[2]
        return out.reshape(array.shape)

    def backward(self, dout: npt.ArrayLike) -> Array:
        """Compute `dgamma` and `dbeta`; return the gradient of the input."""
        x, statistics = saved(self.x, self), saved(self.statistics, self)
        array = floats(dout, "dout")
        if array.shape[:1] != x.shape[:1] or array.size != x.size:
            raise argument_error(
                ValueError,
                f"dout must have the shape of x, {len(x)} times {prod(x.shape[1:])} numbers, got "
                f"{array.shape}",
            )
        self._check_parameters()
        if self.gamma.shape != x.shape[1:2]:
            raise argument_error(
                ValueError,
                f"gamma and beta must have shape {x.shape[1:2]}, which they had in the forward "
                f"pass, got {self.gamma.shape}",
            )
        dx, dgamma, dbeta = batch_normalization_backward(
            x, array.reshape(x.shape), self.gamma, statistics, self.of_batch
        )
        self.dgamma, self.dbeta = narrowed(dgamma, self.gamma), narrowed(dbeta, self.beta)
        return narrowed(dx, array).reshape(array.shape)

    def _features(self, x: Array) -> Array:
        """View the input as (N, D, pixels)."""
        self._check_parameters()
        size = self.gamma.size
        if x.ndim in (2, 3, 4):
            channels, numbers = x.shape[1], prod(x.shape[1:])
            for features, pixels in ((channels, prod(x.shape[2:])), (numbers, 1)):
                if features == size:
                    return x.reshape(len(x), features, pixels)
        raise argument_error(
            ValueError,
            f"x must be (N, {size}), or images or signals of {size} channels or {size} numbers, "
            f"for gamma of shape {self.gamma.shape}, got shape {x.shape}",
        )

    def _check_parameters(self) -> None:
        size = self.gamma.size
        if self.gamma.shape != (size,) or self.beta.shape != (size,):
            raise argument_error(
                ValueError,
                f"gamma and beta must have one shape (D,), got {self.gamma.shape} and "
                f"{self.beta.shape}",
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

    _transient = ("x",)

    def __init__(
        self, size: SupportsIndex = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
    ) -> None:
        self.size = positive(size, "size")
        self.alpha, self.beta, self.k = (
            number(value, name) for name, value in (("alpha", alpha), ("beta", beta), ("k", k))
        )
        self.x: Array | None = None

    def forward(self, x: npt.ArrayLike) -> Array:
        """Normalise images (N, C, H, W)."""
        self.x = images(x)
        return local_response(self.x, self.size, self.alpha, self.beta, self.k)

    def backward(self, dout: npt.ArrayLike) -> Array:
        """Compute the gradient of the input."""
        x, array = saved(self.x, self), floats(dout, "dout")
        check_gradient(array, x.shape)
        dx = local_response(x, self.size, self.alpha, self.beta, self.k, array)
        return narrowed(dx, array)
