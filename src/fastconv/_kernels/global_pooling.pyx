"""Global pooling: the mean or the maximum of each plane, and the gradient of the mean.

A window that is the whole plane has one output, so there are no neighbouring windows that could be
the lanes of vectors, as in pooling.pxd; here lanes are pixels of one plane. An item is a run of
planes and writes its own results.

a. Means are formed in float64 from sums of blocks, whose rounding errors are kept, so that planes
   of any size lose no more digits than those of the result.
b. The first maximum of a plane is the best of the first maxima of all lanes.
"""

from libc.stdint cimport int64_t
from libc.string cimport memset

cimport numpy as cnp

from fastconv._kernels.level cimport LEVEL
from fastconv._kernels.number cimport FLOAT32
from fastconv._kernels.parallel cimport for_each, useful_threads, wanted_items
from fastconv._kernels.planes cimport Planes, computed_format, plane_at, plane_count, planes_of
from fastconv._kernels.rows cimport is_plain, load_row, store_row
from fastconv._kernels.scratch cimport Layout, take
from fastconv._kernels.stream cimport STREAM_FROM_BYTES, stream_copy, stream_fence
from fastconv._kernels.window cimport ceil_div, smaller

cnp.import_array()

level = LEVEL.decode()

cdef extern from "global_pooling.h":
    ctypedef struct Total:
        double sum, lost

    void add_run_float(Total *total, const float *run, Py_ssize_t count) noexcept nogil
    void add_run_double(Total *total, const double *run, Py_ssize_t count) noexcept nogil
    double mean_of_total(Total total, Py_ssize_t count) noexcept nogil
    Py_ssize_t position_of_maximum(const float *run, Py_ssize_t count) noexcept nogil
    void fill_runs(
        char *to, const char *elements, Py_ssize_t runs, Py_ssize_t count, Py_ssize_t bytes
    ) noexcept nogil

cdef enum:
    CHUNK = 1024  # This many pixels that cannot be read in place are copied together.
    GROUP = 256  # The largest number of planes of an item, whose means are converted together.
    FILLED_BYTES = 32 << 10  # Planes are filled in so much scratch before they are written.


cdef struct GlobalPlan:
    Planes image  # The images; of the gradient, those of one pixel that are the output's.
    char *out
    int64_t *indices
    Py_ssize_t planes, rows, columns  # A plane is one row if rows have no gaps.
    Py_ssize_t group  # The number of planes of an item.
    bint past_caches
    Layout scratch
    size_t chunk, means
    double moved
    int threads


cdef inline void add_pixels(
    const GlobalPlan *plan, const char *source, char *scratch, Total *total
) noexcept nogil:
    """Add a row of pixels to a total."""
    cdef Py_ssize_t i = 0, count, stride = plan.image.stride_w
    cdef const char *run
    while i < plan.columns:
        count = smaller(CHUNK, plan.columns - i)
        run = source + i * stride
        if not is_plain(plan.image.format, stride, run):
            run = scratch + plan.chunk
            load_row(scratch + plan.chunk, source + i * stride, count, stride, plan.image.format)
        if plan.image.format.number == FLOAT32:
            add_run_float(total, <const float *>run, count)
        else:
            add_run_double(total, <const double *>run, count)
        i += count


