"""The planes of arrays of any layout, and the formats of their elements."""

cimport numpy as cnp

from fastconv._kernels.number cimport (
    FLOAT16, FLOAT32, FLOAT64, OPAQUE, Number, bytes_of, number_of_kind,
)
from fastconv._kernels.rows cimport AS_IS, FROM_FLOAT, FROM_HALF, FROM_SIGNED, FROM_UNSIGNED, Format
from fastconv._kernels.window cimport Axis, source_index

cdef extern from *:
    """
    static inline char array_kind(PyArrayObject *array) { return PyArray_DESCR(array)->kind; }
    """
    char array_kind(cnp.ndarray array) noexcept  # This is `numpy.dtype.kind`.


cdef inline Number number_of(cnp.ndarray array) noexcept:
    """The type of an array's elements."""
    return number_of_kind(array_kind(array), cnp.PyArray_ITEMSIZE(array))


cdef struct Planes:
    # The planes (h, w) of an array (n, c, h, w) of any layout. Strides are in bytes.
    char *data
    Py_ssize_t channels, stride_n, stride_c, stride_h, stride_w
    Format format


cdef inline Format moved_format(cnp.ndarray array) noexcept:
    """The format of elements that are moved and not looked at."""
    cdef Format format
    format.bytes = format.scratch_bytes = cnp.PyArray_ITEMSIZE(array)
    format.number = OPAQUE
    format.swapped = False
    format.conversion = AS_IS
    return format


cdef inline Format computed_format(cnp.ndarray array) noexcept:
    """The format of numbers that are computed with."""
    cdef Format format = moved_format(array)
    format.number = number_of(array)
    format.swapped = not cnp.PyArray_ISNOTSWAPPED(array)
    if format.number == FLOAT16:
        format.conversion, format.number = FROM_HALF, FLOAT32
        format.scratch_bytes = bytes_of(FLOAT32)
    return format


cdef inline Format converted_format(cnp.ndarray array, Number number) noexcept:
    """The format of numbers that become FLOAT32 or FLOAT64."""
    cdef Format format = computed_format(array)
    cdef char kind = array_kind(array)
    if kind != b"f":
        format.conversion = FROM_SIGNED if kind == b"i" else FROM_UNSIGNED
    elif format.number != number and format.conversion == AS_IS:
        format.conversion = FROM_FLOAT
    format.number, format.scratch_bytes = number, bytes_of(number)
    return format


cdef inline Format averaged_format(cnp.ndarray array) noexcept:
    """The format of numbers whose means are taken: those of integers and bool are float64."""
    if array_kind(array) == b"f":
        return computed_format(array)
    return converted_format(array, FLOAT64)


cdef inline Planes planes_of(cnp.ndarray array, Format format) noexcept:
    cdef Planes planes
    cdef cnp.npy_intp *strides = cnp.PyArray_STRIDES(array)
    planes.data = <char *>cnp.PyArray_DATA(array)
    planes.channels = cnp.PyArray_DIM(array, 1)
    planes.stride_n, planes.stride_c = strides[0], strides[1]
    planes.stride_h, planes.stride_w = strides[2], strides[3]
    planes.format = format
    return planes


cdef inline const char *readable_end(cnp.ndarray array) noexcept:
    """Return the end of what may be read from the first element on, or that element if unknown."""
    cdef const char *data = <const char *>cnp.PyArray_DATA(array)
    return data + cnp.PyArray_NBYTES(array) if cnp.PyArray_IS_C_CONTIGUOUS(array) else data


cdef inline Py_ssize_t plane_count(cnp.ndarray array) noexcept:
    return cnp.PyArray_DIM(array, 0) * cnp.PyArray_DIM(array, 1)


cdef inline char *plane_at(const Planes *planes, Py_ssize_t plane) noexcept nogil:
    """Return the first pixel of a plane, which counts through all images."""
    return (
        planes.data
        + plane // planes.channels * planes.stride_n
        + plane % planes.channels * planes.stride_c
    )


cdef inline const char *padded_row(
    const Planes *image, const char *plane, const Axis *axis, Py_ssize_t y
) noexcept nogil:
    """Return pixel 0 of the row that a padded position shows, or NULL for constant padding."""
    cdef Py_ssize_t h = source_index(axis, y)
    if h < 0:
        return NULL
    return plane + h * image.stride_h
