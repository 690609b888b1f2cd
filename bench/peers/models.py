"""Single layers as ONNX models, for the libraries that run those."""

from typing import Any

import onnx

from bench.cases import Array, Case


def max_pool(case: Case, outputs: list[str]) -> bytes:
    k, s, p = case.window
    node = onnx.helper.make_node(
        "MaxPool", ["image"], outputs, kernel_shape=[k, k], strides=[s, s], pads=[p] * 4
    )
    return _model(case, node, {})


def convolution(case: Case) -> bytes:
    k, s, p = case.window
    node = onnx.helper.make_node(
        "Conv",
        ["image", "weight", "bias"],
        ["output"],
        kernel_shape=[k, k],
        strides=[s, s],
        pads=[p] * 4,
        group=case.workload.groups,
    )
    return _model(case, node, {"weight": case.weight, "bias": case.bias})


def _model(case: Case, node: Any, constants: dict[str, Array]) -> bytes:
    helper, types = onnx.helper, onnx.TensorProto
    image = helper.make_tensor_value_info("image", types.FLOAT, case.workload.image_shape)
    results = [
        helper.make_tensor_value_info(
            name, types.INT64 if name == "indices" else types.FLOAT, case.workload.output_shape
        )
        for name in node.output
    ]
    initializers = [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph([node], "benchmark", [image], results, initializers)
    opset = helper.make_opsetid("", 12)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=8)
    return bytes(model.SerializeToString())
