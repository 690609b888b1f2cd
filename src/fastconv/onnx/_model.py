"""A model as it is read from a file: checked names, constants as arrays, nodes in order."""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastconv import _limits
from fastconv._arrays import Array
from fastconv._errors import argument_error, shown
from fastconv.onnx._tensors import dtype_of, tensor_of, type_name
from fastconv.onnx._wire import Message, decode, malformed

DOMAINS = ("", "ai.onnx")
"""The names of the domain of ONNX's own operators."""
COUNTING_OUTPUTS = ("Split",)
"""Operators that compute something else if they have fewer outputs, even ones without a name."""


@dataclass(frozen=True)
class ValueInfo:
    """An input or output of a model, as onnxruntime's `NodeArg`.

    Attributes
    ----------
    name : str
        Its name.
    type : str
        Element type, as ``tensor(float)``.
    shape : list of int, str or None
        Sizes; a name where the size is not fixed, and None where it has none.
    dtype : dtype
        What arrays are of.
    """

    name: str
    type: str
    shape: list[int | str | None]
    dtype: np.dtype[Any] = field(repr=False)
    has_shape: bool = field(default=True, repr=False)
    """Whether the number of dimensions is known."""


@dataclass(frozen=True)
class Node:
    """An operator on named values.

    Attributes
    ----------
    op : str
        Name of the operator.
    name : str
        Name of the node, which may be empty.
    inputs, outputs : tuple of str
        Names of values; an empty one stands for nothing.
    attributes : dict of str to object
        Numbers, texts, arrays, and tuples of numbers and texts.
    path : str
        Where the node is in the file.
    unsupported : str
        Why this library cannot run the node, whatever its operator; empty if nothing is known.
    """

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]
    path: str
    unsupported: str = ""

    @property
    def label(self) -> str:
        """What errors call the node."""
        return f"node {self.name or self.path!r} ({self.op})"


@dataclass(frozen=True)
class Model:
    """What a file contains.

    Attributes
    ----------
    opset : int
        Version of the operators.
    inputs, outputs : list of ValueInfo
        What a caller gives and gets. Initializers are no inputs.
    constants : dict of str to ndarray
        Arrays of the file.
    nodes : list of Node
        In an order in which they can be computed.
    """

    name: str
    opset: int
    inputs: list[ValueInfo]
    outputs: list[ValueInfo]
    constants: dict[str, Array]
    nodes: list[Node]


def read_model(source: Any) -> Model:
    """Read a model from a path or from bytes.

    Raises
    ------
    TypeError
        If the source is neither.
    OSError
        If the file cannot be read.
    ValueError
        If it is no valid model.
    NotImplementedError
        If it has values that this library does not compute with. Nodes that it cannot run are
        read, and say so.
    """
    folder = None
    if isinstance(source, (bytes, bytearray, memoryview)):
        data = memoryview(source).cast("B").toreadonly()
    else:
        try:
            path = os.fsdecode(source)
        except TypeError:
            message = f"path_or_bytes must be a path or bytes, got {shown(source)}"
            raise argument_error(TypeError, message) from None
        data = _read_file(path)
        folder = os.path.dirname(os.path.abspath(path))
    return _model(decode(data, "ModelProto"), folder)


def _read_file(path: str) -> memoryview:
    """Read a file into memory that constants may stay in."""
    with open(path, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):  # A pipe does not tell its size.
            return memoryview(file.read())
        if status.st_size > _limits.memory():  # A file with holes has any size.
            raise malformed(f"it has {status.st_size} bytes, more than there is memory", 0, "")
        # NumPy reserves memory without filling it with zeros, as bytearray would.
        data = np.empty(status.st_size, np.uint8)
        return data[: file.readinto(data.data)].data


def _model(message: Message, folder: str | None) -> Model:
    graph = message.one("graph", None)
    if graph is None:
        raise message.error("there is no graph")
    opset = _opset(message)
    if graph.all("sparse_initializer"):
        raise NotImplementedError("the model has sparse initializers, which are not supported")
    constants: dict[str, Array] = {}
    for tensor in graph.all("initializer"):
        name = _new_name(tensor.one("name", ""), constants, tensor)
        constants[name] = tensor_of(tensor, folder)
    taken: set[str] = set()
    inputs = [_value_info(value, taken) for value in graph.all("input")]
    inputs = [value for value in inputs if value.name not in constants]
    outputs = [_value_info(value, None) for value in graph.all("output")]
    if not outputs:
        raise graph.error("the graph has no output")
    nodes = [_node(node, folder) for node in graph.all("node")]
    known = {*constants, *(value.name for value in inputs)}
    nodes = _in_order(nodes, known, graph)
    known.update(name for node in nodes for name in node.outputs)
    for value in outputs:
        if value.name not in known:
            raise graph.error(f"nothing computes the output {value.name!r}")
    return Model(graph.one("name", ""), opset, inputs, outputs, constants, nodes)


def _opset(message: Message) -> int:
    """Return the version of ONNX's own operators."""
    versions = {}
    for entry in message.all("opset_import"):
        domain = entry.one("domain", "")
        domain = "" if domain in DOMAINS else domain
        if domain in versions:
            raise entry.error(f"the operators of {domain!r} are imported twice")
        versions[domain] = int(entry.one("version", 0))
    if "" not in versions:
        raise message.error("no version of the operators is given")
    return versions[""]


def _new_name(name: str, taken: Iterable[str], message: Message) -> str:
    if not name:
        raise message.error("a value has no name")
    if name in taken:
        raise message.error(f"the name {name!r} is given twice")
    return name


