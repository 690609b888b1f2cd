"""The benchmark's judgements, on results that are made up: nothing is timed here."""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from math import log, prod
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

from fastconv.layers import AveragePooling, Convolution, Pooling
from fastconv.models import VGG, AlexNet, LeNet, Sequential

pytest.importorskip("bench", reason="bench/ is in no wheel: python -m pytest, in a checkout")
pytest.importorskip("pandas", reason="pandas is not installed, which makes the benchmark's tables")

from bench import busy, compare, peers, plot, process, publish, report, run, updates
from bench.__main__ import main as bench_main
from bench.compare import facts
from bench.machine import Machine
from bench.peers import FMA_PEAK, HIGH, LIMIT, OURS
from bench.process import Offer, Process, ProcessDied
from bench.results import (
    AccuracyRow,
    LimitRow,
    MemoryRow,
    Results,
    Row,
    load,
    network_totals,
    results_file,
    table_of,
)
from bench.shapes import (
    BATCHES,
    CONVOLUTION_OPERATIONS,
    LAYERS_OF_NETWORKS,
    POOLING,
    SECTIONS,
    SIGNALS,
    THREADED,
    Measurement,
    UpdateTask,
    Workload,
    thread_counts,
)
from bench.targets import TARGETS, verdicts
from bench.timing import QUICK, Effort, Timing, is_disturbed
from bench.updates import UpdateCase

VERSIONS = {"numpy": "2.4.6", "torch": "2.13.0", "onnxruntime": "1.31.0", "jax": "0.8"}
# Times beside ours, about; "opencv dnn" is of a library that no version is known of.
PEERS = {
    OURS: 1.0,
    "numpy": 20.0,
    "torch": 1.5,
    "torch channels_last": 1.1,
    "onnxruntime": 1.2,
    "jax": 2.0,
    "opencv dnn": 1.4,
}


def machine(**changes: Any) -> Machine:
    about = Machine(
        cpu="Xeon",
        cores=4,
        load=0.1,
        system="Linux",
        python="3.11.2",
        versions=dict(VERSIONS),
        fastconv={"fastconv": "0.1.0", "CPU level": "v4 (available: v4, v3, base)"},
        threads=4,
        commit="0123abc",
        date="2026-11-21",
    )
    return replace(about, **changes)


def results(rows: list[Row], **changes: Any) -> Results:
    return Results(
        machine(**changes), Effort(5, 0.06, 0.06, 0.02, 4.0), {"scipy": "none"}, [], rows
    )


def timing(medians: list[float], spread: float = 0.02) -> Timing:
    median = statistics.median(medians)
    low, high = median * (1 - spread), median * (1 + spread)
    return Timing(median, min(medians), low, high, 100, medians)


def row(
    contender: str,
    seconds: float | list[float],
    workload: str = "w",
    operation: str = "conv2d",
    mode: str = "fresh",
    threads: int = 4,
    flops: int = 0,
) -> Row:
    medians = seconds if isinstance(seconds, list) else [seconds] * 5
    errors = [] if mode == LIMIT else [1.5e-7]
    return Row(operation, workload, threads, contender, mode, 0, flops, timing(medians), errors)


def everything() -> list[tuple[Measurement, int]]:
    """List all measurements with their numbers of threads."""
    measured = [(m, 4) for section in SECTIONS for m in section.measurements]
    measured += [(m, threads) for m in THREADED for threads in thread_counts(4)]
    return list(dict.fromkeys(measured))


