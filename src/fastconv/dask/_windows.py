"""Convolutions, pools and networks on Dask arrays: graphs of steps whose parts are the chunks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from dask.base import tokenize

from fastconv._algorithms import choose
from fastconv._arguments import IntPair, Padding, per_axis, positive
from fastconv._arrays import NUMBERS, Array, Shape, computed_dtype, read
from fastconv._epilogue import ActivationLike, read_epilogue
from fastconv._errors import argument_error, named
from fastconv.dask._chunks import Box, Chunks, bounds, checked, computed
from fastconv.inference._graph import Graph, Step
from fastconv.inference._operations import Convolve, Operation
from fastconv.inference._parts import Convolution, Local, Parts, Pool
from fastconv.one_dimension import avg_pool1d as avg_pool1d_in_memory
from fastconv.one_dimension import max_pool1d as max_pool1d_in_memory
from fastconv.pooling import avg_pool2d as avg_pool2d_in_memory
from fastconv.pooling import max_pool2d as max_pool2d_in_memory


@named
def conv2d(
    input: Any,
    weight: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    stride: IntPair = 1,
    padding: Padding = 0,
    dilation: IntPair = 1,
    groups: int = 1,
    *,
    pad_mode: str = "constant",
    algorithm: str = "auto",
    activation: ActivationLike | None = None,
) -> Any:
    """Correlate the images of a Dask array with filters, as `fastconv.conv2d`.

    Parameters
    ----------
    input : dask.array.Array, shape (N, C, H, W) or (C, H, W)
        Images, in chunks of any shape.
    weight, bias : array_like
        Filters and what is added to them, in memory.
    stride, padding, dilation, groups, pad_mode, algorithm, activation
        As for `fastconv.conv2d`.

    Returns
    -------
    dask.array.Array
        The images that `fastconv.conv2d` gives, bit for bit. Chunks are those of the input; along
        the channels there is one.

    Raises
    ------
    TypeError, ValueError
        As `fastconv.conv2d`, before anything is computed.

    Examples
    --------
    >>> import dask.array as da
    >>> import numpy as np
    >>> import fastconv
    >>> from fastconv import dask as fd
    >>> x = np.random.default_rng(0).random((3, 200, 300), np.float32)
    >>> w = np.ones((2, 3, 3, 3), np.float32)
    >>> y = fd.conv2d(da.from_array(x, chunks=(3, 64, 100)), w, padding=1)
    >>> y.shape, y.chunks[1]
    ((2, 200, 300), (64, 64, 64, 8))
    >>> bool((y.compute() == fastconv.conv2d(x, w, padding=1)).all())
    True
    """
    return _convolved(
        *(2, "conv2d", input, weight, bias, stride, padding, dilation, groups),
        *(pad_mode, algorithm, activation),
    )


@named
def conv1d(
    input: Any,
    weight: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    stride: IntPair = 1,
    padding: Padding = 0,
    dilation: IntPair = 1,
    groups: int = 1,
    *,
    pad_mode: str = "constant",
    algorithm: str = "auto",
    activation: ActivationLike | None = None,
) -> Any:
    """Correlate the signals of a Dask array with filters, as `fastconv.conv1d`.

    Parameters
    ----------
    input : dask.array.Array, shape (N, C, L) or (C, L)
        Signals, in chunks of any shape.
    weight, bias : array_like
        Filters and what is added to them, in memory.
    stride, padding, dilation, groups, pad_mode, algorithm, activation
        As for `fastconv.conv1d`.

    Returns
    -------
    dask.array.Array
        The signals that `fastconv.conv1d` gives, bit for bit.
    """
    return _convolved(
        *(1, "conv1d", input, weight, bias, stride, padding, dilation, groups),
        *(pad_mode, algorithm, activation),
    )


def _convolved(
    axes: int,
    name: str,
    input: Any,
    weight: npt.ArrayLike,
    bias: npt.ArrayLike | None,
    stride: IntPair,
    padding: Padding,
    dilation: IntPair,
    groups: int,
    pad_mode: str,
    algorithm: str,
    activation: ActivationLike | None,
) -> Any:
    x, filters = checked(input, "input"), read(weight, "weight", NUMBERS)
    dtype = computed_dtype(x.dtype, filters.dtype)
    source, batch = _images(x, axes)
    operation = Convolve(
        filters,
        None,
        per_axis(stride, "stride", axes),
        padding,
        per_axis(dilation, "dilation", axes),
        positive(groups, "groups"),
        pad_mode,
    )
    known = operation.geometry((batch, *source))
    choose(known.problem, algorithm)  # Raises what is wrong.
    epilogue, _ = read_epilogue(bias, None, activation, known.shape, len(filters), dtype, None)
    if epilogue is not None:
        operation.bias, _, operation.activation = epilogue
    step = partial(Convolution, operation, [source], algorithm)
    given = (axes, filters, bias, stride, padding, dilation, groups, pad_mode, algorithm)
    return _by_parts(name, x, axes, operation, step, dtype, *given, activation)


@named
def max_pool2d(
    input: Any,
    kernel_size: IntPair,
    stride: IntPair | None = None,
    padding: Padding = 0,
    dilation: IntPair = 1,
    ceil_mode: bool = False,
) -> Any:
    """Take the maximum of every window of a Dask array, as `fastconv.max_pool2d`.

    Parameters
    ----------
    input : dask.array.Array, shape (N, C, H, W) or (C, H, W)
        Images, in chunks of any shape.
    kernel_size, stride, padding, dilation, ceil_mode
        As for `fastconv.max_pool2d`. Indices cannot be returned.

    Returns
    -------
    dask.array.Array
        The maxima.
    """
    options = {"dilation": dilation, "ceil_mode": ceil_mode}
    return _pooled(2, max_pool2d_in_memory, input, kernel_size, stride, padding, options)


@named
def avg_pool2d(
    input: Any,
    kernel_size: IntPair,
    stride: IntPair | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Any:
    """Take the mean of every window of a Dask array, as `fastconv.avg_pool2d`.

    Parameters
    ----------
    input : dask.array.Array, shape (N, C, H, W) or (C, H, W)
        Images, in chunks of any shape.
    kernel_size, stride, padding, ceil_mode, count_include_pad
        As for `fastconv.avg_pool2d`.

    Returns
    -------
    dask.array.Array
        The means.
    """
    options = {"ceil_mode": ceil_mode, "count_include_pad": count_include_pad}
    return _pooled(2, avg_pool2d_in_memory, input, kernel_size, stride, padding, options)


@named
def max_pool1d(
    input: Any,
    kernel_size: IntPair,
    stride: IntPair | None = None,
    padding: Padding = 0,
    dilation: IntPair = 1,
    ceil_mode: bool = False,
) -> Any:
    """Take the maximum of every window of signals, as `fastconv.max_pool1d`.

    Parameters
    ----------
    input : dask.array.Array, shape (N, C, L) or (C, L)
        Signals, in chunks of any shape.
    kernel_size, stride, padding, dilation, ceil_mode
        As for `fastconv.max_pool1d`. Indices cannot be returned.

    Returns
    -------
    dask.array.Array
        The maxima.
    """
    options = {"dilation": dilation, "ceil_mode": ceil_mode}
    return _pooled(1, max_pool1d_in_memory, input, kernel_size, stride, padding, options)


@named
def avg_pool1d(
    input: Any,
    kernel_size: IntPair,
    stride: IntPair | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Any:
    """Take the mean of every window of signals, as `fastconv.avg_pool1d`.

    Parameters
    ----------
    input : dask.array.Array, shape (N, C, L) or (C, L)
        Signals, in chunks of any shape.
    kernel_size, stride, padding, ceil_mode, count_include_pad
        As for `fastconv.avg_pool1d`.

    Returns
    -------
    dask.array.Array
        The means.
    """
    options = {"ceil_mode": ceil_mode, "count_include_pad": count_include_pad}
    return _pooled(1, avg_pool1d_in_memory, input, kernel_size, stride, padding, options)


class _Pooling(Operation):
    """Stand for a pool in a graph of one step."""

    def __init__(self, result: Shape) -> None:
        self.result = result

    def shape(self, *inputs: Shape) -> Shape:
        return self.result

    def prepare(self, inputs: Any, out: Array) -> Any:
        """Refuse to run: the graph only tells which pixels a chunk of the result needs."""
        raise NotImplementedError("a pool of Dask's chunks is run by its own function")


def _pooled(
    axes: int,
    pool: Callable[..., Array],
    input: Any,
    kernel_size: IntPair,
    stride: IntPair | None,
    padding: Padding,
    options: dict[str, Any],
) -> Any:
    x = checked(input, "input")
    source, _ = _images(x, axes)
    tried = pool(np.empty((0, *source), x.dtype), kernel_size, stride, padding, **options)
    operation = _Pooling(tried.shape[1:])
    kernel = per_axis(kernel_size, "kernel_size", axes)
    steps = kernel if stride is None else stride
    step = partial(Pool, operation, [source], pool, kernel, steps, padding, **options)
    given = (pool.__name__, kernel, stride, padding, options)
    return _by_parts(pool.__name__, x, axes, operation, step, tried.dtype, *given)


@named
def predict(network: Any, x: Any) -> Any:
    """Compute what a fully convolutional network gives for the images of a Dask array.

    Parameters
    ----------
    network : Sequential, InferenceNetwork or InferenceSession
        As for `fastconv.predict_tiled`.
    x : dask.array.Array, shape (N, C, H, W) or (C, H, W)
        Images, in chunks of any shape. Large ones cost less: what chunks need around them is
        computed for each of them.

    Returns
    -------
    dask.array.Array
        What `fastconv.predict_tiled` gives, bit for bit.

    Raises
    ------
    TypeError
        If the network or the array is none, or a dtype does not fit.
    ValueError
        If some output depends on all pixels, or shapes do not match.

    Examples
    --------
    >>> import dask.array as da
    >>> from fastconv import dask as fd
    >>> from fastconv.models import Sequential
    >>> net = Sequential((1, 32, 32), seed=0).convolution(4, 3, pad=1)
    >>> fd.predict(net, da.zeros((1, 1000, 1000), chunks=(1, 500, 500))).shape
    (4, 1000, 1000)
    """
    from fastconv.inference import _whole

    array = checked(x, "x")
    graph, locals, axes = _whole.graph_for(network, array, array.shape)
    batch = array.shape[0] if array.ndim == axes + 2 else 1
    parts = Parts(graph, locals, batch)
    from fastconv._tiled import digest_of

    identity = digest_of(graph), array.shape
    return _chunked("predict", array, axes, parts, graph.dtype, identity, converts=True)


# ---- graphs of steps ---------------------------------------------------------------------------


def _images(x: Any, axes: int) -> tuple[Shape, int]:
    """Return the shape of one image, and the number of images."""
    if x.ndim not in (axes + 1, axes + 2):
        names = ("(N, C, L) or (C, L)", "(N, C, H, W) or (C, H, W)")[axes - 1]
        raise argument_error(ValueError, f"input must have shape {names}, got {x.shape}")
    return x.shape[-axes - 1 :], x.shape[0] if x.ndim == axes + 2 else 1


def _by_parts(
    name: str,
    x: Any,
    axes: int,
    operation: Operation,
    local: Callable[[], Local],
    dtype: np.dtype[Any],
    *identity: Any,
) -> Any:
    """Return the Dask array of a single step."""
    source, batch = _images(x, axes)
    graph = Graph(source, dtype)
    step: Step = graph.add(name, operation, graph.input)
    parts = Parts(graph, {step: local()}, batch)
    return _chunked(name, x, axes, parts, dtype, identity, converts=False)


def _chunked(
    name: str,
    x: Any,
    axes: int,
    parts: Parts,
    dtype: np.dtype[Any],
    identity: Any,
    converts: bool,
) -> Any:
    """Return the Dask array of a graph's result, in chunks like those of the source."""
    graph, batched = parts.graph, x.ndim == axes + 2
    out = graph.output.shape
    chunks: Chunks = (
        *([x.chunks[0]] if batched else []),
        (out[0],),
        *(map(_like, x.chunks[-axes:], x.shape[-axes:], out[1:])),
    )
    lead = int(batched) + 1

    def needed(box: Box) -> Box:
        wanted = parts.part(box[lead:]).boxes[graph.input]
        return (*box[: lead - 1], (0, x.shape[lead - 1]), *wanted)

    work = PartWork(parts, batched, converts)
    return computed(f"fastconv-{name}", x, chunks, needed, work, dtype, tokenize(identity))


class PartWork:
    """Computes chunks of a graph's result."""

    def __init__(self, parts: Parts, batched: bool, converts: bool) -> None:
        self.parts, self.batched, self.converts = parts, batched, converts

    def __call__(self, array: Array, wanted: Box, box: Box) -> Array:
        """Compute a box of the result."""
        x = array if self.batched else array[None]
        if self.converts:
            x = x.astype(self.parts.dtype, copy=False)
        part = self.parts.part(box[1 + self.batched :])
        result = self.parts.run(part, x)
        return np.ascontiguousarray(result if self.batched else result[0])


def _like(chunks: tuple[int, ...], size: int, out: int) -> tuple[int, ...]:
    """Cut an axis of the result where the source's is cut, in proportion."""
    ends = [end * out // size for _, end in bounds(chunks)]
    sizes = [b - a for a, b in zip([0, *ends], ends)]
    return tuple(one for one in sizes if one) or (0,)
