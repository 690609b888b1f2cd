"""Residual networks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fastconv._arguments import positive
from fastconv._errors import named
from fastconv.layers import (
    GlobalAveragePooling,
    IdentityShortcut,
    Layer,
    Pooling,
    Relu,
    Residual,
)
from fastconv.models._depths import check_depth
from fastconv.models._sequential import Seed, Sequential

__all__ = ["ResNet"]

SMALL_IMAGES = (20, 32, 44, 56, 110, 1202)
"""The depths of the networks for images of 32x32."""

BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
"""The number of blocks in each of the four stages of a network for images of 224x224, by depth."""

BOTTLENECKS_FROM = 50
"""The depth from which blocks are 1x1, 3x3 and 1x1 convolutions instead of two of 3x3."""

EPS = 1e-5
"""What batch normalisation adds to the variance, as where most trained weights come from."""


@named
class ResNet(Sequential):
    """A residual network [1]_, for images of 32x32 or of 224x224, as its depth says.

    Parameters
    ----------
    depth : {18, 34, 50, 101, 152, 20, 32, 44, 56, 110, 1202}, default 50
        Number of layers that have weights, without those of shortcuts. The first five depths are
        those of the paper's networks for ImageNet, the others those for CIFAR-10.
    input_dim : (int, int, int), optional
        Shape of an image, (C, H, W); by default (3, 224, 224) or (3, 32, 32).
    output_size : int, optional
        Number of classes; by default 1000 or 10.
    stride_in_3x3 : bool, default True
        Whether a block of three convolutions that halves the image does so in its 3x3
        convolution, as in the variant known as v1.5, of which most trained weights are. The
        paper's blocks do it in the first 1x1 convolution. It does not change the number of
        parameters, and nothing at all below 50 layers.
    dtype : dtype, default float32
        Of the parameters.
    seed : int or numpy.random.Generator, optional
        For the weights.

    Notes
    -----
    The networks for ImageNet begin with a 7x7 convolution and pooling; where a block changes the
    number of channels, its shortcut is a 1x1 convolution ("option B"). Depths from 50 on have
    blocks of three convolutions. The networks for CIFAR-10 have three stages of 16, 32 and 64
    filters, and shortcuts without parameters (`fastconv.layers.IdentityShortcut`, "option A").
    All convolutions are followed by batch normalisation with ``eps=1e-5``, and have no biases.

    References
    ----------
    .. [1] K. He, X. Zhang, S. Ren and J. Sun, "Deep Residual Learning for Image Recognition",
       CVPR 2016, https://arxiv.org/abs/1512.03385

    Examples
    --------
    >>> from fastconv.models import ResNet
    >>> print(ResNet(20, seed=0))
    ResNet(input (3, 32, 32), output (10,), 14 layers, 269722 parameters)
    >>> print(ResNet(18, output_size=5, seed=0))
    ResNet(input (3, 224, 224), output (5,), 14 layers, 11179077 parameters)
    """

    def __init__(
        self,
        depth: int = 50,
        input_dim: Sequence[int] | None = None,
        output_size: int | None = None,
        *,
        stride_in_3x3: bool = True,
        dtype: npt.DTypeLike = np.float32,
        seed: Seed = None,
    ) -> None:
        check_depth(depth, (*BLOCKS, *SMALL_IMAGES))
        small = depth in SMALL_IMAGES
        size, classes = (32, 10) if small else (224, 1000)
        super().__init__(
            (3, size, size) if input_dim is None else input_dim, dtype=dtype, seed=seed
        )
        if small:
            self._small_stages((depth - 2) // 6)
        else:
            self._large_stages(depth, stride_in_3x3)
        self.add(GlobalAveragePooling())
        self.affine(classes if output_size is None else positive(output_size, "output_size"))

    def _small_stages(self, blocks: int) -> None:
        """Append the layers with windows of a network for small images."""
        _convolve(self, 16, 3)
        for filters in (16, 32, 64):
            for _ in range(blocks):
                channels = self.output_dim[0]
                stride = 1 if channels == filters else 2
                body = _convolve(self.branch(), filters, 3, stride)
                _convolve(body, filters, 3, rectify=False)
                shortcut = IdentityShortcut(filters, stride) if channels != filters else None
                self.add(Residual(*body.children, shortcut=shortcut))

    def _large_stages(self, depth: int, stride_in_3x3: bool) -> None:
        """Append the layers with windows of a network for large images."""
        _convolve(self, 64, 7, 2).add(Pooling(3, 3, stride=2, pad=1))
        strides = (1, 2) if stride_in_3x3 else (2, 1)
        for stage, blocks in enumerate(BLOCKS[depth]):
            for block in range(blocks):
                filters, stride = 64 * 2**stage, 2 if stage and not block else 1
                if depth < BOTTLENECKS_FROM:
                    body = _convolve(self.branch(), filters, 3, stride)
                    _convolve(body, filters, 3, rectify=False)
                else:
                    of_1x1, of_3x3 = strides if stride == 2 else (1, 1)
                    body = _convolve(self.branch(), filters, 1, of_1x1)
                    _convolve(body, filters, 3, of_3x3)
                    _convolve(body, 4 * filters, 1, rectify=False)
                self.add(Residual(*body.children, shortcut=self._projection(body, stride)))

    def _projection(self, body: Sequential, stride: int) -> Sequence[Layer] | None:
        """Return what gives a block's input the shape of its output, None if it has it already."""
        if body.output_dim == self.output_dim:
            return None
        return _convolve(self.branch(), body.output_dim[0], 1, stride, rectify=False).children


def _convolve(
    net: Sequential, filters: int, size: int, stride: int = 1, *, rectify: bool = True
) -> Sequential:
    """Append a convolution, batch normalisation and a rectification; return the network."""
    net.convolution(filters, size, stride, pad=size // 2, bias=False).batch_normalization(eps=EPS)
    return net.add(Relu()) if rectify else net
