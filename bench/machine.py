"""What the numbers were measured on."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Machine:
    cpu: str
    cores: int
    load: float  # processes that ran during the last minute, before the benchmark
    system: str
    python: str
    versions: dict[str, str]
    fastconv: dict[str, str]
    threads: int


def describe(versions: dict[str, str], config: dict[str, str], threads: int) -> Machine:
    return Machine(
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else _all_cores(),
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0,
        system=platform.platform(),
        python=platform.python_version(),
        versions={"numpy": np.__version__, **versions},
        fastconv=config,
        threads=threads,
    )


def _all_cores() -> int:
    return os.cpu_count() or 1


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