cdef void average_planes(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    """Compute the means of a run of planes."""
    cdef const GlobalPlan *plan = <const GlobalPlan *>data
    cdef Py_ssize_t first = item * plan.group, channel = first % plan.image.channels, i, row
    cdef Py_ssize_t count = smaller(plan.group, plan.planes - first)
    cdef char *means = scratch + plan.means
    cdef const char *source = plane_at(&plan.image, first)
    cdef double mean
    cdef Total total
    for i in range(count):
        total.sum = total.lost = 0
        for row in range(plan.rows):
            add_pixels(plan, source + row * plan.image.stride_h, scratch, &total)
        mean = mean_of_total(total, plan.rows * plan.columns)
        if plan.image.format.number == FLOAT32:
            (<float *>means)[i] = <float>mean
        else:
            (<double *>means)[i] = mean
        channel += 1  # The divisions of plane_at take longer than a small plane.
        source += plan.image.stride_c
        if channel == plan.image.channels:
            channel = 0
            source += plan.image.stride_n - plan.image.channels * plan.image.stride_c
    store_row(plan.out + first * plan.image.format.bytes, means, count, plan.image.format)


cdef void find_maxima(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    """Find the maxima of a run of planes."""
    cdef const GlobalPlan *plan = <const GlobalPlan *>data
    cdef Py_ssize_t plane, at
    cdef const float *pixels
    for plane in range(item * plan.group, smaller((item + 1) * plan.group, plan.planes)):
        pixels = <const float *>plane_at(&plan.image, plane)
        at = position_of_maximum(pixels, plan.columns)
        (<float *>plan.out)[plane] = pixels[at]
        if plan.indices != NULL:
            plan.indices[plane] = at


cdef void fill_planes(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    """Fill a run of planes, each with its share of the gradient."""
    cdef const GlobalPlan *plan = <const GlobalPlan *>data
    cdef Py_ssize_t first = item * plan.group, i
    cdef Py_ssize_t count = smaller(plan.group, plan.planes - first)
    cdef Py_ssize_t bytes = plan.image.format.bytes, plane_bytes = plan.columns * bytes
    cdef char *shares = scratch + plan.means
    cdef char *to = plan.out + first * plane_bytes
    for i in range(count):
        load_row(
            scratch + plan.chunk, plane_at(&plan.image, first + i), 1, bytes, plan.image.format
        )
        if plan.image.format.number == FLOAT32:
            (<float *>(scratch + plan.chunk))[0] /= <float>plan.columns
        else:
            (<double *>(scratch + plan.chunk))[0] /= <double>plan.columns
        store_row(shares + i * bytes, scratch + plan.chunk, 1, plan.image.format)
    if plan.past_caches:
        fill_runs(scratch + plan.chunk, shares, count, plan.columns, bytes)
        stream_copy(to, scratch + plan.chunk, count * plane_bytes)
        stream_fence()
    else:
        fill_runs(to, shares, count, plan.columns, bytes)


cdef void describe_global(
    GlobalPlan *plan, cnp.ndarray image, cnp.ndarray out, double moved, int threads
) noexcept:
    """Read the arrays, and cut planes into items."""
    memset(plan, 0, sizeof(plan[0]))
    plan.image = planes_of(image, computed_format(image))
    plan.out = <char *>cnp.PyArray_DATA(out)
    plan.planes = plane_count(image)
    plan.rows, plan.columns = cnp.PyArray_DIM(image, 2), cnp.PyArray_DIM(image, 3)
    if plan.image.stride_h == plan.columns * plan.image.stride_w:
        plan.rows, plan.columns = 1, plan.rows * plan.columns
    plan.moved = moved
    plan.threads = useful_threads(moved, threads)
    plan.group = smaller(GROUP, ceil_div(plan.planes, wanted_items(plan.threads)))
    plan.chunk = take(&plan.scratch, CHUNK * sizeof(double))
    plan.means = take(&plan.scratch, GROUP * sizeof(double))


def average(cnp.ndarray image, cnp.ndarray out, int threads):
    """Write the mean of each plane of float images (n, c, h, w) to `out`, a contiguous (n, c)."""
    cdef GlobalPlan plan
    if plane_count(image) == 0:
        return
    describe_global(&plan, image, out, cnp.PyArray_NBYTES(image), threads)
    for_each(
        average_planes, &plan, ceil_div(plan.planes, plan.group), <size_t>plan.scratch.bytes,
        plan.moved, plan.threads,
    )


def maximum(cnp.ndarray image, cnp.ndarray out, cnp.ndarray indices, int threads):
    """Write the maximum of each plane of float32 images, and its index unless None.

    All arrays are C-contiguous, and planes have at most 2^31 - 1 pixels.
    """
    cdef GlobalPlan plan
    if plane_count(image) == 0:
        return
    describe_global(&plan, image, out, cnp.PyArray_NBYTES(image), threads)
    plan.columns, plan.rows = plan.rows * plan.columns, 1
    if indices is not None:
        plan.indices = <int64_t *>cnp.PyArray_DATA(indices)
    for_each(
        find_maxima, &plan, ceil_div(plan.planes, plan.group), <size_t>plan.scratch.bytes,
        plan.moved, plan.threads,
    )


def average_backward(cnp.ndarray grad_output, cnp.ndarray grad_input, int threads):
    """Fill each plane of `grad_input` (C-contiguous) with its gradient (n, c, 1, 1) / (h * w)."""
    cdef GlobalPlan plan
    cdef Py_ssize_t pixels = cnp.PyArray_DIM(grad_input, 2) * cnp.PyArray_DIM(grad_input, 3)
    if plane_count(grad_output) == 0:
        return
    describe_global(&plan, grad_output, grad_input, cnp.PyArray_NBYTES(grad_input), threads)
    plan.rows, plan.columns = 1, pixels
    if plan.moved >= STREAM_FROM_BYTES and pixels * plan.image.format.bytes <= FILLED_BYTES:
        plan.past_caches = True
        plan.group = smaller(plan.group, FILLED_BYTES // (pixels * plan.image.format.bytes))
        plan.scratch.bytes = 0
        plan.means = take(&plan.scratch, GROUP * sizeof(double))
        plan.chunk = take(&plan.scratch, FILLED_BYTES)
    for_each(
        fill_planes, &plan, ceil_div(plan.planes, plan.group), <size_t>plan.scratch.bytes,
        plan.moved, plan.threads,
    )
