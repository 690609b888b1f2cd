"""scikit-image makes the windows, NumPy computes with them; only products use several threads."""

from collections.abc import Iterator
from importlib.metadata import version

from skimage.util import view_as_windows

from bench.cases import Array, Case
from bench.peers import Contender
from bench.peers.numpy import Windows


def _view(image: Array, kernel: int, stride: int) -> Array:
    windows: Array = view_as_windows(image, (1, 1, kernel, kernel), (1, 1, stride, stride))
    return windows[:, :, :, :, 0, 0]


class Peer:
    version = version("scikit-image")
    windows = Windows("scikit-image", _view)

    def __init__(self, threads: int) -> None:
        """Leave it to the environment, which told OpenBLAS the number of threads."""

    def im2col(self, case: Case) -> Iterator[Contender]:
        return self.windows.im2col(case)

    def unfold(self, case: Case) -> Iterator[Contender]:
        return self.windows.unfold(case)

    def max_pool2d(self, case: Case) -> Iterator[Contender]:
        return self.windows.max_pool2d(case)

    def conv2d(self, case: Case) -> Iterator[Contender]:
        return self.windows.conv2d(case)
