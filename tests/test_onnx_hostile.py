"""Models that are made to do harm: a ValueError that names the node, in bounded time and memory.

Every test runs in a process of its own, which may use 2 GiB of memory and two minutes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers import run_python

PRELUDE = """
import json, resource
import numpy as np
from fastconv.onnx import InferenceSession, _checks
from fastconv.onnx._writer import Described, NodeToWrite as Node, model_bytes

resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
_checks.most_bytes = lambda: 1 << 26
HUGE, LOW, HIGH = 1 << 60, -(1 << 63), (1 << 63) - 1

def ints(*numbers):
    return np.array(numbers, np.int64)

def floats(*numbers):
    return np.array(numbers, np.float32)

def ones(*shape):
    return np.ones(shape, np.float32)

def model(nodes, constants={}, output="y"):
    x, y = (Described(name, np.float32, None) for name in ("x", output))
    return model_bytes(nodes, [x], [y], constants, 17)

def of(op, *arrays, outputs=1, **attributes):
    "A model of one node: of constants, or, for the name x, of what is fed."
    names = ["x" if isinstance(array, str) else f"c{i}" for i, array in enumerate(arrays)]
    constants = {f"c{i}": a for i, a in enumerate(arrays) if not isinstance(a, str)}
    results = [f"y{i}" for i in range(outputs)]
    return model([Node(op, names, results, attributes)], constants, "y0")

def outcome(data, x=floats(1)):
    try:
        return f"result {InferenceSession(data).run(None, {'x': x})[0].shape}"
    except (ValueError, NotImplementedError) as error:
        return f"{type(error).__name__}: {error}"
