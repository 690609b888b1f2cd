"""What a convolution is, whatever the algorithm: its arrays and their sizes."""

from libc.string cimport memset

cimport numpy as cnp

from fastconv._kernels.flat cimport Flats
from fastconv._kernels.microkernels cimport flats_of, multiply_strip_of, sums_of, tiles_of
from fastconv._kernels.number cimport Number
from fastconv._kernels.planes cimport Planes, converted_format, planes_of
from fastconv._kernels.rows cimport Format, load_row
from fastconv._kernels.strip cimport MultiplyStrip
from fastconv._kernels.sums cimport Sums
from fastconv._kernels.target cimport Target, finish_with, target_of
from fastconv._kernels.tile cimport Tiles
from fastconv._kernels.weights cimport Weights, weights_of


cdef enum:
    # Which way a forward convolution may take. There are two that compute small planes whole, and
    # which one, or neither, decides about the order of sums. A part of a plane takes the way of the
    # whole, so that its numbers are those of the whole.
    ANY_WAY, IN_BANDS, IN_PLANE_TILES


cdef struct Problem:
    # `target` is the convolution of `source` with `weights`. If `adjoint` is set, it is the
    # adjoint: it has the shape of an array whose convolution has the shape of `source`.
    Planes source
    Weights weights
    Target target
    bint adjoint
    Py_ssize_t batch, groups
    Py_ssize_t channels, filters  # The channels of a group that are summed over, or computed.
    const char *bias  # The bias of all filters; NULL means zeros.
    Py_ssize_t bias_stride
    Format bias_format
    const char *marks  # A byte per image, 0 if it is not to be computed; NULL means all images.
    int way  # One of the ways above.
    bint keeps_packed  # The weights are packed once, for this call and for others.
    Number number  # The type that is computed with.
    Py_ssize_t bytes  # Bytes of a number of this type.
    const Tiles *tiles
    const Sums *sums
    MultiplyStrip multiply_strip
    const Flats *flats  # NULL if the CPU level has none.


cdef inline int describe(
    Problem *problem, cnp.ndarray source, cnp.ndarray weight, cnp.ndarray out, Py_ssize_t groups,
    bint adjoint, epilogue,
) except -1:
    """Read arrays (n, c, h, w), weights (f, c/groups, kh, kw) and an epilogue or None."""
    cdef cnp.ndarray bias
    cdef Number number
    memset(problem, 0, sizeof(problem[0]))
    problem.target = target_of(out)
    number = problem.target.format.number
    problem.number, problem.bytes = number, problem.target.format.scratch_bytes
    problem.tiles, problem.sums = tiles_of(number), sums_of(number)
    problem.flats, problem.multiply_strip = flats_of(number), multiply_strip_of(number)
    problem.source = planes_of(source, converted_format(source, number))
    problem.weights = weights_of(weight, groups, adjoint, number, problem.tiles)
    problem.batch, problem.groups = cnp.PyArray_DIM(source, 0), groups
    problem.channels = cnp.PyArray_DIM(source, 1) // groups
    problem.filters, problem.adjoint = problem.weights.filters, adjoint
    if epilogue is None:
        return 0
    offsets, residual, activation = epilogue
    if offsets is not None:
        bias = offsets
        problem.bias = <const char *>cnp.PyArray_DATA(bias)
        problem.bias_stride = cnp.PyArray_STRIDE(bias, 0)
        problem.bias_format = converted_format(bias, number)
    return finish_with(&problem.target, residual, activation)


cdef inline void load_bias(
    const Problem *problem, Py_ssize_t first, Py_ssize_t count, char *to
) noexcept nogil:
    """Copy the bias of some filters to scratch."""
    if problem.bias == NULL:
        memset(to, 0, count * problem.bytes)
        return
    load_row(
        to, problem.bias + first * problem.bias_stride, count, problem.bias_stride,
        problem.bias_format,
    )


cdef inline bint is_wanted(const Problem *problem, Py_ssize_t n) noexcept nogil:
    """Return whether an image is to be computed."""
    return problem.marks == NULL or problem.marks[n] != 0
