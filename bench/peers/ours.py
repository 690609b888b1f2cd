"""fastconv itself."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

import fastconv
from bench import networks
from bench.cases import Array, Case
from bench.networks import NetworkCase
from bench.peers import HIGH, OURS, Contender

Call = Callable[..., Any]


class Peer:
    version = fastconv.__version__

    def __init__(self, threads: int) -> None:
        fastconv.set_num_threads(threads)

    def im2col(self, case: Case) -> Iterator[Contender]:
        k, s, p = case.window
        call = partial(fastconv.im2col, case.image, k, k, s, p)
        yield from _both(call, case.workload.col_shape)

    def col2im(self, case: Case) -> Iterator[Contender]:
        k, s, p = case.window
        shape = case.workload.image_shape
        yield from _both(partial(fastconv.col2im, case.col, shape, k, k, s, p), shape)

    def unfold(self, case: Case) -> Iterator[Contender]:
        k, s, p = case.window
        yield _fresh(partial(fastconv.unfold, case.image, k, 1, p, s))

    def fold(self, case: Case) -> Iterator[Contender]:
        size, (k, s, p) = case.workload.image_shape[2:], case.window
        yield _fresh(partial(fastconv.fold, case.unfolded, size, k, 1, p, s))

    def max_pool2d(self, case: Case) -> Iterator[Contender]:
        yield _fresh(partial(fastconv.max_pool2d, case.image, *case.window))

    def max_pool2d_indices(self, case: Case) -> Iterator[Contender]:
        yield _fresh(partial(fastconv.max_pool2d, case.image, *case.window, return_indices=True))

    def max_pool2d_backward(self, case: Case) -> Iterator[Contender]:
        shape = case.workload.image_shape
        call = partial(fastconv.max_pool2d_backward, case.grad, case.indices, shape)
        yield from _both(call, shape)

    def max_unpool2d(self, case: Case) -> Iterator[Contender]:
        size = case.workload.image_shape[2:]
        yield _fresh(partial(fastconv.max_unpool2d, case.grad, case.indices, *case.window, size))

    def avg_pool2d(self, case: Case) -> Iterator[Contender]:
        yield _fresh(partial(fastconv.avg_pool2d, case.image, *case.window))

    def avg_pool2d_backward(self, case: Case) -> Iterator[Contender]:
        shape = case.workload.image_shape
        yield _fresh(partial(fastconv.avg_pool2d_backward, case.grad, shape, *case.window))

    def conv2d(self, case: Case) -> Iterator[Contender]:
        _, s, p = case.window
        inputs = case.image, case.weight, case.bias
        call = partial(fastconv.conv2d, *inputs, s, p, groups=case.workload.groups)
        yield from _both(call, case.workload.output_shape)
        yield from _with_high(call)

    def conv2d_backward(self, case: Case) -> Iterator[Contender]:
        _, s, p = case.window
        inputs = case.grad, case.image, case.weight
        call = partial(fastconv.conv2d_backward, *inputs, s, p, groups=case.workload.groups)
        yield _fresh(call)
        yield from _with_high(call)

    def conv_transpose2d(self, case: Case) -> Iterator[Contender]:
        groups, (_, s, p) = case.workload.groups, case.window
        inputs = case.grad, case.weight, None
        yield _fresh(partial(fastconv.conv_transpose2d, *inputs, s, p, groups=groups))

    def network_step(self, case: NetworkCase) -> Iterator[Contender]:
        yield networks.contender(OURS, case, networks.Ours)

    network_inference = network_step


def _fresh(call: Call) -> Contender:
    return Contender(OURS, "fresh", call, _results)


def _both(call: Call, shape: tuple[int, ...]) -> Iterator[Contender]:
    """Let the call allocate its result, and write it into memory that exists."""
    yield _fresh(call)
    yield Contender(OURS, "out=", partial(call, out=np.zeros(shape, np.float32)), _results)


def _with_high(call: Call) -> Iterator[Contender]:
    """Give the same with precision "high", if that makes a difference."""

    def high() -> Any:
        with fastconv.precision(HIGH):
            return call()

    if any((a != b).any() for a, b in zip(_results(call()), _results(high()), strict=True)):
        yield Contender(OURS, HIGH, high, _results)


def _results(returned: Any) -> tuple[Array, ...]:
    return returned if isinstance(returned, tuple) else (returned,)
