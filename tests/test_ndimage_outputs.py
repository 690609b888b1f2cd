"""Outputs of any dtype and layout, and complex arrays, which all filters treat alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers import Array
from scipy import ndimage as scipy_ndimage

from fastconv import ndimage

CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]])
KERNEL = np.array([[0, 2, 1], [1, 0, 0]])

CALLS: dict[str, Callable[..., Any]] = {
    "convolve": lambda f, x, **k: f(x, KERNEL, **k),
    "convolve1d": lambda f, x, **k: f(x, [1, 2, 0, 1], **k),
    "correlate": lambda f, x, **k: f(x, KERNEL, **k),
    "correlate1d": lambda f, x, **k: f(x, [1, 2, 0, 1], **k),
    "gaussian_filter": lambda f, x, **k: f(x, 1, **k),
    "gaussian_filter1d": lambda f, x, **k: f(x, 1, **k),
    "gaussian_gradient_magnitude": lambda f, x, **k: f(x, 1, **k),
    "gaussian_laplace": lambda f, x, **k: f(x, 1, **k),
    "grey_dilation": lambda f, x, **k: f(x, footprint=CROSS, **k),
    "grey_erosion": lambda f, x, **k: f(x, 3, **k),
    "laplace": lambda f, x, **k: f(x, **k),
    "maximum_filter": lambda f, x, **k: f(x, footprint=CROSS, **k),
    "maximum_filter1d": lambda f, x, **k: f(x, 3, **k),
    "median_filter": lambda f, x, **k: f(x, 3, **k),
    "minimum_filter": lambda f, x, **k: f(x, 3, **k),
    "minimum_filter1d": lambda f, x, **k: f(x, 3, **k),
    "percentile_filter": lambda f, x, **k: f(x, 20, 3, **k),
    "prewitt": lambda f, x, **k: f(x, **k),
    "rank_filter": lambda f, x, **k: f(x, 2, footprint=CROSS, **k),
    "sobel": lambda f, x, **k: f(x, **k),
    "uniform_filter": lambda f, x, **k: f(x, 3, **k),
    "uniform_filter1d": lambda f, x, **k: f(x, 1, **k),
}
REAL_ONLY = ("maximum", "minimum", "grey", "median", "rank", "percentile", "magnitude")
COMPLEX = [name for name in CALLS if not any(part in name for part in REAL_ONLY)]
SHAPE = (9, 70)


def image(dtype: str) -> Array:
    rng = np.random.default_rng(0)
    return (rng.standard_normal(SHAPE) * 60).astype(dtype)


def laid_out(layout: str, dtype: str) -> Array:
    """Return an array of SHAPE that no kernel can write to."""
    if layout == "swapped":
        return np.zeros(SHAPE, np.dtype(dtype).newbyteorder())
    if layout == "reversed":
        return np.zeros(SHAPE, dtype)[::-1, ::-1]
    if layout == "transposed":
        return np.zeros(SHAPE[::-1], dtype).T
    if layout == "strided":
        return np.zeros((SHAPE[0], SHAPE[1] * 2), dtype)[:, ::2]
    memory = np.zeros(np.dtype(dtype).itemsize * SHAPE[0] * SHAPE[1] + 1, np.uint8)
    return memory[1:].view(dtype).reshape(SHAPE)  # Unaligned.


def test_every_function_is_called() -> None:
    assert sorted(CALLS) == sorted(ndimage.__all__)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("dtype", ["h", "d"])
@pytest.mark.parametrize("layout", ["swapped", "reversed", "transposed", "strided", "unaligned"])
@pytest.mark.filterwarnings("ignore:invalid value encountered in sqrt")  # of narrow integers
def test_inputs_and_outputs_of_any_layout(name: str, dtype: str, layout: str) -> None:
    plain, function = image(dtype), getattr(ndimage, name)
    expected = CALLS[name](function, plain)
    for read in (dtype, "f"):
        given = laid_out(layout, read)
        given[...] = plain.astype(read)
        out = laid_out(layout, dtype)
        assert CALLS[name](function, given, output=out) is out
        if read == dtype:
            assert np.array_equal(out, expected)
        else:
            assert np.array_equal(out, CALLS[name](function, plain.astype(read), output=dtype))


@pytest.mark.parametrize("name", CALLS)
def test_outputs_that_cannot_be_written(name: str) -> None:
    function, plain = getattr(ndimage, name), image("f")
    out = np.full(SHAPE, 7, "f")
    out.flags.writeable = False
    with pytest.raises(ValueError, match=f"^{name}: output must be writeable, got a read-only"):
        CALLS[name](function, plain, output=out)
    assert (out == 7).all()


OUT_OF_RANGE: dict[str, Callable[..., Any]] = {
    "uniform_filter": lambda m, x, dtype: m.uniform_filter(x, 3, output=dtype),
    "uniform_filter1d": lambda m, x, dtype: m.uniform_filter1d(x, 1, output=dtype),
    "maximum_filter": lambda m, x, dtype: m.maximum_filter(x, 3, output=dtype),
    "footprint": lambda m, x, dtype: m.maximum_filter(x, footprint=CROSS, output=dtype),
    "median_filter": lambda m, x, dtype: m.median_filter(x, 3, output=dtype),
    "correlate": lambda m, x, dtype: m.correlate(x, [[0, 1], [0.5, 0]], output=dtype),
    "correlate1d": lambda m, x, dtype: m.correlate1d(x, [1, 0.25], output=dtype),
}


@pytest.mark.parametrize("name", OUT_OF_RANGE)
@pytest.mark.parametrize("dtype", "?bBhHiIlL")
def test_numbers_that_the_output_does_not_hold(name: str, dtype: str) -> None:
    """They wrap around as those of C on x86-64 do, in whatever way NumPy converts them."""
    call = OUT_OF_RANGE[name]
    for magnitude in (1e2, 1e4, 1e6, 3e9, 1e12, 8e18, 1.5e19, 1e25):
        numbers = np.random.default_rng(1).standard_normal((8, 60)) * magnitude
        actual = call(ndimage, numbers, np.dtype(dtype))
        expected = call(scipy_ndimage, numbers, np.dtype(dtype))
        assert actual.tobytes() == expected.tobytes()


@pytest.mark.parametrize("name", COMPLEX)
def test_complex_inputs_that_are_the_output(name: str) -> None:
    array = image("D") + 1j * image("d")[::-1]
    function = getattr(ndimage, name)
    expected = CALLS[name](function, array.copy())
    assert CALLS[name](function, array, output=array) is array
    assert np.array_equal(array, expected)


@pytest.mark.parametrize("name", ["correlate", "convolve", "correlate1d", "convolve1d"])
def test_complex_weights_where_the_output_is_the_input(name: str) -> None:
    """The real part of the output is written before the imaginary part is computed."""
    array = image("D")[0] + 1j * image("d")[1]
    weights = np.array([1, 2j, 3 - 1j])
    expected = getattr(scipy_ndimage, name)(array, weights)
    getattr(ndimage, name)(array, weights, output=array)
    np.testing.assert_allclose(array, expected, rtol=1e-13)


def test_weights_that_are_the_output() -> None:
    weights = np.random.default_rng(2).standard_normal(2000)
    array = np.random.default_rng(3).standard_normal(2000)
    expected = ndimage.correlate1d(array, weights.copy())
    ndimage.correlate1d(array, weights, output=weights)
    assert np.array_equal(weights, expected)


@pytest.mark.parametrize("name", ["gaussian_filter", "laplace", "uniform_filter", "prewitt"])
@pytest.mark.parametrize("dtype", ["e", "g"])
def test_dtypes_that_are_refused(name: str, dtype: str) -> None:
    for array, output, which in ((image(dtype), None, "input"), (image("f"), dtype, "output")):
        with pytest.raises(RuntimeError, match=rf"^{name}: array type .* of the {which} is not"):
            CALLS[name](getattr(ndimage, name), array, output=output and np.dtype(output))


def test_arrays_that_are_not_filtered() -> None:
    """Where no axis is left, the input is copied, and its dtype does not matter, as in SciPy."""
    for dtype in ("e", "g", "D"):
        array = image(dtype)
        assert np.array_equal(ndimage.gaussian_filter(array, 0), array)
    assert np.array_equal(ndimage.gaussian_filter(image("h"), 0, output=np.complex64), image("h"))


@pytest.mark.parametrize("name", ["grey_dilation", "maximum_filter", "rank_filter", "correlate"])
def test_footprints_along_axes_in_any_order(name: str) -> None:
    """SciPy's origins belong to the named axes, and its footprints to ascending ones."""
    rng = np.random.default_rng(4)
    array = rng.integers(-99, 99, (7, 8, 9))
    for axes in ((2, 1, 0), (1, 2, 0), (2, 0), (1, 0), (2,)):
        footprint = rng.random((5, 4, 3)[: len(axes)]) < 0.7
        origins = [1, -1, 0][: len(axes)]
        arguments: dict[str, Any] = {
            "rank_filter": {"rank": 3, "footprint": footprint},
            "correlate": {"weights": footprint * 2},
        }.get(name, {"footprint": footprint})
        for origin in (0, origins):
            expected = getattr(scipy_ndimage, name)(array, **arguments, axes=axes, origin=origin)
            actual = getattr(ndimage, name)(array, **arguments, axes=axes, origin=origin)
            assert np.array_equal(actual, expected)


