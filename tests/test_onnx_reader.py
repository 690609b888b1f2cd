"""The reader of ONNX files: what it reads, and that nothing damaged does more than a ValueError."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import memory_bounded

from fastconv import _limits
from fastconv.onnx import InferenceSession, _wire
from fastconv.onnx._model import Model, read_model
from fastconv.onnx._schema import SCHEMAS
from fastconv.onnx._tensors import ELEMENT_TYPES, checked_shape, round_bfloat16
from fastconv.onnx._wire import DEEPEST, Message, decode, encode
from fastconv.onnx._writer import Described, NodeToWrite, model_bytes

REFUSED = (ValueError, NotImplementedError)
"""All that may come out of a damaged file."""
FLOAT = 1


def small_model() -> bytes:
    """Write a model with a node of each kind of attribute, and constants of several dtypes."""
    nodes = [
        NodeToWrite(
            "Conv", ["x", "w", "b"], ["y"], {"pads": (1, 1, 1, 1), "auto_pad": "NOTSET"}, "conv"
        ),
        NodeToWrite("LeakyRelu", ["y"], ["z"], {"alpha": 0.1}),
        NodeToWrite("Constant", [], ["shape"], {"value": np.array([1, -1])}),
        NodeToWrite("Reshape", ["z", "shape"], ["out"]),
    ]
    constants = {
        "w": np.arange(8, dtype=np.float32).reshape(2, 1, 2, 2),
        "b": np.array([1, 2], np.float32),
    }
    x = Described("x", np.float32, ["N", 1, 3, 3])
    return model_bytes(nodes, [x], [Described("out", np.float32, [1, None])], constants, 17)


def graph_model(**fields: Any) -> bytes:
    """Write a model of one Identity node, whose graph has other fields than usual."""
    value = {"name": "x", "type": {"tensor_type": {"elem_type": FLOAT}}}
    graph = {
        "node": [{"input": ["x"], "output": ["y"], "op_type": "Identity"}],
        "input": [value],
        "output": [{**value, "name": "y"}],
    }
    graph.update(fields)
    model = {"ir_version": 8, "graph": graph, "opset_import": [{"version": 17}]}
    return encode("ModelProto", model)


def tensor_model(**fields: Any) -> bytes:
    """Write a model with a constant of some fields."""
    return graph_model(initializer=[{"name": "c", **fields}])


def constant(**fields: Any) -> np.ndarray[Any, Any]:
    """Read the constant of such a model."""
    return read_model(tensor_model(**fields)).constants["c"]


def test_reads_what_the_writer_wrote() -> None:
    model = read_model(small_model())
    assert model.opset == 17
    (x,) = model.inputs
    assert (x.name, x.type, x.shape) == ("x", "tensor(float)", ["N", 1, 3, 3])
    assert [value.shape for value in model.outputs] == [[1, None]]
    conv, leaky, shape, reshape = model.nodes
    assert conv.attributes == {"pads": (1, 1, 1, 1), "auto_pad": "NOTSET"}
    assert (conv.inputs, conv.outputs, conv.name) == (("x", "w", "b"), ("y",), "conv")
    assert leaky.attributes == {"alpha": float(np.float32(0.1))}
    np.testing.assert_array_equal(shape.attributes["value"], [1, -1])
    assert "graph.node[3]" in reshape.label
    np.testing.assert_array_equal(model.constants["w"].ravel(), np.arange(8))


def test_reads_paths_and_buffers(tmp_path: Path) -> None:
    data = small_model()
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    for source in (path, str(path), os.fsencode(path).decode(), bytearray(data), memoryview(data)):
        assert len(read_model(source).nodes) == 4
    with pytest.raises(FileNotFoundError):
        read_model(tmp_path / "missing.onnx")
    with pytest.raises(TypeError, match="path_or_bytes must be a path or bytes, got 3"):
        read_model(3)


def large_model() -> tuple[bytes, dict[str, np.ndarray[Any, Any]]]:
    """Write constants of a megabyte, whose bytes begin anywhere, as names have several lengths."""
    rng = np.random.default_rng(0)
    constants = {
        f"{dtype}{'x' * i}": rng.integers(0, 100, 2**20 // np.dtype(dtype).itemsize).astype(dtype)
        for dtype in ("float32", "float64", "int64", "float16", "uint8", "bool")
        for i in range(8)
    }
    described = Described("x", np.float32, [1])
    return model_bytes([], [described], [described], constants, 17), constants


def test_large_constants_stay_in_the_memory_of_their_file(tmp_path: Path) -> None:
    data, constants = large_model()
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    buffer = bytearray(data)
    with memory_bounded(len(data) * 3 // 2):
        found = read_model(path).constants
    for read in (found, read_model(buffer).constants, read_model(data).constants):
        assert list(read) == list(constants)
        for name, expected in constants.items():
            assert read[name].dtype is np.dtype(expected.dtype.type)
            assert read[name].flags.aligned
            np.testing.assert_array_equal(read[name], expected)
    assert buffer == data
    assert path.read_bytes() == data


def test_files_larger_than_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(small_model())
    monkeypatch.setattr(_limits, "memory", lambda: 100)
    with pytest.raises(ValueError, match="bytes, more than there is memory"):
        read_model(path)


RAW = {
    code: kind
    for code, kind in ELEMENT_TYPES.items()
    if kind.dtype is not None and kind.name != "bfloat16"
}


@pytest.mark.parametrize("code", RAW, ids=[kind.name for kind in RAW.values()])
def test_raw_and_typed_data(code: int) -> None:
    dtype = ELEMENT_TYPES[code].dtype
    assert dtype is not None
    values = np.array([[0, 1, 2], [3, 100, 1]]).astype(dtype)
    if dtype.kind in "ifc":
        values = -values
    raw = values.astype(dtype.newbyteorder("<")).tobytes()
    found = constant(data_type=code, dims=[2, 3], raw_data=raw)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, values)
    numbers = values.view(np.uint16) if dtype == np.float16 else values
    if dtype.kind == "c":
        numbers = values.view(f"f{dtype.itemsize // 2}")
    typed = {ELEMENT_TYPES[code].typed: numbers.ravel().tolist()}
    np.testing.assert_array_equal(constant(data_type=code, dims=[2, 3], **typed), values)


def test_bfloat16_becomes_float32() -> None:
    raw = np.array([0x3F80, 0xC000, 0x7F80, 0x7FC0], "<u2")
    for fields in ({"raw_data": raw.tobytes()}, {"int32_data": raw.tolist()}):
        found = constant(data_type=16, dims=[4], **fields)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, [1, -2, np.inf, np.nan])


def test_bfloat16_rounds_to_even() -> None:
    exact = np.array([1, 1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-7, np.nan, np.inf, 3.4e38], np.float32)
    expected = [1, 1, 1 + 2**-6, -1 - 2**-7, np.nan, np.inf, np.inf]
    np.testing.assert_array_equal(round_bfloat16(exact), np.array(expected, np.float32))


def test_numbers_that_are_not_packed() -> None:
    """Versions of protobuf before packed lists wrote every number as a field of its own."""
    tensor = b"\x08\x02\x10\x01" + b"".join(b"\x25" + struct.pack("<f", x) for x in (1.5, -2))
    found = decode(memoryview(tensor), "TensorProto")
    assert found.all("dims").tolist() == [2]
    assert found.all("float_data").tolist() == [1.5, -2]
    mixed = b"\x38\x07" + b"\x3a\x02\x01\x02" + b"\x38" + b"\xff" * 9 + b"\x01"
    assert decode(memoryview(mixed), "TensorProto").all("int64_data").tolist() == [7, 1, 2, -1]


def test_unknown_fields_are_skipped() -> None:
    later = b"\xba\x3e\x03abc" + b"\xc0\x3e\x05" + b"\xcd\x3e1234" + b"\xd1\x3e12345678"
    assert len(read_model(small_model() + later).nodes) == 4


def test_varints_at_their_limits() -> None:
    values = [0, 127, 128, -1, 2**63 - 1, -(2**63)]
    data = encode("TensorProto", {"int64_data": values, "uint64_data": [2**64 - 1, 1]})
    found = decode(memoryview(data), "TensorProto")
    assert found.all("int64_data").tolist() == values
    assert found.all("uint64_data").tolist() == [2**64 - 1, 1]
    too_large = b"\x3a\x0a" + b"\xff" * 9 + b"\x02"
    with pytest.raises(ValueError, match="int64_data has more than 64 bits"):
        decode(memoryview(too_large), "TensorProto")
    with pytest.raises(ValueError, match="an integer has more than 64 bits"):
        decode(memoryview(b"\x10" + b"\xff" * 9 + b"\x02"), "TensorProto")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x3a\x7f", r"127 bytes are announced where 0 are left \(byte 0, in the model\)"),
        (b"\x08", "an integer is cut off"),
        (b"\x3b", "wire type 3"),
        (b"\x03", "the number 0"),
        (b"\x0a\x00", "ir_version is no number"),
        (b"\x38\x00", "graph has the wire type 0"),
        (b"\x12\x01\xff", "text is not UTF-8"),
        (b"\x3a\x00\x3a\x00", "graph is there twice"),
        (b"", "there is no graph"),
    ],
)
def test_malformed_messages(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_model(data)


def test_errors_tell_the_place() -> None:
    data = tensor_model(data_type=FLOAT, dims=[2], raw_data=b"123")
    at = data.index(encode("TensorProto", {"name": "c"}))
    message = rf"takes 8 bytes, got 3 \(byte {at}, in graph.initializer\[0\]\)"
    with pytest.raises(ValueError, match=message):
        read_model(data)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dims": [2**60], "raw_data": b""}, "takes 4611686018427387904 bytes, got 0"),
        ({"dims": [2**62]}, "does not fit into any memory"),
        ({"dims": [2**62, 0]}, "does not fit into any memory"),
        ({"dims": [2**40, 2**40]}, "does not fit into any memory"),
        ({"dims": [-1]}, r"the shape \(-1,\)"),
        ({"dims": [1] * 33}, "more than 32 dimensions"),
        ({"dims": [3], "float_data": [1.0]}, "needs 3 numbers, got 1"),
        ({"dims": [1], "int32_data": [300], "data_type": 2}, "numbers beyond it"),
        ({"data_type": 0}, "no element type"),
        ({"data_type": 99}, "there is no element type 99"),
        ({"name": ""}, "a value has no name"),
    ],
)
def test_malformed_tensors(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        constant(**{"data_type": FLOAT, **fields})


@pytest.mark.parametrize("code", [8, 17, 21, 22, 25])
def test_other_element_types(code: int) -> None:
    name = ELEMENT_TYPES[code].name
    with pytest.raises(NotImplementedError, match=f"tensor 'c': elements of type {name}"):
        constant(data_type=code, dims=[1])


def value(name: str) -> dict[str, Any]:
    return {"name": name, "type": {"tensor_type": {"elem_type": FLOAT}}}


def node(source: str, result: str, **fields: Any) -> dict[str, Any]:
    return {"input": [source], "output": [result], "op_type": "Identity", **fields}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"node": [node("y", "z"), node("z", "y")]}, "in a cycle"),
        ({"node": [node("y", "y")]}, "in a cycle"),
        ({"node": [node("x", "y"), node("x", "y")]}, "'y' is given twice"),
        ({"node": [node("x", "x")]}, "'x' is given twice"),
        ({"node": [node("a", "y")]}, "nothing computes 'a'"),
        ({"node": []}, "nothing computes the output 'y'"),
        ({"output": []}, "no output"),
        ({"node": [node("x", "y"), {"input": ["x"], "op_type": "Relu"}]}, "a node has no output"),
        ({"input": [value("x"), value("x")]}, "'x' is given twice"),
        ({"input": [{"name": "x"}]}, "'x' has no type"),
        ({"input": [{"name": "x", "type": {"tensor_type": {}}}]}, "no element type"),
        ({"node": [{**node("x", "y"), "op_type": ""}]}, "no operator"),
        ({"node": [node("x", "y", attribute=[{"name": "a"}])]}, "'a' has no type"),
        ({"node": [node("x", "y", attribute=[{"name": "a", "type": 4}])]}, "has no tensor"),
        ({"node": [node("x", "y", attribute=[{"name": "a", "i": 1}] * 2)]}, "'a' is given twice"),
        ({"node": [node("x", "y", attribute=[{"name": "a", "s": b"\xff"}])]}, "not UTF-8"),
        (
            {"node": [node("x", "y", attribute=[{"name": "a", "ref_attr_name": "b"}])]},
            "refers to one of a function",
        ),
        (
            {"initializer": [{"name": "c", "data_type": FLOAT, "float_data": [0.0]}] * 2},
            "'c' is given twice",
        ),
    ],
)
def test_malformed_graphs(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_model(graph_model(**fields))


@pytest.mark.parametrize(
    "fields",
    [
        {"domain": "com.microsoft"},
        {"attribute": [{"name": "a", "type": 5}]},
        {"attribute": [{"name": "a", "type": 4, "t": {"data_type": 8}}]},
    ],
)
def test_nodes_that_cannot_run_are_read(fields: dict[str, Any]) -> None:
    data = graph_model(node=[node("x", "y", **fields)])
    (found,) = read_model(data).nodes
    assert found.unsupported
    message = f"'graph.node.0.' .Identity.: {re.escape(found.unsupported)}"
    with pytest.raises(NotImplementedError, match=message):
        InferenceSession(data)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sparse_initializer": [{}]}, "sparse initializers"),
        ({"input": [{"name": "x", "type": {"sequence_type": {}}}]}, "is a sequence_type"),
    ],
)
def test_what_is_not_there(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(NotImplementedError, match=message):
        read_model(graph_model(**fields))


def test_opsets() -> None:
    graph = {"output": [value("x")], "input": [value("x")]}
    for imports, message in (
        ([], "no version of the operators"),
        ([{"version": 7}, {"domain": "ai.onnx", "version": 8}], "imported twice"),
    ):
        data = encode("ModelProto", {"graph": graph, "opset_import": imports})
        with pytest.raises(ValueError, match=message):
            read_model(data)


def test_nodes_of_any_order() -> None:
    nodes = [node("b", "y"), node("a", "b"), node("x", "a")]
    order = [n.inputs[0] for n in read_model(graph_model(node=nodes)).nodes]
    assert order == ["x", "a", "b"]


def test_missing_outputs_at_the_end_do_not_count() -> None:
    x, y = (Described(name, np.float32, [4]) for name in "xy")
    numbers = np.arange(-2, 2, dtype=np.float32)
    relu = [NodeToWrite("Relu", ["x"], ["y", "", ""])]
    (found,) = InferenceSession(model_bytes(relu, [x], [y], {}, 17)).run(None, {"x": numbers})
    np.testing.assert_array_equal(found, [0, 0, 0, 1])
    split = [NodeToWrite("Split", ["x"], ["y", ""])]
    (found,) = InferenceSession(model_bytes(split, [x], [y], {}, 17)).run(None, {"x": numbers})
    np.testing.assert_array_equal(found, [-2, -1])


def test_constants_are_no_inputs() -> None:
    """Files of the first versions list every constant among the inputs, too."""
    data = graph_model(
        input=[value("x"), value("c")],
        initializer=[{"name": "c", "data_type": FLOAT, "float_data": [2.0]}],
    )
    assert [x.name for x in read_model(data).inputs] == ["x"]


def test_nesting_is_limited() -> None:
    """A graph in an attribute of a node of a graph, and so on."""
    data = b""
    for _ in range(1000):
        attribute = encode("AttributeProto", {"name": "g"}) + wrapped("AttributeProto", 6, data)
        data = wrapped("GraphProto", 1, wrapped("NodeProto", 5, attribute))
    with pytest.raises(ValueError, match=f"nested more than {DEEPEST} deep"):
        decode(memoryview(data), "GraphProto")


def wrapped(kind: str, number: int, data: bytes) -> bytes:
    """Write a field that contains bytes."""
    assert number in SCHEMAS[kind]
    length = len(data)
    size = bytearray()
    while length > 127:
        size.append(length & 127 | 128)
        length >>= 7
    return bytes([number << 3 | 2, *size, length]) + data


def test_number_of_messages_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_wire, "MOST_MESSAGES", 1000)
    data = wrapped("ModelProto", 7, b"\x0a\x00" * 1000)
    with pytest.raises(ValueError, match="more than 1000 messages"):
        read_model(data)


class TestExternalData:
    """Tensors whose bytes lie beside the model."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        folder = tmp_path / "model"
        (folder / "sub").mkdir(parents=True)
        data = np.arange(6, dtype="<f4").tobytes()
        for path in (folder / "w.bin", folder / "sub" / "w.bin", tmp_path / "outside.bin"):
            path.write_bytes(data)
        return folder

    @staticmethod
    def read(folder: Path, location: str, **entries: str) -> np.ndarray[Any, Any]:
        pairs = {"location": location, **entries}
        data = tensor_model(
            data_type=FLOAT,
            dims=[2],
            data_location=1,
            external_data=[{"key": key, "value": text} for key, text in pairs.items()],
        )
        (folder / "model.onnx").write_bytes(data)
        return read_model(folder / "model.onnx").constants["c"]

    def test_is_read(self, folder: Path) -> None:
        assert self.read(folder, "w.bin").tolist() == [0, 1]
        assert self.read(folder, "sub/w.bin", offset="8", length="8").tolist() == [2, 3]

    @pytest.mark.parametrize(
        ("location", "message"),
        [
            ("../outside.bin", "not in the model's folder"),
            ("sub/../../outside.bin", "not in the model's folder"),
            ("..\\outside.bin", "not in the model's folder"),
            ("/etc/passwd", "not in the model's folder"),
            ("C:\\w.bin", "not in the model's folder"),
            ("", "not in the model's folder"),
            ("w\0.bin", "not in the model's folder"),
            ("link.bin", "behind a link"),
            ("away/outside.bin", "behind a link"),
            ("missing.bin", "cannot be read"),
            ("sub", "no regular file"),
            ("pipe", "no regular file"),
        ],
    )
    def test_stays_in_the_folder(self, folder: Path, location: str, message: str) -> None:
        (folder / "link.bin").symlink_to(folder.parent / "outside.bin")
        (folder / "away").symlink_to(folder.parent)
        os.mkfifo(folder / "pipe")
        with pytest.raises(ValueError, match=message):
            self.read(folder, location)

    @pytest.mark.parametrize(
        ("entries", "message"),
        [
            ({"offset": "20"}, "has 24 bytes, but a tensor of 8 begins at 20"),
            ({"offset": "-4"}, "has the offset '-4'"),
            ({"offset": "1e3"}, "has the offset"),
            ({"offset": "9" * 40}, "has the offset"),
            ({"length": "9"}, "announces 9"),
        ],
    )
    def test_stays_in_the_file(self, folder: Path, entries: dict[str, str], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            self.read(folder, "w.bin", **entries)

    def test_needs_a_folder(self) -> None:
        data = tensor_model(
            data_type=FLOAT,
            dims=[2],
            data_location=1,
            external_data=[{"key": "location", "value": "w.bin"}],
        )
        with pytest.raises(ValueError, match="given as bytes has no folder"):
            read_model(data)


def attempt(data: bytes) -> Model | None:
    """Read a damaged model, which may still be valid."""
    try:
        return read_model(data)
    except REFUSED:
        return None


def test_every_truncation() -> None:
    data = small_model()
    for end in range(len(data)):
        attempt(data[:end])


def test_every_byte_damaged() -> None:
    data = bytearray(small_model())
    for i, byte in enumerate(bytes(data)):
        for damaged in {byte ^ 1, byte ^ 0x80, byte + 1 & 0xFF, byte - 1 & 0xFF, 0, 0x7F, 0xFF}:
            data[i] = damaged
            attempt(bytes(data))
        data[i] = byte


def mutations() -> Iterator[bytes]:
    """Cut, repeat, swap and overwrite random parts of the model, and insert lengths."""
    rng = np.random.default_rng(0)
    data = small_model()
    for _ in range(2000):
        a, b, c = sorted(rng.integers(0, len(data), 3).tolist())
        kind = rng.integers(5)
        if kind == 0:
            yield data[:a] + data[b:]
        elif kind == 1:
            yield data[:b] + data[a:b] * 3 + data[b:]
        elif kind == 2:
            yield data[:a] + data[b:c] + data[a:b] + data[c:]
        elif kind == 3:
            yield data[:a] + rng.bytes(min(b - a, 8)) + data[a + min(b - a, 8) :]
        else:
            yield data[:a] + b"\xff" * int(rng.integers(1, 12)) + data[a:]


def test_structured_mutations() -> None:
    survivors = sum(attempt(data) is not None for data in mutations())
    assert survivors < 2000


def test_shapes_are_checked_before_they_are_used() -> None:
    message = Message("TensorProto", "", 0)
    assert checked_shape(np.array([2**31, 2**30]), np.dtype("u1"), message) == (2**31, 2**30)
    with pytest.raises(ValueError, match="does not fit"):
        checked_shape(np.array([2**31, 2**32]), np.dtype("u1"), message)


class TestOnnxPackage:
    """The same files, as the format's own library reads and writes them."""

    def test_reads_our_files(self) -> None:
        onnx = pytest.importorskip("onnx", reason="onnx is not installed, so it reads nothing")
        model = onnx.load_from_string(small_model())
        onnx.checker.check_model(model, full_check=True)
        ours = read_model(small_model())
        for tensor in model.graph.initializer:
            array = onnx.numpy_helper.to_array(tensor)
            np.testing.assert_array_equal(ours.constants[tensor.name], array)

    def test_our_schemas_are_those_of_the_format(self) -> None:
        onnx = pytest.importorskip("onnx", reason="onnx is not installed, so it tells no numbers")
        renamed = {
            "SegmentProto": onnx.TensorProto.Segment,
            "TensorTypeProto": onnx.TypeProto.Tensor,
            "DimensionProto": onnx.TensorShapeProto.Dimension,
        }
        for kind, fields in SCHEMAS.items():
            if kind == "OtherTypeProto":
                continue
            message = renamed.get(kind) or getattr(onnx, kind, None)
            if message is None:
                message = getattr(onnx.onnx_ml_pb2, kind)
            known = message.DESCRIPTOR.fields_by_number
            for number, field in fields.items():
                assert known[number].name == field.name
                assert known[number].is_repeated == field.repeated
                if field.kind in SCHEMAS and field.kind != "OtherTypeProto":
                    assert known[number].message_type is not None
