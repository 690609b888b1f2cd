"""A library in a process of its own: it prepares cases and times its contenders when told.

Threads of another library that wait busily (OpenBLAS's do so for 30 ms after a product) cannot
disturb it but while they wait, which is what the pauses are for.
"""

import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from bench import peers, timing
from bench.cases import Array, Case
from bench.networks import NetworkCase
from bench.results import LIMIT, LimitRow
from bench.shapes import Measurement, NetworkTask

# What tells the libraries their number of threads before they start; those that ask the system how
# many cores there are find as many as the affinity leaves them.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "NPROC",
)


@dataclass(frozen=True)
class Offer:
    """What a worker says of a contender; `problem` is empty if its results are right."""

    name: str
    mode: str
    problem: str
    errors: list[float]


class Worker:
    """The parent's side of a process."""

    def __init__(self, name: str, threads: int) -> None:
        self.name, self.threads = name, threads
        context = multiprocessing.get_context("spawn")
        self._pipe, child = context.Pipe()
        self._process = context.Process(target=_serve, args=(child, name, threads), daemon=True)
        self._process.start()
        child.close()

    def version(self) -> str:
        """Wait until the library is imported; raise ImportError if it is missing."""
        return str(self._receive())

    def prepare(self, measurement: Measurement, expected: Path, exact: Path) -> None:
        """Begin to; `prepared` waits for the end."""
        self._pipe.send(("prepare", (measurement, expected, exact)))

    def prepared(self) -> list[Offer]:
        offers: list[Offer] = self._receive()
        return offers

    def block(self, contender: int, effort: timing.Effort) -> tuple[list[float], float]:
        """Time a prepared contender, by its place among the offers; say how long that took."""
        time.sleep(effort.pause)
        start = time.perf_counter()
        samples: list[float] = self._ask("block", contender, effort)
        return samples, time.perf_counter() - start

    def machine(self) -> list[LimitRow]:
        """Only of the limits: measure those that depend on no case."""
        rows: list[LimitRow] = self._ask("machine")
        return rows

    def stop(self) -> None:
        self._pipe.close()
        self._process.join()

    def _ask(self, what: str, *arguments: Any) -> Any:
        self._pipe.send((what, arguments))
        return self._receive()

    def _receive(self) -> Any:
        try:
            right, answer = self._pipe.recv()
        except EOFError:
            self._process.join()
            code = self._process.exitcode
            raise RuntimeError(f"the process of {self.name} ended with code {code}") from None
        if not right:
            raise answer
        return answer


@contextmanager
def limited_to(threads: int) -> Iterator[None]:
    """Give processes that start meanwhile so many threads and cores."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    if cores:
        os.sched_setaffinity(0, cores[:threads])
    try:
        yield
    finally:
        if cores:
            os.sched_setaffinity(0, cores)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class _Server:
    """The child's side: one method for every question."""

    def __init__(self, peer: Any) -> None:
        self.peer = peer
        self.contenders: list[peers.Contender] = []

    def prepare(self, measurement: Measurement, expected: Path, exact: Path) -> list[Offer]:
        self.contenders = []  # gives their memory back first
        case = case_of(measurement)
        self.contenders = list(peers.contenders(self.peer, case))
        wanted = load(expected) if self.contenders else ()
        problems = [_problem(contender, case, wanted) for contender in self.contenders]
        errors = self._errors(measurement, exact) if "" in problems else {}
        return [
            Offer(c.name, c.mode, problem, errors.get((c.name, c.mode), []))
            for c, problem in zip(self.contenders, problems, strict=True)
        ]

    def _errors(self, measurement: Measurement, exact: Path) -> dict[tuple[str, str], list[float]]:
        """Give the relative rms errors of every contender's results, by name and mode."""
        case = case_of(measurement).for_errors()
        wanted = load(exact)
        return {
            (c.name, c.mode): case.errors(c.results(c.call()), wanted)
            for c in peers.contenders(self.peer, case)
            if c.mode != LIMIT
        }

    def block(self, contender: int, effort: timing.Effort) -> list[float]:
        chosen = self.contenders[contender]
        return timing.block(chosen.call, chosen.operations, effort, chosen.warm_up)

    def machine(self) -> list[LimitRow]:
        rows: list[LimitRow] = self.peer.machine()
        return rows


def _serve(pipe: Connection, name: str, threads: int) -> None:
    try:
        peer = peers.start(name, threads)
        pipe.send((True, peer.version))
    except ImportError as error:
        pipe.send((False, ImportError(str(error))))
        return
    server = _Server(peer)
    while True:
        try:
            what, arguments = pipe.recv()
        except EOFError:  # the parent is done
            return
        try:
            answer = (True, getattr(server, what)(*arguments))
        except Exception as error:
            answer = (False, RuntimeError(f"{name}: {type(error).__name__}: {error}"))
        pipe.send(answer)


def case_of(measurement: Measurement) -> Case | NetworkCase:
    operation, workload = measurement
    if isinstance(workload, NetworkTask):
        return NetworkCase(operation, workload)
    return Case(operation, workload)


def _problem(contender: peers.Contender, case: Any, wanted: tuple[Array, ...]) -> str:
    if contender.mode == LIMIT:
        return ""
    try:
        right = case.agrees(contender.results(contender.call()), wanted)
    except Exception as error:
        first_line = str(error).partition("\n")[0]
        return f"failed: {type(error).__name__}: {first_line}"
    return "" if right else "wrong result"


def save(results: tuple[Array, ...], folder: Path) -> None:
    folder.mkdir()
    for index, result in enumerate(results):
        np.save(folder / f"{index}.npy", result)


def load(folder: Path) -> tuple[Array, ...]:
    """Map what `save` wrote: a process reads only what it compares."""
    count = len(list(folder.iterdir()))
    return tuple(np.load(folder / f"{index}.npy", mmap_mode="r") for index in range(count))
