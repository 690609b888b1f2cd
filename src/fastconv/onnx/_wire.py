"""Bytes to messages and back: the protobuf wire format, by the tables of `_schema.py`.

Files come from anywhere, so nothing in them is believed. Every length is compared with the bytes
that are there before it is used; messages are nested to a limited depth, and there is a limited
number of them, because two bytes can make an object of several hundred. Time and memory are
therefore proportional to the size of the file. Every error tells the byte and the path of fields
where it was found, as ``graph.node[3].attribute[0]``.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastconv.onnx._schema import (
    FIXED32,
    FIXED64,
    LENGTH,
    NUMBERS,
    SCHEMAS,
    VARINT,
    WIRE_TYPES,
    Field,
)

DEEPEST = 32
"""Messages may be nested so deep. A model with no graph in an attribute needs 7."""
MOST_MESSAGES = 1 << 20
"""Networks of several thousand nodes have some ten thousand messages."""
LONGEST_VARINT = 10
"""Bytes of an integer of 64 bits."""
MASK64 = (1 << 64) - 1

DTYPES: dict[str, np.dtype[Any]] = {
    "int": np.dtype(np.int64),
    "uint": np.dtype(np.uint64),
    "float": np.dtype("<f4"),
    "double": np.dtype("<f8"),
}
"""The dtypes of lists of numbers."""
FORMATS = {"float": "<f", "double": "<d"}
"""How `struct` reads a single one that is not an integer."""


class Message:
    """What a message of the file contains.

    Attributes
    ----------
    kind : str
        Name of the message in the tables.
    path : str
        Fields that lead to it from the whole.
    begin : int
        Number of its first byte.
    fields : dict of str to object
        Values of those fields that were there.
    """

    __slots__ = ("_runs", "begin", "fields", "kind", "path")

    def __init__(self, kind: str, path: str, begin: int) -> None:
        self.kind, self.path, self.begin = kind, path, begin
        self.fields: dict[str, Any] = {}
        self._runs: dict[Field, list[Any]] = {}

    def add_run(self, field: Field, numbers: Any) -> None:
        """Add an array of numbers to a field that is a list of them."""
        self._runs.setdefault(field, []).append(numbers)

    def add_number(self, field: Field, number: float) -> None:
        """Add one number to such a field, in a list of those that came one by one."""
        parts = self._runs.setdefault(field, [])
        if not parts or not isinstance(parts[-1], list):
            parts.append([])
        parts[-1].append(number)

    def join_runs(self) -> None:
        """Make one array of what was added to each such field."""
        for field, parts in self._runs.items():
            arrays = [np.asarray(part, DTYPES[field.kind]) for part in parts]
            self.fields[field.name] = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
        self._runs = {}

    def __contains__(self, name: str) -> bool:
        """Tell whether a field is there."""
        return name in self.fields

    def one(self, name: str, default: Any) -> Any:
        """Return the value of a field, or what it is if it is missing."""
        return self.fields.get(name, default)

    def all(self, name: str) -> Any:
        """Return the values of a repeated field: a list, or an array of numbers."""
        return self.fields.get(name, ())

    def error(self, text: str) -> ValueError:
        """Return an error with the place of this message."""
        return malformed(text, self.begin, self.path)


def malformed(text: str, offset: int, path: str) -> ValueError:
    """Return the error of a file that is no model, with the place."""
    return ValueError(f"malformed ONNX file: {text} (byte {offset}, in {path or 'the model'})")


def decode(data: memoryview, kind: str) -> Message:
    """Read a whole buffer as one message.

    Strings are copied; bytes are views of the buffer.

    Raises
    ------
    ValueError
        If the bytes are no such message, with the place.
    """
    return _Decoder(data).message(kind, 0, len(data), "", 0)


class _Decoder:
    """Reads messages out of one buffer, and counts them."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._left = MOST_MESSAGES

    def message(self, kind: str, begin: int, end: int, path: str, depth: int) -> Message:
        """Read the message that lies between two bytes."""
        self._left -= 1
        if self._left < 0:
            raise malformed(f"there are more than {MOST_MESSAGES} messages", begin, path)
        if depth > DEEPEST:
            raise malformed(f"messages are nested more than {DEEPEST} deep", begin, path)
        found = Message(kind, path, begin)
        schema = SCHEMAS[kind]
        at = begin
        while at < end:
            start = at
            tag, at = self._varint(at, end, path)
            number, wire_type = tag >> 3, tag & 7
            if not 0 < number < 1 << 29:
                raise malformed(f"a field has the number {number}", start, path)
            field = schema.get(number)
            if wire_type == LENGTH:
                size, at = self._varint(at, end, path)
                if size > end - at:
                    text = f"{size} bytes are announced where {end - at} are left"
                    raise malformed(text, start, path)
                if field is not None:
                    self._read_bytes(found, field, start, at, at + size, depth)
                at += size
            else:
                at = self._read_number(found, field, wire_type, start, at, end)
        found.join_runs()
        return found

    def _read_bytes(
        self,
        found: Message,
        field: Field,
        start: int,
        begin: int,
        end: int,
        depth: int,
    ) -> None:
        """Read a field of a known length: text, bytes, a message, or a run of numbers."""
        name, kind = field.name, field.kind
        if field.is_packed:
            found.add_run(field, self._run(field, begin, end, found.path))
            return
        if kind in SCHEMAS:
            if not field.repeated and name in found.fields:
                raise malformed(f"the field {name} is there twice", start, found.path)
            index = f"[{len(found.all(name))}]" if field.repeated else ""
            path = f"{found.path}.{name}{index}".lstrip(".")
            value: Any = self.message(kind, begin, end, path, depth + 1)
        elif kind == "string":
            value = self._text(begin, end, found.path)
        elif kind == "bytes":
            value = self._data[begin:end]
        else:
            raise malformed(f"the field {name} is no number", start, found.path)
        if field.repeated:
            found.fields.setdefault(name, []).append(value)
        else:
            found.fields[name] = value

    def _read_number(
        self,
        found: Message,
        field: Field | None,
        wire_type: int,
        start: int,
        at: int,
        end: int,
    ) -> int:
        """Read a field that is one number, and return where the next one begins."""
        if field is not None and wire_type != field.wire_type:
            raise malformed(
                f"the field {field.name} has the wire type {wire_type}", start, found.path
            )
        value: Any
        if wire_type == VARINT:
            value, after = self._varint(at, end, found.path)
            if field is not None and field.kind == "int" and value >> 63:
                value -= 1 << 64
        elif wire_type in (FIXED32, FIXED64):
            after = at + (4 if wire_type == FIXED32 else 8)
            if after > end:
                raise malformed("a number is cut off", start, found.path)
            if field is not None:
                value = struct.unpack(FORMATS[field.kind], self._data[at:after])[0]
        else:
            raise malformed(f"a field has the wire type {wire_type}", start, found.path)
        if field is None:
            return after
        if field.repeated:
            found.add_number(field, value)
        else:
            found.fields[field.name] = value
        return after

    def _run(self, field: Field, begin: int, end: int, path: str) -> Any:
        """Read numbers that lie one behind the other."""
        data = self._data[begin:end]
        if field.kind in FORMATS:
            dtype = DTYPES[field.kind]
            if len(data) % dtype.itemsize:
                raise malformed(f"a number of {field.name} is cut off", begin, path)
            return np.frombuffer(data, dtype)
        return _varints(data, field, begin, path)

    def _text(self, begin: int, end: int, path: str) -> str:
        try:
            return str(self._data[begin:end], "utf-8")
        except UnicodeDecodeError as error:
            text = f"text is not UTF-8: {error.reason}"
            raise malformed(text, begin + error.start, path) from None

    def _varint(self, at: int, end: int, path: str) -> tuple[int, int]:
        """Read an integer, seven bits a byte, and return it with the place behind it."""
        value = shift = 0
        data = self._data
        for i in range(at, min(end, at + LONGEST_VARINT)):
            byte = data[i]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if value > MASK64:
                    break
                return value, i + 1
            shift += 7
        if end - at < LONGEST_VARINT:
            raise malformed("an integer is cut off", at, path)
        raise malformed("an integer has more than 64 bits", at, path)


