"""Filters of images and volumes as SciPy has them: the case, and what each library calls."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property, partial
from math import prod
from typing import Any

import numpy as np

from bench.cases import Array, Call, relative_rms
from bench.shapes import FilterTask

SIGMAS = {3: 0.25, 5: 0.5, 9: 1.0, 25: 3.0, 31: 3.75}
"""Standard deviations whose Gaussians, cut at four of them, have these numbers of taps."""
ROUNDING = 3
"""Integers may differ by this much: SciPy truncates after every pass, other libraries round."""
TOLERANCE = 1e-4
"""Floats may differ by this part of the largest one."""
ERROR_SIZE = 128


class FilterCase:
    """What `Case` is for layers: an image or a volume, and what SciPy makes of it."""

    flops = 0  # They depend on the algorithm.
    has_columns = True

    def __init__(self, operation: str, task: FilterTask, dtype: str = "") -> None:
        self.operation, self.workload, self.size = operation, task, task.size
        self.dtype = dtype or task.dtype

    @cached_property
    def image(self) -> Array:
        """Noise on a slope, so that neighbours are alike as in a photograph."""
        rng = np.random.default_rng(0)
        slopes: Any = sum(np.ix_(*(np.linspace(0, 60, n) for n in self.workload.shape)))
        noise = rng.normal(60, 20, self.workload.shape)
        image: Array = np.clip(slopes + noise, 0, 255).astype(self.workload.dtype)
        return image.astype(self.dtype, copy=False)

    @cached_property
    def weights(self) -> Array:
        """Weights that no product of one-dimensional ones is, with the sum 1."""
        rng = np.random.default_rng(1)
        weights = rng.random((self.size,) * self.image.ndim)
        normalized: Array = weights / weights.sum()
        return normalized

    @property
    def weights_like_image(self) -> Array:
        """Return weights that keep an image of floats in its precision."""
        is_float = self.image.dtype.kind == "f"
        return self.weights.astype(self.image.dtype) if is_float else self.weights

    @property
    def sigma(self) -> float:
        return SIGMAS[self.size]

    @property
    def expected(self) -> tuple[Array, ...]:
        from scipy import ndimage, signal

        return (CALLS[self.operation](self, ndimage, signal)(),)

    def for_errors(self, dtype: str = "") -> "FilterCase":
        shape = tuple(min(n, ERROR_SIZE) for n in self.workload.shape)
        return FilterCase(self.operation, replace(self.workload, shape=shape), dtype)

    def errors(self, results: tuple[Array, ...], exact: tuple[Array, ...]) -> list[float]:
        return list(map(relative_rms, results, exact))

    def agrees(self, results: tuple[Array, ...], expected: tuple[Array, ...]) -> bool:
        """Compare with what SciPy gives, but for borders where libraries have other rules."""
        [got], [want] = results, expected
        if got.shape != want.shape:
            return False
        if want.dtype.kind in "iu":
            return bool(np.abs(got.astype(np.int64) - want.astype(np.int64)).max() <= ROUNDING)
        return np.allclose(got, want, rtol=0, atol=TOLERANCE * float(np.abs(want).max()))

    @cached_property
    def moved(self) -> tuple[int, int]:
        nbytes = prod(self.workload.shape) * np.dtype(self.dtype).itemsize
        return nbytes, nbytes


# What is called in SciPy and, by the same names, in fastconv: modules ndimage and signal.
CALLS: Mapping[str, Callable[[FilterCase, Any, Any], Call]] = {
    "gaussian_filter": lambda c, nd, _: partial(nd.gaussian_filter, c.image, c.sigma),
    "uniform_filter": lambda c, nd, _: partial(nd.uniform_filter, c.image, c.size),
    "maximum_filter": lambda c, nd, _: partial(nd.maximum_filter, c.image, c.size),
    "median_filter": lambda c, nd, _: partial(nd.median_filter, c.image, c.size),
    "sobel": lambda c, nd, _: partial(nd.sobel, c.image, 1),
    "correlate": lambda c, nd, _: partial(nd.correlate, c.image, c.weights),
    "convolve2d": lambda c, _, signal: partial(
        signal.convolve2d, c.image, c.weights_like_image, "same"
    ),
}


def ours(case: FilterCase) -> Iterator[tuple[str, Call]]:
    from fastconv import ndimage, signal

    yield "fastconv", CALLS[case.operation](case, ndimage, signal)


def scipy(case: FilterCase, workers: int) -> Iterator[tuple[str, Call]]:
    from scipy import fft, ndimage, signal

    yield "scipy", CALLS[case.operation](case, ndimage, signal)
    if case.operation == "convolve2d":

        def oaconvolve() -> Any:
            with fft.set_workers(workers):
                return signal.oaconvolve(case.image, case.weights_like_image, "same")

        yield "scipy oaconvolve", oaconvolve


def opencv(case: FilterCase) -> Iterator[tuple[str, Call]]:
    """Give OpenCV's filter, which is of planes, with borders as SciPy's "reflect" has them."""
    import cv2

    image, size, border = case.image, (case.size, case.size), {"borderType": cv2.BORDER_REFLECT}
    if image.ndim != 2:
        return
    flipped = np.ascontiguousarray(case.weights[::-1, ::-1])
    zeros = {"borderType": cv2.BORDER_CONSTANT}
    calls: dict[str, Callable[[], Call]] = {
        "gaussian_filter": lambda: partial(
            cv2.GaussianBlur, image, size, case.sigma, sigmaY=case.sigma, **border
        ),
        "uniform_filter": lambda: partial(cv2.blur, image, size, **border),
        "maximum_filter": lambda: partial(cv2.dilate, image, np.ones(size, np.uint8), **border),
        "sobel": lambda: partial(cv2.Sobel, image, -1, 1, 0, ksize=3, **border),
        "correlate": lambda: partial(cv2.filter2D, image, -1, case.weights, **border),
        "convolve2d": lambda: partial(cv2.filter2D, image, -1, flipped, **zeros),
    }
    if image.dtype == np.uint8 or (image.dtype == np.float32 and case.size <= 5):
        # It has no argument for borders, and repeats the pixels at them.
        calls["median_filter"] = lambda: partial(cv2.medianBlur, image, case.size)
    names = {"gaussian_filter": "GaussianBlur", "uniform_filter": "blur", "sobel": "Sobel"}
    names |= {"maximum_filter": "dilate", "median_filter": "medianBlur"}
    if case.operation in calls:
        yield f"opencv {names.get(case.operation, 'filter2D')}", calls[case.operation]()
