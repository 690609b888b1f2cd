"""TensorProto to arrays and back: every element type that NumPy has, wherever its bytes lie."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Mapping
from math import prod
from typing import Any, NamedTuple

import numpy as np

from fastconv import _limits
from fastconv._arrays import Array, Shape
from fastconv.onnx._checks import room
from fastconv.onnx._wire import Message

MOST_DIMENSIONS = 32
"""Arrays of NumPy before 2.0 have no more dimensions."""
EXTERNAL = 1
"""The `data_location` of a tensor whose bytes are in a file beside the model."""


class ElementType(NamedTuple):
    """What the elements of a tensor are.

    Attributes
    ----------
    name : str
        Name in the format's definition.
    dtype : dtype or None
        What this library computes with, None if it does not.
    typed : str
        The field in which elements lie that are not raw bytes.
    stored : dtype or None
        What raw bytes are, if it is another dtype.
    """

    name: str
    dtype: np.dtype[Any] | None
    typed: str = "int32_data"
    stored: np.dtype[Any] | None = None

    @property
    def raw(self) -> np.dtype[Any]:
        """What raw bytes are, always with the least significant byte first."""
        dtype = self.stored or self.dtype
        assert dtype is not None
        return dtype.newbyteorder("<")


def _known(name: str, char: str, typed: str = "int32_data", stored: str = "") -> ElementType:
    return ElementType(name, np.dtype(char), typed, np.dtype(stored) if stored else None)


ELEMENT_TYPES = {
    1: _known("float", "float32", "float_data"),
    2: _known("uint8", "uint8"),
    3: _known("int8", "int8"),
    4: _known("uint16", "uint16"),
    5: _known("int16", "int16"),
    6: _known("int32", "int32"),
    7: _known("int64", "int64", "int64_data"),
    8: ElementType("string", None),
    9: _known("bool", "bool"),
    10: _known("float16", "float16"),
    11: _known("double", "float64", "double_data"),
    12: _known("uint32", "uint32", "uint64_data"),
    13: _known("uint64", "uint64", "uint64_data"),
    14: _known("complex64", "complex64", "float_data"),
    15: _known("complex128", "complex128", "double_data"),
    16: _known("bfloat16", "float32", stored="uint16"),
    17: ElementType("float8e4m3fn", None),
    18: ElementType("float8e4m3fnuz", None),
    19: ElementType("float8e5m2", None),
    20: ElementType("float8e5m2fnuz", None),
    21: ElementType("uint4", None),
    22: ElementType("int4", None),
    23: ElementType("float4e2m1", None),
    24: ElementType("float8e8m0", None),
    25: ElementType("uint2", None),
    26: ElementType("int2", None),
    27: ElementType("float6e2m3", None),
    28: ElementType("float6e3m2", None),
}
"""The element types of ONNX by their numbers."""

BFLOAT16 = 16
STAYING_BYTES = 1 << 16
"""Tensors of this size and more stay where they are in the memory of their file."""
CODES = {
    kind.dtype: code
    for code, kind in ELEMENT_TYPES.items()
    if kind.dtype is not None and code != BFLOAT16
}
"""The numbers of element types by dtypes."""


def dtype_of(code: int, place: str) -> np.dtype[Any]:
    """Return the dtype of an element type.

    Raises
    ------
    NotImplementedError
        If this library does not compute with it.
    ValueError
        If there is no such type.
    """
    kind = ELEMENT_TYPES.get(code)
    if kind is None:
        raise ValueError(f"{place}: there is no element type {code}")
    if kind.dtype is None:
        raise NotImplementedError(f"{place}: elements of type {kind.name} are not supported")
    return kind.dtype


def type_name(code: int, dtype: np.dtype[Any]) -> str:
    """Write an element type as onnxruntime does, ``tensor(float)``."""
    return f"tensor({ELEMENT_TYPES[code].name if code in ELEMENT_TYPES else dtype})"


def round_bfloat16(array: Array) -> Array:
    """Round float32 to the nearest numbers of 8 significant bits, ties to even; keep NaN."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    odd = bits >> np.uint32(16) & np.uint32(1)
    rounded = (bits + odd + np.uint32(0x7FFF) & np.uint32(0xFFFF0000)).view(np.float32)
    return np.where(np.isnan(array), np.float32(np.nan), rounded)


