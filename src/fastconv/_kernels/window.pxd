"""The geometry of windows in window.h."""

cimport numpy as cnp

cdef extern from "window.h":
    ctypedef struct Axis:
        Py_ssize_t size, out, kernel, stride, dilation, before, after, pad_mode

    ctypedef struct Window:
        Axis h, w

    int PAD_CONSTANT
    Py_ssize_t source_index(const Axis *axis, Py_ssize_t padded) noexcept nogil
    Py_ssize_t padded_size(const Axis *axis) noexcept nogil
    Py_ssize_t window_span(const Axis *axis) noexcept nogil
    Py_ssize_t reach(const Axis *axis, Py_ssize_t outputs) noexcept nogil
    Py_ssize_t ceil_div(Py_ssize_t a, Py_ssize_t b) noexcept nogil
    Py_ssize_t smaller(Py_ssize_t a, Py_ssize_t b) noexcept nogil
    Py_ssize_t larger(Py_ssize_t a, Py_ssize_t b) noexcept nogil


cdef inline const Window *window_of(cnp.ndarray packed) noexcept:
    return <const Window *>cnp.PyArray_DATA(packed)
