"""When training ends: after all epochs, or once it has stopped to make progress."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fastconv._arrays import Array
from fastconv.training._network import state_of

__all__ = ["LossStopping", "ValidationStopping"]


@dataclass
class LossStopping:
    """Stop when the loss of the training images has not fallen by `tol` for some epochs.

    An epoch counts as without progress by the rule of scikit-learn's `MLPClassifier`.
    """

    tol: float
    patience: float
    best: float = math.inf
    stale: int = 0
    """The number of epochs without progress, one after the other."""

    reason = "Training loss did not improve more than tol=%f for %d consecutive epochs."

    def stops(self, loss: float) -> bool:
        """Note the loss of an epoch, and tell whether training ends."""
        self.stale = self.stale + 1 if loss > self.best - self.tol else 0
        self.best = min(self.best, loss)
        return self.stale > self.patience


@dataclass
class ValidationStopping:
    """Stop when the score of images that are not trained with has not risen by `tol`.

    The network that had the best score is kept, and comes back at the end.
    """

    tol: float
    patience: float
    network: Any
    score: Callable[[], float]
    best: float = -math.inf
    stale: int = 0
    scores: list[float] = field(default_factory=list)
    best_state: dict[str, Array] = field(default_factory=dict)

    reason = "Validation score did not improve more than tol=%f for %d consecutive epochs."

    def stops(self, loss: float) -> bool:
        """Measure the score after an epoch, and tell whether training ends."""
        score = self.score()
        self.scores.append(score)
        self.stale = self.stale + 1 if score < self.best + self.tol else 0
        if score > self.best:
            self.best = score
            self.best_state = {name: a.copy() for name, a in state_of(self.network).items()}
        return self.stale > self.patience

    def restore(self) -> None:
        """Give the network the arrays that had the best score."""
        state = state_of(self.network)
        for name, array in self.best_state.items():
            state[name][...] = array
