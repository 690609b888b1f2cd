"""The update rules of the textbook's chapter 6.

Each changes the parameters in place, so that the layers that hold them see it. Arrays are visited
in pieces that stay in a core's cache while the rule makes its passes over them: a step of Adam over
434,000 float32 parameters takes 1.3 ms, with whole arrays 2 to 6 (pieces of 2**13 numbers: 1.9, of
2**16: 1.3).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, MutableMapping
from math import inf, sqrt
from typing import Any

import numpy as np

from fastconv._arguments import number
from fastconv._arrays import Array
from fastconv._errors import argument_error, named, shown

__all__ = ["OPTIMIZERS", "SGD", "AdaGrad", "Adam", "Momentum", "Optimizer", "RMSprop"]

EPSILON = 1e-7
"""A number that is added to roots before something is divided by them: they may be 0."""
PIECE = 1 << 15
"""The number of elements in a piece of an array."""


@named
class Optimizer(ABC):
    """The base of all update rules: the learning rate, and arrays kept for every parameter.

    Parameters
    ----------
    lr : float
        Learning rate.

    Attributes
    ----------
    kept : dict of str to dict of str to ndarray
        For each variable of the rule, an array for each parameter, by name.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.training import Optimizer
    >>> class SignDescent(Optimizer):
    ...     def _update(self, param, grad):
    ...         param -= self.lr * np.sign(grad)
    >>> params = {"W1": np.array([1.0, 1.0])}
    >>> SignDescent(lr=0.5).update(params, {"W1": np.array([3.0, -3.0])})
    >>> params
    {'W1': array([0.5, 1.5])}
    """

    variables: tuple[str, ...] = ()

    def __init__(self, lr: float) -> None:
        self.lr = number(lr, "lr", "a positive number")
        if not 0 < self.lr < inf:
            raise argument_error(ValueError, f"lr must be a positive number, got {lr}")
        self.iter = 0
        self.kept: dict[str, dict[str, Array]] = {name: {} for name in self.variables}

    def update(self, params: MutableMapping[str, Array], grads: Mapping[str, Array]) -> None:
        """Change parameters in place.

        Parameters
        ----------
        params : mapping of str to ndarray
            The parameters, for instance ``network.params``.
        grads : mapping of str to ndarray
            The gradient of each, for instance from ``network.gradient``.

        Raises
        ------
        KeyError
            If there is no gradient for a parameter.
        TypeError
            If parameters are no mapping of names to arrays of floats, or gradients none to arrays
            of numbers.
        ValueError
            If a gradient, or what was kept for a parameter, is of another shape; nothing is then
            changed.

        Examples
        --------
        >>> import numpy as np
        >>> from fastconv.training import Momentum
        >>> rule, params = Momentum(lr=1.0, momentum=0.5), {"W1": np.array([0.0])}
        >>> for _ in range(2):
        ...     rule.update(params, {"W1": np.array([-2.0])})
        >>> params, rule.kept
        ({'W1': array([5.])}, {'v': {'W1': array([3.])}})
        """
        for what, mapping in (("params", params), ("grads", grads)):
            if not isinstance(mapping, Mapping):
                kind = type(mapping).__name__
                raise argument_error(TypeError, f"{what} must map names to arrays, got {kind}")
        for name, param in params.items():
            _check_array(name, param, "f")
            if name not in grads:
                raise argument_error(KeyError, f"there is no gradient of {name}")
            _check_array(f"the gradient of {name}", grads[name], "fiub")
            kept = [("what is kept for", of[name]) for of in self.kept.values() if name in of]
            for what, array in [("the gradient of", grads[name]), *kept]:
                if array.shape != param.shape:
                    raise argument_error(
                        ValueError,
                        f"{what} {name} must have shape {param.shape}, got {array.shape}",
                    )
        self.iter += 1
        for name, param in params.items():
            dtype = kept_dtype(param)
            for of in self.kept.values():
                if name not in of:
                    of[name] = np.zeros(param.shape, dtype)
            grad = grads[name].astype(dtype, copy=False)
            for pieces in _pieces(param, grad, *(of[name] for of in self.kept.values())):
                self._update(*pieces)

    @abstractmethod
    def _update(self, param: Array, grad: Array, *kept: Array) -> None:
        """Change flat pieces of a parameter and of what is kept for it, in place."""


def _check_array(what: str, array: object, kinds: str) -> None:
    """Raise a TypeError unless something is an array of some of NumPy's kinds of numbers."""
    if not isinstance(array, np.ndarray) or array.dtype.kind not in kinds:
        numbers = "floats" if kinds == "f" else "numbers"
        raise argument_error(TypeError, f"{what} must be an array of {numbers}, got {shown(array)}")


def kept_dtype(param: Array) -> np.dtype[Any]:
    """Return the dtype of what is kept for a parameter: squares of float16 are soon zero."""
    return np.result_type(param.dtype, np.float32)


def _pieces(*arrays: Array) -> Iterator[tuple[Array, ...]]:
    """Cut arrays of one shape into small flat views of the same places."""
    if all(array.flags.c_contiguous for array in arrays):
        rows = [array.reshape(-1) for array in arrays]
        for first in range(0, rows[0].size, PIECE):
            yield tuple(row[first : first + PIECE] for row in rows)
    else:
        yield arrays


