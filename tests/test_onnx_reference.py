"""Our operators in the reference evaluator of the onnx package: they change its times alone."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import numpy as np
import pytest
from helpers import Array, run_python

import fastconv
from fastconv.onnx import InferenceSession, _table, reference_ops
from fastconv.onnx._reference import FASTER
from fastconv.onnx._table import OPERATORS

LEAST_CASES = 150
"""How many cases of these operators there are in the oldest version that was tried."""
OTHERS = ["densenet121", "inception_v1", "inception_v2", "resnet50", "shufflenet"]
COMPUTED_OTHERWISE = {"BatchNormalization", "LRN"}
"""Operators that the package does not compute as they are defined.

Before opset 14 it normalises with the batch's own mean and variance, and of local responses it sums
for as many channels as there are images.
"""


def needs_onnx() -> Any:
    return pytest.importorskip("onnx", reason="onnx is not installed")


def evaluators(model: Any) -> tuple[Any, Any]:
    """Return evaluators with the package's operators, and with ours."""
    from onnx.reference import ReferenceEvaluator

    return ReferenceEvaluator(model), ReferenceEvaluator(model, new_ops=reference_ops())


def one_node(
    op: str,
    inputs: dict[str, Array | None],
    opset: int = 21,
    outputs: tuple[str, ...] = ("y",),
    **attributes: Any,
) -> Any:
    """Make a model of one operator, whose inputs may be left out."""
    onnx = needs_onnx()
    helper = onnx.helper
    described = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), None)
        for name, array in inputs.items()
        if array is not None
    ]
    names = [name if array is not None else "" for name, array in inputs.items()]
    node = helper.make_node(op, names, outputs, **attributes)
    results = [helper.make_tensor_value_info(name, 1, None) for name in outputs]
    graph = helper.make_graph([node], "graph", described, results)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def normal(*shape: int, dtype: str = "f4") -> Array:
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


def test_all_node_cases() -> None:
    """The cases by which ONNX defines these operators, with every dtype that there is."""
    onnx = needs_onnx()
    from onnx.reference import ReferenceEvaluator
    from test_onnx_backend import cases

    def array_of(value: Any) -> Array:
        array = onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value
        return np.asarray(array)

    operators, failures, count = reference_ops(), [], Counter[str]()
    for case in cases():
        kinds = {node.op_type for node in case.model.graph.node}.intersection(FASTER)
        if not kinds or "_expanded" in case.name:
            continue
        count.update(kinds)
        evaluator = ReferenceEvaluator(case.model, new_ops=operators)
        names = [value.name for value in case.model.graph.input]
        for given, wanted in case.data_sets:
            with np.errstate(all="ignore"):  # The package's own operators warn of infinities.
                results = evaluator.run(None, dict(zip(names, map(array_of, given))))
            for found, expected in zip(results, map(array_of, wanted), strict=True):
                rtol = max(case.rtol, 1e-2 if expected.dtype.itemsize == 2 else 0)
                a, b = (np.asarray(array, np.float64) for array in (found, expected))
                if found.dtype != expected.dtype or not np.allclose(a, b, rtol, case.atol):
                    failures.append(case.name)
    assert failures == []
    assert count.total() >= LEAST_CASES
    assert set(FASTER) <= set(count)


def test_operators_are_in_the_table() -> None:
    assert set(FASTER) <= set(OPERATORS)
    assert len(set(FASTER)) == len(FASTER)


def test_kernels_compute() -> None:
    x, w, b = normal(2, 3, 9, 8), normal(4, 3, 3, 3), normal(4)
    model = one_node("Conv", {"x": x, "w": w, "b": b}, pads=[1, 1, 1, 1], strides=[2, 1])
    theirs, ours = (
        evaluator.run(None, {"x": x, "w": w, "b": b})[0] for evaluator in evaluators(model)
    )
    np.testing.assert_array_equal(ours, fastconv.conv2d(x, w, b, (2, 1), 1))
    np.testing.assert_allclose(ours, theirs, 1e-5, 1e-5)


def test_versions_of_operators_are_those_of_the_model() -> None:
    """Softmax took all axes from its own on as one, before opset 13."""
    x = normal(2, 3, 4)
    old, new = (
        evaluators(one_node("Softmax", {"x": x}, opset, axis=1))[1].run(None, {"x": x})[0]
        for opset in (11, 13)
    )
    np.testing.assert_allclose(old.sum(axis=(1, 2)), 1, 1e-5)
    np.testing.assert_allclose(new.sum(axis=1), 1, 1e-5)


def test_outputs_and_inputs_that_are_left_out() -> None:
    x = normal(1, 2, 6, 6)
    pool = one_node("MaxPool", {"x": x}, outputs=("y", "where"), kernel_shape=[2, 2])
    largest, where = evaluators(pool)[1].run(None, {"x": x})
    np.testing.assert_array_equal(x.ravel()[where], largest)
    feeds: dict[str, Array | None] = {"x": x, "roi": None, "scales": np.array([1, 1, 2, 3], "f4")}
    given = {name: array for name, array in feeds.items() if array is not None}
    resize = one_node("Resize", feeds, mode="linear")
    theirs, ours = (evaluator.run(None, given)[0] for evaluator in evaluators(resize))
    np.testing.assert_allclose(ours, theirs, 1e-5, 1e-6)


