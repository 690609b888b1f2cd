"""What the steps of a network for inference do.

An operation is told once which arrays it will read and write, so that everything that shapes decide
is decided then. What it returns computes, as often as it is called, with arrays of these shapes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial
from math import prod
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from fastconv import _kernels, _threads
from fastconv._algorithms import DIRECT, Algorithm, choose
from fastconv._arguments import Padding
from fastconv._arrays import Array, Shape, as_images
from fastconv._elementwise import activate, add
from fastconv._epilogue import CLIP, Activation
from fastconv._layer import Base, run_forward, shape_behind, walk
from fastconv._window import Sizes
from fastconv.convolution import Geometry, geometry
from fastconv.packing import Packs
from fastconv.product import matmul

Runner: TypeAlias = Callable[[Sequence[Array], Array], None]
"""Compute with inputs of the shapes that were announced, and write the result."""


FEW_FILTERS = 4
"""The largest number of filters of a convolution for which kernels take pixels as lanes."""
MOST_ROW_BYTES = 256 << 10
"""The largest row of all channels that kernels compute to their scratch, which lies in L2."""


def nothing(inputs: Sequence[Array], out: Array) -> None:
    """Leave a result as it is."""


class Operation(ABC):
    """One step of a network.

    Attributes
    ----------
    activation : Activation or None
        What is applied to the result on its way out; only if `takes_activation`.
    """

    takes_activation = False
    writes_views = False
    """Whether the result may be written to an array with gaps between its images."""
    activation: Activation | None = None

    @abstractmethod
    def shape(self, *inputs: Shape) -> Shape:
        """Return the shape of a result, without the batch, for the inputs' shapes."""

    @abstractmethod
    def prepare(self, inputs: Sequence[Array], out: Array) -> Runner:
        """Decide how arrays like these are computed."""

    def multiply_adds(self, *inputs: Shape) -> int:
        """Count the multiply-adds of convolutions and products for one image."""
        return 0

    def replaces_last(self, batch: int, *inputs: Shape) -> bool:
        """Tell whether the result may be written over the last input."""
        return False

    def describe(self, batch: int, *inputs: Shape) -> str:
        """Name what computes the result."""
        return type(self).__name__.lower()

    @property
    def nbytes(self) -> int:
        """Size of the weights."""
        return 0


class Input(Operation):
    """Stand for what the caller gives."""

    def __init__(self, shape: Shape) -> None:
        self.given = shape

    def shape(self, *inputs: Shape) -> Shape:
        """Return the shape that was announced."""
        return self.given

    def prepare(self, inputs: Sequence[Array], out: Array) -> Runner:
        """Do nothing."""
        return nothing


