"""Correlation and convolution with dense kernels, against SciPy."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage as scipy_ndimage

import fastconv
from fastconv import ndimage
from fastconv.ndimage import _correlation, _fourier, _passes

Array = NDArray[Any]
REAL = "?bBhHiIlLfd"
MODES = ["reflect", "mirror", "nearest", "wrap", "constant", "grid-wrap", "grid-constant"]
KINDS = ["normal", "integers", "mean", "sparse", "large"]


def values(shape: tuple[int, ...], dtype: str, seed: int, scale: float = 100) -> Array:
    """Draw numbers of the whole range of an integer dtype, or normal ones."""
    generator = np.random.default_rng(seed)
    if np.dtype(dtype).kind in "fc":
        parts = generator.normal(size=(2, *shape)) * scale
        numbers = parts[0] + 1j * parts[1] if np.dtype(dtype).kind == "c" else parts[0]
        drawn: Array = numbers.astype(dtype)
        return drawn
    if dtype == "?":
        return generator.integers(0, 2, shape).astype(bool)
    limits = np.iinfo(dtype)
    drawn = generator.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    return drawn


def kernel(shape: tuple[int, ...], kind: str, seed: int) -> Array:
    """Draw weights of one of KINDS."""
    generator = np.random.default_rng(seed)
    drawn: dict[str, Array] = {
        "normal": generator.normal(size=shape),
        "integers": generator.integers(-5, 6, shape).astype(float),
        "mean": np.full(shape, 1 / np.prod(shape)),
        "sparse": generator.integers(0, 2, shape) * generator.random(shape),
        "large": generator.integers(-1000, 1000, shape) * 1e3,
    }
    return drawn[kind]


def assert_as_scipys(actual: Array, expected: Array, terms: int = 1) -> None:
    """Compare integers exactly and floats with a bound relative to the largest of them.

    SciPy adds `terms` products one after the other, whose rounding errors may all have one sign.
    """
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    if expected.dtype.kind not in "fc":
        # Numbers other than 0 and 1 are possible in a bool of SciPy's, as in C.
        bits = np.dtype(f"V{expected.itemsize}")
        assert np.ascontiguousarray(actual).view(bits).tolist() == (
            np.ascontiguousarray(expected).view(bits).tolist()
        )
        return
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(actual[~finite], expected[~finite])
    bound = 1e-6 if expected.dtype in (np.float32, np.complex64) else 1e-14 + terms * 1e-16
    largest = np.abs(expected[finite]).max(initial=0)
    np.testing.assert_allclose(actual[finite], expected[finite], rtol=0, atol=bound * largest)


@given(data=st.data())
def test_any_call(level: str, data: st.DataObject) -> None:
    """Dtypes, dimensions, kernels larger than the array, modes, origins and axes."""
    ndim = data.draw(st.integers(1, 4))
    longest = (150, 30, 9, 5)[ndim - 1]
    shape = tuple(data.draw(st.lists(st.integers(1, longest), min_size=ndim, max_size=ndim)))
    axes = data.draw(st.lists(st.integers(-ndim, -1), min_size=1, unique=True).map(sorted))
    sizes = tuple(data.draw(st.integers(1, (9, 6, 4, 3)[ndim - 1])) for _ in axes)
    array = values(shape, data.draw(st.sampled_from(REAL)), data.draw(st.integers(0, 99)))
    weights = kernel(sizes, data.draw(st.sampled_from(KINDS)), data.draw(st.integers(0, 99)))
    output = data.draw(st.none() | st.sampled_from(REAL).map(np.dtype))
    name = data.draw(st.sampled_from(["correlate", "convolve"]))
    origin = [data.draw(st.integers((1 - n) // 2, (n - 1) // 2)) for n in sizes]
    arguments = {
        "output": output,
        "mode": data.draw(st.sampled_from(MODES)),
        "cval": data.draw(st.sampled_from([0.0, 1.5, -3.0, 1e10])),
        "origin": origin,
        "axes": tuple(axes),
    }
    expected = getattr(scipy_ndimage, name)(array, weights, **arguments)
    assert_as_scipys(getattr(ndimage, name)(array, weights, **arguments), expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", list(REAL))
def test_all_dtypes(level: str, threads: int, dtype: str, kind: str) -> None:
    """Rows of several tiles, and a rest behind them."""
    array, weights = values((37, 211), dtype, 1), kernel((4, 5), kind, 2)
    for output in (None, np.float64, np.uint8):
        expected = scipy_ndimage.correlate(array, weights, output)
        assert_as_scipys(ndimage.correlate(array, weights, output), expected)


@pytest.mark.parametrize("width", [1, 7, 8, 9, 15, 16, 17, 31, 33, 63, 65, 129])
@pytest.mark.parametrize("height", [1, 3, 4, 5, 17])
@pytest.mark.parametrize("dtype", ["f", "d", "B"])
def test_sizes_around_tiles(level: str, dtype: str, height: int, width: int) -> None:
    array, weights = values((height, width), dtype, 3), kernel((3, 3), "mean", 4)
    expected = scipy_ndimage.correlate(array, weights)
    assert_as_scipys(ndimage.correlate(array, weights), expected)


@pytest.mark.parametrize("value", [0, 1, 7, 128, 255])
@pytest.mark.parametrize("size", [3, 5, 16])
def test_sums_at_integers(level: str, threads: int, value: int, size: int) -> None:
    """SciPy's rounding errors decide whether a mean of equal pixels is one less than they are."""
    image = np.full((50, 150), value, np.uint8)
    image[20:30, 50:120] = values((10, 70), "B", 5)
    for weights in (kernel((size, size), "mean", 6), kernel((size, size), "mean", 6) * 1.000001):
        expected = scipy_ndimage.correlate(image, weights)
        assert_as_scipys(ndimage.correlate(image, weights), expected)


