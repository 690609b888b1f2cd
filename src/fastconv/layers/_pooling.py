"""Layers that summarise windows, or whole planes."""

from __future__ import annotations

from typing import SupportsIndex

import numpy.typing as npt

from fastconv import _kernels, _threads
from fastconv._arguments import IntPair, Padding
from fastconv._arrays import NUMBERS, Array, Shape, read
from fastconv._layer import Base, check_gradient, floats, images, saved
from fastconv._memory import new_array
from fastconv.pooling import avg_pool2d, avg_pool2d_backward, max_pool2d, max_pool2d_backward


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
        array = images(x)
        self.input_shape = array.shape
        means = new_array(array.shape[:2], array.dtype)
        self.average(array, means)
        return means

    @staticmethod
    def average(images: Array, means: Array) -> None:
        """Write the means of the planes of images."""
        _kernels.global_pooling.average(images, means, _threads.count())

    def backward(self, dout: npt.ArrayLike) -> Array:
        """Spread the gradients over the planes."""
        n, c, h, w = saved(self.input_shape, self)
        grads = floats(dout, "dout")
        check_gradient(grads, (n, c))
        shares = new_array((n, c, h, w), grads.dtype)
        _kernels.global_pooling.average_backward(grads[:, :, None, None], shares, _threads.count())
        return shares
