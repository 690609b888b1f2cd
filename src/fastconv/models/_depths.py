"""The argument of networks that a paper describes in several depths."""

from __future__ import annotations

from collections.abc import Collection

from fastconv._errors import argument_error, shown

__all__ = ["check_depth"]


def check_depth(depth: int, depths: Collection[int]) -> None:
    """Raise a ValueError unless a network has been described in this depth."""
    if depth not in tuple(depths):
        accepted = ", ".join(map(str, depths))
        raise argument_error(ValueError, f"depth must be one of {accepted}, got {shown(depth)}")
