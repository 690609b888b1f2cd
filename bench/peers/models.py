"""Single layers as ONNX models, for the libraries that run those."""

import onnx

from bench.cases import Array, Case


def max_pool(case: Case, outputs: list[str]) -> bytes:
    return _model(case, "MaxPool", {}, outputs)


def convolution(case: Case) -> bytes:
    constants = {"weight": case.weight, "bias": case.bias}
    return _model(case, "Conv", constants, ["output"], group=case.groups)


def _model(
    case: Case, kind: str, constants: dict[str, Array], outputs: list[str], **settings: int
) -> bytes:
    helper, types = onnx.helper, onnx.TensorProto
    window = {"kernel_shape": [case.k] * 2, "strides": [case.s] * 2, "pads": [case.p] * 4}
    node = helper.make_node(kind, ["image", *constants], outputs, **window, **settings)
    image = helper.make_tensor_value_info("image", types.FLOAT, case.shape)
    kinds = [types.INT64 if name == "indices" else types.FLOAT for name in outputs]
    results = [
        helper.make_tensor_value_info(name, number, case.workload.output_shape)
        for name, number in zip(outputs, kinds, strict=True)
    ]
    initializers = [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph([node], "benchmark", [image], results, initializers)
    opset = helper.make_opsetid("", 12)
    return bytes(helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString())
