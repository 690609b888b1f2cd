"""Resize and Upsample: every axis by itself, each of its outputs a weighted sum of a few inputs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fastconv._arrays import Array
from fastconv.onnx._checks import (
    FLOATS,
    as_type,
    axes_of,
    choice,
    ints,
    require,
    room,
    wide,
)
from fastconv.onnx._table import operator

NEAREST = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
COORDINATES = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")
OLD_COORDINATES = (*COORDINATES, "tf_half_pixel_for_nn", "tf_crop_and_resize")
ALL_COORDINATES = (*COORDINATES, "half_pixel_symmetric", "tf_crop_and_resize")


@dataclass(frozen=True)
class Method:
    """How positions of outputs become positions of inputs, and how those are interpolated."""

    mode: str = "nearest"
    coordinates: str = "half_pixel"
    nearest: str = "round_prefer_floor"
    cubic: float = -0.75
    exclude_outside: bool = False
    antialias: bool = False
    extrapolation: float = 0.0


@dataclass(frozen=True)
class Axis:
    """An axis of the input, and what becomes of it."""

    size: int
    out: int
    scale: float
    roi: tuple[float, float]

    def positions(self, how: str) -> Array:
        """Return where the outputs lie in the input, by the formulas of the operator."""
        y = np.arange(self.out, dtype=np.float64)
        size, length = self.size, self.scale * self.size
        if how == "asymmetric":
            return np.asarray(y / self.scale)
        if how == "tf_half_pixel_for_nn":
            return np.asarray((y + 0.5) / self.scale)
        if how == "align_corners":
            return y * 0 if length == 1 else y * (size - 1) / (length - 1)
        if how == "tf_crop_and_resize":
            start, end = self.roi
            if length == 1:
                return y * 0 + (start + end) * (size - 1) / 2
            return np.asarray((start + y * (end - start) / (length - 1)) * (size - 1))
        if how == "pytorch_half_pixel" and length == 1:
            return y * 0 - 0.5
        middle = (y + 0.5) / self.scale - 0.5
        if how == "half_pixel_symmetric":
            middle = middle + size / 2 * (1 - self.out / length)
        return np.asarray(middle)


def _nearest(x: Array, rule: str) -> Array:
    if rule == "floor":
        return np.floor(x)
    if rule == "ceil":
        return np.ceil(x)
    return np.ceil(x - 0.5) if rule == "round_prefer_floor" else np.floor(x + 0.5)


def _cubic(distance: Array, a: float) -> Array:
    """Return the weights of inputs at a distance from an output."""
    x = np.abs(distance)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


def _linear(distance: Array) -> Array:
    return np.asarray(np.maximum(1 - np.abs(distance), 0))


def _weights(axis: Axis, x: Array, method: Method) -> tuple[Array, Array]:
    """Return the numbers of the inputs of every output, and their weights."""
    radius = 1 if method.mode == "linear" else 2
    squeeze = min(axis.scale, 1.0) if method.antialias else 1.0
    reach = math.ceil(radius / squeeze)
    room((len(x), 2 * reach), np.dtype(np.float64))
    # Where an output lies on an input, that one is the left one of the middle pair.
    first = np.ceil(x).astype(np.int64) - reach
    index = first[:, None] + np.arange(2 * reach)
    distance = (index - x[:, None]) * squeeze
    weights = _linear(distance) if radius == 1 else _cubic(distance, method.cubic)
    if method.antialias:
        weights = weights / weights.sum(axis=1, keepdims=True)
    if method.exclude_outside:
        weights = np.where((index >= 0) & (index < axis.size), weights, 0)
        weights = weights / weights.sum(axis=1, keepdims=True)
    return np.clip(index, 0, axis.size - 1), weights


def _along(x: Array, at: int, axis: Axis, method: Method) -> Array:
    """Resize one axis."""
    where = axis.positions(method.coordinates)
    if method.mode == "nearest":
        index = np.clip(_nearest(where, method.nearest), 0, axis.size - 1).astype(np.int64)
        y = np.take(x, index, at)
    else:
        index, weights = _weights(axis, where, method)
        spread = [-1 if i == at else 1 for i in range(x.ndim)]
        y = np.zeros((*x.shape[:at], axis.out, *x.shape[at + 1 :]), x.dtype)
        for tap in range(index.shape[1]):
            factor = weights[:, tap].astype(x.dtype)
            if factor.any():
                y += np.take(x, index[:, tap], at) * factor.reshape(spread)
    if method.coordinates == "tf_crop_and_resize":
        outside = (where < 0) | (where > axis.size - 1)
        y[(slice(None),) * at + (outside,)] = method.extrapolation
    return y


def _resized(x: Array, axes: dict[int, Axis], method: Method) -> Array:
    """Resize axes one after the other, those that shrink most first."""
    if 0 in x.shape and any(axis.out for axis in axes.values()) and not all(x.shape):
        raise ValueError(f"there is nothing to resize in shape {x.shape}")
    shape = [axes[i].out if i in axes else size for i, size in enumerate(x.shape)]
    room(shape, x.dtype)
    y = x
    if method.mode != "nearest":
        y = wide(require(x, FLOATS + "iu"))
        y = y.astype(np.float64) if y.dtype.kind in "iu" else y
    for i, axis in sorted(axes.items(), key=lambda item: item[1].out / max(item[1].size, 1)):
        if axis.out != axis.size or axis.scale != 1 or method.coordinates == "tf_crop_and_resize":
            y = _along(y, i, axis, method)
    if x.dtype.kind in "iu" and y.dtype.kind == "f":
        limits = np.iinfo(x.dtype)
        y = np.clip(y, limits.min, limits.max)
    return as_type(y, x.dtype)


def _floats(array: Array | None, what: str) -> tuple[float, ...] | None:
    """Return the elements of an input, which an empty one has not."""
    if array is None or not array.size:
        return None
    if array.ndim != 1 or array.dtype.kind != "f" or not np.isfinite(array).all():
        raise ValueError(f"{what} must be a list of numbers, got {array.dtype}{array.shape}")
    return tuple(array.astype(np.float64).tolist())


def _resize(
    x: Array,
    roi: Array | None,
    scales: Array | None,
    sizes: Array | None,
    axes: tuple[int, ...] | None,
    policy: str,
    method: Method,
) -> Array:
    """Read what is asked of each axis, and resize."""
    chosen = axes_of(range(x.ndim) if axes is None else axes, x.ndim)
    count = len(chosen)
    factors = _floats(scales, "scales")
    wanted = None if sizes is None or not sizes.size else ints(sizes, "sizes")
    if (factors is None) == (wanted is None):
        raise ValueError("either scales or sizes must be given")
    region = (0.0,) * count + (1.0,) * count
    if method.coordinates == "tf_crop_and_resize":
        region = _floats(roi, "roi") or ()
    given = factors if factors is not None else wanted
    assert given is not None
    if len(given) != count or len(region) != 2 * count or min(given, default=1) < 0:
        raise ValueError(f"{given} and a region of {len(region)} are not for {count} axes")
    found = {}
    if wanted is not None:
        known = [x.shape[axis] for axis in chosen]
        factors, wanted = _scaled(wanted, known, policy)
    assert factors is not None
    for i, at in enumerate(chosen):
        start, end = region[i], region[count + i]
        size = x.shape[at]
        if factors[i] <= 0 and size:
            raise ValueError(f"scales must be positive, got {factors[i]}")
        if wanted is None:
            reach = end - start if method.coordinates == "tf_crop_and_resize" else 1.0
            # Scales are of 32 bits: 0.6 is a bit more than 3/5, which floor must not notice less.
            out = math.floor(size * reach * factors[i])
        else:
            out = wanted[i]
        found[at] = Axis(size, out, factors[i], (start, end))
    return _resized(x, found, method)


def _scaled(
    wanted: tuple[int, ...], known: list[int], policy: str
) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Return the scales of sizes that are wanted, and the sizes that keep the aspect ratio."""
    scales = tuple(out / size if size else 1.0 for out, size in zip(wanted, known))
    if choice(policy, "policy", "stretch", "not_larger", "not_smaller") == "stretch":
        return scales, wanted
    scale = min(scales) if policy == "not_larger" else max(scales)
    return (scale,) * len(known), tuple(math.floor(scale * size + 0.5) for size in known)


