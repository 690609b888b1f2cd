"""Packed weights that are kept from one call to the next.

`fastconv.PackedWeight` holds them: blocks of bytes by key. The weights of such an object never
change, and a key contains all else that decides what a block contains and how large it is. So a
plan can only find a block that it would have filled with the same bytes.
"""

from libc.stdint cimport uintptr_t

cimport numpy as cnp

from fastconv._kernels.problem cimport Problem
from fastconv._kernels.stream cimport LINE_BYTES
from fastconv._kernels.weights cimport Weights


cdef inline tuple weights_key(const Problem *problem, double bytes):
    """Return what a block of this size contains besides the order of what is packed: which number
    of the weights belongs to which tap, channel and filter, and the type that it becomes."""
    cdef const Weights *weights = &problem.weights
    return (
        bytes, problem.groups, problem.channels, weights.filters, weights.kernel_h,
        weights.kernel_w, weights.group_stride, weights.planes.stride_n, weights.planes.stride_c,
        weights.planes.stride_h, weights.planes.stride_w, <int>problem.number,
        weights.planes.format.bytes, <int>weights.planes.format.conversion,
        <bint>weights.planes.format.swapped,
    )


cdef inline cnp.ndarray new_block(packs, double bytes):
    """Return memory for packed weights, from whose first line on there is room for `bytes`."""
    return packs.new_block(int(bytes) + LINE_BYTES)


cdef inline char *first_line(cnp.ndarray block) noexcept:
    """Return where the packed weights of a block begin."""
    cdef char *data = <char *>cnp.PyArray_DATA(block)
    return data + (LINE_BYTES - <uintptr_t>data % LINE_BYTES) % LINE_BYTES
