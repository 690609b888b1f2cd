"""Writes figures and pictures of docs/performance.md, its CSV file and the README's table.

The page's prose is written by hand, around parts that are marked. What is lost is explained there:
when the figures change, so may the reasons.
"""

# ruff: noqa: RUF001 - signs that the reader is to see

import argparse
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bench import plot, shapes
from bench.peers import HIGH, LIMIT, OURS, TORCH_COMPILE, TORCH_LAYOUTS
from bench.plot import SUMMARY, SUMMARY_TITLE, draw
from bench.report import digits
from bench.results import CASE, Results, fail, network_totals, results_file
from bench.shapes import FilterTask, NetworkTask, Signals, UpdateTask, Workload

ROOT = Path(__file__).resolve().parents[1]
README, PAGE, CSV, PICTURES = "README.md", "performance.md", "performance.csv", "performance"
README_PART = "performance"
COMMAND = "python -m bench publish RESULTS.json"
# A peer whose median is less than ours by more than this part is faster.
LESS = 0.03
# The page shows the errors of the first number of terms, the fourth, the seventh and the last.
SHOWN_TERMS = (0, 3, 6, -1)
CSV_COLUMNS = [
    *("kind", *CASE, "mode", "contender", "value", "unit", "lower_quartile", "upper_quartile"),
    *("times_ours", "limit", "share_of_limit", "errors", "note"),
]


class Headline(NamedTuple):
    """A row of the README's table: a workload, or all convolutions of a network at a batch."""

    label: str
    operation: str
    workload: Workload | NetworkTask | tuple[str, int]
    unit: float = 1e3  # A second has this number of the unit that the row is in.


HEADLINES = (
    Headline("SimpleConvNet, loss and gradients of 100 images", "network_step", shapes.TASKS[0]),
    Headline("DeepConvNet, the same", "network_step", shapes.TASKS[2]),
    Headline("ResNet-50, scores of 16 images", "network_prediction", shapes.PREDICTED[1]),
    Headline("ResNet-50, scores of 1 image", "network_prediction", shapes.PREDICTED[0]),
    Headline("MobileNetV1, scores of 16 images", "network_prediction", shapes.PREDICTED[5]),
    Headline("ResNet-20, a training step of 128 images", "network_training", shapes.TRAINED[0]),
    Headline("VGG-16, all convolutions, 16 images", "conv2d", ("VGG-16", 16)),
    Headline("ResNet-50, all convolutions, 16 images", "conv2d", ("ResNet-50", 16)),
    Headline("ResNet-50, all convolutions, 1 image", "conv2d", ("ResNet-50", 1)),
    Headline("MobileNetV1, all convolutions, 16 images", "conv2d", ("MobileNetV1", 16)),
    Headline("`conv2d` (4, 64, 224) to 64, 3×3", "conv2d", shapes.LAYERS[2]),
    Headline("`conv2d` (16, 256, 14) to 256, 3×3", "conv2d", shapes.LAYERS[4]),
    Headline("`conv2d` (16, 256, 56) to 64, 1×1", "conv2d", shapes.LAYERS[6]),
    Headline("`conv2d_backward` (16, 256, 14) to 256, 3×3", "conv2d_backward", shapes.LAYERS[4]),
    Headline("`conv2d` on (1, 1, 8), 3×3, µs", "conv2d", shapes.SMALL_CALLS["conv2d"], unit=1e6),
    Headline("`im2col` (8, 256, 56), 3×3", "im2col", shapes.COLUMNS[2]),
    Headline("`col2im` (8, 256, 56), 3×3", "col2im", shapes.COLUMNS[2]),
    Headline(
        "`max_pool2d` (8, 64, 112), 3×3/2, with indices", "max_pool2d_indices", shapes.POOLING[1]
    ),
)
PASSES = {"forward": ("conv2d",), "forward and backward": shapes.CONVOLUTION_OPERATIONS}
NETWORK_OPERATIONS = {
    "network_prediction": "scores",
    "network_training": "training step",
    "network_step": "loss and gradients",
    "network_inference": "scores, not optimized",
}
NETWORK_PEERS = (*TORCH_LAYOUTS, TORCH_COMPILE, "onnxruntime", "jax", "numpy")
# Each column of the tables shows the better of these contenders.
PEERS = {name: plot.PEERS[name] for name in ("NumPy", "PyTorch", "onnxruntime", "JAX")}
TOTALS_PEERS = {**PEERS, "OpenCV": ("opencv dnn", "opencv dnn, new engine")}


# ---- the parts ---------------------------------------------------------------------------------


