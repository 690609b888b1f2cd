"""Who takes part. A peer has one method per operation it offers, giving its contenders.

Except for fastconv and NumPy a peer is optional; `available` says why one is missing.
"""

import ctypes
import importlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

import fastconv
from bench import textbook
from bench.cases import Array, Case, unfolded_to_rows
from fastconv import _kernels


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
    operations: float = 1  # in one call
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

    def conv2d(self, case: Case) -> Iterator[Contender]:
        x, weight, bias, groups = case.image, case.weight, case.bias, case.workload.groups
        _, s, p = case.window
        yield self._contender(
            "fresh", lambda: fastconv.conv2d(x, weight, bias, s, p, groups=groups)
        )

    def conv2d_backward(self, case: Case) -> Iterator[Contender]:
        grad, x, weight, groups = case.grad, case.image, case.weight, case.workload.groups
        _, s, p = case.window
        yield Contender(
            self.name,
            "fresh",
            lambda: fastconv.conv2d_backward(grad, x, weight, s, p, groups=groups),
            tuple,
        )

    def conv_transpose2d(self, case: Case) -> Iterator[Contender]:
        x, weight, groups, (_, s, p) = case.grad, case.weight, case.workload.groups, case.window
        yield self._contender(
            "fresh", lambda: fastconv.conv_transpose2d(x, weight, None, s, p, groups=groups)
        )

    def _contender(self, mode: str, call: Callable[[], Any]) -> Contender:
        return Contender(self.name, mode, call, _one)


class Numpy:
    """The textbook's formula; one thread, whatever is asked for, but for products of matrices."""

    name = "numpy"
    version = np.__version__

    def __init__(self, threads: int) -> None:
        linalg = importlib.import_module("numpy.linalg._umath_linalg")
        blas = ctypes.CDLL(linalg.__file__)  # also finds names in the libraries it links
        for prefix in ("scipy_", ""):
            limit = getattr(blas, f"{prefix}openblas_set_num_threads64_", None)
            if limit is not None:
                limit(threads)

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

    def conv2d(self, case: Case) -> Iterator[Contender]:
        x, weight, bias, (_, s, p) = case.image, case.weight, case.bias, case.window
        yield self._contender(lambda: textbook.convolution(x, weight, bias, s, p))

    def conv2d_backward(self, case: Case) -> Iterator[Contender]:
        grad, col, weight, (_, s, p) = case.grad, case.saved_col, case.weight, case.window
        shape = case.workload.image_shape
        yield Contender(
            self.name,
            "fresh",
            lambda: textbook.convolution_backward(grad, col, weight, shape, s, p),
            tuple,
            is_reference=True,
        )

    def conv_transpose2d(self, case: Case) -> Iterator[Contender]:
        x, weight, shape, (_, s, p) = case.grad, case.weight, case.workload.image_shape, case.window
        yield self._contender(lambda: textbook.convolution_transpose(x, weight, shape, s, p))

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

    def conv2d(self, case: Case) -> Iterator[Contender]:
        yield self._conv2d(case, "torch", self.torch.contiguous_format)
        yield self._conv2d(case, "torch channels_last", self.torch.channels_last)

    def _conv2d(self, case: Case, name: str, layout: Any) -> Contender:
        x, weight = self._tensor(case.image, layout), self._tensor(case.weight, layout)
        bias, groups, (_, s, p) = self._tensor(case.bias), case.workload.groups, case.window
        return self._contender(lambda: self.F.conv2d(x, weight, bias, s, p, 1, groups), name)

    def conv2d_backward(self, case: Case) -> Iterator[Contender]:
        yield self._conv2d_backward(case, "torch", self.torch.contiguous_format)
        yield self._conv2d_backward(case, "torch channels_last", self.torch.channels_last)

    def _conv2d_backward(self, case: Case, name: str, layout: Any) -> Contender:
        arrays = (case.grad, case.image, case.weight)
        grad, x, weight = (self._tensor(array, layout) for array in arrays)
        filters, groups = [case.workload.filters], case.workload.groups
        _, s, p = ([value, value] for value in case.window)
        return Contender(
            name,
            "fresh",
            lambda: self.aten.convolution_backward(
                grad, x, weight, filters, s, p, [1, 1], False, [0, 0], groups, [True] * 3
            ),
            lambda result: tuple(gradient.numpy() for gradient in result),
        )

    def conv_transpose2d(self, case: Case) -> Iterator[Contender]:
        x, weight, groups = self._tensor(case.grad), self._tensor(case.weight), case.workload.groups
        _, s, p = case.window
        yield self._contender(lambda: self.F.conv_transpose2d(x, weight, None, s, p, 0, groups))

    def _tensor(self, array: Array, layout: Any = None) -> Any:
        tensor = self.torch.from_numpy(array)
        return tensor if layout is None else tensor.contiguous(memory_format=layout)

    def _contender(self, call: Callable[[], Any], name: str = "torch") -> Contender:
        return Contender(name, "fresh", call, lambda result: (result.numpy(),))


