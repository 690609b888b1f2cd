"""How a model becomes a graph of `fastconv.inference` for inputs of one shape.

The model is run once, operator by operator, which tells the shapes of all values and what shapes
alone decide. Then its calls become steps: those that the graph's passes know (convolutions,
products, scales and shifts, activations, sums, joins) become the same operations that the layers of
this library become, and every other call stays as it is. So batch normalisation, residuals and
activations are folded by the same code as in ``network.optimized()``, results lie in the same block
of memory in turn, and everything that shapes decide is decided once.

A graph has one input and one result, and all arrays in it begin with the batch and are of one
dtype. What is not like that is run operator by operator.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from fastconv import _kernels, _precision
from fastconv._arrays import FLOATS, Array, Shape
from fastconv._epilogue import (
    ACTIVATIONS,
    CLIP,
    HARD_SIGMOID,
    HARD_SWISH,
    LEAKY_RELU,
    SIGMOID,
    Activation,
)
from fastconv.inference._graph import Graph, Step
from fastconv.inference._operations import (
    Activate,
    Add,
    Concatenate,
    Convolve,
    Multiply,
    Operation,
    Reshape,
    Runner,
    ScaleAndShift,
)
from fastconv.inference._passes import simplify
from fastconv.inference._program import Pool
from fastconv.inference._program import Program as Prepared
from fastconv.inference._report import seconds_by_step
from fastconv.onnx._operators_pooling import is_for_kernels, window_arguments
from fastconv.onnx._program import Call, Numbered, Program, StepTime
from fastconv.onnx._windows import axes_of_windows
from fastconv.packing import Packs
from fastconv.pooling import avg_pool2d, max_pool2d


@dataclass
class Trace:
    """What a run of a program told of the values of a model.

    Attributes
    ----------
    shapes : dict of str to tuple of int
        Shapes of the values that depend on the input.
    known : dict of str to ndarray
        The other values: constants, and what shapes decide.
    dtypes : set of dtype
        Dtypes of the values that depend on the input.
    """

    shapes: dict[str, Shape]
    known: dict[str, Array]
    dtypes: set[np.dtype[Any]]


SHAPES_ONLY = ("Shape", "Size")
"""Operators whose results do not depend on numbers."""


SIZED_BY_NUMBERS = {"OneHot": 1, "Range": 0, "Resize": 1, "Upsample": 1}
"""Operators that read the size of their result from floats: the first input that may hold them.

