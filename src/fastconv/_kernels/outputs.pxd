"""Rows of outputs whose sums lie in scratch together, and how they are stored."""

from libc.stdint cimport int32_t

from fastconv._kernels.band cimport Phase
from fastconv._kernels.plan cimport Part, Plan
from fastconv._kernels.target cimport Target, joins_rows, place_of, store_run
from fastconv._kernels.window cimport Axis, smaller, source_index


cdef struct Rows:
    # The outputs of a pair of phases: rows first <= i < last of all images of the item, `count`
    # outputs side by side, for a block of filters.
    const Phase *h
    const Phase *w
    const Part *part  # NULL if the phases see no taps.
    const int32_t *offsets  # Of the part.
    Py_ssize_t n, g  # The item's first image, and its group.
    Py_ssize_t f, filters, lanes  # Filters of the block; the same with the lanes that are empty.
    Py_ssize_t per_image, first, last
    Py_ssize_t row_j, column_j  # The first row and column, counted as the phases count them,
    Py_ssize_t row, column  # and counted from the begin of the band.
    Py_ssize_t count
    Py_ssize_t pitch  # Sums from one row to the next.
    const char *packed  # The block's weights.
    const char *start  # The block's bias.
    const char *band
    char *sums
    char *tile


cdef inline const char *row_in_band(const Plan *plan, const Rows *rows, Py_ssize_t i) noexcept nogil:
    """Where the outputs of row i find the offset 0."""
    return rows.band + i // rows.per_image * plan.image_bytes + plan.problem.bytes * (
        (rows.row + i % rows.per_image) * plan.band.h.rests * plan.band.pitch + rows.column
    )


cdef inline void fold_row(
    const Plan *plan, Py_ssize_t n, Py_ssize_t c, Py_ssize_t y, const Rows *rows, const char *sums
) noexcept nogil:
    """Add a row of gradients in the padding to the pixels shown there."""
    cdef const Target *target = &plan.problem.target
    cdef const Axis *w = &plan.band.w.target
    cdef Py_ssize_t i
    cdef char *to = target.data + place_of(target, n, c, source_index(&plan.band.h.target, y), 0)
    for i in range(rows.count):
        plan.problem.sums.add_element(
            to, source_index(w, rows.w.position + (rows.column_j + i) * plan.band.w.step), sums, i
        )


cdef inline void store_sums(const Plan *plan, const Rows *rows) noexcept nogil:
    """Write the sums to the outputs they belong to."""
    cdef const Target *target = &plan.problem.target
    cdef const Axis *h = &plan.band.h.target
    cdef Py_ssize_t x = rows.w.position + rows.column_j * plan.band.w.step, y, n, f, c, i, run
    cdef Py_ssize_t columns = plan.band.w.target.size
    cdef bint joined = (
        rows.pitch == rows.count == columns and plan.band.h.step == plan.band.w.step == 1
        and joins_rows(target, columns)
    )
    cdef char *sums
    for f in range(rows.f, rows.f + rows.filters):
        c = rows.g * plan.problem.filters + f
        i = rows.first
        while i < rows.last:
            n = rows.n + i // rows.per_image
            y = rows.h.position + (rows.row_j + i % rows.per_image) * plan.band.h.step
            sums = rows.sums + plan.problem.bytes * (
                (f - rows.f) * plan.sums_pitch + (i - rows.first) * rows.pitch
            )
            run = 1
            if plan.folds:
                fold_row(plan, n, c, y, rows, sums)
            else:
                if joined:
                    run = smaller(rows.last - i, rows.per_image - i % rows.per_image)
                store_run(
                    target, place_of(target, n, c, y - h.before, x - plan.band.w.target.before),
                    plan.band.w.step * target.stride_w, sums, run * rows.count,
                )
            i += run
