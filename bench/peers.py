"""Who takes part. A peer has one method per operation it offers, giving its contenders.

Except for fastconv and NumPy a peer is optional; `available` says why one is missing.
"""

import importlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

import fastconv
from bench import textbook
from bench.cases import Array, Case, unfolded_to_rows


@dataclass(frozen=True)
class Contender:
    """One way to do a case's operation.

    mode: "fresh", the result is allocated by the call and dropped; "out=", written into memory
    that exists already; "limit", what the machine can do at best.
    """

    name: str
    mode: str
    call: Callable[[], Any]
    results: Callable[[Any], tuple[Array, ...]]  # of what `call` returns, in fastconv's layout
    operations: int = 1  # in one call
    is_reference: bool = False  # what the others are compared with


def _one(value: Array) -> tuple[Array, ...]:
    return (value,)


class Fastconv:
    name = "fastconv"

    def __init__(self, threads: int) -> None:
        fastconv.set_num_threads(threads)
        self.version = fastconv.__version__

    def im2col(self, case: Case) -> Iterator[Contender]:
        x, (k, s, p) = case.image, case.window
        out = np.zeros(case.workload.col_shape, np.float32)
        yield self._contender("fresh", lambda: fastconv.im2col(x, k, k, s, p))
        yield self._contender("out=", lambda: fastconv.im2col(x, k, k, s, p, out=out))

    def col2im(self, case: Case) -> Iterator[Contender]:
        col, shape, (k, s, p) = case.col, case.workload.image_shape, case.window
        out = np.zeros(shape, np.float32)
        yield self._contender("fresh", lambda: fastconv.col2im(col, shape, k, k, s, p))
        yield self._contender("out=", lambda: fastconv.col2im(col, shape, k, k, s, p, out=out))

    def unfold(self, case: Case) -> Iterator[Contender]:
        x, (k, s, p) = case.image, case.window
        yield self._contender("fresh", lambda: fastconv.unfold(x, k, 1, p, s))

    def fold(self, case: Case) -> Iterator[Contender]:
        col, size, (k, s, p) = case.unfolded, case.workload.image_shape[2:], case.window
        yield self._contender("fresh", lambda: fastconv.fold(col, size, k, 1, p, s))

    def max_pool2d(self, case: Case) -> Iterator[Contender]:
        x, (k, s, p) = case.image, case.window
        yield self._contender("fresh", lambda: fastconv.max_pool2d(x, k, s, p))

    def max_pool2d_indices(self, case: Case) -> Iterator[Contender]:
        x, (k, s, p) = case.image, case.window
        yield Contender(
            "fastconv",
            "fresh",
            lambda: fastconv.max_pool2d(x, k, s, p, return_indices=True),
            tuple,
        )
        yield Contender(
            "fastconv, no indices", "fresh", lambda: fastconv.max_pool2d(x, k, s, p), _one
        )

    def max_pool2d_backward(self, case: Case) -> Iterator[Contender]:
        grad, indices, shape = case.grad, case.indices, case.workload.image_shape
        out = np.zeros(shape, np.float32)
        yield self._contender("fresh", lambda: fastconv.max_pool2d_backward(grad, indices, shape))
        yield self._contender(
            "out=", lambda: fastconv.max_pool2d_backward(grad, indices, shape, out=out)
        )

    def max_unpool2d(self, case: Case) -> Iterator[Contender]:
        values, indices, (k, s, p) = case.grad, case.indices, case.window
        size = case.workload.image_shape[2:]
        yield self._contender(
            "fresh", lambda: fastconv.max_unpool2d(values, indices, k, s, p, size)
        )

    def avg_pool2d(self, case: Case) -> Iterator[Contender]:
        x, (k, s, p) = case.image, case.window
        yield self._contender("fresh", lambda: fastconv.avg_pool2d(x, k, s, p))

    def avg_pool2d_backward(self, case: Case) -> Iterator[Contender]:
        grad, shape, (k, s, p) = case.grad, case.workload.image_shape, case.window
        yield self._contender("fresh", lambda: fastconv.avg_pool2d_backward(grad, shape, k, s, p))

    def _contender(self, mode: str, call: Callable[[], Any]) -> Contender:
        return Contender(self.name, mode, call, _one)


