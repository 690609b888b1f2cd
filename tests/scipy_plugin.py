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
    for module in ndimage, signal:
        for name in module.__all__:
            setattr(module, name, _counted(name, getattr(module, name)))
    fastconv.patch_scipy()


def pytest_unconfigure() -> None:
    fastconv.unpatch_scipy()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    names = (*ndimage.__all__, *signal.__all__)
    terminalreporter.write_line("calls: " + " ".join(f"{name}={_calls[name]}" for name in names))
