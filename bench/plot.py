"""Draws results: the layers of networks, scaling, and a summary for the README.

A contender has one colour everywhere (Okabe and Ito's, which the colour-blind can tell apart).
What was not measured is left out.
"""

# ruff: noqa: RUF001 - signs that the reader is to see

import argparse
import math
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from bench.peers import OURS, TORCH_COMPILE, TORCH_LAYOUTS
from bench.report import digits
from bench.results import Results, fail, network_totals, results_file
from bench.shapes import BATCHES, CURVES, LAYERS_OF_NETWORKS, THREADED, Layer, Workload

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 110
WIDTH = 12.8  # Inches.
CONVOLUTIONS, DEPTHWISE, POOLINGS = "convolutions", "depthwise convolutions", "poolings"
# Each kind of layers has lines of this height in inches.
KINDS = {CONVOLUTIONS: 2.7, DEPTHWISE: 2.2, POOLINGS: 2.2}
# A line has room for at least and at most this number of layers.
FEWEST_PER_LINE, MOST_PER_LINE = 3, 9
# A group of bars fills this part of the distance between two groups.
BARS = 0.84
GREY = "0.35"

COLOURS = {
    OURS: "#0072B2",
    "torch": "#D55E00",
    "torch channels_last": "#E69F00",
    "onnxruntime": "#009E73",
    "jax": "#CC79A7",
    "opencv dnn": "#56B4E9",
    "numpy": "#999999",
}
# The summary shows the better of these contenders, in the colour of the first.
PEERS = {
    "PyTorch": (*TORCH_LAYOUTS, TORCH_COMPILE),
    "onnxruntime": ("onnxruntime",),
    "JAX": ("jax",),
    "OpenCV": ("opencv dnn",),
    "NumPy": ("numpy",),
}
SUMMARY = "summary.png"
SUMMARY_TITLE = "All convolutions: times longer than with fastconv"
LIMIT_LABEL = "limit of the machine"


def draw(results: Results, folder: Path) -> list[str]:
    """Write all pictures that there is something to show in; give their files."""
    folder.mkdir(parents=True, exist_ok=True)
    figures = {file: figure for file, figure in _figures(results) if figure is not None}
    for file, figure in figures.items():
        figure.savefig(folder / file, dpi=DPI)
    return list(figures)


def _figures(results: Results) -> "Iterator[tuple[str, Figure | None]]":
    table = results.table()
    fresh = table[table["mode"] == "fresh"]
    of_run = fresh[fresh["threads"] == results.machine.threads]
    yield SUMMARY, _summary(of_run)
    for network, batch in product(LAYERS_OF_NETWORKS, BATCHES):
        yield f"{network.lower()}-batch-{batch}.png", _layers(of_run, network, batch)
    yield "scaling.png", _scaling(fresh, of_run)


def _figure(width: float, height: float) -> "Figure":
    """Make one that belongs to nobody else, not even to pyplot."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        fail("pictures need matplotlib: pip install 'fastconv[viz]'")
    return Figure((width, height), layout="constrained")


def _plain(axes: "Axes", title: str = "", ylabel: str = "") -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    axes.grid(axis="y", color="0.9", linewidth=0.8)
    axes.tick_params(labelsize=8, length=0, which="both")
    axes.set_title(title, fontsize=9, loc="left")
    axes.set_ylabel(ylabel, fontsize=8)


def _legend(place: Any, panels: "list[Axes]", where: str, columns: int = 0) -> None:
    """Name every contender once, in one line if there is no number of columns."""
    found: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    if LIMIT_LABEL in found:  # The limit is named last.
        found[LIMIT_LABEL] = found.pop(LIMIT_LABEL)
    place.legend(
        list(found.values()),
        list(found),
        loc=where,
        ncols=columns or len(found),
        fontsize=8.5,
        frameon=False,
        handlelength=1.2,
        columnspacing=1.2,
    )


# ---- layers of networks ------------------------------------------------------------------------


def _layers(fresh: pd.DataFrame, network: str, batch: int) -> "Figure | None":
    """Show the speed of every convolution, depthwise ones by themselves, and poolings' times."""
    shown = pd.DataFrame(
        [
            (layer.operation, layer.workload.of(batch).name, number, _label(layer), _kind(layer))
            for number, layer in enumerate(LAYERS_OF_NETWORKS[network])
        ],
        columns=["operation", "workload", "layer", "label", "kind"],
    ).merge(fresh, on=["operation", "workload"])
    shown = shown[shown["layer"].isin(shown.loc[shown["contender"] == OURS, "layer"])]
    by_kind = {kind: shown[shown["kind"] == kind] for kind in KINDS}
    lines = [(kind, line) for kind, rows in by_kind.items() for line in _lines(rows)]
    if not lines:
        return None
    heights = [KINDS[kind] for kind, _ in lines]
    figure = _figure(WIDTH, 0.5 + sum(heights))
    figure.suptitle(f"{network}, batch {batch}", x=0.01, ha="left", fontsize=12, weight="bold")
    grid = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)
    panels: list[Axes] = list(grid[:, 0])
    names = [name for name in COLOURS if (shown["contender"] == name).any()]
    tops: dict[str, float] = {}
    for axes, (kind, line) in zip(panels, lines, strict=True):
        pooling = kind == POOLINGS
        _plain(axes, "" if kind in tops else kind, "ms" if pooling else "GFLOP/s")
        if pooling:
            axes.set_yscale("log")
            axes.margins(y=0.15)
        _groups(axes, line, names, pooling)
        across = max(FEWEST_PER_LINE, _lines(by_kind[kind])[0]["layer"].nunique())
        axes.set_xlim(-0.5, across - 0.5)
        if pooling:
            _plain_ticks(axes.yaxis)
        tops[kind] = max(tops.get(kind, 0), axes.get_ylim()[1])
    for axes, (kind, _) in zip(panels, lines, strict=True):
        axes.set_ylim(top=tops[kind])
    _legend(figure, panels, "outside upper right")
    return figure


