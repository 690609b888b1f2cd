"""Figures of tiles in grids, and how numbers become tiles."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from fastconv._arrays import Array

__all__ = ["LEAST_INCHES", "Panel", "channels_last", "figure_of", "pictures", "row_of"]


LEAST_INCHES, MOST_INCHES = 3.5, 12.0
"""The bounds of a figure's longer side. Between them, the longer side of a tile is an inch."""
LABEL_POINTS = 8.0
"""The size of a label's letters where the longer side of a tile is an inch."""
GAP, LABEL_GAP = 0.06, 0.2
"""The space between tiles, without and with labels, as a fraction of a tile's longer side."""


def channels_last(image: Array) -> Array:
    """Turn (1, H, W) into (H, W), and (3, H, W) into (H, W, 3)."""
    return image[0] if len(image) == 1 else image.transpose(1, 2, 0)


def pictures(images: Array) -> list[Array]:
    """Scale each of the images (N, 1 or 3, H, W) to 0 to 1."""
    axes = (1, 2, 3)
    low, high = images.min(axes, keepdims=True), images.max(axes, keepdims=True)
    scaled = (images - low) / np.where(high > low, high - low, 1)
    return [channels_last(image) for image in scaled]


def row_of(values: Array) -> Array:
    """Turn values that are no image into one row, thick enough to be seen."""
    return np.broadcast_to(values.reshape(-1), (-(-values.size // 5), values.size))


class Panel:
    """Tiles (H, W) or (H, W, 3) in a grid, with labels above them and a title above all."""

    def __init__(
        self, tiles: Sequence[Array], labels: Sequence[object] = (), title: str = ""
    ) -> None:
        self.tiles, self.labels, self.title = tiles, labels, title
        self.tile_h = max(tile.shape[0] for tile in tiles)
        self.tile_w = max(tile.shape[1] for tile in tiles)
        self.side = max(self.tile_h, self.tile_w)
        self.cell_h = self.tile_h + self.side * (LABEL_GAP if labels else GAP)
        self.cell_w = self.tile_w + self.side * GAP
        # A grid has half as many columns again as it has rows, because screens are wide.
        self.columns = min(len(tiles), math.ceil(math.sqrt(1.5 * len(tiles))))
        self.height = -(-len(tiles) // self.columns) * self.cell_h
        self.width = self.columns * self.cell_w

    def draw(self, axes: Axes, points: float, look: Mapping[str, Any]) -> None:
        """Draw all tiles into one axes: an axes each takes seconds for a hundred of them."""
        for i, tile in enumerate(self.tiles):
            row, column = divmod(i, self.columns)
            # The origin is the centre of the first pixel. Smaller tiles stand in the middle of
            # their cells.
            top = row * self.cell_h + (self.tile_h - tile.shape[0]) / 2 - 0.5
            left = column * self.cell_w + (self.tile_w - tile.shape[1]) / 2 - 0.5
            axes.imshow(
                tile,
                extent=(left, left + tile.shape[1], top + tile.shape[0], top),
                origin="upper",
                interpolation="nearest",
                **look,
            )
            if self.labels:
                middle = left + tile.shape[1] / 2
                text = str(self.labels[i])
                axes.text(middle, top, text, ha="center", va="bottom", fontsize=points)
        axes.set_xlim(-0.5, self.width - self.side * GAP - 0.5)
        axes.set_ylim(self.height - self.cell_h + self.tile_h - 0.5, -0.5)
        axes.set_axis_off()
        axes.set_title(self.title)


def figure_of(
    panels: Sequence[Panel], title: str = "", *, cmap: str = "gray", norm: Normalize | None = None
) -> Figure:
    """Draw panels side by side; by default 0 is black and 1 is white."""
    widths = [panel.width / panel.side for panel in panels]
    width, height = sum(widths), max(panel.height / panel.side for panel in panels)
    longest = max(width, height)
    inches = min(max(longest, LEAST_INCHES), MOST_INCHES) / longest
    lines = len(title.splitlines()) + any(panel.title for panel in panels)
    figure = Figure(
        (max(width * inches, LEAST_INCHES), max(height * inches, 0.5) + 0.3 * lines),
        layout="constrained",
    )
    row = figure.subplots(1, len(panels), squeeze=False, width_ratios=widths)[0]
    look = {"cmap": cmap, "norm": norm or Normalize(0, 1)}
    for axes, panel in zip(row, panels):
        panel.draw(axes, min(1, inches) * LABEL_POINTS, look)
    if title:
        figure.suptitle(title, fontsize="medium")
    return figure
