"""The ways in which pooling reads, computes and writes, each against the definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference
from helpers import (
    FLOATS,
    LAYOUTS,
    Array,
    DType,
    assert_close,
    assert_same,
    guarded,
    integer_values,
    normal_values,
)

import fastconv
from fastconv.layers import GlobalAveragePooling

WINDOWS: list[tuple[Any, ...]] = [
    (2, 2, 0),
    (3, 2, 1),
    (3, 1, 1),
    (3, 2, 0),
    (3, 3, 1),
    (2, 1, 1),
    (3, 1, 2, 2),
    (3, 2, 2, 2, True),
    ((5, 2), (1, 2), (2, 1), 1, True),
]
SPECIAL = np.array([np.nan, -np.inf, np.inf, 0.0, -0.0, -1, 1, 1, 2], np.float32)


def images_of(shape: tuple[int, ...], seed: int, specials: bool) -> Array:
    """Make images of few different numbers, so that windows have ties; some are special."""
    draw = np.random.default_rng(seed)
    if specials:
        rare: Array = SPECIAL[draw.integers(1, len(SPECIAL), shape)]
        rare[draw.random(shape) < 0.03] = np.nan
        return rare
    return draw.integers(-2, 3, shape).astype(np.float32)


def signs(array: Array) -> Array:
    """Return the signs of zeros, which comparisons of numbers do not see."""
    found: Array = np.signbit(array) & (array == 0)
    return found


@pytest.mark.parametrize("specials", [False, True], ids=["ties", "special"])
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_widths(level: str, window: tuple[Any, ...], specials: bool) -> None:
    """Planes of every width end somewhere else in a vector; small planes are pooled together."""
    for width in range(4, 41):
        images = images_of((2, 3, 7, width), width, specials)
        maxima, indices = reference.max_pool2d(images, *window)
        results = fastconv.max_pool2d(images, *window, return_indices=True)
        assert_same(results[0], maxima)
        assert_same(results[1], indices)
        first = np.take_along_axis(
            images.reshape(2, 3, -1), results[1].reshape(2, 3, -1), 2
        ).reshape(maxima.shape)
        np.testing.assert_array_equal(signs(results[0]), signs(first))
        with guarded(maxima.shape, maxima.dtype) as out:
            fastconv.max_pool2d(images, *window, out=out)
            assert_same(out, maxima)


@pytest.mark.parametrize("dtype", [*FLOATS, np.dtype("i1"), np.dtype("u2")], ids=str)
@pytest.mark.parametrize("window", WINDOWS[:6], ids=str)
def test_groups_of_small_planes(
    level: str, threads: int, window: tuple[Any, ...], dtype: DType
) -> None:
    """There are enough planes for several of them per item, and the last item has fewer."""
    images = integer_values((7, 19, 5, 6), dtype) // np.array(3, dtype)
    maxima, indices = reference.max_pool2d(images, *window)
    results = fastconv.max_pool2d(images, *window, return_indices=True)
    assert_same(results[0], maxima)
    assert_same(results[1], indices)
    if dtype.kind == "f":
        options: Any
        for options in ((False, True), (False, False)):
            means = reference.avg_pool2d(images, *window, *options).astype(dtype)
            assert_same(fastconv.avg_pool2d(images, *window, *options), means)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_groups_of_any_layout(level: str, layout: Any) -> None:
    images = integer_values((7, 19, 5, 6))
    for window in WINDOWS[1:3]:
        maxima, indices = reference.max_pool2d(images, *window)
        results = fastconv.max_pool2d(layout(images), *window, return_indices=True)
        assert_same(results[0], maxima)
        assert_same(results[1], indices)
        means = reference.avg_pool2d(images, *window).astype(np.float32)
        assert_same(fastconv.avg_pool2d(layout(images), *window), means)


@pytest.mark.parametrize("kernel", [8, 9, (1, 65), (65, 1)], ids=str)
def test_more_taps_than_one_call_takes(level: str, kernel: Any) -> None:
    images = integer_values((1, 2, 12, 20) if isinstance(kernel, int) else (1, 2, 67, 70))
    maxima, indices = reference.max_pool2d(images, kernel, 1)
    results = fastconv.max_pool2d(images, kernel, 1, return_indices=True)
    assert_same(results[0], maxima)
    assert_same(results[1], indices)
    means = reference.avg_pool2d(images, kernel, 1).astype(np.float32)
    assert_same(fastconv.avg_pool2d(images, kernel, 1), means)
    grad = integer_values(means.shape)
    expected = reference.avg_pool2d_backward(grad, images.shape, kernel, 1)
    result = fastconv.avg_pool2d_backward(grad, images.shape, kernel, 1)
    assert_close(result, expected, np.float32, terms=81)


# ------------------------------------------------------------------- the gradient of the average


@pytest.mark.parametrize("include", [True, False], ids=["with-pad", "without-pad"])
@pytest.mark.parametrize("stride", [1, 2, 3, 5, (2, 3)], ids=str)
@pytest.mark.parametrize("kernel", [1, 2, 3, 4, (2, 5)], ids=str)
def test_phases_of_the_gradient(level: str, kernel: Any, stride: Any, include: bool) -> None:
    """Kernels smaller and larger than strides, multiples of them or not, and all paddings."""
    for width in (5, 6, 13, 37):
        for padding in (0, ((1, 0), (0, 1)), 1):
            if padding and 1 in np.atleast_1d(kernel):
                continue
            window = (kernel, stride, padding, True, include)
            grad = normal_values(reference.avg_pool2d(np.zeros((2, 2, 7, width)), *window).shape)
            expected = reference.avg_pool2d_backward(grad, (2, 2, 7, width), *window)
            with guarded(expected.shape, np.float32) as out:
                fastconv.avg_pool2d_backward(grad, (2, 2, 7, width), *window, out=out)
                assert_close(out, expected, np.float32, terms=10)


@pytest.mark.parametrize("window", [(2, 2), (3, 2, 1), (3, 1, 1)], ids=str)
def test_large_gradient(level: str, window: tuple[Any, ...]) -> None:
    """Bands of rows on several threads, past the caches, are as those of single planes."""
    shape = (2, 64, 150, 300)
    grad = normal_values(fastconv.avg_pool2d(np.zeros(shape, np.float32), *window).shape)
    results = []
    for count in (1, 3):
        with fastconv.num_threads(count):
            results.append(fastconv.avg_pool2d_backward(grad, shape, *window))
    assert_same(results[0], results[1])
    plane = (1, 1, *shape[2:])
    for n, c in ((0, 0), (1, 31), (1, 63)):
        some = fastconv.avg_pool2d_backward(grad[n : n + 1, c : c + 1], plane, *window)
        assert_same(results[0][n : n + 1, c : c + 1], some)
    expected = reference.avg_pool2d_backward(grad[1:, 63:], plane, *window)
    assert_close(results[0][1:, 63:], expected, np.float32, terms=10)


@pytest.mark.parametrize("window", [(2, 2), (3, 1, 1), (3, 2, 1)], ids=str)
def test_gradient_of_rows_that_are_too_long_for_bands(level: str, window: tuple[Any, ...]) -> None:
    shape = (1, 2, 3, 60001)
    grad = integer_values(fastconv.avg_pool2d(np.zeros(shape, np.float32), *window).shape)
    kernel, stride, pad = (*window, 0)[:3]
    padded = np.zeros((1, 2, 3 + 2 * pad + stride, 60001 + 2 * pad + stride))
    height, width = grad.shape[2] * stride, grad.shape[3] * stride
    for h in range(kernel):
        for w in range(kernel):
            padded[:, :, h : h + height : stride, w : w + width : stride] += grad / kernel**2
    result = fastconv.avg_pool2d_backward(grad, shape, *window)
    assert_close(result, padded[:, :, pad : pad + 3, pad : pad + 60001], np.float32, terms=10)


# ------------------------------------------------------------------------------- whole planes


@pytest.mark.parametrize(
    "size", [(1, 1), (1, 3), (2, 4), (3, 5), (7, 7), (9, 31), (40, 41)], ids=str
)
@pytest.mark.parametrize("specials", [False, True], ids=["ties", "special"])
def test_maxima_of_whole_planes(
    level: str, threads: int, size: tuple[int, int], specials: bool
) -> None:
    images = images_of((3, 50, *size), 1, specials)
    maxima, indices = reference.max_pool2d(images, size)
    results = fastconv.max_pool2d(images, size, return_indices=True)
    assert_same(results[0], maxima)
    assert_same(results[1], indices)
    first = np.take_along_axis(images.reshape(3, 50, -1), results[1].reshape(3, 50, -1), 2)
    np.testing.assert_array_equal(signs(results[0]).ravel(), signs(first).ravel())
    assert_same(fastconv.max_pool2d(images[1], size), maxima[1])
    assert_same(fastconv.max_pool2d(images[:, ::2], size), maxima[:, ::2])


def test_the_first_of_equal_maxima_wherever_they_are(level: str) -> None:
    """Every pair of positions, in the same vector or not, holds the maximum or NaN."""
    for value in (5.0, np.nan):
        for first in range(70):
            images = np.zeros((70 - first, 1, 10, 7), np.float32)
            flat = images.reshape(len(images), 70)
            flat[:, first] = value
            flat[np.arange(len(flat)), np.arange(first, 70)] = value
            _, indices = fastconv.max_pool2d(images, (10, 7), return_indices=True)
            assert (indices == first).all()


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_means_of_whole_planes(level: str, threads: int, layout: Any, dtype: DType) -> None:
    for size in ((1, 1), (1, 5), (7, 7), (8, 8), (33, 35)):
        images = layout(normal_values((5, 21, *size), dtype))
        expected = np.asarray(images, np.float64).mean(axis=(2, 3)).astype(dtype)
        layer = GlobalAveragePooling()
        assert_close(layer.forward(images), expected, dtype)
        assert_same(fastconv.avg_pool2d(images, size)[:, :, 0, 0], layer.forward(images))
        grad = layout(normal_values((5, 21, 1, 1), dtype))[:, :, 0, 0]
        shares = np.asarray(grad / np.asarray(size[0] * size[1], dtype), dtype)
        assert_same(
            layer.backward(grad), np.broadcast_to(shares[:, :, None, None], images.shape).copy()
        )


def test_means_of_large_planes_lose_no_digits(level: str) -> None:
    """Sums of a million numbers keep the digits of their mean, even if large ones cancel."""
    images = normal_values((2, 1, 1000, 1001)) + np.float32(1000)
    expected = images.astype(np.float64).mean(axis=(2, 3)).astype(np.float32)
    assert_same(GlobalAveragePooling().forward(images), expected)
    wide = np.concatenate([np.full(1024, 1e17), np.full(1024, 1.5), np.full(1024, -1e17)])
    mean = GlobalAveragePooling().forward(wide.reshape(1, 1, 48, 64))
    np.testing.assert_array_equal(mean, [[0.5]])


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_means_that_are_not_finite(level: str, value: float) -> None:
    images = normal_values((2, 3, 40, 40))
    images[0, 1, 30, 2] = value
    means = GlobalAveragePooling().forward(images)
    np.testing.assert_array_equal(means[0, 1], np.float32(value))
    assert np.isfinite(np.delete(means.ravel(), 1)).all()


def test_large_gradient_of_means(level: str, threads: int) -> None:
    """The result is written past the caches."""
    layer = GlobalAveragePooling()
    layer.forward(np.zeros((8, 300, 50, 47), np.float32))
    grad = normal_values((8, 300))
    result = layer.backward(grad)
    assert_same(result[:, :, 3, 4], grad / np.float32(50 * 47))
    assert (result == result[:, :, :1, :1]).all()
