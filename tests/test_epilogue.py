"""Residuals and activations of conv2d, applied where the sums lie."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import reference
from convolutions import Case, definition
from helpers import LAYOUTS, Array, assert_same, guarded, integer_values, normal_values, refused
from numpy.typing import DTypeLike

import fastconv

CLIPS: list[Any] = ["relu", "relu6", ("clip", -3.0, 5.0), ("clip", -np.inf, np.inf)]
"""Activations of integers that are integers."""
CURVES = ["leaky_relu", "hardswish", "hardsigmoid", "sigmoid", "silu"]
ACTIVATIONS: list[Any] = [None, *CLIPS, *CURVES]

CASES = {
    "direct": Case((2, 5, 9, 21), 18, (3, 3), 1, 1),
    "shared tiles": Case((9, 6, 3, 2), 17, (2, 2), 1, 1),
    "in place": Case((3, 70, 6, 11), 33, (1, 1)),
    "strided": Case((2, 3, 12, 13), 9, (3, 2), (2, 3), 1),
    "groups": Case((2, 6, 7, 8), 12, (3, 3), 1, 1, 1, 2),
    "gathered": Case((1, 1, 620, 620), 6, (610, 610), 1, 1, 1),
    "planar": Case((2, 20, 8, 19), 3, (3, 3), 1, 1),
    "planar, strided": Case((2, 3, 8, 70), 2, (3, 3), 2, "same", 1, 1, "reflect"),
    "long rows": Case((2, 12, 5, 76), 37, (3, 3), 1, 1),
    "aliased planes": Case((2, 40, 16, 32), 33, (1, 1)),
    "short sums": Case((2, 3, 9, 47), 21, (3, 3), 1, 1),
    "short sums, strided": Case((2, 3, 12, 64), 19, (3, 3), 2, 1),
    "depthwise, small": Case((3, 20, 7, 7), 20, (3, 3), 1, 1, 1, 20),
    "depthwise, small, strided": Case((3, 20, 14, 13), 40, (3, 3), 2, 1, 1, 20),
    "depthwise": Case((7, 4, 11, 18), 4, (3, 3), 1, 1, 1, 4),
    "depthwise, narrow": Case((7, 4, 5, 3), 8, (3, 3), 1, 1, 1, 4),
    "depthwise, strided": Case((7, 4, 12, 13), 4, (5, 5), 2, 2, 1, 4),
    "one pixel": Case((1, 1, 1, 1), 1, (1, 1)),
    "empty": Case((0, 2, 5, 5), 6, (3, 3), 1, 1),
}
every_case = pytest.mark.parametrize("name", CASES)


def finished(case: Case, dtype: DTypeLike, activation: Any) -> tuple[list[Array], Array, Array]:
    """Make arrays, a residual, and what is expected of them in float64."""
    images, weight, bias, _ = case.arrays(integer_values, dtype)
    residual = integer_values(case.output, dtype, seed=9)
    sums = definition(case)[0] + residual.astype(np.float64)
    return [images, weight, bias], residual, reference.activate(sums, activation)


def check_finished(actual: Array, expected: Array, dtype: DTypeLike, exact: bool) -> None:
    """Compare exactly or, of curves, up to a few units in the last place of the largest number."""
    wanted = expected.astype(dtype)
    if exact:
        assert_same(actual + actual.dtype.type(0), wanted + wanted.dtype.type(0))
        return
    assert actual.dtype == wanted.dtype
    scale = np.finfo(dtype).eps * np.maximum(np.abs(expected), 1)
    with np.errstate(invalid="ignore"):
        assert np.all((np.abs(actual - expected) <= 8 * scale) | (actual == wanted))


@every_case
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_every_algorithm(level: str, threads: int, name: str, activation: Any) -> None:
    """Sums are integers, so that clipped ones are exact; nothing beside `out` is written."""
    case = CASES[name]
    for dtype in ("f4", "f8"):
        arrays, residual, expected = finished(case, dtype, activation)
        for algorithm in case.algorithms:
            with guarded(case.output, dtype) as out:
                fastconv.conv2d(
                    *arrays,
                    **case.window,
                    algorithm=algorithm,
                    residual=residual,
                    activation=activation,
                    out=out,
                )
                check_finished(out, expected, dtype, activation not in CURVES)


@every_case
def test_the_residual_may_be_out_itself(level: str, threads: int, name: str) -> None:
    case = CASES[name]
    arrays, residual, expected = finished(case, np.float32, "relu")
    for algorithm in case.algorithms:
        for same_object in (True, False):
            with guarded(case.output, np.float32) as out:
                out[...] = residual
                fastconv.conv2d(
                    *arrays,
                    **case.window,
                    algorithm=algorithm,
                    residual=out if same_object else out[:],
                    activation="relu",
                    out=out,
                )
                check_finished(out, expected, np.float32, True)


@pytest.mark.parametrize("size", range(1, 36))
def test_every_length_of_a_row(level: str, size: int) -> None:
    """The last vector of a row overlaps the one before it, or is a part of one."""
    case = Case((1, 1, 2, size), 5, (1, 1))
    for dtype in ("f4", "f8"):
        arrays, residual, expected = finished(case, dtype, "silu")
        result = fastconv.conv2d(*arrays, residual=residual, activation="silu")
        check_finished(result, expected, dtype, False)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["f4", "f2", "i4"])
def test_layouts_of_the_residual(level: str, layout: str, dtype: str) -> None:
    for name in ("direct", "in place", "depthwise"):
        case = CASES[name]
        arrays, residual, expected = finished(case, np.float32, "relu")
        laid = LAYOUTS[layout](residual.astype(dtype))
        result = fastconv.conv2d(*arrays, **case.window, residual=laid, activation="relu")
        check_finished(result, expected, np.float32, True)


@every_case
@pytest.mark.parametrize("activation", ["relu", "hardswish"])
def test_float16(level: str, name: str, activation: str) -> None:
    """Residual and activation are computed in float32, and the result is rounded once."""
    case = CASES[name]
    images, weight, bias, _ = case.arrays(integer_values, np.float16)
    residual = normal_values(case.output, np.float16, seed=9)
    wide = [array.astype(np.float32) for array in (images, weight, bias)]
    keywords: dict[str, Any] = {**case.window, "activation": activation, "algorithm": "direct"}
    expected = fastconv.conv2d(*wide, **keywords, residual=residual)
    with np.errstate(over="ignore"):
        wanted = expected.astype(np.float16)
    result = fastconv.conv2d(images, weight, bias, **keywords, residual=residual)
    assert_same(result, wanted)


def test_promotion(level: str) -> None:
    """Integers are computed in float64; the residual does not take part in the dtype's choice."""
    case = CASES["direct"]
    images, weight, bias, _ = case.arrays(integer_values, np.int32)
    residual = integer_values(case.output, np.float32, seed=9)
    result = fastconv.conv2d(images, weight, bias, **case.window, residual=residual)
    assert_same(result, definition(case)[0] + residual)
    wide = fastconv.conv2d(
        images.astype("f4"), weight.astype("f4"), **case.window, residual=residual.astype("f8")
    )
    assert wide.dtype == np.float32


