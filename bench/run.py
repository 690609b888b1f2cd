"""Time fastconv and every installed peer on the workloads of `bench/shapes.py`.

Results are checked before anything is timed.
"""

import argparse
import math
import shlex
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

import fastconv
from bench import machine, memory, peers, report, timing
from bench.peers import OURS
from bench.process import Offer, Process, ProcessDied, case_of, machine_limits, prepare, save
from bench.results import AccuracyRow, LimitRow, MemoryRow, PeakRow, Results, Row, load
from bench.shapes import SECTION_OF_THREADS, SECTIONS, Measurement, Section, thread_counts
from bench.targets import ACCURACY, MEMORY, PEAK_PEERS, PEAKS, QUICK_PEAKS

ALWAYS = (OURS, "limits")
# A workload is measured this often at most, if other programs keep the machine busy.
ATTEMPTS = 3

Key = tuple[str, int]  # The name of a library, and the place of a contender among its offers.
Blocks = dict[Key, list[list[float]]]


class Team:
    """The processes of all libraries that are installed, on one number of threads."""

    def __init__(self, threads: int, chosen: list[str] | None) -> None:
        self.threads = threads
        self.versions: dict[str, str] = {}
        self.missing: dict[str, str] = {}
        wanted = (name for name in peers.MODULES if chosen is None or name in (*chosen, *ALWAYS))
        self.processes = {name: Process(name, threads) for name in wanted}
        for name, process in list(self.processes.items()):
            try:
                self.versions[name] = process.version()
            except (ImportError, ProcessDied) as error:
                self.processes.pop(name).stop()
                self.missing[name] = str(error)

    def time(self, measurement: Measurement, effort: timing.Effort) -> list[Row]:
        """Time all contenders; again, if the limits tell that the machine was busy otherwise."""
        case, offers = case_of(measurement), self.offers(measurement)
        problems = {key: offer.problem for key, offer in offers.items()}
        for _ in range(ATTEMPTS):
            blocks = self._blocks(problems, effort)
            limits = [samples for key, samples in blocks.items() if key[0] == "limits"]
            if not any(map(timing.is_disturbed, limits)):
                break
        of_case = (measurement.operation, measurement.workload.name, self.threads)
        work = (sum(case.moved), case.flops)
        return [
            Row(
                *(*of_case, offer.name, offer.mode, *work),
                timing=None if problems[key] else timing.summary(blocks[key]),
                errors=offer.errors,
                note=problems[key],
            )
            for key, offer in offers.items()
        ]

    def _blocks(self, problems: dict[Key, str], effort: timing.Effort) -> Blocks:
        """Take blocks of all contenders in turn; note whose process ends meanwhile."""
        contenders = [key for key, problem in problems.items() if not problem]
        blocks: Blocks = {key: [] for key in contenders}
        spent = dict.fromkeys(contenders, 0.0)
        for round in range(effort.rounds):
            if round == timing.HOPELESS_BLOCKS:
                contenders = _hopeful(contenders, blocks)
            for key in contenders:
                name, place = key
                if problems[key] or (name not in ALWAYS and spent[key] >= effort.enough):
                    continue
                try:
                    samples, seconds = self.processes[name].block(place, effort)
                except ProcessDied as error:
                    problems.update({other: str(error) for other in problems if other[0] == name})
                    self.processes[name].restart()
                    continue
                blocks[key].append(samples)
                spent[key] += seconds
            contenders = [key for key in contenders if not problems[key]]
        return blocks

    def offers(self, measurement: Measurement) -> dict[Key, Offer]:
        """Let all processes prepare and check; give what they offer by name and place."""
        offers = {}
        with (
            ThreadPoolExecutor(len(self.processes)) as pool,
            tempfile.TemporaryDirectory() as folder,
        ):
            expected, exact = Path(folder, "expected"), Path(folder, "exact")
            case = case_of(measurement)
            save(case.expected, expected)
            save(case.for_errors("float64").expected, exact)
            del case
            begun = {
                name: pool.submit(process.ask, prepare, measurement, expected, exact)
                for name, process in self.processes.items()
            }
            for name, process in self.processes.items():
                try:
                    found = begun[name].result()
                except RuntimeError as error:
                    found = [Offer(name, "fresh", f"{name}: {error}", [])]
                    process.restart()
                offers.update({(name, place): offer for place, offer in enumerate(found)})
        return offers

    def stop(self) -> None:
        for process in self.processes.values():
            process.stop()