@pytest.mark.parametrize("op", ["Relu", "HardSwish"])
def test_other_dtypes_are_left_to_the_package(op: str) -> None:
    needs_onnx()
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
    x = normal(2, 3).astype(ml_dtypes.bfloat16)
    for _ in range(2):
        theirs, ours = (
            evaluator.run(None, {"x": x})[0] for evaluator in evaluators(one_node(op, {"x": x}))
        )
        assert ours.dtype == x.dtype
        np.testing.assert_array_equal(ours, theirs)


def test_other_versions_are_left_to_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_table, "NEWEST_OPSET", 20)
    x, w = normal(1, 2, 5, 5), normal(3, 2, 3, 3)
    model = one_node("Conv", {"x": x, "w": w}, strides=[2, 2])
    theirs, ours = evaluators(model)
    expected, found = (each.run(None, {"x": x, "w": w})[0] for each in (theirs, ours))
    np.testing.assert_allclose(found, expected, 1e-5, 1e-5)
    (node,) = ours.rt_nodes_
    assert type(node._other) is type(theirs.rt_nodes_[0])


def test_attributes_that_a_function_hands_on() -> None:
    onnx = needs_onnx()
    helper, x = onnx.helper, normal(3, 3)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("own", 1)]
    inner = helper.make_node("Gemm", ["x", "x"], ["y"], transB=1)
    inner.attribute.append(onnx.AttributeProto(name="alpha", ref_attr_name="scale", type=1))
    function = helper.make_function("own", "Product", ["x"], ["y"], [inner], opsets, ["scale"])
    nodes = [
        helper.make_node("Product", ["x"], ["middle"], domain="own", scale=0.5),
        helper.make_node("Product", ["middle"], ["y"], domain="own", scale=0.25),
    ]
    described = [helper.make_tensor_value_info(name, 1, [3, 3]) for name in "xy"]
    graph = helper.make_graph(nodes, "graph", described[:1], described[1:])
    model = helper.make_model(graph, opset_imports=opsets, functions=[function])
    middle = 0.5 * x @ x.T
    for evaluator in evaluators(model):
        (found,) = evaluator.run(None, {"x": x})
        np.testing.assert_allclose(found, 0.25 * middle @ middle.T, 1e-5, 1e-6)


def test_errors_name_the_node() -> None:
    x, w = normal(1, 3, 5, 5), normal(4, 2, 3, 3)
    model = one_node("Conv", {"x": x, "w": w})
    model.graph.node[0].name = "conv1"
    with pytest.raises(ValueError, match=r"^node 'conv1' \(Conv\): conv2d: input has"):
        evaluators(model)[1].run(None, {"x": x, "w": w})


@pytest.mark.parametrize(
    "name",
    ["squeezenet", *(pytest.param(name, marks=pytest.mark.exhaustive) for name in OTHERS)],
)
def test_light_networks(name: str) -> None:
    """The networks of the onnx package, with weights that are drawn."""
    onnx = needs_onnx()
    folder = os.path.join(os.path.dirname(onnx.__file__), "backend", "test", "data", "light")
    model = onnx.load(os.path.join(folder, f"light_{name}.onnx"))
    draw_weights(model)
    constants = {tensor.name for tensor in model.graph.initializer}
    (value,) = (value for value in model.graph.input if value.name not in constants)
    x = normal(*(dim.dim_value for dim in value.type.tensor_type.shape.dim))
    theirs, ours = evaluators(model)
    expected = InferenceSession(model.SerializeToString()).run(None, {value.name: x})[0]
    if COMPUTED_OTHERWISE.isdisjoint(node.op_type for node in model.graph.node):
        expected = theirs.run(None, {value.name: x})[0]
    found = ours.run(None, {value.name: x})[0]
    np.testing.assert_allclose(found, expected, 0, 2e-5 * np.abs(expected).max())


def draw_weights(model: Any) -> None:
    """Put random weights in the place of constants, and take the last softmax away."""
    onnx = needs_onnx()
    rng, graph = np.random.default_rng(0), model.graph
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    users = {name: node for node in graph.node for name in node.input}
    nodes = []
    for node in graph.node:
        if node.op_type != "ConstantOfShape":
            nodes.append(node)
            continue
        (name,), shape = node.output, tuple(constants[node.input[0]])
        array = rng.uniform(0.5, 1.5, shape)
        if len(shape) > 1:
            terms = np.prod(shape[1:]) if users[name].op_type == "Conv" else max(shape)
            array = rng.standard_normal(shape) * np.sqrt(2 / terms)
        graph.initializer.append(onnx.numpy_helper.from_array(array.astype(np.float32), name))
    if nodes[-1].op_type == "Softmax":
        graph.output[0].name = nodes.pop().input[0]
    graph.ClearField("node")
    graph.node.extend(nodes)


def test_without_the_package() -> None:
    result = run_python(
        "import sys\n"
        "sys.modules['onnx'] = None\n"
        "import fastconv.onnx\n"
        "assert 'fastconv.onnx._reference' not in sys.modules\n"
        "try:\n"
        "    fastconv.onnx.reference_ops()\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == "reference_ops: this needs the onnx package: pip install onnx\n"
