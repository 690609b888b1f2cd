"""Pictures of what layers give for an image."""

from __future__ import annotations

import numpy.typing as npt
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from fastconv._errors import named
from fastconv._explanation._arguments import check_layer, check_network, finite, images_of, up_to
from fastconv.models import Sequential
from fastconv.viz._tiles import Panel, figure_of, row_of

__all__ = ["show_feature_maps"]


@named
def show_feature_maps(network: Sequential, image: npt.ArrayLike, layer: str) -> Figure:
    """Draw the output of a layer for an image: a heat map of every channel.

    Parameters
    ----------
    network : Sequential
        Network.
    image : array_like, shape input_dim or (1, *input_dim)
        Image that the network is applied to.
    layer : str
        Name of the layer, such as ``"Conv1"``, or path to a layer that others hold, such as
        ``"Residual1.Chain1.Conv2"``.

    Returns
    -------
    matplotlib.figure.Figure
        A tile for every channel, with its number, and one scale of colours for all. Outputs that
        are no planes, of an `Affine` for instance, are one row.

    Raises
    ------
    TypeError
        If `network` is no `Sequential`, the image no array of numbers, or `layer` no string.
    ValueError
        If the image is of another shape, the network has no such layer, or what it gives is not
        finite.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import viz
    >>> from fastconv.models import SimpleConvNet
    >>> network = SimpleConvNet(seed=0)
    >>> figure = viz.show_feature_maps(network, np.ones((1, 28, 28)), "Conv1")
    >>> figure.get_suptitle(), len(figure.axes[0].images)
    ('Conv1', 30)
    >>> from fastconv.models import ResNet
    >>> layer = "Residual4.Chain1.Conv1"
    >>> figure = viz.show_feature_maps(ResNet(20, seed=0), np.ones((3, 32, 32)), layer)
    >>> len(figure.axes[0].images)
    32
    """
    check_network(network)
    check_layer(network, layer, network._shapes)
    images = images_of(network, image)
    part = up_to(network, layer.partition(".")[0])
    output = part.activations(images, [layer])[layer][0]
    maps = finite(f"the output of {layer}", output)
    planes = maps.ndim == 3
    panel = Panel(list(maps), range(len(maps))) if planes else Panel([row_of(maps)])
    norm = Normalize(maps.min(), maps.max())
    figure = figure_of([panel], layer, cmap="viridis", norm=norm)
    axes = figure.axes[0]
    if not planes:
        axes.set_axis_on()
        axes.locator_params("x", integer=True)
        axes.set_yticks([])
    figure.set_figwidth(figure.get_figwidth() + 1)
    figure.colorbar(axes.images[0], ax=axes)
    return figure
