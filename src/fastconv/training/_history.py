"""The results of a training's epochs, and the file that lists them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields

from fastconv._files import replacing

__all__ = ["Epoch", "write_history"]


@dataclass(frozen=True)
class Epoch:
    """The results of one pass over the training images.

    Attributes
    ----------
    epoch : int
        Number of the epoch, from 1.
    train_loss : float
        Mean of the losses of the epoch's steps.
    train_acc : float or None
        Accuracy on training images after the epoch, from 0 to 1, or None if it was not measured.
    test_acc : float or None
        Accuracy on test images after the epoch, or None if there are no such images,
        or it was not measured.

    Examples
    --------
    >>> from fastconv.training import Epoch
    >>> Epoch(1, train_loss=0.5, train_acc=0.75, test_acc=None).train_acc
    0.75
    """

    epoch: int
    train_loss: float
    train_acc: float | None
    test_acc: float | None


def write_history(history: Iterable[Epoch], path: str) -> None:
    """Write a line of names and a line per epoch, as comma-separated values."""
    lines = [",".join(field.name for field in fields(Epoch))]
    lines += [
        ",".join("" if value is None else repr(value) for value in astuple(epoch))
        for epoch in history
    ]
    with replacing(path) as file:
        file.write("".join(f"{line}\n" for line in lines).encode())
