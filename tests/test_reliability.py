"""Promises of docs/reliability.md that no other file tests: exits, interrupts, large arrays."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import run_python

import fastconv
from fastconv._limits import memory

COMPUTE = """
import threading, time
import numpy as np
import fastconv

fastconv.set_num_threads(3)
x, w = np.ones((2, 16, 96, 96), np.float32), np.ones((16, 16, 3, 3), np.float32)
running = threading.Event()

def work():
    while True:
        fastconv.conv2d(x, w)
        fastconv.max_pool2d(x, 2)
        running.set()
"""


@pytest.mark.parametrize(
    "leave",
    ["sys.exit(7)", "os._exit(7)", "raise KeyError('end')"],
    ids=["exit", "at once", "error"],
)
def test_exit_while_threads_compute(leave: str) -> None:
    """A process ends with its own code, whatever its other threads and their teams are doing."""
    result = run_python(
        f"import os, sys\n{COMPUTE}\n"
        "for _ in range(3): threading.Thread(target=work, daemon=True).start()\n"
        f"running.wait()\nprint('left', flush=True)\n{leave}"
    )
    assert result.stdout.split() == ["left"], result.stderr
    assert result.returncode == (1 if "raise" in leave else 7), result.stderr
    assert "Fatal" not in result.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no signal to its own process")
def test_interrupts_leave_results_whole() -> None:
    """Ctrl-C arrives between calls: no call ends half done, and the next ones compute the same."""
    result = run_python(
        f"import os, signal\n{COMPUTE}\n"
        "expected, interrupts, ready = fastconv.conv2d(x, w), 0, threading.Event()\n"
        "out = np.empty_like(expected)\n"
        "def send():\n"
        "    for _ in range(20):\n"
        "        ready.wait(); ready.clear(); time.sleep(0.003)\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "sender = threading.Thread(target=send); sender.start()\n"
        "whole = True\n"
        "for _ in range(20):\n"
        "    try:\n"
        "        out[:] = np.nan\n"
        "        ready.set()\n"
        "        while True: fastconv.conv2d(x, w, out=out)\n"
        "    except KeyboardInterrupt:\n"
        "        interrupts += 1\n"
        "        whole &= bool((out == expected).all() or np.isnan(out).all())\n"
        "sender.join()\n"
        "print(whole, interrupts, (fastconv.conv2d(x, w) == expected).all())"
    )
    assert result.stdout.split() == ["True", "20", "True"], result.stderr


@pytest.mark.exhaustive
def test_arrays_of_more_than_four_billion_elements() -> None:
    """Distances between elements are 64-bit numbers: results behind element 2**32 are right."""
    height, width = 1 << 16, (1 << 16) + 2
    if memory() < 16 << 30:
        pytest.skip("needs 16 GiB of memory")
    x = np.zeros((1, 1, height, width), np.int8)
    x[0, 0, -3:, -3:] = np.arange(9, dtype=np.int8).reshape(3, 3)
    maxima = fastconv.max_pool2d(x, 2, 2)
    assert maxima.shape == (1, 1, height // 2, width // 2)
    np.testing.assert_array_equal(maxima[0, 0, -2:, -2:], [[0, 2], [6, 8]])
    assert not maxima[0, 0, :-2].any()


def test_the_version_is_the_same_everywhere() -> None:
    root = Path(__file__).parent.parent
    for name, pattern in (
        ("CITATION.cff", r"^version: (\S+)$"),
        ("packaging/conda/recipe.yaml", r'^  version: "(.+)"$'),
    ):
        if not (root / name).exists():
            pytest.skip("outside of a checkout")
        found = re.findall(pattern, (root / name).read_text(), re.MULTILINE)
        assert found == [fastconv.__version__], name


def test_the_page_names_tests_that_exist() -> None:
    page = Path(__file__).parent.parent / "docs/reliability.md"
    if not page.exists():
        pytest.skip("without the documentation")
    named = re.findall(r"`(test_\w+)\.py::(test_\w+)`", page.read_text())
    assert len(named) > 20
    for file, test in named:
        source = (Path(__file__).parent / f"{file}.py").read_text()
        assert f"def {test}(" in source, f"{file}.py::{test}"
