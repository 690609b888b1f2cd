"""Tables as aligned text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["table"]


def table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Align columns, numbers to the right and all else to the left.

    Parameters
    ----------
    heads : sequence of str
        Titles of the columns.
    rows : sequence of sequences
        Cells, as many in each row as there are heads. The first row decides the alignment.

    Returns
    -------
    str
        Lines, without a line break at the end.
    """
    right = [str(cell).replace(".", "").isdecimal() for cell in rows[0]]
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    lines = [heads, ["-" * width for width in widths], *cells]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    )
