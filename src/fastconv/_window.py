"""The geometry of sliding windows: the one size formula, its inverse, and their errors.

All arguments here are read already: `fastconv._arguments` does that.
"""

from __future__ import annotations

from math import gcd
from typing import TypeAlias

import numpy as np

from fastconv._errors import argument_error

Pair: TypeAlias = tuple[int, int]
Pairs: TypeAlias = tuple[Pair, Pair]
Pads: TypeAlias = int | str | Pairs
"""Padding: an int for all sides, "valid", "same" or ((top, bottom), (left, right))."""

PAD_MODES = ("constant", "edge", "reflect", "symmetric", "wrap")
"""What padding can show, in the order in which window.h numbers it."""

LARGEST = 2**40
"""The most positions along an axis: kernels multiply a few of them in signed 64-bit integers."""


class Window:
    """The geometry of a window sliding over an image of a given size.

    Attributes
    ----------
    out_h, out_w : int
        Output size, ``floor((size + before + after - dilation*(kernel - 1) - 1) / stride) + 1``
        (rounded up with ``ceil_mode``, less a window that would start in the padding behind).
    is_dense_3x3 : bool
        Whether it has 3x3 taps, and stride and dilation are 1.
    is_plane : bool
        Whether there is one place, where the window is the whole image and nothing else.
    folds : bool
        Whether padding shows pixels, whose gradients are then added to those of the pixels.
    packed : ndarray of intp, shape (2, 8)
        All numbers of both axes for the kernels, in the order of ``struct Axis`` in ``window.h``.
    """

    __slots__ = ("folds", "is_dense_3x3", "is_plane", "out_h", "out_w", "packed")

    def __init__(
        self,
        size: Pair,
        kernel: Pair,
        stride: Pair,
        dilation: Pair,
        padding: Pads,
        pad_mode: str,
        ceil_mode: bool = False,
        out: Pair | None = None,
    ) -> None:
        span = dilation[0] * (kernel[0] - 1) + 1, dilation[1] * (kernel[1] - 1) + 1
        if padding == "same":
            pads = (
                _same_padding(size[0], stride[0], span[0]),
                _same_padding(size[1], stride[1], span[1]),
            )
        else:
            pads = _explicit_padding(padding)
        padded = size[0] + sum(pads[0]), size[1] + sum(pads[1])
        if max(*padded, *span, *stride) > LARGEST:
            raise argument_error(
                ValueError,
                f"padded input {padded}, kernel {kernel} with dilation {dilation} or stride "
                f"{stride} is too large: the limit is {LARGEST} positions",
            )
        if padded[0] < span[0] or padded[1] < span[1]:
            raise argument_error(
                ValueError,
                f"kernel {kernel} with dilation {dilation} does not fit the padded input {padded}",
            )
        if out is None:
            out = (
                _out_size(size[0], pads[0], stride[0], span[0], ceil_mode),
                _out_size(size[1], pads[1], stride[1], span[1], ceil_mode),
            )
        self.out_h, self.out_w = out
        mode = PAD_MODES.index(pad_mode)
        self.packed = np.array(
            [
                # The stride of a single output and the dilation of a single tap mean nothing, and
                # must cost nothing.
                (n, o, k, s if o > 1 else 1, d if k > 1 else 1, *pad, mode)
                for n, o, k, s, d, pad in zip(size, out, kernel, stride, dilation, pads)
            ],
            dtype=np.intp,
        )
        self.packed.flags.writeable = False
        self.folds = pad_mode != "constant"
        self.is_plane = out == (1, 1) and kernel == span == padded == size
        self.is_dense_3x3 = bool((self.packed[:, 2:5] == (3, 1, 1)).all())


def _out_size(size: int, padding: Pair, stride: int, span: int, ceil_mode: bool) -> int:
    """Return how many places a window has."""
    steps, rest = divmod(size + sum(padding) - span, stride)
    return steps + 1 + (ceil_mode and rest > 0 and (steps + 1) * stride < size + padding[0])