class Maker:
    """Makes up results; `times` says how many times longer than usual a contender takes."""

    def __init__(
        self,
        noise: float = 0.02,
        blocks: int = 5,
        measured: list[tuple[Measurement, int]] | None = None,
    ) -> None:
        self.rng = np.random.default_rng(0)
        self.noise, self.blocks = noise, blocks
        self.measured = measured or everything()

    def __call__(self, times: Callable[[Row], float] = lambda row: 1.0) -> Results:
        rows = [
            made for measured, threads in self.measured for made in self._case(measured, threads)
        ]
        made = results([self._timed(row, times(row)) for row in rows])
        made.limits = [LimitRow(FMA_PEAK, 4, 760.0, "GFLOP/s"), LimitRow("copy", 4, 31.0, "GB/s")]
        made.memory = [MemoryRow("conv2d", self.measured[0][0].workload.name, 4, 9, 0, 4.0)]
        made.accuracy = [AccuracyRow("output", 576, {OURS: 8e-8, "numpy": 1e-7})]
        return made

    def _case(self, measured: Measurement, threads: int) -> list[Row]:
        operation, workload = measured
        flops, binding = 0, 0.05
        if isinstance(workload, Workload):
            elements = prod(workload.image_shape) + prod(workload.output_shape)
            if workload.filters:
                flops = 2 * prod(workload.output_shape) * prod(workload.weight_shape[1:])
            binding = 4e-6 + max(flops / 190e9, elements / 2e9) / threads
        made = []
        for contender, factor in PEERS.items():
            chance = zlib.crc32(f"{operation} {workload.name} {contender}".encode()) / 2**32
            seconds = binding / 0.75 * factor * (0.75 + 0.5 * chance)
            made.append(row(contender, seconds, workload.name, operation, "fresh", threads, flops))
        for limit, share in ((FMA_PEAK, 1.0), ("moving", 0.6)):
            seconds = binding * share
            made.append(row(limit, seconds, workload.name, operation, LIMIT, threads, flops))
        return made

    def _timed(self, row: Row, times: float) -> Row:
        noises = np.exp(self.noise * self.rng.standard_normal(self.blocks))
        usual = row.timing.median * times if row.timing else 0.0
        return replace(row, timing=timing([float(usual * noise) for noise in noises]))


def layers_of(network: str) -> list[tuple[Measurement, int]]:
    """List what a network's pictures and totals need."""
    return [
        (Measurement(layer.operation, layer.workload.of(batch)), 4)
        for layer in LAYERS_OF_NETWORKS[network]
        for batch in BATCHES
    ]


# ---- telling two results apart ---------------------------------------------------------------


def is_slowed(row: Row) -> bool:
    return row.contender == OURS and row.operation == "im2col"


def verdicts_of(found: compare.Comparison) -> Counter[str]:
    return Counter(found.changes["verdict"])


def test_noise_is_not_a_change() -> None:
    make = Maker()
    found = compare.compare(make(), make())
    assert abs(found.noise.drift) < 0.005
    assert 0.01 < found.noise.spread < 0.05
    # Of hundreds of rows the test errs at 1 %, and the noise is exceeded by 5 %.
    assert verdicts_of(found)[compare.SAME] >= 0.99 * len(found.changes)


def test_drift_is_recognised() -> None:
    make = Maker()
    found = compare.compare(make(), make(lambda row: 1.2))
    assert found.noise.drift == pytest.approx(log(1.2), abs=0.005)
    assert verdicts_of(found)[compare.SAME] >= 0.99 * len(found.changes)


@pytest.mark.parametrize("drift", [1.0, 0.8])
def test_a_change_is_found(drift: float) -> None:
    make = Maker()
    changes = compare.compare(
        make(), make(lambda row: drift * (1.2 if is_slowed(row) else 1.0))
    ).changes
    slowed = changes["operation"] == "im2col"
    slower = changes["verdict"] == compare.SLOWER
    assert slower[slowed].all()
    assert changes["ratio"][slowed].between(1.08, 1.32).all()
    assert (slower & ~slowed).sum() <= 3
    assert changes["ratio"].is_monotonic_decreasing
    faster = compare.compare(make(), make(lambda row: 0.8 if is_slowed(row) else 1.0)).changes
    assert (faster["verdict"][faster["operation"] == "im2col"] == compare.FASTER).all()


@pytest.mark.parametrize(("blocks", "testable"), [(1, False), (3, False), (4, False), (5, True)])
def test_few_blocks_tell_nothing(blocks: int, testable: bool) -> None:
    make = Maker(blocks=blocks)
    before, after = make(), make(lambda row: 2.0 if is_slowed(row) else 1.0)
    found = compare.compare(before, after)
    slowed = found.changes[found.changes["operation"] == "im2col"]
    assert set(slowed["testable"]) == {testable}
    assert set(slowed["verdict"] == compare.SLOWER) == {testable}
    text = compare.report(before, after, found, everything=False)
    assert ("have too few blocks" in text) == (not testable)


