"""LeNet-5."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod, sqrt

import numpy as np
import numpy.typing as npt

from fastconv._arguments import positive
from fastconv._errors import named
from fastconv.layers import AveragePooling, Sigmoid
from fastconv.models._sequential import Seed, Sequential

__all__ = ["LeNet"]


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
    of the channels only, and ends in radial basis functions. Weights are drawn from
    ``N(0, 16 / fan_in)``, which keeps the spread of activations: a sigmoid's slope is a quarter.

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


def _sigmoid_std(fan_in: int) -> float:
    """Keep the spread of activations: a sigmoid's slope is a quarter."""
    return 4 / sqrt(fan_in)
