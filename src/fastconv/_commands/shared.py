"""What sub-commands of ``fastconv`` share: the error, types of arguments, the report file."""

from __future__ import annotations

import argparse
import contextlib
import io
import math
import sys
from collections.abc import Callable, Iterator
from typing import TextIO

from fastconv._files import check_writable, replacing

__all__ = [
    "CommandError",
    "cannot_write",
    "count_to",
    "fraction",
    "open_report",
    "path",
    "positive_number",
]


class CommandError(Exception):
    """The command cannot go on; the message is all that the user needs to see."""


def path(text: str) -> str:
    """Read an argument that is a path."""
    if not text:
        raise argparse.ArgumentTypeError("the path is empty")
    return text


def count_to(largest: int) -> Callable[[str], int]:
    """Return a reader of arguments that are whole numbers from 1 on."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = 0
        if not 1 <= value <= largest:
            raise argparse.ArgumentTypeError(
                f"must be a whole number from 1 to {largest}, got {text!r}"
            )
        return value

    return parse


def positive_number(text: str) -> float:
    """Read an argument that is a number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text!r}")
    return value


def fraction(text: str) -> float:
    """Read an argument that is a number from 0 on, and less than 1."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to less than 1, got {text!r}")
    return value


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
    try:
        check_writable(target)
    except OSError as error:
        raise cannot_write(target, error) from error
    text = io.StringIO()
    yield text
    try:
        with replacing(target) as file:
            file.write(text.getvalue().encode())
    except OSError as error:
        raise cannot_write(target, error) from error


def cannot_write(target: object, error: Exception) -> CommandError:
    """Make the error that says that, and why, a file cannot be written."""
    return CommandError(f"cannot write {target}: {getattr(error, 'strerror', None) or error}")
