"""Separable linear filters, against SciPy: integers and float64 are equal, float32 almost."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import scipy.ndimage
from helpers import EDGE_SIZES, Array, Shape, guarded, run_python
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import DTypeLike

import fastconv
from fastconv import ndimage
from fastconv.ndimage._arguments import MODES

DTYPES = [np.dtype(char) for char in "?bhilqBHILQfd"]
"""A call of a filter, given the module that has it."""


def values(shape: Shape, dtype: DTypeLike, seed: int = 0) -> Array:
    """Draw smooth values, as images have, with noise; flat and extreme ones for some seeds."""
    dtype, rng = np.dtype(dtype), np.random.default_rng(seed)
    if dtype.kind == "c":
        drawn: Array = (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(dtype)
        return drawn
    if dtype.kind in "iu" and seed % 4 == 0:
        info = np.iinfo(dtype)
        whole: Array = rng.integers(info.min, info.max, shape, dtype, endpoint=True)
        return whole
    smooth = sum(np.sin(0.3 * i + index) for index, i in enumerate(np.indices(shape)))
    noisy = 40 * np.asarray(smooth) + (60 if dtype.kind in "ub" else 0)
    if seed % 4 != 1:
        noisy = noisy + rng.normal(0, 9, shape)
    result: Array = np.maximum(noisy, 0 if dtype.kind in "ub" else -127).astype(dtype)
    return result


def assert_scipy(call: Any) -> Array:
    """Compare a call with SciPy's: all but float32 results must have the same bits."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # Those of NumPy's operations on integers that wrap around.
        expected, actual = call(scipy.ndimage), call(ndimage)
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    if actual.dtype in (np.float32, np.complex64):
        tolerance = 1e-6 * float(np.abs(expected).max(initial=0))
        np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance)
    elif actual.dtype.kind in "fc":
        tolerance = 1e-14 * float(np.abs(expected).max(initial=0))
        np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance)
    else:
        assert actual.tobytes() == expected.tobytes()
    result: Array = actual
    return result


@st.composite
def arrays(draw: st.DrawFn, dtypes: Any = DTYPES) -> Array:
    """Draw an array of 1 to 4 dimensions, of any layout."""
    ndim = draw(st.integers(1, 4))
    longest = (300, 70, 20, 9)[ndim - 1]
    shape = tuple(draw(st.lists(st.integers(1, longest), min_size=ndim, max_size=ndim)))
    array = values(shape, draw(st.sampled_from(dtypes)), draw(st.integers(0, 7)))
    layout = draw(st.sampled_from(["C", "F", "reversed", "every other", "swapped"]))
    if layout == "F":
        return np.asfortranarray(array)
    if layout == "reversed":
        return array[::-1]
    if layout == "every other":
        return np.repeat(array, 2, axis=-1)[..., ::2]
    return array.astype(array.dtype.newbyteorder()) if layout == "swapped" else array


MODE = st.sampled_from(sorted(MODES))
CVAL = st.sampled_from([0.0, 1.0, -3.0, 2.5, 0.1, 1000.0])


@st.composite
def weights(draw: st.DrawFn) -> Array:
    """Draw weights: floats or integers, of all symmetries, few or many."""
    size = draw(st.one_of(st.integers(1, 9), st.integers(10, 80)))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    drawn = rng.standard_normal(size)
    if draw(st.booleans()):
        drawn = np.rint(2 * drawn)
    kind = draw(st.sampled_from(["general", "symmetric", "antisymmetric"]))
    if kind != "general":
        drawn = drawn + drawn[::-1] if kind == "symmetric" else drawn - drawn[::-1]
    return drawn


@given(st.data())
@pytest.mark.parametrize("name", ["correlate1d", "convolve1d"])
def test_weights(level: str, threads: int, name: str, data: st.DataObject) -> None:
    array, factors = data.draw(arrays()), data.draw(weights())
    axis = data.draw(st.integers(-array.ndim, array.ndim - 1))
    half = len(factors) // 2
    low, high = -half, (len(factors) - 1) // 2
    if name == "convolve1d":
        low, high = -high, half
        high -= 1 - len(factors) % 2
        low -= 1 - len(factors) % 2
    origin = data.draw(st.integers(low, high))
    output = data.draw(st.sampled_from([None, *DTYPES]))
    mode, cval = data.draw(MODE), data.draw(CVAL)
    assert_scipy(lambda of: getattr(of, name)(array, factors, axis, output, mode, cval, origin))