def test_controls_are_what_did_not_change() -> None:
    before = results([row("torch channels_last", 1.0, f"w{i}") for i in range(20)])
    after = results([row("torch channels_last", 2.0, f"w{i}") for i in range(20)])
    assert compare.compare(before, after).noise.drift == pytest.approx(log(2))
    after.machine = machine(versions={**VERSIONS, "torch": "2.14.0"})
    assert compare.compare(before, after).noise == compare.Noise()
    limits = results([row(FMA_PEAK, 1.0, f"w{i}", mode=LIMIT) for i in range(20)])
    assert compare.compare(limits, limits).noise == compare.Noise(0.0, 0.0, 20)
    ours = results([row(OURS, 1.0, f"w{i}") for i in range(20)])
    assert compare.compare(ours, ours).noise.controls == 0


@pytest.mark.parametrize(
    ("after", "spread", "verdict"),
    [
        (1.0, None, compare.SAME),
        (1.04, None, compare.SAME),  # below the noise that is assumed
        (1.04, 0.01, compare.SLOWER),
        (0.96, 0.01, compare.FASTER),
    ],
)
def test_a_change_must_exceed_the_noise(after: float, spread: float | None, verdict: str) -> None:
    limits = [row(FMA_PEAK, 1.0, f"w{i}", mode=LIMIT) for i in range(20)]
    drifted = [row(FMA_PEAK, 1.0 + (spread or 0), f"w{i}", mode=LIMIT) for i in range(0, 20, 2)]
    controls = ([], []) if spread is None else (limits, drifted + limits[1::2])
    found = compare.compare(
        results([row(OURS, 1.0), *controls[0]]), results([row(OURS, after), *controls[1]])
    )
    (change,) = found.changes.to_dict("records")
    assert change["verdict"] == verdict
    assert (change["p"] <= compare.LEVEL) == (after != 1)


def compared(before: Path, after: Path, *more: str) -> int:
    parser = argparse.ArgumentParser()
    compare.add_arguments(parser)
    return compare.main(parser.parse_args([str(before), str(after), *more]))


def test_comparison_of_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = tmp_path / "before.json", tmp_path / "after.json"
    results([row(OURS, 1.0, "a"), row(OURS, 1.0, "b"), row(OURS, 1.0, "old")]).save(before)
    changed = results([row(OURS, 2.0, "a"), row(OURS, 1.0, "b"), row(OURS, 1.0, "new")])
    changed.machine = machine(cpu="Pentium", date="2027-01-01", load=3.0)
    changed.save(after)
    assert compared(before, before) == 0
    assert compared(after, before) == 0
    capsys.readouterr()
    assert compared(before, after) == 1
    text = capsys.readouterr().out
    for part in (
        "WARNING: cpu differs",
        "2027-01-01",
        "0 controls are too few",
        "measured only before:\n  conv2d old",
        "measured only after:\n  conv2d new",
        "1 slower, 0 faster, 1 without a difference",
    ):
        assert part in text
    assert "load" not in text
    assert "conv2d b," not in text
    assert compared(before, after, "--all") == 1
    assert "conv2d b," in capsys.readouterr().out


@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"machine": 3}', '"text"', "\0"])
def test_no_file_of_results(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None
) -> None:
    file = tmp_path / "wrong.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(SystemExit) as end:
        results_file(str(file))
    assert end.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith(f"{file} is no file of results: ")
    assert message.count("\n") == 1


@pytest.mark.parametrize(
    ("needs", "use"),
    [
        (
            "scipy.stats",
            lambda _: compare.compare(results([row(OURS, 1.0)]), results([row(OURS, 1.0)])),
        ),
        (
            "matplotlib.figure",
            lambda folder: plot.draw(Maker(measured=layers_of("LeNet-5"))(), folder),
        ),
    ],
)
def test_missing_libraries(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    needs: str,
    use: Callable[[Path], Any],
) -> None:
    monkeypatch.setitem(sys.modules, needs, None)
    with pytest.raises(SystemExit) as end:
        use(tmp_path)
    assert end.value.code == 2
    assert "pip install 'fastconv[" in capsys.readouterr().err


# ---- results -----------------------------------------------------------------------------------


def test_results_come_back_from_a_file(tmp_path: Path) -> None:
    made = Maker(measured=layers_of("LeNet-5"))()
    made.rows.append(Row("conv2d", "w", 4, "jax", "fresh", 0, 0, None, [], "wrong result"))
    made.save(tmp_path / "results.json")
    assert load(tmp_path / "results.json") == made
    assert json.loads((tmp_path / "results.json").read_text())["bounds"]