class Convolve(Operation):
    """Correlate with filters; add a bias and, if there is a second input, a residual."""

    takes_activation = writes_views = True

    def __init__(
        self,
        weight: Array,
        bias: Array | None,
        stride: Sizes,
        padding: Padding,
        dilation: Sizes,
        groups: int,
        pad_mode: str,
    ) -> None:
        self.weight, self.bias = weight, bias
        self.window = stride, padding, dilation, groups, pad_mode
        self.activation = None
        self._packs: Packs | None = None

    def shape(self, *inputs: Shape) -> Shape:
        """Return (F, OH, OW)."""
        return self.geometry(inputs[0]).shape

    def prepare(self, inputs: Sequence[Array], out: Array) -> Runner:
        """Choose the algorithm."""
        problem = self.geometry(inputs[0].shape).problem
        chosen = choose(problem, "auto")
        bias, activation = self.bias, self.activation
        weight = as_images(self.weight, problem.weight)
        packs = self.packs()

        def run(inputs: Sequence[Array], out: Array) -> None:
            residual = as_images(inputs[1], problem.target) if len(inputs) > 1 else None
            epilogue = None
            if not (bias is None and residual is None and activation is None):
                epilogue = bias, residual, activation
            images, target = as_images(inputs[0], problem.source), as_images(out, problem.target)
            chosen.run(problem, images, weight, target, epilogue, packs)

        return run

    def packs(self) -> Packs:
        """Return what keeps packed weights, which change no more: nothing is folded into them."""
        if self._packs is None:
            self._packs = Packs()
        return self._packs

    def multiply_adds(self, *inputs: Shape) -> int:
        """Count those of the definition."""
        return self.geometry(inputs[0]).problem.definition_flops // 2

    def replaces_last(self, batch: int, *inputs: Shape) -> bool:
        """Allow it for a residual, but on tiles, which would copy it first."""
        return len(inputs) > 1 and self._algorithm(batch, inputs[0]) is DIRECT

    def describe(self, batch: int, *inputs: Shape) -> str:
        """Name the algorithm, and the size of its tiles."""
        chosen = self._algorithm(batch, inputs[0])
        return chosen.name if chosen.tile == 1 else f"{chosen.name} {chosen.tile}x{chosen.tile}"

    @property
    def nbytes(self) -> int:
        """Size of the filters, of what is packed of them, and of the bias."""
        packed = 0 if self._packs is None else self._packs.nbytes
        return self.weight.nbytes + packed + (0 if self.bias is None else self.bias.nbytes)

    def __getstate__(self) -> dict[str, Any]:
        """Leave packed weights out of pickles and copies."""
        return {**vars(self), "_packs": None}

    def _algorithm(self, batch: int, source: Shape) -> Algorithm:
        return choose(self.geometry((batch, *source)).problem, "auto")

    def geometry(self, source: Shape) -> Geometry:
        """Return the convolution of images of a shape, with or without a batch."""
        return geometry(source, self.weight.shape, *self.window, self.weight.ndim - 2)


class DepthwiseSeparable(Operation):
    """Convolve every channel with a filter of its own, and the results with filters of 1x1.

    What the first convolution computes lies in the threads' caches, and never in an array.
    """

    writes_views = True

    def __init__(self, depthwise: Convolve, pointwise: Convolve) -> None:
        self.depthwise, self.pointwise = depthwise, pointwise
        self.activation = pointwise.activation
        self._packs: Packs | None = None

    @staticmethod
    def fits(depthwise: Convolve, pointwise: Convolve, source: Shape, itemsize: int) -> bool:
        """Tell whether a kernel computes two convolutions of a source of this shape together."""
        between = depthwise.shape(source)
        h, w = axes_of(depthwise, source)
        filters, channels = pointwise.weight.shape[:2]
        return (
            depthwise.weight.shape == (channels, 1, 3, 3)
            and depthwise.window[3] == channels == source[0]
            and h.stride == w.stride <= 2
            and h.dilation == w.dilation == 1
            and depthwise.window[4] == "constant"
            and (depthwise.activation is None or depthwise.activation.kind == CLIP)
            and all(
                axis.kernel == axis.stride == 1 and axis.out == axis.size
                for axis in axes_of(pointwise, between)
            )
            and filters > FEW_FILTERS
            and channels * w.out * itemsize <= MOST_ROW_BYTES
        )

    def shape(self, *inputs: Shape) -> Shape:
        """Return (F, OH, OW)."""
        return self.pointwise.shape(self.depthwise.shape(inputs[0]))

    def prepare(
        self, inputs: Sequence[Array], out: Array, padding: Padding | None = None
    ) -> Runner:
        """Arrange weights and biases as the kernel reads them.

        Parts of images are padded as `padding` tells.
        """
        first, second = self.depthwise, self.pointwise
        if padding is None:
            window = first.geometry(inputs[0].shape).problem.window.packed
        else:
            stride, _, dilation, groups, mode = first.window
            source, shape = inputs[0].shape, first.weight.shape
            known = geometry(source, shape, stride, padding, dilation, groups, mode, 2)
            window = known.problem.window.packed
        first_weight = np.ascontiguousarray(first.weight)
        first_bias = None if first.bias is None else np.ascontiguousarray(first.bias)
        weight, bias, activation = second.weight, second.bias, second.activation
        if self._packs is None:
            self._packs = Packs()
        packs = self._packs

        def run(inputs: Sequence[Array], out: Array) -> None:
            residual = inputs[1] if len(inputs) > 1 else None
            _kernels.convolution.fused(
                inputs[0],
                first_weight,
                first_bias,
                first.activation,
                window,
                weight,
                out,
                (bias, residual, activation),
                packs,
                _threads.count(),
            )

        return run

    def multiply_adds(self, *inputs: Shape) -> int:
        """Count those of the definitions of both."""
        between = self.depthwise.shape(inputs[0])
        return self.depthwise.multiply_adds(inputs[0]) + self.pointwise.multiply_adds(between)

    def replaces_last(self, batch: int, *inputs: Shape) -> bool:
        """Allow it for a residual, which is read just before it is overwritten."""
        return len(inputs) > 1

    @property
    def nbytes(self) -> int:
        """Size of both weights, of what is packed of them, and of both biases."""
        packed = 0 if self._packs is None else self._packs.nbytes
        return self.depthwise.nbytes + self.pointwise.nbytes + packed

    def __getstate__(self) -> dict[str, Any]:
        """Leave packed weights out of pickles and copies."""
        return {**vars(self), "_packs": None}


