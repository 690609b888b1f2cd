"""What is shown while a network is being trained."""

from __future__ import annotations

import sys
from typing import Any

from fastconv._bar import open_bar
from fastconv.training._history import Epoch

__all__ = ["Progress"]


class Progress:
    """A bar on a terminal if tqdm is installed, otherwise a line per epoch, on standard error.

    Parameters
    ----------
    verbose : bool
        Whether anything is shown at all.
    epochs, steps : int
        How many there are in the whole training.
    done : int
        How many of the steps were taken before.
    """

    def __init__(self, verbose: bool, epochs: int, steps: int, done: int) -> None:
        self.verbose, self.epochs, self.steps = verbose, epochs, steps
        self.bar: Any = open_bar(steps, "step", done) if verbose else None

    def step(self, loss: float) -> None:
        """Show that a step was taken, and its loss."""
        if self.bar is not None:
            self.bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
            self.bar.update()

    def epoch(self, last: Epoch) -> None:
        """Show what the epoch that has just ended gave."""
        text = f"epoch {last.epoch} of {self.epochs}"
        train = "" if last.train_acc is None else f", train {last.train_acc:.2%}"
        test = "" if last.test_acc is None else f", test {last.test_acc:.2%}"
        if self.bar is not None:
            self.bar.set_description(f"{text}{test}")
        else:
            self._print(f"{text}: loss {last.train_loss:.4f}{train}{test}")

    def interrupted(self, steps: int, epochs: int) -> None:
        """Say that training has ended early, also below a bar, which disappears."""
        self.close()
        self._print(
            f"interrupted after {steps} of {self.steps} steps, {epochs} of {self.epochs} epochs"
        )

    def _print(self, line: str) -> None:
        if self.verbose and sys.stderr is not None:
            print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Take the bar away, if there is one; this may be done more than once."""
        if self.bar is not None:
            self.bar.close()
