"""SciPy's filters of n-dimensional arrays, on compiled kernels and all threads.

The functions have the names, signatures and results of `scipy.ndimage`, so that one changed import
makes code faster::

    from fastconv import ndimage
"""

from __future__ import annotations

from fastconv.ndimage._dense import convolve, correlate

__all__ = ["convolve", "correlate"]
