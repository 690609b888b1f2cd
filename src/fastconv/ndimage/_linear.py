"""Separable linear filters, with SciPy's names, signatures and results.

All of them are correlations along one axis after the other. Each runs in the kernel `separable`,
through `_passes.py`: this module says which passes a filter has. docs/filters.md describes the
kernel.
"""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from fastconv._errors import argument_error, named, shown
from fastconv._memory import new_array
from fastconv.ndimage._arguments import (
    Array,
    Axes,
    Modes,
    Output,
    check_origin,
    make_output,
    per_axis,
    read_axes,
    read_axis,
    read_mode,
    read_modes,
)
from fastconv.ndimage._complex import Part, combine, input_parts, weight_parts
from fastconv.ndimage._passes import Line, Taps, run

SMALLEST_SIGMA = 1e-15
"""Axes with a standard deviation that is not larger are not filtered."""


@named
def correlate1d(
    input: npt.ArrayLike,
    weights: npt.ArrayLike,
    axis: int = -1,
    output: Output = None,
    mode: str = "reflect",
    cval: complex = 0.0,
    origin: int = 0,
) -> Array:
    """Correlate the lines of an array along one axis with weights.

    ``out[i] = sum over t of weights[t] * input[i + t - len(weights) // 2 - origin]``

    Sums are computed as `scipy.ndimage.correlate1d` computes them: in float64, in the same order,
    and without fused products. So results are the same to the last bit. From float32 to float32,
    sums of up to 65 products whose weights do not cancel are computed in float32: results differ
    from SciPy's by less than 1e-6 of the largest one, unless this is subnormal. Numbers above
    1.7e38, half of the largest that float32 has, may become infinite there.

    Parameters
    ----------
    input : array_like
        Array of bools, integers, float32, float64, complex64 or complex128.
    weights : array_like
        The weights, in one dimension. The conjugates of complex ones are used.
    axis : int, default -1
        The axis to filter along.
    output : ndarray or dtype, optional
        Where the result goes, or its dtype; that of the input by default. Results are converted as
        C does it: integers are truncated.
    mode : {"reflect", "mirror", "nearest", "wrap", "constant"}, default "reflect"
        How lines continue beyond their ends: (d c b a | a b c d | d c b a), (d c b | a b c d | c b
        a), the element at the end, from the other end, or with `cval`. SciPy's names "grid-mirror"
        (reflect), "grid-wrap" (wrap) and "grid-constant" (constant) are accepted, too.
    cval : scalar, default 0.0
        What lies beyond the ends in mode "constant".
    origin : int, default 0
        By how many elements the weights are moved towards the beginning of a line.

    Returns
    -------
    ndarray
        The result, with the input's shape.

    Examples
    --------
    >>> from fastconv import ndimage
    >>> ndimage.correlate1d([2, 8, 0, 4, 1, 9, 9, 0], [1, 3])
    array([ 8, 26,  8, 12,  7, 28, 36,  9])
    """
    array, factors = np.asarray(input), np.asarray(weights)
    out = make_output(output, array, "c" in array.dtype.kind + factors.dtype.kind)
    parts = input_parts(array, cval, out)
    if factors.ndim != 1 or len(factors) == 0:
        raise argument_error(
            RuntimeError, f"weights must be a vector that is not empty, got {shown(weights)}"
        )
    axis, mode = read_axis(axis, array.ndim), read_mode(mode)
    origin = check_origin(origin, len(factors))
    lines = [Line(Taps(part), axis, mode, origin) for part in weight_parts(factors.conj())]

    def apply(part: Part, line: Line, into: Array) -> None:
        run(part.array, into, [[line]], part.cval)

    combine(apply, parts, lines, out)
    return out


@named
def convolve1d(
    input: npt.ArrayLike,
    weights: npt.ArrayLike,
    axis: int = -1,
    output: Output = None,
    mode: str = "reflect",
    cval: complex = 0.0,
    origin: int = 0,
) -> Array:
    """Convolve the lines of an array along one axis with weights.

    This is `correlate1d` with the weights in reverse order, not conjugated.

    Parameters
    ----------
    input : array_like
        Array of bools, integers, float32, float64, complex64 or complex128.
    weights : array_like
        The weights, in one dimension.
    axis : int, default -1
        The axis to filter along.
    output : ndarray or dtype, optional
        Where the result goes, or its dtype; that of the input by default.
    mode : {"reflect", "mirror", "nearest", "wrap", "constant"}, default "reflect"
        How lines continue beyond their ends, as for `correlate1d`.
    cval : scalar, default 0.0
        What lies beyond the ends in mode "constant".
    origin : int, default 0
        By how many elements the weights are moved towards the end of a line.

    Returns
    -------
    ndarray
        The result, with the input's shape.

    Examples
    --------
    >>> from fastconv import ndimage
    >>> ndimage.convolve1d([2, 8, 0, 4, 1, 9, 9, 0], [1, 3])
    array([14, 24,  4, 13, 12, 36, 27,  0])
    """
    factors = np.atleast_1d(weights)[::-1]
    if factors.dtype.kind == "c":
        factors = np.conj(factors)  # Correlation takes the conjugates, too.
    origin = -origin - (len(factors) + 1) % 2
    return correlate1d(input, factors, axis, output, mode, cval, origin)


