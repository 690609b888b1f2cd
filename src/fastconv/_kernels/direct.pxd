"""The outputs of an item where lanes of vectors are filters.

A step's packed weights are two vectors of filters. The register tile multiplies them with one
source pixel per output. Its sums lie as [pixel][filter], and are transposed to [filter][pixel].
"""

from fastconv._kernels.band cimport Band, Phase
from fastconv._kernels.outputs cimport Rows, row_in_band
from fastconv._kernels.plan cimport (
    AHEAD_PIXELS, COMPUTED, GATHERED, IN_PLACE, RUN_PIXELS, Plan,
)
from fastconv._kernels.planes cimport padded_row
from fastconv._kernels.rows cimport load_padded_row
from fastconv._kernels.stream cimport LINE_BYTES
from fastconv._kernels.tile cimport TILE_PIXELS, TILE_ROWS
from fastconv._kernels.vectors cimport VECTOR_BYTES
from fastconv._kernels.window cimport ceil_div, smaller


cdef inline const char *filters_ahead(
    const Rows *rows, const char *packed, Py_ssize_t steps, Py_ssize_t bytes, Py_ssize_t i
) noexcept nogil:
    """Return what to prefetch while the i-th pixels are multiplied with some steps of a block.

    These are the filters of the steps that follow, because hardware prefetchers stop at the end of
    each page. A step has up to two lines of filters and prefetches one, so pixels take turns.
    """
    return packed + steps * rows.lanes * bytes + i % 2 * LINE_BYTES


cdef inline void multiply_run(
    const Plan *plan, const Rows *rows, const char *source, Py_ssize_t pixels, Py_ssize_t first,
    Py_ssize_t last,
) noexcept nogil:
    """Add the steps first to last of neighbouring outputs, at most RUN_PIXELS, to rows.tile."""
    cdef const void *sources[1]
    cdef const char *start = NULL
    cdef const char *packed = rows.packed + first * rows.lanes * plan.problem.bytes
    cdef const char *soon
    cdef Py_ssize_t bytes = plan.problem.bytes, soon_stride
    cdef Py_ssize_t vectors = rows.lanes // plan.problem.tiles.lanes, x = 0, end, piece
    cdef Py_ssize_t pieces = ceil_div(pixels, TILE_PIXELS)
    if first == 0:
        start = rows.start
    for piece in range(pieces):
        end = (piece + 1) * pixels // pieces
        sources[0] = source + x * bytes
        soon, soon_stride = <const char *>sources[0], 0
        if plan.far_filters and (plan.reading == IN_PLACE or plan.reading == COMPUTED):
            soon = filters_ahead(rows, packed, last - first, bytes, piece)
            soon_stride = rows.lanes * bytes
        elif plan.reading == IN_PLACE:
            soon += (rows.offsets[first] + AHEAD_PIXELS) * bytes
            soon_stride = plan.band.source.stride_c
        elif plan.reading == COMPUTED:
            soon += (rows.offsets[first] + AHEAD_PIXELS) * bytes
            soon_stride = plan.band.pitch * bytes
        plan.problem.tiles.multiply(
            rows.tile + x * vectors * VECTOR_BYTES, start, packed, sources,
            rows.offsets + (0 if plan.reading == GATHERED else first),
            last - first, rows.part.terms, 1, end - x, vectors, soon, soon_stride,
        )
        x = end


