"""The outputs of an item where lanes of vectors are pixels, for few filters per group.

A step multiplies one weight with vectors of neighbouring source pixels. Neighbouring rows of
outputs share the rows of source pixels that they read. Depthwise convolution computes all outputs
of a channel in one call of the register tile per phase, because in small planes calls for a few
rows took most of the time.
"""

from libc.stdint cimport int32_t
from libc.string cimport memset

from fastconv._kernels.band cimport Region, Side, load_band, load_inside, stored_row
from fastconv._kernels.outputs cimport Rows, row_in_band
from fastconv._kernels.plan cimport Part, Plan, packed_of
from fastconv._kernels.rows cimport interleave_rows
from fastconv._kernels.stream cimport stream_fence
from fastconv._kernels.epilogue cimport CLIP, IDENTITY
from fastconv._kernels.target cimport Target, finish_run, place_of, write_run
from fastconv._kernels.tile cimport PLANAR_ROWS, PLANAR_VECTORS, PlaneOutputs
from fastconv._kernels.window cimport ceil_div, larger, smaller

cdef enum:
    PLANAR_TERMS = 128  # The number of terms that are summed in one register.
    PLANAR_CHANNELS = 16  # The sums of this many channels are added up before they join the others.


cdef struct Stripe:
    # Outputs of one filter that are computed together: `rows` rows from row i on, and of each row
    # `vectors` vectors from first_vector on.
    Py_ssize_t i, rows, first_vector, vectors
    const char *filter
    char *sums


