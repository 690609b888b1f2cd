"""Time fastconv and every installed peer on the workloads of `bench/shapes.py`.

    python -m bench.run [--only SUBSTRING] [--threads N] [--json FILE] [--quick]

Before anything is timed, all results are checked.
"""

import argparse
import contextlib
import io
import json
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastconv
from bench import accuracy, machine, memory, networks, peers, report, timing
from bench.cases import Case
from bench.results import AccuracyRow, MemoryRow, Results, Row
from bench.shapes import ACCURACY, MEMORY, NETWORKS, OPERATIONS, SMALL_CALLS, Workload

Shrink = Callable[[Workload], Workload]


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    taking_part, missing = peers.available(options.threads)
    versions = {peer.name: peer.version for peer in taking_part if peer.version}
    about = machine.describe(versions, _config(), options.threads)
    effort = timing.QUICK if options.quick else timing.FULL
    shrink = Workload.with_fewer_images if options.quick else _unchanged
    results = Results(about, effort, missing)
    print(report.machine(about, missing))
    print(report.NOTE, flush=True)
    if options.quick:
        print("Quick: fewer images and little repetition; the times are rough.")

    _time_operations(results, taking_part, options.only, shrink)
    _time_small_calls(results, taking_part, options.only)
    _measure_memory(results, options.only, shrink)
    _measure_accuracy(results, taking_part, options.only)
    _time_networks(results, taking_part, options.only, options.quick)

    if not (results.rows or results.small_calls or results.memory or results.accuracy):
        print(f"\nnothing is called {options.only!r}")
        return 2
    print(report.title("summary"))
    print(report.summary(results))
    if options.json:
        options.json.write_text(json.dumps(results.as_json(), indent=1) + "\n")
    return 1 if results.wrong else 0


def _time_operations(results: Results, taking_part: list[Any], only: str, shrink: Shrink) -> None:
    for operation, workloads in OPERATIONS.items():
        chosen = [w for w in map(shrink, workloads) if only in f"{operation} {w.name}"]
        if chosen:
            print(report.title(f"{operation}, float32"))
            print(report.LAYER_HEADER if chosen[0].filters else report.HEADER)
        for workload in chosen:
            case = Case(operation, workload)
            contenders = list(peers.contenders(taking_part, case))
            errors = accuracy.errors(taking_part, operation, workload) if case.flops else {}
            rows = _time(case, contenders, results.effort, errors)
            results.rows += rows
            print(report.case(rows), flush=True)


def _time_small_calls(results: Results, taking_part: list[Any], only: str) -> None:
    for operation, small in SMALL_CALLS.items():
        if only in f"small {operation}":
            case = Case(operation, small.workload)
            contenders = [
                contender
                for contender in peers.contenders(taking_part, case)
                if contender.mode == "fresh" and contender.name in ("fastconv", "numpy", "torch")
            ]
            results.small_calls += _time(case, contenders, results.effort, {})
    if results.small_calls:
        print(report.title("small calls, (1, 1, 8, 8) under 3x3"))
        print(report.small_calls(results.small_calls), flush=True)


def _measure_memory(results: Results, only: str, shrink: Shrink) -> None:
    cases = [
        (operation, workload, budget.mib_per_thread)
        for budget in MEMORY
        for operation in budget.operations
        for workload in map(shrink, budget.workloads)
        if only in f"memory {operation} {workload.name}"
    ]
    if not cases:
        return
    print(report.title("peak memory beyond inputs and outputs"))
    if not memory.STATUS.exists():
        print(f"not measured: there is no {memory.STATUS}")
        return
    print(report.MEMORY_HEADER)
    threads = results.machine.threads
    for operation, workload, at_most in cases:
        extra = memory.extra_bytes(operation, workload, threads)
        weights = 4 * math.prod(workload.weight_shape)
        row = MemoryRow(operation, workload.name, threads, extra, weights, at_most)
        results.memory.append(row)
        print(report.memory(row), flush=True)


def _measure_accuracy(results: Results, taking_part: list[Any], only: str) -> None:
    for sums in ACCURACY:
        if only in f"accuracy {sums.operation} {sums.result}":
            errors = accuracy.errors(taking_part, sums.operation, sums.workload)
            of_result = {name: own[sums.index] for name, own in errors.items()}
            results.accuracy.append(AccuracyRow(sums.result, sums.terms, of_result))
    if results.accuracy:
        print(report.title("error of sums of so many terms, relative rms, float32"))
        print(report.accuracy(results.accuracy), flush=True)


def _time_networks(results: Results, taking_part: list[Any], only: str, quick: bool) -> None:
    names = [peer.name for peer in taking_part if peer.name in networks.CONTENDERS]
    last = ""
    for task in NETWORKS:
        if only not in f"{task.operation} {task.workload}":
            continue
        if task.what != last:
            print(report.title(f"{task.operation}, {networks.describe(task.what, quick)}"))
            print(report.HEADER)
            last = task.what
        right = [name for name in names if networks.agrees(name, task.network, task.dtype)]
        timings = networks.timed(right, task, results.machine.threads, quick)
        rows = [
            Row(task.operation, task.workload, name, "fresh", 0, 0, timings.get(name), [])
            for name in names
        ]
        results.rows += rows
        print(report.case(rows), flush=True)


def _time(
    case: Case,
    contenders: list[peers.Contender],
    effort: timing.Effort,
    errors: dict[str, list[float]],
) -> list[Row]:
    right = [c for c in contenders if c.is_reference or case.agrees(c.results(c.call()))]
    timings = timing.in_turn([(c.call, c.operations) for c in right], effort)
    found = dict(zip(map(id, right), timings, strict=True))
    return [
        Row(
            case.operation,
            case.workload.name,
            c.name,
            c.mode,
            case.nbytes,
            case.flops,
            found.get(id(c)),
            errors.get(c.name, []),
        )
        for c in contenders
    ]


def _unchanged(workload: Workload) -> Workload:
    return workload


def _config() -> dict[str, str]:
    """Give the lines of `show_config` by their names."""
    with contextlib.redirect_stdout(io.StringIO()) as text:
        fastconv.show_config()
    return dict(re.findall(r"^(.+?) {2,}(.+)$", text.getvalue(), re.MULTILINE))


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.run", description=str(__doc__).partition("\n")[0]
    )
    parser.add_argument("--only", default="", metavar="SUBSTRING", help="of 'operation workload'")
    parser.add_argument("--threads", type=int, default=fastconv.get_num_threads(), metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there")
    parser.add_argument("--quick", action="store_true", help="fewer images, little repetition")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
