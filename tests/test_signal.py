"""Convolution and correlation of two images, against SciPy."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import signal as scipy_signal
from test_ndimage_dense import Array, count_tiles, values

import fastconv
from fastconv import signal

DTYPES = "bBhHiIlLqQfdFD"
MODES = ["full", "valid", "same"]
BOUNDARIES = ["fill", "wrap", "symm", "pad", "circular", "symmetric"]


def assert_as_scipys(actual: Array, expected: Array, terms: int = 1) -> None:
    """Compare integers exactly and floats with a bound relative to the largest of them.

    SciPy adds `terms` products one after the other in the result's own dtype.
    """
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    if expected.dtype.kind not in "fc":
        np.testing.assert_array_equal(actual, expected)
        return
    bound = 1e-14 + terms * 1e-16
    if expected.dtype.char in "fF":
        bound = 1e-6 + terms * 6e-8
    largest = np.abs(expected).max(initial=0)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=bound * largest)


@given(data=st.data())
def test_any_call(level: str, data: st.DataObject) -> None:
    sides = st.integers(1, 24)
    images = [
        values((data.draw(sides), data.draw(sides)), data.draw(st.sampled_from(DTYPES)), seed, 1)
        for seed in (1, 2)
    ]
    shrink = data.draw(st.sampled_from([1, 2**20, 2**40, 2**58]))
    images = [
        image // min(shrink, 2 ** (8 * image.itemsize - 2)) if image.dtype.kind in "iu" else image
        for image in images
    ]
    mode, boundary = data.draw(st.sampled_from(MODES)), data.draw(st.sampled_from(BOUNDARIES))
    fillvalue = data.draw(st.sampled_from([0, 1, 3]))
    name = data.draw(st.sampled_from(["convolve2d", "correlate2d"]))
    try:
        expected = getattr(scipy_signal, name)(*images, mode, boundary, fillvalue)
    except ValueError:
        with pytest.raises(ValueError, match=f"^{name}: in 'valid' mode"):
            getattr(signal, name)(*images, mode, boundary, fillvalue)
        return
    actual = getattr(signal, name)(*images, mode, boundary, fillvalue)
    assert_as_scipys(actual, expected, images[1].size)


@pytest.mark.parametrize("boundary", ["fill", "wrap", "symm"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("sizes", [((9, 8), (4, 5)), ((4, 5), (9, 8)), ((3, 3), (3, 3))], ids=str)
def test_sizes_and_boundaries(level: str, sizes: Any, mode: str, boundary: str) -> None:
    """Images of even and odd sizes, in both orders; kernels that are larger than the image."""
    in1, in2 = (values(size, "D", seed, 1) for seed, size in enumerate(sizes))
    for name in ("convolve2d", "correlate2d"):
        expected = getattr(scipy_signal, name)(in1, in2, mode, boundary, 2)
        assert_as_scipys(getattr(signal, name)(in1, in2, mode, boundary, 2), expected, 20)


@pytest.mark.parametrize("dtype", list("bBhHiIlL"))
@pytest.mark.parametrize("size", [(3, 3), (33, 40)], ids=str)
def test_integers_wrap_around(level: str, threads: int, dtype: str, size: tuple[int, int]) -> None:
    """Sums modulo the range of the dtype, however large the numbers are."""
    image, kernel = values((70, 110), dtype, 3), values(size, dtype, 4)
    for weights in (kernel, kernel % 3):
        expected = scipy_signal.convolve2d(image, weights, "same")
        assert_as_scipys(signal.convolve2d(image, weights, "same"), expected)
    small = (image % 5).astype(dtype)
    expected = scipy_signal.convolve2d(small, kernel % 3, "full", "wrap")
    assert_as_scipys(signal.convolve2d(small, kernel % 3, "full", "wrap"), expected)


def test_large_integers_are_transformed_exactly(
    level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    transformed = count_tiles(monkeypatch)
    image, kernel = values((150, 140), "h", 5), values((45, 40), "b", 6).astype("i2")
    for boundary in ("fill", "symm"):
        expected = scipy_signal.correlate2d(image, kernel, "same", boundary)
        assert_as_scipys(signal.correlate2d(image, kernel, "same", boundary), expected)
    assert transformed == [0, 0]


@pytest.mark.parametrize("dtype", ["f", "d", "F", "D"])
def test_large_floats(
    level: str, threads: int, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    transformed = count_tiles(monkeypatch)
    image, kernel = values((90, 160), dtype, 7, 1), values((40, 41), dtype, 8, 1)
    for mode in MODES:
        expected = scipy_signal.convolve2d(image, kernel, mode)
        assert_as_scipys(signal.convolve2d(image, kernel, mode), expected, kernel.size)
    assert transformed.count(0) == len(transformed) > 0


def test_what_is_not_finite_meets_weights_of_zero(level: str) -> None:
    image = values((20, 30), "d", 9)
    image[4, 5], image[15, 20] = np.inf, np.nan
    kernel = np.array([[0, 1, 2], [1, 0, -1.0]])
    expected = scipy_signal.convolve2d(image, kernel)
    actual = signal.convolve2d(image, kernel)
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(actual[~finite], expected[~finite])
    np.testing.assert_allclose(actual[finite], expected[finite], atol=1e-12)


@pytest.mark.parametrize(
    "fillvalue",
    [1, 1.7, -128.7, True, np.float32(2.5), np.int64(5), [1], "1", 1e39, np.nan, 2**63, 1 + 0j,
     1j, 128, -129, 300.0, [], [1, 2], np.array(3), np.array([[4]]), "a", np.int8(3)],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("dtype", ["b", "L", "f", "F"])
def test_constants(dtype: str, fillvalue: Any) -> None:
    """Constants that SciPy takes give the same result, and others are a ValueError."""
    image, kernel = np.ones((2, 3), dtype), np.full((1, 2), 2, dtype)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # SciPy looks at the imaginary part, too.
            expected = scipy_signal.convolve2d(image, kernel, fillvalue=fillvalue)
    except (ValueError, TypeError):
        with pytest.raises(ValueError, match=r"^convolve2d: .*`fillvalue`"):
            signal.convolve2d(image, kernel, fillvalue=fillvalue)
        return
    actual = signal.convolve2d(image, kernel, fillvalue=fillvalue)
    np.testing.assert_array_equal(actual, expected)
    assert actual.dtype == expected.dtype


def test_images_without_elements() -> None:
    for shapes in (((0, 2), (2, 2)), ((3, 2), (0, 2)), ((2, 3), (2, 0))):
        in1, in2 = (np.ones(shape) for shape in shapes)
        for mode in MODES:
            expected = scipy_signal.convolve2d(in1, in2, mode)
            assert_as_scipys(signal.convolve2d(in1, in2, mode), expected)
        assert not signal.correlate2d(in1, in2, "same", "wrap").any()


@pytest.mark.parametrize("layout", ["strided", "swapped", "transposed", "list"])
def test_every_layout(layout: str) -> None:
    plain, kernel = values((20, 30), "h", 10), values((3, 4), "h", 11)
    image: Any = {
        "strided": np.repeat(plain, 2, axis=0)[::2],
        "swapped": plain.astype(">i2"),
        "transposed": np.asfortranarray(plain),
        "list": plain.tolist(),
    }[layout]
    expected = scipy_signal.convolve2d(image, kernel)
    assert_as_scipys(signal.convolve2d(image, kernel), expected)
    expected = scipy_signal.convolve2d(kernel, image, "valid")
    assert_as_scipys(signal.convolve2d(kernel, image, "valid"), expected)


@pytest.mark.parametrize("size", [3, 40])
@pytest.mark.parametrize("dtype", ["l", "f", "D"])
def test_threads_do_not_matter(dtype: str, size: int) -> None:
    image, kernel = values((150, 200), dtype, 12, 1), values((size, size), dtype, 13, 1)
    results = []
    for threads in (1, 2, 5):
        with fastconv.num_threads(threads):
            results.append(signal.convolve2d(image, kernel).tobytes())
    assert results[0] == results[1] == results[2]


def test_kernels_compute_what_they_can(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only dtypes that no kernel has are handed to SciPy."""

    def refuse(name: str, argument: str, module: str) -> Any:
        raise AssertionError(argument)

    with monkeypatch.context() as patch:
        patch.setattr(signal, "scipy_function", refuse)
        for dtype in DTYPES:
            signal.correlate2d(values((3, 4), dtype, 14), values((2, 2), dtype, 15))
        with pytest.raises(AssertionError, match=r"longdouble|float128"):
            signal.convolve2d(np.ones((3, 3), "g"), np.ones((2, 2), "g"))
    image, kernel = values((5, 6), "D", 16).astype("G"), values((2, 3), "D", 17).astype("G")
    for name in ("convolve2d", "correlate2d"):
        expected = getattr(scipy_signal, name)(image, kernel, "same", "wrap")
        np.testing.assert_array_equal(
            getattr(signal, name)(image, kernel, "same", "wrap"), expected
        )
    for dtype in ("?", "e", "O"):
        with pytest.raises(ValueError, match=r"^convolve2d: dtype .* is not available"):
            signal.convolve2d(np.ones((3, 3), dtype), np.ones((2, 2), dtype))