def _filter(
    array: Array,
    out: Array,
    lines: Sequence[Sequence[Line]],
    cval: complex,
    squared: bool = False,
) -> None:
    """Run `_passes.run` on an array or, if it is complex, on its real and its imaginary part."""
    if array.dtype.kind == "c" and out.dtype.kind != "c":
        raise argument_error(RuntimeError, f"output must have a complex dtype, got {out.dtype}")

    def apply(part: Part, lines: Sequence[Sequence[Line]], into: Array) -> None:
        run(part.array, into, lines, part.cval, squared)

    combine(apply, input_parts(array, cval, out), [lines], out)


@named
def gaussian_filter1d(
    input: npt.ArrayLike,
    sigma: float,
    axis: int = -1,
    order: int = 0,
    output: Output = None,
    mode: str = "reflect",
    cval: complex = 0.0,
    truncate: float = 4.0,
    *,
    radius: int | None = None,
) -> Array:
    """Filter along one axis with a Gaussian or one of its derivatives.

    Parameters
    ----------
    input : array_like
        Array of bools, integers, float32, float64, complex64 or complex128.
    sigma : float
        The Gaussian's standard deviation, in elements.
    axis : int, default -1
        The axis to filter along.
    order : int, default 0
        Which derivative of the Gaussian is used; 0 is the Gaussian.
    output : ndarray or dtype, optional
        Where the result goes, or its dtype; that of the input by default.
    mode : {"reflect", "mirror", "nearest", "wrap", "constant"}, default "reflect"
        How lines continue beyond their ends, as for `correlate1d`.
    cval : scalar, default 0.0
        What lies beyond the ends in mode "constant".
    truncate : float, default 4.0
        The Gaussian ends at so many standard deviations.
    radius : int, optional
        The number of weights on each side of the centre. The default is `truncate` standard
        deviations, rounded.

    Returns
    -------
    ndarray
        The result, with the input's shape.

    Examples
    --------
    >>> from fastconv import ndimage
    >>> ndimage.gaussian_filter1d([1.0, 2.0, 3.0, 4.0, 5.0], 1).round(3)
    array([1.427, 2.068, 3.   , 3.932, 4.573])
    """
    array = np.asarray(input)
    taps = _gaussian(sigma, order, truncate, radius)
    out = make_output(output, array, array.dtype.kind == "c")
    line = Line(taps, read_axis(axis, array.ndim), read_mode(mode))
    _filter(array, out, [[line]], cval)
    return out


@named
def gaussian_filter(
    input: npt.ArrayLike,
    sigma: float | Sequence[float],
    order: int | Sequence[int] = 0,
    output: Output = None,
    mode: Modes = "reflect",
    cval: complex = 0.0,
    truncate: float = 4.0,
    *,
    radius: int | Sequence[int] | None = None,
    axes: Axes = None,
) -> Array:
    """Filter an array with a Gaussian or its derivatives, along one axis after the other.

    Results are those of `scipy.ndimage.gaussian_filter`, as `correlate1d` describes. Between the
    axes, values have the output's dtype: integers are truncated for each axis.

    Parameters
    ----------
    input : array_like
        Array of bools, integers, float32, float64, complex64 or complex128.
    sigma : float or sequence of floats
        The Gaussian's standard deviation in elements, for each axis or for all. Axes whose standard
        deviation is 0 are not filtered.
    order : int or sequence of ints, default 0
        Which derivative of the Gaussian is used along each axis; 0 is the Gaussian.
    output : ndarray or dtype, optional
        Where the result goes, or its dtype; that of the input by default.
    mode : str or sequence of str, default "reflect"
        How each axis continues beyond its ends, as for `correlate1d`.
    cval : scalar, default 0.0
        What lies beyond the ends in mode "constant".
    truncate : float, default 4.0
        The Gaussian ends at so many standard deviations.
    radius : int or sequence of ints, optional
        The number of weights on each side of the centre. The default is `truncate` standard
        deviations, rounded.
    axes : int or sequence of ints, optional
        The axes to filter along, all by default. Sequences given for other arguments have a value
        for each of them.

    Returns
    -------
    ndarray
        The result, with the input's shape.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import ndimage
    >>> ndimage.gaussian_filter(np.arange(0, 50, 2).reshape(5, 5), sigma=1)
    array([[ 4,  6,  8,  9, 11],
           [10, 12, 14, 15, 17],
           [20, 22, 24, 25, 27],
           [29, 31, 33, 34, 36],
           [35, 37, 39, 40, 42]])

    The colours of an image are not mixed if their axis is left out:

    >>> image = np.zeros((64, 64, 3), np.uint8)
    >>> ndimage.gaussian_filter(image, sigma=2, axes=(0, 1)).shape
    (64, 64, 3)
    """
    array = np.asarray(input)
    out = make_output(output, array)
    _filter(array, out, [_gaussians(array, sigma, order, mode, truncate, radius, axes)], cval)
    return out


