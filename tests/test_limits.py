"""What the container and the operating system allow: control groups of both versions, limits."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers import run_python

from fastconv import _limits

MIB = 1 << 20
MACHINE = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
VERSION_2 = "0::/user/job\n"
VERSION_1 = "5:memory:/user/job\n4:cpu,cpuacct:/user/job\n0::/elsewhere\n"


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the process control groups of its own making."""
    monkeypatch.setattr(_limits, "GROUPS", str(tmp_path / "cgroup"))
    monkeypatch.setattr(_limits, "MEMBERSHIP", str(tmp_path / "membership"))
    return tmp_path / "cgroup"


def write(groups: Path, membership: str, files: dict[str, str]) -> None:
    (groups.parent / "membership").write_text(membership)
    for name, text in files.items():
        (groups / name).parent.mkdir(parents=True, exist_ok=True)
        (groups / name).write_text(text + "\n")


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        (VERSION_2, {}, None),
        (VERSION_2, {"user/job/memory.max": "max", "user/job/memory.high": "max"}, None),
        (VERSION_2, {"user/job/memory.max": str(96 * MIB)}, 96),
        (VERSION_2, {"user/job/memory.max": str(96 * MIB), "user/memory.max": str(64 * MIB)}, 64),
        (VERSION_2, {"user/job/memory.max": str(96 * MIB), "memory.high": str(32 * MIB)}, 32),
        ("0::/\n", {"memory.max": str(48 * MIB)}, 48),
        (VERSION_1, {"memory/user/job/memory.limit_in_bytes": str(80 * MIB)}, 80),
        # A container sees its own group as the root, under another path than it is told.
        (VERSION_1, {"memory/memory.limit_in_bytes": str(16 * MIB)}, 16),
        (VERSION_1, {"memory/memory.limit_in_bytes": str(2**63 - 4096)}, None),
        (VERSION_2, {"user/job/memory.max": "nonsense"}, None),
    ],
)
def test_memory(groups: Path, membership: str, files: dict[str, str], expected: int | None) -> None:
    write(groups, membership, files)
    assert _limits.memory() == (MACHINE if expected is None else expected * MIB)


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        (VERSION_2, {}, float("inf")),
        (VERSION_2, {"user/job/cpu.max": "max 100000"}, float("inf")),
        (VERSION_2, {"user/job/cpu.max": "150000 100000"}, 1.5),
        (VERSION_2, {"user/job/cpu.max": "300000 100000", "cpu.max": "50000 100000"}, 0.5),
        (VERSION_2, {"user/job/cpu.max": ""}, float("inf")),
        (
            VERSION_1,
            {"cpu/cpu.cfs_quota_us": "250000", "cpu/cpu.cfs_period_us": "100000"},
            2.5,
        ),
        (
            VERSION_1,
            {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"},
            float("inf"),
        ),
    ],
)
def test_processors(groups: Path, membership: str, files: dict[str, str], expected: float) -> None:
    write(groups, membership, files)
    assert _limits.cpu_quota() == expected


def test_a_group_whose_name_is_no_text(groups: Path) -> None:
    """Names of groups are bytes that need not be text in any encoding."""
    folder = os.fsencode(groups) + b"/caf\xe9"
    os.makedirs(folder)
    with open(folder + b"/memory.max", "w") as file:
        file.write(f"{24 * MIB}\n")
    (groups.parent / "membership").write_bytes(b"0::/caf\xe9\n")
    assert _limits.memory() == 24 * MIB


def test_without_control_groups(groups: Path) -> None:
    assert _limits.memory() == MACHINE
    assert _limits.cpu_quota() == float("inf")


def test_limit_of_address_space() -> None:
    result = run_python(
        "import resource\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2 << 30, resource.RLIM_INFINITY))\n"
        "from fastconv import _limits\n"
        "from fastconv._kernels import memory\n"
        "print(_limits.memory(), memory.limit())",
        FASTCONV_CACHE_MIB="",
    )
    assert result.stdout.split() == [str(2 << 30), str(128 * MIB)], result.stderr
