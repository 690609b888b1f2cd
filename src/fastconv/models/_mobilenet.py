"""MobileNet."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import numpy as np
import numpy.typing as npt

from fastconv._arguments import number, positive
from fastconv._errors import argument_error, named, shown
from fastconv.layers import GlobalAveragePooling, Relu
from fastconv.models._sequential import Seed, Sequential

__all__ = ["MobileNet"]

BLOCKS = (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
    *((512, 1),) * 5,
    *((1024, 2), (1024, 1)),
)
"""The filters of each block, and the stride of its depthwise convolution."""

EPS = 1e-3
"""What batch normalisation adds to the variance, as in the authors' implementation."""


@named
class MobileNet(Sequential):
    """MobileNet [1]_: thirteen blocks of a depthwise 3x3 convolution and a 1x1 convolution.

    Parameters
    ----------
    input_dim : (int, int, int), default (3, 224, 224)
        Shape of an image, (C, H, W).
    output_size : int, default 1000
        Number of classes.
    alpha : float, default 1.0
        Width multiplier: the number of filters of each convolution is multiplied by it, and
        rounded down.
    dtype : dtype, default float32
        Of the parameters.
    seed : int or numpy.random.Generator, optional
        For the weights.

    Notes
    -----
    Each convolution is followed by batch normalisation with ``eps=1e-3`` and a rectification.
    Padding is ``"same"``: where the stride is 2 and the image's side even, the row and the column
    of zeros are behind the last pixels, as in the authors' implementation.

    References
    ----------
    .. [1] A. G. Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile
       Vision Applications", 2017, https://arxiv.org/abs/1704.04861

    Examples
    --------
    >>> from fastconv.models import MobileNet
    >>> print(MobileNet(seed=0))
    MobileNet(input (3, 224, 224), output (1000,), 83 layers, 4231976 parameters)
    >>> print(MobileNet((3, 128, 128), 10, alpha=0.25, seed=0))
    MobileNet(input (3, 128, 128), output (10,), 83 layers, 215642 parameters)
    """

    def __init__(
        self,
        input_dim: Sequence[int] = (3, 224, 224),
        output_size: int = 1000,
        *,
        alpha: float = 1.0,
        dtype: npt.DTypeLike = np.float32,
        seed: Seed = None,
    ) -> None:
        super().__init__(input_dim, dtype=dtype, seed=seed)
        width = number(alpha, "alpha", "a positive number")
        if not 0 < width < inf:
            raise argument_error(ValueError, f"alpha must be a positive number, got {shown(alpha)}")
        self._convolve(_scaled(32, width), 3, 2)
        for filters, stride in BLOCKS:
            self._convolve(self.output_dim[0], 3, stride, groups=self.output_dim[0])
            self._convolve(_scaled(filters, width), 1)
        self.add(GlobalAveragePooling()).affine(positive(output_size, "output_size"))

    def _convolve(self, filters: int, size: int, stride: int = 1, groups: int = 1) -> None:
        """Append a convolution, batch normalisation and a rectification."""
        self.convolution(
            filters, size, stride, "same" if size > 1 else 0, groups=groups, bias=False
        )
        self.batch_normalization(eps=EPS).add(Relu())


def _scaled(filters: int, width: float) -> int:
    """Return how many filters a width multiplier leaves, at least one."""
    return max(1, int(filters * width))
