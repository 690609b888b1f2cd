"""Layers that change every number by itself.

What they keep for the backward pass is what costs the least memory to write and read: a mask with a
byte per number where the derivative has two values, else the result or the input, which are there
anyway. `function` is what they compute, as convolution's epilogue knows it.
"""

from __future__ import annotations

from math import inf

import numpy as np
import numpy.typing as npt

from fastconv._arguments import number
from fastconv._arrays import Array, contiguous
from fastconv._elementwise import (
    NOT_POSITIVE,
    Bounds,
    activate,
    activate_backward,
    activate_masked,
    scale,
)
from fastconv._epilogue import ACTIVATIONS, HARD_SIGMOID, LEAKY_RELU, Activation
from fastconv._errors import argument_error
from fastconv._layer import Base, check_gradient, floats, saved
from fastconv.activation import relu, relu_backward


class _Lines(Base):
    """A function of straight lines: all results beyond its bounds have one derivative."""

    _transient = ("mask",)
    _bounds: Bounds
    """The results that are marked in the mask lie below the first one, or above the second."""
    function: Activation

    def __init__(self) -> None:
        self.mask: npt.NDArray[np.bool_] | None = None

    def forward(self, x: npt.ArrayLike) -> Array:
        """Compute the function of every number, for an array of any shape."""
        out, self.mask = activate_masked(floats(x), self.function, self._bounds)
        return out

    def backward(self, dout: npt.ArrayLike) -> Array:
        """Multiply by the derivative, which the mask tells."""
        mask, grads = saved(self.mask, self), floats(dout, "dout")
        check_gradient(grads, mask.shape)
        return self._multiplied(grads, mask)

    def _multiplied(self, grads: Array, mask: npt.NDArray[np.bool_]) -> Array:
        """Multiply gradients by the derivative."""
        raise NotImplementedError


class _OfInput(Base):
    """A function whose derivative is computed from the input, which the layer keeps."""

    _transient = ("x",)
    function: Activation

    def __init__(self) -> None:
        self.x: Array | None = None

    def forward(self, x: npt.ArrayLike) -> Array:
        """Compute the function of every number, for an array of any shape."""
        array = floats(x)
        self.x = contiguous(array, array.dtype)  # So that it is copied at most once.
        return activate(self.x, self.function)

    def backward(self, dout: npt.ArrayLike) -> Array:
        """Multiply by the derivative."""
        x, grads = saved(self.x, self), floats(dout, "dout")
        check_gradient(grads, x.shape)
        return activate_backward(grads, x, self.function)


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
    function = ACTIVATIONS["relu"]

    def __init__(self) -> None:
        self.mask: npt.NDArray[np.bool_] | None = None

    def forward(self, x: npt.ArrayLike) -> Array:
        """Rectify an array of any shape."""
        out, self.mask = relu(floats(x), return_mask=True)
        return out

    def backward(self, dout: npt.ArrayLike) -> Array:
        """Let the gradients of what was positive through; `dout` is not changed."""
        return relu_backward(floats(dout, "dout"), saved(self.mask, self))


class LeakyRelu(_Lines):
    """Multiply what is not positive by a small number [1]_.

    Parameters
    ----------
    slope : float, default 0.01
        What negative numbers are multiplied by, from 0 on. It is the derivative at zero, too.

    References
    ----------
    .. [1] A. L. Maas, A. Y. Hannun and A. Y. Ng, "Rectifier Nonlinearities Improve Neural Network
       Acoustic Models", ICML 2013

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import LeakyRelu
    >>> layer = LeakyRelu(0.25)
    >>> layer.forward(np.array([-1.0, 2.0]))
    array([-0.25,  2.  ])
    >>> layer.backward(np.array([3.0, 4.0]))
    array([0.75, 4.  ])
    """

    _bounds = NOT_POSITIVE

    def __init__(self, slope: float = 0.01) -> None:
        super().__init__()
        self.slope = _slope(slope)

    @property
    def function(self) -> Activation:  # type: ignore[override]
        """The activation that the slope decides."""
        return Activation(LEAKY_RELU, self.slope, 0.0)

    def _multiplied(self, grads: Array, mask: npt.NDArray[np.bool_]) -> Array:
        return scale(grads, mask, self.slope, 1.0)


