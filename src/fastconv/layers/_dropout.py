"""Dropout."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastconv._arguments import number
from fastconv._arrays import Array
from fastconv._elementwise import drop, scale
from fastconv._errors import argument_error, shown
from fastconv._layer import Base, check_gradient, floats, saved


class Dropout(Base):
    """Set a random part of the numbers to zero in training, scale all of them otherwise.

    Parameters
    ----------
    dropout_ratio : float, default 0.5
        How likely each number is to be dropped.
    inverted : bool, default False
        Scale the numbers that survive training, by ``1 / (1 - dropout_ratio)``, and nothing
        otherwise, as PyTorch does. By default all numbers are scaled by ``1 - dropout_ratio`` when
        not in training, as in the textbook.
    rng : numpy.random.Generator, optional
        Where the numbers come from; `numpy.random.rand` if not given, as in the textbook. A network
        gives its layers a generator of its own.

    References
    ----------
    .. [1] N. Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from
       Overfitting", JMLR 15, 2014

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import Dropout
    >>> Dropout(0.25).forward(np.ones(2), train_flg=False)
    array([0.75, 0.75])
    >>> Dropout(0.25, inverted=True).forward(np.ones(2), train_flg=False)
    array([1., 1.])
    """

    _transient = ("mask",)

    def __init__(
        self,
        dropout_ratio: float = 0.5,
        *,
        inverted: bool = False,
        rng: np.random.Generator | None = None,
    ) -> None:
        self.dropout_ratio = number(dropout_ratio, "dropout_ratio", "a number from 0 to 1")
        if not 0 <= self.dropout_ratio <= 1:
            raise argument_error(
                ValueError, f"dropout_ratio must be from 0 to 1, got {dropout_ratio}"
            )
        if rng is not None and not callable(getattr(rng, "random", None)):
            raise argument_error(
                TypeError, f"rng must be a numpy.random.Generator, got {shown(rng)}"
            )
        self.inverted = bool(inverted)
        self.rng = rng
        self.mask: Array | float | None = None  # True where a number is kept; else one factor.
        self.factor = 1.0  # What kept numbers were multiplied by.

    def forward(self, x: npt.ArrayLike, train_flg: bool = True) -> Array:
        """Drop numbers of an array of any shape; `train_flg` says whether it is in training."""
        array, kept = floats(x), 1.0 - self.dropout_ratio
        if train_flg:
            self.factor = 1 / kept if self.inverted and kept else 1.0
            out, self.mask = drop(array, self.dropout_ratio, self.factor, self.rng)
            return out
        self.mask = 1.0 if self.inverted else kept
        return np.asarray(array * self.mask)

    def backward(self, dout: npt.ArrayLike) -> Array:
        """Drop or scale the gradients likewise."""
        mask, grads = saved(self.mask, self), floats(dout, "dout")
        if isinstance(mask, np.ndarray):
            check_gradient(grads, mask.shape)
            return scale(grads, mask, self.factor, 0.0)
        return np.asarray(grads * mask)
