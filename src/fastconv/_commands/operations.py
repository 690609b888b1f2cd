"""What ``fastconv filter`` does to the pixels of an image: kernels, and SciPy's filters by name."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv import ndimage
from fastconv._commands.shared import CommandError
from fastconv._filter_bank import FILTERS, is_around_zero
from fastconv._threads import get_num_threads

__all__ = ["NAMES", "Clock", "Operation", "read_operation"]

Array = NDArray[Any]
Apply = Callable[[Any, Array, str], Array]
"""What filters pixels (C, H, W) with the functions of a module, `fastconv.ndimage` or SciPy's, and
one of SciPy's modes."""

PLANE = (1, 2)
"""The axes of pixels (C, H, W) that are filtered."""
LARGEST_KERNEL = 1024
"""The most rows and columns of a user's kernel, and the largest size of a window."""
LARGEST_SIGMA = 1000.0
REPEATS = 3
"""How often a part of an image is filtered to find the least time."""
GAUSSIAN_RADII = 4
"""How many standard deviations to each side of a pixel a Gaussian covers, as SciPy has it."""


@dataclass(frozen=True)
class Operation:
    """A filter with its arguments.

    Attributes
    ----------
    name : str
        What was asked for, as the command repeats it.
    apply : Apply
        Filters pixels. The result is of a float dtype, or of that of the pixels.
    rows_above, rows_below : int
        How many rows around a pixel its result depends on.
    mode : str
        How the image continues beyond its borders if nothing else is asked for, in SciPy's words.
    shown : {"pixels", "around gray", "from black"}
        Whether responses are pixels as they are, differences that are drawn around a mid-gray, or
        magnitudes that are drawn from black to white.
    """

    name: str
    apply: Apply
    rows_above: int
    rows_below: int
    mode: str = "reflect"
    shown: str = "pixels"


def _gaussian(sigma: float, module: Any, pixels: Array, mode: str) -> Array:
    result: Array = module.gaussian_filter(
        pixels, sigma, output=float_dtype(pixels), mode=mode, axes=PLANE
    )
    return result


def _rank(name: str, size: int, module: Any, pixels: Array, mode: str) -> Array:
    result: Array = getattr(module, name)(pixels, size, mode=mode, axes=PLANE)
    return result


def _sobel(module: Any, pixels: Array, mode: str) -> Array:
    dtype = float_dtype(pixels)
    vertical = module.sobel(pixels, 1, output=dtype, mode=mode)
    result: Array = np.hypot(vertical, module.sobel(pixels, 2, output=dtype, mode=mode))
    return result


def _correlate(kernel: Array, module: Any, pixels: Array, mode: str) -> Array:
    result: Array = module.correlate(
        pixels, kernel[np.newaxis], output=float_dtype(pixels), mode=mode
    )
    return result


def float_dtype(pixels: Array) -> np.dtype[Any]:
    """Return the dtype of responses: float32 pixels stay what they are."""
    return np.dtype(np.float32 if pixels.dtype == np.float32 else np.float64)


WINDOWS = {"median": "median_filter", "maximum": "maximum_filter", "minimum": "minimum_filter"}
"""The filters that look at a square of pixels, and SciPy's names of them."""
NAMES = (*FILTERS, "gaussian", "sobel", *WINDOWS)
"""The kernels and filters that have names."""


