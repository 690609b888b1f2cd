"""SciPy's filters of single images: directly, and by Fourier transforms of blocks."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import scipy
from scipy import fft, ndimage, signal

from bench.cases import Array, Case
from bench.peers import Contender, is_image_filter

PART = 256  # The first rows of the image are enough to warm up.


class Peer:
    """One thread, whatever is asked for, but for the transforms."""

    version = str(scipy.__version__)

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def conv2d(self, case: Case) -> Iterator[Contender]:
        if not is_image_filter(case):
            return
        weight, out = case.weight[0, 0], np.zeros(case.image.shape[2:], np.float32)

        def correlate2d(image: Array) -> Any:
            return signal.correlate2d(image, weight, mode="same")

        def oaconvolve(image: Array) -> Any:
            with fft.set_workers(self.threads):
                return signal.oaconvolve(image, weight[::-1, ::-1], mode="same")

        def correlate(image: Array) -> Any:
            return ndimage.correlate(image, weight, mode="constant")

        def correlate_to_out(image: Array) -> Any:
            part = out[: len(image)]
            ndimage.correlate(image, weight, output=part, mode="constant")
            return part

        yield _contender("scipy correlate2d", "fresh", case, correlate2d)
        yield _contender("scipy oaconvolve", "fresh", case, oaconvolve)
        yield _contender("scipy ndimage", "fresh", case, correlate)
        yield _contender("scipy ndimage", "out=", case, correlate_to_out)


def _contender(name: str, mode: str, case: Case, filtered: Callable[[Array], Any]) -> Contender:
    image, bias, shape = case.image[0, 0], case.bias, case.workload.output_shape

    def call() -> Any:
        result = filtered(image)
        result += bias
        return result

    return Contender(
        name,
        mode,
        call,
        lambda result: (result.reshape(shape),),
        warm_up=lambda: filtered(image[:PART]),
    )
