"""Which pixels of an image an output of a layer depends on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastconv._arguments import IntPair, Padding, pair, window
from fastconv._arrays import Shape
from fastconv._errors import argument_error, shown
from fastconv._layer import Layer, is_chain
from fastconv._window import Pair
from fastconv.layers import (
    Affine,
    AveragePooling,
    BatchNormalization,
    Chain,
    ChannelShuffle,
    Concatenation,
    Convolution,
    Dropout,
    Flatten,
    GlobalAveragePooling,
    HardSigmoid,
    HardSwish,
    IdentityShortcut,
    LeakyRelu,
    LocalResponseNormalization,
    Pooling,
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

    Attributes
    ----------
    size : (int, int)
        How many rows and columns one output depends on.
    stride : (int, int)
        How far the pixels of neighbouring outputs are from each other.
    offset : (int, int)
        The first row and column that output (0, 0) depends on, negative in the padding.
    """

    size: Pair
    stride: Pair
    offset: Pair


class _View(NamedTuple):
    """What the outputs at a place in a network see, and how many of them there are by axis."""

    field: ReceptiveField
    extent: Pair


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
    if len(input_dim) != 3:
        raise argument_error(
            ValueError, f"only images (C, H, W) have receptive fields, inputs are {input_dim}"
        )
    view = _View(ReceptiveField((1, 1), (1, 1), (0, 0)), (input_dim[1], input_dim[2]))
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
    if isinstance(layer, Convolution):
        kernel = np.shape(layer.W)[2:]
        return _slid(view, kernel, layer.stride, layer.pad, layer.dilation, layer.pad_mode)
    if isinstance(layer, (Pooling, AveragePooling)):
        return _slid(view, (int(layer.pool_h), int(layer.pool_w)), layer.stride, layer.pad)
    if isinstance(layer, IdentityShortcut):
        return _slid(view, (1, 1), layer.stride)
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
    kernel: Pair,
    stride: IntPair,
    padding: Padding = 0,
    dilation: IntPair = 1,
    pad_mode: str = "constant",
) -> _View:
    """Return what the outputs of a window that slides over the inputs see."""
    steps, taps = pair(stride, "stride"), pair(dilation, "dilation")
    found = window(view.extent, kernel, steps, padding, taps, pad_mode)
    before = found.packed[:, 5].tolist()
    size, old_stride, offset = view.field
    return _View(
        ReceptiveField(
            _pair_of(size[i] + taps[i] * (kernel[i] - 1) * old_stride[i] for i in (0, 1)),
            _pair_of(old_stride[i] * steps[i] for i in (0, 1)),
            _pair_of(offset[i] - before[i] * old_stride[i] for i in (0, 1)),
        ),
        (found.out_h, found.out_w),
    )


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
    first = _pair_of(min(field.offset[i] for field in fields) for i in (0, 1))
    end = [max(field.offset[i] + field.size[i] for field in fields) for i in (0, 1)]
    size = _pair_of(end[i] - first[i] for i in (0, 1))
    return _View(ReceptiveField(size, fields[0].stride, first), views[0].extent)


def _pair_of(values: Iterable[int]) -> Pair:
    vertical, horizontal = values
    return vertical, horizontal
