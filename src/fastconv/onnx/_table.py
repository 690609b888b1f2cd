"""The table of operators: name and version to a function.

A function takes arrays, None for what is missing, and an operator's attributes as keywords: their
defaults are those of the operator, and their annotations its types. So a function tells all that
is checked before it is called. One that needs to know how many outputs are wanted has the keyword
`n_outputs`, which is no attribute.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np

from fastconv.onnx._model import Node

Function: TypeAlias = Callable[..., Any]
"""From arrays and attributes to an array, or a tuple of arrays."""
Named = TypeVar("Named", bound=Function)

NEWEST_OPSET = 28
"""The newest version of the operators that models may import."""

OPERATORS: dict[str, dict[int, Function]] = {}
"""The functions of every operator, by the first version of each."""

NOT_ATTRIBUTES = ("n_outputs",)

KINDS: dict[str, Callable[[Any], bool]] = {
    "int": lambda value: type(value) is int,
    "float": lambda value: type(value) is float,
    "str": lambda value: type(value) is str,
    "Array": lambda value: isinstance(value, np.ndarray),
    "tuple[int, ...]": lambda value: _all(value, int),
    "tuple[float, ...]": lambda value: _all(value, float),
    "tuple[str, ...]": lambda value: _all(value, str),
}
"""What tells whether a value is of the type that an annotation names."""


def operator(name: str, *versions: int) -> Callable[[Named], Named]:
    """Enter a function into the table, for versions of an operator that began with these opsets."""

    def enter(function: Named) -> Named:
        known = OPERATORS.setdefault(name, {})
        for version in versions:
            assert version not in known, (name, version)
            known[version] = function
        return function

    return enter


class Signature(NamedTuple):
    """What a function of the table takes."""

    least: int
    """How many inputs are needed."""
    most: int | None
    """How many inputs there may be, None if any number."""
    attributes: Mapping[str, str]
    """Names of attributes and of their types."""
    required: frozenset[str]
    """Attributes that must be there."""
    counts_outputs: bool
    """Whether it is told how many outputs are wanted."""


@cache
def signature(function: Function) -> Signature:
    """Read what a function takes."""
    code = function.__code__
    positional = code.co_argcount
    names = code.co_varnames[positional : positional + code.co_kwonlyargcount]
    takes_any = bool(code.co_flags & 0x04)
    defaults = function.__kwdefaults__ or {}
    attributes = {
        name: function.__annotations__[name].removesuffix(" | None")
        for name in names
        if name not in NOT_ATTRIBUTES
    }
    return Signature(
        positional - len(function.__defaults__ or ()),
        None if takes_any else positional,
        attributes,
        frozenset(attributes) - frozenset(defaults),
        "n_outputs" in names,
    )


def find(name: str, opset: int) -> tuple[int, Function] | None:
    """Return the version of an operator in an opset and its function, None if there is none."""
    versions = sorted(OPERATORS.get(name, ()))
    position = bisect_right(versions, opset)
    if not position:
        return None
    version = versions[position - 1]
    return version, OPERATORS[name][version]


def bind(node: Node, opset: int) -> Function:
    """Return the function of a node with its attributes, which then takes the inputs alone.

    Raises
    ------
    NotImplementedError
        If the operator, or its version in this opset, is not in the table.
    ValueError
        If the node has not the inputs and attributes of its operator.
    """
    if node.unsupported:
        raise NotImplementedError(f"{node.label}: {node.unsupported}")
    if node.op not in OPERATORS:
        raise NotImplementedError(f"{node.label}: the operator is not supported")
    found = find(node.op, opset)
    if found is None or opset > NEWEST_OPSET:
        raise NotImplementedError(
            f"{node.label}: the operator's version in opset {opset} is not supported, only those "
            f"of opsets {min(OPERATORS[node.op])} to {NEWEST_OPSET}"
        )
    version, function = found
    takes = signature(function)
    count = len(node.inputs)
    if count < takes.least or (takes.most is not None and count > takes.most):
        raise ValueError(f"{node.label}: {count} inputs are not what version {version} takes")
    needed = takes.least if takes.most is not None else count
    if any(not name for name in node.inputs[:needed]):
        raise ValueError(f"{node.label}: an input is missing")
    for name, value in node.attributes.items():
        if name not in takes.attributes:
            raise ValueError(f"{node.label}: version {version} has no attribute {name!r}")
        kind = takes.attributes[name]
        if not KINDS[kind](value):
            raise ValueError(f"{node.label}: the attribute {name!r} is not of type {kind}")
    missing = takes.required - set(node.attributes)
    if missing:
        raise ValueError(f"{node.label}: the attribute {min(missing)!r} is missing")
    attributes = dict(node.attributes)
    if takes.counts_outputs:
        attributes["n_outputs"] = len(node.outputs)
    return partial(function, **attributes) if attributes else function


def _all(value: Any, kind: type) -> bool:
    return type(value) is tuple and all(type(element) is kind for element in value)
