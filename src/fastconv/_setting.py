"""Settings: a value for the whole process, and others for contexts within it."""

from __future__ import annotations

from contextvars import ContextVar
from types import TracebackType
from typing import Generic, TypeAlias, TypeVar

Value = TypeVar("Value")
Nested: TypeAlias = "tuple[Value, Nested[Value]] | None"


class Setting(Generic[Value]):
    """A value of the process, which a ``with`` block replaces in its own context alone.

    A context is a thread's or an asyncio task's (`contextvars`), so blocks that overlap in time do
    not see each other. It keeps the values of its blocks as nested pairs (value, those outside).
    """

    def __init__(self, name: str, value: Value) -> None:
        self.everywhere = value
        self.nested: ContextVar[Nested[Value]] = ContextVar(name, default=None)

    def get(self) -> Value:
        """Return the innermost block's value or, outside of all blocks, the process's."""
        nested = self.nested.get()
        return self.everywhere if nested is None else nested[0]


class Block(Generic[Value]):
    """A ``with`` block that gives a setting a value; it may be entered again, and by all threads.

    Nothing about an entry is kept here: what is left is always the context's innermost block, so
    that a context whose blocks have all been left has the process's value, in whatever order
    interleaved generators leave theirs.
    """

    def __init__(self, setting: Setting[Value], value: Value) -> None:
        self._setting, self._value = setting, value

    def __enter__(self) -> None:
        nested = self._setting.nested
        nested.set((self._value, nested.get()))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        nested = self._setting.nested
        innermost = nested.get()
        # A generator may have been entered in another context than the one that closes it.
        if innermost is not None:
            nested.set(innermost[1])
