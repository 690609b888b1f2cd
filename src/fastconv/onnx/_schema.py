"""The messages of the ONNX format as tables, which the reader and the writer share.

A table maps the number of a field to its name and kind. Fields that this library has no use for
are left out: the reader skips them, as it skips those that newer versions of the format add.
"""

from __future__ import annotations

from typing import NamedTuple

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
"""How the bytes behind a field's number are read, by the names of the protobuf documentation."""

WIRE_TYPES = {
    "int": VARINT,
    "uint": VARINT,
    "float": FIXED32,
    "double": FIXED64,
    "string": LENGTH,
    "bytes": LENGTH,
}
"""The wire types of kinds that are no messages."""


class Field(NamedTuple):
    """A field of a message.

    Attributes
    ----------
    name : str
        Its name in the format's definition.
    kind : str
        "int" (signed, up to 64 bits), "uint", "float", "double", "string", "bytes", or the name of
        the message that it contains.
    repeated : bool
        Whether it is a list.
    """

    name: str
    kind: str
    repeated: bool = False

    @property
    def wire_type(self) -> int:
        """How a single value is written."""
        return WIRE_TYPES.get(self.kind, LENGTH)

    @property
    def is_packed(self) -> bool:
        """Whether a list may be written as one run of bytes, as lists of numbers are."""
        return self.repeated and self.wire_type != LENGTH


SCHEMAS: dict[str, dict[int, Field]] = {
    "ModelProto": {
        1: Field("ir_version", "int"),
        2: Field("producer_name", "string"),
        3: Field("producer_version", "string"),
        4: Field("domain", "string"),
        5: Field("model_version", "int"),
        6: Field("doc_string", "string"),
        7: Field("graph", "GraphProto"),
        8: Field("opset_import", "OperatorSetIdProto", True),
        14: Field("metadata_props", "StringStringEntryProto", True),
        25: Field("functions", "FunctionProto", True),
    },
    "OperatorSetIdProto": {1: Field("domain", "string"), 2: Field("version", "int")},
    "StringStringEntryProto": {1: Field("key", "string"), 2: Field("value", "string")},
    "FunctionProto": {1: Field("name", "string"), 10: Field("domain", "string")},
    "GraphProto": {
        1: Field("node", "NodeProto", True),
        2: Field("name", "string"),
        5: Field("initializer", "TensorProto", True),
        10: Field("doc_string", "string"),
        11: Field("input", "ValueInfoProto", True),
        12: Field("output", "ValueInfoProto", True),
        15: Field("sparse_initializer", "SparseTensorProto", True),
    },
    "NodeProto": {
        1: Field("input", "string", True),
        2: Field("output", "string", True),
        3: Field("name", "string"),
        4: Field("op_type", "string"),
        5: Field("attribute", "AttributeProto", True),
        7: Field("domain", "string"),
    },
    "AttributeProto": {
        1: Field("name", "string"),
        2: Field("f", "float"),
        3: Field("i", "int"),
        4: Field("s", "bytes"),
        5: Field("t", "TensorProto"),
        6: Field("g", "GraphProto"),
        7: Field("floats", "float", True),
        8: Field("ints", "int", True),
        9: Field("strings", "bytes", True),
        10: Field("tensors", "TensorProto", True),
        11: Field("graphs", "GraphProto", True),
        20: Field("type", "int"),
        21: Field("ref_attr_name", "string"),
        22: Field("sparse_tensor", "SparseTensorProto"),
    },
    "TensorProto": {
        1: Field("dims", "int", True),
        2: Field("data_type", "int"),
        3: Field("segment", "SegmentProto"),
        4: Field("float_data", "float", True),
        5: Field("int32_data", "int", True),
        6: Field("string_data", "bytes", True),
        7: Field("int64_data", "int", True),
        8: Field("name", "string"),
        9: Field("raw_data", "bytes"),
        10: Field("double_data", "double", True),
        11: Field("uint64_data", "uint", True),
        13: Field("external_data", "StringStringEntryProto", True),
        14: Field("data_location", "int"),
    },
    "SegmentProto": {1: Field("begin", "int"), 2: Field("end", "int")},
    "SparseTensorProto": {
        1: Field("values", "TensorProto"),
        2: Field("indices", "TensorProto"),
        3: Field("dims", "int", True),
    },
    "ValueInfoProto": {
        1: Field("name", "string"),
        2: Field("type", "TypeProto"),
        3: Field("doc_string", "string"),
    },
    "TypeProto": {
        1: Field("tensor_type", "TensorTypeProto"),
        4: Field("sequence_type", "OtherTypeProto"),
        5: Field("map_type", "OtherTypeProto"),
        7: Field("opaque_type", "OtherTypeProto"),
        8: Field("sparse_tensor_type", "OtherTypeProto"),
        9: Field("optional_type", "OtherTypeProto"),
    },
    "TensorTypeProto": {1: Field("elem_type", "int"), 2: Field("shape", "TensorShapeProto")},
    "OtherTypeProto": {},
    "TensorShapeProto": {1: Field("dim", "DimensionProto", True)},
    "DimensionProto": {1: Field("dim_value", "int"), 2: Field("dim_param", "string")},
}
"""The fields of every message, by their numbers."""

NUMBERS: dict[str, dict[str, int]] = {
    message: {field.name: number for number, field in fields.items()}
    for message, fields in SCHEMAS.items()
}
"""The numbers of the fields of every message, by their names."""