def checked_shape(dims: Any, dtype: np.dtype[Any], message: Message) -> Shape:
    """Read the dimensions of a tensor whose size NumPy can express."""
    shape = tuple(int(size) for size in dims[: MOST_DIMENSIONS + 1])
    if len(shape) > MOST_DIMENSIONS:
        raise message.error(f"a tensor has more than {MOST_DIMENSIONS} dimensions")
    if min(shape, default=0) < 0:
        raise message.error(f"a tensor has the shape {shape}")
    # NumPy refuses sizes whose product is too large even where another size is 0.
    if prod(size or 1 for size in shape) * dtype.itemsize > sys.maxsize:
        raise message.error(f"a tensor of shape {shape} does not fit into any memory")
    return shape


def tensor_of(message: Message, folder: str | None) -> Array:
    """Read a TensorProto.

    Parameters
    ----------
    message : Message
        The tensor.
    folder : str or None
        Where files with the bytes of tensors may lie: the model's own. None if the model is bytes.

    Returns
    -------
    ndarray
        Of the dtype that this library computes with.

    Raises
    ------
    ValueError
        If the tensor is malformed, or its file is not there.
    NotImplementedError
        If its elements are of a type that this library does not compute with.
    """
    code = int(message.one("data_type", 0))
    if not code:
        raise message.error("a tensor has no element type")
    name = message.one("name", "")
    dtype = dtype_of(code, f"tensor {name!r}" if name else message.path)
    kind = ELEMENT_TYPES[code]
    if "segment" in message:
        raise NotImplementedError(f"tensor {name!r}: tensors in segments are not supported")
    shape = checked_shape(message.all("dims"), kind.raw, message)
    size = prod(shape) * kind.raw.itemsize
    if not size:  # All others have their bytes in a file.
        try:
            room(shape, kind.raw)
        except ValueError:
            raise message.error(f"a tensor has the shape {shape}") from None
    if int(message.one("data_location", 0)) == EXTERNAL:
        flat = np.frombuffer(_external(message, size, folder), kind.raw)
    elif "raw_data" in message:
        raw = message.one("raw_data", b"")
        if len(raw) != size:
            raise message.error(
                f"a tensor of shape {shape} of {kind.name} takes {size} bytes, got {len(raw)}"
            )
        flat = np.frombuffer(raw, kind.raw)
    else:
        flat = _typed(message, kind, prod(shape))
    if kind.raw == dtype and size >= STAYING_BYTES and "raw_data" in message:
        array = _aligned(message.one("raw_data", b""), dtype)
        if array is not None:
            return array.reshape(shape)
    if code == BFLOAT16:
        flat = (flat.astype(np.uint32) << np.uint32(16)).view(np.float32)
    elif dtype.kind == "b":
        flat = flat.view(np.uint8) != 0
    # The bytes of a file lie anywhere, and kernels need numbers at multiples of their size.
    # Their dtype is NumPy's own object, by which kernels know it, and not one that equals it.
    array = np.empty(shape, dtype)
    array.reshape(-1)[...] = flat
    return array


