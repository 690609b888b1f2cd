"""The microkernel for rows of depthwise outputs of rowwise.c, which explains it."""

cdef extern from "rowwise.h":
    enum:
        ROWWISE_KERNEL
        ROWWISE_STRIDES

    ctypedef struct RowwiseRows:
        void *to
        Py_ssize_t to_stride, channels, first, rows, columns
        const void *image
        Py_ssize_t image_stride, height, width, pitch
        Py_ssize_t stride, top, left
        const void *filters
        const void *bias
        bint clips
        double low, high

    ctypedef void (*Rowwise)(const RowwiseRows *rows) noexcept nogil
