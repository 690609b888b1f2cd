"""im2col and unfold (`gather`), col2im and fold (`scatter`).

    columns[n, oh, ow, c, kh, kw] = padded(image[n, c])[oh*SH + kh*DH, ow*SW + kw*DW]

a. Both layouts of columns are the same numbers: "pixels" (n, oh, ow | c, kh, kw) is the
   textbook's, "taps" (n | c, kh, kw | oh, ow) is torch's.
b. gather, pixels. An item is a band of output rows of one image. Its padded input is copied to
   scratch (BAND_BYTES: half of a 1 MiB L2), every row split into DW phases, so that the KW taps of
   a pixel are contiguous for every dilation; then each output pixel is KH*C short copies of
   constant size into a stage in L1, which goes out in whole lines (stream.h).
c. gather, taps. An item is one plane, or a band of one; each output row is a strided padded row.
d. scatter, general. An item is a band of image rows of one plane. Row by row, each output row
   that holds a tap of it is added to an accumulator row, split into SW phases so that all adds
   are contiguous.
e. scatter, pixels. Columns are read in the order of memory (reversed, see f), each pixel's taps
   added into padded rows of several channels, which stay in scratch.
f. A pixel's sum runs over ascending (kh, kw), as in the textbook's loops: results are equal to the
   last bit. Descending pixels give that order in e.
g. Items own the memory they write: no two threads meet.
"""

from libc.string cimport memset

cimport numpy as cnp

from fastconv._kernels.common cimport *
from fastconv._kernels.parallel cimport for_each

cnp.import_array()

cdef extern from "columns.h":
    enum:
        OVERRUN_BYTES

    char *copy_taps(
        char *to, const char *source, Py_ssize_t channels, Py_ssize_t channel_stride,
        Py_ssize_t kernel_h, Py_ssize_t row_stride, Py_ssize_t bytes,
    ) noexcept nogil

cdef enum:
    BAND_BYTES = 512 << 10
    # Rows that fit a third of L1 when several channels take turns at them.
    L1_BYTES = 32 << 10


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


cdef inline const char *padded_row(
    const Planes *image, const char *plane, const Axis *axis, Py_ssize_t y
) noexcept nogil:
    """Pixel 0 of the row that a padded position shows, NULL for constant padding."""
    cdef Py_ssize_t h = source_index(axis, y)
    if h < 0:
        return NULL
    return plane + h * image.stride_h


cdef inline Py_ssize_t split(Py_ssize_t size, Py_ssize_t pieces) noexcept nogil:
    """The size of near-equal pieces."""
    return ceil_div(size, larger(1, smaller(size, pieces)))


# ---- gather ------------------------------------------------------------------------------------

