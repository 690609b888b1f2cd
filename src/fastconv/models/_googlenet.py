"""GoogLeNet."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fastconv._arguments import positive
from fastconv._errors import named
from fastconv.layers import (
    Concatenation,
    Dropout,
    GlobalAveragePooling,
    LocalResponseNormalization,
    Pooling,
    Relu,
)
from fastconv.models._sequential import Seed, Sequential

__all__ = ["GoogLeNet"]

MODULES = (
    ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)),
    (
        (192, 96, 208, 16, 48, 64),
        (160, 112, 224, 24, 64, 64),
        (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64),
        (256, 160, 320, 32, 128, 128),
    ),
    ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
)
"""Filters of each inception module, in the columns of the paper's table 1.

The columns are "#1x1", "#3x3 reduce", "#3x3", "#5x5 reduce", "#5x5" and "pool proj". Pooling stands
between the three groups of modules.
"""


@named
class GoogLeNet(Sequential):
    """GoogLeNet [1]_: nine inception modules, each of four branches joined along the channels.

    Parameters
    ----------
    input_dim : (int, int, int), default (3, 224, 224)
        Shape of an image, (C, H, W).
    output_size : int, default 1000
        Number of classes.
    dtype : dtype, default float32
        Of the parameters.
    seed : int or numpy.random.Generator, optional
        For the weights and dropout.

    Notes
    -----
    This is the network of the paper's table 1 without the two auxiliary classifiers, which only
    training uses, and without batch normalisation, which is younger. Every convolution has biases.

    The parameters in that table add up to 6,797.7K, 200,852 less than here if K is 1,000. But the
    table counts in units of 1,024, and leaves biases out: the second row of convolutions (114,688
    weights, "112K") and the last layer (1,024,000 weights, "1000K") then agree exactly. This
    accounts for 163,145, and the biases for 8,280. The other 29,427 are between rows of the table
    and the numbers of filters in the same rows, from which the weights follow: in units of 1,024,
    the first convolution has 9.2 (paper: 2.7), module 3a 159.5 (159), 3b 379 (380), 4a 366.8 (364),
    4b 438 (437), 4c 497.5 (463), 4d 590.5 (580), 4e 847 (840), 5a 1018 (1072), 5b 1409 (1388).

    References
    ----------
    .. [1] C. Szegedy et al., "Going Deeper with Convolutions", CVPR 2015,
       https://arxiv.org/abs/1409.4842

    Examples
    --------
    >>> from fastconv.models import GoogLeNet
    >>> print(GoogLeNet(seed=0))
    GoogLeNet(input (3, 224, 224), output (1000,), 24 layers, 6998552 parameters)
    """

    def __init__(
        self,
        input_dim: Sequence[int] = (3, 224, 224),
        output_size: int = 1000,
        *,
        dtype: npt.DTypeLike = np.float32,
        seed: Seed = None,
    ) -> None:
        super().__init__(input_dim, dtype=dtype, seed=seed)
        self.convolution(64, 7, stride=2, pad=3).add(Relu(), _halving(), _response())
        self.convolution(64, 1).add(Relu())
        self.convolution(192, 3, pad=1).add(Relu(), _response(), _halving())
        for index, group in enumerate(MODULES):
            if index:
                self.add(_halving())
            for filters in group:
                self._inception(*filters)
        self.add(GlobalAveragePooling(), Dropout(0.4, inverted=True))
        self.affine(positive(output_size, "output_size"))

    def _inception(
        self, of_1x1: int, reduce_3x3: int, of_3x3: int, reduce_5x5: int, of_5x5: int, pooled: int
    ) -> None:
        """Append a module."""
        branches = [self.branch() for _ in range(4)]
        branches[0].convolution(of_1x1, 1)
        branches[1].convolution(reduce_3x3, 1).add(Relu()).convolution(of_3x3, 3, pad=1)
        branches[2].convolution(reduce_5x5, 1).add(Relu()).convolution(of_5x5, 5, pad=2)
        branches[3].add(Pooling(3, 3, stride=1, pad=1)).convolution(pooled, 1)
        self.add(Concatenation(*(branch.add(Relu()).children for branch in branches)))


def _halving() -> Pooling:
    """Make the pooling between modules, which keeps half of an odd number of pixels rounded up."""
    return Pooling(3, 3, stride=2, pad="same")


def _response() -> LocalResponseNormalization:
    return LocalResponseNormalization(5, alpha=1e-4, beta=0.75, k=1.0)