def test_what_is_measured_again_replaces_what_was() -> None:
    old = results([row(OURS, 1.0), row("numpy", 9.0), row(OURS, 2.0, "other")], load=0.5)
    old.limits = [LimitRow("copy", 1, 10.0, "GB/s")]
    old.accuracy = [AccuracyRow("output", terms, {OURS: 1.0}) for terms in (9, 72)]
    old.command = "first"
    newer = results([row(OURS, 3.0), row(OURS, 4.0, threads=1)], commit="4567def")
    newer.accuracy = [AccuracyRow("output", 72, {OURS: 2.0})]
    newer.command = "second"
    old.replace(newer)
    assert [
        (r.contender, r.workload, r.threads, r.timing and r.timing.median) for r in old.rows
    ] == [
        (OURS, "other", 4, 2.0),
        (OURS, "w", 4, 3.0),
        (OURS, "w", 1, 4.0),
    ]
    assert [(sums.terms, sums.errors[OURS]) for sums in old.accuracy] == [(9, 1.0), (72, 2.0)]
    assert old.limits == [LimitRow("copy", 1, 10.0, "GB/s")]
    assert old.command == "first && second"
    assert (old.machine.load, old.machine.commit) == (0.5, "0123abc, in part 4567def")


@pytest.mark.parametrize(
    ("medians", "disturbed"),
    [
        ([1.0, 1.02, 0.98, 1.01, 1.03], False),
        ([1.0, 9.0, 1.02, 8.0, 1.01], False),  # a median of their samples is right
        ([1.0, 1.9, 2.1, 2.0, 1.0], False),  # the two speeds of a virtual processor
        ([1.0, 9.0, 1.4, 8.0, 20.0], True),
        ([1.0, 3.2, 3.1, 3.3, 1.0], True),
        ([1.0], False),
    ],
)
def test_a_busy_machine_is_noticed(medians: list[float], disturbed: bool) -> None:
    assert is_disturbed([[0.9 * m, m, 1.2 * m] for m in medians]) is disturbed


def test_the_limit_that_binds() -> None:
    slow, fast = row("moving", 3.0, mode=LIMIT), row("moving, past caches", 2.0, mode=LIMIT)
    peak, low_peak = row(FMA_PEAK, 2.5, mode=LIMIT), row(FMA_PEAK, 1.0, mode=LIMIT)

    def bound(*limits: Row) -> tuple[str, float]:
        ours = table_of([row(OURS, 4.0), row("torch", 8.0), *limits]).query("contender == @OURS")
        return ours["limit"].item(), ours["share"].item()

    def share(limit: Row) -> float:  # a good quarter of the samples
        return 0.98 * limit.timing.median / 4 if limit.timing else 0.0

    assert np.isnan(bound()[1])
    assert bound(slow) == ("moving", share(slow))
    assert bound(slow, fast) == ("moving, past caches", share(fast))
    assert bound(slow, fast, peak) == (FMA_PEAK, share(peak))
    assert bound(slow, fast, low_peak) == ("moving, past caches", share(fast))
    assert bound(low_peak) == (FMA_PEAK, share(low_peak))
    assert table_of([replace(row(OURS, 4.0), timing=None), slow])["contender"].tolist() == [
        "moving"
    ]


def test_ratios_are_to_ours_in_the_same_mode() -> None:
    rows = [
        row(OURS, 1.0),
        row(OURS, 2.0, mode="out="),
        row(OURS, 8.0, threads=1),
        row("torch", 4.0),
        row("torch", 4.0, mode="out="),
        row("torch", 4.0, "other"),
        row(FMA_PEAK, 0.5, mode=LIMIT),
    ]
    ratios = table_of(rows)["ratio"].tolist()
    assert ratios[3:5] == [4.0, 2.0]
    assert np.isnan(ratios[:3] + ratios[5:]).all()