cdef inline void multiply_side_by_side(
    const Plan *plan, const Rows *rows, Py_ssize_t first, Py_ssize_t last, Py_ssize_t n
) noexcept nogil:
    """Compute the rows first to last, at most RUN_PIXELS outputs, n in a register tile.

    All rows take the steps of one sum in a register before those of the next sum: their filters
    stay in L1, and while they are used, those of the next sum come from memory.
    """
    cdef const void *sources[TILE_ROWS]
    cdef Py_ssize_t vectors = rows.lanes // plan.problem.tiles.lanes, bytes = plan.problem.bytes
    cdef Py_ssize_t sums = ceil_div(rows.part.steps, rows.part.terms), k = 0, i, r, steps, some
    cdef const char *start = rows.start
    cdef const char *packed = rows.packed
    cdef const char *soon
    while sums:
        steps = (rows.part.steps - k) // sums
        i = first
        while i < last:
            some = smaller(n, last - i)
            for r in range(some):
                sources[r] = row_in_band(plan, rows, i + r)
            soon = <const char *>sources[0]
            if plan.far_filters:
                soon = filters_ahead(rows, packed, steps, bytes, (i - first) // n)
            plan.problem.tiles.multiply(
                rows.tile + (i - first) * rows.count * vectors * VECTOR_BYTES, start, packed,
                sources, rows.offsets + k, steps, steps, some, rows.count, vectors, soon,
                rows.lanes * bytes if plan.far_filters else 0,
            )
            i += some
        start = NULL
        k += steps
        packed += steps * rows.lanes * bytes
        sums -= 1


cdef inline Py_ssize_t multiply_narrow(const Plan *plan, const Rows *rows) noexcept nogil:
    """Compute rows that fill a register tile alone or together; return the first that is left."""
    cdef Py_ssize_t n = smaller(TILE_ROWS, TILE_PIXELS // rows.count), i = rows.first, last
    if n == 1 and plan.reading == IN_PLACE:
        return i  # Such a row is cut to chunks of channels, as every longer one.
    while n > 0 and i < rows.last:
        last = smaller(i + RUN_PIXELS // (n * rows.count) * n, rows.last)
        multiply_side_by_side(plan, rows, i, last, n)
        # Rows are unpacked in ascending order, so numbers overwritten after one are written again.
        plan.problem.tiles.unpack(
            rows.sums + (i - rows.first) * rows.count * plan.problem.bytes, plan.sums_pitch,
            rows.tile, (last - i) * rows.count, rows.lanes // plan.problem.tiles.lanes,
        )
        i = last
    return i


cdef inline void multiply_rows(const Plan *plan, const Rows *rows) noexcept nogil:
    """Compute rows whose source is the band, or the image where it lies."""
    cdef Py_ssize_t i = multiply_narrow(plan, rows), x, end, run, k
    cdef Py_ssize_t runs = ceil_div(rows.count, RUN_PIXELS), bytes = plan.problem.bytes
    while i < rows.last:
        x = 0
        for run in range(runs):
            end = (run + 1) * rows.count // runs
            k = 0
            while k < rows.part.steps:
                multiply_run(
                    plan, rows, row_in_band(plan, rows, i) + x * bytes, end - x, k,
                    smaller(k + plan.chunk, rows.part.steps),
                )
                k += plan.chunk
            plan.problem.tiles.unpack(
                rows.sums + ((i - rows.first) * rows.count + x) * bytes, plan.sums_pitch,
                rows.tile, end - x, rows.lanes // plan.problem.tiles.lanes,
            )
            x = end
        i += 1


cdef inline void gather_row(const Plan *plan, const Rows *rows) noexcept nogil:
    """Compute one row, for which each step's pixels are copied side by side."""
    cdef const Band *band = &plan.band
    cdef const Phase *h = rows.h
    cdef const Phase *w = rows.w
    cdef Py_ssize_t first = 0, last, k, kw, kh, c, bytes = plan.problem.bytes
    cdef Py_ssize_t top = rows.row * band.h.source.stride + h.source
    cdef Py_ssize_t left = rows.column * band.w.source.stride + w.source
    cdef char *gathered = <char *>rows.band
    while first < rows.part.steps:
        last = smaller(first + plan.chunk, rows.part.steps)
        for k in range(first, last):
            c, kh, kw = k // (h.taps * w.taps), k // w.taps % h.taps, k % w.taps
            load_padded_row(
                gathered + (k - first) * plan.run_pixels * bytes,
                padded_row(
                    &band.source,
                    band.source.data + rows.n * band.source.stride_n
                    + (rows.g * band.channels + c) * band.source.stride_c,
                    &band.h.source, top + kh * h.source_stride,
                ),
                left + kw * w.source_stride, band.w.source.stride, rows.count,
                band.source.stride_w, &band.w.source, band.source.format, NULL,
            )
        multiply_run(plan, rows, gathered, rows.count, first, last)
        first = last
    plan.problem.tiles.unpack(
        rows.sums, plan.sums_pitch, rows.tile, rows.count, rows.lanes // plan.problem.tiles.lanes
    )
