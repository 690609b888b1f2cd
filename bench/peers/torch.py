"""PyTorch on NCHW tensors, where it matters also on channels_last ones; networks by autograd."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from bench import networks
from bench.cases import Array, Case, unfolded_to_rows
from bench.networks import NetworkCase, through
from bench.peers import TORCH_LAYOUTS, Contender
from fastconv import layers

aten = torch.ops.aten

LAYOUTS = dict(zip(TORCH_LAYOUTS, (torch.contiguous_format, torch.channels_last), strict=True))


class Peer:
    version = str(torch.__version__)

    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)

    def im2col(self, case: Case) -> Iterator[Contender]:
        for unfolded in self.unfold(case):
            yield Contender(
                "torch",
                "fresh",
                unfolded.call,
                lambda result: (unfolded_to_rows(result.numpy()),),
            )

    def col2im(self, case: Case) -> Iterator[Contender]:
        size, (k, s, p) = case.workload.image_shape[2:], case.window
        yield _contender(partial(F.fold, _tensor(case.unfolded), size, k, 1, p, s))

    fold = col2im

    def unfold(self, case: Case) -> Iterator[Contender]:
        k, s, p = case.window
        yield _contender(partial(F.unfold, _tensor(case.image), k, 1, p, s))

    def max_pool2d(self, case: Case) -> Iterator[Contender]:
        yield _contender(partial(F.max_pool2d, _tensor(case.image), *case.window))

    def max_pool2d_indices(self, case: Case) -> Iterator[Contender]:
        for name, layout in LAYOUTS.items():
            x = _tensor(case.image, layout)
            yield _contender(partial(F.max_pool2d, x, *case.window, return_indices=True), name)

    def max_pool2d_backward(self, case: Case) -> Iterator[Contender]:
        k, s, p = ([value, value] for value in case.window)
        for name, layout in LAYOUTS.items():
            arrays = (case.grad, case.image, case.indices)
            grad, x, indices = (_tensor(array, layout) for array in arrays)
            backward = aten.max_pool2d_with_indices_backward
            yield _contender(partial(backward, grad, x, k, s, p, [1, 1], False, indices), name)

    def max_unpool2d(self, case: Case) -> Iterator[Contender]:
        values, indices = _tensor(case.grad), _tensor(case.indices)
        size = case.workload.image_shape[2:]
        yield _contender(partial(F.max_unpool2d, values, indices, *case.window, size))

    def avg_pool2d(self, case: Case) -> Iterator[Contender]:
        yield _contender(partial(F.avg_pool2d, _tensor(case.image), *case.window))

    def avg_pool2d_backward(self, case: Case) -> Iterator[Contender]:
        grad, x = _tensor(case.grad), _tensor(case.image)
        k, s, p = ([value, value] for value in case.window)
        yield _contender(partial(aten.avg_pool2d_backward, grad, x, k, s, p, False, True, None))

    def conv2d(self, case: Case) -> Iterator[Contender]:
        groups, (_, s, p) = case.workload.groups, case.window
        for name, layout in LAYOUTS.items():
            x, weight = _tensor(case.image, layout), _tensor(case.weight, layout)
            bias = _tensor(case.bias)
            yield _contender(partial(F.conv2d, x, weight, bias, s, p, 1, groups), name)

    def conv2d_backward(self, case: Case) -> Iterator[Contender]:
        filters, groups = [case.workload.filters], case.workload.groups
        _, s, p = ([value, value] for value in case.window)
        rest = (filters, s, p, [1, 1], False, [0, 0], groups, [True] * 3)
        for name, layout in LAYOUTS.items():
            arrays = (case.grad, case.image, case.weight)
            tensors = (_tensor(array, layout) for array in arrays)
            yield _contender(partial(aten.convolution_backward, *tensors, *rest), name)

    def conv_transpose2d(self, case: Case) -> Iterator[Contender]:
        x, weight, groups = _tensor(case.grad), _tensor(case.weight), case.workload.groups
        _, s, p = case.window
        yield _contender(partial(F.conv_transpose2d, x, weight, None, s, p, 0, groups))

    def network_step(self, case: NetworkCase) -> Iterator[Contender]:
        yield networks.contender("torch", case, Network)

    network_inference = network_step


def _tensor(array: Array, layout: Any = None) -> Any:
    tensor = torch.from_numpy(array)
    return tensor if layout is None else tensor.contiguous(memory_format=layout)


def _contender(call: Callable[[], Any], name: str = "torch") -> Contender:
    return Contender(name, "fresh", call, _results)


def _results(returned: Any) -> tuple[Array, ...]:
    tensors = returned if isinstance(returned, tuple) else (returned,)
    return tuple(tensor.numpy() for tensor in tensors)


# ---- networks ----------------------------------------------------------------------------------

FUNCTIONS: dict[type, Callable[..., Any]] = {
    layers.Convolution: lambda layer, x, weight, bias: F.conv2d(
        x, weight, bias, layer.stride, layer.pad, groups=layer.groups
    ),
    layers.Affine: lambda layer, x, weight, bias: F.linear(x.flatten(1), weight, bias),
    layers.Pooling: lambda layer, x: F.max_pool2d(x, layer.pool_h, layer.stride, layer.pad),
    layers.AveragePooling: lambda layer, x: F.avg_pool2d(x, layer.pool_h, layer.stride, layer.pad),
    layers.Relu: lambda layer, x: F.relu(x),
    layers.Sigmoid: lambda layer, x: F.sigmoid(x),
    layers.LocalResponseNormalization: lambda layer, x: F.local_response_norm(
        x, layer.size, layer.alpha, layer.beta, layer.k
    ),
}
TRAINING = FUNCTIONS | {layers.Dropout: lambda layer, x: F.dropout(x, layer.dropout_ratio)}
INFERENCE = FUNCTIONS | {layers.Dropout: lambda layer, x: x}


class Network:
    def __init__(self, case: NetworkCase) -> None:
        self.net = case.net
        self.params = [_parameter(array) for array in case.net.params.values()]
        self.batches = [torch.from_numpy(batch) for batch in case.batches]
        self.labels = torch.from_numpy(case.labels)

    def step(self) -> list[Any]:
        with torch.enable_grad():
            scores = through(TRAINING, self.net, self.params, self.batches[0])
            loss = F.cross_entropy(scores, self.labels)
            gradients = torch.autograd.grad(loss, self.params)
        return [loss.detach(), *(g.T if g.ndim == 2 else g for g in gradients)]

    def scores(self, x: Any) -> Any:
        with torch.no_grad():
            return through(INFERENCE, self.net, self.params, x)


def _parameter(array: Array) -> Any:
    """Give matrices PyTorch's own layout, which is its faster one."""
    own = array.T.copy() if array.ndim == 2 else array
    return torch.from_numpy(own).requires_grad_()
