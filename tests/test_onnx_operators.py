"""Operators of ONNX where the definition is short enough to be written again, in loops of NumPy.

The format's own cases, which cover every operator, are in test_onnx_backend.py.
"""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
from onnx_models import one_node

Array = np.ndarray[Any, Any]


def ints(shape: tuple[int, ...], dtype: Any = np.float32, seed: int = 0) -> Array:
    """Return small integers, whose sums are exact."""
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(dtype)


def part(*index: Any) -> Any:
    """Return an index of several parts, whose types NumPy's stubs do not tell apart."""
    return index


def convolved(x: Array, w: Array, strides: Any, dilations: Any, pads: Any, groups: int) -> Array:
    """Correlate over any number of axes, by the definition."""
    count = x.ndim - 2
    widths = [(0, 0), (0, 0), *zip(pads[:count], pads[count:])]
    padded = np.pad(x, widths)
    spans = [(k - 1) * d + 1 for k, d in zip(w.shape[2:], dilations)]
    sizes = [(n - s) // step + 1 for n, s, step in zip(padded.shape[2:], spans, strides)]
    out = np.zeros((len(x), len(w), *sizes), x.dtype)
    each = w.shape[1]
    for f in range(len(w)):
        first = f // (len(w) // groups) * each
        for place in product(*map(range, sizes)):
            index: Any = [
                slice(p * s, p * s + span, d)
                for p, s, span, d in zip(place, strides, spans, dilations)
            ]
            seen = padded[part(slice(None), slice(first, first + each), *index)]
            out[part(slice(None), f, *place)] = (seen * w[f]).sum(axis=tuple(range(1, x.ndim)))
    return out


def spread(x: Array, w: Array, strides: Any, dilations: Any, groups: int) -> Array:
    """Spread pixels over windows, by the definition, without cutting anything off."""
    sizes = [
        (n - 1) * s + (k - 1) * d + 1
        for n, s, k, d in zip(x.shape[2:], strides, w.shape[2:], dilations)
    ]
    each = w.shape[1]
    out = np.zeros((len(x), each * groups, *sizes), x.dtype)
    for c, f in product(range(x.shape[1]), range(each)):
        target = f + c // (x.shape[1] // groups) * each
        for place in product(*map(range, x.shape[2:])):
            index: Any = [
                slice(p * s, p * s + (k - 1) * d + 1, d)
                for p, s, k, d in zip(place, strides, w.shape[2:], dilations)
            ]
            pixels = x[part(slice(None), c, *place)].reshape(-1, *[1] * (x.ndim - 2))
            out[part(slice(None), target, *index)] += pixels * w[c, f]
    return out


SIZES = {1: (9,), 2: (6, 7), 3: (5, 4, 6), 4: (3, 4, 3, 4)}


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("strided", [False, True])
@pytest.mark.parametrize("count", SIZES)
def test_conv_over_any_number_of_axes(count: int, strided: bool, groups: int) -> None:
    x = ints((2, 4, *SIZES[count]))
    w = ints((6, 4 // groups, *(3, 2, 3, 2)[:count]), seed=1)
    bias = ints((6,), seed=2)
    strides = [2, 1, 3, 1][:count] if strided else [1] * count
    dilations = [1, 2, 1, 2][:count] if strided else [1] * count
    pads = [1, 0, 2, 1][:count] + [0, 2, 1, 0][:count]
    (y,) = one_node(
        "Conv", [x, w, bias], strides=strides, dilations=dilations, pads=pads, group=groups
    )
    expected = convolved(x, w, strides, dilations, pads, groups)
    np.testing.assert_array_equal(y, expected + bias.reshape(-1, *[1] * count))


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("strided", [False, True])
@pytest.mark.parametrize("count", SIZES)
def test_conv_transpose_over_any_number_of_axes(count: int, strided: bool, groups: int) -> None:
    x = ints((2, 4, *SIZES[count]))
    w = ints((4, 3, *(3, 2, 3, 2)[:count]), seed=1)
    bias = ints((3 * groups,), seed=2)
    strides = [2, 1, 3, 1][:count] if strided else [1] * count
    dilations = [1, 2, 1, 2][:count] if strided else [1] * count
    whole = spread(x, w, strides, dilations, groups) + bias.reshape(-1, *[1] * count)
    pads = [1, 0, 1, 0][:count] + [0, 1, 1, 0][:count]
    cut: Any = [slice(a, n - b) for a, b, n in zip(pads[:count], pads[count:], whole.shape[2:])]
    arguments: dict[str, Any] = {"strides": strides, "dilations": dilations, "group": groups}
    (y,) = one_node("ConvTranspose", [x, w, bias], pads=pads, **arguments)
    np.testing.assert_array_equal(y, whole[part(..., *cut)])
    larger = [n + 2 for n in whole.shape[2:]]
    (y,) = one_node("ConvTranspose", [x, w, bias], output_shape=larger, **arguments)
    # As onnxruntime does, what no window reaches is filled up at the end.
    first = y[part(..., *[slice(None, -2)] * count)]
    np.testing.assert_array_equal(first, whole)
    assert y[0, 0].ravel()[-1] == bias[0]


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID"])
def test_automatic_padding(auto_pad: str) -> None:
    x, w = ints((1, 1, 8)), ints((1, 1, 4), seed=1)
    (y,) = one_node("Conv", [x, w], auto_pad=auto_pad, strides=(2,))
    pads = {"SAME_UPPER": (1, 1), "SAME_LOWER": (1, 1), "VALID": (0, 0)}[auto_pad]
    np.testing.assert_array_equal(y, convolved(x, w, [2], [1], pads, 1))
    (y,) = one_node("Conv", [x, w], auto_pad=auto_pad)
    pads = {"SAME_UPPER": (1, 2), "SAME_LOWER": (2, 1), "VALID": (0, 0)}[auto_pad]
    np.testing.assert_array_equal(y, convolved(x, w, [1], [1], pads, 1))


def pooled(x: Array, function: Any, kernel: Any, strides: Any, dilations: Any, pads: Any) -> Array:
    """Apply a function to the pixels of every window; what is not there is NaN."""
    count = x.ndim - 2
    widths = [(0, 0), (0, 0), *zip(pads[:count], pads[count:])]
    padded = np.pad(x.astype(np.float64), widths, constant_values=np.nan)
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations)]
    sizes = [(n - s) // step + 1 for n, s, step in zip(padded.shape[2:], spans, strides)]
    out = np.zeros((*x.shape[:2], *sizes))
    for place in product(*map(range, sizes)):
        index: Any = [
            slice(p * s, p * s + span, d) for p, s, span, d in zip(place, strides, spans, dilations)
        ]
        seen = padded[part(..., *index)].reshape(*x.shape[:2], -1)
        out[part(..., *place)] = function(seen, axis=-1)
    return out


@pytest.mark.parametrize("dilated", [False, True])
@pytest.mark.parametrize("count", SIZES)
def test_pooling_over_any_number_of_axes(count: int, dilated: bool) -> None:
    x = np.random.default_rng(0).permutation(math.prod((2, 3, *SIZES[count])))
    x = x.reshape(2, 3, *SIZES[count]).astype(np.float32)
    kernel, strides = [3, 2, 2, 3][:count], [2, 1, 2, 1][:count]
    dilations = [1, 2, 1, 1][:count] if dilated else [1] * count
    pads = [1, 0, 1, 1][:count] + [1, 1, 0, 0][:count]
    arguments: dict[str, Any] = {
        "kernel_shape": kernel,
        "strides": strides,
        "pads": pads,
        "dilations": dilations,
    }
    window = kernel, strides, dilations, pads
    y, where = one_node("MaxPool", [x], outputs=2, **arguments)
    np.testing.assert_array_equal(y, pooled(x, np.nanmax, *window))
    assert where.dtype == np.int64
    np.testing.assert_array_equal(x.ravel()[where], y)
    by_columns = one_node("MaxPool", [x], outputs=2, storage_order=1, **arguments)[1]
    turned = x.transpose(0, 1, *reversed(range(2, 2 + count))).ravel()
    np.testing.assert_array_equal(turned[by_columns], y)
    (mean,) = one_node("AveragePool", [x], **arguments)
    np.testing.assert_allclose(mean, pooled(x, np.nanmean, *window), rtol=1e-6)
    (mean,) = one_node("AveragePool", [x], count_include_pad=1, **arguments)
    total = pooled(x, np.nansum, *window) / math.prod(kernel)
    np.testing.assert_allclose(mean, total, rtol=1e-6)
    (norm,) = one_node("LpPool", [x], p=3, **arguments)
    cubes = pooled(np.abs(x.astype(np.float64)) ** 3, np.nansum, *window)
    np.testing.assert_allclose(norm, np.cbrt(cubes), rtol=1e-5)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_nan_wins_and_padding_never(count: int) -> None:
    x = np.full((1, 1, *SIZES[count]), -np.inf, np.float32)
    x[0, 0].reshape(-1)[3] = np.nan
    y, where = one_node("MaxPool", [x], outputs=2, kernel_shape=[2] * count, pads=[1] * (2 * count))
    assert np.isnan(y).any()
    assert (y[~np.isnan(y)] == -np.inf).all()
    assert ((where >= 0) & (where < x.size)).all()
    assert (where[np.isnan(y)] == 3).all()


def test_windows_that_reach_beyond_the_padding() -> None:
    x = np.arange(1, 6, dtype=np.float32).reshape(1, 1, 5)
    window: dict[str, Any] = {"kernel_shape": (3,), "strides": (3,), "ceil_mode": 1}
    np.testing.assert_array_equal(one_node("MaxPool", [x], **window)[0][0, 0], [3, 5])
    np.testing.assert_array_equal(one_node("AveragePool", [x], **window)[0][0, 0], [2, 4.5])
    # The last window would start in the padding behind, so that there is none.
    window = {"kernel_shape": (2,), "strides": (3,), "ceil_mode": 1, "pads": (1, 1)}
    np.testing.assert_array_equal(one_node("MaxPool", [x], **window)[0][0, 0], [1, 4])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_erf_and_gelu(dtype: Any) -> None:
    x = np.concatenate([np.linspace(-6, 6, 4001), [1e-6, -1e-30, np.inf, -np.inf, np.nan]])
    x = x.astype(dtype)
    expected = np.array([math.erf(value) for value in x.tolist()])
    eps, least = np.finfo(dtype).eps, float(np.finfo(dtype).smallest_subnormal)
    np.testing.assert_allclose(one_node("Erf", [x])[0], expected, rtol=2 * eps, atol=least)
    finite = x[np.isfinite(x)]
    normal = [0.5 * v * (1 + math.erf(v / math.sqrt(2))) for v in finite.tolist()]
    np.testing.assert_allclose(one_node("Gelu", [finite])[0], normal, rtol=0, atol=6 * eps)


def test_division_of_integers_truncates() -> None:
    a, b = np.array([7, -7, 7, -7, -8]), np.array([2, 2, -2, -2, 3])
    np.testing.assert_array_equal(one_node("Div", [a, b])[0], [3, -3, -3, 3, -2])


def test_power_is_of_the_base() -> None:
    (y,) = one_node("Pow", [np.array([2, 3], np.int32), np.array([2.5, 2], np.float32)])
    assert y.dtype == np.int32
    np.testing.assert_array_equal(y, [5, 9])


def test_clip_prefers_the_upper_limit() -> None:
    x = np.array([-1, 2, np.nan], np.float32)
    limits = [np.array(3, np.float32), np.array(1, np.float32)]
    np.testing.assert_array_equal(one_node("Clip", [x, *limits])[0], [1, 1, np.nan])
    (y,) = one_node("Clip", [x], opset=10, min=0.0)
    np.testing.assert_array_equal(y, [0, 2, np.nan])


def test_softmax_of_the_first_versions_takes_axes_together() -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    whole = np.exp(x) / np.exp(x).sum(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(one_node("Softmax", [x], opset=12)[0], whole, rtol=1e-6)
    last = np.exp(x) / np.exp(x).sum(axis=2, keepdims=True)
    np.testing.assert_allclose(one_node("Softmax", [x], opset=13)[0], last, rtol=1e-6)
    np.testing.assert_allclose(one_node("LogSoftmax", [x])[0], np.log(last), rtol=1e-5)


@pytest.mark.parametrize("opset", [7, 11, 13, 18])
def test_axes_as_attribute_and_as_input(opset: int) -> None:
    x = ints((2, 3, 4))
    axes = np.array([0, -1])
    for op, newest, function in (("ReduceSum", 13, np.sum), ("ReduceMean", 18, np.mean)):
        if opset >= newest:
            (y,) = one_node(op, [x, axes], opset=opset, keepdims=0)
        else:
            (y,) = one_node(op, [x], opset=opset, keepdims=0, axes=(0, 2))
        np.testing.assert_allclose(y, function(x, axis=(0, 2)), rtol=1e-6)


def test_maximum_of_nothing() -> None:
    x = np.empty((0, 2), np.float32)
    np.testing.assert_array_equal(one_node("ReduceMax", [x, np.array([0])])[0], [[-np.inf] * 2])
    x = np.empty((0, 2), np.int8)
    np.testing.assert_array_equal(one_node("ReduceMin", [x, np.array([0])])[0], [[127] * 2])


@pytest.mark.parametrize(("opset", "dtype"), [(7, np.float32), (10, np.bool_), (13, np.bool_)])
def test_the_mask_of_dropout_has_the_dtype_of_its_version(opset: int, dtype: Any) -> None:
    x = ints((2, 3))
    y, mask = one_node("Dropout", [x], opset, outputs=2)
    np.testing.assert_array_equal(y, x)
    assert mask.dtype == dtype
    assert mask.shape == x.shape


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_statistics_of_layers_are_float32(dtype: Any) -> None:
    x = np.array([[1, 2, 3], [-4, 0, 1]], dtype)
    y, mean, inverse = one_node("LayerNormalization", [x, np.ones(3, dtype)], 17, outputs=3)
    assert (y.dtype, mean.dtype, inverse.dtype) == (np.dtype(dtype), np.float32, np.float32)
    np.testing.assert_allclose(mean, [[2], [-1]])
    np.testing.assert_allclose(inverse, 1 / x.std(axis=1, keepdims=True), rtol=1e-2)


@pytest.mark.parametrize("largest", [0, 1])
def test_top_takes_the_first_of_equal_elements(largest: int) -> None:
    x = np.array([[1, 3, 3, 0, 3], [0, 0, 0, 0, 0]], np.float32)
    values, where = one_node("TopK", [x, np.array([3])], outputs=2, largest=largest)
    expected = [[1, 2, 4], [0, 1, 2]] if largest else [[3, 0, 1], [0, 1, 2]]
    np.testing.assert_array_equal(where, expected)
    np.testing.assert_array_equal(values, np.take_along_axis(x, where, 1))


def test_slices_backwards_and_beyond() -> None:
    x = np.arange(10)
    for start, end, step in product(
        (-20, -3, 0, 4, 9, 20), (-20, -1, 0, 5, 10, 2**62, -(2**62)), (1, 3, -1, -3)
    ):
        bounds = [np.array([n]) for n in (start, end)]
        (y,) = one_node("Slice", [x, *bounds, np.array([0]), np.array([step])])
        begin = start + 10 if start < 0 else start
        stop = end + 10 if end < 0 else end
        if step > 0:
            expected = x[max(begin, 0) : max(stop, 0) : step]
        else:
            begin, stop = min(max(begin, 0), 9), min(max(stop, -1), 9)
            expected = np.array([x[i] for i in range(begin, stop, step)], x.dtype)
        np.testing.assert_array_equal(y, expected, err_msg=f"{start}:{end}:{step}")


def test_shapes_with_zero_and_minus_one() -> None:
    x = np.zeros((2, 3, 4), np.float32)
    assert one_node("Reshape", [x, np.array([0, -1])])[0].shape == (2, 12)
    empty = np.zeros((0, 3), np.float32)
    assert one_node("Reshape", [empty, np.array([0, 3, 1])], allowzero=1)[0].shape == (0, 3, 1)
    for wrong in ([5, -1], [-1, -1], [2, 3], [2, 3, 4, 0], [-2, 12]):
        with pytest.raises(ValueError, match=r"node 'graph.node\[0\]' \(Reshape\): shape"):
            one_node("Reshape", [x, np.array(wrong)])


def test_negative_padding_takes_away() -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    (y,) = one_node("Pad", [x, np.array([0, -1, 1, 2])])
    np.testing.assert_array_equal(y, [[1, 2, 0, 0], [4, 5, 0, 0], [0, 0, 0, 0]])
    (y,) = one_node("Pad", [x, np.array([1, 1]), None, np.array([1])], mode="wrap")
    np.testing.assert_array_equal(y, np.pad(x, [(0, 0), (1, 1)], "wrap"))


def test_resize_of_the_first_versions() -> None:
    x = np.array([[[[1, 2], [3, 4]]]], np.float32)
    scales = np.array([1, 1, 2, 1.5], np.float32)
    for op, opset in (("Resize", 10), ("Upsample", 9)):
        (y,) = one_node(op, [x, scales], opset=opset)
        np.testing.assert_array_equal(y[0, 0], [[1, 1, 2]] * 2 + [[3, 3, 4]] * 2)
    (y,) = one_node("Upsample", [x], opset=7, scales=(1.0, 1.0, 2.0, 1.0), mode="linear")
    np.testing.assert_array_equal(y[0, 0], [[1, 2], [2, 3], [3, 4], [3, 4]])


def test_resize_by_interpolation() -> None:
    """A straight line stays one between the centres of its pixels."""
    x = np.arange(8, dtype=np.float32)
    (y,) = one_node("Resize", [x, None, None, np.array([32])], mode="linear")
    expected = np.interp((np.arange(32) + 0.5) / 4 - 0.5, np.arange(8), x)
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-7)
    (y,) = one_node("Resize", [x, None, None, np.array([32])], mode="cubic", cubic_coeff_a=-0.5)
    np.testing.assert_allclose(y[8:-8], expected[8:-8], rtol=1e-6)
    (y,) = one_node("Resize", [x, None, None, np.array([2])], mode="linear", antialias=1)
    assert y.sum() == pytest.approx(7)


class TestQuantized:
    """Integers that stand for numbers."""

    def test_rounding_and_saturation(self) -> None:
        x = np.array([-1e9, -1.5, -0.5, 0.5, 1.5, 2.5, 1e9, np.inf], np.float32)
        (y,) = one_node("QuantizeLinear", [x, np.float32(1), np.array(1, np.int8)])
        np.testing.assert_array_equal(y, [-128, -1, 1, 1, 3, 3, 127, 127])

    @pytest.mark.parametrize("count", [1, 2, 3])
    def test_convolution_is_exact(self, count: int) -> None:
        rng = np.random.default_rng(0)
        x = rng.integers(0, 256, (1, 40, *SIZES[count])).astype(np.uint8)
        w = rng.integers(-128, 128, (5, 40, *[3] * count)).astype(np.int8)
        zeros = np.array(7, np.uint8), np.arange(5).astype(np.int8)
        wide_w = w.astype(np.int64) - np.arange(5).reshape(-1, *[1] * (count + 1))
        expected = convolved(
            x.astype(np.int64) - 7, wide_w, [1] * count, [1] * count, [1] * (2 * count), 1
        )
        pads: dict[str, Any] = {"pads": [1] * (2 * count)}
        (sums,) = one_node("ConvInteger", [x, w, *zeros], **pads)
        assert sums.dtype == np.int32
        np.testing.assert_array_equal(sums, expected)
        scales = np.float32(0.01), np.linspace(0.01, 0.02, 5, dtype=np.float32)
        bias = np.arange(5, dtype=np.int32) * 1000
        (y,) = one_node(
            "QLinearConv",
            [
                *(x, scales[0], zeros[0]),
                *(w, scales[1], zeros[1]),
                *(np.float32(50), np.array(9, np.int8), bias),
            ],
            **pads,
        )
        spread_over = (-1, *[1] * count)
        factor = scales[1].astype(np.float64) * np.float64(scales[0]) / 50
        exact = (expected + bias.reshape(spread_over)) * factor.reshape(spread_over)
        np.testing.assert_array_equal(y, np.clip(np.rint(exact) + 9, -128, 127))

    def test_products_are_exact(self) -> None:
        rng = np.random.default_rng(0)
        a = rng.integers(0, 256, (2, 3, 500)).astype(np.uint8)
        b = rng.integers(-128, 128, (500, 4)).astype(np.int8)
        zeros = np.array(100, np.uint8), np.array([1, 2, 3, 4], np.int8)
        (y,) = one_node("MatMulInteger", [a, b, *zeros])
        expected = (a.astype(np.int64) - 100) @ (b.astype(np.int64) - zeros[1])
        np.testing.assert_array_equal(y, expected)


def test_products() -> None:
    a, b = ints((2, 1, 3, 4)), ints((5, 4, 2), seed=1)
    np.testing.assert_array_equal(one_node("MatMul", [a, b])[0], a @ b)
    np.testing.assert_array_equal(one_node("MatMul", [a, b[0]])[0], a @ b[0])
    np.testing.assert_array_equal(one_node("MatMul", [a[0, 0, 0], b[0]])[0], a[0, 0, 0] @ b[0])
    whole = a.astype(np.int32), b.astype(np.int32)
    (y,) = one_node("MatMul", list(whole))
    assert y.dtype == np.int32
    np.testing.assert_array_equal(y, whole[0] @ whole[1])
    c = ints((3, 1), seed=2)
    (y,) = one_node("Gemm", [a[0, 0], b[0].T, c], transB=1, alpha=0.5, beta=2.0)
    np.testing.assert_array_equal(y, 0.5 * a[0, 0] @ b[0] + 2 * c)


@pytest.mark.parametrize(
    ("op", "inputs", "attributes", "message"),
    [
        ("Conv", [np.zeros((1, 2, 5), "f"), np.zeros((1, 3, 2), "f")], {}, "2 channels"),
        ("Conv", [np.zeros((1, 1, 5), "f"), np.zeros((1, 1, 7), "f")], {}, "does not fit"),
        ("Conv", [np.zeros((1, 1, 5), "f"), np.zeros((1, 1, 2), "d")], {}, "several dtypes"),
        ("Conv", [np.zeros((1, 1, 5), "f"), np.zeros((1, 1, 2), "f")], {"pads": (1,)}, "pads"),
        ("Conv", [np.zeros((1, 1, 5), "f"), np.zeros((1, 1, 2), "f")], {"auto_pad": "X"}, "auto"),
        ("Add", [np.zeros((2, 3), "f"), np.zeros((4,), "f")], {}, "broadcast"),
        ("Add", [np.zeros(2, "f"), np.zeros(2, "d")], {}, "several dtypes"),
        ("Concat", [np.zeros(2, "f"), np.zeros(2, "f")], {"axis": 1}, "axis 1 is none"),
        ("Concat", [np.zeros(2, "f")], {}, "'axis' is missing"),
        ("Concat", [np.zeros(2, "f")], {"axis": 0.5}, "'axis' is not of type int"),
        ("Relu", [np.zeros(2, "f")], {"alpha": 1.0}, "has no attribute 'alpha'"),
        ("Relu", [np.zeros(2, "f")] * 2, {}, "2 inputs are not"),
        ("Relu", [None], {}, "an input is missing"),
        ("Gather", [np.zeros(2, "f"), np.array([2])], {}, "beyond 2 elements"),
        ("Expand", [np.zeros(2, "f"), np.array([2**50, 2])], {}, "would take"),
        ("ConstantOfShape", [np.array([2**40, 2**20])], {}, "would take"),
        ("ConstantOfShape", [np.array([-1])], {}, r"the shape \(-1,\)"),
        ("Tile", [np.zeros(2, "f"), np.array([2**60])], {}, "would take"),
        ("Pad", [np.zeros(2, "f"), np.array([0, 2**60])], {}, "would take"),
        ("Range", [np.array(0), np.array(2**60), np.array(1)], {}, "would take"),
        ("Add", [np.zeros((2**20, 1), "f"), np.zeros((1, 2**20), "f")], {}, "would take"),
        ("MaxPool", [np.zeros((1, 1, 2, 2), "f")], {"kernel_shape": (3, 3)}, "does not fit"),
        (
            "MaxPool",
            [np.zeros((1, 1, 2, 2), "f")],
            {"kernel_shape": (1, 1), "pads": (2**30,) * 4},
            "would take",
        ),
    ],
)
def test_errors_name_the_node(
    op: str, inputs: list[Array | None], attributes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        one_node(op, inputs, **attributes)
    assert f"node 'graph.node[0]' ({op}): " in str(caught.value)


@pytest.mark.parametrize(
    ("op", "inputs", "attributes", "message"),
    [
        ("Wavelet", [np.zeros(2, "f")], {}, "operator is not supported"),
        ("Upsample", [np.zeros(2, "f")], {"height_scale": 2.0}, "'mode'|not supported|no attr"),
        ("Sqrt", [np.zeros(2, "i")], {}, "dtype int32"),
        ("Cast", [np.zeros(2, "f")], {"to": 8}, "type string"),
        ("QuantizeLinear", [np.zeros(2, "f"), np.float32(1)], {"output_dtype": 22}, "type int4"),
    ],
)
def test_what_is_not_supported(
    op: str, inputs: list[Array], attributes: dict[str, Any], message: str
) -> None:
    opset = 1 if op == "Upsample" else 22
    with pytest.raises(NotImplementedError, match=message) as caught:
        one_node(op, inputs, opset=opset, **attributes)
    assert f"node 'graph.node[0]' ({op}): " in str(caught.value)


def test_opsets_that_are_too_new() -> None:
    with pytest.raises(NotImplementedError, match="version in opset 99 is not supported"):
        one_node("Relu", [np.zeros(2, "f")], opset=99)
