"""What the container and the operating system allow this process: processors, memory."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import suppress

from fastconv._kernels import memory as _memory

GROUPS = "/sys/fs/cgroup"
MEMBERSHIP = "/proc/self/cgroup"


def cpu_quota() -> float:
    """Return how many processors' time the container may use, infinity if there is no limit."""
    quota = float("inf")
    for limit, period in (
        *(text.split() for text in _settings("cpu.max") if len(text.split()) == 2),
        *zip(_settings("cpu.cfs_quota_us", "cpu"), _settings("cpu.cfs_period_us", "cpu")),
    ):
        if limit.isdecimal() and period.isdecimal() and int(period):  # not "max", not -1
            quota = min(quota, int(limit) / int(period))
    return quota


def memory() -> int:
    """Return how many bytes this process may use: the machine's, the container's, its own limit."""
    sizes: list[int] = [_memory.machine() or sys.maxsize]
    for texts in (
        _settings("memory.max"),
        _settings("memory.high"),
        _settings("memory.limit_in_bytes", "memory"),
    ):
        sizes += [int(text) for text in texts if text.isdecimal()]
    try:
        import resource

        sizes += [
            size
            for size in resource.getrlimit(resource.RLIMIT_AS)
            if size != resource.RLIM_INFINITY
        ]
    except ImportError:  # not on Windows
        pass
    return min(sizes)


def _settings(name: str, controller: str = "") -> Iterator[str]:
    """Yield a setting of this process's control group and of all above it, which bind it too.

    MEMBERSHIP names the groups, "0::/path" in version 2 and "4:memory,...:/path" in version
    1, whose controllers have trees of their own. A container may see its own group as the root.
    """
    try:
        # A group's name may be any bytes. (pathlib would be half of the time to import fastconv.)
        with open(MEMBERSHIP, errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError:
        return
    top = os.path.join(GROUPS, controller) if controller else GROUPS
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controller not in controllers.split(","):
            continue
        folder = f"{top}{path}".rstrip("/")
        while True:
            # A group may have no such limit, or lie outside of the container.
            with suppress(OSError), open(os.path.join(folder, name)) as file:
                yield file.read().strip()
            above = os.path.dirname(folder)
            if folder in (top, above):
                break
            folder = above
