"""Settings of the whole process that hold within a ``with`` block."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Setting(Generic[Value]):
    """Sets a value within a ``with`` block, which may be entered again within itself."""

    def __init__(
        self, value: Value, get: Callable[[], Value], change: Callable[[Value], None]
    ) -> None:
        self._value, self._get, self._change = value, get, change
        self._before: list[Value] = []

    def __enter__(self) -> None:
        self._before.append(self._get())
        self._change(self._value)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._change(self._before.pop())
