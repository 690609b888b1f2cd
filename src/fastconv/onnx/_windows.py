"""Windows over any number of spatial axes, by the attributes that convolution and pooling share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from fastconv._arrays import Array, Shape
from fastconv.onnx._checks import choice, room

AUTO_PAD = ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")
LONGEST = 1 << 40
"""The kernels of this library count no further than this."""


@dataclass(frozen=True)
class Axis:
    """A window along one axis.

    Attributes
    ----------
    size : int
        Number of pixels.
    kernel, stride, dilation : int
        Number of taps, and the distances between windows and between taps.
    before, after : int
        Numbers of pixels of padding.
    ceil : bool
        Whether a last window may reach beyond the padding.
    """

    size: int
    kernel: int
    stride: int = 1
    dilation: int = 1
    before: int = 0
    after: int = 0
    ceil: bool = False

    @property
    def span(self) -> int:
        """Distance from the first tap to the last, plus one."""
        return (self.kernel - 1) * self.dilation + 1

    @property
    def out(self) -> int:
        """Number of windows; one that would start in the padding behind is none."""
        steps, rest = divmod(self.size + self.before + self.after - self.span, self.stride)
        more = self.ceil and rest > 0 and (steps + 1) * self.stride < self.size + self.before
        return steps + 1 + more

    def tap(self, number: int) -> slice:
        """Return what a tap reads of an axis that is padded for all windows."""
        begin = number * self.dilation
        return slice(begin, begin + (self.out - 1) * self.stride + 1, self.stride)

    def positions(self) -> Array:
        """Return the first pixel of every window, negative in the padding."""
        return np.arange(self.out) * self.stride - self.before

    def count(self, low: int, high: int) -> Array:
        """Count the taps of every window that lie between two positions."""
        first = self.positions()
        from_low = np.maximum(0, -((first - low) // self.dilation))
        to_high = np.minimum(self.kernel, -((first - high) // self.dilation))
        return np.asarray(np.maximum(to_high - from_low, 0))


def axes_of_windows(
    sizes: Shape,
    kernel: Shape,
    auto_pad: str,
    strides: tuple[int, ...] | None,
    dilations: tuple[int, ...] | None,
    pads: tuple[int, ...] | None,
    ceil_mode: int = 0,
) -> list[Axis]:
    """Read the attributes of windows, and check that they fit."""
    count = len(sizes)
    choice(auto_pad, "auto_pad", *AUTO_PAD)
    strides = _listed(strides, "strides", count, 1, 1)
    dilations = _listed(dilations, "dilations", count, 1, 1)
    kernel = _listed(kernel, "kernel_shape", count, 1, 1)
    given = _listed(pads, "pads", 2 * count, 0, 0)
    if auto_pad != "NOTSET":
        given = (0,) * (2 * count)
    axes = []
    for i, numbers in enumerate(zip(sizes, kernel, strides, dilations)):
        axis = Axis(*numbers, given[i], given[count + i], bool(ceil_mode))
        if auto_pad.startswith("SAME"):
            axis = _same(axis, auto_pad)
        if axis.size + axis.before + axis.after < axis.span:
            raise ValueError(
                f"a window of {axis.span} pixels does not fit {axis.size} with padding "
                f"{(axis.before, axis.after)}"
            )
        axes.append(axis)
    return axes


def _same(axis: Axis, auto_pad: str) -> Axis:
    """Pad so that there are as many windows as strides fit; one side gets the odd pixel."""
    total = max((-(-axis.size // axis.stride) - 1) * axis.stride + axis.span - axis.size, 0)
    less, more = total // 2, total - total // 2
    before, after = (less, more) if auto_pad == "SAME_UPPER" else (more, less)
    return replace(axis, before=before, after=after, ceil=False)


def _listed(
    values: tuple[int, ...] | None, what: str, count: int, least: int, default: int
) -> tuple[int, ...]:
    """Return an attribute that has a number for each axis."""
    if not values:
        return (default,) * count
    if len(values) != count or min(values) < least or max(values) > LONGEST:
        raise ValueError(f"{what} must be {count} integers from {least} on, got {values}")
    return values


def listed_pads(values: tuple[int, ...] | None, what: str, count: int) -> tuple[int, ...]:
    """Return an attribute that has a number from 0 on for each axis or side."""
    return _listed(values, what, count, 0, 0)


def listed_steps(values: tuple[int, ...] | None, what: str, count: int) -> tuple[int, ...]:
    """Return an attribute that has a number from 1 on for each axis."""
    return _listed(values, what, count, 1, 1)


def padded(x: Array, axes: list[Axis], value: Any) -> Array:
    """Return images with padding for all windows, without pixels that none of them reaches."""
    lead = x.shape[: x.ndim - len(axes)]
    lengths = [(axis.out - 1) * axis.stride + axis.span for axis in axes]
    out = np.full(room((*lead, *lengths), x.dtype), value, x.dtype)
    source: list[Any] = [...]
    target: list[Any] = [...]
    for axis, length in zip(axes, lengths):
        size = max(min(axis.size, length - axis.before), 0)
        source.append(slice(size))
        target.append(slice(axis.before, axis.before + size))
    out[tuple(target)] = x[tuple(source)]
    return out


def taps(x: Array, axes: list[Axis]) -> Iterator[Array]:
    """Go through the taps of windows over padded images: the pixels that all windows see there."""
    for numbers in product(*(range(axis.kernel) for axis in axes)):
        index: list[Any] = [..., *(axis.tap(n) for axis, n in zip(axes, numbers))]
        yield x[tuple(index)]
