"""What several test files share: arrays in every layout, comparisons, guards, the operations."""

from __future__ import annotations

import inspect
import io
import os
import re
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import reference
from hypothesis import strategies as st
from numpy.typing import DTypeLike, NDArray

import fastconv
from fastconv import layers

Array = NDArray[Any]
DType = np.dtype[Any]
Shape = tuple[int, ...]

INTEGERS = [np.dtype(char) for char in "bBhHiIlLqQ"]
"""Every integer type, also those that are of one size with another (long and long long)."""
FLOATS = [np.dtype(char) for char in "efd"]
PAD_MODES = ["constant", "edge", "reflect", "symmetric", "wrap"]
VECTOR_WIDTHS = [4, 8, 16, 32, 64]
EDGE_SIZES = sorted({1} | {size for t in VECTOR_WIDTHS for size in (t - 1, t, t + 1, 2 * t + 1)})
"""Row lengths around every number of elements that a vector register can hold."""


def integer_values(shape: Shape, dtype: DTypeLike = np.float32, seed: int = 0) -> Array:
    """Draw small integers in any numeric dtype: in whatever order, their sum is exact."""
    dtype = np.dtype(dtype)
    low = 0 if dtype.kind in "ub" else -8
    high = 2 if dtype.kind == "b" else 9
    values: Array = np.random.default_rng(seed).integers(low, high, shape).astype(dtype)
    return values


def normal_values(shape: Shape, dtype: DTypeLike = np.float32, seed: int = 0) -> Array:
    """Draw standard normal values, whose sums show in which order they were added."""
    values: Array = np.random.default_rng(seed).standard_normal(shape).astype(dtype)
    return values


def assert_same(actual: Any, expected: Array) -> None:
    """Compare dtype, shape and values, the sign of zeros too; every NaN equals every other."""
    assert isinstance(actual, np.ndarray)
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    np.testing.assert_array_equal(actual, expected)
    if actual.dtype.kind == "f":
        signs, expected_signs = (
            np.signbit(np.where(np.isnan(array), 1, array)) for array in (actual, expected)
        )
        np.testing.assert_array_equal(signs, expected_signs, err_msg="the sign of a zero differs")


def assert_close(actual: Any, expected: Array, dtype: DTypeLike, terms: int = 1) -> None:
    """Compare values up to a few roundings of a sum of so many terms."""
    assert isinstance(actual, np.ndarray)
    assert actual.dtype == np.dtype(dtype)
    assert actual.shape == expected.shape
    scale = max(1.0, float(np.abs(expected).max(initial=0)))
    tolerance = 4 * float(np.finfo(dtype).eps) * terms**0.5 * scale
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance)


# --------------------------------------------------------------------------------------- errors

PUBLIC = {*fastconv.__all__, *layers.__all__}


def refused(
    error: type[Exception], message: str, call: Callable[..., Any], *args: Any, **kwargs: Any
) -> None:
    """Check that the call raises exactly this exception, with a message that matches.

    The regular expression is for what follows the name of the function or of the layer, with which
    every message begins.
    """
    with pytest.raises(error) as caught:
        call(*args, **kwargs)
    assert type(caught.value) is error
    name, _, text = str(caught.value).partition(": ")
    assert name in called_names(call), caught.value
    assert re.search(message, text, re.DOTALL), caught.value


def called_names(call: Callable[..., Any]) -> set[str]:
    """Return the public names that an error of the call may begin with, as few as can be told."""
    if isinstance(call, partial):
        return called_names(call.func)
    if inspect.ismethod(call):
        return {type(call.__self__).__name__}
    names = {call.__name__}
    if inspect.isfunction(call):
        names.update(call.__code__.co_names)
    return names & PUBLIC or PUBLIC


# -------------------------------------------------------------------------------------- layouts


def _unaligned(array: Array) -> Array:
    copy: Array = np.ndarray(array.shape, array.dtype, bytearray(array.nbytes + 1), offset=1)
    copy[...] = array
    return copy


def _every_other(array: Array) -> Array:
    spread = np.zeros([2 * size for size in array.shape], array.dtype)
    view: Array = spread[(slice(1, None, 2),) * array.ndim]
    view[...] = array
    return view


def _interior(array: Array) -> Array:
    larger = np.zeros([size + 3 for size in array.shape], array.dtype)
    view: Array = larger[tuple(slice(1, 1 + size) for size in array.shape)]
    view[...] = array
    return view


def _in_records(array: Array) -> Array:
    """Put a byte behind each item of the first axis, so that most items are not aligned."""
    record = np.dtype([("values", array.dtype, array.shape[1:]), ("label", np.uint8)])
    view: Array = np.zeros(len(array), record)["values"]
    view[...] = array
    return view


