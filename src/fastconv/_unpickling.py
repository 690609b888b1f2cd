"""Pickles, read without running them: dicts of arrays and, for some readers, of lists.

A pickle is a program for a machine with a stack. The machine here runs the part of the language
that dicts of arrays are written in. It imports and calls nothing that a file names, reserves no
memory that a file only announces, and looks at what it has built but never through it: tuples of
tuples may be exponentially large.
"""

from __future__ import annotations

import pickle
import pickletools
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from fastconv._arrays import Array

__all__ = ["ListMachine", "Machine", "PickledArray"]

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
PYTHON_2_TEXTS = frozenset(("STRING", "BINSTRING", "SHORT_BINSTRING"))
"""The instructions that push what Python 2 called a string, which was bytes."""
MOST_ARGUMENTS = 8
"""The largest number of arguments of a call. A call copies them, so that many calls with one long
tuple would take far more memory than the file."""
LONGEST_NAME = 100
"""The largest number of characters of a name that a message shows."""


@dataclass(frozen=True)
class _Name:
    """A function or class that a pickle refers to by its name."""

    name: str


class _PickledDtype:
    """What a pickle says of a dtype: its code, then its byte order."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.code, self.order = _decoded(code), "="

    def set_state(self, state: Any) -> None:
        self.order = _decoded(state[1])

    def dtype(self) -> np.dtype[Any]:
        if not isinstance(self.code, str) or self.code[:1] not in "fiub":
            raise pickle.UnpicklingError("an array is not of numbers")
        return np.dtype(f"{self.order if self.order in ('<', '>') else '='}{self.code}")


class PickledArray:
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


class Machine:
    """The machine that a pickle is a program for, as far as dicts of arrays need it."""

    language = "dicts of arrays"

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
            raise pickle.UnpicklingError(f"{name.lower()} is no part of {self.language}")

    def _popped(self, start: int) -> list[Any]:
        if start < 0:
            raise pickle.UnpicklingError("its stack is empty")
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def _set_items(self, to: Any, items: list[Any]) -> Any:
        for key, value in zip(items[::2], items[1::2], strict=True):
            to[self._key(key)] = value
        return to

    def _key(self, value: Any) -> str:
        return _text(value)

    def _call(self, function: Any, arguments: Any) -> Any:
        if len(arguments) > MOST_ARGUMENTS:
            raise pickle.UnpicklingError(f"it calls something with {len(arguments)} arguments")
        match function.name:
            case "numpy.dtype":
                return _PickledDtype(*arguments)
            case "numpy.core.multiarray._reconstruct" | "numpy._core.multiarray._reconstruct":
                return PickledArray()
            case "numpy.core.numeric._frombuffer" | "numpy._core.numeric._frombuffer":
                return PickledArray(*arguments)
            case "_codecs.encode":  # Protocols 0 to 2 write bytes as a text to be encoded.
                return self._encoded(*arguments)
            case "__builtin__.bytes":  # Protocols 0 to 2 write empty bytes as a call of bytes.
                return b""
            case "collections.OrderedDict":
                return {}
        raise pickle.UnpicklingError(
            f"it holds {function.name[:LONGEST_NAME]}, where only NumPy arrays in a dict are read"
        )

    def _encoded(self, text: str, _: str) -> bytes:
        self.encodable -= len(text)
        if self.encodable < 0:
            raise pickle.UnpicklingError("it holds some bytes more than once")
        return text.encode("latin1")


class ListMachine(Machine):
    """A machine that reads lists, too, names that are bytes, and what Python 2 has pickled.

    Parameters
    ----------
    data : bytes
        The pickle.
    most : int
        The largest number of instructions, which bounds time and memory: an instruction of one byte
        takes a thousand times as long as one of the bytes of an array.
    """

    language = "dicts of lists and arrays"

    def __init__(self, data: bytes, most: int) -> None:
        super().__init__(data)
        self.left = most

    def _step(self, name: str, value: Any) -> None:
        self.left -= 1
        if self.left < 0:
            raise pickle.UnpicklingError("it consists of too many instructions")
        stack = self.stack
        if name in PYTHON_2_TEXTS:
            stack.append(value.encode("latin1"))
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name == "LIST":
            stack.append(self._popped(self.marks.pop()))
        elif name == "APPENDS":
            self._extend(self._popped(self.marks.pop()))
        elif name == "APPEND":
            self._extend(self._popped(len(stack) - 1))
        else:
            super()._step(name, value)

    def _extend(self, items: list[Any]) -> None:
        """Add items to the list at the top of the stack."""
        if not isinstance(self.stack[-1], list):
            raise pickle.UnpicklingError("it appends to what is no list")
        self.stack[-1].extend(items)

    def _key(self, value: Any) -> str:
        return _text(_decoded(value))


def _decoded(value: Any) -> Any:
    """Return what Python 2 has written as bytes, or Python 3 wrote as bytes for it, as a text."""
    return value.decode("latin1") if isinstance(value, bytes) else value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise pickle.UnpicklingError(f"a name is a {type(value).__name__}")
    return value
