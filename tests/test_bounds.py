"""No kernel reads or writes beyond its arrays: they end, or begin, where the memory does.

Each array lies against a page that must not be touched; touching it ends the process, which is
why the checks run in one of their own.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import pytest
from helpers import EDGE_SIZES, OPERATIONS, Array, Operation, integer_values, run_python

import fastconv
from fastconv import _kernels, convolution

SHAPES = [
    (count, channels, height, width)
    for width in (1, 2, 7, 9, 16, 17, 33, 64, 130)
    for count, channels, height in ((1, 1, 4), (2, 3, 2), (1, 2, 9))
]
DTYPES = ["f2", "f4", "f8"]
WINDOWS = [(1, 1, 0), (1, 2, 0), (2, 1, 1), (2, 2, 0), (3, 3, 1), (4, 2, 1), (5, 1, 2), (7, 2, 3)]
"""(kernel, stride, padding); the functions of the table have one of 3."""


def at_edge(array: Array, end: bool) -> Array:
    """Copy an array to memory between two pages of no access, against the second or the first."""
    page = mmap.PAGESIZE
    pages = -(-array.nbytes // page)
    mapping = mmap.mmap(-1, (pages + 2) * page)
    address = ctypes.addressof(ctypes.c_char.from_buffer(mapping))
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    for guard in (address, address + (pages + 1) * page):
        if protect(ctypes.c_void_p(guard), ctypes.c_size_t(page), 0) != 0:
            raise OSError(ctypes.get_errno(), "mprotect failed")
    offset = page + (pages * page - array.nbytes if end else 0)
    copy: Array = np.ndarray(array.shape, array.dtype, mapping, offset)
    copy[...] = array
    return copy


def check(operation: Operation, shape: tuple[int, ...], dtype: str) -> None:
    arrays = operation.arrays(shape, dtype=dtype)
    expected = operation.expected(arrays, shape)
    for end in (True, False):
        guarded = [at_edge(array, end) for array in arrays]
        out = {"out": at_edge(np.zeros_like(expected), end)} if operation.out else {}
        np.testing.assert_array_equal(operation.call(guarded, shape, **out), expected)


def same_at_edge(
    end: bool, function: Callable[..., Any], arrays: list[Array], *arguments: Any
) -> Array:
    expected: Array = function(*arrays, *arguments)
    out = at_edge(np.zeros_like(expected), end)
    function(*[at_edge(array, end) for array in arrays], *arguments, out=out)
    np.testing.assert_array_equal(out, expected)
    return expected


def check_window(kernel: int, stride: int, padding: int, width: int, end: bool) -> None:
    shape = (2, 3, kernel + 1, max(width, kernel))
    images = integer_values(shape)
    size, step = (kernel, kernel), (stride, padding)
    col = same_at_edge(end, fastconv.im2col, [images], *size, *step)
    same_at_edge(end, fastconv.col2im, [col], shape, *size, *step)
    columns = same_at_edge(end, fastconv.unfold, [images], kernel, 1, padding, stride)
    same_at_edge(end, fastconv.fold, [columns], shape[2:], kernel, 1, padding, stride)
    maxima = same_at_edge(end, fastconv.max_pool2d, [images], kernel, *step)
    _, indices = fastconv.max_pool2d(at_edge(images, end), kernel, *step, return_indices=True)
    same_at_edge(end, fastconv.max_pool2d_backward, [maxima, indices], shape)
    means = same_at_edge(end, fastconv.avg_pool2d, [images], kernel, *step)
    same_at_edge(end, fastconv.avg_pool2d_backward, [means], shape, kernel, *step)


@contextmanager
def results_at_edge(end: bool) -> Iterator[None]:
    """Put what conv2d_backward returns against a page, too: it has no out=."""

    def result(out: None, shape: tuple[int, ...], dtype: Any) -> Array:
        return at_edge(np.zeros(shape, dtype), end)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convolution, "result", result)
        yield


def check_filters(
    kernel: int, stride: int, padding: int, filters: int, end: bool, algorithm: str = "direct"
) -> None:
    """All filters on all channels, and one a channel, in rows of as many outputs."""
    for channels, groups in ((3, 1), (filters, filters)):
        images = integer_values((2, channels, kernel + 1, kernel + (filters - 1) * stride))
        weight = integer_values((filters, channels // groups, kernel, kernel), seed=1)
        bias, more = integer_values((filters,), seed=2), integer_values((channels,), seed=3)
        window = (stride, padding, 1, groups)
        conv2d = partial(fastconv.conv2d, algorithm=algorithm)
        transposed = partial(fastconv.conv_transpose2d, algorithm=algorithm)
        backward = partial(fastconv.conv2d_backward, algorithm=algorithm)
        grad = same_at_edge(end, conv2d, [images, weight, bias], *window)
        same_at_edge(end, transposed, [grad, weight, more], stride, padding, 0, groups, 1)
        expected = backward(grad, images, weight, *window)
        for axes in ((), (0, 1)):
            flipped = (np.flip(array, axes) for array in (grad, images, weight))
            g, x, w = (np.flip(at_edge(array, end), axes) for array in flipped)
            with results_at_edge(end):
                results = backward(g, x, w, *window)
            for result, same in zip(results, expected):
                np.testing.assert_array_equal(result, same)


def check_level(level: str) -> None:
    """Run in a process of its own."""
    _kernels.use(level)
    for operation in OPERATIONS.values():
        for shape in SHAPES:
            for dtype in DTYPES:
                check(operation, shape, dtype)
        print(operation.name)
    for kernel, stride, padding in WINDOWS:
        for width in EDGE_SIZES:
            for end in (True, False):
                check_window(kernel, stride, padding, width, end)
                check_filters(kernel, stride, padding, width, end)
    for precision in ("highest", "high"):
        with fastconv.precision(precision):
            for width in EDGE_SIZES:
                for end in (True, False):
                    check_filters(3, 1, 1, width, end, "winograd")
    print("windows")


@pytest.mark.skipif(sys.platform == "win32", reason="pages are protected with POSIX calls")
@pytest.mark.parametrize("name", _kernels.available_levels())
def test_arrays_at_the_edge_of_memory(name: str) -> None:
    result = run_python(f"import test_bounds; test_bounds.check_level({name!r})")
    assert (result.returncode, result.stdout.split()) == (0, [*OPERATIONS, "windows"]), (
        f"after what {result.stdout.split()} names: {result.stderr[-2000:]}"
    )
