"""OpenCV's filter of single images and its networks of one layer.

A network keeps a copy of its input; it computes anew at every forward(), whose result the binding
copies. OpenCV 5 has two engines and neither is the faster one throughout: the old one is it where
filters cover several pixels, up to five times, the new one at filters of 1x1, twice. It takes the
choice for models in files only; those in memory get the new engine whatever is said.
"""

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from bench import filters, peers
from bench.cases import Array, Call, Case, Contender
from bench.filters import FilterCase
from bench.peers import is_image_filter, models

ENGINES = {
    "opencv dnn": cv2.dnn.ENGINE_CLASSIC,
    "opencv dnn, new engine": cv2.dnn.ENGINE_NEW,
}


class Peer(peers.Peer):
    version = str(cv2.__version__)

    def __init__(self, threads: int) -> None:
        cv2.setNumThreads(threads)

    def filters(self, case: FilterCase) -> Iterator[tuple[str, Call]]:
        return filters.opencv(case)

    def max_pool2d(self, case: Case) -> Iterator[Contender]:
        return self._networks(case, models.max_pool(case, ["values"]))

    def conv2d(self, case: Case) -> Iterator[Contender]:
        if is_image_filter(case):
            yield from self._filters(case)
        yield from self._networks(case, models.convolution(case))

    def _filters(self, case: Case) -> Iterator[Contender]:
        image, weight, bias = case.image[0, 0], case.weight[0, 0], float(case.bias[0])
        for mode, out in (("fresh", None), ("out=", np.zeros_like(image))):
            inputs = image, -1, weight, out
            call = partial(cv2.filter2D, *inputs, delta=bias, borderType=cv2.BORDER_CONSTANT)
            yield self.contender(case, call, mode, "opencv filter2D")

    def _networks(self, case: Case, model: bytes) -> Iterator[Contender]:
        for name, engine in ENGINES.items():
            with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
                Path(file.name).write_bytes(model)
                network = cv2.dnn.readNetFromONNX(file.name, engine)
            network.setInput(case.image)
            yield self.contender(case, network.forward, name=name)

    def results(self, case: Any, returned: Any) -> tuple[Array, ...]:
        if isinstance(case, FilterCase):
            return (returned,)
        return (returned.reshape(case.workload.output_shape),)