def test_targets_are_checked() -> None:
    pooling = [workload.name for workload in POOLING]
    rows = [row(OURS, 1.0, name, "max_pool2d_backward") for name in pooling]
    rows += [
        row("torch", seconds, name, "max_pool2d_backward")
        for name, seconds in zip(pooling, (1.0, 2.0, 4.0), strict=True)
    ]
    rows.append(row("torch channels_last", 0.1, pooling[0], "max_pool2d_backward"))  # is not asked
    uses = [MemoryRow("conv2d", "w", 4, mib << 20, 0, 4.0) for mib in (4, 20)]
    errors = [AccuracyRow("output", 9, {OURS: 2.0, "numpy": 2.0})]
    found = verdicts(table_of(rows), uses, errors).set_index("target")
    target = next(target for target in TARGETS if target.operation == "max_pool2d_backward")
    assert found.loc[target.name].to_list() == [pytest.approx(2.0), 1.0, "worst >= 1", True, 3]
    memory = found.loc["extra memory, MiB a thread"].to_list()
    assert memory == [3.0, 5.0, "worst <= 4", False, 2]
    assert found.loc["error / numpy's error", "met"]
    without_numpy = [AccuracyRow("output", 9, {OURS: 2.0, "torch": 2.0})]
    assert "error / numpy's error" not in set(verdicts(table_of(rows), [], without_numpy)["target"])
    rows[3] = row("torch", 0.9, pooling[0], "max_pool2d_backward")
    assert not verdicts(table_of(rows), [], []).set_index("target").loc[target.name, "met"]


def test_small_calls_are_checked() -> None:
    section = next(section for section in SECTIONS if section.title == "small calls")
    name = section.measurements[0].workload.name
    rows = [row(OURS, seconds, name, op) for op, seconds in (("im2col", 4e-6), ("fold", 6e-6))]
    (found,) = verdicts(table_of(rows), [], []).to_dict("records")
    assert found["target"] == "small calls, us"
    assert (found["worst"], found["met"], found["cases"]) == (pytest.approx(6.0), False, 2)


def test_errors_are_those_of_the_default_precision() -> None:
    offers = [
        Offer(OURS, "fresh", "", [1e-7, 2e-7]),
        Offer(OURS, HIGH, "", [1e-6, 2e-6]),
        Offer("numpy", "fresh", "", [3e-7, 4e-7]),
        Offer("torch", "fresh", "failed", []),
    ]
    assert run.errors_of(offers, 1) == {OURS: 2e-7, "numpy": 4e-7}


def test_totals_count_every_layer_as_often_as_the_network_has_it() -> None:
    rows = []
    for layer in LAYERS_OF_NETWORKS["ResNet-50"]:
        name = layer.workload.name
        rows += [
            row(OURS, 1.0, name, layer.operation),
            row("torch", 2.0, name, layer.operation),
            row(FMA_PEAK, 0.5, name, layer.operation, LIMIT),
        ]
    rows.append(row("numpy", 9.0, LAYERS_OF_NETWORKS["ResNet-50"][0].workload.name))
    expected = {OURS: 53.0, HIGH: 53.0, "torch": 106.0, LIMIT: 53 * 0.49}
    assert network_totals(table_of(rows), "ResNet-50", 1) == pytest.approx(expected)
    first = LAYERS_OF_NETWORKS["ResNet-50"][0].workload.name
    with_high = table_of([*rows, row(OURS, 0.5, first, mode=HIGH)])
    assert network_totals(with_high, "ResNet-50", 1) == pytest.approx({**expected, HIGH: 52.5})
    assert network_totals(table_of(rows), "ResNet-50", 1, CONVOLUTION_OPERATIONS) == {}
    backward = [replace(row, operation="conv2d_backward") for row in rows]
    found = network_totals(table_of(rows + backward), "ResNet-50", 1, CONVOLUTION_OPERATIONS)
    assert found == pytest.approx({name: 2 * seconds for name, seconds in expected.items()})
    assert network_totals(table_of(rows), "ResNet-50", 16) == {}


# ---- processes ---------------------------------------------------------------------------------


@pytest.fixture
def numpy_process() -> Iterator[Process]:
    made = Process("numpy", 1)
    yield made
    made.stop()


def test_a_process_prepares_and_times(numpy_process: Process, tmp_path: Path) -> None:
    assert numpy_process.version() == np.__version__
    measured = Measurement("im2col", Workload(1, 2, 8, 3, 1, 0))
    case = process.case_of(measured)
    process.save(case.expected, tmp_path / "expected")
    process.save(case.for_errors("float64").expected, tmp_path / "exact")
    offers = numpy_process.ask(process.prepare, measured, tmp_path / "expected", tmp_path / "exact")
    assert [(offer.name, offer.problem) for offer in offers] == [
        ("numpy", ""),
        ("numpy windows", ""),
    ]
    samples, seconds = numpy_process.block(1, QUICK)
    assert 0 < min(samples) < seconds
    (wrong,) = case.expected
    process.save((wrong + 1,), tmp_path / "wrong")
    offers = numpy_process.ask(process.prepare, measured, tmp_path / "wrong", tmp_path / "exact")
    assert {offer.problem for offer in offers} == {"wrong result"}


