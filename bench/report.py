"""Tables for people, at most 110 columns wide."""

import textwrap

from bench.machine import Machine
from bench.results import OURS, AccuracyRow, MemoryRow, Results, Row, find
from bench.shapes import ERROR_BESIDE_NUMPY, SMALL_CALLS

WIDTH = 110
BUSY = 0.5


def machine(about: Machine, missing: dict[str, str]) -> str:
    build = ("CPU level", "OpenMP", "compiler")
    config = ", ".join(f"{key} {about.fastconv[key]}" for key in build if key in about.fastconv)
    peers = ", ".join(f"{name} {version}" for name, version in about.versions.items())
    text = (
        f"{about.cpu}, {about.cores} cores, {about.threads} threads; "
        f"{config}; Python {about.python}, {peers}; {about.system}"
    )
    lines = textwrap.wrap(text, WIDTH)
    lines += [f"left out: {name} ({reason})" for name, reason in missing.items()]
    if about.load > BUSY:
        lines.append(f"the machine was busy (load {about.load:.1f}): do not trust these times")
    return "\n".join(lines)


NOTE = (
    "Beside ours: their time / our time in the same mode; of a limit, the share that we reach with"
    "\nout= or, convolving, with fresh results, which reuse memory of earlier ones."
    "\nGB/s: of columns, or of a pooling's input and results. numpy runs on one thread, but for"
    "\nproducts of matrices. Of a convolution's limits the slower binds; they count at their best."
    "\nerror: relative rms of the output, or of grad_input and grad_weight, beside float64, on"
    "\nstandard normal data and as many of the images as fit 256 MiB of columns."
    "\nNetworks: PyTorch on NCHW; every contender is timed in processes of its own."
)
HEADER = (
    f"{'workload':<22}{'contender':<26}{'mode':<7}{'median ms':>11}{'min ms':>11}"
    f"{'GB/s':>8}{'beside ours':>13}"
)
LAYER_HEADER = (
    f"{'workload':<29}{'contender':<20}{'median ms':>10}{'min ms':>10}"
    f"{'GFLOP/s':>8}{'beside ours':>16}{'error':>16}"
)


def title(text: str) -> str:
    return f"\n{text}\n{'-' * len(text)}"


def case(rows: list[Row]) -> str:
    """All contenders on one workload."""
    lines = []
    for row in rows:
        name = row.workload if row is rows[0] else ""
        if row.flops:
            lines.append(f"{name:<29}{row.contender:<20}{_layer_times(row, rows)}")
        else:
            lines.append(f"{name:<22}{row.contender:<26}{row.mode:<7}{_times(row, rows)}")
    return "\n".join(lines)


def _layer_times(row: Row, rows: list[Row]) -> str:
    if row.timing is None:
        return " WRONG RESULT, not timed"
    median, least = row.timing.median, row.timing.min
    beside, binds = "", ""
    ours = find(rows, row.operation, row.workload, OURS, "fresh")
    if ours and row.mode == "limit":
        beside = f"{row.seconds / ours.median * 100:.0f} %"
        limits = [other.seconds for other in rows if other.mode == "limit"]
        binds = " binds" if row.seconds == max(limits) else ""
    elif ours and row.contender != OURS:
        ratio = median / ours.median
        beside = f"{ratio:.2f}x"
        binds = " we lose" if ratio < 1 else ""
    errors = "".join(f"{error:8.1e}" for error in row.errors[:2])
    rate = "" if row.contender == "parallel copy" else f"{row.flops / median / 1e9:.1f}"
    text = f"{median * 1e3:10.3f}{least * 1e3:10.3f}{rate:>8}{beside:>8}{binds:<8}{errors:>16}"
    return text.rstrip()


def _times(row: Row, rows: list[Row]) -> str:
    if row.timing is None:
        return "      WRONG RESULT, not timed"
    median, least = row.timing.median, row.timing.min
    rate = f"{row.nbytes / median / 1e9:.1f}" if row.nbytes else ""
    text = f"{median * 1e3:11.3f}{least * 1e3:11.3f}{rate:>8}"
    mode = "out=" if row.mode == "limit" else row.mode
    ours = find(rows, row.operation, row.workload, OURS, mode)
    if ours is None or row.contender.startswith(OURS):
        return text.rstrip()
    ratio = median / ours.median
    if row.mode == "limit":
        return f"{text}{ratio * 100:11.0f} %"
    return f"{text}{ratio:12.2f}x{'  we lose' if ratio < 1 else ''}"


def small_calls(rows: list[Row]) -> str:
    """One line per operation: median and min of every contender, in microseconds."""
    names = list(dict.fromkeys(row.contender for row in rows))
    heads = "".join(f"{name + ' (min)':>18}" for name in names)
    lines = [f"{'us a call':<22}{heads}{'torch / ours':>14}"]
    for operation in dict.fromkeys(row.operation for row in rows):
        found = {row.contender: row for row in rows if row.operation == operation}
        cells = "".join(f"{_micros(found.get(name)):>18}" for name in names)
        limit = SMALL_CALLS[operation].at_most_us
        lines.append(f"{operation:<22}{cells}{_verdict_on_small(found, limit)}")
    return "\n".join(lines)


def _micros(row: Row | None) -> str:
    if row is None:
        return "-"
    if row.timing is None:
        return "WRONG RESULT"
    return f"{row.timing.median * 1e6:.2f} ({row.timing.min * 1e6:.2f})"


def _verdict_on_small(found: dict[str, Row], limit: float | None) -> str:
    ours = found[OURS].timing
    torch = found["torch"].timing if "torch" in found else None
    text = f"{torch.median / ours.median:13.2f}x" if ours and torch else f"{'':14}"
    if ours and torch and torch.median < ours.median:
        text += "  we lose"
    if ours and limit is not None and ours.median * 1e6 >= limit:
        text += f"  over {limit:g} us"
    return text


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
        f"WRONG RESULT: {row.operation} {row.workload} {row.contender} {row.mode}"
        for row in results.wrong
    ]
    return "\n".join(lines)
