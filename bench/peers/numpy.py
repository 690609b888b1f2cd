"""NumPy: the textbook's formula, and all windows at once as a view."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from bench import networks, textbook
from bench.cases import Array, Case, rows_to_unfolded, unfolded_to_rows
from bench.networks import NetworkCase
from bench.peers import Contender, builds_columns, one

View = Callable[[Array, int, int], Array]


class Windows:
    """What NumPy computes from `view(image, kernel, stride)`, the windows (N, C, OH, OW, K, K)."""

    def __init__(self, name: str, view: View) -> None:
        self.name = name
        self.view = view

    @builds_columns
    def im2col(self, case: Case) -> Iterator[Contender]:
        shape = case.workload.col_shape
        yield self._contender(
            case, lambda windows: windows.transpose(0, 2, 3, 1, 4, 5).reshape(shape)
        )

    @builds_columns
    def unfold(self, case: Case) -> Iterator[Contender]:
        w = case.workload
        shape = (w.n, w.col_shape[1], w.out_size**2)
        yield self._contender(
            case, lambda windows: windows.transpose(0, 1, 4, 5, 2, 3).reshape(shape)
        )

    def max_pool2d(self, case: Case) -> Iterator[Contender]:
        yield self._contender(case, lambda windows: windows.max(axis=(4, 5)), -np.inf)

    def avg_pool2d(self, case: Case) -> Iterator[Contender]:
        yield self._contender(case, lambda windows: windows.mean(axis=(4, 5)))

    @builds_columns
    def conv2d(self, case: Case) -> Iterator[Contender]:
        weight, bias, groups = case.weight, case.bias[:, None, None], case.workload.groups

        def one_group(windows: Array) -> Array:
            product = np.tensordot(weight, windows, ((1, 2, 3), (1, 4, 5)))
            product += bias[:, None]
            return product.transpose(1, 0, 2, 3)

        def all_groups(windows: Array) -> Array:
            n, _, *rest = windows.shape
            product = np.einsum(
                "ngcyxhw,gfchw->ngfyx",
                windows.reshape(n, groups, -1, *rest),
                weight.reshape(groups, -1, *weight.shape[1:]),
            )
            output: Array = product.reshape(n, -1, *rest[:2])
            output += bias
            return output

        yield self._contender(case, one_group if groups == 1 else all_groups)

    def _contender(
        self, case: Case, compute: Callable[[Array], Array], fill: float = 0.0
    ) -> Contender:
        x, (k, s, p) = case.image, case.window
        around = ((0, 0), (0, 0), (p, p), (p, p))

        def call() -> Array:
            padded = np.pad(x, around, constant_values=fill) if p else x
            return compute(self.view(padded, k, s))

        return Contender(self.name, "fresh", call, one)


class Peer:
    """One thread, whatever is asked for, but for products of matrices."""

    version = np.__version__
    windows = Windows(
        "numpy windows",
        lambda image, kernel, stride: np.lib.stride_tricks.sliding_window_view(
            image, (kernel, kernel), (2, 3)
        )[:, :, ::stride, ::stride],
    )

    def __init__(self, threads: int) -> None:
        """Leave it to the environment, which told OpenBLAS the number of threads."""

    @builds_columns
    def im2col(self, case: Case) -> Iterator[Contender]:
        yield _contender(partial(textbook.im2col, case.image, *case.window))
        yield from self.windows.im2col(case)

    @builds_columns
    def col2im(self, case: Case) -> Iterator[Contender]:
        shape = case.workload.image_shape
        yield _contender(partial(textbook.col2im, case.col, shape, *case.window))

    @builds_columns
    def unfold(self, case: Case) -> Iterator[Contender]:
        x, window, workload = case.image, case.window, case.workload
        yield _contender(lambda: rows_to_unfolded(textbook.im2col(x, *window), workload))
        yield from self.windows.unfold(case)

    @builds_columns
    def fold(self, case: Case) -> Iterator[Contender]:
        col, shape, window = case.unfolded, case.workload.image_shape, case.window
        yield _contender(lambda: textbook.col2im(unfolded_to_rows(col), shape, *window))

    def max_pool2d(self, case: Case) -> Iterator[Contender]:
        for pooled in self.max_pool2d_indices(case):
            yield Contender(pooled.name, pooled.mode, pooled.call, lambda result: result[:1])
        yield from self.windows.max_pool2d(case)

    @builds_columns
    def max_pool2d_indices(self, case: Case) -> Iterator[Contender]:
        size, window = case.workload.size, case.window
        yield Contender(
            "numpy",
            "fresh",
            partial(textbook.max_pool, case.image, *window),
            lambda result: (result[0], textbook.plane_indices(result[1], size, *window)),
        )

    @builds_columns
    def max_pool2d_backward(self, case: Case) -> Iterator[Contender]:
        inputs = case.grad, case.pooled[1], case.workload.image_shape
        yield _contender(partial(textbook.max_pool_backward, *inputs, *case.window))

    def max_unpool2d(self, case: Case) -> Iterator[Contender]:
        shape = case.workload.image_shape
        yield _contender(partial(textbook.max_unpool, case.grad, case.indices, shape))

    def avg_pool2d(self, case: Case) -> Iterator[Contender]:
        if case.has_columns:
            yield _contender(partial(textbook.avg_pool, case.image, *case.window))
        yield from self.windows.avg_pool2d(case)

    @builds_columns
    def avg_pool2d_backward(self, case: Case) -> Iterator[Contender]:
        shape = case.workload.image_shape
        yield _contender(partial(textbook.avg_pool_backward, case.grad, shape, *case.window))

    @builds_columns
    def conv2d(self, case: Case) -> Iterator[Contender]:
        inputs = case.image, case.weight, case.bias
        yield _contender(partial(textbook.convolution, *inputs, *case.window[1:]))
        yield from self.windows.conv2d(case)

    @builds_columns
    def conv2d_backward(self, case: Case) -> Iterator[Contender]:
        inputs = case.grad, case.saved_col, case.weight, case.workload.image_shape
        call = partial(textbook.convolution_backward, *inputs, *case.window[1:])
        yield Contender("numpy", "fresh", call, tuple)

    @builds_columns
    def conv_transpose2d(self, case: Case) -> Iterator[Contender]:
        inputs = case.grad, case.weight, case.workload.image_shape
        yield _contender(partial(textbook.convolution_transpose, *inputs, *case.window[1:]))

    def network_step(self, case: NetworkCase) -> Iterator[Contender]:
        yield networks.contender("numpy", case, networks.Textbook)

    network_inference = network_step


def _contender(call: Callable[[], Any]) -> Contender:
    return Contender("numpy", "fresh", call, one)
