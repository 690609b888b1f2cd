"""The nine networks that the onnx package carries, whose weights are constants to keep it small."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

FOLDER = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


def with_random_weights(model: Any) -> bytes:
    """Give a network random weights, of a size that keeps activations in range.

    Its own are results of ConstantOfShape. Scores are wanted, as a softmax would hide errors.
    """
    graph, rng = model.graph, np.random.default_rng(0)
    shapes = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    users: dict[str, Any] = {}
    for node in graph.node:
        for place, name in enumerate(node.input):
            users.setdefault(name, (node, place))
    nodes, made = [], []
    for node in graph.node:
        if node.op_type != "ConstantOfShape":
            nodes.append(node)
            continue
        (name,), shape = node.output, tuple(shapes[node.input[0]])
        user, place = users[name]
        array = rng.standard_normal(shape) * 0.1
        if len(shape) > 1:
            fan = np.prod(shape[1:]) if user.op_type == "Conv" else max(shape)
            array *= 10 * np.sqrt(2 / fan)
        elif user.op_type == "BatchNormalization" and place in (1, 4):
            array = rng.uniform(0.5, 1.5, shape)
        made.append(numpy_helper.from_array(array.astype(np.float32), name))
    last = nodes[-1]
    if last.op_type == "Softmax":
        nodes.pop()
        graph.output[0].name = last.input[0]
        graph.output[0].type.tensor_type.ClearField("shape")
    names = {tensor.name for tensor in graph.initializer}
    used = {name for node in nodes for name in node.input}
    inputs = [value for value in graph.input if value.name not in names and value.name in used]
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    for field, values in (("node", nodes), ("initializer", kept + made), ("input", inputs)):
        graph.ClearField(field)
        getattr(graph, field).extend(values)
    model.ir_version = 8
    data: bytes = model.SerializeToString()
    return data
