"""How many multiplications, each with an addition, layers take."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from fastconv._arrays import Shape

__all__ = ["multiply_adds"]


def multiply_adds(layer: Any, output_shape: Shape) -> int:
    """Count the multiply-adds of a convolution or a product with a matrix, for one input.

    Each number of the weights `W` is multiplied once for every pixel of the output, whatever the
    stride, the dilation and the groups; padding counts as pixels. An algorithm may need fewer.
    Other layers multiply nothing by weights, and count 0.

    Parameters
    ----------
    layer : layer
        Any layer.
    output_shape : tuple of int
        Shape of its output without the batch: (F, OH, OW), or (M,).
    """
    W: Any = getattr(layer, "W", None)
    return np.size(W) * prod(output_shape[1:]) if np.ndim(W) > 1 else 0
