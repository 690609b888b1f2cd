"""Fixtures: every CPU level that this machine can run, one thread and several, and PyTorch.

And what the option --exhaustive adds to a run.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# Threads that wait for each other sleep, and NumPy multiplies matrices on one thread. By default
# both keep processors busy while they wait, and where other programs need those too, the thread
# that is waited for does not run: beside three such programs, training a network took 17 s instead
# of 1.4, and the products that one file of tests compares with took 60 s instead of 0.6. Libraries
# read this when they are loaded, first by the next import; processes that tests start inherit it.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from helpers import CommandResult

import fastconv
from fastconv import _kernels
from fastconv.__main__ import main

LEVELS = _kernels.available_levels()
THREADS = [3, 1]
EXAMPLES, MANY_EXAMPLES = 20, 60
"""How many hypothesis draws for a test, by default and with --exhaustive."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--exhaustive",
        action="store_true",
        help="run every case of every test at every CPU level and number of threads, draw "
        f"{MANY_EXAMPLES} examples a property instead of {EXAMPLES}, and run what is marked "
        "exhaustive. Without it only the best level on several threads runs every case; another "
        "level, or one thread, runs as many cases as show each value of each parameter once",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "exhaustive: takes long; runs with --exhaustive only")
    # Derandomized: a failure in one run is a failure in every run. The level is switched once
    # around all examples of a test, which is what a function-scoped fixture does.
    settings.register_profile(
        "fastconv",
        derandomize=True,
        deadline=None,
        max_examples=MANY_EXAMPLES if config.getoption("exhaustive") else EXAMPLES,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    settings.load_profile("fastconv")


Axis = tuple[str, ...]
"""Parameters whose values one decorator lists together, or the parameter of a fixture."""
STEPS: list[Axis] = [("level",), ("threads",)]


def _values(case: pytest.Item) -> dict[Axis, tuple[int, ...]]:
    """Return what a case of a test has on each axis: the identities of the values."""
    callspec = getattr(case, "callspec", None)
    left = {} if callspec is None else dict(callspec.params)
    values: dict[Axis, tuple[int, ...]] = {}
    for mark in case.iter_markers("parametrize"):
        names = mark.args[0]
        axis = tuple(names.replace(",", " ").split()) if isinstance(names, str) else tuple(names)
        values[axis] = tuple(id(left.pop(name)) for name in axis)
    return values | {(name,): (id(value),) for name, value in left.items()}


def _left_out(cases: list[pytest.Item]) -> list[pytest.Item]:
    """Choose among all cases of one test those that run with --exhaustive only.

    The best level on several threads runs every case. One step from there, another level or one
    thread runs the diagonal of the other axes: the values of the longest one by one, and beside
    them those of each shorter one, from its start again at its end. So every value of every axis
    is met, and few are met twice. Two steps from there, nothing runs.
    """
    known: dict[Axis, dict[tuple[int, ...], int]] = {}
    rows = []
    for case in cases:
        row = {}
        for axis, value in _values(case).items():
            places = known.setdefault(axis, {})
            row[axis] = places.setdefault(value, len(places))
        rows.append(row)
    others = [axis for axis in known if axis not in STEPS]
    longest = max(others, key=lambda axis: len(known[axis]), default=())
    left_out = []
    for case, row in zip(cases, rows):
        steps = sum(row.get(axis, 0) > 0 for axis in STEPS)
        on_diagonal = all(row[axis] == row[longest] % len(known[axis]) for axis in others)
        in_every_run = steps == 0 or (steps == 1 and on_diagonal)
        if not in_every_run or case.get_closest_marker("exhaustive"):
            left_out.append(case)
    return left_out


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what --exhaustive would add, unless the command line names a case by its values."""
    named = any("[" in argument.partition("::")[2] for argument in config.args)
    if config.getoption("exhaustive") or named:
        return
    tests: dict[str, list[pytest.Item]] = {}
    for item in items:
        tests.setdefault(item.nodeid.partition("[")[0], []).append(item)
    left_out = {case for cases in tests.values() for case in _left_out(cases)}
    config.hook.pytest_deselected(items=[item for item in items if item in left_out])
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture(params=LEVELS)
def level(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test once with the kernels of each CPU level."""
    before = _kernels.level
    _kernels.use(request.param)
    yield request.param
    _kernels.use(before)


@pytest.fixture(params=THREADS)
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """Run the test once on three threads and once on one."""
    with fastconv.num_threads(request.param):
        yield request.param


@pytest.fixture
def torch() -> Iterator[Any]:
    """PyTorch, as a further reference; on one thread, to leave the cores to the library.

    Where both share an OpenMP runtime, that is a limit for the library, too.
    """
    module = pytest.importorskip(
        "torch", reason="PyTorch is not installed, so its results are not compared"
    )
    before = module.get_num_threads()
    module.set_num_threads(1)
    yield module
    module.set_num_threads(before)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., CommandResult]:
    """Run ``fastconv`` with arguments, in this process: to start another takes a third of a second.

    The tests of what only a process of its own shows, such as signals and closed pipes, start one.
    """

    def run(*args: str | Path) -> CommandResult:
        capsys.readouterr()
        try:
            code = main(list(map(str, args)))
        except SystemExit as error:  # argparse's
            code = int(str(error.code))
        return CommandResult(code, *capsys.readouterr())

    return run
