"""Schedules: how the learning rate changes while a network is trained.

A schedule is a function from the fraction of the training that is done, which grows from 0 and
stays below 1, to the factor of the learning rate. (`named` goes before `dataclass`, whose generated
methods are equal in several classes, so that they do not tell which class was called.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import numpy.typing as npt

from fastconv._arguments import is_sequence, number
from fastconv._errors import argument_error, named, shown

__all__ = ["SCHEDULES", "Constant", "Cosine", "Schedule", "Step", "identity_of", "schedule_of"]

Schedule: TypeAlias = Callable[[float], float]


@dataclass(frozen=True)
@named
class Constant:
    """The learning rate stays, after an optional warm-up.

    Parameters
    ----------
    warmup : float, default 0
        Fraction of the training in which the learning rate rises linearly from 0 [1]_. For some
        number of epochs divide it by that of all.

    See Also
    --------
    Cosine, Step : Schedules that lower the learning rate.

    References
    ----------
    .. [1] P. Goyal et al., "Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour", 2017,
       https://arxiv.org/abs/1706.02677

    Examples
    --------
    >>> from fastconv.training import Constant
    >>> schedule = Constant(warmup=0.2)
    >>> [schedule(progress) for progress in (0.0, 0.1, 0.2, 0.9)]
    [0.0, 0.5, 1.0, 1.0]
    """

    warmup: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "warmup", _warmup(self.warmup))

    def __call__(self, progress: float) -> float:
        """Return the learning rate's factor."""
        return _rise(progress, self.warmup)


@dataclass(frozen=True)
@named
class Step:
    """The learning rate is multiplied by `gamma` at some points of the training.

    Parameters
    ----------
    milestones : sequence of float, default (0.5, 0.75)
        Fractions of the training, in increasing order. For epochs, divide them by the number of all
        epochs: ``[epoch / 90 for epoch in (30, 60)]``. Residual networks were trained with the
        default [1]_.
    gamma : float, default 0.1
        What the learning rate is multiplied by at each.
    warmup : float, default 0
        Fraction of the training in which the learning rate rises linearly from 0.

    References
    ----------
    .. [1] K. He, X. Zhang, S. Ren and J. Sun, "Deep Residual Learning for Image Recognition",
       CVPR 2016, https://arxiv.org/abs/1512.03385

    Examples
    --------
    >>> from fastconv.training import Step
    >>> schedule = Step(milestones=(0.5, 0.75), gamma=0.5)
    >>> [schedule(progress) for progress in (0.0, 0.5, 0.7, 0.75)]
    [1.0, 0.5, 0.5, 0.25]
    """

    milestones: Sequence[float] | npt.NDArray[Any] = (0.5, 0.75)
    gamma: float = 0.1
    warmup: float = 0.0

    def __post_init__(self) -> None:
        accepted = "increasing fractions of the training"
        if not is_sequence(self.milestones):
            raise argument_error(
                TypeError, f"milestones must be {accepted}, got {shown(self.milestones)}"
            )
        milestones = tuple(number(value, "milestones", accepted) for value in self.milestones)
        ends = (0.0, *milestones, 1.0)
        if not all(first < second for first, second in pairwise(ends)):
            raise argument_error(
                ValueError,
                f"milestones must be {accepted}, between 0 and 1, got {shown(self.milestones)}",
            )
        gamma = number(self.gamma, "gamma", "a positive number")
        if not 0 < gamma < math.inf:
            raise argument_error(
                ValueError, f"gamma must be a positive number, got {shown(self.gamma)}"
            )
        object.__setattr__(self, "milestones", milestones)
        object.__setattr__(self, "gamma", gamma)
        object.__setattr__(self, "warmup", _warmup(self.warmup))

    def __call__(self, progress: float) -> float:
        """Return the learning rate's factor."""
        passed = sum(milestone <= progress for milestone in self.milestones)
        factor: float = _rise(progress, self.warmup) * self.gamma**passed
        return factor


@dataclass(frozen=True)
@named
class Cosine:
    """The learning rate falls to 0 as half a cosine [1]_, after an optional warm-up.

    Parameters
    ----------
    warmup : float, default 0
        Fraction of the training in which the learning rate rises linearly from 0.

    References
    ----------
    .. [1] I. Loshchilov and F. Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts",
       ICLR 2017, https://arxiv.org/abs/1608.03983

    Examples
    --------
    >>> from fastconv.training import Cosine
    >>> schedule = Cosine(warmup=0.2)
    >>> [round(schedule(progress), 3) for progress in (0.0, 0.1, 0.2, 0.6, 1.0)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """

    warmup: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "warmup", _warmup(self.warmup))

    def __call__(self, progress: float) -> float:
        """Return the learning rate's factor."""
        if progress < self.warmup:
            return _rise(progress, self.warmup)
        falling = min((progress - self.warmup) / (1 - self.warmup), 1.0)
        return (1 + math.cos(math.pi * falling)) / 2


SCHEDULES: dict[str, type[Constant | Cosine | Step]] = {
    "constant": Constant,
    "cosine": Cosine,
    "step": Step,
}
"""The schedules that have names."""


def schedule_of(value: str | Schedule) -> Schedule:
    """Read a schedule: a name, or a function from progress to the factor."""
    if isinstance(value, str) and value in SCHEDULES:
        return SCHEDULES[value]()
    if callable(value) and not isinstance(value, type):
        return value
    kind = ValueError if isinstance(value, str) else TypeError
    accepted = f"one of {', '.join(map(repr, SCHEDULES))} or a function of progress"
    raise argument_error(kind, f"schedule must be {accepted}, got {shown(value)}")


def identity_of(schedule: Schedule) -> str:
    """Name a schedule, so that checkpoints tell whether another training has the same.

    Functions of users are told by their names.
    """
    if isinstance(schedule, (Constant, Cosine, Step)):
        names = {kind(): name for name, kind in SCHEDULES.items()}
        return names.get(schedule, repr(schedule))
    return str(getattr(schedule, "__qualname__", type(schedule).__qualname__))


def _rise(progress: float, warmup: float) -> float:
    return progress / warmup if progress < warmup else 1.0


def _warmup(value: float) -> float:
    accepted = "a fraction of the training, at least 0 and less than 1"
    warmup = number(value, "warmup", accepted)
    if not 0 <= warmup < 1:
        raise argument_error(ValueError, f"warmup must be {accepted}, got {shown(value)}")
    return warmup
