"""Our functions in place of SciPy's, and SciPy's back in their places."""

from __future__ import annotations

import textwrap
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import scipy.ndimage
import scipy.signal
from helpers import Array, run_python

import fastconv
import fastconv.ndimage
import fastconv.signal
from fastconv import _accelerate, _scipy

PAIRS = [(scipy.ndimage, fastconv.ndimage), (scipy.signal, fastconv.signal)]
ORIGINALS = [{name: getattr(theirs, name) for name in ours.__all__} for theirs, ours in PAIRS]


def ours_everywhere() -> bool:
    return all(
        getattr(theirs, name) is getattr(ours, name)
        for theirs, ours in PAIRS
        for name in ours.__all__
    )


def theirs_everywhere() -> bool:
    return all(
        getattr(theirs, name) is original
        for (theirs, _), originals in zip(PAIRS, ORIGINALS)
        for name, original in originals.items()
    )


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Fail a test that leaves our functions behind."""
    assert theirs_everywhere()
    yield
    assert theirs_everywhere()


def image() -> Array:
    return np.random.default_rng(3).random((23, 31)).astype(np.float32)


def test_the_block_has_our_functions_and_then_scipys_again() -> None:
    with fastconv.accelerate():
        assert ours_everywhere()
    assert theirs_everywhere()


def test_blocks_nest() -> None:
    with fastconv.accelerate():
        with fastconv.accelerate():
            assert ours_everywhere()
        assert ours_everywhere()


def test_an_exception_restores_too() -> None:
    with pytest.raises(KeyError), fastconv.accelerate():
        raise KeyError


def test_replacements_by_others_stay() -> None:
    def other() -> None:
        pass

    try:
        with fastconv.accelerate():
            scipy.ndimage.sobel = other
        assert scipy.ndimage.sobel is other
    finally:
        scipy.ndimage.sobel = ORIGINALS[0]["sobel"]


def test_scipys_functions_are_found_while_they_are_put_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another thread may look for one at any time, and must never get ours."""

    def put(module: Any, name: str, function: Any) -> None:
        original = ORIGINALS[module is scipy.signal][name]
        assert _scipy.scipy_function(name, "", module.__name__) is original
        setattr(module, name, function)
        assert _scipy.scipy_function(name, "", module.__name__) is original

    monkeypatch.setattr(_accelerate, "setattr", put, raising=False)
    with fastconv.accelerate():
        assert ours_everywhere()


def test_the_pair_of_functions() -> None:
    fastconv.patch_scipy()
    try:
        fastconv.patch_scipy()
        with fastconv.accelerate():
            fastconv.unpatch_scipy()
            assert ours_everywhere()
        assert theirs_everywhere()
        fastconv.patch_scipy()
        with fastconv.accelerate():
            pass
        assert ours_everywhere()
    finally:
        fastconv.unpatch_scipy()
    fastconv.unpatch_scipy()


def test_threads_enter_and_leave_in_any_order() -> None:
    wrong: list[str] = []
    gate = threading.Barrier(8)

    def work() -> None:
        gate.wait()
        for _ in range(50):
            with fastconv.accelerate():
                if not ours_everywhere():
                    wrong.append("a block had SciPy's functions")

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_what_is_not_covered_reaches_scipys_own_function() -> None:
    """SciPy's name leads to us in the block, so that we must not look it up there."""
    exact = np.random.default_rng(4).random((6, 7)).astype(np.longdouble)
    expected = scipy.signal.convolve2d(exact, exact[:3, :3])
    with fastconv.accelerate():
        found = scipy.signal.convolve2d(exact, exact[:3, :3])
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == expected.dtype


def test_without_scipy_the_error_says_so() -> None:
    code = """
        import sys
        sys.modules["scipy"] = None
        import fastconv
        for start in [fastconv.accelerate().__enter__, fastconv.patch_scipy]:
            try:
                start()
            except ImportError as error:
                print(error)
        fastconv.unpatch_scipy()
    """
    run = run_python(textwrap.dedent(code))
    assert run.stdout.splitlines() == [
        "accelerate: this needs SciPy: pip install scipy",
        "patch_scipy: this needs SciPy: pip install scipy",
    ]


class Counted:
    """Stands for a function of ours, and counts its calls."""

    def __init__(self, function: Any) -> None:
        self.function, self.calls = function, 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        return self.function(*args, **kwargs)


def assert_runs_on_ours(
    monkeypatch: pytest.MonkeyPatch, name: str, call: Any, tolerance: float = 1e-6
) -> None:
    """Check that a call reaches our function of that name, and gives what it gives without."""
    expected = call()
    counted = Counted(getattr(fastconv.ndimage, name))
    monkeypatch.setattr(fastconv.ndimage, name, counted)
    with fastconv.accelerate():
        found = call()
    assert counted.calls > 0
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())
    assert found.dtype == expected.dtype


SCIKIT_IMAGE: dict[str, tuple[str, Any]] = {
    "gaussian": ("gaussian_filter", lambda library: library.filters.gaussian(image(), 2)),
    "sobel": ("convolve", lambda library: library.filters.sobel(image())),
    "median": ("median_filter", lambda library: library.filters.median(image())),
    "dilation": ("grey_dilation", lambda library: library.morphology.dilation(image())),
    "erosion": (
        "grey_erosion",
        lambda library: library.morphology.erosion(image(), np.ones((3, 3))),
    ),
}


@pytest.mark.parametrize("name", SCIKIT_IMAGE)
def test_scikit_image_runs_on_our_kernels(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    library = pytest.importorskip("skimage", reason="scikit-image is not installed")
    function, call = SCIKIT_IMAGE[name]
    assert_runs_on_ours(monkeypatch, function, lambda: call(library))


DASK_IMAGE: dict[str, tuple[Any, ...]] = {
    "gaussian_filter": (2,),
    "correlate": (np.arange(9.0).reshape(3, 3),),
    "convolve": (np.arange(9.0).reshape(3, 3),),
    "uniform_filter": (3,),
    "maximum_filter": (3,),
    "minimum_filter": (3,),
    "median_filter": (3,),
    "sobel": (),
    "laplace": (),
}


@pytest.mark.parametrize("name", DASK_IMAGE)
def test_dask_image_runs_on_our_kernels(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    filters = pytest.importorskip("dask_image.ndfilters", reason="dask-image is not installed")
    array = pytest.importorskip("dask.array")

    def call() -> Any:
        chunks = array.from_array(image(), chunks=(12, 16))
        return getattr(filters, name)(chunks, *DASK_IMAGE[name]).compute()

    assert_runs_on_ours(monkeypatch, name, call)
