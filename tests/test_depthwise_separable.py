"""Depthwise convolutions that the 1x1 convolution behind them computes to its scratch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastconv
from fastconv.inference._operations import DepthwiseSeparable
from fastconv.layers import BatchNormalization, Relu, Relu6, Residual
from fastconv.models import Sequential


def separable(
    channels: int, height: int, width: int, filters: int, stride: int, pad: Any, **options: Any
) -> Sequential:
    """Return a network of a depthwise 3x3 and a 1x1 convolution."""
    dtype, first, last = (options.get(name) for name in ("dtype", "first", "last"))
    net = Sequential((channels, height, width), dtype=dtype or "float32", seed=3)
    net.convolution(channels, 3, stride, pad, groups=channels, bias=options.get("bias", True))
    for layer in first or ():
        net.add(layer)
    net.convolution(filters, 1, bias=options.get("bias", True))
    for layer in last or ():
        net.add(layer)
    return net


def fused_steps(twin: Any) -> int:
    return sum(isinstance(step.operation, DepthwiseSeparable) for step in twin.graph.steps)


def assert_fused(net: Sequential, batch: int = 3, steps: int | None = 1) -> None:
    """Compare the twin with the network, on one thread and on several."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch, *net.input_dim)).astype(net.dtype)
    twin, expected = net.optimized(), net.predict(x)
    assert steps in (None, fused_steps(twin))
    scores = twin.predict(x)
    tolerance = {"float32": 1e-5, "float64": 1e-14}[np.dtype(net.dtype).name]
    scale = float(np.abs(expected).max())
    np.testing.assert_allclose(scores, expected, rtol=0, atol=tolerance * scale)
    for threads in (1, 2, 5):
        with fastconv.num_threads(threads):
            assert twin.predict(x).tobytes() == scores.tobytes()


SIZES = [(7, 7), (14, 14), (1, 1), (2, 3), (3, 1), (9, 16), (15, 17), (28, 28), (5, 33), (4, 70)]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sizes(level: str, dtype: str, size: tuple[int, int], stride: int) -> None:
    # Where a stride means nothing along one axis, the two convolutions stay two steps.
    steps = int(stride == 1 or min(size) > 2 or max(size) == 1)
    assert_fused(separable(19, *size, 21, stride, 1, dtype=dtype), steps=steps)


@pytest.mark.parametrize("channels", [2, 5, 16, 33, 64, 130])
@pytest.mark.parametrize("filters", [5, 16, 31, 96])
def test_channels_and_filters(level: str, channels: int, filters: int) -> None:
    assert_fused(separable(channels, 10, 11, filters, 1, 1))


PADS = [0, 1, 2, ((0, 1), (0, 1)), ((2, 0), (1, 3)), "same"]


@pytest.mark.parametrize("pad", PADS, ids=str)
@pytest.mark.parametrize("stride", [1, 2])
def test_paddings(level: str, pad: Any, stride: int) -> None:
    assert_fused(separable(8, 12, 13, 9, stride, pad))


def test_normalisation_and_activations(level: str) -> None:
    for first in ([Relu()], [Relu6()]):
        for last in ([], [Relu()], [Relu6()]):
            normalized = [BatchNormalization(np.full(12, 1.5), np.full(12, 0.1), eps=1e-3)]
            net = separable(12, 9, 9, 14, 1, 1, first=[*normalized, *first], last=last, bias=False)
            assert_fused(net)


def test_residuals(level: str) -> None:
    inner = separable(16, 8, 9, 16, 1, 1)
    net = Sequential((16, 8, 9), seed=1).add(Residual(*inner.layers.values()))
    assert_fused(net)


@given(st.data())
def test_any_layer(level: str, data: st.DataObject) -> None:
    draw = data.draw
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 60))
    pads = tuple((draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in range(2))
    if height + sum(pads[0]) < 3 or width + sum(pads[1]) < 3:
        return
    net = separable(
        draw(st.integers(2, 40)),
        height,
        width,
        draw(st.integers(5, 40)),
        draw(st.sampled_from([1, 2])),
        pads,
        dtype=draw(st.sampled_from(["float32", "float64"])),
        bias=draw(st.booleans()),
    )
    assert_fused(net, draw(st.integers(1, 5)), steps=None)


def test_the_first_image_of_a_batch_is_that_image_alone(level: str) -> None:
    net = separable(32, 14, 14, 64, 1, 1)
    x = np.random.default_rng(5).standard_normal((16, 32, 14, 14)).astype(np.float32)
    twin = net.optimized()
    assert twin.predict(x)[:1].tobytes() == twin.predict(x[:1]).tobytes()


def test_nan_reaches_what_sees_it(level: str) -> None:
    net = separable(8, 12, 13, 9, 1, 1)
    x = np.random.default_rng(5).standard_normal((2, 8, 12, 13)).astype(np.float32)
    x[1, 3, 5, 6] = np.nan
    np.testing.assert_array_equal(np.isnan(net.optimized().predict(x)), np.isnan(net.predict(x)))


def test_other_pairs_stay_two_steps() -> None:
    few_filters = separable(8, 9, 9, 4, 1, 1)
    assert_fused(few_filters, steps=0)
    wide = Sequential((4, 9, 9), seed=0).convolution(4, 5, 1, 2, groups=4).convolution(8, 1)
    assert_fused(wide, steps=0)
    mixed = Sequential((4, 9, 9), seed=0).convolution(8, 3, 1, 1, groups=4).convolution(8, 1)
    assert_fused(mixed, steps=0)
    larger = Sequential((8, 9, 9), seed=0).convolution(8, 3, 1, 1, groups=8).convolution(8, 3)
    assert_fused(larger, steps=0)
