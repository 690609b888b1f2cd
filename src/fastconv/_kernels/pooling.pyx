"""Max and average pooling, their gradients, and max-unpooling.

    max:  out[oh, ow] = max over (kh, kw) of image[oh*SH + kh*DH - top, ow*SW + kw*DW - left]
    avg:  out[oh, ow] = sum over (kh, kw) of the same, / number of positions

a. An item is a band of output rows of one plane (in very wide images, of columns too). Lanes of
   vectors are outputs and run on from row to row, so that narrow planes fill vectors as well: the
   taps (kh, kw) of all outputs of a band are one contiguous run of memory, in one of three ways.
   In place: with strides of 1, or of 2 when the pixels are dealt out to two rows in turn, lane
   oh*W + ow finds its tap at a constant distance. Every second row of lanes is idle at stride 2,
   which costs less than touching rows one by one. In phases: the padded band is copied to scratch,
   position (y, x) to row y // SH, column x // SW of phase (y % SH, x % SW); this serves every
   padding, stride and layout. Tap by tap: windows too large for scratch take one tap of a run of
   outputs at a time.
b. The best value and the offset of its tap from the window's first one live in two rows in L1;
   each tap updates them in one vectorised pass (maximum.h). The offset fits 32 bits, half the
   cost of 64, unless the window spans 2^31 pixels.
c. Padding is the dtype's lowest value and never beats the first real pixel, which the index starts
   from; that also serves windows of nothing but the lowest value.
d. The gradient of max pooling is made by plane: zeros, then one addition an output, in row-major
   order. Indices are checked plane by plane just before, while they enter the cache.
e. The gradient of average pooling is made row by row, as `scatter_rows` in columns.pyx.
f. Items own the memory they write: no two threads meet.
"""

from libc.stdint cimport int64_t
from libc.string cimport memcpy, memset

cimport numpy as cnp

from fastconv._kernels.common cimport *
from fastconv._kernels.parallel cimport for_each, useful_threads, wanted_items

cnp.import_array()

level = LEVEL.decode()

cdef extern from "maximum.h":
    ctypedef void (*MaxTaps)(
        void *best, void *index, const char **taps, const Py_ssize_t *offsets, Py_ssize_t n_taps,
        Py_ssize_t count,
    ) noexcept nogil

    ctypedef struct Maximum:
        MaxTaps values, indexed, indexed_wide
        const void *lowest

    const Maximum *maximum_of(char kind, Py_ssize_t bytes) noexcept nogil

