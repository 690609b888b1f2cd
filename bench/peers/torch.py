"""PyTorch on NCHW tensors, where it matters also on channels_last ones; networks by autograd."""

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, NoReturn

import torch
import torch.nn.functional as F

from bench import peers, textbook
from bench.cases import Array, Call, Case, Contender, as_tuple, unfolded_to_rows
from bench.networks import LEARNING_RATE, MOMENTUM, NetworkCase
from bench.peers import TORCH_COMPILE, TORCH_LAYOUTS, MakeNetwork
from bench.peers.torch_modules import converted
from bench.updates import UpdateCase

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
    "conv1d": lambda c, t: partial(
        F.conv1d, t(c.image), t(c.weight), t(c.bias), c.s, c.p, c.dilation, c.groups
    ),
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
        self.update = Update

    def networks(self, case: NetworkCase) -> Mapping[str, MakeNetwork]:
        makers: dict[str, MakeNetwork] = {
            name: partial(Network, layout) for name, layout in LAYOUTS.items()
        }
        if case.is_prediction and not case.plain and case.net.multiply_adds() >= COMPILED_FROM:
            makers[TORCH_COMPILE] = Compiled
        return makers

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

# A network with fewer multiply-adds for an image is not compiled, which takes tens of seconds.
COMPILED_FROM = 10**8
COMPILE_SECONDS = 60


class Network:
    """A network in one of the layouts."""

    def __init__(self, layout: torch.memory_format, case: NetworkCase) -> None:
        self.module, self.params = converted(case.net)
        self.module.train(not case.is_inference).to(memory_format=layout)
        self.batches = [_tensor(layout, batch) for batch in case.batches]
        self.labels = torch.from_numpy(case.labels)
        self.rule: Any = None
        if case.is_training:
            settings = {"lr": LEARNING_RATE, "momentum": MOMENTUM}
            self.rule = torch.optim.SGD(self.params, fused=True, **settings)

    def step(self) -> list[Any]:
        for param in self.params:
            param.grad = None
        with torch.enable_grad():
            loss = F.cross_entropy(self.module(self.batches[0]), self.labels)
            loss.backward()
        results = [loss.detach(), *(_like_ours(param.grad) for param in self.params)]
        if self.rule:
            self.rule.step()
            results += [_like_ours(param.detach()) for param in self.params]
        return results

    def scores(self, x: Any) -> Any:
        with torch.inference_mode():
            return self.module(x)


class Compiled(Network):
    """A network in use, compiled as a whole with its parameters, which may then be rearranged."""

    def __init__(self, case: NetworkCase) -> None:
        super().__init__(torch.contiguous_format, case)
        torch.compiler.reset()  # Otherwise another batch size compiles for all sizes.
        self.module = torch.compile(self.module, dynamic=False, options={"freezing": True})
        self.is_compiled = False

    def scores(self, x: Any) -> Any:
        with nullcontext() if self.is_compiled else limited_to(COMPILE_SECONDS), torch.no_grad():
            scores = self.module(x)
        self.is_compiled = True
        return scores


@contextmanager
def limited_to(seconds: float) -> Iterator[None]:
    """End the block of the main thread with a TimeoutError when it takes longer than this.

    Whatever the block makes of the error, TimeoutError is what the caller gets.
    """
    message = f"took longer than {seconds:g} s"
    ended = False

    def stop(*_: Any) -> NoReturn:
        nonlocal ended
        ended = True
        raise TimeoutError(message)

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except Exception:
        if ended:
            raise TimeoutError(message) from None
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _like_ours(tensor: Any) -> Any:
    """Give a matrix as we have it: PyTorch's has a row for each output."""
    return tensor.T if tensor.ndim == 2 else tensor


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
