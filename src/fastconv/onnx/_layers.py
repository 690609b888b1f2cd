"""How layers become nodes: the table of what each layer is written as."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from fastconv._arguments import pair, per_axis, positive, steps
from fastconv._arrays import Array, Shape
from fastconv._errors import argument_error, reason
from fastconv._layer import is_chain, shape_behind, spread
from fastconv._structure import named_children
from fastconv._window import Sides, Sizes, Window
from fastconv.layers import (
    Affine,
    AveragePooling,
    AveragePooling1D,
    BatchNormalization,
    ChannelShuffle,
    Concatenation,
    Convolution,
    Convolution1D,
    Dropout,
    Flatten,
    GlobalAveragePooling,
    HardSigmoid,
    HardSwish,
    IdentityShortcut,
    LeakyRelu,
    LocalResponseNormalization,
    Pooling,
    Pooling1D,
    Relu,
    Relu6,
    Residual,
    Sigmoid,
    SiLU,
)
from fastconv.onnx._writer import NodeToWrite

INTEGERS = np.dtype(np.int64)
"""What operators take shapes, axes and positions in."""


class Value(NamedTuple):
    """What a node computes: its name, and its shape without the batch."""

    name: str
    shape: Shape


class GraphToWrite:
    """Nodes and constants of a network, in the order in which its layers compute.

    A node is called by the path of its layer, and its result by the node. Of several nodes of one
    layer the last has the layer's path alone, and the others append what they do. What a residual
    connection gives has its path, though the node that computes it may be its activation.

    Parameters
    ----------
    dtype : dtype
        What is computed with, which all parameters are converted to.

    Attributes
    ----------
    writers : mapping
        What appends each layer that holds no others, by its class.
    nodes : list of NodeToWrite
        The operators.
    constants : dict of str to ndarray
        Parameters, shapes and bounds, by the paths of their layers and their names there.
    """

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.dtype = np.dtype(dtype.char)  # In native byte order, whichever the network's is.
        self.writers = LAYERS
        self.nodes: list[NodeToWrite] = []
        self.constants: dict[str, Array] = {}

    def add(self, op: str, name: str, *inputs: str, **attributes: Any) -> str:
        """Append a node, and return the name of its result, which is that of the node."""
        self.nodes.append(NodeToWrite(op, inputs, [name], attributes, name))
        return name

    def constant(self, name: str, value: npt.ArrayLike, dtype: np.dtype[Any] | None = None) -> str:
        """Append a constant, and return its name."""
        self.constants[name] = np.asarray(value, self.dtype if dtype is None else dtype)
        return name

    def integers(self, name: str, *values: int) -> str:
        """Append a list of integers, and return its name."""
        return self.constant(name, values, INTEGERS)

    def call(self, value: str, name: str, path: str) -> str:
        """Give the newest result of a graph another name; nobody has read it yet.

        What is no such result, because a layer passes its input on, becomes one by a node.
        """
        last = self.nodes[-1] if self.nodes else None
        if last is None or list(last.outputs) != [value]:
            self.add("Identity", path, value)
        self.nodes[-1] = self.nodes[-1]._replace(outputs=[name])
        return name

    def chain(self, layer: Any, x: Value, path: str) -> Value:
        """Append the layers that a chain holds."""
        for name, child in named_children(layer):
            x = self.layer(child, x, f"{path}.{name}".lstrip("."))
        return x

    def layer(self, layer: Any, x: Value, path: str) -> Value:
        """Append a layer.

        Raises
        ------
        NotImplementedError
            If the layer is none of this library. Of a subclass nobody knows what it has changed.
        TypeError, ValueError
            If the layer does not take what comes to it.
        """
        kind = type(layer)
        changed = not getattr(layer, "__dict__", {}).keys().isdisjoint(("forward", "predict"))
        if not changed and is_chain(layer):
            return self.chain(layer, x, path)
        write = self.writers.get(kind)
        if changed or (write is None and kind not in CONTAINERS):
            raise argument_error(
                NotImplementedError,
                f"{path} cannot be exported: there is no operator for "
                f"{'a forward of its own of ' if changed else ''}the class {kind.__name__}",
            )
        if write is None:
            return CONTAINERS[kind](self, layer, x, path)
        try:  # On a copy, as a try of the layer itself would replace what `backward` needs.
            shape = shape_behind(copy(layer), x.shape, self.dtype)
            return Value(write(self, layer, x, path), shape)
        except (TypeError, ValueError) as error:
            message = f"{path} cannot be exported for inputs of shape {x.shape}: {reason(error)}"
            raise argument_error(type(error), message) from error


Write: TypeAlias = Callable[[GraphToWrite, Any, Value, str], str]
"""What appends a layer and returns the name of its result."""


# ---- layers with weights -----------------------------------------------------------------------


def _weights(to: GraphToWrite, layer: Any, path: str, axis: int) -> list[str]:
    """Append `W` and, if the layer has it, `b`: a number for each output, along an axis of `W`."""
    names = [to.constant(f"{path}.W", layer.W)]
    bias = spread(layer.b, layer.W, axis)
    if bias is not None:
        names.append(to.constant(f"{path}.b", bias))
    return names


def _convolution(to: GraphToWrite, layer: Any, x: Value, path: str) -> str:
    kernel = np.shape(layer.W)[2:]
    sides, window = _window(layer, kernel, x, layer.dilation, layer.pad_mode)
    source = x.name
    if layer.pad_mode == "constant":
        window["pads"] = _listed(sides)
    else:
        source = _padded(to, x, path, sides, layer.pad_mode)
    weights = _weights(to, layer, path, axis=0)
    return to.add("Conv", path, source, *weights, group=positive(layer.groups, "groups"), **window)


def _padded(to: GraphToWrite, x: Value, path: str, sides: Sides, mode: str) -> str:
    """Append padding that shows pixels.

    `Pad` knows two of the modes, and reflects only once. Everything else is picked by the
    positions of pixels, one axis after the other.
    """
    sizes = x.shape[1:]
    if not any(map(any, sides)):
        return x.name
    reflects_once = all(max(side) < size for side, size in zip(sides, sizes))
    if mode == "edge" or (mode == "reflect" and reflects_once):
        pads = to.integers(f"{path}.pads", *_listed(((0, 0), (0, 0), *sides)))
        return to.add("Pad", f"{path}.Pad", x.name, pads, mode=mode)
    name = x.name
    for axis, (size, side, which) in enumerate(zip(sizes, sides, "HW" if sizes[1:] else "L"), 2):
        positions: Array = np.pad(np.arange(size), side, mode=mode)  # type: ignore[call-overload]
        picked = to.constant(f"{path}.pixels_{which}", positions, INTEGERS)
        name = to.add("Gather", f"{path}.Pad_{which}", name, picked, axis=axis)
    return name


def _affine(to: GraphToWrite, layer: Affine, x: Value, path: str) -> str:
    rows = x.name if len(x.shape) == 1 else to.add("Flatten", f"{path}.Flatten", x.name)
    return to.add("Gemm", path, rows, *_weights(to, layer, path, axis=1))


# ---- windows -----------------------------------------------------------------------------------


def _window(
    layer: Any, kernel: Sizes, x: Value, dilation: Any = 1, pad_mode: str = "constant"
) -> tuple[Sides, dict[str, Any]]:
    """Return the padding of a layer's window in pixels, and its other attributes."""
    axes = len(kernel)
    stride, pad, gaps = steps(layer.stride, layer.pad, dilation, "pad", axes)
    packed = Window(x.shape[1:], kernel, stride, gaps, pad, pad_mode).packed
    sides = tuple((int(before), int(behind)) for before, behind in packed[-axes:, 5:7])
    window: dict[str, Any] = {"kernel_shape": kernel, "strides": stride}
    if set(gaps) != {1}:
        window["dilations"] = gaps
    return sides, window


