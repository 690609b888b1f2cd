"""Layers of neural networks, with the names and attributes that textbooks give them.

A layer holds its parameters and what its forward pass leaves for the backward pass, and calls the
functions of this library for the work. Parameters are called ``W``, ``b``, ``gamma`` and ``beta``;
``backward`` leaves their gradients in ``dW``, ``db``, ``dgamma`` and ``dbeta`` and returns the
gradient of the layer's input. A network's code that was written for the classes of the same names
in K. Saitoh, "Deep Learning from Scratch" (O'Reilly Japan, 2016), runs unchanged.

All layers take float16, float32 and float64, keep the dtype they are given, and can be pickled and
deep-copied; a copy has the parameters and lacks the last batch, so that it begins with `forward`.
Batches may differ in size from call to call. ``W`` and ``b`` may be reassigned, or
changed in place, between calls. ``backward`` before ``forward`` is a RuntimeError. Convolution and
pooling leave it to the functions that they call to say which shape does not fit, so that there
``x`` is called ``input`` and ``W`` is called ``weight``.
"""

from __future__ import annotations

from math import inf, prod
from typing import Any, Protocol, SupportsIndex

import numpy as np
import numpy.typing as npt

from fastconv._arguments import IntPair, Padding, number, positive
from fastconv._arrays import (
    INTEGERS,
    NUMBERS,
    Array,
    Shape,
    batch_shape,
    read,
    read_movable,
)
from fastconv._errors import argument_error, shown
from fastconv._layer import (
    Base,
    check_gradient,
    floats,
    gathered,
    narrowed,
    offset,
    saved,
    spread,
    widened,
)
from fastconv.activation import relu, relu_backward
from fastconv.convolution import conv2d, conv2d_backward
from fastconv.pooling import avg_pool2d, avg_pool2d_backward, max_pool2d, max_pool2d_backward
from fastconv.product import matmul

__all__ = [
    "Affine",
    "AveragePooling",
    "BatchNormalization",
    "Convolution",
    "Dropout",
    "Flatten",
    "GlobalAveragePooling",
    "Layer",
    "LocalResponseNormalization",
    "Pooling",
    "Relu",
    "Sigmoid",
    "SoftmaxWithLoss",
]

LOG_EPSILON = 1e-7
"""What the textbook adds to probabilities before it takes their logarithm."""


class Layer(Protocol):
    """What a network needs of a layer.

    ``forward`` may also take ``train_flg``. A layer that holds other layers lists them in an
    attribute ``children``, a tuple in the order in which they compute, and calls their ``forward``
    and ``backward`` itself; networks look there for parameters.
    """

    def forward(self, x: Any) -> Any:
        """Compute the layer's output."""

    def backward(self, dout: Any) -> Any:
        """Compute the gradient of the last input from that of its output."""


class Convolution(Base):
    """Correlate images with filters.

    Parameters
    ----------
    W : array_like, shape (F, C/groups, FH, FW)
        Filters.
    b : array_like, shape (F,), (1, F), (1,) or (), or None
        What is added to every output of a filter. One number is added to the outputs of all of
        them.
    stride : int or pair of int, default 1
        Step between windows.
    pad : int, pair, ((top, bottom), (left, right)), "valid" or "same", default 0
        Padding.
    dilation : int or pair of int, default 1
        Step between the taps of a window.
    groups : int, default 1
        Number of groups into which channels and filters are divided. The filters of a group see
        the channels of that group only.
    pad_mode : {"constant", "edge", "reflect", "symmetric", "wrap"}, default "constant"
        What padding shows, as in `numpy.pad`.

    Attributes
    ----------
    dW, db : ndarray
        Gradients of `W` and `b`, of their shapes, after `backward`.

    See Also
    --------
    fastconv.conv2d : The function, which says what is raised.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import Convolution
    >>> layer = Convolution(np.ones((2, 1, 3, 3)), np.zeros(2), pad=1)
    >>> y = layer.forward(np.ones((1, 1, 4, 4)))
    >>> y.shape, layer.backward(y).shape, layer.dW.shape
    ((1, 2, 4, 4), (1, 1, 4, 4), (2, 1, 3, 3))
    """

    _transient = ("x", "dW", "db")

    def __init__(
        self,
        W: npt.ArrayLike,
        b: npt.ArrayLike | None,
        stride: IntPair = 1,
        pad: Padding = 0,
        *,
        dilation: IntPair = 1,
        groups: SupportsIndex = 1,
        pad_mode: str = "constant",
    ) -> None:
        self.W = read(W, "W", NUMBERS)
        self.b = offset(b, self.W)
        self.stride, self.pad = stride, pad
        self.dilation, self.groups, self.pad_mode = dilation, groups, pad_mode
        self.x: Array | None = None
        self.dW: Array | None = None
        self.db: Array | None = None

    def forward(self, x: npt.ArrayLike) -> Array:
        """Convolve images (N, C, H, W) to (N, F, OH, OW)."""
        self.x = read(x, "x", NUMBERS)
        return conv2d(
            self.x,
            self.W,
            spread(self.b, self.W, axis=0),
            self.stride,
            self.pad,
            self.dilation,
            self.groups,
            pad_mode=self.pad_mode,
        )

    def backward(self, dout: npt.ArrayLike, *, need_dx: bool = True) -> Array | None:
        """Compute `dW` and `db`; return the gradient of the input, None without `need_dx`."""
        dx, self.dW, db = conv2d_backward(
            dout,
            saved(self.x, self),
            self.W,
            self.stride,
            self.pad,
            self.dilation,
            self.groups,
            pad_mode=self.pad_mode,
            output_mask=(need_dx, True, self.b is not None),
        )
        self.db = gathered(db, self.b)
        return dx


