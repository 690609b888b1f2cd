"""Xception."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fastconv._arguments import positive
from fastconv._errors import named
from fastconv.layers import Dropout, GlobalAveragePooling, Pooling, Relu, Residual
from fastconv.models._sequential import Seed, Sequential

__all__ = ["Xception"]

EPS = 1e-3
"""What batch normalisation adds to the variance, as in the author's implementation."""


@named
class Xception(Sequential):
    """Xception [1]_: residual blocks of depthwise separable convolutions.

    Parameters
    ----------
    input_dim : (int, int, int), default (3, 299, 299)
        Shape of an image, (C, H, W).
    output_size : int, default 1000
        Number of classes.
    dtype : dtype, default float32
        Of the parameters.
    seed : int or numpy.random.Generator, optional
        For the weights and dropout.

    Notes
    -----
    A separable convolution is a depthwise 3x3 convolution and a 1x1 convolution, with nothing
    between them. It and the ordinary convolutions are followed by batch normalisation with
    ``eps=1e-3``, and have no biases. Running means and variances are not among the parameters that
    are counted: they are not learned.

    References
    ----------
    .. [1] F. Chollet, "Xception: Deep Learning with Depthwise Separable Convolutions", CVPR 2017,
       https://arxiv.org/abs/1610.02357

    Examples
    --------
    >>> from fastconv.models import Xception
    >>> print(Xception(seed=0))
    Xception(input (3, 299, 299), output (1000,), 29 layers, 22855952 parameters)
    """

    def __init__(
        self,
        input_dim: Sequence[int] = (3, 299, 299),
        output_size: int = 1000,
        *,
        dtype: npt.DTypeLike = np.float32,
        seed: Seed = None,
    ) -> None:
        super().__init__(input_dim, dtype=dtype, seed=seed)
        for filters, stride in ((32, 2), (64, 1)):
            self.convolution(filters, 3, stride, bias=False).batch_normalization(eps=EPS)
            self.add(Relu())
        self._halving_block(128, 128, rectify_first=False)
        self._halving_block(256, 256)
        self._halving_block(728, 728)
        for _ in range(8):
            body = self.branch()
            for _ in range(3):
                _separable(body.add(Relu()), 728)
            self.add(Residual(*body.children, activation=None))
        self._halving_block(728, 1024)
        for filters in (1536, 2048):
            _separable(self, filters).add(Relu())
        self.add(GlobalAveragePooling(), Dropout(0.5, inverted=True))
        self.affine(positive(output_size, "output_size"))

    def _halving_block(self, first: int, second: int, *, rectify_first: bool = True) -> None:
        """Append two separable convolutions and pooling, beside a 1x1 convolution of stride 2."""
        body = self.branch()
        if rectify_first:
            body.add(Relu())
        _separable(_separable(body, first).add(Relu()), second)
        body.add(Pooling(3, 3, stride=2, pad="same"))
        shortcut = self.branch().convolution(second, 1, stride=2, bias=False)
        shortcut.batch_normalization(eps=EPS)
        self.add(Residual(*body.children, shortcut=shortcut.children, activation=None))


def _separable(net: Sequential, filters: int) -> Sequential:
    """Append a separable convolution and batch normalisation; return the network."""
    channels = net.output_dim[0]
    net.convolution(channels, 3, pad=1, groups=channels, bias=False)
    return net.convolution(filters, 1, bias=False).batch_normalization(eps=EPS)
