"""Convolution on tiles: sizes around every block, how exact it is, and what is not finite."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pytest
import reference
from convolutions import Case, results_of, rms
from helpers import (
    LAYOUTS,
    PAD_MODES,
    Array,
    assert_close,
    assert_same,
    guarded,
    integer_values,
    normal_values,
)
from numpy.typing import DTypeLike

import fastconv
from fastconv._algorithms import DIRECT, Algorithm, Winograd, choose
from fastconv._arguments import window
from fastconv._problem import Problem

CASE = Case((2, 5, 9, 21), 18, (3, 3), 1, 1)
TILES = [2, 4]
all_tiles = pytest.mark.parametrize("tile", TILES)


def take(patch: pytest.MonkeyPatch, algorithm: Algorithm) -> None:
    """Compute every convolution with one algorithm, whatever would be chosen."""
    patch.setattr("fastconv.convolution.choose", lambda problem, name: algorithm)


@pytest.fixture(params=TILES)
def tile(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Compute every convolution on tiles of one size, whatever would be chosen."""
    size: int = request.param
    take(monkeypatch, Winograd(size))
    return size


TILED = (0, 1, 2, 4)
"""Which results of a convolution are computed on tiles: all but the gradient of the bias."""


def check_close(case: Case, dtype: DTypeLike = np.float32) -> None:
    """Compare all that tiles compute with the direct kernel's results in float64."""
    arrays = case.arrays(normal_values, dtype)
    exact = reference_results(case, arrays)
    terms = 100 * 9 * max(case.shape[1], case.filters)  # the transforms err ten times as much
    results = results_of(case, arrays)
    for index in TILED:
        assert_close(results[index], exact[index], dtype, terms)


def reference_results(case: Case, arrays: list[Array]) -> list[Any]:
    """Compute what tests of other files have checked."""
    with pytest.MonkeyPatch.context() as patch:
        take(patch, DIRECT)
        return results_of(case, [array.astype(np.float64) for array in arrays])


# ----------------------------------------------------------------------------------------- sizes


@pytest.mark.parametrize("height", range(1, 10))
def test_every_rest_of_a_tile(level: str, tile: int, height: int) -> None:
    for width in range(1, 10):
        for padding in (1, 2, ((0, 2), (1, 0))):
            (top, bottom), (left, right) = reference.sides(padding)
            if height + top + bottom >= 3 and width + left + right >= 3:
                check_close(Case((2, 3, height, width), 5, (3, 3), 1, padding))


COUNTS = [1, 4, 5, 6, 7, 13, 14, 15, 16, 17, 28, 29, 63, 64, 65, 130, 143]
"""Around strips of 4, 6 and 14 filters, items of 128, and sums of 64 terms."""


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("count", COUNTS)
def test_filters_and_channels(level: str, tile: int, count: int, dtype: str) -> None:
    check_close(Case((1, 3, 5, 12), count, (3, 3), 1, 1), dtype)
    check_close(Case((1, count, 5, 12), 3, (3, 3), 1, 1), dtype)
    check_close(Case((2, 2 * count, 3, 4), 2 * count, (3, 3), 1, 1, groups=2), dtype)
    check_close(Case((1, count, 4, 4), count, (3, 3), 1, 1, groups=count), dtype)


@pytest.mark.parametrize("width", [1, 2, 7, 15, 16, 17, 31, 33, 63, 64, 65, 127, 129, 131, 260])
def test_row_lengths(level: str, threads: int, tile: int, width: int) -> None:
    """Rows are shorter and longer than the blocks of every level."""
    for count, height in ((1, 3), (3, 5), (1, 19)):
        check_close(Case((count, 3, height, width), 6, (3, 3), 1, 1))


LARGE = [
    Case((1, 512, 8, 8), 512, (3, 3), 1, 1),
    Case((3, 700, 5, 6), 20, (3, 3), 1, 1),
    Case((2, 1300, 4, 4), 40, (3, 3), 1, 1, groups=2),
    Case((2, 32, 260, 258), 32, (3, 3), 1, 1, groups=32),
]
"""More weights than are transformed at once, more channels than an item holds, and more tiles than
the gradient of the weight adds up in one part."""


