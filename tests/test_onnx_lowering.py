"""Models that are prepared for the shape of their input: patterns, and whole networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import run_python

from fastconv.inference._graph import Graph
from fastconv.inference._operations import Activate, Convolve, Multiply
from fastconv.onnx import InferenceSession
from fastconv.onnx._writer import Described, NodeToWrite, model_bytes

Array = np.ndarray[Any, Any]
SHAPE = (2, 4, 9, 7)


def random(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


CONSTANTS = {
    "w": random(4, 4, 3, 3),
    "b": random(4, seed=1),
    "scale": np.abs(random(4, seed=2)) + 0.5,
    "shift": random(4, seed=3),
    "planes": random(4, 1, 1, seed=4),
    "zeros": np.zeros(4, np.float32),
    "three": np.array(3, np.float32),
    "six": np.array(6, np.float32),
    "zero": np.array(0, np.float32),
    "dense": random(5, 252, seed=5),
    "row": random(5, seed=6),
    "minus": np.array([-1, 252]),
    "infinite": np.array([1, np.inf, 2, 3], np.float32).reshape(4, 1, 1),
}
CONV = NodeToWrite("Conv", ["x", "w", "b"], ["conv"], {"pads": (1, 1, 1, 1)})


def session(nodes: list[NodeToWrite], output: str, optimize: bool = True) -> InferenceSession:
    x = Described("x", np.float32, ["N", 4, "H", "W"])
    y = Described(output, np.float32, None)
    return InferenceSession(model_bytes(nodes, [x], [y], CONSTANTS, 17), optimize=optimize)


def graph(prepared: InferenceSession, x: Array) -> Graph | None:
    assert prepared._specialized is not None
    return prepared._specialized.graph(x)


PATTERNS: dict[str, tuple[list[NodeToWrite], int]] = {
    "batch normalisation and relu": (
        [
            NodeToWrite("BatchNormalization", ["conv", "scale", "shift", "b", "scale"], ["n"]),
            NodeToWrite("Relu", ["n"], ["y"]),
        ],
        1,
    ),
    "numbers of channels": (
        [
            NodeToWrite("Mul", ["planes", "conv"], ["m"]),
            NodeToWrite("Add", ["m", "planes"], ["a"]),
            NodeToWrite("LeakyRelu", ["a"], ["y"], {"alpha": 0.2}),
        ],
        1,
    ),
    "a residual": (
        [NodeToWrite("Add", ["x", "conv"], ["a"]), NodeToWrite("Relu", ["a"], ["y"])],
        1,
    ),
    "relu6": ([NodeToWrite("Clip", ["conv", "zero", "six"], ["y"])], 1),
    "silu": (
        [NodeToWrite("Sigmoid", ["conv"], ["s"]), NodeToWrite("Mul", ["conv", "s"], ["y"])],
        1,
    ),
    "hardswish": (
        [
            NodeToWrite("HardSigmoid", ["conv"], ["s"], {"alpha": 1 / 6}),
            NodeToWrite("Mul", ["s", "conv"], ["y"]),
        ],
        1,
    ),
    "a gate that others read": (
        [
            NodeToWrite("Sigmoid", ["conv"], ["s"]),
            NodeToWrite("Mul", ["conv", "s"], ["m"]),
            NodeToWrite("Concat", ["m", "s"], ["y"], {"axis": 1}),
        ],
        4,
    ),
    "branches": (
        [
            NodeToWrite("Relu", ["x"], ["r"]),
            NodeToWrite("Concat", ["conv", "r", "x"], ["y"], {"axis": -3}),
        ],
        3,
    ),
    "pools": (
        [
            NodeToWrite("MaxPool", ["conv"], ["m"], {"kernel_shape": (3, 2), "ceil_mode": 1}),
            NodeToWrite(
                "AveragePool", ["m"], ["a"], {"kernel_shape": (2, 2), "pads": (0, 1, 1, 0)}
            ),
            NodeToWrite("GlobalAveragePool", ["a"], ["y"]),
        ],
        4,
    ),
    "shapes and products": (
        [
            NodeToWrite("Shape", ["conv"], ["shape"]),
            NodeToWrite("Slice", ["shape", "starts", "ends"], ["batch"]),
            NodeToWrite("Concat", ["batch", "rest"], ["wanted"], {"axis": 0}),
            NodeToWrite("Reshape", ["conv", "wanted"], ["flat"]),
            NodeToWrite("Gemm", ["flat", "dense", "row"], ["y"], {"transB": 1}),
        ],
        3,
    ),
    "an infinite scale": ([NodeToWrite("Mul", ["conv", "infinite"], ["y"])], 2),
    "channels that are shuffled": (
        [
            NodeToWrite("Reshape", ["conv", "groups"], ["g"]),
            NodeToWrite("Transpose", ["g"], ["t"], {"perm": (0, 2, 1, 3, 4)}),
            NodeToWrite("Reshape", ["t", "ungrouped"], ["y"]),
        ],
        4,
    ),
    "a dropout whose mask nobody reads": (
        [NodeToWrite("Dropout", ["conv"], ["d", "mask"]), NodeToWrite("Relu", ["d"], ["y"])],
        1,
    ),
}
CONSTANTS |= {
    "starts": np.array([0]),
    "ends": np.array([1]),
    "rest": np.array([-1]),
    "groups": np.array([0, 2, 2, 9, 7]),
    "ungrouped": np.array([0, 4, 9, 7]),
}


@pytest.mark.parametrize("name", PATTERNS)
def test_patterns_become_few_steps(name: str) -> None:
    nodes, steps = PATTERNS[name]
    nodes = [CONV, *nodes]
    x = random(*SHAPE, seed=9)
    prepared = session(nodes, "y")
    found = graph(prepared, x)
    assert found is not None
    assert len(list(found)) == steps
    (y,) = prepared.run(None, {"x": x})
    (expected,) = session(nodes, "y", optimize=False).run(None, {"x": x})
    assert y.dtype == expected.dtype
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "nodes",
    [
        [NodeToWrite("Reshape", ["x", "rest"], ["y"])],  # The result does not begin with the batch.
        [NodeToWrite("Identity", ["x"], ["y"])],
        [NodeToWrite("Identity", ["b"], ["y"])],
        [NodeToWrite("Cast", ["x"], ["y"], {"to": 11})],
    ],
    ids=["flat", "input", "constant", "dtypes"],
)
def test_other_models_run_operator_by_operator(nodes: list[NodeToWrite]) -> None:
    x = random(*SHAPE)
    prepared = session(nodes, "y")
    assert graph(prepared, x) is None
    plain = session(nodes, "y", optimize=False)
    np.testing.assert_array_equal(prepared.run(None, {"x": x})[0], plain.run(None, {"x": x})[0])


@pytest.mark.parametrize("op", ["Resize", "Upsample", "Range"])
def test_sizes_that_numbers_of_the_input_decide(op: str) -> None:
    image = random(4, 1, 3, 3)
    first, second = np.ones(4, np.float32), np.array([1, 1, 2, 3], np.float32)
    inputs = {"Resize": ["image", "", "x"], "Upsample": ["image", "x"]}.get(op, ["o", "x", "i"])
    if op == "Range":
        first, second = first[:1], second[-1:]
    data = model_bytes(
        [NodeToWrite(op, inputs, ["r"]), NodeToWrite("Relu", ["r"], ["y"])],
        [Described("x", np.float32, [None])],
        [Described("y", np.float32, None)],
        {"image": image, "o": np.array(0, np.float32), "i": np.array(1, np.float32)},
        9 if op == "Upsample" else 17,
    )
    prepared, plain = InferenceSession(data), InferenceSession(data, optimize=False)
    for x in (first, second):
        expected = plain.run(None, {"x": x})
        np.testing.assert_array_equal(prepared.run(None, {"x": x}), expected)
    assert expected[0].size > plain.run(None, {"x": first})[0].size


def test_a_dropout_of_a_constant_whose_ratio_is_the_input() -> None:
    nodes = [NodeToWrite("Dropout", ["three", "x"], ["d"]), NodeToWrite("Relu", ["d"], ["y"])]
    data = model_bytes(
        nodes,
        [Described("x", np.float32, [1])],
        [Described("y", np.float32, None)],
        {"three": np.array([3], np.float32)},
        17,
    )
    (y,) = InferenceSession(data).run(None, {"x": np.array([0.5], np.float32)})
    np.testing.assert_array_equal(y, [3])


def test_shapes_share_weights() -> None:
    nodes = [
        CONV,
        NodeToWrite("BatchNormalization", ["conv", "scale", "shift", "b", "scale"], ["n"]),
        NodeToWrite("Flatten", ["n"], ["flat"]),
        NodeToWrite("Gemm", ["flat", "dense", "row"], ["y"], {"transB": 1}),
    ]
    prepared = session(nodes, "y")
    graphs = [graph(prepared, random(n, *SHAPE[1:])) for n in (1, 2, 3)]
    for kind in (Convolve, Multiply):
        weights = []
        for found in graphs:
            assert found is not None
            weights += [s.operation.weight for s in found if isinstance(s.operation, kind)]
        assert len(weights) == 3
        assert all(weight is weights[0] for weight in weights)
    x = random(3, *SHAPE[1:])
    (whole,) = prepared.run(None, {"x": x})
    for i in range(3):
        (one,) = prepared.run(None, {"x": x[i : i + 1]})
        np.testing.assert_allclose(one[0], whole[i], rtol=1e-5, atol=1e-5)


def test_few_shapes_are_kept() -> None:
    prepared = session([CONV, NodeToWrite("Relu", ["conv"], ["y"])], "y")
    for size in range(3, 20):
        x = random(1, 4, size, 5)
        (y,) = prepared.run(None, {"x": x})
        np.testing.assert_array_equal(y, prepared.run(None, {"x": x})[0])
    assert prepared._specialized is not None
    assert len(prepared._specialized._graphs) == 8


def test_sigmoids_alone_stay() -> None:
    prepared = session(
        [CONV, NodeToWrite("Sigmoid", ["x"], ["s"]), NodeToWrite("Mul", ["conv", "s"], ["y"])], "y"
    )
    found = graph(prepared, random(*SHAPE))
    assert found is not None
    assert any(isinstance(step.operation, Activate) for step in found)


def test_scales_and_shifts_in_a_row_are_one() -> None:
    """As converters from Caffe write them: normalisation, a scale and a shift."""
    nodes = [
        NodeToWrite("BatchNormalization", ["x", "g", "b", "m", "v"], ["n"]),
        NodeToWrite("Mul", ["n", "scale"], ["scaled"]),
        NodeToWrite("Add", ["scaled", "shift"], ["shifted"]),
        NodeToWrite("Tanh", ["shifted"], ["y"]),
    ]
    rng = np.random.default_rng(0)
    constants = {name: rng.uniform(0.5, 2, 3).astype(np.float32) for name in "gbmv"}
    constants |= {
        name: rng.uniform(-1, 1, (3, 1, 1)).astype(np.float32) for name in ("scale", "shift")
    }
    described = Described("x", np.float32, ["N", 3, 4, 5])
    data = model_bytes(nodes, [described], [described._replace(name="y")], constants, 17)
    x = random(2, 3, 4, 5)
    prepared = InferenceSession(data)
    (found,) = prepared.run(None, {"x": x})
    (expected,) = InferenceSession(data, optimize=False).run(None, {"x": x})
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    steps = graph(prepared, x)
    assert steps is not None
    assert [type(step.operation).__name__ for step in steps] == ["ScaleAndShift", "Apply"]


LIGHT = """
import os, sys
import numpy as np
import onnx, onnxruntime
from onnx import numpy_helper
from light_networks import FOLDER, with_random_weights
from fastconv.onnx import InferenceSession

