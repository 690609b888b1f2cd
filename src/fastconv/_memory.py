"""Memory of results: recycled when large, as `fastconv._kernels.memory` explains."""

from __future__ import annotations

import gc
import os
import sys
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from fastconv import _limits
from fastconv._errors import argument_error
from fastconv._kernels import memory

RECYCLED_BYTES = 1 << 20
"""Results of this size and more are recycled. Page faults hardly slow smaller ones down."""


def new_array(shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return an uninitialised array for a result."""
    array: npt.NDArray[Any] | None = memory.small(shape, dtype, RECYCLED_BYTES)
    return _large_array(shape, dtype) if array is None else array


def _large_array(shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return an array in recycled memory, or an empty one."""
    if dtype.itemsize * prod(n or 1 for n in shape) > sys.maxsize:  # NumPy's limit
        raise argument_error(ValueError, f"the result is too large: shape {shape} of {dtype}")
    if 0 in shape or prod(shape) * dtype.itemsize < RECYCLED_BYTES:
        return np.empty(shape, dtype)
    try:
        array: npt.NDArray[Any] = memory.empty(shape, dtype)
    except MemoryError as error:
        raise argument_error(MemoryError, str(error) or f"no memory for {shape}") from None
    return array


def empty_cache() -> None:
    """Give memory that is kept for further large results back to the operating system.

    The memory of results of 1 MiB and more is kept for some seconds when they are deleted, for the
    next result of about the same size. The limit is 1 GiB, or a sixteenth of what this process may
    use (the machine's memory, the container's, ``RLIMIT_AS``) if that is less; the environment
    variable ``FASTCONV_CACHE_MIB`` sets another (0: nothing is kept).

    Examples
    --------
    >>> import fastconv
    >>> fastconv.empty_cache()
    """
    memory.release()


def _idle_limit() -> int:
    """Return how many bytes may be idle: FASTCONV_CACHE_MIB, if it is set and not empty."""
    setting = os.environ.get("FASTCONV_CACHE_MIB")
    if not setting:
        return min(1 << 30, _limits.memory() // 16)
    if not setting.isdecimal():
        raise ValueError(f"FASTCONV_CACHE_MIB must be a non-negative integer, got {setting!r}")
    return min(int(setting), 1 << 30) << 20


memory.set_limit(_idle_limit())
gc.callbacks.append(memory.expire)
# A forked child would copy idle memory page by page, which costs more than fresh memory.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=memory.release)