def _aligned(raw: memoryview, dtype: np.dtype[Any]) -> Array | None:
    """Return numbers of a file as an array in the memory of the file, or None.

    So large models take no more memory while they are read than afterwards. If the numbers do not
    lie at multiples of their size, they are moved to the last one before: over the field's number
    and length, which have been read, if these are as long. Memory of the caller is left alone.
    """
    if raw.readonly:
        return None
    holder: Any = raw.obj
    whole = np.frombuffer(holder, np.uint8)
    begin = np.frombuffer(raw, np.uint8).ctypes.data
    excess = begin % dtype.itemsize
    if excess > 1 + -(-len(raw).bit_length() // 7):
        return None
    first = begin - whole.ctypes.data
    bytes_of_file = whole[first - excess : first - excess + len(raw)]
    if excess:  # NumPy moves bytes within one array from the first to the last.
        bytes_of_file[...] = whole[first : first + len(raw)]
    return np.asarray(bytes_of_file.view(dtype))


def _typed(message: Message, kind: ElementType, count: int) -> Array:
    """Read elements from the list of numbers that belongs to their type."""
    values = np.asarray(message.all(kind.typed))
    raw = kind.raw
    parts = 2 if raw.kind == "c" else 1
    if len(values) != count * parts:
        raise message.error(f"a tensor needs {count * parts} numbers, got {len(values)}")
    if raw.kind == "c":
        return values.astype(f"<f{raw.itemsize // 2}").view(raw)
    if raw.kind == "f" and raw.itemsize == 2:
        return _narrow(values, np.dtype("<u2"), message).view(raw)
    if raw.kind == "b":
        return np.asarray(values != 0)
    return _narrow(values, raw, message) if raw.kind in "iu" else values.astype(raw)


def _narrow(values: Array, dtype: np.dtype[Any], message: Message) -> Array:
    """Convert integers to those of fewer bits, and refuse those that do not fit."""
    if not len(values):
        return np.empty(0, dtype)
    limits = np.iinfo(dtype)
    if int(values.min()) < limits.min or int(values.max()) > limits.max:
        raise message.error(f"a tensor of {dtype.name} holds numbers beyond it")
    return values.astype(dtype)


def _external(message: Message, size: int, folder: str | None) -> bytes:
    """Read the bytes of a tensor from the file that it names."""
    entries = {
        entry.one("key", ""): entry.one("value", "") for entry in message.all("external_data")
    }
    location = entries.get("location", "")
    offset, length = (_count(entries, key, message) for key in ("offset", "length"))
    if length is not None and length != size:
        raise message.error(f"a tensor of {size} bytes announces {length} in {location!r}")
    path = _inside(location, folder, message)
    if size > _limits.memory():  # A file with holes announces any size, and takes no disk space.
        raise message.error(f"a tensor takes {size} bytes, more than there is memory")
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise message.error(f"external data {location!r} is no regular file")
            if (offset or 0) + size > status.st_size:
                raise message.error(
                    f"external data {location!r} has {status.st_size} bytes, but a tensor of "
                    f"{size} begins at {offset or 0}"
                )
            file.seek(offset or 0)
            data = file.read(size)
    except OSError as error:
        raise message.error(f"external data {location!r} cannot be read: {error}") from None
    if len(data) != size:
        raise message.error(f"external data {location!r} ended while it was read")
    return data


def _count(entries: Mapping[str, str], key: str, message: Message) -> int | None:
    """Read a number of bytes, which the format keeps as text."""
    text = entries.get(key)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise message.error(f"external data has the {key} {text[:30]!r}")
    return int(text)


def _inside(location: str, folder: str | None, message: Message) -> str:
    """Return the path of a file of the model's folder, and refuse every way out of it.

    Links are refused altogether: one that leads to another place today is as easily made as one
    that will tomorrow.
    """
    if folder is None:
        raise message.error("a model given as bytes has no folder to find external data in")
    parts = location.replace("\\", "/").split("/")
    if not location or "\0" in location or any(part in ("", "..") or ":" in part for part in parts):
        raise message.error(f"external data {location[:100]!r} is not in the model's folder")
    path = folder
    for part in parts:
        path = os.path.join(path, part)
        if os.path.islink(path):
            raise message.error(f"external data {location[:100]!r} is behind a link")
    if os.path.exists(path) and not os.path.isfile(path):  # Opening a pipe would wait for ever.
        raise message.error(f"external data {location[:100]!r} is no regular file")
    return path


def tensor_fields(name: str, array: Array) -> dict[str, Any]:
    """Return the fields of a TensorProto for `encode`."""
    return {**_head(name, array), "raw_data": raw_bytes(array)}


def external_fields(name: str, array: Array, location: str, offset: int) -> dict[str, Any]:
    """Return the fields of a TensorProto whose bytes lie in a file of the model's folder."""
    entries = {"location": location, "offset": offset, "length": array.nbytes}
    data = [{"key": key, "value": str(value)} for key, value in entries.items()]
    return {**_head(name, array), "external_data": data, "data_location": EXTERNAL}


def raw_bytes(array: Array) -> memoryview:
    """Return the bytes of an array as files have them: a view of it, if they lie so in memory."""
    raw = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return raw.reshape(-1).view(np.uint8).data


def _head(name: str, array: Array) -> dict[str, Any]:
    code = CODES[array.dtype.newbyteorder("=")]
    return {"dims": array.shape, "data_type": code, "name": name}
