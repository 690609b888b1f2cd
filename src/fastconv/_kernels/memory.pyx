"""Memory for large results, recycled.

The first touch of fresh memory costs more than most kernels' own work on it. The operating system
clears every page, at 8 GB/s in 4 KiB pages and 18 GB/s in huge pages. Memory that was touched
before is written at 33 GB/s by plain stores, and at 90 GB/s by streamed ones (4 cores of a Xeon of
2023). Code that calls in a loop asks for the same sizes again and again. So the memory of a large
result stays in a bounded list when its array dies, and the next result of about that size takes it
from there.

NumPy's own allocator hook (NEP 49) does it: a result is an ordinary array that owns its data.
Handing idle memory back with MADV_FREE until it is needed was tried. It costs as much as it saves:
3 ms beside the 5 ms of writing 462 MiB. Instead, memory that has been idle for some seconds is
freed when other memory is taken or given, and whenever Python collects garbage. Blocks whose ends
were small pages, to waste nothing, were tried too: columns of 1 to 5 MiB that are kept took 1.6 to
2.8 times as long, as the operating system takes 0.4 us for such a page.
"""

import numpy as np

from cpython.ref cimport Py_INCREF

cimport numpy as cnp

cnp.import_array()

cdef extern from "numpy/arrayobject.h":
    object PyArray_Empty(int ndim, cnp.npy_intp *sizes, cnp.dtype dtype, int fortran)

cdef extern from "memory.h":
    object new_handler_capsule()
    unsigned long long machine_memory()
    void shrink_idle(size_t limit)
    void expire_idle()
    size_t idle_bytes "idle.bytes"
    size_t idle_limit
    long long idle_patience

cdef enum:
    FEW_DIMENSIONS = 8

PATIENCE = 10
"""Seconds after which idle memory is freed. To touch 1 GiB of fresh memory takes 0.1 s."""

cdef object np_empty = np.empty
cdef object recycling = new_handler_capsule()


def empty(shape, dtype):
    """Return what `numpy.empty` does, in recycled memory."""
    previous = cnp.PyDataMem_SetHandler(recycling)
    try:
        return np_empty(shape, dtype)
    finally:
        cnp.PyDataMem_SetHandler(previous)


def small(tuple shape, cnp.dtype dtype, double limit):
    """Return an uninitialised array that has a few bytes, or None if it would have none or more."""
    cdef cnp.npy_intp sizes[FEW_DIMENSIONS]
    cdef int ndim = <int>len(shape), i
    cdef double n_bytes = cnp.PyDataType_ELSIZE(dtype)
    if ndim > FEW_DIMENSIONS:
        return None
    try:
        for i in range(ndim):
            sizes[i] = shape[i]
            n_bytes *= sizes[i]
    except OverflowError:
        return None
    if n_bytes <= 0 or n_bytes >= limit:
        return None
    Py_INCREF(dtype)  # The array takes a reference over.
    return PyArray_Empty(ndim, sizes, dtype, False)


def release():
    """Free all idle memory."""
    shrink_idle(0)


def expire(phase=None, info=None):
    """Free memory that has been idle for some seconds; a callback of `gc.callbacks`."""
    expire_idle()


def held():
    """Return the number of idle bytes."""
    return idle_bytes


def limit():
    """Return the number of bytes that may be idle."""
    return idle_limit


def set_limit(size_t limit):
    """Set the number of bytes that may be idle, and free what exceeds it."""
    global idle_limit
    idle_limit = limit
    shrink_idle(limit)


def machine():
    """Return the bytes of the machine's memory, or 0 if the system does not tell."""
    return machine_memory()


def set_patience(long long seconds):
    """Set the number of seconds after which idle memory is freed."""
    global idle_patience
    idle_patience = seconds


set_patience(PATIENCE)