@pytest.mark.parametrize("case", LARGE, ids=str)
def test_more_than_fits(level: str, threads: int, tile: int, case: Case) -> None:
    check_close(case)


@pytest.mark.parametrize("pad_mode", PAD_MODES)
def test_pad_modes(level: str, tile: int, pad_mode: str) -> None:
    for padding, groups in product((1, 4, ((2, 0), (3, 1)), "same"), (1, 3)):
        for size in ((1, 1), (2, 3), (9, 10)):
            shape = (2, 3, *size)
            case = Case(shape, 6, (3, 3), 1, padding, groups=groups, pad_mode=pad_mode)
            if case.padding == "same":
                images, weight, bias, _ = case.arrays(normal_values)
                exact = fastconv.conv2d(images.astype("f8"), weight, bias, **case.window)
                assert_close(fastconv.conv2d(images, weight, bias, **case.window), exact, "f4", 900)
            else:
                check_close(case)


# ------------------------------------------------------------------------------ dtypes, layouts


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(level: str, tile: int, layout: str) -> None:
    arrays = CASE.arrays(normal_values)
    expected = results_of(CASE, arrays)
    results = results_of(CASE, [LAYOUTS[layout](array) for array in arrays])
    for index in TILED:
        assert_same(results[index], expected[index])


@pytest.mark.parametrize("dtype", ["?", "i1", "u2", "i4", "i8", "f2", "f4", "f8"])
def test_dtypes(level: str, dtype: str) -> None:
    """Float16 is computed in float32, and integers in float64."""
    images, weight, bias, _ = CASE.arrays(integer_values, dtype)
    window = {**CASE.window, "algorithm": "winograd"}
    images_wide, weight_wide, bias_wide = (a.astype("f8") for a in (images, weight, bias))
    expected = reference.conv2d(images_wide, weight_wide, bias_wide, **CASE.window) + 0.0
    result = fastconv.conv2d(images, weight, bias, **window)
    assert_same(result, expected.astype(dtype if dtype[0] == "f" else "f8"))


def test_nothing_beside_out_is_written(level: str, tile: int) -> None:
    for width, dtype in product((1, 14, 15, 33), ("f2", "f4", "f8")):
        case = Case((2, 3, 7, width), 5, (3, 3), 1, 1)
        images, weight, *_ = case.arrays(integer_values, dtype)
        with guarded(case.output, dtype) as out:
            fastconv.conv2d(images, weight, padding=1, out=out)


@pytest.mark.parametrize("dtype", ["?", "i1", "u2", "i4", "i8", "f2", "f4", "f8", ">f4"])
def test_dtypes_of_gradients(level: str, dtype: str) -> None:
    images, weight, _, grad = CASE.arrays(integer_values, dtype)
    wide = [array.astype(np.float64) for array in (grad, images, weight)]
    expected = reference.conv2d_backward(wide[0], wide[1], wide[2], **CASE.window)
    results = fastconv.conv2d_backward(grad, images, weight, **CASE.window, algorithm="winograd")
    computed = np.result_type(dtype) if "f" in dtype else np.dtype("f8")
    for result, values in zip(results, expected):
        assert_same(result, (values + 0.0).astype(computed))


def test_no_images(level: str, tile: int) -> None:
    empty, weight = np.empty((0, 3, 5, 5), np.float32), np.ones((4, 3, 3, 3), np.float32)
    assert fastconv.conv2d(empty, weight).shape == (0, 4, 3, 3)
    grad = np.empty((0, 4, 5, 5), np.float32)
    assert_same(grad_of_weight(grad, empty), np.zeros_like(weight))


# ------------------------------------------------------------------------------------- the choice

WEIGHT = np.ones((4, 3, 3, 3))


