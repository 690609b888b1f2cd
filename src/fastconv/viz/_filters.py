"""Pictures of filters and of what they make of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import SupportsIndex

import numpy as np
import numpy.typing as npt
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from fastconv._arguments import Padding
from fastconv._errors import argument_error, named
from fastconv._explanation._arguments import finite, place_of
from fastconv._filter_bank import FILTERS, as_pixels, convolve, response_as_pixels
from fastconv.layers import Convolution
from fastconv.viz._arguments import check_titles
from fastconv.viz._tiles import Panel, channels_last, figure_of, pictures

__all__ = ["apply_filters", "show_filters"]


@named
def show_filters(
    *weights: npt.ArrayLike | Convolution, titles: Sequence[str] = (), channel: SupportsIndex = 0
) -> Figure:
    """Draw the filters of convolutions, for instance before and after training.

    Parameters
    ----------
    *weights : array_like, shape (F, C, KH, KW), or Convolution
        Filters; each of the arguments becomes a panel, side by side.
    titles : sequence of str, optional
        Of the panels.
    channel : int, default 0
        Channel to draw. Filters of three channels are drawn in colour instead.

    Returns
    -------
    matplotlib.figure.Figure
        A tile for every filter, row by row. Each is scaled by itself.

    Raises
    ------
    TypeError
        If weights are no numbers.
    ValueError
        If weights are of another shape, empty or not finite, if there are none, if they have no
        such channel, or if there are not as many titles.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import viz
    >>> rng = np.random.default_rng(0)
    >>> before, after = rng.random((2, 30, 1, 5, 5))
    >>> figure = viz.show_filters(before, after, titles=["before", "after"])
    >>> [axes.get_title() for axes in figure.axes]
    ['before', 'after']
    """
    if not weights:
        raise argument_error(ValueError, "needs at least one array of weights or a Convolution")
    check_titles(titles, len(weights), "weights")
    panels = []
    for i, weight in enumerate(weights):
        array = finite("weights", weight.W if isinstance(weight, Convolution) else weight)
        if array.ndim != 4 or not array.size:
            raise argument_error(
                ValueError, f"weights must have shape (F, C, KH, KW), got {array.shape}"
            )
        place = place_of("channel", channel, array.shape[1])
        chosen = array if array.shape[1] == 3 else array[:, place : place + 1]
        panels.append(Panel(pictures(chosen), title=titles[i] if titles else ""))
    return figure_of(panels)


@named
def apply_filters(
    image: npt.ArrayLike,
    filters: Mapping[str, npt.ArrayLike] | None = None,
    pad_mode: str = "constant",
    padding: Padding = "same",
) -> Figure:
    """Draw an image and the responses of filters to it.

    Parameters
    ----------
    image : array_like, shape (H, W), (1, H, W) or (3, H, W)
        Gray or colour; each channel is filtered by itself. Pixels are drawn from the smallest, or
        0, to the largest.
    filters : mapping of str to array_like, optional
        Two-dimensional filters by name; by default edges, Laplacian, sharpen, blur and emboss.
    pad_mode : {"constant", "edge", "reflect", "symmetric", "wrap"}, default "constant"
        What padding shows, as in `numpy.pad`.
    padding : int, pair, ((top, bottom), (left, right)), "valid" or "same", default "same"
        Padding; with "same" the responses are of the image's size.

    Returns
    -------
    matplotlib.figure.Figure
        The image and the responses. Filters whose weights sum to 0 are drawn around a mid-gray,
        each scaled to its largest response; the others are clipped to the range of the image.

    Raises
    ------
    TypeError
        If the image or a filter are no numbers, or `filters` no mapping.
    ValueError
        If one of them is of another shape, empty or not finite, or a filter does not fit.

    See Also
    --------
    fastconv.conv2d : What computes the responses.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import viz
    >>> figure = viz.apply_filters(np.eye(8), pad_mode="edge")
    >>> [text.get_text() for text in figure.axes[0].texts][:3]
    ['image', 'horizontal-edges', 'vertical-edges']
    """
    pixels = finite("image", image)
    if pixels.ndim == 2:
        pixels = pixels[None]
    if pixels.ndim != 3 or len(pixels) not in (1, 3) or not pixels.size:
        raise argument_error(
            ValueError,
            f"image must have shape (H, W), (1, H, W) or (3, H, W), got {np.shape(image)}",
        )
    if filters is None:
        filters = FILTERS
    elif not isinstance(filters, Mapping):
        raise argument_error(
            TypeError, f"filters must be a mapping of names to arrays, got {type(filters).__name__}"
        )
    low, high = min(0, pixels.min()), max(0, pixels.max())
    tiles = [as_pixels(pixels, low, high)]
    for name, weights in filters.items():
        kernel = finite(f"filter {name!r}", weights)
        if kernel.ndim != 2 or not kernel.size:
            raise argument_error(
                ValueError, f"filter {name!r} must have shape (KH, KW), got {kernel.shape}"
            )
        response = convolve(pixels, kernel, padding, pad_mode)
        tiles.append(response_as_pixels(response, kernel, low, high))
    panel = Panel([channels_last(tile) for tile in tiles], ["image", *filters])
    title = f"padding: {padding}, pad_mode: {pad_mode}"
    return figure_of([panel], title, norm=Normalize(0, 255))
