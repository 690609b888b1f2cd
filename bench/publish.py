"""Writes docs/performance.md, its pictures and the README's table from one file of results."""

# ruff: noqa: RUF001 - signs that the reader is to see

import argparse
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.command import facts, fail, results_file
from bench.plot import SUMMARY, Picture, draw, is_depthwise, two_digits
from bench.reasons import WORKLOADS, reason_for, why_missed
from bench.results import LIMIT, OURS, Results, Row, bound_of, find
from bench.shapes import (
    BATCHES,
    COLUMNS,
    CONVOLUTION_OPERATIONS,
    LAYERS,
    LAYERS_OF_NETWORKS,
    POOLING,
    SECTIONS,
    SMALL_CALLS,
    THREADED,
    NetworkTask,
    Workload,
)
from bench.targets import HIGH, TORCH_LAYOUTS
from bench.totals import network_totals

ROOT = Path(__file__).resolve().parents[1]
PICTURES = "performance"  # beside the page
BEGIN, END = "<!-- performance: begin -->", "<!-- performance: end -->"
COMMAND = "python -m bench publish RESULTS.json"
SMALL_SECTION = "small calls"
LESS = 0.03  # a median less than ours by more than that is a loss


@dataclass(frozen=True)
class Headline:
    """A row of the README's table."""

    label: str
    operation: str
    workload: Workload | NetworkTask
    unit: float = 1e3  # of them in a second


@dataclass(frozen=True)
class TotalHeadline:
    """The same for all convolutions of a network."""

    network: str
    batch: int

    @property
    def label(self) -> str:
        return f"{self.network}, all convolutions, {_images(self.batch)}"


HEADLINES: tuple[Headline | TotalHeadline, ...] = (
    Headline(
        "SimpleConvNet, loss and gradients of 100 images",
        "network_step",
        NetworkTask("step", "simple", "float32", 100),
    ),
    Headline("DeepConvNet, the same", "network_step", NetworkTask("step", "deep", "float32", 100)),
    TotalHeadline("VGG-16", 16),
    TotalHeadline("ResNet-50", 16),
    TotalHeadline("ResNet-50", 1),
    TotalHeadline("MobileNetV1", 16),
    Headline("`conv2d` (4, 64, 224) to 64, 3×3", "conv2d", LAYERS[2]),
    Headline("`conv2d` (16, 256, 14) to 256, 3×3", "conv2d", LAYERS[4]),
    Headline("`conv2d` (16, 256, 56) to 64, 1×1", "conv2d", LAYERS[6]),
    Headline("`conv2d_backward` (16, 256, 14) to 256, 3×3", "conv2d_backward", LAYERS[4]),
    Headline("`conv2d` on (1, 1, 8), 3×3, µs", "conv2d", SMALL_CALLS["conv2d"], unit=1e6),
    Headline("`im2col` (8, 256, 56), 3×3", "im2col", COLUMNS[2]),
    Headline("`col2im` (8, 256, 56), 3×3", "col2im", COLUMNS[2]),
    Headline("`max_pool2d` (8, 64, 112), 3×3/2, with indices", "max_pool2d_indices", POOLING[1]),
)
PASSES = {"forward": ("conv2d",), "forward and backward": CONVOLUTION_OPERATIONS}
# The README's columns and the contenders of which the better one counts.
PEERS = {
    "NumPy": ("numpy",),
    "PyTorch": TORCH_LAYOUTS,
    "onnxruntime": ("onnxruntime",),
    "JAX": ("jax",),
}


# ---- what we lose ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pair:
    """One case in one mode: our row and a peer's."""

    ours: Row
    theirs: Row

    @property
    def ratio(self) -> float:
        return self.theirs.seconds / self.ours.seconds

    @property
    def lost(self) -> bool:
        return self.ratio < 1 - LESS


def pairs(results: Results) -> list[Pair]:
    """Give everything that can be compared, on every number of threads."""
    ours = {_case(row): row for row in results.rows if row.contender == OURS and row.timing}
    return [
        Pair(ours[_case(row)], row)
        for row in results.rows
        if row.contender != OURS and row.mode != LIMIT and row.timing and _case(row) in ours
    ]


def _case(row: Row) -> tuple[str, str, int, str]:
    return row.operation, row.workload, row.threads, row.mode


