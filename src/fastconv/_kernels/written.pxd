"""The outputs of an item, written as soon as register tiles have summed them.

So they need not wait in scratch for whole rows, from where they would be read again. Where lanes
are filters, the sums of RUN_PIXELS pixels, which are in L1, are transposed in registers. Short sums
are computed with pixels as lanes (strip.c).
"""

from libc.stdint cimport uintptr_t
from libc.string cimport memset

from fastconv._kernels.band cimport Side
from fastconv._kernels.direct cimport multiply_run
from fastconv._kernels.epilogue cimport CLIP, IDENTITY
from fastconv._kernels.outputs cimport Rows, row_in_band
from fastconv._kernels.plan cimport COMPUTED, GATHERED, IN_BAND, RUN_PIXELS, Plan
from fastconv._kernels.rows cimport AS_IS
from fastconv._kernels.stream cimport LINE_BYTES
from fastconv._kernels.strip cimport Strip
from fastconv._kernels.target cimport Target, place_of
from fastconv._kernels.tile cimport TILE_PIXELS, TileOutputs
from fastconv._kernels.window cimport ceil_div, smaller


cdef enum:
    # Planes of outputs that lie a multiple of this number of bytes apart share few sets of L1, in
    # which the rows of a block of filters have no room together.
    ALIASED_BYTES = 2048
    # The largest number of terms of sums that are computed with pixels as lanes.
    STRIP_STEPS = 80


cdef inline bint is_written_directly(const Plan *plan) noexcept nogil:
    """Return whether register tiles can write the outputs of a plan.

    They write numbers side by side, and know no activation but bounds.
    """
    cdef const Target *target = &plan.problem.target
    return (
        not (plan.planar or plan.folds_padding) and plan.reading != GATHERED
        and plan.band.h.output_stride == plan.band.w.output_stride == 1
        and target.format.conversion == AS_IS and target.stride_w == target.format.bytes
        and target.stride_c % target.format.bytes == 0
        and (
            target.finish == NULL or target.activation.kind == IDENTITY
            or target.activation.kind == CLIP
        )
    )


cdef inline bint writes_from_tiles(const Plan *plan) noexcept nogil:
    """Return whether sums are written after they were transposed.

    Narrow rows share a register tile, and outputs beyond the caches are written in whole lines.
    """
    cdef const Target *target = &plan.problem.target
    return (
        is_written_directly(plan) and not target.past_caches
        and target.stride_c % ALIASED_BYTES != 0 and 2 * plan.band.w.size > TILE_PIXELS
    )


cdef inline bint is_aligned(const Plan *plan) noexcept nogil:
    """Return whether all rows of outputs are whole lines."""
    cdef const Target *target = &plan.problem.target
    return (
        (
            <Py_ssize_t>(<uintptr_t>target.data) | target.stride_n | target.stride_c
            | target.stride_h | plan.band.w.size * target.stride_w
        ) % LINE_BYTES == 0
    )


cdef inline bint writes_strips(const Plan *plan) noexcept nogil:
    """Return whether strips of pixels can be written from registers.

    Outputs beyond the caches are written in whole lines.
    """
    return is_written_directly(plan) and (
        not plan.problem.target.past_caches or is_aligned(plan)
    )


cdef inline bint has_strips(const Plan *plan) noexcept nogil:
    """Return whether sums are so short, and rows so long, that lanes are better pixels."""
    cdef Py_ssize_t lanes = plan.problem.tiles.lanes, columns = plan.band.w.size
    return (
        not (plan.planar or plan.folds_padding)
        and (plan.reading == IN_BAND or (plan.reading == COMPUTED and writes_strips(plan)))
        and plan.band.h.output_stride == plan.band.w.output_stride == 1
        and plan.parts[0].steps <= smaller(STRIP_STEPS, plan.parts[0].terms)
        and 8 * columns >= 7 * ceil_div(columns, lanes) * lanes
    )


