"""Parts of a graph's result: each is computed from the pixels that it depends on, and no others.

A part of an image gives the same numbers, bit for bit, as the whole image does:

a. Every step computes a box of its result from a box of its inputs. Boxes are found from the result
   back to the input: windows, strides and dilations enlarge them, and the places where several
   steps read the same array are covered by one box. A box ends where the image ends, and there the
   step pads as it pads the whole image; inside the image nothing is padded.
b. The algorithm of a convolution is chosen for the whole image. Boxes of results on tiles
   (Winograd) begin and end at multiples of a tile of the image, and planes that are too large for
   the kernels of small planes are never given to them in parts.
c. Some kernels sum narrow results in another order. So a box has at least `LEAST` rows and columns,
   or all that there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any, NamedTuple, TypeAlias, cast

import numpy as np

from fastconv import _kernels
from fastconv._algorithms import DIRECT, Algorithm, choose
from fastconv._arguments import steps
from fastconv._arrays import Array, Shape, as_images
from fastconv._errors import argument_error
from fastconv._layer import run_forward
from fastconv._memory import new_array
from fastconv._problem import Problem
from fastconv._window import Sizes, Window
from fastconv.convolution import conv_transpose2d, geometry, placeholder
from fastconv.inference._graph import Graph, Step
from fastconv.inference._lowering import POOLS
from fastconv.inference._operations import (
    Activate,
    Add,
    Axis,
    Call,
    Concatenate,
    Convolve,
    DepthwiseSeparable,
    Operation,
    ScaleAndShift,
    axes_of,
)
from fastconv.inference._passes import simplify
from fastconv.layers import ChannelShuffle, IdentityShortcut, LocalResponseNormalization
from fastconv.packing import Packs
from fastconv.pooling import avg_pool2d, max_pool2d

Interval: TypeAlias = tuple[int, int]
Box: TypeAlias = tuple[Interval, ...]
"""The first position and the one behind the last, for each axis."""

LEAST = 16
"""The least number of rows and of columns of a part, if there are so many."""


class Reach(NamedTuple):
    """Which positions of an axis of the input an output depends on.

    Output o depends on positions from ``(o * step + low) / up``, rounded up, to
    ``(o * step + high) / up``, rounded down.
    """

    step: int = 1
    low: int = 0
    high: int = 0
    up: int = 1

    def of(self, interval: Interval) -> Interval:
        """Return the positions that some outputs depend on, also those beyond the ends."""
        first, last = interval
        begin = -(-(first * self.step + self.low) // self.up)
        return begin, ((last - 1) * self.step + self.high) // self.up + 1


class Local:
    """How a step computes a part of its result. This class serves what works pixel by pixel.

    Attributes
    ----------
    shape : tuple of int
        Shape of the whole result, without the batch.
    tile : int
        Boxes begin and end at multiples of this number.
    """

    tile = 1

    def __init__(self, operation: Operation, shapes: Sequence[Shape]) -> None:
        self.operation, self.shapes = operation, shapes
        self.shape = self._shape()
        self.reaches = self._reaches()

    def _shape(self) -> Shape:
        return self.operation.shape(*self.shapes)

    def _reaches(self) -> list[Reach]:
        return [Reach() for _ in self.shapes[0][1:]]

    def reaches_of(self, source: int) -> list[Reach]:
        """Return which positions of an input outputs depend on; what is added lies beside them."""
        return self.reaches if source == 0 else [Reach() for _ in self.reaches]

    def is_enough(self, axis: int, needed: Interval) -> bool:
        """Tell whether padding can be made of the pixels of an interval, as of the whole axis."""
        return needed[1] > 0 and needed[0] < self.shapes[0][1 + axis]

    def prepare(self, batch: int) -> None:
        """Choose algorithms for a batch of whole images."""

    def run(self, inputs: Sequence[Array], needed: Box, box: Box, out: Array) -> None:
        """Write a part of the result.

        Parameters
        ----------
        inputs : sequence of ndarray
            The pixels that the outputs depend on, as far as there are any.
        needed : box
            Which ones of the first input these are, also those beyond the ends.
        box : box
            Which outputs are computed.
        out : ndarray
            Array for them.
        """
        self.operation.prepare(inputs, out)(inputs, out)


class _Joined(Local):
    """Arrays that are added or joined: outputs depend on the same place of all."""

    def run(self, inputs: Sequence[Array], needed: Box, box: Box, out: Array) -> None:
        if isinstance(self.operation, Add):
            np.add(inputs[0], inputs[1], out=out)
            return
        np.concatenate(inputs, axis=1, out=out)


class _Sliding(Local):
    """Windows."""

    axes: list[Axis]

    def _reaches(self) -> list[Reach]:
        return [
            Reach(axis.stride, -axis.before, axis.dilation * (axis.kernel - 1) - axis.before)
            for axis in self.axes
        ]

    def padding(self, needed: Box) -> tuple[Interval, ...]:
        """Return how many positions beyond each end a part needs."""
        return tuple(
            (max(0, -first), max(0, last - axis.size))
            for axis, (first, last) in zip(self.axes, needed)
        )


class Convolution(_Sliding):
    """A convolution, by the algorithm that is chosen for the whole image."""

    operation: Convolve
    chosen: Algorithm = DIRECT
    way = 0

    def __init__(
        self, operation: Convolve, shapes: Sequence[Shape], algorithm: str = "auto"
    ) -> None:
        self.algorithm = algorithm
        super().__init__(operation, shapes)

    def _shape(self) -> Shape:
        problem = self.operation.geometry((1, *self.shapes[0])).problem
        count = len(self.shapes[0]) - 1
        self.axes = [Axis(*axis) for axis in problem.window.packed.tolist()[-count:]]
        return self.operation.shape(self.shapes[0])

    def is_enough(self, axis: int, needed: Interval) -> bool:
        first, last = needed
        size = self.shapes[0][1 + axis]
        mode = self.operation.window[4]
        if mode == "constant" or (first >= 0 and last <= size):
            return last > 0 and first < size
        if mode == "wrap":
            return first <= 0 and last >= size
        return max(0, -first) < min(last, size) and max(0, last - size) < size - max(0, first)

    def prepare(self, batch: int) -> None:
        problem = self.operation.geometry((batch, *self.shapes[0])).problem
        self.chosen = choose(problem, self.algorithm)
        self.tile = self.chosen.tile
        self.way = way_of(problem, self.operation.weight.dtype) if self.chosen is DIRECT else 0

    def run(self, inputs: Sequence[Array], needed: Box, box: Box, out: Array) -> None:
        operation = self.operation
        stride, _, dilation, groups, mode = operation.window
        weight, axes = operation.weight, len(self.axes)
        pads = self.padding(needed)
        pads_of: Any = pads if axes == 2 else pads[0]
        problem = geometry(
            inputs[0].shape, weight.shape, stride, pads_of, dilation, groups, mode, axes
        ).problem
        epilogue = residual = None
        if len(inputs) > 1:  # Kernels read it at the places that they write to.
            residual = as_images(np.ascontiguousarray(inputs[1]), problem.target)
        if not (operation.bias is None and residual is None and operation.activation is None):
            epilogue = operation.bias, residual, operation.activation
        arrays = (
            as_images(inputs[0], problem.source),
            as_images(weight, problem.weight),
            as_images(out, problem.target),
        )
        run_part(self.chosen, problem, arrays, epilogue, operation.packs(), self.way)


def way_of(problem: Problem, dtype: np.dtype[Any]) -> int:
    """Return which of the direct kernels' ways whole images take."""
    if problem.window.turned is not None:
        return 0
    arrays = (
        placeholder(shape, "shape", dtype)
        for shape in (problem.source, problem.weight, problem.target)
    )
    return int(_kernels.convolution.way_of(*arrays, problem.window.packed, problem.groups))


