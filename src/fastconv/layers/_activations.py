"""Layers that change every number by itself."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastconv._arrays import Array
from fastconv._layer import Base, check_gradient, floats, saved
from fastconv.activation import relu, relu_backward


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