def _kind(layer: Layer) -> str:
    if not layer.workload.filters:
        return POOLINGS
    return DEPTHWISE if layer.workload.is_depthwise else CONVOLUTIONS


def _lines(rows: pd.DataFrame) -> list[pd.DataFrame]:
    """Cut the layers into lines about equally long."""
    numbers = list(dict.fromkeys(rows["layer"]))
    length = math.ceil(len(numbers) / math.ceil(len(numbers) / MOST_PER_LINE)) if numbers else 1
    cuts = range(0, len(numbers), length)
    return [rows[rows["layer"].isin(numbers[first : first + length])] for first in cuts]


def _groups(axes: "Axes", line: pd.DataFrame, names: list[str], pooling: bool) -> None:
    """Show bars or, where the axis has no zero, points, under a line for the limit that binds."""
    places = {number: place for place, number in enumerate(dict.fromkeys(line["layer"]))}

    def value(seconds: "pd.Series[float]") -> "pd.Series[float]":
        return seconds * 1e3 if pooling else line["flops"] / seconds / 1e9

    line = line.assign(
        x=line["layer"].map(places),
        height=value(line["seconds"]),
        limit_height=value(line["limit_seconds"]),
    )
    width = BARS / len(names)
    for i, name in enumerate(names):
        rows = line[line["contender"] == name]
        x = rows["x"] + (i + 0.5) * width - BARS / 2
        if pooling:
            axes.plot(x, rows["height"], "o", color=COLOURS[name], label=name, markersize=6)
        else:
            axes.bar(x, rows["height"], width, color=COLOURS[name], label=name)
    ours = line[line["contender"] == OURS]
    for row in ours[ours["limit"].notna()].itertuples():
        ends = row.x - BARS / 2, row.x + BARS / 2
        heights = (row.limit_height, row.limit_height)
        axes.plot(ends, heights, color="black", linewidth=1.4, label=LIMIT_LABEL)
        axes.annotate(
            row.limit,
            (row.x, row.limit_height),
            (0, -8 if pooling else 2),
            textcoords="offset points",
            ha="center",
            fontsize=6.5,
            color=GREY,
        )
    axes.set_xticks(range(len(ours)), list(ours["label"]))


def _label(layer: Layer) -> str:
    w = layer.workload
    window = f"{w.kernel}×{w.kernel}/{w.stride} @{w.size}"
    times = f" ×{layer.times}" if layer.times > 1 else ""
    return f"{_channels(w)}\n{window}{times}"


def _channels(w: Workload) -> str:
    if not w.filters:
        return f"{w.c}"
    if w.is_depthwise:
        return f"{w.c} depthwise"
    return f"{w.c}→{w.filters}" + (f" in {w.groups} groups" if w.groups > 1 else "")


# ---- scaling -----------------------------------------------------------------------------------


def _scaling(fresh: pd.DataFrame, of_run: pd.DataFrame) -> "Figure | None":
    """Show time against threads, and against one number of a workload."""
    panels = []
    for operation, workload in THREADED:
        rows = fresh[(fresh["operation"] == operation) & (fresh["workload"] == workload.name)]
        title = f"{operation} {_short(workload)}"
        panels.append((title, "threads", rows.assign(x=rows["threads"])))
    for axis, points in CURVES.items():
        places = {workload.name: x for x, workload in points.items()}
        rows = of_run[(of_run["operation"] == "conv2d") & of_run["workload"].isin(places)]
        panels.append((f"conv2d, {axis}", axis, rows.assign(x=rows["workload"].map(places))))
    panels = [panel for panel in panels if (panel[2]["contender"] == OURS).sum() > 1]
    if not panels:
        return None
    across = 4
    down = math.ceil((len(panels) + 1) / across)  # The legend needs a place, too.
    figure = _figure(WIDTH, down * 3.3)
    grid: list[Axes] = list(figure.subplots(down, across, squeeze=False).ravel())
    for axes, (title, axis, rows) in zip(grid, panels, strict=False):
        _curve(axes, title, axis, rows.sort_values("x", kind="stable"))
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    _legend(grid[-1], grid, "center", columns=1)
    return figure


