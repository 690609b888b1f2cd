"""What the page asks for, whichever way its messages come: by HTTP or from a notebook."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fastconv._arrays import Array
from fastconv.explore._catalog import Picture
from fastconv.explore._kernel import Settings, backward, forward
from fastconv.explore._protocol import Refusal, compact, packed, unpacked

__all__ = ["Application"]

MOST_KEPT = 8
"""How many images are kept for questions to come."""
FORGOTTEN = 410
"""The status of a question about an image that is not kept any more: HTTP's "Gone"."""


class Application:
    """Pictures and perhaps a network, and the answers to questions about them.

    From one question to the next, the last few images are kept. An answer names the image that came
    with the question, and further questions give the name instead: a browser needs 15 ms to send a
    picture of 512 x 512 pixels, and fastconv 1 ms for all that is asked about it.

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
        self._images: OrderedDict[str, Array] = OrderedDict()
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

    def _forward(self, settings: dict[str, Any], arrays: dict[str, Array]) -> bytes:
        name = self._keep(settings, arrays)
        pictures = forward(Settings.read(settings), arrays)
        # A browser takes longer to receive a picture than to find what is above 0.
        pictures.pop("rectified", None)
        return packed({"image": name}, {name: compact(array) for name, array in pictures.items()})

    def _backward(self, settings: dict[str, Any], arrays: dict[str, Array]) -> bytes:
        name = self._keep(settings, arrays)
        row, column = settings.pop("row", None), settings.pop("column", None)
        gradients = backward(Settings.read(settings), arrays, row, column)
        return packed({"image": name}, gradients)

    def _keep(self, settings: dict[str, Any], arrays: dict[str, Array]) -> str:
        """Find the image that a question names, or name the one that it brings; return the name."""
        name = settings.pop("image", None)
        if "image" in arrays:
            name = secrets.token_hex(8)
            # A copy, because the image is a part of the whole message.
            self._images[name] = arrays["image"].copy()
            if len(self._images) > MOST_KEPT:
                self._images.popitem(last=False)
        elif not isinstance(name, str) or name not in self._images:
            raise Refusal("the image is needed", FORGOTTEN)
        self._images.move_to_end(name)
        arrays["image"] = self._images[name]
        return name

    def _maps(self, settings: dict[str, Any], arrays: Mapping[str, Array]) -> bytes:
        return packed(*self.network.maps(settings, arrays))

    def _channel(self, settings: dict[str, Any], arrays: Mapping[str, Array]) -> bytes:
        return packed(*self.network.channel(settings, arrays))

    def _maximum(self, settings: dict[str, Any], arrays: Mapping[str, Array]) -> bytes:
        return packed(*self.network.maximum(settings))
