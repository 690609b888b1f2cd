"""What the network view shows: feature maps, filters, and what channels respond to.

`NetworkView` answers the page's questions. What it needs of a network, two kinds of networks tell:
`SequentialView`, of this library, and `OnnxView` of `_onnx.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from fastconv._arrays import Array, Shape
from fastconv._errors import without_name
from fastconv._explanation import activation_ascent, class_activation_map
from fastconv._layer import children_of
from fastconv._structure import held
from fastconv.explore._catalog import resampled
from fastconv.explore._protocol import Refusal
from fastconv.layers import Affine, Convolution
from fastconv.layers._loss import softmax
from fastconv.models import Sequential
from fastconv.models._chain import LEARNED
from fastconv.models._receptive_field import receptive_field_of
from fastconv.models._summary import window_of

__all__ = ["LayerEntry", "NetworkView", "SequentialView", "in_range"]

MOST_MAPS = 64
"""The most channels of a layer that are drawn."""
THUMBNAIL = 48
"""The most rows and columns of the maps that are drawn side by side."""
BEST = 9
"""How many of the images that excite a channel most are shown."""
BATCH = 32
STEPS = 64
"""How many steps the search for the input that maximises a channel takes."""
GRAY = np.array([0.299, 0.587, 0.114])
"""The weights of red, green and blue in the brightness (Rec. 601)."""

Answer = tuple[dict[str, Any], dict[str, Array]]


@dataclass(frozen=True)
class LayerEntry:
    """A layer as the page lists it."""

    name: str
    shape: Shape
    """Of the output for one image: (C, H, W) or (C,)."""
    parameters: int = 0
    window: str = ""
    """Filters, padding and stride in words."""
    fields: Mapping[str, list[list[int]]] = field(default_factory=dict)
    """By the name of an earlier layer, or "input": size, stride and offset, (vertical, horizontal).

    Output (i, j) depends on the rows from ``offset[0] + i * stride[0]`` on, `size[0]` of them.
    """


class NetworkView(ABC):
    """Answers questions about a network.

    Parameters
    ----------
    shape : tuple of int
        Of one input, (C, H, W).
    images : ndarray of float32, shape (N, C, H, W)
        The data set in which exciting images are looked for.
    title : str
        What the network is.
    """

    can_maximize = False
    """Whether there are gradients, along which an input can be changed."""

    def __init__(self, shape: Shape, images: Array, title: str) -> None:
        self.shape, self.images, self.title = shape, images, title
        self.layers: Sequence[LayerEntry] = ()
        self._exciting = lru_cache(maxsize=64)(self._find_exciting)

    # ---- what the kinds of networks tell ---------------------------------------------------

    @abstractmethod
    def outputs(self, images: Array, names: Sequence[str]) -> dict[str, Array]:
        """Compute what layers give for images (N, C, H, W), by name."""

    @abstractmethod
    def filters(self, name: str) -> tuple[Array | None, Array | None]:
        """Return the filters of a layer, after and before the training, as far as known."""

    @abstractmethod
    def heat(self, image: Array) -> Array:
        """Return the class activation map of an image (1, C, H, W), or refuse."""

    def probabilities(self, scores: Array) -> Array:
        """Turn what the last layer gives for one image, (classes,), into probabilities."""
        return np.asarray(softmax(scores[np.newaxis])[0])

    def ascent(self, name: str, channel: int) -> tuple[Array, list[float], str]:
        """Find an input that maximises a channel; tell the activations and of which layer."""
        raise Refusal(
            "the input that maximises a channel needs gradients, which this network lacks"
        )

    # ---- answers ---------------------------------------------------------------------------

    def description(self) -> dict[str, Any]:
        """Describe the network as the page wants it first."""
        return {
            "title": self.title,
            "shape": list(self.shape),
            "canMaximize": self.can_maximize,
            "layers": [
                {
                    "name": layer.name,
                    "shape": list(layer.shape),
                    "parameters": layer.parameters,
                    "window": layer.window,
                    "fields": dict(layer.fields),
                }
                for layer in self.layers
            ],
        }

    def maps(self, settings: dict[str, Any], arrays: Mapping[str, Array]) -> Answer:
        """Compute all feature maps of an image, small enough to be drawn side by side."""
        image = self._input(settings, arrays)
        outputs = self.outputs(image, [layer.name for layer in self.layers])
        found = {"input": image[0].astype(np.float32)}
        for i, layer in enumerate(self.layers):
            found[f"map{i}"] = _small(outputs[layer.name][0])
        scores = outputs[self.layers[-1].name][0].ravel().astype(np.float64)
        found["scores"] = scores
        found["probabilities"] = self.probabilities(scores)
        try:
            found["heat"] = self.heat(image).astype(np.float32)
        except Refusal as error:
            return {"noHeat": str(error)}, found
        return {}, found

    def channel(self, settings: dict[str, Any], arrays: Mapping[str, Array]) -> Answer:
        """Tell all about a channel: its map of an image, its filter, and what excites it."""
        image = self._input(settings, arrays)
        layer, channel = self._place(settings)
        output = self.outputs(image, [layer.name])[layer.name][0, channel]
        found = {"map": np.atleast_2d(output).astype(np.float32)}
        for name, weights in zip(("filter", "filterBefore"), self.filters(layer.name)):
            if weights is not None:
                found[name] = weights[channel].astype(np.float32)
        places, values = self._exciting(layer.name)
        found["bestValues"] = values[:, channel].astype(np.float32)
        found["best"] = as_bytes(self.images[places[:, channel]])
        return {}, found

    def maximum(self, settings: dict[str, Any]) -> Answer:
        """Find the input that maximises a channel."""
        layer, channel = self._place(settings)
        image, activations, of = self.ascent(layer.name, channel)
        ends = [float(activations[0]), float(activations[-1])]
        return {"activations": ends, "of": of}, {"image": image.astype(np.float32)}

    def exciting(self, name: str) -> tuple[Array, Array]:
        """Return places (BEST, C) of the images that excite channels most, and how much."""
        return self._exciting(name)

    # ---- reading questions -----------------------------------------------------------------

    def _input(self, settings: Mapping[str, Any], arrays: Mapping[str, Array]) -> Array:
        """Turn a picture of any size into an input (1, C, H, W) of pixels from 0 to 1."""
        high, image = settings.get("high"), arrays.get("image")
        if not isinstance(high, (int, float)) or not 0 < high < 1e9:
            raise Refusal("high must be the value of the brightest pixel")
        if image is None or image.ndim != 3 or len(image) not in (1, 3):
            raise Refusal("image must be an array (C, H, W) of one or three channels")
        return in_range(image, high, self.shape)

    def _place(self, settings: Mapping[str, Any]) -> tuple[LayerEntry, int]:
        name, channel = settings.get("layer"), settings.get("channel")
        layer = next((layer for layer in self.layers if layer.name == name), None)
        if layer is None:
            raise Refusal("layer must be the name of a layer")
        if type(channel) is not int or not 0 <= channel < layer.shape[0]:
            raise Refusal(f"channel must be a whole number from 0 to {layer.shape[0] - 1}")
        return layer, channel

    def _find_exciting(self, name: str) -> tuple[Array, Array]:
        values = np.concatenate(
            [
                _largest(self.outputs(self.images[start : start + BATCH], [name])[name])
                for start in range(0, len(self.images), BATCH)
            ]
        )
        places = np.argsort(-values, axis=0, kind="stable")[:BEST]
        return places, np.take_along_axis(values, places, axis=0)


def in_range(image: Array, high: float, shape: Shape) -> Array:
    """Turn an image (C, H, W) into an input (1, *shape) of pixels from 0 to 1."""
    pixels = image.astype(np.float64) / high
    if shape[0] == 1 and len(pixels) == 3:
        pixels = np.tensordot(GRAY, pixels, 1)[np.newaxis]
    elif len(pixels) != shape[0]:
        pixels = np.resize(pixels, (shape[0], *pixels.shape[1:]))
    return resampled(pixels, shape[1:])[np.newaxis].astype(np.float32)


def as_bytes(images: Array) -> Array:
    """Turn pixels from 0 to 1 into bytes."""
    pixels: Array = np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8)
    return pixels


def _largest(outputs: Array) -> Array:
    largest: Array = outputs.max(axis=tuple(range(2, outputs.ndim)))
    return largest


def _small(output: Array) -> Array:
    """Leave out channels beyond those that are drawn, and rows and columns between others."""
    steps = (-(-size // THUMBNAIL) for size in output.shape[1:])
    chosen: Array = output[(slice(MOST_MAPS), *(slice(None, None, step) for step in steps))]
    return chosen.astype(np.float32)


class SequentialView(NetworkView):
    """Answers questions about a network of this library.

    Parameters
    ----------
    network : Sequential
        A network of images.
    images, title
        As in `NetworkView`.
    before : mapping of str to ndarray, optional
        The parameters before the training.
    """

    can_maximize = True

    def __init__(
        self,
        network: Sequential,
        images: Array,
        title: str,
        before: Mapping[str, Array] | None = None,
    ) -> None:
        super().__init__(network.input_dim, images, title)
        self.network = network
        self.before = before or {}
        shapes = {name: network._shapes[name] for name in network.layers}
        self.layers = [
            LayerEntry(
                name,
                shapes[name] if len(shapes[name]) in (1, 3) else (int(np.prod(shapes[name])),),
                _parameters(layer),
                ", padding ".join(filter(None, window_of(layer))),
                _fields(network, name),
            )
            for name, layer in network.layers.items()
        ]

    def outputs(self, images: Array, names: Sequence[str]) -> dict[str, Array]:
        """Compute what layers give; the user's network is not in training here."""
        return self.network.activations(images, names)

    def filters(self, name: str) -> tuple[Array | None, Array | None]:
        """Return the filters; of an `Affine`, the weights of each output as one row a channel."""
        layer = self.network.layers[name]
        if not isinstance(layer, (Convolution, Affine)):
            return None, None
        key = next((key for key, array in self.network.params.items() if array is layer.W), "")
        return self._as_filters(name, layer.W), self._as_filters(name, self.before.get(key))

    def _as_filters(self, name: str, weights: Array | None) -> Array | None:
        if weights is None or weights.ndim == 4:
            return weights
        names = list(self.network.layers)
        place = names.index(name)
        shape = self.network._shapes[names[place - 1]] if place else self.shape
        return weights.T.reshape(-1, *(shape if len(shape) == 3 else (1, 1, *shape)))

    def maximized(self, name: str) -> str:
        """Name the layer whose channel is maximised in the place of another's behind it."""
        names = list(self.network.layers)
        for earlier in reversed(names[: names.index(name) + 1]):
            if isinstance(self.network.layers[earlier], (Convolution, Affine)):
                is_same = self.network._shapes[earlier][0] == self.network._shapes[name][0]
                return earlier if is_same else name
        return name

    def heat(self, image: Array) -> Array:
        """Return the class activation map for the class with the largest score."""
        try:
            return class_activation_map(self.network, image)
        except ValueError as error:  # There are no maps, or no scores.
            raise Refusal(without_name(error)) from None

    def ascent(self, name: str, channel: int) -> tuple[Array, list[float], str]:
        """Climb from faint noise, by gradients of the last layer that learns.

        Behind a ReLU that lets nothing through, all gradients are 0.
        """
        of = self.maximized(name)
        image, activations = activation_ascent(self.network, of, channel, steps=STEPS, seed=0)
        return image, activations, of


def _parameters(layer: Any) -> int:
    """Count the parameters of a layer and of those within it."""
    own: int = sum(getattr(layer, name).size for name in held(layer, LEARNED))
    return own + sum(map(_parameters, children_of(layer)))


def _fields(network: Sequential, name: str) -> dict[str, list[list[int]]]:
    """Find the receptive fields of a layer in the input and in every layer before it."""
    names = list(network.layers)
    behind = names[: names.index(name) + 1]
    fields = {}
    for start in range(len(behind)):
        shape = network._shapes[names[start - 1]] if start else network.input_dim
        layers = {key: network.layers[key] for key in behind[start:]}
        try:
            found = receptive_field_of(layers, shape, name)
        except ValueError:  # It sees everything.
            continue
        fields[names[start - 1] if start else "input"] = [list(pair) for pair in found]
    return fields
