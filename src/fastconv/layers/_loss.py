"""The losses that end a network, and the labels and targets that they are given.

Each may weight its images: the loss is then the mean of each image's loss times its weight, so that
a weight of 2 counts as the image twice where the weights' mean is 1.
"""

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
        Mean cross entropy, ``-mean(log(y[n, t[n]] + 1e-7))``; each term times its image's weight,
        where images are weighted.

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

    _transient = ("y", "t", "loss", "dtype", "sample_weight")
    sample_weight: Array | None = None  # Pickles of earlier versions hold none.

    def __init__(self) -> None:
        self.y: Array | None = None
        self.t: Array | None = None
        self.loss: np.floating[Any] | None = None
        self.dtype: np.dtype[Any] | None = None
        self.sample_weight = None

    def forward(
        self, x: npt.ArrayLike, t: npt.ArrayLike, sample_weight: npt.ArrayLike | None = None
    ) -> np.floating[Any]:
        """Return the mean loss of scores (N, classes).

        Parameters
        ----------
        x : array_like, shape (N, classes)
            Scores.
        t : array_like, shape (N,), (N, 1) or (N, classes)
            Classes as integers from 0, or one-hot: 1 for the class and 0 elsewhere.
        sample_weight : array_like, shape (N,), optional
            What each image's loss is multiplied by.

        Raises
        ------
        TypeError
            If labels are of neither kind, or weights no numbers.
        ValueError
            If the shapes do not match, a label is no class, a row is not one-hot, there are no
            scores, or a weight is negative, NaN or infinite.
        """
        scores = _rows(x, "x")
        labels = class_indices(t, *scores.shape)
        self.sample_weight = sample_weights(sample_weight, len(labels))
        self.dtype = scores.dtype
        self.t = labels
        self.y = softmax(scores)
        right = self.y[np.arange(len(labels)), labels]
        losses = _weighted(np.log(right + LOG_EPSILON), self.sample_weight)
        self.loss = -np.sum(losses) / self.y.dtype.type(len(labels))
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
        grads = _weighted(grads, self.sample_weight)
        if not is_number:
            grads *= dout
        return grads.astype(self.dtype, copy=False)


class MeanSquaredError(Base):
    """Compare outputs with the numbers that they should be: the loss of regression.

    A network that ends in it, ``net.last_layer = MeanSquaredError()``, learns numbers instead of
    classes.

    Attributes
    ----------
    y, t : ndarray, shape (N, outputs)
        Outputs and targets of the last call.
    loss : float
        Half of the mean squared error, ``mean((y - t)**2) / 2``; each image's squares times its
        weight, where images are weighted.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import MeanSquaredError
    >>> layer = MeanSquaredError()
    >>> print(layer.forward(np.array([[1.0], [5.0]]), np.array([1.0, 3.0])))
    1.0
    >>> layer.backward()
    array([[0.],
           [1.]])
    """

    _transient = ("y", "t", "loss", "dtype", "sample_weight")

    def __init__(self) -> None:
        self.y: Array | None = None
        self.t: Array | None = None
        self.loss: np.floating[Any] | None = None
        self.dtype: np.dtype[Any] | None = None
        self.sample_weight: Array | None = None

    @staticmethod
    def targets(t: npt.ArrayLike, count: int, outputs: int) -> Array:
        """Read the targets of `count` images.

        Parameters
        ----------
        t : array_like, shape (count, outputs), or (count,) for one output
            Numbers.
        count, outputs : int
            What their shape must fit.

        Returns
        -------
        ndarray, shape (count, outputs)
            The targets as floats.

        Raises
        ------
        TypeError
            If targets are no numbers.
        ValueError
            If the shape does not fit, or a target is NaN or infinite.
        """
        array = floats(t, "t")
        if array.shape not in ([(count, outputs)] + [(count,)] * (outputs == 1)):
            raise argument_error(
                ValueError,
                f"t must have shape {(count, outputs)} for {count} images and {outputs} outputs, "
                f"got {array.shape}",
            )
        if not np.isfinite(array).all():
            raise argument_error(ValueError, "t must be finite, it holds NaN or infinity")
        return array.reshape(count, outputs)

    def forward(
        self, x: npt.ArrayLike, t: npt.ArrayLike, sample_weight: npt.ArrayLike | None = None
    ) -> np.floating[Any]:
        """Return half of the mean squared error of outputs (N, outputs).

        Parameters
        ----------
        x : array_like, shape (N, outputs)
            Outputs of a network.
        t : array_like, shape (N, outputs), or (N,) for one output
            What they should be.
        sample_weight : array_like, shape (N,), optional
            What each image's squares are multiplied by.

        Raises
        ------
        TypeError
            If targets or weights are no numbers.
        ValueError
            If the shapes do not match, there are no outputs, a target is NaN or infinite, or a
            weight is negative, NaN or infinite.
        """
        outputs = _rows(x, "x", "outputs")
        targets = self.targets(t, *outputs.shape)
        self.sample_weight = sample_weights(sample_weight, len(outputs))
        self.dtype = outputs.dtype
        self.y = widened(outputs)
        self.t = targets.astype(self.y.dtype, copy=False)
        squares = _weighted((self.y - self.t) ** 2, self.sample_weight)
        self.loss = np.sum(squares) / self.y.dtype.type(2 * squares.size)
        return self.loss

    def backward(self, dout: float = 1) -> Array:
        """Return the gradient of the outputs."""
        y, t = saved(self.y, self), saved(self.t, self)
        grads = _weighted(y - t, self.sample_weight) / y.dtype.type(y.size)
        scaled: Array = grads * read(dout, "dout", NUMBERS)
        return scaled.astype(self.dtype, copy=False)


def sample_weights(value: npt.ArrayLike | None, count: int) -> Array | None:
    """Read the weights of `count` images, or None if all count alike."""
    if value is None:
        return None
    array = floats(value, "sample_weight")
    if array.shape != (count,):
        raise argument_error(
            ValueError,
            f"sample_weight must have shape {(count,)} for {count} images, got {array.shape}",
        )
    if not (np.isfinite(array) & (array >= 0)).all():
        raise argument_error(
            ValueError, "sample_weight must hold numbers from 0 on, without NaN and infinity"
        )
    return array


def _weighted(array: Array, sample_weight: Array | None) -> Array:
    """Multiply what belongs to an image by its weight."""
    if sample_weight is None:
        return array
    weights = sample_weight.reshape(-1, *[1] * (array.ndim - 1))
    weighted: Array = array * weights.astype(array.dtype, copy=False)
    return weighted


def _rows(value: npt.ArrayLike, name: str, columns: str = "classes") -> Array:
    """Read rows of numbers, one for each class or output."""
    array = floats(value, name)
    if array.ndim != 2 or not array.size:
        raise argument_error(
            ValueError, f"{name} must have shape (N, {columns}) and numbers, got {array.shape}"
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
