"""matmul against exact products: sizes around tiles, layouts, dtypes, bounds, errors, accuracy."""

from __future__ import annotations

import re
import sys
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pytest
from helpers import (
    INTEGERS,
    LAYOUTS,
    Array,
    DType,
    assert_same,
    guarded,
    integer_values,
    memory_bounded,
    normal_values,
    refused,
    run_python,
)
from test_bounds import at_edge

import fastconv
from fastconv import _kernels

ROWS = [1, 2, 3, 4, 5, 6, 7, 8, 13, 14, 15, 28, 29, 57, 513]
COLUMNS = [1, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 65]
INNER = [1, 2, 255, 256, 257, 513]
ORDERS = ["CC", "CF", "FC", "FF"]
"""Of the operands in memory: Fortran order is a matrix that is transposed without a copy."""
orders = pytest.mark.parametrize("order", ORDERS)
FLOATS = ["f2", "f4", "f8"]


def in_order(array: Array, order: str) -> Array:
    return array.copy() if order == "C" else array.T.copy().T


@cache
def operands(inner: int, dtype: str) -> tuple[Array, Array, Array]:
    """Make matrices and a bias of the largest sizes; smaller ones are parts of them."""
    a = integer_values((ROWS[-1], inner), dtype)
    b = integer_values((inner, COLUMNS[-1]), dtype, seed=1)
    return a, b, integer_values((COLUMNS[-1],), dtype, seed=2)


@cache
def exact(inner: int) -> Array:
    a, b, _ = operands(inner, "f8")
    result: Array = a @ b
    return result


def check(inner: int, order: str, dtype: str) -> None:
    a, b, bias = operands(inner, dtype)
    products = exact(inner).astype(dtype)
    for which, (rows, columns) in enumerate(product(ROWS, COLUMNS)):
        if rows == ROWS[-1] and columns not in (1, 17, COLUMNS[-1]):
            continue  # it takes time
        left, right = in_order(a[:rows], order[0]), in_order(b[:, :columns], order[1])
        row = bias[:columns] if which % 2 else None
        expected = products[:rows, :columns] + (0 if row is None else row)
        with guarded(expected.shape, dtype, which % 4) as out:
            assert fastconv.matmul(left, right, row, out=out) is out
            np.testing.assert_array_equal(out, expected)


# ----------------------------------------------------------------------------------------- sizes


@orders
@pytest.mark.parametrize("inner", INNER)
def test_sizes(level: str, threads: int, inner: int, order: str) -> None:
    check(inner, order, "f4")


@orders
@pytest.mark.parametrize("inner", [3, 257])
def test_sizes_in_float64(level: str, inner: int, order: str) -> None:
    check(inner, order, "f8")


@orders
@pytest.mark.parametrize(
    "size",
    [(1030, 70, 300), (200, 10, 5000), (3, 5000, 130), (2, 300, 5000), (5000, 300, 1)],
    ids=str,
)
def test_large(level: str, threads: int, size: tuple[int, int, int], order: str) -> None:
    """There are several groups of rows, and many blocks of columns and of terms."""
    rows, inner, columns = size
    a, b = integer_values((rows, inner), "f8"), integer_values((inner, columns), "f8", seed=1)
    expected = (a @ b).astype("f4")
    left, right = in_order(a.astype("f4"), order[0]), in_order(b.astype("f4"), order[1])
    assert_same(fastconv.matmul(left, right), expected + 0)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(0, 5, 7), (5, 7, 0), (0, 5, 0), (0, 0, 0)], ids=str)
def test_empty_results(level: str, threads: int, shape: tuple[int, int, int], dtype: str) -> None:
    rows, inner, columns = shape
    result = fastconv.matmul(np.ones((rows, inner), dtype), np.ones((inner, columns), dtype))
    assert_same(result, np.zeros((rows, columns), dtype))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (70, 65)], ids=str)
def test_sums_of_nothing(level: str, threads: int, shape: tuple[int, int], dtype: str) -> None:
    """Sums without terms are zero, or the bias."""
    rows, columns = shape
    a, b = np.ones((rows, 0), dtype), np.ones((0, columns), dtype)
    bias = integer_values((columns,), dtype)
    for given, expected in ((None, np.zeros(shape, dtype)), (bias, np.tile(bias, (rows, 1)))):
        with guarded(shape, dtype) as out:
            out[...] = 7
            fastconv.matmul(a, b, given, out=out)
            np.testing.assert_array_equal(out, expected)


