"""Maxima, minima and means of windows of neighbours.

Windows that are rectangles, in passes along one axis or along two at once (separable.pxd):

    vertical:    out[p, y, x, s] = best or mean over t of input[p, y + t - before, x, s]
    horizontal:  out[p, y, x, s] = best or mean over t of input[p, y, x + t - before, s]

Maxima and minima of windows with holes, a *footprint* of any dimension:

    out[i] = best over the offsets o of the footprint of input[i + o - before]

A row of a footprint is a list of runs. The best of a run of n elements is that of two runs of 2^k,
k = floor(log2 n), which overlap. So for each row of the input, `levels` holds the best of runs of 1,
2, 4, ... elements, and an output is the best of one or two elements per run (*taps*). An item is a
band of rows, cut into strips of columns whose levels stay in the caches. Footprints of more than two
dimensions are taken plane by plane: the best of one plane is a tap of the next one.

The inner loops are in extremes.h and means.h.
"""

from libc.string cimport memcpy, memset

cimport numpy as cnp

from fastconv._kernels.level cimport LEVEL
from fastconv._kernels.number cimport Number, bytes_of
from fastconv._kernels.parallel cimport for_each, useful_threads, wanted_items
from fastconv._kernels.planes cimport number_of
from fastconv._kernels.scratch cimport Layout, take
from fastconv._kernels.separable cimport FilterLine, FilterRows, Pass, Separable, filter_planes
from fastconv._kernels.window cimport ceil_div, larger, smaller

cnp.import_array()

level = LEVEL.decode()

cdef extern from "extremes.h":
    ctypedef struct Neighbours:
        Py_ssize_t size, step

    ctypedef struct Extreme:
        FilterRows rows
        FilterLine line
        void (*pairs)(
            char *to, const char *line, Py_ssize_t distance, Py_ssize_t count
        ) noexcept nogil
        void (*taps)(
            char *to, const char *const *taps, Py_ssize_t n, Py_ssize_t count
        ) noexcept nogil

    const Extreme *extreme_of(Number number, int is_minimum) noexcept
    Py_ssize_t extreme_line_stage(
        Py_ssize_t size, Py_ssize_t step, Py_ssize_t count, Py_ssize_t bytes
    ) noexcept

cdef extern from "means.h":
    ctypedef struct Divisor:
        Py_ssize_t size, step

    ctypedef struct Mean:
        FilterRows rows
        FilterLine line
        Py_ssize_t sum_bytes

    const Mean *mean_of(Number number) noexcept
    int find_divisor(
        Divisor *divisor, const Mean *mean, Py_ssize_t size, Py_ssize_t step
    ) noexcept
    Py_ssize_t mean_rows_stage(Py_ssize_t size, Py_ssize_t outs) noexcept
    Py_ssize_t mean_line_stage(
        Py_ssize_t size, Py_ssize_t step, Py_ssize_t count, Py_ssize_t sum_bytes
    ) noexcept

cdef enum:
    # The bytes of a line that are filtered at a time: two or three times as many stay in L1.
    LINE_BYTES_TOGETHER = 8 << 10
    # The bytes of the rows of a chunk, between both passes.
    CHUNK_BYTES = 128 << 10
    FEWEST_ROWS = 8


cdef void describe(Pass *along, tuple given, const void *filter, Number number, constant) except *:
    """Describe a pass, given as (size, sources, before)."""
    cdef cnp.ndarray sources = given[1]
    cdef cnp.ndarray beyond = constant
    along.size, along.before, along.filter = given[0], given[2], filter
    along.sources = <const Py_ssize_t *>cnp.PyArray_DATA(sources)
    along.load = NULL
    along.bytes = along.loaded_bytes = bytes_of(number)
    along.constant = <const char *>cnp.PyArray_DATA(beyond)


