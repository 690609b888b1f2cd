"""The register tiles of strip.c, which explains them."""

from libc.stdint cimport int32_t

cdef extern from "strip.h":
    ctypedef struct Strip:
        void *to
        const void *residual
        Py_ssize_t pitch, filters, pixels
        const void *start
        const void *packed
        const void *source
        const int32_t *offsets
        Py_ssize_t steps, lanes
        bint clips
        double low, high
        bint past_caches

    ctypedef void (*MultiplyStrip)(const Strip *strip) noexcept nogil
