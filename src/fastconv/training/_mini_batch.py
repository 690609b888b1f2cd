"""What the images of a mini-batch, or of a part of one, teach a network."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastconv._arrays import Array
from fastconv._errors import argument_error
from fastconv.augment import Transform
from fastconv.training._network import Network

__all__ = ["gradients"]


def gradients(
    network: Network,
    images: Array,
    labels: Array,
    weights: Array | None,
    augment: Transform | None,
    rng: np.random.Generator,
) -> tuple[Mapping[str, Array], float]:
    """Augment images, and compute the gradients of their loss, and the loss."""
    if augment is not None:
        changed = augment(images, rng)
        if np.shape(changed) != images.shape:
            raise argument_error(
                ValueError,
                f"augment must return images of the same shape {images.shape}, got "
                f"{np.shape(changed)}",
            )
        images = changed
    gradient: Any = network.gradient
    if weights is not None:  # Networks that know no weights learn without them.
        gradient = functools.partial(gradient, sample_weight=weights)
    grads = gradient(images, labels)
    return grads, float(network.last_layer.loss)
