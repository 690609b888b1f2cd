"""conv2d, its gradients and conv_transpose2d against their definition, SciPy and PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, replace
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pytest
import reference
from convolutions import Case, check, definition, results_of, rms, textbook
from helpers import (
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
    window_cases,
)
from hypothesis import given
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided
from scipy import ndimage, signal

import fastconv

BOOL = np.dtype(bool)


# -------------------------------------------------------------------------------------- windows

SIZE = (11, 13)
KERNELS = [(1, 1), (3, 3), (5, 5), (7, 7), (2, 3), (1, 7), (4, 1), (11, 11)]
STRIDES: list[Any] = [1, 2, 3, (2, 1)]
DILATIONS: list[Any] = [2, (1, 3)]
PADDINGS: list[Any] = [0, 1, "same", "valid", ((1, 2), (0, 3)), ((13, 8), (15, 21))]
"""The last is larger than the image."""

PADDED = [
    Case((2, 3, *SIZE), 5, kernel, stride, padding)
    for kernel in [(3, 3), (2, 4)]
    for stride in (1, (2, 3))
    for padding in PADDINGS
]
WINDOWS = [
    *PADDED,
    *(
        Case((2, 3, *SIZE), 5, kernel, stride, (kernel[0] // 2, kernel[1] // 2))
        for kernel, stride in product(KERNELS, STRIDES)
    ),
    *(
        Case((2, 3, *SIZE), 5, kernel, stride, 10, dilation)
        for kernel, stride, dilation in product(KERNELS, (1, 2), DILATIONS)
    ),
    Case((2, 3, *SIZE), 5, SIZE),
    Case((2, 3, *SIZE), 5, (3, 3), 50, 1),
    Case((2, 3, *SIZE), 5, (13, 17), 1, (1, 2)),
]
SPLITS = {
    "whole": (3, 5, 1),
    "groups": (4, 6, 2),
    "depthwise": (5, 5, 5),
    "depthwise-multiplier": (3, 6, 3),
}
"""(channels, filters, groups)"""
all_splits = pytest.mark.parametrize("split", SPLITS.values(), ids=SPLITS.keys())
both_dtypes = pytest.mark.parametrize("dtype", ["f4", "f8"])


def split_up(case: Case, split: tuple[int, int, int]) -> Case:
    channels, filters, groups = split
    shape = (case.shape[0], channels, *case.shape[2:])
    return replace(case, shape=shape, filters=filters, groups=groups)


@all_splits
@pytest.mark.parametrize("case", WINDOWS, ids=lambda case: str(astuple(case)[2:6]))
def test_windows(level: str, threads: int, case: Case, split: tuple[int, int, int]) -> None:
    check(split_up(case, split))


@all_splits
@pytest.mark.parametrize("pad_mode", PAD_MODES[1:])
def test_pad_modes(level: str, pad_mode: str, split: tuple[int, int, int]) -> None:
    """Images of few pixels are included; their padding repeats them several times."""
    dilated = Case((2, 3, *SIZE), 5, (3, 2), 1, 9, (3, 4))
    small = [Case((2, 3, *size), 5, (3, 3), 1, 4) for size in [(1, 1), (1, 4), (2, 3)]]
    for case in (*PADDED, dilated, *small):
        check(split_up(replace(case, pad_mode=pad_mode), split), np.float64)


# -------------------------------------------------------------------------- sizes around blocks

COUNTS = [1, 2, 3, 4, 5, 8, 9, 15, 16, 17, 31, 32, 33, 48, 65]
"""Around vectors of 4, 8 and 16 filters, and blocks of two of them."""


@both_dtypes
@pytest.mark.parametrize("count", COUNTS)
def test_filters_and_channels(level: str, count: int, dtype: str) -> None:
    for kernel, padding in (((1, 1), 0), ((3, 3), 1)):
        for channels, filters, groups in (
            *((3, count, 1), (count, 3, 1), (count, count, 1)),
            *((count, count, count), (count, 2 * count, count), (2, 2 * count, 2)),
        ):
            check(Case((2, channels, 4, 9), filters, kernel, 1, padding, groups=groups), dtype)


ROWS = [((1, 1), 1, 0), ((3, 3), 1, 1), ((3, 3), 2, 1), ((5, 5), 1, 2), ((2, 2), 3, 0)]


@pytest.mark.parametrize("outputs", [*range(1, 9), *range(12, 17), 27, 28, 29, 43])
def test_row_lengths(level: str, outputs: int) -> None:
    """Rows around 6 and 14 pixels, with many filters and few, in planes of 1 to 5 rows."""
    for (kernel, stride, padding), rows in product(ROWS, range(1, 6)):
        height, width = (
            max(1, (size - 1) * stride + kernel[0] - 2 * padding) for size in (rows, outputs)
        )
        check(Case((1, 2, height, width), 18, kernel, stride, padding))
        if rows in (1, 4):
            check(Case((2, 5, height, width), 5, kernel, stride, padding, groups=5))
            check(Case((1, 1, height, width), 1, kernel, stride, padding))


TINY = [
    Case((1, 20, 7, 7), 18, (3, 3), 1, 1),
    Case((1, 20, 7, 7), 18, (1, 1)),
    Case((1, 20, 7, 7), 18, (7, 7)),
    Case((1, 20, 1, 1), 18, (1, 1)),
    Case((1, 20, 1, 1), 18, (3, 3), 1, 1),
    Case((1, 20, 4, 4), 18, (3, 3), 2, 1),
    Case((1, 20, 2, 3), 18, (3, 3), 1, 1),
    Case((1, 20, 7, 7), 20, (3, 3), 1, 1, groups=20),
    Case((1, 20, 3, 3), 20, (3, 3), groups=20),
]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_batches_of_tiny_images(level: str, threads: int, count: int) -> None:
    for case in TINY:
        check(replace(case, shape=(count, *case.shape[1:])))


@pytest.mark.parametrize(
    "terms", [*range(191, 194), *range(255, 258), *range(383, 386), 576, 1200], ids=str
)
def test_long_sums(level: str, terms: int) -> None:
    """Numbers of channels, filters and pixels around the length of a sum in registers."""
    for kernel, taps in (((1, 1), 1), ((3, 3), 9), ((1, 2), 2)):
        many, padding = terms // taps, (kernel[0] // 2, 0)
        check(Case((1, many, 3, 8), 18, kernel, 1, padding))
        check(Case((1, 18, 3, 8), many, kernel, 1, padding))
    check(Case((1, 3, 1, terms), 4, (1, 1)))
    check(Case((2, 3, 2, terms // 4), 4, (3, 3), 1, 1))


LAYERS = {
    "1x1": Case((2, 64, 28, 28), 96, (1, 1)),
    "first-layer": Case((1, 3, 112, 112), 64, (7, 7), 2, 3),
    "7x7-planes": Case((4, 128, 7, 7), 256, (3, 3), 1, 1),
    "one-image": Case((1, 64, 56, 56), 64, (3, 3), 1, 1),
    "strided": Case((3, 24, 41, 57), 40, (3, 3), 2, 1),
    "many-small-images": Case((64, 8, 12, 12), 20, (5, 5)),
    "one-channel-to-one": Case((1, 1, 301, 403), 1, (5, 5), 1, 2),
}


@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("filters", [2, 5, 33])
def test_windows_that_fit_no_scratch(level: str, filters: int, stride: int) -> None:
    """A few rows of the image, which a window spans, take 4 MiB and more."""
    check(Case((2, 8, 394, 460), filters, (2, 2), stride, 0, (390, 380)))


@pytest.mark.parametrize("name", LAYERS)
def test_layers(level: str, threads: int, name: str) -> None:
    check(LAYERS[name], np.float32, textbook(LAYERS[name]))


@pytest.mark.parametrize("shape", [(8, 96, 28, 28), (1, 24, 112, 96)], ids=str)
@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_layers(level: str, threads: int, shape: Shape, stride: int) -> None:
    check(Case(shape, shape[1], (3, 3), stride, 1, groups=shape[1]))


WHOLE_PLANES = [
    *product([(3, 3), (5, 3)], [1, 2], [0, 1, 4]),
    *product([(3, 1), (5, 5), (2, 3)], [1, 2], [2]),
    ((3, 3), (1, 2), 1),
    ((3, 3), 1, ((0, 3), (2, 1))),
]


@both_dtypes
@pytest.mark.parametrize("width", [1, 3, 4, 5, 7, 8, 9, 14, 15, 16, 17, 31, 33, 64, 70])
def test_whole_planes(level: str, width: int, dtype: str) -> None:
    """Depthwise planes around the vector widths of every level, with few rows and many."""
    for turn, (kernel, stride, padding) in enumerate(WHOLE_PLANES):
        height = (5, 7, 9, 16, 1)[(turn + width) % 5]
        sides = reference.sides(padding)
        shape = [max(size, k - sum(pad)) for size, k, pad in zip((height, width), kernel, sides)]
        filters = 12 * (1 + turn % 3)
        check(Case((2, 12, *shape), filters, kernel, stride, padding, groups=12), dtype)


SMALL_WINDOWS: list[tuple[tuple[int, int], Any, Any, int]] = [
    ((3, 3), 1, 1, 1),
    ((3, 3), 2, 1, 1),
    ((3, 3), 2, ((0, 1), (0, 1)), 1),
    ((5, 5), 1, 2, 1),
    ((5, 5), 2, 2, 1),
    ((7, 7), 1, 3, 1),
    ((3, 3), 1, 2, 2),
    ((3, 3), 2, 2, 2),
    ((3, 3), 1, (1, 0), 1),
    ((1, 3), 1, (0, 1), 1),
    ((3, 3), (2, 1), 1, 1),
]
"""Kernel, stride, padding and dilation."""


@both_dtypes
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (4, 2), (7, 7), (14, 14), (13, 10), (21, 28)])
def test_small_depthwise_planes(level: str, size: tuple[int, int], dtype: str) -> None:
    """Planes that are read as one row of numbers, with one filter per channel and with several."""
    for turn, (kernel, stride, padding, dilation) in enumerate(SMALL_WINDOWS):
        sides = reference.sides(padding)
        height, width = (
            max(n, dilation * (k - 1) + 1 - sum(pad)) for n, k, pad in zip(size, kernel, sides)
        )
        filters = 16 * (1 + turn % 2)
        shape = (2, 16, height, width)
        check(Case(shape, filters, kernel, stride, padding, dilation, groups=16), dtype)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_small_depthwise_planes(level: str, layout: str, stride: int) -> None:
    """More images than are summed in a register, read in place and from a copy."""
    case = Case((19, 16, 8, 7), 32, (3, 3), stride, 1, groups=16)
    arrays = case.arrays(integer_values)
    results = results_of(case, [LAYOUTS[layout](array) for array in arrays])
    for result, expected in zip(results, results_of(case, [array.copy() for array in arrays])):
        assert_same(result, expected)
    output, _, grad_weight, _ = definition(case)
    assert_same(results[0], output.astype(np.float32))
    assert_same(results[2], grad_weight.astype(np.float32))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dilation", [1001, 1 << 31, 1 << 32, (1 << 32) + 2, 1 << 38])
def test_taps_far_from_small_depthwise_planes(level: str, dilation: int, stride: int) -> None:
    """All taps but the middle one lie in the padding, at positions that 32 bits may not hold."""
    case = Case((2, 16, 6, 7), 16, (3, 3), stride, 1, groups=16)
    images, weight, bias, grad = case.arrays(integer_values)
    middle = weight[..., 1:2, 1:2]
    output = reference.conv2d(images, middle, bias, stride, groups=16)
    far: Any = {"stride": stride, "padding": dilation, "dilation": dilation, "groups": 16}
    assert_same(fastconv.conv2d(images, weight, bias, **far), output.astype("f4"))
    results: Any = fastconv.conv2d_backward(grad, images, weight, **far)
    expected = reference.conv2d_backward(grad, images, middle, stride, groups=16)
    assert_same(results[0], expected[0].astype("f4"))
    assert_same(results[1][..., 1:2, 1:2], expected[1].astype("f4"))
    assert np.count_nonzero(results[1]) == np.count_nonzero(expected[1])


@both_dtypes
@pytest.mark.parametrize("columns", [14, 16, 28, 31, 32, 46, 64, 79, 96])
def test_short_sums(level: str, columns: int, dtype: str) -> None:
    """Few channels and long rows, of which vectors are pieces of one, two or three."""
    for turn, (channels, filters) in enumerate(product((1, 3, 8), (5, 8, 17, 33))):
        stride = 1 + turn % 2
        check(Case((2, channels, 5, columns * stride), filters, (3, 3), stride, 1), dtype)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_planes_are_apart(level: str, threads: int, stride: int, value: float) -> None:
    """NaN and infinity stay in their plane, even where planes are summed together."""
    case = Case((3, 16, 6, 9), 16, (3, 3), stride, 1, groups=16)
    images, weight, bias, grad = case.arrays(integer_values)
    output, _, grad_weight, _ = results_of(case, [images, weight, bias, grad])[:4]
    images[1, 5], images[2, 9, -1, -1] = value, value
    spoiled, _, spoiled_weight, _ = results_of(case, [images, weight, bias, grad])[:4]
    clean = np.ones((3, 16), bool)
    clean[1, 5] = clean[2, 9] = False
    assert_same(spoiled[clean], output[clean])
    untouched = ~np.isin(np.arange(16), (5, 9))
    assert_same(spoiled_weight[untouched], grad_weight[untouched])
    # The last pixel meets no tap whose window ends above or to the left of it.
    seen = np.zeros((3, 3), bool)
    for kh, kw in product(range(3), range(3)):
        y, x = 5 + 1 - kh, 8 + 1 - kw
        seen[kh, kw] = (
            y % stride == 0
            and x % stride == 0
            and y // stride < case.output[2]
            and x // stride < case.output[3]
        )
    assert np.isfinite(spoiled_weight[9, 0][~seen]).all()
    assert_same(spoiled_weight[9, 0][~seen], grad_weight[9, 0][~seen])


@both_dtypes
@pytest.mark.parametrize("stride", [1, 2])
def test_one_image_with_heavy_weights(level: str, threads: int, stride: int, dtype: str) -> None:
    """Each thread packs and uses a part of the filters."""
    for shape, filters, kernel in (
        ((1, 40, 7, 7), 133, (3, 3)),
        ((1, 33, 6, 5), 260, (1, 1)),
        ((1, 24, 14, 14), 96, (3, 3)),
        ((2, 24, 9, 9), 96, (2, 3)),
    ):
        case = Case(shape, filters, kernel, stride, kernel[0] // 2)
        check(case, dtype, textbook(case) if kernel != (2, 3) else None)


# ------------------------------------------------------------------------------------ properties


@given(
    window=window_cases(),
    groups=st.integers(1, 3),
    filters=st.integers(1, 12),
    dtype=st.sampled_from(["f4", "f8"]),
)
def test_gradients_are_adjoint(
    level: str, window: Any, groups: int, filters: int, dtype: str
) -> None:
    """<conv2d(x, w), g> is <x, grad_input> and <w, grad_weight>, exactly, for integer values."""
    (count, channels, *plane), options = window
    kernel = options.pop("kernel_size")
    shape = (count, channels * groups, *plane)
    case = Case(shape, filters * groups, kernel, groups=groups, **options)
    check(case, dtype)
    images, weight, _, grad = case.arrays(integer_values, dtype)
    output = fastconv.conv2d(images, weight, **case.window)
    results: Any = fastconv.conv2d_backward(grad, images, weight, **case.window)
    pairs = ((output, grad), (images, results[0]), (weight, results[1]))
    assert len({np.vdot(*[array.astype("f8") for array in pair]) for pair in pairs}) == 1


def slopes(function: Callable[[], Any], array: Array) -> Array:
    """Differentiate a function by each element of an array, which it reads."""
    result, step = np.zeros_like(array), 2.0**-10
    for index in np.ndindex(array.shape):
        before = array[index]
        values = []
        for moved in (before - step, before + step):
            array[index] = moved
            values.append(float(function()))
        array[index] = before
        result[index] = (values[1] - values[0]) / (2 * step)
    return result


@pytest.mark.parametrize("pad_mode", PAD_MODES)
@pytest.mark.parametrize(
    "case",
    [
        Case((2, 2, 4, 5), 3, (3, 3), 1, 1),
        Case((1, 4, 5, 4), 4, (2, 3), (2, 1), ((1, 2), (0, 3)), (1, 2), 2),
        Case((2, 3, 3, 4), 3, (3, 2), 2, "same", groups=3),
    ],
    ids=str,
)
def test_central_differences(case: Case, pad_mode: str) -> None:
    """Outputs are linear in each argument, so differences equal slopes up to rounding."""
    case = replace(case, pad_mode=pad_mode)
    images, weight, bias, grad = case.arrays(normal_values, np.float64)

    def loss() -> Any:
        return np.vdot(fastconv.conv2d(images, weight, bias, **case.window), grad)

    results = fastconv.conv2d_backward(grad, images, weight, **case.window)
    for result, array in zip(results, (images, weight, bias)):
        assert result is not None
        np.testing.assert_allclose(result, slopes(loss, array), rtol=0, atol=1e-9)


# --------------------------------------------------------------------------------- other sources

BOUNDARIES = {"constant": "fill", "symmetric": "symm", "wrap": "wrap"}
NDIMAGE_MODES = {
    "constant": "constant",
    "edge": "nearest",
    "symmetric": "reflect",
    "reflect": "mirror",
    "wrap": "wrap",
}


@pytest.mark.parametrize("pad_mode", BOUNDARIES)
@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (2, 4), (5, 2), (4, 4)], ids=str)
def test_scipy_signal(level: str, kernel: tuple[int, int], pad_mode: str) -> None:
    """SciPy's convolution rotates the filter by 180 degrees."""
    image = integer_values((9, 13), np.float64)
    weight = integer_values(kernel, np.float64, seed=1)
    height, width = kernel
    full = (height - 1, width - 1)
    # SciPy centres an even kernel of a convolution the other way round than "same".
    mirrored = ((height // 2, (height - 1) // 2), (width // 2, (width - 1) // 2))
    paddings: list[tuple[str, Any, Any]] = [
        ("valid", "valid", "valid"),
        ("full", full, full),
        ("same", "same", mirrored),
    ]
    for mode, correlation_padding, convolution_padding in paddings:
        for scipy_function, padding, filters in (
            (signal.correlate2d, correlation_padding, weight),
            (signal.convolve2d, convolution_padding, weight[::-1, ::-1]),
        ):
            result = fastconv.conv2d(
                image[None], filters[None, None], padding=padding, pad_mode=pad_mode
            )
            expected = scipy_function(image, weight, mode, BOUNDARIES[pad_mode])
            np.testing.assert_array_equal(result[0], expected)


@pytest.mark.parametrize("pad_mode", NDIMAGE_MODES)
@pytest.mark.parametrize("size", [(3, 5), (20, 31)], ids=str)
def test_scipy_images(level: str, size: tuple[int, int], pad_mode: str) -> None:
    """Some kernels are smaller than the image, some are larger."""
    image = integer_values(size, np.float64)
    for kernel in ((3, 3), (7, 9), (1, 5)):
        weight = integer_values(kernel, np.float64, seed=1)
        result = fastconv.conv2d(image[None], weight[None, None], padding="same", pad_mode=pad_mode)
        expected = ndimage.correlate(image, weight, mode=NDIMAGE_MODES[pad_mode])
        np.testing.assert_array_equal(result[0], expected)


@cache
def photo(kernel: int) -> tuple[Array, Array, Array]:
    image, weight = integer_values((600, 500)), integer_values((kernel, kernel), seed=1)
    return image, weight, ndimage.correlate(image, weight, mode="mirror")


@pytest.mark.parametrize("kernel", [3, 31])
def test_scipy_photo(level: str, threads: int, kernel: int) -> None:
    image, weight, expected = photo(kernel)
    result = fastconv.conv2d(image[None], weight[None, None], padding="same", pad_mode="reflect")
    assert_same(result[0], expected)


TORCH_CASES = [
    Case((2, 4, 10, 13), 6, kernel, stride, padding, dilation, groups)
    for kernel, groups in (((3, 3), 1), ((2, 5), 2), ((1, 1), 1), ((3, 1), 2))
    for stride in (1, (2, 3))
    for padding, dilation in ((0, 1), (1, 2), ((2, 0), (1, 2)))
] + [Case((2, 6, 10, 13), 12, (3, 3), 2, 1, groups=6), Case((1, 200, 7, 7), 40, (3, 3), 1, 1)]


@both_dtypes
@pytest.mark.parametrize("case", TORCH_CASES, ids=str)
def test_pytorch(torch: Any, case: Case, dtype: str) -> None:
    arrays = case.arrays(normal_values, dtype)
    images, weight, bias, grad = (torch.from_numpy(array) for array in arrays)
    window = {name: value for name, value in case.window.items() if name != "pad_mode"}
    pairs = [list(reference.pair(window[name])) for name in ("stride", "padding", "dilation")]
    theirs = [
        torch.nn.functional.conv2d(images, weight, bias, **window),
        *torch.ops.aten.convolution_backward(
            grad, images, weight, [case.filters], *pairs, False, [0, 0], case.groups, [True] * 3
        ),
        torch.nn.functional.conv_transpose2d(grad, weight, images[0, :, 0, 0], **case.transposed),
    ]
    taps, pixels = arrays[1][0].size, arrays[3][:, 0].size
    spread = arrays[1][:, 0].size // case.groups
    for result, tensor, terms in zip(
        results_of(case, arrays), theirs, (taps, spread, pixels, pixels, spread)
    ):
        assert_close(result, tensor.numpy(), dtype, terms)


TRANSPOSED: list[dict[str, Any]] = [
    {"stride": stride, "padding": padding, "output_padding": more, "dilation": dilation}
    for stride, dilation, more in (
        *((1, 1, 0), (2, 1, 1), ((3, 2), 1, (2, 0))),
        *((1, 2, 1), (2, 3, 2), ((1, 3), (2, 1), (1, 2))),
    )
    for padding in (0, 1, (0, 2))
]


every_transposed = pytest.mark.parametrize(
    "window", TRANSPOSED, ids=lambda window: str(tuple(window.values()))
)
every_split = pytest.mark.parametrize(("filters", "groups"), [(5, 1), (3, 2), (1, 4), (2, 4)])


def transposed_arrays(filters: int, groups: int) -> list[Array]:
    shapes = [(2, 4, 5, 7), (4, filters, 3, 2), (filters * groups,)]
    return [integer_values(shape, seed=seed) for seed, shape in enumerate(shapes)]


@every_split
@every_transposed
def test_conv_transpose2d(level: str, window: dict[str, Any], filters: int, groups: int) -> None:
    """Output sizes that no convolution maps back, beyond what the stride allows, are included."""
    images, weight, bias = transposed_arrays(filters, groups)
    window = {**window, "groups": groups}
    expected = reference.conv_transpose2d(images, weight, bias, **window).astype("f4")
    with guarded(expected.shape, "f4") as out:
        assert fastconv.conv_transpose2d(images, weight, bias, **window, out=out) is out
        assert_same(out, expected)


@pytest.mark.parametrize("step", [-3, 0, 1, 2, 60])
def test_steps_between_single_columns_mean_nothing(level: str, step: int) -> None:
    """NumPy calls an array of one column contiguous whatever the stride of that axis is."""
    images, weight = integer_values((1, 4, 1, 1)), integer_values((4, 3, 5, 1), seed=1)
    expected = reference.conv_transpose2d(images, weight).astype("f4")
    with guarded((1, 3, 5), "f4") as memory:
        out = as_strided(memory, (1, 3, 5, 1), (*memory.strides, step * memory.itemsize))
        assert out.flags.c_contiguous
        fastconv.conv_transpose2d(images, weight, out=out)
        assert_same(memory[..., None], expected)


@every_split
@every_transposed
def test_pytorch_conv_transpose2d(
    torch: Any, window: dict[str, Any], filters: int, groups: int
) -> None:
    arrays = transposed_arrays(filters, groups)
    window = {**window, "groups": groups}
    tensors = [torch.from_numpy(array) for array in arrays]
    expected = torch.nn.functional.conv_transpose2d(*tensors, **window)
    result = fastconv.conv_transpose2d(arrays[0], arrays[1], arrays[2], **window)
    np.testing.assert_array_equal(result, expected.numpy())


@pytest.mark.parametrize("padding", ["valid", ((1, 2), (0, 3)), [[0, 1], [2, 2]]], ids=str)
def test_conv_transpose2d_sides(level: str, padding: Any) -> None:
    """These forms of padding are not accepted by PyTorch."""
    images, weight = integer_values((2, 3, 5, 7)), integer_values((3, 4, 4, 5), seed=1)
    expected = reference.conv_transpose2d(images, weight, None, 2, padding).astype("f4")
    assert_same(fastconv.conv_transpose2d(images, weight, None, 2, padding), expected)


# ---------------------------------------------------------------------------------------- dtypes

SMALL = Case((2, 4, 6, 9), 6, (3, 2), (1, 2), 1, groups=2)


@pytest.mark.parametrize("dtype", [*INTEGERS, BOOL], ids=lambda dtype: dtype.char)
def test_integers_are_computed_in_float64(dtype: DType) -> None:
    arrays = SMALL.arrays(integer_values, dtype)
    expected = results_of(SMALL, [array.astype(np.float64) for array in arrays])
    swapped = [array.astype(dtype.newbyteorder("S")) for array in arrays]
    for given_arrays in (arrays, swapped):
        for result, same in zip(results_of(SMALL, given_arrays), expected):
            assert_same(result, same)


MIXED = [
    ("i1", "f4", "f4", "f4"),
    ("f4", "f8", "f4", "f8"),
    ("f4", "f4", "f8", "f8"),
    ("f2", "f8", "f2", "f8"),
    ("f2", "f4", "f2", "f4"),
    ("f2", "f2", "u1", "f2"),
    ("?", "f2", "?", "f2"),
    ("i2", "f2", "f2", "f4"),
    ("i4", "f4", "f4", "f8"),
    ("f4", "u8", "f4", "f8"),
    ("u1", "i1", "i8", "f8"),
    ("u8", "i8", "?", "f8"),
    (">f4", "<f8", ">i2", "f8"),
    (">f4", "<f2", ">i2", "f4"),
]


@pytest.mark.parametrize(("first", "second", "third", "expected"), MIXED)
def test_mixed_dtypes(level: str, first: str, second: str, third: str, expected: str) -> None:
    """numpy.result_type of images, weights and gradients determines the dtype of all results."""
    dtypes = (first, second, third, third)
    images, weight, bias, grad = (
        integer_values(array.shape, dtype, seed)
        for seed, (array, dtype) in enumerate(zip(SMALL.arrays(integer_values), dtypes))
    )

    def same(call: Callable[..., Any], dtype: str, *arrays: Array, **window: Any) -> None:
        of_one = call(*[array.astype(dtype) for array in arrays], **window)
        results = call(*arrays, **window)
        pairs = zip(results, of_one) if isinstance(results, tuple) else [(results, of_one)]
        for result, known in pairs:
            assert result.dtype == dtype
            assert_same(result, known)

    same(fastconv.conv2d_backward, expected, grad, images, weight, **SMALL.window)
    same(fastconv.conv2d, computed(first, second), images, weight, bias, **SMALL.window)
    offsets = images[0, :, 0, 0]
    same(
        fastconv.conv_transpose2d,
        computed(third, second),
        *(grad, weight, offsets),
        **SMALL.transposed,
    )


def computed(*dtypes: str) -> str:
    """Name the dtype of results without a bias."""
    dtype = np.result_type(*dtypes)
    return dtype.char if dtype.kind == "f" else "d"


@pytest.mark.parametrize(
    ("of_arrays", "of_bias", "expected"),
    [
        *(("f4", "f8", "f4"), ("f2", "f8", "f2"), ("f2", "f4", "f2"), ("f8", "f4", "f8")),
        *(("f4", "i8", "f4"), ("f2", "?", "f2"), ("u1", "f4", "f8"), (">f4", ">f8", "f4")),
    ],
)
def test_a_bias_follows_images_and_weights(
    level: str, of_arrays: str, of_bias: str, expected: str
) -> None:
    """The bias is rounded to the dtype of the result and never widens it."""
    images, weight, bias, grad = SMALL.arrays(normal_values, of_arrays)
    offsets = (1000 * bias.astype("f8")).astype(of_bias)
    rounded = offsets.astype(expected)
    result = fastconv.conv2d(images, weight, offsets, **SMALL.window)
    assert result.dtype == expected
    assert_same(result, fastconv.conv2d(images, weight, rounded, **SMALL.window))
    some = np.resize(offsets, images.shape[1])
    result = fastconv.conv_transpose2d(grad, weight, some, **SMALL.transposed)
    assert result.dtype == expected
    rounded = some.astype(expected)
    assert_same(result, fastconv.conv_transpose2d(grad, weight, rounded, **SMALL.transposed))


def test_a_bias_too_large_for_the_dtype_is_infinite() -> None:
    images, weight = np.ones((1, 1, 1), "f2"), np.ones((1, 1, 1, 1), "f2")
    assert_same(fastconv.conv2d(images, weight, [1e6]), np.array([[[np.inf]]], "f2"))


HALVES = [
    SMALL,
    Case((2, 40, 9, 11), 33, (3, 3), 1, 1),
    *[Case((2, 3, 7, 9), 5, (3, 3), 1, 2, pad_mode=mode) for mode in PAD_MODES],
]


@pytest.mark.parametrize("case", HALVES, ids=str)
def test_float16_is_computed_in_float32(level: str, case: Case) -> None:
    """Results are those of float32, rounded once at the end."""
    arrays = case.arrays(normal_values, "f2")
    expected = results_of(case, [array.astype("f4") for array in arrays])
    for result, wide in zip(results_of(case, arrays), expected):
        assert_same(result, wide.astype("f2"))


def test_unbatched_gradients(level: str) -> None:
    images, weight, _, grad = replace(SMALL, shape=(1, 4, 6, 9)).arrays(integer_values)
    expected = fastconv.conv2d_backward(grad, images, weight, **SMALL.window)
    results = fastconv.conv2d_backward(grad[0], images[0], weight, **SMALL.window)
    assert expected[0] is not None
    for result, same in zip(results, (expected[0][0], *expected[1:])):
        assert same is not None
        assert_same(result, same)
    nested: Any = [array.tolist() for array in (grad[0], images[0], weight)]
    for result, same in zip(fastconv.conv2d_backward(*nested, **SMALL.window), results):
        assert same is not None
        assert_same(result, same.astype(np.float64))


def test_gradients_of_no_images(level: str) -> None:
    images, weight, _, grad = replace(SMALL, shape=(0, 4, 6, 9)).arrays(integer_values)
    results = fastconv.conv2d_backward(grad, images, weight, **SMALL.window)
    for result, like in zip(results, (images, weight, weight[:, 0, 0, 0])):
        assert_same(result, np.zeros_like(like))


@pytest.mark.parametrize("mask", [*product([True, False], repeat=3)], ids=str)
def test_output_mask(level: str, mask: tuple[bool, bool, bool]) -> None:
    """Gradients that are not requested are None; the others are unchanged."""
    images, weight, _, grad = SMALL.arrays(normal_values)
    known = fastconv.conv2d_backward(grad, images, weight, **SMALL.window)
    forms: list[Any] = [mask, list(mask), np.array(mask)]
    for same in forms:
        results = fastconv.conv2d_backward(grad, images, weight, **SMALL.window, output_mask=same)
        assert isinstance(results, tuple)
        for result, expected, wanted in zip(results, known, mask):
            assert expected is not None
            if wanted:
                assert_same(result, expected)
            else:
                assert result is None


# -------------------------------------------------------------------------------------- accuracy

WORST = {"base": 1.25}
"""Times the error of NumPy's product of matrices, on the same data in float32: 1.1, but more where
products are rounded before they are added, which shows in short sums."""

SUMS = [
    Case((8, 1, 64, 64), 1, (3, 3)),
    Case((4, 3, 40, 40), 8, (3, 3)),
    Case((1, 512, 7, 7), 640, (1, 1)),
    Case((1, 64, 20, 20), 64, (3, 3)),
    Case((1, 1, 180, 180), 1, (31, 31)),
    Case((2, 512, 7, 7), 256, (3, 3), 1, 1),
    Case((2, 512, 80, 80), 2, (1, 1)),
    Case((2, 128, 64, 64), 3, (3, 3), 1, 1),
    Case((1, 2222, 15, 15), 128, (3, 3)),
]
"""Outputs of 9 to 20,000 terms."""
GRAD_SUMS = [
    replace(case, shape=(case.shape[0], case.filters, *case.shape[2:]), filters=case.shape[1])
    for case in SUMS
]
"""Gradients of the input of as many terms."""
WEIGHT_SUMS = [
    Case((1, 64, 3, 3), 64, (3, 3), 1, 1),
    Case((2, 64, 7, 7), 64, (3, 3), 1, 1),
    Case((1, 64, 28, 28), 64, (3, 3), 1, 1),
    Case((8, 64, 28, 28), 64, (3, 3), 1, 1),
    Case((5, 160, 64, 64), 160, (1, 1)),
]
"""Gradients of the weight of as many terms."""


@cache
def exact_and_error(case: Case, which: int) -> tuple[Array, float]:
    """Return one of the results in float64, and NumPy's error in float32."""
    wide, narrow = (
        [array.astype(dtype) for array in case.arrays(normal_values)] for dtype in ("f8", "f4")
    )

    def compute(images: Array, weight: Array, bias: Array, grad: Array) -> Array:
        if which == 0:
            return reference.textbook_conv2d(images, weight, 1, case.padding)
        grads = reference.textbook_conv2d_backward(grad, images, weight, 1, case.padding)
        return grads[which - 1]

    exact = compute(*wide)
    return exact, rms(compute(*narrow) - exact)


@pytest.mark.parametrize(
    ("which", "case"),
    [(which, case) for which, cases in enumerate((SUMS, GRAD_SUMS, WEIGHT_SUMS)) for case in cases],
    ids=str,
)
def test_accuracy(level: str, which: int, case: Case) -> None:
    """Each case has at least 20,000 results, so that the mean of the error is stable."""
    exact, error_of_numpy = exact_and_error(case, which)
    images, weight, _, grad = case.arrays(normal_values)
    result: Any
    if which == 0:
        result = fastconv.conv2d(images, weight, **case.window)
    else:
        mask = (which == 1, which == 2, False)
        grads = fastconv.conv2d_backward(grad, images, weight, **case.window, output_mask=mask)
        result = grads[which - 1]
    assert result.dtype == np.float32
    assert rms(result - exact) <= WORST.get(level, 1.1) * error_of_numpy


# -------------------------------------------------------------------------------- special values

MARKED = [
    Case((2, 3, 9, 21), 18, (1, 1)),
    Case((2, 3, 9, 21), 18, (3, 3), 1, 1),
    Case((2, 3, 9, 21), 1, (3, 3), 1, 1),
    Case((2, 1, 9, 21), 2, (5, 5), 1, 2),
    Case((2, 3, 10, 21), 5, (2, 2), 3),
    Case((2, 3, 9, 40), 18, (7, 7), 2, 3),
    Case((2, 4, 9, 21), 6, (3, 2), 1, 2, (2, 3), 2),
    Case((2, 5, 9, 21), 5, (3, 3), 1, 1, groups=5),
    Case((2, 5, 9, 21), 10, (3, 3), 2, 1, groups=5),
    Case((3, 40, 7, 7), 33, (3, 3), 1, 1),
    Case((5, 20, 2, 2), 5, (3, 3), 1, 1),
    Case((2, 3, 6, 47), 18, (3, 3), 1, 1),
    Case((2, 16, 7, 6), 16, (3, 3), 1, 1, groups=16),
    Case((2, 16, 8, 7), 16, (3, 3), 2, 1, groups=16),
    Case((2, 3, 9, 21), 5, (3, 3), 1, 3, pad_mode="reflect"),
]
"""The fifth skips pixels, the last shows some of them several times."""
marked_cases = pytest.mark.parametrize("case", MARKED, ids=str)
not_finite = pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=str)


def places(shape: Shape) -> list[tuple[int, ...]]:
    """Corners, the middle, and what lies between, in the first and last image and channel."""
    (count, channels, height, width) = shape
    return [
        (0, 0, 0, 0),
        (count - 1, channels // 2, height // 2, width // 2),
        (0, channels - 1, height // 3, width - 1),
        (count - 1, 0, height - 1, 2 * width // 3),
        (count // 2, channels - 1, height - 1, width - 1),
    ]


def check_marked(result: Any, clean: Any, touched: Array) -> None:
    """Check that what is touched is not finite, and that everything else is what it was."""
    np.testing.assert_array_equal(~np.isfinite(result), touched)
    assert_same(result[~touched], clean[~touched])


@not_finite
@marked_cases
def test_what_is_not_finite_reaches_only_its_windows(level: str, case: Case, value: float) -> None:
    images, weight, bias, _ = case.arrays(integer_values)
    weight[weight == 0] = 1
    clean = fastconv.conv2d(images, weight, bias, **case.window)
    for place in places(case.shape):
        marks, marked = np.zeros(case.shape), images.copy()
        marks[place], marked[place] = 1, value
        seen = reference.conv2d(marks, np.ones_like(weight), None, **case.window)
        result = fastconv.conv2d(marked, weight, bias, **case.window)
        check_marked(result, clean, seen > 0)


@not_finite
@marked_cases
def test_what_is_not_finite_reaches_only_its_gradients(
    level: str, case: Case, value: float
) -> None:
    images, weight, _, grad = case.arrays(integer_values)
    for array in (images, weight, grad):
        array[array == 0] = 1
    ones, every = np.ones(case.shape), np.ones(case.output)
    clean: Any = fastconv.conv2d_backward(grad, images, weight, **case.window)
    for place in places(case.shape):
        marks, marked = np.zeros(case.shape), images.copy()
        marks[place], marked[place] = 1, value
        results = fastconv.conv2d_backward(grad, marked, weight, **case.window)
        taps = reference.conv2d_backward(every, marks, weight, **case.window)[1]
        check_marked(results[1], clean[1], taps > 0)
        assert_same(results[0], clean[0])
    for place in places(case.output):
        marks, marked = np.zeros(case.output), grad.copy()
        marks[place], marked[place] = 1, value
        results = fastconv.conv2d_backward(marked, images, weight, **case.window)
        seen, taps, filters = reference.conv2d_backward(
            marks, ones, np.ones_like(weight), **case.window
        )
        check_marked(results[0], clean[0], seen > 0)
        check_marked(results[2], clean[2], filters > 0)
        # Zero padding times what is not finite is either: taps in it may be NaN or not.
        assert results[1] is not None
        assert not np.isfinite(results[1][taps > 0]).any()
        others = np.arange(case.filters) != place[1]
        assert_same(results[1][others], clean[1][others])


@pytest.mark.parametrize(("dtype", "tiny"), [("f2", 6e-8), ("f4", 1e-44), ("f8", 5e-324)])
def test_subnormals_are_kept(level: str, dtype: str, tiny: float) -> None:
    """Filters that copy a pixel keep even the smallest numbers."""
    cases = [
        Case((2, 3, 9, 21), 18, (3, 3), 1, 1),
        Case((2, 40, 7, 7), 33, (1, 1)),
        Case((2, 3, 9, 21), 3, (3, 3), 1, 1, groups=3),
        Case((1, 1, 9, 40), 1, (5, 5), 1, 2),
    ]
    for case in cases:
        weight = np.zeros((case.filters, case.shape[1] // case.groups, *case.kernel), dtype)
        weight[:, 0, case.kernel[0] // 2, case.kernel[1] // 2] = 1
        images, grad = (np.full(shape, tiny, dtype) for shape in (case.shape, case.output))
        assert images.any()
        assert_same(fastconv.conv2d(images, weight, **case.window), grad)
        first = np.zeros_like(grad)
        first[:, 0] = tiny
        results: Any = fastconv.conv2d_backward(first, images, weight, **case.window)
        assert_same(results[0][:, 0], images[:, 0])
        one = np.zeros_like(grad)
        one[0, :, 4, 4] = 1
        results = fastconv.conv2d_backward(one, images, weight, **case.window)
        expected = reference.conv2d_backward(one, images, weight, **case.window)[1]
        assert_same(results[1], expected.astype(dtype))
        assert results[1].any()


# ------------------------------------------------------------------------------------- same bits

VARIED = [
    Case((1, 128, 14, 14), 128, (3, 3), 1, 1),
    Case((1, 32, 56, 56), 32, (3, 3), 1, 1),
    Case((24, 16, 14, 14), 40, (3, 3), 1, 1),
    Case((7, 96, 7, 7), 33, (1, 1)),
    Case((3, 8, 41, 40), 24, (3, 3), 2, 1),
    Case((2, 96, 28, 28), 96, (3, 3), 1, 1, groups=96),
    Case((3, 40, 14, 14), 40, (3, 3), 1, 1, groups=40),
    Case((3, 40, 14, 14), 40, (3, 3), 2, 1, groups=40),
    Case((1, 3, 64, 96), 24, (3, 3), 2, 1),
    Case((1, 3, 150, 150), 3, (5, 5), 2, 1, groups=3),
    Case((1, 2, 201, 200), 2, (3, 3), 2, 1, groups=2),
    Case((1, 4, 100, 99), 8, (2, 2), 1, 1, groups=4),
    Case((5, 20, 1, 1), 18, (1, 1)),
    Case((5, 20, 4, 4), 18, (4, 4)),
    Case((1, 1, 300, 400), 1, (5, 5), 1, 2),
    Case((2, 3, 60, 80), 4, (3, 3), 1, 2, pad_mode="reflect"),
    Case((1, 8, 20, 20), 16, (5, 5), 2, 25, pad_mode="edge"),
    Case((3, 4, 9, 11), 8, (3, 3), (1, 3), 14, pad_mode="symmetric"),
]
varied_cases = pytest.mark.parametrize("case", VARIED, ids=str)


@varied_cases
def test_bits_do_not_depend_on_the_threads(level: str, case: Case) -> None:
    """The order of a sum depends neither on the number of threads nor on the run."""
    arrays = case.arrays(normal_values)
    results = []
    for n in (1, 2, 3, 4, 7, 7):
        with fastconv.num_threads(n):
            results.append([array.tobytes() for array in results_of(case, arrays)])
    assert all(result == results[0] for result in results)


@varied_cases
def test_bits_do_not_depend_on_the_batch(level: str, case: Case) -> None:
    """An image's output and gradient do not depend on the other images."""
    case = replace(case, shape=(5, *case.shape[1:]))
    images, weight, bias, grad = case.arrays(normal_values)

    def compute(chosen: Any, algorithm: str) -> list[Any]:
        window: dict[str, Any] = {**case.window, "algorithm": algorithm}
        mask = (True, False, False)
        return [
            fastconv.conv2d(images[chosen], weight, bias, **window),
            fastconv.conv2d_backward(
                grad[chosen], images[chosen], weight, **window, output_mask=mask
            )[0],
        ]

    of_all = compute(slice(None), "direct")
    for chosen in ([0], [3], [4, 1], [4, 3, 2, 1, 0], [1, 1, 1, 1, 0, 2, 3]):
        for result, expected in zip(compute(chosen, "direct"), of_all):
            assert_same(result, expected[chosen])
    moved = [4, 2, 0, 3, 1]  # of as many images, the same algorithm
    for result, expected in zip(compute(moved, "auto"), compute(slice(None), "auto")):
        assert_same(result, expected[moved])
