"""The microkernel for rows of depthwise outputs of rowwise.c, which explains it."""

cdef extern from "rowwise.h":
    enum:
        ROWWISE_KERNEL
        ROWWISE_STRIDES

    ctypedef struct RowwiseRows:
        void *to
        Py_ssize_t first, rows, columns
        const void *image
        Py_ssize_t height, width, pitch, ahead
        Py_ssize_t stride, top, left
        const void *filter
        const void *start
        bint clips
        double low, high

    ctypedef void (*Rowwise)(const RowwiseRows *rows) noexcept nogil
