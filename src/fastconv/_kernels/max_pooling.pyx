"""Max pooling: the maxima of windows and where they lie.

    out[oh, ow] = max over (kh, kw) of image[oh*SH + kh*DH - top, ow*SW + kw*DW - left]

pooling.pxd explains how taps are read.

a. A maximum comes with the offset of its tap from the window's first one (maximum.h). The offset
   fits 32 bits, which cost half as much as 64, unless the window spans 2^31 pixels.
b. Padding is the dtype's lowest value and never beats the first real pixel, which the index starts
   from; that also serves windows of nothing but the lowest value.
"""

from libc.stdint cimport INT32_MAX, int64_t
from libc.string cimport memset

cimport numpy as cnp

from fastconv._kernels.level cimport LEVEL
from fastconv._kernels.maximum cimport (
    FROM_BEST, FROM_FIRST_TAP, FROM_LOWEST, MaxStart, MaxTaps, Maximum, maximum_of,
)
from fastconv._kernels.planes cimport computed_format, plane_count
from fastconv._kernels.pooling cimport (
    Outputs, PoolPlan, Pooling, describe_pooling, find_outputs, run_pool, store_best, take_all_taps,
)
from fastconv._kernels.stream cimport stream_copy, stream_fence
from fastconv._kernels.window cimport Axis, ceil_div, smaller, window_span

cnp.import_array()

level = LEVEL.decode()

cdef extern from "pooling.h":
    ctypedef struct Positions:
        Py_ssize_t rows, columns, first, row_stride, stride, pitch, to_pitch

    void store_indices(
        int64_t *to, const void *offsets, int wide, Positions at
    ) noexcept nogil
    void start_indices(
        void *offsets, int wide, Py_ssize_t base, const Py_ssize_t *firsts, Py_ssize_t count
    ) noexcept nogil

cdef struct Maxima:
    int64_t *indices  # Where the maxima lie, or NULL.
    MaxTaps update
    bint wide  # Offsets of taps have 64 bits instead of 32.
    Py_ssize_t offset_bytes


cdef inline const Maxima *maxima_of(const PoolPlan *plan) noexcept nogil:
    return <const Maxima *>plan.pooling.job


cdef inline void start_offsets(const PoolPlan *plan, Outputs *outputs) noexcept nogil:
    """Let each maximum start from the first tap of its window that is no padding."""
    cdef const Maxima *maxima = maxima_of(plan)
    cdef const Axis *h = &plan.pooling.window.h
    cdef const Axis *w = &plan.pooling.window.w
    cdef Py_ssize_t i, r, y, columns = outputs.columns, padded_columns
    cdef Py_ssize_t plane_bytes = plan.plane_slots * maxima.offset_bytes
    memset(outputs.offsets, 0, outputs.slots * maxima.offset_bytes)
    for i in range(columns):
        outputs.per_column[i] = (
            ceil_div(w.before - outputs.x - i * w.stride, w.dilation) * w.dilation
        )
    padded_columns = smaller(columns, ceil_div(w.before - outputs.x, w.stride))
    for r in range(outputs.rows):
        y = outputs.y + r * h.stride
        if y >= h.before:
            columns = padded_columns  # The first taps of the others are no padding.
        for i in range(outputs.planes):
            start_indices(
                outputs.offsets + i * plane_bytes + r * plan.pitch * maxima.offset_bytes,
                maxima.wide, ceil_div(h.before - y, h.dilation) * h.dilation * w.size,
                outputs.per_column, columns,
            )


cdef inline bint starts_with_tap(const PoolPlan *plan, const Outputs *outputs) noexcept nogil:
    """Return whether the first tap of all windows is no padding."""
    return (
        outputs.y >= plan.pooling.window.h.before and outputs.x >= plan.pooling.window.w.before
    )


cdef void update_maxima(const PoolPlan *plan, Outputs *outputs) noexcept nogil:
    cdef MaxStart start = FROM_BEST
    if not outputs.begun:
        start = FROM_FIRST_TAP if starts_with_tap(plan, outputs) else FROM_LOWEST
    maxima_of(plan).update(
        outputs.best, outputs.offsets, outputs.taps, outputs.tap_offsets, outputs.n_taps,
        outputs.slots, start,
    )


cdef inline void store_offsets(const PoolPlan *plan, const Outputs *outputs) noexcept nogil:
    """Write the indices of maxima."""
    cdef const Maxima *maxima = maxima_of(plan)
    cdef const Axis *h = &plan.pooling.window.h
    cdef const Axis *w = &plan.pooling.window.w
    cdef bint past_caches = plan.pooling.target.past_caches
    cdef int64_t *to = maxima.indices + (
        (outputs.plane * h.out + outputs.top) * w.out + outputs.left
    )
    cdef const char *offsets = outputs.offsets
    cdef Py_ssize_t _
    cdef Positions at
    at.rows, at.columns = outputs.rows, outputs.columns
    at.first = (outputs.y - h.before) * w.size + outputs.x - w.before
    at.row_stride, at.stride = h.stride * w.size, w.stride
    at.pitch, at.to_pitch = plan.pitch, w.out
    for _ in range(outputs.planes):
        store_indices(
            <int64_t *>outputs.band if past_caches else to, offsets, maxima.wide, at
        )
        if past_caches:
            stream_copy(<char *>to, outputs.band, at.rows * at.columns * 8)
        to += h.out * w.out
        offsets += plan.plane_slots * maxima.offset_bytes


cdef void pool(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    """Compute the maxima of an item."""
    cdef const PoolPlan *plan = <const PoolPlan *>data
    cdef Outputs outputs
    find_outputs(plan, item, scratch, &outputs)
    if maxima_of(plan).indices != NULL and not starts_with_tap(plan, &outputs):
        start_offsets(plan, &outputs)
    take_all_taps(plan, &outputs)
    store_best(plan, &outputs)
    if maxima_of(plan).indices != NULL:
        store_offsets(plan, &outputs)
    if plan.pooling.target.past_caches:
        stream_fence()


def max_pool(
    cnp.ndarray image, cnp.ndarray out, cnp.ndarray indices, cnp.ndarray window, int threads
):
    """Write the maxima of images (n, c, h, w), and their indices unless None; both C-contiguous."""
    cdef Pooling pooling
    cdef Maxima maxima
    cdef const Maximum *maximum
    cdef const Axis *h = &pooling.window.h
    cdef const Axis *w = &pooling.window.w
    if plane_count(image) == 0:
        return
    memset(&pooling, 0, sizeof(pooling))
    memset(&maxima, 0, sizeof(maxima))
    describe_pooling(&pooling, image, computed_format(image), out, window)
    maximum = maximum_of(pooling.image.format.number)
    pooling.outside, pooling.job, pooling.update = maximum.lowest, &maxima, update_maxima
    maxima.update = maximum.values
    if indices is not None:
        maxima.indices = <int64_t *>cnp.PyArray_DATA(indices)
        maxima.wide = <double>(window_span(h) - 1) * w.size + window_span(w) > <double>INT32_MAX
        maxima.offset_bytes = 8 if maxima.wide else 4
        maxima.update = maximum.indexed_wide if maxima.wide else maximum.indexed
        pooling.index_bytes = sizeof(int64_t)
    run_pool(pool, &pooling, threads)
