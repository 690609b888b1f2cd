"""Layers that learn weights: convolution, and the product with a matrix."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, SupportsIndex

import numpy as np
import numpy.typing as npt

from fastconv._arguments import IntPair, Padding
from fastconv._arrays import NUMBERS, Array, Shape, read
from fastconv._errors import argument_error
from fastconv._layer import (
    Base,
    check_gradient,
    floats,
    gathered,
    narrowed,
    offset,
    rows_of,
    saved,
    spread,
    widened,
)
from fastconv.convolution import conv2d, conv2d_backward
from fastconv.one_dimension import conv1d, conv1d_backward
from fastconv.product import matmul


class Correlation(Base):
    """What convolutions of images and of signals share."""

    _transient = ("x", "dW", "db")
    _convolve: ClassVar[Callable[..., Array]]
    _differentiate: ClassVar[Callable[..., tuple[Array | None, Array | None, Array | None]]]

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
        """Convolve images (N, C, H, W) to (N, F, OH, OW), or signals (N, C, L) to (N, F, OL)."""
        self.x = read(x, "x", NUMBERS)
        return self._convolve(
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
        dx, self.dW, db = self._differentiate(
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


class Convolution(Correlation):
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

    _convolve, _differentiate = staticmethod(conv2d), staticmethod(conv2d_backward)


class Convolution1D(Correlation):
    """Correlate signals with filters.

    Parameters
    ----------
    W : array_like, shape (F, C/groups, K)
        Filters.
    b : array_like, shape (F,), (1, F), (1,) or (), or None
        What is added to every output of a filter. One number is added to the outputs of all of
        them.
    stride : int, default 1
        Step between windows.
    pad : int, (before, after), "valid" or "same", default 0
        Padding.
    dilation : int, default 1
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
    fastconv.conv1d : The function, which says what is raised.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import Convolution1D
    >>> layer = Convolution1D(np.ones((2, 1, 3)), np.zeros(2), pad=1)
    >>> y = layer.forward(np.ones((1, 1, 4)))
    >>> y.shape, layer.backward(y).shape, layer.dW.shape
    ((1, 2, 4), (1, 1, 4), (2, 1, 3))
    """

    _convolve, _differentiate = staticmethod(conv1d), staticmethod(conv1d_backward)


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
        rows = rows_of(array)
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