Others read sizes from integers, and integers that depend on the input make a model no graph."""


def trace(program: Program, constants: Mapping[str, Array], name: str, x: Array) -> Trace:
    """Run a program, and note the shapes of all values."""
    found = Trace({name: x.shape}, dict(constants), {x.dtype})
    values = program.values({name: x})

    def note(step: Numbered) -> None:
        live = [source for source in step.call.inputs if source in found.shapes]
        for result, i in zip(step.call.outputs, step.outputs):
            if not result:
                continue
            if live and step.call.op not in SHAPES_ONLY:
                found.shapes[result] = values[i].shape
                found.dtypes.add(values[i].dtype)
            else:
                found.known[result] = values[i]

    program.run(values, note)
    return found


class Apply(Operation):
    """Let the function of an operator compute.

    Parameters
    ----------
    call : Call
        The operator.
    arguments : list
        Its inputs: arrays that are known, None for missing ones, and `Step` for the class of those
        that come from steps.
    output : int
        Which of its outputs is the result.
    shape : tuple of int
        Shape of the result, without the batch.
    write : callable, optional
        A function of all inputs and the array for the result, which does the same.
    """

    def __init__(
        self,
        call: Call,
        arguments: list[Any],
        output: int,
        shape: Shape,
        write: Callable[..., object] | None,
    ) -> None:
        self.call, self.arguments, self.output = call, arguments, output
        self.result, self.write = shape, write
        self.traced: Sequence[Shape] = ()
        """Shapes of those of its inputs that are steps, without the batch, in the trace."""

    def shape(self, *inputs: Shape) -> Shape:
        """Return the shape that the trace told."""
        return self.result

    def describe(self, batch: int, *inputs: Shape) -> str:
        """Name the operator."""
        return self.call.op

    def prepare(self, inputs: Sequence[Array], out: Array) -> Runner:
        """Return what computes."""
        if self.write is not None and self.arguments == [Step]:
            return partial(_write_one, self.write)
        call, write, output = self.call, self.write, self.output
        template = list(self.arguments)
        places = [i for i, argument in enumerate(template) if argument is Step]

        def run(inputs: Sequence[Array], out: Array) -> None:
            arguments = list(template)
            for i, array in zip(places, inputs):
                arguments[i] = array
            if write is None:
                out[...] = call.run(arguments)[output]
            else:
                write(*arguments, out=out)

        return run


def _write_one(write: Callable[..., object], inputs: Sequence[Array], out: Array) -> None:
    write(inputs[0], out=out)


MOST_STEPS = 2048
"""Longer programs are run operator by operator: the time of the passes, and of the layout of
memory, grows with the square of the number of steps. 3000 of them take 4 s, 20000 a minute."""

Lowering = Callable[["Builder", Call], "Step | None"]
"""Append the steps of a call and return the last, or None if it is not what steps compute."""


class Weights:
    """What graphs for several shapes share: folded weights, and what is packed of them."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], dict[str, Any]] = {}

    def share(self, builder: Builder) -> None:
        """Let the steps of a finished graph use the weights of the graphs before."""
        for step in builder.graph:
            operation = step.operation
            if isinstance(operation, (Convolve, Multiply)):
                mine: dict[str, Any] = {"weight": operation.weight, "bias": operation.bias}
                if isinstance(operation, Convolve):
                    mine["_packs"] = Packs()
                # The passes do the same with every graph, but where shapes differ. So the name,
                # which lists what a step does, tells which weights are the same.
                key = builder.origins[operation], step.name
                vars(operation).update(self._kept.setdefault(key, mine))


class Builder:
    """Makes a graph of the calls of a program."""

    def __init__(self, traced: Trace, name: str, batch: int) -> None:
        self.traced, self.batch = traced, batch
        shape = traced.shapes[name]
        self.graph = Graph(shape[1:], next(iter(traced.dtypes)))
        self.steps: dict[str, Step] = {name: self.graph.input}
        self.origins: dict[Operation, str] = {}
        """The names of what operations compute before anything is folded into them."""

    def add(self, call: Call, operation: Operation, *sources: str) -> Step:
        """Append a step that reads values by their names."""
        self.origins[operation] = call.outputs[0]
        return self.graph.add(call.name, operation, *(self.steps[name] for name in sources))

    def known(self, name: str) -> Array | None:
        """Return an array that does not depend on the input."""
        return self.traced.known.get(name)

    def shape(self, name: str) -> Shape:
        """Return the shape of a value."""
        return self.traced.shapes[name] if name in self.steps else self.traced.known[name].shape

    def lower(self, call: Call) -> None:
        """Append the steps of a call."""
        lowering = LOWERINGS.get(call.op) if call.outputs[0] else None
        step = None if lowering is None else lowering(self, call)
        if step is not None and step.shape == self.shape_of(call, 0):
            self.steps[call.outputs[0]] = step
            return
        arguments = [
            Step if name in self.steps else self.traced.known[name] if name else None
            for name in call.inputs
        ]
        sources = [name for name in call.inputs if name in self.steps]
        for i, name in enumerate(call.outputs):
            if name:
                shape = self.shape_of(call, i)
                operation = Apply(call, arguments, i, shape, WRITERS.get(call.op))
                operation.traced = [self.steps[source].shape for source in sources]
                self.steps[name] = self.add(call, operation, *sources)

    def shape_of(self, call: Call, output: int) -> Shape:
        """Return the shape of a result without the batch."""
        return self.traced.shapes[call.outputs[output]][1:]


