"""What all functions promise about arrays: layouts, lists, unbatched and empty inputs, out=."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from helpers import (
    FLOATS,
    LAYOUTS,
    Array,
    DType,
    Operation,
    Shape,
    assert_same,
    each_operation,
    each_unbatched,
    each_with_out,
    guarded,
    integer_values,
    known_case,
    normal_values,
)

import fastconv

SHAPE = (2, 3, 9, 11)
ONE = np.ones((1, 1, 1, 1), np.float32)


@each_operation
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_any_layout(
    level: str, operation: Operation, dtype: DType, layout: Callable[[Array], Array]
) -> None:
    """Strides, alignment and byte order do not change the result; the input is not changed."""
    arrays = operation.arrays(SHAPE, dtype=dtype)
    laid_out = [layout(array) for array in arrays]
    before = [array.copy() for array in laid_out]
    result = operation.call(laid_out, SHAPE)
    expected = operation.expected(arrays, SHAPE)
    if operation.name in ("im2col", "unfold"):  # these move bytes and keep their order
        expected = expected.astype(laid_out[0].dtype)
    assert_same(result, expected)
    assert result.flags.c_contiguous
    assert result.flags.writeable
    for array, copy in zip(laid_out, before):
        assert_same(array, copy)


@each_operation
@pytest.mark.parametrize("axis", [0, 1, -2, -1])
def test_steps_of_zero(operation: Operation, axis: int) -> None:
    """Broadcast inputs repeat memory; only their strides of zero show it."""
    arrays = [
        np.broadcast_to(array.take([0], axis % array.ndim), array.shape)
        for array in operation.arrays(SHAPE)
    ]
    expected = operation.expected([array.copy() for array in arrays], SHAPE)
    assert_same(operation.call(arrays, SHAPE), expected)


@each_operation
def test_lists(operation: Operation) -> None:
    arrays = operation.arrays(SHAPE, dtype=np.float64)
    result = operation.call([array.tolist() for array in arrays], SHAPE)
    assert_same(result, operation.expected(arrays, SHAPE))


@each_operation
def test_dtypes_with_metadata(operation: Operation) -> None:
    """Dtypes are compared by what they describe, not by identity."""
    arrays = operation.arrays(SHAPE)
    described = [
        array.view(np.dtype(array.dtype.str, metadata={"unit": "lux"})) for array in arrays
    ]
    assert_same(operation.call(described, SHAPE), operation.expected(arrays, SHAPE))


@each_unbatched
def test_unbatched(operation: Operation) -> None:
    """Unbatched inputs give unbatched results where PyTorch accepts them."""
    arrays = operation.arrays(SHAPE[1:])
    batch = operation.batch_of_one(arrays, SHAPE[1:])
    expected = operation.expected(batch, (1, *SHAPE[1:]))[0]
    assert_same(operation.call(arrays, SHAPE[1:]), expected)
    if operation.out:
        with guarded(expected.shape, expected.dtype) as out:
            assert operation.call(arrays, SHAPE[1:], out=out) is out
            assert_same(out, expected)


@each_operation
def test_no_images(level: str, operation: Operation) -> None:
    """A batch of no images gives an empty result, or a gradient of the weight that is zero."""
    shape = (0, *SHAPE[1:])
    arrays = operation.arrays(shape)
    expected = operation.expected(arrays, shape)
    assert not expected.any()
    assert_same(operation.call(arrays, shape), expected)


@each_operation
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 1, 1), (1, 2, 1, 9), (1, 2, 9, 1)], ids=str)
def test_images_of_one_pixel_or_row(level: str, operation: Operation, shape: Shape) -> None:
    arrays = operation.arrays(shape)
    assert_same(operation.call(arrays, shape), operation.expected(arrays, shape))


@each_with_out
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("offset", [0, 1, 7])
def test_out(level: str, operation: Operation, dtype: DType, offset: int) -> None:
    """The result is out= itself, completely written, and nothing beside it."""
    arrays = operation.arrays(SHAPE, dtype=dtype)
    expected = operation.expected(arrays, SHAPE)
    with guarded(expected.shape, dtype, offset) as out:
        assert operation.call(arrays, SHAPE, out=out) is out
        assert_same(out, expected)


LARGE = [(3, 40, 56, 56), (1, 1, 300, 501), (5, 3, 130, 257), (200, 4, 17, 15)]


@each_operation
@pytest.mark.parametrize("shape", LARGE, ids=str)
def test_large(level: str, threads: int, operation: Operation, shape: Shape) -> None:
    """Arrays are large enough for several threads, divided by images, channels or rows."""
    arrays, expected = known_case(operation.name, shape)
    assert_same(operation.call(arrays, shape), expected)
    if operation.out:
        with guarded(expected.shape, expected.dtype) as out:
            operation.call(arrays, shape, out=out)
            assert_same(out, expected)


@each_operation
@pytest.mark.parametrize("shape", [SHAPE, (4, 8, 96, 96)], ids=["small", "large"])
def test_results_do_not_share_memory(operation: Operation, shape: Shape) -> None:
    """A later call never changes an earlier result, even if only a view of it is left."""
    arrays = operation.arrays(shape, normal_values)
    first = operation.call(arrays, shape)
    copy = first.copy()
    view = operation.call(arrays, shape)[..., 1:]
    for _ in range(4):
        operation.call(arrays, shape).fill(0)
    assert_same(first, copy)
    assert_same(view, copy[..., 1:])


def test_result_is_never_a_view_of_the_input() -> None:
    """A 1x1 window gives the values of the image, but as a copy."""
    images = integer_values((1, 1, 4, 5))
    for result in (
        fastconv.im2col(images, 1, 1),
        fastconv.unfold(images, 1),
        fastconv.col2im(images.reshape(20, 1), (1, 1, 4, 5), 1, 1),
        fastconv.fold(images.reshape(1, 1, 20), (4, 5), 1),
        fastconv.max_pool2d(images, 1),
        fastconv.avg_pool2d(images, 1),
        fastconv.avg_pool2d_backward(images, images.shape, 1),
        fastconv.conv2d(images, ONE),
        fastconv.conv2d_backward(images, images, ONE)[0],
        fastconv.conv_transpose2d(images, ONE),
    ):
        assert isinstance(result, np.ndarray)
        assert_same(result.reshape(images.shape), images)
        assert not np.may_share_memory(result, images)