def parts(results: Results) -> dict[str, str]:
    """Give what stands between the page's markers, by their names."""
    table = results.table()
    of_run = table[table["threads"] == results.machine.threads]
    return {
        "headline": headline(of_run),
        "networks": networks(results, of_run),
        "totals": totals(of_run),
        "losses": losses(table),
        "targets": targets(results.verdicts()),
        "memory": memory(results),
        "accuracy": accuracy(results),
        "limits": limits(results),
        "machine": machine(results),
    }


def headline(table: pd.DataFrame) -> str:
    rows = [row for row in (_headline(table, of) for of in HEADLINES) if row]
    cells = pd.DataFrame(rows, columns=["(N, C, size), window; ms", OURS, *PEERS])
    return markdown(cells.loc[:, (cells != "–").any()])


def _headline(table: pd.DataFrame, of: Headline) -> tuple[str, ...] | None:
    """Give its cells, the fastest contender's in bold, or None if we have not been timed."""
    if isinstance(of.workload, tuple):
        times = network_totals(table, *of.workload)
    else:
        is_of = (table["operation"] == of.operation) & (table["workload"] == of.workload.name)
        rows = table[is_of & (table["mode"] == "fresh")]
        times = dict(zip(rows["contender"], rows["seconds"], strict=True))
    if OURS not in times:
        return None
    best = {OURS: times[OURS]} | {peer: _best(times, names) for peer, names in PEERS.items()}
    fastest = min(best.values())
    cells = []
    for name, seconds in best.items():
        cell = digits(seconds * of.unit) if seconds < math.inf else "–"
        if name != OURS and cell != "–":
            cell += f" ({digits(seconds / times[OURS], 2)}×)"
        cells.append(f"**{cell}**" if seconds == fastest else cell)
    return of.label, *cells


def _best(times: dict[str, float], names: Sequence[str]) -> float:
    return min((times[name] for name in names if name in times), default=math.inf)


def networks(results: Results, table: pd.DataFrame) -> str:
    """Show networks as a whole, every contender by itself, and their peak memory."""
    rows = []
    for operation, what in NETWORK_OPERATIONS.items():
        tasks = table[table["operation"].eq(operation) & table["mode"].eq("fresh")]
        for name, of_task in tasks.groupby("workload", sort=False):
            times = dict(zip(of_task["contender"], of_task["seconds"], strict=True))
            if OURS in times:
                beside = [_ratio(times.get(peer, math.inf) / times[OURS]) for peer in NETWORK_PEERS]
                rows.append((what, shape(str(name)), digits(times[OURS] * 1e3), *beside))
    text = markdown(pd.DataFrame(rows, columns=["what", "network", "ours, ms", *NETWORK_PEERS]))
    for row in results.peaks:
        uses = (f"{name} {peak / 2**20:.0f} MiB" for name, peak in row.peaks.items())
        text += f"\n\nPeak memory of {shape(row.workload)}, in use: {', '.join(uses)}."
    return text


def totals(table: pd.DataFrame) -> str:
    rows = []
    for (what, operations), network, batch in product(
        PASSES.items(), shapes.LAYERS_OF_NETWORKS, shapes.BATCHES
    ):
        times = network_totals(table, network, batch, operations)
        if OURS not in times:
            continue
        ours = times[OURS]
        share = f"{times[LIMIT] / ours:.0%}" if LIMIT in times else "–"
        beside = [_ratio(_best(times, names) / ours) for names in TOTALS_PEERS.values()]
        shown = digits(ours * 1e3), digits(times[HIGH] * 1e3), share
        rows.append((network, batch, what, *shown, *beside))
    heads = ["network", "images", "passes", "ours, ms", f"`{HIGH}`, ms", "of the limit"]
    return markdown(pd.DataFrame(rows, columns=[*heads, *TOTALS_PEERS]))


def _ratio(ratio: float) -> str:
    if math.isinf(ratio):
        return "–"
    return f"**{digits(ratio, 2)}**" if ratio < 1 - LESS else digits(ratio, 2)


def losses(table: pd.DataFrame) -> str:
    """Say of every peer how often it is faster, and where most."""
    compared = table[table["ratio"].notna()]
    compared = compared.assign(lost=compared["ratio"] < 1 - LESS)
    rows = []
    for peer, of_peer in compared.groupby("contender", sort=False):
        worst = of_peer.loc[of_peer["ratio"].idxmin()]
        if worst["lost"]:
            where = f"`{worst['operation']}` {shape(worst['workload'])}"
            lost = int(of_peer["lost"].sum())
            rows.append((peer, len(of_peer), lost, digits(worst["ratio"], 2), where))
    rows.sort(key=lambda row: -row[2])
    text = (
        f"In {int(compared['lost'].sum())} of {len(compared)} comparisons a peer is faster: its "
        f"median is more than {LESS:.0%} less than ours, in the same mode and on as many threads."
    )
    heads = ["faster", "comparisons", "faster in", "smallest ratio", "which is"]
    return f"{text}\n\n{markdown(pd.DataFrame(rows, columns=heads))}"


