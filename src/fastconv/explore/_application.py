"""What the page asks for, whichever way its messages come: by HTTP or from a notebook."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fastconv._arrays import Array
from fastconv.explore._catalog import Picture
from fastconv.explore._kernel import Settings, backward, forward
from fastconv.explore._protocol import Refusal, packed, unpacked

__all__ = ["Application"]

Request = tuple[dict[str, Any], Mapping[str, Array]]


class Application:
    """Pictures and perhaps a network, and the answers to questions about them.

    Nothing is kept from one question to the next but results that any question would find again.

    Parameters
    ----------
    pictures : sequence of Picture
        What the page begins with.
    network : NetworkView, optional
        What the network view shows.
    """

    def __init__(self, pictures: Sequence[Picture], network: Any = None) -> None:
        self.pictures = pictures
        self.network = network
        # One question at a time bounds the memory; each uses all threads anyway.
        self._lock = threading.Lock()
        self._answers: dict[str, Callable[..., bytes]] = {
            "start": self._start,
            "forward": self._forward,
            "backward": self._backward,
        }
        if network is not None:
            self._answers |= {
                "maps": self._maps,
                "channel": self._channel,
                "maximum": self._maximum,
            }

    @property
    def questions(self) -> frozenset[str]:
        """The names of the questions."""
        return frozenset(self._answers)

    def answer(self, question: str, message: bytes) -> bytes:
        """Answer one message with another.

        Raises
        ------
        Refusal
            If there is no such question, or it cannot be answered; the message says why.
        """
        if question not in self._answers:
            raise Refusal(f"there is no question {question[:40]!r}", 404)
        settings, arrays = unpacked(message)
        with self._lock:
            try:
                return self._answers[question](settings, arrays)
            except MemoryError:
                raise Refusal("not enough memory for this", 413) from None

    def start_message(self) -> bytes:
        """Return pictures and network as the page wants them first."""
        arrays = {f"picture{i}": picture.pixels for i, picture in enumerate(self.pictures)}
        named = [{"name": picture.name, "high": picture.high} for picture in self.pictures]
        network = None if self.network is None else self.network.description()
        return packed({"pictures": named, "network": network}, arrays)

    def _start(self, settings: dict[str, Any], arrays: Mapping[str, Array]) -> bytes:
        return self.start_message()

    def _forward(self, settings: dict[str, Any], arrays: Mapping[str, Array]) -> bytes:
        return packed({}, forward(Settings.read(settings), arrays))

    def _backward(self, settings: dict[str, Any], arrays: Mapping[str, Array]) -> bytes:
        row, column = settings.pop("row", None), settings.pop("column", None)
        return packed({}, backward(Settings.read(settings), arrays, row, column))

    def _maps(self, settings: dict[str, Any], arrays: Mapping[str, Array]) -> bytes:
        return packed(*self.network.maps(settings, arrays))

    def _channel(self, settings: dict[str, Any], arrays: Mapping[str, Array]) -> bytes:
        return packed(*self.network.channel(settings, arrays))

    def _maximum(self, settings: dict[str, Any], arrays: Mapping[str, Array]) -> bytes:
        return packed(*self.network.maximum(settings))