"""

HUGE = """
doubled = [Node("Concat", [f"a{i}"] * 2, [f"a{i + 1}"], {"axis": 0}) for i in range(60)]
many = [f"a{i}" for i in range(64)]
filled = [Node("ConstantOfShape", ["s"], [name]) for name in many]
expanded = [Node("Expand", ["x", "s"], [name + "x"]) for name in many]
expanded += [Node("Neg", [name + "x"], [name]) for name in many]
chain = [Node("Tanh", [f"a{i}"], [f"a{i + 1}"]) for i in range(20000)]
cases = {
    "Expand of nothing": of("Expand", ones(1, 0), ints(HUGE, 0)),
    "Tile of nothing": of("Tile", ones(1, 0), ints(HUGE, HUGE)),
    "constants that double": model(doubled, {"a0": floats(1)}, "a60"),
    "values that double": model([Node("Identity", ["x"], ["a0"]), *doubled], {}, "a60"),
    "many constants": model([*filled, Node("Sum", many, ["y"])], {"s": ints(1 << 20)}),
    "many values": model([*expanded, Node("Sum", many, ["y"])], {"s": ints(1 << 20)}),
    "ConstantOfShape": of("ConstantOfShape", ints(HUGE)),
    "ConstantOfShape of rank 70": of("ConstantOfShape", np.ones(70, np.int64)),
    "Expand": of("Expand", "x", ints(HUGE)),
    "Tile": of("Tile", "x", ints(HUGE)),
    "Range": of("Range", np.array(0), np.array(HUGE), np.array(1)),
    "Range of NaN": of("Range", *(np.array(n, "f") for n in (0, np.nan, 1))),
    "Range without steps": of("Range", np.array(0), np.array(1), np.array(0)),
    "Pad": of("Pad", "x", ints(HUGE, HUGE)),
    "Pad, reflected": of("Pad", floats(1, 2), ints(HUGE, HUGE), mode="reflect"),
    "Pad by less than nothing": of("Pad", floats(1, 2), ints(-HUGE, 0)),
    "Resize": of("Resize", ones(1, 1, 3, 3), floats(), floats(1, 1, 1e30, 1e30)),
    "Resize by NaN": of("Resize", ones(1, 1, 3, 3), floats(), floats(1, 1, np.nan, 1)),
    "Resize to sizes": of("Resize", ones(1, 3), floats(), floats(), ints(HUGE, HUGE)),
    "OneHot": of("OneHot", ints(1, 2), np.array(HUGE), floats(0, 1)),
    "Reshape": of("Reshape", "x", ints(1 << 32, 1 << 32)),
    "Reshape to less than nothing": of("Reshape", "x", ints(-1, -1)),
    "Reshape to rank 70": of("Reshape", "x", np.ones(70, np.int64)),
    "Unsqueeze to rank 70": of("Unsqueeze", "x", np.arange(69)),
    "Gather": of("Gather", "x", np.zeros((1 << 13, 1 << 12), np.int64)),
    "Gather beyond the end": of("Gather", "x", ints(HIGH)),
    "Add": of("Add", ones(1 << 14, 1), ones(1, 1 << 14)),
    "TopK": of("TopK", floats(1, 2), ints(HUGE), outputs=2),
    "Split": of("Split", floats(1, 2), ints(HUGE, 2 - HUGE), outputs=2),
    "DepthToSpace": of("DepthToSpace", ones(1, 4, 2, 2), blocksize=1 << 40),
    "DepthToSpace by nothing": of("DepthToSpace", ones(1, 4, 2, 2), blocksize=0),
    "Concat along no axis": of("Concat", "x", "x", axis=HUGE),
    "Transpose by no axes": of("Transpose", "x", perm=(HUGE,)),
    "Conv, padded": of("Conv", ones(1, 1, 3, 3), ones(1, 1, 2, 2), pads=(HUGE,) * 4),
    "Conv, dilated": of("Conv", ones(1, 1, 3, 3), ones(1, 1, 2, 2), dilations=(HUGE, 1)),
    "Conv with strides of 0": of("Conv", ones(1, 1, 3, 3), ones(1, 1, 2, 2), strides=(0, 1)),
    "Conv of no groups": of("Conv", ones(1, 1, 3, 3), ones(1, 1, 2, 2), group=0),
    "ConvTranspose": of("ConvTranspose", ones(1, 1, 8, 8), ones(1, 1, 2, 2), strides=(HUGE, 1)),
    "MaxPool": of("MaxPool", ones(1, 1, 3, 3), kernel_shape=(HUGE, 1)),
    "AveragePool": of("AveragePool", ones(1, 1, 3), kernel_shape=(2,), pads=(HUGE, HUGE)),
    "BatchNormalization": of("BatchNormalization", ones(1, 2, 1), *[floats(1)] * 4),
    "Max of nothing": model([Node("Max", ["x", ""], ["y"])]),
    "an axis twice": of("Squeeze", ones(1, 1), ints(0, -2)),
}
allowed = {
    "a long chain": model([Node("Identity", ["x"], ["a0"]), *chain], {}, "a20000"),
    "many inputs": model([Node("Sum", ["x"] * 20000, ["y"])]),
    "LRN": of("LRN", ones(1, 4, 2, 2), size=HUGE + 1),
    "Slice": of("Slice", floats(1, 2), ints(LOW), ints(HIGH), ints(0), ints(LOW)),
    "Trilu": of("Trilu", ones(2, 2), np.array(LOW)),
    "NonMaxSuppression": of("NonMaxSuppression", ones(1, 9, 4), ones(1, 1, 9), ints(HUGE)),
    "Pow": of("Pow", ints(3), ints(HUGE)),
    "Clip": of("Clip", "x", np.array(np.nan, "f"), np.array(-np.inf, "f")),
}
kinds = cases, allowed
print(json.dumps([{name: outcome(data) for name, data in kind.items()} for kind in kinds]))
"""


def child(script: str) -> Any:
    """Run a script in another process for at most two minutes, and read the JSON that it prints."""
    pytest.importorskip("resource", reason="this system limits no memory of processes")
    result = run_python(PRELUDE + script)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_huge_results_are_refused() -> None:
    refused, allowed = child(HUGE)
    wrong = {name: text for name, text in refused.items() if not text.startswith("ValueError: ")}
    assert wrong == {}
    assert [text for text in refused.values() if "node '" not in text] == []
    assert {name: text for name, text in allowed.items() if not text.startswith("result")} == {}


NUMBERS = """
rng = np.random.default_rng(0)
image, filters = ones(1, 2, 4, 4), ones(2, 2, 2, 2)
NUMBERS = [0, -1, 1, 2, 7, -3, 1 << 31, -(1 << 31), 1 << 40, HUGE, -HUGE, HIGH, LOW]
window = {"pads": (1, 1, 1, 1), "strides": (1, 1), "dilations": (1, 1)}
two = {**window, "kernel_shape": (2, 2)}
ops = [
    ("Conv", [image, filters], {**two, "group": 1}),
    ("ConvTranspose", [image, filters], {**two, "output_padding": (0, 0), "group": 1}),
    ("MaxPool", [image], {**two, "ceil_mode": 1, "storage_order": 0}),
    ("AveragePool", [image], {"kernel_shape": (2, 2), "pads": (1,) * 4, "ceil_mode": 1}),
    ("LpPool", [image], {"kernel_shape": (2, 2), "p": 2}),
    ("Pad", [image, ints(*[1] * 8)], {}),
    ("Tile", [image, ints(1, 2, 1, 2)], {}),
    ("Expand", [image, ints(2, 1, 1, 1, 1)], {}),
    ("Reshape", [image, ints(2, -1)], {"allowzero": 0}),
    ("Slice", [image, ints(0, 0), ints(1, 1), ints(0, 1), ints(1, 1)], {}),
    ("Gather", [image, ints(0, 1)], {"axis": 1}),
    ("GatherElements", [image, np.zeros((1, 2, 4, 4), np.int64)], {"axis": 1}),
    ("GatherND", [image, np.zeros((2, 2), np.int64)], {"batch_dims": 0}),
    ("Split", [image, ints(1, 1)], {"axis": 1}),
    ("Concat", [image, image], {"axis": 1}),
    ("Squeeze", [image, ints(0)], {}),
    ("Unsqueeze", [image, ints(0, 3)], {}),
    ("Transpose", [image], {"perm": (0, 2, 3, 1)}),
    ("Flatten", [image], {"axis": 1}),
    ("Resize", [image, floats(), floats(), ints(1, 2, 5, 5)], {}),
    ("DepthToSpace", [ones(1, 4, 2, 2)], {"blocksize": 2}),
    ("SpaceToDepth", [image], {"blocksize": 2}),
    ("TopK", [image, ints(1)], {"axis": 1}),
    ("OneHot", [ints(1, 2), np.array(3), floats(0, 1)], {"axis": -1}),
    ("Range", [np.array(0), np.array(9), np.array(2)], {}),
    ("ConstantOfShape", [ints(2, 3)], {}),
    ("Trilu", [image, np.array(1)], {"upper": 1}),
    ("CumSum", [image, np.array(1)], {"exclusive": 0}),
    ("ArgMax", [image], {"axis": 1, "keepdims": 1}),
    ("ReduceSum", [image, ints(2, 3)], {"keepdims": 1}),
    ("Softmax", [image], {"axis": 1}),
    ("LRN", [image], {"size": 3}),
    ("Gemm", [ones(2, 3), ones(3, 4)], {"transA": 0, "transB": 0}),
    ("NonMaxSuppression", [ones(1, 9, 4), ones(1, 1, 9), ints(2)], {"center_point_box": 0}),
    ("QuantizeLinear", [image, floats(1, 1), np.zeros(2, np.uint8)], {"axis": 1}),
]

