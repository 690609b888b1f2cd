"""Pickled dicts of arrays, as the textbook's networks save their parameters.

A pickle is a program for a machine with a stack. The machine here runs the part of the language
that dicts of arrays are written in. It imports and calls nothing that a file names, reserves no
memory that a file only announces, and looks at what it has built but never through it: tuples of
tuples may be exponentially large.
"""

from __future__ import annotations

import os
import pickle
import pickletools
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from fastconv._arrays import Array
from fastconv._errors import argument_error, named
from fastconv._files import path_of

__all__ = ["read_pickle"]

CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
"""The values of the instructions that push a constant."""
VALUES = frozenset(
    ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1")
    + ("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8")
    + ("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8")
)
"""The instructions that push the value that stands behind them in the file."""
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
"""The lengths of the tuples that instructions make from the top of the stack."""


@dataclass(frozen=True)
class _Name:
    """A function or class that a pickle refers to by its name."""

    name: str


class _PickledDtype:
    """What a pickle says of a dtype: its code, then its byte order."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.code, self.order = code, "="

    def set_state(self, state: Any) -> None:
        self.order = state[1]

    def dtype(self) -> np.dtype[Any]:
        if not isinstance(self.code, str) or self.code[:1] not in "fiub":
            raise pickle.UnpicklingError("an array is not of numbers")
        return np.dtype(f"{self.order if self.order in ('<', '>') else '='}{self.code}")


class _PickledArray:
    """What a pickle says of an array: bytes, dtype, shape, order, and perhaps order of axes."""

    def __init__(self, *parts: Any) -> None:
        self.parts = parts

    def set_state(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        self.parts = data, dtype, shape, "F" if fortran else "C"

    @cached_property
    def array(self) -> Array:
        data, dtype, shape, order, *axes = self.parts
        if not isinstance(dtype, _PickledDtype) or not isinstance(data, (bytes, bytearray)):
            raise pickle.UnpicklingError("an array is not of numbers")
        numbers = np.frombuffer(data, dtype.dtype())
        if not all(isinstance(n, int) and n >= 0 for n in shape) or prod(shape) != numbers.size:
            raise pickle.UnpicklingError(
                f"{numbers.size} numbers are not as many as its shape says"
            )
        array = numbers.reshape(shape, order="F" if order == "F" else "C")
        return (array.transpose(axes[0]) if axes else array).copy()


class _Machine:
    """The machine that a pickle is a program for, as far as dicts of arrays need it."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.encodable = len(data)

    def run(self) -> Any:
        """Return what the pickle makes."""
        for opcode, value, _ in pickletools.genops(self.data):
            if opcode.name == "STOP":
                return self.stack.pop()
            self._step(opcode.name, value)
        raise pickle.UnpicklingError("it has no end")

    def _step(self, name: str, value: Any) -> None:
        stack = self.stack
        if name in VALUES:
            stack.append(value)
        elif name in CONSTANTS:
            stack.append(CONSTANTS[name])
        elif name == "MARK":
            self.marks.append(len(stack))
        elif name in TUPLES:
            stack.append(tuple(self._popped(len(stack) - TUPLES[name])))
        elif name == "TUPLE":
            stack.append(tuple(self._popped(self.marks.pop())))
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name == "DICT":
            stack.append(self._set_items({}, self._popped(self.marks.pop())))
        elif name == "SETITEMS":
            items = self._popped(self.marks.pop())
            self._set_items(stack[-1], items)
        elif name == "SETITEM":
            items = self._popped(len(stack) - 2)
            self._set_items(stack[-1], items)
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[value] = stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self.memo[value])
        elif name == "GLOBAL":
            stack.append(_Name(value.replace(" ", ".")))
        elif name == "STACK_GLOBAL":
            module, attribute = self._popped(len(stack) - 2)
            stack.append(_Name(f"{_text(module)}.{_text(attribute)}"))
        elif name == "REDUCE":
            function, arguments = self._popped(len(stack) - 2)
            stack.append(self._call(function, arguments))
        elif name == "BUILD":
            [state] = self._popped(len(stack) - 1)
            stack[-1].set_state(state)
        elif name == "PROTO" and value > pickle.HIGHEST_PROTOCOL:
            raise pickle.UnpicklingError(f"its protocol is {value}")
        elif name not in ("PROTO", "FRAME"):
            raise pickle.UnpicklingError(f"{name.lower()} is no part of dicts of arrays")

    def _popped(self, start: int) -> list[Any]:
        if start < 0:
            raise pickle.UnpicklingError("its stack is empty")
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def _set_items(self, to: Any, items: list[Any]) -> Any:
        for key, value in zip(items[::2], items[1::2], strict=True):
            to[_text(key)] = value
        return to

    def _call(self, function: Any, arguments: Any) -> Any:
        match function.name:
            case "numpy.dtype":
                return _PickledDtype(*arguments)
            case "numpy.core.multiarray._reconstruct" | "numpy._core.multiarray._reconstruct":
                return _PickledArray()
            case "numpy.core.numeric._frombuffer" | "numpy._core.numeric._frombuffer":
                return _PickledArray(*arguments)
            case "_codecs.encode":  # Protocols 0 to 2 write bytes as a text to be encoded.
                return self._encoded(*arguments)
            case "__builtin__.bytes":  # Protocols 0 to 2 write empty bytes as a call of bytes.
                return b""
            case "collections.OrderedDict":
                return {}
        raise pickle.UnpicklingError(
            f"it holds {function.name}, where only NumPy arrays in a dict are read"
        )

    def _encoded(self, text: str, _: str) -> bytes:
        self.encodable -= len(text)
        if self.encodable < 0:
            raise pickle.UnpicklingError("it holds some bytes more than once")
        return text.encode("latin1")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise pickle.UnpicklingError(f"a name is a {type(value).__name__}")
    return value


