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
    "fourier",
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
    """The instruction sets, as `machine` names them, that have this level; empty for all."""
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
        machines=("x86_64",),
        features=("avx512f", "avx512bw", "avx512dq", "avx512vl"),
        flags=("-mprefer-vector-width=512",),
    ),
    Level("v3", parent="base", machines=("x86_64",), features=("avx2", "fma")),
    # The compiler's default, which any processor of the machine runs: SSE2 on x86-64, and NEON on
    # 64-bit Arm, whose 32 registers have register tiles of their own (tile.h). A level for Arm
    # beside it would be the same code twice.
    Level("base"),
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


def machine(platform: str) -> str:
    """Return the instruction set of a target, as `sysconfig.get_platform` names targets.

    It names the target of a cross-build where `platform.machine` names the building machine.

    >>> [machine(p) for p in ("linux-x86_64", "win-amd64", "macosx-11.0-arm64", "linux-aarch64")]
    ['x86_64', 'x86_64', 'aarch64', 'aarch64']

    One build of "macosx-11.0-universal2" compiles every file for both of its instruction sets, so
    that it gets no flags of either.
    """
    name = platform.rpartition("-")[2].lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(name, name)


def modules(platform: str) -> list[tuple[str, str]]:
    """Return what is compiled for a target: the kernel and the level of each module."""
    target = machine(platform)
    return [
        (kernel, level.name)
        for level in LEVELS
        if not level.machines or target in level.machines
        for kernel in level.kernels
    ]
