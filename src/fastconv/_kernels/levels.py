"""The kernels and the CPU levels that they are compiled for: one table.

``setup.py`` executes this file to know what to build, and ``fastconv._kernels`` imports it to know
what to load. So it imports nothing of fastconv.
"""

from __future__ import annotations

from typing import NamedTuple

KERNELS = (
    "microkernels",  # The largest is the first, so that no processor compiles it alone at the end.
    "activation",
    "average_pooling",
    "columns",
    "convolution",
    "dense",
    "global_pooling",
    "gradients",
    "local_response",
    "loss",
    "max_pooling",
    "normalization",
    "optimizers",
    "product",
    "rank",
    "roofline",
    "running",
    "separable",
    "unpooling",
    "winograd",
    "winograd_gradient",
)
"""The sources: kernel x is compiled from x.pyx to the module x_<level>."""


class Level(NamedTuple):
    """An instruction set, and what is compiled for it.

    A level has everything that its parent has. For a kernel that is not compiled for it, the
    parent's module is used.
    """

    name: str
    parent: str | None = None
    machines: tuple[str, ...] = ()
    """Those values of `platform.machine()` that have this level; empty for all machines."""
    features: tuple[str, ...] = ()
    """What a processor needs besides the parent's features, as `-m` of the compiler names it."""
    flags: tuple[str, ...] = ()
    """Compiler flags besides those of the features and those of the parent."""
    kernels: tuple[str, ...] = KERNELS
    """The kernels that are compiled for this level."""


LEVELS = (
    Level(
        "v4",
        parent="v3",
        machines=("x86_64", "AMD64"),
        features=("avx512f", "avx512bw", "avx512dq", "avx512vl"),
        flags=("-mprefer-vector-width=512",),
    ),
    Level("v3", parent="base", machines=("x86_64", "AMD64"), features=("avx2", "fma")),
    Level("base"),  # The compiler's default: any processor of the machine runs it.
)
"""All levels, best first."""


def lineage(name: str) -> list[Level]:
    """Return a level, its parent, and so on."""
    by_name = {level.name: level for level in LEVELS}
    found = [by_name[name]]
    while found[-1].parent is not None:
        found.append(by_name[found[-1].parent])
    return found


def features(name: str) -> list[str]:
    """Return all features that a processor needs to run a level."""
    return [feature for level in reversed(lineage(name)) for feature in level.features]


def compiler_flags(name: str) -> list[str]:
    """Return the flags that compile a module for a level."""
    flags = [flag for level in reversed(lineage(name)) for flag in level.flags]
    return [f"-m{feature}" for feature in features(name)] + flags


def module(kernel: str, name: str) -> str:
    """Return the name of the module that a level uses for a kernel."""
    for level in lineage(name):
        if kernel in level.kernels:
            return f"{kernel}_{level.name}"
    raise LookupError(f"kernel {kernel!r} is compiled for no level from {name!r} on")


def modules(machine: str) -> list[tuple[str, str]]:
    """Return what is compiled for a machine: the kernel and the level of each module."""
    return [
        (kernel, level.name)
        for level in LEVELS
        if not level.machines or machine in level.machines
        for kernel in level.kernels
    ]