class Numpy:
    """The textbook's formula; one thread, whatever is asked for."""

    name = "numpy"
    version = np.__version__

    def __init__(self, threads: int) -> None:
        pass

    def im2col(self, case: Case) -> Iterator[Contender]:
        x, window = case.image, case.window
        yield self._contender(lambda: textbook.im2col(x, *window))

    def col2im(self, case: Case) -> Iterator[Contender]:
        col, shape, window = case.col, case.workload.image_shape, case.window
        yield self._contender(lambda: textbook.col2im(col, shape, *window))

    def max_pool2d_indices(self, case: Case) -> Iterator[Contender]:
        x, size, window = case.image, case.workload.size, case.window
        yield Contender(
            self.name,
            "fresh",
            lambda: textbook.max_pool(x, *window),
            lambda result: (result[0], textbook.plane_indices(result[1], size, *window)),
            is_reference=True,
        )

    def max_pool2d_backward(self, case: Case) -> Iterator[Contender]:
        grad, pixel, shape = case.grad, case.pooled[1], case.workload.image_shape
        window = case.window
        yield self._contender(lambda: textbook.max_pool_backward(grad, pixel, shape, *window))

    def _contender(self, call: Callable[[], Any]) -> Contender:
        return Contender(self.name, "fresh", call, _one, is_reference=True)


class Torch:
    """PyTorch on NCHW tensors, where it matters also on channels_last ones; no autograd."""

    name = "torch"

    def __init__(self, threads: int) -> None:
        self.torch = importlib.import_module("torch")
        self.torch.set_num_threads(threads)
        self.torch.set_grad_enabled(False)
        self.F = self.torch.nn.functional
        self.aten = self.torch.ops.aten
        self.version = str(self.torch.__version__)

    def im2col(self, case: Case) -> Iterator[Contender]:
        x, (k, s, p) = self._tensor(case.image), case.window
        yield Contender(
            self.name,
            "fresh",
            lambda: self.F.unfold(x, k, 1, p, s),
            lambda result: (unfolded_to_rows(result.numpy()),),
        )

    def col2im(self, case: Case) -> Iterator[Contender]:
        col, size = self._tensor(case.unfolded), case.workload.image_shape[2:]
        k, s, p = case.window
        yield self._contender(lambda: self.F.fold(col, size, k, 1, p, s))

    def unfold(self, case: Case) -> Iterator[Contender]:
        x, (k, s, p) = self._tensor(case.image), case.window
        yield self._contender(lambda: self.F.unfold(x, k, 1, p, s))

    fold = col2im

    def max_pool2d(self, case: Case) -> Iterator[Contender]:
        x, (k, s, p) = self._tensor(case.image), case.window
        yield self._contender(lambda: self.F.max_pool2d(x, k, s, p))

    def max_pool2d_indices(self, case: Case) -> Iterator[Contender]:
        yield self._max_pool2d_indices(case, "torch", self.torch.contiguous_format)
        yield self._max_pool2d_indices(case, "torch channels_last", self.torch.channels_last)

    def _max_pool2d_indices(self, case: Case, name: str, layout: Any) -> Contender:
        x, (k, s, p) = self._tensor(case.image, layout), case.window
        return Contender(
            name,
            "fresh",
            lambda: self.F.max_pool2d(x, k, s, p, return_indices=True),
            lambda result: (result[0].numpy(), result[1].numpy()),
        )

    def max_pool2d_backward(self, case: Case) -> Iterator[Contender]:
        yield self._max_pool2d_backward(case, "torch", self.torch.contiguous_format)
        yield self._max_pool2d_backward(case, "torch channels_last", self.torch.channels_last)

    def _max_pool2d_backward(self, case: Case, name: str, layout: Any) -> Contender:
        grad, x = self._tensor(case.grad, layout), self._tensor(case.image, layout)
        indices = self._tensor(case.indices, layout)
        k, s, p = ([value, value] for value in case.window)
        return self._contender(
            lambda: self.aten.max_pool2d_with_indices_backward(
                grad, x, k, s, p, [1, 1], False, indices
            ),
            name,
        )

    def max_unpool2d(self, case: Case) -> Iterator[Contender]:
        values, indices = self._tensor(case.grad), self._tensor(case.indices)
        size, (k, s, p) = case.workload.image_shape[2:], case.window
        yield self._contender(lambda: self.F.max_unpool2d(values, indices, k, s, p, size))

    def avg_pool2d(self, case: Case) -> Iterator[Contender]:
        x, (k, s, p) = self._tensor(case.image), case.window
        yield self._contender(lambda: self.F.avg_pool2d(x, k, s, p))

    def avg_pool2d_backward(self, case: Case) -> Iterator[Contender]:
        grad, x = self._tensor(case.grad), self._tensor(case.image)
        k, s, p = ([value, value] for value in case.window)
        yield self._contender(
            lambda: self.aten.avg_pool2d_backward(grad, x, k, s, p, False, True, None)
        )

    def _tensor(self, array: Array, layout: Any = None) -> Any:
        tensor = self.torch.from_numpy(array)
        return tensor if layout is None else tensor.contiguous(memory_format=layout)

    def _contender(self, call: Callable[[], Any], name: str = "torch") -> Contender:
        return Contender(name, "fresh", call, lambda result: (result.numpy(),))


