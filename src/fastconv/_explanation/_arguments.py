"""What the functions that explain networks, or draw them, read their arguments with."""

from __future__ import annotations

import copy
import operator
from collections.abc import Collection
from typing import SupportsIndex

import numpy as np
import numpy.typing as npt

from fastconv._arrays import NUMBERS, Array, read
from fastconv._errors import argument_error, shown
from fastconv._structure import no_such_layer
from fastconv.models import Sequential

__all__ = [
    "check_layer",
    "check_network",
    "finite",
    "images_of",
    "place_of",
    "up_to",
]


def finite(name: str, value: npt.ArrayLike) -> Array:
    """Read an array of finite numbers; float16 becomes float32, which all drawing takes."""
    array = read(value, name, NUMBERS)
    if not np.isfinite(array).all():
        raise argument_error(ValueError, f"{name} must be finite, got NaN or infinity")
    return array.astype(np.result_type(array.dtype, np.float32), copy=False)


def place_of(name: str, value: SupportsIndex, size: int) -> int:
    try:
        place = operator.index(value)
    except TypeError:
        raise argument_error(TypeError, f"{name} must be an int, got {shown(value)}") from None
    if not 0 <= place < size:
        raise argument_error(ValueError, f"{name} must be from 0 to {size - 1}, got {place}")
    return place


def images_of(network: Sequential, image: npt.ArrayLike) -> Array:
    """Read an image of a network's, with or without the batch's axis, as a batch of one."""
    array = finite("image", image)
    shapes = network.input_dim, (1, *network.input_dim)
    if array.shape not in shapes:
        raise argument_error(
            ValueError, f"image must have shape {shapes[0]} or {shapes[1]}, got {array.shape}"
        )
    return array.reshape(shapes[1])


def check_network(network: Sequential) -> None:
    """Raise a TypeError unless it is a network."""
    if not isinstance(network, Sequential):
        raise argument_error(
            TypeError, f"network must be a Sequential, got {type(network).__name__}"
        )


def check_layer(network: Sequential, layer: str, known: Collection[str]) -> None:
    """Raise an error unless a network has a layer of this name among those that are known."""
    if not isinstance(layer, str):
        raise argument_error(TypeError, f"layer must be a string, got {shown(layer)}")
    if layer not in known:
        raise argument_error(ValueError, no_such_layer(layer, known))


def up_to(network: Sequential, layer: str | None = None) -> Sequential:
    """Return a network that ends with a copy of one of the outermost layers, by default the last.

    What layers keep from a forward pass for the backward pass belongs to the user, who may be
    between the two. So the layers are copies, which share no array but the parameters.
    """
    names = list(network.layers)
    count = len(names) if layer is None else names.index(layer) + 1
    layers = list(network.layers.values())[:count]
    # deepcopy takes what its memo holds under an object's identity for the object's copy.
    memo = {id(array): array for array in network.state.values()}
    return Sequential(network.input_dim, copy.deepcopy(layers, memo), dtype=network.dtype, seed=0)
