"""Maxima, minima and means of windows of neighbours.

Windows that are rectangles, in passes along one axis or along two at once (separable.pxd):

    vertical:    out[p, y, x, s] = best or mean over t of input[p, y + t - before, x, s]
    horizontal:  out[p, y, x, s] = best or mean over t of input[p, y, x + t - before, s]

Maxima and minima of windows with holes, a *footprint* of any dimension:

    out[i] = best over the offsets o of the footprint of input[i + o - before]

A row of a footprint is a list of runs. The best of a run of n elements is that of two runs of 2^k,
k = floor(log2 n), which overlap. So for each row of the input, `levels` holds the best of runs of
1, 2, 4, ... elements, and an output is the best of one or two elements per run (*taps*). An item is
a band of rows, cut into strips of columns whose levels stay in the caches. Footprints of more than
two dimensions are taken plane by plane: the best of one plane is a tap of the next one.

The inner loops are in extremes.h and means.h.
"""

from libc.string cimport memcpy, memset

cimport numpy as cnp

from fastconv._kernels.level cimport LEVEL
from fastconv._kernels.number cimport Number, bytes_of
from fastconv._kernels.parallel cimport for_each, useful_threads
from fastconv._kernels.planes cimport number_of
from fastconv._kernels.scratch cimport Layout, take
from fastconv._kernels.separable cimport (
    FilterLine, FilterRows, Pass, Separable, filter_planes, load_beyond, repeat,
)
from fastconv._kernels.stream cimport LINE_BYTES
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
    Separable *job, cnp.ndarray input, cnp.ndarray output, vertical, horizontal,
    Py_ssize_t line_bytes,
) except *:
    """Describe the arrays, and how much of them is filtered at a time: `line_bytes` is the size of
    an element of a line while it is filtered."""
    cdef Py_ssize_t bytes = cnp.PyArray_ITEMSIZE(input), size, row_bytes
    job.input, job.output = <char *>cnp.PyArray_DATA(input), <char *>cnp.PyArray_DATA(output)
    job.planes, job.height = cnp.PyArray_DIM(input, 0), cnp.PyArray_DIM(input, 1)
    job.width, job.step = cnp.PyArray_DIM(input, 2), cnp.PyArray_DIM(input, 3)
    job.output_bytes = bytes
    job.rows, job.line = NULL, NULL
    job.columns_together = job.stage_bytes = 0
    if horizontal is not None:
        size = horizontal[0]
        job.columns_together = larger(LINE_BYTES_TOGETHER // line_bytes, size * job.step)
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
    describe_array(&job, input, output, vertical, horizontal, bytes_of(number))
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
    describe_array(&job, input, output, vertical, horizontal, mean.sum_bytes)
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
    """Tell whether all means of this number of elements are exact, if they are integers.

    For those of 64 bits, this depends on the elements, which are not looked at.
    """
    cdef Divisor divisor
    return bool(find_divisor(&divisor, mean_of(number_of(array)), size, 1))


cdef enum:
    # The levels of the rows that an item needs stay in L2.
    LEVELS_BYTES = 256 << 10
    # A band has at least this many rows of outputs, and as many as the footprint,
    LEAST_BAND = 16
    # and a strip has at least these bytes of a row.
    LEAST_STRIP_BYTES = 512
    MOST_AXES = 64


cdef struct Run:
    # Neighbours in a row of the footprint.
    Py_ssize_t row, column, length


cdef struct Footprint:
    const char *input
    char *output
    const Extreme *extreme
    Py_ssize_t axes  # The axes in front of the last two.
    Py_ssize_t shape[MOST_AXES]
    const Py_ssize_t *sources[MOST_AXES]  # Of all axes, the last two included.
    Py_ssize_t n_planes
    const Py_ssize_t *planes  # The offsets of each plane of the footprint along the first axes.
    const Py_ssize_t *starts  # The first run of each plane, and the number of all runs.
    const Run *runs
    Py_ssize_t n_levels, height, width, rows, columns  # Of the array, and of the footprint.
    Pass along  # How the ends of rows are loaded.
    Py_ssize_t band, strip, bands, strips, pitch
    Layout scratch
    size_t levels, taps, best


cdef inline Py_ssize_t plane_of(
    const Footprint *job, Py_ssize_t outer, const Py_ssize_t *offsets
) noexcept nogil:
    """Return which plane of the input a plane of the footprint shows, or -1 for the constant."""
    cdef Py_ssize_t axis = job.axes - 1, stride = 1, plane = 0, source
    while axis >= 0:
        source = job.sources[axis][outer % job.shape[axis] + offsets[axis]]
        if source < 0:
            return -1
        plane += source * stride
        stride *= job.shape[axis]
        outer //= job.shape[axis]
        axis -= 1
    return plane


cdef inline void load_levels(
    const Footprint *job, const char *row, Py_ssize_t x, Py_ssize_t count, char *levels
) noexcept nogil:
    """Load the part of a row that `count` outputs from x on need, and compute its levels."""
    cdef Py_ssize_t end = x + count + job.columns - 1, bytes = job.along.bytes, k
    cdef Py_ssize_t inside = smaller(larger(x, job.along.before), end)
    cdef Py_ssize_t inside_end = larger(inside, smaller(end, job.along.before + job.width))
    if row == NULL:
        repeat(levels, job.along.constant, bytes, end - x)
    else:
        memcpy(
            levels + (inside - x) * bytes, row + (inside - job.along.before) * bytes,
            (inside_end - inside) * bytes,
        )
        load_beyond(&job.along, levels, row, 1, x, x, inside, inside, inside_end)
        load_beyond(&job.along, levels, row, 1, x, inside_end, end, inside, inside_end)
    for k in range(1, job.n_levels):
        job.extreme.pairs(
            levels + k * job.pitch, levels + (k - 1) * job.pitch, 1 << (k - 1),
            end - x + 1 - (1 << k),
        )


cdef inline Py_ssize_t find_taps(
    const Footprint *job, Py_ssize_t plane, const char *levels, const char **taps
) noexcept nogil:
    """Find the taps of an output row, for which the first row of the footprint is at `levels`."""
    cdef Py_ssize_t n = 0, i, k, bytes = job.along.bytes
    cdef const Run *run
    cdef const char *first
    for i in range(job.starts[plane], job.starts[plane + 1]):
        run = &job.runs[i]
        k = 0
        while 2 << k <= run.length:
            k += 1
        first = levels + (run.row * job.n_levels + k) * job.pitch + run.column * bytes
        taps[n] = first
        n += 1
        if run.length > 1 << k:
            taps[n] = first + (run.length - (1 << k)) * bytes
            n += 1
    return n


cdef void filter_footprint(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    """Compute a strip of a band of rows."""
    cdef const Footprint *job = <const Footprint *>data
    cdef Py_ssize_t x = item % job.strips * job.strip
    cdef Py_ssize_t y = item // job.strips % job.bands * job.band
    cdef Py_ssize_t outer = item // job.strips // job.bands, bytes = job.along.bytes
    cdef Py_ssize_t count = smaller(job.strip, job.width - x)
    cdef Py_ssize_t outs = smaller(job.band, job.height - y)
    cdef Py_ssize_t p, r, source, plane, n, best_bytes = job.band * job.strip * bytes
    cdef const char **taps = <const char **>(scratch + job.taps)
    cdef const char *row
    cdef char *levels = scratch + job.levels
    cdef char *best
    for p in range(job.n_planes):
        plane = plane_of(job, outer, job.planes + p * job.axes)
        for r in range(outs + job.rows - 1):
            source = job.sources[job.axes][y + r]
            row = NULL
            if plane >= 0 and source >= 0:
                row = job.input + (plane * job.height + source) * job.width * bytes
            load_levels(job, row, x, count, levels + r * job.n_levels * job.pitch)
        for r in range(outs):
            n = find_taps(job, p, levels + r * job.n_levels * job.pitch, taps + 1)
            best = scratch + job.best + r * job.strip * bytes
            taps[0] = best + (p - 1) % 2 * best_bytes
            best += p % 2 * best_bytes
            if p == job.n_planes - 1:
                best = job.output + ((outer * job.height + y + r) * job.width + x) * bytes
            job.extreme.taps(best, taps if p > 0 else taps + 1, n + (p > 0), count)


cdef void cut_footprint(Footprint *job) noexcept:
    """Cut the work into items, and lay out their scratch memory."""
    cdef Py_ssize_t bytes = job.along.bytes, rows
    cdef double columns
    job.band = smaller(job.height, larger(LEAST_BAND, job.rows))
    rows = (job.band + job.rows - 1) * job.n_levels
    columns = larger(LEAST_STRIP_BYTES, LEVELS_BYTES // rows) // bytes
    job.strip = smaller(job.width, <Py_ssize_t>columns // LINE_BYTES * LINE_BYTES)
    job.bands, job.strips = ceil_div(job.height, job.band), ceil_div(job.width, job.strip)
    job.pitch = ceil_div((job.strip + job.columns - 1) * bytes, LINE_BYTES) * LINE_BYTES
    job.scratch.bytes = 0
    job.levels = take(&job.scratch, <double>rows * job.pitch)
    job.taps = take(&job.scratch, (2.0 * job.starts[job.n_planes] + 1) * sizeof(char *))
    job.best = take(&job.scratch, 2.0 * job.band * job.strip * bytes)


def footprint(
    cnp.ndarray input, cnp.ndarray output, bint is_minimum, list sources, Py_ssize_t before,
    cnp.ndarray planes, cnp.ndarray starts, cnp.ndarray runs, tuple window, constant, int threads,
):
    """Write the maxima or minima of the neighbours in a footprint.

    Both arrays have two dimensions or more and a number of elements. They are contiguous, aligned
    and native, of one dtype, and share no memory. All other arrays are contiguous and of intp.

    Parameters
    ----------
    sources : list of ndarray
        The table of `source_indices` of each axis.
    before : int
        The positions in front of the first column.
    planes : ndarray of shape (n, input.ndim - 2)
        The offset of each plane of the footprint that is not empty.
    starts : ndarray of shape (n + 1,)
        The first run of each plane, and the number of all runs.
    runs : ndarray of shape (starts[n], 3)
        The row, the first column and the length of each run of neighbours.
    window : tuple of int
        The numbers of rows and of columns of the footprint, and floor(log2) of the longest run,
        plus 1.
    constant : ndarray
        What is beyond the borders in mode "constant": one element of the dtype.
    """
    cdef Footprint job
    cdef cnp.ndarray table
    cdef Py_ssize_t axis, outer = 1
    cdef double moved = 2.0 * cnp.PyArray_NBYTES(input)
    memset(&job, 0, sizeof(job))
    job.input, job.output = <char *>cnp.PyArray_DATA(input), <char *>cnp.PyArray_DATA(output)
    job.extreme = extreme_of(number_of(input), is_minimum)
    job.axes = cnp.PyArray_NDIM(input) - 2
    for axis in range(job.axes + 2):
        table = sources[axis]
        job.sources[axis] = <const Py_ssize_t *>cnp.PyArray_DATA(table)
        job.shape[axis] = cnp.PyArray_DIM(input, axis)
        outer *= job.shape[axis] if axis < job.axes else 1
    job.n_planes = cnp.PyArray_DIM(planes, 0)
    job.planes = <const Py_ssize_t *>cnp.PyArray_DATA(planes)
    job.starts = <const Py_ssize_t *>cnp.PyArray_DATA(starts)
    job.runs = <const Run *>cnp.PyArray_DATA(runs)
    job.rows, job.columns, job.n_levels = window
    job.height, job.width = job.shape[job.axes], job.shape[job.axes + 1]
    describe(
        &job.along, (job.columns, sources[job.axes + 1], before), NULL, number_of(input), constant
    )
    threads = useful_threads(moved, threads)
    cut_footprint(&job)
    for_each(
        filter_footprint, &job, outer * job.bands * job.strips, <size_t>job.scratch.bytes, moved,
        threads,
    )
