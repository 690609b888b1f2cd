"""Layers that only move numbers."""

from __future__ import annotations

from math import prod

import numpy.typing as npt

from fastconv._arrays import Array, Shape, read_movable
from fastconv._layer import Base, check_gradient, rows_of, saved


class Flatten(Base):
    """Make a row of every image.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import Flatten
    >>> Flatten().forward(np.zeros((10, 3, 4, 4))).shape
    (10, 48)
    """

    _transient = ("original_x_shape",)

    def __init__(self) -> None:
        self.original_x_shape: Shape | None = None

    def forward(self, x: npt.ArrayLike) -> Array:
        """Reshape (N, ...) to (N, D)."""
        array = read_movable(x, "x")
        rows = rows_of(array)
        self.original_x_shape = array.shape
        return rows

    def backward(self, dout: npt.ArrayLike) -> Array:
        """Give the gradient the input's shape."""
        shape, grads = saved(self.original_x_shape, self), read_movable(dout, "dout")
        check_gradient(grads, (shape[0], prod(shape[1:])))
        return grads.reshape(shape)
