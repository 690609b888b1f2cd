"""What was measured, as records for JSON, and how it compares with the targets."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from bench.machine import Machine
from bench.shapes import MEMORY_MIB_PER_THREAD, SMALL_CALL_US, TARGETS, Target
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
    timing: Timing | None


@dataclass(frozen=True)
class MemoryRow:
    operation: str
    workload: str
    threads: int
    extra_bytes: int

    @property
    def mib_per_thread(self) -> float:
        return self.extra_bytes / 2**20 / self.threads


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
                name = f"{target.operation} {target.mode} beside {target.contender}"
                condition = f"{target.over} >= {target.at_least:g}"
                met = judged >= target.at_least
                verdicts.append(Verdict(name, mean, worst, condition, met, len(ratios)))
        ours = [row.timing for row in self.small_calls if row.contender == OURS]
        times = [timing.median * 1e6 for timing in ours if timing]
        if times:
            verdicts.append(_ceiling("small calls, us", times, SMALL_CALL_US))
        extra = [row.mib_per_thread for row in self.memory]
        if extra:
            verdicts.append(_ceiling("extra memory, MiB a thread", extra, MEMORY_MIB_PER_THREAD))
        return verdicts

    def _ratios(self, target: Target) -> list[float]:
        ratios = []
        for row in self.rows:
            theirs = (target.operation, target.contender, target.contender_mode)
            if (row.operation, row.contender, row.mode) == theirs and row.timing:
                ours = find(self.rows, row.operation, row.workload, OURS, target.mode)
                if ours:
                    ratios.append(row.timing.median / ours.median)
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
