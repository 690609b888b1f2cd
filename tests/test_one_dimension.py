"""Convolution and pooling of signals against their definition, PyTorch and images of one row."""

from __future__ import annotations

import pickle
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
from gradients import assert_gradient, numerical_gradient
from helpers import (
    FLOATS,
    INTEGERS,
    LAYOUTS,
    PAD_MODES,
    Array,
    DType,
    Shape,
    assert_close,
    assert_same,
    guarded,
    integer_values,
    normal_values,
    refused,
)
from hypothesis import given
from hypothesis import strategies as st

import fastconv
from fastconv.layers import (
    AveragePooling1D,
    Chain,
    Concatenation,
    Convolution1D,
    Flatten,
    GlobalAveragePooling,
    Pooling1D,
    Relu,
    Residual,
)
from fastconv.models import Sequential, load_state_dict
from fastconv.training import Trainer

# --------------------------------------------------------------------------------- the definition


def places(size: int, kernel: int, window: dict[str, Any], ceil_mode: bool = False) -> Any:
    """Return which samples the taps of every window read, and what the windows cover."""
    padding = window.get("padding", 0)
    ends = padding if padding == "same" else (0, 0) if padding == "valid" else padding
    ends = (ends, ends) if isinstance(ends, int) else ends
    steps = (window.get("stride", 1), window.get("dilation", 1))
    return reference.axis(size, kernel, *steps, ends, window.get("pad_mode", "constant"), ceil_mode)


