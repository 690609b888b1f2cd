"""Network in Network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fastconv._arguments import positive
from fastconv._errors import named
from fastconv.layers import AveragePooling, Dropout, GlobalAveragePooling, Pooling, Relu
from fastconv.models._sequential import Seed, Sequential

__all__ = ["NIN"]


@named
class NIN(Sequential):
    """Network in Network [1]_ for CIFAR-10: three convolutions, each with two of 1x1 behind it.

    Parameters
    ----------
    input_dim : (int, int, int), default (3, 32, 32)
        Shape of an image, (C, H, W).
    output_size : int, default 10
        Number of classes.
    dtype : dtype, default float32
        Of the parameters.
    seed : int or numpy.random.Generator, optional
        For the weights and dropout.

    Notes
    -----
    The sizes are those of the network that the authors published for CIFAR-10. The last convolution
    gives a plane for each class, whose mean is the score; there is no affine layer. Weights are
    drawn from ``N(0, 2 / fan_in)``; the authors' have the standard deviation 0.05.

    References
    ----------
    .. [1] M. Lin, Q. Chen and S. Yan, "Network In Network", ICLR 2014,
       https://arxiv.org/abs/1312.4400

    Examples
    --------
    >>> from fastconv.models import NIN
    >>> print(NIN(seed=0))
    NIN(input (3, 32, 32), output (10,), 23 layers, 966986 parameters)
    """

    def __init__(
        self,
        input_dim: Sequence[int] = (3, 32, 32),
        output_size: int = 10,
        *,
        dtype: npt.DTypeLike = np.float32,
        seed: Seed = None,
    ) -> None:
        super().__init__(input_dim, dtype=dtype, seed=seed)
        self._block(5, 192, 160, 96)
        self.add(Pooling(3, 3, stride=2, pad="same"), Dropout(0.5, inverted=True))
        self._block(5, 192, 192, 192)
        self.add(AveragePooling(3, 3, stride=2, pad="same"), Dropout(0.5, inverted=True))
        self._block(3, 192, 192, positive(output_size, "output_size"))
        self.add(GlobalAveragePooling())

    def _block(self, size: int, *filters: int) -> None:
        """Append a convolution with windows of `size`, and those of 1x1 behind it."""
        for index, count in enumerate(filters):
            window = 1 if index else size
            self.convolution(count, window, pad=window // 2).add(Relu())
