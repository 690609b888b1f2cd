"""Max and average pooling and their backward functions against their definition and PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference
from helpers import (
    EDGE_SIZES,
    FLOATS,
    INTEGERS,
    LAYOUTS,
    OPERATIONS,
    Array,
    DType,
    Shape,
    assert_close,
    assert_same,
    guarded,
    integer_values,
    normal_values,
)
from hypothesis import given
from hypothesis import strategies as st

import fastconv

SIZE = (9, 11)
# (kernel_size, stride, padding, dilation); each with and without ceil_mode.
WINDOWS: dict[str, tuple[Any, Any, Any, Any]] = {
    "2": (2, None, 0, 1),
    "3-stride-2": (3, 2, 1, 1),
    "3-stride-1": (3, 1, 1, 1),
    "5-stride-1": (5, 1, 2, 1),
    "1": (1, None, 0, 1),
    "1-stride-2": (1, 2, 0, 1),
    "numpy-ints": (np.int32(3), np.uint8(2), np.int64(1), np.int16(2)),
    "pairs": ((2, 3), (3, 2), (1, 2), (2, 1)),
    "lists": ([3, 2], [1, 3], [2, 1], [1, 2]),
    "arrays": (np.array([2, 4]), np.array([2, 1]), np.array([0, 3]), np.array([3, 1])),
    "sides": (3, 2, ((0, 1), (2, 0)), 1),
    "more-padding-than-pytorch-takes": (3, 2, 2, 1),
    "valid": ((4, 3), 2, "valid", 1),
    "same": ((4, 3), (3, 2), "same", 1),
    "same-dilated": (3, 2, "same", (2, 3)),
    "stride-beyond-the-kernel": (2, (4, 5), 1, 1),
    "whole-image": (SIZE, None, 0, 1),
    "whole-padded-image": ((11, 15), 1, (1, 2), 1),
    "stride-beyond-the-image": (2, 50, 0, 1),
    "dilated": (3, 1, (2, 1), (3, 2)),
}
every_window = pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS.keys())
both_ceil_modes = pytest.mark.parametrize("ceil_mode", [False, True], ids=["floor", "ceil"])
without_dilation = pytest.mark.parametrize(
    "window",
    [(*window[:3],) for window in WINDOWS.values() if str(window[3]) == "1"],
    ids=[name for name, window in WINDOWS.items() if str(window[3]) == "1"],
)


def check_max_pool(images: Array, *arguments: Any) -> None:
    """Maxima with and without indices, fresh and into out=, are those of the definition."""
    maxima, indices = reference.max_pool2d(images, *arguments)
    assert_same(fastconv.max_pool2d(images, *arguments), maxima)
    both = fastconv.max_pool2d(images, *arguments, return_indices=True)
    assert isinstance(both, tuple)
    assert_same(both[0], maxima)
    assert_same(both[1], indices)
    with guarded(maxima.shape, maxima.dtype) as out:
        assert fastconv.max_pool2d(images, *arguments, out=out) is out
        assert_same(out, maxima)
    with guarded(maxima.shape, maxima.dtype) as out:
        both = fastconv.max_pool2d(images, *arguments, return_indices=True, out=out)
        assert both[0] is out
        assert_same(out, maxima)
        assert_same(both[1], indices)


def images_with_ties(shape: Shape, dtype: Any, seed: int = 0) -> Array:
    """Few different values, so that most windows hold their maximum several times."""
    values: Array = integer_values(shape, dtype, seed) // np.array(3, dtype)
    return values


# --------------------------------------------------------------------------------------- maxima


@both_ceil_modes
@every_window
def test_max_pool2d(level: str, window: Any, ceil_mode: bool) -> None:
    check_max_pool(images_with_ties((2, 3, *SIZE), np.float32), *window, ceil_mode)
    check_max_pool(normal_values((2, 3, *SIZE), np.float32), *window, ceil_mode)


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS], ids=lambda dtype: dtype.char)
@pytest.mark.parametrize("window", ["2", "3-stride-2", "5-stride-1", "pairs"])
def test_max_pool2d_dtypes(level: str, window: str, dtype: DType) -> None:
    images = images_with_ties((2, 2, 9, 41), dtype)
    check_max_pool(images, *WINDOWS[window])
    swapped = images.astype(dtype.newbyteorder("S"))
    maxima, indices = reference.max_pool2d(images, *WINDOWS[window])
    both = fastconv.max_pool2d(swapped, *WINDOWS[window], return_indices=True)
    assert_same(both[0], maxima)
    assert_same(both[1], indices)


@pytest.mark.parametrize("dtype", INTEGERS, ids=lambda dtype: dtype.char)
def test_extreme_integers(level: str, dtype: DType) -> None:
    """Padding neither beats nor ties with the dtype's smallest value."""
    info = np.iinfo(dtype)
    for choices in ([info.min], [info.max], [info.min, info.max], [info.max - 1, info.max]):
        values = np.array(choices, dtype)
        images = values[np.random.default_rng(1).integers(0, len(values), (2, 2, 7, 37))]
        for window in ((2,), (3, 2, 1), (3, 1, 2)):
            check_max_pool(images, *window)