class Axis(NamedTuple):
    """One axis of a window, in the order of ``struct Axis`` in ``window.h``."""

    size: int
    out: int
    kernel: int
    stride: int
    dilation: int
    before: int
    after: int
    pad_mode: int


def axes_of(convolution: Convolve, source: Shape) -> list[Axis]:
    """Return both axes of a convolution's window over images of a shape."""
    window = convolution.geometry((1, *source)).problem.window
    return [Axis(*axis) for axis in window.packed.tolist()]


class Multiply(Operation):
    """Multiply rows by a matrix, and add a row."""

    def __init__(self, weight: Array, bias: Array | None) -> None:
        self.weight, self.bias = weight, bias

    def shape(self, *inputs: Shape) -> Shape:
        """Return (M,)."""
        return self.weight.shape[1:]

    def prepare(self, inputs: Sequence[Array], out: Array) -> Runner:
        """Return the product."""
        weight, bias = self.weight, self.bias

        def run(inputs: Sequence[Array], out: Array) -> None:
            (x,) = inputs
            matmul(x.reshape(len(x), -1), weight, bias, out=out)

        return run

    def multiply_adds(self, *inputs: Shape) -> int:
        """Count those of the definition."""
        return self.weight.size

    @property
    def nbytes(self) -> int:
        """Size of the matrix and the bias."""
        return self.weight.nbytes + (0 if self.bias is None else self.bias.nbytes)


class ScaleAndShift(Operation):
    """Subtract a number from every channel, multiply by another, and add a third.

    The sum of what is subtracted and added is not taken beforehand: where images are far from 0,
    their product would be rounded before the large shift brings it near 0.

    Attributes
    ----------
    center, scale, offset : ndarray of float64, shape (C,)
        What is subtracted, multiplied by, and added.
    """

    def __init__(self, center: Array, scale: Array, offset: Array) -> None:
        self.center, self.scale, self.offset = center, scale, offset

    @property
    def shift(self) -> Array:
        """What is added to the product with the scale, for weights that include both."""
        return np.asarray(self.offset - self.center * self.scale)

    def shape(self, *inputs: Shape) -> Shape:
        """Return the input's shape."""
        return inputs[0]

    def prepare(self, inputs: Sequence[Array], out: Array) -> Runner:
        """Let the kernel of batch normalisation compute, with deviations of 1."""
        shape = len(out), len(self.scale), prod(out.shape[2:])
        parameters = np.array([self.scale, self.offset], np.float64)
        ones = np.ones_like(self.scale)
        statistics = np.array([self.center, ones, ones], np.float64)

        def run(inputs: Sequence[Array], out: Array) -> None:
            x, y = inputs[0].reshape(shape), out.reshape(shape)
            _kernels.normalization.forward(
                x, parameters, statistics, 0.0, False, y, _threads.count()
            )

        return run


