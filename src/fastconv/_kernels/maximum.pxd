"""The maxima of windows in maximum.h, which explains them."""

cdef extern from "maximum.h":
    ctypedef void (*MaxTaps)(
        void *best, void *index, const char **taps, const Py_ssize_t *offsets, Py_ssize_t n_taps,
        Py_ssize_t count,
    ) noexcept nogil

    ctypedef struct Maximum:
        MaxTaps values, indexed, indexed_wide
        const void *lowest

    const Maximum *maximum_of(char kind, Py_ssize_t bytes) noexcept nogil
