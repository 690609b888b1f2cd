"""Networks in ONNX files, for the network view."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastconv._arrays import Array, Shape
from fastconv.explore._catalog import resampled
from fastconv.explore._network import LayerEntry, NetworkView
from fastconv.explore._protocol import Refusal
from fastconv.onnx import InferenceSession
from fastconv.onnx._explanations import explain

__all__ = ["OnnxView", "input_shape"]

USUAL_SIDE = 224
"""Rows and columns of images where a file leaves them open."""
WINDOWS = ("Conv", "MaxPool", "AveragePool", "LpPool")
POINTWISE = frozenset(
    (
        *("Abs", "Add", "BatchNormalization", "Cast", "Celu", "Clip", "Concat", "Div", "Dropout"),
        *("Elu", "Gelu", "HardSigmoid", "HardSwish", "Identity", "LRN", "LeakyRelu", "Max", "Mean"),
        *("Min", "Mish", "Mul", "Neg", "PRelu", "Relu", "Selu", "Sigmoid", "Softplus", "Softsign"),
        *("Sub", "Sum", "Swish", "Tanh"),
    )
)
"""The operators of which an output pixel depends on the pixels at its own place."""
FIRST_INPUT = frozenset((*WINDOWS, "Pad", "Slice"))
"""The operators whose further inputs are filters or settings."""

Axis = tuple[int, int, int]
"""Size, stride and offset of a receptive field along an axis."""
ONE: tuple[Axis, Axis] = ((1, 1, 0), (1, 1, 0))


def input_shape(session: InferenceSession) -> Shape:
    """Return the shape (C, H, W) of an image that a model takes.

    Raises
    ------
    Refusal
        If it has several inputs, or another than images of float32.
    """
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].dtype != np.float32 or len(inputs[0].shape) != 4:
        raise Refusal("the model must have one input, images (N, C, H, W) of float32")
    _, channels, *sides = inputs[0].shape
    if not isinstance(channels, int):
        raise Refusal("the model must say how many channels its input has")
    return channels, *(side if isinstance(side, int) else USUAL_SIDE for side in sides)


class OnnxView(NetworkView):
    """Answers questions about a model.

    Parameters
    ----------
    session : InferenceSession
        The model.
    images, title
        As in `NetworkView`.
    """

    def __init__(self, session: InferenceSession, images: Array, title: str) -> None:
        super().__init__(input_shape(session), images, title)
        self.session = session
        self._input_name = session.get_inputs()[0].name
        first = session.get_inputs()[0].shape[0]
        self._batch = first if isinstance(first, int) else None
        self._nodes = {name: node for node in session._model.nodes for name in node.outputs}
        found = self._run(images[:1])
        shapes = {
            name: array.shape[1:]
            for name, array in found.items()
            if array.dtype == np.float32 and array.ndim in (2, 4) and len(array) == 1
        }
        scores = session.get_outputs()[0].name
        if len(shapes.get(scores, ())) not in (1, 3):
            raise Refusal("the first output of the model must be scores (N, classes) of float32")
        names = [name for name in shapes if name != scores] + [scores]
        self.layers = [
            LayerEntry(
                name,
                shapes[name],
                self._parameters(name),
                self._window(name),
                self._fields(name, shapes),
            )
            for name in names
        ]

    def outputs(self, images: Array, names: Sequence[str]) -> dict[str, Array]:
        """Compute what nodes give, image by image if the model takes one at a time."""
        size = self._batch or len(images)
        parts = []
        for start in range(0, len(images), size):
            part = images[start : start + size]
            missing = size - len(part)
            found = self._run(np.concatenate([part, part[:1].repeat(missing, axis=0)]))
            parts.append({name: found[name][: len(part)] for name in names})
        return {name: np.concatenate([part[name] for part in parts]) for name in names}

    def _run(self, images: Array) -> dict[str, Array]:
        if self._batch is not None and len(images) < self._batch:
            images = images.repeat(self._batch, axis=0)
        return self.session.activations({self._input_name: images})

    def filters(self, name: str) -> tuple[Array | None, Array | None]:
        """Return the filters of a convolution; those before the training are in no file."""
        node = self._nodes[name]
        weights = self._constant(node, 1) if node.op == "Conv" else None
        return (weights if weights is not None and weights.ndim == 4 else None), None

    def probabilities(self, scores: Array) -> Array:
        """Return probabilities, which many models give instead of scores."""
        is_done = self._nodes[self.layers[-1].name].op == "Softmax"
        return scores if is_done else super().probabilities(scores)

    def heat(self, image: Array) -> Array:
        """Return the class activation map, of weights that are measured without gradients."""
        try:
            found = explain(self.session, {self._input_name: image})
        except ValueError as error:
            raise Refusal(str(error)) from None
        return resampled(found.heat, self.shape[1:])

    def _constant(self, node: Any, place: int) -> Array | None:
        constants: Mapping[str, Array] = self.session._model.constants
        return constants.get(node.inputs[place]) if place < len(node.inputs) else None

    def _parameters(self, name: str) -> int:
        node = self._nodes[name]
        arrays = (self._constant(node, place) for place in range(1, len(node.inputs)))
        return sum(array.size for array in arrays if array is not None)

    def _window(self, name: str) -> str:
        node = self._nodes[name]
        if node.op not in WINDOWS:
            return node.op
        size = self._kernel(node)
        words = [node.op, "x".join(map(str, size))]
        strides = node.attributes.get("strides", (1, 1))
        return " ".join(words) + ("" if set(strides) == {1} else f", stride {strides[0]}")

    def _kernel(self, node: Any) -> Sequence[int]:
        weights = self._constant(node, 1) if node.op == "Conv" else None
        size: Sequence[int] = node.attributes.get("kernel_shape", ())
        return size or (() if weights is None else weights.shape[2:])

    def _fields(self, name: str, shapes: Mapping[str, Shape]) -> dict[str, list[list[int]]]:
        """Find the receptive fields of a node in the input and in every layer before it."""
        if len(shapes[name]) != 3:
            return {}
        wanted = {self._input_name, *(key for key, shape in shapes.items() if len(shape) == 3)}
        found: dict[str, tuple[Axis, Axis] | None] = {name: ONE}
        # From the last node to the first, each hands what its outputs see on to its inputs.
        for node in reversed(self.session._model.nodes):
            reached = [found[key] for key in node.outputs if key in found]
            if not reached or node.op == "Shape":  # A shape depends on no pixel.
                continue
            seen = next(filter(None, reached), None)
            for key in node.inputs[: 1 if node.op in FIRST_INPUT else None]:
                if key in wanted or key in self._nodes:
                    view = None if seen is None else self._through(node, seen)
                    if view is None and key in shapes and len(shapes[key]) == 1:
                        continue
                    known = found.get(key, view)
                    found[key] = None if view is None or known is None else _union(known, view)
        return {
            "input" if key == self._input_name else key: [list(pair) for pair in zip(*view)]
            for key, view in found.items()
            if view is not None and key in wanted and key != name
        }

    def _through(self, node: Any, seen: tuple[Axis, Axis]) -> tuple[Axis, Axis] | None:
        """Return what is seen of a node's input where `seen` is seen of its output."""
        if node.op in POINTWISE:
            return seen
        if node.op in ("Slice", "Pad"):
            return self._through_part(node, seen)
        size = self._kernel(node)
        automatic = node.attributes.get("auto_pad", "NOTSET")
        if node.op not in WINDOWS or len(size) != 2 or automatic not in ("NOTSET", "VALID"):
            return None
        strides = node.attributes.get("strides", (1, 1))
        dilations = node.attributes.get("dilations", (1, 1))
        pads = node.attributes.get("pads", (0, 0, 0, 0))
        vertical, horizontal = (
            (
                (covered - 1) * stride + dilation * (kernel - 1) + 1,
                apart * stride,
                first * stride - pad,
            )
            for (covered, apart, first), kernel, stride, dilation, pad in zip(
                seen, size, strides, dilations, pads
            )
        )
        return vertical, horizontal

    def _through_part(self, node: Any, seen: tuple[Axis, Axis]) -> tuple[Axis, Axis] | None:
        """Do so for a `Slice` or a `Pad` with constants, of which identity shortcuts consist."""
        firsts, steps = [0] * 4, [1] * 4
        if node.op == "Pad":
            pads = self._constant(node, 1)
            if (
                pads is None
                or len(pads) != 8
                or node.attributes.get("mode", "constant") != "constant"
            ):
                return None
            firsts = [-int(pad) for pad in pads[:4]]
        else:
            starts, axes, jumps = (self._constant(node, place) for place in (1, 3, 4))
            if starts is None or axes is None or min(starts) < 0:
                return None
            for i, axis in enumerate(axes):
                firsts[axis], steps[axis] = int(starts[i]), 1 if jumps is None else int(jumps[i])
            if min(steps) < 1:
                return None
        vertical, horizontal = (
            ((covered - 1) * step + 1, apart * step, first * step + start)
            for (covered, apart, first), step, start in zip(seen, steps[2:], firsts[2:])
        )
        return vertical, horizontal


def _union(a: tuple[Axis, Axis], b: tuple[Axis, Axis]) -> tuple[Axis, Axis] | None:
    axes = []
    for (size_a, stride_a, first_a), (size_b, stride_b, first_b) in zip(a, b):
        if stride_a != stride_b:
            return None
        first = min(first_a, first_b)
        axes.append((max(first_a + size_a, first_b + size_b) - first, stride_a, first))
    return axes[0], axes[1]
