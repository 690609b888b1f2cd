"""The compiled kernels: one module per kernel and CPU level, and the choice among them.

Callers write ``_kernels.columns.gather(...)``; the attribute is the module of the level in use,
which is imported when it is first used. ``levels.py`` lists kernels and levels.
"""

import importlib.util
import os
from types import ModuleType
from typing import Any

from fastconv._kernels import levels

# Compiled modules have no types: mypy sees their attributes as Any.
cpu: Any = importlib.import_module(f"{__name__}.cpu")
memory: Any = importlib.import_module(f"{__name__}.memory")
threads: Any = importlib.import_module(f"{__name__}.threads")
level = ""
"""The CPU level in use."""


def available_levels() -> tuple[str, ...]:
    """Return the levels that this processor runs and this build has, best first."""
    return tuple(
        known.name
        for known in levels.LEVELS
        if all(map(cpu.has, levels.features(known.name)))
        and importlib.util.find_spec(f"{__name__}.{known.kernels[0]}_{known.name}") is not None
    )


def load(kernel: str, name: str) -> ModuleType:
    """Return the module of a kernel at a level."""
    return importlib.import_module(f"{__name__}.{levels.module(kernel, name)}")


def use(name: str) -> None:
    """Switch to a level, everywhere and at once."""
    global level
    if name not in available_levels():
        raise ValueError(
            f"CPU level must be one of {', '.join(available_levels())} on this machine, "
            f"got {name!r} (FASTCONV_CPU_LEVEL)"
        )
    for kernel in levels.KERNELS:
        globals().pop(kernel, None)
    level = name


def __getattr__(name: str) -> Any:
    """Import a kernel when it is first used, and keep it as an attribute until the next `use`."""
    if name not in levels.KERNELS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return globals().setdefault(name, load(name, level))


use(os.environ.get("FASTCONV_CPU_LEVEL") or available_levels()[0])
