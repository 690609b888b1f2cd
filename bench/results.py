"""What was measured, as records that go to JSON and come back, and how it meets the targets."""

import json
import math
from dataclasses import asdict, dataclass, field, replace
from operator import attrgetter
from pathlib import Path
from typing import Any, Self, TypeVar

from bench.machine import Machine
from bench.shapes import SMALL_CALLS
from bench.targets import ERROR_BESIDE_NUMPY, SMALL_CALL_US, TARGETS, Target
from bench.timing import Effort, Timing

Record = TypeVar("Record")

OURS = "fastconv"
LIMIT = "limit"
FMA_PEAK = "FMA peak"


@dataclass(frozen=True)
class Row:
    """One contender on one workload; `timing` is None where `note` says why it was not timed.

    mode: "fresh", the result is allocated by the call and dropped; "out=", written into memory
    that exists already; "high", the first with that precision; "limit", what the machine can do
    at best.
    """

    operation: str
    workload: str
    threads: int
    contender: str
    mode: str
    nbytes: int  # of inputs and results, each once
    flops: int
    timing: Timing | None
    errors: list[float]  # of every result, relative rms, beside float64
    note: str = ""

    @property
    def seconds(self) -> float:
        """What comparisons take: the median, of limits a good quarter of the samples."""
        if self.timing is None:
            return math.nan
        return self.timing.lower_quartile if self.mode == LIMIT else self.timing.median


@dataclass(frozen=True)
class LimitRow:
    """What the machine can do, whatever the workload."""

    name: str
    threads: int
    rate: float
    unit: str  # "GFLOP/s" or "GB/s"


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


@dataclass(frozen=True)
class Bound:
    """The limit that binds one of our rows, and the share of it that the row reaches."""

    name: str
    share: float


@dataclass
class Results:
    machine: Machine
    effort: Effort
    missing_peers: dict[str, str]
    limits: list[LimitRow] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    memory: list[MemoryRow] = field(default_factory=list)
    accuracy: list[AccuracyRow] = field(default_factory=list)
    command: str = ""  # that measured them

    @property
    def wrong(self) -> list[Row]:
        return [row for row in self.rows if row.timing is None]

    def of_case(self, operation: str, workload: str, threads: int | None = None) -> list[Row]:
        """Give all contenders' rows on one workload, on as many threads as the run has."""
        threads = threads or self.machine.threads
        key = (operation, workload, threads)
        return [row for row in self.rows if (row.operation, row.workload, row.threads) == key]

    def verdicts(self) -> list[Verdict]:
        verdicts = [self._verdict(target) for target in TARGETS if self._ratios(target)]
        times: dict[float, list[float]] = {}
        for row in self.rows:
            limit = SMALL_CALL_US.get(row.operation)
            small = SMALL_CALLS.get(row.operation)
            if row.contender == OURS and limit and small and row.workload == small.name:
                times.setdefault(limit, []).append(row.seconds * 1e6)
        verdicts += [_ceiling("small calls, us", times[limit], limit) for limit in times]
        extra: dict[float, list[float]] = {}
        for use in self.memory:
            extra.setdefault(use.at_most, []).append(use.mib_per_thread)
        verdicts += [_ceiling("extra memory, MiB a thread", extra[limit], limit) for limit in extra]
        ratios = [row.beside_numpy for row in self.accuracy]
        if ratios:
            verdicts.append(_ceiling("error / numpy's error", ratios, ERROR_BESIDE_NUMPY))
        return verdicts

    def _verdict(self, target: Target) -> Verdict:
        ratios, least = self._ratios(target), target.at_least
        mean, worst = geometric_mean(ratios), min(ratios)
        judged = worst if target.over == "worst" else mean
        condition = "" if least is None else f"{target.over} >= {least:g}"
        met = least is None or judged >= least
        return Verdict(target.name, mean, worst, condition, met, len(ratios))

    def _ratios(self, target: Target) -> list[float]:
        ratios = []
        for workload in target.workloads:
            rows = self.of_case(target.operation, workload.name)
            ours = find(rows, OURS, target.own_mode or target.mode)
            if ours is None:
                continue
            bound = bound_of(ours, rows)
            found = [find(rows, contender, target.mode) for contender in target.contenders]
            theirs = [row.seconds for row in found if row]
            if theirs:
                ratios.append(min(theirs) / ours.seconds)
            elif not target.contenders and bound:
                ratios.append(bound.share)
        return ratios

    def replace(self, newer: Self) -> None:
        """Take over what has been measured again."""
        self.limits = newer.limits or self.limits
        self.rows = _replaced(self.rows, newer.rows, "operation", "workload", "threads")
        self.memory = _replaced(self.memory, newer.memory, "operation", "workload", "threads")
        self.accuracy = _replaced(self.accuracy, newer.accuracy, "result", "terms")
        self.command += f" && {newer.command}"
        if newer.machine.commit not in self.machine.commit.split(", in part "):
            commits = f"{self.machine.commit}, in part {newer.machine.commit}"
            self.machine = replace(self.machine, commit=commits)

    def save(self, path: Path) -> None:
        bounds = [
            {"operation": row.operation, "workload": row.workload, "threads": row.threads}
            | {"mode": row.mode, **asdict(bound)}
            for row in self.rows
            if row.contender == OURS
            and (bound := bound_of(row, self.of_case(row.operation, row.workload, row.threads)))
        ]
        verdicts = [asdict(verdict) for verdict in self.verdicts()]
        everything = {**asdict(self), "bounds": bounds, "verdicts": verdicts}
        path.write_text(json.dumps(everything, indent=1) + "\n")


