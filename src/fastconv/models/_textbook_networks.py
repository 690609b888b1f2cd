"""The networks of the textbook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from fastconv._arguments import number, positive
from fastconv._errors import argument_error, named, shown
from fastconv.layers import Dropout, Pooling, Relu
from fastconv.models._sequential import Seed, Sequential

__all__ = ["DeepConvNet", "SimpleConvNet"]


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
