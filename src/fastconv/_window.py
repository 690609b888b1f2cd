"""The geometry of sliding windows: the one size formula, its inverse, and their errors.

All arguments here are read already: `fastconv._arguments` does that. What has a number for each
axis is a tuple of two for images, and of one for signals, whose errors tell plain numbers.
"""

from __future__ import annotations

from math import gcd
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from fastconv._errors import argument_error

Pair: TypeAlias = tuple[int, int]
Pairs: TypeAlias = tuple[Pair, Pair]
Sizes: TypeAlias = tuple[int, ...]
"""A number for each axis, vertical before horizontal."""
Sides: TypeAlias = tuple[Pair, ...]
"""Padding before and behind each axis."""
Pads: TypeAlias = int | str | Sides
"""Padding: an int for all sides, "valid", "same" or the sides of each axis."""

PAD_MODES = ("constant", "edge", "reflect", "symmetric", "wrap")
"""What padding can show, in the order in which window.h numbers it."""

LARGEST = 2**40
"""The most positions along an axis: kernels multiply a few of them in signed 64-bit integers."""


class Window:
    """The geometry of a window sliding over an image, or along a signal, of a given size.

    Attributes
    ----------
    out : tuple of int
        Output size by axis,
        ``floor((size + before + after - dilation*(kernel - 1) - 1) / stride) + 1`` (rounded up
        with ``ceil_mode``, less a window that would start in the padding behind).
    out_h, out_w : int
        The same for the kernels, to which a signal is an image of one row.
    is_dense_3x3 : bool
        Whether it has 3x3 taps, and stride and dilation are 1.
    turned : ndarray or None
        The numbers of the same window along one row, if images and outputs are one column.
    is_plane : bool
        Whether there is one place, where the window is the whole image and nothing else.
    folds : bool
        Whether padding shows pixels, whose gradients are then added to those of the pixels.
    packed : ndarray of intp, shape (2, 8)
        All numbers of both axes for the kernels, in the order of ``struct Axis`` in ``window.h``.
    """

    __slots__ = ("folds", "is_dense_3x3", "is_plane", "out", "packed", "turned")

    def __init__(
        self,
        size: Sizes,
        kernel: Sizes,
        stride: Sizes,
        dilation: Sizes,
        padding: Pads,
        pad_mode: str,
        ceil_mode: bool = False,
        out: Sizes | None = None,
    ) -> None:
        span = _spans(kernel, dilation)
        if padding == "same":
            pads: Sides = tuple(map(_same_padding, size, stride, span))
        else:
            pads = _explicit_padding(padding, len(size))
        padded = tuple([n + sum(pad) for n, pad in zip(size, pads)])
        if max(*padded, *span, *stride) > LARGEST:
            raise argument_error(
                ValueError,
                f"padded input {told(padded)}, kernel {told(kernel)} with dilation "
                f"{told(dilation)} or stride {told(stride)} is too large: the limit is {LARGEST} "
                "positions",
            )
        if any(n < k for n, k in zip(padded, span)):
            raise argument_error(
                ValueError,
                f"kernel {told(kernel)} with dilation {told(dilation)} does not fit the padded "
                f"input {told(padded)}",
            )
        if out is None:
            out = tuple([_out_size(*axis, ceil_mode) for axis in zip(size, pads, stride, span)])
        self.out = out
        mode = PAD_MODES.index(pad_mode)
        rows = [
            # The stride of a single output and the dilation of a single tap mean nothing, and
            # must cost nothing.
            (n, o, k, s if o > 1 else 1, d if k > 1 else 1, *pad, mode)
            for n, o, k, s, d, pad in zip(size, out, kernel, stride, dilation, pads)
        ]
        trivial = (1, 1, 1, 1, 1, 0, 0, mode)
        rows = rows if len(rows) == 2 else [trivial, *rows]
        self.packed = _packed(rows)
        self.turned = _packed(rows[::-1]) if rows[0] != rows[1] == trivial else None
        self.folds = pad_mode != "constant"
        self.is_plane = max(out) == 1 and kernel == span == padded == size
        self.is_dense_3x3 = bool((self.packed[:, 2:5] == (3, 1, 1)).all())

    @property
    def out_h(self) -> int:
        """Number of rows of outputs."""
        return self.out[0] if len(self.out) == 2 else 1

    @property
    def out_w(self) -> int:
        """Number of columns of outputs."""
        return self.out[-1]


def _packed(rows: list[tuple[int, ...]]) -> npt.NDArray[np.intp]:
    """Make the array of a window's numbers, which never changes."""
    packed = np.array(rows, np.intp)
    packed.flags.writeable = False
    return packed


def told(sizes: Sizes) -> str:
    """Write the sizes of all axes for errors: a pair, or the number of the only axis."""
    return str(sizes if len(sizes) > 1 else sizes[0])


def _spans(kernel: Sizes, dilation: Sizes) -> Sizes:
    """Return the distance from the first tap of a window to its last, plus one, by axis."""
    return tuple([d * (k - 1) + 1 for k, d in zip(kernel, dilation)])