def _gaussians(
    array: Array,
    sigma: Any,
    order: Any,
    mode: Modes,
    truncate: float = 4.0,
    radius: Any = None,
    axes: Axes = None,
) -> list[Line]:
    """Return the passes of `gaussian_filter`."""
    along = read_axes(axes, array.ndim)
    count = len(along)
    orders, sigmas = per_axis(order, "order", count), per_axis(sigma, "sigma", count)
    modes, radii = per_axis(mode, "mode", count), per_axis(radius, "radius", count)
    return [
        Line(_gaussian(sigmas[i], orders[i], truncate, radii[i]), along[i], read_mode(modes[i]))
        for i in range(count)
        if sigmas[i] > SMALLEST_SIGMA
    ]


def _gaussian(sigma: Any, order: Any, truncate: float, radius: Any) -> Taps:
    """Return the weights of a Gaussian's derivative, for correlation."""
    reach = int(truncate * float(sigma) + 0.5) if radius is None else radius
    if not isinstance(reach, numbers.Integral) or reach < 0:
        raise argument_error(ValueError, f"radius must be a non-negative int, got {shown(reach)}")
    if order < 0:
        raise argument_error(ValueError, f"order must be non-negative, got {shown(order)}")
    try:
        return _known_gaussian(sigma, order, int(reach))
    except TypeError:  # Arrays have no hash.
        return Taps(_gaussian_weights(sigma, order, int(reach)))


@lru_cache(maxsize=64, typed=True)
def _known_gaussian(sigma: Any, order: int, radius: int) -> Taps:
    return Taps(_gaussian_weights(sigma, order, radius))


def _gaussian_weights(sigma: Any, order: int, radius: int) -> Array:
    """Return samples of a Gaussian whose sum is 1, or of its derivative, in reverse order.

    A derivative of exp(-x**2 / (2 * sigma**2)) is the Gaussian times a polynomial. If q is the
    polynomial of one derivative, that of the next one is q' - q * x / sigma**2: a matrix times its
    coefficients. All operations are SciPy's, since truncated integers show the last bit of a
    weight.
    """
    variance = sigma * sigma
    x = np.arange(-radius, radius + 1)
    gaussian: Array = np.exp(-0.5 / variance * x**2)
    gaussian = gaussian / gaussian.sum()
    if order == 0:
        return gaussian[::-1]
    powers = np.arange(order + 1)
    next_one = np.diag(powers[1:], 1) + np.diag(np.ones(order) / -variance, -1)
    coefficients = np.zeros(order + 1)
    coefficients[0] = 1
    for _ in range(order):
        coefficients = next_one.dot(coefficients)
    weights: Array = (x[:, None] ** powers).dot(coefficients) * gaussian
    return weights[::-1]


DIFFERENCE = Taps(np.array([-1.0, 0.0, 1.0]))
SECOND_DIFFERENCE = Taps(np.array([1.0, -2.0, 1.0]))
SUM = Taps(np.array([1.0, 1.0, 1.0]))
BINOMIAL = Taps(np.array([1.0, 2.0, 1.0]))


def _edges(
    input: npt.ArrayLike, axis: int, output: Output, mode: Modes, cval: complex, smooth: Taps
) -> Array:
    """Take differences along one axis, and smooth along all others."""
    array = np.asarray(input)
    axis = read_axis(axis, array.ndim)
    out = make_output(output, array)
    modes = read_modes(mode, array.ndim)
    lines = [Line(DIFFERENCE, axis, modes[axis])]
    lines += [Line(smooth, other, modes[other]) for other in range(array.ndim) if other != axis]
    _filter(array, out, [lines], cval)
    return out


