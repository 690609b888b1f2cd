"""CIFAR-10 and CIFAR-100: the files of their binary and of their Python version, or an archive.

A binary file is a row of records: the labels, a byte each, then 3 x 32 x 32 pixels. A file of the
Python version is a pickled dict of the same, which is read without running it. An archive (.tar or
.tar.gz) is read from its beginning to its end; nothing of it is written to the disk, and of its
members' paths only the last part is looked at. All sizes are bounded, whatever a file announces.
"""

from __future__ import annotations

import contextlib
import gzip
import itertools
import tarfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np

from fastconv._arrays import Array
from fastconv._errors import argument_error
from fastconv._idx import GZIP_MAGIC
from fastconv._unpickling import ListMachine, PickledArray

__all__ = ["CIFAR_10", "CIFAR_100", "Kind", "Labels", "read_cifar", "read_names"]

SHAPE = (3, 32, 32)
PIXELS = 3 * 32 * 32

MOST_FILE_BYTES = 1 << 28
"""The largest file that is read. The largest one of the data sets has 155 million bytes."""
MOST_ARCHIVE_BYTES = 1 << 29
"""The most bytes that an archive may unpack to. Those of the data sets have 190 million."""
MOST_MEMBERS = 1000
"""The most members of an archive. Those of the data sets have less than ten."""
MOST_INSTRUCTIONS = 1 << 21
"""The most instructions of a pickle. The largest one of the data sets has 300,000."""
CHUNK_BYTES = 1 << 20

Files: TypeAlias = dict[str, bytes]


@dataclass(frozen=True)
class Labels:
    """One of the labels of every image."""

    key: str
    """What a pickled batch calls them."""
    classes: int
    names_key: str
    """What a pickled file of names calls the names of the classes."""


@dataclass(frozen=True)
class Kind:
    """One of the two data sets."""

    name: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    labels: tuple[Labels, ...]
    """What the first bytes of a binary record are."""
    pickled_names: str
    text_names: tuple[str, ...]
    """The files with the names of the classes, of each of the labels in the binary version."""

    @property
    def pickled(self) -> tuple[str, ...]:
        """The files of images of the Python version."""
        return self.train + self.test

    @property
    def binary(self) -> tuple[str, ...]:
        """The files of images of the binary version."""
        return tuple(f"{name}.bin" for name in self.pickled)


CIFAR_10 = Kind(
    "CIFAR-10",
    tuple(f"data_batch_{i}" for i in range(1, 6)),
    ("test_batch",),
    (Labels("labels", 10, "label_names"),),
    "batches.meta",
    ("batches.meta.txt",),
)
CIFAR_100 = Kind(
    "CIFAR-100",
    ("train",),
    ("test",),
    (
        Labels("coarse_labels", 20, "coarse_label_names"),
        Labels("fine_labels", 100, "fine_label_names"),
    ),
    "meta",
    ("coarse_label_names.txt", "fine_label_names.txt"),
)


def read_cifar(path: str, kind: Kind, which: int = 0) -> tuple[tuple[Array, Array], ...]:
    """Read the images (N, 3, 32, 32) to train and to test with, and one of their labels, as uint8.

    Parameters
    ----------
    path : str
        A folder with all files of one version, or an archive of them.
    kind : Kind
        The data set.
    which : int, default 0
        The place of the labels among those of the data set.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If files are missing or damaged.
    """
    files = _read_files(path, [kind.binary, kind.pickled], f"files of {kind.name}")
    parts = []
    for names in (kind.train, kind.test):
        found = [
            (_pickled if name in kind.pickled else _binary)(_place(path, name), data, kind, which)
            for name, data in files.items()
            if name.removesuffix(".bin") in names
        ]
        images = np.concatenate([images for images, _ in found])
        parts.append((images.reshape(-1, *SHAPE), np.concatenate([labels for _, labels in found])))
    return tuple(parts)


def _damaged(place: str, what: str) -> ValueError:
    return argument_error(ValueError, f"{place}: {what}")


