"""Time fastconv and every installed peer on the workloads of `bench/shapes.py`.

Results are checked before anything is timed.
"""

import argparse
import math
import shlex
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import fastconv
from bench import machine, memory, peers, report, timing
from bench.results import OURS, AccuracyRow, MemoryRow, Results, Row, load
from bench.shapes import SECTIONS, THREADED, Measurement, Section, Workload, thread_counts
from bench.targets import ACCURACY, MEMORY
from bench.worker import Offer, Worker, case_of, limited_to, save

ALWAYS = ("fastconv", "limits")
ATTEMPTS = 3  # at a workload during which the machine is busy otherwise


class Team:
    """The workers of all libraries that are installed, on so many threads."""

    def __init__(self, threads: int, chosen: list[str] | None) -> None:
        self.threads = threads
        self.workers: dict[str, Worker] = {}
        self.versions: dict[str, str] = {}
        self.missing: dict[str, str] = {}
        with limited_to(threads):
            started = {
                name: Worker(name, threads)
                for name in peers.MODULES
                if chosen is None or name in (*chosen, *ALWAYS)
            }
        for name, worker in started.items():
            try:
                self.versions[name] = worker.version()
                self.workers[name] = worker
            except ImportError as error:
                self.missing[name] = str(error)

    def time(self, measurement: Measurement, effort: timing.Effort) -> list[Row]:
        """Time all contenders; again, if the limits tell that the machine was busy otherwise."""
        offers = self.offers(measurement)
        right = [key for key, offer in offers.items() if not offer.problem]
        for _ in range(ATTEMPTS):
            blocks = self._blocks(right, effort)
            limits = [blocks[key] for key in right if key[0] == "limits"]
            if not any(timing.is_disturbed(samples) for samples in limits):
                break
        case = case_of(measurement)
        return [
            Row(
                measurement.operation,
                measurement.workload.name,
                self.threads,
                offer.name,
                offer.mode,
                sum(case.moved),
                case.flops,
                timing.summary(blocks[key]) if key in blocks else None,
                offer.errors,
                offer.problem,
            )
            for key, offer in offers.items()
        ]

    def _blocks(
        self, contenders: list[tuple[str, int]], effort: timing.Effort
    ) -> dict[tuple[str, int], list[list[float]]]:
        """Take blocks of all contenders in turn."""
        blocks: dict[tuple[str, int], list[list[float]]] = {key: [] for key in contenders}
        spent = dict.fromkeys(contenders, 0.0)
        for round in range(effort.rounds):
            if round == timing.HOPELESS_BLOCKS:
                contenders = _hopeful(contenders, blocks)
            for key in contenders:
                name, contender = key
                if name in ALWAYS or spent[key] < effort.enough:
                    samples, seconds = self.workers[name].block(contender, effort)
                    blocks[key].append(samples)
                    spent[key] += seconds
        return blocks

    def offers(self, measurement: Measurement) -> dict[tuple[str, int], Offer]:
        """Let all workers prepare and check; give what they offer by their name and its place."""
        offers = {}
        with tempfile.TemporaryDirectory() as folder:
            expected, exact = Path(folder, "expected"), Path(folder, "exact")
            case = case_of(measurement)
            save(case.expected, expected)
            save(case.for_errors().exact, exact)
            del case
            for worker in self.workers.values():
                worker.prepare(measurement, expected, exact)
            for name, worker in list(self.workers.items()):
                try:
                    found = worker.prepared()
                except RuntimeError as error:
                    found = [Offer(name, "fresh", str(error), [])]
                    self._restart(name)
                offers.update({(name, place): offer for place, offer in enumerate(found)})
        return offers

    def _restart(self, name: str) -> None:
        self.workers[name].stop()
        with limited_to(self.threads):
            self.workers[name] = Worker(name, self.threads)
        self.workers[name].version()

    def stop(self) -> None:
        for worker in self.workers.values():
            worker.stop()


