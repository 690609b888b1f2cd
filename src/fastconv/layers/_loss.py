"""Softmax and cross entropy, and the labels that they are given."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastconv import _kernels, _threads
from fastconv._arrays import FLOAT32, INTEGERS, NUMBERS, Array, contiguous, read
from fastconv._errors import argument_error
from fastconv._layer import Base, floats, saved, widened
from fastconv._memory import new_array

LOG_EPSILON = 1e-7
"""What the textbook adds to probabilities before it takes their logarithm."""


class SoftmaxWithLoss(Base):
    """Turn scores into probabilities, and compare them with the right classes.

    Attributes
    ----------
    y : ndarray, shape (N, classes)
        Probabilities.
    t : ndarray of int, shape (N,)
        Labels of the last call, as indices.
    loss : float
        Mean cross entropy, ``-mean(log(y[n, t[n]] + 1e-7))``.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import SoftmaxWithLoss
    >>> layer = SoftmaxWithLoss()
    >>> print(f"{layer.forward(np.array([[0.0, 0.0]]), np.array([1])):.4f}")
    0.6931
    >>> layer.backward()
    array([[ 0.5, -0.5]])
    """

    _transient = ("y", "t", "loss", "dtype")

    def __init__(self) -> None:
        self.y: Array | None = None
        self.t: Array | None = None
        self.loss: np.floating[Any] | None = None
        self.dtype: np.dtype[Any] | None = None

    def forward(self, x: npt.ArrayLike, t: npt.ArrayLike) -> np.floating[Any]:
        """Return the mean loss of scores (N, classes).

        Parameters
        ----------
        x : array_like, shape (N, classes)
            Scores.
        t : array_like, shape (N,), (N, 1) or (N, classes)
            Classes as integers from 0, or one-hot: 1 for the class and 0 elsewhere.

        Raises
        ------
        TypeError
            If labels are of neither kind.
        ValueError
            If the shapes do not match, a label is no class, a row is not one-hot, or there are no
            scores.
        """
        scores = _rows(x, "x")
        labels = class_indices(t, *scores.shape)
        self.dtype = scores.dtype
        self.t = labels
        self.y = softmax(scores)
        right = self.y[np.arange(len(labels)), labels]
        self.loss = -np.sum(np.log(right + LOG_EPSILON)) / self.y.dtype.type(len(labels))
        return self.loss

    def backward(self, dout: float = 1) -> Array:
        """Return the gradient of the scores."""
        # Both attributes may have been replaced, and the kernel does not check labels.
        y = widened(_rows(saved(self.y, self), "y"))
        y = contiguous(y, y.dtype)
        labels = class_indices(saved(self.t, self), *y.shape)
        read(dout, "dout", NUMBERS)
        grads = new_array(y.shape, y.dtype)
        is_number = np.ndim(dout) == 0
        factor = float(dout) / len(labels) if is_number else 1 / len(labels)
        _kernels.loss.gradient(y, labels, factor, grads, _threads.count())
        if not is_number:
            grads *= dout
        return grads.astype(self.dtype, copy=False)


def _rows(value: npt.ArrayLike, name: str) -> Array:
    """Read rows of numbers, one for each class."""
    array = floats(value, name)
    if array.ndim != 2 or not array.size:
        raise argument_error(
            ValueError, f"{name} must have shape (N, classes) and numbers, got {array.shape}"
        )
    return array


def softmax(scores: Array) -> Array:
    """Turn rows of scores into probabilities, which sum to 1; in float32 for float16.

    Those of float64 are NumPy's, so that a textbook's numbers come out equal to the last bit.
    """
    scores = widened(scores)
    if scores.dtype == FLOAT32:
        out = new_array(scores.shape, FLOAT32)
        _kernels.loss.softmax(contiguous(scores, FLOAT32), out, _threads.count())
        return out
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    probabilities: Array = powers / powers.sum(axis=1, keepdims=True)
    return probabilities


def class_indices(t: npt.ArrayLike, count: int, classes: int) -> npt.NDArray[np.intp]:
    """Read the labels of `count` images: indices, or one-hot rows.

    Parameters
    ----------
    t : array_like, shape (count,), (count, 1) or (count, classes)
        Labels.
    count, classes : int
        What their shape and values must fit.

    Returns
    -------
    ndarray of intp, shape (count,)
        Indices of the classes.

    Raises
    ------
    TypeError
        If labels are of neither kind.
    ValueError
        If the shape does not fit, a label is no class, or a row is not one-hot.
    """
    labels = read(t, "t", NUMBERS)
    if labels.shape == (count, classes) and (classes > 1 or labels.any()):
        places: npt.NDArray[np.intp] = labels.argmax(axis=1)
        if np.count_nonzero(labels) != count or not (labels[np.arange(count), places] == 1).all():
            raise argument_error(
                ValueError, "t has the shape of one-hot labels, but not one 1 in every row"
            )
        return places
    if labels.shape not in ((count,), (count, 1)):
        raise argument_error(
            ValueError,
            f"t must have shape {(count,)}, {(count, 1)} or {(count, classes)} for {count} images "
            f"and {classes} classes, got {labels.shape}",
        )
    if labels.dtype.char not in INTEGERS:
        raise argument_error(
            TypeError, f"labels in t must be integers or one-hot, got dtype {labels.dtype}"
        )
    if count and (labels.min() < 0 or labels.max() >= classes):
        raise argument_error(
            ValueError,
            f"labels in t must be from 0 to {classes - 1}, got {labels.min()} to {labels.max()}",
        )
    return labels.reshape(count).astype(np.intp)
