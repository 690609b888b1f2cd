"""onnxruntime's MaxPool and Conv, bound to their input, and whole networks in use.

It allocates results from its own arena. Its threads may spin, which is its default and its faster
setting.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import onnxruntime as ort

from bench import peers
from bench.cases import Array, Case, Contender
from bench.networks import NetworkCase
from bench.peers import MakeNetwork, models, onnx_networks


class Peer(peers.Peer):
    name, version = "onnxruntime", str(ort.__version__)

    def __init__(self, threads: int) -> None:
        self.options = ort.SessionOptions()
        self.options.intra_op_num_threads = threads
        self.options.inter_op_num_threads = 1

    def session(self, model: bytes | str) -> Any:
        """Load the bytes of a model, or its file."""
        return ort.InferenceSession(model, self.options, providers=["CPUExecutionProvider"])

    def networks(self, case: NetworkCase) -> Mapping[str, MakeNetwork]:
        def make(case: NetworkCase) -> Network:
            return Network(self.session(onnx_networks.model(case.net)), case)

        return {self.name: make} if case.is_prediction else {}

    def loaded(self, file: str, case: NetworkCase) -> "Network":
        """Give the network of a case from its file."""
        return Network(self.session(file), case)

    def max_pool2d_indices(self, case: Case) -> Iterator[Contender]:
        for name, outputs in (
            ("onnxruntime, no indices", ["values"]),
            ("onnxruntime", ["values", "indices"]),
        ):
            call = self._bound(models.max_pool(case, outputs), case.image, outputs)
            yield self.contender(case, call, name=name)

    def conv2d(self, case: Case) -> Iterator[Contender]:
        call = self._bound(models.convolution(case), case.image, ["output"])
        yield self.contender(case, call)

    def _bound(self, model: bytes, image: Array, outputs: list[str]) -> Callable[[], Any]:
        session = self.session(model)
        binding = session.io_binding()
        binding.bind_cpu_input("image", image)

        def call() -> Any:
            binding.clear_binding_outputs()
            for output in outputs:
                binding.bind_output(output)
            session.run_with_iobinding(binding)
            return binding

        return call

    def results(self, case: Case, returned: Any) -> tuple[Array, ...]:
        values, *indices = returned.copy_outputs_to_cpu()
        # ONNX counts through the whole tensor, not through a plane.
        return (values, *(index % case.workload.size**2 for index in indices))


class Network:
    """A network in use, with the graph that the library optimises when it loads it."""

    def __init__(self, session: Any, case: NetworkCase) -> None:
        self.session, self.batches = session, case.batches

    def step(self) -> list[Any]:
        raise NotImplementedError("this network cannot be trained")

    def scores(self, x: Any) -> Any:
        (scores,) = self.session.run(None, {onnx_networks.INPUT: x})
        return scores
