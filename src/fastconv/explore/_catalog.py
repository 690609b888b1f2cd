"""The pictures that the page begins with: packaged digits, drawn patterns, and the user's files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count

import numpy as np

from fastconv._arrays import Array
from fastconv.datasets import packaged_digits

__all__ = ["Picture", "digits", "distinct", "patterns", "resampled"]

PATTERN_SIZE = 128
MOST_SIDE = 1024
"""The most rows and columns of a picture on the page; larger ones are shrunk."""
DIGIT_INK = 16
"""The value of a digit's pixel that is all ink."""


@dataclass(frozen=True)
class Picture:
    """A picture with a name."""

    name: str
    pixels: Array
    """Of uint8 and shape (C, H, W), where C is 1 or 3."""
    high: float = 255
    """The value of a pixel that is as bright as can be."""


def digits() -> list[Picture]:
    """Give one packaged digit of each class."""
    images, labels = packaged_digits()
    found = [int(np.flatnonzero(labels == digit)[1]) for digit in range(10)]
    return [
        Picture(f"Digit {digit}", images[place].astype(np.uint8), DIGIT_INK)
        for digit, place in enumerate(found)
    ]


def patterns() -> list[Picture]:
    """Draw pictures that show what filters do: rings, a checkerboard, shapes, a ramp."""
    rows, columns = np.mgrid[:PATTERN_SIZE, :PATTERN_SIZE] - (PATTERN_SIZE - 1) / 2
    radius = np.hypot(rows, columns)
    # The frequency of a zone plate grows with the radius, up to half a cycle a pixel at its edge.
    rings = 127.5 + 127.5 * np.cos(np.pi * radius**2 / PATTERN_SIZE)
    checkerboard = 255 * ((rows // 16 + columns // 16) % 2)
    ramp = np.broadcast_to(np.linspace(0, 255, PATTERN_SIZE), rows.shape)
    shapes = np.full(rows.shape, 40.0)
    shapes[np.hypot(rows + 26, columns + 26) < 24] = 220
    shapes[(abs(rows + 26) < 20) & (abs(columns - 28) < 20)] = 150
    shapes[(rows > 8) & (rows < 52) & (abs(columns + 26) < (rows - 8) / 1.8)] = 190
    shapes[abs(np.hypot(rows - 30, columns - 28) - 18) < 4] = 255
    drawn = {"Shapes": shapes, "Rings": rings, "Checkerboard": checkerboard, "Ramp": ramp}
    return [
        Picture(name, np.rint(pixels).astype(np.uint8)[np.newaxis])
        for name, pixels in drawn.items()
    ]


def distinct(pictures: Sequence[Picture]) -> list[Picture]:
    """Make names distinct by numbers, as in "a.png (2)": the page knows pictures by name."""
    taken: set[str] = set()
    result = []
    for picture in pictures:
        names = (f"{picture.name} ({i})" if i > 1 else picture.name for i in count(1))
        name = next(name for name in names if name not in taken)
        taken.add(name)
        result.append(replace(picture, name=name))
    return result


def resampled(image: Array, shape: Sequence[int]) -> Array:
    """Interpolate an image (..., H, W) linearly to another height and width.

    Where it shrinks, the triangle of the interpolation is as wide as two new pixels, so that all
    old ones count.
    """
    down, across = (_weights(old, new) for old, new in zip(image.shape[-2:], shape))
    result: Array = down @ image @ across.T
    return result


def _weights(old: int, new: int) -> Array:
    """Return the weights (new, old) of old pixels for new ones, which cover the same area."""
    scale = old / new
    support = max(scale, 1)
    centres = (np.arange(new) + 0.5) * scale - 0.5
    weights = np.maximum(0, 1 - abs(np.arange(old) - centres[:, np.newaxis]) / support)
    normed: Array = weights / weights.sum(axis=1, keepdims=True)
    return normed
