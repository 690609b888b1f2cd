"""Rows of an array with what lies beyond its borders, in the type that a filter computes with.

An array has the dimensions (planes, h, w). Tables say which row and which column each position of
the extended axes shows; -1 stands for a constant.
"""

from libc.string cimport memcpy

cimport numpy as cnp

from fastconv._kernels.number cimport Number
from fastconv._kernels.planes cimport number_of
from fastconv._kernels.rows cimport fill_row
from fastconv._kernels.window cimport larger, smaller

cdef extern from "conversions.h":
    ctypedef enum Arithmetic:
        IN_FLOAT
        IN_DOUBLE
        IN_ORDER
        IN_INTEGER

    ctypedef void (*Conversion)(void *to, const void *source, Py_ssize_t count) noexcept nogil

    Py_ssize_t bytes_in(Arithmetic arithmetic) noexcept nogil
    Conversion loader_of(Arithmetic arithmetic, Number number) noexcept nogil
    Conversion storer_of(Arithmetic arithmetic, Number number, int wraps) noexcept nogil


cdef struct Extended:
    const char *data
    const char *end
    Number number
    Py_ssize_t number_bytes, h, w
    const Py_ssize_t *rows
    const Py_ssize_t *columns
    Py_ssize_t before  # The position in `columns` of column 0; all others follow.
    const char *constant  # One number of the type that is computed with.
    Py_ssize_t bytes  # Bytes of such a number.
    Conversion load


cdef inline Extended extended(
    cnp.ndarray array, cnp.ndarray rows, cnp.ndarray columns, Py_ssize_t before,
    cnp.ndarray constant, Arithmetic arithmetic,
) noexcept:
    cdef Extended view
    view.data = <const char *>cnp.PyArray_DATA(array)
    view.end = view.data + cnp.PyArray_NBYTES(array)
    view.number, view.number_bytes = number_of(array), cnp.PyArray_ITEMSIZE(array)
    view.h, view.w = cnp.PyArray_DIM(array, 1), cnp.PyArray_DIM(array, 2)
    view.rows = <const Py_ssize_t *>cnp.PyArray_DATA(rows)
    view.columns = <const Py_ssize_t *>cnp.PyArray_DATA(columns)
    view.before = before
    view.constant = <const char *>cnp.PyArray_DATA(constant)
    view.bytes = bytes_in(arithmetic)
    view.load = loader_of(arithmetic, view.number)
    return view


cdef inline const char *extended_row(
    const Extended *view, Py_ssize_t plane, Py_ssize_t y
) noexcept nogil:
    """Return column 0 of the row at a position of a plane, or NULL for one of constants."""
    if plane < 0 or view.rows[y] < 0:
        return NULL
    return view.data + (plane * view.h + view.rows[y]) * view.w * view.number_bytes


cdef inline void load_extended(
    const Extended *view, char *to, const char *row, Py_ssize_t x, Py_ssize_t count
) noexcept nogil:
    """Copy and convert a part of a row of `extended_row`, from position x on."""
    cdef Py_ssize_t bytes = view.bytes, column, p = 0
    cdef Py_ssize_t first = smaller(larger(view.before - x, 0), count)
    cdef Py_ssize_t last = larger(smaller(view.before + view.w - x, count), first)
    if row == NULL:
        fill_row(to, view.constant, count, bytes)
        return
    view.load(to + first * bytes, row + (x + first - view.before) * view.number_bytes, last - first)
    while p < count:
        if p == first:
            p = last
            if last == count:
                break
        column = view.columns[x + p]
        if column >= 0:
            view.load(to + p * bytes, row + column * view.number_bytes, 1)
        else:
            memcpy(to + p * bytes, view.constant, bytes)
        p += 1
