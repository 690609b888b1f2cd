"""The well-known 3x3 filters of image processing, and how their responses become pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastconv._arguments import Padding
from fastconv.convolution import conv2d

__all__ = [
    "FILTERS",
    "around_gray",
    "as_pixels",
    "convolve",
    "is_around_zero",
    "response_as_pixels",
]

Array = NDArray[Any]

FILTERS = {
    "horizontal-edges": ((-1, -2, -1), (0, 0, 0), (1, 2, 1)),
    "vertical-edges": ((-1, 0, 1), (-2, 0, 2), (-1, 0, 1)),
    "laplacian": ((0, 1, 0), (1, -4, 1), (0, 1, 0)),
    "sharpen": ((0, -1, 0), (-1, 5, -1), (0, -1, 0)),
    "blur": ((1 / 16, 1 / 8, 1 / 16), (1 / 8, 1 / 4, 1 / 8), (1 / 16, 1 / 8, 1 / 16)),
    "emboss": ((-2, -1, 0), (-1, 1, 1), (0, 1, 2)),
}

ROUNDING = 1e-6
"""Weights whose sum is at most this part of the sum of their magnitudes cancel, up to rounding."""


def convolve(image: Array, kernel: Array, padding: Padding, pad_mode: str) -> Array:
    """Convolve each channel of an image (C, H, W) by itself."""
    return conv2d(image[:, None], kernel[None, None], padding=padding, pad_mode=pad_mode)[:, 0]


def is_around_zero(kernel: Array) -> bool:
    """Tell whether a filter gives as much below 0 as above: its weights sum to 0."""
    return bool(abs(kernel.sum()) <= ROUNDING * np.abs(kernel).sum())


def as_pixels(pixels: Array, low: float, high: float, dtype: DTypeLike = np.uint8) -> Array:
    """Map the range `low` to `high` to that of an integer dtype; numbers beyond are clipped."""
    largest = np.iinfo(dtype).max
    scale = largest / (high - low) if high > low else 0
    return np.rint(np.clip((pixels - low) * scale, 0, largest)).astype(dtype)


def response_as_pixels(response: Array, kernel: Array, low: float, high: float) -> Array:
    """Make visible what a filter gave for an image with pixels from `low` to `high`.

    Filters whose weights sum to 0 give as much below 0 as above, see `around_gray`. What all others
    give is pixels again.
    """
    return around_gray(response) if is_around_zero(kernel) else as_pixels(response, low, high)


def around_gray(
    response: Array, magnitude: float | None = None, dtype: DTypeLike = np.uint8
) -> Array:
    """Draw 0 as a mid-gray, 128 in 8 bits, and the largest magnitude as 0 or 255.

    The magnitude is by default that of the response itself, and it is given for a part of one.
    """
    largest = np.iinfo(dtype).max
    gray = (largest + 1) // 2
    magnitude = float(np.abs(response).max()) if magnitude is None else magnitude
    if magnitude == 0:
        return np.full(response.shape, gray, dtype)
    return as_pixels(gray + response * ((largest - gray) / magnitude), 0, largest, dtype)
