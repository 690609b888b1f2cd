"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

__all__ = ["replacing"]


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Yield a file that takes the name `path` only if the block succeeds.

    Parameters
    ----------
    path : path-like
        A file that may exist. It keeps its old content until the block has ended.

    Yields
    ------
    binary file
        A file in the same folder.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    target = Path(path).resolve()  # a link stays a link
    scratch = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with scratch.open("wb") as file:
            yield file
        scratch.replace(target)
    finally:
        scratch.unlink(missing_ok=True)