SPECIAL = {
    "nan": [np.nan],
    "minus-infinity": [-np.inf],
    "some-nan": [np.nan, 1, 2, 3, 4, 5, 6, 7],
    "many-nan": [np.nan, np.nan, 1],
    "nan-and-infinities": [np.nan, np.inf, -np.inf],
    "infinities": [np.inf, -np.inf, 0],
    "zeros": [0.0, -0.0],
    "zeros-below-nothing": [0.0, -0.0, -1],
    "subnormals": [6e-8, -6e-8, 0.0],
}


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("choices", SPECIAL.values(), ids=SPECIAL.keys())
def test_special_values(level: str, choices: list[float], dtype: DType) -> None:
    """The first NaN wins, zeros of either sign tie, and windows of -inf have a first pixel."""
    values = np.array(choices, dtype)
    for width in (7, 16, 35, 66):
        images = values[np.random.default_rng(width).integers(0, len(values), (2, 2, 9, width))]
        for window in ((2,), (3, 2, 1), (3, 1, 2), ((2, 3), 1, 0, 2), (4, 3, 1, 1, True)):
            check_max_pool(images, *window)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_hand_made_ties(level: str, dtype: DType) -> None:
    images = np.array([[[[-0.0, 0.0, 3, np.nan], [0.0, 5, np.nan, 3], [-1, 5, -np.inf, -np.inf]]]])
    maxima, indices = fastconv.max_pool2d(
        images.astype(dtype), (2, 2), 1, ((0, 1), (0, 0)), return_indices=True
    )
    assert indices[0, 0].tolist() == [[5, 6, 3], [5, 6, 6], [9, 9, 10]]
    expected = [[5, np.nan, np.nan], [5, np.nan, np.nan], [5, 5, -np.inf]]
    assert_same(maxima[0, 0], np.array(expected, dtype))


SMALL = [(2, 2, 0), (3, 2, 1), (3, 1, 1), (2, 1, 1), (5, 3, 2), (3, 3, 0)]


@pytest.mark.parametrize("outputs", EDGE_SIZES)
@pytest.mark.parametrize("dtype", ["i1", "f2", "f4", "f8"])
def test_row_lengths(level: str, dtype: str, outputs: int) -> None:
    """Rows of T-1, T, T+1 and 2T+1 outputs around each vector width T, maxima and means."""
    for kernel, stride, padding in SMALL:
        width = max(1, (outputs - 1) * stride + kernel - 2 * padding)
        images = images_with_ties((1, 2, kernel + 1, width), dtype)
        check_max_pool(images, kernel, stride, padding)
        expected = reference.avg_pool2d(images, kernel, stride, padding)
        if dtype != "i1":
            expected = expected.astype(dtype)
        with guarded(expected.shape, expected.dtype) as out:
            fastconv.avg_pool2d(images, kernel, stride, padding, out=out)
            assert_same(out, expected)
        for ceil_mode in (False, True):
            odd = images[..., : max(kernel, width - 1)]
            check_max_pool(odd, kernel, stride, padding, 1, ceil_mode)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
@pytest.mark.parametrize("window", ["2", "3-stride-2", "pairs"])
def test_indices_do_not_depend_on_the_layout(level: str, window: str, layout: Any) -> None:
    images = images_with_ties((2, 3, 9, 43), np.float32)
    expected = reference.max_pool2d(images, *WINDOWS[window])
    for result, array in zip(
        fastconv.max_pool2d(layout(images), *WINDOWS[window], return_indices=True), expected
    ):
        assert_same(result, array)


@both_ceil_modes
@pytest.mark.parametrize("kernel", [(2, 2, 0), (3, 2, 1), (5, 1, 2)], ids=str)
def test_large_max_pool2d(
    level: str, threads: int, kernel: tuple[int, int, int], ceil_mode: bool
) -> None:
    """Results are large enough for several threads and for streaming stores."""
    images = normal_values((4, 64, 61, 67))
    images[::2, ::3, ::7, ::5] = np.nan
    check_max_pool(images, *kernel, 1, ceil_mode)


