"""im2col and unfold (`gather`), col2im and fold (`scatter`).

    columns[n, oh, ow, c, kh, kw] = padded(image[n, c])[oh*SH + kh*DH, ow*SW + kw*DW]

a. Both layouts of columns are the same numbers: "pixels" (n, oh, ow | c, kh, kw) is the
   textbook's, "taps" (n | c, kh, kw | oh, ow) is torch's.
b. Gathering pixels: an item is a band of output rows of one image. Its padded input is copied to
   scratch (BAND_BYTES), every row split into DW phases, so that the KW taps of a pixel are
   contiguous for every dilation. Then each output pixel is KH*C short copies of constant size to a
   stage in L1, which goes out in whole lines (stream.h), one chunk of channels after the other.
c. Gathering taps: an item is one plane, or a band of one; each output row is a strided padded row.
d. Scattering rows, the general case: an item is a band of image rows of one plane. Row by row, each
   output row that holds a tap of it is added to a padded row, split into SW phases so that all adds
   are contiguous; what lies in the padding is then folded back.
e. Scattering pixels, padded with zeros: an item is a chunk of channels of a band of image rows.
   Columns are read in the order of memory (reversed, see f) and prefetched, and each pixel's taps
   are added to padded rows that stay in scratch; rows that no further window reaches go out.
f. A pixel's sum runs over ascending (kh, kw), as in the textbook's loops: results are equal to the
   last bit. Descending pixels give that order in e.
g. Each item owns the memory that it writes: no two threads meet.
"""

from libc.string cimport memmove, memset

cimport numpy as cnp

from fastconv._kernels.level cimport LEVEL
from fastconv._kernels.microkernels cimport import_microkernels, sums_of
from fastconv._kernels.parallel cimport Task, for_each, rows_per_item, useful_threads
from fastconv._kernels.planes cimport (
    Planes, computed_format, moved_format, padded_row, plane_at, planes_of,
)
from fastconv._kernels.rows cimport Format, is_plain, load_padded_row, load_row, store_row
from fastconv._kernels.scratch cimport Layout, take
from fastconv._kernels.stream cimport (
    LINE_BYTES, STAGE_BYTES, STREAM_FROM_BYTES, Stream, stream_fence, stream_finish,
    stream_flush, stream_room, stream_to,
)
from fastconv._kernels.sums cimport Sums
from fastconv._kernels.window cimport (
    PAD_CONSTANT, Axis, Window, ceil_div, larger, padded_size, reach, smaller, source_index,
    window_of, window_span,
)

cnp.import_array()
import_microkernels()

level = LEVEL.decode()

cdef extern from "columns.h":
    enum:
        OVERRUN_BYTES

    ctypedef struct WindowLayout:
        Py_ssize_t channels, channel_stride, rows, row_stride, bytes, pixel_stride

    void copy_pixels(
        char *to, const char *source, Py_ssize_t pixels, const WindowLayout *windows
    ) noexcept nogil

cdef extern from *:
    """
    #define prefetch(address) __builtin_prefetch(address)
    """
    void prefetch(const void *address) noexcept nogil

cdef enum:
    # The largest number of bytes of input rows in scratch: half of an L2 cache of 1 MiB.
    BAND_BYTES = 512 << 10
    # This many lines of input rows stay in L1 from one pixel to the next, beside the stage. With
    # all 768 lines of 256 channels under a 3x3 window in turn, im2col reached 20-26 GB/s instead
    # of 35.
    L1_LINES = 256
    # Chunks are multiples of this many channels: of 4 bytes each, they fill whole lines.
    CHANNELS_OF_LINES = 16
    # Columns are prefetched this many pixels ahead. That makes col2im of 59 to 462 MB a tenth to a
    # third faster; 8 are no better.
    PREFETCH_PIXELS = 4


cdef struct Columns:
    # An array of columns. Strides are in bytes; those of a window's taps follow from `tap`.
    char *data
    Py_ssize_t image, pixel, tap
    bint by_taps  # Neighbours are the same taps of neighbouring pixels: "taps", not "pixels".


