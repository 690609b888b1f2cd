"""The table of a network's layers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from math import prod
from typing import Any, NamedTuple

import numpy as np

from fastconv._arrays import Shape
from fastconv._layer import Layer, children_of
from fastconv._structure import held, named_children
from fastconv._text import table
from fastconv.layers import (
    AveragePooling,
    AveragePooling1D,
    Chain,
    Concatenation,
    Convolution,
    Convolution1D,
    Pooling,
    Pooling1D,
    Residual,
)
from fastconv.models._multiply_adds import multiply_adds

__all__ = ["summary_of", "window_of"]

HEADS = (
    *("layer", "filters", "padding", "activation shape", "activation size"),
    *("parameters", "multiply-adds"),
)


def summary_of(
    network: Layer, input_dim: Shape, shapes: Mapping[str, Shape], learned: Collection[str]
) -> str:
    """Return the table of a network's layers.

    Parameters
    ----------
    network : layer
        What holds the layers.
    input_dim : tuple of int
        Shape of one input.
    shapes : mapping of str to tuple of int
        Shapes of the layers' outputs, by the paths of `fastconv._structure.paths`.
    learned : collection of str
        The attributes of layers that are parameters.
    """
    rows = Rows(shapes, learned)
    rows.rows.append(Row("input", 0, shape=input_dim, parameters=0, multiply_adds=0))
    rows.add_inside(network, "", 0)
    total = Row(
        "total",
        0,
        parameters=sum(row.parameters or 0 for row in rows.rows),
        multiply_adds=sum(row.multiply_adds or 0 for row in rows.rows),
    )
    return table(HEADS, [row.cells() for row in (*rows.rows, total)], left=4)


class Row(NamedTuple):
    """A line of the table. What is None is not known, or not said there."""

    name: str
    depth: int
    filters: str = ""
    padding: str = ""
    shape: Shape | None = None
    parameters: int | None = None
    multiply_adds: int | None = None

    def cells(self) -> tuple[object, ...]:
        """Return what the columns show."""
        size = None if self.shape is None else prod(self.shape)
        cells = (
            *("  " * self.depth + self.name, self.filters, self.padding),
            *(self.shape, size, self.parameters, self.multiply_adds),
        )
        return tuple("" if cell is None else cell for cell in cells)


class Rows:
    """The lines of the layers within a layer.

    Layers that stand behind each other share a line if the later ones neither change the shape nor
    hold parameters or other layers.
    """

    def __init__(self, shapes: Mapping[str, Shape], learned: Collection[str]) -> None:
        self.shapes, self.learned = shapes, learned
        self.rows: list[Row] = []
        self.open = False
        """Whether the next layer may share the last line."""

    def add_inside(self, layer: Any, path: str, depth: int) -> None:
        """Add the layers that a layer at a path holds, those that compute side by side by title."""
        children = named_children(layer)
        names = {id(child): name for name, child in children}
        self.open = False
        if isinstance(layer, Residual):
            self._add_way("body", layer.body, names, path, depth)
            self._add_way("shortcut", layer.shortcut, names, path, depth)
            self.rows.append(Row("sum", depth, shape=self.shapes.get(path)))
            self.open = True
            # What a residual gives is what its activation gives, which it need not call as such.
            for name, child in children:
                if child is layer.activation:
                    self._add(name, child, _joined(path, name), depth, self.shapes.get(path))
            children = []
        elif isinstance(layer, Concatenation):
            for index, branch in enumerate(layer.children, 1):
                self._add_way(f"branch {index}", branch, names, path, depth)
            children = []
        for name, child in children:
            inner = _joined(path, name)
            self._add(name, child, inner, depth, self.shapes.get(inner))
        self.open = False

    def _add_way(
        self, title: str, way: Layer | None, names: Mapping[int, str], path: str, depth: int
    ) -> None:
        """Add the layers of one of the ways through a layer, one step deeper than its title."""
        is_chain = type(way) is Chain
        if way is None or (is_chain and not children_of(way)):
            self.rows.append(Row(f"{title}: identity", depth))
            return
        self.rows.append(Row(title, depth))
        self.open = False
        name = names[id(way)]
        if is_chain:
            self.add_inside(way, _joined(path, name), depth + 1)
        else:
            inner = _joined(path, name)
            self._add(name, way, inner, depth + 1, self.shapes.get(inner))

    def _add(self, name: str, layer: Any, path: str, depth: int, shape: Shape | None) -> None:
        """Add a layer, of which the output's shape may be known, and those within it."""
        filters = window_of(layer)
        parameters = sum(getattr(layer, attribute).size for attribute in held(layer, self.learned))
        products = None if shape is None else multiply_adds(layer, shape)
        is_plain = not (parameters or products or any(filters) or children_of(layer))
        if self.open and is_plain and shape is not None and shape == self.rows[-1].shape:
            last = self.rows[-1]
            self.rows[-1] = last._replace(name=f"{last.name} + {name}")
            return
        self.open = not children_of(layer)
        if self.open or parameters:
            self.rows.append(Row(name, depth, *filters, shape, parameters, products))
        else:  # A zero beside its name could be read as that of all layers within it.
            self.rows.append(Row(name, depth, shape=shape))
        if not self.open:
            self.add_inside(layer, path, depth + 1)


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def window_of(layer: Layer) -> tuple[str, str]:
    """Describe a layer's filters and its padding, as far as it has any."""
    if isinstance(layer, (Convolution, Convolution1D)):
        filters, *size = np.shape(layer.W)
        text = f"{filters} of {'x'.join(map(str, size))}"
        if layer.dilation != 1:
            text += f", dilation {layer.dilation}"
    elif isinstance(layer, (Pooling, Pooling1D, AveragePooling, AveragePooling1D)):
        text = "x".join(map(str, layer.kernel_size))
    else:
        return "", ""
    return text + ("" if layer.stride == 1 else f", stride {layer.stride}"), str(layer.pad)
