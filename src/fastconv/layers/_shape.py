"""Layers that only move numbers, or leave some out."""

from __future__ import annotations

from math import prod
from typing import SupportsIndex

import numpy as np
import numpy.typing as npt

from fastconv._arguments import IntPair, pair, positive
from fastconv._arrays import Array, Shape, read_movable
from fastconv._errors import argument_error
from fastconv._layer import Base, check_gradient, floats, images, rows_of, saved
from fastconv._memory import new_array


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
        rows = rows_of(array)
        self.original_x_shape = array.shape
        return rows

    def backward(self, dout: npt.ArrayLike) -> Array:
        """Give the gradient the input's shape."""
        shape, grads = saved(self.original_x_shape, self), read_movable(dout, "dout")
        check_gradient(grads, (shape[0], prod(shape[1:])))
        return grads.reshape(shape)


class ChannelShuffle(Base):
    """Take channels of each group in turn, so that the next groups see channels of all groups [1]_.

    Channel ``g * (C / groups) + i`` becomes channel ``i * groups + g``.

    Parameters
    ----------
    groups : int
        Number of groups, which divides the number of channels.

    References
    ----------
    .. [1] X. Zhang, X. Zhou, M. Lin and J. Sun, "ShuffleNet: An Extremely Efficient Convolutional
       Neural Network for Mobile Devices", CVPR 2018, https://arxiv.org/abs/1707.01083

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import ChannelShuffle
    >>> ChannelShuffle(2).forward(np.arange(6.0).reshape(1, 6, 1, 1)).ravel()
    array([0., 3., 1., 4., 2., 5.])
    """

    _transient = ("input_shape",)

    def __init__(self, groups: SupportsIndex) -> None:
        self.groups = positive(groups, "groups")
        self.input_shape: Shape | None = None

    def forward(self, x: npt.ArrayLike) -> Array:
        """Reorder the channels of (N, C, ...)."""
        array = floats(x)
        if array.ndim < 2 or array.shape[1] % self.groups:
            raise argument_error(
                ValueError,
                f"x must be (N, C, ...) with C a multiple of groups={self.groups}, got shape "
                f"{array.shape}",
            )
        self.input_shape = array.shape
        return _regrouped(array, self.groups)

    def backward(self, dout: npt.ArrayLike) -> Array:
        """Give the gradients the order of the input's channels."""
        shape, grads = saved(self.input_shape, self), floats(dout, "dout")
        check_gradient(grads, shape)
        return _regrouped(grads, shape[1] // self.groups)


class IdentityShortcut(Base):
    """Keep every `stride`-th pixel, and add channels of zeros behind.

    It is the shortcut without parameters of residual networks for small images, "option A" of
    [1]_.

    Parameters
    ----------
    channels : int
        Number of channels of the output, at least that of the input.
    stride : int or pair of int, default 1
        Step between the pixels that are kept, (vertical, horizontal).

    References
    ----------
    .. [1] K. He, X. Zhang, S. Ren and J. Sun, "Deep Residual Learning for Image Recognition",
       CVPR 2016, section 4.2, https://arxiv.org/abs/1512.03385

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import IdentityShortcut
    >>> IdentityShortcut(2, stride=2).forward(np.array([[[[1.0, 2.0, 3.0]]]]))
    array([[[[1., 3.]],
    <BLANKLINE>
            [[0., 0.]]]])
    """

    _transient = ("input_shape",)

    def __init__(self, channels: SupportsIndex, stride: IntPair = 1) -> None:
        self.channels, self.stride = positive(channels, "channels"), stride
        pair(stride, "stride")
        self.input_shape: Shape | None = None

    def forward(self, x: npt.ArrayLike) -> Array:
        """Map images (N, C, H, W) to (N, channels, OH, OW)."""
        array = images(x)
        n, c = array.shape[:2]
        self.input_shape = array.shape
        if c > self.channels:
            raise argument_error(
                ValueError, f"x must have at most {self.channels} channels, got shape {array.shape}"
            )
        kept = array[:, :, :: self._step[0], :: self._step[1]]
        out = new_array((n, self.channels, *kept.shape[2:]), array.dtype)
        out[:, :c] = kept
        out[:, c:] = 0
        return out

    def backward(self, dout: npt.ArrayLike) -> Array:
        """Put the gradients of the pixels that were kept where they were."""
        shape, grads = saved(self.input_shape, self), floats(dout, "dout")
        dx = np.zeros(shape, grads.dtype)
        kept = dx[:, :, :: self._step[0], :: self._step[1]]
        check_gradient(grads, (shape[0], self.channels, *kept.shape[2:]))
        kept[:] = grads[:, : shape[1]]
        return dx

    @property
    def _step(self) -> tuple[int, int]:
        return pair(self.stride, "stride")


def _regrouped(x: Array, groups: int) -> Array:
    """Read the channels as a matrix of `groups` rows, and write its columns after each other."""
    n, c, *rest = x.shape
    out = new_array(x.shape, x.dtype)
    matrix = x.reshape(n, groups, c // groups, *rest)
    out.reshape(n, c // groups, groups, *rest)[:] = matrix.swapaxes(1, 2)
    return out
