"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from fastconv._errors import argument_error, shown

__all__ = ["check_writable", "path_of", "replacing"]


def path_of(value: str | os.PathLike[str], name: str) -> str:
    """Read an argument that is a path."""
    try:
        return os.fsdecode(value)
    except TypeError:
        raise argument_error(TypeError, f"{name} must be a path, got {shown(value)}") from None


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Yield a file that takes the name `path` only if the block succeeds.

    Parameters
    ----------
    path : path-like
        A file that may exist. It keeps its old content until the block has ended, and a link stays
        a link. Devices and pipes are written directly.

    Yields
    ------
    binary file
        A file in the same folder.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    target = _target(path)
    if _is_special(target):
        with target.open("wb") as special:
            yield special
        return
    scratch, file = _open_beside(target)
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            shutil.copymode(target, scratch)
        with _called(target):
            scratch.replace(target)
    finally:
        with contextlib.suppress(OSError):
            scratch.unlink()


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise the OSError that `replacing` would raise at its beginning."""
    target = _target(path)
    if _is_special(target):
        _check_access(target)
        return
    scratch, file = _open_beside(target)
    file.close()
    scratch.unlink()


def _target(path: str | os.PathLike[str]) -> Path:
    """Follow links."""
    try:
        target = Path(path).resolve()
    except RuntimeError:
        target = Path(path)
    if target.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.fspath(path))
    return target


def _is_special(target: Path) -> bool:
    return target.exists() and not target.is_file() and not target.is_dir()


def _open_beside(target: Path) -> tuple[Path, IO[bytes]]:
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
    if target.exists():
        _check_access(target)
    scratch = target.with_name(f".fastconv-{secrets.token_hex(8)}.tmp")
    with _called(target):
        return scratch, scratch.open("xb")


def _check_access(target: Path) -> None:
    if not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(target))


@contextlib.contextmanager
def _called(target: Path) -> Iterator[None]:
    """Name the file that the user knows in errors of the one beside it."""
    try:
        yield
    except OSError as error:
        error.filename = str(target)
        del error.filename2  # With None, the message would end in "-> None".
        raise