def test_algorithms_are_checked() -> None:
    images = np.ones((1, 3, 8, 8))
    message = r"algorithm must be one of 'auto', 'direct', 'winograd', got "
    for function in (fastconv.conv2d, fastconv.conv_transpose2d):
        weight = WEIGHT if function is fastconv.conv2d else WEIGHT[:3]
        with pytest.raises(ValueError, match=message + "'fft'"):
            function(images, weight, algorithm="fft")
        with pytest.raises(TypeError, match=message + "None"):
            function(images, weight, algorithm=None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        fastconv.conv2d_backward(np.ones((1, 4, 6, 6)), images, WEIGHT, algorithm="fft")


@pytest.mark.parametrize(
    ("weight", "window", "numbers"),
    [
        (WEIGHT[..., :2], {}, r"kernel \(3, 2\), stride \(1, 1\) and dilation \(1, 1\)"),
        (WEIGHT, {"stride": 2}, r"kernel \(3, 3\), stride \(2, 2\) and dilation \(1, 1\)"),
        (WEIGHT, {"dilation": (1, 2)}, r"kernel \(3, 3\), stride \(1, 1\) and dilation \(1, 2\)"),
    ],
)
def test_what_tiles_are_not_for(weight: Array, window: dict[str, Any], numbers: str) -> None:
    message = 'algorithm "winograd" is for windows of 3x3 with stride and dilation 1, got '
    with pytest.raises(ValueError, match=message + numbers):
        fastconv.conv2d(np.ones((1, 3, 8, 8)), weight, algorithm="winograd", **window)


def test_algorithms_differ() -> None:
    """The results differ in rounding, which shows that each algorithm runs when requested."""
    case = Case((2, 64, 64, 64), 64, (3, 3), 1, 1)
    arrays = case.arrays(normal_values)
    direct, tiles = (results_of(case, arrays, algorithm) for algorithm in ("direct", "winograd"))
    with fastconv.precision("high"):
        larger = results_of(case, arrays, "winograd")
    for index in TILED:
        assert (direct[index] != tiles[index]).any()
        assert (tiles[index] != larger[index]).any()


def test_precision() -> None:
    assert fastconv.get_precision() == "highest"
    outer = fastconv.precision("high")
    with outer:
        assert fastconv.get_precision() == "high"
        with fastconv.precision("highest"), outer:
            assert fastconv.get_precision() == "high"
        assert fastconv.get_precision() == "high"
    assert fastconv.get_precision() == "highest"
    message = "precision must be one of 'highest', 'high', got "
    for function in (fastconv.set_precision, fastconv.precision):
        with pytest.raises(ValueError, match=message + "'medium'"):
            function("medium")
        with pytest.raises(TypeError, match=message + "1"):
            function(1)  # type: ignore[arg-type]
    assert fastconv.get_precision() == "highest"


# ------------------------------------------------------------------------------------- same bits

VARIED = [
    Case((5, 40, 14, 14), 40, (3, 3), 1, 1),
    Case((5, 24, 7, 7), 130, (3, 3), 1, 1),
    Case((5, 20, 30, 70), 33, (3, 3), 1, 1),
    Case((5, 600, 4, 4), 30, (3, 3), 1, 1),
    Case((5, 8, 11, 12), 16, (3, 3), 1, 2, groups=2, pad_mode="edge"),
]
varied_cases = pytest.mark.parametrize("case", VARIED, ids=str)


@varied_cases
def test_bits_do_not_depend_on_the_threads(level: str, tile: int, case: Case) -> None:
    arrays = case.arrays(normal_values)
    results = []
    for n in (1, 2, 3, 4, 7, 7):
        with fastconv.num_threads(n):
            results.append([array.tobytes() for array in results_of(case, arrays)])
    assert all(result == results[0] for result in results)


@varied_cases
def test_bits_do_not_depend_on_the_batch(level: str, tile: int, case: Case) -> None:
    images, weight, bias, _ = case.arrays(normal_values)
    images[3, 1, 2, 3] = np.nan  # computed again, which must not touch the others
    whole = fastconv.conv2d(images, weight, bias, **case.window)
    for chosen in (slice(0, 1), slice(2, 5), slice(4, None, -1)):
        part = fastconv.conv2d(images[chosen], weight, bias, **case.window)
        assert_same(part, whole[chosen])


# -------------------------------------------------------------------------------------- accuracy

Scale = Callable[[Array, np.random.Generator], Array]
SCALES: dict[str, Scale] = {
    "normal": lambda x, rng: x,
    "uniform": lambda x, rng: rng.uniform(size=x.shape),
    "post-ReLU": lambda x, rng: np.maximum(x, 0),
    "offset": lambda x, rng: x + 3,
    "1e-30": lambda x, rng: 1e-30 * x,
    "1e30": lambda x, rng: 1e30 * x,
    "images": lambda x, rng: x * 10 ** rng.uniform(-30, 30, (len(x), 1, 1, 1)),
    "channels": lambda x, rng: x * 10 ** rng.uniform(-2, 2, (1, x.shape[1], 1, 1)),
    "pixels": lambda x, rng: x * 10 ** rng.uniform(-2, 2, x.shape),
    "one pixel": lambda x, rng: np.where(np.arange(x.size).reshape(x.shape) == 5000, 1e6, x),
}
"""How data may be scaled, from standard normal variates."""
WILD: dict[str, Scale] = {
    "wild channels": lambda x, rng: x * 10 ** rng.uniform(-30, 30, (1, x.shape[1], 1, 1)),
    "wild rows": lambda x, rng: x * 10 ** rng.uniform(-30, 30, (1, 1, x.shape[2], 1)),
    "wild pixels": lambda x, rng: x * 10 ** rng.uniform(-30, 30, x.shape),
}
"""Sums of one term that counts, which NumPy rounds only once."""


@cache
def numbers(kind: str, channels: int) -> tuple[Array, Array, Array, float]:
    """Return images, weight, what they give in float64, and NumPy's error in float32."""
    rng = np.random.default_rng(0)
    scale = (SCALES | WILD)[kind]
    images = scale(rng.standard_normal((2, channels, 24, 24)), rng).astype(np.float32)
    weight = rng.standard_normal((32, channels, 3, 3)).astype(np.float32)
    exact = reference.textbook_conv2d(images.astype("f8"), weight.astype("f8"), 1, 1)
    return images, weight, exact, rms(reference.textbook_conv2d(images, weight, 1, 1) - exact)


@pytest.mark.parametrize("channels", [16, 64, 200])
@pytest.mark.parametrize("kind", [*SCALES, *WILD])
def test_highest_precision(level: str, kind: str, channels: int) -> None:
    """The error is at most 1.1 times NumPy's, or twice for magnitudes 60 orders apart."""
    images, weight, exact, error_of_numpy = numbers(kind, channels)
    result = fastconv.conv2d(images, weight, padding=1, algorithm="winograd")
    # Without fused multiply-add products are rounded before they are added.
    most = (2 if kind in WILD else 1.1) * (1.15 if level == "base" else 1)
    assert rms(result - exact) <= most * error_of_numpy


FEW_COUNT = ("one pixel", "max-pool", *WILD)
"""Where few terms of the gradient of the weight count."""


@cache
def numbers_backward(kind: str) -> tuple[Array, Array, Array, float]:
    """Return a gradient, images, the gradient of the weight in float64, and NumPy's error."""
    images, weight, *_ = numbers("post-ReLU" if kind == "max-pool" else kind, 64)
    rng = np.random.default_rng(1)
    grad = rng.standard_normal((2, 32, 24, 24)).astype(np.float32)
    if kind == "post-ReLU":
        grad *= rng.uniform(size=grad.shape) < 0.5
    if kind == "max-pool":  # of what a ReLU has left
        pooled, indices = fastconv.max_pool2d(grad, 2, return_indices=True)
        grad = fastconv.max_pool2d_backward(pooled * (pooled > 0.5), indices, grad.shape)
    wide = [array.astype(np.float64) for array in (grad, images, weight)]
    exact = reference.textbook_conv2d_backward(wide[0], wide[1], wide[2], 1, 1)[1]
    result = reference.textbook_conv2d_backward(grad, images, weight, 1, 1)[1]
    return grad, images, exact, rms(result - exact)


def grad_of_weight(grad: Array, images: Array) -> Array:
    weight = np.empty((grad.shape[1], images.shape[1], 3, 3), images.dtype)
    wanted = (False, True, False)
    _, result, _ = fastconv.conv2d_backward(grad, images, weight, padding=1, output_mask=wanted)
    assert result is not None
    return result


@pytest.mark.parametrize("kind", [*SCALES, "max-pool", *WILD])
def test_precision_of_the_gradient_of_the_weight(level: str, tile: int, kind: str) -> None:
    """Of about as many terms as it takes for tiles to be chosen.

    NumPy's own error depends on its BLAS library's kernel for the processor, by some percent.
    """
    grad, images, exact, error_of_numpy = numbers_backward(kind)
    error = rms(grad_of_weight(grad, images) - exact)
    most = (2 if kind in FEW_COUNT else 1.15) * (1.15 if level == "base" else 1)
    assert error <= (most * error_of_numpy if tile == 2 else 1.2e-6 * rms(exact))


def test_precision_of_long_sums(level: str, tile: int) -> None:
    """In one sum of a million terms, errors would add up to 5.5e-7 with 2x2 tiles."""
    rng = np.random.default_rng(0)
    images, grad = rng.standard_normal((2, 4, 8, 512, 512)).astype(np.float32)
    exact = grad_of_weight(grad.astype("f8"), images.astype("f8"))
    error = rms(grad_of_weight(grad, images) - exact)
    assert error <= (4e-7 if tile == 2 else 1.2e-6) * rms(exact)


@pytest.mark.parametrize("channels", [16, 64, 200, 2048])
@pytest.mark.parametrize("kind", [*SCALES, *WILD])
def test_high_precision(
    level: str, monkeypatch: pytest.MonkeyPatch, kind: str, channels: int
) -> None:
    take(monkeypatch, Winograd(4))
    images, weight, exact, _ = numbers(kind, channels)
    result = fastconv.conv2d(images, weight, padding=1)
    assert rms(result - exact) <= 1.2e-6 * rms(exact)


def test_high_precision_of_float64(level: str, tile: int) -> None:
    images, weight, exact, _ = numbers("normal", 64)
    result = fastconv.conv2d(images.astype("f8"), weight.astype("f8"), padding=1)
    assert rms(result - exact) <= 4e-15 * rms(exact)


# --------------------------------------------------------------------------------- special values


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=str)
def test_what_is_not_finite_reaches_only_its_windows(
    level: str, threads: int, tile: int, value: float
) -> None:
    """The place in a tile does not matter, and infinity stays infinity."""
    case = Case((3, 5, 9, 11), 6, (3, 3), 1, 1)
    images, weight, bias, grad = case.arrays(integer_values)
    weight[weight == 0] = 1
    clean = results_of(case, [images, weight, bias, grad])
    for row, column in product(range(9), range(11)):
        place = (1, (row + column) % 5, row, column)
        marked = images.copy()
        marked[place] = value
        result = fastconv.conv2d(marked, weight, bias, padding=1)
        with pytest.MonkeyPatch.context() as patch:
            take(patch, DIRECT)
            expected = fastconv.conv2d(marked.astype("f8"), weight, bias, padding=1)
        np.testing.assert_allclose(result[1], expected[1], rtol=0, atol=1e-3)
        for other in (0, 2):
            assert_same(result[other], clean[0][other])


