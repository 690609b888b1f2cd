"""conv2d, its gradients and conv_transpose2d: convolution without columns.

`convolve`, `convolve_backward` and `spread` do their work, and that of their namesakes in
`one_dimension.py`: they are told how many axes windows slide along.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import NamedTuple, SupportsIndex

import numpy as np
import numpy.typing as npt

from fastconv import _kernels, _threads
from fastconv._algorithms import Direct, Winograd, choose, run_adjoint
from fastconv._arguments import (
    IntPair,
    Padding,
    array_shape,
    bools,
    extra_per_axis,
    one_of,
    positive,
    steps,
    transposed_window,
    window,
)
from fastconv._arrays import (
    NUMBERS,
    Array,
    Shape,
    as_images,
    as_planes,
    batch_shape,
    computed_dtype,
    read,
    result,
    weight_shape,
)
from fastconv._epilogue import NOTHING, ActivationLike, read_epilogue
from fastconv._errors import argument_error, named
from fastconv._memory import new_array
from fastconv._problem import Problem
from fastconv._window import PAD_MODES
from fastconv.packing import PackedWeight, packs_of


@named
def conv2d(
    input: npt.ArrayLike,
    weight: npt.ArrayLike | PackedWeight,
    bias: npt.ArrayLike | None = None,
    stride: IntPair = 1,
    padding: Padding = 0,
    dilation: IntPair = 1,
    groups: SupportsIndex = 1,
    *,
    pad_mode: str = "constant",
    algorithm: str = "auto",
    residual: npt.ArrayLike | None = None,
    activation: ActivationLike | None = None,
    out: Array | None = None,
) -> Array:
    """Correlate a batch of images with filters, as `torch.nn.functional.conv2d` does.

    ``out[n, f, oh, ow] = bias[f] + sum over (c, kh, kw) of
    weight[f, c, kh, kw] * padded(input[n, c])[oh*stride + kh*dilation, ow*stride + kw*dilation]``,
    computed directly [1]_, or on tiles with fewer multiplications [2]_. Columns are never stored. A
    residual and an activation are applied where the sums lie, without another pass over the result.

    Parameters
    ----------
    input : array_like, shape (N, C, H, W) or (C, H, W)
        Images of floats, integers or bool, of any strides.
    weight : array_like or PackedWeight, shape (F, C/groups, KH, KW)
        Filters. A `PackedWeight` spares further calls with the same ones the work of packing them.
    bias : array_like, shape (F,), optional
        Number that is added to every output of a filter.
    stride, dilation : int or pair of int, default 1
        Step between windows, and between the taps of a window. A pair is (vertical, horizontal).
    padding : int, pair, ((top, bottom), (left, right)), "valid" or "same", default 0
        Padding. "same" makes ``OH = ceil(H / stride)``; the odd pixel goes to the bottom and right.
    groups : int, default 1
        Number of groups into which channels and filters are divided. The filters of a group see
        the channels of that group only. With ``groups=C`` the convolution is called depthwise.
    pad_mode : {"constant", "edge", "reflect", "symmetric", "wrap"}, default "constant"
        Values of the padding, by the names of `numpy.pad`'s modes. "constant" is zeros.
    algorithm : {"auto", "direct", "winograd"}, default "auto"
        "winograd" needs fewer multiplications. It is for 3x3 windows with stride and dilation 1,
        and "auto" takes it where it is faster. From 16 channels on it is as exact as
        `set_precision` asks for; more than 2048 channels are summed directly instead.
        `plan_conv2d` tells which algorithm runs.
    residual : array_like, shape of the result, optional
        Numbers that are added to the convolution and its bias. It may be `out` itself.
    activation : str or ("clip", low, high), optional
        Function that is applied last, to every element, with ONNX's formulas: "relu", ``max(x,
        0)``; "relu6", ``min(max(x, 0), 6)``; "clip", ``min(max(x, low), high)``; "leaky_relu",
        ``0.01*x`` where x is negative and x elsewhere; "hardsigmoid",
        ``min(max(0.2*x + 0.5, 0), 1)``; "hardswish", ``x * min(max(x/6 + 0.5, 0), 1)``;
        "sigmoid", ``1 / (1 + exp(-x))``; "silu", ``x / (1 + exp(-x))``. NaN stays NaN.
    out : ndarray, optional
        Array for the result, of its shape and dtype, C-contiguous, overlapping no input.

    Returns
    -------
    ndarray, shape (N, F, OH, OW) or (F, OH, OW)
        Convolved images. Their dtype is the `numpy.result_type` of input and weight, or float64 if
        those are integers; bias and residual are converted to it. float16 is computed in float32.
        Long sums are taken in blocks, so that their rounding error is not larger than that of
        ``im2col(...) @ weight``. The height is
        ``OH = (H + top + bottom - dilation*(KH - 1) - 1) // stride + 1``, and OW likewise.

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
    conv2d_backward : The gradients.
    conv_transpose2d : The adjoint.
    plan_conv2d : Which algorithm runs.
    PackedWeight : Weights for many calls.

    Notes
    -----
    NaN and infinity reach exactly the outputs whose windows hold them. Results are bit-identical
    for every number of threads, and an image's result does not depend on its place in the batch.
    It may depend on the size of the batch in the last bits, because algorithms round differently
    and "auto" considers all shapes, including the batch size.

    References
    ----------
    .. [1] E. Georganas et al., "Anatomy of High-Performance Deep Learning Convolutions on SIMD
       Architectures", SC18, https://arxiv.org/abs/1808.05567
    .. [2] A. Lavin and S. Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016,
       https://arxiv.org/abs/1509.09308

    Examples
    --------
    The Laplacian of an image with one bright pixel:

    >>> import numpy as np
    >>> import fastconv
    >>> x = np.zeros((1, 3, 3))
    >>> x[0, 1, 1] = 1
    >>> laplacian = np.array([[[[0, 1, 0], [1, -4, 1], [0, 1, 0]]]])
    >>> fastconv.conv2d(x, laplacian, padding="same")
    array([[[ 0.,  1.,  0.],
            [ 1., -4.,  1.],
            [ 0.,  1.,  0.]]])
    """
    return convolve(
        *(2, input, weight, bias, stride, padding, dilation, groups),
        *(pad_mode, algorithm, residual, activation, out),
    )


@dataclass(frozen=True)
class ConvolutionPlan:
    """The way in which `conv2d` computes a result, as `plan_conv2d` returns it.

    Attributes
    ----------
    algorithm : {"direct", "winograd"}
        Algorithm that runs.
    tile : int
        Number of rows, and of columns, of a tile of outputs: 2 or 4 for "winograd", 1 for "direct".
    workspace_bytes : int
        Memory that is allocated besides the result, with the number of threads in use.
    flops : int
        Number of multiplications and additions that are computed. For "winograd" they are those of
        the products of transformed tiles, which are whole at the edges, too.
    definition_flops : int
        Number of multiplications and additions in the definition,
        ``2 * N * F * OH * OW * C/groups * KH * KW``.
    """

    algorithm: str
    tile: int
    workspace_bytes: int
    flops: int
    definition_flops: int


@named
def plan_conv2d(
    input_shape: Sequence[int],
    weight_shape: Sequence[int],
    stride: IntPair = 1,
    padding: Padding = 0,
    dilation: IntPair = 1,
    groups: SupportsIndex = 1,
    *,
    pad_mode: str = "constant",
    algorithm: str = "auto",
    dtype: npt.DTypeLike = np.float32,
) -> ConvolutionPlan:
    """Tell how `conv2d` would compute contiguous arrays, with the precision and threads in use.

    Parameters
    ----------
    input_shape : sequence of 3 or 4 int
        Shape of the images.
    weight_shape : sequence of 4 int
        Shape of the filters.
    stride, padding, dilation, groups, pad_mode, algorithm
        Arguments of `conv2d`.
    dtype : dtype, default float32
        Dtype of images and filters.

    Returns
    -------
    ConvolutionPlan
        The algorithm, its memory, and the number of its operations.

    Raises
    ------
    TypeError
        If an argument is of the wrong type, or the dtype is none of those accepted by `conv2d`.
    ValueError
        If an argument is out of range, shapes do not match, the window does not fit, or the
        algorithm is not for it.

    Examples
    --------
    >>> import fastconv
    >>> plan = fastconv.plan_conv2d((8, 256, 56, 56), (256, 256, 3, 3), padding=1)
    >>> plan.algorithm, plan.tile, plan.definition_flops / plan.flops
    ('winograd', 2, 2.25)
    """
    array = read(placeholder(input_shape, "input_shape", dtype), "input", NUMBERS)
    filters = read(placeholder(weight_shape, "weight_shape", dtype), "weight", NUMBERS)
    known = geometry(array.shape, filters.shape, stride, padding, dilation, groups, pad_mode, 2)
    problem, images = known.problem, array if array.ndim == 4 else array[None]
    chosen = choose(problem, algorithm)
    if not len(images):
        return ConvolutionPlan(chosen.name, chosen.tile, 0, 0, 0)
    dtype = computed_dtype(images.dtype, filters.dtype)
    out = placeholder(problem.target, "out", dtype)
    workspace, flops = chosen.plan(problem, images, filters, out)
    return ConvolutionPlan(chosen.name, chosen.tile, workspace, flops, problem.definition_flops)


@named
def conv2d_backward(
    grad_output: npt.ArrayLike,
    input: npt.ArrayLike,
    weight: npt.ArrayLike,
    stride: IntPair = 1,
    padding: Padding = 0,
    dilation: IntPair = 1,
    groups: SupportsIndex = 1,
    *,
    pad_mode: str = "constant",
    algorithm: str = "auto",
    output_mask: Sequence[bool] = (True, True, True),
) -> tuple[Array | None, Array | None, Array | None]:
    """Compute the gradients of `conv2d` for its input, weight and bias.

    Parameters
    ----------
    grad_output : array_like, shape (N, F, OH, OW) or (F, OH, OW)
        Gradient of the output.
    input : array_like, shape (N, C, H, W) or (C, H, W)
        Images that `conv2d` was given.
    weight : array_like, shape (F, C/groups, KH, KW)
        Filters that `conv2d` was given.
    stride, padding, dilation, groups, pad_mode
        Arguments that `conv2d` was given.
    algorithm : {"auto", "direct", "winograd"}, default "auto"
        As for `conv2d`. "winograd" is as exact as `set_precision` asks for if the gradient of the
        input sums at least 128 filters, and that of the weight at least 1024 outputs. With
        precision "highest", "auto" does not take it for fewer.
    output_mask : sequence of 3 bool, default (True, True, True)
        Whether to compute the gradients of the input, of the weight and of the bias.

    Returns
    -------
    grad_input : ndarray, shape of `input`, or None
        Gradient of the input. If `pad_mode` is not "constant", the gradients of the padding are
        added to the pixels that the padding was copied from.
    grad_weight : ndarray, shape of `weight`, or None
        Gradient of the weight.
    grad_bias : ndarray, shape (F,), or None
        Gradient of the bias: `grad_output`, summed over everything but filters.

    Raises
    ------
    TypeError
        If an argument is of the wrong type, or a dtype is none of those accepted by `conv2d`.
    ValueError
        If an argument is out of range, shapes do not match, the window does not fit, or the
        algorithm is not for it.
    MemoryError
        If a result, or a copy of the weight, is too large to allocate.

    Notes
    -----
    Results are bit-identical for every number of threads. The dtype of all results is the
    `numpy.result_type` of the three arrays, or float64 if those are integers. float16 is computed
    in float32.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> x, w = np.arange(4.0).reshape(1, 2, 2), np.array([[[[1.0, 2.0]]]])
    >>> grad_x, grad_w, grad_b = fastconv.conv2d_backward(np.ones((1, 2, 1)), x, w)
    >>> grad_x
    array([[[1., 2.],
            [1., 2.]]])
    >>> grad_w
    array([[[[2., 4.]]]])
    >>> grad_b
    array([2.])
    """
    return convolve_backward(
        *(2, grad_output, input, weight, stride, padding, dilation, groups),
        *(pad_mode, algorithm, output_mask),
    )


@named
def conv_transpose2d(
    input: npt.ArrayLike,
    weight: npt.ArrayLike | PackedWeight,
    bias: npt.ArrayLike | None = None,
    stride: IntPair = 1,
    padding: Padding = 0,
    output_padding: IntPair = 0,
    groups: SupportsIndex = 1,
    dilation: IntPair = 1,
    *,
    algorithm: str = "auto",
    out: Array | None = None,
) -> Array:
    """Spread every pixel over a window: `conv2d`'s adjoint, as torch's `conv_transpose2d`.

    Every product ``input[n, c, ih, iw] * weight[c, f, kh, kw]`` is added to
    ``out[n, f, ih*stride + kh*dilation - top, iw*stride + kw*dilation - left]``, which begins as
    ``bias[f]``.

    Parameters
    ----------
    input : array_like, shape (N, C, H, W) or (C, H, W)
        Images of floats, integers or bool, of any strides.
    weight : array_like or PackedWeight, shape (C, F/groups, KH, KW)
        Filters. A `PackedWeight` spares further calls with the same ones the work of packing them.
    bias : array_like, shape (F,), optional
        Number that is added to every output of a filter.
    stride, dilation : int or pair of int, default 1
        Step between windows, and between the taps of a window. A pair is (vertical, horizontal).
    padding : int, pair, ((top, bottom), (left, right)) or "valid", default 0
        Number of pixels that are cut off at the sides of the output.
    output_padding : int or pair of int, default 0
        Number of pixels that are added to the output at the bottom and right. It must be smaller
        than the stride or the dilation, and chooses one of the sizes that `conv2d` maps to the size
        of the input.
    groups : int, default 1
        Number of groups into which channels and filters are divided. The channels of a group
        reach the filters of that group only.
    algorithm : {"auto", "direct", "winograd"}, default "auto"
        As for `conv2d`.
    out : ndarray, optional
        Array for the result, of its shape and dtype, C-contiguous, overlapping no input.

    Returns
    -------
    ndarray, shape (N, F, OH, OW) or (F, OH, OW)
        Images. Their dtype is the `numpy.result_type` of input and weight, or float64 if those are
        integers; the bias is converted to it. float16 is computed in float32. The height is
        ``OH = (H - 1)*stride - top - bottom + dilation*(KH - 1) + 1 + output_padding``, and OW
        likewise.

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
    conv2d_backward : Computes the same as the gradient of the input.

    Examples
    --------
    >>> import numpy as np
    >>> import fastconv
    >>> x = np.array([[[1.0, 2.0]]])
    >>> fastconv.conv_transpose2d(x, np.array([[[[1.0, 10.0]]]]), stride=2)
    array([[[ 1., 10.,  2., 20.]]])
    """
    return spread(
        *(2, input, weight, bias, stride, padding, output_padding, groups, dilation),
        *(algorithm, out),
    )


# ---- what all faces share ----------------------------------------------------------------------


def convolve(
    axes: int,
    input: npt.ArrayLike,
    weight: npt.ArrayLike | PackedWeight,
    bias: npt.ArrayLike | None,
    stride: IntPair,
    padding: Padding,
    dilation: IntPair,
    groups: SupportsIndex,
    pad_mode: str,
    algorithm: str,
    residual: npt.ArrayLike | None,
    activation: ActivationLike | None,
    out: Array | None,
) -> Array:
    """Compute what `conv2d` does, with windows that slide along two axes or one."""
    array, filters = read(input, "input", NUMBERS), read(weight, "weight", NUMBERS)
    packs = None if filters is weight else packs_of(weight)
    known = geometry(array.shape, filters.shape, stride, padding, dilation, groups, pad_mode, axes)
    dtype = computed_dtype(array.dtype, filters.dtype)
    epilogue, apart = NOTHING
    if not (bias is residual is activation is None):
        epilogue, apart = read_epilogue(
            bias, residual, activation, known.shape, len(filters), dtype, out
        )
    problem = known.problem
    chosen = choose(problem, algorithm)
    out = result(out, known.shape, dtype, (array, filters, *apart))
    if problem.batch:
        images, target = as_images(array, problem.source), as_images(out, problem.target)
        chosen.run(problem, images, as_images(filters, problem.weight), target, epilogue, packs)
    return out


def convolve_backward(
    axes: int,
    grad_output: npt.ArrayLike,
    input: npt.ArrayLike,
    weight: npt.ArrayLike,
    stride: IntPair,
    padding: Padding,
    dilation: IntPair,
    groups: SupportsIndex,
    pad_mode: str,
    algorithm: str,
    output_mask: Sequence[bool],
) -> tuple[Array | None, Array | None, Array | None]:
    """Compute what `conv2d_backward` does, with windows that slide along two axes or one."""
    array, grad_array = read(input, "input", NUMBERS), read(grad_output, "grad_output", NUMBERS)
    filters = read(weight, "weight", NUMBERS)
    known = geometry(array.shape, filters.shape, stride, padding, dilation, groups, pad_mode, axes)
    if grad_array.shape != known.shape:
        batch_shape(grad_array.shape, "grad_output", axes + 2)
        raise argument_error(
            ValueError,
            f"grad_output must have shape {known.shape} for input {array.shape}, weight "
            f"{filters.shape}, stride {stride}, padding {padding!r} and dilation {dilation}, "
            f"got {grad_array.shape}",
        )
    wanted = bools(output_mask, "output_mask", 3)
    problem = known.problem
    adjoint, of_weight = problem.adjoint, problem.weight_gradient
    for_input, for_weight = choose(adjoint, algorithm), choose(of_weight, algorithm)
    dtype = computed_dtype(grad_array.dtype, array.dtype, filters.dtype)
    shapes = array.shape, filters.shape, filters.shape[:1]
    grad_input, grad_weight, grad_bias = (
        new_array(shape, dtype) if want else None for shape, want in zip(shapes, wanted)
    )
    grads = as_images(grad_array, problem.target)
    if grad_input is not None:
        target = as_images(grad_input, problem.source)
        run_adjoint(for_input, adjoint, grads, as_images(filters, problem.weight), target)
    if grad_weight is not None:
        target = as_images(grad_weight, problem.weight)
        for_weight.run(of_weight, grads, as_images(array, problem.source), target)
    if grad_bias is not None:
        _kernels.gradients.bias_gradient(grads, grad_bias, _threads.count())
    return grad_input, grad_weight, grad_bias


def spread(
    axes: int,
    input: npt.ArrayLike,
    weight: npt.ArrayLike | PackedWeight,
    bias: npt.ArrayLike | None,
    stride: IntPair,
    padding: Padding,
    output_padding: IntPair,
    groups: SupportsIndex,
    dilation: IntPair,
    algorithm: str | Direct | Winograd,
    out: Array | None,
) -> Array:
    """Compute what `conv_transpose2d` does, with windows that slide along two axes or one."""
    array, filters = read(input, "input", NUMBERS), read(weight, "weight", NUMBERS)
    packs = None if filters is weight else packs_of(weight)
    known = _transposed_geometry(
        array.shape, filters.shape, stride, padding, output_padding, dilation, groups, axes
    )
    dtype = computed_dtype(array.dtype, filters.dtype)
    problem = known.problem.adjoint
    epilogue, apart = NOTHING
    if bias is not None:
        count = problem.filters * problem.groups
        epilogue, apart = read_epilogue(bias, None, None, known.shape, count, dtype, out)
    chosen = choose(problem, algorithm)
    out = result(out, known.shape, dtype, (array, filters, *apart))
    if problem.batch:
        images, target = as_images(array, problem.target), as_images(out, problem.source)
        chosen.run(problem, images, as_images(filters, problem.weight), target, epilogue, packs)
    return out


def placeholder(shape: Sequence[int], name: str, dtype: npt.DTypeLike) -> Array:
    """Return an array that is as a contiguous one to the planner, with one element in memory."""
    sizes = array_shape(shape, name)
    try:
        element = np.empty(1, dtype)
    except TypeError as error:
        raise argument_error(TypeError, f"dtype is none of NumPy's: {error}") from None
    strides = [element.itemsize * prod(sizes[i + 1 :]) for i in range(len(sizes))]
    try:
        return np.lib.stride_tricks.as_strided(element, sizes, strides)
    except (OverflowError, ValueError) as error:
        raise argument_error(ValueError, f"{name} {sizes} is of no array: {error}") from None


class Geometry(NamedTuple):
    """Everything that the shapes and the window of a convolution decide."""

    problem: Problem
    """The convolution; of a transposed one, that whose adjoint it is."""
    shape: Shape
    """Shape of the result, without a batch if the input has none."""


def geometry(
    shape: Shape,
    weight: Shape,
    stride: IntPair,
    padding: Padding,
    dilation: IntPair,
    groups: SupportsIndex,
    pad_mode: str,
    axes: int,
) -> Geometry:
    """Read the window arguments of a convolution, and check them against the arrays' shapes."""
    if not (type(stride) is type(padding) is type(dilation) is type(groups) is int):
        stride, padding, dilation = steps(stride, padding, dilation, axes=axes)
        groups = positive(groups, "groups")
    mode = one_of(pad_mode, "pad_mode", PAD_MODES)
    return _known_geometry(shape, weight, stride, padding, dilation, groups, mode, axes)