def _read_only(array: Array) -> Array:
    copy = array.copy()
    copy.flags.writeable = False
    return copy


def _channels_last(array: Array) -> Array:
    return np.moveaxis(np.moveaxis(array, -1, 0).copy(), 0, -1)


LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "contiguous": lambda array: array.copy(),
    "fortran": lambda array: array.copy(order="F"),
    "channels-last": _channels_last,
    "negative-steps": lambda array: np.flip(np.flip(array).copy()),
    "every-other": _every_other,
    "interior": _interior,
    "unaligned": _unaligned,
    "in-records": _in_records,
    "read-only": _read_only,
    "byte-swapped": lambda array: array.astype(array.dtype.newbyteorder("S")),
    "unaligned-swapped": lambda array: _unaligned(array.astype(array.dtype.newbyteorder("S"))),
}
"""Ways to hold the same values in memory."""


# --------------------------------------------------------------------------------------- guards


@contextmanager
def guarded(shape: Shape, dtype: DTypeLike, offset: int = 3) -> Iterator[Array]:
    """Yield an array inside a larger buffer; on leaving, nothing around it may have changed.

    ``offset`` elements after a multiple of 64 bytes, so that a vector store is not aligned.
    """
    dtype = np.dtype(dtype)
    canary, margin = 0xA5, 256
    size = int(np.prod(shape)) * dtype.itemsize
    buffer = np.full(size + 2 * margin + 64 + offset * dtype.itemsize, canary, np.uint8)
    start = margin + (-(buffer.ctypes.data + margin)) % 64 + offset * dtype.itemsize
    yield np.ndarray(shape, dtype, buffer.data, start)
    assert (buffer[:start] == canary).all(), "written before the start of out="
    assert (buffer[start + size :] == canary).all(), "written past the end of out="


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter that can import the test helpers; never wait for ever."""
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


class CommandResult(NamedTuple):
    """What a command has returned and printed."""

    code: int
    out: str
    err: str

    def assert_refused(self, name: str, *words: str) -> None:
        """Check that there is one line on standard error, none on standard output, and code 2."""
        assert self.code == 2, self
        assert self.out == ""
        assert self.err.startswith(f"fastconv {name}: error: ")
        assert self.err.count("\n") == 1
        for word in words:
            assert word in self.err


PEAK = """
def peak():
    with open("/proc/self/status") as file:
        [line] = [line for line in file if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024
"""
"""The most memory of a process so far; ru_maxrss begins with that of the process it came from."""
needs_proc = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="this system does not say what a process took"
)


@contextmanager
def memory_bounded(most: int) -> Iterator[None]:
    """Assert that Python and NumPy reserve no more bytes than this within the block."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= most


def npy(array: Array, shape: Shape | None = None) -> bytes:
    """Write an array as an .npy file, whose header may announce another shape."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file,
        {
            "descr": array.dtype.str,
            "fortran_order": False,
            "shape": array.shape if shape is None else shape,
        },
    )
    return file.getvalue() + array.tobytes()


def replace_member(path: Path, name: str, data: bytes, method: int = zipfile.ZIP_DEFLATED) -> None:
    """Write one file within a .npz file anew, or one more, compressed."""
    with zipfile.ZipFile(path) as archive:
        members = {key: archive.read(key) for key in archive.namelist() if key != name}
    with zipfile.ZipFile(path, "w") as archive:
        for key, content in members.items():
            archive.writestr(key, content)
        archive.writestr(name, data, method)


# -------------------------------------------------------------------------------------- windows


@st.composite
def window_cases(draw: st.DrawFn) -> tuple[Shape, dict[str, Any]]:
    """Draw an image shape and window arguments that fit it, in all forms."""

    def pairs(low: int, high: int) -> st.SearchStrategy[tuple[int, int]]:
        return st.tuples(st.integers(low, high), st.integers(low, high))

    kernel, stride, dilation = draw(pairs(1, 4)), draw(pairs(1, 3)), draw(pairs(1, 3))
    padding = draw(
        st.one_of(
            st.integers(0, 9),
            pairs(0, 5),
            st.tuples(pairs(0, 9), pairs(0, 9)),
            st.sampled_from(["same", "valid"]),
        )
    )
    extra = draw(pairs(0, 8))
    size = []
    for i in (0, 1):
        added = 0
        if not isinstance(padding, str):
            sides = padding if isinstance(padding, int) else padding[i]
            added = 2 * sides if isinstance(sides, int) else sum(sides)
        extent = dilation[i] * (kernel[i] - 1) + 1
        size.append(max(1, (1 if padding == "same" else extent - added)) + extra[i])
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 3)), *size)
    pad_mode = draw(st.sampled_from(PAD_MODES))
    return shape, {
        "kernel_size": kernel,
        "stride": stride,
        "dilation": dilation,
        "padding": padding,
        "pad_mode": pad_mode,
    }


# ----------------------------------------------------------------------------------- operations


@dataclass(frozen=True)
class Operation:
    """One public function with fixed window arguments, for tests that all functions share.

    Each works on an image shape: ``inputs`` gives the shapes of its array arguments, ``call`` and
    ``expected`` take the arrays and the image shape. An argument called ``indices`` is filled with
    positions in the image plane; a weight or a bias is no batch of images.
    """

    name: str
    inputs: Callable[[Shape], dict[str, Shape]]
    call: Callable[..., Any]
    expected: Callable[[list[Array], Shape], Array]
    unbatched: bool = True
    out: bool = True

    def arrays(
        self, shape: Shape, fill: Callable[..., Array] = integer_values, dtype: DTypeLike = "f4"
    ) -> list[Array]:
        """Make the array arguments for images of this shape, by default of integer values."""
        plane = shape[-2] * shape[-1]
        random = np.random.default_rng(7)
        return [
            random.integers(0, plane, size) if name == "indices" else fill(size, dtype)
            for name, size in self.inputs(shape).items()
        ]

    def batch_of_one(self, arrays: list[Array], shape: Shape) -> list[Array]:
        """Give a batch axis to the arrays of an unbatched call that have one in others."""
        return [
            array if name in ("weight", "bias") else array[None]
            for name, array in zip(self.inputs(shape), arrays)
        ]


def _pooled(shape: Shape) -> Shape:
    """Return the output shape of a 3x3 window with stride 2 and padding 1."""
    return (*shape[:-2], (shape[-2] - 1) // 2 + 1, (shape[-1] - 1) // 2 + 1)


def _rows(shape: Shape) -> Shape:
    return (shape[0] * shape[2] * shape[3], shape[1] * 9)


def _columns(shape: Shape) -> Shape:
    return (*shape[:-3], shape[-3] * 9, shape[-2] * shape[-1])


def _columns_of_rows(rows: Array, shape: Shape) -> Array:
    """Turn the textbook's layout into PyTorch's."""
    return rows.reshape(shape[0], shape[2] * shape[3], shape[1] * 9).transpose(0, 2, 1).copy()


def _rows_of_columns(columns: Array) -> Array:
    """Turn PyTorch's layout into the textbook's."""
    count, entries, windows = columns.shape
    return columns.transpose(0, 2, 1).reshape(count * windows, entries)


FILTERS = 18
"""Whole vectors and a rest, whether they hold 4, 8 or 16 elements."""


def _filtered(shape: Shape, stride: int = 1) -> Shape:
    """Return the output shape of 3x3 filters with padding 1."""
    plane = shape if stride == 1 else _pooled(shape)
    return (*shape[:-3], FILTERS, *plane[-2:])


def _weight(shape: Shape) -> Shape:
    return (FILTERS, shape[-3], 3, 3)


def _gradient_inputs(shape: Shape) -> dict[str, Shape]:
    return {"grad_output": _filtered(shape), "input": shape, "weight": _weight(shape)}


def _gradient(a: list[Array], which: int) -> Any:
    mask = [i == which for i in range(3)]
    return fastconv.conv2d_backward(a[0], a[1], a[2], padding=1, output_mask=mask)[which]


def _in_float64(function: Callable[..., Array], arrays: list[Array]) -> Array:
    """Compute integer values exactly and round once; sums that start from 0 are never -0."""
    exact = function(*[array.astype(np.float64) for array in arrays])
    return (exact + 0.0).astype(arrays[0].dtype)


def _convolved(images: Array, weight: Array, bias: Array) -> Array:
    result: Array = reference.textbook_conv2d(images, weight, 1, 1) + bias[:, None, None]
    return result


def _handed_back(grads: Array, images: Array, weight: Array) -> tuple[Array, Array, Array]:
    return reference.textbook_conv2d_backward(grads, images, weight, 1, 1)


def _spread(shape: Shape) -> Callable[..., Array]:
    """Return the gradient of a convolution with stride 2 of images of this shape, and more."""

    def spread(grads: Array, weight: Array, bias: Array) -> Array:
        known = (grads, np.zeros(shape), weight)
        result: Array = reference.textbook_conv2d_backward(*known, 2, 1)[0] + bias[:, None, None]
        return result

    return spread


OPERATIONS = {
    operation.name: operation
    for operation in (
        Operation(
            "im2col",
            lambda shape: {"input_data": shape},
            lambda a, shape, **kw: fastconv.im2col(a[0], 3, 3, 1, 1, **kw),
            lambda a, shape: reference.textbook_im2col(a[0], 3, 3, 1, 1),
            unbatched=False,
        ),
        Operation(
            "col2im",
            lambda shape: {"col": _rows(shape)},
            lambda a, shape, **kw: fastconv.col2im(a[0], shape, 3, 3, 1, 1, **kw),
            lambda a, shape: reference.textbook_col2im(a[0], shape, 3, 3, 1, 1),
            unbatched=False,
        ),
        Operation(
            "unfold",
            lambda shape: {"input": shape},
            lambda a, shape, **kw: fastconv.unfold(a[0], 3, padding=1, **kw),
            lambda a, shape: _columns_of_rows(reference.textbook_im2col(a[0], 3, 3, 1, 1), shape),
        ),
        Operation(
            "fold",
            lambda shape: {"input": _columns(shape)},
            lambda a, shape, **kw: fastconv.fold(a[0], shape[-2:], 3, padding=1, **kw),
            lambda a, shape: reference.textbook_col2im(_rows_of_columns(a[0]), shape, 3, 3, 1, 1),
        ),
        Operation(
            "max_pool2d",
            lambda shape: {"input": shape},
            lambda a, shape, **kw: fastconv.max_pool2d(a[0], 3, 2, 1, **kw),
            lambda a, shape: reference.max_pool2d(a[0], 3, 2, 1)[0],
        ),
        Operation(
            "max_pool2d_backward",
            lambda shape: {"grad_output": _pooled(shape), "indices": _pooled(shape)},
            lambda a, shape, **kw: fastconv.max_pool2d_backward(a[0], a[1], shape, **kw),
            lambda a, shape: reference.max_pool2d_backward(a[0], a[1], shape),
        ),
        Operation(
            "max_unpool2d",
            lambda shape: {"input": _pooled(shape), "indices": _pooled(shape)},
            lambda a, shape: fastconv.max_unpool2d(a[0], a[1], 3, 2, 1, output_size=shape[-2:]),
            lambda a, shape: reference.max_unpool2d(a[0], a[1], 3, 2, 1, shape[-2:]),
            out=False,
        ),
        Operation(
            "avg_pool2d",
            lambda shape: {"input": shape},
            lambda a, shape, **kw: fastconv.avg_pool2d(a[0], 3, 2, 1, **kw),
            lambda a, shape: reference.avg_pool2d(a[0], 3, 2, 1).astype(a[0].dtype),
        ),
        Operation(
            "avg_pool2d_backward",
            lambda shape: {"grad_output": (*shape[:-2], shape[-2] + 1, shape[-1] + 1)},
            lambda a, shape, **kw: fastconv.avg_pool2d_backward(a[0], shape, 2, 1, 1, **kw),
            lambda a, shape: reference.avg_pool2d_backward(a[0], shape, 2, 1, 1).astype(a[0].dtype),
        ),
        Operation(
            "conv2d",
            lambda shape: {"input": shape, "weight": _weight(shape), "bias": (FILTERS,)},
            lambda a, shape, **kw: fastconv.conv2d(a[0], a[1], a[2], padding=1, **kw),
            lambda a, shape: _in_float64(_convolved, a),
        ),
        Operation(
            "conv2d_backward",
            _gradient_inputs,
            lambda a, shape: _gradient(a, 0),
            lambda a, shape: _in_float64(lambda *a: _handed_back(*a)[0], a),
            out=False,
        ),
        Operation(
            "conv2d_backward-of-the-weight",
            _gradient_inputs,
            lambda a, shape: _gradient(a, 1),
            lambda a, shape: _in_float64(lambda *a: _handed_back(*a)[1], a),
            unbatched=False,
            out=False,
        ),
        Operation(
            "conv_transpose2d",
            lambda shape: {
                "input": _filtered(shape, 2),
                "weight": _weight(shape),
                "bias": (shape[-3],),
            },
            lambda a, shape, **kw: fastconv.conv_transpose2d(
                a[0], a[1], a[2], 2, 1, [(size + 1) % 2 for size in shape[-2:]], **kw
            ),
            lambda a, shape: _in_float64(_spread(shape), a),
        ),
    )
}


def _each(operations: list[Operation]) -> pytest.MarkDecorator:
    names = [operation.name for operation in operations]
    return pytest.mark.parametrize("operation", operations, ids=names)


each_operation = _each(list(OPERATIONS.values()))
each_with_out = _each([operation for operation in OPERATIONS.values() if operation.out])
each_unbatched = _each([operation for operation in OPERATIONS.values() if operation.unbatched])


@cache
def known_case(name: str, shape: Shape) -> tuple[list[Array], Array]:
    """Make arguments of an operation, of small integers, and its result, once for all tests.

    The loops of the definition take longer on large images than everything else in a test.
    """
    arrays = OPERATIONS[name].arrays(shape)
    expected = OPERATIONS[name].expected(arrays, shape)
    for array in (*arrays, expected):
        array.flags.writeable = False
    return arrays, expected
