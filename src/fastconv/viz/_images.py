"""Pictures of images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from fastconv._errors import argument_error, named
from fastconv._explanation._arguments import finite
from fastconv.viz._arguments import check_titles
from fastconv.viz._tiles import LEAST_INCHES, Panel, figure_of, pictures

__all__ = ["show_images"]


@named
def show_images(images: npt.ArrayLike, titles: Sequence[object] = ()) -> Figure:
    """Draw images in a grid, for instance those that a network gets wrong.

    Parameters
    ----------
    images : array_like, shape (N, H, W), (N, 1, H, W) or (N, 3, H, W)
        Images, gray or colour. Each is scaled by itself.
    titles : sequence, optional
        What to write above each.

    Returns
    -------
    matplotlib.figure.Figure
        The images, row by row. If there are none, the figure says so.

    Raises
    ------
    TypeError
        If images are no numbers.
    ValueError
        If they are of another shape or not finite, or if there are not as many titles.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import viz
    >>> figure = viz.show_images(np.ones((2, 1, 28, 28)), titles=["4, not 9", "3, not 5"])
    >>> len(figure.axes[0].images)
    2
    """
    array = finite("images", images)
    check_titles(titles, len(np.atleast_1d(array)), "images")
    if array.ndim and not len(array):
        figure = Figure((LEAST_INCHES, 1))
        figure.text(0.5, 0.5, "nothing to show", ha="center", va="center")
        return figure
    planes = array[:, None] if array.ndim == 3 else array
    if planes.ndim != 4 or planes.shape[1] not in (1, 3) or not planes.size:
        raise argument_error(
            ValueError,
            f"images must have shape (N, H, W), (N, 1, H, W) or (N, 3, H, W), got {array.shape}",
        )
    return figure_of([Panel(pictures(planes), titles)])
