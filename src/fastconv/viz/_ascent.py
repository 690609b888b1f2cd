"""Pictures of what channels respond to: activation maximisation."""

from __future__ import annotations

import operator
from typing import SupportsIndex

import numpy as np
from matplotlib.figure import Figure

from fastconv._errors import named
from fastconv._explanation import activation_ascent
from fastconv._explanation._arguments import finite
from fastconv.models import Sequential
from fastconv.viz._tiles import Panel, figure_of, pictures, row_of

__all__ = ["maximize_activation"]


@named
def maximize_activation(
    network: Sequential,
    layer: str,
    channel: SupportsIndex = 0,
    *,
    steps: SupportsIndex = 100,
    lr: float = 0.1,
    seed: int | np.random.Generator = 0,
) -> Figure:
    """Draw the input that a channel of a layer responds to strongly.

    Parameters
    ----------
    network, layer, channel, steps, lr, seed
        As in `activation_ascent`, which finds the input.

    Returns
    -------
    matplotlib.figure.Figure
        The input, in colour if it has three channels; else its channels. The title says what the
        activation was before and after.

    Raises
    ------
    TypeError, ValueError
        As in `activation_ascent`; also if the input found is not finite.

    Examples
    --------
    >>> from fastconv import viz
    >>> from fastconv.models import SimpleConvNet
    >>> figure = viz.maximize_activation(SimpleConvNet(seed=0), "Conv1", 7, steps=20)
    >>> print(figure.get_suptitle().splitlines()[0])
    Conv1, channel 7
    """
    x, activations = activation_ascent(network, layer, channel, steps=steps, lr=lr, seed=seed)
    x = finite("the input found", x)
    if x.ndim != 3:
        x = row_of(x)[None]
    planes = x[None] if len(x) == 3 else x[:, None]
    title = (
        f"{layer}, channel {operator.index(channel)}\n"
        f"mean activation {activations[0]:.3g} → {activations[-1]:.3g}"
    )
    return figure_of([Panel(pictures(planes))], title)
