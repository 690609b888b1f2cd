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

# Calls shorter than this are timed several at a time.
SAMPLE_SECONDS = 100e-6
# Longer calls need no warm-up. Shorter ones do: cold, PyTorch's training steps of 20 ms take 90.
LONG_SECONDS = 0.5


@dataclass(frozen=True)
class Effort:
    rounds: int
    seconds: float  # A block takes at least this long, and has at least one sample.
    pause: float  # Each block comes after a pause of these seconds.
    warm_up: float  # After the pause, calls warm up for these seconds; at least one call does.
    enough: float  # A peer whose blocks have taken these seconds has no further one.


FULL = Effort(rounds=5, seconds=0.03, pause=0.03, warm_up=0.01, enough=1.0)
# A peer that has taken 3 times as long as the fastest in 2 blocks has no further one.
HOPELESS, HOPELESS_BLOCKS = 3.0, 2
# No contender influences the limits. The machine was busy if half of the blocks of a limit took
# more than 3 times as long as the best. Virtual processors alternate between two speeds, so that
# twice is nothing unusual.
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
    warm_up: Callable[[], Any] | None = None,  # A shorter call, which warms up as well.
) -> list[float]:
    """Time calls; give the seconds that one of a call's `operations` takes, of every sample."""
    timer = timeit.Timer(call)  # It drops every result at once and holds the garbage collector.
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
