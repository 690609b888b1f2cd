"""The compiled kernels: one module per kernel and CPU level, and the choice among them.

Callers write ``_kernels.columns.gather(...)``; the attribute is the module of the level in use.
``levels.py`` lists kernels and levels.
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
activation: Any
columns: Any
convolution: Any
gradients: Any
microkernels: Any
pooling: Any
product: Any
roofline: Any
winograd: Any
winograd_gradient: Any
level: str
"""The CPU level in use."""


def available_levels() -> tuple[str, ...]:
    """Return the levels that this processor runs and this build has, best first."""
    return tuple(
        known.name
        for known in levels.LEVELS
        if all(map(cpu.has, levels.features(known.name)))
        and importlib.util.find_spec(f"{__name__}.{known.kernels[0]}_{known.name}") is not None
    )


def load(name: str) -> dict[str, ModuleType]:
    """Return a level's modules by kernel."""
    return {
        kernel: importlib.import_module(f"{__name__}.{levels.module(kernel, name)}")
        for kernel in levels.KERNELS
    }


def use(name: str) -> None:
    """Switch to a level, everywhere and at once."""
    if name not in available_levels():
        raise ValueError(
            f"CPU level must be one of {', '.join(available_levels())} on this machine, "
            f"got {name!r} (FASTCONV_CPU_LEVEL)"
        )
    globals().update(load(name), level=name)


use(os.environ.get("FASTCONV_CPU_LEVEL") or available_levels()[0])