def by_reason(losses: list[Pair]) -> dict[str | None, list[Pair]]:
    """Group them, those without a reason under None and last; the worst first."""
    groups: dict[str | None, list[Pair]] = {}
    for pair in sorted(losses, key=lambda pair: pair.ratio):
        reason = reason_for(pair.theirs)
        groups.setdefault(reason.text if reason else None, []).append(pair)
    return {text: groups[text] for text in sorted(groups, key=lambda text: text is None)}


def _lost(results: Results) -> Iterator[str]:
    compared = pairs(results)
    losses = [pair for pair in compared if pair.lost]
    yield "## What we lose"
    yield (
        f"In {len(losses)} of {len(compared)} comparisons a peer is faster: its median is more "
        f"than {LESS:.0%} less than ours, in the same mode and on as many threads."
    )
    for text, group in by_reason(losses).items():
        yield f"**{text or 'Not explained yet.'}**"
        yield markdown(
            ("what", "threads", "peer", "ours, ms", "peer, ms", "peer / ours"),
            [
                (
                    _what(pair.ours),
                    pair.ours.threads,
                    pair.theirs.contender,
                    _with_quartiles(pair.ours),
                    _with_quartiles(pair.theirs),
                    two_digits(pair.ratio),
                )
                for pair in group
            ],
        )


def _missed(results: Results) -> Iterator[str]:
    verdicts = results.verdicts()
    missed = [verdict for verdict in verdicts if not verdict.met]
    yield "## Targets that are missed"
    yield f"{len(missed)} of {len(verdicts)}; ratios to peers are their time / ours."
    if missed:
        yield markdown(
            ("target", "mean", "worst", "wanted", "cases", "why"),
            [
                (
                    v.target,
                    digits(v.mean),
                    digits(v.worst),
                    _code(v.condition),
                    v.cases,
                    why_missed(v.target),
                )
                for v in missed
            ],
        )


# ---- everything --------------------------------------------------------------------------------


def _totals(results: Results) -> Iterator[str]:
    found = {
        (network, batch, what): totals
        for what, operations in PASSES.items()
        for network in LAYERS_OF_NETWORKS
        for batch in BATCHES
        if OURS in (totals := network_totals(results, network, batch, operations))
    }
    if not found:
        return
    peers = list(dict.fromkeys(name for totals in found.values() for name in totals))
    peers = [name for name in peers if name not in (OURS, HIGH, LIMIT)]
    yield "## All convolutions of networks"
    yield (
        "Every layer as often as the network has it; of peers their time / ours, if they have all "
        "layers. The limit is the sum of what binds each layer."
    )
    yield markdown(
        ("network", "images", "passes", "ours, ms", f"`{HIGH}`, ms", "of the limit", *peers),
        [
            (
                network,
                batch,
                what,
                digits(totals[OURS] * 1e3),
                digits(totals[HIGH] * 1e3),
                f"{totals[LIMIT] / totals[OURS]:.0%}" if LIMIT in totals else "–",
                *(_ratio(totals.get(name), totals[OURS]) for name in peers),
            )
            for (network, batch, what), totals in found.items()
        ],
    )


def _sections(results: Results) -> Iterator[str]:
    for section in SECTIONS:
        measured = dict.fromkeys((*section.measurements, *section.quick))
        cases = [results.of_case(m.operation, m.workload.name) for m in measured]
        small = section.title == SMALL_SECTION
        table = _table(cases, micros=small)
        if table:
            yield f"## {section.title[0].upper()}{section.title[1:]}"
            if small:
                yield "On images of 8×8 what is measured is the call."
            yield table
    on_threads = [
        results.of_case(m.operation, m.workload.name, threads)
        for m in THREADED
        for threads in sorted({row.threads for row in results.rows})
    ]
    table = _table(on_threads, threads=True)
    if table:
        yield "## Time against threads"
        yield table


def _table(cases: list[list[Row]], threads: bool = False, micros: bool = False) -> str:
    """Show our rows and the peers beside them in the same mode."""
    ours = [(row, rows) for rows in cases for row in rows if row.contender == OURS and row.timing]
    modes = {row.mode for row, _ in ours}
    peers = dict.fromkeys(
        other.contender
        for _, rows in ours
        for other in rows
        if other.mode in modes and other.contender != OURS and other.timing
    )
    if not ours:
        return ""
    return markdown(
        (
            "what",
            *(["threads"] if threads else []),
            "ours, µs" if micros else "ours, ms",
            "of the limit",
            *peers,
            "error",
        ),
        [
            (
                _what(row),
                *([row.threads] if threads else []),
                _with_quartiles(row, 1e6 if micros else 1e3),
                _share(row, rows),
                *(_beside(find(rows, name, _mode_of_peers(row)), row) for name in peers),
                ", ".join(f"{error:.1e}" for error in row.errors) or "–",
            )
            for row, rows in ours
        ],
    )