cdef inline void correlate_channel(
    const Plan *plan, const Rows *rows, const Stripe *stripe, Py_ssize_t c, char *to,
    Py_ssize_t to_pitch,
) noexcept nogil:
    """Add the products of one channel to the outputs of a stripe."""
    cdef Py_ssize_t bytes = plan.problem.bytes, pitch = plan.band.pitch, kh = 0, kw = 0, done
    cdef bint share = plan.band.h.source.stride == 1 and rows.h.source_stride == 1
    cdef Py_ssize_t most_rows = larger(1, PLANAR_TERMS // rows.w.taps) if share else 1
    cdef Py_ssize_t y = rows.h.source - plan.band.h.base
    cdef const char *filter = stripe.filter + c * rows.h.taps * rows.w.taps * bytes
    cdef const char *source = row_in_band(plan, rows, stripe.i) + bytes * (
        c * plan.band.channel_rows * pitch + stripe.first_vector * plan.problem.tiles.lanes
    )
    while kh < rows.h.taps:
        # A row of the filter that has more than PLANAR_TERMS taps is cut.
        done = plan.problem.tiles.correlate(
            to, to_pitch, stripe.rows, stripe.vectors,
            source + bytes * pitch * stored_row(&plan.band.h, y + kh * rows.h.source_stride),
            pitch if share else plan.band.h.kept_phases * pitch,
            filter + (kh * rows.w.taps + kw) * bytes, smaller(rows.h.taps - kh, most_rows),
            smaller(rows.w.taps - kw, PLANAR_TERMS), rows.offsets + kw,
        )
        kw += PLANAR_TERMS
        if kw >= rows.w.taps:
            kh += done
            kw = 0


cdef inline void correlate_stripe(
    const Plan *plan, const Rows *rows, const Stripe *stripe
) noexcept nogil:
    """Add the products of all channels to a stripe, PLANAR_CHANNELS channels at a time."""
    cdef Py_ssize_t channels = plan.band.channels, bytes = plan.problem.bytes, c, r
    cdef Py_ssize_t pitch = stripe.vectors * plan.problem.tiles.lanes
    if channels <= PLANAR_CHANNELS:
        for c in range(channels):
            correlate_channel(plan, rows, stripe, c, stripe.sums, rows.pitch)
        return
    memset(rows.tile, 0, stripe.rows * pitch * bytes)
    for c in range(channels):
        correlate_channel(plan, rows, stripe, c, rows.tile, pitch)
        if (c + 1) % PLANAR_CHANNELS == 0 or c + 1 == channels:
            for r in range(stripe.rows):
                plan.problem.sums.add_row(
                    stripe.sums + r * rows.pitch * bytes, rows.tile + r * pitch * bytes, pitch
                )
            memset(rows.tile, 0, stripe.rows * pitch * bytes)


cdef inline void correlate_rows(const Plan *plan, const Rows *rows) noexcept nogil:
    """Add all steps of the rows to their sums."""
    cdef Py_ssize_t bytes = plan.problem.bytes, lanes = plan.problem.tiles.lanes, f
    cdef Py_ssize_t vectors = ceil_div(rows.count, lanes), left
    cdef Stripe stripe
    stripe.i = rows.first
    while stripe.i < rows.last:
        stripe.rows = PLANAR_ROWS if rows.last - stripe.i >= PLANAR_ROWS else 1
        stripe.first_vector = 0
        while stripe.first_vector < vectors:
            left = vectors - stripe.first_vector
            stripe.vectors = PLANAR_VECTORS if left >= PLANAR_VECTORS else 2 if left >= 2 else 1
            for f in range(rows.filters):
                stripe.filter = rows.packed + f * rows.part.steps * bytes
                stripe.sums = rows.sums + bytes * (
                    f * plan.sums_pitch + (stripe.i - rows.first) * rows.pitch
                    + stripe.first_vector * lanes
                )
                correlate_stripe(plan, rows, &stripe)
            stripe.first_vector += stripe.vectors
        stripe.i += stripe.rows


cdef inline void correlate_rows_as_plane(const Plan *plan, const Rows *rows) noexcept nogil:
    """Compute rows of a plane that is cut for the sake of threads, each sum as in a whole plane."""
    cdef Py_ssize_t bytes = plan.problem.bytes, f
    cdef PlaneOutputs plane
    plane.out_h, plane.out_w = rows.last - rows.first, rows.count
    plane.image = row_in_band(plan, rows, rows.first) + bytes * plan.band.pitch * (
        stored_row(&plan.band.h, rows.h.source - plan.band.h.base)
    )
    plane.pitch, plane.stride = plan.band.pitch, plan.band.h.source.stride
    plane.kernel_h, plane.kernel_w = rows.h.taps, rows.w.taps
    plane.columns = rows.offsets
    plane.residual, plane.clips = NULL, False
    for f in range(rows.filters):
        plane.to = rows.sums + f * plan.sums_pitch * bytes
        plane.filter = rows.packed + f * rows.part.steps * bytes
        plane.start = rows.start + f * bytes
        plan.problem.tiles.correlate_plane(&plane)


cdef inline void correlate_phase(
    const Plan *plan, const Part *part, const char *tables, Py_ssize_t f, const char *band,
    PlaneOutputs *plane,
) noexcept nogil:
    """Compute all outputs of a pair of phases of one filter, side by side."""
    cdef const Side *h = &plan.band.h
    cdef Py_ssize_t bytes = plan.problem.bytes
    plane.out_h, plane.out_w = part.h.last - part.h.first, part.w.last - part.w.first
    plane.image = band + bytes * (
        plan.band.pitch * (
            (part.h.first - h.first) * h.kept_phases + stored_row(h, part.h.source - h.base)
        )
        + part.w.first - plan.band.w.first
    )
    plane.pitch, plane.stride = plan.band.pitch, h.source.stride
    plane.filter = packed_of(plan, part, tables) + f * part.steps * bytes
    plane.kernel_h, plane.kernel_w = part.h.taps, part.w.taps
    plane.columns = <const int32_t *>(tables + part.offsets)
    plane.start = tables + plan.bias + f * bytes
    plan.problem.tiles.correlate_plane(plane)


cdef inline void correlate_phases(
    const Plan *plan, const char *tables, Py_ssize_t f, const char *band, char *sums,
    PlaneOutputs *plane,
) noexcept nogil:
    """Compute a plane of outputs of one filter; the columns of two phases are interleaved."""
    cdef char *out = <char *>plane.to
    cdef const Side *h = &plan.band.h
    cdef const Side *w = &plan.band.w
    cdef const Part *part
    cdef char *phases[2]  # The sums of the phase of column 0, and of that of column 1.
    cdef Py_ssize_t bytes = plan.problem.bytes, columns = w.target.size, i, j, y
    cdef Py_ssize_t row_bytes = columns * bytes
    cdef char *to
    for i in range(h.n_phases):
        for j in range(w.n_phases):
            part = plan.parts + h.phases[i].index * w.n_active + w.phases[j].index
            if w.output_stride == 2:
                y = w.phases[j].position + w.phases[j].first * 2 - w.target.before
                phases[y] = sums + y * plan.sums_pitch * bytes
                plane.to = phases[y]
            correlate_phase(plan, part, tables, f, band, plane)
        if w.output_stride == 2:
            to = out + row_bytes * (
                h.phases[i].position + h.phases[i].first * 2 - h.target.before
            )
            for y in range(h.phases[i].last - h.phases[i].first):
                interleave_rows(
                    to + 2 * y * row_bytes, phases[0] + y * ((columns + 1) // 2) * bytes,
                    phases[1] + y * (columns // 2) * bytes, columns, bytes,
                )


cdef inline void load_plane(
    const Plan *plan, Py_ssize_t n, Py_ssize_t g, char *band, Py_ssize_t *held
) noexcept nogil:
    """Copy a plane with its padding.

    `held` tells whether an earlier item has left the padding in scratch.
    """
    if not plan.framed:
        load_band(
            &plan.band,
            Region(
                n, g, 1, plan.band.h.first, plan.band.h.size, plan.band.w.first, plan.band.w.size
            ),
            band,
        )
        return
    if not held[0]:
        memset(band, 0, plan.source_bytes)
        held[0] = True
    load_inside(&plan.band, n, g, band)


cdef inline bint finishes_in_tile(const Target *target) noexcept nogil:
    """Return whether the register tile adds the residual and applies the activation.

    It knows bounds only. It may read a residual twice, so it must not have overwritten it. A
    residual from beyond the caches is better read in order.
    """
    return (
        target.finish != NULL
        and (target.activation.kind == IDENTITY or target.activation.kind == CLIP)
        and target.residual != target.data
        and (target.residual == NULL or not target.past_caches)
    )


cdef inline void convolve_plane(
    const Plan *plan, const char *tables, Py_ssize_t n, Py_ssize_t g, char *scratch
) noexcept nogil:
    """Compute all outputs of an input channel that has filters of its own."""
    cdef const Target *target = &plan.problem.target
    cdef Py_ssize_t pixels = plan.band.h.target.size * plan.band.w.target.size, place, f
    cdef bint in_tile = finishes_in_tile(target)
    cdef bint staged = target.past_caches or (target.finish != NULL and not in_tile)
    cdef char *band = scratch + plan.at.band
    cdef PlaneOutputs plane
    load_plane(plan, n, g, band, <Py_ssize_t *>scratch)
    plane.residual = NULL
    plane.clips = in_tile and target.activation.kind == CLIP
    plane.low, plane.high = target.activation.a, target.activation.b
    for f in range(g * plan.problem.filters, (g + 1) * plan.problem.filters):
        place = place_of(target, n, f, 0, 0)
        plane.to = target.data + place
        if staged:
            plane.to = scratch + plan.at.staged
        if in_tile and target.residual != NULL:
            plane.residual = target.residual + place
        correlate_phases(plan, tables, f, band, scratch + plan.at.sums, &plane)
        if staged:
            if target.finish != NULL and not in_tile:
                finish_run(target, place, target.stride_w, scratch + plan.at.staged, pixels)
            write_run(target, place, target.stride_w, scratch + plan.at.staged, pixels)
    if target.past_caches:
        stream_fence()
