"""The number of threads, and forks of a process that has used several."""

from __future__ import annotations

import os
from pathlib import Path
from typing import SupportsIndex

from fastconv._kernels import cpu
from fastconv._setting import Setting
from fastconv._window import positive

MAX_THREADS = 1024


def _cgroup_quota(root: str = "/sys/fs/cgroup") -> float:
    """Return how many CPUs' time the container may use (Linux cgroups), infinity if all."""
    quota = float("inf")
    try:
        # Version 2: "0::/path" names this process's group; every group above limits it too.
        paths = [line.split(":")[2] for line in Path("/proc/self/cgroup").read_text().splitlines()]
    except OSError:
        return quota
    for path in paths:
        group = Path(root + path)
        for folder in [group, *group.parents]:
            try:
                limit, period = (folder / "cpu.max").read_text().split()
                quota = min(quota, int(limit) / int(period))
            except (OSError, ValueError):  # no such file, or "max" for no limit
                continue
    try:  # version 1
        limit = Path(root, "cpu/cpu.cfs_quota_us").read_text()
        period = Path(root, "cpu/cpu.cfs_period_us").read_text()
        if int(limit) > 0:
            quota = min(quota, int(limit) / int(period))
    except (OSError, ValueError):
        pass
    return quota


def _default_threads() -> int:
    """Return OpenMP's number (OMP_NUM_THREADS, affinity, cores), within the container's quota."""
    threads: int = cpu.max_threads()
    if "OMP_NUM_THREADS" not in os.environ:
        threads = int(min(threads, -(-_cgroup_quota() // 1)))
    return max(1, min(threads, MAX_THREADS))


def _checked(n: SupportsIndex) -> int:
    number = positive(n, "n")
    if number > MAX_THREADS:
        raise ValueError(f"n must be at most {MAX_THREADS} threads, got {n}")
    return number


count = _default_threads()
"""The number of threads in use; `set_num_threads` changes it."""


def set_num_threads(n: SupportsIndex) -> None:
    """Set the number of threads that kernels use, for the whole process.

    Results do not depend on it: they are bit-identical for every number. Small calls stay on one
    thread. The default is OpenMP's (``OMP_NUM_THREADS``, CPU affinity, cores), limited by the
    container's CPU quota.

    Parameters
    ----------
    n : int
        From 1 to 1024; more than there are cores is allowed.

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
    global count
    count = _checked(n)


def get_num_threads() -> int:
    """Return the number of threads that kernels use.

    Returns
    -------
    int
        What `set_num_threads` or `num_threads` set last, or the default.

    Examples
    --------
    >>> import fastconv
    >>> fastconv.get_num_threads() >= 1
    True
    """
    return count


class num_threads(Setting[int]):
    """Set the number of threads within a ``with`` block, for the whole process.

    Parameters
    ----------
    n : int
        From 1 to 1024.

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
        super().__init__(_checked(n), get_num_threads, set_num_threads)


# OpenMP's idle threads do not exist in a forked child, which would wait for them for ever.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=cpu.pause_threads)
