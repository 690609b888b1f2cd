"""What makes a graph faster: fewer steps, and fewer copies.

Every pass looks for pairs of steps of which one can do the other's work as well. A step can take
over the work of another only if nobody else reads what lies between them.
"""

from __future__ import annotations

import numpy as np

from fastconv._arrays import Array
from fastconv.inference._graph import Graph, Step
from fastconv.inference._operations import (
    Activate,
    Add,
    Concatenate,
    Convolve,
    DepthwiseSeparable,
    Multiply,
    Reshape,
    ScaleAndShift,
)


def simplify(graph: Graph) -> None:
    """Run all passes."""
    for fold in (fold_scale_back, fold_scale_forward, fuse_addition, fuse_activation):
        for step in list(graph.steps):
            fold(graph, step)
    for step in list(graph.steps):
        fuse_separable(graph, step)
    for step in graph.steps:
        place_in_concatenation(graph, step)


def fold_scale_back(graph: Graph, step: Step) -> None:
    """Let weights include the scale and shift that follow: batch normalisation costs nothing."""
    if not isinstance(step.operation, ScaleAndShift):
        return
    source = step.inputs[0]
    operation = source.operation
    if not isinstance(operation, (Convolve, Multiply)) or operation.activation is not None:
        return
    if len(graph.users(source)) > 1 or source.shape != step.shape:
        return
    scale, shift = step.operation.scale, step.operation.shift
    bias = 0 if operation.bias is None else operation.bias
    dtype = operation.weight.dtype
    axis = 0 if isinstance(operation, Convolve) else 1
    operation.weight = _scaled(operation.weight, scale, axis)
    operation.bias = np.asarray(bias * scale + shift).astype(dtype)
    merge(graph, step, source)


def fold_scale_forward(graph: Graph, step: Step) -> None:
    """Let the weights of the next step include a scale without a shift, which dropout makes."""
    if not isinstance(step.operation, ScaleAndShift) or step.operation.shift.any():
        return
    users = graph.users(step)
    scale = step.operation.scale
    while len(users) == 1 and isinstance(users[0].operation, Reshape):
        scale = np.repeat(scale, users[0].shape[0] // len(scale))
        users = graph.users(users[0])
    if len(users) != 1:
        return
    operation = users[0].operation
    if isinstance(operation, Convolve) and operation.window[3] == 1 and len(users[0].inputs) == 1:
        operation.weight = _scaled(operation.weight, scale, 1)
    elif isinstance(operation, Multiply):
        scale = np.repeat(scale, len(operation.weight) // len(scale))
        operation.weight = _scaled(operation.weight, scale, 0)
    else:
        return
    graph.replace(step, step.inputs[0])


def fuse_addition(graph: Graph, step: Step) -> None:
    """Let a convolution add the other array to its result.

    The convolution is computed once that array is there. Where both arrays are results of
    convolutions, the later one adds.
    """
    if not isinstance(step.operation, Add):
        return
    for source in sorted(step.inputs, key=graph.steps.index, reverse=True):
        (other,) = [other for other in step.inputs if other is not source] or [source]
        if source is not other and _can_add(graph, source):
            source.inputs.append(other)
            graph.move(source, step)
            merge(graph, step, source)
            return


def _can_add(graph: Graph, source: Step) -> bool:
    """Tell whether a step is a convolution whose plain result only the sum reads."""
    is_plain = isinstance(source.operation, Convolve) and source.operation.activation is None
    return is_plain and len(source.inputs) == 1 and len(graph.users(source)) == 1


def fuse_activation(graph: Graph, step: Step) -> None:
    """Let a convolution apply the activation that follows."""
    if not isinstance(step.operation, Activate):
        return
    source = step.inputs[0]
    operation = source.operation
    if not operation.takes_activation or len(graph.users(source)) > 1:
        return
    if operation.activation is None:
        operation.activation = step.operation.function
        merge(graph, step, source)


def fuse_separable(graph: Graph, step: Step) -> None:
    """Let a 1x1 convolution compute the depthwise convolution before it, band by band."""
    pointwise = step.operation
    if not isinstance(pointwise, Convolve):
        return
    source = step.inputs[0]
    depthwise = source.operation
    if not isinstance(depthwise, Convolve) or len(source.inputs) > 1:
        return
    if len(graph.users(source)) > 1 or step.inputs.count(source) > 1:
        return
    if DepthwiseSeparable.fits(depthwise, pointwise, source.inputs[0].shape, graph.dtype.itemsize):
        source.operation = DepthwiseSeparable(depthwise, pointwise)
        source.inputs += step.inputs[1:]
        source.shape = step.shape
        graph.move(source, step)
        merge(graph, step, source)


def place_in_concatenation(graph: Graph, step: Step) -> None:
    """Let steps write their results to their places in what they are joined to.

    A convolution that adds a residual cannot: its kernel reads the residual at the places that it
    writes to, so that both must be laid out alike.
    """
    if not isinstance(step.operation, Concatenate):
        return
    for i, source in enumerate(step.inputs):
        adds = (
            isinstance(source.operation, (Convolve, DepthwiseSeparable)) and len(source.inputs) > 1
        )
        can_place = source.operation.writes_views and not adds
        if can_place and len(graph.users(source)) == step.inputs.count(source) == 1:
            step.operation.placed.add(i)


def merge(graph: Graph, step: Step, into: Step) -> None:
    """Take a step away whose work another step does, which then has both names.

    The path of the first name is not repeated before the others.
    """
    path = into.name.partition(" + ")[0].rpartition(".")[0]
    into.name += f" + {step.name.removeprefix(f'{path}.')}"
    graph.replace(step, into)


def _scaled(weight: Array, scale: Array, axis: int) -> Array:
    """Multiply weights along an axis, and round once."""
    shape = [1] * weight.ndim
    shape[axis] = -1
    return (weight * scale.reshape(shape)).astype(weight.dtype)
