"""What max and average pooling share: how outputs are cut into items, how the taps of their windows
are read, and how results are written.

    out[oh, ow] is computed from image[oh*SH + kh*DH - top, ow*SW + kw*DW - left] for all (kh, kw)

a. An item is a band of output rows of one plane; in very wide images it also has only some columns.
   Small planes are an item together, because a plane of 7 x 7 takes no longer than what is done
   once per item. Lanes of vectors are outputs and run on from row to row, so that narrow planes
   fill vectors as well: each output has a slot, and a tap (kh, kw) of all slots is one contiguous
   run of memory.
   There are three ways to read taps. In place: with strides of 1, or of 2 when the pixels are
   de-interleaved, slot oh*W + ow finds its tap at a constant distance. Every second row of slots is
   idle at stride 2, which costs less than touching rows one by one. In phases: the padded band is
   copied to scratch, position (y, x) to row y // SH, column x // SW of phase (y % SH, x % SW); this
   serves every padding, stride and layout. Tap by tap: of windows that are too large for scratch,
   one tap of a run of outputs is copied at a time.
b. Taps are collected and taken together by `Pooling.update`, which a kernel provides.
c. Each item owns the memory that it writes: no two threads meet.
"""

cimport numpy as cnp

from fastconv._kernels.parallel cimport (
    Task, for_each, rows_per_item, useful_threads, wanted_items,
)
from fastconv._kernels.planes cimport Planes, plane_at, plane_count, planes_of
from fastconv._kernels.rows cimport (
    AS_IS, Format, deinterleave_row, is_plain, load_padded_phases, load_padded_row,
)
from fastconv._kernels.scratch cimport Layout, take
from fastconv._kernels.stream cimport LINE_BYTES, STREAM_FROM_BYTES
from fastconv._kernels.target cimport Target, place_of, store_run, target_of
from fastconv._kernels.window cimport (
    Axis, Window, ceil_div, reach, smaller, larger, window_of, window_span,
)

cdef extern from "pooling.h":
    ctypedef struct BandRows:
        const char *pixels
        Py_ssize_t row_stride, size, first, step, rows, lead, inner, count, pitch, phases
        Py_ssize_t phase_length

    void load_band_rows(
        char *to, const BandRows *band, const void *outside, Py_ssize_t bytes
    ) noexcept nogil
    void store_rows(
        char *to, const char *source, Py_ssize_t rows, Py_ssize_t bytes, Py_ssize_t pitch
    ) noexcept nogil

cdef enum:
    # Items are cut until their scratch has at most this many bytes, about L1.
    BAND_BYTES = 48 << 10
    # The largest number of bytes of the scratch of an item that cannot be cut further.
    SCRATCH_BYTES = 768 << 10
    # The largest number of taps that one call of the inner loop takes.
    TAPS = 64
    # The largest number of outputs that are read tap by tap.
    CHUNK = 2048


# ---- planning ----------------------------------------------------------------------------------

cdef enum Reading:
    IN_PLACE  # Taps lie in the plane, or in two rows to which its pixels are de-interleaved.
    IN_PHASES  # The padded band is copied to scratch, each of its phases apart.
    TAP_BY_TAP  # One tap of the outputs is copied to scratch at a time.


cdef struct PoolPlan
cdef struct Outputs
# Update the best values, or the sums, of all slots by the taps that were collected.
ctypedef void (*Update)(const PoolPlan *plan, Outputs *outputs) noexcept nogil


cdef struct Pooling:
    # What is computed; `job` is what the kernel's own functions need besides.
    Window window
    Planes image
    Py_ssize_t planes  # The number of planes of all images.
    Target target
    Update update
    bint by_rows  # A row of taps of the window is taken together if it has at most TAPS.
    const void *outside  # The value of padding: the lowest one, or NULL for zero.
    Py_ssize_t index_bytes  # Bytes that are written per output besides the output.
    const void *job


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
    Py_ssize_t group  # The number of planes of an item, all of whose rows and columns it then has.
    Py_ssize_t pitch  # Slots from one row of outputs to the next.
    Py_ssize_t plane_slots  # Slots from one plane of an item to the next.
    Py_ssize_t phases_h, phases_w, phase_length  # The numbers and the length of a band's phases.
    # Where the taps (kh, kw) are, in bytes from the first pixel or from the band, and their
    # offsets, if there are at most TAPS; otherwise they are computed one by one.
    bint known_taps
    Py_ssize_t tap_places[TAPS]
    Py_ssize_t tap_offsets[TAPS]
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
    """Return the bytes of an item's best values, or of their offsets: 8 bytes suit every dtype.

    Most have 4.
    """
    return capped(<double>plan.group * plan.plane_slots) * 8


