"""The page as one file, with pictures and a network in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastconv._arrays import Array
from fastconv.explore._catalog import Picture
from fastconv.explore._network import SequentialView, as_bytes
from fastconv.explore._page import single_page
from fastconv.explore._protocol import Refusal, packed
from fastconv.layers import (
    Affine,
    Convolution,
    Dropout,
    Flatten,
    GlobalAveragePooling,
    Pooling,
    Relu,
)

__all__ = ["saved_page"]

MOST_IMAGES = 400
"""How many images of the data set the page holds."""


def saved_page(pictures: Sequence[Picture], view: SequentialView) -> str:
    """Return a page that works from a file.

    Parameters
    ----------
    pictures : sequence of Picture
        What the page begins with.
    view : SequentialView
        The network, a chain of the layers that the page can compute.

    Raises
    ------
    Refusal
        If the page cannot compute one of the layers.
    """
    arrays = {f"picture{i}": picture.pixels for i, picture in enumerate(pictures)}
    # All layers are read first: what excites and maximises their channels takes long to find.
    portable = [_portable(name, layer) for name, layer in view.network.layers.items()]
    view = SequentialView(view.network, view.images[:MOST_IMAGES], view.title, view.before)
    for i, (settings, weights) in enumerate(portable):
        parts = {**weights, **_knowledge(view, i, settings)}
        arrays |= {f"{key}{i}": np.asarray(array) for key, array in parts.items()}
    arrays["images"] = as_bytes(view.images)
    settings = {
        "pictures": [{"name": picture.name, "high": picture.high} for picture in pictures],
        "network": view.description(),
        "layers": [settings for settings, _ in portable],
    }
    return single_page("fastconv explore", packed(settings, arrays))


def _portable(name: str, layer: Any) -> tuple[dict[str, Any], dict[str, Array]]:
    """Describe a layer as the page computes it."""
    settings: dict[str, Any] = {"name": name, "kind": type(layer).__name__}
    if type(layer) in (Relu, Flatten, Dropout, GlobalAveragePooling):
        return settings, {}
    if type(layer) is Affine:
        b = np.zeros(layer.W.shape[1]) if layer.b is None else layer.b
        return settings, {"W": layer.W.astype(np.float32), "b": b.astype(np.float32)}
    if type(layer) is Pooling and type(layer.stride) is int and layer.pad == 0:
        return settings | {"size": list(layer.kernel_size), "stride": layer.stride}, {}
    if type(layer) is Convolution:
        whole = type(layer.stride) is int and type(layer.pad) is int
        if whole and layer.dilation == layer.groups == 1 and layer.pad_mode == "constant":
            b = np.zeros(len(layer.W)) if layer.b is None else layer.b
            weights = {"W": layer.W.astype(np.float32), "b": b.astype(np.float32)}
            return settings | {"stride": layer.stride, "pad": layer.pad}, weights
    raise Refusal(
        f"a saved page cannot compute {name}, {layer!r}: only convolutions with one stride and "
        "padding, Relu, maximum pooling without padding, GlobalAveragePooling, Affine, Flatten and "
        "Dropout"
    )


def _knowledge(view: SequentialView, i: int, settings: dict[str, Any]) -> dict[str, Array]:
    """Compute what the page cannot: what excites the channels of a layer, and maximises them."""
    layer = view.layers[i]
    places, values = view.exciting(layer.name)
    found = {"best": places.astype(np.int32), "bestValues": values.astype(np.float32)}
    for key, weights in zip(("filter", "filterBefore"), view.filters(layer.name)):
        if weights is not None:
            found[key] = weights.astype(np.float32)
    settings["of"] = view.maximized(layer.name)
    if settings["of"] == layer.name:
        ascents = [view.ascent(layer.name, channel) for channel in range(layer.shape[0])]
        found["maximum"] = np.stack([image for image, *_ in ascents]).astype(np.float32)
        found["activations"] = np.array([[steps[0], steps[-1]] for _, steps, _ in ascents])
    return found
