"""The number of threads, and forks of a process that has used several."""

from __future__ import annotations

import math
import os
import re
import sys
import threading
from types import TracebackType
from typing import SupportsIndex

from fastconv import _limits
from fastconv._arguments import positive
from fastconv._errors import argument_error, named
from fastconv._kernels import threads
from fastconv._setting import Block, Setting

MAX_THREADS = 1024


def _openmp_threads() -> int:
    """Return OpenMP's own number of threads: OMP_NUM_THREADS, or the processors it may use.

    What OpenMP itself tells is not asked, as something may have lowered it for a while.
    """
    setting = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if setting.isdecimal() and int(setting) > 0:
        return min(int(setting), MAX_THREADS)
    processors: int = threads.processors()
    return processors


def _openmp_stack() -> int:
    """Return how many bytes the stack of each of OpenMP's threads has, 0 for the system's default.

    libgomp tells it nobody; it reads a number and a unit from the environment, KiB by default.
    """
    for name in ("OMP_STACKSIZE", "GOMP_STACKSIZE"):
        found = re.fullmatch(r"\s*([0-9]+)\s*([BKMG]?)\s*", os.environ.get(name, ""), re.IGNORECASE)
        if found:
            size = int(found[1]) << {"B": 0, "M": 20, "G": 30}.get(found[2].upper(), 10)
            if 0 < size <= sys.maxsize:
                return size
    return 0


def _default_threads(openmp: int) -> int:
    """Return OpenMP's number of threads, within the container's quota."""
    if not os.environ.get("OMP_NUM_THREADS"):
        openmp = math.ceil(min(openmp, _limits.cpu_quota()))
    return max(1, min(openmp, MAX_THREADS))


def _checked(n: SupportsIndex) -> int:
    number = positive(n, "n")
    if number > MAX_THREADS:
        raise argument_error(ValueError, f"n must be at most {MAX_THREADS} threads, got {n}")
    return number


_own = _openmp_threads()
threads.set_unlimited(_own)
threads.set_stack(_openmp_stack())
_setting = Setting("fastconv.num_threads", _default_threads(_own))


def count() -> int:
    """Return how many threads a call may use now."""
    number: int = threads.allowed(_setting.get())
    return number


def described() -> str:
    """Say how many threads a call may use, and how many were wanted if OpenMP allows fewer."""
    wanted, number = _setting.get(), count()
    return str(number) if number == wanted else f"{number} (of {wanted}; OpenMP allows no more)"


@named
def set_num_threads(n: SupportsIndex) -> None:
    """Set the number of threads that kernels use, for the whole process.

    Results do not depend on it: they are bit-identical for every number. Small calls stay on one
    thread. The default is ``OMP_NUM_THREADS``; if it is not set, the number of processors that
    the process may use, or that the container's CPU quota pays for if those are fewer. Within a
    block of `num_threads` the block's number holds.

    OpenMP's own limits are respected: ``OMP_THREAD_LIMIT``, and a number that was lowered by
    ``omp_set_num_threads``, as ``threadpoolctl.threadpool_limits`` does, in the thread that called
    it. Where the operating system refuses to start so many threads, fewer are used.

    Parameters
    ----------
    n : int
        Number of threads, from 1 to 1024. It may be larger than the number of cores.

    Raises
    ------
    TypeError
        If `n` is not an integer.
    ValueError
        If `n` is out of range.

    Examples
    --------
    >>> import fastconv
    >>> before = fastconv.get_num_threads()
    >>> fastconv.set_num_threads(2)
    >>> fastconv.get_num_threads()
    2
    >>> fastconv.set_num_threads(before)
    """
    _setting.everywhere = _checked(n)


def get_num_threads() -> int:
    """Return the number of threads that kernels use.

    Returns
    -------
    int
        Number of the `num_threads` block around the call. Outside of blocks it is the one that
        `set_num_threads` set last, or the default. OpenMP's limits are applied to it.

    Examples
    --------
    >>> import fastconv
    >>> fastconv.get_num_threads() >= 1
    True
    """
    return count()


@named
class num_threads(Block[int]):
    """Set the number of threads within a ``with`` block.

    The setting holds in the context of the block, as that of `numpy.errstate` does: in the thread
    or in the asyncio task of the block, and in tasks that this one starts. Other threads keep their
    own.

    Parameters
    ----------
    n : int
        Number of threads, from 1 to 1024.

    Raises
    ------
    TypeError
        If `n` is not an integer.
    ValueError
        If `n` is out of range.

    Examples
    --------
    >>> import fastconv
    >>> with fastconv.num_threads(1):
    ...     fastconv.get_num_threads()
    1
    """

    def __init__(self, n: SupportsIndex) -> None:
        super().__init__(_setting, _checked(n))


class Sharing(Block[int]):
    """A ``with`` block of a computation that shares the threads with others that run beside it.

    Such computations are the fits of several estimators in the threads of a pool. Each uses an
    equal part of the threads that it would use alone, at least one, whatever has started the
    threads, and more again as soon as another one has ended. A block within another one of the
    same context belongs to the same computation.
    """

    _lock = threading.Lock()
    _running = 0
    """How many computations share threads now, in the whole process."""

    def __init__(self) -> None:
        super().__init__(_setting, _setting.get())
        self._is_outermost = False

    def value(self) -> int:
        """Return the part of the threads that the computation may use now."""
        return max(1, self._value // max(1, Sharing._running))

    def __enter__(self) -> None:
        inside = any(isinstance(block, Sharing) for block in self._setting.blocks.get())
        self._is_outermost = not inside
        if inside:
            # The value of the block around it is divided already.
            return
        with Sharing._lock:
            Sharing._running += 1
        super().__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._is_outermost:
            super().__exit__(kind, error, traceback)
            with Sharing._lock:
                Sharing._running -= 1

    @classmethod
    def forget(cls) -> None:
        """Begin anew in a forked child, which has none of the other threads."""
        cls._lock, cls._running = threading.Lock(), 0


# OpenMP's idle threads do not exist in a forked child, which would wait for them for ever.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=threads.pause, after_in_child=Sharing.forget)
