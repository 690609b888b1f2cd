"""im2col, col2im, unfold and fold: images as matrices of windows, and back."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import SupportsIndex

import numpy.typing as npt

from fastconv import _kernels, _threads
from fastconv._arguments import (
    IntPair,
    Padding,
    image_shape,
    one_of,
    pair,
    positive,
    steps,
    window,
)
from fastconv._arrays import (
    REALS,
    Array,
    Shape,
    batch_shape,
    native_dtype,
    read,
    read_movable,
    result,
)
from fastconv._errors import argument_error, named
from fastconv._window import PAD_MODES, Pair, Window


@named
def im2col(
    input_data: npt.ArrayLike,
    filter_h: SupportsIndex,
    filter_w: SupportsIndex,
    stride: IntPair = 1,
    pad: Padding = 0,
    *,
    dilation: IntPair = 1,
    pad_mode: str = "constant",
    out: Array | None = None,
) -> Array:
    """Lay every window of a batch of images out as a row of a matrix.

    A drop-in for the textbook's function [1]_: convolution becomes
    ``im2col(x, KH, KW) @ filters.reshape(F, -1).T``.

    Parameters
    ----------
    input_data : array_like, shape (N, C, H, W)
        Images, of any dtype of fixed size, any byte order and any strides.
    filter_h, filter_w : int
        Size of the window, KH and KW.
    stride, dilation : int or pair of int, default 1
        Step between windows, and between the taps of a window. A pair is (vertical, horizontal).
    pad : int, pair, ((top, bottom), (left, right)), "valid" or "same", default 0
        Padding. "same" makes ``OH = ceil(H / stride)``; the odd pixel goes to the bottom and right.
    pad_mode : {"constant", "edge", "reflect", "symmetric", "wrap"}, default "constant"
        Values of the padding, by the names of `numpy.pad`'s modes. "constant" is zeros.
    out : ndarray, optional
        Array for the result, of its shape and dtype, C-contiguous, not overlapping the input.

    Returns
    -------
    ndarray, shape (N*OH*OW, C*KH*KW)
        Windows, of the input's dtype. Rows are in the order of (n, oh, ow), columns in that of
        (c, kh, kw). The number of rows of windows is
        ``OH = (H + top + bottom - dilation*(KH - 1) - 1) // stride + 1``, and OW likewise.

    Raises
    ------
    TypeError
        If an argument is of the wrong type, or the dtype holds Python objects.
    ValueError
        If an argument is out of range, the window does not fit, or `out` does not.
    MemoryError
        If the result is too large to allocate.

    See Also
    --------
    col2im : The adjoint: sums every window back into an image.
    unfold : The same numbers in PyTorch's layout.

    References
    ----------
    .. [1] K. Chellapilla, S. Puri and P. Simard, "High Performance Convolutional Neural Networks
       for Document Processing", IWFHR 2006; in NumPy: K. Saitoh, "Deep Learning from Scratch",
       chapter 7.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> x = np.arange(9.0).reshape(1, 1, 3, 3)
    >>> fastconv.im2col(x, 2, 2)
    array([[0., 1., 3., 4.],
           [1., 2., 4., 5.],
           [3., 4., 6., 7.],
           [4., 5., 7., 8.]])
    """
    images = read_movable(input_data, "input_data")
    win, shape = _rows(images.shape, filter_h, filter_w, stride, pad, dilation, pad_mode)
    out = result(out, shape, images.dtype, (images,))
    _kernels.columns.gather(images, out, win.packed, _threads.count())
    return out


@named
def col2im(
    col: npt.ArrayLike,
    input_shape: Sequence[int],
    filter_h: SupportsIndex,
    filter_w: SupportsIndex,
    stride: IntPair = 1,
    pad: Padding = 0,
    *,
    dilation: IntPair = 1,
    pad_mode: str = "constant",
    out: Array | None = None,
) -> Array:
    """Sum every window, a row of a matrix, back into a batch of images: the adjoint of `im2col`.

    A drop-in for the textbook's function, equal to it to the last bit: the taps of a pixel are
    added in ascending order of (kh, kw). Taps in the padding are dropped or, if `pad_mode` is not
    "constant", added to the pixels that the padding was copied from.

    Parameters
    ----------
    col : array_like, shape (N*OH*OW, C*KH*KW)
        Windows as `im2col` lays them out, of floats (float16 is summed in float32) or integers
        (which wrap around), of any strides.
    input_shape : sequence of 4 int
        Shape of the result, (N, C, H, W).
    filter_h, filter_w : int
        Size of the window, KH and KW.
    stride, dilation : int or pair of int, default 1
        Step between windows, and between the taps of a window. A pair is (vertical, horizontal).
    pad : int, pair, ((top, bottom), (left, right)), "valid" or "same", default 0
        Padding of the images that `col` was made from.
    pad_mode : {"constant", "edge", "reflect", "symmetric", "wrap"}, default "constant"
        Values of the padding of these images, as for `im2col`.
    out : ndarray, optional
        Array for the result, of its shape and dtype, C-contiguous, not overlapping the input.

    Returns
    -------
    ndarray, shape (N, C, H, W)
        Sums, of the input's dtype.

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
    How many windows each pixel is part of:

    >>> import numpy as np
    >>> import fastconv
    >>> fastconv.col2im(np.ones((4, 4)), (1, 1, 3, 3), 2, 2)
    array([[[[1., 2., 1.],
             [2., 4., 2.],
             [1., 2., 1.]]]])
    """
    columns = read(col, "col", REALS)
    batch_shape(columns.shape, "col", 2, unbatched=False)
    shape = image_shape(input_shape, "input_shape", 4)
    win, expected = _rows(shape, filter_h, filter_w, stride, pad, dilation, pad_mode)
    if columns.shape != expected:
        raise argument_error(
            ValueError,
            f"col must have shape (N*OH*OW, C*KH*KW) = {expected} for input_shape {shape} "
            f"and output size {(win.out_h, win.out_w)}, got {columns.shape}",
        )
    out = result(out, shape, native_dtype(columns), (columns,))
    _kernels.columns.scatter(columns, out, win.packed, _threads.count())
    return out


@named
def unfold(
    input: npt.ArrayLike,
    kernel_size: IntPair,
    dilation: IntPair = 1,
    padding: Padding = 0,
    stride: IntPair = 1,
    *,
    pad_mode: str = "constant",
    out: Array | None = None,
) -> Array:
    """Lay every window of a batch of images out as a column, as `torch.nn.functional.unfold`.

    Parameters
    ----------
    input : array_like, shape (N, C, H, W) or (C, H, W)
        Images, of any dtype of fixed size, any byte order and any strides.
    kernel_size, dilation, stride : int or pair of int
        Size of the window, step between its taps, and step between windows. A pair is
        (vertical, horizontal).
    padding : int, pair, ((top, bottom), (left, right)), "valid" or "same", default 0
        Padding. "same" makes ``OH = ceil(H / stride)``; the odd pixel goes to the bottom and right.
    pad_mode : {"constant", "edge", "reflect", "symmetric", "wrap"}, default "constant"
        Values of the padding, by the names of `numpy.pad`'s modes. "constant" is zeros.
    out : ndarray, optional
        Array for the result, of its shape and dtype, C-contiguous, not overlapping the input.

    Returns
    -------
    ndarray, shape (N, C*KH*KW, OH*OW) or (C*KH*KW, OH*OW)
        The windows, of the input's dtype.

    Raises
    ------
    TypeError
        If an argument is of the wrong type, or the dtype holds Python objects.
    ValueError
        If an argument is out of range, the window does not fit, or `out` does not.
    MemoryError
        If the result is too large to allocate.

    See Also
    --------
    fold : The adjoint.
    im2col : The same numbers in the textbook's layout.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> x = np.arange(9.0).reshape(1, 3, 3)
    >>> fastconv.unfold(x, 2)
    array([[0., 1., 3., 4.],
           [1., 2., 4., 5.],
           [3., 4., 6., 7.],
           [4., 5., 7., 8.]])
    """
    array = read_movable(input, "input")
    win, shape = _columns(array.shape, kernel_size, dilation, padding, stride, pad_mode)
    out = result(out, shape, array.dtype, (array,))
    images, columns = (array, out) if array.ndim == 4 else (array[None], out[None])
    _kernels.columns.gather(images, columns, win.packed, _threads.count())
    return out


@named
def fold(
    input: npt.ArrayLike,
    output_size: IntPair,
    kernel_size: IntPair,
    dilation: IntPair = 1,
    padding: Padding = 0,
    stride: IntPair = 1,
    *,
    pad_mode: str = "constant",
    out: Array | None = None,
) -> Array:
    """Sum every window, a column, back into images: the adjoint of `unfold`.

    As `torch.nn.functional.fold`. The taps of a pixel are added in ascending order of (kh, kw).
    Taps in the padding are dropped or, if `pad_mode` is not "constant", added to the pixels that
    the padding was copied from.

    Parameters
    ----------
    input : array_like, shape (N, C*KH*KW, OH*OW) or (C*KH*KW, OH*OW)
        Windows as `unfold` lays them out, of floats (float16 is summed in float32) or integers
        (which wrap around), of any strides.
    output_size : int or pair of int
        Height and width of the images, (H, W).
    kernel_size, dilation, stride : int or pair of int
        Size of the window, step between its taps, and step between windows. A pair is
        (vertical, horizontal).
    padding : int, pair, ((top, bottom), (left, right)), "valid" or "same", default 0
        Padding of the images that `input` was made from.
    pad_mode : {"constant", "edge", "reflect", "symmetric", "wrap"}, default "constant"
        Values of the padding of these images, as for `unfold`.
    out : ndarray, optional
        Array for the result, of its shape and dtype, C-contiguous, not overlapping the input.

    Returns
    -------
    ndarray, shape (N, C, H, W) or (C, H, W)
        Sums, of the input's dtype.

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
    How many windows each pixel is part of:

    >>> import numpy as np
    >>> import fastconv
    >>> fastconv.fold(np.ones((4, 4)), 3, 2)
    array([[[1., 2., 1.],
            [2., 4., 2.],
            [1., 2., 1.]]])
    """
    array = read(input, "input", REALS)
    win, shape = _folded(array.shape, output_size, kernel_size, dilation, padding, stride, pad_mode)
    out = result(out, shape, native_dtype(array), (array,))
    columns, images = (array, out) if array.ndim == 3 else (array[None], out[None])
    _kernels.columns.scatter(columns, images, win.packed, _threads.count())
    return out


def _rows(
    shape: Shape,
    filter_h: SupportsIndex,
    filter_w: SupportsIndex,
    stride: IntPair,
    pad: Padding,
    dilation: IntPair,
    pad_mode: str,
) -> tuple[Window, Shape]:
    """Read the textbook's window over images, and return it with the shape of the matrix."""
    if not (type(filter_h) is type(filter_w) is type(stride) is type(pad) is type(dilation) is int):
        filter_h, filter_w = positive(filter_h, "filter_h"), positive(filter_w, "filter_w")
        stride, pad, dilation = steps(stride, pad, dilation, "pad")
    mode = one_of(pad_mode, "pad_mode", PAD_MODES)
    return _known_rows(shape, filter_h, filter_w, stride, pad, dilation, mode)


