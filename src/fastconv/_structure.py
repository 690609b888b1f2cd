"""What layers a network holds, under which names, and which shapes they give."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from functools import wraps
from typing import Any

import numpy as np

from fastconv._arrays import Shape
from fastconv._layer import Layer, children_of

__all__ = ["held", "kind", "named_children", "paths", "shapes_seen"]

SHORT_NAMES = {"Convolution": "Conv", "Pooling": "Pool"}
"""The classes of layers whose layers have a shorter name in networks, as in the textbook."""


def kind(layer: Layer) -> str:
    """Return what the name of a layer begins with."""
    name = type(layer).__name__
    return SHORT_NAMES.get(name, name)


def held(layer: Layer, attributes: Iterable[str]) -> list[str]:
    """List those of the attributes in which a layer holds an array."""
    return [name for name in attributes if isinstance(getattr(layer, name, None), np.ndarray)]


def named_children(layer: Any) -> list[tuple[str, Any]]:
    """List the layers that a layer holds itself, with names that count each kind from 1."""
    numbers: dict[str, int] = {}
    children = []
    for child in children_of(layer):
        name = kind(child)
        numbers[name] = numbers.get(name, 0) + 1
        children.append((f"{name}{numbers[name]}", child))
    return children


def paths(layer: Any, outer: str = "") -> Iterator[tuple[str, Any]]:
    """Yield all layers within a layer with their paths, such as ``"Conv1"``, ``"Fork1.Conv1"``."""
    for name, child in named_children(layer):
        yield f"{outer}{name}", child
        yield from paths(child, f"{outer}{name}.")


@contextlib.contextmanager
def shapes_seen(name: str, layer: Layer) -> Iterator[dict[str, Shape]]:
    """Collect the shapes of the outputs of all layers within a layer, by their paths.

    Only the layer itself knows how it calls the layers within. So while the block runs, each of
    them has a `forward` that also notes the shape of its result.
    """
    shapes: dict[str, Shape] = {}
    seen = [(path, part) for path, part in paths(layer, f"{name}.") if hasattr(part, "__dict__")]
    before = [vars(part).get("forward") for _, part in seen]
    for path, part in seen:
        part.forward = _looked_at(part.forward, path, shapes)
    try:
        yield shapes
    finally:
        for (_, part), forward in zip(seen, before):
            if forward is None:
                del part.forward
            else:
                part.forward = forward


def _looked_at(forward: Any, path: str, shapes: dict[str, Shape]) -> Any:
    @wraps(forward)
    def looking(*args: Any, **kwargs: Any) -> Any:
        result = forward(*args, **kwargs)
        shapes[path] = np.shape(result)[1:]
        return result

    return looking
