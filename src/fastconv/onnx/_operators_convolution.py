"""Convolution and its transpose, over any number of spatial axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastconv._arrays import Array, Shape
from fastconv._epilogue import ActivationLike
from fastconv.convolution import conv2d, conv_transpose2d
from fastconv.onnx._checks import FLOATS, choice, rank, require, room, same_dtypes
from fastconv.onnx._table import operator
from fastconv.onnx._windows import (
    AUTO_PAD,
    Axis,
    axes_of_windows,
    listed_pads,
    listed_steps,
)


def window_of(
    x: Array,
    w: Any,
    auto_pad: str,
    dilations: tuple[int, ...] | None,
    kernel_shape: tuple[int, ...] | None,
    pads: tuple[int, ...] | None,
    strides: tuple[int, ...] | None,
) -> list[Axis]:
    """Read the window of a convolution, and check that its attributes are those of the weight."""
    rank(x, 3)
    if len(w.shape) != x.ndim:
        raise ValueError(f"the weight of shape {w.shape} is not for images of {x.shape}")
    if kernel_shape and kernel_shape != w.shape[2:]:
        raise ValueError(f"kernel_shape {kernel_shape} is not that of the weight {w.shape}")
    return axes_of_windows(x.shape[2:], w.shape[2:], auto_pad, strides, dilations, pads)


def correlate(
    x: Array,
    w: Any,
    bias: Array | None,
    axes: list[Axis],
    groups: int,
    algorithm: str = "auto",
    residual: Array | None = None,
    activation: ActivationLike | None = None,
) -> Array:
    """Correlate with filters over one spatial axis or more.

    One axis is a plane of one row. Of more than two, the first is taken away: the taps along it
    are convolutions of what they see, which are added up.
    """
    if len(axes) == 1:
        axes = [Axis(1, 1), *axes]
        shape = (*w.shape[:2], 1, w.shape[2])
        if residual is not None:
            residual = residual[:, :, None]
        y = correlate(
            x[:, :, None], w.reshape(shape), bias, axes, groups, algorithm, residual, activation
        )
        return y[:, :, 0]
    room((len(x), w.shape[0], *(axis.out for axis in axes)), x.dtype)
    if len(axes) > 2:
        return _sum_of_planes(x, w, bias, axes, groups, algorithm)
    pads = [(axis.before, axis.after) for axis in axes]
    return conv2d(
        x,
        w,
        bias,
        tuple(axis.stride for axis in axes),
        pads,
        tuple(axis.dilation for axis in axes),
        groups,
        algorithm=algorithm,
        residual=residual,
        activation=activation,
    )


def _sum_of_planes(
    x: Array, w: Array, bias: Array | None, axes: list[Axis], groups: int, algorithm: str
) -> Array:
    """Add the convolutions of every tap along the first axis, over the axes behind it."""
    first, *others = axes
    n, c = x.shape[:2]
    shape = n, first.out, w.shape[0], *(axis.out for axis in others)
    total = np.zeros(room(shape, x.dtype), x.dtype)
    for tap in range(first.kernel):
        begin = tap * first.dilation - first.before
        low = max(0, -(begin // first.stride))
        high = min(first.out, -((begin - first.size) // first.stride))
        if low >= high:
            continue
        places = begin + np.arange(low, high) * first.stride
        seen = np.moveaxis(x[:, :, places], 2, 1)
        images = seen.reshape(n * len(places), c, *x.shape[3:])
        y = correlate(images, w[:, :, tap], None, others, groups, algorithm)
        total[:, low:high] += y.reshape(n, len(places), *y.shape[1:])
    if bias is not None:
        total += bias.reshape(-1, *[1] * len(others))
    return np.moveaxis(total, 1, 2)


@operator("Conv", 1, 11, 22)
def conv(
    x: Array,
    w: Array,
    bias: Array | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: tuple[int, ...] | None = None,
    group: int = 1,
    kernel_shape: tuple[int, ...] | None = None,
    pads: tuple[int, ...] | None = None,
    strides: tuple[int, ...] | None = None,
) -> Array:
    """Correlate images with filters."""
    require(x, FLOATS)
    same_dtypes(x, w, bias)
    axes = window_of(x, w, auto_pad, dilations, kernel_shape, pads, strides)
    return correlate(x, w, bias, axes, group)


@operator("ConvTranspose", 1, 11, 22)
def conv_transpose(
    x: Array,
    w: Array,
    bias: Array | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: tuple[int, ...] | None = None,
    group: int = 1,
    kernel_shape: tuple[int, ...] | None = None,
    output_padding: tuple[int, ...] | None = None,
    output_shape: tuple[int, ...] | None = None,
    pads: tuple[int, ...] | None = None,
    strides: tuple[int, ...] | None = None,
) -> Array:
    """Spread every pixel over a window."""
    require(rank(x, 3), FLOATS)
    same_dtypes(x, w, bias)
    if len(w.shape) != x.ndim or (kernel_shape and kernel_shape != w.shape[2:]):
        raise ValueError(f"weight {w.shape}, kernel_shape {kernel_shape}, images {x.shape}")
    count = x.ndim - 2
    extra = listed_pads(output_padding, "output_padding", count)
    steps = listed_steps(strides, "strides", count)
    gaps = listed_steps(dilations, "dilations", count)
    sides = listed_pads(pads, "pads", 2 * count)
    choice(auto_pad, "auto_pad", *AUTO_PAD)
    if output_shape and len(output_shape) == count + 2:
        output_shape = output_shape[2:]
    if output_shape and len(output_shape) != count:
        raise ValueError(f"output_shape {output_shape} is not for {count} axes")
    axes, outs = [], []
    for i, size in enumerate(x.shape[2:]):
        kernel, stride, dilation = w.shape[2 + i], steps[i], gaps[i]
        full = stride * (size - 1) + (kernel - 1) * dilation + 1 + extra[i]
        wanted = output_shape[i] if output_shape else size * stride
        if output_shape or auto_pad.startswith("SAME"):
            # A size beyond all windows is filled up at the end: nothing is added before them.
            cut = max(full - wanted, 0)
            before = cut // 2 if auto_pad == "SAME_UPPER" else cut - cut // 2
            after = cut - before
        elif auto_pad == "VALID":
            before = after = 0
        else:
            before, after = sides[i], sides[count + i]
        axes.append(Axis(size, kernel, stride, dilation, before, after))
        outs.append(output_shape[i] if output_shape else full - before - after)
    if min(outs) < 1:
        raise ValueError(f"padding leaves nothing: the result would have the sizes {outs}")
    return _transposed(x, w, bias, axes, outs, group)


def _transposed(
    x: Array, w: Any, bias: Array | None, axes: list[Axis], outs: list[int], groups: int
) -> Array:
    """Spread pixels over one spatial axis or more, and cut or fill up to sizes."""
    if len(axes) == 1:
        rows = [Axis(1, 1), *axes]
        shape = (*w.shape[:2], 1, w.shape[2])
        return _transposed(x[:, :, None], w.reshape(shape), bias, rows, [1, *outs], groups)[:, :, 0]
    room((len(x), w.shape[1] * groups, *outs), x.dtype)
    extra = [_excess(axis, out) for axis, out in zip(axes, outs)]
    fits = all(0 <= more < max(axis.stride, axis.dilation) for axis, more in zip(axes, extra))
    if len(axes) == 2 and fits and min(min(axis.before, axis.after) for axis in axes) >= 0:
        return conv_transpose2d(
            x,
            w,
            bias,
            tuple(axis.stride for axis in axes),
            [(axis.before, axis.after) for axis in axes],
            tuple(extra),
            groups,
            tuple(axis.dilation for axis in axes),
        )
    full = _spread(x, w, axes, groups)
    return _placed(full, bias, axes, outs)


def _excess(axis: Axis, out: int) -> int:
    """Return how many pixels an output has beyond those that padding leaves."""
    full = axis.stride * (axis.size - 1) + axis.span
    return out - (full - axis.before - axis.after)


def _spread(x: Array, w: Any, axes: list[Axis], groups: int) -> Array:
    """Spread pixels without cutting anything off."""
    steps = tuple(axis.stride for axis in axes)
    gaps = tuple(axis.dilation for axis in axes)
    if len(axes) == 2:
        return conv_transpose2d(x, w, None, steps, 0, 0, groups, gaps)
    first, *others = axes
    n, c = x.shape[:2]
    lengths: Shape = tuple(axis.stride * (axis.size - 1) + axis.span for axis in axes)
    total = np.zeros(room((n, lengths[0], w.shape[1] * groups, *lengths[1:]), x.dtype), x.dtype)
    images = np.moveaxis(x, 2, 1).reshape(n * first.size, c, *x.shape[3:])
    for tap in range(first.kernel):
        y = _spread(images, np.ascontiguousarray(w[:, :, tap]), others, groups)
        begin = tap * first.dilation
        places = slice(begin, begin + (first.size - 1) * first.stride + 1, first.stride)
        total[:, places] += y.reshape(n, first.size, *y.shape[1:])
    return np.moveaxis(total, 1, 2)


def _placed(full: Array, bias: Array | None, axes: list[Axis], outs: list[int]) -> Array:
    """Cut what is spread to its place in the result, which only the bias fills elsewhere."""
    out = np.zeros((*full.shape[:2], *outs), full.dtype)
    source: list[Any] = [...]
    target: list[Any] = [...]
    for axis, size, length in zip(axes, outs, full.shape[2:]):
        low, high = max(axis.before, 0), min(length, axis.before + size)
        source.append(slice(low, max(high, low)))
        target.append(slice(low - axis.before, max(high, low) - axis.before))
    out[tuple(target)] = full[tuple(source)]
    if bias is not None:
        out += bias.reshape(-1, *[1] * len(axes))
    return out