class OnnxRuntime:
    """onnxruntime's MaxPool, bound to its input; it allocates results from its own arena.

    Its threads may spin, which is its default and its faster setting.
    """

    name = "onnxruntime"

    def __init__(self, threads: int) -> None:
        self.onnx = importlib.import_module("onnx")
        self.ort = importlib.import_module("onnxruntime")
        self.options = self.ort.SessionOptions()
        self.options.intra_op_num_threads = threads
        self.options.inter_op_num_threads = 1
        self.version = str(self.ort.__version__)

    def max_pool2d_indices(self, case: Case) -> Iterator[Contender]:
        plane = case.workload.size**2  # ONNX counts through the whole tensor

        def results(binding: Any) -> tuple[Array, ...]:
            values, *indices = binding.copy_outputs_to_cpu()
            return (values, *(index % plane for index in indices))

        for name, outputs in (
            ("onnxruntime, no indices", ["values"]),
            ("onnxruntime", ["values", "indices"]),
        ):
            call = self._bound(self._max_pool(case, outputs), case.image, outputs)
            yield Contender(name, "fresh", call, results)

    def _bound(self, model: bytes, image: Array, outputs: list[str]) -> Callable[[], Any]:
        session = self.ort.InferenceSession(model, self.options, providers=["CPUExecutionProvider"])
        binding = session.io_binding()
        binding.bind_cpu_input("image", image)

        def call() -> Any:
            binding.clear_binding_outputs()
            for output in outputs:
                binding.bind_output(output)
            session.run_with_iobinding(binding)
            return binding

        return call

    def _max_pool(self, case: Case, outputs: list[str]) -> bytes:
        helper, types, (k, s, p) = self.onnx.helper, self.onnx.TensorProto, case.window
        node = helper.make_node(
            "MaxPool", ["image"], outputs, kernel_shape=[k, k], strides=[s, s], pads=[p] * 4
        )
        image = helper.make_tensor_value_info("image", types.FLOAT, case.workload.image_shape)
        kinds = {"values": types.FLOAT, "indices": types.INT64}
        results = [helper.make_tensor_value_info(name, kinds[name], None) for name in outputs]
        graph = helper.make_graph([node], "max_pool", [image], results)
        opset = helper.make_opsetid("", 12)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=8)
        return bytes(model.SerializeToString())


class Limits:
    """Plain copies and writes of as many bytes as the columns have, on the same threads.

    Every thread goes over its own slice several times in a call, so that handing out the work
    does not count.
    """

    name = "limits"
    version = ""
    CALL_BYTES = 1 << 28

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.pool = ThreadPoolExecutor(threads)

    def im2col(self, case: Case) -> Iterator[Contender]:
        source = np.ones(case.nbytes // 4, np.float32)
        target = np.zeros_like(source)
        sources = np.array_split(source, self.threads)
        targets = np.array_split(target, self.threads)
        yield self._contender("parallel copy", case, np.copyto, targets, sources)
        yield self._contender("parallel fill", case, np.ndarray.fill, targets, [1] * self.threads)

    def _contender(
        self,
        name: str,
        case: Case,
        work: Callable[[Array, Any], None],
        targets: list[Array],
        sources: list[Any],
    ) -> Contender:
        repeats = max(1, self.CALL_BYTES // case.nbytes)

        def repeat(target: Array, source: Any) -> None:
            for _ in range(repeats):
                work(target, source)

        return Contender(
            name,
            "limit",
            lambda: list(self.pool.map(repeat, targets, sources)),
            lambda result: (),
            repeats,
        )


def available(threads: int) -> tuple[list[Any], dict[str, str]]:
    """Start the peers that are installed; say why the others are missing."""
    peers, missing = [], {}
    for kind in (Fastconv, Numpy, Torch, OnnxRuntime, Limits):
        try:
            peers.append(kind(threads))
        except ImportError as error:
            missing[kind.name] = str(error)
    return peers, missing


def contenders(peers: list[Any], case: Case) -> Iterator[Contender]:
    for peer in peers:
        offer = getattr(peer, case.operation, None)
        if offer is not None:
            yield from offer(case)
