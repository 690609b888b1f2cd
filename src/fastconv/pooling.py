"""Max and average pooling, their gradients, and max-unpooling.

`max_pool` and its like do the work of the public functions, and that of their namesakes in
`one_dimension.py`: they are told how many axes windows slide along.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt

from fastconv import _kernels, _threads
from fastconv._arguments import (
    IntPair,
    Padding,
    image_shape,
    per_axis,
    pooling_window,
    steps,
    unpooled_size,
)
from fastconv._arrays import (
    FLOATS,
    INTEGERS,
    NUMBERS,
    REALS,
    Array,
    Shape,
    as_planes,
    batch_shape,
    computed_dtype,
    native_dtype,
    read,
    result,
)
from fastconv._errors import argument_error, named
from fastconv._memory import new_array
from fastconv._window import Window

FLOAT32 = np.dtype(np.float32)
INT64 = np.dtype(np.int64)


@overload
def max_pool2d(
    input: npt.ArrayLike,
    kernel_size: IntPair,
    stride: IntPair | None = ...,
    padding: Padding = ...,
    dilation: IntPair = ...,
    ceil_mode: bool = ...,
    return_indices: Literal[False] = ...,
    *,
    out: Array | None = ...,
) -> Array: ...
@overload
def max_pool2d(
    input: npt.ArrayLike,
    kernel_size: IntPair,
    stride: IntPair | None = ...,
    padding: Padding = ...,
    dilation: IntPair = ...,
    ceil_mode: bool = ...,
    *,
    return_indices: Literal[True],
    out: Array | None = ...,
) -> tuple[Array, npt.NDArray[np.int64]]: ...
@overload
def max_pool2d(
    input: npt.ArrayLike,
    kernel_size: IntPair,
    stride: IntPair | None = ...,
    padding: Padding = ...,
    dilation: IntPair = ...,
    ceil_mode: bool = ...,
    return_indices: bool = ...,
    *,
    out: Array | None = ...,
) -> Array | tuple[Array, npt.NDArray[np.int64]]: ...
@named
def max_pool2d(
    input: npt.ArrayLike,
    kernel_size: IntPair,
    stride: IntPair | None = None,
    padding: Padding = 0,
    dilation: IntPair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    out: Array | None = None,
) -> Array | tuple[Array, npt.NDArray[np.int64]]:
    """Take the maximum of every window, as `torch.nn.functional.max_pool2d`.

    Parameters
    ----------
    input : array_like, shape (N, C, H, W) or (C, H, W)
        Images of floats or integers, of any strides.
    kernel_size : int or pair of int
        Size of the window, (KH, KW).
    stride : int or pair of int, optional
        Step between windows. By default it is the kernel size.
    padding : int, pair, ((top, bottom), (left, right)), "valid" or "same", default 0
        Padding, which is never the maximum. It must be smaller than the window on each side.
    dilation : int or pair of int, default 1
        Step between the taps of a window.
    ceil_mode : bool, default False
        Whether to round the output size up. A window that would start in the padding at the bottom
        or right is dropped.
    return_indices : bool, default False
        Whether to return the positions of the maxima, too.
    out : ndarray, optional
        Array for the maxima, of their shape and dtype, C-contiguous, not overlapping the input.

    Returns
    -------
    output : ndarray, shape (N, C, OH, OW) or (C, OH, OW)
        Maxima, of the input's dtype. NaN counts as larger than all numbers.
    indices : ndarray of int64, same shape
        Flat position ``h*W + w`` of each maximum in its plane. Of equal maxima it is the first in
        row-major order, of several NaN the first NaN. Only with `return_indices`.

    Raises
    ------
    TypeError
        If an argument is of the wrong type, or the dtype is none of those named.
    ValueError
        If an argument is out of range, the window does not fit, or one holds padding alone.
    MemoryError
        If the result is too large to allocate.

    See Also
    --------
    max_pool2d_backward : The gradient.
    max_unpool2d : The partial inverse.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> x = np.array([[[1, 9, 2, 3], [4, 5, 6, 6]]])
    >>> fastconv.max_pool2d(x, 2, return_indices=True)
    (array([[[9, 6]]]), array([[[1, 6]]]))
    """
    window = kernel_size, stride, padding, dilation, ceil_mode
    return max_pool(2, input, *window, return_indices, out)


@named
def max_pool2d_backward(
    grad_output: npt.ArrayLike,
    indices: npt.ArrayLike,
    input_shape: Sequence[int],
    *,
    out: Array | None = None,
) -> Array:
    """Send every gradient to the pixel that was its window's maximum: `max_pool2d`'s gradient.

    Parameters
    ----------
    grad_output : array_like, shape (N, C, OH, OW) or (C, OH, OW)
        Gradient of the output, of floats (float16 is summed in float32).
    indices : array_like of int, same shape
        Positions that `max_pool2d` returned, of any integer dtype.
    input_shape : sequence of 4 or 3 int
        Shape of the result, (N, C, H, W) or (C, H, W).
    out : ndarray, optional
        Array for the result, of its shape and dtype, C-contiguous, overlapping no input.

    Returns
    -------
    ndarray, shape `input_shape`
        Gradient of the input, of `grad_output`'s dtype. Where several outputs have the same index,
        their gradients are added in row-major order.

    Raises
    ------
    TypeError
        If an argument is of the wrong type, or a dtype is none of those named.
    ValueError
        If the shapes do not match or an index lies outside its plane.
    MemoryError
        If the result is too large to allocate.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> x = np.array([[[1.0, 9.0, 2.0, 3.0], [4.0, 5.0, 6.0, 6.0]]])
    >>> y, indices = fastconv.max_pool2d(x, 2, return_indices=True)
    >>> fastconv.max_pool2d_backward(np.array([[[10.0, 20.0]]]), indices, x.shape)
    array([[[ 0., 10.,  0.,  0.],
            [ 0.,  0., 20.,  0.]]])
    """
    return max_pool_backward(2, grad_output, indices, input_shape, out)


@named
def max_unpool2d(
    input: npt.ArrayLike,
    indices: npt.ArrayLike,
    kernel_size: IntPair,
    stride: IntPair | None = None,
    padding: Padding = 0,
    output_size: Sequence[int] | None = None,
) -> Array:
    """Put every value where the maximum was, zeros elsewhere: `max_pool2d`'s partial inverse.

    As `torch.nn.functional.max_unpool2d`.

    Parameters
    ----------
    input : array_like, shape (N, C, H, W) or (C, H, W)
        Values of floats or integers, of any strides.
    indices : array_like of int, same shape
        Positions that `max_pool2d` returned, of any integer dtype.
    kernel_size : int or pair of int
        Size of the window of the pooling.
    stride : int or pair of int, optional
        Step of the pooling. By default it is the kernel size.
    padding : int, pair, ((top, bottom), (left, right)) or "valid", default 0
        Padding of the pooling.
    output_size : int, pair of int or the whole shape, optional
        Height and width of the result, or its whole shape. All sizes that hold the indices are
        accepted. By default the height is ``(H - 1)*stride - top - bottom + KH``, and the width
        likewise.

    Returns
    -------
    ndarray, shape (N, C, *output_size) or (C, *output_size)
        Images, of the input's dtype. Where several values have the same index, the last of them in
        row-major order stays.

    Raises
    ------
    TypeError
        If an argument is of the wrong type, or a dtype is none of those named.
    ValueError
        If the shapes do not match or an index lies outside its plane.
    MemoryError
        If the result is too large to allocate.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> x = np.array([[[1, 9, 2, 3], [4, 5, 6, 6]]])
    >>> y, indices = fastconv.max_pool2d(x, 2, return_indices=True)
    >>> fastconv.max_unpool2d(y, indices, 2)
    array([[[0, 9, 0, 0],
            [0, 0, 6, 0]]])
    """
    return max_unpool(2, input, indices, kernel_size, stride, padding, output_size)


@named
def avg_pool2d(
    input: npt.ArrayLike,
    kernel_size: IntPair,
    stride: IntPair | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    *,
    out: Array | None = None,
) -> Array:
    """Take the mean of every window, as `torch.nn.functional.avg_pool2d`.

    Parameters
    ----------
    input : array_like, shape (N, C, H, W) or (C, H, W)
        Images of floats (float16 is summed in float32), integers or bool (taken as float64), of
        any strides.
    kernel_size : int or pair of int
        Size of the window, (KH, KW).
    stride : int or pair of int, optional
        Step between windows. By default it is the kernel size.
    padding : int, pair, ((top, bottom), (left, right)), "valid" or "same", default 0
        Padding with zeros. It must be smaller than the window on each side.
    ceil_mode : bool, default False
        Whether to round the output size up. A window that would start in the padding at the bottom
        or right is dropped.
    count_include_pad : bool, default True
        Whether to divide by the number of positions in the padded image, rather than by the number
        of pixels. Positions beyond the padding, which `ceil_mode` reaches, never count.
    out : ndarray, optional
        Array for the result, of its shape and dtype, C-contiguous, not overlapping the input.

    Returns
    -------
    ndarray, shape (N, C, OH, OW) or (C, OH, OW)
        Means. The rows of a window are summed one by one before the sums are added, so that large
        windows lose few digits; those of whole planes are added in float64.

    Raises
    ------
    TypeError
        If an argument is of the wrong type, or the dtype is none of those named.
    ValueError
        If an argument is out of range, the window does not fit, or one holds padding alone.
    MemoryError
        If the result is too large to allocate.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> fastconv.avg_pool2d(np.array([[[1, 9, 2, 3], [4, 6, 6, 5]]]), 2)
    array([[[5., 4.]]])
    """
    window = kernel_size, stride, padding, ceil_mode
    return avg_pool(2, input, *window, count_include_pad, out)


@named
def avg_pool2d_backward(
    grad_output: npt.ArrayLike,
    input_shape: Sequence[int],
    kernel_size: IntPair,
    stride: IntPair | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    *,
    out: Array | None = None,
) -> Array:
    """Share every gradient among the pixels of its window: `avg_pool2d`'s gradient.

    Parameters
    ----------
    grad_output : array_like, shape (N, C, OH, OW) or (C, OH, OW)
        Gradient of the output, of floats (float16 is summed in float32), integers or bool (taken
        as float64).
    input_shape : sequence of 4 or 3 int
        Shape of the result, (N, C, H, W) or (C, H, W).
    kernel_size, stride, padding, ceil_mode, count_include_pad
        As given to `avg_pool2d`.
    out : ndarray, optional
        Array for the result, of its shape and dtype, C-contiguous, not overlapping the input.

    Returns
    -------
    ndarray, shape `input_shape`
        Gradient of the input.

    Raises
    ------
    TypeError
        If an argument is of the wrong type, or the dtype is none of those named.
    ValueError
        If an argument is out of range, or the shapes do not match.
    MemoryError
        If the result is too large to allocate.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> fastconv.avg_pool2d_backward(np.array([[[4.0, 8.0]]]), (1, 2, 4), 2)
    array([[[1., 1., 2., 2.],
            [1., 1., 2., 2.]]])
    """
    window = kernel_size, stride, padding, ceil_mode
    return avg_pool_backward(2, grad_output, input_shape, *window, count_include_pad, out)


# ---- what all faces share ----------------------------------------------------------------------


def max_pool(
    axes: int,
    input: npt.ArrayLike,
    kernel_size: IntPair,
    stride: IntPair | None,
    padding: Padding,
    dilation: IntPair,
    ceil_mode: bool,
    return_indices: bool,
    out: Array | None,
) -> Array | tuple[Array, npt.NDArray[np.int64]]:
    """Compute what `max_pool2d` does, with windows that slide along two axes or one."""
    array = read(input, "input", REALS)
    win, shape = _geometry(axes, array.shape, kernel_size, stride, padding, dilation, ceil_mode)
    out = result(out, shape, native_dtype(array), (array,))
    indices = new_array(shape, INT64) if return_indices else None
    images, maxima = _images(array, axes), _images(out, axes)
    places = None if indices is None else _images(indices, axes)
    if win.is_plane and _is_plain(images):
        _kernels.global_pooling.maximum(images, maxima, places, _threads.count())
    else:
        _kernels.max_pooling.max_pool(images, maxima, places, win.packed, _threads.count())
    return out if indices is None else (out, indices)


def max_pool_backward(
    axes: int,
    grad_output: npt.ArrayLike,
    indices: npt.ArrayLike,
    input_shape: Sequence[int],
    out: Array | None,
) -> Array:
    """Compute what `max_pool2d_backward` does, for images or signals."""
    array = read(grad_output, "grad_output", FLOATS)
    batch_shape(array.shape, "grad_output", axes + 2)
    where = _indices(indices, array, "grad_output")
    shape = image_shape(input_shape, "input_shape", array.ndim, axes)
    if shape[:-axes] != array.shape[:-axes]:
        raise argument_error(
            ValueError,
            f"input_shape must begin with {array.shape[:-axes]} as grad_output does, got {shape}",
        )
    return _place(axes, _kernels.unpooling.max_pool_backward, array, where, shape, out)


def max_unpool(
    axes: int,
    input: npt.ArrayLike,
    indices: npt.ArrayLike,
    kernel_size: IntPair,
    stride: IntPair | None,
    padding: Padding,
    output_size: Sequence[int] | None,
) -> Array:
    """Compute what `max_unpool2d` does, for images or signals."""
    array = read(input, "input", REALS)
    batch_shape(array.shape, "input", axes + 2)
    where = _indices(indices, array, "input")
    size = unpooled_size(array.shape, kernel_size, stride, padding, output_size, axes)
    shape = *array.shape[:-axes], *size
    return _place(axes, _kernels.unpooling.max_unpool, array, where, shape, None)


def avg_pool(
    axes: int,
    input: npt.ArrayLike,
    kernel_size: IntPair,
    stride: IntPair | None,
    padding: Padding,
    ceil_mode: bool,
    count_include_pad: bool,
    out: Array | None,
) -> Array:
    """Compute what `avg_pool2d` does, with windows that slide along two axes or one."""
    array = read(input, "input", NUMBERS)
    win, shape = _geometry(axes, array.shape, kernel_size, stride, padding, 1, ceil_mode)
    out = result(out, shape, computed_dtype(array.dtype), (array,))
    images, means = _images(array, axes), _images(out, axes)
    if win.is_plane and array.dtype.kind == "f":
        _kernels.global_pooling.average(images, means, _threads.count())
    else:
        _kernels.average_pooling.avg_pool(
            images, means, win.packed, count_include_pad, _threads.count()
        )
    return out


def avg_pool_backward(
    axes: int,
    grad_output: npt.ArrayLike,
    input_shape: Sequence[int],
    kernel_size: IntPair,
    stride: IntPair | None,
    padding: Padding,
    ceil_mode: bool,
    count_include_pad: bool,
    out: Array | None,
) -> Array:
    """Compute what `avg_pool2d_backward` does, with windows that slide along two axes or one."""
    array = read(grad_output, "grad_output", NUMBERS)
    batch_shape(array.shape, "grad_output", axes + 2)
    shape = image_shape(input_shape, "input_shape", array.ndim, axes)
    win, expected = _geometry(axes, shape, kernel_size, stride, padding, 1, ceil_mode)
    if array.shape != expected:
        raise argument_error(
            ValueError,
            f"grad_output must have shape {expected} for input_shape {shape}, got {array.shape}",
        )
    out = result(out, shape, computed_dtype(array.dtype), (array,))
    grads, images = _images(array, axes), _images(out, axes)
    _kernels.average_pooling.avg_pool_backward(
        grads, images, win.packed, count_include_pad, _threads.count()
    )
    return out


def _images(array: Array, axes: int) -> Array:
    """View images or signals, of which a batch may be missing, as a batch of images."""
    return array if array.ndim == 4 else array.reshape(as_planes(array.shape, axes))


def _geometry(
    axes: int,
    shape: Shape,
    kernel_size: IntPair,
    stride: IntPair | None,
    padding: Padding,
    dilation: IntPair,
    ceil_mode: bool,
) -> tuple[Window, Shape]:
    """Read the window of a pooling over images, and return it with the shape of the result."""
    if not (
        type(kernel_size) is type(padding) is type(dilation) is int
        and (stride is None or type(stride) is int)
        and type(ceil_mode) is bool
    ):
        kernel_size = per_axis(kernel_size, "kernel_size", axes)
        stride, padding, dilation = steps(
            kernel_size if stride is None else stride, padding, dilation, axes=axes
        )
        ceil_mode = bool(ceil_mode)
    return _known_geometry(axes, shape, kernel_size, stride, padding, dilation, ceil_mode)


@lru_cache(maxsize=512)
def _known_geometry(
    axes: int,
    shape: Shape,
    kernel_size: IntPair,
    stride: IntPair | None,
    padding: Padding,
    dilation: IntPair,
    ceil_mode: bool,
) -> tuple[Window, Shape]:
    batch_shape(shape, "input", axes + 2)
    kernel = per_axis(kernel_size, "kernel_size", axes)
    win = pooling_window(shape[-axes:], kernel, stride, padding, dilation, ceil_mode)
    return win, (*shape[:-axes], *win.out)


def _is_plain(array: Array) -> bool:
    """Return whether planes of float32 can be read in place, and 32 bits count their pixels."""
    flags = array.flags
    return (
        array.dtype == FLOAT32
        and flags.c_contiguous
        and flags.aligned
        and array.shape[2] * array.shape[3] < 2**31
    )


def _indices(indices: npt.ArrayLike, array: Array, name: str) -> Array:
    """Read the indices that belong to `array`, the argument of this name."""
    where = read(indices, "indices", INTEGERS)
    if where.shape != array.shape:
        raise argument_error(
            ValueError, f"indices must have {name}'s shape {array.shape}, got {where.shape}"
        )
    return where


def _place(
    axes: int, kernel: Any, values: Array, indices: Array, shape: Shape, out: Array | None
) -> Array:
    """Run a kernel that writes values at indices, after all of them were checked.

    A given array must stay as it is if an index is bad, so the kernel runs without a target first.
    A new array may be thrown away.
    """
    given = out is not None
    out = result(out, shape, native_dtype(values), (values, indices))
    planes, sources, places = (_images(array, axes) for array in (out, values, indices))
    pixels = prod(shape[-axes:])
    for target in (None, planes) if given else (planes,):
        if kernel(sources, places, target, pixels, _threads.count()):
            where = tuple(np.argwhere((indices < 0) | (indices >= pixels))[0].tolist())
            what = f"planes of {shape[-2:]}" if axes == 2 else f"signals of {pixels} samples"
            raise argument_error(
                ValueError,
                f"indices must lie in [0, {pixels}) for {what}, got {indices[where]} at {where}",
            )
    return out