def _short(w: Any) -> str:
    text = f"({w.n}, {w.c}, {w.size}) {w.kernel}×{w.kernel}"
    return text + (f"/{w.stride}" if w.stride > 1 else "")


def _curve(axes: "Axes", title: str, axis: str, rows: pd.DataFrame) -> None:
    _plain(axes, title, "ms")
    axes.set_yscale("log")
    if axis != "kernel size":
        axes.set_xscale("log", base=2)
    for name, colour in COLOURS.items():
        found = rows[rows["contender"] == name]
        if found.empty:
            continue
        x, median = found["x"], found["median"] * 1e3
        low, high = found["lower_quartile"] * 1e3, found["upper_quartile"] * 1e3
        axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
        axes.plot(x, median, "o-", color=colour, label=name, markersize=3.5, linewidth=1.5)
        if axis == "threads" and name == OURS:
            ideal = median.iloc[0] * x.iloc[0] / x
            axes.plot(x, ideal, ":", color=GREY, label="ideal", linewidth=1.4, zorder=3)
    limits = rows[(rows["contender"] == OURS) & rows["limit"].notna()]
    if len(limits):
        seconds = limits["limit_seconds"] * 1e3
        axes.plot(limits["x"], seconds, color="black", linewidth=1.4, label=LIMIT_LABEL)
    ticks = sorted(set(rows["x"]))
    axes.set_xticks(ticks, list(map(str, ticks)))
    axes.xaxis.minorticks_off()
    axes.set_xlabel(axis, fontsize=8)
    _plain_ticks(axes.yaxis)


def _plain_ticks(axis: Any) -> None:
    """Write 0.1 and 100 rather than powers of ten, and few of them."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    low, high = axis.get_view_interval()
    few = high < 300 * low
    axis.set_major_locator(LogLocator(10, subs=(1.0, 2.0, 5.0) if few else (1.0,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


# ---- summary -----------------------------------------------------------------------------------


def _summary(fresh: pd.DataFrame) -> "Figure | None":
    """Show how many times longer peers take for all convolutions of a network, batch by batch."""
    ratios = {batch: _ratios(fresh, batch) for batch in sorted(BATCHES, reverse=True)}
    ratios = {batch: of_batch for batch, of_batch in ratios.items() if not of_batch.empty}
    if not ratios:
        return None
    figure = _figure(1200 / DPI, (80 + 210 * len(ratios)) / DPI)
    figure.suptitle(SUMMARY_TITLE, x=0.01, ha="left", fontsize=11, weight="bold")
    panels: list[Axes] = list(figure.subplots(len(ratios), 1, squeeze=False, sharey=True)[:, 0])
    for axes, (batch, of_batch) in zip(panels, ratios.items(), strict=True):
        _ratio_bars(axes, f"{batch} image{'s' if batch > 1 else ''}", of_batch)
    _legend(figure, panels, "outside upper right")
    return figure


def _ratios(fresh: pd.DataFrame, batch: int) -> pd.DataFrame:
    """Give, by network and peer, what peers that have all layers take relative to ours."""
    totals = {network: network_totals(fresh, network, batch) for network in LAYERS_OF_NETWORKS}
    seconds = pd.DataFrame.from_dict(totals, orient="index", dtype=float)
    if OURS not in seconds:
        return pd.DataFrame()
    best = {
        peer: seconds.reindex(columns=names).min(axis=1) / seconds[OURS]
        for peer, names in PEERS.items()
    }
    return pd.DataFrame(best).dropna(how="all").dropna(how="all", axis=1)


def _ratio_bars(axes: "Axes", title: str, ratios: pd.DataFrame) -> None:
    """Draw bars that start at 1, ours, and say their length."""
    _plain(axes, title)
    axes.grid(visible=False)
    axes.set_yscale("log")
    axes.axhline(1, color=COLOURS[OURS], linewidth=1.6, label=f"{OURS} = 1", zorder=3)
    width = BARS / len(ratios.columns)
    for i, peer in enumerate(ratios.columns):
        found = ratios[peer].reset_index(drop=True).dropna()
        places = found.index + (i + 0.5) * width - BARS / 2
        colour = COLOURS[PEERS[peer][0]]
        bars = axes.bar(places, found - 1, 0.92 * width, bottom=1, color=colour, label=peer)
        axes.bar_label(bars, [digits(ratio, 2) for ratio in found], fontsize=8, padding=1)
    axes.margins(y=0.2)
    axes.spines["left"].set_visible(False)
    axes.spines["bottom"].set_visible(False)
    axes.set_yticks([])
    axes.minorticks_off()
    axes.set_xlim(-0.5, len(ratios) - 0.5)
    axes.set_xticks(range(len(ratios)), list(ratios.index), fontsize=9.5)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("results", type=results_file, metavar="RESULTS.json")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")


def main(options: argparse.Namespace) -> int:
    pictures = draw(options.results, options.out)
    print(f"{len(pictures)} pictures in {options.out}")
    return 0
