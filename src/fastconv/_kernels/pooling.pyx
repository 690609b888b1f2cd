"""Max and average pooling, their gradients, and max-unpooling.

    max:  out[oh, ow] = max over (kh, kw) of image[oh*SH + kh*DH - top, ow*SW + kw*DW - left]
    avg:  out[oh, ow] = sum over (kh, kw) of the same, / number of positions

a. An item is a band of output rows of one plane; in very wide images it also has only some columns.
   Lanes of vectors are outputs and run on from row to row, so that narrow planes fill vectors as
   well: each output has a slot, and a tap (kh, kw) of all slots is one contiguous run of memory.
   There are three ways to read taps. In place: with strides of 1, or of 2 when the pixels are
   de-interleaved, slot oh*W + ow finds its tap at a constant distance. Every second row of slots is
   idle at stride 2, which costs less than touching rows one by one. In phases: the padded band is
   copied to scratch, position (y, x) to row y // SH, column x // SW of phase (y % SH, x % SW); this
   serves every padding, stride and layout. Tap by tap: of windows that are too large for scratch,
   one tap of a run of outputs is copied at a time.
b. The best value and the offset of its tap from the window's first one lie in two rows in L1;
   each tap updates them in one vectorised pass (maximum.h). The offset fits 32 bits, which cost
   half as much as 64, unless the window spans 2^31 pixels.
c. Padding is the dtype's lowest value and never beats the first real pixel, which the index starts
   from; that also serves windows of nothing but the lowest value.
d. The gradient of max pooling is made by plane: zeros, then one addition per output, in row-major
   order. The indices of a plane are checked just before, while they enter the cache.
e. The gradient of average pooling is made row by row, as `scatter_rows` in columns.pyx.
f. Each item owns the memory that it writes: no two threads meet.
"""

from libc.stdint cimport INT32_MAX, int64_t
from libc.string cimport memcpy, memset

cimport numpy as cnp

from fastconv._kernels.level cimport LEVEL
from fastconv._kernels.maximum cimport MaxTaps, Maximum, maximum_of
from fastconv._kernels.microkernels cimport import_microkernels, sums_of
from fastconv._kernels.parallel cimport for_each, rows_per_item, useful_threads
from fastconv._kernels.planes cimport (
    Planes, array_kind, averaged_format, computed_format, moved_format, plane_at, plane_count,
    planes_of,
)
from fastconv._kernels.rows cimport (
    AS_IS, FROM_HALF, Format, deinterleave_row, fill_row, is_plain, load_padded_phases,
    load_padded_row, load_row,
)
from fastconv._kernels.scratch cimport Layout, take
from fastconv._kernels.stream cimport STREAM_FROM_BYTES, stream_copy, stream_fence
from fastconv._kernels.sums cimport Sums
from fastconv._kernels.target cimport Target, place_of, store_run, target_of
from fastconv._kernels.window cimport (
    Axis, Window, ceil_div, larger, padded_size, reach, smaller, window_of, window_span,
)

cnp.import_array()
import_microkernels()

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
    void widen_row(
        int64_t *to, const void *source, int is_unsigned, Py_ssize_t bytes, Py_ssize_t count
    ) noexcept nogil
    bint all_within(const int64_t *index, Py_ssize_t size, Py_ssize_t count) noexcept nogil
    void store_rows(
        char *to, const char *source, Py_ssize_t rows, Py_ssize_t bytes, Py_ssize_t pitch
    ) noexcept nogil
    void put_at(
        void *to, const int64_t *at, Py_ssize_t size, const void *source, Py_ssize_t bytes,
        Py_ssize_t count,
    ) noexcept nogil

cdef extern from *:
    """
    static void set_flag(int *flag) { __atomic_store_n(flag, 1, __ATOMIC_RELAXED); }
    """
    void set_flag(int *flag) noexcept nogil

cdef enum:
    # Items are cut until their scratch has at most this many bytes, about L1.
    BAND_BYTES = 48 << 10
    # The largest number of bytes of the scratch of an item that cannot be cut further.
    SCRATCH_BYTES = 768 << 10
    # The largest number of taps that one call of the inner loop takes.
    TAPS = 64
    # The largest number of values that are converted together, and of outputs that are read tap by
    # tap.
    CHUNK = 2048


cdef inline Py_ssize_t positions(
    const Axis *axis, Py_ssize_t out, bint with_padding
) noexcept nogil:
    """The number of positions that an average is taken over: not those beyond the padding."""
    cdef Py_ssize_t first = out * axis.stride
    if with_padding:
        return smaller(axis.kernel, padded_size(axis) - first)
    return smaller(first + axis.kernel, axis.before + axis.size) - larger(first, axis.before)


# ---- planning a pooling ------------------------------------------------------------------------

cdef enum Reading:
    IN_PLACE  # Taps lie in the plane, or in two rows to which its pixels are de-interleaved.
    IN_PHASES  # The padded band is copied to scratch, each of its phases apart.
    TAP_BY_TAP  # One tap of the outputs is copied to scratch at a time.


cdef struct Pooling:
    # What is computed: maxima and, unless `indices` is NULL, where they lie; or averages.
    Window window
    Planes image
    Py_ssize_t planes  # The number of planes of all images.
    Target target
    int64_t *indices
    const Maximum *maximum  # NULL for averages.
    MaxTaps update
    bint wide  # Offsets of taps have 64 bits instead of 32.
    const Sums *sums
    bint count_include_pad
    const void *outside  # The value of padding: the lowest one, or NULL for zero.


