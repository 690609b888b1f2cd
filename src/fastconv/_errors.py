"""Errors of arguments, whose messages begin with the name of what the user called.

Readers of arguments are shared, so a message alone does not say who refuses: ``stride must be a
positive int or a pair of them, got 0`` may come from a dozen functions. `argument_error` looks for
the name on the stack, where a call that fails has left it anyway. So a call that succeeds pays
nothing for it (a wrapper around each function took 0.04 us a call, and 0.1 us more for each
keyword), no reader passes names along, and a layer's call of a function is an error of the layer.
"""

from __future__ import annotations

import sys
import warnings
from types import CodeType, FrameType, FunctionType
from typing import Any, TypeVar

import numpy as np

Named = TypeVar("Named", bound=Any)
Error = TypeVar("Error", bound=Exception)

FEW_ELEMENTS = 8
"""The largest number of elements of an array that a message shows."""
LONGEST_SHOWN = 200
"""The largest number of characters of a refused argument in a message."""

_public: dict[CodeType, FunctionType | type] = {}
"""The functions that messages name, and the classes of the methods, by their code."""


def named(public: Named) -> Named:
    """Make errors begin with the name of a function or, in all methods of a class, of the class.

    A method that another class inherits is called by the name of that class, which is the one that
    the user knows. This decorator returns what it is given.
    """
    functions = vars(public).values() if isinstance(public, type) else (public,)
    for function in functions:
        if isinstance(function, classmethod):
            function = function.__func__
        if isinstance(function, FunctionType):
            _public[function.__code__] = public
    return public


def argument_error(kind: type[Error], message: str) -> Error:
    """Return an error that begins with the name of what was called from outside of the package."""
    name = _called()
    return kind(message if name is None else f"{name}: {message}")


def shown(value: object) -> str:
    """Write a refused argument as code or, if it is a large array or long, describe or cut it."""
    if isinstance(value, np.ndarray) and value.size > FEW_ELEMENTS:
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 3]}..."


def reason(error: Exception) -> str:
    """Return the message of an error, to be told within another message that the name begins.

    The name of something else, which code of a user's between the two has called, stays.
    """
    return str(error).removeprefix(f"{_called()}: ")


def warn(message: str) -> None:
    """Warn of a call at the line of the user's that made it."""
    level = 2  # The caller's.
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and _is_ours(frame):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, UserWarning, stacklevel=level)


def without_name(error: Exception) -> str:
    """Return the message of an error for readers who have called no function, but a command."""
    name, found, message = str(error).partition(": ")
    known = {public.__name__ for public in _public.values()}
    return message if found and name in known else str(error)


def _called() -> str | None:
    """Return the name of what was called from outside of the package, which is on the stack."""
    name = None
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and _is_ours(frame):
        public = _public.get(frame.f_code)
        if public is not None:
            instance = frame.f_locals.get("self")
            inherits = isinstance(public, type) and isinstance(instance, public)
            name = (type(instance) if inherits else public).__name__
        frame = frame.f_back
    return name


def _is_ours(frame: FrameType) -> bool:
    """Tell whether a frame is of the package, or between two of its frames around a ``with``."""
    package, _, _ = str(frame.f_globals.get("__name__")).partition(".")
    return package in ("fastconv", "contextlib")
