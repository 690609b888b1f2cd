"""Which pixels of an image, or samples of a signal, an output of a layer depends on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any, NamedTuple

import numpy as np

from fastconv._arguments import IntPair, Padding, window
from fastconv._arguments import steps as steps_of
from fastconv._arrays import Shape
from fastconv._errors import argument_error, shown
from fastconv._layer import Layer, is_chain
from fastconv._window import Sizes
from fastconv.layers import (
    Affine,
    AveragePooling,
    AveragePooling1D,
    BatchNormalization,
    Chain,
    ChannelShuffle,
    Concatenation,
    Convolution,
    Convolution1D,
    Dropout,
    Flatten,
    GlobalAveragePooling,
    HardSigmoid,
    HardSwish,
    IdentityShortcut,
    LeakyRelu,
    LocalResponseNormalization,
    Pooling,
    Pooling1D,
    Relu,
    Relu6,
    Residual,
    Sigmoid,
    SiLU,
)

__all__ = ["ReceptiveField", "receptive_field_of"]

POINTWISE = (
    *(HardSigmoid, HardSwish, LeakyRelu, Relu, Relu6, Sigmoid, SiLU),
    *(BatchNormalization, ChannelShuffle, Dropout, LocalResponseNormalization),
)
"""The layers of which an output depends on one pixel, which is at its own place."""

GLOBAL = (Affine, Flatten, GlobalAveragePooling)
"""The layers of which an output depends on all pixels, or which make rows of images."""


class ReceptiveField(NamedTuple):
    """The pixels of the input that an output depends on, by axis, (vertical, horizontal).

    Of signals there is one axis.

    Attributes
    ----------
    size : tuple of int
        How many rows and columns one output depends on.
    stride : tuple of int
        How far the pixels of neighbouring outputs are from each other. It is a
        `fractions.Fraction` where the result is larger than the image.
    offset : tuple of int
        The first row and column that output (0, 0) depends on, negative in the padding.

    Examples
    --------
    >>> from fastconv.models import ReceptiveField
    >>> ReceptiveField(size=(7, 5), stride=(2, 1), offset=(-3, -2)).halo
    ((3, 2), (2, 2))
    """

    size: Sizes
    stride: Sizes
    offset: Sizes

    @property
    def halo(self) -> tuple[tuple[int, int], ...]:
        """How many pixels before and behind a tile its outputs depend on, by axis.

        The tile is one of the image, which begins and ends at multiples of the stride.
        """
        axes = zip(self.size, self.stride, self.offset)
        return tuple(
            (max(0, -offset), max(0, ceil(offset + size - stride))) for size, stride, offset in axes
        )


class _View(NamedTuple):
    """What the outputs at a place in a network see, and how many of them there are by axis."""

    field: ReceptiveField
    extent: Sizes


def receptive_field_of(
    layers: Mapping[str, Layer], input_dim: Shape, name: str | None
) -> ReceptiveField:
    """Return the field behind a layer or, without a name, behind the last with local outputs.

    The arguments and errors are those of `Sequential.receptive_field`.
    """
    if not isinstance(name, (str, type(None))):
        raise argument_error(TypeError, f"layer must be a name, got {shown(name)}")
    if name is not None and name not in layers:
        raise argument_error(
            ValueError, f"layer must be one of {', '.join(layers)}, got {shown(name)}"
        )
    axes = len(input_dim) - 1
    if axes not in (1, 2):
        raise argument_error(
            ValueError,
            "only images (C, H, W) and signals (C, L) have receptive fields, inputs are "
            f"{input_dim}",
        )
    view = _View(ReceptiveField((1,) * axes, (1,) * axes, (0,) * axes), input_dim[1:])
    for key, layer in layers.items():
        if name is None and isinstance(layer, GLOBAL):
            break
        view = _behind(layer, view, key)
        if key == name:
            break
    return view.field


def _behind(layer: Any, view: _View, name: str) -> _View:
    """Return what a layer's outputs see, when its inputs see `view`."""
    if isinstance(layer, POINTWISE):
        return view
    if isinstance(layer, (Convolution, Convolution1D)):
        kernel = np.shape(layer.W)[2:]
        return _slid(view, kernel, layer.stride, layer.pad, layer.dilation, layer.pad_mode)
    if isinstance(layer, (Pooling, Pooling1D, AveragePooling, AveragePooling1D)):
        return _slid(view, tuple(map(int, layer.kernel_size)), layer.stride, layer.pad)
    if isinstance(layer, IdentityShortcut):
        return _slid(view, (1,) * len(view.extent), layer.stride)
    if isinstance(layer, Residual):
        shortcut = Chain() if layer.shortcut is None else layer.shortcut
        both = [_behind(way, view, name) for way in (layer.body, shortcut)]
        total = _union(both, name)
        return total if layer.activation is None else _behind(layer.activation, total, name)
    if isinstance(layer, Concatenation):
        return _union([_behind(branch, view, name) for branch in layer.children], name)
    if is_chain(layer):
        for child in layer.children:
            view = _behind(child, view, name)
        return view
    what = type(layer).__name__
    sees = "sees all pixels" if isinstance(layer, GLOBAL) else "may see any pixels"
    raise argument_error(ValueError, f"{name} has no receptive field: {what} {sees}")


def _slid(
    view: _View,
    kernel: Sizes,
    stride: IntPair,
    padding: Padding = 0,
    dilation: IntPair = 1,
    pad_mode: str = "constant",
) -> _View:
    """Return what the outputs of a window that slides over the inputs see."""
    found = window(view.extent, kernel, stride, padding, dilation, pad_mode)
    steps, _, taps = steps_of(stride, padding, dilation, axes=len(kernel))
    before = found.packed[-len(kernel) :, 5].tolist()
    by_axis = zip(*view.field, kernel, steps, taps, before)
    size, strides, offset = zip(
        *(
            (covered + d * (k - 1) * apart, apart * s, first - b * apart)
            for covered, apart, first, k, s, d, b in by_axis
        )
    )
    return _View(ReceptiveField(size, strides, offset), found.out)


def _union(views: Sequence[_View], name: str) -> _View:
    """Return what the outputs of ways that are added or joined see together."""
    fields = [view.field for view in views]
    strides = {field.stride for field in fields}
    if len(strides) > 1:
        raise argument_error(
            ValueError,
            f"{name} has no receptive field: its ways have the strides "
            f"{' and '.join(map(str, sorted(strides)))}",
        )
    first = tuple(map(min, zip(*(field.offset for field in fields))))
    ends = (map(sum, zip(field.offset, field.size)) for field in fields)
    size = tuple(max(end) - start for start, end in zip(first, zip(*ends)))
    return _View(ReceptiveField(size, fields[0].stride, first), views[0].extent)
