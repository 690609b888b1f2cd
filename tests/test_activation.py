"""relu and its gradient: every kind of number, shape and layout, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from helpers import (
    EDGE_SIZES,
    FLOATS,
    INTEGERS,
    LAYOUTS,
    Array,
    Shape,
    guarded,
    normal_values,
    refused,
    run_python,
)
from test_bounds import at_edge

import fastconv
from fastconv import _arrays, _kernels, activation

DTYPES = ["f2", "f4", "f8"]
each_dtype = pytest.mark.parametrize("dtype", DTYPES)
RUN = 8 << 10
"""How many numbers one item of the kernel's work holds."""


def bits(array: Array) -> Array:
    """View as integers: the sign of zeros, what is in a NaN and a true that is not 1 count."""
    return array.view(f"u{array.dtype.itemsize}")


def assert_same_bits(actual: Any, expected: Array) -> None:
    assert isinstance(actual, np.ndarray)
    assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
    np.testing.assert_array_equal(bits(actual), bits(expected))


def rectified(values: Array) -> Array:
    return np.where(values <= 0, values.dtype.type(0), values)


def passed(grads: Array, mask: Array) -> Array:
    """Let gradients through where the mask is not set."""
    return np.where(mask, grads.dtype.type(0), grads)


def random_mask(shape: Shape, seed: int = 2) -> Array:
    """Draw a mask that has nothing to do with the gradients."""
    return np.asarray(np.random.default_rng(seed).random(shape) < 0.5)


def special(dtype: str) -> Array:
    """List numbers of every kind, with both signs; NaN quiet, signalling and with a payload."""
    limits = np.finfo(dtype)
    kinds = [0, 1, np.nan, np.inf, limits.max, limits.tiny, limits.smallest_subnormal, limits.eps]
    values = np.array([*kinds, np.inf, np.nan], dtype)
    bits(values)[-2:] += np.array([1, 5], bits(values).dtype)
    negative = values.copy()
    bits(negative)[:] |= bits(np.array(-0.0, dtype))
    return np.concatenate([values, negative])


@contextmanager
def allocating(*arrays: Array) -> Iterator[None]:
    """Let fastconv take these, in this order, for the next arrays that it makes."""
    left = list(arrays)

    def given(shape: Shape, dtype: np.dtype[Any]) -> Array:
        array = left.pop(0)
        assert (array.shape, array.dtype) == (shape, dtype)
        return array

    with pytest.MonkeyPatch.context() as patch:
        for module in (_arrays, activation):
            patch.setattr(module, "new_array", given)
        yield
    assert not left, "fewer arrays were made"


def check(values: Array, grads: Array) -> None:
    """Results are exact, and written to out= and the mask alone."""
    expected, mask = rectified(values), np.asarray(values <= 0)
    unrelated = random_mask(values.shape)
    for offset in (0, 3):
        with guarded(values.shape, values.dtype, offset) as out:
            assert fastconv.relu(values, out=out) is out
            assert_same_bits(out, expected)
        with (
            guarded(values.shape, values.dtype, offset) as out,
            guarded(values.shape, np.bool_, offset) as made,
            allocating(made),
        ):
            results = fastconv.relu(values, True, out=out)
            assert isinstance(results, tuple)
            assert len(results) == 2
            assert results[0] is out
            assert results[1] is made
            assert_same_bits(out, expected)
            assert_same_bits(made, mask)
        for masked in (mask, unrelated):
            with guarded(values.shape, values.dtype, offset) as out:
                assert fastconv.relu_backward(grads, masked, out=out) is out
                assert_same_bits(out, passed(grads, masked))


# ---------------------------------------------------------------------------------------- values


@each_dtype
def test_numbers_of_every_kind(level: str, threads: int, dtype: str) -> None:
    """Every kind of number is tried in every lane; zeros become positive, and NaN is kept."""
    values = special(dtype)
    for first in range(len(values)):
        rolled = np.tile(np.roll(values, first), 5)
        check(rolled, np.roll(rolled, 3))
    assert not np.signbit(fastconv.relu(np.array([-0.0, -1], dtype))).any()


def test_every_float16(level: str, threads: int) -> None:
    values = np.arange(2**16, dtype=np.uint16).view(np.float16)
    assert_same_bits(fastconv.relu(values), rectified(values))
    output, mask = fastconv.relu(values, return_mask=True)
    assert_same_bits(output, rectified(values))
    assert_same_bits(mask, values <= 0)
    ones = np.ones_like(values)
    assert_same_bits(fastconv.relu_backward(ones, mask), passed(ones, mask))
    for masked in (np.zeros_like(mask), np.ones_like(mask), mask, ~mask, random_mask(mask.shape)):
        assert_same_bits(fastconv.relu_backward(values, masked), passed(values, masked))