class Affine(Base):
    """Multiply by a matrix and add a row: every output sees every input.

    Parameters
    ----------
    W : array_like, shape (D, M)
        Matrix.
    b : array_like, shape (M,), (1, M), (1,) or (), or None
        What is added to every row. One number is added to all numbers.

    Attributes
    ----------
    dW, db : ndarray
        Gradients of `W` and `b`, of their shapes, after `backward`.

    See Also
    --------
    fastconv.matmul : The product.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import Affine
    >>> layer = Affine(np.array([[1.0], [2.0]]), np.array([10.0]))
    >>> layer.forward(np.array([[3.0, 4.0]]))
    array([[21.]])
    >>> layer.backward(np.array([[1.0]]))
    array([[1., 2.]])
    """

    _transient = ("x", "original_x_shape", "dW", "db")

    def __init__(self, W: npt.ArrayLike, b: npt.ArrayLike | None) -> None:
        self.W = read(W, "W", NUMBERS)
        self.b = offset(b, self.W)
        self.x: Array | None = None
        self.original_x_shape: Shape | None = None
        self.dW: Array | None = None
        self.db: Array | None = None

    def forward(self, x: npt.ArrayLike) -> Array:
        """Map (N, D), or (N, ...) of D numbers each, to (N, M)."""
        array, W = read(x, "x", NUMBERS), read(self.W, "W", NUMBERS)
        rows = _rows(array)
        if W.ndim != 2 or len(W) != rows.shape[1]:  # In matmul's words, `b` would be the matrix.
            raise argument_error(
                ValueError,
                f"W must have shape ({rows.shape[1]}, M) for x of shape {array.shape}, got "
                f"{W.shape}",
            )
        self.original_x_shape, self.x = array.shape, rows
        return matmul(rows, W, spread(self.b, W, axis=1))

    def backward(self, dout: npt.ArrayLike, *, need_dx: bool = True) -> Array | None:
        """Compute `dW` and `db`; return the gradient of the input, None without `need_dx`."""
        x, W = saved(self.x, self), np.asarray(self.W)
        grads = floats(dout, "dout")
        check_gradient(grads, (len(x), W.shape[1]))
        dx = matmul(grads, W.T) if need_dx else None
        self.dW = matmul(x.T, grads)
        db = None if self.b is None else narrowed(widened(grads).sum(axis=0), grads)
        self.db = gathered(db, self.b)
        return None if dx is None else dx.reshape(saved(self.original_x_shape, self))


class Flatten(Base):
    """Make a row of every image.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import Flatten
    >>> Flatten().forward(np.zeros((10, 3, 4, 4))).shape
    (10, 48)
    """

    _transient = ("original_x_shape",)

    def __init__(self) -> None:
        self.original_x_shape: Shape | None = None

    def forward(self, x: npt.ArrayLike) -> Array:
        """Reshape (N, ...) to (N, D)."""
        array = read_movable(x, "x")
        rows = _rows(array)
        self.original_x_shape = array.shape
        return rows

    def backward(self, dout: npt.ArrayLike) -> Array:
        """Give the gradient the input's shape."""
        shape, grads = saved(self.original_x_shape, self), read_movable(dout, "dout")
        check_gradient(grads, (shape[0], prod(shape[1:])))
        return grads.reshape(shape)


