"""SciPy's filters of single images: directly, and by Fourier transforms of blocks."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import scipy
from scipy import fft, ndimage, signal

from bench import filters, peers
from bench.cases import Array, Call, Case, Contender
from bench.filters import FilterCase
from bench.peers import is_image_filter

PART = 256  # The first rows of the image are enough to warm up.


class Peer(peers.Peer):
    """One thread, whatever is asked for, but for the transforms."""

    version = str(scipy.__version__)

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def filters(self, case: FilterCase) -> Iterator[tuple[str, Call]]:
        return filters.scipy(case, self.threads)

    def conv2d(self, case: Case) -> Iterator[Contender]:
        if not is_image_filter(case):
            return
        weight, out = case.weight[0, 0], np.zeros(case.shape[2:], np.float32)

        def oaconvolve(image: Array) -> Any:
            with fft.set_workers(self.threads):
                return signal.oaconvolve(image, weight[::-1, ::-1], mode="same")

        def to_out(image: Array) -> Any:
            part = out[: len(image)]
            ndimage.correlate(image, weight, output=part, mode="constant")
            return part

        correlate2d = partial(signal.correlate2d, in2=weight, mode="same")
        correlate = partial(ndimage.correlate, weights=weight, mode="constant")
        yield self._filter(case, "scipy correlate2d", "fresh", correlate2d)
        yield self._filter(case, "scipy oaconvolve", "fresh", oaconvolve)
        yield self._filter(case, "scipy ndimage", "fresh", correlate)
        yield self._filter(case, "scipy ndimage", "out=", to_out)

    def _filter(
        self, case: Case, name: str, mode: str, filtered: Callable[[Array], Any]
    ) -> Contender:
        image = case.image[0, 0]

        def call() -> Any:
            result = filtered(image)
            result += case.bias
            return result

        warm_up = partial(filtered, image[:PART])
        return replace(self.contender(case, call, mode, name), warm_up=warm_up)

    def results(self, case: Any, returned: Any) -> tuple[Array, ...]:
        if isinstance(case, FilterCase):
            return (returned,)
        return (returned.reshape(case.workload.output_shape),)