cdef void describe_array(
    Separable *job, cnp.ndarray input, cnp.ndarray output, vertical, horizontal
) except *:
    """Describe the arrays, and how much of them is filtered at a time."""
    cdef Py_ssize_t bytes = cnp.PyArray_ITEMSIZE(input), size, row_bytes
    job.input, job.output = <char *>cnp.PyArray_DATA(input), <char *>cnp.PyArray_DATA(output)
    job.planes, job.height = cnp.PyArray_DIM(input, 0), cnp.PyArray_DIM(input, 1)
    job.width, job.step = cnp.PyArray_DIM(input, 2), cnp.PyArray_DIM(input, 3)
    job.output_bytes = bytes
    job.rows, job.line = NULL, NULL
    job.columns_together = job.stage_bytes = 0
    if horizontal is not None:
        size = horizontal[0]
        job.columns_together = larger(LINE_BYTES_TOGETHER // bytes, size * job.step)
        job.columns_together = ceil_div(job.columns_together, job.step) * job.step
    row_bytes = larger(1, job.width * job.step * bytes)
    job.rows_together = larger(FEWEST_ROWS, CHUNK_BYTES // row_bytes)
    if vertical is not None and horizontal is None:
        size = vertical[0]
        job.rows_together = larger(64, 2 * size)


def extremes(
    cnp.ndarray input, cnp.ndarray output, bint is_minimum, vertical, horizontal, constant,
    int threads,
):
    """Write the maxima or minima of an array (planes, height, width, step) along one or two axes.

    Both arrays are contiguous, aligned and native, of one dtype, and share no memory.

    Parameters
    ----------
    vertical, horizontal : tuple or None
        A pass: the number of neighbours, the table of `source_indices`, and the number of positions
        in front of the first element.
    constant : ndarray
        What is beyond the borders in mode "constant": one element of the dtype.
    """
    cdef Separable job
    cdef Neighbours down, along
    cdef Number number = number_of(input)
    cdef const Extreme *extreme = extreme_of(number, is_minimum)
    describe_array(&job, input, output, vertical, horizontal)
    if vertical is not None:
        down.size, down.step = vertical[0], 1
        describe(&job.vertical, vertical, &down, number, constant)
        job.rows = extreme.rows
    if horizontal is not None:
        along.size, along.step = horizontal[0], job.step
        describe(&job.horizontal, horizontal, &along, number, constant)
        job.line = extreme.line
        job.stage_bytes = extreme_line_stage(
            along.size, along.step, job.columns_together, bytes_of(number)
        )
    filter_planes(&job, threads)


def means(
    cnp.ndarray input, cnp.ndarray output, vertical, horizontal, constant, int threads
):
    """Write the means of an array (planes, height, width, step) along one or two axes.

    The arguments are those of `extremes`. `can_average` must be true for both passes.
    """
    cdef Separable job
    cdef Divisor down, along
    cdef Number number = number_of(input)
    cdef const Mean *mean = mean_of(number)
    cdef Py_ssize_t stage
    describe_array(&job, input, output, vertical, horizontal)
    if vertical is not None:
        find_divisor(&down, mean, vertical[0], 1)
        describe(&job.vertical, vertical, &down, number, constant)
        job.rows = mean.rows
        job.stage_bytes = mean_rows_stage(down.size, job.rows_together)
    if horizontal is not None:
        find_divisor(&along, mean, horizontal[0], job.step)
        describe(&job.horizontal, horizontal, &along, number, constant)
        job.line = mean.line
        stage = mean_line_stage(along.size, along.step, job.columns_together, mean.sum_bytes)
        job.stage_bytes = max(job.stage_bytes, stage)
    filter_planes(&job, threads)


def can_average(cnp.ndarray array, Py_ssize_t size):
    """Tell whether all means of so many elements of an array's dtype are exact, if they are integers.

    For those of 64 bits, this depends on the elements, which are not looked at.
    """
    cdef Divisor divisor
    return bool(find_divisor(&divisor, mean_of(number_of(array)), size, 1))
