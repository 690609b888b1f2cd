"""The inner loops of average pooling in average.h, which explains them."""

from fastconv._kernels.number cimport Number

cdef extern from "average.h":
    ctypedef struct Averages:
        void (*add_taps)(
            void *to, const char **taps, Py_ssize_t n_taps, Py_ssize_t row_taps, Py_ssize_t count,
            bint begun,
        ) noexcept nogil
        void (*divide)(
            void *to, Py_ssize_t rows, const Py_ssize_t *columns, Py_ssize_t count
        ) noexcept nogil
        void (*divide_all)(void *to, Py_ssize_t positions, Py_ssize_t count) noexcept nogil
        void (*merge)(
            void *to, const void *first, const void *others, Py_ssize_t count, Py_ssize_t position,
            Py_ssize_t stride, Py_ssize_t n_first,
        ) noexcept nogil

    const Averages *averages_of(Number number) noexcept nogil
