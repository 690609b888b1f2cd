"""Pictures of how a network has learned."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from fastconv._arguments import number
from fastconv._errors import argument_error, named, shown

__all__ = ["show_history"]


@named
def show_history(history: Iterable[Any]) -> Figure:
    """Draw a learning curve.

    Parameters
    ----------
    history : iterable of mappings or objects
        What was measured in each epoch: ``epoch``, ``train_loss``, ``train_acc`` and ``test_acc``,
        as keys or as attributes. Accuracies are from 0 to 1. None is not drawn.

    Returns
    -------
    matplotlib.figure.Figure
        The loss on the left, the accuracies in per cent on the right.

    Raises
    ------
    ValueError
        If there are no epochs, or one of them lacks a value.

    Examples
    --------
    >>> from fastconv import viz
    >>> history = [
    ...     {"epoch": 1, "train_loss": 1.2, "train_acc": 0.70, "test_acc": 0.68},
    ...     {"epoch": 2, "train_loss": 0.4, "train_acc": 0.93, "test_acc": 0.91},
    ... ]
    >>> figure = viz.show_history(history)
    >>> [axes.get_ylabel() for axes in figure.axes]
    ['loss', 'accuracy in %']
    """
    names = ("epoch", "train_loss", "train_acc", "test_acc")
    if not isinstance(history, Iterable):
        raise argument_error(
            TypeError, f"history must be a sequence of epochs, got {shown(history)}"
        )
    rows = [[_measured(i, record, name) for name in names] for i, record in enumerate(history)]
    if not rows:
        raise argument_error(ValueError, "history has no epochs")
    epochs, losses, train, test = np.array(rows).T
    figure = Figure((8, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    marker = "o" if len(rows) == 1 else ""  # A line needs two points.
    left.plot(epochs, losses, marker=marker)
    left.set_ylabel("loss")
    right.plot(epochs, 100 * train, marker=marker, label="training")
    if not np.isnan(test).all():
        right.plot(epochs, 100 * test, marker=marker, label="test")
    right.set_ylabel("accuracy in %")
    right.legend()
    for axes in (left, right):
        axes.set_xlabel("epoch")
        axes.locator_params("x", integer=True)
        axes.grid(alpha=0.3)
    return figure


def _measured(place: int, record: Any, name: str) -> float:
    try:
        value = record[name] if isinstance(record, Mapping) else getattr(record, name)
    except (KeyError, AttributeError):
        raise argument_error(
            ValueError, f"history[{place}] has no {name}, got {shown(record)}"
        ) from None
    return math.nan if value is None else number(value, f"history[{place}]: {name}")
