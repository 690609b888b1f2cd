"""The microkernels for small planes of flat.c, which explains them."""

from libc.stdint cimport int32_t

cdef extern from "flat.h":
    enum:
        FLAT_TAPS

    ctypedef struct FlatTap:
        int32_t offset, top, bottom, left, right

    ctypedef struct FlatTaps:
        const FlatTap *taps
        const void *masks
        Py_ssize_t count, pixels
        bint centred

    ctypedef struct FlatPlane:
        void *to
        const void *image
        const void *filter
        const void *start
        const void *residual
        bint clips
        double low, high

    ctypedef struct Flats:
        Py_ssize_t mask_bytes
        void (*fill_masks)(
            void *masks, Py_ssize_t columns, const FlatTaps *taps
        ) noexcept nogil
        void (*correlate)(const FlatTaps *taps, const FlatPlane *plane) noexcept nogil
        void (*correlate_grads)(
            double *to, const FlatTaps *taps, const void *grad, Py_ssize_t grad_stride,
            const void *image, Py_ssize_t image_stride, Py_ssize_t planes,
        ) noexcept nogil
        void (*split)(
            void *even, void *odd, Py_ssize_t pitch, const void *source, Py_ssize_t source_pitch,
            Py_ssize_t rows, Py_ssize_t columns,
        ) noexcept nogil
        void (*merge)(
            void *to, Py_ssize_t pitch, const void *even, const void *odd,
            Py_ssize_t source_pitch, Py_ssize_t rows, Py_ssize_t columns,
        ) noexcept nogil
