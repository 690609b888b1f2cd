"""What the functions that draw read their arguments with."""

from __future__ import annotations

import copy
import operator
from collections.abc import Sequence
from typing import SupportsIndex

import numpy as np
import numpy.typing as npt

from fastconv._arrays import NUMBERS, Array, read
from fastconv._errors import argument_error, shown
from fastconv.models import Sequential

__all__ = ["check_titles", "finite", "place_of", "up_to"]


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


def check_titles(titles: Sequence[object], count: int, what: str) -> None:
    try:
        number_of_titles = len(titles)
    except TypeError:
        raise argument_error(TypeError, f"titles must be a sequence, got {shown(titles)}") from None
    if number_of_titles not in (0, count):
        raise argument_error(ValueError, f"got {number_of_titles} titles for {count} {what}")


def up_to(network: Sequential, layer: str) -> Sequential:
    """Return a network that ends with a copy of the layer of this name.

    What layers keep from a forward pass for the backward pass belongs to the user, who may be
    between the two. So the layers are copies, which share no array but the parameters.
    """
    if not isinstance(network, Sequential):
        raise argument_error(
            TypeError, f"network must be a Sequential, got {type(network).__name__}"
        )
    names = list(network.layers)
    if layer not in names:
        raise argument_error(
            ValueError, f"the network has no layer {layer!r}, only {', '.join(names)}"
        )
    layers = list(network.layers.values())[: names.index(layer) + 1]
    # deepcopy takes what its memo holds under an object's identity for the object's copy.
    memo = {id(array): array for array in network.state.values()}
    return Sequential(network.input_dim, copy.deepcopy(layers, memo), dtype=network.dtype, seed=0)
