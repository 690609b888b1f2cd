"""PyTorch on NCHW tensors, where it matters also on channels_last ones; networks by autograd."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from bench import peers, textbook
from bench.cases import Array, Call, Case, Contender, as_tuple, unfolded_to_rows
from bench.networks import NetworkCase, through, window_of
from bench.peers import TORCH_LAYOUTS
from bench.updates import UpdateCase
from fastconv import layers

aten = torch.ops.aten

LAYOUTS = dict(zip(TORCH_LAYOUTS, (torch.contiguous_format, torch.channels_last), strict=True))
LAYOUT_MATTERS = (
    *("max_pool2d_indices", "max_pool2d_backward", "batch_norm", "batch_norm_backward"),
    *("conv2d", "conv2d_backward"),
)


def _conv2d_backward(c: Case, tensor: Callable[[Array], Any]) -> Call:
    inputs = tensor(c.grad), tensor(c.image), tensor(c.weight), [c.workload.filters]
    rest = [c.s] * 2, [c.p] * 2, [1, 1], False, [0, 0], c.groups, [True] * 3
    return partial(aten.convolution_backward, *inputs, *rest)


def _max_pool2d_backward(c: Case, tensor: Callable[[Array], Any]) -> Call:
    window = [c.k] * 2, [c.s] * 2, [c.p] * 2, [1, 1], False
    backward = aten.max_pool2d_with_indices_backward
    return partial(backward, tensor(c.grad), tensor(c.image), *window, tensor(c.indices))


def _avg_pool2d_backward(c: Case, tensor: Callable[[Array], Any]) -> Call:
    window = [c.k] * 2, [c.s] * 2, [c.p] * 2, False, True, None
    return partial(aten.avg_pool2d_backward, tensor(c.grad), tensor(c.image), *window)


def _batch_norm_backward(c: Case, tensor: Callable[[Array], Any]) -> Call:
    image, gamma = tensor(c.image), tensor(c.gamma)
    start = torch.zeros_like(gamma), torch.ones_like(gamma)
    _, *saved = aten.native_batch_norm(image, gamma, gamma, *start, True, 0.1, textbook.EPS)
    rest = gamma, *start, *saved, True, textbook.EPS, [True] * 3
    return partial(aten.native_batch_norm_backward, tensor(c.grad), image, *rest)


# The calls of a case, whose arrays become tensors by the function `t`.
CALLS: Mapping[str, Callable[[Case, Callable[[Array], Any]], Call]] = {
    "im2col": lambda c, t: partial(F.unfold, t(c.image), c.k, 1, c.p, c.s),
    "col2im": lambda c, t: partial(F.fold, t(c.unfolded), c.shape[2:], c.k, 1, c.p, c.s),
    "unfold": lambda c, t: partial(F.unfold, t(c.image), c.k, 1, c.p, c.s),
    "fold": lambda c, t: partial(F.fold, t(c.unfolded), c.shape[2:], c.k, 1, c.p, c.s),
    "max_pool2d": lambda c, t: partial(F.max_pool2d, t(c.image), *c.window),
    "max_pool2d_indices": lambda c, t: partial(
        F.max_pool2d, t(c.image), *c.window, return_indices=True
    ),
    "max_pool2d_backward": _max_pool2d_backward,
    "max_unpool2d": lambda c, t: partial(
        F.max_unpool2d, t(c.grad), t(c.indices), *c.window, c.shape[2:]
    ),
    "avg_pool2d": lambda c, t: partial(F.avg_pool2d, t(c.image), *c.window),
    "avg_pool2d_backward": _avg_pool2d_backward,
    "batch_norm": lambda c, t: partial(
        F.batch_norm, t(c.image), None, None, t(c.gamma), t(c.beta), True, 0.1, textbook.EPS
    ),
    "batch_norm_backward": _batch_norm_backward,
    "conv2d": lambda c, t: partial(
        F.conv2d, t(c.image), t(c.weight), t(c.bias), c.s, c.p, 1, c.groups
    ),
    "conv2d_backward": _conv2d_backward,
    "conv_transpose2d": lambda c, t: partial(
        F.conv_transpose2d, t(c.grad), t(c.weight), None, c.s, c.p, 0, c.groups
    ),
}


class Peer(peers.Peer):
    name, version = "torch", str(torch.__version__)

    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        self.network, self.update = Network, Update

    def contenders(self, case: Any) -> Iterator[Contender]:
        yield from super().contenders(case)
        for name, layout in LAYOUTS.items():
            if case.operation in (CALLS if name == self.name else LAYOUT_MATTERS):
                call = CALLS[case.operation](case, partial(_tensor, layout))
                yield self.contender(case, call, name=name)

    def results(self, case: Case, returned: Any) -> tuple[Array, ...]:
        tensors: tuple[Any, ...] = as_tuple(returned)
        arrays = tuple(tensor.numpy() for tensor in tensors)
        return (unfolded_to_rows(*arrays),) if case.operation == "im2col" else arrays


def _tensor(layout: torch.memory_format, array: Array) -> Any:
    tensor = torch.from_numpy(array)
    return tensor.contiguous(memory_format=layout) if tensor.ndim == 4 else tensor


# ---- networks ----------------------------------------------------------------------------------

FUNCTIONS: dict[type, Callable[..., Any]] = {
    layers.Convolution: lambda layer, x, weight, bias: F.conv2d(
        x, weight, bias, layer.stride, layer.pad, groups=layer.groups
    ),
    layers.Affine: lambda layer, x, weight, bias: F.linear(x.flatten(1), weight, bias),
    layers.Pooling: lambda layer, x: F.max_pool2d(x, *window_of(layer)),
    layers.AveragePooling: lambda layer, x: F.avg_pool2d(x, *window_of(layer)),
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


class Update:
    """Adam in one pass over memory."""

    def __init__(self, case: UpdateCase) -> None:
        self.params = [torch.from_numpy(param.copy()).requires_grad_() for param in case.params]
        for param, grad in zip(self.params, case.grads, strict=True):
            param.grad = torch.from_numpy(grad)
        self.rule = torch.optim.Adam(self.params, eps=1e-7, fused=True)

    def step(self) -> list[Any]:
        self.rule.step()
        return [param.detach() for param in self.params]


def _parameter(array: Array) -> Any:
    """Give matrices PyTorch's own layout, which is its faster one."""
    own = array.T.copy() if array.ndim == 2 else array
    return torch.from_numpy(own).requires_grad_()