@named
def prewitt(
    input: npt.ArrayLike,
    axis: int = -1,
    output: Output = None,
    mode: Modes = "reflect",
    cval: complex = 0.0,
) -> Array:
    """Apply a Prewitt filter: differences along one axis, sums of 3 elements along all others.

    Parameters
    ----------
    input : array_like
        Array of bools, integers, float32, float64, complex64 or complex128.
    axis : int, default -1
        The axis of the differences: ``input[i + 1] - input[i - 1]``.
    output : ndarray or dtype, optional
        Where the result goes, or its dtype; that of the input by default. Negative results wrap
        around in unsigned integers: give a signed dtype for images of uint8.
    mode : str or sequence of str, default "reflect"
        How each axis continues beyond its ends, as for `correlate1d`.
    cval : scalar, default 0.0
        What lies beyond the ends in mode "constant".

    Returns
    -------
    ndarray
        The result, with the input's shape.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import ndimage
    >>> ndimage.prewitt(np.array([[0, 0, 9], [0, 0, 9], [0, 0, 9]]))
    array([[ 0, 27, 27],
           [ 0, 27, 27],
           [ 0, 27, 27]])
    """
    return _edges(input, axis, output, mode, cval, SUM)


@named
def sobel(
    input: npt.ArrayLike,
    axis: int = -1,
    output: Output = None,
    mode: Modes = "reflect",
    cval: complex = 0.0,
) -> Array:
    """Apply a Sobel filter: differences along one axis, smoothing by 1, 2, 1 along all others.

    Parameters
    ----------
    input : array_like
        Array of bools, integers, float32, float64, complex64 or complex128.
    axis : int, default -1
        The axis of the differences: ``input[i + 1] - input[i - 1]``.
    output : ndarray or dtype, optional
        Where the result goes, or its dtype; that of the input by default. Negative results wrap
        around in unsigned integers: give a signed dtype for images of uint8.
    mode : str or sequence of str, default "reflect"
        How each axis continues beyond its ends, as for `correlate1d`.
    cval : scalar, default 0.0
        What lies beyond the ends in mode "constant".

    Returns
    -------
    ndarray
        The result, with the input's shape.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import ndimage
    >>> ndimage.sobel(np.array([[0, 0, 9], [0, 0, 9], [0, 0, 9]]))
    array([[ 0, 36, 36],
           [ 0, 36, 36],
           [ 0, 36, 36]])
    """
    return _edges(input, axis, output, mode, cval, BINOMIAL)


def _combined(
    array: Array,
    out: Array,
    parts: Sequence[Sequence[Line]],
    cval: complex,
    squared: bool = False,
) -> None:
    """Write the sum of what lists of passes result in, or the root of the sum of their squares.

    Squares and roots of integers and of complex numbers are NumPy's, as in SciPy, and so are sums
    of bools.
    """
    by_kernel = out.dtype.kind == "f" if squared else out.dtype != np.bool_
    if not parts or (by_kernel and all(parts)):
        _filter(array, out, parts, cval, squared)
        return
    if np.may_share_memory(array, out):
        array = array.copy()
    _filter(array, out, parts[:1], cval)
    if squared:
        np.multiply(out, out, out)
    for lines in parts[1:]:
        other = new_array(out.shape, out.dtype.newbyteorder("="))
        _filter(array, other, [lines], cval)
        if squared:
            np.multiply(other, other, other)
        out += other
    if squared:
        np.sqrt(out, out, casting="unsafe")


@named
def laplace(
    input: npt.ArrayLike,
    output: Output = None,
    mode: Modes = "reflect",
    cval: complex = 0.0,
    *,
    axes: Axes = None,
) -> Array:
    """Apply a Laplace filter: the sum of the second differences along the axes.

    Parameters
    ----------
    input : array_like
        Array of bools, integers, float32, float64, complex64 or complex128.
    output : ndarray or dtype, optional
        Where the result goes, or its dtype; that of the input by default. Negative results wrap
        around in unsigned integers: give a signed dtype for images of uint8.
    mode : str or sequence of str, default "reflect"
        How each axis continues beyond its ends, as for `correlate1d`.
    cval : scalar, default 0.0
        What lies beyond the ends in mode "constant".
    axes : int or sequence of ints, optional
        The axes to take differences along, all by default.

    Returns
    -------
    ndarray
        The result, with the input's shape.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import ndimage
    >>> ndimage.laplace(np.array([[0, 0, 0], [0, 9, 0], [0, 0, 0]]))
    array([[  0,   9,   0],
           [  9, -36,   9],
           [  0,   9,   0]])
    """
    array = np.asarray(input)
    out = make_output(output, array)
    along = read_axes(axes, array.ndim)
    modes = read_modes(mode, len(along)) if along else []
    parts = [[Line(SECOND_DIFFERENCE, axis, each)] for axis, each in zip(along, modes)]
    _combined(array, out, parts, cval)
    return out


