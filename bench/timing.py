"""How long calls take.

Thread pools spin for a while after a call and slow whoever comes next. So every contender runs in
blocks of its own, each after a pause and a warm-up, and the blocks take turns in several rounds:
first, second, ..., first, second, ...
"""

import statistics
import time
import timeit
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

SAMPLE_SECONDS = 100e-6  # shorter calls are timed several at once


@dataclass(frozen=True)
class Effort:
    rounds: int
    repeats: int  # samples in a block, at least
    seconds: float  # of a block, at least
    enough: float  # seconds after which a block ends even so
    pause: float  # before a block, in seconds
    warm_up: float  # after the pause, in seconds; at least one call


FULL = Effort(rounds=3, repeats=5, seconds=0.3, enough=10.0, pause=0.1, warm_up=0.02)
QUICK = Effort(rounds=1, repeats=3, seconds=0.02, enough=0.5, pause=0.02, warm_up=0.005)


@dataclass(frozen=True)
class Timing:
    """Seconds an operation."""

    median: float
    min: float
    lower_quartile: float
    upper_quartile: float
    samples: int
    block_medians: list[float]


Work = tuple[Callable[[], Any], float]  # a call, and how many operations it does


def in_turn(works: Sequence[Work], effort: Effort) -> list[Timing]:
    blocks: list[list[list[float]]] = [[] for _ in works]
    for _ in range(effort.rounds):
        for work, own in zip(works, blocks, strict=True):
            own.append(block(*work, effort))
    return [summary(own) for own in blocks]


def block(
    call: Callable[[], Any],
    operations: float,
    effort: Effort,
    warm_up: Callable[[], Any] | None = None,  # a part of the call, if it is long
) -> list[float]:
    time.sleep(effort.pause)
    timer = timeit.Timer(call)  # drops every result at once and holds the garbage collector
    first = timeit.Timer(warm_up or call)
    start = time.perf_counter()
    once = first.timeit(1)
    while time.perf_counter() - start < effort.warm_up:
        once = first.timeit(1)
    number = max(1, round(SAMPLE_SECONDS / once))
    samples: list[float] = []
    start, spent = time.perf_counter(), 0.0
    while spent < effort.seconds or (len(samples) < effort.repeats and spent < effort.enough):
        samples.append(timer.timeit(number) / (number * operations))
        spent = time.perf_counter() - start
    return samples


def summary(blocks: list[list[float]]) -> Timing:
    samples = [sample for block in blocks for sample in block]
    lower, median, upper = map(float, np.percentile(samples, (25, 50, 75)))
    medians = [statistics.median(block) for block in blocks]
    return Timing(median, min(samples), lower, upper, len(samples), medians)
