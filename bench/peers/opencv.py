"""OpenCV's filter of single images and its networks of one layer.

A network keeps a copy of its input; it computes anew at every forward(), whose result the binding
copies. OpenCV 5 has two engines and neither is the faster one throughout: the old one is it where
filters cover several pixels, up to five times, the new one at filters of 1x1, twice. It takes the
choice for models in files only; those in memory get the new engine whatever is said.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from bench.cases import Array, Case
from bench.peers import Contender, is_image_filter, models

ENGINES = {
    "opencv dnn": cv2.dnn.ENGINE_CLASSIC,
    "opencv dnn, new engine": cv2.dnn.ENGINE_NEW,
}


class Peer:
    version = str(cv2.__version__)

    def __init__(self, threads: int) -> None:
        cv2.setNumThreads(threads)

    def max_pool2d(self, case: Case) -> Iterator[Contender]:
        yield from _networks(models.max_pool(case, ["values"]), case.image)

    def conv2d(self, case: Case) -> Iterator[Contender]:
        if is_image_filter(case):
            yield from _filters(case)
        yield from _networks(models.convolution(case), case.image)


def _filters(case: Case) -> Iterator[Contender]:
    image, weight, bias = case.image[0, 0], case.weight[0, 0], float(case.bias[0])
    out = np.zeros_like(image)

    def filtered(dst: Array | None) -> Any:
        return cv2.filter2D(image, -1, weight, dst, delta=bias, borderType=cv2.BORDER_CONSTANT)

    def results(result: Any) -> tuple[Array, ...]:
        return (result.reshape(case.workload.output_shape),)

    yield Contender("opencv filter2D", "fresh", lambda: filtered(None), results)
    yield Contender("opencv filter2D", "out=", lambda: filtered(out), results)


def _networks(model: bytes, image: Array) -> Iterator[Contender]:
    for name, engine in ENGINES.items():
        network = _network(model, engine)
        network.setInput(image)
        yield Contender(name, "fresh", network.forward, lambda result: (result,))


def _network(model: bytes, engine: int) -> Any:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "layer.onnx"
        path.write_bytes(model)
        return cv2.dnn.readNetFromONNX(str(path), engine)
