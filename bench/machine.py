"""What the numbers were measured on."""

import contextlib
import datetime
import io
import os
import platform
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import fastconv


@dataclass(frozen=True)
class Machine:
    cpu: str
    cores: int
    load: float  # The mean number of running processes in the minute before the benchmark.
    system: str
    python: str
    versions: dict[str, str]
    fastconv: dict[str, str]  # The lines of `fastconv.show_config`.
    commit: str  # The commit of fastconv; empty outside of a repository.
    date: str
    threads: int
    clock: str = ""  # The processor's clock as the system says it, which may be the nominal one.


def describe(versions: dict[str, str], threads: int) -> Machine:
    affinity = getattr(os, "sched_getaffinity", None)
    clock = _cpu_info("cpu MHz")
    with contextlib.redirect_stdout(io.StringIO()) as config:
        fastconv.show_config()
    return Machine(
        cpu=_cpu_info("model name") or platform.processor() or platform.machine(),
        cores=len(affinity(0)) if affinity else os.cpu_count() or 1,
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0,
        system=platform.platform(),
        python=platform.python_version(),
        versions=versions,
        fastconv=dict(re.findall(r"^(.+?) {2,}(.+)$", config.getvalue(), re.MULTILINE)),
        commit=_commit(),
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        threads=threads,
        clock=f"{float(clock) / 1000:.2f} GHz" if clock else "",
    )


def _cpu_info(name: str) -> str:
    """Give what Linux says of the first processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")


def _commit() -> str:
    """Name the commit, and say if files differ from it."""
    command = ["git", "describe", "--always", "--abbrev=12", "--dirty=, changed"]
    folder = Path(__file__).parent
    try:
        found = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return found.stdout.strip()
