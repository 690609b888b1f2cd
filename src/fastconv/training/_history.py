"""What the epochs of a training gave, and the file that lists it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields

from fastconv._files import replacing

__all__ = ["Epoch", "write_history"]


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training images gave."""

    epoch: int
    train_loss: float
    """Mean of the steps' losses."""
    train_acc: float
    """From 0 to 1, after the epoch, as `test_acc`."""
    test_acc: float | None
    """None if there are no images to test with."""


def write_history(history: Iterable[Epoch], path: str) -> None:
    """Write a line of names and a line per epoch, as comma-separated values."""
    lines = [",".join(field.name for field in fields(Epoch))]
    lines += [
        ",".join("" if value is None else repr(value) for value in astuple(epoch))
        for epoch in history
    ]
    with replacing(path) as file:
        file.write("".join(f"{line}\n" for line in lines).encode())