def test_images_without_a_batch(level: str) -> None:
    case = replace(CASES["direct"], shape=(1, 5, 9, 21))
    arrays, residual, expected = finished(case, np.float32, "relu6")
    arrays[0], residual = arrays[0][0], residual[0]
    result = fastconv.conv2d(*arrays, **case.window, residual=residual, activation="relu6")
    check_finished(result, expected[0], np.float32, True)
    out = residual.copy()
    fastconv.conv2d(*arrays, **case.window, residual=out, activation="relu6", out=out)
    assert_same(out, result)


@pytest.mark.parametrize("precision", ["highest", "high"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite(level: str, precision: str, bad: float) -> None:
    """What has a NaN is computed again, also where tiles have overwritten the residual."""
    images, weight = normal_values((3, 16, 12, 12)), normal_values((16, 16, 3, 3), seed=1)
    residual = normal_values((3, 16, 12, 12), seed=2)
    images[1, 3, 4, 5] = bad
    for activation in (None, "relu", "sigmoid"):
        keywords: dict[str, Any] = {"padding": 1, "activation": activation}
        with fastconv.precision(precision):
            tiled = fastconv.conv2d(
                images, weight, **keywords, residual=residual, algorithm="winograd"
            )
            out = residual.copy()
            fastconv.conv2d(images, weight, **keywords, residual=out, algorithm="winograd", out=out)
            alone = residual[1].copy()
            fastconv.conv2d(
                images[1], weight, **keywords, residual=alone, algorithm="winograd", out=alone
            )
        assert_same(out, tiled)
        assert_same(alone, tiled[1])
        direct = fastconv.conv2d(images, weight, **keywords, residual=residual, algorithm="direct")
        seen = (1, slice(None), slice(3, 6), slice(4, 7))
        assert_same(tiled[seen], direct[seen])
        np.testing.assert_allclose(tiled, direct, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_special_values(level: str, activation: Any, dtype: str) -> None:
    """NaN stays NaN, also beside numbers; infinities and zeros follow the formulas."""
    x = np.array(
        [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, -1e-40, 3e38, -3e38, 100, -100, -90, 7, -750],
        dtype=dtype,
    )
    one = np.ones((1, 1, 1, 1), dtype)
    result = fastconv.conv2d(x[None, None, None], one, activation=activation)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        expected = reference.activate(x.astype(np.longdouble), activation).astype(dtype)
    # The sigmoid of -100 is subnormal in float32, so that it has few digits to multiply with x.
    tiny = 100 * float(np.finfo(dtype).smallest_subnormal)
    np.testing.assert_allclose(
        result[0, 0, 0], expected, rtol=8 * float(np.finfo(dtype).eps), atol=tiny
    )


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_exponentials_are_exact(level: str, dtype: str) -> None:
    """The sigmoid errs at most 3 units in the last place, wherever its result is normal."""
    x = np.linspace(-90, 40, 100_003).astype(dtype)
    one = np.ones((1, 1, 1, 1), dtype)
    result = fastconv.conv2d(x[None, None, None], one, activation="sigmoid")[0, 0, 0]
    expected = 1 / (1 + np.exp(-x.astype(np.longdouble)))
    normal = expected >= np.finfo(dtype).smallest_normal
    error = np.abs(result - expected)[normal] / np.spacing(expected[normal].astype(dtype))
    assert error.max() <= 3


STREAMED = [
    Case((8, 5, 300, 301), 4, (1, 1)),
    Case((5, 2, 300, 301), 6, (1, 1)),
    Case((4, 8, 300, 301), 8, (3, 3), 1, 1, 1, 8),
    Case((60, 256, 14, 14), 256, (3, 3), 1, 1, 1, 256),
    Case((4, 3, 160, 160), 33, (3, 3), 1, 1),
    Case((4, 3, 159, 161), 33, (3, 3), 1, 1),
]
"""Results of 20 MiB and more, of every way; rows of short sums are aligned or not."""


@pytest.mark.parametrize("case", STREAMED, ids=str)
def test_large_results_are_streamed(level: str, threads: int, case: Case) -> None:
    """Results that leave the caches are finished on their way, in every direct algorithm."""
    images, weight, bias, _ = case.arrays(integer_values, np.float64)
    residual = integer_values(case.output, np.float64, seed=9)
    assert residual.nbytes >= 20 << 20
    window: dict[str, Any] = {**case.window, "algorithm": "direct"}
    plain = fastconv.conv2d(images, weight, bias, **window)
    for n in (0, len(images) - 1):  # The results of one image stay in the caches.
        assert_same(plain[n], fastconv.conv2d(images[n], weight, bias, **window))
    result = fastconv.conv2d(images, weight, bias, **window, residual=residual, activation="relu")
    assert_same(result, np.maximum(plain + residual, 0))


def test_threads_do_not_change_a_bit(level: str) -> None:
    for name in ("direct", "in place", "planar", "depthwise"):
        case = CASES[name]
        images, weight, bias, _ = case.arrays(normal_values)
        residual = normal_values(case.output, seed=9)
        results = []
        for count in (1, 2, 5):
            with fastconv.num_threads(count):
                results.append(
                    fastconv.conv2d(
                        images, weight, bias, **case.window, residual=residual, activation="silu"
                    )
                )
        assert_same(results[1], results[0])
        assert_same(results[2], results[0])


@pytest.mark.parametrize("activation", [name for name in ACTIVATIONS if name != "hardsigmoid"])
def test_pytorch_has_the_same_formulas(level: str, torch: Any, activation: Any) -> None:
    """PyTorch's hardsigmoid has a slope of 1/6, not ONNX's 0.2."""
    x = normal_values((2, 3, 9, 10)) * np.float32(5)
    one = np.eye(3, dtype=np.float32)[:, :, None, None]
    result = fastconv.conv2d(x, one, activation=activation)
    functional = torch.nn.functional
    tensor = torch.from_numpy(x)
    if activation is None:
        expected = tensor
    elif isinstance(activation, str):
        expected = getattr(functional, activation)(tensor)
    else:
        expected = torch.clip(tensor, *activation[1:])
    np.testing.assert_allclose(result, expected.numpy(), rtol=1e-6, atol=1e-6)


# --------------------------------------------------------------------------------------- errors

IMAGES, WEIGHT = np.zeros((1, 2, 5, 5), np.float32), np.zeros((3, 2, 3, 3), np.float32)


@pytest.mark.parametrize(
    ("error", "message", "keywords"),
    [
        (ValueError, "activation must be None, \"relu\", .* got 'tanh'", {"activation": "tanh"}),
        (ValueError, "got \\('clip', 1\\)", {"activation": ("clip", 1)}),
        (ValueError, "with low <= high, got", {"activation": ("clip", 2, 1)}),
        (ValueError, "with low <= high, got", {"activation": ("clip", np.nan, 1)}),
        (TypeError, "a bound of activation must be a number", {"activation": ("clip", "a", 1)}),
        (TypeError, "activation must be None, .* got 3", {"activation": 3}),
        (ValueError, "a bound of activation must be", {"activation": ("clip", 0, 10**400)}),
        (ValueError, "with low <= high, got", {"activation": (np.ones(2), 0, 1)}),
        (
            ValueError,
            r"residual must have the output's shape \(1, 3, 3, 3\), got \(3, 3\)",
            {"residual": np.zeros((3, 3))},
        ),
        (TypeError, "residual must be of float16", {"residual": np.zeros((1, 3, 3, 3), "c8")}),
    ],
)
def test_refused(error: type[Exception], message: str, keywords: dict[str, Any]) -> None:
    out = np.full((1, 3, 3, 3), 7, np.float32)
    refused(error, message, fastconv.conv2d, IMAGES, WEIGHT, **keywords, out=out)
    assert (out == 7).all()


@pytest.mark.parametrize("offset", [1, 9, 26])
def test_other_overlaps_are_refused(offset: int) -> None:
    memory = np.full(64, 7, np.float32)
    out, residual = memory[:27].reshape(1, 3, 3, 3), memory[offset : offset + 27]
    refused(
        ValueError,
        "out must not overlap an input",
        fastconv.conv2d,
        IMAGES,
        WEIGHT,
        residual=residual.reshape(1, 3, 3, 3),
        out=out,
    )
    flipped = out[..., ::-1]
    refused(ValueError, "overlap", fastconv.conv2d, IMAGES, WEIGHT, residual=flipped, out=out)
    assert (memory == 7).all()