def targets(verdicts: pd.DataFrame) -> str:
    missed = verdicts[~verdicts["met"].astype(bool)]
    text = f"{len(missed)} of {len(verdicts)} targets are missed; ratios are their time / ours."
    shown = missed.assign(
        mean=missed["mean"].map(digits),
        worst=missed["worst"].map(digits),
        wanted="`" + missed["wanted"] + "`",
    )
    return f"{text}\n\n{markdown(shown.drop(columns='met'))}" if len(missed) else text


def memory(results: Results) -> str:
    """Show the largest use of every operation."""
    uses = pd.DataFrame(
        [(f"`{use.operation}`", use.mib_per_thread, use.at_most) for use in results.memory],
        columns=["operation", "most, MiB a thread", "budget"],
    )
    most = uses.groupby("operation", sort=False, as_index=False).max()
    most["most, MiB a thread"] = most["most, MiB a thread"].map("{:.2f}".format)
    return markdown(most.assign(budget=most["budget"].map("{:g}".format)))


def accuracy(results: Results) -> str:
    """Show the errors of a few numbers of terms, of us and the peers that have them."""
    names = [OURS, *(name for names in plot.PEERS.values() for name in names)]
    rows = pd.DataFrame(
        [(f"`{row.result}`", row.terms, *map(row.errors.get, names)) for row in results.accuracy],
        columns=["result", "terms", *names],
    )
    rows = rows.groupby("result", sort=False).nth(list(SHOWN_TERMS)).dropna(axis=1, how="all")
    found = rows.columns[2:]
    rows[found] = rows[found].map(lambda error: "–" if pd.isna(error) else f"{error:.2e}")
    return markdown(rows)


def limits(results: Results) -> str:
    rows = pd.DataFrame(results.limits, columns=["name", "threads", "rate", "unit"])
    rows["limit"] = rows["name"] + ", " + rows["unit"]
    wide = rows.pivot(index="limit", columns="threads", values="rate")
    wide = wide.reindex(rows["limit"].unique()).map("{:.1f}".format)
    wide.columns = [f"{count} thread{'s' if count > 1 else ''}" for count in wide.columns]
    return markdown(wide.reset_index())


def machine(results: Results) -> str:
    about, built = results.machine, defaultdict(lambda: "unknown", results.machine.fastconv)
    rows = {
        "processor": about.cpu + (f", {about.clock}" if about.clock else ""),
        "cores, threads": f"{about.cores}, {about.threads}",
        "CPU level": built["CPU level"],
        "compiler": f"{built['compiler']}, OpenMP {built['OpenMP']}",
        "system": about.system,
        "libraries": f"Python {about.python}, {_versions(results)}",
        "commit": about.commit,
        "date, load before": f"{about.date}, {about.load:.1f}",
    }
    left_out = list(results.missing_peers.items())
    left_out += [
        (f"{row.contender}: `{row.operation}` {shape(row.workload)}", row.note)
        for row in results.wrong
    ]
    paragraphs = [markdown(pd.DataFrame(rows.items(), columns=["", ""]))]
    if left_out:
        paragraphs += ["Not timed:", markdown(pd.DataFrame(left_out, columns=["what", "why"]))]
    commands = f"{results.command} && {COMMAND}".replace(" && ", "\n")
    summary = "<details><summary>The commands that measured it</summary>"
    return "\n\n".join((*paragraphs, summary, f"```sh\n{commands}\n```", "</details>"))


def _versions(results: Results) -> str:
    return ", ".join(f"{name} {version}" for name, version in results.machine.versions.items())


def readme_part(results: Results, page_part: str) -> str:
    return (
        f"{page_part}\n\n![{SUMMARY_TITLE}](docs/{PICTURES}/{SUMMARY})\n\n"
        f"Float32, medians on {results.machine.threads} threads of {results.machine.cpu}; "
        f"{_versions(results)}. PyTorch in the better of its two layouts, or compiled. "
        f"[Everything, and what we lose](docs/{PAGE})."
    )


# ---- all rows ----------------------------------------------------------------------------------


