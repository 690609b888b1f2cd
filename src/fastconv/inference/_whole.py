"""The graphs of networks and sessions for images of any size, made without computing them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from fractions import Fraction
from math import ceil, floor, lcm
from typing import Any

import numpy as np

from fastconv._arrays import Shape
from fastconv._errors import argument_error
from fastconv._layer import is_chain
from fastconv.inference._graph import Graph, Step
from fastconv.inference._lowering import graph_of
from fastconv.inference._network import InferenceNetwork
from fastconv.inference._parts import Interval, Local, enlarged
from fastconv.models import ReceptiveField
from fastconv.onnx import InferenceSession

TRACED = (64, 128, 256)
"""The heights and widths of images for which a session is run once to know its steps."""


def graph_for(network: Any, image: Any, shape: Shape) -> tuple[Graph, dict[Step, Local], int]:
    """Return the graph for whole images of a shape, how its steps compute parts, and the axes.

    `image` only tells a dtype. The shape may have a batch.
    """
    if isinstance(network, InferenceSession):
        return _of_session(network, image, shape)
    if not (isinstance(network, InferenceNetwork) or is_chain(network)):
        raise argument_error(
            TypeError,
            "network_or_session must be a network of fastconv.models, its optimized() twin or a "
            f"session of fastconv.onnx, got {type(network).__name__}",
        )
    axes = len(network.input_dim) - 1
    size = _size(shape, axes, network.input_dim[0] if axes in (1, 2) else 0)
    if np.dtype(getattr(image, "dtype", np.float32)).kind not in "biuf":
        raise argument_error(TypeError, f"image must hold real numbers, got dtype {image.dtype}")
    if isinstance(network, InferenceNetwork):
        graph = _copied(network.graph)
        return graph, enlarged(graph, size, simplified=True), axes
    graph = graph_of(network)
    return graph, enlarged(graph, size, simplified=False), axes


def _copied(graph: Graph) -> Graph:
    """Copy a graph, so that its steps can have other shapes; they share their operations."""
    steps = {step: copy(step) for step in graph.steps}
    for step in steps.values():
        step.inputs = [steps[source] for source in step.inputs]
    twin = Graph(graph.input.shape, graph.dtype)
    twin.steps = list(steps.values())
    return twin


def _of_session(
    session: InferenceSession, image: Any, shape: Shape
) -> tuple[Graph, dict[Step, Local], int]:
    """Trace a session with small images, and enlarge its graph."""
    inputs = session.get_inputs()
    rank = len(inputs[0].shape)
    if session._specialized is None or rank not in (3, 4):
        raise argument_error(
            ValueError,
            "a session must have one input of images, one output, and optimize=True to compute "
            f"parts, got {session!r}",
        )
    dtype = getattr(image, "dtype", None)
    if dtype is not None and np.dtype(dtype).newbyteorder("=") != inputs[0].dtype:
        raise argument_error(
            ValueError, f"image must be of dtype {inputs[0].dtype} for this session, got {dtype}"
        )
    fixed = [size if isinstance(size, int) else None for size in inputs[0].shape]
    channels = fixed[1] or shape[1 - rank]
    size = _size(shape, rank - 2, channels)
    graph, traced = _trace(session, (fixed[0] or 1, channels), fixed[2:])
    locals = enlarged(graph, size, simplified=False)
    # Padding "SAME" depends on what is left of a size when it is divided by the strides.
    alike = [
        n or trace + (whole - trace) % _period(graph, locals, axis)
        for axis, (n, trace, whole) in enumerate(zip(fixed[2:], traced, size))
    ]
    if alike != traced:
        graph, _ = _trace(session, (fixed[0] or 1, channels), alike)
        locals = enlarged(graph, size, simplified=False)
    return graph, locals, rank - 2


def _trace(
    session: InferenceSession, start: Shape, sizes: Sequence[int | None]
) -> tuple[Graph, list[int]]:
    """Run a session once; return its graph and the size of the image, where it was not given.

    `start` is the batch and the number of channels.
    """
    for trace in TRACED[:1] if all(sizes) else TRACED:
        size = [n or trace for n in sizes]
        x = np.zeros((*start, *size), session.get_inputs()[0].dtype)
        try:
            with np.errstate(all="ignore"):
                graph = session._specialized.plain_graph(x)  # type: ignore[union-attr]
            break
        except ValueError as error:
            failed = error
    else:
        raise argument_error(ValueError, str(failed))
    if graph is None:
        raise argument_error(
            ValueError, "the session has no graph of one dtype and batch that parts can be of"
        )
    return graph, size


def field_of(graph: Graph, locals: Mapping[Step, Local]) -> ReceptiveField:
    """Return the receptive field of a graph's result.

    Where the result is enlarged, neighbouring outputs depend on different pixels; the field is one
    that contains those of all.
    """
    axes = range(len(graph.input.shape) - 1)
    strides = [_stride(graph, locals, axis) for axis in axes]
    fields = []
    for axis, stride in zip(axes, strides):
        period = lcm(*(reach.up for one in locals.values() for reach in one.reaches))
        period *= stride.denominator
        seen = [
            (first - i * stride, last - i * stride)
            for i in range(period)
            for first, last in [_seen(graph, locals, axis, (i, i + 1))]
        ]
        offset = floor(min(first for first, _ in seen))
        fields.append((ceil(max(last for _, last in seen)) - offset, offset))
    size, offsets = zip(*fields)
    whole = tuple(int(one) if one.denominator == 1 else one for one in strides)
    return ReceptiveField(size, whole, offsets)  # type: ignore[arg-type]


def _stride(graph: Graph, locals: Mapping[Step, Local], axis: int) -> Fraction:
    """Return how many pixels of the image neighbouring outputs lie apart."""
    return _strides(graph, locals, axis)[graph.output]


def _period(graph: Graph, locals: Mapping[Step, Local], axis: int) -> int:
    """Return a number of pixels by which an image may grow without moving any window in it."""
    return lcm(*(stride.numerator for stride in _strides(graph, locals, axis).values()))


def _strides(graph: Graph, locals: Mapping[Step, Local], axis: int) -> dict[Step, Fraction]:
    """Return how many pixels of the image neighbouring outputs of each step lie apart."""
    strides = {graph.input: Fraction(1)}
    for step in graph:
        found = set()
        for i, source in enumerate(step.inputs):
            reach = locals[step].reaches_of(i)[axis]
            found.add(strides[source] * Fraction(reach.step, reach.up))
        if len(found) > 1:
            raise argument_error(
                ValueError,
                f"{step.name} has no receptive field: its ways have the strides "
                f"{' and '.join(map(str, sorted(found)))}",
            )
        (strides[step],) = found
    return strides


def _seen(graph: Graph, locals: Mapping[Step, Local], axis: int, outputs: Interval) -> Interval:
    """Return which pixels outputs depend on, as if the image had no ends."""
    seen = {graph.output: outputs}
    for step in reversed(graph.steps[1:]):
        for i, source in enumerate(step.inputs):
            first, last = locals[step].reaches_of(i)[axis].of(seen[step])
            a, b = seen.get(source, (first, last))
            seen[source] = min(a, first), max(b, last)
    return seen[graph.input]


def _size(shape: Shape, axes: int, channels: int) -> Shape:
    """Return the height and width of images, whose channels must be those of the network."""
    if axes not in (1, 2):
        raise argument_error(ValueError, "only networks for images and signals have tiles")
    if len(shape) not in (axes + 1, axes + 2) or 0 in shape or shape[-axes - 1] != channels:
        names = "(C, H, W)" if axes == 2 else "(C, L)"
        raise argument_error(
            ValueError,
            f"image must have shape {names} or a batch of such, with {channels} channels and "
            f"without axes of size 0, got {shape}",
        )
    return shape[-axes:]
