"""The maxima of windows in maximum.h, which explains them."""

from fastconv._kernels.number cimport Number

cdef extern from "maximum.h":
    ctypedef enum MaxStart:
        FROM_FIRST_TAP
        FROM_LOWEST
        FROM_BEST

    ctypedef void (*MaxTaps)(
        void *best, void *index, const char **taps, const Py_ssize_t *offsets, Py_ssize_t n_taps,
        Py_ssize_t count, MaxStart start,
    ) noexcept nogil

    ctypedef struct Maximum:
        MaxTaps values, indexed, indexed_wide
        const void *lowest

    const Maximum *maximum_of(Number number) noexcept nogil
