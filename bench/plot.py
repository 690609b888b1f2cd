"""Draws results: the layers of networks, scaling, and a summary for the README.

A contender has one colour everywhere (Okabe and Ito's, which the colour-blind can tell apart).
What was not measured is left out.
"""

# ruff: noqa: RUF001 - signs that the reader is to see

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.command import fail, results_file
from bench.results import OURS, Results, Row, bound_of, find
from bench.shapes import BATCHES, CURVES, LAYERS_OF_NETWORKS, THREADED, Layer, Workload
from bench.targets import TORCH_LAYOUTS
from bench.totals import network_totals

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 110
WIDTH = 12.8  # inches
CONVOLUTIONS, DEPTHWISE, POOLINGS = "convolutions", "depthwise convolutions", "poolings"
KINDS = {CONVOLUTIONS: 2.7, DEPTHWISE: 2.2, POOLINGS: 2.2}  # inches of height
FEWEST_A_LINE, MOST_A_LINE = 3, 9  # layers
BARS = 0.84  # of the distance between two groups
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
# What the summary shows: the better of several contenders under the colour of the first.
PEERS = {
    "PyTorch": TORCH_LAYOUTS,
    "onnxruntime": ("onnxruntime",),
    "JAX": ("jax",),
    "OpenCV": ("opencv dnn",),
    "NumPy": ("numpy",),
}
SUMMARY = "summary.png"
SUMMARY_TITLE = "All convolutions: times longer than with fastconv"
LIMIT_LABEL = "limit of the machine"


@dataclass(frozen=True)
class Picture:
    file: str
    title: str


def draw(results: Results, folder: Path) -> list[Picture]:
    """Write all pictures that there is something to show in."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = []
    for picture, figure in _figures(results):
        if figure is not None:
            figure.savefig(folder / picture.file, dpi=DPI)
            pictures.append(picture)
    return pictures


def _figures(results: Results) -> "Iterator[tuple[Picture, Figure | None]]":
    yield (
        Picture(SUMMARY, SUMMARY_TITLE),
        summary(results),
    )
    for network in LAYERS_OF_NETWORKS:
        for batch in BATCHES:
            file = f"{network.lower()}-batch-{batch}.png"
            title = f"Layers of {network}, batch {batch}"
            yield Picture(file, title), layers(results, network, batch)
    yield Picture("scaling.png", "How time scales"), scaling(results)


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
    if LIMIT_LABEL in found:  # last
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


def layers(results: Results, network: str, batch: int) -> "Figure | None":
    """Show the speed of every convolution, depthwise ones by themselves, and poolings' times."""
    kinds: dict[str, list[tuple[Layer, list[Row]]]] = {kind: [] for kind in KINDS}
    for layer in LAYERS_OF_NETWORKS[network]:
        rows = results.of_case(layer.operation, layer.workload.of(batch).name)
        if find(rows, OURS, "fresh"):
            kinds[_kind(layer.workload)].append((layer, rows))
    lines = [(kind, line) for kind, cases in kinds.items() for line in _lines(cases)]
    if not lines:
        return None
    heights = [KINDS[kind] for kind, _ in lines]
    figure = _figure(WIDTH, 0.5 + sum(heights))
    figure.suptitle(f"{network}, batch {batch}", x=0.01, ha="left", fontsize=12, weight="bold")
    grid = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)
    panels: list[Axes] = list(grid[:, 0])
    names = _present([rows for cases in kinds.values() for _, rows in cases])
    tops: dict[str, float] = {}
    for axes, (kind, line) in zip(panels, lines, strict=True):
        pooling = kind == POOLINGS
        _plain(axes, "" if kind in tops else kind, "ms" if pooling else "GFLOP/s")
        across = max(FEWEST_A_LINE, len(_lines(kinds[kind])[0]))
        if pooling:
            axes.set_yscale("log")
            axes.margins(y=0.15)
        _groups(axes, line, names, _milliseconds if pooling else _gflops, across, not pooling)
        if pooling:
            _plain_ticks(axes.yaxis)
        tops[kind] = max(tops.get(kind, 0), axes.get_ylim()[1])
    for axes, (kind, _) in zip(panels, lines, strict=True):
        axes.set_ylim(top=tops[kind])
    _legend(figure, panels, "outside upper right")
    return figure


def _kind(w: Workload) -> str:
    if not w.filters:
        return POOLINGS
    return DEPTHWISE if is_depthwise(w) else CONVOLUTIONS


def is_depthwise(w: Workload) -> bool:
    return w.groups == w.c > 1


