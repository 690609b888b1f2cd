"""Fixtures: every CPU level that this machine can run, one thread and several, and PyTorch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# Threads that wait for each other sleep. By default they keep their processors busy, and where other
# programs need those too, the thread that is waited for does not run: training a network on two
# threads took 17 s instead of 1.4 beside three such programs. OpenMP reads this when it is loaded,
# with the kernels; processes that tests start inherit it.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import fastconv
from fastconv import _kernels

# Derandomized: a failure in one run is a failure in every run. The level is switched once around
# all examples of a test, which is what a function-scoped fixture does.
settings.register_profile(
    "fastconv",
    derandomize=True,
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("fastconv")


@pytest.fixture(params=_kernels.available_levels())
def level(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test once with the kernels of each CPU level."""
    before = _kernels.level
    _kernels.use(request.param)
    yield request.param
    _kernels.use(before)


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """Run the test once on one thread and once on three."""
    with fastconv.num_threads(request.param):
        yield request.param


@pytest.fixture
def torch() -> Any:
    """PyTorch, as a further reference; on one thread, to leave the cores to the library."""
    module = pytest.importorskip(
        "torch", reason="PyTorch is not installed, so its results are not compared"
    )
    module.set_num_threads(1)
    return module