# --------------------------------------------------------------------------------------- layouts


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_layouts(level: str, layout: str, dtype: str) -> None:
    a, b = integer_values((29, 40), dtype), integer_values((40, 33), dtype, seed=1)
    bias, laid = integer_values((33,), dtype, seed=2), LAYOUTS[layout]
    expected = (a.astype("f8") @ b.astype("f8") + bias).astype(dtype)
    for left, right, row in (
        (laid(a), b, bias),
        (a, laid(b), bias),
        (a, b, laid(bias)),
        (laid(a), laid(b), laid(bias)),
        (laid(a.T.copy()).T, laid(b.T.copy()).T, bias),
    ):
        before = [array.tobytes() for array in (left, right, row)]
        assert_same(fastconv.matmul(left, right, row), expected)
        assert [array.tobytes() for array in (left, right, row)] == before


@pytest.mark.parametrize("dtype", FLOATS)
def test_steps_of_zero(level: str, dtype: str) -> None:
    """Rows, columns and single numbers are broadcast by strides of zero."""
    row, column = integer_values((1, 20), dtype), integer_values((17, 1), dtype, seed=1)
    number = np.full((1, 1), 3, dtype)
    for view in (row, column, number):
        a = np.broadcast_to(view, (17, 20))
        expected = (a.astype("f8") @ a.T.astype("f8")).astype(dtype)
        assert_same(fastconv.matmul(a, a.T), expected)
    bias = np.broadcast_to(np.array(5, dtype), (17,))
    assert_same(fastconv.matmul(a, a.T, bias), expected + bias)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_windows_of_a_series(level: str, dtype: str) -> None:
    """The rows of the matrix overlap in memory."""
    series = integer_values((300,), dtype)
    a = np.lib.stride_tricks.sliding_window_view(series, 40)
    expected = (a.astype("f8") @ a.T.astype("f8")).astype(dtype)
    assert_same(fastconv.matmul(a, a.T), expected)
    assert_same(fastconv.matmul(a[::3], a[::-1].T), expected[::3, ::-1])


STEPS = [0, 4, 8, 12, -4, 3, 1 << 40]