def graph_of(
    program: Program, traced: Trace, name: str, output: str, weights: Weights | None
) -> Graph | None:
    """Write a program as a graph, or return None if it is not like one.

    Parameters
    ----------
    program : Program
        Calls, of which constants are computed.
    traced : Trace
        What a run told.
    name, output : str
        The input and the result.
    weights : Weights
        Those of the graphs for other shapes. None leaves the graph as it is, without the passes.
    """
    batch = traced.shapes[name][:1]
    (dtype, *others) = traced.dtypes
    is_graph = (
        not others
        and dtype.char in FLOATS - {"e"}
        and output in traced.shapes
        and traced.shapes[output]
        and output != name
        and all(shape[:1] == batch and 0 not in shape for shape in traced.shapes.values())
    )
    if not is_graph:
        return None
    if len(program.steps) > MOST_STEPS or _has_changing_sizes(program, traced):
        return None
    builder = Builder(traced, name, batch[0])
    for call in program.calls:
        if any(result in traced.shapes for result in call.outputs):
            builder.lower(call)
    if builder.steps[output] is builder.graph.input:
        return None
    keep_needed(builder.graph, builder.steps[output])
    if weights is not None:
        simplify(builder.graph)
        weights.share(builder)
    return builder.graph


def _has_changing_sizes(program: Program, traced: Trace) -> bool:
    """Tell whether the next input of the same shape may lead to results of other shapes."""
    return any(
        name in traced.shapes
        for call in program.calls
        if call.op in SIZED_BY_NUMBERS
        for name in call.inputs[SIZED_BY_NUMBERS[call.op] :]
    )


def keep_needed(graph: Graph, result: Step) -> None:
    """Leave out the steps that a result does not depend on, as those that a pattern replaced."""
    needed = {result, graph.input}
    for step in reversed(graph.steps):
        if step in needed:
            needed.update(step.inputs)
    graph.steps = [step for step in graph.steps if step in needed]


def _conv(builder: Builder, call: Call) -> Step | None:
    weight = builder.known(call.inputs[1])
    bias = None
    if len(call.inputs) > 2 and call.inputs[2]:
        bias = builder.known(call.inputs[2])
        if bias is None:
            return None
    if weight is None or weight.ndim != 4:
        return None
    given = call.attributes
    sizes = builder.shape(call.inputs[0])[2:]
    axes = axes_of_windows(
        sizes,
        weight.shape[2:],
        given.get("auto_pad", "NOTSET"),
        given.get("strides"),
        given.get("dilations"),
        given.get("pads"),
    )
    (top, bottom), (left, right) = ((axis.before, axis.after) for axis in axes)
    operation = Convolve(
        np.ascontiguousarray(weight),
        None if bias is None else np.ascontiguousarray(bias),
        (axes[0].stride, axes[1].stride),
        ((top, bottom), (left, right)),
        (axes[0].dilation, axes[1].dilation),
        given.get("group", 1),
        "constant",
    )
    return builder.add(call, operation, call.inputs[0])


def _product(builder: Builder, call: Call) -> Step | None:
    """Make a product of rows with a matrix that is known, as `Gemm` and `MatMul` have it."""
    a, b = call.inputs[:2]
    weight = builder.known(b)
    given = call.attributes
    if weight is None or weight.ndim != 2 or len(builder.shape(a)) != 2 or given.get("transA"):
        return None
    if given.get("alpha", 1.0) != 1 or given.get("beta", 1.0) != 1:
        return None
    if given.get("transB"):
        weight = weight.T
    bias = None
    if len(call.inputs) > 2 and call.inputs[2]:
        bias = builder.known(call.inputs[2])
        if bias is None or bias.size != weight.shape[1]:
            return None
        bias = bias.reshape(-1)
    return builder.add(call, Multiply(weight, bias), a)