@named
class SGD(Optimizer):
    """Stochastic gradient descent: ``W -= lr * dW``.

    Parameters
    ----------
    lr : float, default 0.01
        Learning rate.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.training import SGD
    >>> params = {"W1": np.array([1.0])}
    >>> SGD(lr=0.5).update(params, {"W1": np.array([1.0])})
    >>> params
    {'W1': array([0.5])}
    """

    def __init__(self, lr: float = 0.01) -> None:
        super().__init__(lr)

    def _update(self, param: Array, grad: Array, *kept: Array) -> None:
        param -= self.lr * grad


@named
class Momentum(Optimizer):
    """Descent with a velocity: ``v = momentum * v - lr * dW``, ``W += v``.

    Parameters
    ----------
    lr : float, default 0.01
        Learning rate.
    momentum : float, default 0.9
        Fraction of the velocity that each step keeps.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.training import Momentum
    >>> rule, params = Momentum(lr=1.0, momentum=0.5), {"W1": np.array([0.0])}
    >>> for _ in range(2):
    ...     rule.update(params, {"W1": np.array([-2.0])})
    ...     print(params["W1"])
    [2.]
    [5.]
    """

    variables = ("v",)

    def __init__(self, lr: float = 0.01, momentum: float = 0.9) -> None:
        super().__init__(lr)
        self.momentum = number(momentum, "momentum")

    def _update(self, param: Array, grad: Array, *kept: Array) -> None:
        (v,) = kept
        v *= self.momentum
        v -= self.lr * grad
        param += v


@named
class AdaGrad(Optimizer):
    """Steps that shrink where gradients were large: ``h += dW**2``, ``W -= lr * dW / sqrt(h)``.

    Parameters
    ----------
    lr : float, default 0.01
        Learning rate.

    References
    ----------
    .. [1] J. Duchi, E. Hazan and Y. Singer, "Adaptive Subgradient Methods for Online Learning and
       Stochastic Optimization", JMLR 12, 2011

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.training import AdaGrad
    >>> params = {"W1": np.array([1.0])}
    >>> AdaGrad(lr=0.5).update(params, {"W1": np.array([8.0])})
    >>> params["W1"].round(3)
    array([0.5])
    """

    variables = ("h",)

    def __init__(self, lr: float = 0.01) -> None:
        super().__init__(lr)

    def _update(self, param: Array, grad: Array, *kept: Array) -> None:
        (h,) = kept
        h += grad * grad
        param -= self.lr * grad / (np.sqrt(h) + EPSILON)


@named
class RMSprop(Optimizer):
    """AdaGrad with a memory that fades: ``h = decay_rate * h + (1 - decay_rate) * dW**2``.

    Parameters
    ----------
    lr : float, default 0.01
        Learning rate.
    decay_rate : float, default 0.99
        Fraction of `h` that each step keeps.

    References
    ----------
    .. [1] T. Tieleman and G. Hinton, "Lecture 6.5", COURSERA: Neural Networks for Machine Learning,
       2012

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.training import RMSprop
    >>> params = {"W1": np.array([1.0])}
    >>> RMSprop(lr=0.1, decay_rate=0.75).update(params, {"W1": np.array([8.0])})
    >>> params["W1"].round(3)
    array([0.8])
    """

    variables = ("h",)

    def __init__(self, lr: float = 0.01, decay_rate: float = 0.99) -> None:
        super().__init__(lr)
        self.decay_rate = number(decay_rate, "decay_rate")

    def _update(self, param: Array, grad: Array, *kept: Array) -> None:
        (h,) = kept
        h *= self.decay_rate
        h += (1 - self.decay_rate) * grad * grad
        param -= self.lr * grad / (np.sqrt(h) + EPSILON)


@named
class Adam(Optimizer):
    """Means of gradients, divided by the root of means of their squares [1]_.

    Parameters
    ----------
    lr : float, default 0.001
        Learning rate.
    beta1, beta2 : float, default 0.9, 0.999
        Fractions of the two means that each step keeps.

    References
    ----------
    .. [1] D. Kingma and J. Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015,
       https://arxiv.org/abs/1412.6980

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.training import Adam
    >>> params = {"W1": np.array([1.0])}
    >>> Adam(lr=0.25).update(params, {"W1": np.array([8.0])})
    >>> params["W1"].round(3)
    array([0.75])
    """

    variables = ("m", "v")

    def __init__(self, lr: float = 0.001, beta1: float = 0.9, beta2: float = 0.999) -> None:
        super().__init__(lr)
        self.beta1, self.beta2 = number(beta1, "beta1"), number(beta2, "beta2")

    def _update(self, param: Array, grad: Array, *kept: Array) -> None:
        m, v = kept
        lr = self.lr * sqrt(1 - self.beta2**self.iter) / (1 - self.beta1**self.iter)
        m += (1 - self.beta1) * (grad - m)
        v += (1 - self.beta2) * (grad * grad - v)
        param -= lr * m / (np.sqrt(v) + EPSILON)


OPTIMIZERS: dict[str, type[Optimizer]] = {
    rule.__name__.lower(): rule for rule in (SGD, Momentum, AdaGrad, RMSprop, Adam)
}
