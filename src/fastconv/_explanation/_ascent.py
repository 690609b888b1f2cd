"""What channels respond to: activation maximisation."""

from __future__ import annotations

import math
from typing import SupportsIndex

import numpy as np

from fastconv._arguments import generator, number, positive
from fastconv._arrays import Array
from fastconv._errors import argument_error, named
from fastconv._explanation._arguments import check_layer, check_network, place_of, up_to
from fastconv._structure import paths, replaced
from fastconv.models import Sequential

__all__ = ["activation_ascent"]

START = 0.01
"""The standard deviation of the noise that an ascent starts from."""


@named
def activation_ascent(
    network: Sequential,
    layer: str,
    channel: SupportsIndex = 0,
    *,
    steps: SupportsIndex = 100,
    lr: float = 0.1,
    seed: int | np.random.Generator = 0,
) -> tuple[Array, list[float]]:
    """Change an input until a channel of a layer responds strongly: activation maximisation.

    Parameters
    ----------
    network : Sequential
        Network. It is only read: its layers also keep what a forward pass left in them.
    layer : str
        Name of the layer, such as ``"Conv1"``, or path to a layer that others hold, such as
        ``"Residual1.Chain1.Conv2"``.
    channel : int, default 0
        Channel whose mean is to grow or, of a layer that gives no planes, the output that is.
    steps : int, default 100
        Number of changes of the input.
    lr : float, default 0.1
        Root mean square of the change in each step.
    seed : int or numpy.random.Generator, default 0
        For the noise to start from.

    Returns
    -------
    x : ndarray of float64, shape input_dim
        Input after the last step.
    activations : list of float
        The mean that is maximised, before the first step and after each step.

    Raises
    ------
    TypeError
        If `network` is no `Sequential`, `layer` no string, or numbers are of the wrong type.
    ValueError
        If the network has no such layer, the layer no such channel, or `steps` or `lr` are not
        positive.

    Notes
    -----
    Every step goes along the gradient in evaluation mode, divided by its root mean square. Where
    the gradient is 0, behind a `Relu` that lets nothing through, the ascent stays where it is;
    asking for the layer before helps.

    References
    ----------
    .. [1] D. Erhan, Y. Bengio, A. Courville and P. Vincent, "Visualizing Higher-Layer Features of
       a Deep Network", University of Montreal, technical report 1341, 2009

    Examples
    --------
    >>> from fastconv import viz
    >>> from fastconv.models import SimpleConvNet
    >>> x, activations = viz.activation_ascent(SimpleConvNet(seed=0), "Conv1", 7, steps=20)
    >>> x.shape, len(activations), activations[-1] > activations[0]
    ((1, 28, 28), 21, True)
    """
    check_network(network)
    check_layer(network, layer, network._shapes)
    part = up_to(network, layer.partition(".")[0])
    shape = network._shapes[layer]
    place = place_of("channel", channel, shape[0])
    count = positive(steps, "steps")
    rate = number(lr, "lr", "a positive number")
    if not (rate > 0 and math.isfinite(rate)):
        raise argument_error(ValueError, f"lr must be a positive number, got {lr}")
    # The input is float64, whatever the network computes in: squares of small gradients must not
    # vanish.
    x = START * generator(seed).standard_normal((1, *network.input_dim))
    goal = np.zeros((1, *shape), network.dtype)
    goal[:, place] = 1 / goal[:, place].size
    nothing = np.zeros((1, *part.output_dim), network.dtype)

    def activation() -> float:
        output = part.activations(x, [layer])[layer]
        return float(output[:, place].mean(dtype=np.float64))

    def gradient() -> Array:
        if layer in part.layers:
            return np.asarray(part.backward(goal), np.float64)
        meant = dict(paths(part))[layer]
        backward = meant.backward
        # What holds the layer passes gradients on to it: they are 0, and the goal is added there.
        with replaced(meant, "backward", lambda grads: backward(grads + goal)):
            return np.asarray(part.backward(nothing), np.float64)

    activations = [activation()]
    for _ in range(count):
        grads = gradient()
        rms = math.sqrt(np.square(grads).mean())
        if rms > 0:
            x += rate / rms * grads
        activations.append(activation())
    return x[0], activations