def damaged(value):
    "One number of an attribute or input is another one, or the list is longer or shorter."
    numbers = np.array(value).reshape(-1).tolist()
    kind = rng.integers(5)
    if numbers and kind < 3:
        numbers[rng.integers(len(numbers))] = NUMBERS[rng.integers(len(NUMBERS))]
    elif kind == 3:
        numbers = [NUMBERS[rng.integers(len(NUMBERS))]] * len(numbers)
    else:
        numbers = numbers[1:] if rng.integers(2) else numbers * 2
    if isinstance(value, int):
        return numbers[0] if numbers else 0
    if isinstance(value, tuple):
        return tuple(numbers)
    return np.array(numbers, np.int64).reshape(value.shape if len(numbers) == value.size else -1)

def damaged_node():
    op, arrays, attributes = ops[rng.integers(len(ops))]
    arrays, attributes = list(arrays), dict(attributes)
    for _ in range(rng.integers(1, 3)):
        places = [name for name in attributes]
        places += [i for i, array in enumerate(arrays) if array.dtype == np.int64]
        place = places[rng.integers(len(places))] if places and rng.integers(8) else None
        if isinstance(place, str):
            attributes[place] = damaged(attributes[place])
        elif place is not None:
            arrays[place] = damaged(arrays[place])
        else:
            i = rng.integers(len(arrays))
            shapes = [(0,), (1, 0, 4, 4), (2,), (1, 2, 4), (1, 2, 4, 4, 1), (), (0, 1 << 58)]
            shapes += [(0, 2, 1 << 20, 1 << 20), (1, 0, 1 << 40, 4), (2, 2, 0, 1 << 40)]
            shapes += [(0, 2, 1 << 40, 2, 2), (1 << 50, 0)]
            dtype = [np.float32, np.int64, np.uint8, np.bool_, np.float16][rng.integers(5)]
            arrays[i] = np.ones(shapes[rng.integers(len(shapes))], dtype)
    return of(op, *arrays, outputs=2 if op in ("TopK", "Split") else 1, **attributes)