@pytest.mark.parametrize("kernel", [2, 3])
@pytest.mark.parametrize("dtype", ["i1", "u2"])
def test_nothing_behind_results(level: str, threads: int, dtype: str, kernel: int) -> None:
    """Results of any number of bytes end where they should: none is written in larger pieces."""
    for width in (1, 2, 3, 5, 7):
        images = integer_values((1, 1, 2 * kernel, kernel * width)).astype(dtype)
        memory = np.full(64, 77, dtype)
        out = memory[: 2 * width].reshape(1, 1, 2, width)
        fastconv.max_pool2d(images, kernel, out=out)
        assert_same(out, images.reshape(1, 1, 2, kernel, width, kernel).max((3, 5)))
        assert (memory[2 * width :] == 77).all()


def test_results_past_the_caches(level: str, threads: int) -> None:
    """The most common window does not overlap, so that NumPy can compute large results."""
    images = images_with_ties((4, 16, 384, 258), np.float32)
    tiles = images.reshape(4, 16, 192, 2, 129, 2).transpose(0, 1, 2, 4, 3, 5)
    values = tiles.reshape(4, 16, 192, 129, 4)
    tap = values.argmax(axis=-1)
    corner = 2 * 258 * np.arange(192)[:, None] + 2 * np.arange(129)
    maxima, indices = fastconv.max_pool2d(images, 2, return_indices=True)
    assert_same(maxima, values.max(axis=-1))
    assert_same(indices, corner + tap // 2 * 258 + tap % 2)
    grad = integer_values(maxima.shape)
    spread = np.zeros(values.shape, np.float32)
    np.put_along_axis(spread, tap[..., None], grad[..., None], axis=-1)
    expected = spread.reshape(4, 16, 192, 129, 2, 2).transpose(0, 1, 2, 4, 3, 5)
    result = fastconv.max_pool2d_backward(grad, indices, images.shape)
    assert_same(result, expected.reshape(images.shape))
    assert_same(fastconv.avg_pool2d(images, 2), values.sum(axis=-1) / np.float32(4))


def test_unbatched_with_indices() -> None:
    images = normal_values((3, 8, 9))
    maxima, indices = fastconv.max_pool2d(images, 3, 2, 1, return_indices=True)
    expected = reference.max_pool2d(images[None], 3, 2, 1)
    assert_same(maxima, expected[0][0])
    assert_same(indices, expected[1][0])


# -------------------------------------------------------------------------- backward and unpool


@pytest.mark.parametrize("dtype", INTEGERS, ids=lambda dtype: dtype.char)
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_indices_of_any_dtype_and_layout(level: str, layout: Any, dtype: DType) -> None:
    plain = np.random.default_rng(0).integers(0, 99, (2, 3, 4, 5))
    indices = layout(plain.astype(dtype))
    grad = integer_values(plain.shape)
    expected = reference.max_pool2d_backward(grad, plain, (2, 3, 9, 11))
    assert_same(fastconv.max_pool2d_backward(grad, indices, (2, 3, 9, 11)), expected)
    expected = reference.max_unpool2d(grad, plain, 2, output_size=(9, 11))
    assert_same(fastconv.max_unpool2d(grad, indices, 2, output_size=(9, 11)), expected)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_repeated_indices_are_added(level: str, dtype: DType) -> None:
    indices = np.array([[[[3, 3, 0], [3, 5, 5]]], [[[0, 0, 0], [0, 0, 0]]]])
    grad = np.arange(1, 13, dtype=dtype).reshape(indices.shape)
    result = fastconv.max_pool2d_backward(grad, indices, (2, 1, 2, 3))
    expected = [[[[3, 0, 0], [7, 0, 11]]], [[[57, 0, 0], [0, 0, 0]]]]
    assert_same(result, np.array(expected, dtype))


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS], ids=lambda dtype: dtype.char)
def test_the_last_of_repeated_indices_stays(level: str, dtype: DType) -> None:
    indices = np.array([[[[3, 3, 0], [3, 5, 5]]], [[[0, 0, 0], [0, 0, 0]]]])
    values = np.arange(1, 13, dtype=dtype).reshape(indices.shape)
    result = fastconv.max_unpool2d(values, indices, 1, output_size=(2, 3))
    expected = [[[[3, 0, 0], [4, 0, 6]]], [[[12, 0, 0], [0, 0, 0]]]]
    assert_same(result, np.array(expected, dtype))
    swapped = values.astype(dtype.newbyteorder("S"))
    result = fastconv.max_unpool2d(swapped, indices, 1, output_size=(2, 3))
    assert_same(result, np.array(expected, dtype))