@lru_cache(maxsize=512)
def _known_geometry(
    shape: Shape,
    weight: Shape,
    stride: IntPair,
    padding: Padding,
    dilation: IntPair,
    groups: SupportsIndex,
    pad_mode: str,
    axes: int,
) -> Geometry:
    n, c, *size = batch_shape(shape, "input", axes + 2)
    f, channels, *kernel = weight_shape(weight, axes)
    count = _groups(groups, f, "filters")
    if c != channels * count:
        raise _mismatch(shape, c, channels * count, weight, count)
    win = window(tuple(size), tuple(kernel), stride, padding, dilation, pad_mode)
    source, target = as_planes((n, c, *size), axes), as_planes((n, f, *win.out), axes)
    problem = Problem("forward", source, target, count, win)
    return Geometry(problem, (n, f, *win.out)[axes + 2 - len(shape) :])


def _transposed_geometry(
    shape: Shape,
    weight: Shape,
    stride: IntPair,
    padding: Padding,
    output_padding: IntPair,
    dilation: IntPair,
    groups: SupportsIndex,
    axes: int,
) -> Geometry:
    """Read the window arguments of a transposed convolution, and check them and the shapes."""
    if not (type(stride) is type(padding) is type(dilation) is type(groups) is int):
        stride, padding, dilation = steps(stride, padding, dilation, axes=axes)
        groups = positive(groups, "groups")
    if type(output_padding) is not int:
        output_padding = extra_per_axis(output_padding, "output_padding", axes)
    return _known_transposed_geometry(
        shape, weight, stride, padding, output_padding, dilation, groups, axes
    )