@each_dtype
def test_gradients_of_every_kind(level: str, dtype: str) -> None:
    """Where the mask is set, zeros are positive, whatever the gradient; elsewhere bits are kept."""
    grads = np.tile(special(dtype), 7)
    for masked in (True, False):
        mask = np.full(grads.shape, masked)
        expected = np.zeros_like(grads) if masked else grads
        assert_same_bits(fastconv.relu_backward(grads, mask), expected)


@each_dtype
def test_masks_of_other_bytes(level: str, dtype: str) -> None:
    """NumPy reads every byte but 0 as true, and views of other arrays contain such bytes."""
    mask = np.tile(np.arange(256, dtype=np.uint8), 3).view(np.bool_)
    grads = np.arange(1, mask.size + 1).astype(dtype)
    expected = np.where(mask.view(np.uint8) != 0, grads.dtype.type(0), grads)
    assert_same_bits(fastconv.relu_backward(grads, mask), expected)
    assert_same_bits(fastconv.relu_backward(grads[::-1], mask[::-1]), expected[::-1].copy())


@each_dtype
def test_pytorch(torch: Any, dtype: str) -> None:
    values, grads = normal_values((3, 5, 7), dtype), normal_values((3, 5, 7), dtype, seed=1)
    tensor = torch.from_numpy(values.copy()).requires_grad_()
    result = torch.nn.functional.relu(tensor)
    result.backward(torch.from_numpy(grads))
    output, mask = fastconv.relu(values, return_mask=True)
    np.testing.assert_array_equal(output, result.detach().numpy())
    np.testing.assert_array_equal(fastconv.relu_backward(grads, mask), tensor.grad.numpy())


# ----------------------------------------------------------------------------------------- sizes


@each_dtype
def test_sizes_around_vectors(level: str, dtype: str) -> None:
    for size in EDGE_SIZES:
        check(normal_values((size,), dtype), normal_values((size,), dtype, seed=1))


@each_dtype
def test_sizes_around_runs(level: str, threads: int, dtype: str) -> None:
    for size in (RUN - 1, RUN, RUN + 1, 2 * RUN + 3, 12 * RUN - 1, 12 * RUN + 1):
        check(normal_values((size,), dtype), normal_values((size,), dtype, seed=1))


@each_dtype
def test_recycled_memory(level: str, threads: int, dtype: str) -> None:
    """Large results and masks in recycled memory are written completely."""
    values = normal_values(((1 << 20) + 5,), dtype)
    grads = normal_values(values.shape, dtype, seed=1)
    for _ in range(2):
        for given in (values, -values):
            output, mask = fastconv.relu(given, return_mask=True)
            gradient = fastconv.relu_backward(grads, mask)
            assert_same_bits(output, rectified(given))
            assert_same_bits(mask, given <= 0)
            assert_same_bits(gradient, passed(grads, mask))
            del output, mask, gradient


SHAPES: list[Shape] = [
    *((), (1,), (5, 3), (2, 3, 4, 5), (2, 1, 3, 1, 2, 1, 3)),
    *((0,), (0, 3), (3, 0), (2, 0, 4, 4), (1,) * 20),
]


@each_dtype
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_shapes(level: str, shape: Shape, dtype: str) -> None:
    values, grads = (np.asarray(normal_values(shape, "f8", seed)).astype(dtype) for seed in (0, 1))
    values, grads = np.asarray(values).reshape(shape), np.asarray(grads).reshape(shape)
    check(values, grads)
    assert_same_bits(fastconv.relu(values), np.asarray(rectified(values)))
    output, mask = fastconv.relu(values, return_mask=True)
    assert_same_bits(output, np.asarray(rectified(values)))
    assert_same_bits(mask, np.asarray(values <= 0))
    assert_same_bits(fastconv.relu_backward(grads, mask), np.asarray(passed(grads, mask)))


