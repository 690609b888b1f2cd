"""What training needs of a network, be it one of `fastconv.models` or the textbook's."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any, Protocol

from fastconv._arrays import Array
from fastconv._layer import walk

__all__ = ["Network", "generators_of", "state_of"]


class Network(Protocol):
    """A network that can be trained."""

    params: Any
    last_layer: Any

    def predict(self, x: Any) -> Any:
        """Compute scores."""

    def gradient(self, x: Any, t: Any) -> Mapping[str, Array]:
        """Compute the gradients of the loss, which is then ``last_layer.loss``."""

    def accuracy(self, x: Any, t: Any) -> float:
        """Compute the fraction of the inputs that is classified correctly."""


def state_of(network: Network) -> MutableMapping[str, Array]:
    """Return all arrays that make a network: the parameters, and what else its layers keep."""
    state: MutableMapping[str, Array] = getattr(network, "state", network.params)
    return state


def generators_of(network: Network) -> list[Any]:
    """List the random generators of a network and of all its layers; some may be listed twice."""
    layers = getattr(network, "layers", ())
    layers = layers.values() if isinstance(layers, Mapping) else layers
    parts = [part for layer in layers for part in walk(layer)]
    holders = [getattr(holder, "rng", None) for holder in (network, *parts)]
    return [rng for rng in holders if rng is not None]
