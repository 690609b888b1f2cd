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
from fastconv._errors import argument_error, named, shown
from fastconv._memory import new_array
from fastconv.ndimage._arguments import (
    COMPUTED,
    Array,
    Axes,
    Ints,
    Modes,
    Output,
    check_origin,
    extents,
    make_output,
    per_axis,
    read_axes,
    read_axis,
    read_mode,
)
from fastconv.ndimage._borders import source_indices
from fastconv.ndimage._handover import scipy_function

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
    The time does not depend much on `size`. Sums of integers are exact. Sums of floats are computed in
    float64 in groups whose size grows by powers of 3, so that their error stays at a few units in the
    last place. SciPy adds and subtracts along the whole axis: its errors grow with the length of
    the axis, and a NaN or an infinity spoils all results behind it. Here it spoils the windows that
    contain it. Integers have SciPy's results to the last bit, also those of 64 bits whose sums it
    rounds.

    Examples
    --------
    >>> from fastconv import ndimage
    >>> ndimage.uniform_filter1d([2, 8, 0, 4, 1, 9, 9, 0], size=3)
    array([4, 3, 4, 1, 4, 6, 6, 3])
    """
    array = np.asarray(input)
    axis = read_axis(axis, array.ndim)
    size = _read_size(size)
    out = _output(output, array, is_complex=array.dtype.kind == "c")
    check_origin(origin, size)
    step = Pass(axis, size, extents(size, operator.index(origin))[0], read_mode(mode))
    if not _computed(array, out):
        return _scipy("uniform_filter1d", array, out, size, axis, out, mode, cval, origin)
    return _means(array, out, [step], cval)


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
    The filter runs along two axes at once where they are neighbours: a band of rows is filtered along
    the first one, and, while it is in the caches, along the second one.

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
    out = _output(output, array, is_complex=array.dtype.kind == "c")
    steps = _read_passes(array.ndim, size, mode, origin, axes)
    if steps and not _computed(array, out):
        return _scipy(
            "uniform_filter", array, out, size, out, mode, cval, origin, axes=axes
        )
    return _means(array, out, steps, cval) if steps else _copied(array, out)


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
    Along columns, a maximum is that of the end of a block of `size` elements and of the beginning of
    the next block [1]_ [2]_, which takes three comparisons whatever the size. Along rows, maxima of
    1, 4, 16, ... neighbours are computed from each other.

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
        If neither `size` nor `footprint` is given, if `mode` or `output` is refused, or if something
        has not one element or dimension per axis.
    ValueError
        If `axes` is refused, if the footprint is empty, or if an origin moves the window off its
        centre.

    See Also
    --------
    maximum_filter1d : Explains rectangles, and what NaN and zeros do.

    Notes
    -----
    Each row of a footprint with holes is taken apart into runs of neighbours. The maximum of a run is
    that of two overlapping runs whose lengths are a power of two, and those are computed once for
    all. So a disk takes about 2 comparisons per row, and not one per neighbour. Of zeros that differ in
    sign, the result of a footprint may be either.

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
    call = Call("maximum_filter", MAXIMUM, size, footprint, None, output, mode, cval, origin, axes)
    return _extreme(input, call)


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
    call = Call("minimum_filter", MINIMUM, size, footprint, None, output, mode, cval, origin, axes)
    return _extreme(input, call)


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
    """Compute the grey-scale erosion: the minimum of neighbours, from which a structure is subtracted.

    Parameters
    ----------
    input, size, footprint, output, mode, cval, origin, axes
        As in `maximum_filter`.
    structure : array_like, optional
        What is subtracted from each neighbour before the minimum is taken, with a dimension for each
        of `axes`. Without a footprint, all its elements are neighbours. A call with a structure is
        handed to SciPy.

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
    _require_neighbours(size, footprint, structure)
    call = Call(
        "grey_erosion", MINIMUM, size, footprint, structure, output, mode, cval, origin, axes
    )
    return _extreme(input, call)


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
    _require_neighbours(size, footprint, structure)
    array = np.asarray(input)
    if structure is None:
        origin, footprint = _mirrored(array.ndim, size, footprint, origin, axes)
    call = Call(
        "grey_dilation", MAXIMUM, size, footprint, structure, output, mode, cval, origin, axes
    )
    return _extreme(array, call)
