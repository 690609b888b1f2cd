"""Running means, maxima and minima, and grey-scale morphology, against SciPy and definitions."""

from __future__ import annotations

import sys
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage as scipy_ndimage

import fastconv
from fastconv import _scipy, ndimage

Array = npt.NDArray[Any]

INTEGERS = "bBhHiIlLqQ"
MODES = ["reflect", "mirror", "nearest", "wrap", "constant"]
OTHER_MODES = ["grid-mirror", "grid-wrap", "grid-constant"]
RECTANGLES = ["uniform_filter", "maximum_filter", "minimum_filter"]
ALONG_LINES = ["uniform_filter1d", "maximum_filter1d", "minimum_filter1d"]
FOOTPRINTS = ["maximum_filter", "minimum_filter", "grey_dilation", "grey_erosion"]
CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]])


def values(shape: tuple[int, ...], dtype: Any, seed: int = 0) -> Array:
    """Return numbers from the whole range of an integer dtype, or of a normal distribution."""
    rng = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    if dtype.kind == "c":
        return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(dtype)
    return rng.standard_normal(shape).astype(dtype)


def disk(radius: int) -> Array:
    """Return the neighbours within a distance."""
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    within: Array = x * x + y * y <= radius * radius
    return within


def assert_as_scipy(name: str, *args: Any, largest: float = 0.0, **kwargs: Any) -> None:
    """Compare a call with SciPy's: exactly, except for means that are floats."""
    actual = getattr(ndimage, name)(*args, **kwargs)
    expected = getattr(scipy_ndimage, name)(*args, **kwargs)
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    if name.startswith("uniform") and expected.dtype.kind in "fc":
        bound = 1e-6 if expected.dtype.char in "fF" else 1e-14
        largest = max(largest, np.abs(expected).max(initial=0))
        assert np.abs(actual - expected).max(initial=0) <= bound * largest
    elif expected.dtype == bool:
        assert np.array_equal(actual.view(np.uint8), expected.view(np.uint8))
    else:
        assert np.array_equal(actual, expected)


