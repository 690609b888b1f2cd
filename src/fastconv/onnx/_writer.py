"""Models as bytes: what `export` writes, from nodes, arrays and the shapes of values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastconv._arrays import Array
from fastconv._version import __version__
from fastconv.onnx._tensors import CODES, tensor_fields
from fastconv.onnx._wire import encoded

IR_VERSION = 8
"""The version of the file format that belongs to opset 17."""


class Described(NamedTuple):
    """An input or output: its name, dtype and sizes, of which a text is one that varies."""

    name: str
    dtype: Any
    shape: Sequence[int | str | None] | None


class NodeToWrite(NamedTuple):
    """An operator on named values, with attributes as Python's values or arrays."""

    op: str
    inputs: Sequence[str]
    outputs: Sequence[str]
    attributes: Mapping[str, Any] = {}
    name: str = ""


def model_bytes(
    nodes: Iterable[NodeToWrite],
    inputs: Iterable[Described],
    outputs: Iterable[Described],
    constants: Mapping[str, Array],
    opset: int,
) -> bytes:
    """Write a model."""
    tensors = [tensor_fields(name, array) for name, array in constants.items()]
    return b"".join(model_parts(nodes, inputs, outputs, tensors, opset))


def model_parts(
    nodes: Iterable[NodeToWrite],
    inputs: Iterable[Described],
    outputs: Iterable[Described],
    tensors: Iterable[Mapping[str, Any]],
    opset: int,
    name: str = "network",
) -> list[Any]:
    """Write a model in pieces, which follow each other in the file.

    Parameters
    ----------
    nodes : iterable of NodeToWrite
        In an order in which they can be computed.
    inputs, outputs : iterable of Described
        What a caller gives and gets.
    tensors : iterable of mapping
        Constants, as `tensor_fields` and `external_fields` return them.
    opset : int
        Version of the operators.
    name : str
        What viewers call the graph.

    Returns
    -------
    list of bytes-like
        The pieces. Those of constants are views of the arrays, so that a large model does not
        need its memory twice.
    """
    graph = {
        "node": [_node(node) for node in nodes],
        "name": name,
        "initializer": tensors,
        "input": [_value(value) for value in inputs],
        "output": [_value(value) for value in outputs],
    }
    model = {
        "ir_version": IR_VERSION,
        "producer_name": "fastconv",
        "producer_version": __version__,
        "graph": graph,
        "opset_import": [{"domain": "", "version": opset}],
    }
    return encoded("ModelProto", model)


def _node(node: NodeToWrite) -> dict[str, Any]:
    return {
        "input": node.inputs,
        "output": node.outputs,
        "name": node.name or None,
        "op_type": node.op,
        "attribute": [_attribute(name, value) for name, value in node.attributes.items()],
    }


def _attribute(name: str, value: Any) -> dict[str, Any]:
    """Write an attribute of the type that its value has."""
    if isinstance(value, np.ndarray):
        return {"name": name, "t": tensor_fields("", value), "type": 4}
    if isinstance(value, float):
        return {"name": name, "f": value, "type": 1}
    if isinstance(value, int):
        return {"name": name, "i": value, "type": 2}
    if isinstance(value, str):
        return {"name": name, "s": value.encode(), "type": 3}
    if any(isinstance(element, float) for element in value):
        return {"name": name, "floats": value, "type": 6}
    return {"name": name, "ints": value, "type": 7}


def _value(value: Described) -> dict[str, Any]:
    tensor: dict[str, Any] = {"elem_type": CODES[np.dtype(value.dtype)]}
    if value.shape is not None:
        tensor["shape"] = {"dim": [_dimension(size) for size in value.shape]}
    return {"name": value.name, "type": {"tensor_type": tensor}}


def _dimension(size: int | str | None) -> dict[str, Any]:
    if size is None:
        return {}
    return {"dim_param": size} if isinstance(size, str) else {"dim_value": size}
