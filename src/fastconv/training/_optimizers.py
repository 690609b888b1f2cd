"""Update rules: the textbook's of chapter 6, and AdamW.

Each changes the parameters in place, so that the layers that hold them see it. The formulas are in
`fastconv._kernels.optimizers`, which changes all parameters of a network in one pass over memory.
Here are their arguments, the checks of the arrays, and what becomes of arrays that the kernel does
not take. Rules of users are formulas of NumPy, which `Optimizer` calls piece by piece.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from math import inf, sqrt
from typing import Any, SupportsFloat, TypedDict, Unpack

import numpy as np

from fastconv import _kernels, _threads
from fastconv._arguments import number
from fastconv._arrays import FLOATS, Array, Shape
from fastconv._errors import argument_error, named, shown
from fastconv._memory import new_array

__all__ = ["OPTIMIZERS", "SGD", "AdaGrad", "Adam", "AdamW", "Momentum", "Optimizer", "RMSprop"]

NORM_EPSILON = 1e-6
"""A number that is added to the norm of gradients before something is divided by it."""
PIECE = 1 << 15
"""The number of elements in a piece of an array: several of them stay in a core's cache while a
rule of NumPy makes its passes over them. (Adam took 1.9 ms for 434,000 float32 parameters in pieces
of 2**13 numbers, 1.3 in pieces of 2**15 or 2**16, and 2 to 6 in whole arrays.)"""


class Clipping(TypedDict, total=False):
    """The keywords that all rules share, but weight decay."""

    decay_biases: bool
    clip_norm: float | None
    clip_value: float | None


class Options(Clipping, total=False):
    """The keywords that all rules share."""

    weight_decay: float


@named
class Optimizer(ABC):
    """The base of all update rules: the learning rate, and arrays kept for every parameter.

    A rule is a method ``_update(param, grad, *kept)``, which changes flat pieces of a parameter and
    of what is kept for it, in place. The gradient that it is given is already clipped and contains
    the weight decay. The number of the update, from 1 on, is ``iter``.

    Parameters
    ----------
    lr : float
        Learning rate.
    weight_decay : float, default 0
        This fraction of a parameter is added to its gradient, as if half of it times the
        parameter's square were part of the loss.
    decay_biases : bool, default True
        Whether parameters of one dimension decay, too: biases, and batch normalisation's gamma and
        beta.
    clip_norm : float, optional
        Largest norm of all gradients together [1]_. If theirs is larger, all are multiplied by
        ``clip_norm / (norm + 1e-6)``, as `torch.nn.utils.clip_grad_norm_` does. If a gradient is
        infinite, that makes finite ones 0; if one is NaN, all become NaN.
    clip_value : float, optional
        Largest absolute value of a gradient's numbers; larger ones are replaced by it. NaN stays.

    Attributes
    ----------
    kept : dict of str to dict of str to ndarray
        For each variable of the rule, an array for each parameter, by name.

    References
    ----------
    .. [1] R. Pascanu, T. Mikolov and Y. Bengio, "On the difficulty of training recurrent neural
       networks", ICML 2013, https://arxiv.org/abs/1211.5063

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
    # Checkpoints and pickles that lack these options were written before there were any.
    weight_decay: float = 0.0
    decay_biases: bool = True
    clip_norm: float | None = None
    clip_value: float | None = None
    _decoupled = False

    def __init__(
        self,
        lr: float,
        *,
        weight_decay: float = 0.0,
        decay_biases: bool = True,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> None:
        self.lr = _positive(lr, "lr")
        self.weight_decay = number(weight_decay, "weight_decay", "a number from 0 on")
        if not 0 <= self.weight_decay < inf:
            raise argument_error(
                ValueError, f"weight_decay must be a number from 0 on, got {shown(weight_decay)}"
            )
        self.decay_biases = bool(decay_biases)
        self.clip_norm = None if clip_norm is None else _positive(clip_norm, "clip_norm")
        self.clip_value = None if clip_value is None else _positive(clip_value, "clip_value")
        if clip_norm is not None and clip_value is not None:
            raise argument_error(
                ValueError, "clip_norm and clip_value exclude each other, got both"
            )
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
            If a parameter is read-only, or a gradient, or what was kept for a parameter, is of
            another shape; nothing is then changed.

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
        names, arrays = list(params), list(params.values())
        gradients = [grads.get(name) for name in names]
        kept = self._kept_of(names)
        taken = _kernels.optimizers.takes(arrays, gradients, kept)
        if not taken:
            for name, array in zip(names, arrays, strict=True):
                self._check(name, array, grads)
            for name, array in zip(names, arrays, strict=True):
                for of in self.kept.values():
                    if name not in of:
                        of[name] = _zeros(array.shape, kept_dtype(array))
            kept = self._kept_of(names)
            taken = _kernels.optimizers.takes(arrays, gradients, kept)
        scale = self._scale(arrays, gradients, taken)
        self.iter += 1
        self._change(arrays, gradients, kept, scale, taken)

    def _kept_of(self, names: list[str]) -> tuple[list[Any], ...]:
        """List what is kept for parameters, for each variable; None where nothing is kept yet."""
        return tuple([of.get(name) for name in names] for of in self.kept.values())

    def _check(self, name: str, param: object, grads: Mapping[str, Array]) -> None:
        """Raise an error if a parameter, its gradient or what is kept for it is no such array."""
        if not isinstance(param, np.ndarray) or param.dtype.char not in FLOATS:
            raise argument_error(
                TypeError, f"{name} must be an array of floats, got {shown(param)}"
            )
        if not param.flags.writeable:
            raise argument_error(ValueError, f"{name} must be writable, it is read-only")
        if name not in grads:
            raise argument_error(KeyError, f"there is no gradient of {name}")
        grad = grads[name]
        if not isinstance(grad, np.ndarray) or grad.dtype.kind not in "fiub":
            raise argument_error(
                TypeError, f"the gradient of {name} must be an array of numbers, got {shown(grad)}"
            )
        kept = [("what is kept for", of[name]) for of in self.kept.values() if name in of]
        for what, array in [("the gradient of", grad), *kept]:
            if array.shape != param.shape:
                raise argument_error(
                    ValueError, f"{what} {name} must have shape {param.shape}, got {array.shape}"
                )
        for what, array in kept:
            if not array.flags.writeable:
                raise argument_error(ValueError, f"{what} {name} must be writable, it is read-only")

    def _scale(self, params: list[Array], grads: list[Any], taken: bool) -> float:
        """Return what gradients are multiplied by, so that their norm is at most `clip_norm`."""
        if self.clip_norm is None:
            return 1.0
        if not taken:
            grads = [
                _row(grad, kept_dtype(param)) for param, grad in zip(params, grads, strict=True)
            ]
        norm = sqrt(_kernels.optimizers.sum_of_squares(grads, _threads.count()))
        scale = self.clip_norm / (norm + NORM_EPSILON)
        return 1.0 if scale > 1 else scale  # It stays NaN.

    def _change(
        self,
        params: list[Array],
        grads: list[Any],
        kept: tuple[list[Any], ...],
        scale: float,
        taken: bool,
    ) -> None:
        """Change parameters and what is kept for them, piece by piece, one after the other."""
        for param, grad, *variables in zip(params, grads, *kept, strict=True):
            decay = self.weight_decay if self.decay_biases or param.ndim > 1 else 0.0
            converted = grad.astype(kept_dtype(param), copy=False)
            for piece, of_grad, *of_kept in _pieces(param, converted, *variables):
                self._update(piece, self._prepared(piece, of_grad, scale, decay), *of_kept)

    def _prepared(self, param: Array, grad: Array, scale: float, decay: float) -> Array:
        """Return a piece of a gradient, clipped and with weight decay, unless that is decoupled."""
        if scale != 1:
            grad = grad * scale
        if self.clip_value is not None:
            grad = np.clip(grad, -self.clip_value, self.clip_value)
        if decay and self._decoupled:
            param *= 1 - self.lr * decay
        elif decay:
            grad = grad + decay * param.astype(grad.dtype, copy=False)
        return grad

    @abstractmethod
    def _update(self, param: Array, grad: Array, *kept: Array) -> None:
        """Change flat pieces of a parameter and of what is kept for it, in place."""


def _positive(value: SupportsFloat, name: str) -> float:
    read = number(value, name, "a positive number")
    if not 0 < read < inf:
        raise argument_error(ValueError, f"{name} must be a positive number, got {value}")
    return read


def kept_dtype(param: Array) -> np.dtype[Any]:
    """Return the dtype of what is kept for a parameter: squares of float16 are soon zero."""
    return np.result_type(param.dtype, np.float32)


def _zeros(shape: Shape, dtype: np.dtype[Any]) -> Array:
    """Return zeros in huge pages, unlike `numpy.zeros`: that makes Adam 1.2 times as fast."""
    array = new_array(shape, dtype)
    array[...] = 0
    return array


def _pieces(*arrays: Array) -> Iterator[tuple[Array, ...]]:
    """Cut arrays of one shape into small flat views of the same places."""
    if all(array.flags.c_contiguous for array in arrays):
        rows = [array.reshape(-1) for array in arrays]
        for first in range(0, rows[0].size, PIECE):
            yield tuple(row[first : first + PIECE] for row in rows)
    else:
        yield arrays


def _row(array: Array, dtype: np.dtype[Any]) -> Array:
    """Return an array that is contiguous, aligned and of a native dtype: itself if it is."""
    return np.require(np.asarray(array), dtype, ["C", "A"])


class _Compiled(Optimizer):
    """A rule whose formula is in the kernel."""

    @abstractmethod
    def _formula(self) -> tuple[str, float, float, float]:
        """Return the formula's name, the learning rate, and the fractions that variables keep."""

    def _change(
        self,
        params: list[Array],
        grads: list[Any],
        kept: tuple[list[Any], ...],
        scale: float,
        taken: bool,
    ) -> None:
        if type(self)._update is not _Compiled._update:  # A subclass has changed the formula.
            super()._change(params, grads, kept, scale, taken)
            return
        decay, shrink = self.weight_decay, 1.0
        if self._decoupled:
            decay, shrink = 0.0, 1 - self.lr * decay
        clipping = scale, inf if self.clip_value is None else self.clip_value
        if taken:
            self._run((*clipping, decay, shrink), params, grads, kept)
            return
        for param, grad, *variables in zip(params, grads, *kept, strict=True):
            self._run_copies((*clipping, decay, shrink), param, grad, variables)

    def _update(self, param: Array, grad: Array, *kept: Array) -> None:
        self._run_copies((1.0, inf, 0.0, 1.0), param, grad, kept)

    def _run(
        self,
        preparation: tuple[float, ...],
        params: list[Array],
        grads: list[Array],
        kept: tuple[list[Array], ...],
    ) -> None:
        name, *numbers = self._formula()
        step = (*preparation, *numbers)
        _kernels.optimizers.update(
            name, step, params, grads, kept, self.decay_biases, _threads.count()
        )

    def _run_copies(
        self, preparation: tuple[float, ...], param: Array, grad: Array, kept: Sequence[Array]
    ) -> None:
        """Change a parameter by way of copies, where the kernel does not take the arrays."""
        dtype, native = kept_dtype(param), param.dtype.newbyteorder("=")
        changed = [_row(param, native), *(_row(array, dtype) for array in kept)]
        row = _row(grad, dtype)
        if not _kernels.optimizers.takes(changed[:1], [row], tuple([a] for a in changed[1:])):
            changed, row = [array.copy() for array in changed], row.copy()  # They overlap.
        self._run(preparation, changed[:1], [row], tuple([array] for array in changed[1:]))
        for array, new in zip((param, *kept), changed, strict=True):
            if new is not array:
                array[...] = new


@named
class SGD(_Compiled):
    """Stochastic gradient descent: ``W -= lr * dW``.

    Parameters
    ----------
    lr : float, default 0.01
        Learning rate.
    **options
        ``weight_decay``, ``decay_biases``, ``clip_norm`` and ``clip_value``, see `Optimizer`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.training import SGD
    >>> params = {"W1": np.array([1.0])}
    >>> SGD(lr=0.5).update(params, {"W1": np.array([1.0])})
    >>> params
    {'W1': array([0.5])}

    Weight decay alone makes parameters smaller:

    >>> SGD(lr=0.5, weight_decay=0.1).update(params, {"W1": np.array([0.0])})
    >>> params["W1"]
    array([0.475])
    """

    def __init__(self, lr: float = 0.01, **options: Unpack[Options]) -> None:
        super().__init__(lr, **options)

    def _formula(self) -> tuple[str, float, float, float]:
        return "SGD", self.lr, 0.0, 0.0


@named
class Momentum(_Compiled):
    """Descent with a velocity: ``v = momentum * v - lr * dW``, ``W += v``.

    The velocity contains the learning rate, so after a change of the rate old gradients go on to
    count with the old one. In PyTorch they count with the new one at once.

    Parameters
    ----------
    lr : float, default 0.01
        Learning rate.
    momentum : float, default 0.9
        Fraction of the velocity that each step keeps.
    nesterov : bool, default False
        Whether the gradient is taken to be that of the place where the velocity alone leads
        [1]_: ``W += momentum * v - lr * dW``.
    **options
        ``weight_decay``, ``decay_biases``, ``clip_norm`` and ``clip_value``, see `Optimizer`.

    References
    ----------
    .. [1] I. Sutskever, J. Martens, G. Dahl and G. Hinton, "On the importance of initialization and
       momentum in deep learning", ICML 2013

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
    nesterov: bool = False

    def __init__(
        self,
        lr: float = 0.01,
        momentum: float = 0.9,
        nesterov: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(lr, **options)
        self.momentum = number(momentum, "momentum")
        self.nesterov = bool(nesterov)

    def _formula(self) -> tuple[str, float, float, float]:
        return "Nesterov" if self.nesterov else "Momentum", self.lr, self.momentum, 0.0


@named
class AdaGrad(_Compiled):
    """Steps that shrink where gradients were large [1]_.

    ``h += dW**2``, ``W -= lr * dW / (sqrt(h) + 1e-7)``.

    Parameters
    ----------
    lr : float, default 0.01
        Learning rate.
    **options
        ``weight_decay``, ``decay_biases``, ``clip_norm`` and ``clip_value``, see `Optimizer`.

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

    def __init__(self, lr: float = 0.01, **options: Unpack[Options]) -> None:
        super().__init__(lr, **options)

    def _formula(self) -> tuple[str, float, float, float]:
        return "AdaGrad", self.lr, 0.0, 0.0


@named
class RMSprop(_Compiled):
    """AdaGrad with a memory that fades [1]_: ``h = decay_rate * h + (1 - decay_rate) * dW**2``.

    Parameters
    ----------
    lr : float, default 0.01
        Learning rate.
    decay_rate : float, default 0.99
        Fraction of `h` that each step keeps.
    **options
        ``weight_decay``, ``decay_biases``, ``clip_norm`` and ``clip_value``, see `Optimizer`.

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

    def __init__(
        self, lr: float = 0.01, decay_rate: float = 0.99, **options: Unpack[Options]
    ) -> None:
        super().__init__(lr, **options)
        self.decay_rate = number(decay_rate, "decay_rate")

    def _formula(self) -> tuple[str, float, float, float]:
        return "RMSprop", self.lr, self.decay_rate, 0.0


@named
class Adam(_Compiled):
    """Means of gradients, divided by the root of means of their squares [1]_.

    ``m += (1 - beta1) * (dW - m)``, ``v += (1 - beta2) * (dW**2 - v)``, and
    ``W -= lr_t * m / (sqrt(v) + 1e-7)``, where ``lr_t = lr * sqrt(1 - beta2**t) / (1 - beta1**t)``
    in update ``t`` corrects means that began at 0.

    Parameters
    ----------
    lr : float, default 0.001
        Learning rate.
    beta1, beta2 : float, default 0.9, 0.999
        Fractions of the two means that each step keeps.
    **options
        ``weight_decay``, ``decay_biases``, ``clip_norm`` and ``clip_value``, see `Optimizer`.

    See Also
    --------
    AdamW : Adam with weight decay that is no part of the gradient.

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

    def __init__(
        self,
        lr: float = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(lr, **options)
        self.beta1, self.beta2 = number(beta1, "beta1"), number(beta2, "beta2")

    def _formula(self) -> tuple[str, float, float, float]:
        lr = self.lr * sqrt(1 - self.beta2**self.iter) / (1 - self.beta1**self.iter)
        return "Adam", lr, self.beta1, self.beta2


@named
class AdamW(Adam):
    """Adam with decoupled weight decay [1]_: ``W *= 1 - lr * weight_decay`` before each step.

    In `Adam`, weight decay is a part of the gradient and thus divided by the root as well, so that
    parameters with large gradients hardly decay. Here all decay alike.

    Parameters
    ----------
    lr : float, default 0.001
        Learning rate.
    beta1, beta2 : float, default 0.9, 0.999
        Fractions of the two means that each step keeps.
    weight_decay : float, default 0.01
        Fraction of a parameter, times the learning rate, that is subtracted from it.
    **options
        ``decay_biases``, ``clip_norm`` and ``clip_value``, see `Optimizer`.

    References
    ----------
    .. [1] I. Loshchilov and F. Hutter, "Decoupled Weight Decay Regularization", ICLR 2019,
       https://arxiv.org/abs/1711.05101

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.training import AdamW
    >>> params = {"W1": np.array([1.0])}
    >>> AdamW(lr=0.25, weight_decay=0.4).update(params, {"W1": np.array([8.0])})
    >>> params["W1"].round(3)
    array([0.65])
    """

    _decoupled = True

    def __init__(
        self,
        lr: float = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        weight_decay: float = 0.01,
        **options: Unpack[Clipping],
    ) -> None:
        super().__init__(lr, beta1, beta2, weight_decay=weight_decay, **options)


OPTIMIZERS: dict[str, type[Optimizer]] = {
    rule.__name__.lower(): rule for rule in (SGD, Momentum, AdaGrad, RMSprop, Adam, AdamW)
}
