"""Receptive fields: which pixels change an output, and the sizes that are known."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from helpers import Array

from fastconv._layer import walk
from fastconv.layers import (
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
from fastconv.models import VGG, AlexNet, MobileNet, ResNet, Sequential


def network(size: tuple[int, int] = (41, 37)) -> Sequential:
    return Sequential((1, *size), dtype="f8", seed=0)


def of_ways() -> Sequential:
    """Make a residual of a wide and a narrow way, and branches of different places."""
    net = network((61, 57)).convolution(2, 3, stride=(2, 1), pad=1)
    body = net.branch().convolution(4, (5, 3), stride=2, pad=(2, 1)).add(Relu())
    body.convolution(4, 3, pad=1)
    net.add(Residual(*body.children, shortcut=IdentityShortcut(4, 2)))
    left = net.branch().convolution(2, 3, pad=((2, 0), (0, 2)))
    right = net.branch().convolution(2, 3, dilation=(1, 3), pad=(1, 3)).add(ChannelShuffle(2))
    nested = net.branch().add(Residual(Convolution(np.ones((4, 4, 3, 3)), None, pad=1)))
    return net.add(Concatenation(left.children, right.children, [], nested.children))


NETWORKS: dict[str, Callable[[], Sequential]] = {
    "nothing": network,
    "convolution": lambda: network().convolution(2, (3, 5), pad=(1, 0)),
    "strides": lambda: (
        network().convolution(2, 3, stride=(2, 3), pad=1).add(Relu()).convolution(2, 3, stride=2)
    ),
    "dilation": lambda: (
        network().convolution(2, 3, dilation=(2, 3), pad=4).convolution(2, 3, dilation=2)
    ),
    "pooling": lambda: network().add(Pooling(3, 2, 2), AveragePooling(2, 3, (1, 2), pad=(1, 0))),
    "same": lambda: network((40, 38)).convolution(1, 3, 2, "same").add(Pooling(3, 3, 2, "same")),
    "sides": lambda: network().convolution(1, 4, 1, ((3, 0), (1, 2))).convolution(1, 2, 2),
    "wrapped": lambda: network().add(
        Convolution(np.ones((2, 1, 3, 3)), None, pad=1, pad_mode="wrap"), Pooling(2, 2, 2)
    ),
    "pointwise": lambda: (
        network()
        .convolution(4, 3)
        .batch_normalization()
        .add(
            LocalResponseNormalization(3), Sigmoid(), Dropout(0.5), Chain(ChannelShuffle(2), Relu())
        )
    ),
    "ways": of_ways,
    "network": lambda: network().add(network().convolution(2, 3).add(Pooling(2, 2, 2))),
}


def made_of_ones(net: Sequential) -> Sequential:
    """Let every weight count, and no output be beyond what a sigmoid can tell apart."""
    for part in walk(net):
        if isinstance(part, Convolution):
            part.W[:] = 1 / part.W[0].size
            if part.b is not None:
                part.b[:] = 0
        if isinstance(part, BatchNormalization):
            assert part.running_var is not None
            part.running_var[:] = 1
    return net


def changed(net: Sequential, lines: Array, place: tuple[int, int]) -> list[int]:
    """Return in which of some lines of pixels a change changes the output at a place."""
    h, w = net.input_dim[1:]
    base = np.random.default_rng(0).random((1, 1, h, w))
    outputs = net.predict(np.concatenate([base, base + lines]))[..., place[0], place[1]]
    return [i for i, row in enumerate(outputs[1:]) if (row != outputs[0]).any()]


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS.keys())
def test_perturbations(make: Callable[[], Sequential]) -> None:
    """Exactly the rows and columns of the field change an output, at its ends and in between."""
    net = made_of_ones(make())
    h, w = net.input_dim[1:]
    rows = 2.0 * np.eye(h).reshape(h, 1, h, 1) * np.ones((1, 1, 1, w))
    columns = 2.0 * np.eye(w).reshape(w, 1, 1, w) * np.ones((1, 1, h, 1))
    size, stride, offset = net.receptive_field()
    middle = net.output_dim[1] // 2, net.output_dim[2] // 2
    for place in (middle, (middle[0] - 1, middle[1] + 1)):
        for axis, lines in enumerate((rows, columns)):
            first = offset[axis] + place[axis] * stride[axis]
            seen = changed(net, lines, place)
            assert (seen[0], seen[-1]) == (first, first + size[axis] - 1)


@pytest.mark.parametrize(
    "layer", [HardSigmoid(), HardSwish(), LeakyRelu(), Relu(), Relu6(), Sigmoid(), SiLU()], ids=repr
)
def test_activations_see_one_pixel(layer: Any) -> None:
    assert network().add(layer).receptive_field() == ((1, 1), (1, 1), (0, 0))


def test_corners_see_padding() -> None:
    net = made_of_ones(NETWORKS["same"]())
    size, stride, offset = net.receptive_field()
    assert (size, stride, offset) == ((7, 7), (4, 4), (0, -2))  # 40 rows halve evenly, 38 do not.
    field = made_of_ones(network().convolution(1, 3, pad=1).convolution(1, 3, pad=1))
    assert field.receptive_field() == ((5, 5), (1, 1), (-2, -2))
    rows = 2.0 * np.eye(41).reshape(41, 1, 41, 1) * np.ones((1, 1, 1, 37))
    assert changed(field, rows, (0, 18)) == [0, 1, 2]


@pytest.mark.parametrize(
    ("make", "size", "stride"),
    [
        (partial(AlexNet, (3, 67, 67), 2), 195, 32),
        (partial(VGG, 16, (3, 32, 32), 2, 2), 212, 32),
        (partial(ResNet, 18, (3, 32, 32), 2), 435, 32),
        (partial(ResNet, 50, (3, 32, 32), 2), 427, 32),
        (partial(ResNet, 50, (3, 32, 32), 2, stride_in_3x3=False), 483, 32),
        (partial(MobileNet, (3, 32, 32), 2), 315, 32),
        (partial(ResNet, 20, (3, 8, 8)), 81, 4),
    ],
    ids=["AlexNet", "VGG-16", "ResNet-18", "ResNet-50", "ResNet-50-v1", "MobileNet", "ResNet-20"],
)
def test_sizes_that_are_known(make: Callable[..., Sequential], size: int, stride: int) -> None:
    field = make(seed=0).receptive_field()
    assert (field.size, field.stride) == ((size, size), (stride, stride))


def test_layers_by_name() -> None:
    net = network().convolution(2, 3).add(Relu()).convolution(2, 3).add(Flatten()).affine(3)
    assert net.receptive_field("Conv1").size == (3, 3)
    assert net.receptive_field("Relu1").size == (3, 3)
    assert net.receptive_field("Conv2") == net.receptive_field() == ((5, 5), (1, 1), (0, 0))
    for name in ("Flatten1", "Affine1"):
        message = "Flatten1 has no receptive field: Flatten sees all pixels"
        with pytest.raises(ValueError, match=f"^Sequential: {message}"):
            net.receptive_field(name)
    names = "Conv1, Relu1, Conv2, Flatten1, Affine1"
    with pytest.raises(ValueError, match=f"^Sequential: layer must be one of {names}, got 'Conv3'"):
        net.receptive_field("Conv3")
    with pytest.raises(TypeError, match=r"^Sequential: layer must be a name, got 3"):
        net.receptive_field(3)  # type: ignore[arg-type]


class Unknown:
    def forward(self, x: Array) -> Array:
        return x

    def backward(self, dout: Array) -> Array:
        return dout


def test_fields_that_are_not_known() -> None:
    net = network().convolution(2, 3).add(Unknown()).convolution(1, 1)
    message = "Unknown1 has no receptive field: Unknown may see any pixels"
    with pytest.raises(ValueError, match=message):
        net.receptive_field()
    assert net.receptive_field("Conv1").size == (3, 3)
    with pytest.raises(ValueError, match=re.escape("receptive fields, inputs are (4,)")):
        Sequential((4,)).affine(3).receptive_field()
    squeezing = network().add(
        Residual(Unknown(), GlobalAveragePooling(), Flatten(), Spread(41, 37))
    )
    with pytest.raises(ValueError, match=r"Residual1 has no receptive field: Unknown"):
        squeezing.receptive_field()


class Spread(Unknown):
    """Gives every pixel the mean of its plane."""

    def __init__(self, *size: int) -> None:
        self.size = size

    def forward(self, x: Array) -> Array:
        return np.broadcast_to(x[:, :, None, None], (*x.shape, *self.size))


def test_ways_of_different_strides() -> None:
    one_pixel: Any = Sequential((1, 1, 1), seed=0)
    one_pixel.add(Residual(Pooling(1, 1, 2), shortcut=Pooling(1, 1, 3)))
    message = r"Residual1 .* its ways have the strides \(2, 2\) and \(3, 3\)"
    with pytest.raises(ValueError, match=message):
        one_pixel.receptive_field()
