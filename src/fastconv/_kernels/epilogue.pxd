"""The residuals and activations of epilogue.c, which explains them."""

cdef extern from "epilogue.h":
    enum:
        IDENTITY
        CLIP

    ctypedef struct Activation:
        int kind
        double a, b

    ctypedef void (*Finish)(
        void *to, Py_ssize_t to_stride, const void *sums, Py_ssize_t pitch, const void *residual,
        Py_ssize_t rows, Py_ssize_t count, const Activation *activation,
    ) noexcept nogil

    void prefetch(const char *source, Py_ssize_t bytes) noexcept nogil
