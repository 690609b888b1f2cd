"""How layers become steps."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from math import prod
from typing import Any

import numpy as np

from fastconv._arguments import per_axis, positive
from fastconv._arrays import Array
from fastconv._layer import is_chain, spread
from fastconv._structure import named_children
from fastconv.inference._graph import Graph, Step
from fastconv.inference._operations import (
    Activate,
    Add,
    Call,
    Concatenate,
    Convolve,
    Multiply,
    Reshape,
    ScaleAndShift,
)
from fastconv.layers import (
    Affine,
    AveragePooling,
    AveragePooling1D,
    BatchNormalization,
    Concatenation,
    Convolution,
    Convolution1D,
    Dropout,
    Flatten,
    GlobalAveragePooling,
    HardSigmoid,
    HardSwish,
    LeakyRelu,
    Pooling,
    Pooling1D,
    Relu,
    Relu6,
    Residual,
    Sigmoid,
    SiLU,
)
from fastconv.one_dimension import avg_pool1d, max_pool1d
from fastconv.pooling import avg_pool2d, max_pool2d


def graph_of(network: Any) -> Graph:
    """Write a network as a graph, with copies of its parameters as they are, in its dtype."""
    graph = Graph(network.input_dim, network.dtype)
    if is_chain(network):
        lower_all(graph, network, graph.input, "")
    else:
        graph.add(type(network).__name__, Call(deepcopy(network)), graph.input)
    return graph


def lower(graph: Graph, layer: Any, source: Step, path: str) -> Step:
    """Append the steps of a layer, and return the last one.

    A subclass may compute something else than its base, so it is called like a layer that is not
    known here. So is a layer that was given a function of its own for `forward`.
    """
    lowering = lower_all if is_chain(layer) else LOWERINGS.get(type(layer))
    if "forward" in getattr(layer, "__dict__", ()):
        lowering = None
    step = None if lowering is None else lowering(graph, layer, source, path)
    return graph.add(path, Call(deepcopy(layer)), source) if step is None else step


def lower_all(graph: Graph, layer: Any, source: Step, path: str) -> Step:
    """Append the steps of the layers that a chain holds."""
    for name, child in named_children(layer):
        source = lower(graph, child, source, f"{path}.{name}".lstrip("."))
    return source


def _convolution(graph: Graph, layer: Convolution | Convolution1D, source: Step, path: str) -> Step:
    weight = np.array(layer.W, graph.dtype, order="C")
    axes = weight.ndim - 2
    bias = spread(layer.b, weight, axis=0)
    operation = Convolve(
        weight,
        None if bias is None else np.array(bias, graph.dtype),
        per_axis(layer.stride, "stride", axes),
        layer.pad,
        per_axis(layer.dilation, "dilation", axes),
        positive(layer.groups, "groups"),
        layer.pad_mode,
    )
    return graph.add(path, operation, source)


def _affine(graph: Graph, layer: Affine, source: Step, path: str) -> Step:
    weight = np.array(layer.W, graph.dtype, order="C")
    bias = spread(layer.b, weight, axis=1)
    operation = Multiply(weight, None if bias is None else np.array(bias, graph.dtype))
    return graph.add(path, operation, source)


def _normalization(graph: Graph, layer: BatchNormalization, source: Step, path: str) -> Step | None:
    """Make a scale and a shift of the running statistics, unless pixels have their own.

    A variance of 0 makes an infinite scale if `eps` is 0. Weights could not include that: their
    products would be infinite, of either sign, and their sum NaN.
    """
    if layer.running_mean is None or layer.running_var is None:
        mean = variance = np.zeros(len(layer.gamma))
    else:
        mean, variance = layer.running_mean.astype(float), layer.running_var.astype(float)
    if source.shape[0] != len(mean):
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = layer.gamma / np.sqrt(variance + layer.eps)
    if not np.isfinite(scale).all():
        return None
    return graph.add(path, ScaleAndShift(mean, scale, layer.beta.astype(float)), source)


def _dropout(graph: Graph, layer: Dropout, source: Step, path: str) -> Step:
    if layer.inverted or not layer.dropout_ratio:
        return source
    scale = np.full(source.shape[0], 1.0 - layer.dropout_ratio)
    nothing = np.zeros_like(scale)
    return graph.add(path, ScaleAndShift(nothing, scale, nothing), source)


def _flatten(graph: Graph, layer: Flatten, source: Step, path: str) -> Step:
    return graph.add(path, Reshape((prod(source.shape),)), source)


POOLS: dict[type, Callable[..., Any]] = {
    Pooling: max_pool2d,
    Pooling1D: max_pool1d,
    AveragePooling: avg_pool2d,
    AveragePooling1D: avg_pool1d,
}


def _pooling(graph: Graph, layer: Any, source: Step, path: str) -> Step:
    pool, window = POOLS[type(layer)], (layer.kernel_size, layer.stride, layer.pad)
    return graph.add(path, Call(deepcopy(layer), partial(_pool, pool, window)), source)


def _global_average(graph: Graph, layer: GlobalAveragePooling, source: Step, path: str) -> Step:
    return graph.add(path, Call(deepcopy(layer), layer.average), source)


def _pool(pool: Callable[..., Array], window: tuple[Any, ...], x: Array, out: Array) -> None:
    pool(x, *window, out=out)


def _activation(graph: Graph, layer: Any, source: Step, path: str) -> Step:
    return graph.add(path, Activate(layer.function), source)


def _residual(graph: Graph, layer: Residual, source: Step, path: str) -> Step:
    """Compute the body, then the shortcut, and add them."""
    names = [f"{path}.{name}" for name, _ in named_children(layer)]
    body = lower(graph, layer.body, source, names.pop(0))
    added = source
    if layer.shortcut is not None:
        added = lower(graph, layer.shortcut, source, names.pop(0))
    total = graph.add(path, Add(), body, added)
    if layer.activation is None:
        return total
    return lower(graph, layer.activation, total, names.pop(0))


def _concatenation(graph: Graph, layer: Concatenation, source: Step, path: str) -> Step:
    branches = [
        lower(graph, child, source, f"{path}.{name}") for name, child in named_children(layer)
    ]
    return graph.add(path, Concatenate(), *branches)


LOWERINGS: dict[type, Callable[[Graph, Any, Step, str], Step | None]] = {
    Affine: _affine,
    BatchNormalization: _normalization,
    Concatenation: _concatenation,
    Convolution: _convolution,
    Convolution1D: _convolution,
    Dropout: _dropout,
    Flatten: _flatten,
    GlobalAveragePooling: _global_average,
    Residual: _residual,
}
LOWERINGS |= dict.fromkeys(POOLS, _pooling)
LOWERINGS |= dict.fromkeys(
    (HardSigmoid, HardSwish, LeakyRelu, Relu, Relu6, Sigmoid, SiLU), _activation
)
"""What appends the steps of a layer of exactly this class, or returns None."""