@lru_cache(maxsize=512)
def _known_transposed_geometry(
    shape: Shape,
    weight: Shape,
    stride: IntPair,
    padding: Padding,
    output_padding: IntPair,
    dilation: IntPair,
    groups: SupportsIndex,
    axes: int,
) -> Geometry:
    n, c, *places = batch_shape(shape, "input", axes + 2)
    expected, f, *kernel = weight_shape(weight, axes)
    count = _groups(groups, expected, "channels")
    if c != expected:
        raise _mismatch(shape, c, expected, weight, count)
    size, win = transposed_window(
        tuple(places), tuple(kernel), stride, padding, output_padding, dilation
    )
    source, target = as_planes((n, f * count, *size), axes), as_planes((n, c, *places), axes)
    problem = Problem("forward", source, target, count, win)
    return Geometry(problem, (n, f * count, *size)[axes + 2 - len(shape) :])


def _groups(groups: SupportsIndex, of: int, what: str) -> int:
    """Read the number of groups, which must divide the first axis of the weight."""
    count = positive(groups, "groups")
    if of % count:
        raise argument_error(ValueError, f"groups must divide weight's {of} {what}, got {count}")
    return count


def _mismatch(shape: Shape, channels: int, expected: int, weight: Shape, groups: int) -> ValueError:
    hint = ""
    if shape[-1] == expected:
        axes = len(weight) - 2  # The channels must come before them, behind the batch.
        batch = len(shape) - axes - 1
        order = (*range(batch), len(shape) - 1, *range(batch, len(shape) - 1))
        hint = f"; if its last axis are the channels, pass input.transpose{order}"
    return argument_error(
        ValueError,
        f"input has {channels} channels but weight expects {expected} (input {shape}, "
        f"weight {weight}, groups {groups}){hint}",
    )