def run_part(
    chosen: Algorithm,
    problem: Problem,
    arrays: tuple[Array, Array, Array],
    epilogue: Any = None,
    packs: Packs | None = None,
    way: int = 0,
) -> None:
    """Compute a part of images with the algorithm and the way that the whole images take."""
    if chosen is DIRECT:
        DIRECT.run(problem, *arrays, epilogue, packs, None, way)
    else:
        chosen.run(problem, *arrays, epilogue, packs)


class _Separable(_Sliding):
    """Two convolutions that a kernel computes together."""

    operation: DepthwiseSeparable

    def _shape(self) -> Shape:
        self.axes = axes_of(self.operation.depthwise, self.shapes[0])
        return self.operation.shape(self.shapes[0])

    def run(self, inputs: Sequence[Array], needed: Box, box: Box, out: Array) -> None:
        images = np.ascontiguousarray(inputs[0]), *map(np.ascontiguousarray, inputs[1:])
        self.operation.prepare(images, out, self.padding(needed))(images, out)


class Pool(_Sliding):
    """Maxima and means of windows."""

    def __init__(
        self,
        operation: Operation,
        shapes: Sequence[Shape],
        pool: Callable[..., Any],
        kernel: Sizes,
        stride: Any,
        padding: Any,
        dilation: Any = 1,
        ceil_mode: bool = False,
        **others: Any,
    ) -> None:
        axes = len(shapes[0]) - 1
        stride, pads, dilation = steps(stride, padding, dilation, axes=axes)
        window = Window(shapes[0][1:], kernel, stride, dilation, pads, "constant", ceil_mode)
        self.axes = [Axis(*axis) for axis in window.packed.tolist()[-axes:]]
        self.out, self.ceil_mode = window.out, ceil_mode
        if pool is max_pool2d:
            others["dilation"] = dilation
        self.pool = partial(pool, kernel_size=kernel, stride=stride, **others)
        super().__init__(operation, shapes)

    def _shape(self) -> Shape:
        return (self.shapes[0][0], *self.out)

    def run(self, inputs: Sequence[Array], needed: Box, box: Box, out: Array) -> None:
        pads = tuple(
            (before, min(after, axis.after))
            for (before, after), axis in zip(self.padding(needed), self.axes)
        )
        options = {"ceil_mode": True} if self.ceil_mode else {}
        padding: Any = pads if len(pads) == 2 else pads[0]
        self.pool(inputs[0], padding=padding, out=out, **options)


