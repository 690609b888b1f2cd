"""scikit-image makes the windows, NumPy computes with them; only products use several threads."""

from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

from skimage.util import view_as_windows

from bench import peers
from bench.cases import Array, Contender
from bench.peers.numpy import from_windows


def _view(image: Array, kernel: int, stride: int) -> Array:
    windows: Array = view_as_windows(image, (1, 1, kernel, kernel), (1, 1, stride, stride))
    return windows[:, :, :, :, 0, 0]


class Peer(peers.Peer):
    version = version("scikit-image")

    def contenders(self, case: Any) -> Iterator[Contender]:
        return from_windows("scikit-image", _view, case)