def everything(results: Results) -> pd.DataFrame:
    """Give all that was measured as one table, for the CSV file; times are in milliseconds."""
    times = results.table()
    ours = times["contender"] == OURS
    timed = times[[*CASE, "mode", "contender"]].assign(
        kind="time",
        value=times["median"] * 1e3,
        unit="ms",
        lower_quartile=times["lower_quartile"] * 1e3,
        upper_quartile=times["upper_quartile"] * 1e3,
        times_ours=times["ratio"],
        limit=times["limit"].where(ours),
        share_of_limit=times["share"].where(ours),
        errors=[" ".join(f"{error:.2e}" for error in errors) for errors in times["errors"]],
    )
    others: list[dict[str, Any]] = [
        {**vars(row), "kind": "not timed", "errors": ""} for row in results.wrong
    ]
    others += [
        {**vars(use), "kind": "memory", "contender": OURS, "value": use.mib_per_thread}
        | {"unit": "MiB a thread", "note": f"at most {use.at_most:g}"}
        for use in results.memory
    ]
    others += [
        {"kind": "peak memory", "operation": "network_prediction", "workload": row.workload}
        | {"threads": row.threads, "contender": name, "value": peak / 2**20, "unit": "MiB"}
        for row in results.peaks
        for name, peak in row.peaks.items()
    ]
    others += [
        {"kind": "error", "operation": row.result, "workload": f"{row.terms} terms"}
        | {"contender": name, "value": error, "unit": "relative rms"}
        for row in results.accuracy
        for name, error in row.errors.items()
    ]
    others += [
        {**vars(row), "kind": "limit", "operation": row.name, "value": row.rate}
        for row in results.limits
    ]
    return pd.concat([timed, pd.DataFrame(others)]).reindex(columns=CSV_COLUMNS)


def to_csv(table: pd.DataFrame) -> str:
    return str(table.map(_cell).to_csv(index=False, lineterminator="\n"))


def _cell(value: Any) -> str:
    """Write numbers with four digits, which is more than a second run agrees on."""
    if not isinstance(value, float):
        return str(value)
    if math.isnan(value):
        return ""
    return np.format_float_positional(value, 4, fractional=False, trim="-")


# ---- text --------------------------------------------------------------------------------------


def markdown(table: pd.DataFrame) -> str:
    lines: Iterable[Any] = (table.columns, ["---"] * len(table.columns), *table.to_numpy())
    return "\n".join(
        "| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines
    )


def shape(name: str) -> str:
    """Write a workload, by its name, as the README does."""
    workload = shapes.WORKLOADS.get(name)
    if workload is None:
        return name
    if isinstance(workload, NetworkTask):
        return f"{workload.network}, {workload.dtype}, {workload.batch} images"
    if isinstance(workload, (UpdateTask, FilterTask)):
        return workload.name
    w = workload
    text = f"({w.n}, {w.c}, {w.size})" + (f" to {w.filters}" if w.filters else "")
    text += f", {w.kernel}" if isinstance(w, Signals) else f", {w.kernel}×{w.kernel}"
    text += f"/{w.stride}" if w.stride > 1 else ""
    if isinstance(w, Signals) and w.dilation > 1:
        text += f", dilation {w.dilation}"
    if w.groups > 1:
        text += " depthwise" if w.is_depthwise else f" in {w.groups} groups"
    return text


def filled(text: str, file: str, parts: dict[str, str]) -> str:
    """Give the text with the parts between their markers, or raise a ValueError."""
    for name, part in parts.items():
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        if not text.count(begin) == text.count(end) == 1 or text.index(begin) > text.index(end):
            raise ValueError(
                f"{file} must have the lines {begin} and {end}, once and in this order"
            )
        before, _, rest = text.partition(begin)
        text = f"{before}{begin}\n{part}\n{end}{rest.partition(end)[2]}"
    return text


def publish(results: Results, root: Path) -> None:
    """Write everything, but nothing if a part has no place on the page or in the README."""
    readme, page = root / README, root / "docs" / PAGE
    of_page = parts(results)
    of_readme = {README_PART: readme_part(results, of_page["headline"])}
    texts = {
        readme: filled(readme.read_text(), README, of_readme),
        page: filled(page.read_text(), PAGE, of_page),
        root / "docs" / CSV: to_csv(everything(results)),
    }
    draw(results, root / "docs" / PICTURES)
    for path, text in texts.items():
        path.write_text(text)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("results", type=results_file, metavar="RESULTS.json")
    parser.add_argument("--root", type=Path, default=ROOT, metavar="FOLDER", help="of README.md")


def main(options: argparse.Namespace) -> int:
    try:
        publish(options.results, options.root)
    except (OSError, ValueError) as error:
        fail(str(error))
    print(f"Read docs/{PAGE}: its prose must explain the losses that its tables show now.")
    return 0
