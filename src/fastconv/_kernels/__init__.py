"""The compiled kernels: one module per kernel and CPU level, and the choice among them.

Callers write ``_kernels.columns.gather(...)``; the attribute is the module of the level in use.
"""

import importlib.util
import os
from types import ModuleType
from typing import Any

KERNELS = (
    "activation",
    "columns",
    "convolution",
    "gradients",
    "pooling",
    "product",
    "roofline",
    "winograd",
    "winograd_gradient",
)

# Compiled modules have no types: mypy sees their attributes as Any.
cpu: Any = importlib.import_module(f"{__name__}.cpu")
memory: Any = importlib.import_module(f"{__name__}.memory")
threads: Any = importlib.import_module(f"{__name__}.threads")
activation: Any
columns: Any
convolution: Any
gradients: Any
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
        name
        for name in cpu.supported_levels()
        if importlib.util.find_spec(f"{__name__}.{KERNELS[0]}_{name}") is not None
    )


def load(name: str) -> dict[str, ModuleType]:
    """Return a level's modules by kernel."""
    return {kernel: importlib.import_module(f"{__name__}.{kernel}_{name}") for kernel in KERNELS}


def use(name: str) -> None:
    """Switch to a level, everywhere and at once."""
    if name not in available_levels():
        raise ValueError(
            f"CPU level must be one of {', '.join(available_levels())} on this machine, "
            f"got {name!r} (FASTCONV_CPU_LEVEL)"
        )
    globals().update(load(name), level=name)


use(os.environ.get("FASTCONV_CPU_LEVEL") or available_levels()[0])
