"""Random convolution kernels: their sizes, dilations, paddings, weights and biases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, log2, sqrt
from typing import Literal

import numpy as np

from fastconv._arrays import Array, Shape
from fastconv._window import Pair

__all__ = ["FilterGroup", "draw_filters"]


@dataclass(frozen=True)
class FilterGroup:
    """Filters that one convolution applies, as they share their size, dilation and padding."""

    weight: Array
    """Of shape (F, C, KH, KW)."""
    bias: Array
    dilation: Pair
    padding: Literal["same", "valid"]


def draw_filters(
    count: int, sizes: Sequence[int], shape: Shape, rng: np.random.Generator
) -> list[FilterGroup]:
    """Draw filters for images (C, H, W) of zero mean and unit variance.

    As in ROCKET, a filter's size is one of some, its weights are normal and have a mean of 0, its
    bias is uniform between -1 and 1, its dilation's logarithm is uniform, and every other one sees
    padding around the image. Dilations are powers of two, so that few convolutions compute all
    filters. Weights are divided by the root of their number: each output then has about the
    variance of a pixel, whatever the size of the filter.
    """
    numbers: dict[tuple[Pair, Pair, bool], int] = {}
    for size in rng.choice(np.asarray(sizes), count):
        kernel, dilation = _span(int(size), shape, rng)
        fits = all(
            d * (k - 1) < pixels for k, d, pixels in zip(kernel, dilation, shape[1:], strict=True)
        )
        padded = bool(rng.random() < 0.5) or not fits
        numbers[kernel, dilation, padded] = numbers.get((kernel, dilation, padded), 0) + 1
    return [
        _group(number, shape[0], *kind, rng)
        for kind, number in sorted(numbers.items(), key=lambda entry: entry[0])
    ]


def _span(size: int, shape: Shape, rng: np.random.Generator) -> tuple[Pair, Pair]:
    """Return the taps of a filter of some size, and their dilation, along both axes.

    An axis of one pixel needs one tap. The largest dilation lets the taps of padded filters reach
    from one end of the shorter other axis to its other end.
    """
    long_axes = [pixels for pixels in shape[1:] if pixels > 1]
    exponent = 0
    if long_axes and size > 1:
        most = log2(max(1.0, (min(long_axes) - 1) / (size - 1)))
        exponent = int(rng.integers(0, floor(most) + 1))
    kernel = [size if pixels > 1 else 1 for pixels in shape[1:]]
    dilation = [2**exponent if pixels > 1 else 1 for pixels in shape[1:]]
    return (kernel[0], kernel[1]), (dilation[0], dilation[1])


def _group(
    number: int,
    channels: int,
    kernel: Pair,
    dilation: Pair,
    padded: bool,
    rng: np.random.Generator,
) -> FilterGroup:
    weight = rng.standard_normal((number, channels, *kernel))
    if weight[0].size > 1:
        weight -= weight.mean(axis=(1, 2, 3), keepdims=True)
    weight /= sqrt(weight[0].size)
    bias = rng.uniform(-1, 1, number)
    return FilterGroup(weight, bias, dilation, "same" if padded else "valid")
