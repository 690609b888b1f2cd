"""Pictures of which pixels of an image speak for a class."""

from __future__ import annotations

from typing import SupportsIndex

import numpy.typing as npt
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from fastconv._arrays import Array
from fastconv._errors import named
from fastconv._explanation._arguments import images_of
from fastconv._explanation._class_activation import Explanation, explanation, resized
from fastconv.models import Sequential
from fastconv.viz._tiles import Panel, figure_of, pictures

__all__ = ["figure_of_explanation", "show_class_activation"]

OPACITY = 0.5
"""How opaque the colours are where the map is 0; where it is largest, they hide the image."""


@named
def show_class_activation(
    network: Sequential,
    image: npt.ArrayLike,
    class_index: SupportsIndex | None = None,
    layer: str | None = None,
) -> Figure:
    """Draw an image, and over it how strongly each pixel speaks for a class.

    Parameters
    ----------
    network, image, class_index, layer
        As in `class_activation_map`, which computes the map.

    Returns
    -------
    matplotlib.figure.Figure
        The image, in colour if it has three channels and else as the mean of its channels, and
        beside it the image with the map over it in colours: the more a pixel speaks for the class,
        the brighter and the more opaque is the colour. The title names class, score, method and
        layer.

    Raises
    ------
    TypeError, ValueError
        As in `class_activation_map`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import viz
    >>> from fastconv.models import ResNet
    >>> image = np.random.default_rng(0).random((3, 32, 32))
    >>> figure = viz.show_class_activation(ResNet(20, seed=0), image, class_index=3)
    >>> print(figure.get_suptitle().splitlines()[1])
    CAM of Residual9
    """
    explained = explanation(network, image, class_index, layer)
    return figure_of_explanation(images_of(network, image), explained)


def figure_of_explanation(pixels: Array, explained: Explanation) -> Figure:
    """Draw an image (1, C, H, W), and the map over it."""
    heat = resized(explained.heat, pixels.shape[2:])
    if pixels.shape[1] != 3:
        pixels = pixels.mean(axis=1, keepdims=True)
    (picture,) = pictures(pixels)
    title = (
        f"class {explained.class_index}, score {explained.score:.3g}\n"
        f"{explained.method} of {explained.layer}"
    )
    figure = figure_of([Panel([picture, picture], ["image", "what speaks for the class"])], title)
    axes = figure.axes[0]
    most = heat.max() or 1
    over = axes.imshow(
        heat,
        extent=axes.images[1].get_extent(),
        origin="upper",
        interpolation="nearest",
        cmap="inferno",
        norm=Normalize(0, most),
        alpha=OPACITY + (1 - OPACITY) * heat / most,
    )
    figure.set_figwidth(figure.get_figwidth() + 1)
    figure.colorbar(over, ax=axes)
    return figure
