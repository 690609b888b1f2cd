""".npz files of parameters and checkpoints, which may come from anywhere.

A compressed array can be a thousand times larger than its file. So the headers of the arrays, a few
bytes each, are read first, and the reader compares them with what it needs. Only then is an array
read, and no further than its header announces.
"""

from __future__ import annotations

import contextlib
import io
import os
import zipfile
from collections.abc import Iterator, KeysView, Mapping
from dataclasses import dataclass
from math import prod
from typing import IO, Any

import numpy as np

from fastconv._arrays import Array, Shape
from fastconv._errors import argument_error
from fastconv._files import replacing
from fastconv.models._parameters import Parameters, assign, check_array, check_names

__all__ = ["Archive", "DamagedFileError", "Header", "load", "open_npz", "write_npz"]

HEADER_BYTES = 1 << 14
"""The largest header of an array that is read, in bytes. NumPy itself reads 10,000 bytes."""
CHUNK_BYTES = 1 << 20
"""The number of bytes of an array that are unpacked at once, in memory beside the array."""
SUFFIX = ".npy"
"""The ending that NumPy gives the names of arrays within the file."""


class DamagedFileError(ValueError):
    """A file is damaged or of another format, so that nothing can be read from it."""


@dataclass(frozen=True)
class Header:
    """What a file says of an array."""

    shape: Shape
    dtype: np.dtype[Any]
    fortran_order: bool
    start: int
    """The length of the header itself, in bytes."""

    @property
    def nbytes(self) -> int:
        """The size of the array's numbers."""
        return prod(self.shape) * self.dtype.itemsize


class Archive:
    """An open .npz file."""

    def __init__(self, path: str, file: IO[bytes]) -> None:
        self._path = path
        self._size = os.fstat(file.fileno()).st_size
        with self._in_order():
            self._archive = zipfile.ZipFile(file)
            self._members: dict[str, zipfile.ZipInfo] = {}
            for info in self._archive.infolist():
                name = info.filename.removesuffix(SUFFIX)
                if name in self._members:
                    raise ValueError(f"it holds {name} twice")
                self._members[name] = info

    @property
    def names(self) -> KeysView[str]:
        """The names of the arrays, in the order of the file."""
        return self._members.keys()

    def header(self, name: str) -> Header:
        """Read what the file says of an array; KeyError if it does not hold one of the name."""
        info = self._members[name]
        with self._in_order(name), self._archive.open(info) as member:
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                # The other methods are unpacked without a bound, and NumPy never uses them.
                raise ValueError(f"it is compressed by method {info.compress_type}")
            header = _header(member.read(HEADER_BYTES))
            if info.file_size != header.start + header.nbytes:
                raise ValueError(
                    f"its header announces {header.nbytes} bytes, but "
                    f"{info.file_size - header.start} follow"
                )
        return header

    def read(self, name: str) -> Array:
        """Read an array whose header has been found to be as it must be."""
        header = self.header(name)
        with self._in_order(name), self._archive.open(self._members[name]) as member:
            member.read(header.start)
            numbers = np.empty(header.nbytes, np.uint8)
            done = 0
            while part := member.read(CHUNK_BYTES):  # At the end the checksum is compared.
                numbers[done : done + len(part)] = np.frombuffer(part, np.uint8)
                done += len(part)
            if done != header.nbytes:
                raise ValueError(f"it ends after {done} of {header.nbytes} bytes")
            return numbers.view(header.dtype).reshape(
                header.shape, order="F" if header.fortran_order else "C"
            )

    def read_uncompressed(self, name: str) -> Array:
        """Read an array of any size that `write_npz` writes: none is larger than its file."""
        if self.header(name).nbytes > self._size:
            raise argument_error(
                DamagedFileError,
                f"{self._path} is damaged: {name} is larger than the whole file of {self._size} "
                "bytes, though it must not be compressed",
            )
        return self.read(name)

    @contextlib.contextmanager
    def _in_order(self, name: str | None = None) -> Iterator[None]:
        """Turn whatever damaged files raise, which is almost anything, into one error."""
        try:
            yield
        except (MemoryError, DamagedFileError):
            raise
        except Exception as error:
            which = "" if name is None else f"{name}: "
            raise argument_error(
                DamagedFileError, f"{self._path} is damaged: {which}{error}"
            ) from error


def _header(data: bytes) -> Header:
    """Read an array's header from the beginning of its file."""
    beginning = io.BytesIO(data)
    version = np.lib.format.read_magic(beginning)
    if version == (1, 0):
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(beginning)
    elif version == (2, 0):
        shape, fortran_order, dtype = np.lib.format.read_array_header_2_0(beginning)
    else:
        raise ValueError(f"it is of version {version}, not (1, 0) or (2, 0)")
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    if min(shape, default=0) < 0:
        raise ValueError(f"its shape is {shape}")
    return Header(shape, dtype, fortran_order, beginning.tell())


@contextlib.contextmanager
def open_npz(path: str) -> Iterator[Archive]:
    """Open an .npz file, however it is called.

    Yields
    ------
    Archive
        Its headers and arrays, which are read when asked for.

    Raises
    ------
    OSError
        If it cannot be opened.
    DamagedFileError
        If it is no such file; the archive's methods raise it, too.
    """
    with open(path, "rb") as file:
        if file.read(2) != b"PK":
            raise argument_error(
                DamagedFileError,
                f"{path} is not an .npz file; if it is a pickle, give "
                "fastconv.models.read_pickle(...) in its place",
            )
        yield Archive(path, file)


def load(to: Parameters, path: str) -> None:
    """Set all of a network's arrays from an .npz file, as `assign` does.

    Nothing is unpacked unless the file announces the names, shapes and dtypes of the network.
    """
    with open_npz(path) as archive:
        check_names(to, archive.names, path)
        for name in to:
            check_array(to, name, archive.header(name), path)
        assign(to, {name: archive.read(name) for name in to}, path)


def write_npz(path: str, arrays: Mapping[str, Array]) -> None:
    """Write arrays, uncompressed, to a file of exactly this name, whole or not at all."""
    with replacing(path) as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # it has an argument of another type, too
