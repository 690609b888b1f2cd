"""Settings: a value for the whole process, and others for contexts within it."""

from __future__ import annotations

from contextvars import ContextVar
from types import TracebackType
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Setting(Generic[Value]):
    """A value of the process, which a ``with`` block replaces in its own context alone.

    A context is a thread's or an asyncio task's (`contextvars`), so blocks that overlap in time do
    not see each other. It keeps the blocks that it is in, the innermost last.
    """

    def __init__(self, name: str, value: Value) -> None:
        self.everywhere = value
        self.blocks: ContextVar[tuple[Block[Value], ...]] = ContextVar(name, default=())

    def get(self) -> Value:
        """Return the innermost block's value or, outside of all blocks, the process's."""
        blocks = self.blocks.get()
        return blocks[-1].value() if blocks else self.everywhere


class Block(Generic[Value]):
    """A ``with`` block that gives a setting a value; it may be entered again, and by all threads.

    A block that is left takes its own last entry out of the context, and nothing else. Generators
    that take turns may leave their blocks in any order, and a generator may be closed in another
    context than the one that it entered its block in: other blocks keep their values.
    """

    def __init__(self, setting: Setting[Value], value: Value) -> None:
        self._setting, self._value = setting, value

    def value(self) -> Value:
        """Return what the setting is within the block."""
        return self._value

    def __enter__(self) -> None:
        blocks = self._setting.blocks
        blocks.set((*blocks.get(), self))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        entered = self._setting.blocks.get()
        for i in reversed(range(len(entered))):
            if entered[i] is self:
                self._setting.blocks.set(entered[:i] + entered[i + 1 :])
                return