def test_numbers_and_lists() -> None:
    assert_same_bits(fastconv.relu(-2.0), np.array(0.0))
    for number in (-2.0, 2.0):
        output, mask = fastconv.relu(number, return_mask=True)
        assert_same_bits(output, np.array(max(number, 0.0)))
        assert_same_bits(mask, np.array(number < 0))
        gradient = fastconv.relu_backward(3.0, number < 0)
        assert_same_bits(gradient, np.array(0.0 if number < 0 else 3.0))
    assert_same_bits(fastconv.relu([[-1.0, 2.0]]), np.array([[0.0, 2.0]]))
    assert_same_bits(fastconv.relu_backward([3.0, 4.0], [True, False]), np.array([0.0, 4.0]))


# --------------------------------------------------------------------------------------- layouts


@each_dtype
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(level: str, layout: str, dtype: str) -> None:
    """Results are C-contiguous and in native byte order; inputs are left alone."""
    values, grads = normal_values((3, 5, 7), dtype), normal_values((3, 5, 7), dtype, seed=1)
    laid, output, mask = LAYOUTS[layout], rectified(values), values <= 0
    given = laid(values)
    for result in (fastconv.relu(given), fastconv.relu(given, return_mask=True)[0]):
        assert result.flags.c_contiguous
        assert result.dtype.isnative
        assert_same_bits(result, output)
    made = fastconv.relu(given, return_mask=True)[1]
    assert made.flags.carray
    assert_same_bits(made, mask)
    np.testing.assert_array_equal(given, values)
    for arrays in ((laid(grads), mask), (grads, laid(mask)), (laid(grads), laid(mask))):
        result = fastconv.relu_backward(*arrays)
        assert result.flags.c_contiguous
        assert result.dtype.isnative
        assert_same_bits(result, passed(grads, mask))
        np.testing.assert_array_equal(arrays[0], grads)
        assert_same_bits(np.ascontiguousarray(arrays[1]), mask)


