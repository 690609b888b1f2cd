"""Peak memory of one call beyond its inputs and outputs, each in a fresh process.

The kernel's high-water mark of resident memory is read before and after the call; results go to
`out=`, and what a call has to allocate all the same (indices, gradients) is taken off. Starting the
threads counts, as the call is the first one large enough to use them.
"""

import contextlib
import ctypes
import subprocess
import sys
from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np

import fastconv
from bench.shapes import SMALL_CALLS, Workload

STATUS = Path("/proc/self/status")  # Linux only


def extra_bytes(operation: str, workload: Workload, threads: int) -> int:
    numbers = map(str, (threads, *astuple(workload)))
    command = [sys.executable, "-m", __name__, operation, *numbers]
    return int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def _measure(operation: str, workload: Workload, threads: int) -> int:
    fastconv.set_num_threads(threads)
    _call(operation, SMALL_CALLS[operation])()
    call = _call(operation, workload)
    _forget()
    before = _high_water()
    result = call()
    extra = _high_water() - before
    match operation:
        case "max_pool2d_indices":
            extra -= result[1].nbytes
        case "conv2d_backward":
            extra -= sum(array.nbytes for array in result)
    return int(extra)


def _call(operation: str, workload: Workload) -> Callable[[], Any]:
    """Prepare the operation on touched memory, without temporary arrays."""
    w = workload
    image, grad = np.ones(w.image_shape, np.float32), np.ones(w.output_shape, np.float32)
    like_image, like_output = np.ones_like(image), np.ones_like(grad)
    k, s, p = w.kernel, w.stride, w.pad
    match operation:
        case "im2col":
            col = np.ones(w.col_shape, np.float32)
            return lambda: fastconv.im2col(image, k, k, s, p, out=col)
        case "col2im":
            col = np.ones(w.col_shape, np.float32)
            return lambda: fastconv.col2im(col, w.image_shape, k, k, s, p, out=like_image)
        case "max_pool2d":
            return lambda: fastconv.max_pool2d(image, k, s, p, out=like_output)
        case "max_pool2d_indices":
            return lambda: fastconv.max_pool2d(image, k, s, p, return_indices=True, out=like_output)
        case "max_pool2d_backward":
            starts = np.maximum(np.arange(w.out_size) * s - p, 0)
            indices = np.empty(w.output_shape, np.int64)
            indices[...] = starts[:, None] * w.size + starts
            return lambda: fastconv.max_pool2d_backward(
                grad, indices, w.image_shape, out=like_image
            )
        case "avg_pool2d":
            return lambda: fastconv.avg_pool2d(image, k, s, p, out=like_output)
        case "avg_pool2d_backward":
            return lambda: fastconv.avg_pool2d_backward(
                grad, w.image_shape, k, s, p, out=like_image
            )
    weight, bias = np.ones(w.weight_shape, np.float32), np.ones(w.filters, np.float32)
    match operation:
        case "conv2d":
            return lambda: fastconv.conv2d(
                image, weight, bias, s, p, groups=w.groups, out=like_output
            )
        case "conv2d_backward":
            return lambda: fastconv.conv2d_backward(grad, image, weight, s, p, groups=w.groups)
    raise ValueError(f"unknown operation {operation!r}")


def _forget() -> None:
    """Give freed memory back, so that it cannot hide what the call takes; reset the mark."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    with contextlib.suppress(OSError):  # the mark is right even so, as nothing big was freed
        Path("/proc/self/clear_refs").write_text("5")


def _high_water() -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    thread_count, *numbers = map(int, sys.argv[2:])
    print(_measure(sys.argv[1], Workload(*numbers), thread_count))