@lru_cache(maxsize=512)
def _known_rows(
    shape: Shape,
    filter_h: SupportsIndex,
    filter_w: SupportsIndex,
    stride: IntPair,
    pad: Padding,
    dilation: IntPair,
    pad_mode: str,
) -> tuple[Window, Shape]:
    n, c, h, w = batch_shape(shape, "input_data", 4, unbatched=False)
    kernel = positive(filter_h, "filter_h"), positive(filter_w, "filter_w")
    win = window((h, w), kernel, stride, pad, dilation, pad_mode, padding_name="pad")
    return win, (n * win.out_h * win.out_w, c * kernel[0] * kernel[1])


def _columns(
    shape: Shape,
    kernel_size: IntPair,
    dilation: IntPair,
    padding: Padding,
    stride: IntPair,
    pad_mode: str,
) -> tuple[Window, Shape]:
    """Read PyTorch's window over images, and return it with the shape of the columns."""
    if not (type(kernel_size) is type(dilation) is type(padding) is type(stride) is int):
        kernel_size = pair(kernel_size, "kernel_size")
        stride, padding, dilation = steps(stride, padding, dilation)
    mode = one_of(pad_mode, "pad_mode", PAD_MODES)
    return _known_columns(shape, kernel_size, dilation, padding, stride, mode)