def _same_padding(size: int, stride: int, span: int) -> Pair:
    """Return padding that makes ceil(size / stride) outputs, the odd pixel behind."""
    total = max((-(-size // stride) - 1) * stride + span - size, 0)
    return total // 2, total - total // 2


def _explicit_padding(padding: Pads) -> Pairs:
    """Return ((top, bottom), (left, right)) of padding that is not "same"."""
    if isinstance(padding, tuple):
        return padding
    pixels = padding if isinstance(padding, int) else 0  # "valid"
    return (pixels, pixels), (pixels, pixels)


def pooling_window(
    size: Pair, kernel: Pair, stride: Pair, dilation: Pair, padding: Pads, ceil_mode: bool
) -> Window:
    """Return a window of which every place holds a real pixel."""
    found = Window(size, kernel, stride, dilation, padding, "constant", ceil_mode)
    vertical, horizontal = found.packed.tolist()
    _check_that_places_are_real(vertical, "vertical")
    _check_that_places_are_real(horizontal, "horizontal")
    return found


def _check_that_places_are_real(axis: list[int], name: str) -> None:
    """Refuse an axis of a window, as it is packed, along which a place holds padding alone."""
    size, out, kernel, stride, dilation, before, after, _ = axis
    if max(before, after) > dilation * (kernel - 1):
        raise argument_error(
            ValueError,
            f"padding must be smaller than dilation*(kernel_size - 1) + 1 on each side for "
            f"pooling, got {(before, after)} with kernel {kernel} and dilation {dilation} "
            f"({name})",
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
            f"padding {(before, after)} one lies beside all {size} ({name})",
        )


def transposed_window(
    shape: Pair,
    kernel: Pair,
    stride: Pair,
    padding: Pads,
    output_padding: Pair,
    dilation: Pair,
) -> tuple[Pair, Window]:
    """Return the size that `shape` is spread to, and the window that brings it back."""
    _refuse_same(padding)
    for extra, s, d in zip(output_padding, stride, dilation):
        if extra >= max(s, d):
            raise argument_error(
                ValueError,
                f"output_padding must be smaller than stride or dilation, got {output_padding} "
                f"with stride {stride} and dilation {dilation}",
            )
    sides = _explicit_padding(padding)
    span = dilation[0] * (kernel[0] - 1) + 1, dilation[1] * (kernel[1] - 1) + 1
    h, w = (
        spread + extra
        for spread, extra in zip(_spread_size(shape, stride, sides, span), output_padding)
    )
    if h < 1 or w < 1:
        raise argument_error(
            ValueError,
            f"padding {padding!r} leaves nothing: the output for input {shape}, kernel {kernel}, "
            f"stride {stride} and dilation {dilation} would be {h, w}",
        )
    return (h, w), Window((h, w), kernel, stride, dilation, sides, "constant", out=shape)


def _spread_size(shape: Pair, stride: Pair, padding: Pairs, span: Pair) -> Pair:
    """Return the least size over which a window has `shape` places; the size formula, inverted."""
    h, w = ((n - 1) * s - sum(p) + k for n, s, p, k in zip(shape, stride, padding, span))
    return h, w


def unpooled_size(shape: Pair, kernel: Pair, stride: Pair, padding: Pads) -> Pair:
    """Return the least size of an image that is pooled to `shape`."""
    h, w = _spread_size(shape, stride, _explicit_padding(padding), kernel)
    if h < 1 or w < 1:
        raise argument_error(
            ValueError,
            f"padding {padding!r} leaves nothing: the size for input {shape}, kernel_size "
            f"{kernel} and stride {stride} would be {h, w}",
        )
    return h, w


def check_unpooled(kernel: Pair, stride: Pair, padding: Pads) -> None:
    """Refuse a pooling window that tells no size, or that is beyond the limit."""
    _refuse_same(padding)
    sides = _explicit_padding(padding)
    if max(*kernel, *stride, *sides[0], *sides[1]) > LARGEST:
        raise argument_error(
            ValueError,
            f"kernel {kernel}, stride {stride} or padding {padding!r} is too large: the limit is "
            f"{LARGEST} positions",
        )


def _refuse_same(padding: Pads) -> None:
    if padding == "same":
        raise argument_error(
            ValueError, 'padding must not be "same" here: it does not tell the size'
        )
