"""im2col, col2im, unfold and fold against their definition, SciPy and PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import prod
from typing import Any

import numpy as np
import pytest
import reference
from helpers import (
    EDGE_SIZES,
    FLOATS,
    INTEGERS,
    PAD_MODES,
    Array,
    DType,
    Shape,
    assert_same,
    guarded,
    integer_values,
    normal_values,
    window_cases,
)
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage, signal

import fastconv

# One image size, one window in every form that the window arguments take.
PADDINGS: dict[str, Any] = {
    "none": 0,
    "int": 2,
    "numpy-int": np.int32(1),
    "pair": (2, 1),
    "list": [1, 3],
    "array": np.array([3, 2]),
    "sides": ((1, 2), (0, 3)),
    "sides-as-lists": [[2, 0], [3, 1]],
    "sides-as-array": np.array([[0, 1], [2, 3]]),
    "one-side": ((0, 0), (0, 4)),
    "larger-than-the-image": ((13, 8), (15, 21)),
    "valid": "valid",
    "same": "same",
}
STRIDES: dict[str, Any] = {
    "1": 1,
    "2": 2,
    "numpy-int": np.uint8(3),
    "pair": (2, 3),
    "list": [3, 1],
    "array": np.array([1, 2]),
    "larger-than-the-kernel": (5, 4),
    "larger-than-the-image": 99,
}
DILATIONS: dict[str, Any] = {
    "2": 2,
    "numpy-int": np.int64(3),
    "pair": (1, 3),
    "list": [2, 1],
    "array": np.array([3, 2]),
}
WINDOWS: dict[str, tuple[tuple[int, int], Any, Any, Any]] = {
    **{f"padding-{name}": ((3, 2), 1, 1, value) for name, value in PADDINGS.items()},
    **{f"strided-{name}": ((2, 4), (2, 3), 1, value) for name, value in PADDINGS.items()},
    **{f"stride-{name}": ((3, 3), value, 1, (1, 0)) for name, value in STRIDES.items()},
    **{f"dilation-{name}": ((2, 3), (1, 2), value, 2) for name, value in DILATIONS.items()},
    "kernel-1": ((1, 1), 1, 1, 0),
    "kernel-1-strided": ((1, 1), 2, 1, 1),
    "kernel-is-the-image": ((6, 7), 1, 1, 0),
    "kernel-is-the-padded-image": ((8, 11), 1, 1, (1, 2)),
    "all-padding-windows": ((2, 2), 1, 1, 4),
    "dilated-same": ((3, 4), (2, 1), (2, 2), "same"),
}
SIZE = (6, 7)
"""(kernel, stride, dilation, padding) on images of this size."""

every_window = pytest.mark.parametrize("name", WINDOWS)
every_pad_mode = pytest.mark.parametrize("pad_mode", PAD_MODES)


@cache
def case(name: str, pad_mode: str) -> dict[str, Array]:
    """Return images and columns, and what the definition makes of them."""
    kernel, stride, dilation, padding = WINDOWS[name]
    images = integer_values((2, 3, *SIZE))
    rows = reference.im2col(images, *kernel, stride, padding, dilation, pad_mode)
    col = integer_values(rows.shape, seed=1)
    return {
        "images": images,
        "im2col": rows,
        "unfold": reference.unfold(images, kernel, dilation, padding, stride, pad_mode),
        "col": col,
        "col2im": reference.col2im(col, images.shape, *kernel, stride, padding, dilation, pad_mode),
    }


def check(function: Callable[..., Any], expected: Array, *arguments: Any, **options: Any) -> None:
    """Compare a result, fresh and in out=, with nothing written beside it."""
    assert_same(function(*arguments, **options), expected)
    with guarded(expected.shape, expected.dtype) as out:
        assert function(*arguments, **options, out=out) is out
        assert_same(out, expected)


@every_pad_mode
@every_window
def test_im2col_and_unfold(level: str, name: str, pad_mode: str) -> None:
    kernel, stride, dilation, padding = WINDOWS[name]
    known = case(name, pad_mode)
    options = {"dilation": dilation, "pad_mode": pad_mode}
    arguments: Any = (known["images"], *kernel, stride, padding)
    check(fastconv.im2col, known["im2col"], *arguments, **options)
    arguments = (known["images"], kernel, dilation, padding, stride)
    check(fastconv.unfold, known["unfold"], *arguments, pad_mode=pad_mode)


@every_pad_mode
@every_window
def test_col2im_and_fold(level: str, name: str, pad_mode: str) -> None:
    kernel, stride, dilation, padding = WINDOWS[name]
    known = case(name, pad_mode)
    options = {"dilation": dilation, "pad_mode": pad_mode}
    arguments: Any = (known["col"], (2, 3, *SIZE), *kernel, stride, padding)
    check(fastconv.col2im, known["col2im"], *arguments, **options)
    col = known["col"].reshape(2, -1, known["col"].shape[1]).transpose(0, 2, 1)
    arguments = (col, SIZE, kernel, dilation, padding, stride)
    check(fastconv.fold, known["col2im"], *arguments, pad_mode=pad_mode)


@every_pad_mode
@pytest.mark.parametrize("size", [(1, 1), (1, 4), (2, 1), (2, 3)], ids=str)
def test_padding_folds_repeatedly(level: str, size: tuple[int, int], pad_mode: str) -> None:
    """Padding larger than the image repeats it as numpy.pad does, even for a single pixel."""
    images = integer_values((1, 2, *size))
    padding = ((7, 4), (5, 9))
    expected = reference.im2col(images, 3, 2, 2, padding, pad_mode=pad_mode)
    assert_same(fastconv.im2col(images, 3, 2, 2, padding, pad_mode=pad_mode), expected)
    col = integer_values(expected.shape)
    assert_same(
        fastconv.col2im(col, images.shape, 3, 2, 2, padding, pad_mode=pad_mode),
        reference.col2im(col, images.shape, 3, 2, 2, padding, pad_mode=pad_mode),
    )


# ------------------------------------------------------------------------- sizes around vectors

KERNELS = [(1, 1, 1, 0), (3, 1, 1, 1), (3, 2, 1, 1), (5, 1, 1, 2), (7, 2, 1, 3), (2, 2, 1, 0)]
"""(kernel, stride, dilation, padding)"""
KERNELS += [(4, 1, 1, 1), (3, 1, 2, 2), (3, 3, 1, 0), (11, 4, 1, 5), (6, 1, 1, 3), (2, 1, 3, 2)]


def width_for(outputs: int, kernel: int, stride: int, dilation: int, padding: int) -> int:
    """Return the narrowest image with so many outputs in a row, and at least one pixel."""
    return max(1, (outputs - 1) * stride + dilation * (kernel - 1) + 1 - 2 * padding)


@cache
def row_cases(outputs: int) -> list[tuple[tuple[int, ...], dict[str, Array]]]:
    """Return windows with rows of so many outputs, and what the definition makes of them."""
    cases: list[tuple[tuple[int, ...], dict[str, Array]]] = []
    for kernel, stride, dilation, padding in KERNELS:
        width = width_for(outputs, kernel, stride, dilation, padding)
        images = integer_values((1, 2, dilation * (kernel - 1) + 2, width), "i1")
        columns = reference.unfold(images, kernel, dilation, padding, stride)
        col = integer_values(columns.shape, "i1", seed=1)
        back = reference.fold(col.astype("i4"), images.shape[2:], kernel, dilation, padding, stride)
        known = {"images": images, "unfold": columns, "col": col, "fold": back}
        cases.append(((kernel, stride, dilation, padding), known))
    return cases


@pytest.mark.parametrize("outputs", EDGE_SIZES)
@pytest.mark.parametrize("dtype", ["i1", "f2", "f4", "f8", "c16"])
def test_im2col_row_lengths(level: str, dtype: str, outputs: int) -> None:
    """Rows of T-1, T, T+1 and 2T+1 outputs, around each vector width T, in every item size."""
    for (kernel, stride, dilation, padding), known in row_cases(outputs):
        images, columns = known["images"].astype(dtype), known["unfold"].astype(dtype)
        check(fastconv.unfold, columns, images, kernel, dilation, padding, stride)
        rows = columns[0].T.copy()
        arguments = (images, kernel, kernel, stride, padding)
        check(fastconv.im2col, rows, *arguments, dilation=dilation)


@pytest.mark.parametrize("outputs", EDGE_SIZES)
@pytest.mark.parametrize("dtype", ["i2", "f2", "f4", "f8"])
def test_col2im_row_lengths(level: str, dtype: str, outputs: int) -> None:
    for (kernel, stride, dilation, padding), known in row_cases(outputs):
        col, back = known["col"].astype(dtype), known["fold"].astype(dtype)
        check(fastconv.fold, back, col, back.shape[2:], kernel, dilation, padding, stride)
        arguments = (col[0].T.copy(), back.shape, kernel, kernel, stride, padding)
        check(fastconv.col2im, back, *arguments, dilation=dilation)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 33])
def test_channel_counts(level: str, channels: int) -> None:
    """Numbers of channels around the size of a block, with images that differ."""
    images = integer_values((3, channels, 5, 9), "i4")
    images = np.arange(images.size, dtype="i4").reshape(images.shape)
    expected = reference.textbook_im2col(images, 3, 3, 1, 1)
    assert_same(fastconv.im2col(images, 3, 3, 1, 1), expected)
    assert_same(
        fastconv.col2im(expected, images.shape, 3, 3, 1, 1),
        reference.textbook_col2im(expected, images.shape, 3, 3, 1, 1),
    )


STREAMED = [
    (34, 6, 3, 1, "i2"),
    (33, 6, 3, 1, "f4"),
    (34, 7, 7, 1, "i1"),
    (33, 5, 5, 2, "f8"),
    (65, 3, 3, 1, "f4"),
    (200, 2, 2, 1, "i1"),
    (67, 1, 1, 1, "f4"),
    (35, 3, 2, 2, "c16"),
    (3, 7, 7, 2, "f4"),
]
"""(channels, filter_h, filter_w, stride, dtype)"""


@pytest.mark.parametrize("case", STREAMED, ids=str)
def test_results_past_the_caches(level: str, case: tuple[int, int, int, int, str]) -> None:
    """Results are larger than the caches, and groups of channels do not fill whole lines."""
    channels, filter_h, filter_w, stride, dtype = case
    entries = channels * filter_h * filter_w * np.dtype(dtype).itemsize
    side = stride * int((10e6 / entries) ** 0.5 + 1)
    images = integer_values((2, channels, side + filter_h, side + filter_w), dtype)
    expected = reference.textbook_im2col(images, filter_h, filter_w, stride, 0)
    assert expected.nbytes > 20e6
    with fastconv.num_threads(3):
        assert_same(fastconv.im2col(images, filter_h, filter_w, stride), expected)
        columns = expected.reshape(2, -1, expected.shape[1]).transpose(0, 2, 1)
        assert_same(fastconv.unfold(images, (filter_h, filter_w), stride=stride), columns)


# ---------------------------------------------------------------------------------------- dtypes

RECORD = np.dtype([("red", "u1"), ("depth", "f8"), ("label", "U3")])
PADDED_RECORD = np.dtype([("flag", "?"), ("value", ">f8")], align=True)
BYTES: list[Any] = [
    *INTEGERS,
    *FLOATS,
    *("?", "g", "F", "D", "G"),
    *("M8[s]", "m8[us]", "M8[D]"),
    *("S1", "S3", "S16", "U1", "U5", "V5", "V16"),
    *(">i2", ">f4", ">f8", ">c8", ">M8[s]", ">U2"),
    RECORD,
    PADDED_RECORD,
    np.dtype([("pair", "f4", (2, 3))]),
]


def bytes_values(shape: Shape, dtype: DType) -> Array:
    """Different values in any dtype, made of the bytes of different integers."""
    random = np.random.default_rng(3)
    values = np.zeros(shape, dtype)
    if dtype.names:
        for name in dtype.names:
            values[name] = bytes_values(values[name].shape, dtype[name].base)
    elif dtype.kind in "SU":
        values[...] = random.integers(0, 10**6, shape).astype(f"U{max(1, dtype.itemsize)}")
    elif dtype.kind == "V":
        flat = random.integers(0, 256, (*shape, dtype.itemsize)).astype("u1")
        values[...] = flat.view(dtype)[..., 0]
    elif dtype.kind == "b":
        values[...] = random.integers(0, 2, shape)
    else:
        values[...] = random.integers(0, 100, shape).astype(dtype)
    return values


@pytest.mark.parametrize("dtype", BYTES, ids=lambda dtype: str(np.dtype(dtype)).replace(" ", ""))
def test_every_dtype_is_copied(level: str, dtype: Any) -> None:
    dtype = np.dtype(dtype)
    images = bytes_values((2, 2, 4, 5), dtype)
    for padding, pad_mode in ((0, "constant"), ((1, 2), "constant"), (2, "reflect")):
        expected = reference.im2col(images, 3, 2, (1, 2), padding, pad_mode=pad_mode)
        assert_same(fastconv.im2col(images, 3, 2, (1, 2), padding, pad_mode=pad_mode), expected)
        expected = reference.unfold(images, (3, 2), 1, padding, (1, 2), pad_mode)
        result = fastconv.unfold(images, (3, 2), 1, padding, (1, 2), pad_mode=pad_mode)
        assert_same(result, expected)


def test_nan_bits_are_copied(level: str) -> None:
    """The bits of every NaN are copied, even of signalling ones, which arithmetic would change."""
    bits = np.array([0x7F800001, 0x7FC01234, 0xFF812345, 0x80000000], "u4")
    images = np.resize(bits, (1, 1, 6, 40))
    result = fastconv.im2col(images.view("f4"), 3, 3, 1, 1)
    assert_same(result.view("u4"), reference.im2col(images, 3, 3, 1, 1))


@pytest.mark.parametrize("dtype", INTEGERS, ids=lambda dtype: dtype.char)
def test_integer_sums_wrap_around(level: str, dtype: DType) -> None:
    """Integer columns are summed in their own dtype, as NumPy adds arrays."""
    info = np.iinfo(dtype)
    choices = np.array([info.min, info.max, info.max - 3, 1, 5], dtype)
    shape = (2, 3, 5, 21)
    col = choices[np.random.default_rng(0).integers(0, len(choices), (2 * 5 * 21, 27))]
    expected = reference.textbook_col2im(col, shape, 3, 3, 1, 1)
    assert_same(fastconv.col2im(col, shape, 3, 3, 1, 1), expected)
    columns = col.reshape(2, 105, 27).transpose(0, 2, 1)
    assert_same(fastconv.fold(columns, (5, 21), 3, padding=1), expected)
    swapped = col.astype(dtype.newbyteorder("S"))
    assert_same(fastconv.col2im(swapped, shape, 3, 3, 1, 1), expected)


# --------------------------------------------------------------------------------- order of sums

ORDERED = [(3, 1, 1), (3, 2, 1), (5, 1, 0), (7, 2, 3), (2, 2, 0), (3, 3, 0), (4, 1, 2), (1, 1, 0)]


@pytest.mark.parametrize("window", ORDERED, ids=str)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("shape", [(2, 3, 11, 19), (1, 1, 9, 70), (1, 20, 8, 8)], ids=str)
def test_col2im_adds_in_the_textbook_order(
    level: str, shape: Shape, dtype: str, window: tuple[int, int, int]
) -> None:
    """Each pixel starts from zero and adds in ascending (kh, kw), to the last bit."""
    kernel, stride, pad = window
    columns = reference.unfold(np.zeros(shape), kernel, 1, pad, stride).shape
    col = normal_values((columns[0] * columns[2], columns[1]), dtype)
    col[::5] = -0.0
    expected = reference.textbook_col2im(col, shape, kernel, kernel, stride, pad)
    assert_same(fastconv.col2im(col, shape, kernel, kernel, stride, pad), expected)
    col = col.reshape(columns[0], columns[2], columns[1]).transpose(0, 2, 1)
    for layout in (col, col.copy()):
        assert_same(fastconv.fold(layout, shape[2:], kernel, 1, pad, stride), expected)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_large_col2im_adds_in_the_textbook_order(level: str, threads: int, dtype: str) -> None:
    cases = [((2, 24, 70, 61), 3, 1, 1), ((1, 1, 301, 403), 5, 2, 2)]
    for shape, kernel, stride, pad in cases:
        columns = reference.textbook_im2col(np.zeros(shape, "i1"), kernel, kernel, stride, pad)
        col = normal_values(columns.shape, dtype)
        expected = reference.textbook_col2im(col, shape, kernel, kernel, stride, pad)
        assert_same(fastconv.col2im(col, shape, kernel, kernel, stride, pad), expected)
        col = col.reshape(shape[0], -1, columns.shape[1]).transpose(0, 2, 1).copy()
        assert_same(fastconv.fold(col, shape[2:], kernel, 1, pad, stride), expected)


def test_dilated_col2im_adds_in_ascending_order(level: str) -> None:
    shape = (2, 2, 9, 20)
    arguments = ((2, 1), ((1, 2), (2, 0)), (2, 3))
    rows = reference.im2col(np.zeros(shape), 3, 2, *arguments).shape
    col = normal_values(rows)
    expected = reference.col2im(col, shape, 3, 2, *arguments)
    result = fastconv.col2im(col, shape, 3, 2, *arguments[:2], dilation=arguments[2])
    assert_same(result, expected)


def test_float16_is_summed_in_float32(level: str) -> None:
    """In float16 2048 + 1 is 2048, so a sum of many ones shows the dtype of the addition."""
    shape = (1, 2, 5, 50)
    col = normal_values((250, 18), "f2") + np.float16(500)
    expected = reference.textbook_col2im(col.astype("f4"), shape, 3, 3, 1, 1).astype("f2")
    assert_same(fastconv.col2im(col, shape, 3, 3, 1, 1), expected)
    columns = col.reshape(1, 250, 18).transpose(0, 2, 1)
    assert_same(fastconv.fold(columns, shape[2:], 3, padding=1), expected)


def test_nan_and_infinity_reach_only_their_pixel(level: str) -> None:
    shape = (1, 1, 6, 40)
    for value in (np.nan, np.inf, -np.inf, 3e38):
        col = np.ones((240, 9), "f4")
        col[100, 4] = value
        result = fastconv.col2im(col, shape, 3, 3, 1, 1)
        assert_same(result, reference.textbook_col2im(col, shape, 3, 3, 1, 1))


# --------------------------------------------------------------------------------- other sources

BOUNDARIES = {"constant": "fill", "symmetric": "symm", "wrap": "wrap"}


@pytest.mark.parametrize("pad_mode", BOUNDARIES)
@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (2, 4), (5, 2), (4, 4)], ids=str)
def test_scipy_correlate_and_convolve(level: str, kernel: tuple[int, int], pad_mode: str) -> None:
    """Columns times a flat kernel are a correlation, in each of SciPy's modes and boundaries."""
    image = integer_values((9, 13), np.float64)
    weight = integer_values(kernel, np.float64, seed=1)
    height, width = kernel
    # SciPy centres an even kernel of a convolution the other way round than "same".
    mirrored = ((height // 2, (height - 1) // 2), (width // 2, (width - 1) // 2))
    paddings: list[tuple[str, Any, Any]] = [
        ("valid", "valid", "valid"),
        ("full", (height - 1, width - 1), (height - 1, width - 1)),
        ("same", "same", mirrored),
    ]
    for mode, correlation_padding, convolution_padding in paddings:
        for scipy_function, padding, flat in (
            (signal.correlate2d, correlation_padding, weight.ravel()),
            (signal.convolve2d, convolution_padding, weight[::-1, ::-1].ravel()),
        ):
            expected = scipy_function(image, weight, mode, BOUNDARIES[pad_mode])
            col = fastconv.im2col(image[None, None], *kernel, 1, padding, pad_mode=pad_mode)
            np.testing.assert_array_equal((col @ flat).reshape(expected.shape), expected)


@pytest.mark.parametrize(("pad_mode", "mode"), [("edge", "nearest"), ("reflect", "mirror")])
def test_scipy_image_boundaries(pad_mode: str, mode: str) -> None:
    """Two boundaries exist only in SciPy's image functions; the kernel exceeds the image."""
    image = integer_values((3, 5), np.float64)
    weight = integer_values((7, 9), np.float64, seed=1)
    col = fastconv.im2col(image[None, None], 7, 9, 1, "same", pad_mode=pad_mode)
    expected = ndimage.correlate(image, weight, mode=mode)
    np.testing.assert_array_equal((col @ weight.ravel()).reshape(3, 5), expected)


@pytest.mark.parametrize("kernel", [1, (2, 3), 5], ids=str)
@pytest.mark.parametrize("stride", [1, (2, 3)], ids=str)
@pytest.mark.parametrize("dilation", [1, (2, 1)], ids=str)
@pytest.mark.parametrize("padding", [0, (4, 1)], ids=str)
def test_pytorch(torch: Any, kernel: Any, stride: Any, dilation: Any, padding: Any) -> None:
    images = normal_values((3, 2, 10, 17))
    functional = torch.nn.functional
    arguments = (kernel, dilation, padding, stride)
    expected = functional.unfold(torch.from_numpy(images), *arguments)
    assert_same(fastconv.unfold(images, *arguments), expected.numpy())
    assert_same(fastconv.unfold(images[0], *arguments), expected[0].numpy())
    col = integer_values(tuple(expected.shape), np.float32)
    folded = functional.fold(torch.from_numpy(col), (10, 17), *arguments)
    assert_same(fastconv.fold(col, (10, 17), *arguments), folded.numpy())
    assert_same(fastconv.fold(col[0], (10, 17), *arguments), folded[0].numpy())


# ------------------------------------------------------------------------------------ properties


@given(case=window_cases(), seed=st.integers(0, 2**32 - 1))
def test_col2im_is_the_adjoint_of_im2col(level: str, case: Any, seed: int) -> None:
    """<im2col(x), c> is <x, col2im(c)>, exactly, for integer values."""
    shape, window = case
    kernel_h, kernel_w = window["kernel_size"]
    arguments = (kernel_h, kernel_w, window["stride"], window["padding"])
    options: Any = {"dilation": window["dilation"], "pad_mode": window["pad_mode"]}
    images = integer_values(shape, np.float64, seed)
    columns = fastconv.im2col(images, *arguments, **options)
    assert_same(columns, reference.im2col(images, *arguments, **options))
    col = integer_values(columns.shape, np.float64, seed + 1)
    back = fastconv.col2im(col, shape, *arguments, **options)
    assert back.shape == shape
    assert np.vdot(columns, col) == np.vdot(images, back)


@given(case=window_cases(), seed=st.integers(0, 2**32 - 1), batched=st.booleans())
def test_fold_is_the_adjoint_of_unfold(level: str, case: Any, seed: int, batched: bool) -> None:
    shape, window = case
    shape = shape if batched else shape[1:]
    images = integer_values(shape, np.float64, seed)
    columns = fastconv.unfold(images, **window)
    assert columns.ndim == len(shape) - 1
    assert columns.shape[-2] == shape[-3] * prod(window["kernel_size"])
    col = integer_values(columns.shape, np.float64, seed + 1)
    back = fastconv.fold(col, shape[-2:], **window)
    assert back.shape == shape
    assert np.vdot(columns, col) == np.vdot(images, back)