def _value_info(message: Message, taken: set[str] | None) -> ValueInfo:
    """Read what is known of an input or output; `taken` are the names of those before."""
    name = _new_name(message.one("name", ""), taken or (), message)
    if taken is not None:
        taken.add(name)
    kind = message.one("type", None)
    tensor = None if kind is None else kind.one("tensor_type", None)
    if tensor is None:
        others = ", ".join(kind.fields) if kind is not None else ""
        if others:
            raise NotImplementedError(f"value {name!r} is a {others}, which is not supported")
        raise message.error(f"the value {name!r} has no type")
    code = int(tensor.one("elem_type", 0))
    if not code:
        raise message.error(f"the value {name!r} has no element type")
    dtype = dtype_of(code, f"value {name!r}")
    shape = tensor.one("shape", None)
    sizes = [] if shape is None else [_size(dim) for dim in shape.all("dim")]
    return ValueInfo(name, type_name(code, dtype), sizes, dtype, shape is not None)


def _size(dim: Message) -> int | str | None:
    if "dim_value" in dim:
        size = int(dim.one("dim_value", 0))
        if size < 0:
            raise dim.error(f"a size is {size}")
        return size
    return dim.one("dim_param", "") or None


def _node(message: Message, folder: str | None) -> Node:
    op = message.one("op_type", "")
    if not op:
        raise message.error("a node has no operator")
    attributes: dict[str, Any] = {}
    domain = message.one("domain", "")
    problem = "" if domain in DOMAINS else f"operators of {domain!r} are not supported"
    for attribute in message.all("attribute"):
        name = _new_name(attribute.one("name", ""), attributes, attribute)
        try:
            attributes[name] = _attribute(attribute, folder)
        except NotImplementedError as error:
            attributes[name] = None
            problem = problem or str(error)
    outputs = list(message.all("output"))
    if not outputs:
        raise message.error("a node has no output")
    # Some exporters list optional outputs without a name. At the end they do not count.
    while op not in COUNTING_OUTPUTS and len(outputs) > 1 and not outputs[-1]:
        outputs.pop()
    return Node(
        op,
        message.one("name", ""),
        tuple(message.all("input")),
        tuple(outputs),
        attributes,
        message.path,
        problem,
    )


def _numbers(convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda values: tuple(map(convert, values.tolist() if len(values) else ()))


# The types of attributes: the field that holds the value, what a missing field means (None: it
# must be there) and how the value becomes Python's.
ATTRIBUTES: dict[int, tuple[str, Any, Callable[[Any], Any]]] = {
    1: ("f", 0.0, float),
    2: ("i", 0, int),
    3: ("s", b"", lambda value: str(value, "utf-8")),
    6: ("floats", (), _numbers(float)),
    7: ("ints", (), _numbers(int)),
    8: ("strings", (), lambda values: tuple(str(value, "utf-8") for value in values)),
}
TENSOR = 4


def _attribute(message: Message, folder: str | None) -> Any:
    """Return the value of an attribute.

    Raises
    ------
    NotImplementedError
        If it is a graph, a type, or a tensor that this library does not compute with.
    """
    name = message.one("name", "")
    if message.one("ref_attr_name", ""):
        raise message.error(f"the attribute {name!r} refers to one of a function, but is in none")
    kind = int(message.one("type", 0)) or _kind_of(message)
    if kind == TENSOR:
        tensor = message.one("t", None)
        if tensor is None:
            raise message.error(f"the attribute {name!r} has no tensor")
        return tensor_of(tensor, folder)
    if kind not in ATTRIBUTES:
        raise NotImplementedError(
            f"the attribute {name!r} is of type {kind}, which is not supported"
        )
    holder, missing, convert = ATTRIBUTES[kind]
    try:
        return convert(message.one(holder, missing))
    except UnicodeDecodeError:
        raise message.error(f"the attribute {name!r} is not UTF-8") from None


def _kind_of(message: Message) -> int:
    """Find the type of an attribute that does not tell it, as in the first models there were."""
    kinds = [kind for kind, (holder, _, _) in ATTRIBUTES.items() if holder in message]
    kinds += [TENSOR] * ("t" in message)
    if len(kinds) != 1:
        raise message.error(f"the attribute {message.one('name', '')!r} has no type")
    return kinds[0]


def _in_order(nodes: list[Node], known: set[str], graph: Message) -> list[Node]:
    """Sort nodes so that each comes after those whose results it reads.

    Nodes that the file has in such an order keep it.
    """
    maker: dict[str, int] = {}
    for i, node in enumerate(nodes):
        for name in node.outputs:
            if name and (name in maker or name in known):
                raise graph.error(f"the name {name!r} is given twice, again by {node.label}")
            if name:
                maker[name] = i
    waiting = []
    users: list[list[int]] = [[] for _ in nodes]
    for i, node in enumerate(nodes):
        sources = {name for name in node.inputs if name and name not in known}
        for name in sources:
            if name not in maker:
                raise graph.error(f"nothing computes {name!r}, which {node.label} reads")
            users[maker[name]].append(i)
        waiting.append(len(sources))
    if all(maker.get(name, -1) < i for i, node in enumerate(nodes) for name in node.inputs):
        return nodes
    ready = deque(i for i, count in enumerate(waiting) if not count)
    order = []
    while ready:
        i = ready.popleft()
        order.append(i)
        for user in users[i]:
            waiting[user] -= 1
            if not waiting[user]:
                ready.append(user)
    if len(order) < len(nodes):
        stuck = next(node for i, node in enumerate(nodes) if waiting[i])
        raise graph.error(f"nodes need each other's results in a cycle, as {stuck.label}")
    return [nodes[i] for i in order]
