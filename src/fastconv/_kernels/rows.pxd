"""The copies of rows in rows.h, which explains them."""

from fastconv._kernels.number cimport Number
from fastconv._kernels.window cimport Axis

cdef extern from "rows.h":
    ctypedef struct Format:
        Py_ssize_t bytes, scratch_bytes
        Number number
        int conversion, swapped

    int AS_IS
    int FROM_HALF
    int FROM_FLOAT
    int FROM_SIGNED
    int FROM_UNSIGNED

    bint is_plain(Format format, Py_ssize_t stride, const char *data) noexcept nogil
    void load_row(
        void *to, const char *source, Py_ssize_t count, Py_ssize_t stride, Format format
    ) noexcept nogil
    void store_row(char *to, const void *source, Py_ssize_t count, Format format) noexcept nogil
    void store_strided_row(
        char *to, Py_ssize_t stride, const void *source, Py_ssize_t count, Format format
    ) noexcept nogil
    void deinterleave_row(
        void *even, void *odd, const void *source, Py_ssize_t count, Py_ssize_t bytes
    ) noexcept nogil
    void interleave_rows(
        void *to, const void *even, const void *odd, Py_ssize_t count, Py_ssize_t bytes
    ) noexcept nogil
    void fill_row(
        void *to, const void *element, Py_ssize_t count, Py_ssize_t bytes
    ) noexcept nogil
    void load_padded_row(
        void *to, const char *source, Py_ssize_t first, Py_ssize_t spacing, Py_ssize_t count,
        Py_ssize_t stride, const Axis *axis, Format format, const void *outside,
    ) noexcept nogil
    void copy_bytes(char *to, const char *source, Py_ssize_t bytes) noexcept nogil
    void load_plain_rows(
        char *to, Py_ssize_t pitch, const char *source, Py_ssize_t stride, Py_ssize_t above,
        Py_ssize_t rows, Py_ssize_t below, Py_ssize_t before, Py_ssize_t inner, Py_ssize_t behind,
    ) noexcept nogil
    void load_padded_phases(
        char *to, Py_ssize_t phase_stride, Py_ssize_t phases, const char *source,
        Py_ssize_t first, Py_ssize_t count, Py_ssize_t stride, const Axis *axis, Format format,
        const void *outside,
    ) noexcept nogil
