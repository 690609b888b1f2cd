"""What the kernel view shows: a convolution, a ReLU and a pooling of one picture, and gradients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import fastconv
from fastconv._arrays import Array
from fastconv._errors import without_name
from fastconv.explore._protocol import Refusal

__all__ = ["LIMITS", "PAD_MODES", "POOLS", "Settings", "backward", "forward"]

PAD_MODES = ("constant", "edge", "reflect", "symmetric", "wrap")
POOLS = ("none", "max", "average")
LIMITS: Mapping[str, tuple[int, int]] = {
    "stride": (1, 16),
    "dilation": (1, 16),
    "padding": (0, 32),
    "poolSize": (1, 16),
    "poolStride": (1, 16),
}
"""The least and the largest value of each number that can be set."""
MOST_KERNEL = 7
MOST_VALUES = 1 << 24
"""The most pixels of an image with its padding, and of a picture that is made of it."""


@dataclass(frozen=True)
class Settings:
    """How the picture is convolved, rectified and pooled."""

    stride: int = 1
    dilation: int = 1
    padding: int = 0
    pad_mode: str = "constant"
    relu: bool = True
    pool: str = "max"
    pool_size: int = 2
    pool_stride: int = 2

    @classmethod
    def read(cls, settings: Mapping[str, Any]) -> Settings:
        """Check what a request says.

        Raises
        ------
        Refusal
            If a setting is missing, unknown, or has another value than those that there are.
        """
        names = ("stride", "dilation", "padding", "padMode", "relu", "pool")
        if settings.keys() != set(names):
            raise Refusal(f"settings must be {', '.join(names)}, got {', '.join(settings)[:200]}")
        pool = settings["pool"]
        if not isinstance(pool, dict) or pool.keys() != {"kind", "size", "stride"}:
            raise Refusal("pool must have a kind, a size and a stride")
        if type(settings["relu"]) is not bool:
            raise Refusal("relu must be true or false")
        return cls(
            _whole("stride", settings["stride"]),
            _whole("dilation", settings["dilation"]),
            _whole("padding", settings["padding"]),
            _one_of("padMode", settings["padMode"], PAD_MODES),
            settings["relu"],
            _one_of("the kind of pool", pool["kind"], POOLS),
            _whole("poolSize", pool["size"]),
            _whole("poolStride", pool["stride"]),
        )

    @property
    def window(self) -> dict[str, Any]:
        """The arguments of the convolution and of its gradient."""
        return {
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "pad_mode": self.pad_mode,
        }


def _whole(name: str, value: Any) -> int:
    low, high = LIMITS[name]
    if type(value) is not int or not low <= value <= high:
        raise Refusal(f"{name} must be a whole number from {low} to {high}")
    return value


def _one_of(name: str, value: Any, choices: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in choices:
        raise Refusal(f"{name} must be one of {', '.join(choices)}")
    return value


def _planes(arrays: Mapping[str, Array], padding: int) -> tuple[Array, Array]:
    """Read image (H, W) and kernel (KH, KW) as what `conv2d` takes."""
    if not {"image", "kernel"} <= arrays.keys():
        raise Refusal("the arrays image and kernel are needed")
    image, kernel = arrays["image"], arrays["kernel"]
    if image.ndim != 2 or kernel.ndim != 2:
        raise Refusal("image and kernel must have two axes")
    if max(kernel.shape) > MOST_KERNEL:
        raise Refusal(f"a kernel has at most {MOST_KERNEL} rows and columns, got {kernel.shape}")
    if (image.shape[0] + 2 * padding) * (image.shape[1] + 2 * padding) > MOST_VALUES:
        raise Refusal(f"an image and its padding have at most {MOST_VALUES:,} pixels")
    return image[None, None].astype(np.float64), kernel[None, None].astype(np.float64)


def forward(settings: Settings, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Compute the pictures.

    Returns
    -------
    dict of str to ndarray
        ``response``, with ReLU ``rectified``, and with pooling ``pooled``.

    Raises
    ------
    Refusal
        If the image or the kernel is missing or too large, or one does not fit the other.
    """
    image, kernel = _planes(arrays, settings.padding)
    try:
        response = fastconv.conv2d(image, kernel, **settings.window)
    except ValueError as error:
        raise Refusal(without_name(error)) from error
    results = {"response": response}
    if settings.relu:
        results["rectified"] = fastconv.relu(response)
    if settings.pool != "none":
        last = results.get("rectified", response)
        size = settings.pool_size
        # The functions' own message would speak of a kernel and a padded input.
        if size > min(last.shape[2:]):
            raise Refusal(f"a pool of size {size} does not fit an input of {last.shape[2:]}")
        pooled = fastconv.max_pool2d if settings.pool == "max" else fastconv.avg_pool2d
        results["pooled"] = pooled(last, size, settings.pool_stride)
    return {name: array[0, 0] for name, array in results.items()}


def backward(
    settings: Settings, arrays: Mapping[str, Array], row: Any, column: Any
) -> dict[str, Array]:
    """Compute the gradients of one pixel of the last picture, with respect to those before it.

    Returns
    -------
    dict of str to ndarray
        ``gradRectified``, ``gradResponse`` and ``gradImage``, of the shapes of these pictures.

    Raises
    ------
    Refusal
        As in `forward`; also if there is no such pixel.
    """
    image, kernel = _planes(arrays, settings.padding)
    pictures = {name: array[None, None] for name, array in forward(settings, arrays).items()}
    response = pictures["response"]
    rectified = pictures.get("rectified", response)
    last = pictures.get("pooled", rectified)
    for name, place, size in (("row", row, last.shape[2]), ("column", column, last.shape[3])):
        if type(place) is not int or not 0 <= place < size:
            raise Refusal(f"{name} must be a whole number from 0 to {size - 1}")
    grad = np.zeros_like(last)
    grad[0, 0, row, column] = 1
    size = settings.pool_size, settings.pool_stride
    if settings.pool == "max":
        _, indices = fastconv.max_pool2d(rectified, *size, return_indices=True)
        grad = fastconv.max_pool2d_backward(grad, indices, rectified.shape)
    elif settings.pool == "average":
        grad = fastconv.avg_pool2d_backward(grad, rectified.shape, *size)
    results = {"gradRectified": grad}
    if settings.relu:
        _, mask = fastconv.relu(response, return_mask=True)
        grad = fastconv.relu_backward(grad, mask)
    results["gradResponse"] = grad
    grad_image, _, _ = fastconv.conv2d_backward(
        grad, image, kernel, **settings.window, output_mask=(True, False, False)
    )
    assert grad_image is not None
    results["gradImage"] = grad_image
    return {name: array[0, 0] for name, array in results.items()}