def test_weights_that_are_not_finite(level: str, tile: int) -> None:
    images, weight, *_ = CASE.arrays(integer_values)
    weight[3, 2, 1, 1], weight[7, 0, 0, 2] = np.nan, np.inf
    images[images == 0] = 1
    result = fastconv.conv2d(images, weight, padding=1)
    with pytest.MonkeyPatch.context() as patch:
        take(patch, DIRECT)
        expected = fastconv.conv2d(images, weight, padding=1)
    np.testing.assert_array_equal(np.isnan(result), np.isnan(expected))
    np.testing.assert_array_equal(np.isinf(result), np.isinf(expected))


@pytest.mark.parametrize("value", [np.nan, np.inf], ids=str)
def test_gradient_of_the_weight_that_is_not_finite(
    level: str, threads: int, tile: int, value: float
) -> None:
    """A gradient that is not finite is computed directly as a whole."""
    case = Case((3, 5, 9, 11), 6, (3, 3), 1, 1)
    images, _, _, grad = case.arrays(integer_values)
    images[images == 0] = 1
    for array, place in product((images, grad), ((0, 0, 0, 0), (1, 3, 4, 5), (2, 4, 8, 10))):
        before, array[place] = array[place], value
        result = grad_of_weight(grad, images)
        with pytest.MonkeyPatch.context() as patch:
            take(patch, DIRECT)
            expected = grad_of_weight(grad, images)
        assert np.isfinite(expected).any()
        assert not np.isfinite(expected).all()
        assert_same(result, expected)
        array[place] = before


