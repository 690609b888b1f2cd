"""Tables as aligned text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["table"]


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
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    lines = [heads, ["-" * width for width in widths], *cells]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
