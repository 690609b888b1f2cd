"""What the machine can do at best, at the CPU level in use and on the same threads.

Moving: as many bytes as the operation's inputs have are read and as many as its results have are
written, once through the caches and once past them. Multiplying: as many multiply-adds as the
operation has, in registers.
"""

from collections.abc import Callable, Iterator
from functools import partial
from timeit import repeat, timeit
from typing import Any

import numpy as np

from bench import peers
from bench.cases import Contender
from bench.peers import FMA_PEAK, LIMIT
from fastconv import _kernels

# Calls take at least this long, so that starting threads does not count.
CALL_SECONDS = 0.005
MACHINE_SAMPLES = 15
# The bytes that are moved fit into the L2 cache of a thread, or only into memory.
L2_BYTES, MEMORY_BYTES = 1 << 18, 1 << 28
# Each way to move reads and writes this number of halves of the bytes.
MOVES = {"read": (2, 0), "write": (0, 2), "copy": (1, 1)}
WAYS = {"": False, ", past caches": True}


class Peer(peers.Peer):
    version = ""

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def contenders(self, case: Any) -> Iterator[Contender]:
        if any(case.moved):
            for way, past_caches in WAYS.items():
                read, written = case.moved
                call, rounds = _move(read, written, self.threads, past_caches)
                yield Contender(f"moving{way}", LIMIT, call, _nothing, rounds)
        if case.flops:
            call = _multiply_add(case.dtype, self.threads)
            yield Contender(FMA_PEAK, LIMIT, call, _nothing, call() / case.flops)

    def machine(self) -> list[tuple[str, int, float, str]]:
        """Measure the limits whatever the workload: name, threads, rate, unit."""
        rows = []
        for threads in dict.fromkeys((1, self.threads)):
            for dtype in ("float32", "float64"):
                call: Callable[[], Any] = _multiply_add(dtype, threads)
                rate = call() / _least_seconds(call)
                rows.append((f"{FMA_PEAK}, {dtype}", threads, rate / 1e9, "GFLOP/s"))
            for place, nbytes in (("L2", L2_BYTES * threads), ("memory", MEMORY_BYTES)):
                for move, halves in MOVES.items():
                    read, written = (nbytes * half // 2 for half in halves)
                    for way, past_caches in WAYS.items():
                        if not past_caches or (written and place == "memory"):
                            call, rounds = _move(read, written, threads, past_caches)
                            rate = (read + written) * rounds / _least_seconds(call)
                            name = f"{move}, {place}{way}"
                            rows.append((name, threads, rate / 1e9, "GB/s"))
        return rows


def _multiply_add(dtype: str, threads: int) -> Callable[[], float]:
    """Give a call that returns the number of its operations."""
    peak = _kernels.roofline.fma_peak
    rounds = _enough(lambda rounds: peak(dtype, 1, rounds))
    return lambda: float(peak(dtype, threads, rounds))


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
    while timeit(partial(work, rounds), number=1) < CALL_SECONDS:
        rounds *= 2
    return rounds


def _least_seconds(call: Callable[[], Any]) -> float:
    return min(repeat(call, number=1, repeat=MACHINE_SAMPLES))


def _nothing(result: Any) -> tuple[()]:
    return ()
