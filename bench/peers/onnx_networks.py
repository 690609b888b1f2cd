"""Our networks, in use, as ONNX models of any batch, whose operators do what our layers do."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx

from bench.cases import Array
from bench.networks import pads_of
from fastconv import layers, models
from fastconv._arguments import pair
from fastconv._layer import Layer, is_chain, shape_behind

Shape = tuple[int, ...]

OPSET, IR_VERSION = 17, 8
INPUT, OUTPUT = "images", "scores"


def model(net: models.Sequential) -> bytes:
    """Give the network as the bytes of a file."""
    writer = _Writer(net.dtype)
    writer.add("Identity", writer.layer(net, INPUT, net.input_dim), output=OUTPUT)
    helper = onnx.helper
    kind = helper.np_dtype_to_tensor_dtype(net.dtype)
    source = helper.make_tensor_value_info(INPUT, kind, ("N", *net.input_dim))
    scores = helper.make_tensor_value_info(OUTPUT, kind, ("N", *net.output_dim))
    graph = helper.make_graph(writer.nodes, "network", [source], [scores], writer.constants)
    opset = helper.make_opsetid("", OPSET)
    made = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)
    return bytes(made.SerializeToString())


class _Writer:
    """Collects nodes and constants; what is computed is known by name."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, kind: str, *inputs: str, output: str = "", **settings: Any) -> str:
        """Add a node, and give the name of its result."""
        name = output or f"{kind}{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(kind, inputs, [name], **settings))
        return name

    def constant(self, array: Any, dtype: Any = None) -> str:
        name = f"constant{len(self.constants)}"
        values = np.ascontiguousarray(array, dtype or self.dtype)
        self.constants.append(onnx.numpy_helper.from_array(values, name))
        return name

    def integers(self, *values: int) -> str:
        return self.constant(values, np.int64)

    def layer(self, layer: Layer, x: str, shape: Shape) -> str:
        """Add what a layer computes of inputs of this shape, without the batch."""
        if is_chain(layer):
            for child in layer.children:  # type: ignore[attr-defined]
                x, shape = self.layer(child, x, shape), shape_behind(child, shape, self.dtype)
            return x
        if type(layer) not in LAYERS:
            raise TypeError(f"there is no operator for a layer {type(layer).__name__}")
        return LAYERS[type(layer)](self, layer, x, shape)


def _window(layer: Any, kernel: Shape, shape: Shape) -> dict[str, Any]:
    pads = pads_of(layer, kernel, shape)
    return {
        "kernel_shape": list(kernel),
        "strides": pair(layer.stride, "stride"),
        "pads": [*(before for before, _ in pads), *(behind for _, behind in pads)],
    }


def _bias(to: _Writer, layer: Any) -> list[str]:
    return [] if layer.b is None else [to.constant(layer.b)]


def _convolution(to: _Writer, layer: Any, x: str, shape: Shape) -> str:
    if layer.pad_mode != "constant":
        raise TypeError(f"there is no operator for a convolution with pad_mode={layer.pad_mode!r}")
    settings = _window(layer, layer.W.shape[2:], shape)
    dilations = pair(layer.dilation, "dilation")
    inputs = x, to.constant(layer.W), *_bias(to, layer)
    return to.add("Conv", *inputs, group=layer.groups, dilations=dilations, **settings)


def _affine(to: _Writer, layer: Any, x: str, shape: Shape) -> str:
    flat = to.add("Flatten", x) if len(shape) > 1 else x
    return to.add("Gemm", flat, to.constant(layer.W), *_bias(to, layer))


def _batch_normalization(to: _Writer, layer: Any, x: str, shape: Shape) -> str:
    arrays: tuple[Array, ...] = layer.gamma, layer.beta, layer.running_mean, layer.running_var
    return to.add("BatchNormalization", x, *map(to.constant, arrays), epsilon=layer.eps)


def _local_response(to: _Writer, layer: Any, x: str, shape: Shape) -> str:
    """Write the formula instead of the operator LRN, which onnxruntime computes more slowly.

    On 2 threads it took 259 ms for GoogLeNet on 16 images with the operator, 224 with what
    PyTorch's exporter writes, and takes 170 with this.
    """
    before, behind = layer.size // 2, (layer.size - 1) // 2
    axis = to.integers(1)
    pads = [before, 0, 0, behind, 0, 0]
    squares = to.add("Unsqueeze", to.add("Mul", x, x), axis)
    size = [layer.size, 1, 1]
    means = to.add("AveragePool", squares, count_include_pad=1, kernel_shape=size, pads=pads)
    scaled = to.add("Mul", to.add("Squeeze", means, axis), to.constant(layer.alpha))
    base = to.add("Add", scaled, to.constant(layer.k))
    return to.add("Div", x, to.add("Pow", base, to.constant(layer.beta)))