@pytest.mark.parametrize("dtype", ["f", "d"])
def test_weights_of_zero_hide_what_is_not_finite(level: str, dtype: str) -> None:
    array = values((20, 90), dtype, 7)
    array[3, 4], array[10, 80], array[11, 11] = np.inf, -np.inf, np.nan
    for weights in ([[0, 1, 0], [2, 0, 3], [0, 1, 0]], [[1e-17, 1.0], [np.nan, 0.0]]):
        expected = scipy_ndimage.correlate(array, weights)
        assert_as_scipys(ndimage.correlate(array, weights), expected)


@pytest.mark.parametrize("axes", [(0, 1), (0,), 1, (-1, 0)], ids=str)
def test_colours_are_lanes(level: str, axes: Any) -> None:
    """Channels behind the filtered axes are filtered one by one."""
    image = values((21, 40, 3), "B", 8)
    weights = kernel((3,) * np.size(axes), "normal", 9)
    for mode in MODES:
        expected = scipy_ndimage.correlate(image, weights, mode=mode, cval=5, axes=axes)
        actual = ndimage.correlate(image, weights, mode=mode, cval=5, axes=axes)
        assert_as_scipys(actual, expected)


@pytest.mark.parametrize("dtype", ["B", "i", "f", "d"])
def test_volumes(level: str, threads: int, dtype: str) -> None:
    array, weights = values((12, 13, 70), dtype, 10), kernel((3, 4, 5), "normal", 11)
    for mode in MODES:
        expected = scipy_ndimage.convolve(array, weights, mode=mode)
        assert_as_scipys(ndimage.convolve(array, weights, mode=mode), expected)