def _memory(results: Results) -> Iterator[str]:
    if results.memory:
        yield "## Memory"
        yield "Peak beyond inputs, results and one copy of the weights, MiB a thread."
        yield markdown(
            ("what", "threads", "MiB a thread", "at most"),
            [
                (
                    f"`{use.operation}` {shape(use.workload)}",
                    use.threads,
                    f"{use.mib_per_thread:.2f}",
                    f"{use.at_most:g}",
                )
                for use in results.memory
            ],
        )


def _accuracy(results: Results) -> Iterator[str]:
    if results.accuracy:
        names = list(dict.fromkeys(name for row in results.accuracy for name in row.errors))
        yield "## Accuracy"
        yield "Relative rms error of sums of so many terms, float32 beside float64."
        yield markdown(
            ("result", "terms", *names, "ours / NumPy's"),
            [
                (
                    _code(row.result),
                    row.terms,
                    *(f"{row.errors[n]:.2e}" if n in row.errors else "–" for n in names),
                    f"{row.beside_numpy:.2f}" if "numpy" in row.errors else "–",
                )
                for row in results.accuracy
            ],
        )


def _limits(results: Results) -> Iterator[str]:
    if results.limits:
        yield "## Limits of the machine"
        yield markdown(
            ("limit", "threads", "rate"),
            [(row.name, row.threads, f"{row.rate:.1f} {row.unit}") for row in results.limits],
        )


def _machine(results: Results) -> Iterator[str]:
    yield "## Measured on"
    yield markdown(("", ""), facts(results.machine).items())
    left_out = [(name, reason) for name, reason in results.missing_peers.items()]
    left_out += [
        (f"{row.contender}: {_what(row)}, threads {row.threads}", row.note) for row in results.wrong
    ]
    if left_out:
        yield "Not timed:"
        yield markdown(("what", "why"), left_out)
    yield "To reproduce it, on an idle machine:"
    yield f"```sh\n{results.command}\n{COMMAND}\n```"


def page(results: Results, pictures: Sequence[Picture] = ()) -> str:
    """Write docs/performance.md."""
    parts = [
        f"<!-- Written by `{COMMAND}`: do not edit. -->",
        "# Performance",
        "Medians of times with the quartiles behind them; of peers their time / ours, **bold** "
        f"where they are faster by more than {LESS:.0%}. (N, C, size) are square images, float32; "
        "the limit is the slower of multiplying and of moving each byte once. Shares of more than "
        "100% are of 3×3 windows that are computed in fewer multiplications ([how](winograd.md)); "
        f'the mode `{HIGH}` is `fastconv.precision("{HIGH}")`, beside peers that know no such.',
        *_lost(results),
        *_missed(results),
        *_totals(results),
        *(["## Pictures"] if pictures else []),
        *(f"![{picture.title}]({PICTURES}/{picture.file})" for picture in pictures),
        *_sections(results),
        *_memory(results),
        *_accuracy(results),
        *_limits(results),
        *_machine(results),
    ]
    return "\n\n".join(parts) + "\n"


# ---- the README --------------------------------------------------------------------------------


def readme_part(results: Results, pictures: Sequence[Picture] = ()) -> str:
    heads = ("(N, C, size), window; ms", OURS, *PEERS)
    rows = [row for headline in HEADLINES if (row := _headline(results, headline))]
    present = [i for i in range(len(heads)) if any(row[i] != "–" for row in rows)]
    heads = tuple(heads[i] for i in present)
    rows = [tuple(row[i] for i in present) for row in rows]
    machine = results.machine
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    about = (
        f"Float32, medians on {machine.threads} threads of {machine.cpu}; {versions}. PyTorch in "
        "the better of its two layouts. [Everything, and what we lose](docs/performance.md)."
    )
    shown = [
        f"![{picture.title}](docs/{PICTURES}/{picture.file})"
        for picture in pictures
        if picture.file == SUMMARY
    ]
    return "\n\n".join((markdown(heads, rows), *shown, about))


