"""What layers a network holds, under which names, and which shapes they give."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import wraps
from typing import Any

import numpy as np

from fastconv._arrays import Shape
from fastconv._layer import Layer, children_of

__all__ = [
    "held",
    "kind",
    "named_children",
    "no_such_layer",
    "numbered",
    "outputs_noted",
    "paths",
    "replaced",
    "shapes_seen",
]

SHORT_NAMES = {
    **{"Convolution": "Conv", "Pooling": "Pool"},
    **{"Convolution1D": "Conv", "Pooling1D": "Pool", "AveragePooling1D": "AveragePooling"},
}
"""The classes of layers whose layers have a shorter name in networks, as in the textbook.

Layers for signals are called like those for images, because no network has both.
"""


def kind(layer: Layer) -> str:
    """Return what the name of a layer begins with."""
    name = type(layer).__name__
    return SHORT_NAMES.get(name, name)


def numbered(kind: str, number: int) -> str:
    """Return the name of a kind's layer: ``"Relu61"`` is a Relu, and ``"Relu6_1"`` a Relu6."""
    return f"{kind}_{number}" if kind[-1].isdigit() else f"{kind}{number}"


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
        children.append((numbered(name, numbers[name]), child))
    return children


def paths(layer: Any, outer: str = "") -> Iterator[tuple[str, Any]]:
    """Yield all layers within a layer with their paths, such as ``"Conv1"``, ``"Fork1.Conv1"``."""
    for name, child in named_children(layer):
        yield f"{outer}{name}", child
        yield from paths(child, f"{outer}{name}.")


def no_such_layer(name: str, known: Iterable[str]) -> str:
    """Say that there is no layer of this name, and which there are near what was meant."""
    outer, dot, _ = name.partition(".")
    within = [path for path in known if path.startswith(f"{outer}.")]
    if dot and within:
        return f"the network has no layer {name!r}, within {outer} only {', '.join(within)}"
    outermost = [path for path in known if "." not in path]
    return f"the network has no layer {name!r}, only {', '.join(outermost)}"


@contextlib.contextmanager
def shapes_seen(name: str, layer: Layer) -> Iterator[dict[str, Shape]]:
    """Collect the shapes of the outputs of all layers within a layer, by their paths."""
    shapes: dict[str, Shape] = {}

    def note(path: str, output: Any) -> None:
        shapes[path] = np.shape(output)[1:]

    with outputs_noted(dict(paths(layer, f"{name}.")), note):
        yield shapes


@contextlib.contextmanager
def outputs_noted(layers: Mapping[str, Any], note: Callable[[str, Any], object]) -> Iterator[None]:
    """Call ``note(path, output)`` whenever a layer of the mapping has computed its output.

    Only a layer itself knows how it calls those within. So while the block runs, each of the layers
    has a `forward` that also passes its result on to `note`.
    """
    with contextlib.ExitStack() as stack:
        for path, layer in layers.items():
            if hasattr(layer, "__dict__"):
                forward = _looked_at(layer.forward, path, note)
                stack.enter_context(replaced(layer, "forward", forward))
        yield


@contextlib.contextmanager
def replaced(layer: Any, method: str, function: Callable[..., Any]) -> Iterator[None]:
    """Let a layer have another function for a method while the block runs."""
    own = vars(layer)
    before = own.get(method)
    setattr(layer, method, function)
    try:
        yield
    finally:
        if before is None:
            delattr(layer, method)
        else:
            setattr(layer, method, before)


def _looked_at(forward: Any, path: str, note: Callable[[str, Any], object]) -> Any:
    @wraps(forward)
    def looking(*args: Any, **kwargs: Any) -> Any:
        result = forward(*args, **kwargs)
        note(path, result)
        return result

    return looking
