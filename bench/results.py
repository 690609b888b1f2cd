"""What was measured: records that go to JSON and come back, and the table that everything reads."""

import json
import math
import sys
from dataclasses import asdict, dataclass, field, replace
from operator import attrgetter
from pathlib import Path
from typing import Any, NoReturn, Self, TypeVar

import pandas as pd

from bench.machine import Machine
from bench.peers import FMA_PEAK, HIGH, LIMIT, OURS
from bench.shapes import LAYERS_OF_NETWORKS
from bench.targets import verdicts
from bench.timing import Effort, Timing

Record = TypeVar("Record")

CASE = ["operation", "workload", "threads"]
COLUMNS = [*CASE, "contender", "mode", "nbytes", "flops", "errors"]
TIMES = ["median", "min", "lower_quartile", "upper_quartile", "samples", "block_medians"]


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
    nbytes: int  # The bytes of inputs and results, each once.
    flops: int
    timing: Timing | None
    errors: list[float]  # The relative rms error of every result, beside float64.
    note: str = ""


@dataclass(frozen=True)
class LimitRow:
    """What the machine can do, whatever the workload."""

    name: str
    threads: int
    rate: float
    unit: str  # Either "GFLOP/s" or "GB/s".


@dataclass(frozen=True)
class MemoryRow:
    operation: str
    workload: str
    threads: int
    extra_bytes: int
    weight_bytes: int  # A packed copy of the weights is allowed, so that it is not counted.
    at_most: float

    @property
    def mib_per_thread(self) -> float:
        return (self.extra_bytes - self.weight_bytes) / 2**20 / self.threads


@dataclass(frozen=True)
class PeakRow:
    """The peak memory of a network in use, of everything from the import of a library on."""

    workload: str
    threads: int
    peaks: dict[str, int]  # The bytes of every contender.

    @property
    def ratio(self) -> float:
        """Of the least peer's peak to ours, not a number if there is no peer."""
        peers = [peak for name, peak in self.peaks.items() if name != OURS]
        return min(peers, default=math.nan) / self.peaks[OURS]


@dataclass(frozen=True)
class AccuracyRow:
    result: str
    terms: int
    errors: dict[str, float]  # The relative rms error of every contender.

    @property
    def beside_numpy(self) -> float:
        """Of NumPy's error, not a number if it took no part."""
        return self.errors[OURS] / self.errors.get("numpy", math.nan)


@dataclass
class Results:
    machine: Machine
    effort: Effort
    missing_peers: dict[str, str]
    limits: list[LimitRow] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    memory: list[MemoryRow] = field(default_factory=list)
    accuracy: list[AccuracyRow] = field(default_factory=list)
    command: str = ""  # The command that measured them.
    peaks: list[PeakRow] = field(default_factory=list)

    @property
    def wrong(self) -> list[Row]:
        return [row for row in self.rows if row.timing is None]

    def table(self) -> pd.DataFrame:
        """Give all rows that were timed, as `table_of` does."""
        return table_of(self.rows)

    def verdicts(self) -> pd.DataFrame:
        return verdicts(
            self.table().query("threads == @self.machine.threads"),
            self.memory,
            self.accuracy,
            self.peaks,
        )

    def replace(self, newer: Self) -> None:
        """Take over what has been measured again."""
        self.limits = newer.limits or self.limits
        self.rows = _replaced(self.rows, newer.rows, *CASE)
        self.memory = _replaced(self.memory, newer.memory, *CASE)
        self.peaks = _replaced(self.peaks, newer.peaks, "workload", "threads")
        self.accuracy = _replaced(self.accuracy, newer.accuracy, "result", "terms")
        self.command += f" && {newer.command}"
        if newer.machine.commit not in self.machine.commit.split(", in part "):
            commits = f"{self.machine.commit}, in part {newer.machine.commit}"
            self.machine = replace(self.machine, commit=commits)

    def save(self, path: Path) -> None:
        ours = self.table().query("contender == @OURS and limit.notna()")
        bounds = ours[[*CASE, "mode", "limit", "share"]].rename(columns={"limit": "name"})
        everything = {
            **asdict(self),
            "bounds": bounds.to_dict("records"),
            "verdicts": self.verdicts().to_dict("records"),
        }
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
        [PeakRow(**row) for row in data.get("peaks", ())],  # Older files have none.
    )


