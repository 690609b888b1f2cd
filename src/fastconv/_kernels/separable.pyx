"""Correlation along one axis, or along two at once, in SciPy's arithmetic.

    vertical:    out[p, y, x, s] = sum over t of weights[t] * input[p, y + t - before, x, s]
    horizontal:  out[p, y, x, s] = sum over t of weights[t] * input[p, y, x + t - before, s]

Each pass computes in float64 and converts its results to the output's type, as SciPy does. Between
two passes they have that type, too. float32 that becomes float32 may also be computed in float32.
The driver is in separable.pxd, and the inner loops are in correlation.h.
"""

cimport numpy as cnp

from fastconv._kernels.level cimport LEVEL
from fastconv._kernels.number cimport FLOAT32, FLOAT64, Number, bytes_of
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

    Load load_of(Number number) noexcept nogil
    Load store_of(Number number) noexcept nogil
    FilterRows correlate_rows_float, correlate_rows_double
    FilterLine correlate_line_float, correlate_line_double

cdef enum:
    # The rows of a chunk whose input is converted: each is converted for several chunks.
    CONVERTED_ROWS = 32
    # The results of a callback before they are converted.
    STAGE_BYTES = 64 << 10


cdef struct Constants:
    float of_float
    double of_double


cdef void describe(
    Pass *along, Taps *taps, tuple given, Number read, Number written, bint in_float32,
    Constants *constants, Py_ssize_t step,
) except *:
    """Describe a pass, given as (weights, symmetry, sources, before, constant)."""
    cdef cnp.ndarray weights = given[0]
    cdef cnp.ndarray sources = given[2]
    taps.size, taps.step, taps.symmetry = cnp.PyArray_DIM(weights, 0), step, <Symmetry><int>given[1]
    taps.weights = cnp.PyArray_DATA(weights)
    taps.store = NULL if in_float32 else store_of(written)
    taps.store_bytes = bytes_of(written)
    along.size, along.before, along.filter = taps.size, given[3], taps
    along.sources = <const Py_ssize_t *>cnp.PyArray_DATA(sources)
    along.load = NULL if in_float32 else load_of(read)
    along.bytes = bytes_of(read)
    along.loaded_bytes = bytes_of(FLOAT32 if in_float32 else FLOAT64)
    along.constant = <const char *>&constants.of_double
    if in_float32:
        along.constant = <const char *>&constants.of_float


def correlate(
    cnp.ndarray input, cnp.ndarray output, vertical, horizontal, bint lines_first, double cval,
    bint in_float32, int threads,
):
    """Correlate an array of shape (planes, height, width, step) along its height, width or both.

    Both arrays are contiguous, aligned and native, and share no memory.

    Parameters
    ----------
    vertical, horizontal : tuple or None
        A pass: the weights, in the type that is computed with; 1 for a symmetric filter, -1 for an
        antisymmetric one and 0 for any other; the table of `source_indices`; and the number of
        positions in front of the first element. A vertical pass needs 16 elements in a row.
    lines_first : bool
        The horizontal one of two passes is the first.
    cval : float
        What is beyond the borders in mode "constant".
    in_float32 : bool
        Compute in float32. Then both arrays must be float32.
    """
    cdef Separable job
    cdef Taps down, along
    cdef Constants constants
    cdef Number read = number_of(input), written = number_of(output)
    constants.of_float, constants.of_double = <float>cval, cval
    job.input, job.output = <char *>cnp.PyArray_DATA(input), <char *>cnp.PyArray_DATA(output)
    job.planes, job.height = cnp.PyArray_DIM(input, 0), cnp.PyArray_DIM(input, 1)
    job.width, job.step = cnp.PyArray_DIM(input, 2), cnp.PyArray_DIM(input, 3)
    job.output_bytes = bytes_of(written)
    job.rows, job.line = NULL, NULL
    job.rows_together, job.columns_together, job.stage_bytes = ROWS_TOGETHER, 0, STAGE_BYTES
    if vertical is not None:
        describe(
            &job.vertical, &down, vertical, written if lines_first else read, written, in_float32,
            &constants, 1,
        )
        job.rows = correlate_rows_float if in_float32 else correlate_rows_double
        if job.vertical.load != NULL or lines_first:
            job.rows_together = CONVERTED_ROWS
        while lines_first and job.rows_together > ROWS_TOGETHER and not passes_fit(
            job.width * job.step, bytes_of(FLOAT64), job.rows_together + down.size - 1
        ):
            job.rows_together //= 2
    if horizontal is not None:
        describe(
            &job.horizontal, &along, horizontal,
            read if vertical is None or lines_first else written, written, in_float32,
            &constants, job.step,
        )
        job.line = correlate_line_float if in_float32 else correlate_line_double
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