def _lines(cases: list[tuple[Layer, list[Row]]]) -> list[list[tuple[Layer, list[Row]]]]:
    """Cut them into lines about equally long."""
    if not cases:
        return []
    length = math.ceil(len(cases) / math.ceil(len(cases) / MOST_A_LINE))
    return [cases[i : i + length] for i in range(0, len(cases), length)]


def _present(cases: list[list[Row]]) -> list[str]:
    """Give the contenders that have a bar anywhere."""
    return [name for name in COLOURS if any(find(rows, name, "fresh") for rows in cases)]


def _gflops(row: Row, seconds: float) -> float:
    return row.flops / seconds / 1e9


def _milliseconds(row: Row, seconds: float) -> float:
    return seconds * 1e3


def _groups(
    axes: "Axes",
    cases: list[tuple[Layer, list[Row]]],
    names: list[str],
    value: Callable[[Row, float], float],
    across: int,
    bars: bool,
) -> None:
    """Show bars or, where the axis has no zero, points, under a line for the limit that binds."""
    width = BARS / len(names)
    for i, name in enumerate(names):
        found = [(x, find(rows, name, "fresh")) for x, (_, rows) in enumerate(cases)]
        points = [(x, value(row, row.seconds)) for x, row in found if row]
        places = [x + (i + 0.5) * width - BARS / 2 for x, _ in points]
        heights = [height for _, height in points]
        if bars:
            axes.bar(places, heights, width, color=COLOURS[name], label=name)
        else:
            axes.plot(places, heights, "o", color=COLOURS[name], label=name, markersize=6)
    for x, (_, rows) in enumerate(cases):
        ours = find(rows, OURS, "fresh")
        if ours and (bound := bound_of(ours, rows)):
            limit = value(ours, bound.share * ours.seconds)
            ends = x - BARS / 2, x + BARS / 2
            axes.plot(ends, (limit, limit), color="black", linewidth=1.4, label=LIMIT_LABEL)
            axes.annotate(
                bound.name,
                (x, limit),
                (0, 2 if bars else -8),
                textcoords="offset points",
                ha="center",
                fontsize=6.5,
                color=GREY,
            )
    axes.set_xlim(-0.5, across - 0.5)
    axes.set_xticks(range(len(cases)), [_layer_label(layer) for layer, _ in cases])


def _layer_label(layer: Layer) -> str:
    w = layer.workload
    window = f"{w.kernel}×{w.kernel}/{w.stride} @{w.size}"
    times = f" ×{layer.times}" if layer.times > 1 else ""
    return f"{_channels(w)}\n{window}{times}"


def _channels(w: Workload) -> str:
    if not w.filters:
        return f"{w.c}"
    if is_depthwise(w):
        return f"{w.c} depthwise"
    return f"{w.c}→{w.filters}" + (f" in {w.groups} groups" if w.groups > 1 else "")


# ---- scaling -----------------------------------------------------------------------------------


def scaling(results: Results) -> "Figure | None":
    """Show time against threads, and against one number of a workload."""
    counts = sorted({row.threads for row in results.rows})
    panels = [
        (
            f"{operation} {_short(workload)}",
            "threads",
            [(n, results.of_case(operation, workload.name, n)) for n in counts],
        )
        for operation, workload in THREADED
        if isinstance(workload, Workload)
    ] + [
        (
            f"{curve.operation}, {curve.axis}",
            curve.axis,
            [(x, results.of_case(curve.operation, w.name)) for x, w in curve.points],
        )
        for curve in CURVES
    ]
    panels = [
        (title, axis, points)
        for title, axis, points in panels
        if sum(find(rows, OURS, "fresh") is not None for _, rows in points) > 1
    ]
    if not panels:
        return None
    across = 4
    down = math.ceil((len(panels) + 1) / across)  # and the legend
    figure = _figure(WIDTH, down * 3.3)
    grid: list[Axes] = list(figure.subplots(down, across, squeeze=False).ravel())
    for axes, (title, axis, points) in zip(grid, panels, strict=False):
        _curve(axes, title, axis, points)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    _legend(grid[-1], grid, "center", columns=1)
    return figure


def _short(w: Workload) -> str:
    text = f"({w.n}, {w.c}, {w.size}) {w.kernel}×{w.kernel}"
    return text + (f"/{w.stride}" if w.stride > 1 else "")