for name in sys.argv[1:]:
    path = os.path.join(FOLDER, f"light_{name}.onnx")
    session = InferenceSession(path)
    (value,) = session.get_inputs()
    # The package computes their results of such inputs.
    count = int(np.prod(value.shape))
    ramp = (np.arange(count).reshape(value.shape) / count).astype(np.float32)
    (own,) = session.run(None, {value.name: ramp})
    data = with_random_weights(onnx.load(path))
    x = np.random.default_rng(1).standard_normal(value.shape).astype(np.float32)
    ours = InferenceSession(data)
    (found,) = ours.run(None, {value.name: x})
    (expected,) = onnxruntime.InferenceSession(data).run(None, {value.name: x})
    print(name, np.abs(found - expected).max() / np.abs(expected).max(), expected.std())
    with open(path.replace(".onnx", "_output_0.pb"), "rb") as file:
        tensor = onnx.TensorProto.FromString(file.read())
    known = numpy_helper.to_array(tensor)
    print(name, np.abs(own - known).max() / np.abs(known).max(), 1)
"""

QUICK = ["squeezenet", "shufflenet"]
OTHERS = ["bvlc_alexnet", "densenet121", "inception_v1", "inception_v2", "resnet50"]
OTHERS += ["vgg19", "zfnet512"]


@pytest.mark.parametrize(
    "name", [*QUICK, *(pytest.param(name, marks=pytest.mark.exhaustive) for name in OTHERS)]
)
def test_light_networks(name: str, tmp_path: Path) -> None:
    """The networks of the onnx package: their own results, and onnxruntime's of random weights.

    Another process runs them, because onnxruntime's threads would disturb further tests.
    """
    for package in ("onnx", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed, so it is not compared")
    script = tmp_path / "light.py"
    script.write_text(LIGHT, encoding="utf-8")
    result = run_python(
        f"import sys, runpy; sys.argv[1:] = [{name!r}]; runpy.run_path({str(script)!r})"
    )
    assert result.returncode == 0, result.stderr
    random, own = (line.split() for line in result.stdout.splitlines())
    assert float(random[2]) > 0
    assert float(random[1]) < 2e-5
    assert float(own[1]) < 1e-3
