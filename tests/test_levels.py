"""CPU levels: what is built, how one is chosen, and that all compute the same."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import numpy as np
import pytest
from helpers import Operation, Shape, assert_same, each_operation, run_python

import fastconv
from fastconv import _kernels
from fastconv._kernels import levels

LEVELS = _kernels.available_levels()


def test_the_best_level_is_chosen() -> None:
    """Levels are listed best first, and the one that every processor runs is always there."""
    assert LEVELS[-1] == "base"
    assert len(set(LEVELS)) == len(LEVELS)
    result = run_python(
        "import os; os.environ.pop('FASTCONV_CPU_LEVEL', None)\n"
        "from fastconv import _kernels; print(_kernels.level)"
    )
    assert result.stdout.split() == [LEVELS[0]], result.stderr


@pytest.mark.parametrize("name", LEVELS)
def test_modules_report_their_own_level(name: str) -> None:
    """The level comes from the definitions that a module is compiled with, not from its name."""
    for kernel in levels.KERNELS:
        module = _kernels.load(kernel, name)
        assert f"{kernel}_{module.level}" == levels.module(kernel, name)


def test_better_levels_have_wider_vectors() -> None:
    """The compiler flags of a level have reached its microkernels."""
    widths = [_kernels.load("microkernels", name).vector_bytes for name in LEVELS]
    assert widths == sorted(set(widths), reverse=True)
    assert widths[-1] == 16


def test_a_level_uses_its_parents_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """A level may have one kernel of its own; the rest, and the flags, come from its parent."""
    target, parent = sysconfig.get_platform(), LEVELS[0]
    before = levels.modules(target)
    new = levels.Level("new", parent, features=("amx_tile",), kernels=("convolution",))
    monkeypatch.setattr(levels, "LEVELS", (new, *levels.LEVELS))
    assert levels.modules(target) == [("convolution", "new"), *before]
    assert levels.module("convolution", "new") == "convolution_new"
    assert levels.module("columns", "new") == f"columns_{parent}"
    assert set(levels.compiler_flags("new")) == {*levels.compiler_flags(parent), "-mamx_tile"}
    with pytest.raises(LookupError, match=r"'resize'.*'new'"):
        levels.module("resize", "new")


def test_the_table_knows_what_is_built() -> None:
    """All levels of the machine are built, and the processor answers what each asks."""
    built = {name for _, name in levels.modules(sysconfig.get_platform())}
    for level in levels.LEVELS:
        answers = [_kernels.cpu.has(feature) for feature in levels.features(level.name)]
        assert (level.name in LEVELS) == (all(answers) and level.name in built)
    with pytest.raises(ValueError, match="'avx3'"):
        _kernels.cpu.has("avx3")


def test_the_processors_features_are_those_that_the_system_lists() -> None:
    """Linux lists a feature only if it also saves the registers that the feature uses."""
    lines = Path("/proc/cpuinfo")
    if levels.machine(sysconfig.get_platform()) != "x86_64" or not lines.exists():
        pytest.skip("not Linux on x86-64")
    flags = next(line for line in lines.read_text().splitlines() if line.startswith("flags"))
    for level in levels.LEVELS:
        for feature in level.features:
            assert _kernels.cpu.has(feature) == (feature in flags.split()), feature


@pytest.mark.parametrize(
    ("platform", "names"),
    [
        ("linux-x86_64", {"v4", "v3", "base"}),
        ("win-amd64", {"v4", "v3", "base"}),
        ("macosx-11.0-x86_64", {"v4", "v3", "base"}),
        ("linux-aarch64", {"base"}),
        ("macosx-11.0-arm64", {"base"}),
        ("macosx-11.0-universal2", {"base"}),
        ("win-arm64", {"base"}),
        ("emscripten-4.0.9-wasm32", {"base"}),
    ],
)
def test_levels_are_those_of_the_target(platform: str, names: set[str]) -> None:
    """The machine that builds does not matter: no Arm compiler is given a flag of x86-64."""
    assert {name for _, name in levels.modules(platform)} == names
    assert {kernel for kernel, name in levels.modules(platform) if name == "base"} == {
        *levels.KERNELS
    }
    flags = [flag for name in names for flag in levels.compiler_flags(name)]
    assert bool(flags) == (len(names) > 1)


def test_use_switches_everything(level: str) -> None:
    assert _kernels.level == level
    for kernel in levels.KERNELS:
        assert getattr(_kernels, kernel) is _kernels.load(kernel, level)


def test_kernels_are_imported_when_they_are_used() -> None:
    """A program waits only for the kernels that it needs."""
    result = run_python(
        "import sys, numpy, fastconv\n"
        "loaded = lambda: {kernel for kernel in fastconv._kernels.levels.KERNELS\n"
        "    if any(name.startswith(f'fastconv._kernels.{kernel}_') for name in sys.modules)}\n"
        "assert not loaded(), loaded()\n"
        "fastconv.relu(numpy.zeros(3, 'f4'))\n"
        "assert loaded() == {'activation', 'microkernels'}, loaded()\n"
        "fastconv.im2col(numpy.zeros((1, 1, 3, 3), 'f4'), 2, 2)\n"
        "assert loaded() == {'activation', 'columns', 'microkernels'}, loaded()\n"
    )
    assert result.returncode == 0, result.stderr


def test_there_are_no_other_kernels() -> None:
    with pytest.raises(AttributeError, match=r"fastconv\._kernels.*'resize'"):
        _kernels.resize  # noqa: B018


def test_use_refuses_what_cannot_run() -> None:
    before = _kernels.level
    for name in ("v9", "", "V3", "avx2"):
        with pytest.raises(ValueError, match=rf"{', '.join(LEVELS)}.*got '{name}'"):
            _kernels.use(name)
    assert _kernels.level == before


@pytest.mark.parametrize("name", LEVELS)
def test_the_environment_forces_a_level(name: str) -> None:
    result = run_python("import fastconv; fastconv.show_config()", FASTCONV_CPU_LEVEL=name)
    [line] = [line for line in result.stdout.splitlines() if "CPU level" in line]
    assert line.split()[2] == name, result.stderr


@pytest.mark.parametrize("name", ["v9", "BASE", "native"])
def test_the_environment_names_no_level(name: str) -> None:
    """An unknown level is never replaced in silence: the import fails and lists the choices."""
    result = run_python("import fastconv", FASTCONV_CPU_LEVEL=name)
    assert result.returncode != 0
    message = result.stderr.splitlines()[-1]
    for part in (*LEVELS, name, "FASTCONV_CPU_LEVEL"):
        assert part in message


@each_operation
@pytest.mark.parametrize("shape", [(2, 5, 19, 37), (1, 3, 130, 65), (3, 17, 56, 56)], ids=str)
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_integer_values_are_the_same_at_every_level(
    operation: Operation, shape: Shape, dtype: str
) -> None:
    arrays = operation.arrays(shape, dtype=dtype)
    before = _kernels.level
    results = []
    try:
        for name in LEVELS:
            _kernels.use(name)
            results.append(operation.call(arrays, shape))
    finally:
        _kernels.use(before)
    for result in results:
        assert_same(result, results[-1])


def test_indices_are_the_same_at_every_level(level: str) -> None:
    images = np.random.default_rng(0).integers(0, 4, (2, 3, 40, 67)).astype("f4")
    images[0, 0, ::9, ::7] = np.nan
    found = fastconv.max_pool2d(images, 3, 2, 1, return_indices=True)
    _kernels.use("base")
    expected = fastconv.max_pool2d(images, 3, 2, 1, return_indices=True)
    assert_same(found[0], expected[0])
    assert_same(found[1], expected[1])
