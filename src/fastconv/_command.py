"""What every sub-command of ``fastconv`` shares: its error, and its report file."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

__all__ = ["CommandError", "open_report"]


class CommandError(Exception):
    """The command cannot go on; the message is all that the user needs to see."""


@contextlib.contextmanager
def open_report(target: str) -> Iterator[TextIO]:
    """Collect a text and give it the name `target` only if the block succeeds.

    Parameters
    ----------
    target : str
        A path, or ``"-"`` for standard output. Devices and pipes are written directly.

    Yields
    ------
    TextIO
        What is written here becomes the file's content.

    Raises
    ------
    CommandError
        If the file cannot be created, before the block runs, or written, after it.
    """
    if target == "-":
        yield sys.stdout
        return
    path = Path(target)
    try:
        in_place = path.exists() and not path.is_file()
        if not in_place:
            path = path.resolve()  # a link stays a link
        if path.exists() and not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        scratch = path if in_place else path.with_name(f".fastconv-{os.getpid()}.tmp")
        file = scratch.open("w" if in_place else "x", encoding="utf-8")
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        raise _cannot_write(target, error) from error
    text = io.StringIO()
    try:
        yield text
        try:
            with file:
                file.write(text.getvalue())
            if not in_place:
                scratch.replace(path)
        except OSError as error:
            raise _cannot_write(target, error) from error
    finally:
        file.close()
        if not in_place:
            scratch.unlink(missing_ok=True)


def _cannot_write(target: str, error: Exception) -> CommandError:
    return CommandError(f"cannot write {target}: {getattr(error, 'strerror', None) or error}")