class Pooling(Base):
    """Take the maximum of every window.

    Parameters
    ----------
    pool_h, pool_w : int
        Size of the window.
    stride : int or pair of int, default 1
        Step between windows.
    pad : int, pair, ((top, bottom), (left, right)), "valid" or "same", default 0
        Padding, which never wins.

    See Also
    --------
    fastconv.max_pool2d : The function, which says what is raised.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import Pooling
    >>> layer = Pooling(2, 2, stride=2)
    >>> layer.forward(np.array([[[[1.0, 9.0], [4.0, 6.0]]]]))
    array([[[[9.]]]])
    >>> layer.backward(np.array([[[[5.0]]]]))
    array([[[[0., 5.],
             [0., 0.]]]])
    """

    _transient = ("x", "arg_max")

    def __init__(
        self, pool_h: SupportsIndex, pool_w: SupportsIndex, stride: IntPair = 1, pad: Padding = 0
    ) -> None:
        self.pool_h, self.pool_w = pool_h, pool_w
        self.stride, self.pad = stride, pad
        self.x: Array | None = None
        self.arg_max: Array | None = None

    def forward(self, x: npt.ArrayLike, train_flg: bool = True) -> Array:
        """Pool images (N, C, H, W); without `train_flg` it is `backward` that finds the places."""
        self.x = read(x, "x", NUMBERS)
        window = (self.pool_h, self.pool_w), self.stride, self.pad
        if not train_flg:
            self.arg_max = None
            return max_pool2d(self.x, *window)
        out, self.arg_max = max_pool2d(self.x, *window, return_indices=True)
        return out

    def backward(self, dout: npt.ArrayLike) -> Array:
        """Put the gradients where the maxima were."""
        x = saved(self.x, self)
        if self.arg_max is None:
            self.forward(x)
        return max_pool2d_backward(dout, saved(self.arg_max, self), x.shape)


class AveragePooling(Base):
    """Take the mean of every window, padding included.

    Parameters
    ----------
    pool_h, pool_w : int
        Size of the window.
    stride : int or pair of int, default 1
        Step between windows.
    pad : int, pair, ((top, bottom), (left, right)), "valid" or "same", default 0
        Padding with zeros.

    See Also
    --------
    fastconv.avg_pool2d : The function, which says what is raised.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import AveragePooling
    >>> AveragePooling(2, 2, stride=2).forward(np.array([[[[1.0, 9.0], [4.0, 6.0]]]]))
    array([[[[5.]]]])
    """

    _transient = ("input_shape",)

    def __init__(
        self, pool_h: SupportsIndex, pool_w: SupportsIndex, stride: IntPair = 1, pad: Padding = 0
    ) -> None:
        self.pool_h, self.pool_w = pool_h, pool_w
        self.stride, self.pad = stride, pad
        self.input_shape: Shape | None = None

    def forward(self, x: npt.ArrayLike) -> Array:
        """Pool images (N, C, H, W)."""
        array = read(x, "x", NUMBERS)
        self.input_shape = array.shape
        return avg_pool2d(array, (self.pool_h, self.pool_w), self.stride, self.pad)

    def backward(self, dout: npt.ArrayLike) -> Array:
        """Spread the gradients over the windows."""
        shape = saved(self.input_shape, self)
        return avg_pool2d_backward(dout, shape, (self.pool_h, self.pool_w), self.stride, self.pad)


class GlobalAveragePooling(Base):
    """Take the mean of every plane: (N, C, H, W) to (N, C).

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import GlobalAveragePooling
    >>> GlobalAveragePooling().forward(np.array([[[[1.0, 9.0], [4.0, 6.0]]]]))
    array([[5.]])
    """

    _transient = ("input_shape",)

    def __init__(self) -> None:
        self.input_shape: Shape | None = None

    def forward(self, x: npt.ArrayLike) -> Array:
        """Average images (N, C, H, W)."""
        array = _images(x)
        self.input_shape = array.shape
        means: Array = array.mean(axis=(2, 3))
        return means

    def backward(self, dout: npt.ArrayLike) -> Array:
        """Spread the gradients over the planes."""
        n, c, h, w = saved(self.input_shape, self)
        grads = floats(dout, "dout")
        check_gradient(grads, (n, c))
        return np.broadcast_to(grads.reshape(n, c, 1, 1) / (h * w), (n, c, h, w)).copy()