@pytest.mark.parametrize(("dtype", "large"), [("f4", 3e38), ("f8", 1.7e308)])
def test_what_overflows_on_the_way_is_computed_directly(
    level: str, tile: int, dtype: str, large: float
) -> None:
    images = np.full((2, 3, 9, 9), large, dtype)
    weight = np.zeros((5, 3, 3, 3), dtype)
    weight[:, 1, 1, 1] = 1
    assert_same(fastconv.conv2d(images, weight, padding=1), np.full((2, 5, 9, 9), large, dtype))
    grad = np.zeros((2, 5, 9, 9), dtype)
    grad[1, :, 4, 4] = 1
    assert_same(grad_of_weight(grad, images), np.full((5, 3, 3, 3), large, dtype))


# --------------------------------------------------------------------------------------- the plan

PLANNED = [
    ((8, 256, 56, 56), (256, 256, 3, 3), 1),
    ((1, 512, 14, 14), (2048, 512, 3, 3), 1),
    ((64, 2048, 7, 7), (2048, 2048, 3, 3), 1),
    ((1, 64, 512, 512), (64, 64, 3, 3), 1),
    ((3, 64, 30, 40), (128, 32, 3, 3), 2),
]


@all_tiles
@pytest.mark.parametrize(("shape", "weight", "groups"), PLANNED)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_workspace_is_bounded(
    level: str,
    monkeypatch: pytest.MonkeyPatch,
    tile: int,
    shape: Any,
    weight: Any,
    groups: int,
    dtype: str,
) -> None:
    """The bound holds for every batch size and number of weights."""
    take(monkeypatch, Winograd(tile))
    for count in (shape[0], 100 * shape[0]):
        for threads in (1, 4, 16):
            with fastconv.num_threads(threads):
                plan = fastconv.plan_conv2d(
                    (count, *shape[1:]), weight, padding=1, groups=groups, dtype=dtype
                )
            assert plan.algorithm == "winograd"
            assert 0 < plan.workspace_bytes <= (16 + 4 * threads) << 20


