"""Which calls of `fastconv.ndimage` and `fastconv.signal` reach SciPy: those that the docs list."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers import Array

from fastconv import _scipy, ndimage, signal

pytest.importorskip("scipy", reason="SciPy is not installed")

IMAGE = np.random.default_rng(0).integers(0, 99, (9, 10))
KERNEL = np.array([[1, 2, 0], [0, 3, 1]])
CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]])

COVERED: dict[str, Callable[[Array], Any]] = {
    "convolve": lambda x: ndimage.convolve(x, KERNEL),
    "convolve1d": lambda x: ndimage.convolve1d(x, [1, 2, 3]),
    "correlate": lambda x: ndimage.correlate(x, KERNEL),
    "correlate1d": lambda x: ndimage.correlate1d(x, [1, 2, 3]),
    "gaussian_filter": lambda x: ndimage.gaussian_filter(x, 1),
    "gaussian_filter1d": lambda x: ndimage.gaussian_filter1d(x, 1, order=1),
    "gaussian_gradient_magnitude": lambda x: ndimage.gaussian_gradient_magnitude(x, 1),
    "gaussian_laplace": lambda x: ndimage.gaussian_laplace(x, 1),
    "grey_dilation": lambda x: ndimage.grey_dilation(x, footprint=CROSS),
    "grey_erosion": lambda x: ndimage.grey_erosion(x, 3),
    "laplace": lambda x: ndimage.laplace(x),
    "maximum_filter": lambda x: ndimage.maximum_filter(x, footprint=CROSS),
    "maximum_filter1d": lambda x: ndimage.maximum_filter1d(x, 3),
    "median_filter": lambda x: ndimage.median_filter(x, footprint=CROSS),
    "minimum_filter": lambda x: ndimage.minimum_filter(x, 3),
    "minimum_filter1d": lambda x: ndimage.minimum_filter1d(x, 3),
    "percentile_filter": lambda x: ndimage.percentile_filter(x, 20, 3),
    "prewitt": lambda x: ndimage.prewitt(x),
    "rank_filter": lambda x: ndimage.rank_filter(x, 2, 3),
    "sobel": lambda x: ndimage.sobel(x),
    "uniform_filter": lambda x: ndimage.uniform_filter(x, 3),
    "uniform_filter1d": lambda x: ndimage.uniform_filter1d(x, 3),
    "convolve2d": lambda x: signal.convolve2d(x, KERNEL, boundary="symm"),
    "correlate2d": lambda x: signal.correlate2d(x, KERNEL, "same", "wrap"),
}
DTYPES = "bhilqBHILQfd"

HANDED_OVER: dict[str, Callable[[], Any]] = {
    "grey_dilation, structure": lambda: ndimage.grey_dilation(IMAGE, structure=KERNEL),
    "grey_erosion, structure": lambda: ndimage.grey_erosion(IMAGE, structure=KERNEL),
    "convolve2d, longdouble": lambda: signal.convolve2d(IMAGE.astype("g"), CROSS),
    "correlate2d, longdouble": lambda: signal.correlate2d(IMAGE, CROSS.astype("g")),
    "correlate2d, complex longdouble": lambda: signal.correlate2d(IMAGE, CROSS.astype("G")),
}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect the names of SciPy's functions that are asked for."""
    asked: list[str] = []
    original = _scipy.scipy_function

    def scipy_function(name: str, argument: str, module: str = "scipy.ndimage") -> Any:
        asked.append(name)
        return original(name, argument, module)

    for module in (ndimage._running, signal):
        monkeypatch.setattr(module, "scipy_function", scipy_function)
    return asked


def test_every_function_is_listed() -> None:
    assert sorted(COVERED) == sorted([*ndimage.__all__, *signal.__all__])


@pytest.mark.filterwarnings("ignore:invalid value encountered in sqrt")  # of narrow integers
@pytest.mark.parametrize("name", COVERED)
def test_kernels_run(calls: list[str], name: str) -> None:
    for dtype in DTYPES:
        COVERED[name](IMAGE.astype(dtype))
    assert not calls


@pytest.mark.parametrize("name", HANDED_OVER)
def test_scipy_runs(calls: list[str], name: str) -> None:
    HANDED_OVER[name]()
    assert calls == [name.partition(",")[0]]