@named
def read_pickle(path: str | os.PathLike[str]) -> dict[str, Array]:
    """Read a pickled dict of NumPy arrays, as the textbook's networks save their parameters.

    Safe for files from anywhere: they are not unpickled. A small machine runs the part of the
    language that such a dict is written in; what a pickle names is neither imported nor called.

    Parameters
    ----------
    path : path-like
        The pickle, of any protocol.

    Returns
    -------
    dict of str to ndarray
        The arrays, for ``network.load_params``.

    Raises
    ------
    OSError
        If the file cannot be opened.
    ValueError
        If it is not a pickle of numbers in arrays in a dict, or damaged.

    Examples
    --------
    >>> import os, pickle, tempfile
    >>> import numpy as np
    >>> from fastconv.models import read_pickle
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "params.pkl")
    ...     with open(path, "wb") as file:
    ...         pickle.dump({"b1": np.arange(3.0)}, file)
    ...     read_pickle(path)
    {'b1': array([0., 1., 2.])}
    """
    source = path_of(path, "path")
    with open(source, "rb") as file:
        data = file.read()
    try:
        return _unpickle(data)
    except Exception as error:  # Damaged pickles raise almost anything.
        raise argument_error(
            ValueError, f"{source} is not a pickled dict of arrays: {error}"
        ) from error


def _unpickle(data: bytes) -> dict[str, Array]:
    content = _Machine(data).run()
    if not isinstance(content, dict):
        raise pickle.UnpicklingError(f"it holds a {type(content).__name__}, not a dict")
    arrays, readable = {}, len(data)
    for key, value in content.items():
        if not isinstance(value, _PickledArray):
            raise pickle.UnpicklingError(f"what it calls {key!r} is a {type(value).__name__}")
        if "array" not in vars(value):  # The array was not made for another name before.
            readable -= value.array.nbytes
        if readable < 0:
            raise pickle.UnpicklingError("it holds some bytes more than once")
        arrays[key] = value.array
    return arrays