@each_dtype
def test_layouts_of_several_runs(level: str, threads: int, dtype: str) -> None:
    shape = (3, RUN // 2 + 5)
    values, grads = normal_values(shape, dtype), normal_values(shape, dtype, seed=1)
    mask = values <= 0
    for laid in LAYOUTS.values():
        output, made = fastconv.relu(laid(values), return_mask=True)
        assert_same_bits(output, rectified(values))
        assert_same_bits(made, mask)
        assert_same_bits(fastconv.relu_backward(grads, laid(mask)), passed(grads, mask))
        assert_same_bits(fastconv.relu_backward(laid(grads), mask), passed(grads, mask))


@each_dtype
def test_steps_of_zero(level: str, dtype: str) -> None:
    column = special(dtype)[:, None]
    values = np.broadcast_to(column, (len(column), 9))
    mask = values <= 0
    assert_same_bits(fastconv.relu(values), rectified(values))
    output, made = fastconv.relu(values, return_mask=True)
    assert_same_bits(output, rectified(values))
    assert_same_bits(made, mask)
    assert made.flags.carray
    for masked in (
        mask,
        np.broadcast_to(column <= 0, values.shape),
        np.broadcast_to(random_mask((9,)), values.shape),
        np.broadcast_to(np.True_, values.shape),
        np.broadcast_to(np.False_, values.shape),
    ):
        one = np.broadcast_to(np.ones((), dtype), values.shape)
        for grads in (one, values, values.copy()):
            assert_same_bits(fastconv.relu_backward(grads, masked), passed(grads, masked))


@each_dtype
def test_fields_of_records(level: str, dtype: str) -> None:
    """Fields of records have strides that the size of their dtype does not divide."""
    records = np.zeros((5, 7), np.dtype([("mask", "?"), ("grad", dtype), ("rest", "V2")]))
    grads, mask = normal_values((5, 7), dtype), random_mask((5, 7))
    records["grad"], records["mask"] = grads, mask
    before = records.tobytes()
    result = fastconv.relu_backward(records["grad"], records["mask"])
    assert_same_bits(result, passed(grads, mask))
    output, made = fastconv.relu(records["grad"], return_mask=True)
    assert_same_bits(output, rectified(grads))
    assert_same_bits(made, grads <= 0)
    assert records.tobytes() == before


def test_results_are_new_arrays() -> None:
    values, mask = np.ones(5, "f4"), np.zeros(5, np.bool_)
    result = fastconv.relu(values)
    assert not np.shares_memory(result, values)
    assert not np.shares_memory(fastconv.relu_backward(values, mask), values)
    output, made = fastconv.relu(values, return_mask=True)
    again = fastconv.relu(-values, return_mask=True)[1]
    assert not np.shares_memory(output, values)
    for other in (values, output, again):
        assert not np.shares_memory(made, other)
    assert made.flags.writeable
    assert_same_bits(made, mask)  # not by the second call either


def test_a_mask_is_returned_only_if_asked_for() -> None:
    values = np.array([-1.0, 2.0])
    expected = np.array([0.0, 2.0])
    assert_same_bits(fastconv.relu(values), expected)
    assert_same_bits(fastconv.relu(values, return_mask=False), expected)
    assert_same_bits(fastconv.relu(values, False), expected)
    assert_same_bits(fastconv.relu(values, True)[1], np.array([True, False]))


# ---------------------------------------------------------------------------------------- bounds


def check_edges(level: str) -> None:
    """Run in a process of its own: arrays against pages that must not be touched."""
    _kernels.use(level)
    for dtype in DTYPES:
        for size in (*EDGE_SIZES, RUN + 1):
            values, grads = normal_values((size,), dtype), normal_values((size,), dtype, 1)
            mask = values <= 0
            for end in (True, False):
                out = at_edge(np.zeros_like(values), end)
                fastconv.relu(at_edge(values, end), out=out)
                assert_same_bits(out, rectified(values))
                out, made = at_edge(np.zeros_like(values), end), at_edge(~mask, end)
                with allocating(made):
                    fastconv.relu(at_edge(values, end), return_mask=True, out=out)
                assert_same_bits(out, rectified(values))
                assert_same_bits(made, mask)
                for masked in (mask, random_mask(mask.shape)):
                    fastconv.relu_backward(at_edge(grads, end), at_edge(masked, end), out=out)
                    assert_same_bits(out, passed(grads, masked))
    print("done")


@pytest.mark.skipif("sys.platform == 'win32'", reason="pages are protected with POSIX calls")
@pytest.mark.parametrize("name", _kernels.available_levels())
def test_arrays_at_the_edge_of_memory(name: str) -> None:
    result = run_python(f"import test_activation; test_activation.check_edges({name!r})")
    assert (result.returncode, result.stdout) == (0, "done\n"), result.stderr[-2000:]


# ---------------------------------------------------------------------------------------- errors


NOT_FLOATS: list[Any] = [
    *(dtype.char for dtype in INTEGERS),
    *("?", "g", "F", "D", "M8[s]", "m8[s]", "S3", "U3", "V4", object),
]


@pytest.mark.parametrize("dtype", NOT_FLOATS)
def test_refused_dtypes(dtype: Any) -> None:
    wrong, mask = np.zeros((2, 3), dtype), np.zeros((2, 3), np.bool_)
    message = re.escape(f"must be of float16, float32, float64; got dtype {wrong.dtype}")
    refused(TypeError, f"^input {message}$", fastconv.relu, wrong)
    refused(TypeError, f"^input {message}$", fastconv.relu, wrong, return_mask=True)
    refused(TypeError, f"^grad_output {message}$", fastconv.relu_backward, wrong, mask)


NOT_BOOL: list[Any] = [
    *(dtype.char for dtype in (*INTEGERS, *FLOATS)),
    *("g", "F", "D", "M8[s]", "m8[s]", "S1", "U1", "V1", object, [("mask", "?")]),
]


@pytest.mark.parametrize("dtype", NOT_BOOL, ids=str)
def test_refused_masks(dtype: Any) -> None:
    """Only bool is accepted: neither other dtypes of one byte nor the output of relu."""
    wrong = np.zeros((2, 3), dtype)
    message = re.escape(f"mask must be of bool; got dtype {wrong.dtype}")
    out = np.full((2, 3), 7.0)
    for grads in DTYPES:
        refused(TypeError, f"^{message}$", fastconv.relu_backward, np.ones((2, 3), grads), wrong)
    refused(TypeError, f"^{message}$", fastconv.relu_backward, np.ones((2, 3)), wrong, out=out)
    assert (out == 7).all()


def test_lists_that_are_no_masks() -> None:
    for values in ([0, 1], [0.0, 1.0]):
        message = f"^mask must be of bool; got dtype {np.asarray(values).dtype}$"
        refused(TypeError, message, fastconv.relu_backward, [3.0, 4.0], values)


def test_what_is_not_an_array() -> None:
    for value in (None, "relu", object(), [[1.0, 2.0], [3.0]]):
        with pytest.raises((TypeError, ValueError)):
            fastconv.relu(value)  # type: ignore[call-overload]
        with pytest.raises((TypeError, ValueError)):
            fastconv.relu_backward(value, [False, False])  # type: ignore[arg-type]
        with pytest.raises((TypeError, ValueError)):
            fastconv.relu_backward([1.0, 2.0], value)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(), (3,), (3, 2), (1, 2, 3), (2, 1), (0, 3)], ids=str)
