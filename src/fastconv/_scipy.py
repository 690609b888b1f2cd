"""Calls that our kernels do not cover, and SciPy's functions that do."""

from __future__ import annotations

import importlib
from typing import Any

from fastconv._errors import argument_error

replaced: dict[tuple[str, str], Any] = {}
"""SciPy's own functions, by module and name, where `fastconv.accelerate` has put ours."""


def scipy_function(name: str, argument: str, module: str = "scipy.ndimage") -> Any:
    """Return SciPy's own function for a call that our kernels do not cover.

    Parameters
    ----------
    name : str
        The function's name.
    argument : str
        What of the call is not covered, as the beginning of a sentence: "footprint with holes".
    module : str, default "scipy.ndimage"
        Where SciPy has the function.

    Raises
    ------
    ImportError
        If SciPy is not installed. The message names the argument.
    """
    original = replaced.get((module, name))  # Another thread may be putting it back.
    if original is not None:
        return original
    try:
        return getattr(importlib.import_module(module), name)
    except ImportError:
        message = f"{argument} needs SciPy: pip install scipy"
        raise argument_error(ImportError, message) from None