def test_sigmas_of_axes_in_any_order() -> None:
    array = image("d")
    for axes in ((1, 0), (0, 1), (1,)):
        sigma = [1.0, 3.0][: len(axes)]
        np.testing.assert_allclose(
            ndimage.gaussian_laplace(array, sigma, axes=axes),
            scipy_ndimage.gaussian_laplace(array, sigma, axes=axes),
            atol=1e-11,
        )


@pytest.mark.parametrize(
    "name", ["prewitt", "sobel", "gaussian_filter", "convolve", "median_filter"]
)
def test_constants_that_no_integer_is(name: str) -> None:
    """They are not looked at in other modes, and need not be integers of any size."""
    array = image("b")
    for cval in (-1e20, 1e300, np.inf, np.nan):
        expected = CALLS[name](getattr(scipy_ndimage, name), array, cval=cval)
        assert np.array_equal(CALLS[name](getattr(ndimage, name), array, cval=cval), expected)


@pytest.mark.parametrize("name", ["grey_erosion", "grey_dilation"])
def test_structures_that_scipy_would_read_beyond(name: str) -> None:
    with pytest.raises(RuntimeError, match=rf"^{name}: structure must have the footprint's shape"):
        getattr(ndimage, name)(np.ones((5, 5)), footprint=CROSS, structure=KERNEL)
    with pytest.raises(ValueError, match=rf"^{name}: footprint must not be all zero"):
        getattr(ndimage, name)(np.ones((5, 5)), footprint=KERNEL * 0, structure=KERNEL)