class Activate(Operation):
    """Apply a function to every number."""

    def __init__(self, function: Activation) -> None:
        self.function = function

    def shape(self, *inputs: Shape) -> Shape:
        """Return the input's shape."""
        return inputs[0]

    def prepare(self, inputs: Sequence[Array], out: Array) -> Runner:
        """Return the function."""

        def run(inputs: Sequence[Array], out: Array) -> None:
            activate(inputs[0], self.function, out=out)

        return run

    def replaces_last(self, batch: int, *inputs: Shape) -> bool:
        """Allow it: every number is read before it is replaced."""
        return True


class Add(Operation):
    """Add two arrays."""

    def shape(self, *inputs: Shape) -> Shape:
        """Return the shape of both."""
        return inputs[0]

    def prepare(self, inputs: Sequence[Array], out: Array) -> Runner:
        """Return the sum."""

        def run(inputs: Sequence[Array], out: Array) -> None:
            add(inputs[0], inputs[1], out=out)

        return run

    def replaces_last(self, batch: int, *inputs: Shape) -> bool:
        """Allow it: every number is read before it is replaced."""
        return True


class Concatenate(Operation):
    """Join arrays along the channels, as far as they have not been written to their places."""

    writes_views = True

    def __init__(self) -> None:
        self.placed: set[int] = set()
        """Those inputs, by their positions, that lie in the result already."""

    def shape(self, *inputs: Shape) -> Shape:
        """Return (C1 + C2 + ..., H, W)."""
        return sum(shape[0] for shape in inputs), *inputs[0][1:]

    def prepare(self, inputs: Sequence[Array], out: Array) -> Runner:
        """Find the places of the inputs."""
        ends = np.cumsum([array.shape[1] for array in inputs]).tolist()
        places = [
            (i, slice(end - array.shape[1], end))
            for i, (array, end) in enumerate(zip(inputs, ends, strict=True))
            if i not in self.placed
        ]

        def run(inputs: Sequence[Array], out: Array) -> None:
            for i, channels in places:
                out[:, channels] = inputs[i]

        return run


class Reshape(Operation):
    """Give an array another shape; nothing is moved."""

    def __init__(self, shape: Shape) -> None:
        self.result = shape

    def shape(self, *inputs: Shape) -> Shape:
        """Return the new shape."""
        return self.result

    def prepare(self, inputs: Sequence[Array], out: Array) -> Runner:
        """Do nothing, as the result lies in the input's memory."""
        return nothing


class Call(Operation):
    """Let a layer compute.

    Parameters
    ----------
    layer : layer
        What tells the shape and, without `write`, computes.
    write : callable, optional
        A function of the input and the array for the result, which does the layer's work.
    """

    def __init__(
        self,
        layer: Any,
        write: Callable[[Array, Array], object] | None = None,
    ) -> None:
        self.layer, self.write = layer, write

    def describe(self, batch: int, *inputs: Shape) -> str:
        """Name the layer."""
        return type(self.layer).__name__

    def shape(self, *inputs: Shape) -> Shape:
        """Return the shape that the layer gives."""
        return shape_behind(self.layer, inputs[0], np.dtype(np.float32))

    def prepare(self, inputs: Sequence[Array], out: Array) -> Runner:
        """Return what computes.

        Layers leave in their attributes what `backward` needs, and may read it again in `forward`.
        So each program has a copy of the layer, because threads run several programs at once.
        """
        write = self.write or partial(_call, deepcopy(self.layer))

        def run(inputs: Sequence[Array], out: Array) -> None:
            write(inputs[0], out)

        return run


def _call(layer: Any, x: Array, out: Array) -> None:
    """Write what a layer computes; the layer must not keep the images."""
    out[...] = run_forward(layer, x, False)
    for part in walk(layer):
        if isinstance(part, Base):
            part.forget()
