"""What the functions that draw several pictures read their titles with."""

from __future__ import annotations

from collections.abc import Sequence

from fastconv._errors import argument_error, shown

__all__ = ["check_titles"]


def check_titles(titles: Sequence[object], count: int, what: str) -> None:
    try:
        number_of_titles = len(titles)
    except TypeError:
        raise argument_error(TypeError, f"titles must be a sequence, got {shown(titles)}") from None
    if number_of_titles not in (0, count):
        raise argument_error(ValueError, f"got {number_of_titles} titles for {count} {what}")
