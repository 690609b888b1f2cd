"""Tables for people, at most 110 columns wide."""

import textwrap

from bench.machine import Machine
from bench.results import (
    FMA_PEAK,
    LIMIT,
    OURS,
    AccuracyRow,
    LimitRow,
    MemoryRow,
    Results,
    Row,
    bound_of,
    find,
)
from bench.targets import ERROR_BESIDE_NUMPY

WIDTH = 110
BUSY = 0.5


def machine(about: Machine, missing: dict[str, str]) -> str:
    build = ("CPU level", "OpenMP", "compiler")
    config = ", ".join(f"{key} {about.fastconv[key]}" for key in build if key in about.fastconv)
    peers = ", ".join(f"{name} {version}" for name, version in about.versions.items())
    text = (
        f"{about.cpu}, {about.cores} cores, {about.threads} threads; "
        f"{config}; Python {about.python}, {peers}; {about.system}; {about.date}, "
        f"commit {about.commit or 'unknown'}"
    )
    lines = textwrap.wrap(text, WIDTH)
    lines += [f"left out: {name} ({reason})" for name, reason in missing.items()]
    if about.load > BUSY:
        lines.append(f"the machine was busy (load {about.load:.1f}): do not trust these times")
    return "\n".join(lines)


NOTE = (
    "Medians and quartiles of blocks of calls in turn, every library in a process of its own."
    "\nBeside ours: their time / our time in the same mode; ours: the share of what limits it."
    "\nfresh: the result is allocated by the call; out=: written into memory that exists."
    "\nGB/s: of inputs and results, each once. numpy has one thread, but for products of matrices."
    "\nerror: relative rms of every result, beside float64, on normal variates and a few images."
)


def title(text: str) -> str:
    return f"\n{text}\n{'-' * len(text)}"


def limits(rows: list[LimitRow]) -> str:
    return "\n".join(
        f"{row.name:<36}{row.threads:3} {'thread ' if row.threads == 1 else 'threads'}"
        f"{row.rate:10.1f} {row.unit}"
        for row in rows
    )


def case(rows: list[Row]) -> str:
    """All contenders on one workload."""
    lines = [f"{row.operation} {row.workload}" for row in rows[:1]]
    lines += [f"  {row.contender:<24}{row.mode:<6}{_figures(row, rows)}".rstrip() for row in rows]
    return "\n".join(lines)


def _figures(row: Row, rows: list[Row]) -> str:
    if row.timing is None:
        return f"  {row.note.upper()}, not timed"
    unit, scale = ("us", 1e6) if row.timing.median < 100e-6 else ("ms", 1e3)
    low, median, high = (
        f"{seconds * scale:.{3 if seconds * scale < 100 else 1}f}"
        for seconds in (row.timing.lower_quartile, row.seconds, row.timing.upper_quartile)
    )
    errors = " ".join(f"{error:.1e}" if error else "0" for error in row.errors)
    time = f"{median:>10} {unit} [{low}, {high}]"
    return f"{time:<36}{_rate(row):>15}  {_beside(row, rows):<30}{errors}"


def _rate(row: Row) -> str:
    of_bytes = row.mode == LIMIT and row.contender != FMA_PEAK
    if row.flops and not of_bytes:
        return f"{row.flops / row.seconds / 1e9:.1f} GFLOP/s"
    return f"{row.nbytes / row.seconds / 1e9:.1f} GB/s" if row.nbytes else ""


def _beside(row: Row, rows: list[Row]) -> str:
    if row.contender == OURS:
        bound = bound_of(row, rows)
        return f"{bound.share * 100:.0f} % of {bound.name}" if bound else ""
    ours = find(rows, OURS, row.mode)
    if ours is None:
        return ""
    ratio = row.seconds / ours.seconds
    return f"{ratio:.2f}x{' we lose' if ratio < 1 else ''}"


MEMORY_HEADER = (
    f"{'operation':<22}{'workload':<29}{'MiB':>9}{'weights':>9}{'MiB a thread':>14}{'at most':>9}"
)


def memory(row: MemoryRow) -> str:
    per_thread = row.mib_per_thread
    over = "  over" if per_thread > row.at_most else ""
    return (
        f"{row.operation:<22}{row.workload:<29}{row.extra_bytes / 2**20:9.2f}"
        f"{row.weight_bytes / 2**20:9.2f}{per_thread:14.2f}{row.at_most:9.2f}{over}"
    )


def accuracy(rows: list[AccuracyRow]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row.errors))
    widths = {name: max(10, len(name) + 2) for name in names}
    heads = "".join(f"{name:>{widths[name]}}" for name in names)
    lines = [f"{'result':<12}{'terms':>7}{heads}{'ours / numpy':>14}"]
    for row in rows:
        cells = "".join(
            f"{f'{row.errors[name]:.2e}' if name in row.errors else '-':>{width}}"
            for name, width in widths.items()
        )
        over = "  over" if row.beside_numpy > ERROR_BESIDE_NUMPY else ""
        lines.append(f"{row.result:<12}{row.terms:7}{cells}{row.beside_numpy:14.2f}{over}")
    return "\n".join(lines)


def summary(results: Results) -> str:
    lines = [f"{'':<58}{'mean':>8}{'worst':>8}   {'target':<13}{'cases':>6}"]
    for v in results.verdicts():
        mark = "" if v.met else "  MISSED"
        numbers = f"{v.mean:8.2f}{v.worst:8.2f}   {v.condition:<13}{v.cases:6}"
        lines.append(f"{v.target:<58}{numbers}{mark}")
    lines += [
        f"{row.note.upper()}: {row.operation} {row.workload} {row.contender} {row.mode}"
        for row in results.wrong
    ]
    return "\n".join(lines)