def results_file(path: str) -> Results:
    """Read an argument of the command line."""
    try:
        return load(Path(path))
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        fail(f"{path} is no file of results: {type(error).__name__}: {error}")


def fail(message: str) -> NoReturn:
    """End the program as argparse does, but in one line; 1 is what a comparison ends with."""
    print(message, file=sys.stderr)
    raise SystemExit(2)


def _replaced(old: list[Record], newer: list[Record], *keys: str) -> list[Record]:
    """Give what is newer, and what it says nothing of."""
    key = attrgetter(*keys)
    again = {key(record) for record in newer}
    return [record for record in old if key(record) not in again] + newer


def table_of(rows: list[Row]) -> pd.DataFrame:
    """Give a row's fields as columns, and what follows from the other rows of its case.

    seconds: what comparisons take: the median, of limits a good quarter of the samples. limit,
    share: the limit that binds the case, and the share of it that the row reaches. ratio: of a
    peer's time to ours in the same mode.
    """
    timed = [{**vars(row), **vars(row.timing)} for row in rows if row.timing]
    table = pd.DataFrame(timed, columns=[*COLUMNS, *TIMES])
    table["seconds"] = table["median"].where(table["mode"] != LIMIT, table["lower_quartile"])
    table = table.join(_bounds(table), on=CASE)
    table["share"] = table["limit_seconds"] / table["seconds"]
    ours = table[table["contender"] == OURS].set_index([*CASE, "mode"])["seconds"].rename("ours")
    table = table.join(ours, on=[*CASE, "mode"])
    others = ~table["contender"].eq(OURS) & ~table["mode"].eq(LIMIT)
    table["ratio"] = (table["seconds"] / table["ours"]).where(others)
    return table.drop(columns="ours")


def _bounds(table: pd.DataFrame) -> pd.DataFrame:
    """Give the limit that binds each case.

    Bytes may be moved through the caches or past them, so of both ways the faster one counts;
    multiplying and moving may go on at the same time, so of both the slower one.
    """
    limits = table[table["mode"] == LIMIT]
    multiplying = limits["contender"] == FMA_PEAK
    fastest = limits.loc[limits[~multiplying].groupby(CASE)["seconds"].idxmin()]
    possible = pd.concat([fastest, limits[multiplying]])
    binding = possible.loc[possible.groupby(CASE)["seconds"].idxmax()]
    binding = binding.rename(columns={"contender": "limit", "seconds": "limit_seconds"})
    return binding.set_index(CASE)[["limit", "limit_seconds"]]


def network_totals(
    table: pd.DataFrame, network: str, batch: int, operations: tuple[str, ...] = ("conv2d",)
) -> dict[str, float]:
    """Give the seconds that every contender takes for all convolutions of a network.

    Left out are contenders that have not all of them. `HIGH`: ours with that precision; `LIMIT`:
    of the limits that bind ours. Every layer counts as often as the network has it, with fresh
    results; `table` holds times on one number of threads.
    """
    layers = [
        (operation, layer.workload.of(batch).name, layer.times)
        for layer in LAYERS_OF_NETWORKS[network]
        if layer.workload.filters
        for operation in operations
    ]
    times = pd.DataFrame(layers, columns=["operation", "workload", "times"])
    parts = table.merge(times, on=["operation", "workload"])
    ours = parts[parts["contender"] == OURS]
    limits = ours[ours["mode"] == "fresh"].assign(contender=LIMIT, seconds=ours["limit_seconds"])
    again = ours.assign(contender=HIGH).sort_values("mode", key=lambda modes: modes != HIGH)
    high = again[again["mode"].isin((HIGH, "fresh"))].drop_duplicates(CASE)
    parts = pd.concat([parts[parts["mode"] == "fresh"], limits, high])
    parts = parts.assign(seconds=parts["seconds"] * parts["times"]).dropna(subset="seconds")
    sums = parts.groupby("contender", sort=False)["seconds"].agg(["sum", "count"])
    return {
        str(name): float(row["sum"]) for name, row in sums.iterrows() if row["count"] == len(layers)
    }