@pytest.mark.parametrize("shape", [(1, 1, 8), (1, 9), (3, 3, 3, 3)], ids=str)
def test_backward_does_not_depend_on_the_window(shape: Shape) -> None:
    """Only the indices count: there may be more gradients than pixels."""
    indices = np.zeros((2, 3, 4, 5), "i4")
    grad = integer_values(indices.shape)
    result = fastconv.max_pool2d_backward(grad, indices, (2, 3, 1, 1))
    assert_same(result, grad.sum(axis=(2, 3), keepdims=True))


@pytest.mark.parametrize("kernel", [3, (2, 4)], ids=str)
@pytest.mark.parametrize("stride", [None, 2, (3, 1)], ids=str)
@pytest.mark.parametrize("padding", [0, 1, (0, 1)], ids=str)
def test_max_unpool2d_default_size(level: str, kernel: Any, stride: Any, padding: Any) -> None:
    """The size is (in - 1) * stride - 2 * padding + kernel on each axis."""
    values = normal_values((2, 3, 5, 6))
    shape = reference.max_unpool2d(values, np.zeros(values.shape, int), kernel, stride, padding)
    plane = shape.shape[2] * shape.shape[3]
    indices = np.random.default_rng(0).integers(0, plane, values.shape)
    expected = reference.max_unpool2d(values, indices, kernel, stride, padding)
    assert_same(fastconv.max_unpool2d(values, indices, kernel, stride, padding), expected)


@pytest.mark.parametrize("size", [(2, 7), [40, 3], np.array([9, 9])], ids=str)
def test_max_unpool2d_output_size(level: str, size: Any) -> None:
    values = normal_values((2, 3, 5, 6))
    indices = np.random.default_rng(0).integers(0, size[0] * size[1], values.shape)
    expected = reference.max_unpool2d(values, indices, 2, output_size=size)
    assert_same(fastconv.max_unpool2d(values, indices, 2, output_size=size), expected)


# ---------------------------------------------------------------------------------------- means


@pytest.mark.parametrize("count_include_pad", [True, False], ids=["with-pad", "without-pad"])
@both_ceil_modes
@without_dilation
def test_avg_pool2d(level: str, window: Any, ceil_mode: bool, count_include_pad: bool) -> None:
    """Sums of integer values are exact, so the only rounding is that of the division."""
    options: Any = (ceil_mode, count_include_pad)
    for dtype in FLOATS:
        images = integer_values((2, 3, *SIZE), dtype)
        expected = reference.avg_pool2d(images, *window, *options).astype(dtype)
        assert_same(fastconv.avg_pool2d(images, *window, *options), expected)
        with guarded(expected.shape, dtype) as out:
            assert fastconv.avg_pool2d(images, *window, *options, out=out) is out
            assert_same(out, expected)
        images = normal_values((2, 3, *SIZE), dtype)
        expected = reference.avg_pool2d(images, *window, *options)
        assert_close(fastconv.avg_pool2d(images, *window, *options), expected, dtype)


@pytest.mark.parametrize("count_include_pad", [True, False], ids=["with-pad", "without-pad"])
@both_ceil_modes
@without_dilation
def test_avg_pool2d_backward(
    level: str, window: Any, ceil_mode: bool, count_include_pad: bool
) -> None:
    options: Any = (ceil_mode, count_include_pad)
    shape = (2, 3, *SIZE)
    pooled = reference.avg_pool2d(np.zeros(shape), *window, *options).shape
    for dtype in FLOATS:
        grad = normal_values(pooled, dtype)
        expected = reference.avg_pool2d_backward(grad, shape, *window, *options)
        result = fastconv.avg_pool2d_backward(grad, shape, *window, *options)
        assert_close(result, expected, dtype, terms=9)
        with guarded(shape, dtype) as out:
            returned = fastconv.avg_pool2d_backward(grad, shape, *window, *options, out=out)
            assert returned is out
            assert_same(out, result)


