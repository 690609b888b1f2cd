"""A library in a process of its own, which prepares cases and times its contenders when told.

Threads of another library that wait busily (OpenBLAS's do so for 30 ms after a product) cannot
disturb it but while they wait, which is what the pauses are for; and two OpenMP runtimes never meet
in one process.
"""

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from bench import peers, timing
from bench.cases import Array, Case, Contender
from bench.filters import FilterCase
from bench.networks import NetworkCase
from bench.peers import LIMIT
from bench.shapes import FilterTask, Measurement, NetworkTask, UpdateTask
from bench.updates import UpdateCase

# These tell the libraries their number of threads before they start. Libraries that ask the system
# for its number of cores find as many as the affinity leaves them.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NPROC")
ANSWER_SECONDS = 1800.0  # After this, a process that does not answer is taken for hung.


@dataclass(frozen=True)
class Offer:
    """What a process says of a contender; `problem` is empty if its results are right."""

    name: str
    mode: str
    problem: str
    errors: list[float]


class ProcessDied(RuntimeError):
    """A library's process has ended, or hung, in the middle of its work."""


class Process:
    """The parent's side: an executor with one worker, which holds one library."""

    def __init__(self, name: str, threads: int) -> None:
        self.name, self.threads = name, threads
        self._start()

    def _start(self) -> None:
        self._executor = ProcessPoolExecutor(
            1, get_context("spawn"), initializer=_import, initargs=(self.name, self.threads)
        )
        with limited_to(self.threads):  # The first task makes the executor start its process.
            self._started = self._executor.submit(_version)

    def version(self) -> str:
        """Wait until the library is imported; raise ImportError if it is missing."""
        return str(self._answer(lambda: self._started))

    def block(self, contender: int, effort: timing.Effort) -> tuple[list[float], float]:
        """Time a prepared contender, by its place among the offers; say how long that took."""
        time.sleep(effort.pause)
        start = time.perf_counter()
        samples: list[float] = self.ask(_block, contender, effort)
        return samples, time.perf_counter() - start

    def ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function of this module there."""
        return self._answer(lambda: self._executor.submit(_guarded, function, *arguments))

    def _answer(self, begin: "Callable[[], Future[Any]]") -> Any:
        try:
            return begin().result(ANSWER_SECONDS)
        except BrokenProcessPool:
            raise ProcessDied(f"the process of {self.name} ended") from None
        except TimeoutError:
            self.kill()
            raise ProcessDied(
                f"the process of {self.name} gave no answer for {ANSWER_SECONDS:.0f} s"
            ) from None

    def kill(self) -> None:
        """End the process as it is; executors have a method for this from Python 3.14 on."""
        for process in list(self._executor._processes.values()):
            process.kill()

    def restart(self) -> None:
        self.stop()
        self._start()
        self.version()

    def stop(self) -> None:
        self._executor.shutdown(cancel_futures=True)


@contextmanager
def limited_to(threads: int) -> Iterator[None]:
    """Let processes that start meanwhile have this number of threads and of cores."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    with mock.patch.dict(os.environ, dict.fromkeys(THREAD_VARIABLES, str(threads))):
        if cores:
            os.sched_setaffinity(0, cores[:threads])
        try:
            yield
        finally:
            if cores:
                os.sched_setaffinity(0, cores)


# ---- in the process ----------------------------------------------------------------------------


class _Here:
    """What the process has: its library, and the contenders that it has prepared."""

    peer: Any = None
    missing: str = ""
    contenders: tuple[Contender, ...] = ()


def _import(name: str, threads: int) -> None:
    try:
        _Here.peer = peers.start(name, threads)
    except ImportError as error:  # An initializer that raises would leave no reason.
        _Here.missing = str(error)


def _version() -> str:
    if _Here.peer is None:
        raise ImportError(_Here.missing)
    return str(_Here.peer.version)


def _guarded(function: Callable[..., Any], *arguments: Any) -> Any:
    """Turn a library's exceptions, which may not survive the way, into one that does."""
    try:
        return function(*arguments)
    except Exception as error:
        raise RuntimeError(f"{type(error).__name__}: {error}") from None


def prepare(measurement: Measurement, expected: Path, exact: Path) -> list[Offer]:
    """Make contenders for a measurement, and check what they compute."""
    _Here.contenders = ()  # Their memory is given back first.
    case = case_of(measurement)
    _Here.contenders = tuple(_Here.peer.contenders(case))
    wanted = load(expected) if _Here.contenders else ()
    problems = [_problem(contender, case, wanted) for contender in _Here.contenders]
    errors = _errors(measurement, exact) if "" in problems else {}
    return [
        Offer(c.name, c.mode, problem, errors.get((c.name, c.mode), []))
        for c, problem in zip(_Here.contenders, problems, strict=True)
    ]


def _problem(contender: Contender, case: Any, wanted: tuple[Array, ...]) -> str:
    if contender.mode == LIMIT:
        return ""
    try:
        right = case.agrees(contender.results(contender.call()), wanted)
    except Exception as error:
        first_line = str(error).partition("\n")[0]
        return f"failed: {type(error).__name__}: {first_line}"
    return "" if right else "wrong result"


def _errors(measurement: Measurement, exact: Path) -> dict[tuple[str, str], list[float]]:
    """Give the relative rms errors of every contender's results, by name and mode."""
    case = case_of(measurement).for_errors()
    wanted = load(exact)
    return {
        (c.name, c.mode): case.errors(c.results(c.call()), wanted)
        for c in _Here.peer.contenders(case)
        if c.mode != LIMIT
    }


def _block(contender: int, effort: timing.Effort) -> list[float]:
    chosen = _Here.contenders[contender]
    return timing.block(chosen.call, chosen.operations, effort, chosen.warm_up)


def machine_limits() -> Any:
    """Measure the limits that depend on no case, in the process of `peers.limits`."""
    return _Here.peer.machine()


# ---- on both sides -----------------------------------------------------------------------------


def case_of(measurement: Measurement) -> Case | NetworkCase | UpdateCase | FilterCase:
    operation, workload = measurement
    if isinstance(workload, UpdateTask):
        return UpdateCase(operation, workload)
    if isinstance(workload, FilterTask):
        return FilterCase(operation, workload)
    if isinstance(workload, NetworkTask):
        return NetworkCase(operation, workload)
    return Case(operation, workload)


def save(results: tuple[Array, ...], folder: Path) -> None:
    folder.mkdir()
    for index, result in enumerate(results):
        np.save(folder / f"{index}.npy", result)


def load(folder: Path) -> tuple[Array, ...]:
    """Map what `save` wrote: a process reads only what it compares."""
    count = len(list(folder.iterdir()))
    return tuple(np.load(folder / f"{index}.npy", mmap_mode="r") for index in range(count))
