"""scripts/digests.py, on a few of its calls: it repeats, and finds what differs by one bit."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from helpers import run_python

from fastconv import _kernels

SCRIPTS = Path(__file__).parents[1] / "scripts"
if not SCRIPTS.exists():
    pytest.skip("scripts/ is in no wheel: python -m pytest, in a checkout", allow_module_level=True)

FEW = "matmul(array((3, "
SETUP = f"import sys; sys.path.insert(0, {str(SCRIPTS)!r}); import digests\n"

FLIP_ONE_BIT = """
matmul = digests.NAMES["matmul"]

def flipped(*arguments, **keywords):
    result = matmul(*arguments, **keywords)
    if {condition} and result.size:
        result.view("u1").flat[0] ^= 1
    return result

digests.NAMES["matmul"] = flipped
"""


def digests(*arguments: object, patch: str = "") -> subprocess.CompletedProcess[str]:
    """Run the script with arguments, after changes to what it calls."""
    call = f"sys.argv = {['digests.py', *map(str, arguments)]!r}\nsys.exit(digests.main())"
    return run_python(SETUP + patch + call)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "before.json"
    assert digests("write", path, "--only", FEW).returncode == 0
    return path


def test_calls_repeat(written: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.json"
    digests("write", again, "--only", FEW)
    assert again.read_text() == written.read_text()
    same = digests("compare", written, again)
    assert same.returncode == 0
    assert same.stdout.startswith("0 of ")

    data: dict[str, Any] = json.loads(written.read_text())
    assert len(data["calls"]) > 3
    assert all(FEW in call for call in data["calls"])
    for outcomes in data["calls"].values():
        assert tuple(outcomes) == _kernels.available_levels()


def test_one_bit_at_one_level_is_found(written: Path, tmp_path: Path) -> None:
    level = _kernels.available_levels()[-1]
    patch = FLIP_ONE_BIT.format(condition=f"digests._kernels.level == {level!r}")
    changed = tmp_path / "changed.json"
    digests("write", changed, "--only", FEW, patch=patch)

    found = digests("compare", written, changed)
    assert found.returncode == 1
    lines = found.stdout.splitlines()
    calls = json.loads(written.read_text())["calls"]
    named = [line for line in lines if not line.startswith(" ")][:-1]
    assert named
    assert set(named) <= set(calls)
    assert all("array((3, " in line for line in named)
    assert sum(line.startswith(f"    {level}: ") for line in lines) == len(named)
    assert digests("compare", written, changed, "--only", "no such call").returncode == 1


def test_what_depends_on_threads_is_not_written(tmp_path: Path) -> None:
    patch = FLIP_ONE_BIT.format(condition="digests.fastconv.get_num_threads() == 3")
    path = tmp_path / "digests.json"
    failed = digests("write", path, "--only", FEW, patch=patch)
    assert failed.returncode == 1
    assert "differ between numbers of threads" in failed.stdout
    assert not path.exists()


def test_what_a_digest_tells_apart() -> None:
    code = """
import numpy as np
quiet, other = np.array([0x7FC00000, 0xFFC00001], "u4").view("f4")
def same(a, b, exact=False):
    return digests.digest(a, exact) == digests.digest(b, exact)
assert same(quiet, other) and not same(quiet, other, exact=True)
assert not same(np.float32(0.0), np.float32(-0.0))
assert not same(np.zeros(2, "i4"), np.zeros(2, "u4")) and not same(np.zeros(2), np.zeros((2, 1)))
assert not same((np.ones(2), None), (None, np.ones(2)))
assert digests.outcome("relu('a')").startswith("TypeError: relu: input must be of float16")
"""
    result = run_python(SETUP + code)
    assert result.returncode == 0, result.stderr
