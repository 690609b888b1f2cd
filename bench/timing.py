"""How long calls take.

Thread pools spin for a while after a call and slow whoever comes next: called one by one in turn,
PyTorch and onnxruntime measure 2 to 10 times slower than alone. So every library runs in a process
of its own, in blocks of several calls, each after a pause and a warm-up, and the blocks take turns
in several rounds: first, second, ..., first, second, ...
"""

import statistics
import time
import timeit
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

SAMPLE_SECONDS = 100e-6  # shorter calls are timed several at once
# Calls that need no warm-up. Shorter ones do: cold, PyTorch's training steps of 20 ms take 90.
LONG_SECONDS = 0.5


@dataclass(frozen=True)
class Effort:
    rounds: int
    seconds: float  # of a block, at least; and one sample
    pause: float  # before a block, in seconds
    warm_up: float  # after the pause, in seconds; at least one call
    enough: float  # seconds of a peer's blocks after which it has no further one


FULL = Effort(rounds=5, seconds=0.03, pause=0.03, warm_up=0.01, enough=1.0)
# A peer that has taken so many times as long as the fastest, in so many blocks, has no further one.
HOPELESS, HOPELESS_BLOCKS = 3.0, 2
# Half of the blocks of a limit, which no contender influences, took so many times as long as the
# best. Virtual processors alternate between two speeds, so that twice is nothing unusual.
DISTURBED = 3.0
QUICK = Effort(rounds=1, seconds=0.005, pause=0.005, warm_up=0.002, enough=0.1)


@dataclass(frozen=True)
class Timing:
    """Seconds an operation."""

    median: float
    min: float
    lower_quartile: float
    upper_quartile: float
    samples: int
    block_medians: list[float]


def block(
    call: Callable[[], Any],
    operations: float,
    effort: Effort,
    warm_up: Callable[[], Any] | None = None,  # a part of the call, if it is long
) -> list[float]:
    """Time calls; give the seconds that one of a call's `operations` takes, of every sample."""
    timer = timeit.Timer(call)  # drops every result at once and holds the garbage collector
    first = timeit.Timer(warm_up or call)
    start = time.perf_counter()
    once = first.timeit(1)
    while time.perf_counter() - start < effort.warm_up:
        once = first.timeit(1)
    if once > LONG_SECONDS and warm_up is None:
        return [once / operations]
    number = max(1, round(SAMPLE_SECONDS / once))
    samples: list[float] = []
    start, spent = time.perf_counter(), 0.0
    while spent < effort.seconds or not samples:
        samples.append(timer.timeit(number) / (number * operations))
        spent = time.perf_counter() - start
    return samples


def is_disturbed(blocks: list[list[float]]) -> bool:
    """Tell whether something else kept the machine busy during a limit's blocks."""
    medians = [statistics.median(block) for block in blocks]
    return statistics.median(medians) > DISTURBED * min(medians)


def summary(blocks: list[list[float]]) -> Timing:
    samples = [sample for block in blocks for sample in block]
    lower, median, upper = map(float, np.percentile(samples, (25, 50, 75)))
    medians = [statistics.median(block) for block in blocks]
    return Timing(median, min(samples), lower, upper, len(samples), medians)