def conv1d(x: Array, weight: Array, bias: Array | None = None, **window: Any) -> Array:
    """Sum over channels and taps in loops, in the dtype of the arrays."""
    groups = window.pop("groups", 1)
    f, channels, kernel = weight.shape
    taps = places(x.shape[2], kernel, window).taps
    out = np.zeros((len(x), f, len(taps)), x.dtype)
    for filter_, at in ((i, i // (f // groups) * channels) for i in range(f)):
        for o, samples in enumerate(taps):
            for k, sample in enumerate(samples):
                if sample != reference.OUTSIDE:
                    seen = x[:, at : at + channels, sample]
                    out[:, filter_, o] += seen @ weight[filter_, :, k]
    return out if bias is None else out + bias[:, None]


def conv1d_backward(grad: Array, x: Array, weight: Array, **window: Any) -> list[Array]:
    """Give every product of the definition its gradients, in loops."""
    groups = window.pop("groups", 1)
    (f, channels, kernel), size = weight.shape, x.shape[2]
    grad_x, grad_weight = np.zeros_like(x), np.zeros_like(weight)
    for filter_, at in ((i, i // (f // groups) * channels) for i in range(f)):
        group = slice(at, at + channels)
        for o, samples in enumerate(places(size, kernel, window).taps):
            for k, sample in enumerate(samples):
                if sample != reference.OUTSIDE:
                    own = grad[:, filter_, o]
                    grad_x[:, group, sample] += own[:, None] * weight[filter_, :, k]
                    grad_weight[filter_, :, k] += own @ x[:, group, sample]
    return [grad_x, grad_weight, grad.sum(axis=(0, 2))]


def max_pool1d(
    x: Array, kernel: int, stride: int, padding: Any, dilation: int, ceil_mode: bool
) -> tuple[Array, Array]:
    """Look for the first of the largest samples of every window; NaN is larger than numbers."""
    window = {"stride": stride, "padding": padding, "dilation": dilation}
    found = []
    for samples in places(x.shape[2], kernel, window, ceil_mode).taps:
        real = np.array([sample for sample in samples if sample != reference.OUTSIDE])
        found.append(real[np.argmax(x[:, :, real], axis=2)])
    indices = np.stack(found, axis=2).astype(np.int64)
    maxima: Array = np.take_along_axis(x, indices, axis=2)
    return maxima, indices


def avg_pool1d(
    x: Array, kernel: int, stride: int, padding: Any, ceil_mode: bool, count_pad: bool
) -> Array:
    axis = places(x.shape[2], kernel, {"stride": stride, "padding": padding}, ceil_mode)
    means = []
    for samples, length in zip(axis.taps, axis.lengths):
        real = [sample for sample in samples if sample != reference.OUTSIDE]
        means.append(x[:, :, real].sum(axis=2) / (length if count_pad else len(real)))
    result: Array = np.stack(means, axis=2)
    return result


# ------------------------------------------------------------------------------------ convolution

WINDOWS: dict[str, tuple[Shape, Shape, dict[str, Any]]] = {
    "plain": ((2, 3, 17), (5, 3, 3), {}),
    "one-sample": ((1, 2, 1), (3, 2, 1), {}),
    "one-output": ((2, 3, 7), (4, 3, 7), {"stride": 3}),
    "padded": ((2, 3, 17), (5, 3, 3), {"padding": 1}),
    "ends": ((2, 3, 17), (5, 3, 4), {"padding": (0, 3)}),
    "same": ((2, 3, 17), (5, 3, 4), {"padding": "same", "stride": 2}),
    "valid": ((2, 3, 17), (5, 3, 4), {"padding": "valid"}),
    "stride": ((2, 3, 50), (33, 3, 3), {"stride": 2, "padding": 1}),
    "stride-beyond-the-kernel": ((1, 3, 50), (4, 3, 2), {"stride": 5}),
    "dilation": ((2, 4, 70), (5, 4, 3), {"dilation": 8, "padding": 8}),
    "pointwise": ((2, 20, 33), (40, 20, 1), {}),
    "groups": ((2, 4, 21), (6, 2, 3), {"groups": 2, "padding": 2, "stride": 2}),
    "depthwise": ((3, 5, 40), (5, 1, 9), {"groups": 5, "padding": 4}),
    "depthwise-stride": ((2, 5, 41), (10, 1, 4), {"groups": 5, "stride": 2, "padding": (2, 1)}),
    "one-channel": ((1, 1, 300), (1, 1, 64), {}),
    "one-to-many": ((1, 1, 300), (40, 1, 10), {"stride": 5}),
    "many-channels": ((1, 130, 20), (33, 130, 2), {"stride": 2}),
    "wide": ((1, 2, 5), (3, 2, 9), {"padding": 6}),
    **{
        f"{mode}-{stride}": (
            (2, 4, 13),
            (6, 2, 4),
            {"pad_mode": mode, "padding": (16, 5), "stride": stride, "dilation": 2, "groups": 2},
        )
        for mode in PAD_MODES
        for stride in (1, 3)
    },
}
each_window = pytest.mark.parametrize("name", WINDOWS)


@cache
def known(name: str) -> tuple[Array, ...]:
    """Make input, weight, bias and gradient of the output, with the exact results behind them."""
    shape, weight_shape, window = WINDOWS[name]
    x, weight = integer_values(shape, "f8"), integer_values(weight_shape, "f8", 1)
    bias = integer_values(weight_shape[:1], "f8", 2)
    output = conv1d(x, weight, bias, **window)
    grad = integer_values(output.shape, "f8", 3)
    return (x, weight, bias, grad, output, *conv1d_backward(grad, x, weight, **window))


def results_of(name: str, x: Array, weight: Array, bias: Array, grad: Array) -> list[Any]:
    window = WINDOWS[name][2]
    return [
        fastconv.conv1d(x, weight, bias, **window),
        *fastconv.conv1d_backward(grad, x, weight, **window),
    ]


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2"])
@each_window
def test_definition(level: str, threads: int, name: str, dtype: str) -> None:
    """Output and gradients are exact where sums of small integers are."""
    x, weight, bias, grad, *expected = (array.astype(dtype) for array in known(name))
    for result, array in zip(results_of(name, x, weight, bias, grad), expected, strict=True):
        assert_same(result, array + np.array(0, dtype))
    with guarded(expected[0].shape, dtype) as out:
        assert fastconv.conv1d(x, weight, bias, **WINDOWS[name][2], out=out) is out
        assert_same(out, expected[0] + np.array(0, dtype))


@each_window
def test_results_are_those_of_images_of_one_row_and_of_one_column(level: str, name: str) -> None:
    """The same bits: there is one way to compute them."""
    x, weight, bias, grad = (array.astype("f4") for array in known(name)[:4])
    x, weight = x * np.float32(0.1), weight * np.float32(0.3)
    expected = results_of(name, x, weight, bias, grad)
    window = dict(WINDOWS[name][2])
    for axis in (2, 3):
        pairs: dict[str, Any] = {
            key: (window[key], 1) if axis == 3 else (1, window[key])
            for key in ("stride", "dilation")
            if key in window
        }
        padding = window.get("padding", 0)
        if not isinstance(padding, str):
            ends = (padding, padding) if isinstance(padding, int) else padding
            padding = (ends, (0, 0)) if axis == 3 else ((0, 0), ends)
        pairs = {**window, **pairs, "padding": padding}
        images, filters, grads = (np.expand_dims(array, axis) for array in (x, weight, grad))
        results = [
            fastconv.conv2d(images, filters, bias, **pairs),
            *fastconv.conv2d_backward(grads, images, filters, **pairs),
        ]
        for result, array in zip(results, expected):
            assert result is not None
            assert_same(result.reshape(array.shape), array)


@pytest.mark.parametrize("name", ["stride", "groups", "dilation", "one-channel", "reflect-3"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout: str, name: str) -> None:
    arrays = known(name)
    given_arrays = [LAYOUTS[layout](array.astype("f4")) for array in arrays[:4]]
    for result, expected in zip(results_of(name, *given_arrays), arrays[4:], strict=True):
        assert_same(result, expected.astype("f4") + np.float32(0))


def test_views() -> None:
    x, weight = integer_values((40, 3, 2)), integer_values((5, 3, 3), seed=1)
    for view in (x.transpose(2, 1, 0), x.transpose(2, 1, 0)[:, :, ::2], x.T[:, :, ::-3]):
        expected = fastconv.conv1d(view.copy(), weight, padding=1)
        assert_same(fastconv.conv1d(view, weight, padding=1), expected)
        pooled = fastconv.max_pool1d(view.copy(), 3, 2, 1, return_indices=True)
        for result, array in zip(fastconv.max_pool1d(view, 3, 2, 1, return_indices=True), pooled):
            assert_same(result, array)
        assert_same(fastconv.avg_pool1d(view, 3, 2), fastconv.avg_pool1d(view.copy(), 3, 2))
    row = np.broadcast_to(x[:1, :, :1].T, (2, 3, 20))
    assert_same(fastconv.conv1d(row, weight), fastconv.conv1d(row.copy(), weight))


@pytest.mark.parametrize("dtype", [*INTEGERS, np.dtype(bool)], ids=lambda dtype: dtype.char)
def test_integers_are_computed_in_float64(dtype: DType) -> None:
    x, weight = integer_values((2, 4, 9), dtype), integer_values((6, 2, 3), dtype, 1)
    expected = conv1d(x.astype("f8"), weight.astype("f8"), groups=2)
    assert_same(fastconv.conv1d(x, weight, groups=2), expected + 0.0)
    means = avg_pool1d(x.astype("f8"), 2, 2, 0, False, True)
    assert_same(fastconv.avg_pool1d(x, 2), means)


@pytest.mark.parametrize("activation", ["relu", "silu", ("clip", -1, 3)], ids=str)
def test_epilogue(level: str, activation: Any) -> None:
    x, weight, bias = (normal_values(s, seed=len(s)) for s in ((2, 9, 50), (7, 9, 3), (7,)))
    added = normal_values((2, 7, 48), seed=5)
    plain = fastconv.conv1d(x, weight, bias).astype("f8") + added
    expected = reference.activate(plain, activation)
    more: dict[str, Any] = {"residual": added, "activation": activation}
    assert_close(fastconv.conv1d(x, weight, bias, **more), expected, "f4", 27)
    own = added.copy()
    fastconv.conv1d(x, weight, bias, residual=own, activation=activation, out=own)
    assert_same(own, fastconv.conv1d(x, weight, bias, **more))
    unbatched = fastconv.conv1d(x[1], weight, bias, residual=added[1], activation=activation)
    assert_same(unbatched, own[1])


def test_without_a_batch() -> None:
    x, weight, bias, grad, *_ = (array.astype("f4") for array in known("groups"))
    window = WINDOWS["groups"][2]
    batched = results_of("groups", x[:1], weight, bias, grad[:1])
    results = results_of("groups", x[0], weight, bias, grad[0])
    for result, expected in zip(results, [*(a[0] for a in batched[:2]), *batched[2:]]):
        assert_same(result, expected)
    spread = fastconv.conv_transpose1d(grad[0], weight, **window)
    assert_same(spread, fastconv.conv_transpose1d(grad[:1], weight, **window)[0])
    y, places = fastconv.max_pool1d(x[0], 3, return_indices=True)
    assert y.shape == places.shape == (4, 7)
    assert fastconv.max_pool1d_backward(y, places, x[0].shape).shape == x[0].shape
    assert fastconv.max_unpool1d(y, places, 3).shape == x[0].shape
    assert fastconv.avg_pool1d(x[0], 3).shape == y.shape
    assert fastconv.avg_pool1d_backward(y, x[0].shape, 3).shape == x[0].shape


def test_empty_batches() -> None:
    x, weight, grad = np.ones((0, 3, 8)), np.ones((4, 3, 3)), np.ones((0, 4, 6))
    assert fastconv.conv1d(x, weight).shape == (0, 4, 6)
    assert fastconv.conv_transpose1d(grad, weight).shape == (0, 3, 8)
    grad_x, grad_weight, grad_bias = fastconv.conv1d_backward(grad, x, weight)
    assert_same(grad_x, x)
    assert_same(grad_weight, np.zeros((4, 3, 3)))
    assert_same(grad_bias, np.zeros(4))
    y, places = fastconv.max_pool1d(x, 2, return_indices=True)
    assert y.shape == places.shape == fastconv.avg_pool1d(x, 2).shape == (0, 3, 4)
    assert fastconv.max_pool1d_backward(y, places, x.shape).shape == x.shape
    assert fastconv.max_unpool1d(y, places, 2).shape == x.shape
    assert fastconv.avg_pool1d_backward(y, x.shape, 2).shape == x.shape


def test_threads_give_the_same_bits() -> None:
    for shape, weight_shape, window in (
        ((1, 40, 3000), (96, 40, 3), {"stride": 2, "padding": 1}),
        ((3, 64, 500), (64, 64, 3), {"dilation": 8, "padding": 8}),
        ((2, 32, 700), (32, 1, 31), {"groups": 32, "padding": 15}),
        ((1, 1, 50_000), (1, 1, 64), {}),
        ((1, 1, 50_000), (16, 1, 64), {"pad_mode": "wrap", "padding": 70}),
    ):
        x, weight = normal_values(shape), normal_values(weight_shape, seed=1)
        results: list[list[Any]] = []
        for count in (1, 2, 3, 7):
            with fastconv.num_threads(count):
                y = fastconv.conv1d(x, weight, **window)
                results.append([y, *fastconv.conv1d_backward(y, x, weight, **window)])
        for other in results[1:]:
            for result, expected in zip(other, results[0]):
                assert_same(result, expected)


@pytest.mark.parametrize("name", ["groups", "edge-3", "same", "depthwise-stride"])
def test_gradients_are_central_differences(name: str) -> None:
    shape, weight_shape, window = WINDOWS[name]
    x, weight = normal_values(shape, "f8"), normal_values(weight_shape, "f8", 1)
    bias = normal_values(weight_shape[:1], "f8", 2)
    grad = normal_values(known(name)[3].shape, "f8", 3)

    def result() -> Any:
        return (fastconv.conv1d(x, weight, bias, **window) * grad).sum()

    grads = fastconv.conv1d_backward(grad, x, weight, **window)
    for found, array in zip(grads, (x, weight, bias)):
        assert found is not None
        assert_gradient(found, result, array)
    masked = fastconv.conv1d_backward(grad, x, weight, **window, output_mask=(False, True, False))
    assert masked[0] is masked[2] is None
    assert_same(masked[1], grads[1])  # type: ignore[arg-type]


def test_packed_weights() -> None:
    x, weight = normal_values((2, 9, 50)), normal_values((40, 9, 3), seed=1)
    packed = fastconv.PackedWeight(weight)
    grad = fastconv.conv1d(x, weight, stride=2)
    for _ in range(2):
        assert_same(fastconv.conv1d(x, packed, stride=2), grad)
        spread = fastconv.conv_transpose1d(grad, packed, stride=2)
        assert_same(spread, fastconv.conv_transpose1d(grad, weight, stride=2))
    assert packed.shape == (40, 9, 3)
    assert packed.nbytes > weight.nbytes


def test_long_signals(level: str) -> None:
    """Results past the caches, in rows that are no whole lines."""
    x, weight = integer_values((1, 1, 400_003)), integer_values((17, 1, 5), seed=1)
    bias = integer_values((17,), seed=2)
    expected = np.stack([np.correlate(x[0, 0], row[0]) for row in weight])[None] + bias[:, None]
    assert expected.nbytes > 20 << 20
    assert_same(fastconv.conv1d(x, weight, bias), expected + np.float32(0))
    clipped = fastconv.conv1d(x, weight, bias, activation="relu6", residual=expected)
    assert_same(clipped, np.clip(2 * expected, 0, 6) + np.float32(0))


def test_not_a_number_reaches_the_windows_that_hold_it(level: str) -> None:
    x, weight = normal_values((2, 5, 200)), normal_values((33, 5, 3), seed=1)
    expected = fastconv.conv1d(x, weight, dilation=4)
    x[1, 2, 100] = np.nan
    result = fastconv.conv1d(x, weight, dilation=4)
    hit = np.zeros(expected.shape, bool)
    hit[1, :, [92, 96, 100]] = True
    assert_same(np.isnan(result), hit)
    assert_same(result[~hit], expected[~hit])


TRANSPOSED: list[dict[str, Any]] = [
    {"stride": 1},
    {"stride": 2, "output_padding": 1},
    {"stride": 3, "padding": 1, "dilation": 2},
    {"stride": 5, "padding": (2, 0), "groups": 2},
    {"dilation": 3, "output_padding": 2, "padding": "valid"},
]


@pytest.mark.parametrize("window", TRANSPOSED, ids=str)
def test_conv_transpose1d(level: str, window: dict[str, Any]) -> None:
    groups = window.get("groups", 1)
    x, weight = integer_values((2, 4, 9)), integer_values((4, 6 // groups, 3), seed=1)
    bias = integer_values((6,), seed=2)
    pairs = dict(window)
    pairs.update({key: (1, window[key]) for key in ("stride", "dilation") if key in window})
    if "output_padding" in window:
        pairs["output_padding"] = (0, window["output_padding"])
    ends = window.get("padding", 0)
    if not isinstance(ends, str):
        pairs["padding"] = ((0, 0), (ends, ends) if isinstance(ends, int) else ends)
    expected = reference.conv_transpose2d(x[:, :, None], weight[:, :, None], bias, **pairs)
    expected = expected[:, :, 0].astype("f4")
    with guarded(expected.shape, "f4") as out:
        assert fastconv.conv_transpose1d(x, weight, bias, **window, out=out) is out
        assert_same(out, expected)
    assert_same(fastconv.conv_transpose1d(x, weight, bias, **window), expected)


@st.composite
def convolutions(draw: Any) -> tuple[Array, Array, dict[str, Any]]:
    groups, dilation = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    kernel, size = draw(st.integers(1, 6)), draw(st.integers(1, 70))
    before, after = draw(st.integers(0, 9)), draw(st.integers(0, 9))
    before += max(0, dilation * (kernel - 1) + 1 - size - before - after)
    shape = (draw(st.integers(1, 3)), groups * draw(st.integers(1, 5)), size)
    weight = (groups * draw(st.integers(1, 18)), shape[1] // groups, kernel)
    window = {
        "padding": (before, after),
        "stride": draw(st.integers(1, 5)),
        "dilation": dilation,
        "groups": groups,
        "pad_mode": draw(st.sampled_from(PAD_MODES)),
    }
    return integer_values(shape), integer_values(weight, seed=1), window


@given(convolutions())
def test_any_convolution(level: str, case: tuple[Array, Array, dict[str, Any]]) -> None:
    x, weight, window = case
    expected = conv1d(x.astype("f8"), weight.astype("f8"), **window)
    result = fastconv.conv1d(x, weight, **window)
    assert_same(result, (expected + 0.0).astype("f4"))
    exact = conv1d_backward(expected, x.astype("f8"), weight.astype("f8"), **window)
    grads = fastconv.conv1d_backward(expected, x, weight, **window)
    for grad, array in zip(grads, exact):
        assert_same(grad, array + 0.0)


# ---------------------------------------------------------------------------------------- pooling

POOLS: list[tuple[int, int, Any, int]] = [
    *((2, 2, 0, 1), (3, 2, 1, 1), (3, 1, "same", 1), (3, 2, (0, 2), 1), (1, 1, 0, 1)),
    *((5, 3, 2, 1), (3, 1, 2, 2), (2, 7, "valid", 5), (19, 19, 0, 1)),
]
each_pool = pytest.mark.parametrize("pool", POOLS, ids=str)
both_ceil_modes = pytest.mark.parametrize("ceil_mode", [False, True], ids=["floor", "ceil"])


def signals_with_ties(dtype: DType) -> Array:
    """Draw few different values; of floats some are NaN, infinite, or zeros of either sign."""
    x: Array = integer_values((3, 2, 19), dtype) % np.array(3, dtype)
    if dtype.kind == "f":
        x[0, 0, [3, 4, 11]] = np.nan
        x[0, 1, ::4], x[1, 0, 2::5] = -0.0, np.inf
    return x


@both_ceil_modes
@each_pool
@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS], ids=lambda dtype: dtype.char)
def test_max_pool1d(dtype: DType, pool: Any, ceil_mode: bool) -> None:
    x, window = signals_with_ties(dtype), (*pool, ceil_mode)
    maxima, indices = max_pool1d(x, *window)
    with guarded(maxima.shape, dtype) as out:
        found, where = fastconv.max_pool1d(x, *window, return_indices=True, out=out)
        assert found is out
        assert_same(out, maxima)
        assert_same(where, indices)
    assert_same(fastconv.max_pool1d(x, *window), maxima)


@both_ceil_modes
@each_pool
def test_max_pool1d_backward_and_unpool(level: str, pool: Any, ceil_mode: bool) -> None:
    x, window = normal_values((3, 2, 19)), (*pool, ceil_mode)
    y, indices = fastconv.max_pool1d(x, *window, return_indices=True)
    grads = integer_values(y.shape, seed=1)
    expected, restored = np.zeros_like(x), np.zeros_like(x)
    for n, c, o in np.ndindex(*y.shape):
        expected[n, c, indices[n, c, o]] += grads[n, c, o]
        restored[n, c, indices[n, c, o]] = y[n, c, o]
    with guarded(x.shape, "f4") as out:
        assert fastconv.max_pool1d_backward(grads, indices, x.shape, out=out) is out
        assert_same(out, expected)
    for size in (19, (19,), [3, 2, 19], x.shape):
        result = fastconv.max_unpool1d(y, indices.astype("i2"), pool[0], output_size=size)  # type: ignore[arg-type]
        assert_same(result, restored)


@pytest.mark.parametrize("count_pad", [True, False])
@both_ceil_modes
@pytest.mark.parametrize("pool", [pool for pool in POOLS if pool[3] == 1], ids=str)
def test_avg_pool1d(level: str, pool: Any, ceil_mode: bool, count_pad: bool) -> None:
    x, window = normal_values((3, 2, 19), "f8"), (*pool[:3], ceil_mode, count_pad)
    expected = avg_pool1d(x, *window)
    assert_close(fastconv.avg_pool1d(x, *window), expected, "f8", pool[0])
    for dtype in ("f4", "f2"):
        assert_close(fastconv.avg_pool1d(x.astype(dtype), *window), expected, dtype, pool[0])
    grads = normal_values(expected.shape, "f8", 1)
    result = fastconv.avg_pool1d_backward(grads, x.shape, *window)
    assert_gradient(result, lambda: (fastconv.avg_pool1d(x, *window) * grads).sum(), x)


# ---------------------------------------------------------------------------------------- PyTorch


@pytest.mark.parametrize("name", [n for n, case in WINDOWS.items() if "pad_mode" not in case[2]])
def test_pytorch_convolution(torch: Any, name: str) -> None:
    window = dict(WINDOWS[name][2])
    padding = window.get("padding", 0)
    if not isinstance(padding, int):
        pytest.skip("PyTorch pads both ends by one number")
    x, weight, bias, grad = (array.astype("f4") for array in known(name)[:4])
    tensors = [torch.from_numpy(array).requires_grad_() for array in (x, weight, bias)]
    output = torch.nn.functional.conv1d(*tensors, **window)
    output.backward(torch.from_numpy(grad))
    expected = [output.detach(), *(tensor.grad for tensor in tensors)]
    for result, tensor in zip(results_of(name, x, weight, bias, grad), expected, strict=True):
        np.testing.assert_array_equal(result, tensor.numpy())


@pytest.mark.parametrize("window", TRANSPOSED[:3], ids=str)
def test_pytorch_conv_transpose1d(torch: Any, window: dict[str, Any]) -> None:
    x, weight = integer_values((2, 4, 9)), integer_values((4, 6, 3), seed=1)
    tensors = torch.from_numpy(x), torch.from_numpy(weight)
    expected = torch.nn.functional.conv_transpose1d(*tensors, **window)
    np.testing.assert_array_equal(fastconv.conv_transpose1d(x, weight, **window), expected.numpy())


@both_ceil_modes
@pytest.mark.parametrize("pool", [(2, None, 0), (3, 2, 1), (5, 1, 2), (4, 3, 2)], ids=str)
def test_pytorch_pooling(torch: Any, pool: Any, ceil_mode: bool) -> None:
    x, F = signals_with_ties(np.dtype("f4")), torch.nn.functional
    x[np.isnan(x)] = 0
    given_tensor = torch.from_numpy(x)
    maxima, indices = F.max_pool1d(given_tensor, *pool, ceil_mode=ceil_mode, return_indices=True)
    kernel, stride, padding = pool
    window: Any = {"stride": stride, "padding": padding, "ceil_mode": ceil_mode}
    y, where = fastconv.max_pool1d(x, kernel, **window, return_indices=True)
    np.testing.assert_array_equal(y, maxima.numpy())
    np.testing.assert_array_equal(where, indices.numpy())
    if pool[2] == 0:
        restored = F.max_unpool1d(maxima, indices, *pool, output_size=x.shape)
        ours = fastconv.max_unpool1d(y, where, kernel, stride, output_size=x.shape)
        np.testing.assert_array_equal(ours, restored.numpy())
    for count_pad in (True, False):
        means = F.avg_pool1d(given_tensor, *pool, ceil_mode, count_pad)
        result = fastconv.avg_pool1d(x, kernel, **window, count_include_pad=count_pad)
        np.testing.assert_allclose(result, means.numpy(), rtol=1e-6)


# ----------------------------------------------------------------------------------------- errors

X, W = np.ones((2, 3, 5)), np.ones((4, 3, 3))
FLOAT: Any = 1.0
PADDINGS = r'padding must be a non-negative int, a pair \(before, after\), "valid" or "same", got '
REFUSED: list[tuple[Any, type[Exception], str]] = [
    (partial(fastconv.conv1d, np.ones((2, 3, 5, 5)), W), ValueError, r"^input must have 3 dim"),
    (partial(fastconv.conv1d, X, W[0]), ValueError, r"weight\[None\] is one filter"),
    (partial(fastconv.conv1d, X, W, stride=0), ValueError, r"stride must be a positive int, got 0"),
    (partial(fastconv.conv1d, X, W, stride=FLOAT), TypeError, r"a positive int, got 1\.0$"),
    (partial(fastconv.conv1d, X, W, stride=(1, 2)), ValueError, r"positive int, got \(1, 2\)"),
    (partial(fastconv.conv1d, X, W, dilation=True), TypeError, r"^dilation .* got True"),
    (partial(fastconv.conv1d, X, W, padding=-1), ValueError, PADDINGS + "-1"),
    (partial(fastconv.conv1d, X, W, padding=(1, 2, 3)), ValueError, PADDINGS + r"\(1, 2, 3\)"),
    (partial(fastconv.conv1d, X, W, padding="no"), ValueError, PADDINGS + "'no'"),
    (partial(fastconv.conv1d, X, W, padding=FLOAT), TypeError, PADDINGS + "1.0"),
    (partial(fastconv.conv1d, X, W, dilation=3), ValueError, r"kernel 3 with dilation 3 does not"),
    (partial(fastconv.conv1d, X, W, stride=2**41), ValueError, "stride 2199023255552 is too large"),
    (partial(fastconv.conv1d, X, W, algorithm="winograd"), ValueError, "for images, not for sig"),
    (partial(fastconv.conv1d, X, W, np.ones(3)), ValueError, r"bias must have shape \(4,\)"),
    (partial(fastconv.conv1d, X, W, groups=3), ValueError, "groups must divide weight's 4 filters"),
    (
        partial(fastconv.conv1d, X.transpose(0, 2, 1), W),
        ValueError,
        r"5 channels but weight expects 3 .* pass input\.transpose\(0, 2, 1\)",
    ),
    (
        partial(fastconv.conv1d, X, W, residual=np.ones((2, 4, 1, 3))),
        ValueError,
        r"residual must have the output's shape \(2, 4, 3\)",
    ),
    (
        partial(fastconv.conv1d, X, W, out=np.ones((2, 4, 2))),
        ValueError,
        r"out must have shape \(2, 4, 3\), got \(2, 4, 2\)",
    ),
    (
        partial(fastconv.conv1d_backward, X, X, W),
        ValueError,
        r"grad_output must have shape \(2, 4, 3\)",
    ),
    (
        partial(fastconv.conv_transpose1d, X, W[:3], output_padding=1),
        ValueError,
        "smaller than stride or dilation, got 1 with stride 1 and dilation 1",
    ),
    (
        partial(fastconv.conv_transpose1d, X, W[:3], output_padding=-1),
        ValueError,
        "output_padding must be a non-negative int, got -1",
    ),
    (
        partial(fastconv.conv_transpose1d, X, W[:3], padding=9),
        ValueError,
        "padding 9 leaves nothing: .* would be -11",
    ),
    (partial(fastconv.max_pool1d, X, 9), ValueError, "kernel 9 with dilation 1 does not fit"),
    (
        partial(fastconv.max_pool1d, X, 2, padding=(0, 2)),
        ValueError,
        r"got \(0, 2\) with kernel 2 and dilation 1$",
    ),
    (partial(fastconv.avg_pool1d, X, [2, 2]), ValueError, r"kernel_size must be a positive int"),
    (
        partial(fastconv.max_pool1d_backward, X, np.full(X.shape, 7), X.shape),
        ValueError,
        r"lie in \[0, 5\) for signals of 5 samples, got 7 at \(0, 0, 0\)",
    ),
    (
        partial(fastconv.max_pool1d_backward, X, np.zeros(X.shape, int), (2, 3, 5, 5)),
        ValueError,
        "input_shape .* of length 3",
    ),
    (
        partial(fastconv.max_unpool1d, X, np.zeros(X.shape, int), 2, output_size=(9, 9, 9)),
        ValueError,
        r"output_size must begin with \(2, 3\)",
    ),
    (
        partial(fastconv.avg_pool1d_backward, X, (2, 3, 9), 2),
        ValueError,
        r"grad_output must have shape \(2, 3, 4\)",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), REFUSED, ids=lambda value: None)
def test_errors(call: Any, error: type[Exception], message: str) -> None:
    """Messages name the function of signals, and tell numbers instead of pairs."""
    refused(error, message, call)


def test_forms_of_arguments() -> None:
    """Sequences of one, as PyTorch's modules hold window arguments, are read like ints."""
    expected = fastconv.conv1d(X, W, None, 2, 1, 1)
    for one in ((2,), [2], np.array([2]), np.int8(2)):
        assert_same(fastconv.conv1d(X, W, None, one, 1, (1,)), expected)
    for padding in ((1,), (1, 1), [1, 1], ((1, 1),), np.array([1, 1]), np.int64(1)):
        assert_same(fastconv.conv1d(X, W, None, 2, padding), expected)
    assert_same(fastconv.max_pool1d(X, (2,), (2,)), fastconv.max_pool1d(X, 2))


# --------------------------------------------------------------------------------------- networks


def network(seed: int = 0) -> Sequential:
    """Make a network with every layer for signals, a residual and branches."""
    net = Sequential((3, 64), seed=seed).convolution1d(8, 5, stride=2, pad=2, bias=False)
    net.batch_normalization().add(Relu(), Pooling1D(2, 2))
    body = net.branch().convolution1d(8, 3, pad=2, dilation=2).batch_normalization()
    net.add(Residual(*body.children))
    left, right = net.branch().convolution1d(4, 1), net.branch().convolution1d(4, 3, pad="same")
    net.add(Concatenation(left.children, right.children), AveragePooling1D(2, 2))
    net.convolution1d(6, 3, groups=2).add(GlobalAveragePooling())
    return net.affine(5)


def test_network_is_trained() -> None:
    x, t = normal_values((6, 3, 64)), np.arange(6) % 5
    net = network()
    grads = net.gradient(x, t)
    assert set(grads) == set(net.params)
    exact = Sequential((3, 64), dtype="f8", seed=0).convolution1d(4, 5, stride=2, pad=1)
    exact.add(Relu(), Pooling1D(3, 2), Flatten()).affine(3)
    grads, labels = exact.gradient(x, t % 3), t % 3
    for name, array in exact.params.items():
        expected = numerical_gradient(lambda: exact.loss(x, labels), array)
        np.testing.assert_allclose(grads[name], expected, rtol=0, atol=1e-5)
    before = net.loss(x, t)
    Trainer(
        net, x, t, x, t, optimizer="Adam", optimizer_param={"lr": 0.01}, epochs=50, verbose=False
    ).train()
    assert net.loss(x, t) < before / 2


def test_network_is_described(capsys: pytest.CaptureFixture[str]) -> None:
    net = network()
    assert list(net.layers)[:4] == ["Conv1", "BatchNormalization1", "Relu1", "Pool1"]
    assert net.output_dim == (5,)
    net.summary()
    text = capsys.readouterr().out
    assert "8 of 3x5, stride 2" in text
    assert "8 of 8x3, dilation 2" in text
    products = (8 * 3 * 5 * 32, 16 * 8 * 8 * 3, 16 * 4 * 8, 16 * 4 * 8 * 3, 6 * 6 * 4 * 3, 6 * 5)
    assert text.split()[-1] == str(sum(products))
    assert net.receptive_field("Conv1") == ((5,), (2,), (-2,))
    assert net.receptive_field("Pool1") == ((7,), (4,), (-2,))
    assert net.receptive_field("Residual1") == ((23,), (4,), (-10,))
    assert net.receptive_field() == ((51,), (8,), (-14,))


def test_receptive_field_is_what_changes_an_output() -> None:
    net = network()
    size, stride, offset = (field[0] for field in net.receptive_field("Concatenation1"))
    chain, x = Chain(*net.children[:6]), normal_values((1, 3, 64))
    plain = chain.forward(x, False)
    for sample in range(64):
        changed = x.copy()
        changed[:, :, sample] += 100
        hit = np.flatnonzero((chain.forward(changed, False) != plain).any(axis=(0, 1)))
        first = offset + hit * stride
        assert hit.size
        assert (first <= sample).all()
        assert (sample < first + size).all()


def test_network_is_kept(tmp_path: Path) -> None:
    net, other, x = network(), network(seed=1), normal_values((4, 3, 64))
    net.gradient(x, np.zeros(4, int))
    expected = net.predict(x)
    assert_same(pickle.loads(pickle.dumps(net)).predict(x), expected)
    net.save_params(tmp_path / "params.npz")
    other.load_params(tmp_path / "params.npz")
    assert_same(other.predict(x), expected)
    trainer = partial(Trainer, epochs=2, mini_batch_size=2, verbose=False)
    t = np.arange(4) % 5
    whole = trainer(network(), x, t, x, t, seed=0)
    whole.train()
    half = trainer(network(), x, t, x, t, seed=0, epochs=1)
    half.train()
    half.save_checkpoint(tmp_path / "half.npz")
    again = trainer(network(seed=2), x, t, x, t, seed=1)
    again.load_checkpoint(tmp_path / "half.npz")
    again.train()
    assert_same(again.network.predict(x), whole.network.predict(x))


def test_network_is_optimized(capsys: pytest.CaptureFixture[str]) -> None:
    net, x = network(), normal_values((4, 3, 64))
    net.gradient(x, np.zeros(4, int))  # Running means and variances are not 0 and 1 any more.
    expected = net.predict(x)
    twin = net.optimized()
    for count in (4, 1, 4):
        result = twin.predict(x[:count])
        np.testing.assert_allclose(result, expected[:count], rtol=1e-4, atol=1e-5)
    copied = pickle.loads(pickle.dumps(twin))
    assert_same(copied.predict(x), twin.predict(x))
    fastconv.plan(twin)
    text = capsys.readouterr().out
    assert "Conv1 + BatchNormalization1 + Relu1" in text
    assert "Residual1.Chain1.Conv1 + BatchNormalization1 + Residual1 + Residual1.Relu1" in text


def test_weights_of_pytorch(torch: Any) -> None:
    nn = torch.nn
    theirs = nn.Sequential(
        *(nn.Conv1d(3, 8, 5, stride=2, padding=2), nn.BatchNorm1d(8), nn.ReLU(), nn.MaxPool1d(2)),
        *(nn.Conv1d(8, 6, 3, dilation=2, groups=2), nn.AvgPool1d(2), nn.Flatten()),
        nn.Linear(36, 4),
    ).eval()
    ours = Sequential((3, 64)).convolution1d(8, 5, stride=2, pad=2)
    ours.batch_normalization(eps=1e-5).add(Relu(), Pooling1D(2, 2))
    ours.convolution1d(6, 3, dilation=2, groups=2).add(AveragePooling1D(2, 2), Flatten()).affine(4)
    state = {name: tensor.numpy() for name, tensor in theirs.state_dict().items()}
    load_state_dict(ours, state)
    x = normal_values((3, 3, 64))
    with torch.no_grad():
        expected = theirs(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(ours.predict(x), expected, rtol=1e-4, atol=1e-5)


def test_refused_by_networks() -> None:
    with pytest.raises(ValueError, match=r"a convolution of signals does not fit .* \(3, 8, 8\)"):
        Sequential((3, 8, 8)).convolution1d(4, 3)
    with pytest.raises(ValueError, match=r"a convolution does not fit behind .* \(3, 8\)"):
        Sequential((3, 8)).convolution(4, 3)
    with pytest.raises(ValueError, match=r"^Convolution1D: kernel 9 with dilation 1"):
        Convolution1D(np.ones((2, 3, 9)), None).forward(np.ones((1, 3, 5)))
    with pytest.raises(ValueError, match=r"signals \(C, L\) have receptive fields"):
        Sequential((3,)).receptive_field()
