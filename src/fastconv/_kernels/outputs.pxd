"""Rows of outputs whose sums lie in scratch together, and how they are stored."""

from libc.stdint cimport int32_t

from fastconv._kernels.band cimport Phase, Side
from fastconv._kernels.plan cimport Part, Plan
from fastconv._kernels.target cimport Target, joins_rows, place_of, prefetch_residual, store_rows
from fastconv._kernels.window cimport Axis, smaller, source_index


cdef struct Rows:
    # The outputs of a pair of phases for a block of filters: the rows first <= i < last of all
    # images of the item, with `count` outputs side by side.
    const Phase *h
    const Phase *w
    const Part *part  # NULL if the phases have no taps.
    const int32_t *offsets  # The offsets of the part.
    Py_ssize_t n, g  # The item's first image, and its group.
    Py_ssize_t f, filters, lanes  # The block's first filter, and its numbers of filters and lanes.
    Py_ssize_t per_image, first, last
    Py_ssize_t row_j, column_j  # The first row and column, counted as the phases count them.
    Py_ssize_t row, column  # The first row and column, counted from the begin of the band.
    Py_ssize_t count
    Py_ssize_t pitch  # The number of sums from one row to the next.
    const char *packed  # The block's weights.
    const char *start  # The block's bias.
    const char *band
    char *sums
    char *tile


cdef inline const char *row_in_band(
    const Plan *plan, const Rows *rows, Py_ssize_t i
) noexcept nogil:
    """Return the address to which the outputs of row i add the offsets of their steps."""
    return rows.band + i // rows.per_image * plan.image_bytes + plan.problem.bytes * (
        (rows.row + i % rows.per_image) * plan.band.h.kept_phases * plan.band.pitch + rows.column
    )


cdef inline void fold_padded_row(
    const Plan *plan, Py_ssize_t n, Py_ssize_t c, Py_ssize_t y, const Rows *rows, const char *sums
) noexcept nogil:
    """Add a row of gradients in the padding to the pixels that are shown there."""
    cdef const Target *target = &plan.problem.target
    cdef const Axis *w = &plan.band.w.target
    cdef Py_ssize_t stride = plan.band.w.output_stride, i
    cdef char *to = target.data + place_of(target, n, c, source_index(&plan.band.h.target, y), 0)
    for i in range(rows.count):
        plan.problem.sums.add_element(
            to, source_index(w, rows.w.position + (rows.column_j + i) * stride), sums, i
        )


cdef struct JoinedRows:
    # Rows of outputs that follow each other in the target without gaps: the image and row of the
    # first, their place in the target, bytes to their sums, and the numbers of rows and outputs.
    Py_ssize_t n, y, place, sums, rows, count


cdef inline JoinedRows joined_rows_at(
    const Plan *plan, const Rows *rows, Py_ssize_t i
) noexcept nogil:
    """Return the joined rows that begin with row i, for the block's first filter."""
    cdef const Target *target = &plan.problem.target
    cdef const Side *h = &plan.band.h
    cdef const Side *w = &plan.band.w
    cdef JoinedRows joined
    joined.n = rows.n + i // rows.per_image
    joined.y = rows.h.position + (rows.row_j + i % rows.per_image) * h.output_stride
    joined.place = place_of(
        target, joined.n, rows.g * plan.problem.filters + rows.f, joined.y - h.target.before,
        rows.w.position + rows.column_j * w.output_stride - w.target.before,
    )
    joined.sums = (i - rows.first) * rows.pitch * plan.problem.bytes
    joined.rows = 1
    if (
        rows.pitch == rows.count == w.target.size and h.output_stride == w.output_stride == 1
        and joins_rows(target, rows.count)
    ):
        joined.rows = smaller(rows.last - i, rows.per_image - i % rows.per_image)
    joined.count = joined.rows * rows.count
    return joined


cdef inline void ask_for_residual(const Plan *plan, const Rows *rows) noexcept nogil:
    """Prefetch the residual that `store_sums` will add."""
    cdef Py_ssize_t i = rows.first
    cdef JoinedRows joined
    while i < rows.last:
        joined = joined_rows_at(plan, rows, i)
        prefetch_residual(
            &plan.problem.target, joined.place, plan.problem.target.stride_c, rows.filters,
            joined.count,
        )
        i += joined.rows


cdef inline void store_sums(const Plan *plan, const Rows *rows) noexcept nogil:
    """Write the sums to the outputs they belong to."""
    cdef const Target *target = &plan.problem.target
    cdef Py_ssize_t filter_bytes = plan.sums_pitch * plan.problem.bytes, i = rows.first, f
    cdef Py_ssize_t c = rows.g * plan.problem.filters + rows.f
    cdef JoinedRows joined
    while i < rows.last:
        joined = joined_rows_at(plan, rows, i)
        if plan.folds_padding:
            joined.rows = 1
            for f in range(rows.filters):
                fold_padded_row(
                    plan, joined.n, c + f, joined.y, rows,
                    rows.sums + joined.sums + f * filter_bytes,
                )
        else:
            store_rows(
                target, joined.place, target.stride_c, plan.band.w.output_stride * target.stride_w,
                rows.sums + joined.sums, filter_bytes, rows.filters, joined.count,
            )
        i += joined.rows