@pytest.mark.parametrize("algorithm", ["auto", "direct", "winograd"])
def test_plan_for_no_images(level: str, algorithm: str) -> None:
    plan = fastconv.plan_conv2d((0, 64, 9, 9), (32, 64, 3, 3), algorithm=algorithm)
    assert (plan.workspace_bytes, plan.flops, plan.definition_flops) == (0, 0, 0)
    assert plan.algorithm == ("winograd" if algorithm == "winograd" else "direct")


def test_plans() -> None:
    plan = fastconv.plan_conv2d((2, 64, 57, 56), (64, 64, 3, 3), padding=1, algorithm="winograd")
    tiles, products = 2 * 29 * 28, 64 * 64
    assert (plan.algorithm, plan.tile) == ("winograd", 2)
    assert plan.flops == 2 * 16 * tiles * products
    assert plan.definition_flops == 2 * 9 * 2 * 57 * 56 * products
    with fastconv.precision("high"):
        plan = fastconv.plan_conv2d((8, 64, 57, 56), (64, 64, 3, 3), padding=1)
    assert (plan.algorithm, plan.tile) == ("winograd", 4)
    assert plan.flops == 2 * 36 * 8 * 15 * 14 * products
    plan = fastconv.plan_conv2d((2, 64, 56, 56), (64, 64, 3, 3), padding=1, algorithm="direct")
    assert (plan.algorithm, plan.tile) == ("direct", 1)
    assert plan.flops == plan.definition_flops == 2 * 9 * 2 * 56 * 56 * products
    assert plan.workspace_bytes >= 4 * 9 * products  # the packed weights