def _scale_to(x: Array, scales: tuple[float, ...], mode: str) -> Array:
    """Resize as the first versions did: from the corner, to the pixel on the left."""
    method = Method(choice(mode, "mode", "nearest", "linear"), "asymmetric", "floor")
    given = np.array(scales, np.float32)
    return _resize(x, None, given, None, None, "stretch", method)


@operator("Upsample", 7)
def upsample_by_attribute(x: Array, *, scales: tuple[float, ...], mode: str = "nearest") -> Array:
    """Enlarge images."""
    return _scale_to(x, scales, mode)


@operator("Upsample", 9)
def upsample(x: Array, scales: Array, *, mode: str = "nearest") -> Array:
    """Enlarge images."""
    return _scale_to(x, _floats(scales, "scales") or (), mode)


@operator("Resize", 10)
def resize_by_scales(x: Array, scales: Array, *, mode: str = "nearest") -> Array:
    """Resize images."""
    return _scale_to(x, _floats(scales, "scales") or (), mode)


@operator("Resize", 11, 13)
def resize_all_axes(
    x: Array,
    roi: Array | None = None,
    scales: Array | None = None,
    sizes: Array | None = None,
    *,
    mode: str = "nearest",
    coordinate_transformation_mode: str = "half_pixel",
    nearest_mode: str = "round_prefer_floor",
    cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,
) -> Array:
    """Resize images."""
    how = coordinate_transformation_mode
    method = Method(
        choice(mode, "mode", "nearest", "linear", "cubic"),
        choice(how, "coordinate_transformation_mode", *OLD_COORDINATES),
        choice(nearest_mode, "nearest_mode", *NEAREST),
        cubic_coeff_a,
        bool(exclude_outside),
        False,
        extrapolation_value,
    )
    return _resize(x, roi, scales, sizes, None, "stretch", method)


@operator("Resize", 18, 19)
def resize(
    x: Array,
    roi: Array | None = None,
    scales: Array | None = None,
    sizes: Array | None = None,
    *,
    mode: str = "nearest",
    coordinate_transformation_mode: str = "half_pixel",
    nearest_mode: str = "round_prefer_floor",
    cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,
    antialias: int = 0,
    axes: tuple[int, ...] | None = None,
    keep_aspect_ratio_policy: str = "stretch",
) -> Array:
    """Resize some axes of images."""
    method = Method(
        choice(mode, "mode", "nearest", "linear", "cubic"),
        choice(coordinate_transformation_mode, "coordinates", *ALL_COORDINATES),
        choice(nearest_mode, "nearest_mode", *NEAREST),
        cubic_coeff_a,
        bool(exclude_outside),
        bool(antialias),
        extrapolation_value,
    )
    return _resize(x, roi, scales, sizes, axes, keep_aspect_ratio_policy, method)
