"""im2col and unfold (`gather`), col2im and fold (`scatter`).

    columns[n, oh, ow, c, kh, kw] = padded(image[n, c])[oh*SH + kh*DH, ow*SW + kw*DW]

a. Both layouts of columns are the same numbers: "pixels" (n, oh, ow | c, kh, kw) is the
   textbook's, "taps" (n | c, kh, kw | oh, ow) is torch's.
b. gather, pixels. An item is a band of output rows of one image. Its padded input is copied to
   scratch (BAND_BYTES: half of a 1 MiB L2), every row split into DW phases, so that the KW taps of
   a pixel are contiguous for every dilation; then each output pixel is KH*C short copies of
   constant size into a stage in L1, which goes out in whole lines (stream.h), group of channels by
   group.
c. gather, taps. An item is one plane, or a band of one; each output row is a strided padded row.
d. scatter, general. An item is a band of image rows of one plane. Row by row, each output row
   that holds a tap of it is added to a padded row, split into SW phases so that all adds are
   contiguous; what lies in the padding is then folded back.
e. scatter, pixels, padded with zeros. An item is a group of channels of a band of image rows.
   Columns are read in the order of memory (reversed, see f), PREFETCH_PIXELS ahead, each pixel's
   taps added into padded rows that stay in scratch; rows that no further window reaches go out.
f. A pixel's sum runs over ascending (kh, kw), as in the textbook's loops: results are equal to the
   last bit. Descending pixels give that order in e.
g. Items own the memory they write: no two threads meet.
"""

from libc.string cimport memmove, memset

cimport numpy as cnp

from fastconv._kernels.common cimport *
from fastconv._kernels.parallel cimport for_each, useful_threads, wanted_items

cnp.import_array()

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
    BAND_BYTES = 512 << 10
    # Lines of input rows that stay in L1 from one pixel to the next, beside the stage: with all
    # 768 of 256 channels under 3x3 in turn, im2col reached 20-26 GB/s instead of 35.
    L1_LINES = 256
    # A tenth to a third faster than without, in col2im from 59 to 462 MB; 8 are no better.
    PREFETCH_PIXELS = 4


cdef struct Columns:
    # Strides of columns in bytes; those of a window's taps follow from `tap`.
    char *data
    Py_ssize_t image, pixel, tap


cdef struct Job:
    Window window
    Planes image
    Columns columns
    Py_ssize_t band_h, bands_h, band_w, bands_w  # the output's, or for scatter the image's
    Py_ssize_t group, groups  # channels
    Py_ssize_t rows, phase_length  # in scratch; phase_length 0: not in phases
    bint past_caches
    const Sums *sums


cdef inline Columns columns_of(cnp.ndarray columns, const Window *window) noexcept:
    """Strides of columns in either layout, told apart by their number of dimensions."""
    cdef Columns c
    cdef cnp.npy_intp *strides = cnp.PyArray_STRIDES(columns)
    c.data = <char *>cnp.PyArray_DATA(columns)
    if cnp.PyArray_NDIM(columns) == 2:
        c.pixel, c.tap = strides[0], strides[1]
        c.image = window.h.out * window.w.out * c.pixel
    else:
        c.image, c.tap, c.pixel = strides[0], strides[1], strides[2]
    return c


cdef inline Py_ssize_t split(Py_ssize_t size, Py_ssize_t pieces) noexcept nogil:
    """The size of near-equal pieces."""
    return ceil_div(size, larger(1, smaller(size, pieces)))


# ---- gather ------------------------------------------------------------------------------------

