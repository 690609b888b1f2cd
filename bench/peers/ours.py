"""fastconv itself."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import fastconv
from bench import networks
from bench.cases import Case
from bench.networks import NetworkCase
from bench.peers import Contender, one
from bench.targets import HIGH


class Peer:
    version = fastconv.__version__

    def __init__(self, threads: int) -> None:
        fastconv.set_num_threads(threads)

    def im2col(self, case: Case) -> Iterator[Contender]:
        x, (k, s, p) = case.image, case.window
        out = np.zeros(case.workload.col_shape, np.float32)
        yield _contender("fresh", lambda: fastconv.im2col(x, k, k, s, p))
        yield _contender("out=", lambda: fastconv.im2col(x, k, k, s, p, out=out))

    def col2im(self, case: Case) -> Iterator[Contender]:
        col, shape, (k, s, p) = case.col, case.workload.image_shape, case.window
        out = np.zeros(shape, np.float32)
        yield _contender("fresh", lambda: fastconv.col2im(col, shape, k, k, s, p))
        yield _contender("out=", lambda: fastconv.col2im(col, shape, k, k, s, p, out=out))

    def unfold(self, case: Case) -> Iterator[Contender]:
        x, (k, s, p) = case.image, case.window
        yield _contender("fresh", lambda: fastconv.unfold(x, k, 1, p, s))

    def fold(self, case: Case) -> Iterator[Contender]:
        col, size, (k, s, p) = case.unfolded, case.workload.image_shape[2:], case.window
        yield _contender("fresh", lambda: fastconv.fold(col, size, k, 1, p, s))

    def max_pool2d(self, case: Case) -> Iterator[Contender]:
        x, (k, s, p) = case.image, case.window
        yield _contender("fresh", lambda: fastconv.max_pool2d(x, k, s, p))

    def max_pool2d_indices(self, case: Case) -> Iterator[Contender]:
        x, (k, s, p) = case.image, case.window
        yield Contender(
            "fastconv",
            "fresh",
            lambda: fastconv.max_pool2d(x, k, s, p, return_indices=True),
            tuple,
        )

    def max_pool2d_backward(self, case: Case) -> Iterator[Contender]:
        grad, indices, shape = case.grad, case.indices, case.workload.image_shape
        out = np.zeros(shape, np.float32)
        yield _contender("fresh", lambda: fastconv.max_pool2d_backward(grad, indices, shape))
        yield _contender(
            "out=", lambda: fastconv.max_pool2d_backward(grad, indices, shape, out=out)
        )

    def max_unpool2d(self, case: Case) -> Iterator[Contender]:
        values, indices, (k, s, p) = case.grad, case.indices, case.window
        size = case.workload.image_shape[2:]
        yield _contender("fresh", lambda: fastconv.max_unpool2d(values, indices, k, s, p, size))

    def avg_pool2d(self, case: Case) -> Iterator[Contender]:
        x, (k, s, p) = case.image, case.window
        yield _contender("fresh", lambda: fastconv.avg_pool2d(x, k, s, p))

    def avg_pool2d_backward(self, case: Case) -> Iterator[Contender]:
        grad, shape, (k, s, p) = case.grad, case.workload.image_shape, case.window
        yield _contender("fresh", lambda: fastconv.avg_pool2d_backward(grad, shape, k, s, p))

    def conv2d(self, case: Case) -> Iterator[Contender]:
        x, weight, bias, groups = case.image, case.weight, case.bias, case.workload.groups
        _, s, p = case.window
        out = np.zeros(case.workload.output_shape, np.float32)
        yield _contender("fresh", lambda: fastconv.conv2d(x, weight, bias, s, p, groups=groups))
        yield _contender(
            "out=", lambda: fastconv.conv2d(x, weight, bias, s, p, groups=groups, out=out)
        )

        yield from _with_high(lambda: fastconv.conv2d(x, weight, bias, s, p, groups=groups), one)

    def conv2d_backward(self, case: Case) -> Iterator[Contender]:
        grad, x, weight, groups = case.grad, case.image, case.weight, case.workload.groups
        _, s, p = case.window

        def call() -> Any:
            return fastconv.conv2d_backward(grad, x, weight, s, p, groups=groups)

        yield Contender("fastconv", "fresh", call, tuple)
        yield from _with_high(call, tuple)

    def conv_transpose2d(self, case: Case) -> Iterator[Contender]:
        x, weight, groups, (_, s, p) = case.grad, case.weight, case.workload.groups, case.window
        yield _contender(
            "fresh", lambda: fastconv.conv_transpose2d(x, weight, None, s, p, groups=groups)
        )

    def network_step(self, case: NetworkCase) -> Iterator[Contender]:
        yield from networks.ours(case)

    network_inference = network_step


def _with_high(
    call: Callable[[], Any], results: Callable[[Any], tuple[Any, ...]]
) -> Iterator[Contender]:
    """Give the same with precision "high", if that makes a difference."""

    def high() -> Any:
        with fastconv.precision(HIGH):
            return call()

    if any((a != b).any() for a, b in zip(results(call()), results(high()), strict=True)):
        yield Contender("fastconv", HIGH, high, results)


def _contender(mode: str, call: Callable[[], Any]) -> Contender:
    return Contender("fastconv", mode, call, one)
