"""SciPy's convolution and correlation of two images, on compiled kernels and all threads.

The functions have the names, signatures and results of `scipy.signal`, so that one changed import
makes code faster::

    from fastconv import signal
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastconv._arrays import contiguous
from fastconv._errors import argument_error, named, shown
from fastconv._memory import new_array
from fastconv._scipy import scipy_function
from fastconv.ndimage import _correlation
from fastconv.ndimage._borders import source_indices
from fastconv.ndimage._buffers import deliver, writable
from fastconv.ndimage._complex import Part, combine, weight_parts

__all__ = ["convolve2d", "correlate2d"]

Array = npt.NDArray[Any]

MODES = ("full", "valid", "same")
BOUNDARIES = {
    "fill": "constant",
    "pad": "constant",
    "wrap": "wrap",
    "circular": "wrap",
    "symm": "reflect",
    "symmetric": "reflect",
}
"""The names of boundaries, and what `fastconv.ndimage` calls them."""

COMPUTED = frozenset("bhilBHILfdFD")
"""The dtypes that kernels compute with, as `numpy.dtype.char` tells them."""


@named
def convolve2d(
    in1: npt.ArrayLike,
    in2: npt.ArrayLike,
    mode: str = "full",
    boundary: str = "fill",
    fillvalue: Any = 0,
) -> Array:
    """Convolve two images.

    Parameters
    ----------
    in1, in2 : array_like, two-dimensional
        The images; the second is usually a small kernel. The result has the dtype that both are
        promoted to.
    mode : {"full", "valid", "same"}, default "full"
        The size of the result: all overlaps of both images ("full"), those where the smaller one
        lies within the larger ("valid"), or the middle of "full", of the size of `in1` ("same").
    boundary : {"fill", "wrap", "symm"}, default "fill"
        What lies around `in1`: a constant, its repetition, or its reflection (d c b a | a b c d).
        "pad", "circular" and "symmetric" are other names for these.
    fillvalue : scalar, default 0
        The constant around `in1`.

    Returns
    -------
    ndarray
        The convolution.

    See Also
    --------
    correlate2d : the same without the reversal of `in2`.

    Notes
    -----
    The results are those of `scipy.signal.convolve2d`. Integers are added modulo the range of their
    dtype, exactly: in float32 or float64 where these hold all sums, and else modulo 2^64. Floating
    point results differ by at most 1e-6 (float32) or 1e-14 (float64) of the largest one. A complex
    image is two real ones: where it has an infinite or NaN part, the result's parts may be NaN in
    other places than SciPy's.

    Examples
    --------
    >>> from fastconv import signal
    >>> signal.convolve2d([[1, 2, 3], [3, 4, 5]], [[2, 3, 4], [4, 5, 6]])
    array([[ 2,  7, 16, 17, 12],
           [10, 30, 62, 58, 38],
           [12, 31, 58, 49, 30]])
    """
    image, kernel, _ = _read_images(in1, in2, mode)
    return _correlate("convolve2d", image, kernel, mode, boundary, fillvalue)


@named
def correlate2d(
    in1: npt.ArrayLike,
    in2: npt.ArrayLike,
    mode: str = "full",
    boundary: str = "fill",
    fillvalue: Any = 0,
) -> Array:
    """Correlate two images.

    Parameters
    ----------
    in1, in2 : array_like, two-dimensional
        The images; the second is usually a small template. It is conjugated if it is complex.
    mode : {"full", "valid", "same"}, default "full"
        The size of the result: all overlaps of both images ("full"), those where the smaller one
        lies within the larger ("valid"), or the middle of "full", of the size of `in1` ("same").
    boundary : {"fill", "wrap", "symm"}, default "fill"
        What lies around `in1`: a constant, its repetition, or its reflection.
    fillvalue : scalar, default 0
        The constant around `in1`.

    Returns
    -------
    ndarray
        The correlation.

    See Also
    --------
    convolve2d : its notes apply here, too.

    Examples
    --------
    >>> from fastconv import signal
    >>> signal.correlate2d([[1, 2, 3], [3, 4, 5]], [[1, 0], [0, -1]], mode="valid")
    array([[-3, -3]])
    """
    image, kernel, swapped = _read_images(in1, in2, mode)
    if kernel.dtype.kind == "c":
        kernel = kernel.conj()
    result = _correlate("correlate2d", image, kernel, mode, boundary, fillvalue)
    return result[::-1, ::-1] if swapped else result


def _read_images(in1: npt.ArrayLike, in2: npt.ArrayLike, mode: str) -> tuple[Array, Array, bool]:
    """Read both images, the larger one first in mode "valid", and whether they were exchanged."""
    image, kernel = np.asarray(in1), np.asarray(in2)
    if not image.ndim == kernel.ndim == 2:
        raise argument_error(
            ValueError,
            f"in1 and in2 must have 2 dimensions, got shapes {image.shape} and {kernel.shape}",
        )
    if mode != "valid":
        return image, kernel, False
    larger = [m >= n for m, n in zip(image.shape, kernel.shape)]
    smaller = [m <= n for m, n in zip(image.shape, kernel.shape)]
    if not (all(larger) or all(smaller)):
        raise argument_error(
            ValueError,
            "in 'valid' mode, in1 or in2 must be at least as large as the other in both "
            f"dimensions, got shapes {image.shape} and {kernel.shape}",
        )
    return (image, kernel, False) if all(larger) else (kernel, image, True)


def _correlate(
    name: str, image: Array, kernel: Array, mode: str, boundary: str, fillvalue: Any
) -> Array:
    """Convolve or correlate as the name says, with a kernel that is conjugated already."""
    if mode not in MODES:
        accepted = ", ".join(map(repr, MODES))
        raise argument_error(ValueError, f"mode must be one of {accepted}, got {shown(mode)}")
    if boundary not in BOUNDARIES:
        accepted = ", ".join(map(repr, BOUNDARIES))
        raise argument_error(
            ValueError, f"boundary must be one of {accepted}, got {shown(boundary)}"
        )
    dtype = np.promote_types(image.dtype, kernel.dtype)
    if dtype.kind in "iu":  # One of several names of a dtype of this size.
        dtype = np.dtype(f"{dtype.kind}{dtype.itemsize}")
    if dtype.char in "gG":
        original = scipy_function(name, f"an array of dtype {dtype}", "scipy.signal")
        # SciPy conjugates the kernel once more.
        kernel = kernel.conj() if name == "correlate2d" else kernel
        result: Array = original(image, kernel, mode, boundary, fillvalue)
        return result
    if dtype.char not in COMPUTED:
        raise argument_error(
            ValueError,
            f"dtype {dtype}, to which in1 and in2 are promoted, is not available: it must be an "
            "integer, float32, float64, longdouble or a complex dtype",
        )
    # SciPy, too, looks at this argument for one boundary only.
    fill = _read_fill(fillvalue if BOUNDARIES[boundary] == "constant" else 0, dtype)
    starts, shape = _places(name, image.shape, kernel.shape, mode)
    if 0 in image.shape or 0 in kernel.shape or 0 in shape:
        return np.zeros(shape, dtype)
    axes = [
        _axis(length, size, outputs, start, BOUNDARIES[boundary])
        for length, size, outputs, start in zip(image.shape, kernel.shape, shape, starts)
    ]
    planes = _correlation.geometry(image.shape, shape, kernel.shape, axes)
    if name == "convolve2d":
        kernel = kernel[::-1, ::-1]
    if dtype.kind == "c":
        return _correlate_complex(image, kernel, planes, fill, shape, dtype)
    result = new_array(shape, dtype)
    _correlate_real(image, kernel, planes, fill, result)
    return result


def _read_fill(fillvalue: Any, dtype: np.dtype[Any]) -> Any:
    """Read the constant around the image as a number of the result's dtype.

    Like SciPy, this takes a Python number that the dtype can represent after truncation, and of
    arrays those that NumPy casts safely.
    """
    if np.size(fillvalue) != 1:
        raise argument_error(
            ValueError,
            f"`fillvalue` must be scalar or an array with one element, got {shown(fillvalue)}",
        )
    try:
        if isinstance(fillvalue, np.ndarray):
            fill = fillvalue.astype(dtype, casting="safe")
        else:
            with np.errstate(all="ignore"):
                fill = np.array(fillvalue, dtype)
    except (TypeError, ValueError, OverflowError):
        raise argument_error(
            ValueError,
            f"could not cast `fillvalue` directly to the output dtype {dtype}, "
            f"got {shown(fillvalue)}",
        ) from None
    return fill.ravel()[0]


def _places(
    name: str, shape: tuple[int, ...], kernel: tuple[int, ...], mode: str
) -> tuple[list[int], tuple[int, ...]]:
    """Return where a result begins within that of mode "full", and its shape."""
    if mode == "full":
        return [0, 0], tuple(m + n - 1 for m, n in zip(shape, kernel))
    if mode == "valid":
        return [n - 1 for n in kernel], tuple(m - n + 1 for m, n in zip(shape, kernel))
    middle = 1 if name == "convolve2d" else 0
    return [(n - middle) // 2 for n in kernel], shape


def _axis(length: int, size: int, outputs: int, start: int, mode: str) -> _correlation.Axis:
    """Return an axis of the image with the borders that are seen of it."""
    before = size - 1 - start
    after = max(outputs - length + start, 0)
    sources = source_indices(length, before, after, mode)
    return _correlation.Axis(sources[: outputs + size - 1], before)


def _correlate_complex(
    image: Array,
    kernel: Array,
    planes: _correlation.Geometry,
    fill: Any,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
) -> Array:
    """Correlate real and imaginary parts, as far as there are any."""
    real = np.dtype(np.float32 if dtype == np.complex64 else np.float64)
    parts = [Part(contiguous(image.real, real), fill.real)]
    if image.dtype.kind == "c" or fill.imag != 0:
        parts.append(Part(contiguous(image.imag, real), fill.imag))

    def apply(part: Part, taps: Array, into: Array) -> None:
        _correlate_real(part.array, taps, planes, part.cval, into)

    result = new_array(shape, dtype)
    combine(apply, parts, weight_parts(kernel), result)
    return result


def _correlate_real(
    image: Array, kernel: Array, planes: _correlation.Geometry, fill: Any, out: Array
) -> None:
    """Correlate in the arithmetic of the output's dtype, which is real."""
    dtype = out.dtype
    image = image.astype(dtype, copy=False)
    if dtype.kind == "f":
        weights = kernel.astype(dtype).astype(np.float64)
        arithmetic = _correlation.choose(image, dtype, weights, float(fill))
    else:
        weights = kernel.astype(dtype)
        arithmetic = _integer_arithmetic(image, weights, fill)
    result = writable(out)
    _correlation.correlate(
        image,
        weights,
        planes,
        fill,
        result,
        arithmetic,
        skips_zeros=False,
        wraps=dtype.kind != "f",
    )
    deliver(result, out)


def _integer_arithmetic(image: Array, weights: Array, fill: Any) -> _correlation.Arithmetic:
    """Choose an arithmetic in which all sums of integers are exact, at least modulo 2^64."""
    largest = _correlation.largest_of(image.dtype)
    if image.dtype.itemsize > 2:  # What the dtype holds says little about what the image has.
        largest = max(float(image.max()), -float(image.min()), 0.0)
    sizes = np.abs(weights.astype(np.float64))
    bound = max(largest, abs(float(fill))) * float(sizes.sum())
    if bound < _correlation.FLOAT_RANGE:
        return _correlation.Arithmetic("float")
    if bound < _correlation.DOUBLE_RANGE:
        return _correlation.Arithmetic("double")
    return _correlation.Arithmetic("integer")
