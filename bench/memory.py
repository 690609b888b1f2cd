"""Peak memory of one call beyond its inputs and outputs, each in a fresh process.

The kernel's high-water mark of resident memory is read before and after the call. Results go to
`out=`, and what a call has to allocate all the same (indices, gradients) is taken off. Starting the
threads counts, as the call is the first one large enough to use them.
"""

import contextlib
import ctypes
import subprocess
import sys
from collections.abc import Callable
from dataclasses import astuple
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.cases import Case
from bench.peers import ours
from bench.shapes import SMALL_CALLS, Workload

STATUS = Path("/proc/self/status")  # Linux only
# From this one on, the operation's results cannot be written to `out=`.
ALLOCATED = {"max_pool2d_indices": 1, "conv2d_backward": 0}


def extra_bytes(operation: str, workload: Workload, threads: int) -> int:
    numbers = map(str, (threads, *astuple(workload)))
    command = [sys.executable, "-m", __name__, operation, *numbers]
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
    thread_count, *numbers = map(int, sys.argv[2:])
    print(_measure(sys.argv[1], Workload(*numbers), thread_count))