def _out_size(size: int, padding: Pair, stride: int, span: int, ceil_mode: bool) -> int:
    """Return how many places a window has."""
    steps, rest = divmod(size + sum(padding) - span, stride)
    return steps + 1 + (ceil_mode and rest > 0 and (steps + 1) * stride < size + padding[0])


def _same_padding(size: int, stride: int, span: int) -> Pair:
    """Return padding that makes ceil(size / stride) outputs, the odd pixel behind."""
    total = max((-(-size // stride) - 1) * stride + span - size, 0)
    return total // 2, total - total // 2


def _explicit_padding(padding: Pads, axes: int) -> Sides:
    """Return the sides of each axis of padding that is not "same"."""
    if isinstance(padding, tuple):
        return padding
    pixels = padding if isinstance(padding, int) else 0  # "valid"
    return ((pixels, pixels),) * axes


def pooling_window(
    size: Sizes, kernel: Sizes, stride: Sizes, dilation: Sizes, padding: Pads, ceil_mode: bool
) -> Window:
    """Return a window of which every place holds a real pixel."""
    found = Window(size, kernel, stride, dilation, padding, "constant", ceil_mode)
    vertical, horizontal = found.packed.tolist()
    if len(size) == 1:
        _check_that_places_are_real(horizontal, "")
    else:
        _check_that_places_are_real(vertical, " (vertical)")
        _check_that_places_are_real(horizontal, " (horizontal)")
    return found


def _check_that_places_are_real(axis: list[int], name: str) -> None:
    """Refuse an axis of a window, as it is packed, along which a place holds padding alone.

    `name` is what the error says of the axis, behind everything else.
    """
    size, out, kernel, stride, dilation, before, after, _ = axis
    if max(before, after) > dilation * (kernel - 1):
        raise argument_error(
            ValueError,
            f"padding must be smaller than dilation*(kernel_size - 1) + 1 on each side for "
            f"pooling, got {(before, after)} with kernel {kernel} and dilation {dilation}{name}",
        )
    # A window starts in the padding at -before + o*stride. Its first tap that is not in front of
    # the image lies at that start modulo dilation, so the starts repeat after dilation / gcd. All
    # other windows hold a pixel because the padding is smaller than the window.
    starts = range(-before, min(0, -before + out * stride), stride)
    starts = starts[: dilation // gcd(dilation, stride)]
    if dilation > size and any(start % dilation >= size for start in starts):
        raise argument_error(
            ValueError,
            f"every window of a pooling must hold a pixel: with dilation {dilation} and "
            f"padding {(before, after)} one lies beside all {size}{name}",
        )


def transposed_window(
    shape: Sizes,
    kernel: Sizes,
    stride: Sizes,
    padding: Pads,
    output_padding: Sizes,
    dilation: Sizes,
) -> tuple[Sizes, Window]:
    """Return the size that `shape` is spread to, and the window that brings it back."""
    _refuse_same(padding)
    for extra, s, d in zip(output_padding, stride, dilation):
        if extra >= max(s, d):
            raise argument_error(
                ValueError,
                "output_padding must be smaller than stride or dilation, got "
                f"{told(output_padding)} with stride {told(stride)} and dilation {told(dilation)}",
            )
    sides = _explicit_padding(padding, len(shape))
    least = _spread_size(shape, stride, sides, _spans(kernel, dilation))
    size = tuple([spread + extra for spread, extra in zip(least, output_padding)])
    if min(size) < 1:
        raise argument_error(
            ValueError,
            f"padding {padding!r} leaves nothing: the output for input {told(shape)}, kernel "
            f"{told(kernel)}, stride {told(stride)} and dilation {told(dilation)} would be "
            f"{told(size)}",
        )
    return size, Window(size, kernel, stride, dilation, sides, "constant", out=shape)


def _spread_size(shape: Sizes, stride: Sizes, padding: Sides, span: Sizes) -> Sizes:
    """Return the least size over which a window has `shape` places; the size formula, inverted."""
    axes = zip(shape, stride, padding, span)
    return tuple([(n - 1) * s - sum(p) + k for n, s, p, k in axes])


def unpooled_size(shape: Sizes, kernel: Sizes, stride: Sizes, padding: Pads) -> Sizes:
    """Return the least size of an image that is pooled to `shape`."""
    size = _spread_size(shape, stride, _explicit_padding(padding, len(shape)), kernel)
    if min(size) < 1:
        raise argument_error(
            ValueError,
            f"padding {padding!r} leaves nothing: the size for input {told(shape)}, kernel_size "
            f"{told(kernel)} and stride {told(stride)} would be {told(size)}",
        )
    return size


def check_unpooled(kernel: Sizes, stride: Sizes, padding: Pads) -> None:
    """Refuse a pooling window that tells no size, or that is beyond the limit."""
    _refuse_same(padding)
    sides = _explicit_padding(padding, len(kernel))
    if max(*kernel, *stride, *(pixels for side in sides for pixels in side)) > LARGEST:
        raise argument_error(
            ValueError,
            f"kernel {told(kernel)}, stride {told(stride)} or padding {padding!r} is too large: "
            f"the limit is {LARGEST} positions",
        )


def _refuse_same(padding: Pads) -> None:
    if padding == "same":
        raise argument_error(
            ValueError, 'padding must not be "same" here: it does not tell the size'
        )