def _curve(axes: "Axes", title: str, axis: str, points: list[tuple[int, list[Row]]]) -> None:
    _plain(axes, title, "ms")
    axes.set_yscale("log")
    if axis != "kernel size":
        axes.set_xscale("log", base=2)
    for name, colour in COLOURS.items():
        found = [(x, row.timing) for x, rows in points if (row := find(rows, name, "fresh"))]
        times = [(x, t) for x, t in found if t]
        if not times:
            continue
        xs = [x for x, _ in times]
        lower, median, upper = (
            [1e3 * getattr(t, part) for _, t in times]
            for part in ("lower_quartile", "median", "upper_quartile")
        )
        axes.fill_between(xs, lower, upper, color=colour, alpha=0.2, linewidth=0)
        axes.plot(xs, median, "o-", color=colour, label=name, markersize=3.5, linewidth=1.5)
        if axis == "threads" and name == OURS:
            ideal = [median[0] * xs[0] / x for x in xs]
            axes.plot(xs, ideal, ":", color=GREY, label="ideal", linewidth=1.4, zorder=3)
    limits = [
        (x, 1e3 * bound.share * ours.seconds)
        for x, rows in points
        if (ours := find(rows, OURS, "fresh")) and (bound := bound_of(ours, rows))
    ]
    if limits:
        axes.plot(*zip(*limits, strict=True), color="black", linewidth=1.4, label=LIMIT_LABEL)
    axes.set_xticks([x for x, _ in points], [str(x) for x, _ in points])
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


def summary(results: Results) -> "Figure | None":
    """Show how many times longer peers take for all convolutions of a network, batch by batch."""
    ratios = {batch: _ratios(results, batch) for batch in sorted(BATCHES, reverse=True)}
    ratios = {batch: of_batch for batch, of_batch in ratios.items() if of_batch}
    if not ratios:
        return None
    figure = _figure(1200 / DPI, (80 + 210 * len(ratios)) / DPI)
    figure.suptitle(
        SUMMARY_TITLE,
        x=0.01,
        ha="left",
        fontsize=11,
        weight="bold",
    )
    panels: list[Axes] = list(figure.subplots(len(ratios), 1, squeeze=False, sharey=True)[:, 0])
    for axes, (batch, of_batch) in zip(panels, ratios.items(), strict=True):
        _ratio_bars(axes, f"{batch} image{'s' if batch > 1 else ''}", of_batch)
    _legend(figure, panels, "outside upper right")
    return figure


def _ratios(results: Results, batch: int) -> dict[str, dict[str, float]]:
    """Give, by network, what the peers that have all layers take relative to ours."""
    found = {}
    for network in LAYERS_OF_NETWORKS:
        totals = network_totals(results, network, batch)
        of_network = {
            peer: min(times) / totals[OURS]
            for peer, names in PEERS.items()
            if OURS in totals and (times := [totals[name] for name in names if name in totals])
        }
        if of_network:
            found[network] = of_network
    return found


def _ratio_bars(axes: "Axes", title: str, ratios: dict[str, dict[str, float]]) -> None:
    """Draw bars that start at 1, ours, and say their length."""
    _plain(axes, title)
    axes.grid(visible=False)
    axes.set_yscale("log")
    names = [peer for peer in PEERS if any(peer in found for found in ratios.values())]
    axes.axhline(1, color=COLOURS[OURS], linewidth=1.6, label=f"{OURS} = 1", zorder=3)
    width = BARS / len(names)
    for i, peer in enumerate(names):
        points = [(x, found[peer]) for x, found in enumerate(ratios.values()) if peer in found]
        places = [x + (i + 0.5) * width - BARS / 2 for x, _ in points]
        colour = COLOURS[PEERS[peer][0]]
        lengths = [ratio - 1 for _, ratio in points]
        bars = axes.bar(places, lengths, 0.92 * width, bottom=1, color=colour, label=peer)
        axes.bar_label(bars, [two_digits(ratio) for _, ratio in points], fontsize=8, padding=1)
    axes.margins(y=0.2)
    axes.spines["left"].set_visible(False)
    axes.spines["bottom"].set_visible(False)
    axes.set_yticks([])
    axes.minorticks_off()
    axes.set_xlim(-0.5, len(ratios) - 0.5)
    axes.set_xticks(range(len(ratios)), list(ratios), fontsize=9.5)


def two_digits(ratio: float) -> str:
    return f"{ratio:.{max(0, 1 - math.floor(math.log10(ratio)))}f}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("results", type=results_file, metavar="RESULTS.json")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")


def main(options: argparse.Namespace) -> int:
    pictures = draw(options.results, options.out)
    print(f"{len(pictures)} pictures in {options.out}")
    return 0
