"""Means, maxima and minima of windows of neighbours, and grey-scale morphology.

Every call becomes passes along one axis each, or the taps of a footprint, which kernels run on
arrays of one dtype. What kernels do not compute exactly as SciPy does (another dtype of the output,
integers beyond 2 ** 53, borders that the dtype does not have) is computed in float64, pass by pass.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from fastconv import _kernels, _threads
from fastconv._errors import argument_error, named, shown, warn
from fastconv._memory import new_array
from fastconv._scipy import scipy_function
from fastconv.ndimage._arguments import (
    Array,
    Axes,
    Ints,
    Modes,
    Output,
    check_origin,
    extents,
    footprint_origins,
    make_output,
    per_axis,
    read_axes,
    read_axis,
    read_mode,
    read_modes,
    read_scalar,
)
from fastconv.ndimage._borders import source_indices
from fastconv.ndimage._buffers import convert, deliver, readable, stages, writable
from fastconv.ndimage._complex import Part, combine, input_parts
from fastconv.ndimage._passes import check_dtypes

MEAN, MAXIMUM, MINIMUM = "mean", "maximum", "minimum"

EXACT = 2**53
"""The integers up to this one have a float64."""

LARGEST_STEP = 16
"""Up to so many neighbours, such as channels, lie between two elements of a horizontal pass."""


class Pass(NamedTuple):
    """A filter along one axis."""

    axis: int
    size: int
    before: int
    """The number of neighbours in front of the centre."""
    mode: str

    def table(self, length: int) -> Array:
        """Return which elements the positions of the extended axis show."""
        return source_indices(length, self.before, self.size - 1 - self.before, self.mode)


@named
def uniform_filter1d(
    input: Any,
    size: int,
    axis: int = -1,
    output: Output = None,
    mode: str = "reflect",
    cval: complex = 0.0,
    origin: int = 0,
) -> Array:
    """Compute the mean of `size` neighbours along one axis.

    Parameters
    ----------
    input : array_like
        Array of any dimension. A complex one is filtered in its real and its imaginary part.
    size : int
        Number of neighbours whose mean is taken, at least 1.
    axis : int, default -1
        Axis to filter along.
    output : ndarray or dtype, optional
        Array of the input's shape for the result, of any dtype and strides; or the dtype of a new
        one. The default is the input's dtype. It may be the input, or overlap it.
    mode : str, default "reflect"
        How the input continues beyond its ends: "reflect" (d c b a | a b c d | d c b a), "mirror"
        (d c b | a b c d | c b a), "nearest" (a a a | a b c d | d d d), "wrap" (a b c d | a b c d |
        a b c d) or "constant" (`cval` everywhere). The names "grid-mirror", "grid-wrap" and
        "grid-constant" mean "reflect", "wrap" and "constant".
    cval : scalar, default 0.0
        The constant of mode "constant".
    origin : int, default 0
        How far the window is moved to the left: a result is that of elements ``i - size // 2 -
        origin`` to ``i - size // 2 - origin + size - 1``.

    Returns
    -------
    ndarray
        The means. If `output` is an array, it is this one. Means that become integers are rounded
        towards zero.

    Raises
    ------
    RuntimeError
        If `size`, `mode` or `output` is refused.
    ValueError
        If `origin` moves the window off its centre.

    Notes
    -----
    The time does not depend much on `size`. Sums of integers are exact. Sums of floats are computed
    in float64 in groups whose size grows by powers of 3, so that their error stays at a few units
    in the last place. SciPy adds and subtracts along the whole axis: its errors grow with the
    length of the axis, and a NaN or an infinity spoils all results behind it. Here it spoils the
    windows that contain it. Integers have SciPy's results to the last bit, also those of 64 bits
    whose sums it rounds.

    Examples
    --------
    >>> from fastconv import ndimage
    >>> ndimage.uniform_filter1d([2, 8, 0, 4, 1, 9, 9, 0], size=3)
    array([4, 3, 4, 1, 4, 6, 6, 3])
    """
    array = np.asarray(input)
    axis = read_axis(axis, array.ndim)
    size = _read_size(size)
    out = make_output(output, array, is_complex=array.dtype.kind == "c")
    check_origin(origin, size)
    step = Pass(axis, size, extents(size, operator.index(origin))[0], read_mode(mode))
    _means(array, out, [step], cval)
    return out


@named
def uniform_filter(
    input: Any,
    size: Ints = 3,
    output: Output = None,
    mode: Modes = "reflect",
    cval: complex = 0.0,
    origin: Ints = 0,
    *,
    axes: Axes = None,
) -> Array:
    """Compute the mean of a rectangle of neighbours, with `uniform_filter1d` along each axis.

    Parameters
    ----------
    input : array_like
        Array of any dimension. A complex one is filtered in its real and its imaginary part.
    size : int or sequence of int, default 3
        Number of neighbours along all axes, or one for each of `axes`.
    output : ndarray or dtype, optional
        As in `uniform_filter1d`. The results of each axis have its dtype: integers are rounded
        towards zero after each axis.
    mode : str or sequence of str, default "reflect"
        How the input continues beyond its borders, along all axes or along each of `axes`. The
        modes are those of `uniform_filter1d`.
    cval : scalar, default 0.0
        The constant of mode "constant".
    origin : int or sequence of int, default 0
        How far the window is moved to the left, along all axes or along each of `axes`.
    axes : int, sequence of int or None
        Axes to filter along, in this order. By default these are all.

    Returns
    -------
    ndarray
        The means. If `output` is an array, it is this one.

    Raises
    ------
    RuntimeError
        If `mode` or `output` is refused, or if a sequence has not one element per axis.
    ValueError
        If `axes` is refused, or if an origin moves the window off its centre.

    See Also
    --------
    uniform_filter1d : Explains how sums are computed, and what a NaN does.

    Notes
    -----
    The filter runs along two axes at once where they are neighbours: a band of rows is filtered
    along the first one, and, while it is in the caches, along the second one.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import ndimage
    >>> image = np.zeros((3, 5))
    >>> image[1, 2] = 9
    >>> ndimage.uniform_filter(image, size=3)
    array([[0., 1., 1., 1., 0.],
           [0., 1., 1., 1., 0.],
           [0., 1., 1., 1., 0.]])
    """
    array = np.asarray(input)
    out = make_output(output, array, is_complex=array.dtype.kind == "c")
    steps = _read_passes(array.ndim, size, mode, origin, axes)
    _means(array, out, steps, cval)
    return out


@named
def maximum_filter1d(
    input: Any,
    size: int,
    axis: int = -1,
    output: Output = None,
    mode: str = "reflect",
    cval: float = 0.0,
    origin: int = 0,
) -> Array:
    """Compute the maximum of `size` neighbours along one axis.

    Parameters
    ----------
    input : array_like
        Real array of any dimension.
    size : int
        Number of neighbours whose maximum is taken, at least 1.
    axis, output, mode, cval, origin
        As in `uniform_filter1d`.

    Returns
    -------
    ndarray
        The maxima. If `output` is an array, it is this one.

    Raises
    ------
    TypeError
        If `input` is complex.
    RuntimeError
        If `size`, `mode` or `output` is refused.
    ValueError
        If `origin` moves the window off its centre.

    Notes
    -----
    Along columns, a maximum is that of the end of a block of `size` elements and of the beginning
    of the next block [1]_ [2]_, which takes three comparisons whatever the size. Along rows, maxima
    of 1, 4, 16, ... neighbours are computed from each other.

    If there is a NaN in a window, the result is NaN, as that of `numpy.maximum`. What SciPy returns
    depends on where in the window it is. Of zeros that differ in sign, the result is the last one,
    as in SciPy.

    References
    ----------
    .. [1] M. van Herk, "A fast algorithm for local minimum and maximum filters on rectangular and
       octagonal kernels", Pattern Recognition Letters 13 (1992)
    .. [2] J. Gil and M. Werman, "Computing 2-D min, median, and max filters", IEEE Transactions on
       Pattern Analysis and Machine Intelligence 15 (1993)

    Examples
    --------
    >>> from fastconv import ndimage
    >>> ndimage.maximum_filter1d([2, 8, 0, 4, 1, 9, 9, 0], size=3)
    array([8, 8, 8, 4, 9, 9, 9, 9])
    """
    return _extreme_1d(MAXIMUM, input, size, axis, output, mode, cval, origin)


@named
def minimum_filter1d(
    input: Any,
    size: int,
    axis: int = -1,
    output: Output = None,
    mode: str = "reflect",
    cval: float = 0.0,
    origin: int = 0,
) -> Array:
    """Compute the minimum of `size` neighbours along one axis.

    Parameters
    ----------
    input : array_like
        Real array of any dimension.
    size : int
        Number of neighbours whose minimum is taken, at least 1.
    axis, output, mode, cval, origin
        As in `uniform_filter1d`.

    Returns
    -------
    ndarray
        The minima. If `output` is an array, it is this one.

    Raises
    ------
    TypeError
        If `input` is complex.
    RuntimeError
        If `size`, `mode` or `output` is refused.
    ValueError
        If `origin` moves the window off its centre.

    See Also
    --------
    maximum_filter1d : Explains the algorithm, and what NaN and zeros do.

    Examples
    --------
    >>> from fastconv import ndimage
    >>> ndimage.minimum_filter1d([2, 8, 0, 4, 1, 9, 9, 0], size=3)
    array([2, 0, 0, 0, 1, 1, 0, 0])
    """
    return _extreme_1d(MINIMUM, input, size, axis, output, mode, cval, origin)


@named
def maximum_filter(
    input: Any,
    size: Ints | None = None,
    footprint: Any = None,
    output: Output = None,
    mode: Modes = "reflect",
    cval: float = 0.0,
    origin: Ints = 0,
    *,
    axes: Axes = None,
) -> Array:
    """Compute the maximum of a rectangle or of a footprint of neighbours.

    Parameters
    ----------
    input : array_like
        Real array of any dimension.
    size : int or sequence of int, optional
        Number of neighbours along all axes, or one for each of `axes`. Either this or `footprint`
        must be given; the footprint has precedence.
    footprint : array_like of bool, optional
        The neighbours whose maximum is taken, with a dimension for each of `axes`.
    output : ndarray or dtype, optional
        As in `uniform_filter1d`.
    mode : str or sequence of str, default "reflect"
        How the input continues beyond its borders, along all axes or along each of `axes`. A
        footprint with holes takes one mode. The modes are those of `uniform_filter1d`.
    cval : scalar, default 0.0
        The constant of mode "constant".
    origin : int or sequence of int, default 0
        How far the window is moved to the left, along all axes or along each of `axes`.
    axes : int, sequence of int or None
        Axes to filter along. By default these are all.

    Returns
    -------
    ndarray
        The maxima. If `output` is an array, it is this one.

    Raises
    ------
    TypeError
        If `input` is complex.
    RuntimeError
        If neither `size` nor `footprint` is given, if `mode` or `output` is refused, or if
        something has not one element or dimension per axis.
    ValueError
        If `axes` is refused, if the footprint is empty, or if an origin moves the window off its
        centre.

    See Also
    --------
    maximum_filter1d : Explains rectangles, and what NaN and zeros do.

    Notes
    -----
    Each row of a footprint with holes is taken apart into runs of neighbours. The maximum of a run
    is that of two overlapping runs whose lengths are a power of two, and those are computed once
    for all. So a disk takes about 2 comparisons per row, and not one per neighbour. Of zeros that
    differ in sign, the result of a footprint may be either.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import ndimage
    >>> image = np.zeros((5, 5), int)
    >>> image[2, 2] = 1
    >>> cross = [[0, 1, 0], [1, 1, 1], [0, 1, 0]]
    >>> ndimage.maximum_filter(image, footprint=cross)
    array([[0, 0, 0, 0, 0],
           [0, 0, 1, 0, 0],
           [0, 1, 1, 1, 0],
           [0, 0, 1, 0, 0],
           [0, 0, 0, 0, 0]])
    """
    return _extreme(MAXIMUM, input, size, footprint, output, mode, cval, origin, axes)


@named
def minimum_filter(
    input: Any,
    size: Ints | None = None,
    footprint: Any = None,
    output: Output = None,
    mode: Modes = "reflect",
    cval: float = 0.0,
    origin: Ints = 0,
    *,
    axes: Axes = None,
) -> Array:
    """Compute the minimum of a rectangle or of a footprint of neighbours.

    Parameters
    ----------
    input, size, footprint, output, mode, cval, origin, axes
        As in `maximum_filter`.

    Returns
    -------
    ndarray
        The minima. If `output` is an array, it is this one.

    Raises
    ------
    TypeError, RuntimeError, ValueError
        As `maximum_filter`.

    See Also
    --------
    maximum_filter : Explains footprints.
    maximum_filter1d : Explains rectangles, and what NaN and zeros do.

    Examples
    --------
    >>> from fastconv import ndimage
    >>> ndimage.minimum_filter([[3, 1, 4], [1, 5, 9]], size=(1, 3))
    array([[1, 1, 1],
           [1, 1, 5]])
    """
    return _extreme(MINIMUM, input, size, footprint, output, mode, cval, origin, axes)


@named
def grey_erosion(
    input: Any,
    size: Ints | None = None,
    footprint: Any = None,
    structure: Any = None,
    output: Output = None,
    mode: str = "reflect",
    cval: float = 0.0,
    origin: Ints = 0,
    *,
    axes: Axes = None,
) -> Array:
    """Compute the grey-scale erosion: the minimum of neighbours, less a structure.

    Parameters
    ----------
    input, size, footprint, output, mode, cval, origin, axes
        As in `maximum_filter`.
    structure : array_like, optional
        What is subtracted from each neighbour before the minimum is taken, with a dimension for
        each of `axes`. Without a footprint, all its elements are neighbours. A call with a
        structure is handed to SciPy.

    Returns
    -------
    ndarray
        The eroded array. If `output` is an array, it is this one.

    Raises
    ------
    TypeError, RuntimeError, ValueError
        As `maximum_filter`, but a ValueError if there is neither a size nor a footprint nor a
        structure.
    ImportError
        If there is a structure, and SciPy is not installed.

    See Also
    --------
    minimum_filter : The same without a structure.

    Examples
    --------
    >>> from fastconv import ndimage
    >>> ndimage.grey_erosion([[5, 5, 5, 5, 5], [5, 5, 2, 5, 5]], size=(1, 3))
    array([[5, 5, 5, 5, 5],
           [5, 2, 2, 2, 5]])
    """
    if structure is not None:
        _check_structure(structure, footprint)
        scipy = scipy_function("grey_erosion", "structure")
        result: Array = scipy(
            input, size, footprint, structure, output, mode, cval, origin, axes=axes
        )
        return result
    if size is None and footprint is None:
        raise argument_error(ValueError, "size, footprint or structure must be given")
    return _extreme(MINIMUM, input, size, footprint, output, mode, cval, origin, axes)


@named
def grey_dilation(
    input: Any,
    size: Ints | None = None,
    footprint: Any = None,
    structure: Any = None,
    output: Output = None,
    mode: str = "reflect",
    cval: float = 0.0,
    origin: Ints = 0,
    *,
    axes: Axes = None,
) -> Array:
    """Compute the grey-scale dilation: the maximum of neighbours, to which a structure is added.

    Footprint and structure are mirrored, so that this is the dual of `grey_erosion`.

    Parameters
    ----------
    input, size, footprint, output, mode, cval, origin, axes
        As in `maximum_filter`.
    structure : array_like, optional
        What is added to each neighbour before the maximum is taken, with a dimension for each of
        `axes`. Without a footprint, all its elements are neighbours. A call with a structure is
        handed to SciPy.

    Returns
    -------
    ndarray
        The dilated array. If `output` is an array, it is this one.

    Raises
    ------
    TypeError, RuntimeError, ValueError
        As `maximum_filter`, but a ValueError if there is neither a size nor a footprint nor a
        structure.
    ImportError
        If there is a structure, and SciPy is not installed.

    See Also
    --------
    maximum_filter : The same with a footprint that is not mirrored, and without a structure.

    Examples
    --------
    >>> from fastconv import ndimage
    >>> ndimage.grey_dilation([[0, 0, 3, 0, 0]], footprint=[[0, 1, 1]])
    array([[0, 0, 3, 3, 0]])
    """
    if structure is not None:
        _check_structure(structure, footprint)
        scipy = scipy_function("grey_dilation", "structure")
        result: Array = scipy(
            input, size, footprint, structure, output, mode, cval, origin, axes=axes
        )
        return result
    if size is None and footprint is None:
        raise argument_error(ValueError, "size, footprint or structure must be given")
    array = np.asarray(input)
    origin, footprint = _mirrored(array.ndim, size, footprint, origin, axes)
    return _extreme(MAXIMUM, array, size, footprint, output, mode, cval, origin, axes)


def _check_structure(structure: Any, footprint: Any) -> None:
    """Check that a structure has an element for each of a footprint: SciPy reads them together."""
    if footprint is None:
        return
    shape, neighbours = np.shape(structure), np.asarray(footprint, bool)
    if shape != neighbours.shape:
        raise argument_error(
            RuntimeError,
            f"structure must have the footprint's shape {neighbours.shape}, got {shape}",
        )
    if not neighbours.any():
        raise argument_error(ValueError, "footprint must not be all zero")


def _mirrored(
    ndim: int, size: Any, footprint: Any, origin: Any, axes: Axes
) -> tuple[list[int], Array | None]:
    """Return the origins and the footprint of a mirrored window."""
    count = len(read_axes(axes, ndim))
    if footprint is not None:
        footprint = np.flip(np.asarray(footprint))
        sizes = list(footprint.shape)
    else:
        sizes = per_axis(size, "size", count)
    if len(sizes) != count:
        raise argument_error(
            RuntimeError,
            f"footprint must have {count} dimensions, one for each axis, got {len(sizes)}",
        )
    # A window of even size has its centre behind the middle, and its mirror image in front of it.
    origins = [
        -one - (1 - int(width) % 2)
        for one, width in zip(per_axis(origin, "origin", count), sizes, strict=True)
    ]
    return origins, footprint


def _read_size(size: Any) -> int:
    """Read the size of a filter along one axis."""
    number = operator.index(size)
    if number < 1:
        raise argument_error(
            RuntimeError, f"incorrect filter size: size must be at least 1, got {shown(size)}"
        )
    return number


def _read_passes(ndim: int, size: Any, mode: Modes, origin: Ints, axes: Axes) -> list[Pass]:
    """Read a pass for each axis along which there is more than one neighbour."""
    numbers = read_axes(axes, ndim)
    count = len(numbers)
    each = zip(
        numbers,
        map(int, per_axis(size, "size", count)),
        per_axis(origin, "origin", count),
        read_modes(mode, count),
        strict=True,
    )
    return [
        Pass(axis, width, extents(width, check_origin(shift, width))[0], continued)
        for axis, width, shift, continued in each
        if width > 1
    ]


def _check_real(array: Array) -> None:
    if np.iscomplexobj(array):
        raise argument_error(
            TypeError, f"Complex type not supported: input must be real, got {array.dtype}"
        )


def _extreme_1d(
    operation: str,
    input: Any,
    size: Any,
    axis: int,
    output: Output,
    mode: str,
    cval: Any,
    origin: int,
) -> Array:
    """Compute `maximum_filter1d` or `minimum_filter1d`."""
    array = np.asarray(input)
    _check_real(array)
    axis, size = read_axis(axis, array.ndim), _read_size(size)
    out = make_output(output, array)
    before = extents(size, check_origin(origin, size))[0]
    _extremes(operation, array, out, [Pass(axis, size, before, read_mode(mode))], cval)
    return out


def _extreme(
    operation: str,
    input: Any,
    size: Any,
    footprint: Any,
    output: Output,
    mode: Modes,
    cval: Any,
    origin: Ints,
    axes: Axes,
) -> Array:
    """Compute the maximum or the minimum of a rectangle or a footprint."""
    if size is not None and footprint is not None:
        warn("ignoring size because footprint is set")
    neighbours = _read_neighbours(size, footprint)
    array = np.asarray(input)
    _check_real(array)
    out = make_output(output, array)
    if neighbours is None or neighbours.all():
        sizes = size if neighbours is None else neighbours.shape
        _extremes(operation, array, out, _read_passes(array.ndim, sizes, mode, origin, axes), cval)
        return out
    numbers = read_axes(axes, array.ndim)
    if neighbours.ndim != len(numbers):
        raise argument_error(
            RuntimeError,
            f"footprint.ndim ({neighbours.ndim}) must match len(axes) ({len(numbers)})",
        )
    origins = per_axis(origin, "origin", len(numbers))
    if not isinstance(mode, str):
        raise argument_error(
            RuntimeError,
            f"a sequence of modes is not supported for footprints with holes, got {shown(mode)}",
        )
    shifts = footprint_origins(origins, numbers, array.ndim)
    whole = np.expand_dims(neighbours, tuple(set(range(array.ndim)) - set(numbers)))
    passes = [
        Pass(axis, width, extents(width, check_origin(shift, width))[0], read_mode(mode))
        for axis, (width, shift) in enumerate(zip(whole.shape, shifts, strict=True))
    ]
    _footprint(operation, array, out, whole, passes, cval)
    return out


def _read_neighbours(size: Any, footprint: Any) -> Array | None:
    """Read a footprint, or None if there is only a size."""
    if footprint is None:
        if size is None:
            raise argument_error(RuntimeError, "no footprint provided: give size or footprint")
        return None
    neighbours = np.asarray(footprint, bool)
    if not neighbours.any():
        raise argument_error(ValueError, "All-zero footprint is not supported.")
    return neighbours


def _means(array: Array, out: Array, passes: Sequence[Pass], cval: Any) -> None:
    """Write the means of neighbours along one axis after the other."""

    def apply(part: Part, passes: Sequence[Pass], into: Array) -> None:
        _filter(MEAN, part.array, into, passes, part.cval)

    combine(apply, input_parts(array, cval, out), [passes], out)


def _extremes(operation: str, array: Array, out: Array, passes: Sequence[Pass], cval: Any) -> None:
    """Write the maxima or minima of neighbours along one axis after the other."""
    _filter(operation, array, out, passes, cval)


def _filter(operation: str, array: Array, out: Array, passes: Sequence[Pass], cval: Any) -> None:
    """Filter along one axis after the other.

    Between passes, values have the dtype of the result, as in SciPy. A pass that the kernel does
    not compute exactly as SciPy does, because SciPy rounds values or sums to float64, is computed
    in float64.
    """
    if not passes:
        out[...] = array
        return
    check_dtypes(array, out)
    cval = read_scalar(cval)
    if array.size == 0:
        return
    source, target = readable(array), writable(out, array)
    while passes:
        constant = _exact_constant(operation, source, target.dtype, passes, cval)
        if constant is not None:
            source = source.astype(target.dtype, copy=False)
            _run_all(operation, source, target, passes, constant)
            break
        source = _rounded_pass(operation, source, passes[0], cval, target.dtype)
        passes = passes[1:]
    else:
        target[...] = source
    deliver(target, out)


def _exact_constant(
    operation: str, source: Array, dtype: np.dtype[Any], passes: Sequence[Pass], cval: float
) -> Array | None:
    """Return what is beyond the borders, if the kernel computes in this dtype as SciPy does."""
    if not np.can_cast(source.dtype, dtype):
        return None
    with np.errstate(over="ignore"):
        if dtype.kind == "f":
            return np.array(cval).astype(dtype)
    is_used = any(step.mode == "constant" for step in passes)
    limits = np.iinfo(dtype)
    if not is_used:
        cval = 0.0
    elif not limits.min <= cval <= limits.max or (operation == MEAN and cval != int(cval)):
        return None
    if dtype.itemsize == 8:
        terms = max(step.size for step in passes) if operation == MEAN else 1
        largest = max(abs(int(source.min())), abs(int(source.max())), abs(int(cval)))
        if largest * terms >= EXACT:
            return None
    return np.array(int(cval), dtype)


def _rounded_pass(
    operation: str, source: Array, step: Pass, cval: float, dtype: np.dtype[Any]
) -> Array:
    """Compute one pass in float64, and convert its results."""
    values = source.astype(np.float64)
    if operation == MEAN and dtype.kind != "f":
        values = _running_means(values, step, cval)
    elif step.size > 1:
        filtered = new_array(values.shape, values.dtype)
        _run_all(operation, values, filtered, [step], np.array(cval, np.float64))
        values = filtered
    return np.ascontiguousarray(convert(values, dtype, by_magnitude=False))


def _running_means(values: Array, step: Pass, cval: float) -> Array:
    """Return means with the rounding errors of SciPy's running sum, which decide about integers."""
    lines = np.moveaxis(values, step.axis, -1)
    table = step.table(lines.shape[-1])
    lines = np.where(table < 0, cval, lines[..., table])
    with np.errstate(invalid="ignore", over="ignore"):
        sums = lines[..., step.size - 1 :].copy()
        sums[..., 0] = np.add.accumulate(lines[..., : step.size], axis=-1)[..., -1]
        sums[..., 1:] -= lines[..., : -step.size]
        sums = np.add.accumulate(sums, axis=-1) / step.size
    return np.moveaxis(sums, -1, step.axis)


