"""The definition of every operation, as plain loops over windows.

Nothing here is shared with the library. Images are ``(N, C, H, W)``; the loops run over windows
and their taps, and NumPy moves the N and C axes. Sums are exact: integer dtypes stay what they
are, floats are added in the order of the loops in the dtype that the caller hands in.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Pair = tuple[int, int]
Shape = tuple[int, ...]

OUTSIDE = -1
"""The source of a position that shows no pixel: zero padding, or past the padding."""


def pair(value: Any) -> Pair:
    """Read a window argument as ``(vertical, horizontal)``."""
    vertical, horizontal = np.broadcast_to(value, 2).tolist()
    return vertical, horizontal


def sides(padding: Any) -> tuple[Pair, Pair]:
    """Read padding that is not "same" as ``((top, bottom), (left, right))``."""
    pixels = np.array(0 if isinstance(padding, str) else padding)
    pixels = pixels[:, None] if pixels.ndim == 1 else pixels
    (top, bottom), (left, right) = np.broadcast_to(pixels, (2, 2)).tolist()
    return (top, bottom), (left, right)


@dataclass(frozen=True)
class Axis:
    """One axis of a window operation: ``taps[o][k]`` is the pixel that tap k of output o reads."""

    taps: list[list[int]]
    lengths: list[int]
    """How many positions of the padded axis each window covers (PyTorch's average divisor)."""


def axis(
    size: int,
    kernel: int,
    stride: int,
    dilation: int,
    padding: Any,
    pad_mode: str = "constant",
    ceil_mode: bool = False,
) -> Axis:
    """Lay windows along one axis; ``padding`` is "same" or ``(before, after)``."""
    extent = dilation * (kernel - 1) + 1
    if padding == "same":
        total = max((ceil(size / stride) - 1) * stride + extent - size, 0)
        before, after = total // 2, total - total // 2
    else:
        before, after = padding
    if size + before + after < extent:
        raise ValueError("the kernel does not fit")
    steps = (size + before + after - extent) / stride
    count = (ceil(steps) if ceil_mode else int(steps)) + 1
    if ceil_mode and (count - 1) * stride >= size + before:
        count -= 1

    options: dict[str, Any] = {"constant_values": OUTSIDE} if pad_mode == "constant" else {}
    pads: Any = (before, after)
    mode: Any = pad_mode
    source = [int(i) for i in np.pad(np.arange(size), pads, mode=mode, **options)]
    source += [OUTSIDE] * (count * stride + extent)
    taps = [[source[o * stride + k * dilation] for k in range(kernel)] for o in range(count)]
    padded = size + before + after
    lengths = [min(o * stride + extent, padded) - o * stride for o in range(count)]
    return Axis(taps, lengths)


def axes(
    height: int,
    width: int,
    kernel: Any,
    stride: Any = 1,
    dilation: Any = 1,
    padding: Any = 0,
    pad_mode: str = "constant",
    ceil_mode: bool = False,
) -> tuple[Axis, Axis]:
    """Return the vertical and the horizontal axis, from arguments in any accepted form."""
    same = isinstance(padding, str) and padding == "same"
    pad_h, pad_w = (padding, padding) if same else sides(padding)
    (kernel_h, kernel_w), (stride_h, stride_w) = pair(kernel), pair(stride)
    dilation_h, dilation_w = pair(dilation)
    return (
        axis(height, kernel_h, stride_h, dilation_h, pad_h, pad_mode, ceil_mode),
        axis(width, kernel_w, stride_w, dilation_w, pad_w, pad_mode, ceil_mode),
    )


# ------------------------------------------------------------------------------------- columns


def im2col(
    images: Array,
    filter_h: int,
    filter_w: int,
    stride: Any = 1,
    pad: Any = 0,
    dilation: Any = 1,
    pad_mode: str = "constant",
) -> Array:
    """Copy every tap of every window: rows ``(n, oh, ow)``, columns ``(c, kh, kw)``."""
    count, channels, height, width = images.shape
    kernel = (filter_h, filter_w)
    rows, cols = axes(height, width, kernel, stride, dilation, pad, pad_mode)
    out_h, out_w = len(rows.taps), len(cols.taps)
    col = np.zeros((count, out_h, out_w, channels, *kernel), images.dtype)
    for oh, row in enumerate(rows.taps):
        for ow, column in enumerate(cols.taps):
            for kh, ih in enumerate(row):
                for kw, iw in enumerate(column):
                    if OUTSIDE not in (ih, iw):
                        col[:, oh, ow, :, kh, kw] = images[:, :, ih, iw]
    return col.reshape(count * out_h * out_w, channels * filter_h * filter_w)


def col2im(
    col: Array,
    input_shape: Shape,
    filter_h: int,
    filter_w: int,
    stride: Any = 1,
    pad: Any = 0,
    dilation: Any = 1,
    pad_mode: str = "constant",
) -> Array:
    """Add every entry to the pixel it was read from, in ascending ``(kh, kw)``."""
    count, channels, height, width = input_shape
    kernel = (filter_h, filter_w)
    rows, cols = axes(height, width, kernel, stride, dilation, pad, pad_mode)
    windows = col.reshape(count, len(rows.taps), len(cols.taps), channels, *kernel)
    images = np.zeros(input_shape, col.dtype)
    for kh in range(filter_h):
        for kw in range(filter_w):
            for oh, row in enumerate(rows.taps):
                for ow, column in enumerate(cols.taps):
                    if OUTSIDE not in (row[kh], column[kw]):
                        images[:, :, row[kh], column[kw]] += windows[:, oh, ow, :, kh, kw]
    return images


def unfold(
    images: Array,
    kernel_size: Any,
    dilation: Any = 1,
    padding: Any = 0,
    stride: Any = 1,
    pad_mode: str = "constant",
) -> Array:
    """Lay the columns of each image out as PyTorch does: ``(N, C*KH*KW, OH*OW)``."""
    height, width = images.shape[2:]
    rows, cols = axes(height, width, kernel_size, stride, dilation, padding, pad_mode)
    windows = len(rows.taps) * len(cols.taps)
    col = im2col(images, *pair(kernel_size), stride, padding, dilation, pad_mode)
    return col.reshape(len(images), windows, col.shape[1]).transpose(0, 2, 1).copy()


def fold(
    col: Array,
    output_size: Any,
    kernel_size: Any,
    dilation: Any = 1,
    padding: Any = 0,
    stride: Any = 1,
    pad_mode: str = "constant",
) -> Array:
    """:func:`col2im` of PyTorch's layout."""
    kernel_h, kernel_w = pair(kernel_size)
    count, entries, windows = col.shape
    shape = (count, entries // (kernel_h * kernel_w), *pair(output_size))
    rows = col.transpose(0, 2, 1).reshape(count * windows, entries)
    return col2im(rows, shape, kernel_h, kernel_w, stride, padding, dilation, pad_mode)


def textbook_im2col(images: Array, filter_h: int, filter_w: int, stride: int, pad: int) -> Array:
    """Follow the NumPy formula of course code: one strided copy for each tap."""
    count, channels, height, width = images.shape
    out_h = (height + 2 * pad - filter_h) // stride + 1
    out_w = (width + 2 * pad - filter_w) // stride + 1
    padded = np.pad(images, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    col = np.empty((count, channels, filter_h, filter_w, out_h, out_w), images.dtype)
    for kh in range(filter_h):
        for kw in range(filter_w):
            bottom, right = kh + stride * out_h, kw + stride * out_w
            col[:, :, kh, kw] = padded[:, :, kh:bottom:stride, kw:right:stride]
    shape = (count * out_h * out_w, channels * filter_h * filter_w)
    return col.transpose(0, 4, 5, 1, 2, 3).reshape(shape)


def textbook_col2im(
    col: Array, input_shape: Shape, filter_h: int, filter_w: int, stride: int, pad: int
) -> Array:
    """Follow the NumPy formula of course code: one strided addition for each (kh, kw)."""
    count, channels, height, width = input_shape
    out_h = (height + 2 * pad - filter_h) // stride + 1
    out_w = (width + 2 * pad - filter_w) // stride + 1
    windows = col.reshape(count, out_h, out_w, channels, filter_h, filter_w)
    padded = np.zeros((count, channels, height + 2 * pad, width + 2 * pad), col.dtype)
    for kh in range(filter_h):
        for kw in range(filter_w):
            bottom, right = kh + stride * out_h, kw + stride * out_w
            tap = windows[..., kh, kw].transpose(0, 3, 1, 2)
            padded[:, :, kh:bottom:stride, kw:right:stride] += tap
    return padded[:, :, pad : pad + height, pad : pad + width].copy()


# ------------------------------------------------------------------------------------- pooling


def max_pool2d(
    images: Array,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> tuple[Array, Array]:
    """Find maxima and their flat positions: the first in row-major order, or the first NaN."""
    count, channels, height, width = images.shape
    stride = kernel_size if stride is None else stride
    rows, cols = axes(height, width, kernel_size, stride, dilation, padding, ceil_mode=ceil_mode)
    shape = (count, channels, len(rows.taps), len(cols.taps))
    flat = images.reshape(count, channels, height * width)
    maxima, indices = np.zeros(shape, images.dtype), np.zeros(shape, np.int64)
    for oh, row in enumerate(rows.taps):
        for ow, column in enumerate(cols.taps):
            places = [ih * width + iw for ih in row for iw in column if OUTSIDE not in (ih, iw)]
            if not places:
                raise ValueError("a window holds no pixel")
            values = flat[:, :, places]
            first = values.argmax(axis=2)
            indices[:, :, oh, ow] = np.array(places)[first]
            maxima[:, :, oh, ow] = np.take_along_axis(values, first[..., None], 2)[..., 0]
    return maxima, indices


def _scatter_loop(values: Array, indices: Array, shape: Shape, add: bool) -> Array:
    count, channels, height, width = shape
    planes = count * channels
    result = np.zeros((planes, height * width), values.dtype)
    where = np.arange(planes)
    values, indices = (a.reshape(planes, -1 if a.size else 0) for a in (values, indices))
    for output in range(values.shape[1]):
        pixel = indices[:, output].astype(np.int64)
        old = result[where, pixel] if add else values.dtype.type(0)
        result[where, pixel] = old + values[:, output]
    return result.reshape(shape)


def max_pool2d_backward(grad_output: Array, indices: Array, input_shape: Shape) -> Array:
    """Add every gradient to the pixel that its index names, in row-major order."""
    return _scatter_loop(grad_output, indices, input_shape, add=True)


def max_unpool2d(
    values: Array,
    indices: Array,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
) -> Array:
    """Put every value where its index says; the last one in row-major order stays."""
    count, channels, height, width = values.shape
    if output_size is None:
        stride = kernel_size if stride is None else stride
        (kernel_h, kernel_w), (stride_h, stride_w) = pair(kernel_size), pair(stride)
        pad_h, pad_w = pair(padding)
        output_size = (
            (height - 1) * stride_h - 2 * pad_h + kernel_h,
            (width - 1) * stride_w - 2 * pad_w + kernel_w,
        )
    return _scatter_loop(values, indices, (count, channels, *pair(output_size)), add=False)


def avg_pool2d(
    images: Array,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Array:
    """Take means in float64; they count the window's part of the padded image, or its pixels."""
    count, channels, height, width = images.shape
    stride = kernel_size if stride is None else stride
    rows, cols = axes(height, width, kernel_size, stride, 1, padding, ceil_mode=ceil_mode)
    out = np.zeros((count, channels, len(rows.taps), len(cols.taps)))
    for oh, row in enumerate(rows.taps):
        for ow, column in enumerate(cols.taps):
            for ih, iw in _pixels(row, column):
                out[:, :, oh, ow] += images[:, :, ih, iw]
            out[:, :, oh, ow] /= _divisor(rows, cols, oh, ow, count_include_pad)
    return out


def avg_pool2d_backward(
    grad_output: Array,
    input_shape: Shape,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Array:
    """Share every gradient among the pixels of its window as its mean was taken, in float64."""
    height, width = input_shape[2:]
    stride = kernel_size if stride is None else stride
    rows, cols = axes(height, width, kernel_size, stride, 1, padding, ceil_mode=ceil_mode)
    grad = np.zeros(input_shape)
    for oh, row in enumerate(rows.taps):
        for ow, column in enumerate(cols.taps):
            share = grad_output[:, :, oh, ow].astype(np.float64)
            share /= _divisor(rows, cols, oh, ow, count_include_pad)
            for ih, iw in _pixels(row, column):
                grad[:, :, ih, iw] += share
    return grad


def _pixels(row: list[int], column: list[int]) -> list[Pair]:
    return [(ih, iw) for ih in row for iw in column if OUTSIDE not in (ih, iw)]


def _divisor(rows: Axis, cols: Axis, oh: int, ow: int, count_include_pad: bool) -> int:
    if count_include_pad:
        return rows.lengths[oh] * cols.lengths[ow]
    return len(_pixels(rows.taps[oh], cols.taps[ow]))


# ----------------------------------------------------------------------------------- convolution


def conv2d(
    images: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    pad_mode: str = "constant",
) -> Array:
    """Add the products of each tap to all outputs, in float64; the bias comes last."""
    filters, framed = _grouped(weight, groups), _framed(images)
    height, width = images.shape[2:]
    rows, cols = axes(height, width, weight.shape[2:], stride, dilation, padding, pad_mode)
    shape = len(images), len(weight), len(rows.taps), len(cols.taps)
    out = np.zeros(shape)
    for kh, kw in np.ndindex(weight.shape[2:]):
        seen = _grouped(framed[_places(rows, cols, kh, kw)], groups, axis=1)
        out += (filters[..., kh, kw] @ seen).reshape(shape)
    return out if bias is None else out + bias.astype(np.float64)[:, None, None]


def conv2d_backward(
    grad_output: Array,
    images: Array,
    weight: Array,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    pad_mode: str = "constant",
) -> tuple[Array, Array, Array]:
    """Hand every gradient to the pixel and to the tap that its output was made of, in float64."""
    filters, framed = _grouped(weight, groups), _framed(images)
    height, width = images.shape[2:]
    rows, cols = axes(height, width, weight.shape[2:], stride, dilation, padding, pad_mode)
    grads = _grouped(grad_output, groups, axis=1)
    grad_framed, grad_weight = np.zeros_like(framed), np.zeros(weight.shape)
    for kh, kw in np.ndindex(weight.shape[2:]):
        places = _places(rows, cols, kh, kw)
        seen = _grouped(framed[places], groups, axis=1)
        tap = (grads @ seen.swapaxes(-1, -2)).sum(axis=0)
        grad_weight[:, :, kh, kw] += tap.reshape(weight.shape[:2])
        shares = filters[..., kh, kw].swapaxes(-1, -2) @ grads
        np.add.at(grad_framed, places, shares.reshape(framed[places].shape))
    grad_input = grad_framed[:, :, :-1, :-1].copy()
    return grad_input, grad_weight, grad_output.astype(np.float64).sum(axis=(0, 2, 3))


def conv_transpose2d(
    images: Array,
    weight: Array,
    bias: Array | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Array:
    """Spread all pixels over a plane, tap by tap, and cut the padding off, in float64."""
    count, _, height, width = images.shape
    filters = _grouped(weight, groups).swapaxes(1, 2)
    pixels = _grouped(images, groups, axis=1)
    (stride_h, stride_w), (dilation_h, dilation_w) = pair(stride), pair(dilation)
    (top, bottom), (left, right) = sides(padding)
    more_h, more_w = pair(output_padding)
    kernel_h, kernel_w = weight.shape[2:]
    full_h = (height - 1) * stride_h + dilation_h * (kernel_h - 1) + 1 + more_h
    full_w = (width - 1) * stride_w + dilation_w * (kernel_w - 1) + 1 + more_w
    plane = np.zeros((count, weight.shape[1] * groups, full_h, full_w))
    for kh, kw in np.ndindex(kernel_h, kernel_w):
        shares = (filters[..., kh, kw] @ pixels).reshape(*plane.shape[:2], height, width)
        first_h, first_w = kh * dilation_h, kw * dilation_w
        end_h, end_w = first_h + height * stride_h, first_w + width * stride_w
        plane[:, :, first_h:end_h:stride_h, first_w:end_w:stride_w] += shares
    out = plane[:, :, top : full_h - bottom, left : full_w - right].copy()
    return out if bias is None else out + bias.astype(np.float64)[:, None, None]


def _framed(images: Array) -> Array:
    """Add a row and a column of zeros behind, where the index OUTSIDE leads."""
    framed = np.zeros((*images.shape[:2], images.shape[2] + 1, images.shape[3] + 1))
    framed[:, :, :-1, :-1] = images
    return framed


def _places(rows: Axis, cols: Axis, kh: int, kw: int) -> Any:
    """Return the index of the pixel that one tap reads, for each output."""
    column = np.array([taps[kh] for taps in rows.taps])[:, None]
    return slice(None), slice(None), column, np.array([taps[kw] for taps in cols.taps])


def _grouped(array: Array, groups: int, axis: int = 0) -> Array:
    """Cut an axis into groups; of images, whose channels are axis 1, flatten the planes too."""
    shape = array.shape
    size = shape[axis] // groups
    parts = (shape[0], groups, size, shape[2] * shape[3]) if axis else (groups, size, *shape[1:])
    return array.astype(np.float64).reshape(parts)


def textbook_conv2d(images: Array, weight: Array, stride: int = 1, pad: int = 0) -> Array:
    """Follow course code: columns, and one product of matrices, in the caller's dtype."""
    count, _, height, width = images.shape
    filters, _, kernel_h, kernel_w = weight.shape
    out_h = (height + 2 * pad - kernel_h) // stride + 1
    out_w = (width + 2 * pad - kernel_w) // stride + 1
    col = textbook_im2col(images, kernel_h, kernel_w, stride, pad)
    out: Array = np.dot(col, weight.reshape(filters, -1).T)
    return out.reshape(count, out_h, out_w, filters).transpose(0, 3, 1, 2)


def textbook_conv2d_backward(
    grad_output: Array, images: Array, weight: Array, stride: int = 1, pad: int = 0
) -> tuple[Array, Array, Array]:
    """Follow course code backwards: the gradients of the columns, folded, and of the weight."""
    filters, _, kernel_h, kernel_w = weight.shape
    col = textbook_im2col(images, kernel_h, kernel_w, stride, pad)
    grads = grad_output.transpose(0, 2, 3, 1).reshape(-1, filters)
    grad_weight = np.dot(col.T, grads).T.reshape(weight.shape)
    grad_col = np.dot(grads, weight.reshape(filters, -1))
    grad_input = textbook_col2im(grad_col, images.shape, kernel_h, kernel_w, stride, pad)
    return grad_input, grad_weight, grads.sum(axis=0)


def activate(x: Array, activation: Any) -> Array:
    """Apply an activation by its ONNX formula."""
    name, *bounds = (
        (activation,) if activation is None or isinstance(activation, str) else activation
    )
    y: Array
    with np.errstate(over="ignore", invalid="ignore"):
        match name:
            case None:
                y = x
            case "relu":
                y = np.maximum(x, 0)
            case "relu6":
                y = np.minimum(np.maximum(x, 0), 6)
            case "clip":
                y = np.minimum(np.maximum(x, bounds[0]), bounds[1])
            case "leaky_relu":
                y = np.where(x < 0, 0.01 * x, x)
            case "hardsigmoid":
                y = np.minimum(np.maximum(0.2 * x + 0.5, 0), 1)
            case "hardswish":
                y = x * np.minimum(np.maximum(x / 6 + 0.5, 0), 1)
            case "sigmoid":
                y = 1 / (1 + np.exp(-x))
            case "silu":
                y = x / (1 + np.exp(-x))
            case _:
                raise AssertionError(name)
    return y