@pytest.fixture
def without_scipy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail calls that are handed to SciPy."""

    def refuse(name: str, argument: str, module: str = "") -> None:
        raise AssertionError(f"{name} was handed to SciPy for its {argument}")

    monkeypatch.setattr(_scipy, "scipy_function", refuse)
    monkeypatch.setattr("fastconv.ndimage._running.scipy_function", refuse)


@pytest.mark.usefixtures("level", "threads")
@pytest.mark.parametrize("name", RECTANGLES)
@pytest.mark.parametrize("dtype", [*INTEGERS, "f", "d", "?"])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 7, 9, 10, 13, 31, 101, 300])
def test_rectangles_are_scipys(name: str, dtype: str, size: int) -> None:
    shape = (61, 173)
    assert_as_scipy(name, values(shape, dtype), size, largest=1.0)


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("name", RECTANGLES)
@pytest.mark.parametrize("dtype", ["B", "h", "f", "d"])
@pytest.mark.parametrize("columns", [1, 2, 7, 15, 16, 17, 33, 63, 64, 65, 130, 257, 2100])
def test_rows_of_every_length(name: str, dtype: str, columns: int) -> None:
    """Rows are shorter than a vector, or end within one, or are filtered in several parts."""
    assert_as_scipy(name, values((9, columns), dtype), 5, largest=1.0)


@st.composite
def rectangle_calls(draw: st.DrawFn) -> tuple[Array, dict[str, Any]]:
    """Draw an array of any dtype and layout, and the arguments of a filter."""
    ndim = draw(st.integers(1, 4))
    shape = tuple(draw(st.integers(1, 12 if ndim > 2 else 40)) for _ in range(ndim))
    array = values(
        shape, draw(st.sampled_from([*INTEGERS, "f", "d", "?"])), draw(st.integers(0, 9))
    )
    layout = draw(st.sampled_from(["C", "F", "swapped", "reversed", "unaligned"]))
    if layout == "F":
        array = np.asfortranarray(array)
    elif layout == "swapped":
        array = array.astype(array.dtype.newbyteorder())
    elif layout == "reversed":
        array = array[::-1]
    elif layout == "unaligned":
        memory = np.empty(array.nbytes + 1, np.uint8)
        memory[1:] = np.frombuffer(array.tobytes(), np.uint8)
        array = memory[1:].view(array.dtype).reshape(shape)
    axes = tuple(draw(st.permutations(range(ndim)))[: draw(st.integers(1, ndim))])
    sizes = [draw(st.integers(1, 15)) for _ in axes]
    return array, {
        "size": sizes,
        "axes": axes,
        "mode": [draw(st.sampled_from([*MODES, *OTHER_MODES[:1]])) for _ in axes],
        "origin": [draw(st.integers(-(size // 2), (size - 1) // 2)) for size in sizes],
        "cval": draw(st.sampled_from([0, 1, 2.5, -3, 1000.25])),
    }


@pytest.mark.parametrize("name", RECTANGLES)
@given(call=rectangle_calls())
def test_every_argument_of_rectangles(name: str, call: tuple[Array, dict[str, Any]]) -> None:
    array, arguments = call
    assert_as_scipy(name, array, largest=1e3, **arguments)


@pytest.mark.parametrize("name", RECTANGLES)
@given(
    call=rectangle_calls(),
    dtype=st.sampled_from([*INTEGERS, "f", "d", "?"]),
    how=st.sampled_from(["dtype", "array", "strided"]),
)
def test_outputs_of_every_dtype(
    name: str, call: tuple[Array, dict[str, Any]], dtype: str, how: str
) -> None:
    """Each pass is converted to the output's dtype, as C converts a float64 in its range."""
    array, arguments = call
    if array.dtype.kind == "f":
        array = np.abs(array) * 30  # What is beyond an integer's range is not C's to define.
    else:
        array = array // 4 if array.dtype != bool else array
        array = np.abs(array.astype(np.int8)).astype(array.dtype)
    arguments["cval"] = abs(arguments["cval"]) % 100
    if how == "dtype":
        assert_as_scipy(name, array, output=np.dtype(dtype), largest=1e3, **arguments)
        return
    outputs = [np.zeros((*array.shape, 2), dtype) for _ in range(2)]
    if how == "array":
        outputs = [np.ascontiguousarray(out[..., 0]) for out in outputs]
    else:
        outputs = [out[..., 1] for out in outputs]
    results = [
        getattr(module, name)(array, output=out, **arguments)
        for module, out in zip((ndimage, scipy_ndimage), outputs, strict=True)
    ]
    assert results[0] is outputs[0]
    actual, expected = outputs
    if dtype in "fd" and name == "uniform_filter":
        bound = (1e-6 if dtype == "f" else 1e-14) * 1e3
        assert np.abs(actual - expected).max(initial=0) <= bound
    else:
        assert actual.tobytes() == expected.tobytes()


@pytest.mark.parametrize("name", ALONG_LINES)
@pytest.mark.parametrize("mode", [*MODES, *OTHER_MODES])
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_lines_along_every_axis(name: str, mode: str, axis: int) -> None:
    array = values((7, 30, 3), np.int16)
    for size, origin in ((1, 0), (4, -2), (5, 2), (64, 31)):
        if mode in ("grid-wrap", "grid-constant") and name != "uniform_filter1d":
            expected = getattr(scipy_ndimage, name)(
                array, size, axis, mode=mode.removeprefix("grid-"), origin=origin, cval=9
            )
            actual = getattr(ndimage, name)(array, size, axis, mode=mode, origin=origin, cval=9)
            assert np.array_equal(actual, expected)
        else:
            assert_as_scipy(name, array, size, axis, mode=mode, origin=origin, cval=9)


