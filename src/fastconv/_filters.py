"""The well-known 3x3 filters of image processing, and pictures of what they respond to."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv._window import Padding
from fastconv.convolution import conv2d

__all__ = ["FILTERS", "as_bytes", "convolve", "response_as_bytes"]

Array = NDArray[Any]

FILTERS = {
    "horizontal-edges": ((-1, -2, -1), (0, 0, 0), (1, 2, 1)),
    "vertical-edges": ((-1, 0, 1), (-2, 0, 2), (-1, 0, 1)),
    "laplacian": ((0, 1, 0), (1, -4, 1), (0, 1, 0)),
    "sharpen": ((0, -1, 0), (-1, 5, -1), (0, -1, 0)),
    "blur": ((1 / 16, 1 / 8, 1 / 16), (1 / 8, 1 / 4, 1 / 8), (1 / 16, 1 / 8, 1 / 16)),
    "emboss": ((-2, -1, 0), (-1, 1, 1), (0, 1, 2)),
}

MIDDLE_GRAY = 128
ROUNDING = 1e-6  # of the weights' magnitudes: what their sum may be off, in float32


def convolve(image: Array, kernel: Array, padding: Padding, pad_mode: str) -> Array:
    """Convolve each channel of an image (C, H, W) by itself."""
    return conv2d(image[:, None], kernel[None, None], padding=padding, pad_mode=pad_mode)[:, 0]


def as_bytes(pixels: Array, low: float, high: float) -> NDArray[np.uint8]:
    """Map the range `low` to `high` to 0 to 255, and what is beyond it to its ends."""
    scale = 255 / (high - low) if high > low else 0
    return np.rint(np.clip((pixels - low) * scale, 0, 255)).astype(np.uint8)


def response_as_bytes(response: Array, kernel: Array, low: float, high: float) -> NDArray[np.uint8]:
    """Make visible what a filter gave for an image with pixels from `low` to `high`.

    Filters whose weights sum to 0 give as much below 0 as above: 0 becomes a mid-gray, 128, and
    the largest magnitude 255 or 1. What all others give is pixels again.
    """
    if abs(kernel.sum()) > ROUNDING * np.abs(kernel).sum():
        return as_bytes(response, low, high)
    largest = np.abs(response).max()
    if largest == 0:
        return np.full(response.shape, MIDDLE_GRAY, np.uint8)
    return as_bytes(MIDDLE_GRAY + response * ((255 - MIDDLE_GRAY) / largest), 0, 255)