def load(path: Path) -> Results:
    """Read what `Results.save` wrote; what follows from it is computed anew."""
    data: dict[str, Any] = json.loads(path.read_text())
    rows = [
        Row(**{**row, "timing": row["timing"] and Timing(**row["timing"])}) for row in data["rows"]
    ]
    return Results(
        Machine(**data["machine"]),
        Effort(**data["effort"]),
        data["missing_peers"],
        [LimitRow(**row) for row in data["limits"]],
        rows,
        [MemoryRow(**row) for row in data["memory"]],
        [AccuracyRow(**row) for row in data["accuracy"]],
        data["command"],
    )


def find(rows: list[Row], contender: str, mode: str) -> Row | None:
    """Give the row of a contender that was timed."""
    for row in rows:
        if (row.contender, row.mode) == (contender, mode) and row.timing:
            return row
    return None


def bound_of(row: Row, rows: list[Row]) -> Bound | None:
    """Give the limit among `rows`, of the same case, that binds `row`.

    Bytes may be moved through the caches or past them, so of both ways the faster one counts;
    multiplying and moving may go on at the same time, so of both the slower one.
    """
    limits = {limit.contender: limit.seconds for limit in rows if limit.mode == LIMIT}
    if not limits or row.timing is None:
        return None
    moving = [name for name in limits if name != FMA_PEAK]
    binding = [min(moving, key=limits.__getitem__)] if moving else []
    name = max(binding + [name for name in limits if name == FMA_PEAK], key=limits.__getitem__)
    return Bound(name, limits[name] / row.seconds)


def _replaced(old: list[Record], newer: list[Record], *keys: str) -> list[Record]:
    """Give what is newer, and what it says nothing of."""
    key = attrgetter(*keys)
    again = {key(record) for record in newer}
    return [record for record in old if key(record) not in again] + newer


def geometric_mean(values: list[float]) -> float:
    return math.exp(math.fsum(map(math.log, values)) / len(values))


def _ceiling(name: str, values: list[float], wanted: float) -> Verdict:
    worst = max(values)
    mean = math.fsum(values) / len(values)
    return Verdict(name, mean, worst, f"worst <= {wanted:g}", worst <= wanted, len(values))
