"""Operators that move elements, make arrays of numbers, or tell shapes."""

from __future__ import annotations

import math
from math import prod
from typing import Any

import numpy as np

from fastconv._arrays import Array
from fastconv.onnx._checks import (
    REALS,
    as_type,
    axes_of,
    axis_of,
    choice,
    ints,
    rank,
    require,
    room,
    same_dtypes,
    single,
)
from fastconv.onnx._table import operator

SHAPES = (13, 21, 23, 24, 25)
"""Opsets in which operators on shapes got further dtypes, and nothing else."""


@operator("Reshape", 5, 13)
def reshape(x: Array, shape: Array) -> Array:
    """Give an array another shape, in which 0 stands for the size that it has there."""
    return _reshape(x, ints(shape, "shape"), 0)


@operator("Reshape", 14, 19, 21, 23, 24, 25)
def reshape_with_zero(x: Array, shape: Array, *, allowzero: int = 0) -> Array:
    """Give an array another shape, in which 0 may also be a size."""
    return _reshape(x, ints(shape, "shape"), allowzero)


def _reshape(x: Array, shape: tuple[int, ...], allow_zero: int) -> Array:
    sizes = list(shape)
    for i, size in enumerate(sizes):
        if size == 0 and not allow_zero:
            if i >= x.ndim:
                raise ValueError(f"shape {shape} takes a size that {x.shape} does not have")
            sizes[i] = x.shape[i]
    if min(sizes, default=0) < -1 or sizes.count(-1) > 1:
        raise ValueError(f"shape {shape} has sizes that are negative")
    if -1 in sizes:
        known = prod(size for size in sizes if size != -1)
        if not known or x.size % known:
            raise ValueError(f"shape {shape} is not for an array of shape {x.shape}")
        sizes[sizes.index(-1)] = x.size // known
    if prod(sizes) != x.size:
        raise ValueError(f"shape {shape} is not for an array of shape {x.shape}")
    return x.reshape(sizes)


@operator("Flatten", 1, 9, 11, *SHAPES)
def flatten(x: Array, *, axis: int = 1) -> Array:
    """Make a matrix: axes before one become rows, the others columns."""
    at = x.ndim if axis == x.ndim else axis_of(axis, x.ndim)
    return x.reshape(prod(x.shape[:at]), prod(x.shape[at:]))


@operator("Transpose", 1, *SHAPES)
def transpose(x: Array, *, perm: tuple[int, ...] | None = None) -> Array:
    """Permute axes."""
    if perm is None:
        return x.T
    if len(perm) != x.ndim:
        raise ValueError(f"perm is {perm} for {x.ndim} dimensions")
    return x.transpose(axes_of(perm, x.ndim))


@operator("Squeeze", 1, 11)
def squeeze_by_attribute(x: Array, *, axes: tuple[int, ...] | None = None) -> Array:
    """Take axes of size 1 away."""
    return _squeeze(x, axes)


@operator("Squeeze", *SHAPES)
def squeeze(x: Array, axes: Array | None = None) -> Array:
    """Take axes of size 1 away."""
    return _squeeze(x, None if axes is None else ints(axes, "axes"))


def _squeeze(x: Array, axes: tuple[int, ...] | None) -> Array:
    return x.squeeze() if axes is None else x.squeeze(axes_of(axes, x.ndim))


@operator("Unsqueeze", 1, 11)
def unsqueeze_by_attribute(x: Array, *, axes: tuple[int, ...]) -> Array:
    """Add axes of size 1."""
    return np.expand_dims(x, axes_of(axes, x.ndim + len(axes)))


@operator("Unsqueeze", *SHAPES)
def unsqueeze(x: Array, axes: Array) -> Array:
    """Add axes of size 1."""
    found = ints(axes, "axes")
    return np.expand_dims(x, axes_of(found, x.ndim + len(found)))


@operator("Concat", 4, 11, 13)
def concat(first: Array, *others: Array, axis: int) -> Array:
    """Join arrays along an axis."""
    same_dtypes(first, *others)
    at = axis_of(axis, first.ndim)
    return np.concatenate([first, *others], at) if others else first


