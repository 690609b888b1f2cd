"""SciPy's own tests of the functions that we have by the same names, run on ours."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("scipy", reason="SciPy is not installed")
pytest.importorskip("scipy.ndimage.tests", reason="SciPy is installed without its tests")

SUITES = {
    "ndimage": (
        ["scipy.ndimage.tests.test_filters", "scipy.ndimage.tests.test_morphology"],
        "test_filters or grey or morphological or hat",
    ),
    "signal": (["scipy.signal.tests.test_signaltools"], "TestConvolve2d or TestCorrelate2d"),
}


def run_suite(name: str, left_out: str) -> str:
    """Run SciPy's tests in a process of their own; return what pytest says at the end."""
    modules, expression = SUITES[name]
    if left_out:
        expression = f"({expression}) and not {left_out}"
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "scipy_plugin"]
        + ["--pyargs", *modules, "-k", expression],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-5000:] + run.stderr[-2000:]
    return run.stdout


@pytest.mark.parametrize(
    "name",
    [pytest.param("ndimage", marks=pytest.mark.exhaustive), "signal"],  # 3,221 and 24 tests
)
def test_scipys_own_tests_pass(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.chdir(tmp_path)  # Elsewhere, pytest would read this project's settings.
    # One test of signal convolves several gigabytes.
    left_out = "" if request.config.getoption("exhaustive") else "test_large_array"
    output = run_suite(name, left_out)
    passed = re.search(r"(\d+) passed", output)
    assert passed is not None
    assert int(passed[1]) > 20
    calls = dict(re.findall(r"(\w+)=(\d+)", output.partition("calls: ")[2]))
    module = __import__(f"fastconv.{name}", fromlist=["__all__"])
    assert not [function for function in module.__all__ if int(calls[function]) == 0]