cdef struct PoolScratch:
    # Offsets in an item's scratch.
    size_t best  # A maximum or a sum per slot.
    size_t offsets  # The offset of each maximum's tap.
    size_t columns  # A number per column: the offset that a maximum starts from, or positions.
    size_t band  # What taps are read from; then results on their way past the caches.


cdef struct PoolPlan:
    Pooling pooling
    Reading reading
    Py_ssize_t band_h, bands_h  # The numbers of rows of an item, and of items along a column.
    Py_ssize_t band_w, bands_w  # The numbers of columns of an item, and of items along a row.
    Py_ssize_t pitch  # Slots from one row of outputs to the next.
    Py_ssize_t phases_h, phases_w, phase_length  # The numbers and the length of a band's phases.
    Py_ssize_t offset_bytes
    Layout scratch
    PoolScratch at
    double moved
    int threads


cdef inline Py_ssize_t capped(double size) noexcept nogil:
    """Return a size, or one that is far beyond every budget if it is larger than that."""
    return <Py_ssize_t>min(size, <double>(<Py_ssize_t>1 << 40))


cdef inline double band_bytes(const PoolPlan *plan) noexcept:
    return (
        <double>plan.phases_h * plan.phases_w * plan.phase_length
        * plan.pooling.image.format.scratch_bytes
    )


cdef inline Py_ssize_t slots_bytes(const PoolPlan *plan) noexcept:
    """Return the bytes of an item's best values, or of their offsets: 8 bytes suit every dtype."""
    return capped(<double>plan.band_h * larger(plan.pitch, plan.band_w)) * 8


cdef inline double used_bytes(const PoolPlan *plan) noexcept:
    """Return the number of bytes that an item goes over again and again."""
    return band_bytes(plan) + 2 * <double>slots_bytes(plan)


cdef inline bint reads_in_place(const Pooling *pooling) noexcept:
    """Return whether all windows, of stride 1 or 2, lie in a contiguous plane without padding."""
    cdef const Axis *h = &pooling.window.h
    cdef const Axis *w = &pooling.window.w
    cdef const Planes *image = &pooling.image
    return (
        h.stride == w.stride <= 2 and h.before + w.before == 0
        and reach(h, h.out) <= h.size and reach(w, w.out) <= w.size
        and is_plain(image.format, image.stride_w, image.data)
        and image.stride_h == w.size * image.stride_w
        and image.stride_n % image.format.bytes == 0 and image.stride_c % image.format.bytes == 0
    )


