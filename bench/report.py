"""Tables for people in a terminal."""

import math
import textwrap
from typing import Any

import pandas as pd

from bench.machine import Machine
from bench.peers import FMA_PEAK, LIMIT, OURS
from bench.results import AccuracyRow, MemoryRow, PeakRow, Results, Row, table_of
from bench.shapes import Measurement
from bench.targets import ERROR_BESIDE_NUMPY

WIDTH = 110
BUSY = 0.5

NOTE = (
    "Medians and quartiles of blocks of calls in turn, every library in a process of its own."
    "\nBeside ours: their time / our time in the same mode; ours: the share of what limits it."
    "\nfresh: the result is allocated by the call; out=: written into memory that exists."
    "\nGB/s: of inputs and results, each once. numpy has one thread, but for products of matrices."
    "\nerror: relative rms of every result, beside float64, on normal variates and a few images."
)


def machine(about: Machine, missing: dict[str, str]) -> str:
    build = ("CPU level", "OpenMP", "compiler")
    config = ", ".join(f"{key} {about.fastconv[key]}" for key in build if key in about.fastconv)
    peers = ", ".join(f"{name} {version}" for name, version in about.versions.items())
    text = (
        f"{about.cpu}{f' at {about.clock}' if about.clock else ''}, {about.cores} cores, "
        f"{about.threads} threads; {config}; Python {about.python}, {peers}; {about.system}; "
        f"{about.date}, commit {about.commit or 'unknown'}"
    )
    lines = textwrap.wrap(text, WIDTH)
    lines += [f"left out: {name} ({reason})" for name, reason in missing.items()]
    if about.load > BUSY:
        lines.append(f"the machine was busy (load {about.load:.1f}): do not trust these times")
    return "\n".join(lines)


def digits(value: float, count: int = 3) -> str:
    """Write this number of digits, or as many as stand before the point."""
    if value <= 0:
        return "0"
    return f"{value:.{max(0, count - 1 - math.floor(math.log10(value)))}f}"


def title(text: str) -> str:
    return f"\n{text}\n{'-' * len(text)}"


def aligned(frame: pd.DataFrame, header: bool = True) -> str:
    """Align texts to the left, which pandas does not, and numbers to the right."""
    shown = frame.copy()
    for name in shown.columns[[not pd.api.types.is_numeric_dtype(kind) for kind in shown.dtypes]]:
        texts = shown[name].astype(str)
        width = max([len(str(name)) if header else 0, *texts.str.len()])
        shown[name] = texts.str.ljust(width)
        shown = shown.rename(columns={name: str(name).ljust(width)})
    lines = shown.to_string(index=False, header=header).splitlines()
    return "\n".join(line.rstrip() for line in lines)


def case(measurement: Measurement, rows: list[Row]) -> str:
    """Show all contenders on one workload."""
    lines = [f"{measurement.operation} {measurement.workload.name}"]
    table = table_of(rows)
    if len(table):
        cells = pd.DataFrame([_cells(row) for row in table.to_dict("records")])
        lines.append(textwrap.indent(aligned(cells, header=False), "  "))
    lines += [
        f"  {row.contender} {row.mode}  {row.note.upper()}, not timed" for row in rows if row.note
    ]
    return "\n".join(lines)


def _cells(row: dict[str, Any]) -> list[str]:
    unit, scale = ("us", 1e6) if row["median"] < 100e-6 else ("ms", 1e3)
    median, low, high = (
        f"{seconds * scale:.{3 if seconds * scale < 100 else 1}f}"
        for seconds in (row["seconds"], row["lower_quartile"], row["upper_quartile"])
    )
    errors = " ".join(f"{error:.1e}" if error else "0" for error in row["errors"])
    time = f"{median:>10} {unit}", f"[{low}, {high}]"
    return [row["contender"], row["mode"], *time, f"{_rate(row):>14}", _beside(row), errors]


def _rate(row: dict[str, Any]) -> str:
    of_bytes = row["mode"] == LIMIT and row["contender"] != FMA_PEAK
    if row["flops"] and not of_bytes:
        return f"{row['flops'] / row['seconds'] / 1e9:.1f} GFLOP/s"
    return f"{row['nbytes'] / row['seconds'] / 1e9:.1f} GB/s" if row["nbytes"] else ""


def _beside(row: dict[str, Any]) -> str:
    if row["contender"] == OURS:
        return "" if pd.isna(row["share"]) else f"{row['share']:.0%} of {row['limit']}"
    if pd.isna(row["ratio"]):
        return ""
    return f"{row['ratio']:.2f}x{' we lose' if row['ratio'] < 1 else ''}"


def memory(rows: list[MemoryRow]) -> str:
    table = pd.DataFrame(
        [
            (row.operation, row.workload, row.extra_bytes / 2**20, row.weight_bytes / 2**20)
            + (row.mib_per_thread, row.at_most, _over(row.mib_per_thread > row.at_most))
            for row in rows
        ],
        columns=["operation", "workload", "MiB", "weights", "MiB a thread", "at most", ""],
    )
    return aligned(table.round(2))


def peaks(rows: list[PeakRow]) -> str:
    table = pd.DataFrame([row.peaks for row in rows]) / 2**20
    table.insert(0, "workload", [row.workload for row in rows])
    return aligned(table.round(1))


def accuracy(rows: list[AccuracyRow]) -> str:
    table = pd.DataFrame([row.errors for row in rows]).map("{:.2e}".format).replace("nan", "-")
    table.insert(0, "result", [row.result for row in rows])
    table.insert(1, "terms", [row.terms for row in rows])
    table["ours / numpy"] = [round(row.beside_numpy, 2) for row in rows]
    table[""] = [_over(row.beside_numpy > ERROR_BESIDE_NUMPY) for row in rows]
    return aligned(table)


def _over(too_much: bool) -> str:
    return "over" if too_much else ""


def summary(results: Results) -> str:
    verdicts = results.verdicts().round(2)
    missed = verdicts.pop("met").map({True: "", False: "MISSED"})
    lines = [aligned(verdicts.assign(**{"": missed}))] if len(verdicts) else []
    lines += [
        f"{row.note.upper()}: {row.operation} {row.workload} {row.contender} {row.mode}"
        for row in results.wrong
    ]
    return "\n".join(lines)
