"""Texts for terminals: tables, and names that files give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["printable", "table"]


def printable(text: str) -> str:
    """Write characters that terminals obey, as escapes and line breaks, as Python's literals do.

    Names in files may hold anything, and would otherwise move the cursor or clear the screen.
    """
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def table(heads: Sequence[str], rows: Sequence[Sequence[Any]], left: int = 0) -> str:
    """Align the first columns to the left and the others, numbers, to the right.

    Parameters
    ----------
    heads : sequence of str
        Titles of the columns.
    rows : sequence of sequences
        Cells, as many in each row as there are heads.
    left : int, default 0
        How many columns are texts.

    Returns
    -------
    str
        Lines, without a line break at the end.
    """
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    lines = [heads, ["-" * width for width in widths], *cells]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
