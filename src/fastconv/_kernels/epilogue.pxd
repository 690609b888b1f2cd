"""What is done to results on their way out, by epilogue.c."""

cdef extern from "epilogue.h":
    ctypedef struct Activation:
        int kind
        double a, b

    ctypedef void (*Finish)(
        void *to, const void *sums, const void *residual, Py_ssize_t count,
        const Activation *activation,
    ) noexcept nogil
