"""The sums of rows and taps of sums.c, which explains them."""

from libc.stdint cimport int64_t

cdef extern from "sums.h":
    ctypedef struct Sums:
        void (*add_row)(void *to, const void *source, Py_ssize_t count) noexcept nogil
        void (*add_element)(
            void *to, Py_ssize_t at, const void *source, Py_ssize_t index
        ) noexcept nogil
        void (*add_at)(
            void *to, const int64_t *at, Py_ssize_t first, Py_ssize_t last, const void *source,
            Py_ssize_t count,
        ) noexcept nogil
        void (*add_taps)(
            void *to, const void *source, Py_ssize_t channels, Py_ssize_t to_channel,
            Py_ssize_t from_channel, Py_ssize_t rows, Py_ssize_t to_row, Py_ssize_t kernel_w,
        ) noexcept nogil
        void (*interleave_phases)(
            void *to, const void *source, Py_ssize_t count, Py_ssize_t first, Py_ssize_t phases,
            Py_ssize_t phase_length,
        ) noexcept nogil


cdef inline void add_slices(
    const Sums *add, char *sums, Py_ssize_t slices, Py_ssize_t slice_bytes, Py_ssize_t count
) noexcept nogil:
    """Add `count` sums of all slices to the first slice, pairwise, which loses fewer digits."""
    cdef Py_ssize_t distance = 1, slice
    while distance < slices:
        slice = 0
        while slice < slices - distance:
            add.add_row(
                sums + slice * slice_bytes, sums + (slice + distance) * slice_bytes, count
            )
            slice += 2 * distance
        distance *= 2