class Relu(Base):
    """Replace what is not positive by zero.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import Relu
    >>> layer = Relu()
    >>> layer.forward(np.array([-1.0, 2.0]))
    array([0., 2.])
    >>> layer.backward(np.array([3.0, 4.0]))
    array([0., 4.])
    """

    _transient = ("mask",)

    def __init__(self) -> None:
        self.mask: npt.NDArray[np.bool_] | None = None

    def forward(self, x: npt.ArrayLike) -> Array:
        """Rectify an array of any shape."""
        out, self.mask = relu(floats(x), return_mask=True)
        return out

    def backward(self, dout: npt.ArrayLike) -> Array:
        """Let the gradients of what was positive through; `dout` is not changed."""
        return relu_backward(floats(dout, "dout"), saved(self.mask, self))


class Sigmoid(Base):
    """Squash numbers into (0, 1): ``1 / (1 + exp(-x))``.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import Sigmoid
    >>> Sigmoid().forward(np.array([0.0, 1000.0]))
    array([0.5, 1. ])
    """

    _transient = ("out",)

    def __init__(self) -> None:
        self.out: Array | None = None

    def forward(self, x: npt.ArrayLike) -> Array:
        """Squash an array of any shape."""
        array = floats(x)
        with np.errstate(over="ignore"):  # 1 / (1 + inf) is what is meant
            out = np.asarray(np.exp(-array))
        out += 1
        self.out = np.reciprocal(out, out=out)
        return self.out

    def backward(self, dout: npt.ArrayLike) -> Array:
        """Multiply by the derivative, ``out * (1 - out)``."""
        out, grads = saved(self.out, self), floats(dout, "dout")
        check_gradient(grads, out.shape)
        dx: Array = grads * (1 - out) * out
        return dx


class Dropout(Base):
    """Set a random part of the numbers to zero in training, scale all of them otherwise.

    Parameters
    ----------
    dropout_ratio : float, default 0.5
        How likely each number is to be dropped.
    inverted : bool, default False
        Scale the numbers that survive training, by ``1 / (1 - dropout_ratio)``, and nothing
        otherwise, as PyTorch does. By default all numbers are scaled by ``1 - dropout_ratio`` when
        not in training, as in the textbook.
    rng : numpy.random.Generator, optional
        Where the numbers come from; `numpy.random.rand` if not given, as in the textbook. A network
        gives its layers a generator of its own.

    References
    ----------
    .. [1] N. Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from
       Overfitting", JMLR 15, 2014

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import Dropout
    >>> Dropout(0.25).forward(np.ones(2), train_flg=False)
    array([0.75, 0.75])
    >>> Dropout(0.25, inverted=True).forward(np.ones(2), train_flg=False)
    array([1., 1.])
    """

    _transient = ("mask",)

    def __init__(
        self,
        dropout_ratio: float = 0.5,
        *,
        inverted: bool = False,
        rng: np.random.Generator | None = None,
    ) -> None:
        self.dropout_ratio = number(dropout_ratio, "dropout_ratio", "a number from 0 to 1")
        if not 0 <= self.dropout_ratio <= 1:
            raise argument_error(
                ValueError, f"dropout_ratio must be from 0 to 1, got {dropout_ratio}"
            )
        if rng is not None and not callable(getattr(rng, "random", None)):
            raise argument_error(
                TypeError, f"rng must be a numpy.random.Generator, got {shown(rng)}"
            )
        self.inverted = bool(inverted)
        self.rng = rng
        self.mask: Array | float | None = None

    def forward(self, x: npt.ArrayLike, train_flg: bool = True) -> Array:
        """Drop numbers of an array of any shape; `train_flg` says whether it is in training."""
        array, kept = floats(x), 1.0 - self.dropout_ratio
        if train_flg:
            draw = np.random.random_sample if self.rng is None else self.rng.random
            self.mask = draw(array.shape) > self.dropout_ratio
            if self.inverted and kept:
                self.mask = np.asarray(self.mask, array.dtype) * array.dtype.type(1 / kept)
        else:
            self.mask = 1.0 if self.inverted else kept
        out: Array = array * self.mask
        return out

    def backward(self, dout: npt.ArrayLike) -> Array:
        """Drop or scale the gradients likewise."""
        mask, grads = saved(self.mask, self), floats(dout, "dout")
        if isinstance(mask, np.ndarray):
            check_gradient(grads, mask.shape)
        dx: Array = grads * mask
        return dx


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
        array = _images(x)
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


