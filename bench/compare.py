"""Tells two results apart: which of our calls became slower or faster, beyond the machine's noise.

Samples of one block are alike, because the machine has phases; so the medians of blocks are what
is tested, by the two-sided Mann-Whitney U. But two runs also differ for reasons that are not ours.
Contenders that did not change between them show how much: the median of their ratios is the drift
of the machine, which ours are freed from, and what 95 % of them differ from it is its noise, which
a change must exceed.
"""

import argparse
import importlib
import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bench.machine import Machine
from bench.peers import LIMIT, OURS
from bench.report import aligned
from bench.results import CASE, Results, fail, results_file

# A difference counts if the test would find it this often between equal runs.
LEVEL = 0.01
# With fewer controls, drift and noise cannot be told: no drift and this noise are assumed.
FEWEST_CONTROLS = 10
DEFAULT_NOISE = 0.05
CHANGES_ANYWAY = ["load", "clock", "fastconv: idle memory"]
MUST_AGREE = ("cpu", "threads")

SLOWER, FASTER, SAME = "slower", "faster", "no difference shown"
KEY = [*CASE, "contender", "mode"]


@dataclass(frozen=True)
class Noise:
    """Of the machine, between two runs; `drift` and `spread` are logarithms of ratios."""

    drift: float = 0.0
    spread: float = math.log1p(DEFAULT_NOISE)
    controls: int = 0


@dataclass(frozen=True)
class Comparison:
    """`changes` has our rows that both runs have, slowest first.

    Its columns are the key of a row, seconds_before, seconds_after, ratio (after / before, without
    the drift), p, verdict, and testable: whether there are blocks enough for the test to say
    anything.
    """

    noise: Noise
    changes: pd.DataFrame
    only_before: pd.DataFrame
    only_after: pd.DataFrame


def compare(before: Results, after: Results) -> Comparison:
    both = before.table()[[*KEY, "seconds", "block_medians"]].merge(
        after.table()[[*KEY, "seconds", "block_medians"]],
        how="outer",
        on=KEY,
        suffixes=("_before", "_after"),
        indicator="where",
    )
    common = both[both["where"] == "both"]
    ours = both[both["contender"] == OURS]
    kept = before.machine.versions.items() & after.machine.versions.items()
    unchanged = {_first_word(library) for library, _ in kept}
    noise = noise_of(common[_are_controls(common, unchanged)])
    return Comparison(
        noise,
        changes(ours[ours["where"] == "both"], noise),
        ours[ours["where"] == "left_only"],
        ours[ours["where"] == "right_only"],
    )


def _are_controls(rows: pd.DataFrame, unchanged: set[str]) -> Any:
    """Whether a row's contender, "torch channels_last", is of an unchanged library, "torch"."""
    of_unchanged = rows["contender"].map(_first_word).isin(unchanged)
    return (rows["mode"] == LIMIT) | ((rows["contender"] != OURS) & of_unchanged)


def _first_word(name: str) -> str:
    return re.split("[ ,-]", name)[0]


def noise_of(controls: pd.DataFrame) -> Noise:
    """Give the noise that controls show, or if there are too few what is assumed."""
    if len(controls) < FEWEST_CONTROLS:
        return Noise(controls=len(controls))
    ratios = np.log(controls["seconds_after"] / controls["seconds_before"])
    drift = float(ratios.median())
    return Noise(drift, float((ratios - drift).abs().quantile(0.95)), len(ratios))


def changes(common: pd.DataFrame, noise: Noise) -> pd.DataFrame:
    """Judge rows that both runs have."""
    drift = math.exp(noise.drift)
    found = common.assign(ratio=common["seconds_after"] / common["seconds_before"] / drift)
    blocks = list(zip(found["block_medians_before"], found["block_medians_after"], strict=True))
    test = _stats().mannwhitneyu
    found["p"] = [float(test(old, np.divide(new, drift)).pvalue) for old, new in blocks]
    # The p of medians that do not overlap is the least that the test can give.
    least = [2 / math.comb(len(old) + len(new), len(old)) for old, new in blocks]
    found["testable"] = np.array(least, float) <= LEVEL
    found["exceeds"] = np.log(found["ratio"].astype(float)).abs() > noise.spread
    changed = (found["p"] <= LEVEL) & found["exceeds"]
    verdicts = np.where(found["ratio"] > 1, SLOWER, FASTER)
    found["verdict"] = np.where(changed, verdicts, SAME)
    return found.sort_values(["ratio", *KEY], ascending=[False, *[True] * len(KEY)])