@lru_cache(maxsize=512)
def _known_columns(
    shape: Shape,
    kernel_size: IntPair,
    dilation: IntPair,
    padding: Padding,
    stride: IntPair,
    pad_mode: str,
) -> tuple[Window, Shape]:
    n, c, h, w = batch_shape(shape, "input", 4)
    kernel = pair(kernel_size, "kernel_size")
    win = window((h, w), kernel, stride, padding, dilation, pad_mode)
    columns = n, c * kernel[0] * kernel[1], win.out_h * win.out_w
    return win, columns[4 - len(shape) :]


def _folded(
    shape: Shape,
    output_size: IntPair,
    kernel_size: IntPair,
    dilation: IntPair,
    padding: Padding,
    stride: IntPair,
    pad_mode: str,
) -> tuple[Window, Shape]:
    """Read PyTorch's window over the images that columns are folded to, and return their shape."""
    size = pair(output_size, "output_size")
    if not (type(kernel_size) is type(dilation) is type(padding) is type(stride) is int):
        kernel_size = pair(kernel_size, "kernel_size")
        stride, padding, dilation = steps(stride, padding, dilation)
    mode = one_of(pad_mode, "pad_mode", PAD_MODES)
    return _known_folded(shape, size, kernel_size, dilation, padding, stride, mode)


@lru_cache(maxsize=512)
def _known_folded(
    shape: Shape,
    size: Pair,
    kernel_size: IntPair,
    dilation: IntPair,
    padding: Padding,
    stride: IntPair,
    pad_mode: str,
) -> tuple[Window, Shape]:
    n, rows, windows = batch_shape(shape, "input", 3)
    kernel = pair(kernel_size, "kernel_size")
    win = window(size, kernel, stride, padding, dilation, pad_mode)
    taps = kernel[0] * kernel[1]
    if rows % taps or windows != win.out_h * win.out_w:
        raise argument_error(
            ValueError,
            f"input must have shape (N, C*KH*KW, OH*OW) = (N, C*{taps}, {win.out_h * win.out_w}) "
            f"for output_size {size} and kernel_size {kernel}, got {shape}",
        )
    images = n, rows // taps, *size
    return win, images[3 - len(shape) :]
