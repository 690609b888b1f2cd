"""conv2d, its gradients and conv_transpose2d: convolution without columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import prod
from typing import NamedTuple, SupportsIndex

import numpy as np
import numpy.typing as npt

from fastconv import _kernels, _threads
from fastconv._arguments import (
    IntPair,
    Padding,
    array_shape,
    bools,
    extra_pair,
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
    batch_shape,
    computed_dtype,
    read,
    read_bias,
    result,
)
from fastconv._errors import argument_error, named
from fastconv._memory import new_array
from fastconv._window import PAD_MODES, Pair, Window
from fastconv._winograd import ADJOINT, FORWARD, WEIGHT_GRADIENT, tile_size

FLOAT32_PIXELS = 1 << 18
"""The most pixels, 1 MiB of them, that gradients hold in float32 before they become float16."""


@named
def conv2d(
    input: npt.ArrayLike,
    weight: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    stride: IntPair = 1,
    padding: Padding = 0,
    dilation: IntPair = 1,
    groups: SupportsIndex = 1,
    *,
    pad_mode: str = "constant",
    algorithm: str = "auto",
    out: Array | None = None,
) -> Array:
    """Correlate a batch of images with filters, as `torch.nn.functional.conv2d` does.

    ``out[n, f, oh, ow] = bias[f] + sum over (c, kh, kw) of
    weight[f, c, kh, kw] * padded(input[n, c])[oh*stride + kh*dilation, ow*stride + kw*dilation]``,
    computed directly [1]_, or on tiles with fewer multiplications [2]_. Columns are never stored.

    Parameters
    ----------
    input : array_like, shape (N, C, H, W) or (C, H, W)
        Images of floats, integers or bool, of any strides.
    weight : array_like, shape (F, C/groups, KH, KW)
        Filters.
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
    out : ndarray, optional
        Array for the result, of its shape and dtype, C-contiguous, overlapping no input.

    Returns
    -------
    ndarray, shape (N, F, OH, OW) or (F, OH, OW)
        Convolved images. Their dtype is the `numpy.result_type` of input and weight, or float64 if
        those are integers; the bias is converted to it. float16 is computed in float32. Long sums
        are taken in blocks, so that their rounding error is not larger than that of
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
    array, filters = read(input, "input", NUMBERS), read(weight, "weight", NUMBERS)
    known = _geometry(array.shape, filters.shape, stride, padding, dilation, groups, pad_mode)
    dtype = computed_dtype(array.dtype, filters.dtype)
    offsets = None if bias is None else read_bias(bias, len(filters), "filter", dtype)
    inputs = (array, filters) if offsets is None else (array, filters, offsets)
    tile = tile_size(FORWARD, algorithm, *known.forward)
    out = result(out, known.shape, dtype, inputs)
    images, target = (array, out) if array.ndim == 4 else (array[None], out[None])
    _convolve(images, filters, offsets, target, known.window, known.groups, tile)
    return out


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
    array = read(_placeholder(input_shape, "input_shape", dtype), "input", NUMBERS)
    filters = read(_placeholder(weight_shape, "weight_shape", dtype), "weight", NUMBERS)
    known = _geometry(array.shape, filters.shape, stride, padding, dilation, groups, pad_mode)
    images = array if array.ndim == 4 else array[None]
    win, count = known.window, known.groups
    tile = tile_size(FORWARD, algorithm, *known.forward)
    out = _placeholder(
        (len(images), *known.shape[-3:]), "out", computed_dtype(images.dtype, filters.dtype)
    )
    definition = 2 * prod(out.shape) * prod(filters.shape[1:])
    threads = _threads.count()
    if not len(images):
        return ConvolutionPlan("winograd" if tile else "direct", tile or 1, 0, 0, 0)
    if tile:
        workspace, flops = _kernels.winograd.plan(
            images, filters, out, win.packed, count, tile, threads
        )
        return ConvolutionPlan("winograd", tile, workspace, flops, definition)
    workspace = _kernels.convolution.workspace(images, filters, out, win.packed, count, threads)
    return ConvolutionPlan("direct", 1, workspace, definition, definition)


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
    array, grad_array = read(input, "input", NUMBERS), read(grad_output, "grad_output", NUMBERS)
    filters = read(weight, "weight", NUMBERS)
    known = _geometry(array.shape, filters.shape, stride, padding, dilation, groups, pad_mode)
    if grad_array.shape != known.shape:
        batch_shape(grad_array.shape, "grad_output", 4)
        raise argument_error(
            ValueError,
            f"grad_output must have shape {known.shape} for input {array.shape}, weight "
            f"{filters.shape}, stride {stride}, padding {padding!r} and dilation {dilation}, "
            f"got {grad_array.shape}",
        )
    has_batch = array.ndim == 4
    images, grads = (array, grad_array) if has_batch else (array[None], grad_array[None])
    win, count = known.window, known.groups
    wanted = bools(output_mask, "output_mask", 3)
    adjoint_tile = tile_size(ADJOINT, algorithm, *known.adjoint)
    tile = tile_size(WEIGHT_GRADIENT, algorithm, *known.forward)
    dtype = computed_dtype(grads.dtype, images.dtype, filters.dtype)
    shapes = array.shape, filters.shape, filters.shape[:1]
    grad_input, grad_weight, grad_bias = (
        new_array(shape, dtype) if want else None for shape, want in zip(shapes, wanted)
    )
    kernels, threads = _kernels.convolution, _threads.count()
    if grad_input is not None:
        target = grad_input if has_batch else grad_input[None]
        adjoint = _adjoint_of_halves if dtype == np.float16 and pad_mode != "constant" else _adjoint
        adjoint(grads, filters, target, win, count, adjoint_tile)
    if grad_weight is not None:
        arguments = grads, images, grad_weight, win.packed, count
        if not tile or not _kernels.winograd.weight_gradient(*arguments, tile, threads):
            kernels.weight_gradient(*arguments, threads)
    if grad_bias is not None:
        kernels.bias_gradient(grads, grad_bias, threads)
    return grad_input, grad_weight, grad_bias


