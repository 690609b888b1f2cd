"""Winograd's transforms of winograd.h, which explains them."""

cdef extern from "winograd.h":
    enum:
        WINOGRAD_TAPS
        MOST_POSITIONS

    ctypedef void (*Spread)(
        void *to, Py_ssize_t pitch, Py_ssize_t step, const void **rows, Py_ssize_t tiles
    ) noexcept nogil

    ctypedef struct Transforms:
        void (*pixels)(
            void *to, Py_ssize_t step, const void *source, Py_ssize_t pitch, Py_ssize_t tiles
        ) noexcept nogil
        void (*filters)(
            void *to, Py_ssize_t step, const void *source, Py_ssize_t lanes
        ) noexcept nogil
        void (*outputs)(
            void *to, Py_ssize_t pitch, const void *source, Py_ssize_t step, Py_ssize_t vectors,
            const void *start, void *bad,
        ) noexcept nogil
        Spread plane_pixels
        Spread plane_grads
        void (*taps)(
            void *to, const void *source, Py_ssize_t step, Py_ssize_t count, Py_ssize_t vectors,
            void *bad,
        ) noexcept nogil

    const Transforms *transforms_of(Py_ssize_t bytes, Py_ssize_t tile) noexcept nogil