cdef inline Py_ssize_t reach(const Axis *axis, Py_ssize_t outputs) noexcept nogil:
    """How many padded positions adjacent windows cover."""
    return (outputs - 1) * axis.stride + window_span(axis)


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
    cdef Py_ssize_t channel_bytes = rows * row_bytes
    cdef Py_ssize_t taps_bytes = h.kernel * w.kernel * bytes
    cdef Py_ssize_t c, y, phase, oh, ow, x, count
    cdef const char *plane
    cdef const char *source
    cdef char *band = scratch + STAGE_BYTES + OVERRUN_BYTES
    cdef char *to = band
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

    for oh in range(oh0, oh1):
        stream = stream_to(
            job.columns.data + n * job.columns.image + (oh * w.out + ow0) * job.columns.pixel,
            scratch, job.past_caches,
        )
        for ow in range(ow0, ow1):
            x = (ow - ow0) * w.stride
            source = band + (oh - oh0) * h.stride * row_bytes
            source += x * bytes if phases == 1 else x % phases * phase_bytes + x // phases * bytes
            c = 0
            while c < job.image.channels:
                count = smaller(job.image.channels - c, stream_room(&stream) // taps_bytes)
                if count == 0:
                    stream_flush(&stream)
                    continue
                copy_taps(
                    stream.stage + stream.end, source + c * channel_bytes, count, channel_bytes,
                    h.kernel, h.dilation * row_bytes, w.kernel * bytes,
                )
                stream.end += count * taps_bytes
                c += count
        stream_finish(&stream)


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
    cdef Stream stream
    for kh in range(h.kernel):
        for kw in range(w.kernel):
            stream = stream_to(
                job.columns.data + n * job.columns.image
                + (c * taps + kh * w.kernel + kw) * job.columns.tap
                + oh0 * w.out * job.columns.pixel,
                scratch, job.past_caches,
            )
            for oh in range(oh0, smaller(oh0 + job.band_h, h.out)):
                source = padded_row(&job.image, pixels, h, oh * h.stride + kh * h.dilation)
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


def gather(cnp.ndarray image, cnp.ndarray columns, cnp.ndarray window, int threads):
    """Write the columns (2-D: pixels, 3-D: taps; C-contiguous) of images (n, c, h, w)."""
    cdef Job job
    cdef Py_ssize_t n = cnp.PyArray_DIM(image, 0), bytes, pixel_bytes
    cdef double moved = <double>cnp.PyArray_NBYTES(columns)
    job.window = window_of(window)[0]
    job.image = planes_of(image, moved_format(image))
    job.columns = columns_of(columns, &job.window)
    job.past_caches = moved >= STREAM_FROM_BYTES
    bytes = job.image.format.bytes
    h, w = &job.window.h, &job.window.w

    if cnp.PyArray_NDIM(columns) == 3:
        # Rows in L1 are read KH*KW times; a few items a thread even out their ends.
        job.band_h = split(h.out, ceil_div(4 * threads, n * job.image.channels))
        job.bands_h = ceil_div(h.out, job.band_h)
        for_each(
            gather_taps, &job, n * job.image.channels * job.bands_h, STAGE_BYTES + OVERRUN_BYTES,
            moved, threads,
        )
        return

    pixel_bytes = job.image.channels * window_span(h) * bytes
    job.band_w = w.out
    while job.band_w > 1 and pixel_bytes * row_length(w, job.band_w) > BAND_BYTES:
        job.band_w = (job.band_w + 1) // 2
    if (
        <double>pixel_bytes * row_length(w, job.band_w) > BAND_BYTES
        or h.kernel * w.kernel * bytes > STAGE_BYTES - LINE_BYTES
    ):
        for_each(gather_elements, &job, n * h.out, 0, moved, threads)
        return
    job.band_h = split(h.out, ceil_div(8 * threads, n))
    pixel_bytes = job.image.channels * row_length(w, job.band_w) * bytes
    while job.band_h > 1 and pixel_bytes * reach(h, job.band_h) > BAND_BYTES:
        job.band_h = (job.band_h + 1) // 2
    job.bands_h, job.bands_w = ceil_div(h.out, job.band_h), ceil_div(w.out, job.band_w)
    for_each(
        gather_pixels, &job, n * job.bands_h * job.bands_w,
        STAGE_BYTES + 2 * OVERRUN_BYTES + pixel_bytes * reach(h, job.band_h), moved, threads,
    )


cdef inline Py_ssize_t row_length(const Axis *w, Py_ssize_t outputs) noexcept nogil:
    """Positions of a row that is kept as phases of equal length."""
    return ceil_div(reach(w, outputs), w.dilation) * w.dilation


# ---- scatter -----------------------------------------------------------------------------------

cdef inline void add_windows(
    const Job *job, const char *columns, Py_ssize_t y, void *sums, Py_ssize_t phase_length,
    char *row,
) noexcept nogil:
    """Add to a padded row (in phases) or, with phase_length 0, to the image row that it shows."""
    cdef const Axis *h = &job.window.h
    cdef const Axis *w = &job.window.w
    cdef Format format = job.image.format
    cdef Py_ssize_t kh, kw, ow, offset, x
    cdef const char *source
    for kh in range(h.kernel):
        offset = y - kh * h.dilation
        if offset < 0 or offset % h.stride or offset // h.stride >= h.out:
            continue
        for kw in range(w.kernel):
            source = (
                columns + (kh * w.kernel + kw) * job.columns.tap
                + offset // h.stride * w.out * job.columns.pixel
            )
            if not is_plain(format, job.columns.pixel, source):
                load_row(row, source, w.out, job.columns.pixel, format)
                source = row
            x = kw * w.dilation
            if phase_length:
                job.sums.add_row(
                    <char *>sums
                    + (x % w.stride * phase_length + x // w.stride) * format.scratch_bytes,
                    source, w.out,
                )
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
    cdef Py_ssize_t phase_length = job.band_w, positions = phase_length * w.stride
    cdef const char *columns = (
        job.columns.data + n * job.columns.image + c * h.kernel * w.kernel * job.columns.tap
    )
    cdef char *pixels = plane_at(&job.image, plane)
    cdef char *merged = scratch
    cdef char *row = merged + w.size * format.scratch_bytes
    cdef char *sums = row + w.out * format.scratch_bytes
    cdef Py_ssize_t ih, y, x, to
    for ih in range(h0, smaller(h0 + job.band_h, h.size)):
        if phase_length == 0:
            sums = merged
        memset(sums, 0, (positions if phase_length else w.size) * format.scratch_bytes)
        # Every padded row that shows this one, in ascending order.
        if h.pad_mode != PAD_CONSTANT:
            for y in range(h.before):
                if source_index(h, y) == ih:
                    add_windows(job, columns, y, sums, phase_length, row)
        add_windows(job, columns, h.before + ih, sums, phase_length, row)
        if h.pad_mode != PAD_CONSTANT:
            for y in range(h.before + h.size, padded_size(h)):
                if source_index(h, y) == ih:
                    add_windows(job, columns, y, sums, phase_length, row)
        if phase_length:
            job.sums.merge_phases(merged, sums, w.size, w.before, w.stride, phase_length)
            if w.pad_mode != PAD_CONSTANT:
                for x in range(padded_size(w)):
                    if x < w.before or x >= w.before + w.size:
                        to = source_index(w, x)
                        job.sums.add_element(
                            merged, to, sums, x % w.stride * phase_length + x // w.stride
                        )
        store_row(pixels + ih * job.image.stride_h, merged, w.size, format)


cdef void scatter_pixels(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    cdef const Job *job = <const Job *>data
    cdef const Axis *h = &job.window.h
    cdef const Axis *w = &job.window.w
    cdef Py_ssize_t bytes = job.image.format.bytes
    cdef Py_ssize_t band = item % job.bands_h, group = item // job.bands_h % job.groups
    cdef Py_ssize_t n = item // (job.bands_h * job.groups)
    cdef Py_ssize_t c0 = group * job.group
    cdef Py_ssize_t channels = smaller(job.group, job.image.channels - c0)
    cdef Py_ssize_t h0 = band * job.band_h, rows = smaller(job.band_h, h.size - h0)
    cdef Py_ssize_t y0 = h0 + h.before, y1 = y0 + rows  # padded rows of this item
    cdef Py_ssize_t phases = w.dilation, phase_length = job.band_w
    cdef Py_ssize_t row_length = phases * phase_length, channel_length = rows * row_length
    cdef Py_ssize_t taps = h.kernel * w.kernel
    cdef Py_ssize_t oh, ow, kh0, kh1, x, c, r
    cdef const char *source
    cdef char *to
    cdef char *plane

    memset(scratch, 0, channels * channel_length * bytes)
    oh = smaller(h.out, ceil_div(y1, h.stride)) - 1
    while oh >= 0 and oh * h.stride + window_span(h) > y0:
        # The taps whose rows lie in this item.
        kh0 = ceil_div(y0 - oh * h.stride, h.dilation)
        kh1 = smaller(h.kernel, ceil_div(y1 - oh * h.stride, h.dilation))
        if kh0 < kh1:
            source = (
                job.columns.data + n * job.columns.image
                + ((oh + 1) * w.out - 1) * job.columns.pixel
                + (c0 * taps + kh0 * w.kernel) * bytes
            )
            to = scratch + (oh * h.stride + kh0 * h.dilation - y0) * row_length * bytes
            for ow in range(w.out - 1, -1, -1):
                x = ow * w.stride
                if phases > 1:
                    x = x % phases * phase_length + x // phases
                job.sums.add_taps(
                    to + x * bytes, source, channels, channel_length, taps, kh1 - kh0,
                    h.dilation * row_length, w.kernel,
                )
                source -= job.columns.pixel
        oh -= 1

    for c in range(channels):
        plane = plane_at(&job.image, n * job.image.channels + c0 + c)
        for r in range(rows):
            job.sums.merge_phases(
                plane + (h0 + r) * job.image.stride_h,
                scratch + (c * channel_length + r * row_length) * bytes,
                w.size, w.before, phases, phase_length,
            )


def scatter(cnp.ndarray columns, cnp.ndarray image, cnp.ndarray window, int threads):
    """Write to images (n, c, h, w; C-contiguous) the sums of columns (2-D or 3-D): gather's adjoint."""
    cdef Job job
    cdef Py_ssize_t n = cnp.PyArray_DIM(image, 0), bytes, padded, row
    cdef double moved = <double>cnp.PyArray_NBYTES(columns)
    cdef bint no_folding
    job.window = window_of(window)[0]
    job.image = planes_of(image, computed_format(columns))
    job.columns = columns_of(columns, &job.window)
    job.sums = sums_of(
        array_kind(columns) == b"f", job.image.format.scratch_bytes
    )
    bytes = job.image.format.scratch_bytes
    h, w = &job.window.h, &job.window.w
    padded = larger(reach(w, w.out), padded_size(w))
    no_folding = (
        (h.pad_mode == PAD_CONSTANT or h.before + h.after == 0)
        and (w.pad_mode == PAD_CONSTANT or w.before + w.after == 0)
    )

    row = ceil_div(padded, w.dilation) * w.dilation * bytes  # an accumulator row of e
    if (
        cnp.PyArray_NDIM(columns) == 2 and no_folding and row * 4 <= BAND_BYTES
        and is_plain(job.image.format, job.columns.tap, job.columns.data)
        and job.columns.pixel % bytes == 0 and job.columns.image % bytes == 0
    ):
        job.band_w = ceil_div(padded, w.dilation)
        job.group = larger(1, smaller(job.image.channels, L1_BYTES // (h.kernel * row)))
        job.groups = ceil_div(job.image.channels, job.group)
        job.band_h = split(
            h.size,
            larger(ceil_div(4 * threads, n * job.groups),
                   ceil_div(h.size * job.group * row, BAND_BYTES)),
        )
        job.bands_h = ceil_div(h.size, job.band_h)
        for_each(
            scatter_pixels, &job, n * job.groups * job.bands_h, job.group * job.band_h * row,
            moved, threads,
        )
        return

    # In phases, unless padding or dilation make the padded row too long to keep.
    job.band_w = ceil_div(padded, w.stride)
    if <double>job.band_w * w.stride * bytes > BAND_BYTES:
        job.band_w = 0
    job.band_h = split(h.size, ceil_div(4 * threads, n * job.image.channels))
    job.bands_h = ceil_div(h.size, job.band_h)
    for_each(
        scatter_rows, &job, n * job.image.channels * job.bands_h,
        (w.size + w.out + job.band_w * w.stride) * bytes, moved, threads,
    )