def _stats() -> Any:
    try:
        return importlib.import_module("scipy.stats")
    except ImportError:
        fail("the comparison needs SciPy: pip install 'fastconv[test]'")


def facts(machine: Machine) -> dict[str, str]:
    """Give whatever is known about a machine, each fact under a name of its own."""
    found = pd.json_normalize(vars(machine), sep=": ").iloc[0]
    return {str(name): str(value) for name, value in found.items()}


def differences(before: Results, after: Results) -> pd.DataFrame:
    """Give what differs between the machines, under its name."""
    both = pd.DataFrame({"before": facts(before.machine), "after": facts(after.machine)})
    both = both.fillna("-").drop(index=CHANGES_ANYWAY, errors="ignore")
    return both[both["before"] != both["after"]]


def report(before: Results, after: Results, found: Comparison, everything: bool) -> str:
    differing = differences(before, after)
    parts = [aligned(differing.reset_index(names="machine"))] if len(differing) else []
    parts += [
        f"WARNING: {name} differs, so the times cannot be compared"
        for name in MUST_AGREE
        if name in differing.index
    ]
    parts.append(_noise(found.noise))
    same = found.changes["verdict"] == SAME
    for rows, shown in ((found.changes[~same], True), (found.changes[same], everything)):
        if shown and len(rows):
            parts.append(_changes(rows))
    for name, rows in (("before", found.only_before), ("after", found.only_after)):
        if len(rows):
            parts.append("\n  ".join([f"measured only {name}:", *_names(rows)]))
    parts.append(_counts(found.changes))
    return "\n\n".join(parts)


def _noise(noise: Noise) -> str:
    if noise.controls < FEWEST_CONTROLS:
        few = f"{noise.controls} controls are too few to tell drift and noise"
        return f"{few}: taken as none and {DEFAULT_NOISE:.0%}"
    drift, spread = math.expm1(noise.drift), math.expm1(noise.spread)
    times = f"{noise.controls} times of what did not change"
    return f"drift {drift:+.1%}, noise {spread:.1%}, by {times}"


def _changes(rows: pd.DataFrame) -> str:
    times = rows[["seconds_before", "seconds_after"]].mul(1e3).map("{:.4g}".format)
    shown = {
        "": _names(rows),
        "before, ms": times["seconds_before"].str.rjust(10),
        "after, ms": times["seconds_after"].str.rjust(9),
        "ratio": (rows["seconds_after"] / rows["seconds_before"]).round(3),
        "without drift": rows["ratio"].round(3),
        "p": rows["p"].round(4),
        "verdict": rows["verdict"].where(rows["testable"], "too few blocks"),
    }
    return aligned(pd.DataFrame(shown))


def _names(rows: pd.DataFrame) -> "pd.Series[str]":
    what = rows["operation"] + " " + rows["workload"] + ", " + rows["mode"]
    return what + ", threads " + rows["threads"].astype(str)


def _counts(found: pd.DataFrame) -> str:
    counts = found["verdict"].value_counts()
    text = ", ".join(
        f"{counts.get(verdict, 0)} {name}"
        for verdict, name in ((SLOWER, SLOWER), (FASTER, FASTER), (SAME, "without a difference"))
    )
    untold = int((~found["testable"] & found["exceeds"]).sum())
    if untold:
        text += f"; {untold} of these differ by more than the noise, but have too few blocks"
    return text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("before", type=results_file, metavar="BEFORE.json")
    parser.add_argument("after", type=results_file, metavar="AFTER.json")
    parser.add_argument("--all", action="store_true", help="show what did not change, too")


def main(options: argparse.Namespace) -> int:
    """Print the comparison; give 1 if anything became slower."""
    found = compare(options.before, options.after)
    print(report(options.before, options.after, found, options.all))
    return int((found.changes["verdict"] == SLOWER).any())