class SoftmaxWithLoss(Base):
    """Turn scores into probabilities, and compare them with the right classes.

    Attributes
    ----------
    y : ndarray, shape (N, classes)
        Probabilities.
    t : ndarray of int, shape (N,)
        Labels of the last call, as indices.
    loss : float
        Mean cross entropy, ``-mean(log(y[n, t[n]] + 1e-7))``.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import SoftmaxWithLoss
    >>> layer = SoftmaxWithLoss()
    >>> print(f"{layer.forward(np.array([[0.0, 0.0]]), np.array([1])):.4f}")
    0.6931
    >>> layer.backward()
    array([[ 0.5, -0.5]])
    """

    _transient = ("y", "t", "loss", "dtype")

    def __init__(self) -> None:
        self.y: Array | None = None
        self.t: Array | None = None
        self.loss: np.floating[Any] | None = None
        self.dtype: np.dtype[Any] | None = None

    def forward(self, x: npt.ArrayLike, t: npt.ArrayLike) -> np.floating[Any]:
        """Return the mean loss of scores (N, classes).

        Parameters
        ----------
        x : array_like, shape (N, classes)
            Scores.
        t : array_like, shape (N,), (N, 1) or (N, classes)
            Classes as integers from 0, or one-hot: 1 for the class and 0 elsewhere.

        Raises
        ------
        TypeError
            If labels are of neither kind.
        ValueError
            If the shapes do not match, a label is no class, a row is not one-hot, or there are no
            scores.
        """
        scores = floats(x)
        if scores.ndim != 2 or not scores.size:
            raise argument_error(
                ValueError, f"x must have shape (N, classes) and numbers, got {scores.shape}"
            )
        labels = class_indices(t, *scores.shape)
        self.dtype = scores.dtype
        self.t = labels
        self.y = softmax(scores)
        right = self.y[np.arange(len(labels)), labels]
        self.loss = -np.sum(np.log(right + LOG_EPSILON)) / self.y.dtype.type(len(labels))
        return self.loss

    def backward(self, dout: float = 1) -> Array:
        """Return the gradient of the scores."""
        y, labels = saved(self.y, self), saved(self.t, self)
        read(dout, "dout", NUMBERS)
        grads = y.copy()
        grads[np.arange(len(labels)), labels] -= 1
        grads *= dout / len(labels)
        return grads.astype(self.dtype, copy=False)


def softmax(scores: Array) -> Array:
    """Turn rows of scores into probabilities, which sum to 1; in float32 for float16."""
    scores = widened(scores)
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    probabilities: Array = powers / powers.sum(axis=1, keepdims=True)
    return probabilities


def class_indices(t: npt.ArrayLike, count: int, classes: int) -> npt.NDArray[np.intp]:
    """Read the labels of `count` images: indices, or one-hot rows.

    Parameters
    ----------
    t : array_like, shape (count,), (count, 1) or (count, classes)
        Labels.
    count, classes : int
        What their shape and values must fit.

    Returns
    -------
    ndarray of intp, shape (count,)
        Indices of the classes.

    Raises
    ------
    TypeError
        If labels are of neither kind.
    ValueError
        If the shape does not fit, a label is no class, or a row is not one-hot.
    """
    labels = read(t, "t", NUMBERS)
    if labels.shape == (count, classes) and (classes > 1 or labels.any()):
        places: npt.NDArray[np.intp] = labels.argmax(axis=1)
        if np.count_nonzero(labels) != count or not (labels[np.arange(count), places] == 1).all():
            raise argument_error(
                ValueError, "t has the shape of one-hot labels, but not one 1 in every row"
            )
        return places
    if labels.shape not in ((count,), (count, 1)):
        raise argument_error(
            ValueError,
            f"t must have shape {(count,)}, {(count, 1)} or {(count, classes)} for {count} images "
            f"and {classes} classes, got {labels.shape}",
        )
    if labels.dtype.char not in INTEGERS:
        raise argument_error(
            TypeError, f"labels in t must be integers or one-hot, got dtype {labels.dtype}"
        )
    if count and (labels.min() < 0 or labels.max() >= classes):
        raise argument_error(
            ValueError,
            f"labels in t must be from 0 to {classes - 1}, got {labels.min()} to {labels.max()}",
        )
    return labels.reshape(count).astype(np.intp)


def _images(x: npt.ArrayLike) -> Array:
    array = floats(x)
    batch_shape(array.shape, "x", 4, unbatched=False)
    return array


def _rows(x: Array) -> Array:
    """View a batch as rows; its size may be 0."""
    if x.ndim == 0:
        raise argument_error(ValueError, "x must be a batch, got a number")
    return x.reshape(len(x), prod(x.shape[1:]))


def _along(x: Array) -> Array:
    """View images so that a column of pixels holds all channels: (N, 1, C, H*W)."""
    n, c, h, w = x.shape
    return x.reshape(n, 1, c, h * w)
