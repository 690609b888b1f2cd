"""Networks that textbooks build, each a chain of layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod, sqrt

import numpy as np
import numpy.typing as npt

from fastconv._arguments import number, positive
from fastconv._errors import argument_error, named, shown
from fastconv.layers import (
    AveragePooling,
    Dropout,
    LocalResponseNormalization,
    Pooling,
    Relu,
    Sigmoid,
)
from fastconv.models._sequential import Sequential

__all__ = ["VGG", "AlexNet", "DeepConvNet", "LeNet", "SimpleConvNet"]

Seed = int | np.random.Generator | None

VGG_CONVOLUTIONS = {
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
"""The number of convolutions in each of the five blocks, by the number of layers with weights."""


@named
class SimpleConvNet(Sequential):
    """conv - relu - pool - affine - relu - affine - softmax, of the textbook's chapter 7.

    Parameters
    ----------
    input_dim : (int, int, int), default (1, 28, 28)
        Shape of an image, (C, H, W).
    conv_param : mapping, optional
        ``filter_num``, ``filter_size``, ``pad`` and ``stride`` of the convolution: 30, 5, 0 and 1.
    hidden_size : int, default 100
        Outputs of the first fully connected layer.
    output_size : int, default 10
        Number of classes.
    weight_init_std : float, default 0.01
        Standard deviation of the weights.
    dtype : dtype, default float32
        Of the parameters; the textbook's are float64.
    seed : int or numpy.random.Generator, optional
        For the weights.

    References
    ----------
    .. [1] K. Saitoh, "Deep Learning from Scratch", O'Reilly Japan, 2016, section 7.5

    Examples
    --------
    >>> from fastconv.models import SimpleConvNet
    >>> net = SimpleConvNet()
    >>> list(net.params)
    ['W1', 'b1', 'W2', 'b2', 'W3', 'b3']
    """

    def __init__(
        self,
        input_dim: Sequence[int] = (1, 28, 28),
        conv_param: Mapping[str, int] | None = None,
        hidden_size: int = 100,
        output_size: int = 10,
        weight_init_std: float = 0.01,
        *,
        dtype: npt.DTypeLike = np.float32,
        seed: Seed = None,
    ) -> None:
        super().__init__(input_dim, dtype=dtype, seed=seed)
        std = number(weight_init_std, "weight_init_std")
        self.convolution(*_conv_param(conv_param, filter_num=30, filter_size=5, pad=0), std=std)
        self.add(Relu(), Pooling(2, 2, stride=2))
        self.affine(positive(hidden_size, "hidden_size"), std=std).add(Relu()).affine(
            positive(output_size, "output_size"), std=std
        )


@named
class DeepConvNet(Sequential):
    """Six 3x3 convolutions in pairs, each pair with pooling; two fully connected layers.

    (conv - relu - conv - relu - pool) three times - affine - relu - dropout - affine - dropout -
    softmax: the network that reaches 99.4 % on MNIST in the textbook's chapter 8.

    Parameters
    ----------
    input_dim : (int, int, int), default (1, 28, 28)
        Shape of an image, (C, H, W).
    conv_param_1, ..., conv_param_6 : mapping, optional
        ``filter_num``, ``filter_size``, ``pad`` and ``stride`` of each convolution: 16, 16, 32, 32,
        64 and 64 filters of size 3, ``pad`` 2 in the fourth and 1 in the others, ``stride`` 1.
    hidden_size : int, default 50
        Outputs of the first fully connected layer.
    output_size : int, default 10
        Number of classes.
    dtype : dtype, default float32
        Of the parameters; the textbook's are float64.
    seed : int or numpy.random.Generator, optional
        For the weights and dropout.

    References
    ----------
    .. [1] K. Saitoh, "Deep Learning from Scratch", O'Reilly Japan, 2016, section 8.1

    Examples
    --------
    >>> from fastconv.models import DeepConvNet
    >>> print(DeepConvNet())
    DeepConvNet(input (1, 28, 28), output (10,), 20 layers, 123552 parameters)
    """

    def __init__(
        self,
        input_dim: Sequence[int] = (1, 28, 28),
        conv_param_1: Mapping[str, int] | None = None,
        conv_param_2: Mapping[str, int] | None = None,
        conv_param_3: Mapping[str, int] | None = None,
        conv_param_4: Mapping[str, int] | None = None,
        conv_param_5: Mapping[str, int] | None = None,
        conv_param_6: Mapping[str, int] | None = None,
        hidden_size: int = 50,
        output_size: int = 10,
        *,
        dtype: npt.DTypeLike = np.float32,
        seed: Seed = None,
    ) -> None:
        super().__init__(input_dim, dtype=dtype, seed=seed)
        pairs = (
            (16, (conv_param_1, 1), (conv_param_2, 1)),
            (32, (conv_param_3, 1), (conv_param_4, 2)),
            (64, (conv_param_5, 1), (conv_param_6, 1)),
        )
        for filters, *convolutions in pairs:
            for param, pad in convolutions:
                self.convolution(
                    *_conv_param(param, filter_num=filters, filter_size=3, pad=pad)
                ).add(Relu())
            self.add(Pooling(2, 2, stride=2))
        self.affine(positive(hidden_size, "hidden_size")).add(Relu(), Dropout(0.5)).affine(
            positive(output_size, "output_size")
        ).add(Dropout(0.5))


@named
class LeNet(Sequential):
    """LeNet-5 [1]_ as it is usually built: sigmoid units, mean pooling, three affine layers.

    Parameters
    ----------
    input_dim : (int, int, int), default (1, 28, 28)
        Shape of an image, (C, H, W).
    output_size : int, default 10
        Number of classes.
    dtype : dtype, default float32
        Of the parameters.
    seed : int or numpy.random.Generator, optional
        For the weights.

    Notes
    -----
    The paper scales sums of pixels where this takes means, connects the second convolution to some
    of the channels only, and ends in radial basis functions.

    References
    ----------
    .. [1] Y. LeCun et al., "Gradient-Based Learning Applied to Document Recognition",
       Proc. IEEE 86, 1998

    Examples
    --------
    >>> from fastconv.models import LeNet
    >>> print(LeNet())
    LeNet(input (1, 28, 28), output (10,), 11 layers, 61706 parameters)
    """

    def __init__(
        self,
        input_dim: Sequence[int] = (1, 28, 28),
        output_size: int = 10,
        *,
        dtype: npt.DTypeLike = np.float32,
        seed: Seed = None,
    ) -> None:
        super().__init__(input_dim, dtype=dtype, seed=seed)
        for filters, pad in ((6, 2), (16, 0)):
            self.convolution(filters, 5, pad=pad, std=_sigmoid_std(25 * self.output_dim[0]))
            self.add(Sigmoid(), AveragePooling(2, 2, stride=2))
        for units in (120, 84):
            self.affine(units, std=_sigmoid_std(prod(self.output_dim))).add(Sigmoid())
        self.affine(positive(output_size, "output_size"), std=_sigmoid_std(84))


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
            self.add(Dropout(0.5)).affine(4096, std=std).add(Relu())
        self.affine(positive(output_size, "output_size"), std=std)


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
        if depth not in tuple(VGG_CONVOLUTIONS):
            raise argument_error(
                ValueError,
                f"depth must be one of {', '.join(map(str, VGG_CONVOLUTIONS))}, got {shown(depth)}",
            )
        super().__init__(input_dim, dtype=dtype, seed=seed)
        for convolutions, filters in zip(VGG_CONVOLUTIONS[depth], (64, 128, 256, 512, 512)):
            for _ in range(convolutions):
                self.convolution(filters, 3, pad=1).add(Relu())
            self.add(Pooling(2, 2, stride=2))
        for _ in range(2):
            self.affine(positive(hidden_size, "hidden_size")).add(Relu(), Dropout(0.5))
        self.affine(positive(output_size, "output_size"))


def _conv_param(
    param: Mapping[str, int] | None, *, filter_num: int, filter_size: int, pad: int
) -> tuple[int, int, int, int]:
    """Read the textbook's description of a convolution: filters, size, stride, padding."""
    if not isinstance(param, (Mapping, type(None))):
        raise argument_error(TypeError, f"a conv_param must be a mapping, got {shown(param)}")
    known = {"filter_num": filter_num, "filter_size": filter_size, "stride": 1, "pad": pad}
    if unknown := set(param or ()) - set(known):
        raise argument_error(
            ValueError, f"a conv_param has {', '.join(known)}, got {', '.join(sorted(unknown))}"
        )
    known.update(param or {})
    return known["filter_num"], known["filter_size"], known["stride"], known["pad"]


def _response() -> LocalResponseNormalization:
    return LocalResponseNormalization(5, alpha=5e-4, beta=0.75, k=2.0)


def _sigmoid_std(fan_in: int) -> float:
    """Keep the spread of activations: a sigmoid's slope is a quarter."""
    return 4 / sqrt(fan_in)
