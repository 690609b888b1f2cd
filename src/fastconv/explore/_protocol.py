"""Messages between the page and the server: settings as JSON, and arrays as their bytes.

A message is the length of a header (4 bytes, little-endian), the header, which is JSON, and the
bytes of the arrays. The header is padded with spaces so that the arrays, each of which takes a
multiple of 8 bytes, can be read in place::

    {"settings": {...}, "arrays": [{"name": "image", "dtype": "uint8", "shape": [8, 8]}, ...]}
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np

from fastconv._arrays import Array

__all__ = ["DTYPES", "MOST_BYTES", "MOST_SIDE", "Refusal", "compact", "packed", "unpacked"]

MOST_BYTES = 8 << 20
"""The most bytes that a request may have."""
MOST_SIDE = 4096
"""The most rows or columns that an array of a request may have."""
MOST_HEADER = 1 << 16
MOST_ARRAYS = 8
DTYPES = {name: np.dtype(code) for name, code in (("uint8", "u1"), ("int32", "<i4"))} | {
    name: np.dtype(code) for name, code in (("float32", "<f4"), ("float64", "<f8"))
}
ALIGNMENT = 8


class Refusal(ValueError):
    """A request that is answered with an error, and the status of the answer."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


def packed(settings: Any, arrays: Mapping[str, Array] | None = None) -> bytes:
    """Turn settings and arrays into a message."""
    described, parts = [], []
    for name, array in (arrays or {}).items():
        dtype = next(name for name, dtype in DTYPES.items() if dtype == array.dtype)
        described.append({"name": name, "dtype": dtype, "shape": array.shape})
        data = np.ascontiguousarray(array, DTYPES[dtype]).tobytes()
        parts += [data, bytes(-len(data) % ALIGNMENT)]
    header = json.dumps({"settings": settings, "arrays": described}, allow_nan=False).encode()
    header += b" " * (-(4 + len(header)) % ALIGNMENT)
    return b"".join([len(header).to_bytes(4, "little"), header, *parts])


def compact(array: Array) -> Array:
    """Give an array of float64 as float32 if these are the same numbers, as whole ones may be."""
    with np.errstate(over="ignore"):
        small = array.astype(np.float32)
    return small if np.array_equal(small, array) else array


def unpacked(message: bytes) -> tuple[dict[str, Any], dict[str, Array]]:
    """Read a message from anywhere.

    Parameters
    ----------
    message : bytes
        What `packed`, or the page, has made; or anything else.

    Returns
    -------
    settings : dict
        As they came, unchecked.
    arrays : dict of str to ndarray
        Read-only, with positive sizes of at most `MOST_SIDE`, and finite.

    Raises
    ------
    Refusal
        If it is no such message.
    """
    length = int.from_bytes(message[:4], "little")
    if len(message) < 4 or not 2 <= length <= min(MOST_HEADER, len(message) - 4):
        raise Refusal("the body must begin with the length of its header")
    header = _json(message[4 : 4 + length])
    if not isinstance(header, dict) or header.keys() != {"settings", "arrays"}:
        raise Refusal("the header must have the keys settings and arrays")
    settings, described = header["settings"], header["arrays"]
    if not isinstance(settings, dict) or not isinstance(described, list):
        raise Refusal("settings must be an object and arrays a list")
    if len(described) > MOST_ARRAYS:
        raise Refusal(f"a message has at most {MOST_ARRAYS} arrays, got {len(described)}")
    arrays: dict[str, Array] = {}
    start = 4 + length
    for entry in described:
        name, dtype, shape = _description(entry)
        size = math.prod(shape) * dtype.itemsize
        if start + size > len(message):
            raise Refusal(f"the bytes of {name} are missing")
        arrays[name] = np.frombuffer(message, dtype, math.prod(shape), start).reshape(shape)
        if not np.isfinite(arrays[name]).all():
            raise Refusal(f"{name} must be finite, got NaN or infinity")
        start += size + -size % ALIGNMENT
    if start != len(message):
        raise Refusal(f"the message must have {start} bytes, got {len(message)}")
    return settings, arrays


def _json(text: bytes) -> Any:
    def refuse(constant: str) -> NoReturn:
        raise Refusal(f"the header must be JSON, which has no {constant}")

    try:
        return json.loads(text, parse_constant=refuse)
    except Refusal:
        raise
    except (ValueError, RecursionError) as error:
        raise Refusal(f"the header must be JSON: {error}") from None


def _description(entry: Any) -> tuple[str, np.dtype[Any], tuple[int, ...]]:
    """Read what the header says of an array."""
    if not isinstance(entry, dict) or entry.keys() != {"name", "dtype", "shape"}:
        raise Refusal("an array is described by its name, dtype and shape")
    name, dtype, shape = entry["name"], entry["dtype"], entry["shape"]
    if not isinstance(name, str) or not name.isidentifier() or len(name) > 40:
        raise Refusal("the name of an array must be a word of at most 40 letters")
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise Refusal(f"the dtype of {name} must be one of {', '.join(DTYPES)}")
    if not isinstance(shape, list) or not 1 <= len(shape) <= 4:
        raise Refusal(f"the shape of {name} must be a list of 1 to 4 sizes")
    for size in shape:
        if type(size) is not int or not 1 <= size <= MOST_SIDE:
            raise Refusal(f"the sizes of {name} must be whole numbers from 1 to {MOST_SIDE}")
    return name, DTYPES[dtype], tuple(shape)
