"""A plugin for pytest that runs SciPy's own tests on our functions.

    python -m pytest -p scipy_plugin --pyargs scipy.ndimage.tests.test_filters

`PYTHONPATH` must lead to this folder. At the end, the plugin tells how often each of our functions
was called, so that a run in which SciPy tested itself is seen.
"""

from __future__ import annotations

import functools
from collections import Counter
from typing import Any

import pytest
import scipy.ndimage
import scipy.signal
from scipy._lib._array_api import xp_capabilities_table

import fastconv
from fastconv import ndimage, signal

_calls: Counter[str] = Counter()


def _counted(name: str, function: Any) -> Any:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        _calls[name] += 1
        return function(*args, **kwargs)

    return call


def pytest_configure() -> None:
    """Put our functions in SciPy's place before its tests are imported."""
    for ours, theirs in (ndimage, scipy.ndimage), (signal, scipy.signal):
        for name in ours.__all__:
            counted = _counted(name, getattr(ours, name))
            setattr(ours, name, counted)
            # SciPy's tests ask here which libraries' arrays a function takes.
            xp_capabilities_table[counted] = xp_capabilities_table[getattr(theirs, name)]
    fastconv.patch_scipy()


def pytest_unconfigure() -> None:
    fastconv.unpatch_scipy()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    names = (*ndimage.__all__, *signal.__all__)
    terminalreporter.write_line("calls: " + " ".join(f"{name}={_calls[name]}" for name in names))