class _Step(NamedTuple):
    """What one call of the kernel computes."""

    shape: tuple[int, int, int, int]
    """The array as (planes, height, width, step)."""
    vertical: Pass | None
    horizontal: Pass | None


def _steps(shape: tuple[int, ...], passes: Sequence[Pass]) -> list[_Step]:
    """Divide passes among calls: two of neighbouring axes are one if the later one is the last."""
    passes = [step for step in passes if step.size > 1]
    steps, i = [], 0
    while i < len(passes):
        axis = passes[i].axis
        outer, inner = prod(shape[:axis]), prod(shape[axis + 1 :])
        if inner < LARGEST_STEP:
            steps.append(_Step((1, outer, shape[axis], inner), None, passes[i]))
        elif (
            i + 1 < len(passes)
            and passes[i + 1].axis == axis + 1
            and inner // shape[axis + 1] < LARGEST_STEP
        ):
            both = (outer, shape[axis], shape[axis + 1], inner // shape[axis + 1])
            steps.append(_Step(both, passes[i], passes[i + 1]))
            i += 1
        else:
            steps.append(_Step((outer, shape[axis], inner, 1), passes[i], None))
        i += 1
    return steps


def _run_all(
    operation: str, source: Array, target: Array, passes: Sequence[Pass], constant: Array
) -> None:
    """Run the kernel on arrays of one dtype, which are contiguous and native."""
    dtype = _summed_dtype(source.dtype, passes) if operation == MEAN else source.dtype
    if dtype != source.dtype:
        wide = new_array(target.shape, dtype)
        _run_all(operation, source.astype(dtype), wide, passes, constant.astype(dtype))
        target[...] = wide
        return
    steps = _steps(source.shape, passes)
    if not steps:
        target[...] = source
        return
    for step, (read, written) in zip(steps, stages(source, target, len(steps)), strict=True):
        _run_step(operation, read, written, step, constant)


def _summed_dtype(dtype: np.dtype[Any], passes: Sequence[Pass]) -> np.dtype[Any]:
    """Return a dtype whose kernel can sum all neighbours: the next wider ones have more room."""
    for wider in (dtype, np.dtype(np.int32), np.dtype(np.int64)):
        array = np.empty(0, wider)
        if np.can_cast(dtype, wider) and all(
            _kernels.running.can_average(array, step.size) for step in passes
        ):
            return wider
    return dtype


def _run_step(operation: str, source: Array, into: Array, step: _Step, constant: Array) -> None:
    """Run one call of the kernel."""
    _, height, width, _ = step.shape
    passes = [
        along and (along.size, along.table(length), along.before)
        for along, length in ((step.vertical, height), (step.horizontal, width))
    ]
    arrays = source.reshape(step.shape), into.reshape(step.shape)
    if operation == MEAN:
        _kernels.running.means(*arrays, *passes, constant, _threads.count())
    else:
        is_minimum = operation == MINIMUM
        _kernels.running.extremes(*arrays, is_minimum, *passes, constant, _threads.count())


def _footprint(
    operation: str, array: Array, out: Array, footprint: Array, passes: Sequence[Pass], cval: Any
) -> None:
    """Write the maxima or minima of a footprint that has holes.

    SciPy compares in float64, so integers of 64 bits that have none are rounded.
    """
    check_dtypes(array, out)
    cval = read_scalar(cval)
    if array.size == 0:
        return
    source, target = readable(array), writable(out, array)
    constant = convert(np.array([cval]), source.dtype)
    if source.dtype.kind != "f" and source.dtype.itemsize == 8:
        largest = max(abs(int(each)) for each in (source.min(), source.max(), constant[0]))
        if largest >= EXACT:
            source, constant = source.astype(np.float64), constant.astype(np.float64)
    same = source.dtype == target.dtype
    result = target if same else new_array(source.shape, source.dtype)
    _run_footprint(operation, source, result, footprint, passes, constant)
    if not same:
        target[...] = convert(result.astype(np.float64), target.dtype)
    deliver(target, out)


def _run_footprint(
    operation: str,
    source: Array,
    target: Array,
    footprint: Array,
    passes: Sequence[Pass],
    constant: Array,
) -> None:
    """Run the kernel on arrays of one dtype, which are contiguous and native."""
    tables = [step.table(length) for step, length in zip(passes, source.shape, strict=True)]
    if source.ndim == 1:
        source, target, footprint = source[None], target[None], footprint[None]
        tables.insert(0, np.zeros(1, np.intp))
    planes, starts, runs = _runs(footprint)
    levels = int(runs[:, 2].max()).bit_length()
    _kernels.running.footprint(
        source,
        target,
        operation == MINIMUM,
        tables,
        passes[-1].before,
        planes,
        starts,
        runs,
        (*footprint.shape[-2:], levels),
        constant,
        _threads.count(),
    )


def _runs(footprint: Array) -> tuple[Array, Array, Array]:
    """Take a footprint apart into runs of neighbours, as `footprint` of the kernel wants them."""
    padded = np.zeros((*footprint.shape[:-1], footprint.shape[-1] + 2), np.int8)
    padded[..., 1:-1] = footprint
    edges = np.diff(padded, axis=-1)
    begins, ends = np.argwhere(edges == 1), np.argwhere(edges == -1)
    runs = np.column_stack((begins[:, -2:], ends[:, -1] - begins[:, -1]))
    outer = begins[:, :-2]
    is_first = np.ones(len(outer), bool)
    is_first[1:] = (outer[1:] != outer[:-1]).any(axis=1)
    starts = np.append(np.flatnonzero(is_first), len(runs))
    return (
        np.ascontiguousarray(outer[is_first], np.intp),
        np.ascontiguousarray(starts, np.intp),
        np.ascontiguousarray(runs, np.intp),
    )
