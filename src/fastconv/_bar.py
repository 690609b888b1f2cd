"""Bars of progress."""

from __future__ import annotations

import contextlib
import sys
from typing import Any

__all__ = ["open_bar"]


def open_bar(total: int, unit: str, done: int = 0) -> Any:
    """Show a bar on standard error; None if that is no terminal, or if tqdm is not installed."""
    if sys.stderr is not None and sys.stderr.isatty():
        with contextlib.suppress(ImportError):
            from tqdm import tqdm

            return tqdm(total=total, initial=done, unit=unit, leave=False)
    return None