@operator("Split", 2, 11)
def split_by_attribute(
    x: Array, *, axis: int = 0, split: tuple[int, ...] | None = None, n_outputs: int
) -> Any:
    """Cut an array into parts along an axis."""
    return _split(x, axis, split, n_outputs, n_outputs, True)


@operator("Split", 13)
def split_by_input(x: Array, split: Array | None = None, *, axis: int = 0, n_outputs: int) -> Any:
    """Cut an array into parts along an axis."""
    parts = None if split is None else ints(split, "split")
    return _split(x, axis, parts, n_outputs, n_outputs, True)


@operator("Split", 18)
def split(
    x: Array,
    split: Array | None = None,
    *,
    axis: int = 0,
    num_outputs: int | None = None,
    n_outputs: int,
) -> Any:
    """Cut an array into parts along an axis; the last one is smaller if they cannot be equal."""
    parts = None if split is None else ints(split, "split")
    return _split(x, axis, parts, num_outputs or n_outputs, n_outputs, False)


def _split(
    x: Array, axis: int, parts: tuple[int, ...] | None, count: int, outputs: int, equal: bool
) -> Any:
    at = axis_of(axis, x.ndim)
    size = x.shape[at]
    if parts is None:
        if count != outputs or (equal and size % count):
            raise ValueError(f"{size} elements cannot be cut into {count} parts")
        each = -(-size // count)
        parts = tuple(max(0, min(each, size - i * each)) for i in range(count))
    if len(parts) != outputs or min(parts) < 0 or sum(parts) != size:
        raise ValueError(f"parts {parts} are not those of {size} elements and {outputs} outputs")
    return tuple(np.split(x, np.cumsum(parts[:-1]), at))


@operator("Slice", 1)
def slice_by_attributes(
    x: Array,
    *,
    starts: tuple[int, ...],
    ends: tuple[int, ...],
    axes: tuple[int, ...] | None = None,
) -> Array:
    """Take a part of an array."""
    return _slice(x, starts, ends, axes, None)


@operator("Slice", 10, 11, 13)
def slice_by_inputs(
    x: Array,
    starts: Array,
    ends: Array,
    axes: Array | None = None,
    steps: Array | None = None,
) -> Array:
    """Take a part of an array, with steps that may go backwards."""
    return _slice(
        x,
        ints(starts, "starts"),
        ints(ends, "ends"),
        None if axes is None else ints(axes, "axes"),
        None if steps is None else ints(steps, "steps"),
    )


def _slice(
    x: Array,
    starts: tuple[int, ...],
    ends: tuple[int, ...],
    axes: tuple[int, ...] | None,
    steps: tuple[int, ...] | None,
) -> Array:
    found = axes_of(range(len(starts)) if axes is None else axes, x.ndim)
    if steps is None:
        steps = (1,) * len(starts)
    if not len(found) == len(starts) == len(ends) == len(steps) or 0 in steps:
        raise ValueError(
            f"starts {starts}, ends {ends}, axes {axes} and steps {steps} are no slices"
        )
    index = [slice(None)] * x.ndim
    for axis, start, end, step in zip(found, starts, ends, steps):
        size = x.shape[axis]
        start, end = (n + size if n < 0 else n for n in (start, end))
        if step > 0:
            index[axis] = slice(max(start, 0), max(end, 0), step)
        else:
            # Python's slices cannot end before the first element but by None.
            first = min(max(start, 0), size - 1)
            index[axis] = slice(first, end if end >= 0 else None, step) if size else slice(0)
    return x[tuple(index)]


@operator("Gather", 1, 11, 13)
def gather(x: Array, indices: Array, *, axis: int = 0) -> Array:
    """Take elements along an axis; negative indices count from its end."""
    at = axis_of(axis, rank(x, 1).ndim)
    _check_indices(indices, x.shape[at])
    room((*x.shape[:at], *indices.shape, *x.shape[at + 1 :]), x.dtype)
    return np.take(x, indices, at)


@operator("GatherElements", 11, 13)
def gather_elements(x: Array, indices: Array, *, axis: int = 0) -> Array:
    """Take one element along an axis for each index."""
    at = axis_of(axis, rank(x, 1).ndim)
    _check_indices(indices, x.shape[at])
    inner = [slice(None) if i == at else slice(n) for i, n in enumerate(indices.shape)]
    if indices.ndim != x.ndim or any(
        n > size for i, (n, size) in enumerate(zip(indices.shape, x.shape)) if i != at
    ):
        raise ValueError(f"indices of shape {indices.shape} are not for {x.shape}")
    return np.take_along_axis(x[tuple(inner)], indices.astype(np.int64), at)


@operator("GatherND", 11)
def gather_nd_of_one(x: Array, indices: Array) -> Array:
    """Take the elements, or parts, that rows of indices name."""
    return gather_nd(x, indices)


@operator("GatherND", 12, 13)
def gather_nd(x: Array, indices: Array, *, batch_dims: int = 0) -> Array:
    """Take the elements, or parts, that rows of indices name."""
    rank(x, 1)
    rank(indices, 1)
    depth = indices.shape[-1]
    if not 0 <= batch_dims < indices.ndim or batch_dims + depth > x.ndim:
        raise ValueError(f"indices of shape {indices.shape} are not for {x.shape}")
    if indices.shape[:batch_dims] != x.shape[:batch_dims]:
        raise ValueError(f"batches differ: indices {indices.shape}, data {x.shape}")
    parts = []
    for i in range(depth):
        _check_indices(indices[..., i], x.shape[batch_dims + i])
        parts.append(indices[..., i])
    grid = np.indices(indices.shape[:-1], sparse=True)[:batch_dims]
    return np.asarray(x[(*grid, *parts)])


def _check_indices(indices: Array, size: int) -> None:
    if indices.dtype.kind not in "iu":
        raise ValueError(f"indices are of dtype {indices.dtype}")
    if indices.size and not (-size <= int(indices.min()) and int(indices.max()) < size):
        raise ValueError(f"indices are beyond {size} elements")


@operator("OneHot", 9, 11, 28)
def one_hot(indices: Array, depth: Array, values: Array, *, axis: int = -1) -> Array:
    """Mark the place of each index on a new axis."""
    size = int(single(depth, "depth"))
    at = axis_of(axis, indices.ndim + 1)
    if values.shape != (2,) or size < 1:
        raise ValueError(f"depth is {size} and values have shape {values.shape}")
    room((size, *indices.shape), values.dtype)
    places = np.arange(size).reshape([-1 if i == at else 1 for i in range(indices.ndim + 1)])
    inside = (indices >= -size) & (indices < size)
    wrapped = np.where(inside, indices % size, -1)
    return np.asarray(np.where(np.expand_dims(wrapped, at) == places, values[1], values[0]))


@operator("Expand", 8, 13)
def expand(x: Array, shape: Array) -> Array:
    """Repeat axes of size 1, as NumPy broadcasts them."""
    wanted = np.broadcast_shapes(x.shape, ints(shape, "shape"))
    return np.ascontiguousarray(np.broadcast_to(x, room(wanted, x.dtype))).reshape(wanted)


@operator("Tile", 6, 13)
def tile(x: Array, repeats: Array) -> Array:
    """Repeat an array along its axes."""
    counts = ints(repeats, "repeats")
    if len(counts) != x.ndim or min(counts, default=0) < 0:
        raise ValueError(f"repeats {counts} are not for {x.ndim} dimensions")
    room([n * size for n, size in zip(counts, x.shape)], x.dtype)
    return np.tile(x, counts)


PAD_MODES = {"constant": "constant", "reflect": "reflect", "edge": "edge", "wrap": "wrap"}


@operator("Pad", 2)
def pad_by_attributes(
    x: Array, *, pads: tuple[int, ...], mode: str = "constant", value: float = 0.0
) -> Array:
    """Add elements at the ends of axes; negative numbers of them take some away."""
    choice(mode, "mode", "constant", "reflect", "edge")
    return _pad(x, pads, mode, value, None)


@operator("Pad", 11, 13)
def pad_three_modes(
    x: Array, pads: Array, value: Array | None = None, *, mode: str = "constant"
) -> Array:
    """Add elements at the ends of axes; negative numbers of them take some away."""
    choice(mode, "mode", "constant", "reflect", "edge")
    return _pad(x, ints(pads, "pads"), mode, _pad_value(value), None)


@operator("Pad", 18)
def pad_axes(
    x: Array,
    pads: Array,
    value: Array | None = None,
    axes: Array | None = None,
    *,
    mode: str = "constant",
) -> Array:
    """Add elements at the ends of some axes."""
    choice(mode, "mode", "constant", "reflect", "edge")
    chosen = None if axes is None else ints(axes, "axes")
    return _pad(x, ints(pads, "pads"), mode, _pad_value(value), chosen)


@operator("Pad", 19, 21, 23, 24, 25)
def pad(
    x: Array,
    pads: Array,
    value: Array | None = None,
    axes: Array | None = None,
    *,
    mode: str = "constant",
) -> Array:
    """Add elements at the ends of some axes, also those of the other end."""
    choice(mode, "mode", *PAD_MODES)
    chosen = None if axes is None else ints(axes, "axes")
    return _pad(x, ints(pads, "pads"), mode, _pad_value(value), chosen)


def _pad_value(value: Array | None) -> Any:
    return 0 if value is None else single(value, "the constant value")


def _pad(
    x: Array, pads: tuple[int, ...], mode: str, value: Any, axes: tuple[int, ...] | None
) -> Array:
    chosen = axes_of(range(x.ndim) if axes is None else axes, x.ndim)
    count = len(chosen)
    if len(pads) != 2 * count:
        raise ValueError(f"{len(pads)} numbers of elements are given for {count} axes")
    widths = [(0, 0)] * x.ndim
    for i, axis in enumerate(chosen):
        widths[axis] = pads[i], pads[count + i]
    index = []
    for (before, after), size in zip(widths, x.shape):
        if max(-before, 0) + max(-after, 0) > size:
            raise ValueError(f"pads {pads} take more away than shape {x.shape} has")
        index.append(slice(max(-before, 0), size - max(-after, 0)))
    kept = x[tuple(index)]
    added = [(max(before, 0), max(after, 0)) for before, after in widths]
    room([size + sum(pair) for size, pair in zip(kept.shape, added)], x.dtype)
    if mode == "constant":
        return np.pad(kept, added, constant_values=np.asarray(value).astype(x.dtype))
    if any(not size and any(pair) for size, pair in zip(kept.shape, added)):
        raise ValueError(f"mode {mode} has nothing to copy in shape {kept.shape}")
    return np.pad(kept, added, mode=mode)  # type: ignore[call-overload, no-any-return]


@operator("DepthToSpace", 1)
def depth_to_space_by_depth(x: Array, *, blocksize: int) -> Array:
    """Make blocks of pixels of channels."""
    return depth_to_space(x, blocksize=blocksize)


@operator("DepthToSpace", 11, 13, 28)
def depth_to_space(x: Array, *, blocksize: int, mode: str = "DCR") -> Array:
    """Make blocks of pixels of channels, whose blocks or depth come first."""
    n, c, h, w = rank(x, 4, 4).shape
    block = _block(blocksize)
    if c % (block * block):
        raise ValueError(f"{c} channels are not for blocks of {block}")
    depth = c // (block * block)
    if choice(mode, "mode", "DCR", "CRD") == "DCR":
        moved = x.reshape(n, block, block, depth, h, w).transpose(0, 3, 4, 1, 5, 2)
    else:
        moved = x.reshape(n, depth, block, block, h, w).transpose(0, 1, 4, 2, 5, 3)
    return moved.reshape(n, depth, h * block, w * block)


@operator("SpaceToDepth", 1, 13)
def space_to_depth_by_depth(x: Array, *, blocksize: int) -> Array:
    """Make channels of blocks of pixels."""
    return space_to_depth(x, blocksize=blocksize)


@operator("SpaceToDepth", 28)
def space_to_depth(x: Array, *, blocksize: int, mode: str = "DCR") -> Array:
    """Make channels of blocks of pixels, whose blocks or depth come first."""
    n, c, h, w = rank(x, 4, 4).shape
    block = _block(blocksize)
    if h % block or w % block:
        raise ValueError(f"{h}x{w} pixels are not blocks of {block}")
    order = (
        (0, 3, 5, 1, 2, 4) if choice(mode, "mode", "DCR", "CRD") == "DCR" else (0, 1, 3, 5, 2, 4)
    )
    moved = x.reshape(n, c, h // block, block, w // block, block).transpose(order)
    return moved.reshape(n, c * block * block, h // block, w // block)


def _block(size: int) -> int:
    if size < 1:
        raise ValueError(f"blocksize must be positive, got {size}")
    return size


@operator("Shape", 1, 13)
def shape(x: Array) -> Array:
    """Return the sizes of an array."""
    return np.array(x.shape, np.int64)


@operator("Shape", 15, 19, 21, 23, 24, 25)
def shape_between(x: Array, *, start: int = 0, end: int | None = None) -> Array:
    """Return the sizes of some axes of an array."""
    first, last = (min(max(n + x.ndim if n < 0 else n, 0), x.ndim) for n in (start, end or 0))
    return np.array(x.shape[first : x.ndim if end is None else last], np.int64)


@operator("Size", 1, 13, 19, 21, 23, 24, 25)
def size(x: Array) -> Array:
    """Return how many elements an array has."""
    return np.array(x.size, np.int64)


@operator("Constant", 1, 9)
def constant_tensor(*, value: Array) -> Array:
    """Return the attribute."""
    return value


@operator("Constant", 11)
def constant_dense(*, value: Array | None = None) -> Array:
    """Return the attribute."""
    return _constant(value)


@operator("Constant", 12, 13, 19, 21, 23, 24, 25)
def constant(
    *,
    value: Array | None = None,
    value_float: float | None = None,
    value_floats: tuple[float, ...] | None = None,
    value_int: int | None = None,
    value_ints: tuple[int, ...] | None = None,
) -> Array:
    """Return the only attribute that is there."""
    return _constant(
        value,
        None if value_float is None else np.array(value_float, np.float32),
        None if value_floats is None else np.array(value_floats, np.float32),
        None if value_int is None else np.array(value_int, np.int64),
        None if value_ints is None else np.array(value_ints, np.int64),
    )


def _constant(*values: Array | None) -> Array:
    given = [value for value in values if value is not None]
    if len(given) != 1:
        raise ValueError(f"a constant has {len(given)} values")
    return given[0]


@operator("ConstantOfShape", 9, 20, 21, 23, 24, 25)
def constant_of_shape(shape: Array, *, value: Array | None = None) -> Array:
    """Repeat a number."""
    number = np.zeros((), np.float32) if value is None else value
    if number.size != 1:
        raise ValueError(f"value has shape {number.shape}, but must be one number")
    return np.full(room(ints(shape, "shape"), number.dtype), number.reshape(()))


def _range(start: Array, limit: Array, delta: Array) -> Array:
    same_dtypes(start, limit, delta)
    require(start, REALS)
    first, last, step = (single(array, "an input") for array in (start, limit, delta))
    if not step or not all(map(math.isfinite, (first, last, step))):
        raise ValueError(f"there is no range from {first} to {last} by {step}")
    if start.dtype.kind in "iu":
        count = max(0, -((first - last) // step))
    else:
        steps = (last - first) / step
        if not math.isfinite(steps):
            raise ValueError(f"there is no range from {first} to {last} by {step}")
        count = max(0, math.ceil(steps))
    room((count,), np.dtype(np.float64))
    numbers = np.arange(count, dtype=np.int64 if start.dtype.kind in "iu" else np.float64)
    return as_type(first + numbers * step, start.dtype)


@operator("Range", 11)
def range_of(start: Array, limit: Array, delta: Array) -> Array:
    """Count from a number to another by steps."""
    return _range(start, limit, delta)


@operator("Range", 27)
def range_stashed(start: Array, limit: Array, delta: Array, *, stash_type: int = 1) -> Array:
    """Count by steps; numbers of any dtype are computed in float64."""
    return _range(start, limit, delta)


@operator("Trilu", 14)
def triangle(x: Array, k: Array | None = None, *, upper: int = 1) -> Array:
    """Keep a triangle of matrices, and replace the rest by 0."""
    rank(x, 2)
    offset = 0 if k is None else int(single(k, "k"))
    offset = min(max(offset, -x.shape[-2] - 1), x.shape[-1] + 1)
    return np.triu(x, offset) if upper else np.tril(x, offset)


@operator("CastLike", 15)
def cast_like(x: Array, other: Array) -> Array:
    """Convert to the dtype of another array."""
    return as_type(x, other.dtype)


@operator("CastLike", 19, 21, 23)
def cast_like_saturated(x: Array, other: Array, *, saturate: int = 1) -> Array:
    """Convert to the dtype of another array; saturation concerns floats of 8 bits only."""
    return as_type(x, other.dtype)


@operator("CastLike", 24, 25)
def cast_like_rounded(
    x: Array, other: Array, *, saturate: int = 1, round_mode: str = "up"
) -> Array:
    """Convert to the dtype of another array; rounding concerns floats of 8 bits only."""
    return as_type(x, other.dtype)


@operator("NonMaxSuppression", 10, 11)
def non_max_suppression(
    boxes: Array,
    scores: Array,
    most: Array | None = None,
    overlap: Array | None = None,
    least: Array | None = None,
    *,
    center_point_box: int = 0,
) -> Array:
    """Choose boxes by their scores that do not overlap much; return (batch, class, box)."""
    n, count, four = rank(boxes, 3, 3).shape
    if rank(scores, 3, 3).shape[::2] != (n, count) or four != 4:
        raise ValueError(f"boxes of shape {boxes.shape} and scores of {scores.shape} do not match")
    limit = 0 if most is None else int(single(most, "max_output_boxes_per_class"))
    threshold = 0.0 if overlap is None else float(single(overlap, "iou_threshold"))
    floor = -math.inf if least is None else float(single(least, "score_threshold"))
    chosen = [
        (batch, kind, box)
        for batch in range(n)
        for kind in range(scores.shape[1])
        for box in _suppress(
            _corners(boxes[batch], center_point_box), scores[batch, kind], limit, threshold, floor
        )
    ]
    return np.array(chosen, np.int64).reshape(-1, 3)


def _corners(boxes: Array, by_center: int) -> Array:
    """Return boxes as (low, low, high, high), whichever corners they were given by."""
    a, b = boxes[:, :2], boxes[:, 2:]
    if by_center:
        return np.concatenate([a - b / 2, a + b / 2], axis=1)
    return np.concatenate([np.minimum(a, b), np.maximum(a, b)], axis=1)


def _suppress(boxes: Array, scores: Array, limit: int, threshold: float, floor: float) -> list[int]:
    """Take the box of the highest score again and again, and drop those that overlap it."""
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] > floor] if floor > -math.inf else order
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    chosen: list[int] = []
    while len(order) and len(chosen) < limit:
        best, order = int(order[0]), order[1:]
        chosen.append(best)
        low = np.maximum(boxes[best, :2], boxes[order, :2])
        high = np.minimum(boxes[best, 2:], boxes[order, 2:])
        shared = np.prod(np.maximum(high - low, 0), axis=1)
        whole = areas[best] + areas[order] - shared
        order = order[~(shared > threshold * whole) | (whole <= 0)]
    return chosen