cdef void gather_pixels(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    cdef const Job *job = <const Job *>data
    cdef const Axis *h = &job.window.h
    cdef const Axis *w = &job.window.w
    cdef Py_ssize_t bytes = job.image.format.bytes
    cdef Py_ssize_t n = item // (job.bands_h * job.bands_w)
    cdef Py_ssize_t oh0 = item // job.bands_w % job.bands_h * job.band_h
    cdef Py_ssize_t ow0 = item % job.bands_w * job.band_w
    cdef Py_ssize_t oh1 = smaller(oh0 + job.band_h, h.out), ow1 = smaller(ow0 + job.band_w, w.out)
    cdef Py_ssize_t rows = reach(h, oh1 - oh0), width = reach(w, ow1 - ow0)
    cdef Py_ssize_t phases = w.dilation
    cdef Py_ssize_t phase_bytes = ceil_div(width, phases) * bytes
    cdef Py_ssize_t row_bytes = phases * phase_bytes
    cdef Py_ssize_t c, y, phase, oh, ow, x, count, taps_bytes
    cdef WindowLayout windows
    cdef const char *plane
    cdef const char *source
    cdef char *band = scratch + STAGE_BYTES + OVERRUN_BYTES
    cdef char *to = band
    cdef char *row
    cdef Stream stream

    for c in range(job.image.channels):
        plane = plane_at(&job.image, n * job.image.channels + c)
        for y in range(rows):
            source = padded_row(&job.image, plane, h, oh0 * h.stride + y)
            for phase in range(smaller(phases, width)):
                load_padded_row(
                    to + phase * phase_bytes, source, ow0 * w.stride + phase, phases,
                    ceil_div(width - phase, phases), job.image.stride_w, w, job.image.format, NULL,
                )
            to += row_bytes

    windows.channel_stride = rows * row_bytes
    windows.rows = h.kernel
    windows.row_stride = h.dilation * row_bytes
    windows.bytes = w.kernel * bytes
    windows.pixel_stride = w.stride * bytes
    for oh in range(oh0, oh1):
        row = (
            job.columns.data + n * job.columns.image + (oh * w.out + ow0) * job.columns.pixel
        )
        c = 0
        while c < job.image.channels:
            windows.channels = smaller(job.group, job.image.channels - c)
            taps_bytes = windows.channels * h.kernel * w.kernel * bytes
            source = band + c * windows.channel_stride + (oh - oh0) * h.stride * row_bytes
            to = row + c * h.kernel * w.kernel * bytes
            stream = stream_to(to, scratch, job.past_caches)
            ow = 0
            while ow < ow1 - ow0:
                x = ow * w.stride
                if phases == 1 and job.groups == 1:  # pixels follow each other on both sides
                    count = smaller(ow1 - ow0 - ow, stream_room(&stream) // taps_bytes)
                else:
                    count = smaller(1, stream_room(&stream) // taps_bytes)
                if count == 0:
                    stream_flush(&stream)
                    continue
                copy_pixels(
                    stream.stage + stream.end,
                    source + x % phases * phase_bytes + x // phases * bytes, count, &windows,
                )
                stream.end += count * taps_bytes
                ow += count
                if job.groups > 1:
                    stream_finish(&stream)
                    stream = stream_to(to + ow * job.columns.pixel, scratch, job.past_caches)
            stream_finish(&stream)
            c += windows.channels
    stream_fence()


cdef void gather_elements(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    """What `gather_pixels` does, without scratch: for windows too large for it."""
    cdef const Job *job = <const Job *>data
    cdef const Axis *h = &job.window.h
    cdef const Axis *w = &job.window.w
    cdef Py_ssize_t n = item // h.out, oh = item % h.out, ow, c, kh
    cdef Py_ssize_t bytes = job.image.format.bytes
    cdef char *to = job.columns.data + n * job.columns.image + oh * w.out * job.columns.pixel
    cdef const char *plane
    for ow in range(w.out):
        for c in range(job.image.channels):
            plane = plane_at(&job.image, n * job.image.channels + c)
            for kh in range(h.kernel):
                load_padded_row(
                    to, padded_row(&job.image, plane, h, oh * h.stride + kh * h.dilation),
                    ow * w.stride, w.dilation, w.kernel, job.image.stride_w, w, job.image.format,
                    NULL,
                )
                to += w.kernel * bytes


cdef void gather_taps(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    cdef const Job *job = <const Job *>data
    cdef const Axis *h = &job.window.h
    cdef const Axis *w = &job.window.w
    cdef Py_ssize_t bytes = job.image.format.bytes
    cdef Py_ssize_t plane = item // job.bands_h, taps = h.kernel * w.kernel
    cdef Py_ssize_t n = plane // job.image.channels, c = plane % job.image.channels
    cdef Py_ssize_t oh0 = item % job.bands_h * job.band_h
    cdef Py_ssize_t oh, kh, kw, ow, count
    cdef const char *pixels = plane_at(&job.image, plane)
    cdef const char *source
    cdef char *to
    cdef Stream stream
    for kh in range(h.kernel):
        for kw in range(w.kernel):
            to = (
                job.columns.data + n * job.columns.image
                + (c * taps + kh * w.kernel + kw) * job.columns.tap
                + oh0 * w.out * job.columns.pixel
            )
            stream = stream_to(to, scratch, True)
            for oh in range(oh0, smaller(oh0 + job.band_h, h.out)):
                source = padded_row(&job.image, pixels, h, oh * h.stride + kh * h.dilation)
                if not job.past_caches:
                    load_padded_row(
                        to, source, kw * w.dilation, w.stride, w.out, job.image.stride_w, w,
                        job.image.format, NULL,
                    )
                    to += w.out * bytes
                    continue
                ow = 0
                while ow < w.out:
                    count = smaller(w.out - ow, stream_room(&stream) // bytes)
                    if count == 0:
                        stream_flush(&stream)
                        continue
                    load_padded_row(
                        stream.stage + stream.end, source, ow * w.stride + kw * w.dilation,
                        w.stride, count, job.image.stride_w, w, job.image.format, NULL,
                    )
                    stream.end += count * bytes
                    ow += count
            stream_finish(&stream)
    stream_fence()


def gather(cnp.ndarray image, cnp.ndarray columns, cnp.ndarray window, int threads):
    """Write the columns (2-D: pixels, 3-D: taps; C-contiguous) of images (n, c, h, w)."""
    cdef Job job
    cdef Py_ssize_t n = cnp.PyArray_DIM(image, 0), bytes, pixel_bytes
    cdef double window_bytes, column_bytes
    cdef double moved = <double>cnp.PyArray_NBYTES(columns)
    if n == 0:
        return
    threads = useful_threads(moved, threads)
    job.window = window_of(window)[0]
    job.image = planes_of(image, moved_format(image))
    job.columns = columns_of(columns, &job.window)
    job.past_caches = moved >= STREAM_FROM_BYTES
    bytes = job.image.format.bytes
    h, w = &job.window.h, &job.window.w

    if cnp.PyArray_NDIM(columns) == 3:
        job.past_caches = job.past_caches and bytes < STAGE_BYTES - LINE_BYTES
        # Rows in L1 are read KH*KW times; a few items a thread even out their ends.
        job.band_h = split(h.out, ceil_div(wanted_items(threads), n * job.image.channels))
        job.bands_h = ceil_div(h.out, job.band_h)
        for_each(
            gather_taps, &job, n * job.image.channels * job.bands_h, STAGE_BYTES + OVERRUN_BYTES,
            moved, threads,
        )
        return

    window_bytes = <double>h.kernel * w.kernel * bytes
    column_bytes = <double>job.image.channels * window_span(h) * bytes
    job.band_w = w.out
    while job.band_w > 1 and column_bytes * row_length(w, job.band_w) > BAND_BYTES:
        job.band_w = (job.band_w + 1) // 2
    if (
        column_bytes * row_length(w, job.band_w) > BAND_BYTES
        or window_bytes > STAGE_BYTES - LINE_BYTES
    ):
        for_each(gather_elements, &job, n * h.out, 0, moved, threads)
        return
    # A multiple of 16 channels of 4 bytes is a number of whole lines.
    job.group = smaller(
        L1_LINES // h.kernel, (STAGE_BYTES - LINE_BYTES) // <Py_ssize_t>window_bytes
    )
    job.group = smaller(larger(1, job.group // 16 * 16), job.image.channels)
    job.groups = ceil_div(job.image.channels, job.group)
    job.band_h = split(h.out, ceil_div(wanted_items(threads), n))
    pixel_bytes = job.image.channels * row_length(w, job.band_w) * bytes
    # As many output rows as the input rows that fit are enough for.
    job.band_h = larger(
        1, smaller(job.band_h, (BAND_BYTES // pixel_bytes - window_span(h)) // h.stride + 1)
    )
    job.bands_h, job.bands_w = ceil_div(h.out, job.band_h), ceil_div(w.out, job.band_w)
    for_each(
        gather_pixels, &job, n * job.bands_h * job.bands_w,
        STAGE_BYTES + 2 * OVERRUN_BYTES + pixel_bytes * reach(h, job.band_h), moved, threads,
    )


cdef inline Py_ssize_t row_length(const Axis *w, Py_ssize_t outputs) noexcept nogil:
    """Positions of a row that is kept as phases of equal length."""
    return ceil_div(reach(w, outputs), w.dilation) * w.dilation


# ---- scatter -----------------------------------------------------------------------------------

cdef inline void add_outputs(
    const Job *job, const char *columns, Py_ssize_t kh, Py_ssize_t oh, void *sums, char *row
) noexcept nogil:
    """Add the taps (kh, all kw) of the windows oh to `sums`: a padded row in phases, or else the
    image's own row."""
    cdef const Axis *h = &job.window.h
    cdef const Axis *w = &job.window.w
    cdef Format format = job.image.format
    cdef Py_ssize_t kw, ow, x
    cdef const char *source
    for kw in range(w.kernel):
        source = (
            columns + (kh * w.kernel + kw) * job.columns.tap + oh * w.out * job.columns.pixel
        )
        if not is_plain(format, job.columns.pixel, source):
            load_row(row, source, w.out, job.columns.pixel, format)
            source = row
        x = kw * w.dilation
        if job.phase_length:
            x = x % w.stride * job.phase_length + x // w.stride
            job.sums.add_row(<char *>sums + x * format.scratch_bytes, source, w.out)
            continue
        for ow in range(w.out):
            x = source_index(w, ow * w.stride + kw * w.dilation)
            if x >= 0:
                job.sums.add_element(sums, x, source, ow)


cdef void scatter_rows(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    cdef const Job *job = <const Job *>data
    cdef const Axis *h = &job.window.h
    cdef const Axis *w = &job.window.w
    cdef Format format = job.image.format
    cdef Py_ssize_t plane = item // job.bands_h, h0 = item % job.bands_h * job.band_h
    cdef Py_ssize_t n = plane // job.image.channels, c = plane % job.image.channels
    cdef Py_ssize_t phase_length = job.phase_length
    cdef Py_ssize_t positions = phase_length * w.stride if phase_length else w.size
    cdef const char *columns = (
        job.columns.data + n * job.columns.image + c * h.kernel * w.kernel * job.columns.tap
    )
    cdef char *pixels = plane_at(&job.image, plane)
    cdef char *merged = scratch
    cdef char *row = merged + w.size * format.scratch_bytes
    cdef char *sums = row + w.out * format.scratch_bytes if phase_length else merged
    cdef Py_ssize_t ih, kh, oh, y, x, to
    for ih in range(h0, smaller(h0 + job.band_h, h.size)):
        memset(sums, 0, positions * format.scratch_bytes)
        for kh in range(h.kernel):
            y = h.before + ih - kh * h.dilation
            if y >= 0 and y % h.stride == 0 and y // h.stride < h.out:
                add_outputs(job, columns, kh, y // h.stride, sums, row)
        if h.pad_mode != PAD_CONSTANT:  # the padding above and below may show this row, too
            for kh in range(h.kernel):
                y = kh * h.dilation
                for oh in range(smaller(h.out, ceil_div(h.before - y, h.stride))):
                    if source_index(h, oh * h.stride + y) == ih:
                        add_outputs(job, columns, kh, oh, sums, row)
                for oh in range(ceil_div(h.before + h.size - y, h.stride), h.out):
                    if source_index(h, oh * h.stride + y) == ih:
                        add_outputs(job, columns, kh, oh, sums, row)
        if phase_length:
            job.sums.interleave_phases(merged, sums, w.size, w.before, w.stride, phase_length)
            if w.pad_mode != PAD_CONSTANT:
                for x in range(padded_size(w)):
                    if x < w.before or x >= w.before + w.size:
                        to = source_index(w, x)
                        job.sums.add_element(
                            merged, to, sums, x % w.stride * phase_length + x // w.stride
                        )
        store_row(pixels + ih * job.image.stride_h, merged, w.size, format)


cdef inline void add_pixels(
    const Job *job, const char *columns, Py_ssize_t channels, Py_ssize_t oh, Py_ssize_t kh0,
    Py_ssize_t kh1, char *rows,
) noexcept nogil:
    """Add the taps kh0 to kh1 of a row of pixels, last pixel first; `rows` begins at kh0's."""
    cdef const Axis *h = &job.window.h
    cdef const Axis *w = &job.window.w
    cdef Py_ssize_t bytes = job.image.format.bytes, phases = w.dilation
    cdef Py_ssize_t row_length = phases * job.phase_length, taps = h.kernel * w.kernel
    cdef Py_ssize_t ow, x, line
    cdef const char *source = (
        columns + ((oh + 1) * w.out - 1) * job.columns.pixel + kh0 * w.kernel * bytes
    )
    for ow in range(w.out - 1, -1, -1):
        for line in range(ceil_div(channels * taps * bytes, LINE_BYTES)):
            prefetch(source - PREFETCH_PIXELS * job.columns.pixel + line * LINE_BYTES)
        x = ow * w.stride
        if phases > 1:
            x = x % phases * job.phase_length + x // phases
        job.sums.add_taps(
            rows + x * bytes, source, channels, job.rows * row_length, taps, kh1 - kh0,
            h.dilation * row_length, w.kernel,
        )
        source -= job.columns.pixel


cdef void scatter_pixels(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    cdef const Job *job = <const Job *>data
    cdef const Axis *h = &job.window.h
    cdef const Axis *w = &job.window.w
    cdef Py_ssize_t band = item % job.bands_h, group = item // job.bands_h % job.groups
    cdef Py_ssize_t n = item // (job.bands_h * job.groups), c0 = group * job.group
    cdef Py_ssize_t channels = smaller(job.group, job.image.channels - c0)
    cdef Py_ssize_t bytes = job.image.format.bytes, span = window_span(h)
    cdef Py_ssize_t row_bytes = w.dilation * job.phase_length * bytes
    cdef Py_ssize_t channel_bytes = job.rows * row_bytes
    cdef Py_ssize_t y0 = h.before + band * job.band_h  # the item's padded rows: y0 <= y < end
    cdef Py_ssize_t end = smaller(y0 + job.band_h, h.before + h.size)
    cdef Py_ssize_t kept = end - job.rows  # the first of the rows in scratch
    cdef Py_ssize_t oh = h.out - 1, kh0, kh1, done, y, c
    cdef const char *columns = (
        job.columns.data + n * job.columns.image + c0 * h.kernel * w.kernel * bytes
    )
    cdef char *plane
    memset(scratch, 0, channels * channel_bytes)
    while True:
        # All windows whose rows of this item are in scratch.
        while oh >= 0 and (oh * h.stride >= kept or kept <= y0 < oh * h.stride + span):
            kh0 = ceil_div(y0 - oh * h.stride, h.dilation)
            kh1 = smaller(h.kernel, ceil_div(y0 + job.band_h - oh * h.stride, h.dilation))
            kh1 = smaller(kh1, ceil_div(h.before + h.size - oh * h.stride, h.dilation))
            if kh0 < kh1:
                add_pixels(
                    job, columns, channels, oh, kh0, kh1,
                    scratch + (oh * h.stride + kh0 * h.dilation - kept) * row_bytes,
                )
            oh -= 1
        # Rows that no further window reaches are done.
        done = y0 if kept <= y0 else kept + span - 1
        for c in range(channels):
            plane = plane_at(&job.image, n * job.image.channels + c0 + c)
            for y in range(done, end):
                job.sums.interleave_phases(
                    plane + (y - h.before) * job.image.stride_h,
                    scratch + c * channel_bytes + (y - kept) * row_bytes,
                    w.size, w.before, w.dilation, job.phase_length,
                )
        if done == y0:
            return
        # The others move to the end of scratch, and new rows begin above them.
        for c in range(channels):
            memmove(
                scratch + c * channel_bytes + (job.rows - span + 1) * row_bytes,
                scratch + c * channel_bytes, (span - 1) * row_bytes,
            )
            memset(scratch + c * channel_bytes, 0, (job.rows - span + 1) * row_bytes)
        end = done
        kept = end - job.rows


def scatter(cnp.ndarray columns, cnp.ndarray image, cnp.ndarray window, int threads):
    """Write gather's adjoint of columns (2-D or 3-D) to images (n, c, h, w), C-contiguous."""
    cdef Job job
    cdef Py_ssize_t n = cnp.PyArray_DIM(image, 0), bytes, padded, row
    cdef double moved = <double>cnp.PyArray_NBYTES(columns)
    cdef bint no_folding
    if n == 0:
        return
    threads = useful_threads(moved, threads)
    job.window = window_of(window)[0]
    job.image = planes_of(image, computed_format(columns))
    job.columns = columns_of(columns, &job.window)
    job.sums = sums_of(array_kind(columns) == b"f", job.image.format.scratch_bytes)
    bytes = job.image.format.scratch_bytes
    h, w = &job.window.h, &job.window.w
    padded = larger(reach(w, w.out), padded_size(w))
    no_folding = (
        (h.pad_mode == PAD_CONSTANT or h.before + h.after == 0)
        and (w.pad_mode == PAD_CONSTANT or w.before + w.after == 0)
    )

    job.phase_length = ceil_div(padded, w.dilation)
    row = job.phase_length * w.dilation * bytes
    job.group = larger(1, smaller(job.image.channels, L1_LINES // h.kernel))
    while job.group > 1 and <double>job.group * row * window_span(h) * 3 > BAND_BYTES:
        job.group = (job.group + 1) // 2
    if (
        cnp.PyArray_NDIM(columns) == 2 and no_folding
        and <double>row * window_span(h) <= BAND_BYTES
        and is_plain(job.image.format, job.columns.tap, job.columns.data)
        and job.columns.pixel % bytes == 0
    ):
        job.groups = ceil_div(job.image.channels, job.group)
        job.band_h = split(h.size, ceil_div(wanted_items(threads), n * job.groups))
        job.bands_h = ceil_div(h.size, job.band_h)
        job.rows = larger(window_span(h), smaller(job.band_h, BAND_BYTES // (job.group * row)))
        for_each(
            scatter_pixels, &job, n * job.groups * job.bands_h,
            job.group * job.rows * row + OVERRUN_BYTES, moved, threads,
        )
        return

    # In phases, unless padding or dilation make the padded row too long to keep.
    job.phase_length = ceil_div(padded, w.stride)
    if <double>job.phase_length * w.stride * bytes > BAND_BYTES:
        job.phase_length = 0
    job.band_h = split(h.size, ceil_div(wanted_items(threads), n * job.image.channels))
    job.bands_h = ceil_div(h.size, job.band_h)
    for_each(
        scatter_rows, &job, n * job.image.channels * job.bands_h,
        (w.size + w.out + job.phase_length * w.stride) * bytes, moved, threads,
    )