@pytest.mark.parametrize("dtype", [*INTEGERS, np.dtype(bool)], ids=lambda dtype: dtype.char)
@pytest.mark.parametrize("name", ["avg_pool2d", "avg_pool2d_backward"])
def test_integers_are_averaged_in_float64(name: str, dtype: DType) -> None:
    operation, shape = OPERATIONS[name], (2, 3, 9, 11)
    arrays = operation.arrays(shape, dtype=dtype)
    expected = operation.expected([array.astype(np.float64) for array in arrays], shape)
    assert_same(operation.call(arrays, shape), expected)
    swapped = [array.astype(dtype.newbyteorder("S")) for array in arrays]
    assert_same(operation.call(swapped, shape), expected)


def test_float16_is_averaged_in_float32(level: str) -> None:
    """The sum of two largest float16 numbers, 65504, overflows float16; their mean does not."""
    images = np.full((1, 2, 8, 40), 65504, "f2")
    assert_same(fastconv.avg_pool2d(images, 2), np.full((1, 2, 4, 20), 65504, "f2"))
    images = integer_values((1, 2, 9, 41), "f2") + np.float16(1000)
    expected = reference.avg_pool2d(images, 3, 2, 1).astype("f2")
    assert_same(fastconv.avg_pool2d(images, 3, 2, 1), expected)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("value", [np.nan, np.inf, 6e4], ids=str)
def test_one_pixel_reaches_only_its_windows(level: str, value: float, dtype: DType) -> None:
    """There are no running sums: a NaN or a huge value reaches only its windows."""
    scale = float(np.finfo(dtype).max) / 7e4 if np.isfinite(value) else 1
    clean = integer_values((1, 2, 9, 41), dtype)
    for kernel, stride, padding in ((3, 1, 1), (2, 2, 0), (5, 2, 2)):
        images = clean.copy()
        images[0, 1, 4, 20] = value * scale
        marked = np.zeros(images.shape)
        marked[0, 1, 4, 20] = 1
        touched = reference.avg_pool2d(marked, kernel, stride, padding) > 0
        result = fastconv.avg_pool2d(images, kernel, stride, padding)
        expected = reference.avg_pool2d(clean, kernel, stride, padding).astype(dtype)
        assert_same(result[~touched], expected[~touched])
        expected = reference.avg_pool2d(images, kernel, stride, padding)
        np.testing.assert_allclose(result[touched], expected[touched], rtol=1e-2)


# -------------------------------------------------------------------------------------- PyTorch

TORCH_WINDOWS = [
    (kernel, stride, padding, dilation)
    for kernel in (2, (3, 2), 5)
    for stride in (None, 1, (2, 3))
    for padding in (0, 1, (1, 0))
    for dilation in (1, (1, 2), 3)
]


@both_ceil_modes
@pytest.mark.parametrize("window", TORCH_WINDOWS, ids=str)
def test_pytorch_max_pool2d(torch: Any, window: Any, ceil_mode: bool) -> None:
    images = images_with_ties((2, 3, 13, 16), np.float32)
    tensor = torch.from_numpy(images).requires_grad_()
    arguments = (*window, ceil_mode)
    pooled, places = torch.nn.functional.max_pool2d(tensor, *arguments, return_indices=True)
    maxima, indices = fastconv.max_pool2d(images, *arguments, return_indices=True)
    assert_same(maxima, pooled.detach().numpy())
    assert_same(indices, places.numpy())
    grad = integer_values(maxima.shape)
    pooled.backward(torch.from_numpy(grad))
    assert_same(fastconv.max_pool2d_backward(grad, indices, images.shape), tensor.grad.numpy())


