"""Rank filters against SciPy's, and against sorted windows where SciPy's are not exact."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given
from hypothesis import strategies as st

import fastconv
from fastconv import _kernels, ndimage
from fastconv.ndimage import _rank

Array = np.ndarray[Any, np.dtype[Any]]

DTYPES = "?bhilBHILfd"
MODES = ["reflect", "mirror", "nearest", "wrap", "constant"]
LONGEST = {1: 200, 2: 40, 3: 12, 4: 7}
"""The longest axis of a random array, by the number of its dimensions."""
METHODS: list[tuple[str, tuple[int, ...], tuple[int, ...], int | None]] = [
    ("median_of_3", (5, 70), (1, 3), None),
    ("median_of_3", (37, 9), (3, 1), None),
    ("median_of_5", (6, 150), (1, 5), None),
    ("median_of_3x3", (40, 201), (3, 3), None),
    ("median_of_3x3", (9, 30, 3), (3, 3, 1), None),
    ("median_of_3x3", (5, 4, 70), (3, 1, 3), None),
    ("median_of_5x5", (33, 140), (5, 5), None),
    ("median_of_5x5", (20, 11, 4), (5, 5, 1), None),
    ("median_of_27", (6, 7, 40), (3, 3, 3), None),
    ("select", (30, 70), (2, 3), None),
    ("select", (9, 10, 66), (2, 2, 1), 1),
    ("select", (30, 70), (5, 5), 3),
    ("select", (30, 70), (5, 5), 22),
    ("bisect", (30, 300), (4, 5), None),
    ("bisect", (20, 70), (7, 9), 11),
    ("histograms", (40, 70), (13, 14), None),
    ("histograms", (3, 30, 50), (1, 20, 17), 300),
    ("sort", (40, 50), (9, 10), None),
    ("sort", (20, 7, 12), (5, 6, 5), 30),
    ("sort", (300,), (101,), None),
]


def values(shape: tuple[int, ...], dtype: str, seed: int = 0, spread: float = 50) -> Array:
    """Return random numbers, many of them twice, from the whole range of small integers."""
    rng = np.random.default_rng(seed)
    kind = np.dtype(dtype).kind
    if kind == "f":
        return rng.normal(0, spread, shape).round(1).astype(dtype)
    low, high = {"b": (0, 2), "u": (0, 256), "i": (-128, 128)}[kind]
    return rng.integers(low, high, shape).astype(dtype)


def sorted_windows(array: Array, size: tuple[int, ...], rank: int) -> Array:
    """Return the element of a rank of each window, in mode "reflect"."""
    padded = np.pad(array, [(n // 2, n - 1 - n // 2) for n in size], mode="symmetric")
    windows = np.lib.stride_tricks.sliding_window_view(padded, size)
    return np.sort(windows.reshape(*array.shape, -1), axis=-1)[..., rank]


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that gets the kernels that are chosen."""
    chosen: list[str] = []
    choose = _rank._method

    def method(*arguments: Any) -> str:
        chosen.append(choose(*arguments))
        return chosen[-1]

    monkeypatch.setattr(_rank, "_method", method)
    _rank._geometry.cache_clear()
    return chosen