def test_a_missing_library_is_an_import_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "jax.py").write_text("raise ImportError('there is none here')")
    monkeypatch.syspath_prepend(tmp_path)
    missing = Process("jax", 1)
    try:
        with pytest.raises(ImportError, match="there is none here"):
            missing.version()
    finally:
        missing.stop()
    monkeypatch.setattr(
        peers, "MODULES", {name: peers.MODULES[name] for name in ("fastconv", "jax")}
    )
    team = run.Team(1, None)
    team.stop()
    assert list(team.versions) == [OURS]
    assert team.missing == {"jax": "there is none here"}


def test_a_peer_that_dies_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    team = run.Team(1, ["numpy"])
    measured = Measurement("im2col", Workload(1, 2, 8, 3, 1, 0))
    offers = team.offers

    def offers_and_kill(measured: Measurement) -> Any:
        found = offers(measured)
        team.processes["numpy"].kill()
        return found

    try:
        with monkeypatch.context() as patched:
            patched.setattr(team, "offers", offers_and_kill)
            rows = team.time(measured, QUICK)
        assert {row.contender for row in rows if row.timing} >= {OURS, "moving"}
        notes = {row.contender: row.note for row in rows if not row.timing}
        assert notes == dict.fromkeys(("numpy", "numpy windows"), "the process of numpy ended")
        assert all(row.timing for row in team.time(measured, QUICK))  # It has started again.
    finally:
        team.stop()


def test_a_process_that_dies_starts_again(numpy_process: Process) -> None:
    numpy_process.version()
    with pytest.raises(ProcessDied, match="the process of numpy ended"):
        numpy_process.ask(os._exit, 3)
    numpy_process.restart()
    assert numpy_process.version() == np.__version__