def _scale(
    builder: Builder, call: Call, center: Array, scale: Array, offset: Array, source: str
) -> Step | None:
    """Scale and shift channels by finite numbers, together with a scale and shift just before.

    An infinite scale is left to NumPy: weights could not include it, as their products would be
    infinite, of either sign, and their sum NaN.
    """
    channels = builder.shape(source)[1:2]
    arrays = [
        np.broadcast_to(array.astype(np.float64), channels) for array in (center, scale, offset)
    ]
    before = builder.steps[source]
    name, inner = call.name, before.operation
    if isinstance(inner, ScaleAndShift):
        center, scale, offset = arrays
        arrays = [inner.center, inner.scale * scale, (inner.offset - center) * scale + offset]
        name, before = f"{before.name} + {name}", before.inputs[0]
    if not all(np.isfinite(array).all() for array in arrays):
        return None
    operation = ScaleAndShift(*arrays)
    builder.origins[operation] = call.outputs[0]
    return builder.graph.add(name, operation, before)


def _batch_normalization(builder: Builder, call: Call) -> Step | None:
    parameters = [builder.known(name) for name in call.inputs[1:5]]
    given = call.attributes
    if given.get("training_mode") or given.get("spatial", 1) == 0 or any(call.outputs[1:]):
        return None
    if any(array is None for array in parameters):
        return None
    scale, bias, mean, variance = (np.asarray(array, np.float64) for array in parameters)
    factor = scale / np.sqrt(variance + given.get("epsilon", 1e-5))
    return _scale(builder, call, mean, factor, bias, call.inputs[0])


def _per_channel(array: Array | None, shape: Shape) -> Array | None:
    """Return the numbers of channels if an array that is broadcast has the same in each."""
    if array is None or array.ndim > len(shape) or len(shape) < 2:
        return None
    sizes = (1,) * (len(shape) - array.ndim) + array.shape
    if any(size != 1 for i, size in enumerate(sizes) if i != 1):
        return None
    return array.reshape(-1) if sizes[1] in (1, shape[1]) else None


def _constant_and_value(builder: Builder, call: Call) -> tuple[Array | None, str]:
    """Return a known number of every channel, and the name of the other input."""
    a, b = call.inputs
    if a in builder.steps:
        return _per_channel(builder.known(b), builder.shape(a)), a
    return _per_channel(builder.known(a), builder.shape(b)), b


def _multiply(builder: Builder, call: Call) -> Step | None:
    a, b = call.inputs
    if a in builder.steps and b in builder.steps:
        return _gated(builder, call)
    factor, source = _constant_and_value(builder, call)
    if factor is None:
        return None
    nothing = np.zeros(1)
    return _scale(builder, call, nothing, factor, nothing, source)


def _gated(builder: Builder, call: Call) -> Step | None:
    """Find SiLU and HardSwish in their parts: a value times a sigmoid of it."""
    for x, gate in (call.inputs, call.inputs[::-1]):
        step, source = builder.steps[gate], builder.steps[x]
        if not isinstance(step.operation, Activate) or step.inputs != [source]:
            continue
        function = step.operation.function
        if function.kind == SIGMOID:
            whole = ACTIVATIONS["silu"]
        elif function.kind == HARD_SIGMOID:
            whole = Activation(HARD_SWISH, function.a, function.b)
        else:
            continue
        return builder.add(call, Activate(whole), x)
    return None


def _add(builder: Builder, call: Call) -> Step | None:
    if len(call.inputs) != 2:
        return None
    a, b = call.inputs
    if a in builder.steps and b in builder.steps:
        return builder.add(call, Add(), a, b) if builder.shape(a) == builder.shape(b) else None
    offset, source = _constant_and_value(builder, call)
    if offset is None:
        return None
    return _scale(builder, call, np.zeros(1), np.ones(1), offset, source)