def test_shapes_that_differ(shape: Shape) -> None:
    """Neither the gradient nor the mask is broadcast."""
    for grads, mask in ((shape, (2, 3)), ((2, 3), shape)):
        message = re.escape(f"grad_output must have the shape of mask, {mask}, got {grads}")
        arrays = np.ones(grads), np.ones(mask, np.bool_)
        refused(ValueError, f"^{message}$", fastconv.relu_backward, *arrays)


def wrong_outs() -> list[tuple[Any, type[Exception], str]]:
    read_only = np.full((2, 3), 7, "f4")
    read_only.flags.writeable = False
    return [
        (np.full((3, 2), 7, "f4"), ValueError, r"shape \(2, 3\), got \(3, 2\)"),
        (np.full(6, 7, "f4"), ValueError, r"shape \(2, 3\), got \(6,\)"),
        (np.full((2, 3), 7, "f8"), TypeError, "dtype float32, got float64"),
        (np.full((2, 3), 7, ">f4"), TypeError, "dtype float32, got >f4"),
        (np.full((2, 3), 7, "f4", order="F"), ValueError, "C-contiguous"),
        (np.full((2, 6), 7, "f4")[:, ::2], ValueError, "C-contiguous"),
        (read_only, ValueError, "writable"),
        (LAYOUTS["unaligned"](np.full((2, 3), 7, "f4")), ValueError, "aligned"),
        ([[0.0] * 3] * 2, TypeError, "array, got list"),
    ]


@pytest.mark.parametrize(("out", "error", "message"), wrong_outs(), ids=lambda value: None)
def test_wrong_out(out: Any, error: type[Exception], message: str) -> None:
    values, before = np.ones((2, 3), "f4"), np.asarray(out).tobytes()
    mask = values <= 0
    refused(error, f"^out must .*{message}", fastconv.relu, values, out=out)
    refused(error, f"^out must .*{message}", fastconv.relu, values, return_mask=True, out=out)
    refused(error, f"^out must .*{message}", fastconv.relu_backward, values, mask, out=out)
    assert np.asarray(out).tobytes() == before


def test_out_over_an_input() -> None:
    """out= must not share a single number with an input, but may lie right beside it."""
    buffer = np.linspace(-1, 1, 30)
    values, mask = buffer[10:20], random_mask((10,))
    message = "^out must not overlap an input$"
    for first in (10, 9, 1, 19):
        before, out = buffer.tobytes(), buffer[first : first + 10]
        refused(ValueError, message, fastconv.relu, values, out=out)
        refused(ValueError, message, fastconv.relu, values, return_mask=True, out=out)
        refused(ValueError, message, fastconv.relu_backward, values, mask, out=out)
        assert buffer.tobytes() == before
    for first in (0, 20):
        kept, out = values.copy(), buffer[first : first + 10]
        fastconv.relu(values, out=out)
        assert_same_bits(out, rectified(values))
        fastconv.relu_backward(values, mask, out=out)
        assert_same_bits(out, passed(values, mask))
        assert_same_bits(values, kept)


@each_dtype
def test_out_over_the_mask(dtype: str) -> None:
    """out= must not share a single byte with the mask."""
    size = 10 * np.dtype(dtype).itemsize
    buffer, grads = np.zeros(3 * size, np.uint8), normal_values((10,), dtype)
    out = buffer[size : 2 * size].view(dtype)
    for first in (size - 9, size, size + 1, 2 * size - 10, 2 * size - 1):
        mask = buffer[first : first + 10].view(np.bool_)
        mask[...] = random_mask((10,))
        before = buffer.tobytes()
        message = "^out must not overlap an input$"
        refused(ValueError, message, fastconv.relu_backward, grads, mask, out=out)
        refused(ValueError, message, fastconv.relu_backward, grads, mask[::-1], out=out)
        assert buffer.tobytes() == before
    for first in (size - 10, 2 * size):
        mask = buffer[first : first + 10].view(np.bool_)
        mask[...] = random_mask((10,))
        fastconv.relu_backward(grads, mask, out=out)
        assert_same_bits(out, passed(grads, random_mask((10,))))
        assert_same_bits(mask, random_mask((10,)))
