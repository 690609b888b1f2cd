"""Images, and targets of a regression, with zero mean and unit variance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from fastconv._arrays import Array
from fastconv.sklearn._images import BLOCK

__all__ = ["Standardization"]


@dataclass(frozen=True)
class Standardization:
    """The mean and the standard deviation of every channel, or of every output.

    A channel that is the same everywhere is only shifted.
    """

    mean: Array
    scale: Array

    @classmethod
    def none(cls, channels: int) -> Self:
        """Return the one that changes nothing."""
        return cls(np.zeros(channels), np.ones(channels))

    @classmethod
    def of(cls, arrays: Array, sample_weight: Array | None) -> Self:
        """Measure arrays (n, channels) or images (n, channels, H, W).

        Deviations are summed up in a second pass and in float64: squares of numbers far from zero
        would lose them. Images are visited in blocks, so that no copy of all is needed.
        """
        axes = tuple(range(2, arrays.ndim))
        means = np.concatenate(
            [block.mean(axis=axes, dtype=np.float64) for block in _blocks(arrays)]
        )
        mean = np.average(means, axis=0, weights=sample_weight)
        centre = mean.reshape(-1, *[1] * len(axes))
        squares = np.concatenate(
            [((block - centre) ** 2).mean(axis=axes) for block in _blocks(arrays)]
        )
        scale = np.sqrt(np.average(squares, axis=0, weights=sample_weight))
        tiny = 10 * np.finfo(arrays.dtype).eps * np.abs(mean)
        return cls(mean, np.where(scale <= tiny, 1.0, scale))

    def apply(self, arrays: Array) -> Array:
        """Return standardised arrays (n, channels, ...) of the same dtype."""
        shape = (-1, *[1] * (arrays.ndim - 2))
        mean, scale = (part.astype(arrays.dtype).reshape(shape) for part in (self.mean, self.scale))
        standardized: Array = (arrays - mean) / scale
        return standardized

    def undo(self, arrays: Array) -> Array:
        """Return what `apply` made these arrays (n, channels) of."""
        mean, scale = (part.astype(arrays.dtype) for part in (self.mean, self.scale))
        original: Array = arrays * scale + mean
        return original


def _blocks(arrays: Array) -> list[Array]:
    """Cut arrays into views of some of them."""
    return [arrays[first : first + BLOCK] for first in range(0, len(arrays), BLOCK)]