@given(st.data())
def test_gaussians(level: str, threads: int, data: st.DataObject) -> None:
    array = data.draw(arrays())
    axes = data.draw(
        st.lists(st.integers(0, array.ndim - 1), min_size=0, max_size=array.ndim, unique=True)
    )
    size = len(axes)

    def per_axis(strategy: Any) -> Any:
        return data.draw(st.one_of(strategy, st.lists(strategy, min_size=size, max_size=size)))

    sigma = per_axis(st.sampled_from([0, 0.4, 1.0, 2.0, 5.5]))
    order = per_axis(st.sampled_from([0, 0, 0, 1, 2, 3]))
    radius = per_axis(st.sampled_from([None, 0, 1, 7]))
    mode, cval = per_axis(MODE), data.draw(CVAL)
    output = data.draw(st.sampled_from([None, None, *DTYPES]))
    truncate = data.draw(st.sampled_from([4.0, 1.5]))
    assert_scipy(
        lambda of: of.gaussian_filter(
            array, sigma, order, output, mode, cval, truncate, radius=radius, axes=axes
        )
    )


@given(st.data())
@pytest.mark.parametrize("name", ["sobel", "prewitt"])
def test_edges(level: str, threads: int, name: str, data: st.DataObject) -> None:
    array = data.draw(arrays())
    axis = data.draw(st.integers(-array.ndim, array.ndim - 1))
    mode = data.draw(st.one_of(MODE, st.lists(MODE, min_size=array.ndim, max_size=array.ndim)))
    output, cval = data.draw(st.sampled_from([None, None, *DTYPES])), data.draw(CVAL)
    assert_scipy(lambda of: getattr(of, name)(array, axis, output, mode, cval))


@given(st.data())
@pytest.mark.parametrize("name", ["laplace", "gaussian_laplace", "gaussian_gradient_magnitude"])
def test_sums_of_derivatives(level: str, threads: int, name: str, data: st.DataObject) -> None:
    array = data.draw(arrays())
    axes: Any = None
    if name != "gaussian_gradient_magnitude":  # SciPy's derivatives fail for a part of the axes.
        axes = data.draw(
            st.one_of(st.none(), st.lists(st.integers(0, array.ndim - 1), unique=True))
        )
    sigma = () if name == "laplace" else (data.draw(st.sampled_from([0, 0.6, 1.5])),)
    output, cval = data.draw(st.sampled_from([None, None, *DTYPES])), data.draw(CVAL)
    size = array.ndim if axes is None else len(axes)
    mode = data.draw(st.one_of(MODE, st.lists(MODE, min_size=size, max_size=size)))
    assert_scipy(lambda of: getattr(of, name)(array, *sigma, output, mode, cval, axes=axes))


CALLS: dict[str, Any] = {
    "correlate1d": lambda of: of.correlate1d,
    "convolve1d": lambda of: of.convolve1d,
    "gaussian_filter1d": lambda of: lambda array, **rest: of.gaussian_filter1d(array, 1.2, **rest),
    "gaussian_filter": lambda of: lambda array, **rest: of.gaussian_filter(array, 1.2, **rest),
    "sobel": lambda of: of.sobel,
    "prewitt": lambda of: of.prewitt,
    "laplace": lambda of: of.laplace,
    "gaussian_laplace": lambda of: lambda array, **rest: of.gaussian_laplace(array, 1.2, **rest),
    "gaussian_gradient_magnitude": lambda of: (
        lambda array, **rest: of.gaussian_gradient_magnitude(array, 1.2, **rest)
    ),
}
"""The filters with the arguments that they need, to be called with an array and keywords."""
for each in ("correlate1d", "convolve1d"):
    CALLS[each] = lambda of, name=each: (
        lambda array, **rest: getattr(of, name)(array, [0.3, -1.0, 0.5, 0.25], **rest)
    )


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("width", EDGE_SIZES)
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64"])
def test_widths_around_vectors(level: str, threads: int, name: str, width: int, dtype: str) -> None:
    """Rows of every length around that of a vector, in memory whose borders are watched."""
    image = values((11, width), dtype, 2)
    expected = CALLS[name](scipy.ndimage)(image)
    with guarded(image.shape, dtype) as out:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = CALLS[name](ndimage)(image, output=out)
        assert result is out
        scale = float(np.abs(expected.astype(np.float64)).max())
        exact = np.dtype(dtype).kind in "iu"
        np.testing.assert_allclose(out, expected, rtol=0, atol=0 if exact else 1e-6 * scale)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
