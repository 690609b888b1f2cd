"""The types of numbers in number.h, by which kernels choose their functions."""

cdef extern from "number.h":
    ctypedef enum Number:
        OPAQUE
        FLOAT16
        FLOAT32
        FLOAT64
        INT8
        INT16
        INT32
        INT64
        UINT8
        UINT16
        UINT32
        UINT64

    Py_ssize_t bytes_of(Number number) noexcept nogil
    Number number_of_kind(char kind, Py_ssize_t bytes) noexcept nogil