def _binary(place: str, data: bytes, kind: Kind, which: int) -> tuple[Array, Array]:
    """Read the images (N, 3072) and labels (N,) of a binary file."""
    count = len(kind.labels)
    record = count + PIXELS
    if not data or len(data) % record:
        rest = f", {len(data) % record} bytes follow the last one" if data else ""
        raise _damaged(
            place,
            f"truncated, or no binary file of {kind.name}: {len(data)} bytes are "
            f"{len(data) // record} images of {record} bytes{rest}",
        )
    records = np.frombuffer(data, np.uint8).reshape(-1, record)
    for i, labels in enumerate(kind.labels):
        _check_labels(place, records[:, i], labels)
    return records[:, count:], records[:, which]


def _check_labels(place: str, found: Array, labels: Labels) -> None:
    wrong = np.flatnonzero((found < 0) | (found >= labels.classes))
    if wrong.size:
        raise _damaged(
            place,
            f"the label of image {wrong[0]} is {found[wrong[0]]}, but {labels.key} are from 0 to "
            f"{labels.classes - 1}",
        )


def _pickled(place: str, data: bytes, kind: Kind, which: int) -> tuple[Array, Array]:
    """Read the images (N, 3072) and labels (N,) of a pickled file."""
    content = _unpickled(place, data, f"batch of {kind.name}")
    images = _array_of(place, content, "data")
    if images.dtype != np.uint8 or images.ndim != 2 or images.shape[1] != PIXELS or not len(images):
        raise _damaged(
            place,
            f"data must be of uint8 and of {PIXELS} columns, a row for every image, got shape "
            f"{images.shape} and dtype {images.dtype}",
        )
    columns = []
    for labels in kind.labels:
        found = _array_of(place, content, labels.key)
        if found.ndim != 1 or found.dtype.kind not in "iu":
            raise _damaged(place, f"{labels.key} must be a row of integers")
        if len(found) != len(images):
            raise _damaged(place, f"{len(images)} images, but {len(found)} {labels.key}")
        _check_labels(place, found, labels)
        columns.append(found.astype(np.uint8))
    return images, columns[which]


def _unpickled(place: str, data: bytes, what: str) -> dict[str, Any]:
    try:
        content = ListMachine(data, MOST_INSTRUCTIONS).run()
    except MemoryError:
        raise
    except Exception as error:  # Damaged pickles raise almost anything.
        raise _damaged(place, f"truncated, or no pickled {what}: {error}") from error
    if not isinstance(content, dict):
        raise _damaged(place, f"no pickled {what}: it holds a {type(content).__name__}, no dict")
    return content


def _array_of(place: str, content: dict[str, Any], key: str) -> Array:
    """Return an array, or a list of integers as one, out of a pickled dict."""
    value = content.get(key)
    if isinstance(value, list) and all(type(n) is int and not abs(n) >> 31 for n in value):
        return np.array(value, np.int64)
    if not isinstance(value, PickledArray):
        what = f"is a {type(value).__name__}" if key in content else "is missing"
        raise _damaged(place, f"{key} {what}, where an array or a list of integers is expected")
    try:
        return value.array
    except MemoryError:
        raise
    except Exception as error:
        raise _damaged(place, f"{key} is damaged: {error}") from error


# --- Names of the classes -------------------------------------------------------------------