@pytest.mark.parametrize("dtype", ["f", "d"])
def test_kernels_of_rank_one(level: str, monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    """Kernels that are products of a column and a row take two passes, unless weights cancel."""
    passes: list[int] = []
    original = _passes.run

    def run(array: Array, result: Array, parts: Any, cval: float) -> None:
        passes.extend(map(len, parts))
        original(array, result, parts, cval)

    monkeypatch.setattr(_passes, "run", run)
    array = values((6, 50, 70), dtype, 33)
    array[1, 20, 30] = np.inf
    column, row = np.random.default_rng(34).random((2, 8))
    weights = np.multiply.outer(column, row)
    for mode in ("reflect", "wrap", "constant"):
        expected = scipy_ndimage.correlate(array, weights, mode=mode, axes=(0, 2), origin=(1, -2))
        actual = ndimage.correlate(array, weights, mode=mode, axes=(0, 2), origin=(1, -2))
        assert_as_scipys(actual, expected)
    assert passes == [2, 2, 2]
    nearly = weights.copy()
    nearly[3, 4] *= 1 + 1e-9
    for other, cval in ((nearly, 0), (weights, 1.5)):
        expected = scipy_ndimage.correlate(array[0], other, mode="constant", cval=cval)
        actual = ndimage.correlate(array[0], other, mode="constant", cval=cval)
        assert_as_scipys(actual, expected)
    ndimage.correlate(array[0], np.multiply.outer(column - 0.5, row))
    assert passes == [2, 2, 2] + [2] * (dtype == "d")


# --------------------------------------------------------------------------------- large kernels


def count_tiles(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Record how many tiles of each correlation by transforms are computed directly after all."""
    recorded: list[int] = []

    def correlate(problem: Any, tile: tuple[int, int]) -> Any:
        parts = list(original(problem, tile))
        recorded.append(len(parts))
        return parts

    original = _fourier.correlate
    monkeypatch.setattr(_fourier, "correlate", correlate)
    return recorded


@pytest.mark.parametrize("size", [(40, 31), (24, 50)], ids=str)
@pytest.mark.parametrize("dtype", ["B", "b", "H", "f", "d"])
def test_large_kernels(
    level: str,
    threads: int,
    monkeypatch: pytest.MonkeyPatch,
    dtype: str,
    size: tuple[int, int],
) -> None:
    transformed = count_tiles(monkeypatch)
    array = values((70, 150), dtype, 12)
    for kind, mode in (("normal", "reflect"), ("integers", "constant"), ("mean", "constant")):
        weights = kernel(size, kind, 13)
        expected = scipy_ndimage.correlate(array, weights, mode=mode, cval=3)
        actual = ndimage.correlate(array, weights, mode=mode, cval=3)
        assert_as_scipys(actual, expected, weights.size)
    assert transformed.count(0) >= 1


def test_planes_of_large_kernels(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    transformed = count_tiles(monkeypatch)
    array, weights = values((3, 70, 60), "d", 14), kernel((2, 30, 31), "normal", 15)
    assert_as_scipys(ndimage.correlate(array, weights), scipy_ndimage.correlate(array, weights))
    assert transformed == [0]


def test_transforms_do_not_spread_what_is_not_finite(
    level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    transformed = count_tiles(monkeypatch)
    weights = kernel((24, 24), "normal", 16)
    for value in (np.nan, np.inf, -np.inf, 1e300):
        array = values((120, 260), "d", 17)
        array[30, 200] = value
        assert_as_scipys(ndimage.correlate(array, weights), scipy_ndimage.correlate(array, weights))
    assert min(transformed) > 0


def test_transforms_near_integers(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles in which SciPy's rounding errors decide are computed in SciPy's order."""
    transformed = count_tiles(monkeypatch)
    image = values((150, 300), "B", 18)
    image[:60, :60] = 255
    weights = kernel((31, 31), "mean", 19)
    assert_as_scipys(ndimage.correlate(image, weights), scipy_ndimage.correlate(image, weights))
    [tiles] = transformed
    assert tiles > 0


# --------------------------------------------------------------------------- arrays of all layouts


def test_every_output(level: str) -> None:
    """Arrays of any strides, byte order and dtype, also those that overlap the input."""
    array, weights = values((30, 41), "f", 20), kernel((3, 3), "normal", 21)
    expected = scipy_ndimage.correlate(array, weights)
    for output in (
        np.empty((30, 41), "f4"),
        np.empty((60, 82), "f4")[::2, ::2],
        np.empty((41, 30), "f4").T,
        np.empty((30, 41), "f4")[::-1],
    ):
        assert ndimage.correlate(array, weights, output) is output
        assert_as_scipys(output, expected)
    swapped = np.empty((30, 41), ">f4")
    assert ndimage.correlate(array, weights, swapped) is swapped
    assert_as_scipys(swapped.astype("f4"), expected)
    assert_as_scipys(
        ndimage.correlate(array, weights, "f8"), scipy_ndimage.correlate(array, weights, "f8")
    )
    memory = np.zeros((31, 41), "f4")
    memory[1:] = array
    ndimage.correlate(memory[1:], weights, memory[:-1])
    assert_as_scipys(memory[:-1], expected)
    ndimage.correlate(array, weights, array)
    assert_as_scipys(array, expected)


def test_nothing_is_written_beside_the_output(level: str) -> None:
    for dtype in ("f4", "f8", "u1", "i2"):
        for width in (5, 63, 64, 100):
            memory = np.full(10 * width + 128, 77, dtype)
            output = memory[64:-64].reshape(10, width)
            array = values((10, width), "B", 22)
            ndimage.correlate(array, kernel((3, 3), "integers", 23), output)
            assert (memory[:64] == 77).all()
            assert (memory[-64:] == 77).all()


@pytest.mark.parametrize("layout", ["strided", "swapped", "transposed", "unaligned", "list"])
def test_every_input(layout: str) -> None:
    plain = values((23, 35), "h", 24)
    unaligned = np.empty(23 * 35 * 2 + 1, np.uint8)[1:].view("h").reshape(23, 35)
    unaligned[...] = plain
    array: Any = {
        "strided": np.repeat(plain, 2, axis=1)[:, ::2],
        "swapped": plain.astype(">i2"),
        "transposed": np.asfortranarray(plain),
        "unaligned": unaligned,
        "list": plain.tolist(),
    }[layout]
    weights = kernel((3, 2), "normal", 25)
    result = ndimage.correlate(array, weights)
    expected = scipy_ndimage.correlate(array, weights)
    assert_as_scipys(result, expected)


def test_arrays_without_elements_or_dimensions() -> None:
    for shape in ((0, 3), (3, 0), (0,)):
        result = ndimage.correlate(np.ones(shape), np.ones((3,) * len(shape)))
        assert result.shape == shape
    assert_as_scipys(
        np.asarray(ndimage.correlate(np.float64(3), np.float64(2))),
        np.asarray(scipy_ndimage.correlate(np.float64(3), np.float64(2))),
    )


@pytest.mark.parametrize("types", ["DD", "Dd", "dD", "FF", "Fi", "iF"])
def test_complex_numbers(types: str) -> None:
    array = values((12, 33), types[0], 26, 1)
    weights = values((3, 4), types[1], 27, 1)
    cval = 1.5 if types[0] in "di" else 1.5 - 2j
    for name in ("correlate", "convolve"):
        expected = getattr(scipy_ndimage, name)(array, weights, mode="constant", cval=cval)
        actual = getattr(ndimage, name)(array, weights, mode="constant", cval=cval)
        bound = 1e-6 if expected.dtype == np.complex64 else 1e-14
        assert actual.dtype == expected.dtype
        np.testing.assert_allclose(actual, expected, rtol=0, atol=bound * np.abs(expected).max())


# ------------------------------------------------------------------------------ threads, arithmetic


@pytest.mark.parametrize("size", [3, 31])
@pytest.mark.parametrize("dtype", ["B", "f", "d"])
def test_threads_do_not_matter(dtype: str, size: int) -> None:
    array, weights = values((130, 300), dtype, 28), kernel((size, size), "normal", 29)
    results = []
    for threads in (1, 2, 5):
        with fastconv.num_threads(threads):
            results.append(ndimage.correlate(array, weights).tobytes())
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize(
    ("dtype", "kind", "name", "is_checked"),
    [
        ("f", "mean", "float", False),
        ("f", "normal", "double", False),
        ("d", "normal", "double", False),
        ("B", "integers", "float", False),
        ("B", "normal", "float", True),
        ("i", "integers", "double", False),
        ("i", "normal", "order", False),
        ("H", "mean", "order", False),
        ("l", "integers", "order", False),
    ],
)
def test_the_cheapest_safe_arithmetic(dtype: str, kind: str, name: str, is_checked: bool) -> None:
    array, weights = values((4, 4), dtype, 30), kernel((3, 3), kind, 31)
    chosen = _correlation.choose(array, array.dtype, weights, None)
    assert (chosen.name, chosen.checked > 0) == (name, is_checked)


@pytest.mark.parametrize("dtype", ["e", "g", "G", "O"])
def test_dtypes_that_scipy_refuses(dtype: str) -> None:
    for array, output in ((np.ones(3, dtype), None), (np.ones(3), np.zeros(3, dtype))):
        with pytest.raises(RuntimeError, match="array type"):
            scipy_ndimage.correlate(array, [1.0], output)
        with pytest.raises(RuntimeError, match=r"^correlate: array type .* is not supported"):
            ndimage.correlate(array, [1.0], output)


# -------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weights": [1, 2]}, r"weights\.ndim \(1\) must match len\(axes\) \(2\)"),
        ({"weights": np.ones((0, 3))}, r"weights\.ndim \(1\) must match len\(axes\) \(2\)"),
        ({"mode": "edge"}, "mode must be one of 'reflect'.*got 'edge'"),
        ({"mode": ["reflect", "wrap"]}, "mode must be one for all axes"),
        ({"origin": 2}, "origin must lie from -1 to 1 for a filter of 3 elements, got 2"),
        ({"origin": [0, 0, 0]}, "sequence argument must have length equal to input rank"),
        ({"cval": "1"}, "cval must be a real number, got '1'"),
        ({"cval": 1j}, "cval must be a real number, got 1j"),
        ({"axes": (0, 0)}, "axes must be unique"),
        ({"axes": (0, 2)}, "axes is out of range"),
        ({"output": np.zeros((3, 3))}, "output must have the input's shape"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    """Errors have SciPy's types, and nothing is written."""
    output = np.full((4, 5), 7.0)
    call = {"weights": np.ones((3, 3)), "output": output} | arguments
    with pytest.raises((RuntimeError, TypeError, ValueError)) as expected:
        scipy_ndimage.correlate(np.ones((4, 5)), **call)
    with pytest.raises(expected.type, match=f"^correlate: {message}"):
        ndimage.correlate(np.ones((4, 5)), **call)
    assert (output == 7).all()


def test_output_must_be_writeable() -> None:
    output = np.zeros(4)
    output.flags.writeable = False
    with pytest.raises(
        ValueError, match="correlate: output must be writeable, got a read-only array"
    ):
        ndimage.correlate(np.ones(4), [1.0], output)


def test_complex_results_need_complex_outputs() -> None:
    with pytest.raises(RuntimeError, match="convolve: output must have a complex dtype"):
        ndimage.convolve(np.ones(3, complex), [1.0], np.zeros(3))
    with pytest.raises(ValueError, match="correlate: cval must be a real number for a real input"):
        ndimage.correlate(np.ones(3), [1j], cval=1j)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = ndimage.correlate(np.ones(3), [1j], np.float32)
    assert result.dtype == np.complex64
    assert ["promoting" in str(warning.message) for warning in caught] == [True]


@pytest.mark.parametrize("cval", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", "bBil")
def test_constants_that_integers_do_not_have(cval: float, dtype: str) -> None:
    """Sums that contain such a constant are converted as C does it."""
    array = np.arange(63).reshape(9, 7).astype(dtype)
    expected = scipy_ndimage.correlate(array, [[1, 2, 1], [0, 1, 0]], mode="constant", cval=cval)
    actual = ndimage.correlate(array, [[1, 2, 1], [0, 1, 0]], mode="constant", cval=cval)
    assert np.array_equal(actual, expected)