def _hopeful(contenders: list[Key], blocks: Blocks) -> list[Key]:
    """Leave out the peers that are far behind."""
    medians = {key: timing.summary(blocks[key]).median for key in contenders}
    fastest = min((medians[key] for key in contenders if key[0] != "limits"), default=0.0)
    return [
        key for key in contenders if key[0] in ALWAYS or medians[key] < timing.HOPELESS * fastest
    ]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--only",
        nargs="+",
        default=[""],
        metavar="SUBSTRING",
        help="of 'section operation workload', any of them",
    )
    parser.add_argument(
        "--peers",
        nargs="*",
        choices=[name for name in peers.MODULES if name not in ALWAYS],
        help="who takes part; all that are installed, unless told",
    )
    parser.add_argument("--threads", type=int, default=fastconv.get_num_threads(), metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there")
    parser.add_argument(
        "--update", type=Path, metavar="FILE", help="replace there what is measured again"
    )
    parser.add_argument(
        "--quick", action="store_true", help="few, small workloads and little repetition"
    )


def main(options: argparse.Namespace) -> int:
    team = Team(options.threads, options.peers)
    about = machine.describe({n: v for n, v in team.versions.items() if v}, options.threads)
    results = Results(about, timing.QUICK if options.quick else timing.FULL, team.missing)
    files = {str(path): path.name for path in (options.json, options.update) if path}
    arguments = [files.get(argument, argument) for argument in sys.argv[1:]]
    results.command = shlex.join(["python", "-m", "bench", *arguments])
    print(report.machine(about, team.missing))
    print(report.NOTE)
    if options.quick:
        print("Quick: few, small workloads and little repetition; the times are rough.")

    _measure_limits(results, team, options)
    for section in SECTIONS:
        _time_section(results, team, section, options)
        _save(results, options)  # Nothing is lost if a later section fails.
    _measure_accuracy(results, team, options)
    team.stop()
    for threads in thread_counts(options.threads):
        if _chosen(results, threads, SECTION_OF_THREADS, options):
            team = Team(threads, options.peers)
            _time_section(results, team, SECTION_OF_THREADS, options)
            team.stop()
    _measure_memory(results, options)
    _measure_peaks(results, options)
    _save(results, options)

    measured = results.rows, results.memory, results.peaks, results.accuracy, results.limits
    if not any(measured):
        print(f"\nnothing is called {' or '.join(options.only)}", file=sys.stderr)
        return 2
    if options.update:
        updated = load(options.update)
        updated.replace(results)
        updated.save(options.update)
    print(report.title("summary"))
    print(report.summary(results))
    return 1 if any(row.contender == OURS for row in results.wrong) else 0


def _save(results: Results, options: argparse.Namespace) -> None:
    if options.json:
        results.save(options.json)


def _is_chosen(name: str, options: argparse.Namespace) -> bool:
    return any(part in name for part in options.only)


def _chosen(
    results: Results, threads: int, section: Section, options: argparse.Namespace
) -> list[Measurement]:
    """Give what is asked for, and what no earlier section has timed."""
    timed = {(row.operation, row.workload) for row in results.rows if row.threads == threads}
    return [
        m
        for m in (section.quick if options.quick else section.measurements)
        if (m.operation, m.workload.name) not in timed
        and _is_chosen(f"{section.title} {m.operation} {m.workload.name}", options)
    ]


def _time_section(
    results: Results, team: Team, section: Section, options: argparse.Namespace
) -> None:
    chosen = _chosen(results, team.threads, section, options)
    if chosen:
        print(report.title(f"{section.title} ({team.threads} threads)"))
    for measurement in chosen:
        rows = team.time(measurement, results.effort)
        results.rows += rows
        print(report.case(measurement, rows), flush=True)


def _measure_limits(results: Results, team: Team, options: argparse.Namespace) -> None:
    title = "what the machine can do"
    if _is_chosen(title, options):
        measured = team.processes["limits"].ask(machine_limits)
        results.limits += [LimitRow(*limit) for limit in measured]
        print(report.title(title))
        print(report.aligned(pd.DataFrame(results.limits).round(1)), flush=True)


def _measure_accuracy(results: Results, team: Team, options: argparse.Namespace) -> None:
    for sums in ACCURACY[-1:] if options.quick else ACCURACY:
        if _is_chosen(f"accuracy {sums.operation} {sums.result}", options):
            offers = team.offers(Measurement(sums.operation, sums.workload)).values()
            errors = errors_of(offers, sums.index)
            results.accuracy.append(AccuracyRow(sums.result, sums.terms, errors))
    if results.accuracy:
        print(report.title("error of sums by their number of terms, relative rms, float32"))
        print(report.accuracy(results.accuracy), flush=True)


def errors_of(offers: Iterable[Offer], index: int) -> dict[str, float]:
    """Give every contender's error of one result, with the default precision."""
    return {
        offer.name: offer.errors[index]
        for offer in offers
        if offer.errors and offer.mode == "fresh"
    }


def _measure_memory(results: Results, options: argparse.Namespace) -> None:
    chosen = [
        (operation, workload, budget.mib_per_thread)
        for budget in MEMORY
        for operation in budget.operations
        for workload in (budget.workloads[:1] if options.quick else budget.workloads)
        if _is_chosen(f"memory {operation} {workload.name}", options)
    ]
    if not chosen:
        return
    print(report.title("peak memory beyond inputs and outputs"))
    if not memory.STATUS.exists():
        print(f"not measured: there is no {memory.STATUS}")
        return
    for operation, workload, at_most in chosen:
        extra = memory.extra_bytes(operation, workload, options.threads)
        weights = 4 * math.prod(workload.weight_shape)
        row = MemoryRow(operation, workload.name, options.threads, extra, weights, at_most)
        results.memory.append(row)
    print(report.memory(results.memory), flush=True)


def _measure_peaks(results: Results, options: argparse.Namespace) -> None:
    tasks = [
        task
        for task in (QUICK_PEAKS if options.quick else PEAKS)
        if _is_chosen(f"memory network_prediction {task.name}", options)
    ]
    if not tasks or not memory.STATUS.exists():
        return
    names = [OURS, *(name for name in PEAK_PEERS if name in results.machine.versions)]
    for task in tasks:
        peaks = {name: memory.peak_bytes(name, task, options.threads) for name in names}
        results.peaks.append(PeakRow(task.name, options.threads, peaks))
    print(report.title("peak memory of networks in use, MiB"))
    print(report.peaks(results.peaks), flush=True)