@pytest.mark.parametrize("step", STEPS)
def test_steps_of_single_rows_and_columns(level: str, step: int) -> None:
    """The stride of an axis of length 1 is ignored."""
    a = integer_values((19,), "f4")
    for rest in (4, -4, 8):
        memory = np.zeros((19, rest // 4), "f4")[:, 0] if rest > 0 else a[::-1].copy()[::-1]
        memory[...] = a
        row = np.lib.stride_tricks.as_strided(memory, (1, 19), (step, rest))
        column = np.lib.stride_tricks.as_strided(memory, (19, 1), (rest, step))
        outer = np.multiply.outer(a, a)
        assert_same(fastconv.matmul(column, row), outer + 0)
        assert_same(fastconv.matmul(row, column), np.array([[a @ a]]))
        assert_same(fastconv.matmul(column.T, row.T), np.array([[a @ a]]))
        assert_same(fastconv.matmul(row.T, column.T), outer + 0)


def test_the_same_array_twice(level: str) -> None:
    a = integer_values((50, 50))
    assert_same(fastconv.matmul(a, a), (a.astype("f8") @ a.astype("f8")).astype("f4"))
    assert_same(fastconv.matmul(a, a, a[3]), fastconv.matmul(a, a.copy()) + a[3])


# ---------------------------------------------------------------------------------------- dtypes


@pytest.mark.parametrize("dtype", [*INTEGERS, np.dtype(bool)], ids=lambda dtype: dtype.char)
def test_integers_are_computed_in_float64(dtype: DType) -> None:
    a, b = integer_values((9, 30), dtype), integer_values((30, 7), dtype, seed=1)
    bias = integer_values((7,), dtype, seed=2)
    expected = a.astype("f8") @ b.astype("f8") + bias
    assert_same(fastconv.matmul(a, b, bias), expected)
    swapped = [array.astype(dtype.newbyteorder("S")) for array in (a, b, bias)]
    assert_same(fastconv.matmul(*swapped), expected)


def test_lists() -> None:
    assert_same(fastconv.matmul([[1, 2]], [[3], [4]], [5]), np.array([[16.0]]))


MIXED = [
    *(("f4", "f8", None, "f8"), ("f8", "f4", None, "f8"), ("f4", "f4", "f8", "f4")),
    *(("f2", "f4", None, "f4"), ("f2", "f2", "f4", "f2"), ("f2", "f2", "u1", "f2")),
    *(("i2", "f2", None, "f4"), ("i4", "f4", None, "f8"), ("?", "f2", "?", "f2")),
    *(("u1", "i1", None, "f8"), (">f4", "<f8", ">i2", "f8"), (">f4", "<f2", ">i2", "f4")),
]


@pytest.mark.parametrize(("first", "second", "third", "expected"), MIXED)
def test_mixed_dtypes(first: str, second: str, third: str | None, expected: str) -> None:
    """numpy.result_type of the matrices determines the dtype; the bias follows it."""
    a, b = integer_values((9, 30), first), integer_values((30, 7), second, seed=1)
    bias = None if third is None else integer_values((7,), third, seed=2)
    known = a.astype("f8") @ b.astype("f8") + (0 if bias is None else bias)
    assert_same(fastconv.matmul(a, b, bias), known.astype(expected))


@pytest.mark.parametrize("odd", ["a", "b", "ab"])
def test_dtypes_that_only_equal_numpys_own_cost_no_copy(odd: str) -> None:
    """``newbyteorder`` makes such dtypes, and so do readers of little-endian files."""
    own = np.dtype(np.float32)
    equal = own.newbyteorder("=")
    assert equal == own
    assert equal is not own
    a, b = np.ones((8, 512), own), np.ones((512, 1024), own)
    left, right = a.view(equal if "a" in odd else own), b.view(equal if "b" in odd else own)
    assert_same(fastconv.matmul(left, right), a @ b)
    out = np.empty((8, 1024), own)
    with memory_bounded(a.nbytes // 2):
        fastconv.matmul(left, right, out=out)


@orders
def test_float16_is_computed_in_float32(level: str, order: str) -> None:
    """The bias is added before the only rounding, at the end."""
    a, b, bias = (normal_values(shape, "f2", 3) for shape in ((33, 600), (600, 20), (20,)))
    wide = fastconv.matmul(*(array.astype("f4") for array in (a, b, bias)))
    left, right = in_order(a, order[0]), in_order(b, order[1])
    assert_same(fastconv.matmul(left, right, bias), wide.astype("f2"))


def test_float16_overflows_to_infinity(level: str) -> None:
    """Overflow gives infinity without a warning, as in convolution."""
    a = np.full((2, 2), 300, "f2")
    assert_same(fastconv.matmul(a, a), np.full((2, 2), np.inf, "f2"))


# ---------------------------------------------------------------------------------------- bounds


def check_edges(level: str) -> None:
    """Run in a process of its own: matrices against pages that must not be touched."""
    _kernels.use(level)
    sizes = product((1, 3, 8, 14, 15, 29), (1, 5, 16, 17, 256, 300), (1, 7, 16, 17, 33, 65))
    for (rows, inner, columns), dtype in product(sizes, ("f4", "f8")):
        a, b = integer_values((rows, inner), dtype), integer_values((inner, columns), dtype, 1)
        bias = integer_values((columns,), dtype, seed=2)
        expected = a @ b + bias
        for end, order in product((True, False), ORDERS):
            left = at_edge(a, end) if order[0] == "C" else at_edge(a.T.copy(), end).T
            right = at_edge(b, end) if order[1] == "C" else at_edge(b.T.copy(), end).T
            out = at_edge(np.zeros_like(expected), end)
            fastconv.matmul(left, right, at_edge(bias, end), out=out)
            np.testing.assert_array_equal(out, expected)
    for end in (True, False):  # parts of rows, whose rests are behind the last page's end
        a, b = at_edge(integer_values((20, 300)), end), at_edge(integer_values((300, 20)), end)
        part = slice(3, None) if end else slice(None, -3)
        fastconv.matmul(a[:, part], b[part])
        fastconv.matmul(a[part], b[:, part])
        fastconv.matmul(b.T[part], a.T[:, part])
        fastconv.matmul(b.T[:, part], a.T[part])
    print("done")


@pytest.mark.skipif(sys.platform == "win32", reason="pages are protected with POSIX calls")
@pytest.mark.parametrize("name", _kernels.available_levels())
def test_matrices_at_the_edge_of_memory(name: str) -> None:
    result = run_python(f"import test_product; test_product.check_edges({name!r})")
    assert (result.returncode, result.stdout) == (0, "done\n"), result.stderr[-2000:]


# -------------------------------------------------------------------------------------- accuracy


@orders
@pytest.mark.parametrize("inner", [1000, 4096, 20000])
def test_accuracy(level: str, inner: int, order: str) -> None:
    """Long sums err at most a tenth more than NumPy's, or little enough for any BLAS library.

    10,000 results make a stable mean; a single accumulator would err by 1e-6 of it from 4,096 on.
    """
    a, b = normal_values((125, inner)), normal_values((inner, 80), seed=1)
    wide = a.astype("f8") @ b.astype("f8")
    left, right = in_order(a, order[0]), in_order(b, order[1])
    error, error_of_numpy = (
        float(np.sqrt(np.square(result - wide).mean()))
        for result in (fastconv.matmul(left, right), a @ b)
    )
    assert error <= max(1.1 * error_of_numpy, 3.5e-7 * inner**0.5)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("size", [(60, 700, 50), (700, 60, 33), (513, 257, 65)], ids=str)
def test_bits(level: str, size: tuple[int, int, int], dtype: str) -> None:
    """Results do not depend on threads, layout, or the other rows and columns."""
    rows, inner, columns = size
    a, b = normal_values((rows, inner), dtype), normal_values((inner, columns), dtype, seed=1)
    bias = normal_values((columns,), dtype, seed=2)
    turned = in_order(b, "F")
    with fastconv.num_threads(1):
        known = fastconv.matmul(a, b, bias)
    for threads in (2, 3, 4, 7, 7):
        with fastconv.num_threads(threads):
            for order in ORDERS:
                left, right = in_order(a, order[0]), in_order(b, order[1])
                assert_same(fastconv.matmul(left, right, bias), known)
            for some in (*map(slice, range(1, 6)), slice(3, 20), slice(None, None, -3)):
                assert_same(fastconv.matmul(a[some], b, bias), known[some])
                assert_same(fastconv.matmul(a[some], turned, bias), known[some])
                assert_same(fastconv.matmul(a, b[:, some], bias[some]), known[:, some])


# -------------------------------------------------------------------------------- special values


@orders
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=str)
def test_what_is_not_finite_stays_in_its_rows_and_columns(
    level: str, value: float, order: str
) -> None:
    a, b = normal_values((29, 300)), normal_values((300, 37), seed=1)
    bias = normal_values((37,), seed=2)
    clean = fastconv.matmul(a, b, bias)
    for row, k, column in ((0, 0, 0), (28, 299, 36), (13, 255, 15), (14, 256, 32)):
        marked = [in_order(a, order[0]), in_order(b, order[1]), bias.copy()]
        for which, place in enumerate([(row, k), (k, column), (column,)]):
            arrays = list(marked)
            arrays[which] = marked[which].copy("K")
            arrays[which][place] = value
            touched = np.zeros(clean.shape, bool)
            touched[(row,) if which == 0 else (slice(None), column)] = True
            result = fastconv.matmul(*arrays)
            np.testing.assert_array_equal(~np.isfinite(result), touched)
            assert_same(result[~touched], clean[~touched])


@orders
@pytest.mark.parametrize(("dtype", "tiny"), [("f2", 6e-8), ("f4", 1e-44), ("f8", 5e-324)])
def test_subnormals_are_kept(level: str, dtype: str, tiny: float, order: str) -> None:
    a = in_order(np.full((15, 20), tiny, dtype), order[0])
    one = in_order(np.eye(20, dtype=dtype), order[1])
    assert a.all()
    assert_same(fastconv.matmul(a, one), a.copy())
    assert_same(fastconv.matmul(one, a.T), a.T.copy())


# ---------------------------------------------------------------------------------------- errors

A, B, BIAS = np.ones((3, 4), "f4"), np.ones((4, 5), "f4"), np.ones(5, "f4")


@pytest.mark.parametrize("shape", [(), (4,), (2, 3, 4), (1, 3, 4)], ids=str)
def test_dimensions(shape: tuple[int, ...]) -> None:
    got = re.escape(f"must have 2 dimensions, got shape {shape}")
    refused(ValueError, f"^a {got}$", fastconv.matmul, np.ones(shape), B)
    refused(ValueError, f"^b {got}$", fastconv.matmul, A, np.ones(shape))


@pytest.mark.parametrize("shape", [(5, 4), (3, 5), (1, 4), (0, 5)], ids=str)
def test_shapes_that_do_not_match(shape: tuple[int, ...]) -> None:
    message = f"a's columns must be as many as b's rows, got shapes (3, 4) and {shape}"
    refused(ValueError, f"^{re.escape(message)}$", fastconv.matmul, A, np.ones(shape))


@pytest.mark.parametrize("shape", [(), (1,), (4,), (6,), (1, 5), (3, 5), (5, 1)], ids=str)
def test_shapes_of_the_bias(shape: tuple[int, ...]) -> None:
    message = re.escape(f"bias must have shape (5,), one a column, got {shape}")
    refused(ValueError, f"^{message}$", fastconv.matmul, A, B, np.ones(shape))


NOT_NUMBERS: list[Any] = ["g", "F", "D", "G", "M8[s]", "m8[s]", "S3", "U3", "V4", object]


@pytest.mark.parametrize("dtype", NOT_NUMBERS)
def test_refused_dtypes(dtype: Any) -> None:
    for which, name in enumerate(("a", "b", "bias")):
        arrays = [A, B, BIAS]
        arrays[which] = np.zeros(arrays[which].shape, dtype)
        got = re.escape(f"got dtype {arrays[which].dtype}")
        refused(
            TypeError,
            f"^{name} must be of float16.*integers, bool; {got}$",
            fastconv.matmul,
            *arrays,
        )


def test_what_is_not_an_array() -> None:
    for value in (None, "ab", object(), [[1, 2], [3]]):
        with pytest.raises((TypeError, ValueError)):
            fastconv.matmul(value, B)  # type: ignore[arg-type]


def wrong_outs() -> list[tuple[Any, type[Exception], str]]:
    read_only = np.full((3, 5), 7, "f4")
    read_only.flags.writeable = False
    return [
        (np.full((5, 3), 7, "f4"), ValueError, r"shape \(3, 5\), got \(5, 3\)"),
        (np.full((1, 3, 5), 7, "f4"), ValueError, r"shape \(3, 5\), got \(1, 3, 5\)"),
        (np.full((3, 5), 7, "f8"), TypeError, "dtype float32, got float64"),
        (np.full((3, 5), 7, ">f4"), TypeError, "dtype float32, got >f4"),
        (np.full((3, 5), 7, "f4", order="F"), ValueError, "C-contiguous"),
        (np.full((3, 10), 7, "f4")[:, ::2], ValueError, "C-contiguous"),
        (read_only, ValueError, "writable"),
        (LAYOUTS["unaligned"](np.full((3, 5), 7, "f4")), ValueError, "aligned"),
        ([[0.0] * 5] * 3, TypeError, "array, got list"),
    ]


@pytest.mark.parametrize(("out", "error", "message"), wrong_outs(), ids=lambda value: None)
def test_wrong_out(out: Any, error: type[Exception], message: str) -> None:
    before = np.asarray(out).tobytes()
    refused(error, f"^out must .*{message}", fastconv.matmul, A, B, out=out)
    assert np.asarray(out).tobytes() == before


@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("dtype", FLOATS)
def test_out_over_an_input(which: int, dtype: str) -> None:
    """out= must not share a single number with an input, but may lie right beside it."""
    arrays = [integer_values(shape, dtype) for shape in ((4, 4), (4, 4), (4,))]
    expected = fastconv.matmul(*arrays)
    size = arrays[which].size
    buffer = np.full(size + 32, 7, dtype)
    inside = buffer[16 : 16 + size].reshape(arrays[which].shape)
    inside[...] = arrays[which]
    arrays[which] = inside
    for first in (16, 15, 1, 16 + size - 1):
        before = buffer.tobytes()
        out = buffer[first : first + 16].reshape(4, 4)
        refused(ValueError, "^out must not overlap an input$", fastconv.matmul, *arrays, out=out)
        assert buffer.tobytes() == before
    for first in (0, 16 + size):
        out = buffer[first : first + 16].reshape(4, 4)
        assert fastconv.matmul(*arrays, out=out) is out
        np.testing.assert_array_equal(out, expected)


def test_too_large_results() -> None:
    tall = np.broadcast_to(np.float32(1), (2**40, 1))
    with pytest.raises((MemoryError, ValueError), match=r"\d"):
        fastconv.matmul(tall, tall.T)
