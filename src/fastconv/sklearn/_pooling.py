"""Feature maps pooled over regions: their maxima, and how many of their numbers are positive."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

import numpy as np

from fastconv._arguments import Pair
from fastconv._arrays import Array, Shape
from fastconv.convolution import conv2d
from fastconv.pooling import max_pool2d
from fastconv.product import matmul
from fastconv.sklearn._random_filters import FilterGroup

__all__ = ["LARGE", "pooled_features", "regions_of"]

MAPS_BYTES = 1 << 20
"""The size of the maps that are computed before they are pooled: they are then still in the cache.
(8,000 images of 28x28 pixels took 1.3 s with 0.25 to 2 MiB, and 1.8 with 16 MiB.)"""
LARGE = 16
"""Images of at least so many pixels along both axes are pooled over their quarters by default: 256
filters then tell 98.4 instead of 97.3 % of MNIST's digits apart, of 8,000 images to learn from."""

Region = tuple[slice, slice]


def regions_of(grid: Pair, size: Shape) -> list[Region]:
    """Cut a map (H, W) into rows and columns of near-equal rectangles, none of them empty."""
    cuts = [
        np.linspace(0, pixels, min(parts, pixels) + 1).astype(int)
        for parts, pixels in zip(grid, size, strict=True)
    ]
    rows, columns = (
        [slice(int(a), int(b)) for a, b in zip(ends, ends[1:], strict=False)] for ends in cuts
    )
    return list(product(rows, columns))


def pooled_features(
    images: Array, group: FilterGroup, kinds: Iterable[str], grid: Pair
) -> dict[str, Array]:
    """Pool the maps that filters make of images, without keeping the maps.

    Parameters
    ----------
    images : ndarray, shape (n, C, H, W)
        The images.
    group : FilterGroup
        The filters.
    kinds : iterable of {"max", "ppv"}
        What is wanted of each region.
    grid : pair of int
        The regions' rows and columns.

    Returns
    -------
    dict of str to ndarray, shape (n, F, regions)
        The pooled numbers.
    """
    weight, bias = group.weight.astype(images.dtype), group.bias.astype(images.dtype)
    pooled: dict[str, list[Array]] = {kind: [] for kind in kinds}
    step = _block_size(images, group)
    for first in range(0, len(images), step):
        maps = conv2d(
            images[first : first + step],
            weight,
            bias,
            padding=group.padding,
            dilation=group.dilation,
            algorithm="direct",
        )
        regions = regions_of(grid, maps.shape[2:])
        for kind, parts in pooled.items():
            parts.append(POOLING[kind](maps, regions))
    return {kind: np.concatenate(parts) for kind, parts in pooled.items()}


def _block_size(images: Array, group: FilterGroup) -> int:
    """Return how many images' maps fit in the cache."""
    _, _, H, W = images.shape
    return max(1, MAPS_BYTES // (len(group.weight) * H * W * images.itemsize))


def _maxima(maps: Array, regions: list[Region]) -> Array:
    """Find the maxima (n, F, regions) of maps (n, F, H, W)."""
    parts = []
    for rows, columns in regions:
        part = maps[:, :, rows, columns]
        parts.append(max_pool2d(part, part.shape[2:])[:, :, 0])
    return np.concatenate(parts, axis=2)


def _positive_shares(maps: Array, regions: list[Region]) -> Array:
    """Compute which share of the numbers is positive, (n, F, regions) of maps (n, F, H, W).

    Ones are summed up by a product with a column for each region, exactly, as they are integers.
    """
    N, F, H, W = maps.shape
    weights = np.zeros((H, W, len(regions)), maps.dtype)
    for i, (rows, columns) in enumerate(regions):
        weights[rows, columns, i] = 1
    ones = (maps > 0).astype(maps.dtype).reshape(N * F, H * W)
    counts = matmul(ones, weights.reshape(H * W, -1))
    shares: Array = counts / weights.sum(axis=(0, 1))
    return shares.reshape(N, F, -1)


POOLING = {"max": _maxima, "ppv": _positive_shares}