cdef struct Scratch:
    # Offsets in an item's scratch.
    size_t stage  # Columns on their way past the caches.
    size_t band  # Padded rows of the image, of some channels.
    size_t row, outputs, sums  # A row of the image; a row of outputs; a padded row, or `row`.


cdef struct Plan:
    Window window
    Planes image
    Columns columns
    Py_ssize_t batch
    const Sums *sums
    Task task  # What computes an item.
    Py_ssize_t items
    Py_ssize_t band_h, bands_h  # Rows of an item (outputs, or pixels if scattered), and items.
    Py_ssize_t band_w, bands_w  # Outputs of a row of an item, and items along a row.
    Py_ssize_t chunk_channels, chunks  # Channels that are taken together, and chunks of them.
    Py_ssize_t phase_length  # The length of a row's phases in scratch; 0 if rows are too long.
    Py_ssize_t rows, row_bytes, channel_bytes  # Rows of the band, and bytes of a row and a channel.
    bint past_caches
    Layout scratch
    Scratch at
    double moved
    int threads


cdef inline Columns columns_of(cnp.ndarray columns, const Window *window) noexcept:
    """Read columns in either layout, which their number of dimensions tells apart."""
    cdef Columns c
    cdef cnp.npy_intp *strides = cnp.PyArray_STRIDES(columns)
    c.data = <char *>cnp.PyArray_DATA(columns)
    c.by_taps = cnp.PyArray_NDIM(columns) == 3
    if c.by_taps:
        c.image, c.tap, c.pixel = strides[0], strides[1], strides[2]
    else:
        c.pixel, c.tap = strides[0], strides[1]
        c.image = window.h.out * window.w.out * c.pixel
    return c


cdef void describe(
    Plan *plan, cnp.ndarray image, Format format, cnp.ndarray columns, cnp.ndarray window,
    int threads,
) noexcept:
    """Read images (n, c, h, w) and their columns."""
    memset(plan, 0, sizeof(plan[0]))
    plan.window = window_of(window)[0]
    plan.image = planes_of(image, format)
    plan.columns = columns_of(columns, &plan.window)
    plan.batch = cnp.PyArray_DIM(image, 0)
    plan.moved = <double>cnp.PyArray_NBYTES(columns)
    plan.threads = useful_threads(plan.moved, threads)


cdef int run(const Plan *plan) except -1:
    return for_each(
        plan.task, plan, plan.items, <size_t>plan.scratch.bytes, plan.moved, plan.threads
    )


# ---- gather: pixels ----------------------------------------------------------------------------

cdef inline void load_band(
    const Plan *plan, Py_ssize_t n, Py_ssize_t top, Py_ssize_t rows, Py_ssize_t left,
    Py_ssize_t width, char *band,
) noexcept nogil:
    """Copy padded rows of all channels, from a position on, to scratch."""
    cdef const Axis *w = &plan.window.w
    cdef Py_ssize_t phase_bytes = plan.phase_length * plan.image.format.bytes
    cdef Py_ssize_t channels = plan.image.channels, phases = w.dilation, c, y, phase
    cdef const char *plane
    cdef const char *source
    cdef char *to
    for c in range(channels):
        plane = plane_at(&plan.image, n * channels + c)
        to = band + c * plan.channel_bytes
        for y in range(rows):
            source = padded_row(&plan.image, plane, &plan.window.h, top + y)
            for phase in range(smaller(phases, width)):
                load_padded_row(
                    to + phase * phase_bytes, source, left + phase, phases,
                    ceil_div(width - phase, phases), plan.image.stride_w, w, plan.image.format,
                    NULL,
                )
            to += plan.row_bytes


