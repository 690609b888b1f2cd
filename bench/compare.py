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
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.command import facts, fail, results_file
from bench.results import LIMIT, OURS, Results, Row
from fastconv._text import table

LEVEL = 0.01  # of the test
DEFAULT_NOISE = 0.05
FEWEST_CONTROLS = 10  # below, drift and noise cannot be told
CHANGES_ANYWAY = ("load", "fastconv: idle memory")
MUST_AGREE = ("cpu", "threads")

SLOWER, FASTER, SAME = "slower", "faster", "no difference shown"

Key = tuple[str, str, int, str, str]


@dataclass(frozen=True)
class Noise:
    """Of the machine, between two runs; `drift` and `spread` are logarithms of ratios."""

    drift: float = 0.0
    spread: float = math.log1p(DEFAULT_NOISE)
    controls: int = 0

    def exceeded_by(self, ratio: float) -> bool:
        return abs(math.log(ratio)) > self.spread


@dataclass(frozen=True)
class Change:
    before: Row
    after: Row
    ratio: float  # after / before, without the drift
    p: float
    verdict: str
    testable: bool  # whether there are blocks enough for the test to say anything


@dataclass(frozen=True)
class Comparison:
    noise: Noise
    changes: list[Change]  # slowest first
    only_before: list[Row]
    only_after: list[Row]


def compare(before: Results, after: Results) -> Comparison:
    old, new = _timed(before), _timed(after)
    common = old.keys() & new.keys()
    same = {
        library
        for library, version in before.machine.versions.items()
        if after.machine.versions.get(library) == version
    }
    noise = noise_of(
        math.log(new[key].seconds / old[key].seconds)
        for key in common
        if _is_control(old[key], same)
    )
    changes = [change(old[key], new[key], noise) for key in common if old[key].contender == OURS]
    return Comparison(
        noise,
        sorted(changes, key=lambda change: (-change.ratio, _key(change.before))),
        [row for key, row in old.items() if row.contender == OURS and key not in new],
        [row for key, row in new.items() if row.contender == OURS and key not in old],
    )


def noise_of(log_ratios: Iterable[float]) -> Noise:
    """Give the noise that controls show, or if there are too few what is assumed."""
    ratios = list(log_ratios)
    if len(ratios) < FEWEST_CONTROLS:
        return Noise(controls=len(ratios))
    drift = statistics.median(ratios)
    spread = float(np.percentile(np.abs(np.array(ratios) - drift), 95))
    return Noise(drift, spread, len(ratios))


def change(before: Row, after: Row, noise: Noise) -> Change:
    assert before.timing
    assert after.timing
    drift = math.exp(noise.drift)
    old = before.timing.block_medians
    new = [median / drift for median in after.timing.block_medians]
    ratio = after.seconds / before.seconds / drift
    p = float(_stats().mannwhitneyu(old, new).pvalue)
    verdict = SAME
    if p <= LEVEL and noise.exceeded_by(ratio):
        verdict = SLOWER if ratio > 1 else FASTER
    least = 2 / math.comb(len(old) + len(new), len(old))  # the p of medians that do not overlap
    return Change(before, after, ratio, p, verdict, least <= LEVEL)


def _stats() -> Any:
    try:
        return importlib.import_module("scipy.stats")
    except ImportError:
        fail("the comparison needs SciPy: pip install 'fastconv[test]'")


def _key(row: Row) -> Key:
    return row.operation, row.workload, row.threads, row.contender, row.mode


def _timed(results: Results) -> dict[Key, Row]:
    return {_key(row): row for row in results.rows if row.timing}


def _is_control(row: Row, unchanged: set[str]) -> bool:
    """Whether a row's contender, "torch channels_last", is of an unchanged library, "torch"."""
    return row.mode == LIMIT or (
        row.contender != OURS and _first_word(row.contender) in map(_first_word, unchanged)
    )


def _first_word(name: str) -> str:
    return re.split("[ ,-]", name)[0]


def differences(before: Results, after: Results) -> list[tuple[str, str, str]]:
    """Give what differs between the machines: its name, before, after."""
    old, new = facts(before.machine), facts(after.machine)
    return [
        (name, old.get(name, "-"), new.get(name, "-"))
        for name in {**old, **new}
        if old.get(name) != new.get(name) and name not in CHANGES_ANYWAY
    ]


def report(before: Results, after: Results, found: Comparison, everything: bool) -> str:
    parts = []
    differing = differences(before, after)
    if differing:
        parts.append(table(("machine", "before", "after"), differing, left=3))
    parts += [
        f"WARNING: {name} differs, so the times cannot be compared"
        for name, _, _ in differing
        if name in MUST_AGREE
    ]
    parts.append(_noise(found.noise))
    changed = [change for change in found.changes if change.verdict != SAME]
    same = [change for change in found.changes if change.verdict == SAME]
    if changed:
        parts.append(_changes(changed))
    for name, rows in (("before", found.only_before), ("after", found.only_after)):
        if rows:
            lines = [f"  {_name(row)}" for row in rows]
            parts.append("\n".join([f"measured only {name}:", *lines]))
    if everything and same:
        parts.append(_changes(same))
    parts.append(_counts(changed, same, found.noise))
    return "\n\n".join(parts)


def _noise(noise: Noise) -> str:
    if noise.controls < FEWEST_CONTROLS:
        return (
            f"{noise.controls} controls are too few to tell drift and noise: taken as none and "
            f"{DEFAULT_NOISE:.0%}"
        )
    return (
        f"drift {math.expm1(noise.drift):+.1%}, noise {math.expm1(noise.spread):.1%}, by "
        f"{noise.controls} times of what did not change"
    )


def _changes(changes: list[Change]) -> str:
    heads = ("", "before, ms", "after, ms", "ratio", "without drift", "p", "verdict")
    rows = [
        (
            _name(change.before),
            f"{change.before.seconds * 1e3:.4g}",
            f"{change.after.seconds * 1e3:.4g}",
            f"{change.after.seconds / change.before.seconds:.3f}",
            f"{change.ratio:.3f}",
            f"{change.p:.4f}",
            change.verdict if change.testable else "too few blocks",
        )
        for change in changes
    ]
    return table(heads, rows, left=1)


def _name(row: Row) -> str:
    return f"{row.operation} {row.workload}, {row.mode}, threads {row.threads}"


def _counts(changed: list[Change], same: list[Change], noise: Noise) -> str:
    slower = sum(change.verdict == SLOWER for change in changed)
    text = f"{slower} slower, {len(changed) - slower} faster, {len(same)} without a difference"
    untold = sum(not change.testable and noise.exceeded_by(change.ratio) for change in same)
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
    return int(any(change.verdict == SLOWER for change in found.changes))
