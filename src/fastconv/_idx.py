"""IDX files, the format of MNIST: images and labels as unsigned bytes.

An IDX file is known by its content, never by its name: two zero bytes, a type code, the number
of axes, then the length of each axis as a big-endian 32-bit integer, then the values. Images
are type 8 (unsigned bytes) with three axes: count, height, width; labels have one. The whole may
be gzipped.
"""

from __future__ import annotations

import gzip
import math
import os
import zlib
from typing import IO

import numpy as np
from numpy.typing import NDArray

from fastconv._errors import argument_error

__all__ = [
    "IMAGES",
    "LABELS",
    "IdxError",
    "IdxKindError",
    "expected_start",
    "hexadecimal",
    "is_idx",
    "read_idx",
]

TYPES = (0x08, 0x09, 0x0B, 0x0C, 0x0D, 0x0E)
GZIP_MAGIC = b"\x1f\x8b"
CHUNK_BYTES = 1 << 20

LABELS, IMAGES = 1, 3
"""The two kinds of files, by the number of axes of their arrays."""
NAMES = {LABELS: "labels", IMAGES: "images"}


class IdxError(ValueError):
    """The file is damaged."""


class IdxKindError(IdxError):
    """The file is of another kind."""


def is_idx(start: bytes) -> bool:
    """Whether a file that begins so is an IDX file, or gzipped, which only these are."""
    if start[:2] == GZIP_MAGIC:
        return True
    return len(start) >= 4 and start[:2] == b"\0\0" and start[2] in TYPES and start[3] > 0


def read_idx(path: str | os.PathLike[str], axes: int) -> NDArray[np.uint8]:
    """Read images (N, H, W) or labels (N,).

    Parameters
    ----------
    path : path-like
        The file, gzipped or not, whatever it is called.
    axes : {IMAGES, LABELS}
        What it must hold.

    Returns
    -------
    ndarray of uint8
        Its content.

    Raises
    ------
    OSError
        If the file cannot be opened.
    IdxKindError
        If it does not begin as such a file.
    IdxError
        If it is truncated, too long, empty, or a damaged gzip file.
    """
    name = os.fspath(path)
    try:
        with open(path, "rb") as file:
            if file.peek(2)[:2] == GZIP_MAGIC:
                with gzip.open(file) as unpacked:
                    return _read(name, unpacked, axes)
            return _read(name, file, axes)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise argument_error(IdxError, f"{name}: damaged gzip file: {error}") from error


def _read(name: str, file: IO[bytes] | gzip.GzipFile, axes: int) -> NDArray[np.uint8]:
    length = 4 + 4 * axes
    header = file.read(length)
    if header[:4] != bytes((0, 0, 8, axes)):
        others = [what for n, what in NAMES.items() if header[:4] == bytes((0, 0, 8, n))]
        kind = f" (an IDX file of {others[0]})" if others else ""
        raise argument_error(
            IdxKindError,
            f"{name}: not an IDX file of {NAMES[axes]}: it begins with {hexadecimal(header[:4])}"
            f"{kind}, expected {expected_start(axes)}",
        )
    if len(header) < length:
        raise argument_error(
            IdxError, f"{name}: truncated: its header has {len(header)} of {length} bytes"
        )
    shape = tuple(int(n) for n in np.frombuffer(header, ">u4", offset=4))
    size = " of {} x {}".format(*shape[1:]) if axes == IMAGES else ""
    announced = f"the header announces {shape[0]} {NAMES[axes]}{size}"
    expected = math.prod(shape)
    if expected == 0:
        raise argument_error(
            IdxError, f"{name}: no {'pixels' if axes == IMAGES else NAMES[axes]}: {announced}"
        )
    # The values are read in chunks: a wrong header must not reserve memory, and a file that is too
    # long must not fill it.
    values = bytearray()
    while len(values) <= expected and (chunk := file.read(CHUNK_BYTES)):
        values += chunk
    if len(values) < expected:
        raise argument_error(
            IdxError, f"{name}: truncated: {announced} = {expected} bytes, but {len(values)} follow"
        )
    if len(values) > expected:
        raise argument_error(
            IdxError, f"{name}: wrong size: {announced} = {expected} bytes, but more follow"
        )
    return np.frombuffer(values, np.uint8).reshape(shape)


def expected_start(axes: int) -> str:
    """Show how a file of such a kind begins."""
    return hexadecimal(bytes((0, 0, 8, axes)))


def hexadecimal(data: bytes) -> str:
    """Show bytes."""
    return data.hex(" ") or "nothing"
