"""Peak memory of one call beyond its inputs and outputs, or of a network, each in a fresh process.

The kernel's high-water mark of resident memory is read before and after the call. Results go to
`out=`, and what a call has to allocate all the same (indices, gradients) is taken off. Starting the
threads counts, as the call is the first one large enough to use them.

Of a network in use everything counts from the import of the library on: to make it (ours draws its
weights, onnxruntime reads a file), to prepare it, its input, and two predictions.
"""

import contextlib
import ctypes
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import astuple
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench import peers
from bench.cases import Case
from bench.networks import NetworkCase
from bench.peers import OURS, ours
from bench.shapes import SMALL_CALLS, NetworkTask, Workload

STATUS = Path("/proc/self/status")  # Linux only
# From this one on, the operation's results cannot be written to `out=`.
NETWORK, MODEL = "network", "model"  # What a process is asked for beside operations.
ALLOCATED = {"max_pool2d_indices": 1, "conv2d_backward": 0}


def extra_bytes(operation: str, workload: Workload, threads: int) -> int:
    return _ask(operation, *map(str, (threads, *astuple(workload))))


def peak_bytes(name: str, task: NetworkTask, threads: int) -> int:
    """Measure the network in a library that can load it."""
    of_task = map(str, astuple(task))
    if name == OURS:
        return _ask(NETWORK, name, str(threads), *of_task)
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder, "network.onnx"))
        arguments = [str(threads), *of_task, file]
        _ask(MODEL, name, *arguments)
        return _ask(NETWORK, name, *arguments)


def _ask(what: str, *arguments: str) -> int:
    """Let a process of its own print a number."""
    command = [sys.executable, "-m", __name__, what, *arguments]
    return int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def _measure(operation: str, workload: Workload, threads: int) -> int:
    peer = ours.Peer(threads)
    _call(peer, operation, SMALL_CALLS[operation])()
    call = _call(peer, operation, workload)
    _forget()
    before = _high_water()
    result = call()
    extra = _high_water() - before
    if operation in ALLOCATED:
        extra -= sum(array.nbytes for array in result[ALLOCATED[operation] :])
    return extra


def _network(what: str, name: str, threads: int, task: NetworkTask, file: str = "") -> int:
    """Measure a network, or write its file and return the number of its bytes."""
    peer: Any = peers.start(name, threads)
    case = NetworkCase("network_prediction", task)
    if what == MODEL:
        from bench.peers import onnx_networks

        return Path(file).write_bytes(onnx_networks.model(case.net))
    _forget()
    before = _high_water()
    network = peer.loaded(file, case) if file else next(iter(peer.networks(case).values()))(case)
    del case
    for _ in range(2):
        network.scores(network.batches[0])
    return _high_water() - before


def _call(peer: ours.Peer, operation: str, workload: Workload) -> Callable[[], Any]:
    """Prepare what the benchmark times, writing to touched memory where that is possible."""
    case = Case(operation, workload)
    call: Callable[..., Any] = next(peer.contenders(case)).call
    if operation == "conv2d_backward":
        return call
    return partial(call, out=np.ones(case.result_shape, np.float32))


def _forget() -> None:
    """Give freed memory back, so that it cannot hide what the call takes; reset the mark."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    with contextlib.suppress(OSError):  # Even so the mark is right, as nothing large was freed.
        Path("/proc/self/clear_refs").write_text("5")


def _high_water() -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    asked, *rest = sys.argv[1:]
    if asked in (NETWORK, MODEL):
        peer_name, thread_count, of_network, of_dtype, batch, *files = rest
        asked_task = NetworkTask(of_network, of_dtype, int(batch))
        print(_network(asked, peer_name, int(thread_count), asked_task, *files))
    else:
        thread_number, *numbers = map(int, rest)
        print(_measure(asked, Workload(*numbers), thread_number))