def read_names(path: str, which: str) -> tuple[str, ...]:
    """Read the names of classes.

    Parameters
    ----------
    path : str
        A folder with the file of names of one version of a data set, or an archive.
    which : {"coarse", "fine"}
        Which labels of CIFAR-100; CIFAR-10 has one kind, which is fine.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If there is no such file, or if it is damaged.
    """
    choices = {}
    for kind in (CIFAR_10, CIFAR_100):
        for labels, text in zip(kind.labels, kind.text_names, strict=True):
            if labels.key.startswith("coarse") == (which == "coarse"):
                choices[text] = choices[kind.pickled_names] = labels
    files = _read_files(path, [(name,) for name in choices], f"names of {which} classes")
    [(name, data)] = files.items()
    labels, place = choices[name], _place(path, name)
    if name.endswith(".txt"):
        found: Any = [line for line in data.splitlines() if line]
    else:
        found = _unpickled(place, data, "names of classes").get(labels.names_key)
    try:
        names = tuple(name.decode() if isinstance(name, bytes) else name for name in found)
    except (TypeError, UnicodeDecodeError):
        names = ()
    if len(names) != labels.classes or not all(isinstance(name, str) for name in names):
        raise _damaged(place, f"{labels.names_key} must be {labels.classes} names")
    return names


# --- Folders and archives -------------------------------------------------------------------


def _place(path: str, name: str) -> str:
    return str(Path(path, name)) if Path(path).is_dir() else f"{path}: {name}"


def _read_files(path: str, choices: Sequence[Sequence[str]], what: str) -> Files:
    """Read the files of the first choice of which a folder or an archive holds all."""
    names = set(itertools.chain.from_iterable(choices))
    folder = Path(path)
    if folder.is_dir():
        present = {name for name in names if (folder / name).is_file()}
        archive = None
    else:
        archive = _read_archive(path, names)
        present = set(archive)
    for choice in choices:
        if present.issuperset(choice):
            return {n: _read(folder / n) if archive is None else archive[n] for n in choice}
    most = max(choices, key=lambda choice: len(present.intersection(choice)))
    if present.intersection(most):
        missing = ", ".join(name for name in most if name not in present)
        raise _damaged(path, f"it lacks {missing}")
    expected = " or ".join(dict.fromkeys(choice[0] for choice in choices))
    raise _damaged(path, f"it holds no {what}, such as {expected}")


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(MOST_FILE_BYTES + 1)
    if len(data) > MOST_FILE_BYTES:
        raise _damaged(str(path), _too_large("it", MOST_FILE_BYTES))
    return data


def _too_large(what: str, most: int) -> str:
    return f"{what} is of more than {most:,} bytes, larger than any of these data sets"


class _Bounded:
    """A file that refuses to be read further than a limit, which tarfile reads from."""

    def __init__(self, file: IO[bytes] | gzip.GzipFile) -> None:
        self.file, self.left = file, MOST_ARCHIVE_BYTES

    def read(self, size: int) -> bytes:
        data = self.file.read(min(size, CHUNK_BYTES))
        self.left -= len(data)
        if self.left < 0:
            raise ValueError(_too_large("what it unpacks to", MOST_ARCHIVE_BYTES))
        return data


def _read_archive(path: str, names: Collection[str]) -> Files:
    """Read the members of an archive that are called so, in whatever folder they lie."""
    with open(path, "rb") as file, contextlib.ExitStack() as stack:
        source: Any = file
        if file.peek(2)[:2] == GZIP_MAGIC:
            source = stack.enter_context(gzip.open(file))
        try:
            return _read_members(_Bounded(source), names)
        except Exception as error:  # Damaged archives raise almost anything.
            of_disk = isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile)
            if of_disk or isinstance(error, MemoryError):
                raise
            raise _damaged(path, f"a damaged archive, or none: {error}") from error


def _read_members(source: Any, names: Collection[str]) -> Files:
    found: Files = {}
    with tarfile.open(fileobj=source, mode="r|") as archive:
        for count, member in enumerate(archive):
            if count == MOST_MEMBERS:
                raise ValueError(f"it has more than {MOST_MEMBERS} members")
            name = member.name.rpartition("/")[2]
            if name not in names or member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
                continue
            if name in found:
                raise ValueError(f"it holds {name} twice")
            if member.size > MOST_FILE_BYTES:
                raise ValueError(_too_large(name, MOST_FILE_BYTES))
            content = archive.extractfile(member)
            found[name] = b"" if content is None else content.read()
    while source.read(CHUNK_BYTES):  # Only at the end does gzip compare its checksum.
        pass
    return found
