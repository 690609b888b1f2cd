"""The picture of a network: its layers as boxes, and the ways of data through them."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any, SupportsIndex

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Polygon, Rectangle

from fastconv._arguments import positive
from fastconv._errors import argument_error, named, shown
from fastconv._explanation._arguments import check_network
from fastconv.layers import (
    Affine,
    AveragePooling,
    AveragePooling1D,
    BatchNormalization,
    ChannelShuffle,
    Convolution,
    Convolution1D,
    Dropout,
    Flatten,
    GlobalAveragePooling,
    HardSigmoid,
    HardSwish,
    IdentityShortcut,
    Layer,
    LeakyRelu,
    LocalResponseNormalization,
    Pooling,
    Pooling1D,
    Relu,
    Relu6,
    Sigmoid,
    SiLU,
)
from fastconv.models import Sequential
from fastconv.models._chain import LEARNED
from fastconv.viz._graph import GAP, LINE, MARGIN, POINTS, SUM_RADIUS, Part, Point, Sketch, graph_of
from fastconv.viz._tiles import LEAST_INCHES

__all__ = ["show_network"]

COLOURS: tuple[tuple[tuple[type, ...], str], ...] = (
    ((Convolution, Convolution1D), "#a9cdf0"),
    ((Affine,), "#f7c088"),
    (
        (Pooling, Pooling1D, AveragePooling, AveragePooling1D, GlobalAveragePooling),
        "#b0dea9",
    ),
    ((BatchNormalization, LocalResponseNormalization), "#f3e79b"),
    ((Relu, Relu6, LeakyRelu, Sigmoid, HardSigmoid, HardSwish, SiLU), "#f4b5b5"),
    ((Dropout,), "#d3d3d3"),
    ((Flatten, ChannelShuffle, IdentityShortcut), "#d8c7ea"),
)
"""The colours of kinds of layers."""
OTHER = "#ffffff"
"""The colour of the input and of all other layers."""
FRAME_COLOURS = ("#f4f4f4", "#e9e9e9")
"""The colours of frames, in turn the deeper they are within others."""
INK = "#333333"
"""The colour of lines and of less important text."""
PAGE = 1.3
"""How many times as high as wide a page should be, if there is a choice of columns."""
HEAD = 0.055
"""The length of the head of an arrow, in inches."""
EDGE = 0.15
"""What is free around the graph, in inches."""
ROUNDING = 1e-6
"""By how much a column may be higher than what is said, because sums are rounded."""
ALLEY = 0.3
"""What is free between two columns, in inches: the line to the next column goes up there."""


@named
def show_network(
    network: Sequential,
    depth: SupportsIndex | None = None,
    *,
    columns: SupportsIndex | None = None,
) -> Figure:
    """Draw the graph of a network: its layers as boxes, and the ways of data through them.

    Parameters
    ----------
    network : Sequential
        Network.
    depth : int, optional
        How many layers around a layer are opened, so that it is seen: with 0, layers that hold
        others are boxes. By default all are opened. What a layer of one's own holds is never seen,
        as it is not known how it calls it.
    columns : int, optional
        The largest number of columns into which the graph is folded; by default as many as make a
        page of usual proportions.

    Returns
    -------
    matplotlib.figure.Figure
        The graph, from the top down. Each box shows the name of a layer, the shape of its output,
        its filters or its size, and its number of parameters. Activations, normalisation and
        whatever else works on each number or each channel sticks to the box above it, if it does
        not change the shape. A frame is a `Residual`, with a circle where it adds, a
        `Concatenation`, with a bar where it joins, or a chain.

    Raises
    ------
    TypeError
        If `network` is no `Sequential`, or a number no int.
    ValueError
        If `depth` is below 0, or `columns` below 1.

    See Also
    --------
    fastconv.models.Sequential.summary : The same as a table.

    Notes
    -----
    Paths, which `show_feature_maps` takes, consist of the names of the frames around a layer, of
    the title of its way, and of its own name: ``"Residual1.Chain1.Conv2"``.

    Examples
    --------
    >>> from fastconv import viz
    >>> from fastconv.models import ResNet
    >>> figure = viz.show_network(ResNet(20, seed=0))
    >>> texts = [text.get_text() for text in figure.axes[0].texts]
    >>> texts[0]
    'ResNet, 269,722 parameters'
    >>> texts.count("(64, 8, 8)")  # of 3 frames, and of 10 boxes within
    13
    """
    check_network(network)
    levels, most = _depth(depth), None if columns is None else positive(columns, "columns")
    parts = graph_of(network, network.input_dim, network._shapes, LEARNED, levels)
    folded = _folded(parts, most)
    sketch, width, height = _placed(folded)
    beside = max(0.0, LEAST_INCHES - width) / 2
    figure = Figure((width + 2 * beside, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(-beside, width + beside)
    axes.set_ylim(height, 0)
    count = sum(array.size for array in network.params.values())
    title = f"{type(network).__name__}, {count:,} parameters"
    _write(axes, EDGE - beside, EDGE, title, weight="bold", size=POINTS + 1.5)
    _draw(axes, sketch)
    return figure


def _depth(depth: SupportsIndex | None) -> int | None:
    """Read how many layers are opened."""
    if depth is None:
        return None
    try:
        levels = operator.index(depth)
    except TypeError:
        raise argument_error(TypeError, f"depth must be an int, got {shown(depth)}") from None
    if levels < 0:
        raise argument_error(ValueError, f"depth must be 0 or larger, got {levels}")
    return levels


# ---- columns ---------------------------------------------------------------------------------


def _folded(parts: Sequence[Part], most: int | None) -> list[list[Part]]:
    """Divide parts among columns such that a page of the usual proportions can be smallest."""
    count = len(parts)
    limits = {_height(parts[i:j]) for i in range(count) for j in range(i + 1, count + 1)}
    choices = [_filled(parts, limit) for limit in sorted(limits)]
    allowed = [columns for columns in choices if most is None or len(columns) <= most]
    return min(allowed, key=_page_height)


def _filled(parts: Sequence[Part], limit: float) -> list[list[Part]]:
    """Fill columns one after the other up to a height."""
    columns: list[list[Part]] = [[]]
    for part in parts:
        if columns[-1] and _height([*columns[-1], part]) > limit + ROUNDING:
            columns.append([])
        columns[-1].append(part)
    return columns


def _page_height(columns: Sequence[Sequence[Part]]) -> float:
    """Return the height of the smallest page of the usual proportions that contains columns."""
    width = sum(map(_width, columns)) + ALLEY * (len(columns) - 1)
    return max(*map(_height, columns), PAGE * width)


def _height(column: Sequence[Part]) -> float:
    return sum(part.height for part in column) + GAP * (len(column) - 1)


def _width(column: Sequence[Part]) -> float:
    return max(part.left for part in column) + max(part.right for part in column)


def _placed(columns: Sequence[Sequence[Part]]) -> tuple[Sketch, float, float]:
    """Place columns beside each other; return the sketch, and the width and height of the page."""
    sketch = Sketch()
    top = EDGE + 2 * LINE + GAP
    x, end = EDGE, None
    for column in columns:
        axis, y = x + max(part.left for part in column), top
        first = column[0].begins_with_box
        if end is not None:  # The last column ended there: go up in the alley between the two.
            below, above, alley = end[1] + GAP / 2, top - GAP, x - ALLEY / 2
            corners = ((end[0], below), (alley, below), (alley, above), (axis, above))
            sketch.line(end, *corners, (axis, top), arrow=first)
        for i, part in enumerate(column):
            if i:
                sketch.line((axis, y - GAP), (axis, y), arrow=part.begins_with_box)
            part.place(sketch, axis, y)
            y += part.height + GAP
        end = (axis, y - GAP)
        x += _width(column) + ALLEY
    return sketch, x - ALLEY + EDGE, top + max(map(_height, columns)) + GAP / 2 + EDGE


# ---- drawing ---------------------------------------------------------------------------------


def _draw(axes: Axes, sketch: Sketch) -> None:
    """Draw a sketch, what is behind first."""
    _draw_frames(axes, sketch)
    for corners, arrow in sketch.lines:
        if arrow:
            head = _arrow_head(*corners[-2:])
            axes.add_patch(Polygon(head, closed=True, facecolor=INK, linewidth=0, zorder=2))
            end = (head[1][0] + head[2][0]) / 2, (head[1][1] + head[2][1]) / 2
            corners = [*corners[:-1], end]
        axes.plot(*zip(*corners), color=INK, linewidth=0.8, zorder=2)
    for left, height, right in sketch.bars:
        axes.plot((left, right), (height, height), color=INK, linewidth=2.5, zorder=2)
    for centre in sketch.sums:
        circle = Circle(centre, SUM_RADIUS, facecolor="white", edgecolor=INK, linewidth=0.8)
        circle.set_zorder(3)
        axes.add_patch(circle)
        axes.text(*centre, "+", ha="center", va="center_baseline", size=POINTS + 1, color=INK)
    for x, y, title in sketch.texts:
        _write(axes, x, y, title, color=INK, style="italic")
    _draw_strips(axes, sketch)


def _arrow_head(start: Point, end: Point) -> list[Point]:
    """Return the corners of a triangle whose first corner is the end of a line."""
    length = math.dist(start, end)
    along, down = (end[0] - start[0]) / length, (end[1] - start[1]) / length
    x, y = end[0] - HEAD * along, end[1] - HEAD * down
    side = HEAD / 2.5
    return [end, (x - side * down, y + side * along), (x + side * down, y - side * along)]


def _draw_frames(axes: Axes, sketch: Sketch) -> None:
    """Draw frames with their names, the outer ones first."""
    for frame, left, top, around in sketch.frames:
        colour = FRAME_COLOURS[around % len(FRAME_COLOURS)]
        width = frame.left + frame.right
        box = Rectangle(
            (left, top), width, frame.height, facecolor=colour, edgecolor="#bbbbbb", linewidth=0.6
        )
        axes.add_patch(box)
        middle = top + MARGIN / 2 + LINE / 2
        _write(axes, left + MARGIN, middle, frame.name, weight="bold")
        _write(axes, left + width - MARGIN, middle, frame.shape, ha="right")


def _draw_strips(axes: Axes, sketch: Sketch) -> None:
    """Draw the boxes of layers with what is written in them."""
    for strip, left, top, width in sketch.strips:
        box = Rectangle(
            (left, top),
            width,
            strip.height,
            facecolor=_colour(strip.layer),
            edgecolor=INK,
            linewidth=0.6,
            zorder=3,
        )
        axes.add_patch(box)
        right, y = left + width - MARGIN, top + (MARGIN + LINE) / 2
        _write(axes, left + MARGIN, y, strip.name, weight="bold")
        _write(axes, right, y, strip.shape or strip.parameters, ha="right")
        if strip.has_two_lines:
            _write(axes, left + MARGIN, y + LINE, strip.detail, color=INK)
            _write(axes, right, y + LINE, strip.parameters, ha="right", color=INK)


def _write(axes: Axes, x: float, y: float, text: str, **look: Any) -> None:
    """Write a line, unless it is empty, with its middle at a height."""
    if text:
        axes.text(x, y, text, **{"va": "center_baseline", "size": POINTS, "zorder": 4, **look})


def _colour(layer: Layer | None) -> str:
    """Return the colour of a kind of layer."""
    return next((colour for kinds, colour in COLOURS if isinstance(layer, kinds)), OTHER)