@st.composite
def footprint_calls(draw: st.DrawFn) -> tuple[Array, dict[str, Any]]:
    """Draw an array of any dtype, a footprint with holes, and the arguments of a filter."""
    ndim = draw(st.integers(1, 4))
    shape = tuple(draw(st.integers(1, 9 if ndim > 2 else 50)) for _ in range(ndim))
    array = values(
        shape, draw(st.sampled_from([*INTEGERS, "f", "d", "?"])), draw(st.integers(0, 9))
    )
    axes = tuple(sorted(draw(st.permutations(range(ndim)))[: draw(st.integers(1, ndim))]))
    sizes = tuple(draw(st.integers(1, 9 if len(axes) < 3 else 4)) for _ in axes)
    chosen = np.random.default_rng(draw(st.integers(0, 99))).random(sizes)
    footprint = chosen < draw(st.sampled_from([0.2, 0.6, 0.9]))
    footprint.flat[0] = True
    return array, {
        "footprint": footprint,
        "axes": axes,
        "mode": draw(st.sampled_from(MODES)),
        "cval": draw(st.sampled_from([0, 1, 2.5, -3])),
        "output": draw(st.sampled_from([None, None, np.float32, np.int64])),
    }


@pytest.mark.usefixtures("level", "threads")
@pytest.mark.parametrize("name", FOOTPRINTS)
@given(call=footprint_calls())
def test_footprints_are_scipys(name: str, call: tuple[Array, dict[str, Any]]) -> None:
    assert_as_scipy(name, call[0], **call[1])


@pytest.mark.usefixtures("level", "threads")
@pytest.mark.parametrize("dtype", ["B", "h", "f", "d"])
@pytest.mark.parametrize("footprint", [CROSS, disk(4), disk(15), disk(3)[:, :4]])
@pytest.mark.parametrize("mode", MODES)
def test_disks_of_images(dtype: str, footprint: Array, mode: str) -> None:
    """Images are cut into bands and strips, most of which see no border."""
    assert_as_scipy(
        "maximum_filter", values((90, 1111), dtype), footprint=footprint, mode=mode, cval=2
    )


@pytest.mark.parametrize("name", ["grey_dilation", "grey_erosion"])
@pytest.mark.parametrize("size", [3, 4, (2, 5), (1, 6)])
def test_morphology_with_a_size(name: str, size: Any) -> None:
    """The dilation mirrors windows of even size."""
    array = values((20, 33), np.uint8)
    assert_as_scipy(name, array, size)
    assert_as_scipy(name, array, size, origin=(0, -1), mode="constant", cval=7)
    assert_as_scipy(name, array, size, axes=(1, 0))