def _hopeful(
    contenders: list[tuple[str, int]], blocks: dict[tuple[str, int], list[list[float]]]
) -> list[tuple[str, int]]:
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
    effort = timing.QUICK if options.quick else timing.FULL
    results = Results(about, effort, team.missing)
    files = {str(path): path.name for path in (options.json, options.update) if path}
    arguments = [files.get(argument, argument) for argument in sys.argv[1:]]
    results.command = shlex.join(["python", "-m", "bench", *arguments])
    print(report.machine(about, team.missing))
    print(report.NOTE)
    if options.quick:
        print("Quick: few, small workloads and little repetition; the times are rough.")

    _measure_limits(results, team, options)
    done: set[Measurement] = set()
    for section in SECTIONS:
        _time_section(results, team, section, _chosen(section, options), done)
        _save(results, options)  # nothing is lost if a later section fails
    _measure_accuracy(results, team, options)
    team.stop()
    _time_fewer_threads(results, options)
    _measure_memory(results, options)
    _save(results, options)

    if not (results.rows or results.memory or results.accuracy or results.limits):
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


def _chosen(section: Section, options: argparse.Namespace) -> list[Measurement]:
    measurements = section.quick if options.quick else section.measurements
    return [m for m in measurements if _is_chosen(_name(section.title, m), options)]


def _name(title: str, measurement: Measurement) -> str:
    return f"{title} {measurement.operation} {measurement.workload.name}"


def _measure_limits(results: Results, team: Team, options: argparse.Namespace) -> None:
    title = "what the machine can do"
    if _is_chosen(title, options):
        results.limits += team.workers["limits"].machine()
        print(report.title(title))
        print(report.limits(results.limits), flush=True)


def _time_section(
    results: Results,
    team: Team,
    section: Section,
    chosen: list[Measurement],
    done: set[Measurement],
) -> None:
    """Time what no earlier section has."""
    chosen = [measurement for measurement in chosen if measurement not in done]
    if chosen:
        print(report.title(f"{section.title} ({team.threads} threads)"))
    for measurement in chosen:
        rows = team.time(measurement, results.effort)
        results.rows += rows
        done.add(measurement)
        print(report.case(rows), flush=True)


def _time_fewer_threads(results: Results, options: argparse.Namespace) -> None:
    section = Section("time against threads", THREADED, ())
    chosen = _chosen(section, options)
    for threads in thread_counts(options.threads) if chosen else ():
        team = Team(threads, options.peers)
        # On all threads the workloads are in other sections.
        done = {m for m in chosen if results.of_case(m.operation, m.workload.name, threads)}
        _time_section(results, team, section, chosen, done)
        team.stop()


def _measure_accuracy(results: Results, team: Team, options: argparse.Namespace) -> None:
    for sums in ACCURACY[-1:] if options.quick else ACCURACY:
        if _is_chosen(f"accuracy {sums.operation} {sums.result}", options):
            offers = team.offers(Measurement(sums.operation, sums.workload)).values()
            errors = errors_of(offers, sums.index)
            results.accuracy.append(AccuracyRow(sums.result, sums.terms, errors))
    if results.accuracy:
        print(report.title("error of sums of so many terms, relative rms, float32"))
        print(report.accuracy(results.accuracy), flush=True)


def errors_of(offers: Iterable[Offer], index: int) -> dict[str, float]:
    """Give every contender's error of one result, with the default precision."""
    return {
        offer.name: offer.errors[index]
        for offer in offers
        if offer.errors and offer.mode == "fresh"
    }


def _measure_memory(results: Results, options: argparse.Namespace) -> None:
    chosen = list(_budgets(options))
    if not chosen:
        return
    print(report.title("peak memory beyond inputs and outputs"))
    if not memory.STATUS.exists():
        print(f"not measured: there is no {memory.STATUS}")
        return
    print(report.MEMORY_HEADER)
    for operation, workload, at_most in chosen:
        extra = memory.extra_bytes(operation, workload, options.threads)
        weights = 4 * math.prod(workload.weight_shape)
        row = MemoryRow(operation, workload.name, options.threads, extra, weights, at_most)
        results.memory.append(row)
        print(report.memory(row), flush=True)


def _budgets(options: argparse.Namespace) -> Iterator[tuple[str, Workload, float]]:
    for budget in MEMORY:
        for operation in budget.operations:
            for workload in budget.workloads[:1] if options.quick else budget.workloads:
                if _is_chosen(f"memory {operation} {workload.name}", options):
                    yield operation, workload, budget.mib_per_thread
