"""PyTorch on NCHW tensors, where it matters also on channels_last ones; no autograd."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F

from bench import networks_torch
from bench.cases import Array, Case, unfolded_to_rows
from bench.networks import NetworkCase
from bench.peers import Contender

aten = torch.ops.aten


class Peer:
    version = str(torch.__version__)

    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)

    def im2col(self, case: Case) -> Iterator[Contender]:
        x, (k, s, p) = _tensor(case.image), case.window
        yield Contender(
            "torch",
            "fresh",
            lambda: F.unfold(x, k, 1, p, s),
            lambda result: (unfolded_to_rows(result.numpy()),),
        )

    def col2im(self, case: Case) -> Iterator[Contender]:
        col, size = _tensor(case.unfolded), case.workload.image_shape[2:]
        k, s, p = case.window
        yield _contender(lambda: F.fold(col, size, k, 1, p, s))

    def unfold(self, case: Case) -> Iterator[Contender]:
        x, (k, s, p) = _tensor(case.image), case.window
        yield _contender(lambda: F.unfold(x, k, 1, p, s))

    fold = col2im

    def max_pool2d(self, case: Case) -> Iterator[Contender]:
        x, (k, s, p) = _tensor(case.image), case.window
        yield _contender(lambda: F.max_pool2d(x, k, s, p))

    def max_pool2d_indices(self, case: Case) -> Iterator[Contender]:
        yield self._max_pool2d_indices(case, "torch", torch.contiguous_format)
        yield self._max_pool2d_indices(case, "torch channels_last", torch.channels_last)

    def _max_pool2d_indices(self, case: Case, name: str, layout: Any) -> Contender:
        x, (k, s, p) = _tensor(case.image, layout), case.window
        return Contender(
            name,
            "fresh",
            lambda: F.max_pool2d(x, k, s, p, return_indices=True),
            lambda result: (result[0].numpy(), result[1].numpy()),
        )

    def max_pool2d_backward(self, case: Case) -> Iterator[Contender]:
        yield self._max_pool2d_backward(case, "torch", torch.contiguous_format)
        yield self._max_pool2d_backward(case, "torch channels_last", torch.channels_last)

    def _max_pool2d_backward(self, case: Case, name: str, layout: Any) -> Contender:
        grad, x = _tensor(case.grad, layout), _tensor(case.image, layout)
        indices = _tensor(case.indices, layout)
        k, s, p = ([value, value] for value in case.window)
        return _contender(
            lambda: aten.max_pool2d_with_indices_backward(grad, x, k, s, p, [1, 1], False, indices),
            name,
        )

    def max_unpool2d(self, case: Case) -> Iterator[Contender]:
        values, indices = _tensor(case.grad), _tensor(case.indices)
        size, (k, s, p) = case.workload.image_shape[2:], case.window
        yield _contender(lambda: F.max_unpool2d(values, indices, k, s, p, size))

    def avg_pool2d(self, case: Case) -> Iterator[Contender]:
        x, (k, s, p) = _tensor(case.image), case.window
        yield _contender(lambda: F.avg_pool2d(x, k, s, p))

    def avg_pool2d_backward(self, case: Case) -> Iterator[Contender]:
        grad, x = _tensor(case.grad), _tensor(case.image)
        k, s, p = ([value, value] for value in case.window)
        yield _contender(lambda: aten.avg_pool2d_backward(grad, x, k, s, p, False, True, None))

    def conv2d(self, case: Case) -> Iterator[Contender]:
        yield self._conv2d(case, "torch", torch.contiguous_format)
        yield self._conv2d(case, "torch channels_last", torch.channels_last)

    def _conv2d(self, case: Case, name: str, layout: Any) -> Contender:
        x, weight = _tensor(case.image, layout), _tensor(case.weight, layout)
        bias, groups, (_, s, p) = _tensor(case.bias), case.workload.groups, case.window
        return _contender(lambda: F.conv2d(x, weight, bias, s, p, 1, groups), name)

    def conv2d_backward(self, case: Case) -> Iterator[Contender]:
        yield self._conv2d_backward(case, "torch", torch.contiguous_format)
        yield self._conv2d_backward(case, "torch channels_last", torch.channels_last)

    def _conv2d_backward(self, case: Case, name: str, layout: Any) -> Contender:
        arrays = (case.grad, case.image, case.weight)
        grad, x, weight = (_tensor(array, layout) for array in arrays)
        filters, groups = [case.workload.filters], case.workload.groups
        _, s, p = ([value, value] for value in case.window)
        return Contender(
            name,
            "fresh",
            lambda: aten.convolution_backward(
                grad, x, weight, filters, s, p, [1, 1], False, [0, 0], groups, [True] * 3
            ),
            lambda result: tuple(gradient.numpy() for gradient in result),
        )

    def conv_transpose2d(self, case: Case) -> Iterator[Contender]:
        x, weight, groups = _tensor(case.grad), _tensor(case.weight), case.workload.groups
        _, s, p = case.window
        yield _contender(lambda: F.conv_transpose2d(x, weight, None, s, p, 0, groups))

    def network_step(self, case: NetworkCase) -> Iterator[Contender]:
        yield from networks_torch.contenders(case)

    network_inference = network_step


def _tensor(array: Array, layout: Any = None) -> Any:
    tensor = torch.from_numpy(array)
    return tensor if layout is None else tensor.contiguous(memory_format=layout)


def _contender(call: Callable[[], Any], name: str = "torch") -> Contender:
    return Contender(name, "fresh", call, lambda result: (result.numpy(),))
