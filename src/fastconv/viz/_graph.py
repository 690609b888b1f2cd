"""The graph of a network as boxes and lines on a page, in inches from its upper left corner.

Every part of the graph is measured first, and placed then. Data flows down along an axis: it enters
a part at the axis on top, and leaves it at the axis at the bottom. Layers that give their input's
shape and hold no matrix stick to the box above them, so that a convolution with its normalisation
and activation is one box of three strips.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeAlias

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

from fastconv._arrays import Shape
from fastconv._layer import Layer, children_of, is_chain, walk
from fastconv._structure import held, named_children
from fastconv.layers import Affine, Chain, Concatenation, Residual
from fastconv.models._summary import window_of

__all__ = ["GAP", "LINE", "MARGIN", "POINTS", "SUM_RADIUS", "Part", "Point", "Sketch", "graph_of"]

Point: TypeAlias = tuple[float, float]

POINTS = 6.5
"""The size of letters."""
HINTING = 1.07
"""By how much letters may be wider than their outlines, because they are fitted to pixels."""
LINE = 0.13
"""The height of a line of text."""
MARGIN = 0.05
"""What is free around the text of a strip."""
GAP = 0.17
"""The height of an arrow from one box to the next."""
BETWEEN = 0.15
"""What is free between the boxes of ways that compute side by side."""
FRAME = 0.1
"""What is free between a frame and what it holds."""
SPACE = 0.12
"""What is free between two texts on a line."""
SUM_RADIUS = 0.07
"""Of the circle in which two ways are added."""


@lru_cache(maxsize=4096)
def text_width(text: str, bold: bool = False) -> float:
    """Return the width of a text in inches."""
    font = FontProperties(weight="bold" if bold else "normal")
    points = TextPath((0, 0), text, POINTS, prop=font).get_extents().width if text else 0.0
    return float(points / 72 * HINTING)


@dataclass(frozen=True)
class Strip:
    """A layer: its name, the shape that it gives, what it does, and how much it has learned."""

    layer: Layer | None
    name: str
    shape: str = ""
    detail: str = ""
    parameters: str = ""

    @property
    def has_two_lines(self) -> bool:
        """Whether there is more to say than its name and one thing on the right."""
        return bool(self.detail or (self.shape and self.parameters))

    @property
    def height(self) -> float:
        """The height in inches."""
        return (2 if self.has_two_lines else 1) * LINE + MARGIN

    @property
    def width(self) -> float:
        """The least width in inches."""
        right = self.shape or self.parameters
        lines = [text_width(self.name, True) + text_width(right)]
        if self.has_two_lines:
            lines.append(text_width(self.detail) + text_width(self.parameters))
        return max(lines) + 2 * MARGIN + SPACE


@dataclass
class Sketch:
    """What is to be drawn, with places."""

    strips: list[tuple[Strip, float, float, float]] = field(default_factory=list)
    """Each with its left side, its top, and its width."""
    frames: list[tuple[Frame, float, float, int]] = field(default_factory=list)
    """Each with its left side, its top, and how many are around it, after which it comes."""
    lines: list[tuple[list[Point], bool]] = field(default_factory=list)
    """The corners of each line, and whether it ends with an arrow."""
    bars: list[tuple[float, float, float]] = field(default_factory=list)
    """Where what ways give is joined: the left end, the height, and the right end of a bar."""
    sums: list[Point] = field(default_factory=list)
    """Where what ways give is added: the centres of circles."""
    texts: list[tuple[float, float, str]] = field(default_factory=list)
    """Titles, with their left side and the middle of the line."""

    around: int = 0
    """How many frames are around what is placed now."""

    def line(self, *corners: Point, arrow: bool = False) -> None:
        """Add a line, unless it has no length."""
        path = [here for here, last in zip(corners, (None, *corners)) if here != last]
        if len(path) > 1:
            self.lines.append((path, arrow))


class Part:
    """A part of the graph."""

    left = right = height = 0.0
    """How far it extends to the left and right of its axis, and down; `measure` finds out."""
    begins_with_box = False
    """Whether an arrow to it ends at its top; otherwise the arrow goes on within it."""

    def measure(self, width: float) -> None:
        """Set the size, if boxes have this width."""
        raise NotImplementedError

    def place(self, sketch: Sketch, axis: float, top: float) -> None:
        """Add the part, which has been measured, to a sketch, with its axis and top there."""
        raise NotImplementedError


class Group(Part):
    """A box of strips."""

    begins_with_box = True

    def __init__(self, first: Strip) -> None:
        self.strips = [first]

    def measure(self, width: float) -> None:
        """Set the size."""
        self.left = self.right = width / 2
        self.height = sum(strip.height for strip in self.strips)

    def place(self, sketch: Sketch, axis: float, top: float) -> None:
        """Add the strips, the first on top."""
        for strip in self.strips:
            sketch.strips.append((strip, axis - self.left, top, self.left + self.right))
            top += strip.height


class Way(Part):
    """Parts one below the other, with a small title if the chain has a name of its own."""

    def __init__(self, parts: Sequence[Part], title: str = "") -> None:
        self.parts, self.title = parts, title
        self.begins_with_box = bool(parts) and parts[0].begins_with_box

    def measure(self, width: float) -> None:
        """Set the size."""
        for part in self.parts:
            part.measure(width)
        self.left = max((part.left for part in self.parts), default=0.0)
        self.right = max((part.right for part in self.parts), default=0.0)
        self.right = max(self.right, text_width(self.title) + MARGIN)
        heights = [part.height for part in self.parts]
        self.height = sum(heights) + GAP * max(len(heights) - 1, 0)

    def place(self, sketch: Sketch, axis: float, top: float) -> None:
        """Add the parts, and what leads from one to the next."""
        if self.title:
            sketch.texts.append((axis + MARGIN, top - 0.5 * GAP, self.title))
        for i, part in enumerate(self.parts):
            if i:
                sketch.line((axis, top - GAP), (axis, top), arrow=part.begins_with_box)
            part.place(sketch, axis, top)
            top += part.height + GAP


class Frame(Part):
    """A frame around parts, with the name of the layer that holds them, and the shape it gives."""

    def __init__(self, name: str, shape: str, inner: Part) -> None:
        self.name, self.shape, self.inner = name, shape, inner

    def measure(self, width: float) -> None:
        """Set the size, which suffices for name and shape."""
        self.inner.measure(width)
        named = text_width(self.name, bold=True) + text_width(self.shape) + 2 * MARGIN + SPACE
        missing = max(0.0, named - self.inner.left - self.inner.right - 2 * FRAME)
        self.left = self.inner.left + FRAME + missing / 2
        self.right = self.inner.right + FRAME + missing / 2
        self.height = LINE + GAP + self.inner.height + FRAME

    def place(self, sketch: Sketch, axis: float, top: float) -> None:
        """Add the frame, what it holds, and the lines from and to its edges."""
        sketch.frames.append((self, axis - self.left, top, sketch.around))
        inside, bottom = top + LINE + GAP, top + self.height
        sketch.line((axis, top), (axis, inside), arrow=self.inner.begins_with_box)
        sketch.around += 1
        self.inner.place(sketch, axis, inside)
        sketch.around -= 1
        sketch.line((axis, bottom - FRAME), (axis, bottom))


class Sum(Part):
    """A body, beside it a shortcut, the sum of both, and what the sum passes through."""

    def __init__(self, body: Way, shortcut: Way, behind: Way) -> None:
        self.body, self.shortcut, self.behind = body, shortcut, behind
        self.lane = 0.0
        """How far the shortcut's axis is to the right of the body's."""

    def measure(self, width: float) -> None:
        """Set the size."""
        for part in (self.body, self.shortcut, self.behind):
            part.measure(width)
        self.left = max(self.body.left, self.behind.left, SUM_RADIUS)
        self.lane = max(self.body.right, SUM_RADIUS) + BETWEEN + self.shortcut.left
        if not self.shortcut.parts:  # A line beside the body needs no more, and is beside all.
            self.lane = max(self.lane, self.behind.right + BETWEEN)
        self.right = max(self.lane + self.shortcut.right, self.behind.right)
        self.height = GAP + self._ways + GAP + 2 * SUM_RADIUS
        if self.behind.parts:
            self.height += GAP + self.behind.height

    @property
    def _ways(self) -> float:
        return max(self.body.height, self.shortcut.height)

    def place(self, sketch: Sketch, axis: float, top: float) -> None:
        """Add both ways from the same point to the sum."""
        inside, lane = top + GAP, axis + self.lane
        middle = inside + self._ways + GAP + SUM_RADIUS
        sketch.line((axis, top), (axis, inside), arrow=self.body.begins_with_box)
        self.body.place(sketch, axis, inside)
        end = (axis, middle - SUM_RADIUS)
        sketch.line((axis, inside + self.body.height), end, arrow=True)
        begins_with_box = self.shortcut.begins_with_box
        sketch.line((axis, top), (lane, top), (lane, inside), arrow=begins_with_box)
        self.shortcut.place(sketch, lane, inside)
        below, end = (lane, inside + self.shortcut.height), (axis + SUM_RADIUS, middle)
        sketch.line(below, (lane, middle), end, arrow=True)
        sketch.sums.append((axis, middle))
        if self.behind.parts:
            below = (axis, middle + SUM_RADIUS)
            sketch.line(below, (axis, below[1] + GAP), arrow=self.behind.begins_with_box)
            self.behind.place(sketch, axis, below[1] + GAP)


class Fork(Part):
    """Branches beside each other, and the bar where what they give is joined."""

    def __init__(self, branches: Sequence[Way]) -> None:
        self.branches = branches

    def measure(self, width: float) -> None:
        """Set the size; the axis is in the middle."""
        for branch in self.branches:
            branch.measure(width)
        free = BETWEEN * (len(self.branches) - 1)
        total = sum(branch.left + branch.right for branch in self.branches) + free
        self.left = self.right = total / 2
        self.height = GAP + max(branch.height for branch in self.branches) + GAP

    def place(self, sketch: Sketch, axis: float, top: float) -> None:
        """Add the branches from the left to the right."""
        inside, bar, axes = top + GAP, top + self.height, []
        x = axis - self.left
        for branch in self.branches:
            x += branch.left
            axes.append(x)
            sketch.line((axis, top), (x, top), (x, inside), arrow=branch.begins_with_box)
            branch.place(sketch, x, inside)
            sketch.line((x, inside + branch.height), (x, bar), arrow=True)
            x += branch.right + BETWEEN
        sketch.bars.append((min(axis, axes[0]), bar, max(axis, axes[-1])))


def graph_of(
    network: Layer,
    input_dim: Shape,
    shapes: Mapping[str, Shape],
    learned: Sequence[str],
    depth: int | None,
) -> list[Part]:
    """Return the parts that follow each other, from the input on, with their sizes measured.

    Parameters
    ----------
    network : layer
        What holds the layers.
    input_dim : tuple of int
        Shape of one input.
    shapes : mapping of str to tuple of int
        The shapes of the layers' outputs, by the paths of `fastconv._structure.paths`.
    learned : sequence of str
        The attributes of layers that are parameters.
    depth : int or None
        How many layers around a layer are opened, so that it is seen; by default all.
    """
    builder = _Builder(shapes, learned)
    builder.groups.append(Group(Strip(None, "input", _written(input_dim))))
    parts = [builder.groups[0], *builder.parts(named_children(network), "", depth)]
    width = max(strip.width for group in builder.groups for strip in group.strips)
    for part in parts:
        part.measure(width)
    return parts


class _Builder:
    """Makes parts of layers."""

    def __init__(self, shapes: Mapping[str, Shape], learned: Sequence[str]) -> None:
        self.shapes, self.learned = shapes, learned
        self.groups: list[Group] = []

    def parts(self, layers: Sequence[tuple[str, Any]], outer: str, depth: int | None) -> list[Part]:
        """Return the parts of layers that are called one after the other."""
        parts: list[Part] = []
        before = None
        for name, layer in layers:
            path = f"{outer}{name}"
            shape, last = self.shapes.get(path), parts[-1] if parts else None
            if depth != 0 and _is_known(layer) and children_of(layer):
                inner = None if depth is None else depth - 1
                parts.append(self._frame(name, layer, path, inner))
            elif shape == before and isinstance(last, Group) and _sticks(layer):
                last.strips.append(self._strip(name, layer, ""))
            else:
                parts.append(self._group(name, layer, _written(shape)))
            before = shape
        return parts

    def _frame(self, name: str, layer: Any, path: str, depth: int | None) -> Frame:
        """Open a layer that holds others."""
        names = {id(child): child_name for child_name, child in named_children(layer)}
        shape, inner = _written(self.shapes.get(path)), Part()
        if isinstance(layer, Residual):
            body, shortcut = (
                self._way(way, names, path, depth) for way in (layer.body, layer.shortcut)
            )
            behind = Way([])
            if layer.activation is not None:
                activation = names[id(layer.activation)]
                if children_of(layer.activation):
                    last = [(activation, layer.activation)]
                    behind = Way(self.parts(last, f"{path}.", depth))
                else:  # Its output is the whole's: the residual need not call it by itself.
                    behind = Way([self._group(activation, layer.activation, shape)])
            inner = Sum(body, shortcut, behind)
        elif isinstance(layer, Concatenation):
            inner = Fork([self._way(way, names, path, depth) for way in layer.children])
        else:
            inner = Way(self.parts(named_children(layer), f"{path}.", depth))
        return Frame(name, shape, inner)

    def _way(
        self, way: Layer | None, names: Mapping[int, str], path: str, depth: int | None
    ) -> Way:
        """Return the parts of one of the ways through a layer, which may be the identity."""
        if way is None:
            return Way([])
        name = names[id(way)]
        if type(way) is Chain:
            return Way(self.parts(named_children(way), f"{path}.{name}.", depth), name)
        return Way(self.parts([(name, way)], f"{path}.", depth))

    def _group(self, name: str, layer: Any, shape: str) -> Group:
        group = Group(self._strip(name, layer, shape))
        self.groups.append(group)
        return group

    def _strip(self, name: str, layer: Any, shape: str) -> Strip:
        """Describe a layer, with all those within it."""
        inside = list(walk(layer))
        parameters = sum(
            getattr(part, name).size for part in inside for name in held(part, self.learned)
        )
        detail = window_of(layer)[0]
        if isinstance(layer, Affine):
            detail = "{} to {}".format(*layer.W.shape)
        elif len(inside) > 1:
            count = sum(not children_of(part) for part in inside)
            detail = "1 layer" if count == 1 else f"{count} layers"
        return Strip(layer, name, shape, detail, f"{parameters:,}" if parameters else "")


def _sticks(layer: Any) -> bool:
    """Tell whether a layer works on each number, or each channel, by itself."""
    return not (held(layer, ["W"]) or any(window_of(layer)) or children_of(layer))


def _is_known(layer: Any) -> bool:
    """Tell whether it is known how a layer calls those within it."""
    return isinstance(layer, (Residual, Concatenation)) or is_chain(layer)


def _written(shape: Shape | None) -> str:
    """Write the shape of an output, if it is known."""
    return "" if shape is None else str(tuple(shape)).replace(",)", ")")