def _concat(builder: Builder, call: Call) -> Step | None:
    ndim = len(builder.traced.shapes[call.outputs[0]])
    if call.attributes["axis"] not in (1, 1 - ndim) or ndim < 2:
        return None
    if not all(name in builder.steps for name in call.inputs):
        return None
    if len(set(call.inputs)) < len(call.inputs):
        return None
    return builder.add(call, Concatenate(), *call.inputs)


def _pooling(builder: Builder, call: Call) -> Step | None:
    """Let the kernels write maxima and means to their places."""
    if any(call.outputs[1:]) or len(builder.shape(call.inputs[0])) != 4:
        return None
    given = call.attributes
    names = "auto_pad", "strides", "dilations", "pads", "ceil_mode"
    defaults: tuple[Any, ...] = "NOTSET", None, None, None, 0
    window = [given.get(name, default) for name, default in zip(names, defaults)]
    sizes = builder.shape(call.inputs[0])[2:]
    axes = axes_of_windows(sizes, given["kernel_shape"], *window)
    arguments = window_arguments(axes)
    if not is_for_kernels(axes):
        return None
    pool: Callable[..., object] = max_pool2d
    if call.op == "MaxPool":
        arguments["dilation"] = tuple(axis.dilation for axis in axes)
    else:
        if any(axis.dilation > 1 for axis in axes):
            return None
        pool = avg_pool2d
        arguments["count_include_pad"] = bool(given.get("count_include_pad", 0))
    return _applied(builder, call, partial(pool, **arguments))


def _global_average(builder: Builder, call: Call) -> Step | None:
    shape = builder.shape(call.inputs[0])
    if len(shape) != 4:
        return None
    return _applied(builder, call, partial(avg_pool2d, kernel_size=shape[2:]))


def _applied(builder: Builder, call: Call, write: Callable[..., object]) -> Step:
    """Append a step of one input that a function writes."""
    operation = Apply(call, [Step], 0, builder.shape_of(call, 0), write)
    return builder.add(call, operation, call.inputs[0])


def _reshape(builder: Builder, call: Call) -> Step | None:
    if call.inputs[0] not in builder.steps:
        return None
    return builder.add(call, Reshape(builder.shape_of(call, 0)), call.inputs[0])


def _nothing(builder: Builder, call: Call) -> Step | None:
    return None if any(call.outputs[1:]) else builder.steps.get(call.inputs[0])


def _activation(make: Callable[[Mapping[str, Any]], Activation]) -> Lowering:
    """Return the lowering of an operator whose attributes tell an activation."""

    def lower(builder: Builder, call: Call) -> Step | None:
        return builder.add(call, Activate(make(call.attributes)), call.inputs[0])

    return lower


def _clip(builder: Builder, call: Call) -> Step | None:
    limits = [call.attributes.get("min", -math.inf), call.attributes.get("max", math.inf)]
    for i, name in enumerate(call.inputs[1:3]):
        if name:
            limit = builder.known(name)
            if limit is None or limit.size != 1:
                return None
            limits[i] = float(limit.reshape(()))
    if not limits[0] <= limits[1]:
        return None
    return builder.add(call, Activate(Activation(CLIP, *limits)), call.inputs[0])


LOWERINGS: dict[str, Lowering] = {
    "Conv": _conv,
    "Gemm": _product,
    "MatMul": _product,
    "BatchNormalization": _batch_normalization,
    "Mul": _multiply,
    "Add": _add,
    "Sum": _add,
    "Concat": _concat,
    "MaxPool": _pooling,
    "AveragePool": _pooling,
    "GlobalAveragePool": _global_average,
    "Reshape": _reshape,
    "Flatten": _reshape,
    "Squeeze": _reshape,
    "Unsqueeze": _reshape,
    "Identity": _nothing,
    "Dropout": _nothing,
    "Relu": _activation(lambda given: ACTIVATIONS["relu"]),
    "Sigmoid": _activation(lambda given: ACTIVATIONS["sigmoid"]),
    "HardSwish": _activation(lambda given: ACTIVATIONS["hardswish"]),
    "LeakyRelu": _activation(lambda given: Activation(LEAKY_RELU, given.get("alpha", 0.01), 0.0)),
    "HardSigmoid": _activation(
        lambda given: Activation(HARD_SIGMOID, given.get("alpha", 0.2), given.get("beta", 0.5))
    ),
    "Clip": _clip,
}
"""What appends the steps of an operator, by its name."""