def _listed(sides: Sides) -> tuple[int, ...]:
    """Write padding in the order of ONNX: before every axis, then behind every axis."""
    return (*(before for before, _ in sides), *(behind for _, behind in sides))


def _pooling(op: str, **attributes: int) -> Write:
    def write(to: GraphToWrite, layer: Any, x: Value, path: str) -> str:
        kernel = per_axis(layer.kernel_size, "kernel_size", len(x.shape) - 1)
        sides, window = _window(layer, kernel, x)
        return to.add(op, path, x.name, pads=_listed(sides), **window, **attributes)

    return write


def _global_average(to: GraphToWrite, layer: Any, x: Value, path: str) -> str:
    means = to.add("GlobalAveragePool", f"{path}.GlobalAveragePool", x.name)
    return to.add("Flatten", path, means)


# ---- normalisation -----------------------------------------------------------------------------


def _batch_normalization(to: GraphToWrite, layer: BatchNormalization, x: Value, path: str) -> str:
    """Append the operator for channels, or for all numbers of an image as if they were channels.

    Without running statistics, as before the first training, they are zeros. They have a dtype of
    their own, because the variance of numbers that float16 holds may be beyond it.
    """
    names = [to.constant(f"{path}.{name}", getattr(layer, name)) for name in ("gamma", "beta")]
    wide = np.result_type(to.dtype, np.float32)
    for name in ("running_mean", "running_var"):
        running = getattr(layer, name)
        array = np.zeros(np.size(layer.gamma)) if running is None else running
        names.append(to.constant(f"{path}.{name}", array, wide))
    epsilon = float(layer.eps)
    if np.size(layer.gamma) == x.shape[0]:
        return to.add("BatchNormalization", path, x.name, *names, epsilon=epsilon)
    rows = to.add("Flatten", f"{path}.Flatten", x.name)
    name = f"{path}.BatchNormalization"
    normalized = to.add("BatchNormalization", name, rows, *names, epsilon=epsilon)
    return to.add("Reshape", path, normalized, to.integers(f"{path}.shape", 0, *x.shape))