@pytest.mark.parametrize("name", ["grey_dilation", "grey_erosion"])
@pytest.mark.parametrize("dtype", ["B", "f"])
def test_a_structure_is_handed_to_scipy(
    name: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    array, structure = values((20, 33), dtype), np.arange(9).reshape(3, 3)
    assert_as_scipy(name, array, structure=structure, origin=1)
    assert_as_scipy(name, array, footprint=CROSS, structure=structure)
    monkeypatch.setitem(sys.modules, "scipy.ndimage", None)
    with pytest.raises(ImportError, match=f"^{name}: structure needs SciPy"):
        getattr(ndimage, name)(array, structure=structure)


@pytest.mark.usefixtures("without_scipy")
def test_what_runs_on_the_kernels() -> None:
    for dtype in [*INTEGERS, "f", "d", "?", ">i4"]:
        array = values((12, 34), np.dtype(dtype).newbyteorder("=")).astype(dtype)
        for name in RECTANGLES:
            getattr(ndimage, name)(array, 3)
            getattr(ndimage, name)(array, 3, output=np.float64)
        for name in FOOTPRINTS:
            getattr(ndimage, name)(array, footprint=CROSS)


@pytest.mark.parametrize("name", [*RECTANGLES, *FOOTPRINTS])
def test_the_output_may_be_the_input(name: str) -> None:
    expected = values((50, 70), np.uint8)
    call = {"footprint": CROSS} if name in FOOTPRINTS else {"size": 5}
    array = expected.copy()
    result = getattr(ndimage, name)(array, output=array, **call)
    assert result is array
    assert np.array_equal(array, getattr(scipy_ndimage, name)(expected, **call))
    shifted = np.concatenate([expected, expected[:1]])
    getattr(ndimage, name)(shifted[:-1], output=shifted[1:], **call)
    assert np.array_equal(shifted[1:], array)


@pytest.mark.parametrize("name", [*RECTANGLES, *FOOTPRINTS])
@pytest.mark.parametrize("dtype", ["B", "f", "d"])
def test_results_do_not_depend_on_threads(name: str, dtype: str) -> None:
    array = values((257, 1030), dtype)
    array[::3, ::5] *= 0
    if dtype != "B":
        array[1::3, ::7] *= -0.0
    call = {"footprint": disk(5)} if name in FOOTPRINTS else {"size": 11}
    results = []
    for number in (1, 2, 3, 7):
        with fastconv.num_threads(number):
            results.append(getattr(ndimage, name)(array, **call).tobytes())
    assert len(set(results)) == 1


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("dtype", ["f", "d"])
@pytest.mark.parametrize("size", [2, 3, 4, 5, 9, 31, 40])
@pytest.mark.parametrize("name", ["maximum_filter", "minimum_filter"])
def test_nan_is_the_extreme_of_its_windows(name: str, size: int, dtype: str) -> None:
    array = values((60, 90), dtype)
    rng = np.random.default_rng(3)
    array[rng.integers(0, 60, 12), rng.integers(0, 90, 12)] = np.nan
    array[20, 30], array[40, 50] = np.inf, -np.inf
    is_nan = scipy_ndimage.maximum_filter(np.isnan(array).astype(np.uint8), size)
    filled = np.where(np.isnan(array), 0, array)
    expected = getattr(scipy_ndimage, name)(filled, size)
    with_nan = getattr(ndimage, name)(array, size)
    assert np.array_equal(np.isnan(with_nan), is_nan)
    # Where there is no NaN in the window, the others are compared as ever.
    assert np.array_equal(with_nan[is_nan == 0], expected[is_nan == 0])


@pytest.mark.parametrize("name", ["maximum_filter", "minimum_filter"])
def test_nan_is_the_extreme_of_its_footprints(name: str) -> None:
    array = values((40, 50), np.float32)
    array[5, 7] = array[30, 44] = np.nan
    footprint = disk(3)
    is_nan = scipy_ndimage.maximum_filter(np.isnan(array).astype(np.uint8), footprint=footprint)
    result = getattr(ndimage, name)(array, footprint=footprint)
    assert np.array_equal(np.isnan(result), is_nan)


@pytest.mark.usefixtures("level", "threads")
@pytest.mark.parametrize("dtype", ["f", "d"])
@pytest.mark.parametrize("size", [2, 3, 5, 8, 21])
@pytest.mark.parametrize("name", ["maximum_filter", "minimum_filter"])
def test_zeros_have_the_sign_of_scipys(name: str, size: int, dtype: str) -> None:
    zeros = np.where(np.random.default_rng(2).random((50, 80)) < 0.5, 0.0, -0.0).astype(dtype)
    result, expected = (getattr(module, name)(zeros, size) for module in (ndimage, scipy_ndimage))
    assert np.array_equal(np.signbit(result), np.signbit(expected))


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("dtype", ["f", "d"])
@pytest.mark.parametrize("size", [3, 7, 31])
def test_a_nan_spoils_only_the_means_of_its_windows(size: int, dtype: str) -> None:
    array = values((70, 300), dtype)
    for value in (np.nan, np.inf):
        spoilt = array.copy()
        spoilt[30, 100] = value
        result = ndimage.uniform_filter(spoilt, size)
        expected = ndimage.uniform_filter(array, size)
        is_spoilt = scipy_ndimage.maximum_filter((spoilt != array).astype(np.uint8), size) > 0
        assert not np.isfinite(result[is_spoilt]).any()
        assert np.array_equal(result[~is_spoilt], expected[~is_spoilt])


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("dtype", ["f", "d"])
@pytest.mark.parametrize("size", [3, 4, 9, 31, 33])
def test_means_do_not_depend_on_the_number_of_threads(size: int, dtype: str) -> None:
    """Rows are added block by block, and threads take bands of blocks."""
    array = values((421, 190), dtype)
    for filtered in (ndimage.uniform_filter, partial(ndimage.uniform_filter1d, axis=0)):
        results = []
        for threads in (1, 2, 3, 5):
            with fastconv.num_threads(threads):
                results.append(filtered(array, size).tobytes())
        assert len(set(results)) == 1


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize(("dtype", "bound"), [("f", 2.0**-23), ("d", 2.0**-51)])
@pytest.mark.parametrize("size", [3, 10, 31, 100, 1001])
def test_means_do_not_drift(size: int, dtype: str, bound: float) -> None:
    """The errors at the end of a long line are those of one mean."""
    line = (values((20_000,), dtype) + 100).astype(dtype)
    for array in (line, np.ascontiguousarray(np.repeat(line[:, None], 17, 1))):
        result = ndimage.uniform_filter1d(array, size, axis=0).reshape(len(line), -1)[:, 0]
        for i in (size, 9_999, 19_990 - size):
            window = line[i - size // 2 : i - size // 2 + size]
            exact = sum(map(Fraction, window.tolist()), Fraction(0)) / size
            assert abs(Fraction(float(result[i])) - exact) <= Fraction(bound * 101)


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("dtype", ["B", "h", "i", "f", "d"])
def test_the_mean_of_equal_numbers_is_close_to_this_number(dtype: str) -> None:
    for size in range(1, 40):
        array = np.full((9, 70), 0.1 if dtype in "fd" else 77, dtype)
        result = ndimage.uniform_filter(array, size)
        rounding = np.spacing(array[0, 0]) if dtype in "fd" else 0
        assert np.abs(result - array).max() <= 4 * rounding


@pytest.mark.usefixtures("level")
@pytest.mark.parametrize("dtype", ["b", "B", "h", "H", "i", "I"])
def test_every_quotient_is_exact(dtype: str) -> None:
    """Sums of the largest numbers, and those around a multiple of the size."""
    limits = np.iinfo(dtype)
    for size in [*range(2, 70), 100, 127, 128, 129, 255, 256, 257, 258, 1000]:
        line = np.zeros(4 * size, dtype)
        line[: size + 1], line[2 * size :: 3] = limits.max, limits.min
        line[size : 2 * size] = np.arange(size) % 5
        assert_as_scipy("uniform_filter1d", line, size)
        columns = np.ascontiguousarray(np.repeat(line[:, None], 40, 1))
        assert_as_scipy("uniform_filter1d", columns, size, 0)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_zeros_beyond_the_borders_keep_their_signs(dtype: str) -> None:
    """Constants are kept from call to call, and zeros of both signs are equal."""
    array = np.full(2, -1, dtype)
    for cval in (0.0, -0.0, 0.0):
        result = ndimage.maximum_filter1d(array, 3, mode="constant", cval=cval)
        assert np.array_equal(np.signbit(result), np.signbit(np.full(2, cval)))


def test_complex_means() -> None:
    for dtype in ("F", "D"):
        array = values((20, 30), dtype)
        assert_as_scipy("uniform_filter", array, 4, mode="constant", cval=1 + 2j)
        assert_as_scipy("uniform_filter1d", array, 4)
    with pytest.warns(UserWarning, match="complex"):
        assert ndimage.uniform_filter(array, 3, output=np.float32).dtype == np.complex64


def test_integers_beyond_float64() -> None:
    """SciPy rounds 64-bit integers to float64, and so do these functions."""
    array = values((30, 40), np.int64)
    for name in RECTANGLES:
        assert_as_scipy(name, array, 3)
        assert_as_scipy(name, array.view(np.uint64) // 2, 3)
    assert_as_scipy("maximum_filter", array, footprint=CROSS)


def test_degenerate_arrays() -> None:
    for name in RECTANGLES:
        function: Callable[..., Array] = getattr(ndimage, name)
        assert function(np.float32(3), 3) == 3
        assert function(np.zeros((0, 4), np.int16), 3).shape == (0, 4)
        assert function([[1, 2], [3, 5]], 1).tolist() == [[1, 2], [3, 5]]
        assert function(np.arange(6).reshape(2, 3), 3, axes=()).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert ndimage.maximum_filter(np.zeros((0, 4)), footprint=CROSS).shape == (0, 4)


REFUSED = [
    ("uniform_filter1d", ([1], 0), {}, RuntimeError, "size must be at least 1, got 0"),
    ("uniform_filter1d", ([1], 3), {"origin": 2}, ValueError, "origin must lie from -1 to 1"),
    ("uniform_filter1d", ([1], 3), {"mode": "x"}, RuntimeError, "mode must be one of"),
    ("uniform_filter1d", ([1], 3.0), {}, TypeError, "size must be an int, got 3.0"),
    ("maximum_filter1d", ([1], 3, 1), {}, np.exceptions.AxisError, "axis 1 is out of bounds"),
    ("maximum_filter1d", ([1j], 3), {}, TypeError, "input must be real"),
    ("minimum_filter1d", ([1], 3), {"output": np.zeros(2)}, RuntimeError, "input's shape"),
    ("maximum_filter", ([1],), {}, RuntimeError, "give size or footprint"),
    ("maximum_filter", ([1],), {"footprint": [0]}, ValueError, "All-zero footprint"),
    ("maximum_filter", ([1],), {"footprint": CROSS}, RuntimeError, "must match len"),
    ("maximum_filter", ([1],), {"size": (3, 3)}, RuntimeError, "size must have a value"),
    ("minimum_filter", ([[1]],), {"footprint": CROSS, "mode": ["wrap"] * 2}, RuntimeError, "modes"),
    ("minimum_filter", ([[1]],), {"footprint": CROSS, "origin": 2}, ValueError, "origin must lie"),
    ("minimum_filter", ([1j], 3), {}, TypeError, "input must be real"),
    ("grey_erosion", ([1],), {}, ValueError, "size, footprint or structure"),
    ("grey_dilation", ([1],), {"footprint": CROSS}, RuntimeError, "footprint must have 1"),
    ("uniform_filter", (np.zeros(3, np.float16),), {}, RuntimeError, "not supported"),
    ("maximum_filter", ([1], 3), {"axes": 1}, ValueError, "axes"),
]


@pytest.mark.parametrize(("name", "args", "kwargs", "error", "message"), REFUSED)
def test_refused(
    name: str, args: Any, kwargs: dict[str, Any], error: type[Exception], message: str
) -> None:
    """Errors are of SciPy's types, and say what is wrong."""
    with pytest.raises(error, match=message):
        getattr(ndimage, name)(*args, **kwargs)
    with pytest.raises(error):
        getattr(scipy_ndimage, name)(*args, **kwargs)


def test_a_footprint_has_precedence() -> None:
    with pytest.warns(UserWarning, match="ignoring size because footprint is set"):
        ndimage.maximum_filter([[1]], 3, CROSS)


@pytest.mark.parametrize("name", ["maximum_filter1d", "minimum_filter1d"])
@pytest.mark.parametrize("mode", MODES)
def test_windows_many_times_longer_than_the_axis(name: str, mode: str) -> None:
    """They are as fast as short ones, since an axis is periodic beyond its ends."""
    for length in (1, 2, 3, 7):
        array = values((4, length), "d", seed=length) * np.array([[1], [1], [0], [-0.0]])
        for size in (*range(4 * length, 12 * length + 3), 1001):
            for origin in (0, -(size // 2), (size - 1) // 2, size // 3):
                assert_as_scipy(name, array, size, -1, None, mode, -1.5, origin)
    assert ndimage.maximum_filter1d(np.arange(4), 10**12, mode=mode).tolist() == [3] * 4
