"""SciPy's filters of n-dimensional arrays, on compiled kernels and all threads.

The functions have the names, signatures and results of `scipy.ndimage`, so that one changed import
makes code faster::

    from fastconv import ndimage
"""

from __future__ import annotations

from fastconv.ndimage._dense import convolve, correlate
from fastconv.ndimage._linear import (
    convolve1d,
    correlate1d,
    gaussian_filter,
    gaussian_filter1d,
    gaussian_gradient_magnitude,
    gaussian_laplace,
    laplace,
    prewitt,
    sobel,
)
from fastconv.ndimage._rank import median_filter, percentile_filter, rank_filter
from fastconv.ndimage._running import (
    grey_dilation,
    grey_erosion,
    maximum_filter,
    maximum_filter1d,
    minimum_filter,
    minimum_filter1d,
    uniform_filter,
    uniform_filter1d,
)

__all__ = [
    "convolve",
    "convolve1d",
    "correlate",
    "correlate1d",
    "gaussian_filter",
    "gaussian_filter1d",
    "gaussian_gradient_magnitude",
    "gaussian_laplace",
    "grey_dilation",
    "grey_erosion",
    "laplace",
    "maximum_filter",
    "maximum_filter1d",
    "median_filter",
    "minimum_filter",
    "minimum_filter1d",
    "percentile_filter",
    "prewitt",
    "rank_filter",
    "sobel",
    "uniform_filter",
    "uniform_filter1d",
]
