"""Layers that summarise windows, or whole planes and signals."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, SupportsIndex

import numpy as np
import numpy.typing as npt

from fastconv import _kernels, _threads
from fastconv._arguments import IntPair, OneInt, Padding
from fastconv._arrays import NUMBERS, Array, Shape, batch_shape, read
from fastconv._layer import Base, check_gradient, floats, saved
from fastconv._memory import new_array
from fastconv.one_dimension import avg_pool1d, avg_pool1d_backward, max_pool1d, max_pool1d_backward
from fastconv.pooling import avg_pool2d, avg_pool2d_backward, max_pool2d, max_pool2d_backward


class MaximumPooling(Base, ABC):
    """What maximum pooling of images and of signals shares."""

    _transient = ("x", "arg_max")
    _pool: ClassVar[Callable[..., Any]]
    _place: ClassVar[Callable[..., Array]]
    stride: IntPair
    pad: Padding
    x: Array | None = None
    arg_max: Array | None = None

    @property
    @abstractmethod
    def kernel_size(self) -> tuple[SupportsIndex, ...]:
        """Size of the window, by axis."""

    def forward(self, x: npt.ArrayLike, train_flg: bool = True) -> Array:
        """Pool a batch; without `train_flg` it is `backward` that finds the places."""
        self.x = read(x, "x", NUMBERS)
        window = self.kernel_size, self.stride, self.pad
        out: Array
        if not train_flg:
            self.arg_max = None
            out = self._pool(self.x, *window)
            return out
        out, self.arg_max = self._pool(self.x, *window, return_indices=True)
        return out

    def backward(self, dout: npt.ArrayLike) -> Array:
        """Put the gradients where the maxima were."""
        x = saved(self.x, self)
        if self.arg_max is None:
            self.forward(x)
        return self._place(dout, saved(self.arg_max, self), x.shape)


class Pooling(MaximumPooling):
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

    _pool, _place = staticmethod(max_pool2d), staticmethod(max_pool2d_backward)

    def __init__(
        self, pool_h: SupportsIndex, pool_w: SupportsIndex, stride: IntPair = 1, pad: Padding = 0
    ) -> None:
        self.pool_h, self.pool_w = pool_h, pool_w
        self.stride, self.pad = stride, pad
        self.x = self.arg_max = None

    @property
    def kernel_size(self) -> tuple[SupportsIndex, ...]:
        """Size of the window, by axis."""
        return self.pool_h, self.pool_w


class Pooling1D(MaximumPooling):
    """Take the maximum of every window of signals.

    Parameters
    ----------
    pool_size : int
        Size of the window.
    stride : int, default 1
        Step between windows.
    pad : int, (before, after), "valid" or "same", default 0
        Padding, which never wins.

    See Also
    --------
    fastconv.max_pool1d : The function, which says what is raised.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import Pooling1D
    >>> layer = Pooling1D(2, stride=2)
    >>> layer.forward(np.array([[[1.0, 9.0, 4.0, 6.0]]]))
    array([[[9., 6.]]])
    >>> layer.backward(np.array([[[5.0, 7.0]]]))
    array([[[0., 5., 0., 7.]]])
    """

    _pool, _place = staticmethod(max_pool1d), staticmethod(max_pool1d_backward)

    def __init__(self, pool_size: SupportsIndex, stride: OneInt = 1, pad: Padding = 0) -> None:
        self.pool_size = pool_size
        self.stride, self.pad = stride, pad
        self.x = self.arg_max = None

    @property
    def kernel_size(self) -> tuple[SupportsIndex, ...]:
        """Size of the window, by axis."""
        return (self.pool_size,)


class MeanPooling(Base, ABC):
    """What average pooling of images and of signals shares."""

    _transient = ("input_shape",)
    _pool: ClassVar[Callable[..., Array]]
    _share: ClassVar[Callable[..., Array]]
    stride: IntPair
    pad: Padding
    input_shape: Shape | None = None

    @property
    @abstractmethod
    def kernel_size(self) -> tuple[SupportsIndex, ...]:
        """Size of the window, by axis."""

    def forward(self, x: npt.ArrayLike) -> Array:
        """Pool a batch."""
        array = read(x, "x", NUMBERS)
        self.input_shape = array.shape
        return self._pool(array, self.kernel_size, self.stride, self.pad)

    def backward(self, dout: npt.ArrayLike) -> Array:
        """Spread the gradients over the windows."""
        shape = saved(self.input_shape, self)
        return self._share(dout, shape, self.kernel_size, self.stride, self.pad)


class AveragePooling(MeanPooling):
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

    _pool, _share = staticmethod(avg_pool2d), staticmethod(avg_pool2d_backward)

    def __init__(
        self, pool_h: SupportsIndex, pool_w: SupportsIndex, stride: IntPair = 1, pad: Padding = 0
    ) -> None:
        self.pool_h, self.pool_w = pool_h, pool_w
        self.stride, self.pad = stride, pad
        self.input_shape = None

    @property
    def kernel_size(self) -> tuple[SupportsIndex, ...]:
        """Size of the window, by axis."""
        return self.pool_h, self.pool_w


class AveragePooling1D(MeanPooling):
    """Take the mean of every window of signals, padding included.

    Parameters
    ----------
    pool_size : int
        Size of the window.
    stride : int, default 1
        Step between windows.
    pad : int, (before, after), "valid" or "same", default 0
        Padding with zeros.

    See Also
    --------
    fastconv.avg_pool1d : The function, which says what is raised.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import AveragePooling1D
    >>> AveragePooling1D(2, stride=2).forward(np.array([[[1.0, 9.0, 4.0, 6.0]]]))
    array([[[5., 5.]]])
    """

    _pool, _share = staticmethod(avg_pool1d), staticmethod(avg_pool1d_backward)

    def __init__(self, pool_size: SupportsIndex, stride: OneInt = 1, pad: Padding = 0) -> None:
        self.pool_size = pool_size
        self.stride, self.pad = stride, pad
        self.input_shape = None

    @property
    def kernel_size(self) -> tuple[SupportsIndex, ...]:
        """Size of the window, by axis."""
        return (self.pool_size,)


class GlobalAveragePooling(Base):
    """Take the mean of every plane, or of every signal: (N, C, H, W) or (N, C, L) to (N, C).

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
        """Average images (N, C, H, W) or signals (N, C, L)."""
        array = floats(x)
        batch_shape(array.shape, "x", 3 if array.ndim == 3 else 4, unbatched=False)
        self.input_shape = array.shape
        means = new_array(array.shape[:2], array.dtype)
        self.average(array, means)
        return means

    @staticmethod
    def average(images: Array, means: Array) -> None:
        """Write the means of the planes of images, or of signals."""
        planes = images if images.ndim == 4 else images[:, :, np.newaxis]
        _kernels.global_pooling.average(planes, means, _threads.count())

    def backward(self, dout: npt.ArrayLike) -> Array:
        """Spread the gradients over the planes."""
        shape, grads = saved(self.input_shape, self), floats(dout, "dout")
        check_gradient(grads, shape[:2])
        shares = new_array(shape, grads.dtype)
        planes = shares if shares.ndim == 4 else shares[:, :, np.newaxis]
        _kernels.global_pooling.average_backward(grads[:, :, None, None], planes, _threads.count())
        return shares
