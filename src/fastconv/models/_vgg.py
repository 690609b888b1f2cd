"""The networks of the Visual Geometry Group."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fastconv._arguments import positive
from fastconv._errors import named
from fastconv.layers import Dropout, Pooling, Relu
from fastconv.models._depths import check_depth
from fastconv.models._sequential import Seed, Sequential

__all__ = ["VGG"]

CONVOLUTIONS = {
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
"""The number of convolutions in each of the five blocks, by the number of layers with weights."""


@named
class VGG(Sequential):
    """VGG [1]_: blocks of 3x3 convolutions, each with pooling, and three affine layers.

    Parameters
    ----------
    depth : {11, 13, 16, 19}, default 16
        Number of layers that have weights.
    input_dim : (int, int, int), default (3, 224, 224)
        Shape of an image, (C, H, W).
    output_size : int, default 1000
        Number of classes.
    hidden_size : int, default 4096
        Outputs of the first two affine layers.
    dtype : dtype, default float32
        Of the parameters.
    seed : int or numpy.random.Generator, optional
        For the weights and dropout.

    References
    ----------
    .. [1] K. Simonyan and A. Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
       Recognition", ICLR 2015, https://arxiv.org/abs/1409.1556

    Examples
    --------
    >>> from fastconv.models import VGG
    >>> print(VGG(11, (3, 32, 32), output_size=10, hidden_size=512))
    VGG(input (3, 32, 32), output (10,), 28 layers, 9750922 parameters)
    """

    def __init__(
        self,
        depth: int = 16,
        input_dim: Sequence[int] = (3, 224, 224),
        output_size: int = 1000,
        hidden_size: int = 4096,
        *,
        dtype: npt.DTypeLike = np.float32,
        seed: Seed = None,
    ) -> None:
        check_depth(depth, CONVOLUTIONS)
        super().__init__(input_dim, dtype=dtype, seed=seed)
        for convolutions, filters in zip(CONVOLUTIONS[depth], (64, 128, 256, 512, 512)):
            for _ in range(convolutions):
                self.convolution(filters, 3, pad=1).add(Relu())
            self.add(Pooling(2, 2, stride=2))
        for _ in range(2):
            self.affine(positive(hidden_size, "hidden_size")).add(
                Relu(), Dropout(0.5, inverted=True)
            )
        self.affine(positive(output_size, "output_size"))