class Relu6(_Lines):
    """Clip numbers to the range from 0 to 6 [1]_.

    References
    ----------
    .. [1] M. Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018,
       https://arxiv.org/abs/1801.04381

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import Relu6
    >>> layer = Relu6()
    >>> layer.forward(np.array([-1.0, 2.0, 7.0]))
    array([0., 2., 6.])
    >>> layer.backward(np.array([3.0, 4.0, 5.0]))
    array([0., 4., 0.])
    """

    _bounds = (0.0, 6.0)
    function = ACTIVATIONS["relu6"]

    def _multiplied(self, grads: Array, mask: npt.NDArray[np.bool_]) -> Array:
        return relu_backward(grads, mask)


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
    function = ACTIVATIONS["sigmoid"]

    def __init__(self) -> None:
        self.out: Array | None = None

    def forward(self, x: npt.ArrayLike) -> Array:
        """Squash an array of any shape."""
        self.out = activate(floats(x), self.function)
        return self.out

    def backward(self, dout: npt.ArrayLike) -> Array:
        """Multiply by the derivative, ``out * (1 - out)``."""
        out, grads = saved(self.out, self), floats(dout, "dout")
        check_gradient(grads, out.shape)
        return activate_backward(grads, out, self.function)


class HardSigmoid(_Lines):
    """Squash numbers into [0, 1] with three straight lines: ``slope * x + 0.5``, clipped.

    Parameters
    ----------
    slope : float, default 0.2
        The derivative between the bounds, from 0 on. The default is that of ONNX and Keras 2;
        PyTorch and MobileNetV3 [1]_ have 1/6.

    References
    ----------
    .. [1] A. Howard et al., "Searching for MobileNetV3", ICCV 2019,
       https://arxiv.org/abs/1905.02244

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import HardSigmoid
    >>> layer = HardSigmoid()
    >>> layer.forward(np.array([-3.0, 0.0, 3.0]))
    array([0. , 0.5, 1. ])
    >>> layer.backward(np.array([1.0, 1.0, 1.0]))
    array([0. , 0.2, 0. ])
    """

    _bounds = (0.0, 1.0)

    def __init__(self, slope: float = 0.2) -> None:
        super().__init__()
        self.slope = _slope(slope)

    @property
    def function(self) -> Activation:  # type: ignore[override]
        """The activation that the slope decides."""
        return Activation(HARD_SIGMOID, self.slope, 0.5)

    def _multiplied(self, grads: Array, mask: npt.NDArray[np.bool_]) -> Array:
        return scale(grads, mask, 0.0, self.slope)


class HardSwish(_OfInput):
    """Multiply every number by its hard sigmoid of slope 1/6 [1]_.

    The layer keeps its input, which must not be changed before `backward`.

    References
    ----------
    .. [1] A. Howard et al., "Searching for MobileNetV3", ICCV 2019,
       https://arxiv.org/abs/1905.02244

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import HardSwish
    >>> layer = HardSwish()
    >>> layer.forward(np.array([-4.0, 0.0, 4.0]))
    array([-0.,  0.,  4.])
    >>> layer.backward(np.array([1.0, 1.0, 1.0]))
    array([0. , 0.5, 1. ])
    """

    function = ACTIVATIONS["hardswish"]


class SiLU(_OfInput):
    """Multiply every number by its sigmoid [1]_, which is also called swish.

    The layer keeps its input, which must not be changed before `backward`.

    References
    ----------
    .. [1] S. Elfwing, E. Uchibe and K. Doya, "Sigmoid-Weighted Linear Units for Neural Network
       Function Approximation in Reinforcement Learning", 2017, https://arxiv.org/abs/1702.03118

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import SiLU
    >>> layer = SiLU()
    >>> layer.forward(np.array([0.0, 1000.0]))
    array([   0., 1000.])
    >>> layer.backward(np.array([1.0, 1.0]))
    array([0.5, 1. ])
    """

    function = ACTIVATIONS["silu"]


def _slope(value: float) -> float:
    """Read a slope."""
    slope = number(value, "slope")
    if not 0 <= slope < inf:
        raise argument_error(ValueError, f"slope must be a number from 0 on, got {value}")
    return slope
