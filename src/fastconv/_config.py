"""What this build is and what it uses."""

from __future__ import annotations

import numpy as np

from fastconv import _kernels, _threads
from fastconv._kernels import cpu, memory, threads
from fastconv._version import __version__


def show_config() -> None:
    """Print the version, the CPU level in use and available, OpenMP, threads and the compiler.

    Examples
    --------
    >>> import fastconv
    >>> fastconv.show_config()  # doctest: +ELLIPSIS
    fastconv      ...
    NumPy         ...
    CPU level     ... (available: ...base)
    OpenMP        ...
    threads       ...
    compiler      ...
    idle memory   ...
    """
    openmp = threads.openmp_date or "none: this build is single-threaded"
    rows = {
        "fastconv": __version__,
        "NumPy": np.__version__,
        "CPU level": f"{_kernels.level} (available: {', '.join(_kernels.available_levels())})",
        "OpenMP": openmp,
        "threads": _threads.described(),
        "compiler": cpu.compiler,
        "idle memory": f"{memory.held() >> 20} of at most {memory.limit() >> 20} MiB",
    }
    for name, value in rows.items():
        print(f"{name:<13} {value}")
