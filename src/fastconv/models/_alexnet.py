"""AlexNet."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fastconv._arguments import positive
from fastconv._errors import named
from fastconv.layers import Dropout, LocalResponseNormalization, Pooling, Relu
from fastconv.models._sequential import Seed, Sequential

__all__ = ["AlexNet"]


@named
class AlexNet(Sequential):
    """AlexNet [1]_: five convolutions, three of them in two groups, and three affine layers.

    Parameters
    ----------
    input_dim : (int, int, int), default (3, 227, 227)
        Shape of an image, (C, H, W).
    output_size : int, default 1000
        Number of classes.
    dtype : dtype, default float32
        Of the parameters.
    seed : int or numpy.random.Generator, optional
        For the weights and dropout.

    Notes
    -----
    Weights are drawn from N(0, 0.01**2), as in the paper; its learning from scratch takes a million
    images. The paper's alpha of the normalisation, 1e-4, is 5e-4 here, where it is divided by the
    number of channels.

    References
    ----------
    .. [1] A. Krizhevsky, I. Sutskever and G. Hinton, "ImageNet Classification with Deep
       Convolutional Neural Networks", NIPS 2012

    Examples
    --------
    >>> from fastconv.models import AlexNet
    >>> print(AlexNet(seed=0))
    AlexNet(input (3, 227, 227), output (1000,), 22 layers, 60965224 parameters)
    """

    def __init__(
        self,
        input_dim: Sequence[int] = (3, 227, 227),
        output_size: int = 1000,
        *,
        dtype: npt.DTypeLike = np.float32,
        seed: Seed = None,
    ) -> None:
        super().__init__(input_dim, dtype=dtype, seed=seed)
        std = 0.01
        self.convolution(96, 11, stride=4, std=std).add(Relu(), _response(), Pooling(3, 3, 2))
        self.convolution(256, 5, pad=2, groups=2, std=std)
        self.add(Relu(), _response(), Pooling(3, 3, 2))
        self.convolution(384, 3, pad=1, std=std).add(Relu())
        self.convolution(384, 3, pad=1, groups=2, std=std).add(Relu())
        self.convolution(256, 3, pad=1, groups=2, std=std).add(Relu(), Pooling(3, 3, 2))
        for _ in range(2):
            self.add(Dropout(0.5, inverted=True)).affine(4096, std=std).add(Relu())
        self.affine(positive(output_size, "output_size"), std=std)


def _response() -> LocalResponseNormalization:
    return LocalResponseNormalization(5, alpha=5e-4, beta=0.75, k=2.0)