@pytest.mark.parametrize("count_include_pad", [True, False], ids=["with-pad", "without-pad"])
@both_ceil_modes
@pytest.mark.parametrize("window", [w[:3] for w in TORCH_WINDOWS if w[3] == 1], ids=str)
def test_pytorch_avg_pool2d(
    torch: Any, window: Any, ceil_mode: bool, count_include_pad: bool
) -> None:
    images = normal_values((2, 3, 13, 16), np.float64)
    tensor = torch.from_numpy(images).requires_grad_()
    options: Any = (ceil_mode, count_include_pad)
    pooled = torch.nn.functional.avg_pool2d(tensor, *window, *options)
    means = fastconv.avg_pool2d(images, *window, *options)
    assert_close(means, pooled.detach().numpy(), np.float64)
    grad = normal_values(means.shape, np.float64)
    pooled.backward(torch.from_numpy(grad))
    result = fastconv.avg_pool2d_backward(grad, images.shape, *window, *options)
    assert_close(result, tensor.grad.numpy(), np.float64, terms=25)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "size"),
    [(2, None, 0, None), (3, 3, 1, None), ((2, 3), (2, 3), 0, (13, 16)), (2, 2, 0, (12, 17))],
    ids=str,
)
def test_pytorch_max_unpool2d(
    torch: Any, kernel: Any, stride: Any, padding: Any, size: Any
) -> None:
    images = normal_values((2, 3, 13, 16))
    maxima, indices = fastconv.max_pool2d(images, kernel, stride, padding, return_indices=True)
    arguments = (kernel, stride, padding, size)
    if size is None:  # the positions are those of the image, in the size that PyTorch expects
        plane = fastconv.max_unpool2d(maxima, np.zeros_like(indices), kernel, stride, padding)
        indices = np.arange(indices.size).reshape(indices.shape) % (
            indices.shape[2] * indices.shape[3]
        )
        assert indices.max() < plane.shape[2] * plane.shape[3]
    expected = torch.nn.functional.max_unpool2d(
        torch.from_numpy(maxima), torch.from_numpy(indices), *arguments
    )
    assert_same(fastconv.max_unpool2d(maxima, indices, *arguments), expected.numpy())


# ----------------------------------------------------------------------------------- properties


@st.composite
def pooling_cases(draw: st.DrawFn) -> tuple[Shape, tuple[Any, ...]]:
    """Draw an image shape and (kernel_size, stride, padding, dilation, ceil_mode)."""

    def pairs(low: int, high: int) -> st.SearchStrategy[tuple[int, int]]:
        return st.tuples(st.integers(low, high), st.integers(low, high))

    kernel, dilation = draw(pairs(1, 4)), draw(pairs(1, 3))
    stride = draw(st.one_of(st.none(), st.integers(1, 5), pairs(1, 4)))
    extents = [d * (k - 1) + 1 for d, k in zip(dilation, kernel)]
    sides = [draw(pairs(0, extent - 1)) for extent in extents]
    padding = draw(st.sampled_from([tuple(sides), "valid"]))
    size = [extent + draw(st.integers(0, 12)) for extent in extents]
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 3)), *size)
    return shape, (kernel, stride, padding, dilation, draw(st.booleans()))


@given(case=pooling_cases(), seed=st.integers(0, 2**32 - 1))
def test_max_pool2d_properties(level: str, case: Any, seed: int) -> None:
    """Every gradient arrives once, and unpooling puts each maximum where it was."""
    shape, window = case
    images = images_with_ties(shape, np.float32, seed)
    check_max_pool(images, *window)
    maxima, indices = fastconv.max_pool2d(images, *window, return_indices=True)

    grad = integer_values(maxima.shape, np.float64, seed + 1)
    back = fastconv.max_pool2d_backward(grad, indices, shape)
    np.testing.assert_array_equal(back.sum(axis=(2, 3)), grad.sum(axis=(2, 3)))

    plane = fastconv.max_unpool2d(maxima, indices, 1, output_size=shape[2:])
    flat = [array.reshape(*shape[:2], -1) for array in (plane, images, indices)]
    found = np.take_along_axis(flat[0], flat[2], 2)
    np.testing.assert_array_equal(found, maxima.reshape(found.shape))
    chosen = np.zeros(flat[0].shape, bool)
    np.put_along_axis(chosen, flat[2], True, 2)
    np.testing.assert_array_equal(flat[0], np.where(chosen, flat[1], 0))


@given(case=pooling_cases(), seed=st.integers(0, 2**32 - 1), include=st.booleans())
def test_avg_pool2d_backward_is_the_adjoint(
    level: str, case: Any, seed: int, include: bool
) -> None:
    """<avg_pool2d(x), g> is <x, avg_pool2d_backward(g)>, up to the rounding of the divisions."""
    shape, (kernel, stride, padding, dilation, ceil_mode) = case
    padding = padding if dilation == (1, 1) else 0
    window = (kernel, stride, padding, ceil_mode, include)
    images = integer_values(shape, np.float64, seed)
    means = fastconv.avg_pool2d(images, *window)
    assert_same(means, reference.avg_pool2d(images, *window))
    grad = integer_values(means.shape, np.float64, seed + 1)
    back = fastconv.avg_pool2d_backward(grad, shape, *window)
    sizes = float((np.abs(means) * np.abs(grad)).sum() + (np.abs(images) * np.abs(back)).sum())
    assert abs(float((means * grad).sum() - (images * back).sum())) <= 1e-14 * sizes + 1e-12