def test_a_process_that_hangs_is_ended(
    numpy_process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    numpy_process.version()
    monkeypatch.setattr(process, "ANSWER_SECONDS", 0.2)
    with pytest.raises(ProcessDied, match="gave no answer for 0 s"):
        numpy_process.ask(time.sleep, 60)


def test_exceptions_come_back_as_text(numpy_process: Process) -> None:
    numpy_process.version()
    with pytest.raises(RuntimeError, match=r"FileNotFoundError: .*nowhere"):
        numpy_process.ask(os.stat, "nowhere")


def test_updates_are_compared_with_the_textbooks() -> None:
    case = UpdateCase("adam_update", UpdateTask("lenet"))
    changed = tuple(updates.Ours(case).step())
    assert case.agrees(changed, case.expected)
    assert not case.agrees(tuple(case.params), case.expected)
    assert case.for_errors().errors(changed, case.for_errors("float64").expected)[0] < 1e-6
    count = sum(param.size for param in case.params)
    assert case.moved == (16 * count, 12 * count)


# ---- the networks' layers -----------------------------------------------------------------------


class _WithoutAffine(Sequential):
    """Convolutions and poolings as the network has them, without the memory of the rest."""

    def affine(self, units: Any, *, std: float | None = None) -> Self:
        return self


class _LeNet(_WithoutAffine, LeNet):
    pass


class _AlexNet(_WithoutAffine, AlexNet):
    pass


class _VGG(_WithoutAffine, VGG):
    pass


def _workload(c: int, size: int, kernel: Any, layer: Any, *filters: int) -> Workload:
    return Workload(1, c, size, kernel, layer.stride, layer.pad, *filters)


@pytest.mark.parametrize(
    ("name", "network"), [("LeNet-5", _LeNet), ("AlexNet", _AlexNet), ("VGG-16", _VGG)]
)
def test_layers_are_those_of_the_models(name: str, network: Callable[..., Sequential]) -> None:
    net, found = network(seed=0), Counter[Workload]()
    c, size, _ = net.input_dim
    for layer_name, layer in net.layers.items():
        if isinstance(layer, Convolution):
            filters, group, kernel, _ = layer.W.shape
            found[_workload(c, size, kernel, layer, filters, c // group)] += 1
        elif isinstance(layer, (Pooling, AveragePooling)):
            found[_workload(c, size, layer.pool_h, layer)] += 1
        c, size, _ = net._shapes[layer_name]
    assert found == {layer.workload: layer.times for layer in LAYERS_OF_NETWORKS[name]}


@pytest.mark.parametrize(
    ("name", "convolutions", "weights"),
    [
        ("LeNet-5", 2, 6 * 25 + 16 * 6 * 25),
        ("AlexNet", 5, 2_332_704),
        ("VGG-16", 13, 14_710_464),
        ("ResNet-50", 53, 23_454_912),
        ("MobileNetV1", 27, 3_185_088),
    ],
)
def test_layers_are_those_of_the_papers(name: str, convolutions: int, weights: int) -> None:
    layers = [layer for layer in LAYERS_OF_NETWORKS[name] if layer.workload.filters]
    assert sum(layer.times for layer in layers) == convolutions
    assert sum(layer.times * prod(layer.workload.weight_shape) for layer in layers) == weights
    assert len({layer.workload for layer in layers}) == len(layers)


# ---- what is published -------------------------------------------------------------------------


def test_what_is_lost() -> None:
    rows = [
        row(OURS, 1.0, "a"),
        row(OURS, 1.0, "a", mode="out="),
        row("torch", 0.96, "a"),
        row("jax", 0.98, "a"),
        row("scipy", 0.5, "a", mode="out="),
        row(FMA_PEAK, 0.5, "a", mode=LIMIT),
        row("torch", 0.5, "b"),  # we have not been timed
        row("torch", 0.5, "a", threads=1),
        replace(row("onnxruntime", 0.5, "a"), timing=None),
    ]
    text = publish.losses(table_of(rows))
    assert "In 2 of 3 comparisons a peer is faster" in text
    assert "| torch | 1 | 1 | 0.96 | `conv2d` a |" in text
    assert "| scipy | 1 | 1 | 0.50 | `conv2d` a |" in text
    assert "jax" not in text


def test_workloads_have_names_of_their_own() -> None:
    measured = {m for section in SECTIONS for m in section.measurements}
    assert len({(m.operation, m.workload.name) for m in measured}) == len(measured)


BEGIN, END = "<!-- performance: begin -->", "<!-- performance: end -->"


def test_the_readme_keeps_what_is_around_the_markers() -> None:
    before, after = "# title\n\n", "\n\n## Use\n"
    readme = f"{before}{BEGIN}\nold\n{END}{after}"
    once = publish.filled(readme, "README.md", {"performance": "new"})
    assert once == f"{before}{BEGIN}\nnew\n{END}{after}"
    assert publish.filled(once, "README.md", {"performance": "new"}) == once


@pytest.mark.parametrize("readme", ["", BEGIN, END, END + BEGIN, 2 * (BEGIN + END)])
def test_a_readme_without_markers_is_left_alone(readme: str) -> None:
    with pytest.raises(ValueError, match="must have the lines <!-- performance: begin -->"):
        publish.filled(readme, "README.md", {"performance": "new"})


def test_workloads_of_signals_are_written() -> None:
    names = [workload.name for workload in SIGNALS]
    assert names[1] == "signals 1,384,3000 k3 s2 p1 f384"
    assert publish.shape(names[1]) == "(1, 384, 3000) to 384, 3/2"
    assert publish.shape(names[6]) == "(16, 64, 1024) to 64, 3, dilation 8"
    assert publish.shape(names[7]) == "(8, 256, 1000) to 256, 31 depthwise"


def test_the_headline_marks_the_fastest() -> None:
    of = publish.HEADLINES[0]
    assert not isinstance(of.workload, tuple)
    rows = [
        row(contender, seconds, of.workload.name, of.operation)
        for contender, seconds in (
            (OURS, 0.002),
            ("numpy", 0.0456),
            ("torch", 0.003),
            ("torch channels_last", 0.0017),
        )
    ]
    assert (
        f"| {of.label} | 2.00 | 45.6 (23\N{MULTIPLICATION SIGN}) | "
        "**1.70 (0.85\N{MULTIPLICATION SIGN})** |" in publish.headline(table_of(rows))
    )


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (16879.2, "16879"), (93.04, "93.0"), (0.00123, "0.00123")]
)
def test_digits(value: float, text: str) -> None:
    assert report.digits(value) == text


PAGE = (Path(publish.ROOT) / "docs" / publish.PAGE).read_text()


def test_the_page_has_a_place_for_every_part() -> None:
    made = Maker()()
    made.rows.append(Row("conv2d", "w", 4, "jax", "fresh", 0, 0, None, [], "wrong result"))
    page = publish.filled(PAGE, publish.PAGE, publish.parts(made))
    for text in ("wrong result", "0123abc", "2026-11-21", "| scipy | none |", "760.0", "2.13.0"):
        assert text in page
    assert set(VERSIONS) <= {name.rpartition(" ")[2] for name in facts(made.machine)}


def test_all_rows_are_published() -> None:
    made = Maker(measured=layers_of("LeNet-5"))()
    made.rows.append(Row("conv2d", "w", 4, "jax", "fresh", 0, 0, None, [], "wrong result"))
    table = publish.everything(made)
    kinds = table["kind"].value_counts().to_dict()
    assert kinds == {
        "time": len(made.rows) - 1,
        "not timed": 1,
        "memory": 1,
        "error": 2,
        "limit": 2,
    }
    text = publish.to_csv(table)
    assert text.splitlines()[0] == ",".join(publish.CSV_COLUMNS)
    assert len(text.splitlines()) == 1 + len(table)
    first = dict(zip(publish.CSV_COLUMNS, next(csv.reader(text.splitlines()[1:])), strict=True))
    timed = made.rows[0].timing
    assert timed is not None
    assert float(first["value"]) == pytest.approx(timed.median * 1e3, rel=1e-3)
    assert (first["contender"], first["times_ours"]) == (OURS, "")


def test_the_published_file_has_the_columns_that_are_written() -> None:
    with (Path(publish.ROOT) / "docs" / publish.CSV).open(newline="") as file:
        assert next(csv.reader(file)) == publish.CSV_COLUMNS


def test_publishing(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    made = Maker(measured=layers_of("LeNet-5"))()
    options = argparse.Namespace(results=made, root=tmp_path)
    readme, docs = tmp_path / "README.md", tmp_path / "docs"
    docs.mkdir()
    (docs / "performance.md").write_text(PAGE)
    readme.write_text("nothing")
    with pytest.raises(SystemExit):
        publish.main(options)
    assert readme.read_text() == "nothing"
    assert sorted(docs.iterdir()) == [docs / "performance.md"]
    assert (docs / "performance.md").read_text() == PAGE

    readme.write_text(f"{BEGIN}\n{END}\n")
    assert publish.main(options) == 0
    pictures = {file.name for file in (docs / "performance").iterdir()}
    assert pictures == {"summary.png", "lenet-5-batch-1.png", "lenet-5-batch-16.png"}
    assert "](docs/performance/summary.png)" in readme.read_text()
    assert (docs / "performance.csv").read_text() == publish.to_csv(publish.everything(made))
    page = (docs / "performance.md").read_text()
    assert "(performance.csv)" in page
    assert "0123abc" in page
    assert (docs / "performance/summary.png").stat().st_size < 80_000


@pytest.mark.parametrize("few", [pytest.param(False, marks=pytest.mark.exhaustive), True])
def test_pictures_of_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few: bool) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    if few:
        monkeypatch.setattr("bench.plot.BATCHES", BATCHES[:1])
    made = Maker()()
    wanted = {
        f"{n.lower()}-batch-{b}.png"
        for n in LAYERS_OF_NETWORKS
        for b in (BATCHES[:1] if few else BATCHES)
    }
    drawn = set(plot.draw(made, tmp_path))
    assert drawn == wanted | {"summary.png", "scaling.png"}
    assert (tmp_path / "summary.png").stat().st_size < 80_000
    assert plot.draw(results([]), tmp_path / "empty") == []


def test_busy(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The measurement runs; its figures depend on the machine and are not checked."""
    monkeypatch.setattr(busy, "PAUSES", (0.0, 0.002))  # Each takes five processes.
    options = ["busy", "--neighbours", "1", "--threads", "2", "--seconds", "0.05"]
    assert bench_main(options) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 + len(busy.PAUSES)
    assert "beside 1" in lines[0]
    numbers = [float(number) for line in lines[2:-1] for number in line.split()[2:-1]]
    assert len(numbers) == 6 * len(busy.PAUSES)
    assert min(numbers) > 0