@named
def conv_transpose2d(
    input: npt.ArrayLike,
    weight: npt.ArrayLike,
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
    weight : array_like, shape (C, F/groups, KH, KW)
        Filters.
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
    array, filters = read(input, "input", NUMBERS), read(weight, "weight", NUMBERS)
    known = _transposed_geometry(
        array.shape, filters.shape, stride, padding, output_padding, dilation, groups
    )
    dtype = computed_dtype(array.dtype, filters.dtype)
    offsets = None if bias is None else read_bias(bias, known.shape[-3], "filter", dtype)
    inputs = (array, filters) if offsets is None else (array, filters, offsets)
    tile = tile_size(ADJOINT, algorithm, *known.adjoint)
    out = result(out, known.shape, dtype, inputs)
    images, target = (array, out) if array.ndim == 4 else (array[None], out[None])
    _convolve(images, filters, offsets, target, known.window, known.groups, tile, True)
    return out


def _convolve(
    images: Array,
    filters: Array,
    bias: Array | None,
    out: Array,
    win: Window,
    groups: int,
    tile: int,
    transposed: bool = False,
) -> None:
    """Compute a convolution, or a transposed one, on tiles of a size or, if that is 0, directly.

    Tiles of images that hold NaN or infinity would spread them. The kernel marks these images,
    which are computed directly then.
    """
    kernels, threads = _kernels.convolution, _threads.count()
    direct = kernels.transposed if transposed else kernels.forward
    if not tile:
        direct(images, filters, bias, out, win.packed, groups, threads)
        return
    marks = np.zeros(len(images), np.uint8)
    _kernels.winograd.convolve_tiles(
        images, filters, bias, out, win.packed, groups, tile, transposed, marks, threads
    )
    if transposed:
        kernels.fold(images, filters, out, win.packed, groups, threads)
    for n in np.flatnonzero(marks).tolist():
        direct(images[n : n + 1], filters, bias, out[n : n + 1], win.packed, groups, threads)


def _adjoint(grads: Array, filters: Array, out: Array, win: Window, groups: int, tile: int) -> None:
    _convolve(grads, filters, None, out, win, groups, tile, True)


def _adjoint_of_halves(
    grads: Array, filters: Array, out: Array, win: Window, groups: int, tile: int
) -> None:
    """Compute gradients in float32, a few channels at a time, and round them to float16.

    A pixel's sum includes the gradients of the padding that was copied from it, and must not be
    rounded before they are added.
    """
    n, channels, h, w = out.shape
    f, c = len(filters) // groups, channels // groups
    some = max(1, min(c, FLOAT32_PIXELS // (h * w)))
    wide = np.empty((1, some, h, w), np.float32)
    for image, g in product(range(n), range(groups)):
        own = slice(g * f, (g + 1) * f)
        for first in range(0, c, some):
            last = min(first + some, c)
            part = wide[:, : last - first]
            _adjoint(grads[image : image + 1, own], filters[own, first:last], part, win, 1, tile)
            with np.errstate(over="ignore"):
                out[image, g * c + first : g * c + last] = part[0]


def _placeholder(shape: Sequence[int], name: str, dtype: npt.DTypeLike) -> Array:
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

    groups: int
    window: Window
    shape: Shape
    """Shape of the result, without a batch if the input has none."""
    forward: tuple[int, int, int, int, Pair, Window]
    """Arguments of `tile_size` for the convolution and for the gradient of its weight."""
    adjoint: tuple[int, int, int, int, Pair, Window]
    """Arguments of `tile_size` for the adjoint."""


def _geometry(
    shape: Shape,
    weight: Shape,
    stride: IntPair,
    padding: Padding,
    dilation: IntPair,
    groups: SupportsIndex,
    pad_mode: str,
) -> Geometry:
    """Read the window arguments of a convolution, and check them against the arrays' shapes."""
    if not (type(stride) is type(padding) is type(dilation) is type(groups) is int):
        stride, padding, dilation = steps(stride, padding, dilation)
        groups = positive(groups, "groups")
    mode = one_of(pad_mode, "pad_mode", PAD_MODES)
    return _known_geometry(shape, weight, stride, padding, dilation, groups, mode)


@lru_cache(maxsize=512)
def _known_geometry(
    shape: Shape,
    weight: Shape,
    stride: IntPair,
    padding: Padding,
    dilation: IntPair,
    groups: SupportsIndex,
    pad_mode: str,
) -> Geometry:
    n, c, h, w = batch_shape(shape, "input", 4)
    f, channels, kernel_h, kernel_w = _weight_shape(weight)
    count = _groups(groups, f, "filters")
    if c != channels * count:
        raise _mismatch(shape, c, channels * count, weight, count)
    win = window((h, w), (kernel_h, kernel_w), stride, padding, dilation, pad_mode)
    size = win.out_h, win.out_w
    outputs = n, f, *size
    return Geometry(
        count,
        win,
        outputs[4 - len(shape) :],
        (n, channels, f // count, count, size, win),
        (n, f // count, channels, count, (h, w), win),
    )


def _transposed_geometry(
    shape: Shape,
    weight: Shape,
    stride: IntPair,
    padding: Padding,
    output_padding: IntPair,
    dilation: IntPair,
    groups: SupportsIndex,
) -> Geometry:
    """Read the window arguments of a transposed convolution, and check them and the shapes."""
    if not (type(stride) is type(padding) is type(dilation) is type(groups) is int):
        stride, padding, dilation = steps(stride, padding, dilation)
        groups = positive(groups, "groups")
    if type(output_padding) is not int:
        output_padding = extra_pair(output_padding, "output_padding")
    return _known_transposed_geometry(
        shape, weight, stride, padding, output_padding, dilation, groups
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
) -> Geometry:
    n, c, h, w = batch_shape(shape, "input", 4)
    expected, f, kernel_h, kernel_w = _weight_shape(weight)
    count = _groups(groups, expected, "channels")
    if c != expected:
        raise _mismatch(shape, c, expected, weight, count)
    size, win = transposed_window(
        (h, w), (kernel_h, kernel_w), stride, padding, output_padding, dilation
    )
    outputs = n, f * count, *size
    return Geometry(
        count,
        win,
        outputs[4 - len(shape) :],
        (n, f, expected // count, count, (h, w), win),
        (n, expected // count, f, count, size, win),
    )


def _weight_shape(shape: Shape) -> Shape:
    batch_shape(shape, "weight", 4, unbatched=False)
    if shape[0] == 0:
        raise argument_error(ValueError, f"weight must not be empty, got shape {shape}")
    return shape


def _groups(groups: SupportsIndex, of: int, what: str) -> int:
    """Read the number of groups, which must divide the first axis of the weight."""
    count = positive(groups, "groups")
    if of % count:
        raise argument_error(ValueError, f"groups must divide weight's {of} {what}, got {count}")
    return count


def _mismatch(shape: Shape, channels: int, expected: int, weight: Shape, groups: int) -> ValueError:
    hint = ""
    if shape[-1] == expected:
        order = (2, 0, 1) if len(shape) == 3 else (0, 3, 1, 2)
        hint = f"; if its last axis are the channels, pass input.transpose{order}"
    return argument_error(
        ValueError,
        f"input has {channels} channels but weight expects {expected} (input {shape}, "
        f"weight {weight}, groups {groups}){hint}",
    )