cdef inline double used_bytes(const PoolPlan *plan) noexcept:
    """Return the number of bytes that an item goes over again and again."""
    return band_bytes(plan) + <double>slots_bytes(plan)


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
        plan.plane_slots = band_h * w.size
        plan.phases_h, plan.phases_w = 1, w.stride if w.stride > 1 else 0
        plan.phase_length = band_h * w.size + (window_span(h) * w.size) // 2
    elif plan.reading == IN_PHASES:
        plan.phases_h = smaller(h.stride, window_span(h))
        plan.phases_w = smaller(w.stride, window_span(w))
        plan.pitch = band_w + (window_span(w) - 1) // w.stride
        plan.plane_slots = capped(
            <double>(band_h + (window_span(h) - 1) // h.stride) * plan.pitch
        )
        plan.phase_length = capped(
            <double>plan.group * plan.plane_slots
            + LINE_BYTES // plan.pooling.image.format.scratch_bytes  # See load_band_rows.
        )
    else:
        plan.phases_h = plan.phases_w = 1
        plan.pitch = plan.plane_slots = plan.phase_length = band_w


cdef inline void cut_outputs(PoolPlan *plan) noexcept:
    """Decide how taps are read, and how many rows and columns of outputs an item has."""
    cdef const Axis *h = &plan.pooling.window.h
    cdef const Axis *w = &plan.pooling.window.w
    plan.reading = IN_PLACE if reads_in_place(&plan.pooling) else IN_PHASES
    plan.group = 1
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
    if plan.reading == IN_PHASES and plan.bands_h * plan.bands_w == 1:
        plan.group = larger(1, smaller(
            <Py_ssize_t>(BAND_BYTES / used_bytes(plan)),
            plan.pooling.planes // wanted_items(plan.threads),
        ))
        set_band(plan, plan.band_h, plan.band_w)


cdef inline void lay_out_pool(PoolPlan *plan) noexcept:
    plan.scratch.bytes = 0
    plan.at.best = take(&plan.scratch, slots_bytes(plan))
    plan.at.offsets = take(&plan.scratch, slots_bytes(plan))
    plan.at.columns = take(&plan.scratch, <double>plan.band_w * sizeof(Py_ssize_t))
    plan.at.band = take(&plan.scratch, max(band_bytes(plan), <double>slots_bytes(plan)))


cdef inline Py_ssize_t tap_place(
    const PoolPlan *plan, Py_ssize_t kh, Py_ssize_t kw
) noexcept nogil:
    """Return how many bytes behind the first pixel, or the start of the band, a tap is."""
    cdef const Axis *h = &plan.pooling.window.h
    cdef const Axis *w = &plan.pooling.window.w
    cdef Py_ssize_t y = kh * h.dilation, x = kw * w.dilation, place
    if plan.reading == IN_PLACE:
        place = tap_offset(plan, kh, kw)
        if w.stride == 2:
            place = place % 2 * plan.phase_length + place // 2
    else:
        place = (
            (y % h.stride * plan.phases_w + x % w.stride) * plan.phase_length
            + y // h.stride * plan.pitch + x // w.stride
        )
    return place * plan.pooling.image.format.scratch_bytes


cdef inline Py_ssize_t tap_offset(
    const PoolPlan *plan, Py_ssize_t kh, Py_ssize_t kw
) noexcept nogil:
    """Return how many positions a tap is behind the first one of its window."""
    cdef const Window *window = &plan.pooling.window
    return kh * window.h.dilation * window.w.size + kw * window.w.dilation


cdef inline void place_taps(PoolPlan *plan) noexcept:
    """Compute once what would take several divisions per tap and item."""
    cdef Py_ssize_t rows = plan.pooling.window.h.kernel, columns = plan.pooling.window.w.kernel
    cdef Py_ssize_t kh, kw
    plan.known_taps = rows <= TAPS and columns <= TAPS and rows * columns <= TAPS
    if plan.known_taps and plan.reading != TAP_BY_TAP:
        for kh in range(rows):
            for kw in range(columns):
                plan.tap_places[kh * columns + kw] = tap_place(plan, kh, kw)
                plan.tap_offsets[kh * columns + kw] = tap_offset(plan, kh, kw)


cdef inline void make_pool_plan(PoolPlan *plan, const Pooling *pooling, int threads) noexcept:
    cdef const Axis *h = &pooling.window.h
    cdef const Axis *w = &pooling.window.w
    cdef Py_ssize_t bytes = pooling.image.format.bytes
    plan.pooling = pooling[0]
    plan.moved = <double>pooling.planes * (
        <double>h.size * w.size * bytes
        + <double>h.out * w.out * (bytes + pooling.index_bytes)
    )
    plan.threads = useful_threads(plan.moved, threads)
    cut_outputs(plan)
    plan.pooling.target.past_caches = (
        plan.moved >= STREAM_FROM_BYTES and plan.bands_w == 1
        and pooling.target.format.conversion == AS_IS
    )
    lay_out_pool(plan)
    place_taps(plan)


# ---- reading taps ------------------------------------------------------------------------------

cdef struct Outputs:
    # The outputs of an item, and those of their taps that are collected to be taken together.
    Py_ssize_t plane, planes  # The first plane, counted through all images, and their number.
    Py_ssize_t top, left, rows, columns
    Py_ssize_t slots
    Py_ssize_t y, x  # The padded position of the first window's first tap.
    Py_ssize_t first_kh, last_kh, first_kw, last_kw  # Taps that are not padding for every output.
    const char *pixels  # The first plane's first pixel.
    char *best
    char *offsets
    Py_ssize_t *per_column
    char *band
    bint begun  # Earlier taps are in `best` already.
    Py_ssize_t row_taps  # The number of taps of a row of a window.
    Py_ssize_t n_taps
    const char *taps[TAPS]
    Py_ssize_t tap_offsets[TAPS]


cdef inline void find_outputs(
    const PoolPlan *plan, Py_ssize_t item, char *scratch, Outputs *outputs
) noexcept nogil:
    cdef const Axis *h = &plan.pooling.window.h
    cdef const Axis *w = &plan.pooling.window.w
    outputs.plane, outputs.top, outputs.left = item * plan.group, 0, 0
    if plan.bands_h * plan.bands_w > 1:
        outputs.plane = item // (plan.bands_h * plan.bands_w)
        outputs.top = item // plan.bands_w % plan.bands_h * plan.band_h
        outputs.left = item % plan.bands_w * plan.band_w
    outputs.rows = smaller(plan.band_h, h.out - outputs.top)
    outputs.columns = smaller(plan.band_w, w.out - outputs.left)
    outputs.planes = smaller(plan.group, plan.pooling.planes - outputs.plane)
    outputs.slots = (
        (outputs.planes - 1) * plan.plane_slots + (outputs.rows - 1) * plan.pitch + outputs.columns
    )
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
    outputs.begun = False
    outputs.n_taps = 0
    outputs.row_taps = outputs.last_kw - outputs.first_kw


cdef inline void flush_taps(const PoolPlan *plan, Outputs *outputs) noexcept nogil:
    """Take the taps that have been collected."""
    if outputs.n_taps:
        plan.pooling.update(plan, outputs)
        outputs.begun = True
        outputs.n_taps = 0


cdef inline void take_tap(
    const PoolPlan *plan, Outputs *outputs, const char *tap, Py_ssize_t offset
) noexcept nogil:
    """Collect a tap of all outputs."""
    outputs.taps[outputs.n_taps] = tap
    outputs.tap_offsets[outputs.n_taps] = offset
    outputs.n_taps += 1
    if outputs.n_taps == TAPS:
        flush_taps(plan, outputs)


cdef inline void end_row_of_taps(const PoolPlan *plan, Outputs *outputs) noexcept nogil:
    """Keep all taps of the next row of the window together, if that is what the kernel needs."""
    if plan.pooling.by_rows and outputs.n_taps + outputs.row_taps > TAPS:
        flush_taps(plan, outputs)


cdef inline void take_taps_from(
    const PoolPlan *plan, Outputs *outputs, const char *start
) noexcept nogil:
    """Take all taps of the outputs, which are places behind an address."""
    cdef Py_ssize_t columns = plan.pooling.window.w.kernel, kh, kw
    if plan.known_taps:
        for kh in range(outputs.first_kh, outputs.last_kh):
            for kw in range(kh * columns + outputs.first_kw, kh * columns + outputs.last_kw):
                outputs.taps[outputs.n_taps] = start + plan.tap_places[kw]
                outputs.tap_offsets[outputs.n_taps] = plan.tap_offsets[kw]
                outputs.n_taps += 1
        return
    for kh in range(outputs.first_kh, outputs.last_kh):
        for kw in range(outputs.first_kw, outputs.last_kw):
            take_tap(
                plan, outputs, start + tap_place(plan, kh, kw), tap_offset(plan, kh, kw)
            )
        end_row_of_taps(plan, outputs)


cdef inline void pool_in_place(const PoolPlan *plan, Outputs *outputs) noexcept nogil:
    """Take all taps from the plane; at stride 2, from its pixels in two phases."""
    cdef const Axis *h = &plan.pooling.window.h
    cdef const Axis *w = &plan.pooling.window.w
    cdef Py_ssize_t bytes = plan.pooling.image.format.bytes
    cdef const char *pixels = outputs.pixels + outputs.y * w.size * bytes
    if w.stride == 2:
        deinterleave_row(
            outputs.band, outputs.band + plan.phase_length * bytes, pixels,
            2 * outputs.slots - 1 + (window_span(h) - 1) * w.size + window_span(w) - 1, bytes,
        )
        pixels = outputs.band
    take_taps_from(plan, outputs, pixels)


cdef inline const char *visible_row(
    const PoolPlan *plan, const char *pixels, Py_ssize_t y
) noexcept nogil:
    """Return pixel 0 of a plane's row at a padded position, or NULL for padding."""
    cdef const Axis *h = &plan.pooling.window.h
    if h.before <= y < h.before + h.size:
        return pixels + (y - h.before) * plan.pooling.image.stride_h
    return NULL


cdef inline void load_plain_phases(
    const PoolPlan *plan, const Outputs *outputs, const char *pixels, char *to
) noexcept nogil:
    """Do as `load_phases` for pixels that can be read in place, with strides of 1 or 2 along rows.

    A call per row would take as long as copying a short row.
    """
    cdef const Axis *h = &plan.pooling.window.h
    cdef const Axis *w = &plan.pooling.window.w
    cdef Py_ssize_t bytes = plan.pooling.image.format.bytes
    cdef Py_ssize_t skipped = larger(outputs.x - w.before, 0), phase_h
    cdef BandRows band
    band.pixels = pixels + skipped * bytes
    band.row_stride, band.size = plan.pooling.image.stride_h, h.size
    band.step, band.count, band.pitch = h.stride, plan.pitch, plan.pitch
    band.phases, band.phase_length = plan.phases_w, plan.phase_length
    band.lead = w.before + skipped - outputs.x
    band.inner = smaller(w.size - skipped, plan.pitch * plan.phases_w - band.lead)
    for phase_h in range(plan.phases_h):
        band.first = outputs.y + phase_h - h.before
        band.rows = outputs.rows + (window_span(h) - 1 - phase_h) // h.stride
        load_band_rows(
            to + phase_h * plan.phases_w * plan.phase_length * bytes, &band,
            plan.pooling.outside, bytes,
        )


cdef inline void load_phases(
    const PoolPlan *plan, const Outputs *outputs, const char *pixels, char *band
) noexcept nogil:
    """Copy the band of a plane with its padding to scratch, each of its phases apart."""
    cdef const Axis *h = &plan.pooling.window.h
    cdef const Axis *w = &plan.pooling.window.w
    cdef const Planes *image = &plan.pooling.image
    cdef Py_ssize_t bytes = image.format.scratch_bytes, phase_h, phase_w, row
    cdef const char *source
    cdef char *to
    if (
        plan.phases_w == w.stride <= 2
        and is_plain(image.format, image.stride_w, pixels)
        and is_plain(image.format, image.stride_w, pixels + image.stride_h)
        and w.before - outputs.x <= plan.pitch * plan.phases_w and outputs.x < w.before + w.size
    ):
        load_plain_phases(plan, outputs, pixels, band)
        return
    for phase_h in range(plan.phases_h):
        for row in range(outputs.rows + (window_span(h) - 1 - phase_h) // h.stride):
            source = visible_row(plan, pixels, outputs.y + phase_h + row * h.stride)
            to = band + bytes * (
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
    cdef Py_ssize_t plane_bytes = plan.plane_slots * plan.pooling.image.format.scratch_bytes, i
    for i in range(outputs.planes):
        load_phases(
            plan, outputs, plane_at(&plan.pooling.image, outputs.plane + i),
            outputs.band + i * plane_bytes,
        )
    take_taps_from(plan, outputs, outputs.band)


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
                outputs.band, visible_row(plan, outputs.pixels, outputs.y + y), outputs.x + x,
                w.stride, outputs.columns, image.stride_w, w, image.format, plan.pooling.outside,
            )
            take_tap(plan, outputs, outputs.band, y * w.size + x)
            flush_taps(plan, outputs)


cdef inline void take_all_taps(const PoolPlan *plan, Outputs *outputs) noexcept nogil:
    """Take all taps of the outputs, which `Pooling.update` does."""
    if plan.reading == IN_PLACE:
        pool_in_place(plan, outputs)
    elif plan.reading == IN_PHASES:
        pool_in_phases(plan, outputs)
    else:
        pool_tap_by_tap(plan, outputs)
    flush_taps(plan, outputs)


# ---- results -----------------------------------------------------------------------------------

cdef inline void store_best(const PoolPlan *plan, const Outputs *outputs) noexcept nogil:
    """Write maxima or averages, without the idle slots between their rows."""
    cdef Py_ssize_t plane_bytes = plan.plane_slots * plan.pooling.image.format.scratch_bytes, i
    for i in range(outputs.planes):
        store_plane(plan, outputs, outputs.plane + i, outputs.best + i * plane_bytes)


cdef inline void store_plane(
    const PoolPlan *plan, const Outputs *outputs, Py_ssize_t plane, char *best
) noexcept nogil:
    """Write the results of a plane."""
    cdef const Target *target = &plan.pooling.target
    cdef Format format = target.format
    cdef Py_ssize_t rows = outputs.rows, count = outputs.columns, pitch = plan.pitch, r
    cdef Py_ssize_t channels = plan.pooling.image.channels
    cdef bint whole_rows = count == plan.pooling.window.w.out
    cdef Py_ssize_t place = place_of(
        target, plane // channels, plane % channels, outputs.top, outputs.left
    )
    cdef char *results = best
    if whole_rows and pitch != count and format.conversion == AS_IS:
        if target.past_caches:
            results = outputs.band
        store_rows(
            results if target.past_caches else target.data + place, best, rows,
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


cdef inline void describe_pooling(
    Pooling *pooling, cnp.ndarray image, Format format, cnp.ndarray out, cnp.ndarray window
) noexcept:
    """Read the arrays of max or average pooling."""
    pooling.window = window_of(window)[0]
    pooling.image = planes_of(image, format)
    pooling.planes = plane_count(image)
    pooling.target = target_of(out)


cdef inline int run_pool(Task task, const Pooling *pooling, int threads) except -1:
    """Run a kernel's task on all items of a plan."""
    cdef PoolPlan plan
    make_pool_plan(&plan, pooling, threads)
    return for_each(
        task, &plan, ceil_div(pooling.planes, plan.group) * plan.bands_h * plan.bands_w,
        <size_t>plan.scratch.bytes, plan.moved, plan.threads,
    )