@pytest.mark.parametrize(
    "shape", [(3, 5000), (300, 70), (40, 50, 3), (6000,), (2, 9, 300), (900, 5)]
)
@pytest.mark.parametrize("name", CALLS)
def test_results_do_not_depend_on_threads(level: str, shape: Shape, dtype: str, name: str) -> None:
    array = values(shape, dtype, 2)
    results = []
    for threads in (1, 2, 5):
        with fastconv.num_threads(threads), np.errstate(all="ignore"):
            results.append(CALLS[name](ndimage)(array).tobytes())
    assert len(set(results)) == 1
    with np.errstate(all="ignore"):
        assert_scipy(lambda of: CALLS[name](of)(array))


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_output_arrays(level: str, name: str, dtype: str) -> None:
    """Results go into arrays of any strides and dtype, also into the input itself."""
    image = values((30, 41), dtype, 3)
    call = CALLS[name]
    expected = call(ndimage)(image)
    for out in (
        np.empty((30, 82), dtype)[:, ::2],
        np.empty((30, 41), dtype, "F"),
        np.empty((30, 41), np.dtype(dtype).newbyteorder()),
    ):
        assert call(ndimage)(image, output=out) is out
        np.testing.assert_array_equal(out, expected)
    inside = image.copy()
    assert call(ndimage)(inside, output=inside) is inside
    np.testing.assert_array_equal(inside, expected)
    both = np.zeros((31, 41), dtype)
    both[1:] = image
    call(ndimage)(both[1:], output=both[:-1])
    np.testing.assert_array_equal(both[:-1], expected)
    assert_scipy(lambda of: call(of)(image, output="float64"))
    assert_scipy(lambda of: call(of)(image.tolist(), output=np.float32))


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@pytest.mark.parametrize("kind", ["flat", "ramp", "steps", "noise"])
def test_bytes_are_exact(level: str, dtype: str, kind: str) -> None:
    """Sums of bytes are computed in float32, and those close to an integer once more."""
    y, x = np.indices((70, 300))
    drawn = {
        "flat": np.full((70, 300), 77),
        "ramp": (x + y) // 3,
        "steps": (x // 150) * 99 + (y // 40) * 20,
        "noise": np.random.default_rng(1).integers(0, 127, (70, 300)),
    }[kind]
    image = drawn.astype(dtype)
    for sigma in (0.5, 1.0, 2.0, 3.7):
        for mode in ("reflect", "constant"):
            assert_scipy(lambda of, s=sigma, m=mode: of.gaussian_filter(image, s, mode=m, cval=1.5))
    box = np.full(9, 1 / 9)  # Sums of equal bytes are integers, or a little below.
    assert_scipy(lambda of: of.correlate1d(image, box, axis=0))
    assert_scipy(lambda of: of.correlate1d(image, box, axis=1))


def test_bytes_with_cancelling_weights(level: str) -> None:
    image = values((40, 200), "uint8", 2)
    for factors in ([-0.1, 1.2, -0.1], [0.5, -0.5], [30.0, 1e-17, -30.0], [1e-30, 1.0]):
        assert_scipy(lambda of, w=factors: of.correlate1d(image, w))
        assert_scipy(lambda of, w=factors: of.correlate1d(image, w, axis=0))


@pytest.mark.parametrize("output", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64"])
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "uint64"])
def test_integers_wrap_around_as_in_scipy(level: str, dtype: str, output: str) -> None:
    image = values((20, 70), dtype, 4)
    for factors in ([1, 2, 1], [-1, 0, 1], [3, -5, 2, 1], [1 << 20, 7, 1 << 20]):
        assert_scipy(lambda of, w=factors: of.correlate1d(image, w, output=output))
    assert_scipy(lambda of: of.sobel(image, output=output))
    assert_scipy(lambda of: of.prewitt(image, 0, output=output, mode="constant", cval=300))
    assert_scipy(lambda of: of.laplace(image, output=output))