def _varints(data: memoryview, field: Field, begin: int, path: str) -> Any:
    """Read a run of integers with NumPy, as Python would take a second for 2 MB of them."""
    array = np.frombuffer(data, np.uint8)
    last = np.flatnonzero(array < 0x80)
    if len(array) and (not len(last) or last[-1] != len(array) - 1):
        raise malformed(f"an integer of {field.name} is cut off", begin, path)
    first = np.concatenate([[0], last[:-1] + 1]) if len(last) else last
    lengths = last - first + 1
    longest = int(lengths.max(initial=0))
    too_large = longest > LONGEST_VARINT
    if longest == LONGEST_VARINT:
        too_large = bool((array[last[lengths == LONGEST_VARINT]] > 1).any())
    if too_large:
        raise malformed(f"an integer of {field.name} has more than 64 bits", begin, path)
    values = np.zeros(len(last), np.uint64)
    for i in range(longest):
        longer = lengths > i
        bits = (array[first[longer] + i] & 0x7F).astype(np.uint64)
        values[longer] |= bits << np.uint64(7 * i)
    return values.view(np.int64) if field.kind == "int" else values


def encode(kind: str, values: Mapping[str, Any]) -> bytes:
    """Write a message: a mapping of the names of fields to values, sequences or mappings.

    Fields are written in the order in which they are given. A value of None is left out.
    """
    return b"".join(encoded(kind, values))


def encoded(kind: str, values: Mapping[str, Any]) -> list[Any]:
    """Write a message as `encode` does, in pieces: large fields of bytes are not copied."""
    parts: list[Any] = []
    for name, value in values.items():
        if value is None:
            continue
        number = NUMBERS[kind][name]
        field = SCHEMAS[kind][number]
        if field.is_packed:
            _append(parts, number, [_packed(field.kind, value)])
            continue
        for single in value if field.repeated else [value]:
            if field.kind in SCHEMAS:
                _append(parts, number, encoded(field.kind, single))
            elif field.kind == "string":
                _append(parts, number, [single.encode()])
            elif field.kind == "bytes":
                _append(parts, number, [single])
            else:
                parts += _varint(number << 3 | field.wire_type), _packed(field.kind, [single])
    return parts


def _append(parts: list[Any], number: int, content: list[Any]) -> None:
    """Append a field whose length is written before it."""
    parts += _varint(number << 3 | LENGTH), _varint(sum(map(len, content))), *content


def _packed(kind: str, values: Any) -> bytes:
    if WIRE_TYPES[kind] == VARINT:
        return b"".join(_varint(int(value)) for value in values)
    return np.asarray(values, DTYPES[kind]).tobytes()


def _varint(value: int) -> bytes:
    """Write an integer, negative ones as their two's complement of 64 bits."""
    value &= MASK64
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