class OnnxRuntime:
    """onnxruntime's MaxPool and Conv, bound to their input.

    It allocates results from its own arena. Its threads may spin, which is its default and its
    faster setting.
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

    def conv2d(self, case: Case) -> Iterator[Contender]:
        call = self._bound(self._conv(case), case.image, ["output"])
        yield Contender(
            self.name, "fresh", call, lambda binding: tuple(binding.copy_outputs_to_cpu())
        )

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
        k, s, p = case.window
        node = self.onnx.helper.make_node(
            "MaxPool", ["image"], outputs, kernel_shape=[k, k], strides=[s, s], pads=[p] * 4
        )
        return self._model(case, node, {})

    def _conv(self, case: Case) -> bytes:
        k, s, p = case.window
        node = self.onnx.helper.make_node(
            "Conv",
            ["image", "weight", "bias"],
            ["output"],
            kernel_shape=[k, k],
            strides=[s, s],
            pads=[p] * 4,
            group=case.workload.groups,
        )
        return self._model(case, node, {"weight": case.weight, "bias": case.bias})

    def _model(self, case: Case, node: Any, constants: dict[str, Array]) -> bytes:
        helper, types = self.onnx.helper, self.onnx.TensorProto
        image = helper.make_tensor_value_info("image", types.FLOAT, case.workload.image_shape)
        results = [
            helper.make_tensor_value_info(
                name, types.INT64 if name == "indices" else types.FLOAT, None
            )
            for name in node.output
        ]
        initializers = [
            self.onnx.numpy_helper.from_array(array, name) for name, array in constants.items()
        ]
        graph = helper.make_graph([node], "benchmark", [image], results, initializers)
        opset = helper.make_opsetid("", 12)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=8)
        return bytes(model.SerializeToString())


class Limits:
    """What the machine can do at best, on the same threads.

    Columns: plain copies and writes of as many bytes as they have. Every thread goes over its own
    slice several times in a call, so that handing out the work does not count.

    Convolutions: as many multiply-adds as the operation takes, in registers, and a copy that reads
    and writes as many bytes as the operation's inputs and results have.
    """

    name = "limits"
    version = ""
    CALL_BYTES = 1 << 28
    CALL_SECONDS = 0.05

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.pool = ThreadPoolExecutor(threads)

    def im2col(self, case: Case) -> Iterator[Contender]:
        yield self._copy(case.nbytes)
        targets = np.array_split(np.zeros(case.nbytes // 4, np.float32), self.threads)
        yield self._contender("parallel fill", np.ndarray.fill, targets, [1] * self.threads)

    def conv2d(self, case: Case) -> Iterator[Contender]:
        repeats, done = self._fma_round
        yield Contender(
            "FMA peak",
            "limit",
            lambda: _kernels.convolution.fma_peak("f", self.threads, repeats),
            lambda result: (),
            done / case.flops,
        )
        yield self._copy(case.nbytes // 2)

    conv2d_backward = conv2d

    @cached_property
    def _fma_round(self) -> tuple[int, float]:
        """So many repeats fill `CALL_SECONDS`, and do so many operations."""
        repeats = 1
        while True:
            start = time.perf_counter()
            done = float(_kernels.convolution.fma_peak("f", self.threads, repeats))
            if time.perf_counter() - start >= self.CALL_SECONDS:
                return repeats, done
            repeats *= 2

    def _copy(self, nbytes: int) -> Contender:
        source = np.ones(nbytes // 4, np.float32)
        sources = np.array_split(source, self.threads)
        targets = np.array_split(np.zeros_like(source), self.threads)
        return self._contender("parallel copy", np.copyto, targets, sources)

    def _contender(
        self,
        name: str,
        work: Callable[[Array, Any], None],
        targets: list[Array],
        sources: list[Any],
    ) -> Contender:
        repeats = max(1, self.CALL_BYTES // sum(target.nbytes for target in targets))

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