@pytest.mark.parametrize("dtype", ["B", "b", "H", "i", "L", "f", "d"])
@pytest.mark.parametrize(("method", "shape", "size", "rank"), METHODS)
def test_every_kernel(
    method: str,
    shape: tuple[int, ...],
    size: tuple[int, ...],
    rank: int | None,
    dtype: str,
    level: str,
    threads: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every kernel is exact for every size of keys that it knows."""
    itemsize = np.dtype(dtype).itemsize
    if (method == "bisect" and itemsize > 2) or (method == "histograms" and itemsize > 1):
        pytest.skip("a kernel of narrow keys")
    taps = int(np.prod(size))
    rank = taps // 2 if rank is None else rank
    monkeypatch.setattr(_rank, "_method", lambda *arguments: method)
    _rank._geometry.cache_clear()
    array = values(shape, dtype)
    result = ndimage.rank_filter(array, rank, size=size)
    _rank._geometry.cache_clear()
    assert result.dtype == array.dtype
    np.testing.assert_array_equal(result, sorted_windows(array, size, rank))


@pytest.mark.parametrize(("method", "shape", "size", "rank"), METHODS)
def test_the_kernel_is_chosen(
    method: str,
    shape: tuple[int, ...],
    size: tuple[int, ...],
    rank: int | None,
    used: list[str],
) -> None:
    """A kernel of ours computes, and the one that is fastest there."""
    dtype = {"select": "f", "sort": "d"}.get(method, "B")
    taps = int(np.prod(size))
    ndimage.rank_filter(values(shape, dtype), taps // 2 if rank is None else rank, size=size)
    assert used == [method]


@st.composite
def calls(draw: st.DrawFn) -> tuple[Array, dict[str, Any], float]:
    """Draw an array, the keywords of a filter, and a rank as a fraction."""
    ndim = draw(st.integers(1, 4))
    shape = tuple(draw(st.integers(1, LONGEST[ndim])) for _ in range(ndim))
    array = values(shape, draw(st.sampled_from(DTYPES)), draw(st.integers(0, 99)))
    count = draw(st.integers(1, ndim))
    axes = tuple(sorted(draw(st.permutations(range(ndim)))[:count]))
    longest = {1: 40, 2: 12, 3: 5, 4: 3}[count]
    sizes = [draw(st.integers(1, longest)) for _ in axes]
    keywords: dict[str, Any] = {
        "axes": axes,
        "mode": draw(st.sampled_from(MODES)),
        "cval": draw(st.sampled_from([0.0, 7.0, -3.0, 2.5, 300.0, -70000.0])),
        "origin": [draw(st.integers(-(n // 2), (n - 1) // 2)) for n in sizes],
    }
    if array.dtype.char == "L":
        keywords["cval"] = abs(keywords["cval"])  # SciPy rounds 2**64 - 3 to 2**64.
    if ndim > 1 and draw(st.booleans()):
        footprint = np.random.default_rng(draw(st.integers(0, 99))).random(sizes) < 0.6
        footprint.flat[0] = True
        keywords["footprint"] = footprint
    else:
        keywords["size"] = sizes
    return array, keywords, draw(st.floats(0, 0.999))


@given(calls())
def test_results_are_scipys(call: tuple[Array, dict[str, Any], float]) -> None:
    array, keywords, fraction = call
    footprint = keywords.get("footprint")
    taps = int(np.prod(keywords["size"]) if footprint is None else footprint.sum())
    # The extremes are those of minimum_filter and maximum_filter, which have tests of their own.
    ranks = [rank for rank in (taps // 2, int(fraction * taps)) if 0 < rank < taps - 1]
    for rank in ranks:
        if array.ndim == 1 and keywords["size"][0] > array.size:
            # SciPy reads beyond such arrays if they have one dimension.
            expected = scipy.ndimage.rank_filter(array[:, None], rank, **keywords)[:, 0]
        else:
            expected = scipy.ndimage.rank_filter(array, rank, **keywords)
        result = ndimage.rank_filter(array, rank, **keywords)
        assert result.dtype == expected.dtype
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", MODES)
def test_windows_larger_than_the_array(mode: str, dtype: str, level: str) -> None:
    array = values((3, 2), dtype)
    for size in (9, (15, 1), (4, 11)):
        expected = scipy.ndimage.median_filter(array, size, mode=mode, cval=5)
        np.testing.assert_array_equal(
            ndimage.median_filter(array, size, mode=mode, cval=5), expected
        )


@pytest.mark.parametrize("size", [3, 4, 7, 13, 30, 61])
@pytest.mark.parametrize("dtype", ["B", "H", "f", "d"])
def test_threads_change_nothing(size: int, dtype: str, level: str) -> None:
    """Blocks depend on the number of threads, and results do not."""
    array = values((150, 170), dtype)
    results = []
    for threads in (1, 2, 5):
        with fastconv.num_threads(threads):
            results.append(ndimage.median_filter(array, size).tobytes())
    assert len(set(results)) == 1


def test_rows_longer_than_a_block(level: str) -> None:
    """Blocks cut rows, and results past the caches are written by whole lines."""
    array = values((3, 20_001), "f")
    for size in ((3, 3), (1, 5), (2, 4), (3, 31)):
        np.testing.assert_array_equal(
            ndimage.median_filter(array, size), scipy.ndimage.median_filter(array, size)
        )
    large = values((2100, 2050), "f")
    assert large.nbytes > 16 << 20
    np.testing.assert_array_equal(
        ndimage.median_filter(large, 3)[-40:], scipy.ndimage.median_filter(large[-60:], 3)[-40:]
    )


@pytest.mark.parametrize("dtype", ["f", "d"])
@pytest.mark.parametrize("size", [(3, 3), (5, 5), (2, 3), (11, 11), (1, 3), (1, 5)])
def test_nan_sorts_last(size: tuple[int, int], dtype: str, level: str) -> None:
    array = values((40, 50), dtype)
    holes = np.random.default_rng(1).random(array.shape)
    array[holes < 0.2] = np.nan
    array[holes < 0.1] = -np.nan
    array[holes > 0.9] = np.inf
    array[holes > 0.95] = -np.inf
    taps = size[0] * size[1]
    for rank in sorted({1, taps // 2, taps - 2}):
        np.testing.assert_array_equal(
            ndimage.rank_filter(array, rank, size=size), sorted_windows(array, size, rank)
        )


def test_zeros_are_sorted_by_sign() -> None:
    array = np.array([0.0, -0.0, 0.0, -0.0, 0.0, -0.0])
    result = ndimage.rank_filter(array, 2, size=6, mode="wrap")
    assert np.signbit(result).all()
    assert not np.signbit(ndimage.rank_filter(array, 3, size=6, mode="wrap")).any()


@pytest.mark.parametrize("dtype", ["l", "L"])
def test_large_integers_are_exact(dtype: str) -> None:
    """SciPy rounds them to float64 where there are several dimensions."""
    array = values((20, 30), dtype) + np.array(2**62, dtype)
    np.testing.assert_array_equal(ndimage.median_filter(array, 3), sorted_windows(array, (3, 3), 4))


def test_a_footprint_of_one_dimension_may_have_holes() -> None:
    """SciPy 1.17 takes the whole window there."""
    result = ndimage.rank_filter([5, 1, 9, 3, 7, 2], 1, footprint=[1, 0, 1, 1])
    table = scipy.ndimage.rank_filter([[5, 1, 9, 3, 7, 2]], 1, footprint=[[1, 0, 1, 1]])
    assert result.tolist() == table[0].tolist()


FILTERS: list[tuple[str, tuple[Any, ...]]] = [
    ("median_filter", ()),
    ("rank_filter", (-2,)),
    ("percentile_filter", (30,)),
    ("percentile_filter", (-20.5,)),
    ("percentile_filter", (100,)),
    ("rank_filter", (0,)),
    ("rank_filter", (-1,)),
]


@pytest.mark.parametrize(("name", "arguments"), FILTERS)
def test_names(name: str, arguments: tuple[Any, ...]) -> None:
    array = values((20, 30), "d")
    ours, theirs = getattr(ndimage, name), getattr(scipy.ndimage, name)
    for keywords in ({"size": 3}, {"size": (2, 5), "mode": "mirror"}, {"footprint": np.eye(3)}):
        np.testing.assert_array_equal(
            ours(array, *arguments, **keywords), theirs(array, *arguments, **keywords)
        )
    assert ours(array.tolist(), *arguments, 3).tolist() == theirs(array, *arguments, 3).tolist()


@pytest.mark.parametrize("rank", [0, -1])
def test_extremes_take_a_mode_per_axis(rank: int) -> None:
    array = values((9, 8, 7), "i")
    keywords: dict[str, Any] = {"size": (3, 2), "mode": ["wrap", "mirror"], "axes": (0, 2)}
    expected = scipy.ndimage.rank_filter(array, rank, **keywords)
    np.testing.assert_array_equal(ndimage.rank_filter(array, rank, **keywords), expected)


@pytest.mark.parametrize("size", [3, 9])
@pytest.mark.parametrize("ours", [None, "d", "f", "B", "b", "H", "i", "I", "L"])
def test_outputs(ours: str | None, size: int) -> None:
    """Results are converted from float64 as C does, also where they are out of range."""
    array = values((20, 30), "d", spread=200) * 1.37
    output = None if ours is None else np.dtype(ours)
    expected = scipy.ndimage.median_filter(array, size, output=output)
    result = ndimage.median_filter(array, size, output=output)
    assert result.dtype == expected.dtype
    np.testing.assert_array_equal(result, expected)
    strided = np.zeros((20, 60), expected.dtype)[:, ::2]
    assert ndimage.median_filter(array, size, output=strided) is strided
    np.testing.assert_array_equal(strided, expected)


def test_a_line_is_converted_to_the_output() -> None:
    """SciPy 1.17 writes elements of the wrong size there."""
    result = ndimage.median_filter(np.array([5, 1, 9, 3]), 3, output=np.float32)
    assert result.dtype == np.float32
    assert result.tolist() == [5, 5, 3, 3]


@pytest.mark.parametrize("size", [3, 4, 21])
def test_layouts(size: int) -> None:
    array = values((30, 40), "f")
    expected = scipy.ndimage.median_filter(array, size)
    swapped = array.astype(array.dtype.newbyteorder())
    for same in (np.asfortranarray(array), swapped, np.repeat(array, 2, axis=1)[:, ::2]):
        result = ndimage.median_filter(same, size)
        assert result.dtype == np.float32
        np.testing.assert_array_equal(result, expected)
    inside = array.copy()
    assert ndimage.median_filter(inside, size, output=inside) is inside
    np.testing.assert_array_equal(inside, expected)
    long = np.zeros(array.size + 1, np.float32)
    source, shifted = long[:-1].reshape(array.shape), long[1:].reshape(array.shape)
    source[...] = array
    ndimage.median_filter(source, size, output=shifted)
    np.testing.assert_array_equal(shifted, expected)


@pytest.mark.parametrize("shape", [(0,), (0, 3), (4, 0), (2, 0, 3)])
def test_empty_arrays(shape: tuple[int, ...]) -> None:
    for dtype in "Bd":
        result = ndimage.median_filter(np.zeros(shape, dtype), 3)
        assert result.shape == shape
        assert result.dtype == dtype


def test_no_dimension() -> None:
    assert ndimage.median_filter(np.float64(3), 5) == 3


def test_half_precision_has_one_dimension() -> None:
    line = values((30,), "e")
    expected = scipy.ndimage.median_filter(line, 5)
    result = ndimage.median_filter(line, 5)
    assert result.dtype == np.float16
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("cval", [0.3, 300, -5, 70000.7])
@pytest.mark.parametrize("dtype", "?bBhHi")
def test_constants_that_a_dtype_does_not_have(dtype: str, cval: float) -> None:
    """They are converted as C does, but stay as they are in one dimension."""
    for shape in ((30,), (9, 11)):
        array = values(shape, dtype)
        keywords: dict[str, Any] = {"size": 5, "mode": "constant", "cval": cval}
        expected = scipy.ndimage.rank_filter(array, 3, **keywords)
        np.testing.assert_array_equal(ndimage.rank_filter(array, 3, **keywords), expected)


IMAGE = np.arange(20.0).reshape(4, 5)
REFUSED: list[tuple[Callable[[Any], Any], Any, str]] = [
    (lambda f: f.median_filter(IMAGE), RuntimeError, "size or footprint"),
    (lambda f: f.median_filter(IMAGE, (3, 3, 3)), RuntimeError, "size"),
    (lambda f: f.median_filter(IMAGE, (3, 0)), RuntimeError, "size"),
    (lambda f: f.median_filter(IMAGE, footprint=np.ones(3)), RuntimeError, "footprint"),
    (lambda f: f.median_filter(IMAGE, footprint=np.zeros((2, 2))), RuntimeError, "footprint"),
    (lambda f: f.median_filter(IMAGE, 3, mode="odd"), RuntimeError, "mode"),
    (lambda f: f.median_filter(IMAGE, 3, mode=["wrap", "wrap"]), RuntimeError, "mode"),
    (lambda f: f.median_filter(IMAGE, 3, origin=2), ValueError, "origin"),
    (lambda f: f.median_filter(IMAGE, 3, origin=(1, 1, 1)), RuntimeError, "origin"),
    (lambda f: f.median_filter(IMAGE, 3, axes=(0, 0)), ValueError, "axes"),
    (lambda f: f.median_filter(IMAGE, 3, axes=(0, 2)), (ValueError, IndexError), "axes"),
    (lambda f: f.median_filter(IMAGE, 3, output=np.zeros(3)), RuntimeError, "output"),
    (lambda f: f.median_filter(IMAGE, 3, output=np.complex64), RuntimeError, "output"),
    (lambda f: f.median_filter(IMAGE * 1j, 3), TypeError, "complex"),
    (lambda f: f.median_filter(IMAGE.astype("e"), 3), RuntimeError, "float16"),
    (lambda f: f.median_filter(IMAGE.astype("g"), 3), RuntimeError, "longdouble|float128"),
    (lambda f: f.rank_filter(IMAGE, 9, 3), RuntimeError, "rank"),
    (lambda f: f.rank_filter(IMAGE, -10, 3), RuntimeError, "rank"),
    (lambda f: f.rank_filter(IMAGE, 1.5, 3), TypeError, "."),
    (lambda f: f.percentile_filter(IMAGE, 101, 3), RuntimeError, "percentile"),
    (lambda f: f.percentile_filter(IMAGE, -101, 3), RuntimeError, "percentile"),
]


@pytest.mark.parametrize(("call", "kind", "message"), REFUSED)
def test_refused(call: Callable[[Any], Any], kind: Any, message: str) -> None:
    """Errors have SciPy's types."""
    with pytest.raises(kind):
        call(scipy.ndimage)
    with pytest.raises(kind, match=message):
        call(ndimage)


def test_nothing_is_written_before_arguments_are_read() -> None:
    output = np.full(IMAGE.shape, 7.0)
    for keywords in ({"mode": "odd"}, {"origin": 3}, {"axes": 5}):
        with pytest.raises((RuntimeError, ValueError)):
            ndimage.median_filter(IMAGE, 3, output=output, **keywords)
    assert (output == 7).all()


def test_size_and_footprint_warn() -> None:
    with pytest.warns(UserWarning, match="ignoring size") as caught:
        ndimage.rank_filter(IMAGE, 1, size=2, footprint=np.ones((1, 3)))
    assert caught[0].filename == __file__


def test_narrow_kernels_know_their_limits() -> None:
    """A box whose counts do not fit falls back to sorting."""
    array = values((40, 30), "B")
    for size in ((300, 2), (200, 190)):
        expected = sorted_windows_wrapped(array, size)
        np.testing.assert_array_equal(ndimage.median_filter(array, size, mode="wrap"), expected)
    assert _kernels.rank.tallest_column < 300


def sorted_windows_wrapped(array: Array, size: tuple[int, int]) -> Array:
    """Return the medians of windows in mode "wrap" by whole counts."""
    padded = np.pad(array, [(n // 2, n - 1 - n // 2) for n in size], mode="wrap")
    windows = np.lib.stride_tricks.sliding_window_view(padded, size)
    rank = size[0] * size[1] // 2
    result = np.empty_like(array)
    for index in np.ndindex(*array.shape):
        result[index] = np.partition(windows[index].ravel(), rank)[rank]
    return result