found = [outcome(damaged_node()).partition(":")[0][:6] for _ in range(COUNT)]
print(json.dumps({kind: found.count(kind) for kind in set(found)}))
"""


@pytest.mark.parametrize(
    "count", [1500, pytest.param(30000, marks=pytest.mark.exhaustive)], ids=["few", "many"]
)
def test_damaged_numbers_of_operators(count: int) -> None:
    """Any exception but those of damaged models ends the process, and so does a hang."""
    found = child(NUMBERS.replace("COUNT", str(count)))
    assert found["result"] > count // 20
    assert found["ValueE"] > count // 4
    assert sum(found.values()) == count


BYTES = """
constants = {"w": floats(1, 2).reshape(1, 1, 1, 2), "s": ints(1, -1)}
nodes = [
    Node("Conv", ["x", "w"], ["a"], {"pads": (0, 1, 0, 1)}),
    Node("Reshape", ["a", "s"], ["y"]),
]
data = bytearray(model(nodes, constants))
x = ones(1, 1, 2, 2)
assert outcome(bytes(data), x) == "result (1, 6)"
found = []
for i, byte in enumerate(bytes(data)):
    for value in VALUES:
        data[i] = value
        found.append(outcome(bytes(data), x).partition(":")[0][:6])
    data[i] = byte
print(json.dumps({kind: found.count(kind) for kind in set(found)}))
"""


@pytest.mark.parametrize(
    "values",
    [
        "{byte ^ 1, byte ^ 0x80, byte + 1 & 0xFF, 0, 0x7F, 0xFF}",
        pytest.param("range(256)", marks=pytest.mark.exhaustive),
    ],
    ids=["some values", "all values"],
)
def test_every_byte_damaged(values: str) -> None:
    """Also those of constants, which decide about shapes."""
    found = child(BYTES.replace("VALUES", values))
    assert found["ValueE"] > 100
    assert found["result"] > 100


def test_no_file_of_another_folder_is_read(tmp_path: Path) -> None:
    """A model that names one as its constant ends with the same error, whether it is there."""
    secret = tmp_path / "secret.bin"
    secret.write_bytes(b"\0" * 8)
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "link.bin").symlink_to(secret)
    (folder / "sub").mkdir()
    script = f"""
from fastconv.onnx._wire import encode
locations = ["../secret.bin", "sub/../../secret.bin", {str(secret)!r}, "../../etc/passwd"]
locations += ["/etc/passwd", "link.bin", "./../secret.bin", "/proc/self/mem"]
found = []
for location in locations:
    entries = [{{"key": "location", "value": location}}]
    tensor = {{"name": "c", "data_type": 1, "dims": [2], "data_location": 1}}
    value = {{"name": "c", "type": {{"tensor_type": {{"elem_type": 1}}}}}}
    graph = {{"initializer": [{{**tensor, "external_data": entries}}], "output": [value]}}
    data = encode("ModelProto", {{"graph": graph, "opset_import": [{{"version": 17}}]}})
    with open({str(folder / "m.onnx")!r}, "wb") as file:
        file.write(data)
    found.append(outcome({str(folder / "m.onnx")!r}))
print(json.dumps(found))
"""
    for text in child(script):
        assert text.startswith("ValueError: malformed ONNX file: external data")
        assert "not in the model's folder" in text or "behind a link" in text