WRITERS: dict[str, Callable[..., object]] = {
    "Mul": np.multiply,
    "Sub": np.subtract,
    "Div": np.divide,
    "Tanh": np.tanh,
    "Exp": np.exp,
    "Sqrt": np.sqrt,
}
"""Functions of operators without attributes that write to `out`."""


KINDS = {
    "Convolve": "Conv",
    "Multiply": "Gemm",
    "ScaleAndShift": "BatchNormalization",
    "Concatenate": "Concat",
}
"""What the operations of graphs are called in ONNX."""

KEPT_GRAPHS = 8
"""The largest number of shapes of the input whose graphs are kept."""


class Specialized:
    """A model of one input and one output, prepared for every shape of the input that comes.

    Parameters
    ----------
    program : Program
        Calls, of which constants are computed.
    constants : mapping of str to ndarray
        All values that do not depend on the input.
    name, output : str
        The input and the result.
    """

    def __init__(
        self, program: Program, constants: Mapping[str, Array], name: str, output: str
    ) -> None:
        self._program, self._constants = program, constants
        self._name, self._output = name, output
        self._weights = Weights()
        self._graphs: dict[Shape, Graph | None] = {}
        self._lock = threading.Lock()
        self._pool = Pool()

    def graph(self, x: Array) -> Graph | None:
        """Return the graph for arrays of a shape, or None if there is none."""
        with self._lock:
            if x.shape not in self._graphs:
                traced = trace(self._program, self._constants, self._name, x)
                found = graph_of(self._program, traced, self._name, self._output, self._weights)
                while len(self._graphs) >= KEPT_GRAPHS:
                    self._graphs.pop(next(iter(self._graphs)))
                self._graphs[x.shape] = found
            return self._graphs[x.shape]

    def plain_graph(self, x: Array) -> Graph | None:
        """Return a new graph, without the passes, for arrays of a shape, or None."""
        traced = trace(self._program, self._constants, self._name, x)
        return graph_of(self._program, traced, self._name, self._output, None)

    def take(self, x: Array) -> Prepared | None:
        """Return what computes arrays of a shape, for the caller alone until it is given back."""
        graph = self.graph(x)
        if graph is None:
            return None
        key = x.shape, _precision.get_precision(), _kernels.level
        return self._pool.take(key, lambda: Prepared(graph, len(x), key))

    def give_back(self, program: Prepared) -> None:
        """Keep a program for the next input of its shape."""
        self._pool.give_back(program)

    def times(self, x: Array, rounds: int) -> list[StepTime] | None:
        """Return the median time of every step."""
        program = self.take(x)
        if program is None:
            return None
        try:
            seconds = seconds_by_step(program, np.ascontiguousarray(x), rounds)
        finally:
            self.give_back(program)
        return [
            _step_time(step, len(x), spent)
            for (step, *_), spent in zip(program.steps, seconds, strict=True)
        ]


def _step_time(step: Step, batch: int, seconds: float) -> StepTime:
    """Name what a step computes and how."""
    operation = step.operation
    kind, algorithm = type(operation).__name__, ""
    operator = operation.call.op if isinstance(operation, Apply) else KINDS.get(kind, kind)
    if isinstance(operation, (Convolve, Multiply)):
        algorithm = operation.describe(batch, *(source.shape for source in step.inputs))
    return StepTime(step.name, operator, algorithm, str((batch, *step.shape)), seconds)
