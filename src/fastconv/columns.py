"""im2col, col2im, unfold and fold: images as matrices of windows, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import SupportsIndex

import numpy.typing as npt

from fastconv import _kernels, _threads
from fastconv._arguments import IntPair, Padding, image_shape, pair, positive, window
from fastconv._arrays import (
    REALS,
    Array,
    as_batch,
    as_shape,
    native_dtype,
    read,
    read_movable,
    result,
)
from fastconv._errors import argument_error, named


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
        Step between windows and between the taps of a window; a pair is (vertical, horizontal).
    pad : int, pair, ((top, bottom), (left, right)), "valid" or "same", default 0
        Padding. "same" makes ``OH = ceil(H / stride)``; the odd pixel goes to the bottom and right.
    pad_mode : {"constant", "edge", "reflect", "symmetric", "wrap"}, default "constant"
        What padding shows, as in `numpy.pad`; "constant" is zeros.
    out : ndarray, optional
        Where to write the result: of its shape and dtype, C-contiguous, not overlapping the input.

    Returns
    -------
    ndarray, shape (N*OH*OW, C*KH*KW)
        Rows ordered (n, oh, ow), columns (c, kh, kw), the input's dtype, with
        ``OH = (H + top + bottom - dilation*(KH - 1) - 1) // stride + 1`` and OW likewise.

    Raises
    ------
    TypeError
        If an argument is of the wrong type, or the dtype holds Python objects.
    ValueError
        If an argument is out of range, the window does not fit, or `out` does not.

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
    images = as_batch(read_movable(input_data, "input_data"), "input_data", 4, unbatched=False)
    n, c, h, w = images.shape
    kernel = positive(filter_h, "filter_h"), positive(filter_w, "filter_w")
    win = window((h, w), kernel, stride, pad, dilation, pad_mode, padding_name="pad")
    shape = n * win.out_h * win.out_w, c * kernel[0] * kernel[1]
    out = result(out, shape, images.dtype, images)
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
    added in ascending order of (kh, kw). What lies in the padding is dropped, or with another
    `pad_mode` added to the pixel that the padding shows.

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
        Step between windows and between the taps of a window; a pair is (vertical, horizontal).
    pad : int, pair, ((top, bottom), (left, right)), "valid" or "same", default 0
        Padding of the images that `col` was made from.
    pad_mode : {"constant", "edge", "reflect", "symmetric", "wrap"}, default "constant"
        What padding showed.
    out : ndarray, optional
        Where to write the result: of its shape and dtype, C-contiguous, not overlapping the input.

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
    columns = as_batch(read(col, "col", REALS), "col", 2, unbatched=False)
    n, c, h, w = image_shape(input_shape, "input_shape", 4)
    kernel = positive(filter_h, "filter_h"), positive(filter_w, "filter_w")
    win = window((h, w), kernel, stride, pad, dilation, pad_mode, padding_name="pad")
    expected = n * win.out_h * win.out_w, c * kernel[0] * kernel[1]
    if columns.shape != expected:
        raise argument_error(
            ValueError,
            f"col must have shape (N*OH*OW, C*KH*KW) = {expected} for input_shape {(n, c, h, w)} "
            f"and output size {(win.out_h, win.out_w)}, got {columns.shape}",
        )
    out = result(out, (n, c, h, w), native_dtype(columns), columns)
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
        Size of the window, step between its taps, step between windows; a pair is
        (vertical, horizontal).
    padding : int, pair, ((top, bottom), (left, right)), "valid" or "same", default 0
        Padding. "same" makes ``OH = ceil(H / stride)``; the odd pixel goes to the bottom and right.
    pad_mode : {"constant", "edge", "reflect", "symmetric", "wrap"}, default "constant"
        What padding shows, as in `numpy.pad`; "constant" is zeros.
    out : ndarray, optional
        Where to write the result: of its shape and dtype, C-contiguous, not overlapping the input.

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
    images = as_batch(array, "input", 4)
    n, c, h, w = images.shape
    kernel = pair(kernel_size, "kernel_size")
    win = window((h, w), kernel, stride, padding, dilation, pad_mode)
    shape = n, c * kernel[0] * kernel[1], win.out_h * win.out_w
    out = result(out, shape[4 - array.ndim :], images.dtype, images)
    _kernels.columns.gather(images, as_shape(out, shape), win.packed, _threads.count())
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
    What lies in the padding is dropped, or with another `pad_mode` added to the pixel that the
    padding shows.

    Parameters
    ----------
    input : array_like, shape (N, C*KH*KW, OH*OW) or (C*KH*KW, OH*OW)
        Windows as `unfold` lays them out, of floats (float16 is summed in float32) or integers
        (which wrap around), of any strides.
    output_size : int or pair of int
        Height and width of the images, (H, W).
    kernel_size, dilation, stride : int or pair of int
        Size of the window, step between its taps, step between windows; a pair is
        (vertical, horizontal).
    padding : int, pair, ((top, bottom), (left, right)), "valid" or "same", default 0
        Padding of the images that `input` was made from.
    pad_mode : {"constant", "edge", "reflect", "symmetric", "wrap"}, default "constant"
        What padding showed.
    out : ndarray, optional
        Where to write the result: of its shape and dtype, C-contiguous, not overlapping the input.

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
    columns = as_batch(array, "input", 3)
    size, kernel = pair(output_size, "output_size"), pair(kernel_size, "kernel_size")
    win = window(size, kernel, stride, padding, dilation, pad_mode)
    n, rows, windows = columns.shape
    taps = kernel[0] * kernel[1]
    if rows % taps or windows != win.out_h * win.out_w:
        raise argument_error(
            ValueError,
            f"input must have shape (N, C*KH*KW, OH*OW) = (N, C*{taps}, {win.out_h * win.out_w}) "
            f"for output_size {size} and kernel_size {kernel}, got {array.shape}",
        )
    shape = n, rows // taps, *size
    out = result(out, shape[3 - array.ndim :], native_dtype(columns), columns)
    _kernels.columns.scatter(columns, as_shape(out, shape), win.packed, _threads.count())
    return out