class _Subsampled(Local):
    """Every second pixel, or every third, with channels of zeros behind."""

    operation: Call

    def _shape(self) -> Shape:
        layer = self.operation.layer
        self.steps = layer._step
        sizes = (-(-size // step) for size, step in zip(self.shapes[0][1:], self.steps))
        return (layer.channels, *sizes)

    def _reaches(self) -> list[Reach]:
        return [Reach(step) for step in self.steps]

    def run(self, inputs: Sequence[Array], needed: Box, box: Box, out: Array) -> None:
        kept = inputs[0][:, :, :: self.steps[0], :: self.steps[1]]
        out[:, : kept.shape[1]] = kept
        out[:, kept.shape[1] :] = 0


class _Layer(Local):
    """A layer whose outputs depend on the channels of one pixel."""

    operation: Call

    def _shape(self) -> Shape:
        return self.shapes[0]

    def run(self, inputs: Sequence[Array], needed: Box, box: Box, out: Array) -> None:
        out[...] = run_forward(self.operation.layer, inputs[0], False)
        self.operation.layer.forget()


class _Pixelwise(Local):
    """An operator of ONNX that works pixel by pixel, on values and constants."""

    def _shape(self) -> Shape:
        return (self.operation.result[0], *self.shapes[0][1:])  # type: ignore[attr-defined]


class _Transposed(Local):
    """A transposed convolution."""

    def __init__(
        self, operation: Any, shapes: Sequence[Shape], weight: Array, bias: Array | None, given: Any
    ) -> None:
        self.weight, self.bias = weight, bias
        self.stride = given.get("strides") or (1, 1)
        self.dilation = given.get("dilations") or (1, 1)
        self.extra = given.get("output_padding") or (0, 0)
        pads = given.get("pads") or (0, 0, 0, 0)
        self.pads = tuple(zip(pads[:2], pads[2:]))
        self.groups = given.get("group", 1)
        self.spans = [d * (k - 1) + 1 for d, k in zip(self.dilation, weight.shape[2:])]
        super().__init__(operation, shapes)

    def _shape(self) -> Shape:
        axes = zip(self.shapes[0][1:], self.stride, self.spans, self.pads, self.extra)
        sizes = ((n - 1) * s + span - sum(pad) + more for n, s, span, pad, more in axes)
        return (self.weight.shape[1] * self.groups, *sizes)

    def _reaches(self) -> list[Reach]:
        axes = zip(self.stride, self.spans, self.pads)
        return [Reach(1, pad[0] - max(span, s) + 1, pad[0], s) for s, span, pad in axes]

    def prepare(self, batch: int) -> None:
        _, h, w = self.shape
        window = self._window((h, w))
        source, target = (batch, *self.shape), (batch, *self.shapes[0])
        problem = Problem("forward", source, target, self.groups, window)
        self.chosen = choose(problem.adjoint, "auto")
        self.tile = self.chosen.tile

    def _window(self, size: Sizes) -> Window:
        """Return the window of the convolution whose adjoint this is."""
        kernel = self.weight.shape[2:]
        return Window(size, kernel, self.stride, self.dilation, self.pads, "constant")

    def run(self, inputs: Sequence[Array], needed: Box, box: Box, out: Array) -> None:
        cut, extra = [], []
        axes = zip(self.stride, self.spans, self.pads, needed, box, self.shapes[0][1:])
        for s, span, pad, (first, last), (begin, end), size in axes:
            first, last = max(first, 0), min(last, size)
            behind = (last - 1) * s + span - pad[0] - end
            cut.append((begin - (first * s - pad[0]), max(behind, 0)))
            extra.append(max(-behind, 0))
        conv_transpose2d(
            *(inputs[0], self.weight, self.bias, self.stride, tuple(cut), tuple(extra)),
            *(self.groups, self.dilation),
            algorithm=cast("str", self.chosen),
            out=out,
        )


class _Repeated(Local):
    """Every pixel several times: the enlargement by whole numbers that takes the nearest pixel."""

    def __init__(self, operation: Any, shapes: Sequence[Shape], factors: Sizes) -> None:
        self.factors = factors
        super().__init__(operation, shapes)

    def _shape(self) -> Shape:
        sizes = (size * factor for size, factor in zip(self.shapes[0][1:], self.factors))
        return (self.shapes[0][0], *sizes)

    def _reaches(self) -> list[Reach]:
        return [Reach(1, 1 - factor, 0, factor) for factor in self.factors]

    def run(self, inputs: Sequence[Array], needed: Box, box: Box, out: Array) -> None:
        index: list[Any] = []
        axes = zip(self.factors, needed, box, self.shapes[0][1:])
        for factor, (first, _), (begin, end), _size in axes:
            index.append(np.arange(begin, end) // factor - max(first, 0))
        np.copyto(out, inputs[0][:, :, index[0][:, None], index[1]])


def local(step: Step, shapes: Sequence[Shape]) -> Local:
    """Tell how a step computes parts of its result.

    Raises
    ------
    ValueError
        If its outputs depend on all pixels, or if it is not known on which.
    """
    operation = step.operation
    if len(shapes[0]) > 1 and len(shapes[0]) == len(step.shape):
        found = _of_operation(operation, shapes)
        if found is not None:
            return found
    raise argument_error(
        ValueError,
        f"{step.name} ({operation.describe(1, *shapes)}) depends on all pixels, or it is not known "
        "on which: only networks that are fully convolutional have results of parts",
    )


def _of_operation(operation: Operation, shapes: Sequence[Shape]) -> Local | None:
    kind = KINDS.get(type(operation))
    if kind is not None:
        return kind(operation, shapes)
    if type(operation) is Call:
        layer = operation.layer
        pool = POOLS.get(type(layer))
        if pool is not None and operation.write is not None:
            kernel = tuple(map(int, layer.kernel_size))
            return Pool(operation, shapes, pool, kernel, layer.stride, layer.pad)
        if type(layer) is IdentityShortcut:
            return _Subsampled(operation, shapes)
        if type(layer) in (LocalResponseNormalization, ChannelShuffle):
            return _Layer(operation, shapes)
        return None
    if type(operation).__module__.startswith("fastconv.onnx"):
        return _of_operator(operation, shapes)
    return None


PIXELWISE = frozenset(
    [
        "Abs",
        "Add",
        "Ceil",
        "Clip",
        "Cos",
        "Div",
        "Elu",
        "Erf",
        "Exp",
        "Floor",
        "Gelu",
        "HardSigmoid",
        "HardSwish",
        "LeakyRelu",
        "Log",
        "Max",
        "Mean",
        "Min",
        "Mish",
        "Mul",
        "Neg",
        "PRelu",
        "Pow",
        "Reciprocal",
        "Relu",
        "Round",
        "Selu",
        "Sigmoid",
        "Sign",
        "Sin",
        "Softplus",
        "Softsign",
        "Sqrt",
        "Sub",
        "Sum",
        "Tanh",
        "ThresholdedRelu",
    ]
)
"""The operators of ONNX whose outputs depend on one pixel of each input."""


def _of_operator(operation: Any, shapes: Sequence[Shape]) -> Local | None:
    """Tell how an operator of ONNX computes parts of its result."""
    call, known = operation.call, [a for a in operation.arguments if isinstance(a, np.ndarray)]
    pool = getattr(operation.write, "func", None)
    if pool in (max_pool2d, avg_pool2d) and call.op in ("MaxPool", "AveragePool"):
        given = dict(operation.write.keywords)
        kernel = tuple(given.pop("kernel_size"))
        return Pool(
            operation, shapes, pool, kernel, given.pop("stride"), given.pop("padding"), **given
        )
    if call.op == "ConvTranspose":
        given = call.attributes
        is_simple = not given.get("output_shape") and given.get("auto_pad", "NOTSET") == "NOTSET"
        if is_simple and len(shapes) == 1 and known[0].ndim == 4:
            bias = known[1] if len(known) > 1 else None
            return _Transposed(operation, shapes, known[0], bias, given)
        return None
    if call.op in ("Resize", "Upsample"):
        return _enlarged(operation, shapes)
    is_alike = all(shape[1:] == shapes[0][1:] for shape in shapes)
    ndim = len(shapes[0]) + 1
    if call.op in PIXELWISE and is_alike and all(_is_per_channel(ndim, array) for array in known):
        return _Pixelwise(operation, shapes)
    return None


def _is_per_channel(ndim: int, constant: Array) -> bool:
    """Tell whether a constant is the same for all pixels."""
    sizes = (1,) * (ndim - constant.ndim) + constant.shape
    return len(sizes) == ndim and prod(sizes) == sizes[1]


def _enlarged(operation: Any, shapes: Sequence[Shape]) -> Local | None:
    """Find enlargements by whole numbers that take the nearest pixel."""
    given, traced = operation.call.attributes, operation.traced
    nearest = given.get("mode", "nearest") == "nearest"
    place = given.get("coordinate_transformation_mode", "half_pixel")
    rounding = given.get("nearest_mode", "round_prefer_floor")
    if operation.call.op == "Upsample":
        place, rounding = "asymmetric", "floor"
    known = (("half_pixel", "round_prefer_floor"), ("asymmetric", "floor"))
    ratios = [divmod(new, old) for new, old in zip(operation.result[1:], traced[0][1:])]
    is_whole = all(factor >= 1 and rest == 0 for factor, rest in ratios)
    if not (nearest and is_whole and (place, rounding) in known) or len(ratios) != 2:
        return None
    return _Repeated(operation, shapes, tuple(factor for factor, _ in ratios))


KINDS: dict[type, type[Local]] = {
    Activate: Local,
    Add: _Joined,
    Concatenate: _Joined,
    Convolve: Convolution,
    ScaleAndShift: Local,
    DepthwiseSeparable: _Separable,
}


# ---- the whole graph ---------------------------------------------------------------------------


def enlarged(graph: Graph, size: Sizes, simplified: bool) -> dict[Step, Local]:
    """Let a graph be one for images of another size; return how its steps compute parts.

    Parameters
    ----------
    graph : Graph
        A graph of which nobody else knows. Its steps get the new shapes.
    size : tuple of int
        Height and width of the images.
    simplified : bool
        Whether the passes have been run. Those that depend on the size are then kept as they are.
    """
    for _ in range(1 if simplified else 2):
        graph.input.shape = (graph.input.shape[0], *size)
        found = {}
        for step in graph:
            try:
                found[step] = local(step, [source.shape for source in step.inputs])
            except (TypeError, ValueError) as error:
                raise argument_error(ValueError, str(error)) from error
            step.shape = found[step].shape
        if not simplified:
            simplify(graph)
            simplified = True
    return found


@dataclass
class Part:
    """A part of the result: which boxes of all steps it takes."""

    out: Box
    boxes: dict[Step, Box]

    @property
    def key(self) -> tuple[Any, ...]:
        """What is equal for parts that can be computed together, as a batch."""
        return self._key

    _key: tuple[Any, ...] = ()


class Parts:
    """Computes parts of a graph's result.

    Parameters
    ----------
    graph : Graph
        The steps, whose shapes are those of whole images.
    locals : dict of Step to Local
        What `enlarged` returned.
    batch : int
        Number of whole images, for which algorithms are chosen.
    """

    def __init__(self, graph: Graph, locals: dict[Step, Local], batch: int) -> None:
        self.graph, self.locals, self.dtype = graph, locals, graph.dtype
        for one in locals.values():
            one.prepare(batch)
        self._last = {graph.output: len(graph.steps)}
        for i, step in enumerate(graph.steps):
            for source in step.inputs:
                self._last[source] = max(self._last.get(source, 0), i)

    def part(self, out: Box) -> Part:
        """Find the boxes of all steps that a box of the result depends on."""
        graph = self.graph
        boxes: dict[Step, Box] = {graph.output: out}
        for step in reversed(graph.steps[1:]):
            if step not in boxes:
                continue
            boxes[step] = self._widened(step, boxes[step])
            for i, source in enumerate(step.inputs):
                needed = _clipped(_needed(self.locals[step], i, boxes[step]), source.shape)
                boxes[source] = _hull(boxes[source], needed) if source in boxes else needed
        part = Part(out, boxes)
        part._key = self._signature(boxes, out)
        return part

    def _widened(self, step: Step, box: Box) -> Box:
        """Enlarge a box to whole tiles, to `LEAST` positions, and until padding can be made."""
        one, found = self.locals[step], []
        for axis, (interval, size) in enumerate(zip(box, step.shape[1:])):
            first, last = interval
            more = max(0, LEAST - (last - first))
            while True:
                first = max(0, min(first, size - LEAST if more else first)) // one.tile * one.tile
                last = min(
                    size, -(-max(last, first + LEAST if more else last) // one.tile) * one.tile
                )
                needed = one.reaches[axis].of((first, last))
                if (first, last) == (0, size) or one.is_enough(axis, needed):
                    break
                grown = last - first
                first, last, more = max(0, first - grown), min(size, last + grown), 0
            found.append((first, last))
        return tuple(found)

    def _signature(self, boxes: dict[Step, Box], out: Box) -> tuple[Any, ...]:
        """Describe where boxes lie in those that they are computed from, not where in the image."""
        start = boxes[self.graph.input]
        found: list[Any] = [tuple(last - first for first, last in start)]
        for step in self.graph:
            if step not in boxes:
                continue
            needed = _needed(self.locals[step], 0, boxes[step])
            sizes = tuple(last - first for first, last in boxes[step])
            at = [
                tuple(a - b for (a, _), (b, _) in zip(boxes[step], boxes[source]))
                if all(r == Reach() for r in self.locals[step].reaches_of(i))
                else tuple(a - b for (a, _), (b, _) in zip(needed, boxes[source]))
                for i, source in enumerate(step.inputs)
            ]
            ends = tuple(
                (min(0, first), max(0, last - size))
                for (first, last), size in zip(needed, step.inputs[0].shape[1:])
            )
            phases = tuple(
                first * reach.step % reach.up
                for reach, (first, _) in zip(self.locals[step].reaches, boxes[step])
            )
            found.append((sizes, tuple(at), ends, phases))
        last = boxes[self.graph.output]
        found.append(tuple((a - b, c - a) for (a, c), (b, _) in zip(out, last)))
        return tuple(found)

    def run(self, part: Part, x: Array) -> Array:
        """Compute a part of the result of images, of which `x` holds the box that it needs."""
        boxes = part.boxes
        arrays: dict[Step, Array] = {self.graph.input: x}
        for i, step in enumerate(self.graph.steps):
            if i == 0 or step not in boxes:
                continue
            one, box = self.locals[step], boxes[step]
            inputs = []
            for j, source in enumerate(step.inputs):
                wanted = _clipped(_needed(one, j, box), source.shape)
                inputs.append(_view(arrays[source], boxes[source], wanted))
            out = new_array((len(x), step.shape[0], *(b - a for a, b in box)), self.dtype)
            one.run(inputs, _needed(one, 0, box), box, out)
            arrays[step] = out
            for source in set(step.inputs):
                if self._last[source] == i:
                    del arrays[source]
        return _view(arrays[self.graph.output], boxes[self.graph.output], part.out)

    def peak_bytes(self, part: Part) -> int:
        """Return the largest number of bytes of all arrays that are there at the same time."""
        live: dict[Step, int] = {}
        peak = 0
        for i, step in enumerate(self.graph.steps):
            if step in part.boxes:
                box = part.boxes[step]
                live[step] = step.shape[0] * prod(b - a for a, b in box) * self.dtype.itemsize
                peak = max(peak, sum(live.values()))
            for source in set(step.inputs):
                if self._last[source] == i:
                    live.pop(source, None)
        return peak


def _needed(one: Local, source: int, box: Box) -> Box:
    reaches = one.reaches if isinstance(one, Local) and source == 0 else one.reaches_of(source)
    return tuple(reach.of(interval) for reach, interval in zip(reaches, box))


def _clipped(box: Box, shape: Shape) -> Box:
    """Return the part of a box that lies in the image."""
    return tuple((max(0, first), min(size, last)) for (first, last), size in zip(box, shape[1:]))


def _hull(one: Box, other: Box) -> Box:
    """Return the smallest box that contains two."""
    return tuple((min(a, c), max(b, d)) for (a, b), (c, d) in zip(one, other))


def _view(array: Array, box: Box, wanted: Box) -> Array:
    """Return a part of an array that holds a box."""
    index = (slice(a - b, c - b) for (a, c), (b, _) in zip(wanted, box))
    return array[(slice(None), slice(None), *index)]
