"""Correlation along one axis, or along two at once, in SciPy's arithmetic.

    vertical:    out[p, y, x, s] = sum over t of weights[t] * input[p, y + t - before, x, s]
    horizontal:  out[p, y, x, s] = sum over t of weights[t] * input[p, y, x + t - before, s]

SciPy computes each pass in float64 and converts its results to the output's type. This is done
here, too, unless results are known to be the same: integers with integer weights are computed
modulo 2 ** 16 or 2 ** 32. float32 that becomes float32 may be computed in float32. The driver is in
separable.pxd, and the inner loops are in correlation.h.
"""

cimport numpy as cnp

from fastconv._kernels.level cimport LEVEL
from fastconv._kernels.number cimport FLOAT64, Number, bytes_of
from fastconv._kernels.planes cimport number_of
from fastconv._kernels.separable cimport (
    FilterLine, FilterRows, Load, Pass, Separable, filter_lines_first, filter_planes, passes_fit,
)

cnp.import_array()

level = LEVEL.decode()

cdef extern from "correlation.h":
    enum:
        ROWS_TOGETHER

    ctypedef enum Symmetry:
        ANTISYMMETRIC
        GENERAL
        SYMMETRIC

    ctypedef struct Taps:
        Py_ssize_t size, step
        Symmetry symmetry
        const void *weights
        Load store
        Py_ssize_t store_bytes

    ctypedef struct Lanes:
        Py_ssize_t bytes
        FilterRows rows
        FilterLine line
        Load *load
        Load *store

    const Lanes *lanes_of(Number number) noexcept nogil

cdef enum:
    # The rows of a chunk whose input is converted: each is converted for several chunks.
    CONVERTED_ROWS = 32
    # The results of a callback before they are converted.
    STAGE_BYTES = 64 << 10


cdef void describe(
    Pass *along, Taps *taps, tuple given, Number read, Number written, const Lanes *lanes,
    const char *constant, Py_ssize_t step,
) except *:
    """Describe a pass, given as (weights, symmetry, sources, before)."""
    cdef cnp.ndarray weights = given[0]
    cdef cnp.ndarray sources = given[2]
    taps.size, taps.step, taps.symmetry = cnp.PyArray_DIM(weights, 0), step, <Symmetry><int>given[1]
    taps.weights, taps.store = cnp.PyArray_DATA(weights), lanes.store[<int>written]
    taps.store_bytes = bytes_of(written)
    along.size, along.before, along.filter = taps.size, given[3], taps
    along.sources = <const Py_ssize_t *>cnp.PyArray_DATA(sources)
    along.load, along.bytes, along.loaded_bytes = lanes.load[<int>read], bytes_of(read), lanes.bytes
    along.constant = constant


def correlate(
    cnp.ndarray input, cnp.ndarray output, vertical, horizontal, bint lines_first,
    cnp.ndarray cval, int threads,
):
    """Correlate an array of shape (planes, height, width, step) along its height, width or both.

    Both arrays are contiguous, aligned and native, and share no memory.

    Parameters
    ----------
    vertical, horizontal : tuple or None
        A pass: the weights; 1 for a symmetric filter, -1 for an antisymmetric one and 0 for any
        other; the table of `source_indices`; and the number of positions in front of the first
        element. A vertical pass needs as many elements in a row as a vector has.
    lines_first : bool
        The horizontal one of two passes is the first.
    cval : ndarray
        What is beyond the borders in mode "constant", of the dtype that is computed with: float64,
        float32 (then all arrays must be float32), uint16 (then they must be integers of up to 16
        bits) or uint32 (then the output must be integers of 32 bits, and the input of up to 32).
        The weights have this dtype, too.
    """
    cdef Separable job
    cdef Taps down, along
    cdef const Lanes *lanes = lanes_of(number_of(cval))
    cdef const char *constant = <const char *>cnp.PyArray_DATA(cval)
    cdef Number read = number_of(input), written = number_of(output)
    job.input, job.output = <char *>cnp.PyArray_DATA(input), <char *>cnp.PyArray_DATA(output)
    job.planes, job.height = cnp.PyArray_DIM(input, 0), cnp.PyArray_DIM(input, 1)
    job.width, job.step = cnp.PyArray_DIM(input, 2), cnp.PyArray_DIM(input, 3)
    job.output_bytes = bytes_of(written)
    job.rows, job.line = NULL, NULL
    job.rows_together, job.columns_together, job.stage_bytes = ROWS_TOGETHER, 0, STAGE_BYTES
    if vertical is not None:
        describe(
            &job.vertical, &down, vertical, written if lines_first else read, written, lanes,
            constant, 1,
        )
        job.rows = lanes.rows
        if job.vertical.load != NULL or lines_first:
            job.rows_together = CONVERTED_ROWS
        while lines_first and job.rows_together > ROWS_TOGETHER and not passes_fit(
            job.width * job.step, bytes_of(FLOAT64), job.rows_together + down.size - 1
        ):
            job.rows_together //= 2
    if horizontal is not None:
        describe(
            &job.horizontal, &along, horizontal,
            read if vertical is None or lines_first else written, written, lanes, constant,
            job.step,
        )
        job.line = lanes.line
    if lines_first:
        filter_lines_first(&job, threads)
    else:
        filter_planes(&job, threads)


def fits(Py_ssize_t columns, Py_ssize_t taps, Py_ssize_t bytes, bint lines_first):
    """Tell whether both passes can run at once on rows of so many elements.

    Parameters
    ----------
    columns : int
        The number of elements of a row.
    taps : int
        The number of taps of the second pass.
    bytes : int
        The size of an element of the output.
    lines_first : bool
        The horizontal one is the first.
    """
    if lines_first:
        return passes_fit(columns, bytes_of(FLOAT64), ROWS_TOGETHER + taps - 1)
    return passes_fit(columns, bytes, CONVERTED_ROWS)
