"""Convolution and pooling of signals: PyTorch's functions of one dimension, and their gradients.

Every function is its two-dimensional namesake with one axis less. Both read their arguments by the
same readers, which are told the number of axes, and run the same kernels, to which a signal is an
image of one row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, SupportsIndex, overload

import numpy as np
import numpy.typing as npt

from fastconv._arguments import OneInt, Padding
from fastconv._arrays import Array
from fastconv._epilogue import ActivationLike
from fastconv._errors import named
from fastconv.convolution import convolve, convolve_backward, spread
from fastconv.packing import PackedWeight
from fastconv.pooling import avg_pool, avg_pool_backward, max_pool, max_pool_backward, max_unpool


@named
def conv1d(
    input: npt.ArrayLike,
    weight: npt.ArrayLike | PackedWeight,
    bias: npt.ArrayLike | None = None,
    stride: OneInt = 1,
    padding: Padding = 0,
    dilation: OneInt = 1,
    groups: SupportsIndex = 1,
    *,
    pad_mode: str = "constant",
    algorithm: str = "auto",
    residual: npt.ArrayLike | None = None,
    activation: ActivationLike | None = None,
    out: Array | None = None,
) -> Array:
    """Correlate a batch of signals with filters, as `torch.nn.functional.conv1d` does.

    ``out[n, f, ol] = bias[f] + sum over (c, k) of
    weight[f, c, k] * padded(input[n, c])[ol*stride + k*dilation]``.

    Parameters
    ----------
    input : array_like, shape (N, C, L) or (C, L)
        Signals of floats, integers or bool, of any strides.
    weight : array_like or PackedWeight, shape (F, C/groups, K)
        Filters. A `PackedWeight` spares further calls with the same ones the work of packing them.
    bias : array_like, shape (F,), optional
        Number that is added to every output of a filter.
    stride, dilation : int, default 1
        Step between windows, and between the taps of a window.
    padding : int, (before, after), "valid" or "same", default 0
        Padding. "same" makes ``OL = ceil(L / stride)``; the odd sample goes behind.
    groups : int, default 1
        Number of groups into which channels and filters are divided. The filters of a group see
        the channels of that group only. With ``groups=C`` the convolution is called depthwise.
    pad_mode : {"constant", "edge", "reflect", "symmetric", "wrap"}, default "constant"
        Values of the padding, by the names of `numpy.pad`'s modes. "constant" is zeros.
    algorithm : {"auto", "direct"}, default "auto"
        "auto" takes the fastest, which is "direct" for all signals.
    residual : array_like, shape of the result, optional
        Numbers that are added to the convolution and its bias. It may be `out` itself.
    activation : str or ("clip", low, high), optional
        Function that is applied last, to every element, as in `conv2d`: "relu", "relu6",
        "leaky_relu", "hardsigmoid", "hardswish", "sigmoid", "silu" or bounds.
    out : ndarray, optional
        Array for the result, of its shape and dtype, C-contiguous, overlapping no input.

    Returns
    -------
    ndarray, shape (N, F, OL) or (F, OL)
        Convolved signals. Their dtype is the `numpy.result_type` of input and weight, or float64 if
        those are integers; bias and residual are converted to it. float16 is computed in float32.
        Their length is
        ``OL = (L + before + after - dilation*(K - 1) - 1) // stride + 1``.

    Raises
    ------
    TypeError
        If an argument is of the wrong type, or a dtype is none of those named.
    ValueError
        If an argument is out of range, shapes do not match, the window does not fit, or the
        algorithm is not for it.
    MemoryError
        If the result, or a copy of the weight, is too large to allocate.

    See Also
    --------
    conv1d_backward : The gradients.
    conv_transpose1d : The adjoint.
    conv2d : The same for images. Its notes on exactness, NaN and threads are true here.

    Examples
    --------
    Differences of neighbours, and every second mean of three:

    >>> import numpy as np
    >>> import fastconv
    >>> x = np.array([[1.0, 2.0, 4.0, 8.0, 16.0]])
    >>> fastconv.conv1d(x, np.array([[[-1.0, 1.0]]]))
    array([[1., 2., 4., 8.]])
    >>> fastconv.conv1d(x, np.full((1, 1, 3), 1 / 3), stride=2, padding=1).round(2)
    array([[1.  , 4.67, 8.  ]])
    """
    return convolve(
        *(1, input, weight, bias, stride, padding, dilation, groups),
        *(pad_mode, algorithm, residual, activation, out),
    )


@named
def conv1d_backward(
    grad_output: npt.ArrayLike,
    input: npt.ArrayLike,
    weight: npt.ArrayLike,
    stride: OneInt = 1,
    padding: Padding = 0,
    dilation: OneInt = 1,
    groups: SupportsIndex = 1,
    *,
    pad_mode: str = "constant",
    algorithm: str = "auto",
    output_mask: Sequence[bool] = (True, True, True),
) -> tuple[Array | None, Array | None, Array | None]:
    """Compute the gradients of `conv1d` for its input, weight and bias.

    Parameters
    ----------
    grad_output : array_like, shape (N, F, OL) or (F, OL)
        Gradient of the output.
    input : array_like, shape (N, C, L) or (C, L)
        Signals that `conv1d` was given.
    weight : array_like, shape (F, C/groups, K)
        Filters that `conv1d` was given.
    stride, padding, dilation, groups, pad_mode
        Arguments that `conv1d` was given.
    algorithm : {"auto", "direct"}, default "auto"
        As for `conv1d`.
    output_mask : sequence of 3 bool, default (True, True, True)
        Whether to compute the gradients of the input, of the weight and of the bias.

    Returns
    -------
    grad_input : ndarray, shape of `input`, or None
        Gradient of the input. If `pad_mode` is not "constant", the gradients of the padding are
        added to the samples that the padding was copied from.
    grad_weight : ndarray, shape of `weight`, or None
        Gradient of the weight.
    grad_bias : ndarray, shape (F,), or None
        Gradient of the bias: `grad_output`, summed over everything but filters.

    Raises
    ------
    TypeError
        If an argument is of the wrong type, or a dtype is none of those accepted by `conv1d`.
    ValueError
        If an argument is out of range, shapes do not match, the window does not fit, or the
        algorithm is not for it.
    MemoryError
        If a result, or a copy of the weight, is too large to allocate.

    See Also
    --------
    conv2d_backward : The same for images, with notes that are true here.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> x, w = np.array([[1.0, 2.0, 3.0]]), np.array([[[10.0, 1.0]]])
    >>> grad_x, grad_w, grad_b = fastconv.conv1d_backward(np.ones((1, 2)), x, w)
    >>> grad_x
    array([[10., 11.,  1.]])
    >>> grad_w
    array([[[3., 5.]]])
    >>> grad_b
    array([2.])
    """
    return convolve_backward(
        *(1, grad_output, input, weight, stride, padding, dilation, groups),
        *(pad_mode, algorithm, output_mask),
    )


@named
def conv_transpose1d(
    input: npt.ArrayLike,
    weight: npt.ArrayLike | PackedWeight,
    bias: npt.ArrayLike | None = None,
    stride: OneInt = 1,
    padding: Padding = 0,
    output_padding: OneInt = 0,
    groups: SupportsIndex = 1,
    dilation: OneInt = 1,
    *,
    algorithm: str = "auto",
    out: Array | None = None,
) -> Array:
    """Spread every sample over a window: `conv1d`'s adjoint, as torch's `conv_transpose1d`.

    Every product ``input[n, c, l] * weight[c, f, k]`` is added to
    ``out[n, f, l*stride + k*dilation - before]``, which begins as ``bias[f]``.

    Parameters
    ----------
    input : array_like, shape (N, C, L) or (C, L)
        Signals of floats, integers or bool, of any strides.
    weight : array_like or PackedWeight, shape (C, F/groups, K)
        Filters. A `PackedWeight` spares further calls with the same ones the work of packing them.
    bias : array_like, shape (F,), optional
        Number that is added to every output of a filter.
    stride, dilation : int, default 1
        Step between windows, and between the taps of a window.
    padding : int, (before, after) or "valid", default 0
        Number of samples that are cut off at the ends of the output.
    output_padding : int, default 0
        Number of samples that are added behind the output. It must be smaller than the stride or
        the dilation, and chooses one of the lengths that `conv1d` maps to the length of the input.
    groups : int, default 1
        Number of groups into which channels and filters are divided. The channels of a group
        reach the filters of that group only.
    algorithm : {"auto", "direct"}, default "auto"
        As for `conv1d`.
    out : ndarray, optional
        Array for the result, of its shape and dtype, C-contiguous, overlapping no input.

    Returns
    -------
    ndarray, shape (N, F, OL) or (F, OL)
        Signals. Their dtype is the `numpy.result_type` of input and weight, or float64 if those are
        integers; the bias is converted to it. float16 is computed in float32. Their length is
        ``OL = (L - 1)*stride - before - after + dilation*(K - 1) + 1 + output_padding``.

    Raises
    ------
    TypeError
        If an argument is of the wrong type, or a dtype is none of those named.
    ValueError
        If an argument is out of range, shapes do not match, nothing is left, or the algorithm is
        not for it.
    MemoryError
        If the result, or a copy of the weight, is too large to allocate.

    See Also
    --------
    conv1d_backward : Computes the same as the gradient of the input.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> fastconv.conv_transpose1d(np.array([[1.0, 2.0]]), np.array([[[1.0, 10.0]]]), stride=2)
    array([[ 1., 10.,  2., 20.]])
    """
    return spread(
        *(1, input, weight, bias, stride, padding, output_padding, groups, dilation),
        *(algorithm, out),
    )


@overload
def max_pool1d(
    input: npt.ArrayLike,
    kernel_size: OneInt,
    stride: OneInt | None = ...,
    padding: Padding = ...,
    dilation: OneInt = ...,
    ceil_mode: bool = ...,
    return_indices: Literal[False] = ...,
    *,
    out: Array | None = ...,
) -> Array: ...
@overload
def max_pool1d(
    input: npt.ArrayLike,
    kernel_size: OneInt,
    stride: OneInt | None = ...,
    padding: Padding = ...,
    dilation: OneInt = ...,
    ceil_mode: bool = ...,
    *,
    return_indices: Literal[True],
    out: Array | None = ...,
) -> tuple[Array, npt.NDArray[np.int64]]: ...
@overload
def max_pool1d(
    input: npt.ArrayLike,
    kernel_size: OneInt,
    stride: OneInt | None = ...,
    padding: Padding = ...,
    dilation: OneInt = ...,
    ceil_mode: bool = ...,
    return_indices: bool = ...,
    *,
    out: Array | None = ...,
) -> Array | tuple[Array, npt.NDArray[np.int64]]: ...
@named
def max_pool1d(
    input: npt.ArrayLike,
    kernel_size: OneInt,
    stride: OneInt | None = None,
    padding: Padding = 0,
    dilation: OneInt = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    *,
    out: Array | None = None,
) -> Array | tuple[Array, npt.NDArray[np.int64]]:
    """Take the maximum of every window, as `torch.nn.functional.max_pool1d`.

    Parameters
    ----------
    input : array_like, shape (N, C, L) or (C, L)
        Signals of floats or integers, of any strides.
    kernel_size : int
        Size of the window.
    stride : int, optional
        Step between windows. By default it is the kernel size.
    padding : int, (before, after), "valid" or "same", default 0
        Padding, which is never the maximum. It must be smaller than the window on each side.
    dilation : int, default 1
        Step between the taps of a window.
    ceil_mode : bool, default False
        Whether to round the output's length up. A window that would start in the padding behind is
        dropped.
    return_indices : bool, default False
        Whether to return the positions of the maxima, too.
    out : ndarray, optional
        Array for the maxima, of their shape and dtype, C-contiguous, not overlapping the input.

    Returns
    -------
    output : ndarray, shape (N, C, OL) or (C, OL)
        Maxima, of the input's dtype. NaN counts as larger than all numbers.
    indices : ndarray of int64, same shape
        Position of each maximum in its signal. Of equal maxima it is the first, of several NaN the
        first NaN. Only with `return_indices`.

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
    max_pool1d_backward : The gradient.
    max_unpool1d : The partial inverse.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> fastconv.max_pool1d(np.array([[1, 9, 6, 6]]), 2, return_indices=True)
    (array([[9, 6]]), array([[1, 2]]))
    """
    window = kernel_size, stride, padding, dilation, ceil_mode
    return max_pool(1, input, *window, return_indices, out)


@named
def max_pool1d_backward(
    grad_output: npt.ArrayLike,
    indices: npt.ArrayLike,
    input_shape: Sequence[int],
    *,
    out: Array | None = None,
) -> Array:
    """Send every gradient to the sample that was its window's maximum: `max_pool1d`'s gradient.

    Parameters
    ----------
    grad_output : array_like, shape (N, C, OL) or (C, OL)
        Gradient of the output, of floats (float16 is summed in float32).
    indices : array_like of int, same shape
        Positions that `max_pool1d` returned, of any integer dtype.
    input_shape : sequence of 3 or 2 int
        Shape of the result, (N, C, L) or (C, L).
    out : ndarray, optional
        Array for the result, of its shape and dtype, C-contiguous, overlapping no input.

    Returns
    -------
    ndarray, shape `input_shape`
        Gradient of the input, of `grad_output`'s dtype. Where several outputs have the same index,
        their gradients are added in order.

    Raises
    ------
    TypeError
        If an argument is of the wrong type, or a dtype is none of those named.
    ValueError
        If the shapes do not match or an index lies outside its signal.
    MemoryError
        If the result is too large to allocate.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> x = np.array([[1.0, 9.0, 6.0, 6.0]])
    >>> y, indices = fastconv.max_pool1d(x, 2, return_indices=True)
    >>> fastconv.max_pool1d_backward(np.array([[10.0, 20.0]]), indices, x.shape)
    array([[ 0., 10., 20.,  0.]])
    """
    return max_pool_backward(1, grad_output, indices, input_shape, out)


@named
def max_unpool1d(
    input: npt.ArrayLike,
    indices: npt.ArrayLike,
    kernel_size: OneInt,
    stride: OneInt | None = None,
    padding: Padding = 0,
    output_size: Sequence[int] | None = None,
) -> Array:
    """Put every value where the maximum was, zeros elsewhere: `max_pool1d`'s partial inverse.

    As `torch.nn.functional.max_unpool1d`.

    Parameters
    ----------
    input : array_like, shape (N, C, L) or (C, L)
        Values of floats or integers, of any strides.
    indices : array_like of int, same shape
        Positions that `max_pool1d` returned, of any integer dtype.
    kernel_size : int
        Size of the window of the pooling.
    stride : int, optional
        Step of the pooling. By default it is the kernel size.
    padding : int, (before, after) or "valid", default 0
        Padding of the pooling.
    output_size : int, sequence of one or the whole shape, optional
        Length of the result, or its whole shape. All lengths that hold the indices are accepted. By
        default it is ``(L - 1)*stride - before - after + K``.

    Returns
    -------
    ndarray, shape (N, C, output_size) or (C, output_size)
        Signals, of the input's dtype. Where several values have the same index, the last stays.

    Raises
    ------
    TypeError
        If an argument is of the wrong type, or a dtype is none of those named.
    ValueError
        If the shapes do not match or an index lies outside its signal.
    MemoryError
        If the result is too large to allocate.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> y, indices = fastconv.max_pool1d(np.array([[1, 9, 6, 6]]), 2, return_indices=True)
    >>> fastconv.max_unpool1d(y, indices, 2)
    array([[0, 9, 6, 0]])
    """
    return max_unpool(1, input, indices, kernel_size, stride, padding, output_size)


@named
def avg_pool1d(
    input: npt.ArrayLike,
    kernel_size: OneInt,
    stride: OneInt | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    *,
    out: Array | None = None,
) -> Array:
    """Take the mean of every window, as `torch.nn.functional.avg_pool1d`.

    Parameters
    ----------
    input : array_like, shape (N, C, L) or (C, L)
        Signals of floats (float16 is summed in float32), integers or bool (taken as float64), of
        any strides.
    kernel_size : int
        Size of the window.
    stride : int, optional
        Step between windows. By default it is the kernel size.
    padding : int, (before, after), "valid" or "same", default 0
        Padding with zeros. It must be smaller than the window on each side.
    ceil_mode : bool, default False
        Whether to round the output's length up. A window that would start in the padding behind is
        dropped.
    count_include_pad : bool, default True
        Whether to divide by the number of positions in the padded signal, rather than by the number
        of samples. Positions beyond the padding, which `ceil_mode` reaches, never count.
    out : ndarray, optional
        Array for the result, of its shape and dtype, C-contiguous, not overlapping the input.

    Returns
    -------
    ndarray, shape (N, C, OL) or (C, OL)
        Means. Those of whole signals are added in float64.

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
    >>> fastconv.avg_pool1d(np.array([[1, 9, 6, 5]]), 2)
    array([[5. , 5.5]])
    """
    window = kernel_size, stride, padding, ceil_mode
    return avg_pool(1, input, *window, count_include_pad, out)


@named
def avg_pool1d_backward(
    grad_output: npt.ArrayLike,
    input_shape: Sequence[int],
    kernel_size: OneInt,
    stride: OneInt | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    *,
    out: Array | None = None,
) -> Array:
    """Share every gradient among the samples of its window: `avg_pool1d`'s gradient.

    Parameters
    ----------
    grad_output : array_like, shape (N, C, OL) or (C, OL)
        Gradient of the output, of floats (float16 is summed in float32), integers or bool (taken
        as float64).
    input_shape : sequence of 3 or 2 int
        Shape of the result, (N, C, L) or (C, L).
    kernel_size, stride, padding, ceil_mode, count_include_pad
        As given to `avg_pool1d`.
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
    >>> fastconv.avg_pool1d_backward(np.array([[4.0, 8.0]]), (1, 4), 2)
    array([[2., 2., 4., 4.]])
    """
    window = kernel_size, stride, padding, ceil_mode
    return avg_pool_backward(1, grad_output, input_shape, *window, count_include_pad, out)
