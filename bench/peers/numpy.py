"""NumPy: the textbook's formula, and all windows at once as a view."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from bench import networks, peers, updates
from bench.cases import TEXTBOOK, Array, Case, Contender, as_tuple, from_textbook

View = Callable[[Array, int, int], Array]
Compute = Callable[[Array], Array]


def _convolution(case: Case) -> Compute:
    weight, bias, groups = case.weight, case.bias[:, None, None], case.groups

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

    return one_group if groups == 1 else all_groups


# What NumPy computes from the windows (N, C, OH, OW, K, K).
FROM_WINDOWS: Mapping[str, Callable[[Case], Compute]] = {
    "im2col": lambda c: (
        lambda windows: windows.transpose(0, 2, 3, 1, 4, 5).reshape(c.workload.col_shape)
    ),
    "unfold": lambda c: (
        lambda windows: windows.transpose(0, 1, 4, 5, 2, 3).reshape(c.unfolded_shape)
    ),
    "max_pool2d": lambda c: lambda windows: windows.max(axis=(4, 5)),
    "avg_pool2d": lambda c: lambda windows: windows.mean(axis=(4, 5)),
    "conv2d": _convolution,
}


def from_windows(name: str, view: View, case: Case) -> Iterator[Contender]:
    """Compute the operation from the windows that `view(image, kernel, stride)` gives."""
    if case.operation not in FROM_WINDOWS or not case.has_columns:
        return
    compute = FROM_WINDOWS[case.operation](case)
    around = ((0, 0), (0, 0), (case.p, case.p), (case.p, case.p))
    fill = -np.inf if case.operation == "max_pool2d" else 0.0

    def call() -> Array:
        padded = np.pad(case.image, around, constant_values=fill) if case.p else case.image
        return compute(view(padded, case.k, case.s))

    yield Contender(name, "fresh", call, as_tuple)


def _view(image: Array, kernel: int, stride: int) -> Array:
    return sliding_window_view(image, (kernel, kernel), (2, 3))[:, :, ::stride, ::stride]


class Peer(peers.Peer):
    """One thread, whatever is asked for, but for products of matrices."""

    name, version, calls, network = "numpy", np.__version__, TEXTBOOK, networks.Textbook
    update = updates.Textbook

    def contenders(self, case: Any) -> Iterator[Contender]:
        if case.has_columns:
            yield from super().contenders(case)
            yield from from_windows("numpy windows", _view, case)

    def results(self, case: Case, returned: Any) -> tuple[Array, ...]:
        return from_textbook(case, returned)
