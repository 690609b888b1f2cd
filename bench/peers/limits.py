"""What the machine can do at best, at the CPU level in use and on the same threads.

Moving: as many bytes as the operation's inputs have are read and as many as its results have are
written, once through the caches and once past them. Multiplying: as many multiply-adds as the
operation has, in registers.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from bench.peers import FMA_PEAK, LIMIT, Contender
from fastconv import _kernels

# Calls take at least this long, so that starting threads does not count.
CALL_SECONDS = 0.005
MACHINE_SAMPLES = 15
# The bytes that are moved fit into the L2 cache of a thread, or only into memory.
L2_BYTES, MEMORY_BYTES = 1 << 18, 1 << 28
# Each way to move reads and writes this number of halves of the bytes.
MOVES = {"read": (2, 0), "write": (0, 2), "copy": (1, 1)}
WAYS = {"": False, ", past caches": True}


class Peer:
    version = ""

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def any_operation(self, case: Any) -> Iterator[Contender]:
        if any(case.moved):
            for way, past_caches in WAYS.items():
                read, written = case.moved
                call, rounds = _move(read, written, self.threads, past_caches)
                yield Contender(f"moving{way}", LIMIT, call, _nothing, rounds)
        if case.flops:
            call, _ = _multiply_add(case.dtype, self.threads)
            yield Contender(FMA_PEAK, LIMIT, call, _nothing, call() / case.flops)

    def machine(self) -> list[tuple[str, int, float, str]]:
        """Measure the limits whatever the workload: name, threads, rate, unit."""
        rows = []
        for threads in dict.fromkeys((1, self.threads)):
            for dtype in ("float32", "float64"):
                call, _ = _multiply_add(dtype, threads)
                rate = call() / _least_seconds(call)
                rows.append((f"{FMA_PEAK}, {dtype}", threads, rate / 1e9, "GFLOP/s"))
            for place, nbytes in (("L2", L2_BYTES * threads), ("memory", MEMORY_BYTES)):
                for move, (read, written) in MOVES.items():
                    for way, past_caches in WAYS.items():
                        if not past_caches or (written and place == "memory"):
                            call, rounds = _move(
                                nbytes * read // 2, nbytes * written // 2, threads, past_caches
                            )
                            rate = nbytes * (read + written) / 2 * rounds / _least_seconds(call)
                            name = f"{move}, {place}{way}"
                            rows.append((name, threads, rate / 1e9, "GB/s"))
        return rows


def _multiply_add(dtype: str, threads: int) -> tuple[Callable[[], float], int]:
    """Give a call that returns the number of its operations, and its rounds."""
    peak = _kernels.roofline.fma_peak
    rounds = _enough(lambda rounds: peak(dtype, 1, rounds))
    return (lambda: float(peak(dtype, threads, rounds))), rounds


def _move(
    read: int, written: int, threads: int, past_caches: bool
) -> tuple[Callable[[], Any], int]:
    """Give a call that moves these bytes in each of its rounds, and the number of rounds."""
    move = _kernels.roofline.move
    source, target = np.ones(read, np.uint8), np.ones(written, np.uint8)
    part = source[: read // threads], target[: written // threads]
    rounds = _enough(lambda rounds: move(*part, 1, rounds, past_caches))
    return (lambda: move(source, target, threads, rounds, past_caches)), rounds


def _enough(work: Callable[[int], Any]) -> int:
    """Give a number of rounds that takes `CALL_SECONDS`.

    Of one thread: several wait for each other for longer than that while other workers prepare.
    """
    rounds = 1
    while _seconds(partial(work, rounds)) < CALL_SECONDS:
        rounds *= 2
    return rounds


def _nothing(result: Any) -> tuple[()]:
    return ()


def _least_seconds(call: Callable[[], Any]) -> float:
    return min(_seconds(call) for _ in range(MACHINE_SAMPLES))


def _seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
