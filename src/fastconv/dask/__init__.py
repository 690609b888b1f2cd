"""Convolution, pooling, filters and networks on Dask arrays: lazy, chunk by chunk.

Each function is that of `fastconv` or `fastconv.ndimage` of the same name, on `dask.array.Array`.
A chunk of the result is computed from exactly those pixels that it depends on, and the numbers are
those of the call in memory, bit for bit, whatever the chunks, the scheduler and the workers.

Needs Dask: ``pip install "fastconv[dask]"``.
"""

from __future__ import annotations

try:
    import dask.array  # noqa: F401
except ImportError:
    raise ImportError('fastconv.dask needs Dask: pip install "fastconv[dask]"') from None

from fastconv.dask._filters import (
    convolve,
    convolve1d,
    correlate,
    correlate1d,
    gaussian_filter,
    gaussian_filter1d,
    gaussian_gradient_magnitude,
    gaussian_laplace,
    grey_dilation,
    grey_erosion,
    laplace,
    maximum_filter,
    maximum_filter1d,
    median_filter,
    minimum_filter,
    minimum_filter1d,
    percentile_filter,
    prewitt,
    rank_filter,
    sobel,
    uniform_filter,
    uniform_filter1d,
)
from fastconv.dask._fit import fit
from fastconv.dask._windows import (
    avg_pool1d,
    avg_pool2d,
    conv1d,
    conv2d,
    max_pool1d,
    max_pool2d,
    predict,
)

__all__ = [
    "avg_pool1d",
    "avg_pool2d",
    "conv1d",
    "conv2d",
    "convolve",
    "convolve1d",
    "correlate",
    "correlate1d",
    "fit",
    "gaussian_filter",
    "gaussian_filter1d",
    "gaussian_gradient_magnitude",
    "gaussian_laplace",
    "grey_dilation",
    "grey_erosion",
    "laplace",
    "max_pool1d",
    "max_pool2d",
    "maximum_filter",
    "maximum_filter1d",
    "median_filter",
    "minimum_filter",
    "minimum_filter1d",
    "percentile_filter",
    "predict",
    "prewitt",
    "rank_filter",
    "sobel",
    "uniform_filter",
    "uniform_filter1d",
]