def _pooling(to: _Writer, layer: Any, x: str, shape: Shape) -> str:
    return to.add("MaxPool", x, **_window(layer, (layer.pool_h, layer.pool_w), shape))


def _average_pooling(to: _Writer, layer: Any, x: str, shape: Shape) -> str:
    settings = _window(layer, (layer.pool_h, layer.pool_w), shape)
    return to.add("AveragePool", x, count_include_pad=1, **settings)


def _channel_shuffle(to: _Writer, layer: Any, x: str, shape: Shape) -> str:
    channels, *size = shape
    by_group = to.integers(0, layer.groups, channels // layer.groups, *size)
    order = [0, 2, 1, *range(3, 3 + len(size))]
    shuffled = to.add("Transpose", to.add("Reshape", x, by_group), perm=order)
    return to.add("Reshape", shuffled, to.integers(0, *shape))


def _identity_shortcut(to: _Writer, layer: Any, x: str, shape: Shape) -> str:
    starts, ends, axes = to.integers(0, 0), to.integers(*shape[1:]), to.integers(2, 3)
    kept = to.add("Slice", x, starts, ends, axes, to.integers(*pair(layer.stride, "stride")))
    return to.add("Pad", kept, to.integers(0, 0, 0, 0, 0, layer.channels - shape[0], 0, 0))


def _dropout(to: _Writer, layer: Any, x: str, shape: Shape) -> str:
    return x if layer.inverted else to.add("Mul", x, to.constant(1 - layer.dropout_ratio))


def _relu6(to: _Writer, layer: Any, x: str, shape: Shape) -> str:
    return to.add("Clip", x, to.constant(0.0), to.constant(6.0))


def _hard_sigmoid(to: _Writer, layer: Any, x: str, shape: Shape) -> str:
    return to.add("HardSigmoid", x, alpha=layer.slope, beta=0.5)


def _leaky_relu(to: _Writer, layer: Any, x: str, shape: Shape) -> str:
    return to.add("LeakyRelu", x, alpha=layer.slope)


def _residual(to: _Writer, layer: Any, x: str, shape: Shape) -> str:
    shortcut = x if layer.shortcut is None else to.layer(layer.shortcut, x, shape)
    total = to.add("Add", to.layer(layer.body, x, shape), shortcut)
    if layer.activation is None:
        return total
    return to.layer(layer.activation, total, shape_behind(layer.body, shape, to.dtype))


def _concatenation(to: _Writer, layer: Any, x: str, shape: Shape) -> str:
    return to.add("Concat", *(to.layer(child, x, shape) for child in layer.children), axis=1)


# What writes a layer; it gives the name of the result.
LAYERS: dict[type, Callable[[_Writer, Any, str, Shape], str]] = {
    layers.Convolution: _convolution,
    layers.Affine: _affine,
    layers.BatchNormalization: _batch_normalization,
    layers.LocalResponseNormalization: _local_response,
    layers.Pooling: _pooling,
    layers.AveragePooling: _average_pooling,
    layers.GlobalAveragePooling: lambda to, layer, x, shape: to.add(
        "Flatten", to.add("GlobalAveragePool", x)
    ),
    layers.Flatten: lambda to, layer, x, shape: to.add("Flatten", x),
    layers.ChannelShuffle: _channel_shuffle,
    layers.IdentityShortcut: _identity_shortcut,
    layers.Dropout: _dropout,
    layers.Relu: lambda to, layer, x, shape: to.add("Relu", x),
    layers.Relu6: _relu6,
    layers.LeakyRelu: _leaky_relu,
    layers.Sigmoid: lambda to, layer, x, shape: to.add("Sigmoid", x),
    layers.HardSigmoid: _hard_sigmoid,
    layers.HardSwish: lambda to, layer, x, shape: to.add("HardSwish", x),
    layers.SiLU: lambda to, layer, x, shape: to.add("Mul", x, to.add("Sigmoid", x)),
    layers.Residual: _residual,
    layers.Concatenation: _concatenation,
}