@pytest.mark.parametrize("boundary", ["wrap", "symm"])
def test_constants_that_are_not_looked_at(boundary: str) -> None:
    image, kernel = values((5, 6), "l", 18), values((2, 3), "l", 19)
    for fillvalue in (None, [1, 2], 2.5):
        np.testing.assert_array_equal(
            signal.convolve2d(image, kernel, "same", boundary, fillvalue),
            scipy_signal.convolve2d(image, kernel, "same", boundary, fillvalue),
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"in1": [1, 2]}, r"in1 and in2 must have 2 dimensions, got shapes \(2,\) and \(2, 3\)"),
        ({"mode": "most"}, "mode must be one of 'full', 'valid', 'same', got 'most'"),
        ({"boundary": "reflect"}, "boundary must be one of 'fill', .*got 'reflect'"),
        ({"mode": "valid"}, r"in 'valid' mode, .*got shapes \(3, 2\) and \(2, 3\)"),
        ({"fillvalue": [1, 2]}, "`fillvalue` must be scalar or an array with one element"),
        ({"fillvalue": 1j}, "could not cast `fillvalue` directly to the output dtype float64"),
    ],
)
@pytest.mark.filterwarnings("ignore:Casting complex")
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    call = {"in1": np.ones((3, 2)), "in2": np.ones((2, 3))} | arguments
    for name in ("convolve2d", "correlate2d"):
        with pytest.raises(ValueError, match=r"."):
            getattr(scipy_signal, name)(**call)
        with pytest.raises(ValueError, match=f"^{name}: {message}"):
            getattr(signal, name)(**call)
