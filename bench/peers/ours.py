"""fastconv itself."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

import fastconv
from bench import filters, networks, peers, textbook, updates
from bench.cases import Call, Calls, Case, Contender
from bench.filters import FilterCase
from bench.networks import NetworkCase
from bench.peers import HIGH, OURS, MakeNetwork
from fastconv.layers import BatchNormalization


def _layer(c: Case) -> BatchNormalization:
    return BatchNormalization(c.gamma, c.beta, eps=textbook.EPS)


def _batch_norm_backward(c: Case) -> Call:
    """Give a call that returns the gradients of the layer's input and of its parameters."""
    layer = _layer(c)
    layer.forward(c.image)

    def backward() -> Any:
        return layer.backward(c.grad), layer.dgamma, layer.dbeta

    return backward


CALLS: Calls = {
    "im2col": lambda c: partial(fastconv.im2col, c.image, c.k, c.k, c.s, c.p),
    "col2im": lambda c: partial(fastconv.col2im, c.col, c.shape, c.k, c.k, c.s, c.p),
    "unfold": lambda c: partial(fastconv.unfold, c.image, c.k, 1, c.p, c.s),
    "fold": lambda c: partial(fastconv.fold, c.unfolded, c.shape[2:], c.k, 1, c.p, c.s),
    "max_pool2d": lambda c: partial(fastconv.max_pool2d, c.image, *c.window),
    "max_pool2d_indices": lambda c: partial(
        fastconv.max_pool2d, c.image, *c.window, return_indices=True
    ),
    "max_pool2d_backward": lambda c: partial(
        fastconv.max_pool2d_backward, c.grad, c.indices, c.shape
    ),
    "max_unpool2d": lambda c: partial(
        fastconv.max_unpool2d, c.grad, c.indices, *c.window, c.shape[2:]
    ),
    "avg_pool2d": lambda c: partial(fastconv.avg_pool2d, c.image, *c.window),
    "avg_pool2d_backward": lambda c: partial(
        fastconv.avg_pool2d_backward, c.grad, c.shape, *c.window
    ),
    "batch_norm": lambda c: partial(_layer(c).forward, c.image),
    "batch_norm_backward": _batch_norm_backward,
    "conv1d": lambda c: partial(
        fastconv.conv1d, c.image, c.weight, c.bias, c.s, c.p, c.dilation, c.groups
    ),
    "conv2d": lambda c: partial(
        fastconv.conv2d, c.image, c.weight, c.bias, c.s, c.p, groups=c.groups
    ),
    "conv2d_backward": lambda c: partial(
        fastconv.conv2d_backward, c.grad, c.image, c.weight, c.s, c.p, groups=c.groups
    ),
    "conv_transpose2d": lambda c: partial(
        fastconv.conv_transpose2d, c.grad, c.weight, None, c.s, c.p, groups=c.groups
    ),
}
INTO_OUT = ("im2col", "col2im", "max_pool2d_backward", "conv2d")
WITH_PRECISION = ("conv2d", "conv2d_backward")


class Peer(peers.Peer):
    name, version, calls, update = OURS, fastconv.__version__, CALLS, updates.Ours

    def __init__(self, threads: int) -> None:
        fastconv.set_num_threads(threads)

    def networks(self, case: NetworkCase) -> Mapping[str, MakeNetwork]:
        return {self.name: networks.Optimized if case.is_prediction else networks.Ours}

    def filters(self, case: FilterCase) -> Iterator[tuple[str, Call]]:
        return filters.ours(case)

    def contenders(self, case: Any) -> Iterator[Contender]:
        yield from super().contenders(case)
        if case.operation in INTO_OUT:
            out = np.zeros(case.result_shape, np.float32)
            call: Callable[..., Any] = CALLS[case.operation](case)
            yield self.contender(case, partial(call, out=out), "out=")
        if case.operation in WITH_PRECISION:
            yield from self._with_high(case)

    def _with_high(self, case: Case) -> Iterator[Contender]:
        """Give the same with precision "high", if that makes a difference."""
        call = CALLS[case.operation](case)

        def high() -> Any:
            with fastconv.precision(HIGH):
                return call()

        both = (self.results(case, returned) for returned in (call(), high()))
        if not all(map(np.array_equal, *both)):
            yield self.contender(case, high, HIGH)