def read_operation(kernel: str, sigma: float | None, size: int | None) -> Operation:
    """Read what to do from the options of the command.

    Parameters
    ----------
    kernel : str
        One of NAMES, an .npy file with a kernel of two dimensions, or its rows as text.
    sigma : float or None
        The standard deviation of "gaussian" in pixels; None is 1.
    size : int or None
        The rows and columns of the windows of "median", "maximum" and "minimum"; None is 3.

    Raises
    ------
    CommandError
        If the options do not fit each other, or if there is no such kernel.
    """
    if sigma is not None and kernel != "gaussian":
        raise CommandError(f"--sigma belongs to --kernel gaussian, not to {kernel}")
    if size is not None and kernel not in WINDOWS:
        raise CommandError(f"--size belongs to --kernel {', '.join(WINDOWS)}, not to {kernel}")
    if kernel == "gaussian":
        return _read_gaussian(1.0 if sigma is None else sigma)
    if kernel == "sobel":
        return Operation("sobel", _sobel, 1, 1, shown="from black")
    if kernel in WINDOWS:
        side = 3 if size is None else size
        if side > LARGEST_KERNEL:
            raise CommandError(f"--size must be at most {LARGEST_KERNEL}, got {side}")
        apply = partial(_rank, WINDOWS[kernel], side)
        return Operation(f"{kernel}, size {side}", apply, side // 2, side - 1 - side // 2)
    weights = np.array(FILTERS[kernel], float) if kernel in FILTERS else _read_kernel(kernel)
    rows = len(weights)
    return Operation(
        kernel,
        partial(_correlate, weights),
        rows // 2,
        rows - 1 - rows // 2,
        mode="constant",
        shown="around gray" if is_around_zero(weights) else "pixels",
    )


def _read_gaussian(sigma: float) -> Operation:
    if sigma > LARGEST_SIGMA:
        raise CommandError(f"--sigma must be at most {LARGEST_SIGMA:g}, got {sigma:g}")
    radius = int(GAUSSIAN_RADII * sigma + 0.5)
    return Operation(f"gaussian, sigma {sigma:g}", partial(_gaussian, sigma), radius, radius)


def _read_kernel(text: str) -> Array:
    """Read a kernel from an .npy file or from text: rows between semicolons, commas between."""
    weights = _load_kernel(text) if text.endswith(".npy") else _parse_kernel(text)
    if weights.ndim != 2 or 0 in weights.shape:
        raise CommandError(f"{text}: a kernel has rows and columns, this has shape {weights.shape}")
    if max(weights.shape) > LARGEST_KERNEL:
        raise CommandError(
            f"{text}: a kernel has at most {LARGEST_KERNEL} rows and columns, this has shape "
            f"{weights.shape}"
        )
    if not np.isfinite(weights).all():
        raise CommandError(f"{text}: the numbers of a kernel must be finite")
    return weights


def _load_kernel(path: str) -> Array:
    try:
        # A kernel that is too large is not read: only the part that tells so would be looked at.
        array = np.load(Path(path), mmap_mode="r", allow_pickle=False)
        if array.dtype.kind not in "biuf":
            raise CommandError(f"{path}: a kernel holds real numbers, this is {array.dtype}")
        if max(array.shape, default=0) > LARGEST_KERNEL:
            return np.broadcast_to(0.0, array.shape)
        return np.array(array, dtype=float)
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror or error}") from error
    except (ValueError, EOFError) as error:
        raise CommandError(f"{path}: not an .npy file that numpy.load reads: {error}") from error


def _parse_kernel(text: str) -> Array:
    rows = [row.split(",") for row in text.split(";")]
    try:
        numbers = [[float(number) for number in row] for row in rows]
    except ValueError:
        raise CommandError(
            f"--kernel must be one of {', '.join(NAMES)}, an .npy file, or rows of numbers such "
            f'as "0,1,0;1,-4,1;0,1,0", got {text!r}'
        ) from None
    if len({len(row) for row in numbers}) > 1:
        raise CommandError(f"--kernel: all rows must have as many numbers, got {text!r}")
    return np.array(numbers)


@dataclass
class Clock:
    """The times of an operation beside those of SciPy's functions on the same pixels.

    `run` filters a part of an image with both, several times in turns, and adds the least times.
    """

    operation: Operation
    ours: float = 0.0
    theirs: float = 0.0
    difference: float = 0.0
    _ndimage: Any = field(default=None, repr=False)

    def __post_init__(self) -> None:
        try:
            self._ndimage = importlib.import_module("scipy.ndimage")
        except ImportError:
            raise CommandError("--compare needs SciPy: pip install scipy") from None

    def run(self, pixels: Array, mode: str) -> Array:
        """Filter pixels, and take the times."""
        seconds: dict[Any, list[float]] = {ndimage: [], self._ndimage: []}
        results: dict[Any, Array] = {}
        for _ in range(REPEATS):
            for module, times in seconds.items():
                start = time.perf_counter()
                results[module] = self.operation.apply(module, pixels, mode)
                times.append(time.perf_counter() - start)
        self.ours += min(seconds[ndimage])
        self.theirs += min(seconds[self._ndimage])
        ours, theirs = (np.asarray(result, float) for result in results.values())
        if ours.size:
            self.difference = max(self.difference, float(np.abs(ours - theirs).max()))
        return results[ndimage]

    def report(self) -> str:
        """Say how long both took, and how much their results differ."""
        threads = get_num_threads()
        return (
            f"fastconv {1e3 * self.ours:.2f} ms on {threads} thread{'s' * (threads > 1)}, SciPy "
            f"{1e3 * self.theirs:.2f} ms: {self.theirs / max(self.ours, 1e-9):.1f} times as fast; "
            f"largest difference {self.difference:.3g}"
        )