def test_what_is_chosen() -> None:
    """Tiles are chosen where there is much to multiply."""

    def chosen(shape: Any, weight: Any, **window: Any) -> int:
        return fastconv.plan_conv2d(shape, weight, **window).tile

    assert chosen((8, 256, 56, 56), (256, 256, 3, 3), padding=1) == 2
    assert chosen((8, 256, 56, 56), (256, 256, 3, 3), padding=1, stride=2) == 1
    assert chosen((8, 256, 56, 56), (256, 1, 3, 3), padding=1, groups=256) == 1
    assert chosen((8, 3, 224, 224), (64, 3, 3, 3), padding=1) == 1
    assert chosen((1, 512, 7, 7), (512, 512, 3, 3), padding=1) == 1
    assert chosen((1, 1, 8, 8), (1, 1, 3, 3)) == 1
    with fastconv.precision("high"):
        assert chosen((8, 256, 56, 56), (256, 256, 3, 3), padding=1) == 4
        assert chosen((1, 512, 7, 7), (512, 512, 3, 3), padding=1) == 1
        # Sums so long that tiles would err more than is promised are taken directly, in any case.
        for algorithm in ("auto", "winograd"):
            wide = {"padding": 1, "algorithm": algorithm}
            assert chosen((8, 2048, 28, 28), (64, 2048, 3, 3), **wide) > 1
            assert chosen((8, 2049, 28, 28), (64, 2049, 3, 3), **wide) == 1


def test_what_is_chosen_for_the_gradient_of_the_weight() -> None:
    """Tiles are chosen where sums are so long that NumPy's error is as large."""

    def chosen(batch: int, height: int, width: int, filters: int, **padding: Any) -> int:
        size = height, width
        win = window(size, (3, 3), 1, **{"padding": 1, **padding})
        source, target = (batch, 64, height, width), (batch, filters, win.out_h, win.out_w)
        return choose(Problem("weight_gradient", source, target, 1, win), "auto").tile

    assert chosen(1, 33, 33, 64) == 2
    assert chosen(1, 32, 33, 64) == 1  # a corner's tap sees 31 x 32 of them
    assert chosen(9, 12, 12, 64) == 2
    assert chosen(8, 12, 12, 64) == 1
    assert chosen(1, 224, 224, 4) == 1
    with fastconv.precision("high"):
        assert chosen(1, 32, 33, 64) == 4


@pytest.mark.parametrize(
    ("shape", "weight", "window", "message"),
    [
        (5, (1, 1, 3, 3), {}, "input_shape must be a sequence of ints, got 5"),
        ((1, 1, 8, 8), 5, {}, "weight_shape must be a sequence of ints, got 5"),
        ((1, 1, 8, -8), (1, 1, 3, 3), {}, "input_shape must not have negative sizes"),
        ((1, 2, 8, 8), (1, 1, 3, 3), {}, "input has 2 channels but weight expects 1"),
        ((1, 1, 8, 8), (1, 1, 3, 3), {"dtype": "c8"}, "input must be of float16"),
        ((1, 1, 2, 2), (1, 1, 3, 3), {}, "does not fit the padded input"),
        ((8, 8), (1, 1, 3, 3), {}, "input must have 4 dimensions or 3"),
    ],
)
def test_shapes_are_checked(shape: Any, weight: Any, window: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        fastconv.plan_conv2d(shape, weight, **window)
