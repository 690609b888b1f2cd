"""Scratch memory, which is laid out once, so that every part begins at a cache line.

A plan takes the parts of a layout one after the other and keeps their offsets; a task adds an
offset to the address of its scratch. So the size of a part is written in one place, and a task
cannot use more than what was allocated.
"""

from libc.math cimport ceil
from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc

from fastconv._kernels.stream cimport LINE_BYTES

cdef extern from *:
    """
    #include <stdint.h>
    /* No memory is as large as this, and no sum of a few such sizes overflows. */
    #define TOO_LARGE ((double)(PTRDIFF_MAX / 16))
    """
    const double TOO_LARGE


cdef struct Layout:
    # The number of bytes of all parts. It is a float64, which also holds sizes beyond the address
    # space, so that they become a MemoryError and do not wrap around.
    double bytes


cdef inline size_t take(Layout *layout, double bytes) noexcept nogil:
    """Add a part, and return its offset."""
    cdef double offset = layout.bytes
    layout.bytes = offset + ceil(bytes / LINE_BYTES) * LINE_BYTES
    return <size_t>min(offset, TOO_LARGE)


cdef inline char *try_allocate(double bytes) noexcept nogil:
    """Allocate memory that begins at a line, for `release`; return NULL if there is too little."""
    cdef char *block = NULL
    cdef char *memory
    if bytes < TOO_LARGE:
        block = <char *>malloc(<size_t>bytes + 2 * LINE_BYTES)
    if block == NULL:
        return NULL
    memory = block + 2 * LINE_BYTES - <uintptr_t>block % LINE_BYTES
    (<char **>memory - 1)[0] = block
    return memory


cdef inline char *allocate(double bytes, str purpose) except NULL:
    """Allocate memory that begins at a line, for `release`."""
    cdef char *memory = try_allocate(bytes)
    if memory == NULL:
        raise MemoryError(f"no memory for {bytes:.0f} bytes of {purpose}")
    return memory


cdef inline void release(char *memory) noexcept nogil:
    """Free what `allocate` has returned; NULL is allowed."""
    if memory != NULL:
        free((<char **>memory - 1)[0])