cdef extern from "pooling.h":
    void store_indices(
        int64_t *to, const void *offsets, int wide, Py_ssize_t rows, Py_ssize_t to_pitch,
        Py_ssize_t pitch, Py_ssize_t count, Py_ssize_t first, Py_ssize_t row_step,
        Py_ssize_t step,
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
    BAND_BYTES = 48 << 10  # of scratch for a band that can be made smaller: about L1
    SCRATCH_BYTES = 768 << 10  # for one that cannot
    TAPS = 64  # in one call of the inner loop
    CHUNK = 2048  # outputs of a gradient whose rows are converted together


# ---- forward -----------------------------------------------------------------------------------

cdef enum Taps:
    IN_PLACE, IN_PHASES, ONE_BY_ONE


cdef struct PoolJob:
    Window window
    Planes image
    Format out_format
    char *out
    int64_t *indices  # or NULL
    Py_ssize_t band_h, bands_h, band_w, bands_w  # of outputs
    Taps taps
    Py_ssize_t pitch  # lanes from one row of outputs to the next
    Py_ssize_t phases_h, phases_w, phase_length  # of the band in scratch
    const Maximum *maximum  # NULL: averages
    const void *outside  # what padding shows: the lowest value, or zero
    MaxTaps update
    bint wide
    const Sums *sums
    bint count_include_pad
    bint past_caches


cdef inline Py_ssize_t positions(const Axis *axis, Py_ssize_t out, bint with_padding) noexcept nogil:
    """How many positions an average is taken over: not those beyond the padding."""
    cdef Py_ssize_t first = out * axis.stride
    if with_padding:
        return smaller(axis.kernel, padded_size(axis) - first)
    return smaller(first + axis.kernel, axis.before + axis.size) - larger(first, axis.before)


cdef inline Py_ssize_t capped(double size) noexcept nogil:
    """A size that is far beyond every budget is as good as any other."""
    return <Py_ssize_t>min(size, <double>(<Py_ssize_t>1 << 40))


cdef inline void plan_band(PoolJob *job, Py_ssize_t band_h, Py_ssize_t band_w) noexcept:
    cdef const Axis *h = &job.window.h
    cdef const Axis *w = &job.window.w
    job.band_h, job.band_w = band_h, band_w
    if job.taps == IN_PLACE:
        job.pitch = w.size
        job.phases_h, job.phases_w = 1, w.stride if w.stride > 1 else 0
        job.phase_length = band_h * w.size + (window_span(h) * w.size) // 2
        return
    job.phases_h, job.phases_w = smaller(h.stride, window_span(h)), smaller(w.stride, window_span(w))
    job.pitch = band_w + (window_span(w) - 1) // w.stride
    job.phase_length = capped(
        <double>(band_h + (window_span(h) - 1) // h.stride) * job.pitch
    )


cdef inline double band_bytes(const PoolJob *job) noexcept nogil:
    return (
        <double>job.phases_h * job.phases_w * job.phase_length * job.image.format.scratch_bytes
    )


cdef inline Py_ssize_t lanes_bytes(const PoolJob *job) noexcept nogil:
    """Best values, or offsets, of a band of outputs: 8 bytes each suit every dtype."""
    return capped(<double>job.band_h * larger(job.pitch, job.band_w)) * 8


cdef inline void load_band(
    const PoolJob *job, const char *plane, Py_ssize_t y0, Py_ssize_t x0, Py_ssize_t rows, char *band
) noexcept nogil:
    cdef const Axis *h = &job.window.h
    cdef const Axis *w = &job.window.w
    cdef Py_ssize_t bytes = job.image.format.scratch_bytes
    cdef Py_ssize_t phase_h, phase_w, row, ih
    cdef const char *source
    cdef char *to
    for phase_h in range(job.phases_h):
        for row in range(rows + (window_span(h) - 1 - phase_h) // h.stride):
            ih = y0 + phase_h + row * h.stride - h.before
            source = NULL
            if 0 <= ih < h.size:
                source = plane + ih * job.image.stride_h
            to = band + (phase_h * job.phases_w * job.phase_length + row * job.pitch) * bytes
            if job.phases_w == w.stride:
                load_padded_phases(
                    to, job.phase_length * bytes, w.stride, source, x0, job.pitch,
                    job.image.stride_w, w, job.image.format, job.outside,
                )
                continue
            for phase_w in range(job.phases_w):
                load_padded_row(
                    to + phase_w * job.phase_length * bytes, source, x0 + phase_w,
                    w.stride, job.pitch, job.image.stride_w, w, job.image.format, job.outside,
                )


cdef inline void flush_taps(
    const PoolJob *job, char *best, char *index, const char **taps, const Py_ssize_t *offsets,
    Py_ssize_t n_taps, Py_ssize_t lanes,
) noexcept nogil:
    if job.maximum != NULL:
        job.update(best, index, taps, offsets, n_taps, lanes)
    else:
        job.sums.add_sums(best, taps, n_taps, lanes)


cdef void pool(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    cdef const PoolJob *job = <const PoolJob *>data
    cdef const Axis *h = &job.window.h
    cdef const Axis *w = &job.window.w
    cdef Format format = job.image.format
    cdef Py_ssize_t bytes = format.scratch_bytes
    cdef Py_ssize_t plane = item // (job.bands_h * job.bands_w)
    cdef Py_ssize_t oh0 = item // job.bands_w % job.bands_h * job.band_h
    cdef Py_ssize_t ow0 = item % job.bands_w * job.band_w
    cdef Py_ssize_t rows = smaller(job.band_h, h.out - oh0)
    cdef Py_ssize_t count = smaller(job.band_w, w.out - ow0)
    cdef Py_ssize_t y0 = oh0 * h.stride, x0 = ow0 * w.stride
    cdef Py_ssize_t pitch = job.pitch
    cdef Py_ssize_t lanes = (rows - 1) * pitch + count
    cdef const char *pixels = plane_at(&job.image, plane)
    cdef char *best = scratch
    cdef char *index = best + lanes_bytes(job)
    cdef Py_ssize_t *columns = <Py_ssize_t *>(index + lanes_bytes(job))
    cdef char *band = <char *>(columns + job.band_w)
    cdef const char *source
    cdef const char *row
    cdef const char *taps[TAPS]
    cdef Py_ssize_t offsets[TAPS]
    cdef Py_ssize_t n_taps = 0, i, r, kh, kw, kh0, kh1, kw0, kw1, x, y, at, ih
    cdef bint starts_with_tap = job.maximum != NULL and y0 >= h.before and x0 >= w.before

    # What an output starts from: the first tap if it is real; the lowest value, at the first tap
    # that is; or zero.
    for i in range(count):
        if job.maximum != NULL:
            columns[i] = ceil_div(w.before - x0 - i * w.stride, w.dilation) * w.dilation
        else:
            columns[i] = positions(w, ow0 + i, job.count_include_pad)
    if not starts_with_tap:
        fill_row(best, job.outside, lanes, bytes)
    if job.indices != NULL:
        memset(index, 0, lanes * (8 if job.wide else 4))
        for r in range(rows):
            y = y0 + r * h.stride
            if y >= h.before and x0 >= w.before:
                break  # and so are all rows below
            start_indices(
                index + r * pitch * (8 if job.wide else 4), job.wide,
                ceil_div(h.before - y, h.dilation) * h.dilation * w.size, columns, count,
            )

    if job.taps == IN_PHASES:
        load_band(job, pixels, y0, x0, rows, band)
    elif job.taps == IN_PLACE and w.stride == 2:
        deal_row(
            band, band + job.phase_length * bytes, pixels + y0 * w.size * bytes,
            2 * lanes - 1 + (window_span(h) - 1) * w.size + window_span(w) - 1, bytes,
        )
    # Taps that lie in the padding for every output change nothing.
    kh0 = ceil_div(h.before - y0 - (rows - 1) * h.stride, h.dilation)
    kh1 = smaller(h.kernel, ceil_div(h.before + h.size - y0, h.dilation))
    kw0 = ceil_div(w.before - x0 - (count - 1) * w.stride, w.dilation)
    kw1 = smaller(w.kernel, ceil_div(w.before + w.size - x0, w.dilation))
    for kh in range(kh0, kh1):
        y = kh * h.dilation
        row = band + (  # of taps, in phases
            y % h.stride * job.phases_w * job.phase_length + y // h.stride * pitch
        ) * bytes
        for kw in range(kw0, kw1):
            x = kw * w.dilation
            offsets[n_taps] = y * w.size + x
            if job.taps == IN_PLACE and w.stride == 1:
                taps[n_taps] = pixels + (y0 * w.size + offsets[n_taps]) * bytes
            elif job.taps == IN_PLACE:
                taps[n_taps] = band + (
                    offsets[n_taps] % 2 * job.phase_length + offsets[n_taps] // 2
                ) * bytes
            elif job.taps == IN_PHASES:
                taps[n_taps] = row
                if x < w.stride:
                    taps[n_taps] += x * job.phase_length * bytes
                else:
                    taps[n_taps] += (x % w.stride * job.phase_length + x // w.stride) * bytes
            else:
                ih = y0 + y - h.before
                source = NULL
                if 0 <= ih < h.size:
                    source = pixels + ih * job.image.stride_h
                load_padded_row(
                    band, source, x0 + x, w.stride, count, job.image.stride_w, w, format,
                    job.outside,
                )
                taps[n_taps] = band
            if starts_with_tap:
                memcpy(best, taps[0], lanes * bytes)
                starts_with_tap = False
                continue
            n_taps += 1
            if n_taps == TAPS or job.taps == ONE_BY_ONE:
                flush_taps(job, best, index, taps, offsets, n_taps, lanes)
                n_taps = 0
        if job.maximum == NULL and n_taps:
            flush_taps(job, best, index, taps, offsets, n_taps, lanes)
            n_taps = 0
    if n_taps:
        flush_taps(job, best, index, taps, offsets, n_taps, lanes)

    if job.maximum == NULL:
        for r in range(rows):
            job.sums.divide(
                best + r * pitch * bytes, positions(h, oh0 + r, job.count_include_pad), columns,
                count,
            )
    at = (plane * h.out + oh0) * w.out + ow0
    if job.past_caches and pitch == count:
        stream_copy(job.out + at * bytes, best, rows * count * bytes)
    elif job.past_caches:
        store_rows(band, best, rows, count * bytes, pitch * bytes)
        stream_copy(job.out + at * bytes, band, rows * count * bytes)
    elif count == w.out and job.out_format.conversion == AS_IS:
        store_rows(job.out + at * bytes, best, rows, count * bytes, pitch * bytes)
    else:
        for r in range(rows):
            store_row(
                job.out + (at + r * w.out) * job.out_format.bytes, best + r * pitch * bytes, count,
                job.out_format,
            )
    if job.indices != NULL:
        store_indices(
            <int64_t *>band if job.past_caches else job.indices + at, index, job.wide, rows,
            w.out, pitch, count, (y0 - h.before) * w.size + x0 - w.before, h.stride * w.size,
            w.stride,
        )
        if job.past_caches:
            stream_copy(<char *>(job.indices + at), band, rows * count * 8)
    if job.past_caches:
        stream_fence()


cdef int run_pool(PoolJob *job, Py_ssize_t planes, int threads) except -1:
    """Cut the work into items and do it; `job` holds everything else."""
    cdef const Axis *h = &job.window.h
    cdef const Axis *w = &job.window.w
    cdef Py_ssize_t band_h, band_w = w.out
    cdef double moved = <double>planes * (
        <double>h.size * w.size * job.image.format.bytes
        + <double>h.out * w.out * (job.image.format.bytes + (8 if job.indices != NULL else 0))
    )
    threads = useful_threads(moved, threads)
    band_h = ceil_div(h.out, smaller(h.out, ceil_div(wanted_items(threads), planes)))
    job.taps = IN_PHASES
    if (
        h.stride == w.stride <= 2 and h.before + w.before == 0
        and reach(h, h.out) <= h.size and reach(w, w.out) <= w.size
        and is_plain(job.image.format, job.image.stride_w, job.image.data)
        and job.image.stride_h == w.size * job.image.stride_w
        and job.image.stride_n % job.image.format.bytes == 0
        and job.image.stride_c % job.image.format.bytes == 0
    ):
        job.taps = IN_PLACE
    plan_band(job, band_h, band_w)
    while band_bytes(job) + 2 * <double>lanes_bytes(job) > BAND_BYTES and band_h > 1:
        band_h = (band_h + 1) // 2
        plan_band(job, band_h, band_w)
    if job.taps == IN_PLACE and band_bytes(job) + 2 * <double>lanes_bytes(job) > SCRATCH_BYTES:
        job.taps = IN_PHASES  # which can cut rows too
        plan_band(job, band_h, band_w)
    while band_bytes(job) + 2 * <double>lanes_bytes(job) > SCRATCH_BYTES and band_w > 1:
        band_w = (band_w + 1) // 2
        plan_band(job, band_h, band_w)
    if band_bytes(job) + 2 * <double>lanes_bytes(job) > SCRATCH_BYTES:
        job.taps = ONE_BY_ONE
        # Outputs far from each other have few taps in common that are not padding.
        job.band_h, job.band_w = 1, smaller(w.out, CHUNK) if w.stride < CHUNK else 1
        job.phases_h, job.phases_w, job.phase_length, job.pitch = 1, 1, job.band_w, job.band_w
    job.bands_h, job.bands_w = ceil_div(h.out, job.band_h), ceil_div(w.out, job.band_w)
    job.past_caches = (
        moved >= STREAM_FROM_BYTES and job.bands_w == 1 and job.out_format.conversion == AS_IS
    )
    return for_each(
        pool, job, planes * job.bands_h * job.bands_w,
        2 * lanes_bytes(job) + job.band_w * sizeof(Py_ssize_t) + LINE_BYTES
        + larger(<Py_ssize_t>band_bytes(job), lanes_bytes(job)),
        moved, threads,
    )


def max_pool(
    cnp.ndarray image, cnp.ndarray out, cnp.ndarray indices, cnp.ndarray window, int threads
):
    """Write the maxima of images (n, c, h, w) and, unless None, their indices; both C-contiguous."""
    cdef PoolJob job
    if plane_count(image) == 0:
        return
    job.window = window_of(window)[0]
    job.image = planes_of(image, computed_format(image))
    job.out_format = computed_format(out)
    job.out = <char *>cnp.PyArray_DATA(out)
    job.indices = NULL
    job.maximum = maximum_of(array_kind(image), job.image.format.scratch_bytes)
    job.outside = job.maximum.lowest
    job.wide = False
    job.update = job.maximum.values
    if indices is not None:
        job.indices = <int64_t *>cnp.PyArray_DATA(indices)
        job.wide = (
            <double>(window_span(&job.window.h) - 1) * job.window.w.size
            + window_span(&job.window.w) > <double>0x7fffffff
        )
        job.update = job.maximum.indexed_wide if job.wide else job.maximum.indexed
    run_pool(&job, plane_count(image), threads)


def avg_pool(
    cnp.ndarray image, cnp.ndarray out, cnp.ndarray window, bint count_include_pad, int threads
):
    """Write the means of images (n, c, h, w) to `out` (C-contiguous)."""
    cdef PoolJob job
    if plane_count(image) == 0:
        return
    job.window = window_of(window)[0]
    job.image = planes_of(image, averaged_format(image))
    job.out_format = computed_format(out)
    job.out = <char *>cnp.PyArray_DATA(out)
    job.indices = NULL
    job.maximum = NULL
    job.outside = NULL
    job.sums = sums_of(True, job.image.format.scratch_bytes)
    job.count_include_pad = count_include_pad
    run_pool(&job, plane_count(image), threads)


# ---- gradients ---------------------------------------------------------------------------------

cdef struct PlaceJob:
    Planes values, indices
    bint index_unsigned
    Py_ssize_t rows, columns  # of a plane of values; one long row where they lie so
    char *out
    Py_ssize_t size  # of a plane of `out`
    Py_ssize_t band  # elements of it made in scratch at a time; 0: made in place
    const Sums *sums  # NULL: the last value wins
    bint past_caches
    bint check_only
    int *outside  # set if an index lies outside its plane


cdef inline const int64_t *index_row(
    const PlaceJob *job, const char *indices, Py_ssize_t row, Py_ssize_t column, Py_ssize_t count,
    int64_t *scratch,
) noexcept nogil:
    cdef const char *source = (
        indices + row * job.indices.stride_h + column * job.indices.stride_w
    )
    cdef Format format = job.indices.format
    if format.bytes == 8 and is_plain(format, job.indices.stride_w, source):
        return <const int64_t *>source
    load_row(scratch + CHUNK, source, count, job.indices.stride_w, format)
    widen_row(scratch, scratch + CHUNK, job.index_unsigned, format.bytes, count)
    return scratch


cdef void place(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    """One plane: zeros, then every value added to, or put at, its index."""
    cdef const PlaceJob *job = <const PlaceJob *>data
    cdef Format format = job.values.format
    cdef int64_t *index_scratch = <int64_t *>scratch
    cdef char *value_scratch = <char *>(index_scratch + 2 * CHUNK)
    cdef char *band = value_scratch + 8 * CHUNK
    cdef char *plane = job.out + item * job.size * format.bytes
    cdef const char *values = plane_at(&job.values, item)
    cdef const char *indices = plane_at(&job.indices, item)
    cdef const char *source
    cdef const int64_t *at
    cdef char *sums
    cdef Py_ssize_t chunk, chunks = ceil_div(job.columns, CHUNK)
    cdef Py_ssize_t row, column, count, first = 0, last
    for row in range(job.rows):
        for chunk in range(chunks):
            column = chunk * CHUNK
            count = smaller(job.columns - column, CHUNK)
            at = index_row(job, indices, row, column, count, index_scratch)
            if not all_within(at, job.size, count):
                set_flag(job.outside)
                return
    if job.check_only:
        return
    while first < job.size:
        last = smaller(first + job.band, job.size) if job.band else job.size
        sums = band if job.band else plane
        memset(sums, 0, (last - first) * format.scratch_bytes)
        for row in range(job.rows):
            for chunk in range(chunks):
                column = chunk * CHUNK
                count = smaller(job.columns - column, CHUNK)
                at = index_row(job, indices, row, column, count, index_scratch)
                source = values + row * job.values.stride_h + column * job.values.stride_w
                if not is_plain(format, job.values.stride_w, source):
                    load_row(value_scratch, source, count, job.values.stride_w, format)
                    source = value_scratch
                if job.sums != NULL:
                    job.sums.add_at(sums, at, first, last, source, count)
                else:
                    put_at(sums, at, job.size, source, format.bytes, count)
        if job.past_caches:
            stream_copy(plane + first * format.bytes, sums, (last - first) * format.bytes)
        elif job.band:
            store_row(plane + first * format.bytes, sums, last - first, format)
        first = last
    if job.past_caches:
        stream_fence()


cdef inline bint rows_join(const Planes *planes, Py_ssize_t columns) noexcept nogil:
    return planes.stride_h == columns * planes.stride_w


cdef bint run_place(
    PlaceJob *job, cnp.ndarray values, cnp.ndarray indices, cnp.ndarray out, Py_ssize_t size,
    int threads,
) except -1:
    cdef Py_ssize_t planes = plane_count(values)
    cdef double moved = (
        <double>cnp.PyArray_NBYTES(indices) + <double>planes * size * job.values.format.bytes
    )
    cdef int outside = 0
    job.indices = planes_of(indices, computed_format(indices))
    job.index_unsigned = array_kind(indices) == b"u"
    job.rows, job.columns = cnp.PyArray_DIM(values, 2), cnp.PyArray_DIM(values, 3)
    if rows_join(&job.values, job.columns) and rows_join(&job.indices, job.columns):
        job.rows, job.columns = 1, job.rows * job.columns
    job.check_only = out is None
    job.out = NULL if out is None else <char *>cnp.PyArray_DATA(out)
    job.size = size
    job.outside = &outside
    # Float16 is summed in float32, in bands of scratch; so is what is then written past the caches.
    job.band = 0
    job.past_caches = False
    if job.values.format.conversion == FROM_HALF:
        job.band = smaller(size, SCRATCH_BYTES // 4)
    elif (
        <double>planes * size * job.values.format.bytes >= STREAM_FROM_BYTES
        and size * job.values.format.bytes <= SCRATCH_BYTES
    ):
        job.band = size
        job.past_caches = True
    for_each(
        place, job, planes, 3 * 8 * CHUNK + job.band * job.values.format.scratch_bytes,
        moved, useful_threads(moved, threads),
    )
    return outside


def max_pool_backward(
    cnp.ndarray grad_output, cnp.ndarray indices, cnp.ndarray grad_input, Py_ssize_t size,
    int threads,
):
    """Write the sums of the gradients (n, c, oh, ow) that name a pixel, to planes of `size` pixels.

    Return whether an index lies outside its plane; such planes are left alone. With None for
    `grad_input` only look.
    """
    cdef PlaceJob job
    job.values = planes_of(grad_output, computed_format(grad_output))
    job.sums = sums_of(True, job.values.format.scratch_bytes)
    return run_place(&job, grad_output, indices, grad_input, size, threads)


def max_unpool(
    cnp.ndarray values, cnp.ndarray indices, cnp.ndarray out, Py_ssize_t size, int threads
):
    """Put the values (n, c, h, w) into zeroed planes; return as `max_pool_backward` does."""
    cdef PlaceJob job
    job.values = planes_of(values, computed_format(values))
    job.values.format.conversion = AS_IS  # moved, not computed
    job.values.format.scratch_bytes = job.values.format.bytes
    job.sums = NULL
    return run_place(&job, values, indices, out, size, threads)


cdef struct SpreadJob:
    Window window
    Planes grad  # of the output
    Format out_format
    char *out
    Py_ssize_t band_h, bands_h, phase_length
    bint count_include_pad
    const Sums *sums


cdef void spread(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    """Rows of the gradient of average pooling: every output's share to each of its pixels."""
    cdef const SpreadJob *job = <const SpreadJob *>data
    cdef const Axis *h = &job.window.h
    cdef const Axis *w = &job.window.w
    cdef Format format = job.grad.format
    cdef Py_ssize_t bytes = format.scratch_bytes
    cdef Py_ssize_t plane = item // job.bands_h, h0 = item % job.bands_h * job.band_h
    cdef const char *grads = plane_at(&job.grad, plane)
    cdef Py_ssize_t *columns = <Py_ssize_t *>scratch
    cdef char *share = <char *>(columns + w.out)
    cdef char *merged = share + w.out * bytes
    # A padded row in phases; where that would be too long, the image's own row.
    cdef char *sums = merged + w.size * bytes if job.phase_length else merged
    cdef Py_ssize_t positions_kept = w.stride * job.phase_length if job.phase_length else w.size
    cdef Py_ssize_t ih, iw, kw, oh, ow, x, y, first, last, first_before = 0, last_before = -2
    for ow in range(w.out):
        columns[ow] = positions(w, ow, job.count_include_pad)
    for ih in range(h0, smaller(h0 + job.band_h, h.size)):
        y = h.before + ih
        first, last = ceil_div(y - h.kernel + 1, h.stride), smaller(h.out - 1, y // h.stride)
        if first == first_before and last == last_before:  # the same windows see both rows
            store_row(
                job.out + (plane * h.size + ih) * w.size * job.out_format.bytes, merged, w.size,
                job.out_format,
            )
            continue
        first_before, last_before = first, last
        memset(sums, 0, positions_kept * bytes)
        for oh in range(last, first - 1, -1):
            load_row(share, grads + oh * job.grad.stride_h, w.out, job.grad.stride_w, format)
            job.sums.divide(share, positions(h, oh, job.count_include_pad), columns, w.out)
            if job.phase_length:
                for kw in range(w.kernel):
                    job.sums.add_row(
                        sums + (kw % w.stride * job.phase_length + kw // w.stride) * bytes, share,
                        w.out,
                    )
                continue
            for ow in range(w.out):
                x = ow * w.stride - w.before
                for iw in range(larger(x, 0), smaller(x + w.kernel, w.size)):
                    job.sums.add_element(merged, iw, share, ow)
        if job.phase_length:
            job.sums.interleave_phases(merged, sums, w.size, w.before, w.stride, job.phase_length)
        store_row(
            job.out + (plane * h.size + ih) * w.size * job.out_format.bytes, merged, w.size,
            job.out_format,
        )


def avg_pool_backward(
    cnp.ndarray grad_output, cnp.ndarray grad_input, cnp.ndarray window, bint count_include_pad,
    int threads,
):
    """Write avg_pool's adjoint of the gradients (n, c, oh, ow) to `grad_input` (C-contiguous)."""
    cdef SpreadJob job
    cdef Py_ssize_t planes = plane_count(grad_input)
    cdef double moved = (
        <double>cnp.PyArray_NBYTES(grad_input) + <double>cnp.PyArray_NBYTES(grad_output)
    )
    if planes == 0:
        return
    job.window = window_of(window)[0]
    job.grad = planes_of(grad_output, averaged_format(grad_output))
    job.out_format = computed_format(grad_input)
    job.out = <char *>cnp.PyArray_DATA(grad_input)
    job.sums = sums_of(True, job.grad.format.scratch_bytes)
    job.count_include_pad = count_include_pad
    h, w = &job.window.h, &job.window.w
    job.phase_length = ceil_div(larger(reach(w, w.out), padded_size(w)), w.stride)
    if <double>job.phase_length * w.stride * job.grad.format.scratch_bytes > SCRATCH_BYTES // 2:
        job.phase_length = 0
    threads = useful_threads(moved, threads)
    job.band_h = ceil_div(h.size, smaller(h.size, ceil_div(wanted_items(threads), planes)))
    job.bands_h = ceil_div(h.size, job.band_h)
    for_each(
        spread, &job, planes * job.bands_h,
        w.out * sizeof(Py_ssize_t)
        + (w.out + w.size + w.stride * job.phase_length) * job.grad.format.scratch_bytes,
        moved, threads,
    )