def _local_response(
    to: GraphToWrite, layer: LocalResponseNormalization, x: Value, path: str
) -> str:
    """Append the operator or, for an even number of channels, what it means.

    Of an even number the operator has one more behind the channel than before it, while the layer
    has one more before it.
    """
    size = positive(layer.size, "size")
    if size % 2 == 0:
        return local_response_in_parts(to, layer, x, path)
    alpha, beta, k = float(layer.alpha), float(layer.beta), float(layer.k)
    return to.add("LRN", path, x.name, size=size, alpha=alpha, beta=beta, bias=k)


def local_response_in_parts(
    to: GraphToWrite, layer: LocalResponseNormalization, x: Value, path: str
) -> str:
    """Append the formula of the layer."""
    size = positive(layer.size, "size")
    axis = to.integers(f"{path}.axis", 1)
    squares = to.add("Mul", f"{path}.Squares", x.name, x.name)
    planes = to.add("Unsqueeze", f"{path}.Unsqueeze", squares, axis)
    pads = (size // 2, 0, 0, (size - 1) // 2, 0, 0)
    window = {"kernel_shape": (size, 1, 1), "pads": pads, "count_include_pad": 1}
    means = to.add("AveragePool", f"{path}.AveragePool", planes, **window)
    means = to.add("Squeeze", f"{path}.Squeeze", means, axis)
    scaled = to.add("Mul", f"{path}.Mul", means, to.constant(f"{path}.alpha", layer.alpha))
    base = to.add("Add", f"{path}.Add", scaled, to.constant(f"{path}.k", layer.k))
    divisor = to.add("Pow", f"{path}.Pow", base, to.constant(f"{path}.beta", layer.beta))
    return to.add("Div", path, x.name, divisor)


# ---- activations and dropout -------------------------------------------------------------------


def _simple(op: str) -> Write:
    """Append an operator that needs nothing but its input."""
    return lambda to, layer, x, path: to.add(op, path, x.name)


def _leaky_relu(to: GraphToWrite, layer: LeakyRelu, x: Value, path: str) -> str:
    return to.add("LeakyRelu", path, x.name, alpha=float(layer.slope))


def _relu6(to: GraphToWrite, layer: Relu6, x: Value, path: str) -> str:
    bounds = to.constant(f"{path}.min", 0.0), to.constant(f"{path}.max", 6.0)
    return to.add("Clip", path, x.name, *bounds)


def _hard_sigmoid(to: GraphToWrite, layer: HardSigmoid, x: Value, path: str) -> str:
    return to.add("HardSigmoid", path, x.name, alpha=float(layer.slope), beta=0.5)


def _silu(to: GraphToWrite, layer: SiLU, x: Value, path: str) -> str:
    return to.add("Mul", path, x.name, to.add("Sigmoid", f"{path}.Sigmoid", x.name))


def _dropout(to: GraphToWrite, layer: Dropout, x: Value, path: str) -> str:
    """Append what the layer does when it is not in training: nothing, or a product."""
    if layer.inverted or not layer.dropout_ratio:
        return x.name
    return to.add("Mul", path, x.name, to.constant(f"{path}.kept", 1.0 - layer.dropout_ratio))


# ---- layers that move numbers ------------------------------------------------------------------


def _channel_shuffle(to: GraphToWrite, layer: ChannelShuffle, x: Value, path: str) -> str:
    channels, *sizes = x.shape
    groups = positive(layer.groups, "groups")
    split = to.integers(f"{path}.groups", 0, groups, channels // groups, *sizes)
    apart = to.add("Reshape", f"{path}.Reshape", x.name, split)
    order = (0, 2, 1, *range(3, 3 + len(sizes)))
    turned = to.add("Transpose", f"{path}.Transpose", apart, perm=order)
    return to.add("Reshape", path, turned, to.integers(f"{path}.shape", 0, *x.shape))


def _identity_shortcut(to: GraphToWrite, layer: IdentityShortcut, x: Value, path: str) -> str:
    channels, *sizes = x.shape
    stride = pair(layer.stride, "stride")
    added = positive(layer.channels, "channels") - channels
    kept = x.name
    if stride != (1, 1):
        lists = {"starts": (0, 0), "ends": sizes, "axes": (2, 3), "steps": stride}
        names = [to.integers(f"{path}.{name}", *values) for name, values in lists.items()]
        kept = to.add("Slice", f"{path}.Slice" if added else path, kept, *names)
    if added:
        pads = to.integers(f"{path}.pads", 0, 0, 0, 0, 0, added, 0, 0)
        kept = to.add("Pad", path, kept, pads)
    return kept


# ---- layers that hold layers -------------------------------------------------------------------


def _residual(to: GraphToWrite, layer: Residual, x: Value, path: str) -> Value:
    names = [f"{path}.{name}" for name, _ in named_children(layer)]
    body = to.layer(layer.body, x, names.pop(0))
    added = x if layer.shortcut is None else to.layer(layer.shortcut, x, names.pop(0))
    if body.shape != added.shape:
        raise argument_error(
            ValueError,
            f"{path} cannot be exported: body and shortcut must give one shape, got {body.shape} "
            f"and {added.shape}",
        )
    total = Value(to.add("Add", f"{path}.Add", body.name, added.name), body.shape)
    if layer.activation is not None:
        total = to.layer(layer.activation, total, names.pop(0))
    return total._replace(name=to.call(total.name, path, path))


def _concatenation(to: GraphToWrite, layer: Concatenation, x: Value, path: str) -> Value:
    ways = [to.layer(child, x, f"{path}.{name}") for name, child in named_children(layer)]
    sizes = {way.shape[1:] for way in ways}
    if len(sizes) > 1:
        shapes = ", ".join(str(way.shape) for way in ways)
        message = f"{path} cannot be exported: branches must give images of one size, got {shapes}"
        raise argument_error(ValueError, message)
    name = to.add("Concat", path, *(way.name for way in ways), axis=1)
    return Value(name, (sum(way.shape[0] for way in ways), *sizes.pop()))


CONTAINERS: dict[type, Callable[[GraphToWrite, Any, Value, str], Value]] = {
    Concatenation: _concatenation,
    Residual: _residual,
}
"""What appends layers that hold layers, beside chains."""

LAYERS: dict[type, Write] = {
    Affine: _affine,
    AveragePooling: _pooling("AveragePool", count_include_pad=1),
    AveragePooling1D: _pooling("AveragePool", count_include_pad=1),
    BatchNormalization: _batch_normalization,
    ChannelShuffle: _channel_shuffle,
    Convolution: _convolution,
    Convolution1D: _convolution,
    Dropout: _dropout,
    Flatten: _simple("Flatten"),
    GlobalAveragePooling: _global_average,
    HardSigmoid: _hard_sigmoid,
    HardSwish: _simple("HardSwish"),
    IdentityShortcut: _identity_shortcut,
    LeakyRelu: _leaky_relu,
    LocalResponseNormalization: _local_response,
    Pooling: _pooling("MaxPool"),
    Pooling1D: _pooling("MaxPool"),
    Relu: _simple("Relu"),
    Relu6: _relu6,
    Sigmoid: _simple("Sigmoid"),
    SiLU: _silu,
}
"""What appends the other layers, each of exactly this class."""