cdef inline Strip strip_of(const Plan *plan, const Rows *rows) noexcept nogil:
    """Return what all rows of a block have in common."""
    cdef Strip strip
    memset(&strip, 0, sizeof(strip))
    strip.pixels, strip.steps, strip.lanes = rows.count, rows.part.steps, rows.lanes
    strip.start, strip.packed, strip.offsets = rows.start, rows.packed, rows.offsets
    strip.filters = rows.filters
    return strip


cdef inline void sum_strips(const Plan *plan, const Rows *rows) noexcept nogil:
    """Compute rows whose source is the band, with pixels as lanes, in scratch.

    The outputs of long signals are written past the caches, to rows that are no whole lines. A
    million samples under 16 filters of 64 taps take 0.78 of the time of register tiles of filters,
    and 160,000 samples under 512 filters of 10 taps and stride 5 take 0.57: these tiles would fill
    half of their vectors, or spend most of the time on transposing short sums.
    """
    cdef Strip strip = strip_of(plan, rows)
    cdef Py_ssize_t i
    strip.pitch = plan.sums_pitch
    for i in range(rows.first, rows.last):
        strip.source = row_in_band(plan, rows, i)
        strip.to = rows.sums + (i - rows.first) * rows.pitch * plan.problem.bytes
        plan.problem.multiply_strip(&strip)


cdef inline void multiply_strips(const Plan *plan, const Rows *rows) noexcept nogil:
    """Compute and write rows whose source is the band, with pixels as lanes."""
    cdef const Target *target = &plan.problem.target
    cdef Strip strip = strip_of(plan, rows)
    cdef Py_ssize_t i, place
    strip.pitch = target.stride_c // plan.problem.bytes
    strip.clips = target.finish != NULL and target.activation.kind == CLIP
    strip.low, strip.high = target.activation.a, target.activation.b
    strip.past_caches = target.past_caches
    for i in range(rows.first, rows.last):
        place = place_of_row(plan, rows, i)
        strip.source = row_in_band(plan, rows, i)
        strip.to = target.data + place
        if target.residual != NULL:
            strip.residual = target.residual + place
        plan.problem.multiply_strip(&strip)


cdef inline Py_ssize_t place_of_row(
    const Plan *plan, const Rows *rows, Py_ssize_t i
) noexcept nogil:
    """Return the place of row i of the first filter in the target."""
    cdef const Side *h = &plan.band.h
    cdef const Side *w = &plan.band.w
    return place_of(
        &plan.problem.target, rows.n + i // rows.per_image, rows.g * plan.problem.filters + rows.f,
        rows.h.position + rows.row_j + i % rows.per_image - h.target.before,
        rows.w.position + rows.column_j - w.target.before,
    )


cdef inline void multiply_and_write_rows(const Plan *plan, const Rows *rows) noexcept nogil:
    """Compute and write rows whose source is the band, or the image where it lies."""
    cdef const Target *target = &plan.problem.target
    cdef Py_ssize_t i, x, end, run, k, place, bytes = plan.problem.bytes
    cdef Py_ssize_t runs = ceil_div(rows.count, RUN_PIXELS)
    cdef Py_ssize_t vectors = rows.lanes // plan.problem.tiles.lanes
    cdef TileOutputs outputs
    outputs.pitch, outputs.filters = target.stride_c // bytes, rows.filters
    outputs.clips = target.finish != NULL and target.activation.kind == CLIP
    outputs.low, outputs.high = target.activation.a, target.activation.b
    outputs.residual = NULL
    for i in range(rows.first, rows.last):
        place = place_of_row(plan, rows, i)
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
            outputs.to = target.data + place + x * bytes
            # The next run overwrites what is written behind this one.
            outputs.spare = smaller(plan.problem.tiles.lanes, rows.count - end)
            if target.residual != NULL:
                outputs.residual = target.residual + place + x * bytes
                if target.residual == target.data:
                    outputs.spare = 0
            plan.problem.tiles.write(&outputs, rows.tile, end - x, vectors)
            x = end