cdef inline void copy_windows(
    const Plan *plan, const WindowLayout *windows, const char *source, Py_ssize_t outputs, char *to,
    char *stage,
) noexcept nogil:
    """Write the windows of neighbouring outputs, for some channels."""
    cdef const Axis *w = &plan.window.w
    cdef Py_ssize_t phases = w.dilation, ow = 0, x, count
    cdef Py_ssize_t taps_bytes = windows.channels * windows.rows * windows.bytes
    cdef bint joined = phases == 1 and plan.chunks == 1  # Pixels follow each other on both sides.
    cdef Stream stream = stream_to(to, stage, plan.past_caches)
    while ow < outputs:
        count = smaller(outputs - ow if joined else 1, stream_room(&stream) // taps_bytes)
        if count == 0:
            stream_flush(&stream)
            continue
        x = ow * w.stride
        copy_pixels(
            stream.stage + stream.end,
            source + (x % phases * plan.phase_length + x // phases) * plan.image.format.bytes,
            count, windows,
        )
        stream.end += count * taps_bytes
        ow += count
        if plan.chunks > 1:
            stream_finish(&stream)
            stream = stream_to(to + ow * plan.columns.pixel, stage, plan.past_caches)
    stream_finish(&stream)


cdef void gather_pixels(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    """Write the windows of a band of outputs of one image."""
    cdef const Plan *plan = <const Plan *>data
    cdef const Axis *h = &plan.window.h
    cdef const Axis *w = &plan.window.w
    cdef Py_ssize_t bytes = plan.image.format.bytes, channels = plan.image.channels, i, c
    cdef Py_ssize_t n = item // (plan.bands_h * plan.bands_w)
    cdef Py_ssize_t top = item // plan.bands_w % plan.bands_h * plan.band_h
    cdef Py_ssize_t left = item % plan.bands_w * plan.band_w
    cdef Py_ssize_t rows = smaller(plan.band_h, h.out - top)
    cdef Py_ssize_t outputs = smaller(plan.band_w, w.out - left)
    cdef char *band = scratch + plan.at.band
    cdef char *to
    cdef WindowLayout windows
    windows.channel_stride = plan.channel_bytes
    windows.rows, windows.row_stride = h.kernel, h.dilation * plan.row_bytes
    windows.bytes, windows.pixel_stride = w.kernel * bytes, w.stride * bytes
    load_band(
        plan, n, top * h.stride, reach(h, rows), left * w.stride, reach(w, outputs), band
    )
    for i in range(rows):
        to = (
            plan.columns.data + n * plan.columns.image
            + ((top + i) * w.out + left) * plan.columns.pixel
        )
        c = 0
        while c < channels:
            windows.channels = smaller(plan.chunk_channels, channels - c)
            copy_windows(
                plan, &windows, band + c * plan.channel_bytes + i * h.stride * plan.row_bytes,
                outputs, to + c * h.kernel * w.kernel * bytes, scratch + plan.at.stage,
            )
            c += windows.channels
    stream_fence()


cdef void gather_elements(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    """Do what `gather_pixels` does for a row of outputs, without scratch: for windows too large."""
    cdef const Plan *plan = <const Plan *>data
    cdef const Axis *h = &plan.window.h
    cdef const Axis *w = &plan.window.w
    cdef Py_ssize_t n = item // h.out, oh = item % h.out, ow, c, kh
    cdef char *to = plan.columns.data + n * plan.columns.image + oh * w.out * plan.columns.pixel
    cdef const char *plane
    for ow in range(w.out):
        for c in range(plan.image.channels):
            plane = plane_at(&plan.image, n * plan.image.channels + c)
            for kh in range(h.kernel):
                load_padded_row(
                    to, padded_row(&plan.image, plane, h, oh * h.stride + kh * h.dilation),
                    ow * w.stride, w.dilation, w.kernel, plan.image.stride_w, w, plan.image.format,
                    NULL,
                )
                to += w.kernel * plan.image.format.bytes


cdef inline double seen_bytes(const Plan *plan, Py_ssize_t outputs) noexcept:
    """Return the bytes of a padded row of all channels, in phases, for a number of outputs."""
    cdef const Axis *w = &plan.window.w
    return (
        <double>plan.image.channels * plan.image.format.bytes * w.dilation
        * ceil_div(reach(w, outputs), w.dilation)
    )


cdef void plan_gather_pixels(Plan *plan) noexcept:
    cdef const Axis *h = &plan.window.h
    cdef const Axis *w = &plan.window.w
    cdef Py_ssize_t channels = plan.image.channels, most_rows
    cdef double window_bytes = <double>h.kernel * w.kernel * plan.image.format.bytes, bytes
    plan.band_w = w.out
    bytes = seen_bytes(plan, plan.band_w)
    while plan.band_w > 1 and window_span(h) * bytes > BAND_BYTES:
        plan.band_w = (plan.band_w + 1) // 2
        bytes = seen_bytes(plan, plan.band_w)
    if window_span(h) * bytes > BAND_BYTES or window_bytes > STAGE_BYTES - LINE_BYTES:
        plan.task, plan.items = gather_elements, plan.batch * h.out
        return
    plan.chunk_channels = smaller(
        L1_LINES // h.kernel, (STAGE_BYTES - LINE_BYTES) // <Py_ssize_t>window_bytes
    )
    plan.chunk_channels = plan.chunk_channels // CHANNELS_OF_LINES * CHANNELS_OF_LINES
    plan.chunk_channels = smaller(larger(1, plan.chunk_channels), channels)
    plan.chunks = ceil_div(channels, plan.chunk_channels)
    # An item has as many rows of outputs as the input rows that fit are enough for.
    most_rows = BAND_BYTES // <Py_ssize_t>bytes
    plan.band_h = larger(
        1, smaller(
            rows_per_item(h.out, plan.batch, plan.threads),
            (most_rows - window_span(h)) // h.stride + 1,
        ),
    )
    plan.bands_h, plan.bands_w = ceil_div(h.out, plan.band_h), ceil_div(w.out, plan.band_w)
    plan.rows = reach(h, plan.band_h)
    plan.phase_length = ceil_div(reach(w, plan.band_w), w.dilation)
    plan.row_bytes = w.dilation * plan.phase_length * plan.image.format.bytes
    plan.channel_bytes = plan.rows * plan.row_bytes
    plan.at.stage = take(&plan.scratch, STAGE_BYTES + OVERRUN_BYTES)
    plan.at.band = take(&plan.scratch, <double>channels * plan.channel_bytes + OVERRUN_BYTES)
    plan.task, plan.items = gather_pixels, plan.batch * plan.bands_h * plan.bands_w


# ---- gather: taps ------------------------------------------------------------------------------

cdef inline void copy_tap(
    const Plan *plan, const char *pixels, Py_ssize_t top, Py_ssize_t rows, Py_ssize_t x, char *to
) noexcept nogil:
    """Write a tap of rows of outputs: first padded row, number of outputs' rows, first column."""
    cdef const Axis *h = &plan.window.h
    cdef const Axis *w = &plan.window.w
    cdef Py_ssize_t i
    for i in range(rows):
        load_padded_row(
            to, padded_row(&plan.image, pixels, h, top + i * h.stride), x, w.stride, w.out,
            plan.image.stride_w, w, plan.image.format, NULL,
        )
        to += w.out * plan.image.format.bytes


cdef inline void stream_tap(
    const Plan *plan, const char *pixels, Py_ssize_t top, Py_ssize_t rows, Py_ssize_t x, char *to,
    char *stage,
) noexcept nogil:
    """Do what `copy_tap` does, past the caches."""
    cdef const Axis *h = &plan.window.h
    cdef const Axis *w = &plan.window.w
    cdef Py_ssize_t bytes = plan.image.format.bytes, i, ow, count
    cdef const char *source
    cdef Stream stream = stream_to(to, stage, True)
    for i in range(rows):
        source = padded_row(&plan.image, pixels, h, top + i * h.stride)
        ow = 0
        while ow < w.out:
            count = smaller(w.out - ow, stream_room(&stream) // bytes)
            if count == 0:
                stream_flush(&stream)
                continue
            load_padded_row(
                stream.stage + stream.end, source, ow * w.stride + x, w.stride, count,
                plan.image.stride_w, w, plan.image.format, NULL,
            )
            stream.end += count * bytes
            ow += count
    stream_finish(&stream)


cdef void gather_taps(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    """Write all taps of a band of outputs of one plane."""
    cdef const Plan *plan = <const Plan *>data
    cdef const Axis *h = &plan.window.h
    cdef const Axis *w = &plan.window.w
    cdef Py_ssize_t plane = item // plan.bands_h, channels = plan.image.channels
    cdef Py_ssize_t top = item % plan.bands_h * plan.band_h
    cdef Py_ssize_t rows = smaller(plan.band_h, h.out - top), kh, kw
    cdef const char *pixels = plane_at(&plan.image, plane)
    cdef char *to = (
        plan.columns.data + plane // channels * plan.columns.image
        + plane % channels * h.kernel * w.kernel * plan.columns.tap
        + top * w.out * plan.columns.pixel
    )
    for kh in range(h.kernel):
        for kw in range(w.kernel):
            if plan.past_caches:
                stream_tap(
                    plan, pixels, top * h.stride + kh * h.dilation, rows, kw * w.dilation, to,
                    scratch + plan.at.stage,
                )
            else:
                copy_tap(
                    plan, pixels, top * h.stride + kh * h.dilation, rows, kw * w.dilation, to
                )
            to += plan.columns.tap
    stream_fence()


cdef void plan_gather_taps(Plan *plan) noexcept:
    cdef Py_ssize_t planes = plan.batch * plan.image.channels
    plan.past_caches = (
        plan.past_caches and plan.image.format.bytes < STAGE_BYTES - LINE_BYTES
    )
    # Rows in L1 are read once for each tap; a few items per thread even out their ends.
    plan.band_h = rows_per_item(plan.window.h.out, planes, plan.threads)
    plan.bands_h = ceil_div(plan.window.h.out, plan.band_h)
    plan.at.stage = take(&plan.scratch, STAGE_BYTES + OVERRUN_BYTES)
    plan.task, plan.items = gather_taps, planes * plan.bands_h


def gather(cnp.ndarray image, cnp.ndarray columns, cnp.ndarray window, int threads):
    """Write the columns (2-D: pixels, 3-D: taps; C-contiguous) of images (n, c, h, w)."""
    cdef Plan plan
    if cnp.PyArray_DIM(image, 0) == 0:
        return
    describe(&plan, image, moved_format(image), columns, window, threads)
    plan.past_caches = plan.moved >= STREAM_FROM_BYTES
    if plan.columns.by_taps:
        plan_gather_taps(&plan)
    else:
        plan_gather_pixels(&plan)
    run(&plan)


# ---- scatter: rows -----------------------------------------------------------------------------

cdef inline void add_outputs(
    const Plan *plan, const char *columns, Py_ssize_t kh, Py_ssize_t oh, char *scratch
) noexcept nogil:
    """Add the taps (kh, all kw) of a row of windows to the sums of an image's row."""
    cdef const Axis *w = &plan.window.w
    cdef Format format = plan.image.format
    cdef Py_ssize_t kernel = w.kernel, pixel = plan.columns.pixel, kw, ow, x
    cdef const char *row = columns + kh * kernel * plan.columns.tap + oh * w.out * pixel
    cdef const char *source
    cdef char *sums = scratch + plan.at.sums
    for kw in range(kernel):
        source = row + kw * plan.columns.tap
        if not is_plain(format, pixel, source):
            load_row(scratch + plan.at.outputs, source, w.out, pixel, format)
            source = scratch + plan.at.outputs
        x = kw * w.dilation
        if plan.phase_length:
            if w.stride > 1:
                x = x % w.stride * plan.phase_length + x // w.stride
            plan.sums.add_row(sums + x * format.scratch_bytes, source, w.out)
            continue
        for ow in range(w.out):
            x = source_index(w, ow * w.stride + kw * w.dilation)
            if x >= 0:
                plan.sums.add_element(sums, x, source, ow)


cdef inline void add_folded_outputs(
    const Plan *plan, const char *columns, Py_ssize_t ih, char *scratch
) noexcept nogil:
    """Add the taps in the padding above and below that show an image's row."""
    cdef const Axis *h = &plan.window.h
    cdef Py_ssize_t kh, oh, y
    for kh in range(h.kernel):
        y = kh * h.dilation
        for oh in range(smaller(h.out, ceil_div(h.before - y, h.stride))):
            if source_index(h, oh * h.stride + y) == ih:
                add_outputs(plan, columns, kh, oh, scratch)
        for oh in range(ceil_div(h.before + h.size - y, h.stride), h.out):
            if source_index(h, oh * h.stride + y) == ih:
                add_outputs(plan, columns, kh, oh, scratch)


cdef inline void join_phases(const Plan *plan, char *scratch) noexcept nogil:
    """Turn the sums of a padded row to a row of the image, and fold the padding back."""
    cdef const Axis *w = &plan.window.w
    cdef char *row = scratch + plan.at.row
    cdef const char *sums = scratch + plan.at.sums
    cdef Py_ssize_t x
    plan.sums.interleave_phases(row, sums, w.size, w.before, w.stride, plan.phase_length)
    if w.pad_mode == PAD_CONSTANT:
        return
    for x in range(padded_size(w)):
        if x < w.before or x >= w.before + w.size:
            plan.sums.add_element(
                row, source_index(w, x), sums, x % w.stride * plan.phase_length + x // w.stride
            )


cdef void scatter_rows(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    """Sum up a band of rows of one plane, one row after the other."""
    cdef const Plan *plan = <const Plan *>data
    cdef const Axis *h = &plan.window.h
    cdef const Axis *w = &plan.window.w
    cdef Format format = plan.image.format
    cdef Py_ssize_t plane = item // plan.bands_h, top = item % plan.bands_h * plan.band_h
    cdef Py_ssize_t channels = plan.image.channels, ih, kh, y
    cdef Py_ssize_t positions = w.stride * plan.phase_length if plan.phase_length else w.size
    cdef const char *columns = (
        plan.columns.data + plane // channels * plan.columns.image
        + plane % channels * h.kernel * w.kernel * plan.columns.tap
    )
    cdef char *pixels = plane_at(&plan.image, plane)
    for ih in range(top, smaller(top + plan.band_h, h.size)):
        memset(scratch + plan.at.sums, 0, positions * format.scratch_bytes)
        for kh in range(h.kernel):
            y = h.before + ih - kh * h.dilation
            if y >= 0 and y % h.stride == 0 and y // h.stride < h.out:
                add_outputs(plan, columns, kh, y // h.stride, scratch)
        if h.pad_mode != PAD_CONSTANT:
            add_folded_outputs(plan, columns, ih, scratch)
        if plan.phase_length:
            join_phases(plan, scratch)
        store_row(pixels + ih * plan.image.stride_h, scratch + plan.at.row, w.size, format)


cdef inline Py_ssize_t kept_columns(const Axis *w) noexcept:
    """Return the length of a padded row, or of what windows cover, if that is more."""
    return larger(reach(w, w.out), padded_size(w))


cdef void plan_scatter_rows(Plan *plan) noexcept:
    cdef const Axis *w = &plan.window.w
    cdef Py_ssize_t planes = plan.batch * plan.image.channels
    cdef double bytes = plan.image.format.scratch_bytes, sums_bytes
    plan.phase_length = ceil_div(kept_columns(w), w.stride)
    sums_bytes = bytes * w.stride * plan.phase_length
    plan.band_h = rows_per_item(plan.window.h.size, planes, plan.threads)
    plan.bands_h = ceil_div(plan.window.h.size, plan.band_h)
    plan.at.row = plan.at.sums = take(&plan.scratch, bytes * w.size)
    plan.at.outputs = take(&plan.scratch, bytes * w.out)
    # A row that padding or dilation make too long is not kept with its padding.
    if sums_bytes > BAND_BYTES:
        plan.phase_length = 0
    else:
        plan.at.sums = take(&plan.scratch, sums_bytes)
    plan.task, plan.items = scatter_rows, planes * plan.bands_h


# ---- scatter: pixels ---------------------------------------------------------------------------

cdef struct Rows:
    # Padded rows of some channels of an image. The item's rows are first <= y < last. The sums of
    # `rows` of them lie in scratch, from row `kept` on. Rows from `end` on are written already.
    Py_ssize_t n, c, channels
    Py_ssize_t first, last, kept, end
    const char *columns
    char *band


cdef inline void add_windows(const Plan *plan, const Rows *rows, Py_ssize_t oh) noexcept nogil:
    """Add the taps of a row of windows to the item's rows, last pixel first."""
    cdef const Axis *h = &plan.window.h
    cdef const Axis *w = &plan.window.w
    cdef Py_ssize_t bytes = plan.image.format.bytes, taps = h.kernel * w.kernel, ow, x, line
    cdef Py_ssize_t lines = ceil_div(rows.channels * taps * bytes, LINE_BYTES)
    cdef Py_ssize_t row_length = w.dilation * plan.phase_length, channels = rows.channels
    cdef Py_ssize_t pixel = plan.columns.pixel, phases = w.dilation, stride = w.stride
    cdef Py_ssize_t top = oh * h.stride
    cdef Py_ssize_t kh = ceil_div(rows.first - top, h.dilation)
    cdef Py_ssize_t last_kh = smaller(h.kernel, ceil_div(rows.last - top, h.dilation))
    cdef char *to = rows.band + (top + kh * h.dilation - rows.kept) * plan.row_bytes
    cdef const char *source = (
        rows.columns + ((oh + 1) * w.out - 1) * plan.columns.pixel + kh * w.kernel * bytes
    )
    if kh >= last_kh:
        return
    for ow in range(w.out - 1, -1, -1):
        for line in range(lines):
            prefetch(source - PREFETCH_PIXELS * pixel + line * LINE_BYTES)
        x = ow * stride
        if phases > 1:
            x = x % phases * plan.phase_length + x // phases
        plan.sums.add_taps(
            to + x * bytes, source, channels, plan.rows * row_length, taps, last_kh - kh,
            h.dilation * row_length, w.kernel,
        )
        source -= pixel


cdef inline void store_done(const Plan *plan, const Rows *rows, Py_ssize_t done) noexcept nogil:
    """Write the rows from `done` on, which no further window reaches."""
    cdef const Axis *h = &plan.window.h
    cdef const Axis *w = &plan.window.w
    cdef Py_ssize_t c, y
    cdef char *plane
    for c in range(rows.channels):
        plane = plane_at(&plan.image, rows.n * plan.image.channels + rows.c + c)
        for y in range(done, rows.end):
            plan.sums.interleave_phases(
                plane + (y - h.before) * plan.image.stride_h,
                rows.band + c * plan.channel_bytes + (y - rows.kept) * plan.row_bytes,
                w.size, w.before, w.dilation, plan.phase_length,
            )


cdef inline void move_rows(const Plan *plan, Rows *rows, Py_ssize_t done) noexcept nogil:
    """Move the rows before `done` to the end of scratch, and begin new ones above them."""
    cdef Py_ssize_t unfinished = (done - rows.kept) * plan.row_bytes, c
    cdef char *channel
    for c in range(rows.channels):
        channel = rows.band + c * plan.channel_bytes
        memmove(channel + plan.channel_bytes - unfinished, channel, unfinished)
        memset(channel, 0, plan.channel_bytes - unfinished)
    rows.end = done
    rows.kept = done - plan.rows


cdef void scatter_pixels(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    """Sum up a band of rows of a chunk of an image's channels, the last rows first."""
    cdef const Plan *plan = <const Plan *>data
    cdef const Axis *h = &plan.window.h
    cdef const Axis *w = &plan.window.w
    cdef Py_ssize_t oh = h.out - 1, span = window_span(h), done
    cdef Rows rows
    rows.n = item // (plan.bands_h * plan.chunks)
    rows.c = item // plan.bands_h % plan.chunks * plan.chunk_channels
    rows.channels = smaller(plan.chunk_channels, plan.image.channels - rows.c)
    rows.first = h.before + item % plan.bands_h * plan.band_h
    rows.end = rows.last = smaller(rows.first + plan.band_h, h.before + h.size)
    rows.kept = rows.end - plan.rows
    rows.columns = plan.columns.data + rows.n * plan.columns.image + (
        rows.c * h.kernel * w.kernel * plan.image.format.bytes
    )
    rows.band = scratch + plan.at.band
    memset(rows.band, 0, rows.channels * plan.channel_bytes)
    while True:
        # All rows that a window shares with the item must be in scratch when it is added.
        while oh >= 0 and (
            oh * h.stride >= rows.kept or rows.kept <= rows.first < oh * h.stride + span
        ):
            add_windows(plan, &rows, oh)
            oh -= 1
        done = rows.first if rows.kept <= rows.first else rows.kept + span - 1
        store_done(plan, &rows, done)
        if done == rows.first:
            return
        move_rows(plan, &rows, done)


cdef inline bint has_padding_to_fold(const Axis *axis) noexcept:
    return axis.pad_mode != PAD_CONSTANT and axis.before + axis.after > 0


cdef inline bint reads_pixels(const Plan *plan) noexcept:
    """Return whether windows can be added as they lie, to padded rows that fit into scratch."""
    cdef const Axis *w = &plan.window.w
    cdef Py_ssize_t bytes = plan.image.format.scratch_bytes
    cdef double span_bytes = (
        <double>ceil_div(kept_columns(w), w.dilation) * w.dilation * bytes
        * window_span(&plan.window.h)
    )
    return (
        not plan.columns.by_taps and span_bytes <= BAND_BYTES
        and not has_padding_to_fold(&plan.window.h) and not has_padding_to_fold(w)
        and is_plain(plan.image.format, plan.columns.tap, plan.columns.data)
        and plan.columns.pixel % bytes == 0
    )


cdef void plan_scatter_pixels(Plan *plan) noexcept:
    cdef const Axis *h = &plan.window.h
    cdef const Axis *w = &plan.window.w
    cdef Py_ssize_t channels = plan.image.channels, span = window_span(h)
    plan.phase_length = ceil_div(kept_columns(w), w.dilation)
    plan.row_bytes = w.dilation * plan.phase_length * plan.image.format.scratch_bytes
    plan.chunk_channels = larger(1, smaller(channels, L1_LINES // h.kernel))
    while (
        plan.chunk_channels > 1
        and <double>plan.chunk_channels * plan.row_bytes * span * 3 > BAND_BYTES
    ):
        plan.chunk_channels = (plan.chunk_channels + 1) // 2
    plan.chunks = ceil_div(channels, plan.chunk_channels)
    plan.band_h = rows_per_item(h.size, plan.batch * plan.chunks, plan.threads)
    plan.bands_h = ceil_div(h.size, plan.band_h)
    plan.rows = larger(
        span, smaller(plan.band_h, BAND_BYTES // (plan.chunk_channels * plan.row_bytes))
    )
    plan.channel_bytes = plan.rows * plan.row_bytes
    plan.at.band = take(
        &plan.scratch, <double>plan.chunk_channels * plan.channel_bytes + OVERRUN_BYTES
    )
    plan.task, plan.items = scatter_pixels, plan.batch * plan.chunks * plan.bands_h


def scatter(cnp.ndarray columns, cnp.ndarray image, cnp.ndarray window, int threads):
    """Write gather's adjoint of columns (2-D or 3-D) to images (n, c, h, w), C-contiguous."""
    cdef Plan plan
    if cnp.PyArray_DIM(image, 0) == 0:
        return
    describe(&plan, image, computed_format(columns), columns, window, threads)
    plan.sums = sums_of(plan.image.format.number)
    if reads_pixels(&plan):
        plan_scatter_pixels(&plan)
    else:
        plan_scatter_rows(&plan)
    run(&plan)