def test_a_large_offset(level: str) -> None:
    """Derivatives of float32 are not those of rounded sums."""
    image = (1e5 + values((60, 80), "float64", 2)).astype(np.float32)
    for name in ("sobel", "prewitt", "laplace", "gaussian_laplace", "gaussian_gradient_magnitude"):
        assert_scipy(lambda of, n=name: CALLS[n](of)(image))
    assert_scipy(lambda of: of.gaussian_filter(image, 2, order=(0, 1)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nan_and_infinity_spread_as_in_scipy(level: str, dtype: str) -> None:
    image = values((40, 90), dtype, 2)
    image[5, 7], image[20, 60], image[33, 2] = np.nan, np.inf, -np.inf
    for name, call in CALLS.items():
        with np.errstate(all="ignore"):
            expected, actual = call(scipy.ndimage)(image), call(ndimage)(image)
        np.testing.assert_array_equal(np.isnan(actual), np.isnan(expected), name)
        np.testing.assert_array_equal(np.isposinf(actual), np.isposinf(expected), name)


@pytest.mark.parametrize("input_dtype", ["float32", "complex64", "complex128", "int16"])
def test_complex_numbers(input_dtype: str) -> None:
    array = values((9, 30), input_dtype, 2)
    factors = np.array([1 + 2j, -0.5j, 0.25])
    cval = 1 - 2j if array.dtype.kind == "c" else 1.5
    for name in ("correlate1d", "convolve1d"):
        assert_scipy(lambda of, n=name: getattr(of, n)(array, factors, mode="constant", cval=cval))
    if array.dtype.kind == "c":
        for name, call in CALLS.items():
            if name != "gaussian_gradient_magnitude":
                assert_scipy(lambda of, c=call: c(of)(array, mode="constant", cval=cval))
        inside = array.copy()
        ndimage.correlate1d(inside, factors, output=inside)
        np.testing.assert_array_equal(inside, ndimage.correlate1d(array, factors))


@pytest.mark.parametrize("shape", [(0,), (0, 5), (5, 0), (3, 0, 4)])
@pytest.mark.parametrize("name", CALLS)
def test_empty_arrays(name: str, shape: Shape) -> None:
    result = CALLS[name](ndimage)(np.zeros(shape, np.float32))
    assert result.shape == shape
    assert result.dtype == np.float32


def test_zero_dimensions() -> None:
    for name in ("gaussian_filter", "laplace", "gaussian_laplace", "gaussian_gradient_magnitude"):
        assert_scipy(lambda of, n=name: CALLS[n](of)(np.float64(3.5)))
    for name in ("correlate1d", "gaussian_filter1d", "sobel"):
        with pytest.raises(np.exceptions.AxisError):
            CALLS[name](ndimage)(np.float64(3.5))


@pytest.mark.parametrize("size", [5, 40, 1001])
@pytest.mark.parametrize("mode", sorted(set(MODES.values())))
def test_filters_longer_than_the_array(level: str, mode: str, size: int) -> None:
    image = values((3, 20), "float64", 2)
    factors = np.random.default_rng(0).standard_normal(size)
    for axis in (0, 1):
        assert_scipy(lambda of, a=axis: of.correlate1d(image, factors, a, mode=mode, cval=2.0))
    assert_scipy(lambda of: of.gaussian_filter(image.astype(np.uint8), 30, mode=mode, cval=2.0))


def test_colours_are_not_mixed(level: str) -> None:
    image = values((50, 60, 3), "uint8", 2)
    for call in (
        lambda of: of.gaussian_filter(image, 2, axes=(0, 1)),
        lambda of: of.gaussian_filter(image, (2, 2, 0)),
        lambda of: of.gaussian_filter(image, (1, 2), axes=(1, 0)),
    ):
        result = assert_scipy(call)
        one = ndimage.gaussian_filter(image[..., 1], 2)
        assert result.shape == image.shape
    np.testing.assert_array_equal(ndimage.gaussian_filter(image, (2, 2, 0))[..., 1], one)


def test_wide_rows_need_no_more_memory(level: str) -> None:
    """Two passes over rows that do not fit into the caches run one after the other."""
    array = values((4, 70000), "float64", 2)
    assert_scipy(lambda of: of.gaussian_filter(array, 1.0))
    assert_scipy(lambda of: of.sobel(array))
    assert_scipy(lambda of: of.laplace(array))


def test_scipy_is_not_needed() -> None:
    """No call is handed to SciPy, which cannot be imported here."""
    result = run_python(
        "import sys; sys.modules['scipy'] = None\n"
        "import numpy as np\n"
        "from fastconv import ndimage\n"
        "for dtype in '?bhilqBHILQfdFD':\n"
        "    x = np.ones((8, 20), dtype)\n"
        "    ndimage.correlate1d(x, [1, 2]); ndimage.convolve1d(x, [1j, 2])\n"
        "    ndimage.gaussian_filter1d(x, 1); ndimage.gaussian_filter(x, 1, mode='wrap')\n"
        "    ndimage.sobel(x); ndimage.prewitt(x); ndimage.laplace(x)\n"
        "    ndimage.gaussian_laplace(x, 1)\n"
        "    ndimage.gaussian_gradient_magnitude(x, 1)\n"
        "print('done')"
    )
    assert result.stdout.split() == ["done"], result.stderr


X = np.ones((4, 5), np.float32)


@pytest.mark.parametrize(
    ("error", "message", "name", "args", "keywords"),
    [
        (RuntimeError, r"correlate1d: weights must be a vector", "correlate1d", (X, []), {}),
        (RuntimeError, r"correlate1d: weights must be a vector", "correlate1d", (X, [[1]]), {}),
        (RuntimeError, r"convolve1d: weights must be a vector", "convolve1d", (X, []), {}),
        (ValueError, r"correlate1d: origin must lie from -1 to 1", "correlate1d", (X, [1, 2, 3]),
         {"origin": 2}),
        (RuntimeError, r"correlate1d: mode must be one of .*got 'edge'", "correlate1d", (X, [1]),
         {"mode": "edge"}),
        (RuntimeError, r"correlate1d: output must have the input's shape", "correlate1d", (X, [1]),
         {"output": np.empty((5, 4))}),
        (RuntimeError, r"correlate1d: array type .*float16.* is not supported", "correlate1d",
         (X.astype(np.float16), [1]), {}),
        (RuntimeError, r"sobel: array type .*float16.* is not supported", "sobel", (X,),
         {"output": np.float16}),
        (RuntimeError, r"correlate1d: output must have a complex dtype", "correlate1d", (X, [1j]),
         {"output": np.empty((4, 5))}),
        (RuntimeError, r"gaussian_filter: output must have a complex", "gaussian_filter",
         (X + 1j, 1), {"output": np.float32}),
        (ValueError, r"gaussian_filter1d: radius must be a non-negative int, got -1",
         "gaussian_filter1d", (X, 1), {"radius": -1}),
        (ValueError, r"gaussian_filter: radius must be a non-negative int, got 1.5",
         "gaussian_filter", (X, 1), {"radius": 1.5}),
        (ValueError, r"gaussian_filter: order must be non-negative, got -2", "gaussian_filter",
         (X, 1), {"order": -2}),
        (RuntimeError, r"gaussian_filter: .*sigma must have a value for each of the 2 axes",
         "gaussian_filter", (X, (1, 2, 3)), {}),
        (ValueError, r"gaussian_filter: axes is out of range", "gaussian_filter", (X, 1),
         {"axes": (0, 2)}),
        (ValueError, r"laplace: axes must be unique", "laplace", (X,), {"axes": (0, -2)}),
        (RuntimeError, r"prewitt: .*mode must have a value for each of the 2 axes", "prewitt",
         (X,), {"mode": ["reflect"]}),
    ],
)  # fmt: skip
def test_bad_arguments(
    error: type[Exception], message: str, name: str, args: Any, keywords: dict[str, Any]
) -> None:
    """Errors have SciPy's type, tell what came, and are raised before anything is written."""
    with pytest.raises(error, match=message) as caught:
        getattr(ndimage, name)(*args, **keywords)
    assert type(caught.value) is error
    with pytest.raises(error):
        getattr(scipy.ndimage, name)(*args, **keywords)
    out = np.full((4, 5), 7.0)
    if "output" not in keywords and np.asarray(args[0]).dtype != np.float16:
        with pytest.raises(error):
            getattr(ndimage, name)(*args, **keywords, output=out)
        assert (out == 7).all()


def test_an_axis_that_is_not_there() -> None:
    for name in ("correlate1d", "gaussian_filter1d", "sobel"):
        with pytest.raises(np.exceptions.AxisError, match="axis 2 is out of bounds"):
            CALLS[name](ndimage)(X, axis=2)


def test_a_complex_constant() -> None:
    """What lies beyond the borders of real arrays is real. The error's type is SciPy's."""
    for factors, error in (([1.0], TypeError), ([1j], ValueError)):
        with pytest.raises(error):
            scipy.ndimage.correlate1d(X, factors, cval=1j)
        with pytest.raises(error, match="correlate1d: cval must be a real number"):
            ndimage.correlate1d(X, factors, cval=1j)


@pytest.mark.parametrize(("weight", "number"), [(1e-42, 1e30), (1e40, 1e-35), (1e-35, 1e20)])
def test_weights_near_the_limits_of_float32(weight: float, number: float) -> None:
    """Weights that float32 does not hold, or rounds, have results that it holds."""
    array, weights = np.full((9, 40), number, np.float32), np.array([weight, 2 * weight])
    for axis in (0, 1):
        expected = scipy.ndimage.correlate1d(array, weights, axis)
        np.testing.assert_allclose(ndimage.correlate1d(array, weights, axis), expected, rtol=1e-6)
