"""What was measured, as records for JSON, and how it compares with the targets."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from bench.machine import Machine
from bench.shapes import ERROR_BESIDE_NUMPY, SMALL_CALLS, TARGETS, Target
from bench.timing import Effort, Timing

OURS = "fastconv"


@dataclass(frozen=True)
class Row:
    """One contender on one case; `timing` is None where its result was wrong."""

    operation: str
    workload: str
    contender: str
    mode: str
    nbytes: int
    flops: int
    timing: Timing | None
    errors: list[float]  # relative rms, of every result of a convolution

    @property
    def seconds(self) -> float:
        """What comparisons take: the median, of a convolution's limits the minimum."""
        if self.timing is None:
            return math.nan
        return self.timing.min if self.mode == "limit" and self.flops else self.timing.median


@dataclass(frozen=True)
class MemoryRow:
    operation: str
    workload: str
    threads: int
    extra_bytes: int
    weight_bytes: int  # a packed copy of the weights is not counted
    at_most: float

    @property
    def mib_per_thread(self) -> float:
        return (self.extra_bytes - self.weight_bytes) / 2**20 / self.threads


@dataclass(frozen=True)
class AccuracyRow:
    result: str
    terms: int
    errors: dict[str, float]  # relative rms, by contender

    @property
    def beside_numpy(self) -> float:
        return self.errors[OURS] / self.errors["numpy"]


@dataclass(frozen=True)
class Verdict:
    """How far one target was reached, over the cases that were measured."""

    target: str
    mean: float  # of ratios the geometric one
    worst: float
    condition: str
    met: bool
    cases: int


@dataclass
class Results:
    machine: Machine
    effort: Effort
    missing_peers: dict[str, str]
    rows: list[Row] = field(default_factory=list)
    small_calls: list[Row] = field(default_factory=list)
    memory: list[MemoryRow] = field(default_factory=list)
    accuracy: list[AccuracyRow] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "verdicts": [asdict(verdict) for verdict in self.verdicts()]}

    @property
    def wrong(self) -> list[Row]:
        return [row for row in self.rows + self.small_calls if row.timing is None]

    def verdicts(self) -> list[Verdict]:
        verdicts = []
        for target in TARGETS:
            ratios = self._ratios(target)
            if ratios:
                mean, worst = geometric_mean(ratios), min(ratios)
                judged = worst if target.over == "worst" else mean
                name = f"{target.operation} {target.mode} beside {'/'.join(target.contenders)}"
                least = target.at_least
                condition = "" if least is None else f"{target.over} >= {least:g}"
                met = least is None or judged >= least
                verdicts.append(Verdict(name, mean, worst, condition, met, len(ratios)))
        times: dict[float, list[float]] = {}
        for row in self.small_calls:
            limit = SMALL_CALLS[row.operation].at_most_us
            if row.contender == OURS and row.timing and limit is not None:
                times.setdefault(limit, []).append(row.timing.median * 1e6)
        verdicts += [_ceiling("small calls, us", times[limit], limit) for limit in times]
        extra: dict[float, list[float]] = {}
        for use in self.memory:
            extra.setdefault(use.at_most, []).append(use.mib_per_thread)
        verdicts += [_ceiling("extra memory, MiB a thread", extra[limit], limit) for limit in extra]
        ratios = [row.beside_numpy for row in self.accuracy]
        if ratios:
            verdicts.append(_ceiling("error / numpy's error", ratios, ERROR_BESIDE_NUMPY))
        return verdicts

    def _ratios(self, target: Target) -> list[float]:
        theirs: dict[str, list[float]] = {}
        for row in self.rows:
            of_target = (row.operation, row.mode) == (target.operation, target.contender_mode)
            named = row.contender in target.contenders and target.covers(row.workload)
            if of_target and named and row.timing:
                theirs.setdefault(row.workload, []).append(row.seconds)
        best = max if target.contender_mode == "limit" else min  # of limits the one that binds
        ratios = []
        for workload, seconds in theirs.items():
            ours = find(self.rows, target.operation, workload, OURS, target.mode)
            if ours:
                ratios.append(best(seconds) / ours.median)
        return ratios


def find(
    rows: list[Row], operation: str, workload: str, contender: str, mode: str
) -> Timing | None:
    key = (operation, workload, contender, mode)
    for row in rows:
        if (row.operation, row.workload, row.contender, row.mode) == key:
            return row.timing
    return None


def geometric_mean(values: list[float]) -> float:
    return math.exp(math.fsum(map(math.log, values)) / len(values))


def _ceiling(name: str, values: list[float], wanted: float) -> Verdict:
    worst = max(values)
    mean = math.fsum(values) / len(values)
    return Verdict(name, mean, worst, f"worst <= {wanted:g}", worst <= wanted, len(values))
