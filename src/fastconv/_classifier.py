"""What is the same for everything that computes scores for classes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, SupportsIndex

import numpy as np
import numpy.typing as npt

from fastconv._arguments import positive
from fastconv._arrays import NUMBERS, Array, Shape, read
from fastconv._errors import argument_error, named
from fastconv.layers._loss import class_indices, softmax


@named
class Classifier(ABC):
    """Something with `predict`, which computes scores.

    Attributes
    ----------
    input_dim, output_dim : tuple of int
        Shapes of one input and of its scores.
    dtype : dtype
        What inputs are converted to.
    """

    input_dim: Shape
    output_dim: Shape
    dtype: np.dtype[Any]

    @abstractmethod
    def predict(self, x: npt.ArrayLike) -> Array:
        """Compute the scores of inputs."""

    def predict_proba(self, x: npt.ArrayLike) -> Array:
        """Compute how likely each class is: the softmax of what `predict` gives.

        Parameters
        ----------
        x : array_like, shape (N, *input_dim)
            Inputs.

        Returns
        -------
        ndarray, shape (N, classes)
            Rows that sum to 1, of float32, or float64 if the network is.

        Raises
        ------
        TypeError, ValueError
            If the inputs are no numbers or of another shape, or the network gives no rows of
            scores.

        Examples
        --------
        >>> import numpy as np
        >>> from fastconv.models import Sequential
        >>> net = Sequential((2,), seed=0).affine(4, std=0)
        >>> net.predict_proba(np.ones((1, 2)))
        array([[0.25, 0.25, 0.25, 0.25]], dtype=float32)
        """
        self._check_scores()
        return softmax(self.predict(x))

    def accuracy(
        self, x: npt.ArrayLike, t: npt.ArrayLike, batch_size: SupportsIndex = 100
    ) -> float:
        """Compute the fraction of the inputs that is classified correctly.

        Parameters
        ----------
        x : array_like, shape (N, *input_dim)
            Inputs.
        t : array_like, shape (N,), (N, 1) or (N, classes)
            Labels, as indices or one-hot.
        batch_size : int, default 100
            Number of inputs that pass through the network together.

        Returns
        -------
        float
            From 0 to 1.

        Raises
        ------
        TypeError, ValueError
            If inputs are of another shape, labels do not fit, or there are none.

        Examples
        --------
        >>> import numpy as np
        >>> from fastconv.models import Sequential
        >>> net = Sequential((2,)).affine(2)
        >>> net.params["W1"] = np.eye(2)  # The larger number is the class.
        >>> net.accuracy([[3, 1], [1, 3], [5, 4], [6, 0]], [0, 1, 1, 0])
        0.75
        """
        images, step = self._checked(x), positive(batch_size, "batch_size")
        if not len(images):
            raise argument_error(ValueError, "x must not be empty: there is no accuracy")
        self._check_scores()
        labels = class_indices(t, len(images), self.output_dim[0])
        right = 0
        for first in range(0, len(images), step):
            scores = self.predict(images[first : first + step])
            right += int((scores.argmax(axis=1) == labels[first : first + step]).sum())
        return right / len(images)

    def _inputs(self, x: npt.ArrayLike) -> Array:
        return self._checked(x).astype(self.dtype, copy=False)

    def _checked(self, x: npt.ArrayLike) -> Array:
        array = read(x, "x", NUMBERS)
        if array.shape[1:] != self.input_dim or not array.ndim:
            raise argument_error(
                ValueError,
                f"x must have shape (N, {str(self.input_dim)[1:-1].rstrip(',')}) for this network, "
                f"got {array.shape}",
            )
        return array

    def _check_scores(self) -> None:
        if len(self.output_dim) != 1:
            raise argument_error(
                ValueError,
                f"the network must end in a row of scores for classes, its output is "
                f"{self.output_dim}",
            )
