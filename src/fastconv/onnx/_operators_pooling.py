"""Pooling over any number of spatial axes.

Planes are pooled by the kernels of this library. Other numbers of axes, and windows that the
kernels do not know, are pooled tap by tap with NumPy.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv._arrays import Array
from fastconv.onnx._checks import FLOATS, REALS, as_type, rank, require, room, wide
from fastconv.onnx._table import operator
from fastconv.onnx._windows import Axis, axes_of_windows, padded, taps
from fastconv.pooling import avg_pool2d, max_pool2d


def is_for_kernels(axes: list[Axis]) -> bool:
    """Tell whether the kernels pool these windows: every one must hold a pixel."""
    return len(axes) == 2 and all(
        max(axis.before, axis.after) < axis.span and axis.dilation <= axis.size for axis in axes
    )


def window_arguments(axes: list[Axis]) -> dict[str, Any]:
    """Return the arguments of the kernels for two axes."""
    return {
        "kernel_size": tuple(axis.kernel for axis in axes),
        "stride": tuple(axis.stride for axis in axes),
        "padding": [(axis.before, axis.after) for axis in axes],
        "ceil_mode": axes[0].ceil,
    }


def _as_planes(x: Array, axes: list[Axis]) -> tuple[Array, list[Axis], int]:
    """Make a plane of one row of a single axis; return how many axes were added."""
    rank(x, 3)
    if len(axes) == 1:
        return x[:, :, None], [Axis(1, 1, ceil=axes[0].ceil), *axes], 1
    return x, axes, 0


def _max(x: Array, axes: list[Axis], storage_order: int, n_outputs: int) -> Any:
    """Return the maximum of every window and, if it is wanted, where it is."""
    require(x, REALS)
    planes, axes, added = _as_planes(x, axes)
    room((*planes.shape[:2], *(axis.out for axis in axes)), x.dtype)
    if is_for_kernels(axes):
        window = window_arguments(axes)
        window["dilation"] = tuple(axis.dilation for axis in axes)
        if n_outputs == 1:
            out = max_pool2d(planes, **window)
            return out[:, :, 0] if added else out
        out, where = max_pool2d(planes, return_indices=True, **window)
    else:
        out, where = _max_by_taps(planes, axes)
    if storage_order:
        where = _by_columns(where, planes.shape[2:])
    n, c = x.shape[:2]
    first = np.arange(n * c).reshape(n, c, *[1] * len(axes)) * int(np.prod(planes.shape[2:]))
    results = out, where + first
    return tuple(array[:, :, 0] if added else array for array in results)[:n_outputs]


def _max_by_taps(x: Array, axes: list[Axis]) -> tuple[Array, Array]:
    """Return maxima and their positions in each image; NaN is larger than everything."""
    least = x.dtype.type(-np.inf) if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    images = padded(x, axes, least)
    inside = padded(np.ones(x.shape[2:], bool), axes, False)
    places = np.arange(int(np.prod(x.shape[2:]))).reshape(x.shape[2:])
    where = padded(places, axes, -1)
    best: Array | None = None
    found = np.empty(0, np.int64)
    pairs = zip(taps(images, axes), taps(inside, axes), taps(where, axes))
    for pixels, are_pixels, position in pairs:
        if best is None:
            best, found = pixels.copy(), np.broadcast_to(position, pixels.shape).copy()
            continue
        better = (pixels > best) | ((pixels != pixels) & (best == best)) | (found < 0)
        better &= are_pixels
        np.copyto(best, pixels, where=better)
        np.copyto(found, position, where=better)
    assert best is not None
    return best, found


def _by_columns(where: Array, sizes: tuple[int, ...]) -> Array:
    """Turn numbers of pixels along rows into those along columns."""
    if len(sizes) < 2:
        return where
    parts = np.unravel_index(np.maximum(where, 0), sizes)
    return np.asarray(np.ravel_multi_index(parts, sizes, order="F"))


@operator("MaxPool", 1)
def max_pool_without_indices(
    x: Array,
    *,
    auto_pad: str = "NOTSET",
    kernel_shape: tuple[int, ...],
    pads: tuple[int, ...] | None = None,
    strides: tuple[int, ...] | None = None,
) -> Any:
    """Take the maximum of every window."""
    axes = axes_of_windows(x.shape[2:], kernel_shape, auto_pad, strides, None, pads)
    return _max(x, axes, 0, 1)


@operator("MaxPool", 8)
def max_pool_with_indices(
    x: Array,
    *,
    auto_pad: str = "NOTSET",
    kernel_shape: tuple[int, ...],
    pads: tuple[int, ...] | None = None,
    storage_order: int = 0,
    strides: tuple[int, ...] | None = None,
    n_outputs: int,
) -> Any:
    """Take the maximum of every window, and where it is."""
    axes = axes_of_windows(x.shape[2:], kernel_shape, auto_pad, strides, None, pads)
    return _max(x, axes, storage_order, n_outputs)


@operator("MaxPool", 10, 11, 12, 22)
def max_pool(
    x: Array,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: tuple[int, ...] | None = None,
    kernel_shape: tuple[int, ...],
    pads: tuple[int, ...] | None = None,
    storage_order: int = 0,
    strides: tuple[int, ...] | None = None,
    n_outputs: int,
) -> Any:
    """Take the maximum of every window, and where it is."""
    axes = axes_of_windows(x.shape[2:], kernel_shape, auto_pad, strides, dilations, pads, ceil_mode)
    return _max(x, axes, storage_order, n_outputs)


def _average(x: Array, axes: list[Axis], count_include_pad: int) -> Array:
    """Take the mean of every window."""
    require(x, FLOATS)
    planes, axes, added = _as_planes(x, axes)
    room((*planes.shape[:2], *(axis.out for axis in axes)), x.dtype)
    if is_for_kernels(axes) and all(axis.dilation == 1 for axis in axes):
        y = avg_pool2d(planes, count_include_pad=bool(count_include_pad), **window_arguments(axes))
    else:
        total = _sum_of_taps(wide(planes), axes)
        for i, axis in enumerate(axes):
            inside = (0, axis.size)
            if count_include_pad:
                inside = (-axis.before, axis.size + axis.after)
            divisor = axis.count(*inside).astype(total.dtype)
            total = np.asarray(total / divisor.reshape([-1, *[1] * (len(axes) - 1 - i)]))
        y = as_type(total, x.dtype)
    return y[:, :, 0] if added else y


def _sum_of_taps(x: Array, axes: list[Axis]) -> Array:
    images = padded(x, axes, 0)
    total: Array | None = None
    for pixels in taps(images, axes):
        total = pixels.copy() if total is None else np.add(total, pixels, out=total)
    assert total is not None
    return total


@operator("AveragePool", 7)
def average_pool_without_ceil(
    x: Array,
    *,
    auto_pad: str = "NOTSET",
    count_include_pad: int = 0,
    kernel_shape: tuple[int, ...],
    pads: tuple[int, ...] | None = None,
    strides: tuple[int, ...] | None = None,
) -> Array:
    """Take the mean of every window."""
    axes = axes_of_windows(x.shape[2:], kernel_shape, auto_pad, strides, None, pads)
    return _average(x, axes, count_include_pad)


@operator("AveragePool", 10, 11)
def average_pool_without_dilation(
    x: Array,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    kernel_shape: tuple[int, ...],
    pads: tuple[int, ...] | None = None,
    strides: tuple[int, ...] | None = None,
) -> Array:
    """Take the mean of every window."""
    axes = axes_of_windows(x.shape[2:], kernel_shape, auto_pad, strides, None, pads, ceil_mode)
    return _average(x, axes, count_include_pad)


@operator("AveragePool", 19, 22)
def average_pool(
    x: Array,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: tuple[int, ...] | None = None,
    kernel_shape: tuple[int, ...],
    pads: tuple[int, ...] | None = None,
    strides: tuple[int, ...] | None = None,
) -> Array:
    """Take the mean of every window."""
    axes = axes_of_windows(x.shape[2:], kernel_shape, auto_pad, strides, dilations, pads, ceil_mode)
    return _average(x, axes, count_include_pad)


def _norm(x: Array, axes: list[Axis], p: int) -> Array:
    """Take the p-norm of every window."""
    require(rank(x, 3), FLOATS)
    if p < 1:
        raise ValueError(f"p must be positive, got {p}")
    room((*x.shape[:2], *(axis.out for axis in axes)), x.dtype)
    powers = np.abs(wide(x)) ** p
    return as_type(_sum_of_taps(np.asarray(powers), axes) ** (1 / p), x.dtype)


@operator("LpPool", 2, 11)
def lp_pool_without_ceil(
    x: Array,
    *,
    auto_pad: str = "NOTSET",
    kernel_shape: tuple[int, ...],
    p: int = 2,
    pads: tuple[int, ...] | None = None,
    strides: tuple[int, ...] | None = None,
) -> Array:
    """Take the p-norm of every window."""
    axes = axes_of_windows(x.shape[2:], kernel_shape, auto_pad, strides, None, pads)
    return _norm(x, axes, p)


@operator("LpPool", 18, 22)
def lp_pool(
    x: Array,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: tuple[int, ...] | None = None,
    kernel_shape: tuple[int, ...],
    p: int = 2,
    pads: tuple[int, ...] | None = None,
    strides: tuple[int, ...] | None = None,
) -> Array:
    """Take the p-norm of every window."""
    axes = axes_of_windows(x.shape[2:], kernel_shape, auto_pad, strides, dilations, pads, ceil_mode)
    return _norm(x, axes, p)


def _whole(x: Array) -> tuple[int, ...]:
    """Return the shape of what is left of images if each plane becomes one pixel."""
    require(rank(x, 2), FLOATS)
    if 0 in x.shape[2:]:
        raise ValueError(f"there is nothing to pool in shape {x.shape}")
    return (*x.shape[:2], *[1] * (x.ndim - 2))


@operator("GlobalAveragePool", 1, 22)
def global_average_pool(x: Array) -> Array:
    """Take the mean of every channel."""
    shape = _whole(x)
    if not x.size:
        return np.empty(shape, x.dtype)
    n, c, *sizes = x.shape
    pixels = int(np.prod(sizes))
    return avg_pool2d(x.reshape(n, c, 1, pixels), (1, pixels)).reshape(shape)


@operator("GlobalMaxPool", 1, 22)
def global_max_pool(x: Array) -> Array:
    """Take the maximum of every channel."""
    return np.asarray(x.reshape(*x.shape[:2], -1).max(axis=-1)).reshape(_whole(x))


@operator("GlobalLpPool", 2, 22)
def global_lp_pool(x: Array, *, p: int = 2) -> Array:
    """Take the p-norm of every channel."""
    shape = _whole(x)
    if p < 1:
        raise ValueError(f"p must be positive, got {p}")
    powers = np.abs(wide(x)).reshape(*x.shape[:2], -1) ** p
    return as_type(powers.sum(axis=-1) ** (1 / p), x.dtype).reshape(shape)