def _derivatives(
    array: Array, sigma: Any, order: int, mode: Modes, along: tuple[int, ...], keywords: Any
) -> list[list[Line]]:
    """Return the passes of a Gaussian's derivative along each axis, smoothed along the others."""
    modes = per_axis(mode, "mode", len(along)) if along else []
    parts = []
    for axis, each in zip(along, modes):
        orders = [order if other == axis else 0 for other in range(array.ndim)]
        parts.append(_gaussians(array, sigma, orders, each, **keywords))
    return parts


@named
def gaussian_laplace(
    input: npt.ArrayLike,
    sigma: float | Sequence[float],
    output: Output = None,
    mode: Modes = "reflect",
    cval: complex = 0.0,
    *,
    axes: Axes = None,
    **kwargs: Any,
) -> Array:
    """Apply the Laplace filter to a Gaussian: the sum of a Gaussian's second derivatives.

    Parameters
    ----------
    input : array_like
        Array of bools, integers, float32, float64, complex64 or complex128.
    sigma : float or sequence of floats
        The Gaussian's standard deviation in elements, for each of `axes` or for all. As in SciPy,
        one for each axis of the array is in the order of the array's axes, not in that of `axes`.
    output : ndarray or dtype, optional
        Where the result goes, or its dtype; that of the input by default.
    mode : str or sequence of str, default "reflect"
        How arrays continue beyond their ends, as for `correlate1d`. As in SciPy, a sequence has a
        mode for each derivative, which holds for all axes.
    cval : scalar, default 0.0
        What lies beyond the ends in mode "constant".
    axes : int or sequence of ints, optional
        The axes to filter along, all by default.
    **kwargs
        Further arguments of `gaussian_filter`: `truncate` and `radius`.

    Returns
    -------
    ndarray
        The result, with the input's shape.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import ndimage
    >>> spot = np.zeros((9, 9))
    >>> spot[4, 4] = 1
    >>> ndimage.gaussian_laplace(spot, sigma=1)[4, 3:6].round(3)
    array([-0.097, -0.318, -0.097])
    """
    array = np.asarray(input)
    along = read_axes(axes, array.ndim)
    sigmas = per_axis(sigma, "sigma", len(along))
    if len(along) < array.ndim:
        by_axis = dict(zip(along, sigmas))
        sigmas = [by_axis.get(axis, 0) for axis in range(array.ndim)]
    out = make_output(output, array)
    parts = _derivatives(array, sigmas, 2, mode, along, kwargs)
    _combined(array, out, parts, cval)
    return out


@named
def gaussian_gradient_magnitude(
    input: npt.ArrayLike,
    sigma: float | Sequence[float],
    output: Output = None,
    mode: Modes = "reflect",
    cval: complex = 0.0,
    *,
    axes: Axes = None,
    **kwargs: Any,
) -> Array:
    """Compute the magnitude of the gradient of an array that is smoothed by a Gaussian.

    Parameters
    ----------
    input : array_like
        Array of bools, integers, float32, float64, complex64 or complex128.
    sigma : float or sequence of floats
        The Gaussian's standard deviation in elements, for each axis or for all.
    output : ndarray or dtype, optional
        Where the result goes, or its dtype; that of the input by default. Squares wrap around in
        small integers: give a float dtype for images of uint8.
    mode : str or sequence of str, default "reflect"
        How arrays continue beyond their ends, as for `correlate1d`. As in SciPy, a sequence has a
        mode for each derivative, which holds for all axes.
    cval : scalar, default 0.0
        What lies beyond the ends in mode "constant".
    axes : int or sequence of ints, optional
        The axes of the gradient, all by default. Arrays are smoothed along all axes.
    **kwargs
        Further arguments of `gaussian_filter`: `truncate` and `radius`.

    Returns
    -------
    ndarray
        The result, with the input's shape.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import ndimage
    >>> ramp = np.add.outer(3.0 * np.arange(32), 4.0 * np.arange(32))
    >>> ndimage.gaussian_gradient_magnitude(ramp, sigma=1)[16, 16].round(3)
    np.float64(5.0)
    """
    array = np.asarray(input)
    out = make_output(output, array)
    along = read_axes(axes, array.ndim)
    parts = _derivatives(array, sigma, 1, mode, along, kwargs)
    _combined(array, out, parts, cval, squared=True)
    return out