def _headline(results: Results, headline: Headline | TotalHeadline) -> tuple[str, ...] | None:
    """Give its cells, the fastest contender's in bold, or None if we have not been timed."""
    if isinstance(headline, TotalHeadline):
        times, unit = network_totals(results, headline.network, headline.batch), 1e3
    else:
        rows = results.of_case(headline.operation, headline.workload.name)
        times = {row.contender: row.seconds for row in rows if row.mode == "fresh" and row.timing}
        unit = headline.unit
    if OURS not in times:
        return None
    ours = times[OURS]
    theirs = [[times[name] for name in names if name in times] for names in PEERS.values()]
    fastest = min([ours, *(min(found) for found in theirs if found)])
    cells = [digits(ours * unit)]
    for found in theirs:
        ratio = f"{digits(min(found) * unit)} ({two_digits(min(found) / ours)}×)" if found else "–"
        cells.append(ratio)
    bests = [ours, *(min(found) if found else math.inf for found in theirs)]
    marked = [f"**{c}**" if best == fastest else c for c, best in zip(cells, bests, strict=True)]
    return headline.label, *marked


def replaced(readme: str, part: str) -> str:
    """Give the README with `part` between its markers, or raise a ValueError."""
    if not readme.count(BEGIN) == readme.count(END) == 1 or readme.index(BEGIN) > readme.index(END):
        raise ValueError(f"README.md must have the lines {BEGIN} and {END}, once and in this order")
    before, _, rest = readme.partition(BEGIN)
    return f"{before}{BEGIN}\n{part}\n{END}{rest.partition(END)[2]}"


# ---- cells -------------------------------------------------------------------------------------


def markdown(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(
        "| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines
    )


def digits(value: float) -> str:
    """Write three digits, or as many as stand before the point."""
    if value <= 0:
        return "0"
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}"


def shape(name: str) -> str:
    """Write a workload, by its name, as the README does."""
    workload = WORKLOADS.get(name)
    if workload is None:
        return name
    if isinstance(workload, NetworkTask):
        return f"{workload.network}, {workload.dtype}, {_images(workload.batch)}"
    w = workload
    text = f"({w.n}, {w.c}, {w.size})" + (f" to {w.filters}" if w.filters else "")
    text += f", {w.kernel}×{w.kernel}" + (f"/{w.stride}" if w.stride > 1 else "")
    if w.groups > 1:
        text += " depthwise" if is_depthwise(w) else f" in {w.groups} groups"
    return text


def _images(count: int) -> str:
    return f"{count} image{'s' if count > 1 else ''}"


def _what(row: Row) -> str:
    mode = "" if row.mode == "fresh" else f", {_code(row.mode)}"
    return f"`{row.operation}` {shape(row.workload)}{mode}"


def _mode_of_peers(row: Row) -> str:
    return "fresh" if row.mode == HIGH else row.mode


def _code(text: str) -> str:
    return f"`{text}`"


def _with_quartiles(row: Row, unit: float = 1e3) -> str:
    assert row.timing
    low, high = row.timing.lower_quartile, row.timing.upper_quartile
    return f"{digits(row.seconds * unit)} ({digits(low * unit)}–{digits(high * unit)})"


def _share(row: Row, rows: list[Row]) -> str:
    bound = bound_of(row, rows)
    return f"{bound.share:.0%}, {bound.name}" if bound else "–"


def _ratio(theirs: float | None, ours: float) -> str:
    if theirs is None:
        return "–"
    ratio = theirs / ours
    return f"**{two_digits(ratio)}**" if ratio < 1 - LESS else two_digits(ratio)


def _beside(theirs: Row | None, ours: Row) -> str:
    return _ratio(theirs.seconds if theirs else None, ours.seconds)


def publish(results: Results, root: Path) -> None:
    """Write everything, but nothing if the README has no place for its part."""
    readme, docs = root / "README.md", root / "docs"
    replaced(readme.read_text(), "")
    pictures = draw(results, docs / PICTURES)
    text = replaced(readme.read_text(), readme_part(results, pictures))
    (docs / "performance.md").write_text(page(results, pictures))
    readme.write_text(text)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("results", type=results_file, metavar="RESULTS.json")
    parser.add_argument("--root", type=Path, default=ROOT, metavar="FOLDER", help="of README.md")


def main(options: argparse.Namespace) -> int:
    try:
        publish(options.results, options.root)
    except (OSError, ValueError) as error:
        fail(str(error))
    unexplained = by_reason([pair for pair in pairs(options.results) if pair.lost]).get(None, [])
    if unexplained:
        print(f"warning: {len(unexplained)} losses without a reason in reasons.py", file=sys.stderr)
    return 0