cdef inline void set_band(PoolPlan *plan, Py_ssize_t band_h, Py_ssize_t band_w) noexcept:
    """Set the numbers of rows and columns of outputs of an item."""
    cdef const Axis *h = &plan.pooling.window.h
    cdef const Axis *w = &plan.pooling.window.w
    plan.band_h, plan.band_w = band_h, band_w
    if plan.reading == IN_PLACE:
        plan.pitch = w.size
        plan.phases_h, plan.phases_w = 1, w.stride if w.stride > 1 else 0
        plan.phase_length = band_h * w.size + (window_span(h) * w.size) // 2
    elif plan.reading == IN_PHASES:
        plan.phases_h = smaller(h.stride, window_span(h))
        plan.phases_w = smaller(w.stride, window_span(w))
        plan.pitch = band_w + (window_span(w) - 1) // w.stride
        plan.phase_length = capped(
            <double>(band_h + (window_span(h) - 1) // h.stride) * plan.pitch
        )
    else:
        plan.phases_h = plan.phases_w = 1
        plan.pitch = plan.phase_length = band_w


cdef void cut_outputs(PoolPlan *plan) noexcept:
    """Decide how taps are read, and how many rows and columns of outputs an item has."""
    cdef const Axis *h = &plan.pooling.window.h
    cdef const Axis *w = &plan.pooling.window.w
    plan.reading = IN_PLACE if reads_in_place(&plan.pooling) else IN_PHASES
    set_band(plan, rows_per_item(h.out, plan.pooling.planes, plan.threads), w.out)
    while used_bytes(plan) > BAND_BYTES and plan.band_h > 1:
        set_band(plan, (plan.band_h + 1) // 2, plan.band_w)
    if plan.reading == IN_PLACE and used_bytes(plan) > SCRATCH_BYTES:
        plan.reading = IN_PHASES  # Rows of phases can be cut, too.
        set_band(plan, plan.band_h, plan.band_w)
    while used_bytes(plan) > SCRATCH_BYTES and plan.band_w > 1:
        set_band(plan, plan.band_h, (plan.band_w + 1) // 2)
    if used_bytes(plan) > SCRATCH_BYTES:
        plan.reading = TAP_BY_TAP
        # Outputs far from each other have few taps in common that are not padding.
        set_band(plan, 1, smaller(w.out, CHUNK) if w.stride < CHUNK else 1)
    plan.bands_h, plan.bands_w = ceil_div(h.out, plan.band_h), ceil_div(w.out, plan.band_w)


cdef void lay_out_pool(PoolPlan *plan) noexcept:
    plan.scratch.bytes = 0
    plan.at.best = take(&plan.scratch, slots_bytes(plan))
    plan.at.offsets = take(&plan.scratch, slots_bytes(plan))
    plan.at.columns = take(&plan.scratch, <double>plan.band_w * sizeof(Py_ssize_t))
    plan.at.band = take(&plan.scratch, max(band_bytes(plan), <double>slots_bytes(plan)))


cdef void make_pool_plan(PoolPlan *plan, const Pooling *pooling, int threads) noexcept:
    cdef const Axis *h = &pooling.window.h
    cdef const Axis *w = &pooling.window.w
    cdef Py_ssize_t bytes = pooling.image.format.bytes
    plan.pooling = pooling[0]
    plan.moved = <double>pooling.planes * (
        <double>h.size * w.size * bytes
        + <double>h.out * w.out * (bytes + (8 if pooling.indices != NULL else 0))
    )
    plan.threads = useful_threads(plan.moved, threads)
    plan.offset_bytes = 8 if pooling.wide else 4
    cut_outputs(plan)
    plan.pooling.target.past_caches = (
        plan.moved >= STREAM_FROM_BYTES and plan.bands_w == 1
        and pooling.target.format.conversion == AS_IS
    )
    lay_out_pool(plan)


# ---- pooling: reading taps ---------------------------------------------------------------------

cdef struct Outputs:
    # The outputs of an item, and those of their taps that are collected to be taken together.
    Py_ssize_t plane  # Counted through all images.
    Py_ssize_t top, left, rows, columns
    Py_ssize_t slots
    Py_ssize_t y, x  # The padded position of the first window's first tap.
    Py_ssize_t first_kh, last_kh, first_kw, last_kw  # Taps that are not padding for every output.
    const char *pixels  # The plane's first pixel.
    char *best
    char *offsets
    Py_ssize_t *per_column
    char *band
    bint starts_with_tap  # The first tap of all outputs is no padding: `best` becomes a copy of it.
    Py_ssize_t n_taps
    const char *taps[TAPS]
    Py_ssize_t tap_offsets[TAPS]


cdef inline void find_outputs(
    const PoolPlan *plan, Py_ssize_t item, char *scratch, Outputs *outputs
) noexcept nogil:
    cdef const Axis *h = &plan.pooling.window.h
    cdef const Axis *w = &plan.pooling.window.w
    outputs.plane = item // (plan.bands_h * plan.bands_w)
    outputs.top = item // plan.bands_w % plan.bands_h * plan.band_h
    outputs.left = item % plan.bands_w * plan.band_w
    outputs.rows = smaller(plan.band_h, h.out - outputs.top)
    outputs.columns = smaller(plan.band_w, w.out - outputs.left)
    outputs.slots = (outputs.rows - 1) * plan.pitch + outputs.columns
    outputs.y, outputs.x = outputs.top * h.stride, outputs.left * w.stride
    outputs.first_kh = ceil_div(
        h.before - outputs.y - (outputs.rows - 1) * h.stride, h.dilation
    )
    outputs.last_kh = smaller(h.kernel, ceil_div(h.before + h.size - outputs.y, h.dilation))
    outputs.first_kw = ceil_div(
        w.before - outputs.x - (outputs.columns - 1) * w.stride, w.dilation
    )
    outputs.last_kw = smaller(w.kernel, ceil_div(w.before + w.size - outputs.x, w.dilation))
    outputs.pixels = plane_at(&plan.pooling.image, outputs.plane)
    outputs.best = scratch + plan.at.best
    outputs.offsets = scratch + plan.at.offsets
    outputs.per_column = <Py_ssize_t *>(scratch + plan.at.columns)
    outputs.band = scratch + plan.at.band
    outputs.starts_with_tap = False
    outputs.n_taps = 0


cdef inline void start_averages(const PoolPlan *plan, Outputs *outputs) noexcept nogil:
    """Clear the sums, and count the positions of each column of outputs."""
    cdef const Axis *w = &plan.pooling.window.w
    cdef Py_ssize_t i
    memset(outputs.best, 0, outputs.slots * plan.pooling.image.format.scratch_bytes)
    for i in range(outputs.columns):
        outputs.per_column[i] = positions(w, outputs.left + i, plan.pooling.count_include_pad)


cdef inline void start_maxima(const PoolPlan *plan, Outputs *outputs) noexcept nogil:
    """Let each maximum start from the first tap of its window that is no padding."""
    cdef const Axis *h = &plan.pooling.window.h
    cdef const Axis *w = &plan.pooling.window.w
    cdef Py_ssize_t i, r, y
    if plan.pooling.indices != NULL:
        memset(outputs.offsets, 0, outputs.slots * plan.offset_bytes)
    outputs.starts_with_tap = outputs.y >= h.before and outputs.x >= w.before
    if outputs.starts_with_tap:
        return
    fill_row(
        outputs.best, plan.pooling.outside, outputs.slots, plan.pooling.image.format.scratch_bytes
    )
    if plan.pooling.indices == NULL:
        return
    for i in range(outputs.columns):
        outputs.per_column[i] = (
            ceil_div(w.before - outputs.x - i * w.stride, w.dilation) * w.dilation
        )
    for r in range(outputs.rows):
        y = outputs.y + r * h.stride
        if y >= h.before and outputs.x >= w.before:
            return  # The first taps of all rows below are no padding, either.
        start_indices(
            outputs.offsets + r * plan.pitch * plan.offset_bytes, plan.pooling.wide,
            ceil_div(h.before - y, h.dilation) * h.dilation * w.size, outputs.per_column,
            outputs.columns,
        )


cdef inline void flush_taps(const PoolPlan *plan, Outputs *outputs) noexcept nogil:
    """Update the maxima, or the sums, by the taps that have been collected."""
    if outputs.n_taps == 0:
        return
    if plan.pooling.maximum != NULL:
        plan.pooling.update(
            outputs.best, outputs.offsets, outputs.taps, outputs.tap_offsets, outputs.n_taps,
            outputs.slots,
        )
    else:
        plan.pooling.sums.add_sums(outputs.best, outputs.taps, outputs.n_taps, outputs.slots)
    outputs.n_taps = 0


cdef inline void take_tap(
    const PoolPlan *plan, Outputs *outputs, const char *tap, Py_ssize_t offset
) noexcept nogil:
    """Collect a tap of all outputs."""
    if outputs.starts_with_tap:
        memcpy(outputs.best, tap, outputs.slots * plan.pooling.image.format.scratch_bytes)
        outputs.starts_with_tap = False
        return
    outputs.taps[outputs.n_taps] = tap
    outputs.tap_offsets[outputs.n_taps] = offset
    outputs.n_taps += 1
    if outputs.n_taps == TAPS:
        flush_taps(plan, outputs)


cdef inline void end_row_of_taps(const PoolPlan *plan, Outputs *outputs) noexcept nogil:
    """Add up a row of the window apart: sums of short sums lose fewer digits."""
    if plan.pooling.maximum == NULL:
        flush_taps(plan, outputs)


cdef inline void pool_in_place(const PoolPlan *plan, Outputs *outputs) noexcept nogil:
    """Take all taps from the plane; at stride 2, from its pixels in two phases."""
    cdef const Axis *h = &plan.pooling.window.h
    cdef const Axis *w = &plan.pooling.window.w
    cdef Py_ssize_t bytes = plan.pooling.image.format.bytes, kh, kw, offset
    cdef const char *pixels = outputs.pixels + outputs.y * w.size * bytes
    if w.stride == 2:
        deinterleave_row(
            outputs.band, outputs.band + plan.phase_length * bytes, pixels,
            2 * outputs.slots - 1 + (window_span(h) - 1) * w.size + window_span(w) - 1, bytes,
        )
    for kh in range(h.kernel):
        for kw in range(w.kernel):
            offset = kh * h.dilation * w.size + kw * w.dilation
            if w.stride == 1:
                take_tap(plan, outputs, pixels + offset * bytes, offset)
            else:
                take_tap(
                    plan, outputs,
                    outputs.band + (offset % 2 * plan.phase_length + offset // 2) * bytes, offset,
                )
        end_row_of_taps(plan, outputs)


cdef inline const char *visible_row(
    const PoolPlan *plan, const Outputs *outputs, Py_ssize_t y
) noexcept nogil:
    """Return pixel 0 of the row at a padded position, or NULL for padding."""
    cdef const Axis *h = &plan.pooling.window.h
    if h.before <= y < h.before + h.size:
        return outputs.pixels + (y - h.before) * plan.pooling.image.stride_h
    return NULL


cdef inline void load_phases(const PoolPlan *plan, const Outputs *outputs) noexcept nogil:
    """Copy the band with its padding to scratch, each of its phases apart."""
    cdef const Axis *h = &plan.pooling.window.h
    cdef const Axis *w = &plan.pooling.window.w
    cdef const Planes *image = &plan.pooling.image
    cdef Py_ssize_t bytes = image.format.scratch_bytes, phase_h, phase_w, row
    cdef const char *source
    cdef char *to
    for phase_h in range(plan.phases_h):
        for row in range(outputs.rows + (window_span(h) - 1 - phase_h) // h.stride):
            source = visible_row(plan, outputs, outputs.y + phase_h + row * h.stride)
            to = outputs.band + bytes * (
                phase_h * plan.phases_w * plan.phase_length + row * plan.pitch
            )
            if plan.phases_w == w.stride:
                load_padded_phases(
                    to, plan.phase_length * bytes, w.stride, source, outputs.x, plan.pitch,
                    image.stride_w, w, image.format, plan.pooling.outside,
                )
                continue
            for phase_w in range(plan.phases_w):
                load_padded_row(
                    to + phase_w * plan.phase_length * bytes, source, outputs.x + phase_w,
                    w.stride, plan.pitch, image.stride_w, w, image.format, plan.pooling.outside,
                )


cdef inline void pool_in_phases(const PoolPlan *plan, Outputs *outputs) noexcept nogil:
    """Take all taps from the padded band."""
    cdef const Axis *h = &plan.pooling.window.h
    cdef const Axis *w = &plan.pooling.window.w
    cdef Py_ssize_t bytes = plan.pooling.image.format.scratch_bytes, kh, kw, y, x
    cdef const char *row
    load_phases(plan, outputs)
    for kh in range(outputs.first_kh, outputs.last_kh):
        y = kh * h.dilation
        row = outputs.band + bytes * (
            y % h.stride * plan.phases_w * plan.phase_length + y // h.stride * plan.pitch
        )
        for kw in range(outputs.first_kw, outputs.last_kw):
            x = kw * w.dilation
            if x < w.stride:
                take_tap(plan, outputs, row + x * plan.phase_length * bytes, y * w.size + x)
            else:
                take_tap(
                    plan, outputs,
                    row + (x % w.stride * plan.phase_length + x // w.stride) * bytes,
                    y * w.size + x,
                )
        end_row_of_taps(plan, outputs)


cdef inline void pool_tap_by_tap(const PoolPlan *plan, Outputs *outputs) noexcept nogil:
    """Copy and take one tap after the other."""
    cdef const Axis *h = &plan.pooling.window.h
    cdef const Axis *w = &plan.pooling.window.w
    cdef const Planes *image = &plan.pooling.image
    cdef Py_ssize_t kh, kw, y, x
    for kh in range(outputs.first_kh, outputs.last_kh):
        y = kh * h.dilation
        for kw in range(outputs.first_kw, outputs.last_kw):
            x = kw * w.dilation
            load_padded_row(
                outputs.band, visible_row(plan, outputs, outputs.y + y), outputs.x + x, w.stride,
                outputs.columns, image.stride_w, w, image.format, plan.pooling.outside,
            )
            take_tap(plan, outputs, outputs.band, y * w.size + x)
            flush_taps(plan, outputs)


# ---- pooling: results --------------------------------------------------------------------------

cdef inline void divide_sums(const PoolPlan *plan, const Outputs *outputs) noexcept nogil:
    cdef Py_ssize_t row_bytes = plan.pitch * plan.pooling.image.format.scratch_bytes, r
    for r in range(outputs.rows):
        plan.pooling.sums.divide(
            outputs.best + r * row_bytes,
            positions(&plan.pooling.window.h, outputs.top + r, plan.pooling.count_include_pad),
            outputs.per_column, outputs.columns,
        )


cdef inline void store_best(const PoolPlan *plan, const Outputs *outputs) noexcept nogil:
    """Write maxima or averages, without the idle slots between their rows."""
    cdef const Target *target = &plan.pooling.target
    cdef Format format = target.format
    cdef Py_ssize_t rows = outputs.rows, count = outputs.columns, pitch = plan.pitch, r
    cdef Py_ssize_t channels = plan.pooling.image.channels
    cdef bint whole_rows = count == plan.pooling.window.w.out
    cdef Py_ssize_t place = place_of(
        target, outputs.plane // channels, outputs.plane % channels, outputs.top, outputs.left
    )
    cdef char *results = outputs.best
    if whole_rows and pitch != count and format.conversion == AS_IS:
        if target.past_caches:
            results = outputs.band
        store_rows(
            results if target.past_caches else target.data + place, outputs.best, rows,
            count * format.bytes, pitch * format.bytes,
        )
        if not target.past_caches:
            return
        pitch = count
    if whole_rows and pitch == count:
        rows, count = 1, rows * count
    for r in range(rows):
        store_run(
            target, place + r * target.stride_h, format.bytes,
            results + r * pitch * format.scratch_bytes, count,
        )


cdef inline void store_offsets(const PoolPlan *plan, const Outputs *outputs) noexcept nogil:
    """Write the indices of maxima."""
    cdef const Axis *h = &plan.pooling.window.h
    cdef const Axis *w = &plan.pooling.window.w
    cdef bint past_caches = plan.pooling.target.past_caches
    cdef int64_t *to = plan.pooling.indices + (
        (outputs.plane * h.out + outputs.top) * w.out + outputs.left
    )
    cdef Positions at
    at.rows, at.columns = outputs.rows, outputs.columns
    at.first = (outputs.y - h.before) * w.size + outputs.x - w.before
    at.row_stride, at.stride = h.stride * w.size, w.stride
    at.pitch, at.to_pitch = plan.pitch, w.out
    store_indices(
        <int64_t *>outputs.band if past_caches else to, outputs.offsets, plan.pooling.wide, at
    )
    if past_caches:
        stream_copy(<char *>to, outputs.band, at.rows * at.columns * 8)


cdef void pool(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    """Compute a band of outputs of one plane."""
    cdef const PoolPlan *plan = <const PoolPlan *>data
    cdef Outputs outputs
    find_outputs(plan, item, scratch, &outputs)
    if plan.pooling.maximum != NULL:
        start_maxima(plan, &outputs)
    else:
        start_averages(plan, &outputs)
    if plan.reading == IN_PLACE:
        pool_in_place(plan, &outputs)
    elif plan.reading == IN_PHASES:
        pool_in_phases(plan, &outputs)
    else:
        pool_tap_by_tap(plan, &outputs)
    flush_taps(plan, &outputs)
    if plan.pooling.maximum == NULL:
        divide_sums(plan, &outputs)
    store_best(plan, &outputs)
    if plan.pooling.indices != NULL:
        store_offsets(plan, &outputs)
    if plan.pooling.target.past_caches:
        stream_fence()


cdef int run_pool(const Pooling *pooling, int threads) except -1:
    cdef PoolPlan plan
    make_pool_plan(&plan, pooling, threads)
    return for_each(
        pool, &plan, pooling.planes * plan.bands_h * plan.bands_w, <size_t>plan.scratch.bytes,
        plan.moved, plan.threads,
    )


cdef inline void describe_pooling(
    Pooling *pooling, cnp.ndarray image, Format format, cnp.ndarray out, cnp.ndarray window
) noexcept:
    """Read the arrays of max or average pooling."""
    memset(pooling, 0, sizeof(pooling[0]))
    pooling.window = window_of(window)[0]
    pooling.image = planes_of(image, format)
    pooling.planes = plane_count(image)
    pooling.target = target_of(out)


def max_pool(
    cnp.ndarray image, cnp.ndarray out, cnp.ndarray indices, cnp.ndarray window, int threads
):
    """Write the maxima of images (n, c, h, w), and their indices unless None; both C-contiguous."""
    cdef Pooling pooling
    cdef const Axis *h = &pooling.window.h
    cdef const Axis *w = &pooling.window.w
    if plane_count(image) == 0:
        return
    describe_pooling(&pooling, image, computed_format(image), out, window)
    pooling.maximum = maximum_of(pooling.image.format.number)
    pooling.outside = pooling.maximum.lowest
    pooling.update = pooling.maximum.values
    if indices is not None:
        pooling.indices = <int64_t *>cnp.PyArray_DATA(indices)
        pooling.wide = <double>(window_span(h) - 1) * w.size + window_span(w) > <double>INT32_MAX
        pooling.update = (
            pooling.maximum.indexed_wide if pooling.wide else pooling.maximum.indexed
        )
    run_pool(&pooling, threads)


def avg_pool(
    cnp.ndarray image, cnp.ndarray out, cnp.ndarray window, bint count_include_pad, int threads
):
    """Write the averages of images (n, c, h, w) to `out` (C-contiguous)."""
    cdef Pooling pooling
    if plane_count(image) == 0:
        return
    describe_pooling(&pooling, image, averaged_format(image), out, window)
    pooling.sums = sums_of(pooling.image.format.number)
    pooling.count_include_pad = count_include_pad
    run_pool(&pooling, threads)


# ---- values that are placed by indices: the gradient of max pooling, and max-unpooling ---------

cdef struct PlaceScratch:
    # Offsets in an item's scratch.
    size_t indices, narrow_indices, values  # A chunk of a row; indices before they are widened.
    size_t pixels


cdef struct PlacePlan:
    Planes values, indices
    bint index_unsigned
    Py_ssize_t rows, columns  # A plane of values has these, or one row if rows have no gaps.
    Target target
    Py_ssize_t planes
    Py_ssize_t size  # Pixels of a plane of the target.
    Py_ssize_t chunk  # Pixels that are made in scratch at a time; 0 if they are made in place.
    const Sums *sums  # NULL if the last of several values counts, instead of their sum.
    bint check_only
    int *outside  # Set to 1 if an index lies outside its plane.
    Layout scratch
    PlaceScratch at
    double moved
    int threads


cdef inline const int64_t *load_indices(
    const PlacePlan *plan, const char *source, Py_ssize_t count, char *scratch
) noexcept nogil:
    """Return the address of a chunk of indices as int64, in place or in scratch."""
    cdef Format format = plan.indices.format
    cdef int64_t *widened = <int64_t *>(scratch + plan.at.indices)
    if format.bytes == 8 and is_plain(format, plan.indices.stride_w, source):
        return <const int64_t *>source
    load_row(
        scratch + plan.at.narrow_indices, source, count, plan.indices.stride_w, format
    )
    widen_row(
        widened, scratch + plan.at.narrow_indices, plan.index_unsigned, format.bytes, count
    )
    return widened


cdef inline const char *load_values(
    const PlacePlan *plan, const char *source, Py_ssize_t count, char *scratch
) noexcept nogil:
    """Return the address of a chunk of values as they are added, in place or in scratch."""
    if is_plain(plan.values.format, plan.values.stride_w, source):
        return source
    load_row(
        scratch + plan.at.values, source, count, plan.values.stride_w, plan.values.format
    )
    return scratch + plan.at.values


cdef inline bint lies_within(
    const PlacePlan *plan, Py_ssize_t plane, char *scratch
) noexcept nogil:
    """Return whether all indices name pixels of their plane."""
    cdef const char *indices = plane_at(&plan.indices, plane)
    cdef Py_ssize_t chunks = ceil_div(plan.columns, CHUNK), row, i, count
    for row in range(plan.rows):
        for i in range(chunks):
            count = smaller(CHUNK, plan.columns - i * CHUNK)
            if not all_within(
                load_indices(
                    plan, indices + row * plan.indices.stride_h + i * CHUNK * plan.indices.stride_w,
                    count, scratch,
                ),
                plan.size, count,
            ):
                return False
    return True


cdef inline void place_values(
    const PlacePlan *plan, Py_ssize_t plane, Py_ssize_t first, Py_ssize_t last, char *pixels,
    char *scratch,
) noexcept nogil:
    """Add each value to, or put it at, its pixel if that is one of first <= pixel < last."""
    cdef const char *indices = plane_at(&plan.indices, plane)
    cdef const char *values = plane_at(&plan.values, plane)
    cdef const char *source
    cdef const int64_t *at
    cdef Py_ssize_t chunks = ceil_div(plan.columns, CHUNK), row, column, i, count
    for row in range(plan.rows):
        for i in range(chunks):
            column = i * CHUNK
            count = smaller(CHUNK, plan.columns - column)
            at = load_indices(
                plan, indices + row * plan.indices.stride_h + column * plan.indices.stride_w, count,
                scratch,
            )
            source = load_values(
                plan, values + row * plan.values.stride_h + column * plan.values.stride_w, count,
                scratch,
            )
            if plan.sums != NULL:
                plan.sums.add_at(pixels, at, first, last, source, count)
            else:
                put_at(pixels, at, plan.size, source, plan.values.format.bytes, count)


cdef void place(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    """Make one plane: zeros, then each value added to, or put at, its pixel."""
    cdef const PlacePlan *plan = <const PlacePlan *>data
    cdef const Target *target = &plan.target
    cdef Py_ssize_t bytes = target.format.bytes, plane = item * plan.size * bytes, first = 0, last
    cdef char *pixels = scratch + plan.at.pixels
    if not lies_within(plan, item, scratch):
        set_flag(plan.outside)
        return
    if plan.check_only:
        return
    if not plan.chunk:
        memset(target.data + plane, 0, plan.size * bytes)
        place_values(plan, item, 0, plan.size, target.data + plane, scratch)
        return
    while first < plan.size:
        last = smaller(first + plan.chunk, plan.size)
        memset(pixels, 0, (last - first) * target.format.scratch_bytes)
        place_values(plan, item, first, last, pixels, scratch)
        store_run(target, plane + first * bytes, bytes, pixels, last - first)
        first = last
    if target.past_caches:
        stream_fence()


cdef inline bint rows_join(const Planes *planes, Py_ssize_t columns) noexcept:
    return planes.stride_h == columns * planes.stride_w


cdef void describe_places(
    PlacePlan *plan, cnp.ndarray values, Format format, cnp.ndarray indices, cnp.ndarray out,
    Py_ssize_t size,
) noexcept:
    """Read values and their indices (n, c, h, w); `out` has `size` pixels per plane, or is None."""
    memset(plan, 0, sizeof(plan[0]))
    plan.values = planes_of(values, format)
    plan.indices = planes_of(indices, computed_format(indices))
    plan.index_unsigned = array_kind(indices) == b"u"
    plan.planes, plan.size = plane_count(values), size
    plan.rows, plan.columns = cnp.PyArray_DIM(values, 2), cnp.PyArray_DIM(values, 3)
    if rows_join(&plan.values, plan.columns) and rows_join(&plan.indices, plan.columns):
        plan.rows, plan.columns = 1, plan.rows * plan.columns
    plan.check_only = out is None
    if out is not None:
        plan.target = target_of(out)
    plan.target.format = format
    plan.moved = (
        <double>cnp.PyArray_NBYTES(indices) + <double>plan.planes * size * format.bytes
    )


cdef void plan_places(PlacePlan *plan, int threads) noexcept:
    """Decide where planes are made, and lay out the scratch."""
    cdef Format format = plan.values.format
    # Float16 is summed in float32, a chunk in scratch; so is what is then written past the caches.
    if format.conversion == FROM_HALF:
        plan.chunk = smaller(plan.size, SCRATCH_BYTES // 4)
    elif (
        <double>plan.planes * plan.size * format.bytes >= STREAM_FROM_BYTES
        and plan.size * format.bytes <= SCRATCH_BYTES
    ):
        plan.chunk = plan.size
        plan.target.past_caches = True
    plan.at.indices = take(&plan.scratch, CHUNK * sizeof(int64_t))
    plan.at.narrow_indices = take(&plan.scratch, CHUNK * sizeof(int64_t))
    plan.at.values = take(&plan.scratch, CHUNK * sizeof(double))
    plan.at.pixels = take(&plan.scratch, <double>plan.chunk * format.scratch_bytes)
    plan.threads = useful_threads(plan.moved, threads)


cdef bint run_places(PlacePlan *plan, int threads) except -1:
    """Make all planes; return whether an index lies outside its plane."""
    cdef int outside = 0
    plan.outside = &outside
    plan_places(plan, threads)
    for_each(place, plan, plan.planes, <size_t>plan.scratch.bytes, plan.moved, plan.threads)
    return outside


def max_pool_backward(
    cnp.ndarray grad_output, cnp.ndarray indices, cnp.ndarray grad_input, Py_ssize_t size,
    int threads,
):
    """Write the sums of the gradients (n, c, oh, ow) that name a pixel, to planes of `size` pixels.

    Return whether an index lies outside its plane; such planes are left alone. With None for
    `grad_input` only look.
    """
    cdef PlacePlan plan
    describe_places(&plan, grad_output, computed_format(grad_output), indices, grad_input, size)
    plan.sums = sums_of(plan.values.format.number)
    return run_places(&plan, threads)


def max_unpool(
    cnp.ndarray values, cnp.ndarray indices, cnp.ndarray out, Py_ssize_t size, int threads
):
    """Put the values (n, c, h, w) into zeroed planes; return as `max_pool_backward` does."""
    cdef PlacePlan plan
    cdef Format format = moved_format(values)
    format.swapped = not cnp.PyArray_ISNOTSWAPPED(values)
    describe_places(&plan, values, format, indices, out, size)
    return run_places(&plan, threads)


# ---- the gradient of average pooling -----------------------------------------------------------

cdef struct AverageGradientScratch:
    # Offsets in an item's scratch.
    size_t columns  # The number of positions of each column of outputs.
    size_t share  # What each output of a row gives to each of its pixels.
    size_t row  # A row of the result.
    size_t sums  # The sums of a padded row, in phases; or `row` itself.


cdef struct AverageGradientPlan:
    Window window
    Planes grad  # The gradient of the output.
    Target target
    Py_ssize_t planes
    Py_ssize_t band_h, bands_h  # Rows of an item; items of a plane.
    Py_ssize_t phase_length  # 0 if a padded row in phases would be too long.
    Py_ssize_t sums_bytes
    bint count_include_pad
    const Sums *sums
    Layout scratch
    AverageGradientScratch at
    double moved
    int threads


cdef inline void add_shares(
    const AverageGradientPlan *plan, const char *grads, Py_ssize_t oh, char *scratch
) noexcept nogil:
    """Add the shares of a row of outputs to the sums of a row of pixels in their windows."""
    cdef const Axis *w = &plan.window.w
    cdef Py_ssize_t bytes = plan.grad.format.scratch_bytes, kw, ow, iw, x
    cdef char *share = scratch + plan.at.share
    cdef char *sums = scratch + plan.at.sums
    load_row(
        share, grads + oh * plan.grad.stride_h, w.out, plan.grad.stride_w, plan.grad.format
    )
    plan.sums.divide(
        share, positions(&plan.window.h, oh, plan.count_include_pad),
        <Py_ssize_t *>(scratch + plan.at.columns), w.out,
    )
    if plan.phase_length:
        for kw in range(w.kernel):
            plan.sums.add_row(
                sums + (kw % w.stride * plan.phase_length + kw // w.stride) * bytes, share, w.out
            )
        return
    for ow in range(w.out):
        x = ow * w.stride - w.before
        for iw in range(larger(x, 0), smaller(x + w.kernel, w.size)):
            plan.sums.add_element(sums, iw, share, ow)


cdef void average_gradient(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    """Compute rows of one plane: each output's share is added to each pixel of its window."""
    cdef const AverageGradientPlan *plan = <const AverageGradientPlan *>data
    cdef const Axis *h = &plan.window.h
    cdef const Axis *w = &plan.window.w
    cdef Py_ssize_t plane = item // plan.bands_h, top = item % plan.bands_h * plan.band_h
    cdef Py_ssize_t row_bytes = w.size * plan.target.format.bytes
    cdef const char *grads = plane_at(&plan.grad, plane)
    cdef Py_ssize_t *columns = <Py_ssize_t *>(scratch + plan.at.columns)
    cdef char *row = scratch + plan.at.row
    cdef char *sums = scratch + plan.at.sums
    cdef Py_ssize_t ih, oh, ow, y, first, last, first_before = 0, last_before = -2
    for ow in range(w.out):
        columns[ow] = positions(w, ow, plan.count_include_pad)
    for ih in range(top, smaller(top + plan.band_h, h.size)):
        y = h.before + ih
        first, last = ceil_div(y - h.kernel + 1, h.stride), smaller(h.out - 1, y // h.stride)
        # A row of pixels in the same windows as the row before has the same gradient.
        if first != first_before or last != last_before:
            memset(sums, 0, plan.sums_bytes)
            for oh in range(last, first - 1, -1):
                add_shares(plan, grads, oh, scratch)
            if plan.phase_length:
                plan.sums.interleave_phases(
                    row, sums, w.size, w.before, w.stride, plan.phase_length
                )
            first_before, last_before = first, last
        store_run(
            &plan.target, (plane * h.size + ih) * row_bytes, plan.target.format.bytes, row, w.size
        )


cdef void plan_average_gradient(AverageGradientPlan *plan, int threads) noexcept:
    """Cut planes into items, and lay out the scratch."""
    cdef const Axis *h = &plan.window.h
    cdef const Axis *w = &plan.window.w
    cdef double bytes = plan.grad.format.scratch_bytes
    plan.threads = useful_threads(plan.moved, threads)
    plan.band_h = rows_per_item(h.size, plan.planes, plan.threads)
    plan.bands_h = ceil_div(h.size, plan.band_h)
    plan.phase_length = ceil_div(larger(reach(w, w.out), padded_size(w)), w.stride)
    if bytes * plan.phase_length * w.stride > SCRATCH_BYTES // 2:
        plan.phase_length = 0
    plan.at.columns = take(&plan.scratch, <double>w.out * sizeof(Py_ssize_t))
    plan.at.share = take(&plan.scratch, bytes * w.out)
    plan.at.row = plan.at.sums = take(&plan.scratch, bytes * w.size)
    plan.sums_bytes = <Py_ssize_t>(bytes * w.size)
    if plan.phase_length:
        plan.sums_bytes = <Py_ssize_t>(bytes * w.stride * plan.phase_length)
        plan.at.sums = take(&plan.scratch, plan.sums_bytes)


def avg_pool_backward(
    cnp.ndarray grad_output, cnp.ndarray grad_input, cnp.ndarray window, bint count_include_pad,
    int threads,
):
    """Write avg_pool's adjoint of the gradients (n, c, oh, ow) to `grad_input` (C-contiguous)."""
    cdef AverageGradientPlan plan
    if plane_count(grad_input) == 0:
        return
    memset(&plan, 0, sizeof(plan))
    plan.window = window_of(window)[0]
    plan.grad = planes_of(grad_output, averaged_format(grad_output))
    plan.target = target_of(grad_input)
    plan.planes = plane_count(grad_input)
    plan.sums = sums_of(plan.grad.format.number)
    plan.count_include_pad = count_include_pad
    plan.moved = (
        <double>cnp.PyArray_NBYTES(grad_input) + <double>cnp.PyArray_NBYTES(grad_output)
    )
    plan_average_gradient(&plan, threads)
    for_each(
        average_gradient, &plan, plan.planes * plan.bands_h, <size_t>plan.scratch.bytes,
        plan.moved, plan.threads,
    )
