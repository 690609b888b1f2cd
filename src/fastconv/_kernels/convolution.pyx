"""Convolution and its adjoint (`forward`, `transposed`) and the gradients of weight and bias.

    out[n, f, oh, ow] = bias[f] + sum over (c, kh, kw) of
        weight[f, c, kh, kw] * padded(image[n, c])[oh*SH + kh*DH, ow*SW + kw*DW]

a. Everything is a sum over steps k = (c, kh, kw) of packed weights times source pixels, done by the
   register tiles of tile.c. The transposed convolution, which is also the gradient of the input, is
   the same sum: the outputs y with y % SH == r (a *phase*) take part only in the taps kh with
   (r - kh*DH) % SH == 0, and lie SH apart, while their sources lie next to each other. A forward
   convolution is one phase with all taps; a transposed one has SH x SW.
b. An item is a band of output rows of one image (or a few whole small images), of one group, for a
   range of its filters. The band's source is copied to scratch with its padding, so that every pad
   mode, layout and dtype costs the same; rows are dealt to SW phases, so that neighbouring outputs
   find a tap side by side. A table gives each step's offset in the band. 1x1 windows without
   padding read the image where it lies, H*W as one row.
c. Loops inside an item: block of filters, group of rows, tile of pixels; all steps in one call of
   the tile. Weights are packed once a call to [pair of phases][group][block][step][filter]; a block
   that only one item uses is packed by it into its own scratch, where it stays in cache. Sums of a
   block of filters for a group of rows lie in scratch as [filter][pixel], from where whole rows go
   out. A thread keeps its band for the next item that has the same.
d. Few filters a group (FEW_FILTERS; depthwise): lanes of vectors are pixels instead of filters. An
   input channel with filters of its own is an item (`whole_planes`): one call of the tile a phase,
   where calls for a few rows took most of the time of small planes.
e. Windows too large for a band in scratch are gathered for one run of outputs, a chunk of steps at
   a time.
f. The adjoint of padding with other than zeros adds a gradient in the padding to the pixel shown
   there: a second pass computes the padding's positions alone and adds them.
g. Gradient of the weight: the tile's lanes are filters, its "pixels" taps, its steps the outputs'
   pixels. Slices of the pixels, whose number depends on the shape alone, are summed separately and
   added pairwise.
h. An item owns what it writes, and each sum runs in an order that the shape determines: results do
   not depend on the number of threads.
i. Layout and blocking follow E. Georganas et al., "Anatomy of High-Performance Deep Learning
   Convolutions on SIMD Architectures", SC18.
"""

from libc.math cimport fabs, sqrt
from libc.stdint cimport INT32_MAX, int32_t, uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

cimport numpy as cnp

from fastconv._kernels.band cimport *
from fastconv._kernels.common cimport *
from fastconv._kernels.parallel cimport LINE, for_each, useful_threads, wanted_items
from fastconv._kernels.tile cimport *
from fastconv._kernels.weights cimport *

cdef extern from "Python.h":
    Py_ssize_t PY_SSIZE_T_MAX

cnp.import_array()

level = LEVEL.decode()

cdef enum:
    FEW_FILTERS = 4  # of a group, for lanes of filters to stay empty
    PLANE_BLOCK = 128  # what SUM_BLOCK is where lanes are pixels,
    PLANE_CHANNELS = 16  # and the channels whose sums are added up before they join the others
    STREAM_BYTES = 4 << 20  # results of this size leave the caches: 18 % for (100,30,24,24)
    BAND_BYTES = 768 << 10  # of source in scratch: with a block of weights, less than a 1 MiB L2
    LIMIT_BYTES = 3 << 20  # of scratch for a band that cannot be smaller
    IMAGES_BYTES = 1536 << 10  # that are read where they lie, once for every block of weights
    GROUP_PIXELS = 112  # outputs whose sums lie in scratch, in L1: 224 take 1.11 for one channel
    MOST_PIXELS = 4096  # the same where lanes are pixels: few filters have few sums
    MOST_COLUMNS = 1024  # of outputs in an item
    FEW_COLUMNS = 56  # that an item's rows are not cut below
    FEW_ROWS = 4  # that an item is not cut below: the rows around them are copied, too
    RUN_PIXELS = 56  # outputs whose tiles are summed, and whose source is gathered, together
    TILE_BYTES = RUN_PIXELS * TILE_VECTORS * VECTOR_BYTES  # of sums of so many
    CHUNK_CHANNELS = 64  # of which a run of pixels stays in L1
    AHEAD_PIXELS = 56  # that are asked for in an image that is read where it lies
    STEP_PIXELS = 256  # of outputs in one call of the tile: a block of grads then fits L1
    SLICES = 32  # of the outputs whose gradients are summed apart
    SLICE_BYTES = 2 << 20  # of all of them
    SLICE_PIXELS = 4096  # of a slice that is only added up, at least


cdef struct Part:
    # A pair of phases that have taps.
    const Phase *h
    const Phase *w
    Py_ssize_t steps, sum_block
    Py_ssize_t steps_before  # of the parts before it
    int32_t *offsets  # in the band: of every step or, where lanes are pixels, of every column
    char *packed


cdef enum Source:
    IN_BAND, IN_PLACE, GATHERED


cdef enum Packing:
    BEFORE, LATE, NEVER  # LATE: by the only item that uses the block; NEVER: weights lie as needed


cdef struct Job:
    Band band
    Part *parts
    Weights weights
    Format out_format
    char *out
    char *bias  # of padded_filters a group
    Py_ssize_t filters, groups  # filters of a group
    Py_ssize_t images  # of an item
    Py_ssize_t batch
    Source reading
    bint adjoint
    bint planes  # lanes are pixels
    bint whole_planes  # all outputs of a channel are computed at once
    bint framed  # ..., whose padding is the same zeros for all channels
    bint folds  # outputs lie in the padding, and are added to what it shows
    bint past_caches
    Py_ssize_t block, padded_filters, blocks  # filters of a block; of all with the lanes' rest
    Py_ssize_t split, splits  # blocks of an item; items along the filters
    Packing packing
    size_t packed_bytes  # of a block that is packed late
    Py_ssize_t bytes
    Py_ssize_t group_rows, row_pitch, sums_pitch
    Py_ssize_t run, chunk  # of outputs that are gathered; of steps that are taken together
    Py_ssize_t ahead  # of the numbers that a tile reads are what it asks for
    Py_ssize_t source_bytes  # of the band or what is gathered
    Py_ssize_t image_bytes  # from one image of an item to the next
    const Tiles *tiles
    const Sums *sums
    bint only_planned
    double workspace  # bytes that are allocated


# ---- the plan ----------------------------------------------------------------------------------

cdef void plan_sizes(Job *job, int threads) noexcept:
    """Decide how source is read, and cut outputs and filters into items."""
    cdef Py_ssize_t rows = job.band.h.last - job.band.h.first
    cdef Py_ssize_t columns = job.band.w.last - job.band.w.first
    cdef Py_ssize_t wanted = wanted_items(threads)
    cdef Py_ssize_t items, lanes = job.tiles.lanes, side_by_side

    job.images = 1
    job.band.w.size = smaller(columns, MOST_PIXELS if job.planes else MOST_COLUMNS)
    job.band.h.size = 1
    if job.reading == IN_BAND:
        job.band.h.size = fitting_rows(&job.band, job.band.w.size, BAND_BYTES)
        while job.band.h.size < smaller(rows, FEW_ROWS) and job.band.w.size > FEW_COLUMNS:
            job.band.w.size = (job.band.w.size + 1) // 2
            job.band.h.size = fitting_rows(&job.band, job.band.w.size, BAND_BYTES)
        job.band.h.size = larger(1, job.band.h.size)
        while job.band.w.size > 1 and band_bytes(&job.band, 1, job.band.w.size) > LIMIT_BYTES:
            job.band.w.size = (job.band.w.size + 1) // 2
        if band_bytes(&job.band, 1, job.band.w.size) > LIMIT_BYTES:
            job.reading = GATHERED
            job.planes = False
            job.band.w.size = smaller(columns, RUN_PIXELS)
    job.band.h.size = even_size(rows, job.band.h.size, 1)
    job.band.w.size = even_size(columns, job.band.w.size, TILE_PIXELS)

    # Small images share the rows of a tile, and the weights on their way through the cache.
    if (
        job.reading == IN_BAND and not job.planes and not job.folds
        and job.band.h.size == rows and job.band.w.size == columns
        and job.band.h.step == job.band.w.step == 1 and 2 * columns <= TILE_PIXELS
    ):
        job.images = smaller(
            smaller(job.batch, ceil_div(GROUP_PIXELS, rows * columns)),
            larger(1, BAND_BYTES // <Py_ssize_t>band_bytes(&job.band, rows, columns)),
        )
        side_by_side = smaller(TILE_ROWS, TILE_PIXELS // columns)
        if job.images > side_by_side:
            job.images -= job.images % side_by_side
    if job.reading == IN_PLACE and job.band.w.size == columns and has_heavy_weights(job):
        # A block of weights, on its way from beyond L2, serves as many images as lie there.
        job.images = even_size(
            job.batch, larger(1, IMAGES_BYTES // (job.band.channels * columns * job.bytes)), 1
        )

    job.whole_planes = (
        job.planes and job.reading == IN_BAND and not job.folds and job.band.channels == 1
        and job.band.h.size == rows and job.band.w.size == columns
        and job.batch * job.groups >= 2 * threads and fits_plane_tile(job)
    )
    job.framed = job.whole_planes and has_frame(&job.band)
    job.block = 1 if job.planes else TILE_VECTORS * lanes
    job.padded_filters = job.filters
    if not job.planes:
        job.padded_filters = ceil_div(job.filters, lanes) * lanes
    job.blocks = ceil_div(job.filters, FEW_FILTERS if job.planes else job.block)

    items = ceil_div(job.batch, job.images) * job.groups * ceil_div(columns, job.band.w.size)
    # The order in which a fold adds must not depend on the number of threads.
    if not (
        job.folds or job.whole_planes or items * ceil_div(rows, job.band.h.size) >= wanted
        or (
            has_heavy_weights(job)
            and are_even(items * ceil_div(rows, job.band.h.size) * job.blocks, threads)
        )
    ):
        job.band.h.size = even_size(
            rows,
            larger(smaller(job.band.h.size, 2), ceil_div(rows, ceil_div(wanted, items))), 1,
        )
    job.band.h.items = ceil_div(rows, job.band.h.size)
    job.band.w.items = ceil_div(columns, job.band.w.size)
    items *= job.band.h.items
    job.split = ceil_div(job.blocks, smaller(job.blocks, ceil_div(wanted, 2 * items)))
    job.splits = ceil_div(job.blocks, job.split)
    job.packed_bytes = <size_t>(
        job.block * job.band.channels * job.weights.kernel_h * job.weights.kernel_w * job.bytes
    )
    job.packing = BEFORE
    if job.planes and not job.adjoint and lies_packed(job):
        job.packing = NEVER
    elif items == job.groups and not (job.planes or job.folds) and job.packed_bytes <= LIMIT_BYTES:
        job.packing = LATE

    lay_out(&job.band)
    job.row_pitch = job.band.w.size
    if job.planes:
        job.row_pitch = ceil_div(job.band.w.size, lanes) * lanes
    job.group_rows = smaller(
        job.images * job.band.h.size,
        larger(1, (MOST_PIXELS if job.planes else GROUP_PIXELS) // job.row_pitch),
    )
    if job.whole_planes:
        job.group_rows = job.band.h.size
    job.sums_pitch = ceil_div(job.group_rows * job.row_pitch + lanes, lanes) * lanes
    job.source_bytes = 0
    job.ahead, job.chunk = 0, PY_SSIZE_T_MAX // 2
    if job.reading == IN_PLACE:
        job.ahead, job.chunk = AHEAD_PIXELS, CHUNK_CHANNELS
    job.image_bytes = job.band.source.stride_n
    if job.reading == IN_BAND:
        job.image_bytes = (
            job.band.channels * job.band.channel_rows * job.band.pitch * job.bytes
        )
        # Vectors of pixels are read beyond the last row.
        job.source_bytes = job.images * job.image_bytes + PLANE_VECTORS * VECTOR_BYTES
    elif job.reading == GATHERED:
        job.run = job.band.w.size
        job.chunk = LIMIT_BYTES // (job.run * job.bytes)
        job.source_bytes = job.chunk * job.run * job.bytes


cdef bint fits_plane_tile(const Job *job) noexcept nogil:
    """Does the tile for whole planes know all phases of the outputs?"""
    cdef const Side *h = &job.band.h
    cdef const Side *w = &job.band.w
    cdef double zero = 0
    cdef Py_ssize_t i
    for i in range(h.n_phases):
        if h.phases[i].source_step != 1 or not job.tiles.correlate_plane(
            NULL, 0, 0, NULL, 0, h.source.stride, NULL, h.phases[i].taps, 0, NULL, &zero
        ):
            return False
    return (
        job.out_format.conversion == AS_IS and not job.out_format.swapped
        and h.step == w.step <= 2 and h.n_phases == h.n_seeing == h.step
        and w.n_phases == w.n_seeing == w.step
    )


cdef inline bint has_heavy_weights(const Job *job) noexcept nogil:
    """Is it dearer to read all weights for a part of the image than the image for a part of the
    filters?"""
    return not job.planes and (
        job.filters * job.weights.kernel_h * job.weights.kernel_w
        > job.band.h.source.size * job.band.w.source.size
    )


cdef inline bint lies_packed(const Job *job) noexcept nogil:
    """Do a filter's weights lie side by side, and the filters one after the other?"""
    cdef const Planes *weight = &job.weights.planes
    cdef Py_ssize_t taps = job.weights.kernel_h * job.weights.kernel_w
    cdef Py_ssize_t filter_bytes = job.band.channels * taps * job.bytes
    return (
        job.weights.end > weight.data and weight.stride_n == filter_bytes
        and is_plain(weight.format, weight.stride_w, weight.data)
    )


cdef inline bint are_even(Py_ssize_t items, int threads) noexcept nogil:
    """Do all threads have about as much to do?"""
    return 8 * items >= 7 * threads * ceil_div(items, threads)


cdef Py_ssize_t adjoint_block(Py_ssize_t channels, Py_ssize_t taps) noexcept:
    """The longest block whose sums are as exact as NumPy's: a dot product over the channels for
    each tap, of which col2im adds `taps`. The squared error of n terms in blocks of b grows as
    b + n/b, theirs as channels + taps."""
    cdef double error = 1.1 * (<double>channels + taps)
    return <Py_ssize_t>min(
        (error + sqrt(error * error - 4.0 * channels * taps)) / 2, <double>SUM_BLOCK
    )


cdef inline Py_ssize_t table_length(const Job *job, const Part *part) noexcept nogil:
    if job.reading == GATHERED:
        return smaller(part.steps, job.chunk)
    return part.w.taps if job.planes else part.steps


cdef void plan_part(const Job *job, const Part *part) noexcept nogil:
    """Fill the table of offsets."""
    cdef const Phase *h = part.h
    cdef const Phase *w = part.w
    cdef Py_ssize_t c, kh, kw, i = 0, row
    cdef Py_ssize_t y = h.source - job.band.h.base, x = w.source - job.band.w.base
    if job.reading == GATHERED:
        for i in range(table_length(job, part)):
            part.offsets[i] = <int32_t>(i * job.run)
        return
    if job.reading == IN_PLACE:
        for c in range(job.band.channels):
            part.offsets[c] = <int32_t>(c * (job.band.source.stride_c // job.bytes))
        return
    if job.planes:
        for kw in range(w.taps):
            part.offsets[kw] = <int32_t>column(&job.band, x + kw * w.source_step)
        return
    for c in range(job.band.channels):
        for kh in range(h.taps):
            row = c * job.band.channel_rows + stored_row(&job.band.h, y + kh * h.source_step)
            for kw in range(w.taps):
                part.offsets[i] = <int32_t>(
                    row * job.band.pitch + column(&job.band, x + kw * w.source_step)
                )
                i += 1


cdef void pack_block(
    const Job *job, Py_ssize_t g, Py_ssize_t f, char *packed
) noexcept nogil:
    """Pack a block of filters for all parts, one after the other, with scratch behind them."""
    cdef Py_ssize_t lanes = smaller(job.block, job.padded_filters - f), i
    for i in range(job.band.h.n_seeing * job.band.w.n_seeing):
        pack_channels(
            &job.weights, job.parts[i].h, job.parts[i].w, g, f, lanes, 0, job.band.channels,
            packed + job.parts[i].steps_before * lanes * job.bytes, packed + job.packed_bytes,
        )


cdef void pack(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    """Pack a block of filters and PACK_CHANNELS channels for one part."""
    cdef const Job *job = <const Job *>data
    cdef Py_ssize_t pieces = ceil_div(job.band.channels, PACK_CHANNELS)
    cdef Py_ssize_t blocks = ceil_div(job.padded_filters, job.block)
    cdef Py_ssize_t first = item % pieces * PACK_CHANNELS, f = item // pieces % blocks * job.block
    cdef Py_ssize_t g = item // (pieces * blocks) % job.groups
    cdef const Part *part = job.parts + item // (pieces * blocks * job.groups)
    cdef Py_ssize_t lanes = smaller(job.block, job.padded_filters - f)
    pack_channels(
        &job.weights, part.h, part.w, g, f, lanes, first,
        smaller(first + PACK_CHANNELS, job.band.channels),
        part.packed + job.bytes * (
            (g * job.padded_filters + f) * part.steps + first * part.h.taps * part.w.taps * lanes
        ),
        scratch,
    )


# ---- one item ----------------------------------------------------------------------------------

cdef struct Rows:
    # The outputs of a pair of phases that are computed together: rows first <= i < last of all
    # images of the item, `count` side by side.
    const Phase *h
    const Phase *w
    const Part *part
    Py_ssize_t n, g, f, lanes, filters  # image, group, the block's filters
    Py_ssize_t per_image, row_j, row, first, last  # row: row_j counted from the band's first
    Py_ssize_t column_j, column, count
    const char *packed
    const char *start  # the block's bias
    const char *band
    char *sums
    char *tile


cdef inline const char *row_in_band(const Job *job, const Rows *rows, Py_ssize_t i) noexcept nogil:
    """Where the outputs of row i find the offset 0."""
    return rows.band + i // rows.per_image * job.image_bytes + job.bytes * (
        (rows.row + i % rows.per_image) * job.band.h.rests * job.band.pitch + rows.column
    )


cdef inline void multiply_run(
    const Job *job, const Rows *rows, const char *source, Py_ssize_t pixels, Py_ssize_t first,
    Py_ssize_t last,
) noexcept nogil:
    """Add the steps first to last of neighbouring outputs, at most RUN_PIXELS, to rows.tile."""
    cdef const void *sources[1]
    cdef const char *start = NULL
    cdef Py_ssize_t vectors = rows.lanes // job.tiles.lanes, x = 0, end, piece
    cdef Py_ssize_t pieces = ceil_div(pixels, TILE_PIXELS)
    if first == 0:
        start = rows.start
    for piece in range(pieces):
        end = (piece + 1) * pixels // pieces
        sources[0] = source + x * job.bytes
        job.tiles.multiply(
            rows.tile + x * vectors * VECTOR_BYTES, start,
            rows.packed + first * rows.lanes * job.bytes, sources,
            rows.part.offsets + (0 if job.reading == GATHERED else first),
            last - first, rows.part.sum_block, 1, end - x, vectors, job.ahead,
        )
        x = end


cdef void multiply_rows(const Job *job, const Rows *rows) noexcept nogil:
    """Lanes are filters."""
    cdef const void *sources[TILE_ROWS]
    cdef Py_ssize_t i = rows.first, r, n, x, end, run, k
    cdef Py_ssize_t vectors = rows.lanes // job.tiles.lanes
    cdef Py_ssize_t runs = ceil_div(rows.count, RUN_PIXELS)
    n = smaller(TILE_ROWS, TILE_PIXELS // rows.count)
    while n > 1 and i < rows.last:  # narrow rows share a tile
        n = smaller(n, rows.last - i)
        for r in range(n):
            sources[r] = row_in_band(job, rows, i + r)
        job.tiles.multiply(
            rows.tile, rows.start, rows.packed, sources, rows.part.offsets, rows.part.steps,
            rows.part.sum_block, n, rows.count, vectors, 0,
        )
        # In ascending order: what is overwritten behind a tile is written again.
        job.tiles.unpack(
            rows.sums + (i - rows.first) * rows.count * job.bytes, job.sums_pitch, rows.tile,
            n * rows.count, vectors,
        )
        i += n
    while i < rows.last:
        x = 0
        for run in range(runs):
            end = (run + 1) * rows.count // runs
            k = 0
            while k < rows.part.steps:
                multiply_run(
                    job, rows, row_in_band(job, rows, i) + x * job.bytes, end - x, k,
                    smaller(k + job.chunk, rows.part.steps),
                )
                k += job.chunk
            job.tiles.unpack(
                rows.sums + ((i - rows.first) * rows.count + x) * job.bytes, job.sums_pitch,
                rows.tile, end - x, vectors,
            )
            x = end
        i += 1


cdef void gather_row(const Job *job, const Rows *rows) noexcept nogil:
    """Lanes are filters, and each step's pixels are copied side by side."""
    cdef const Phase *h = rows.h
    cdef const Phase *w = rows.w
    cdef Py_ssize_t first = 0, last, k, kw, kh, c
    cdef Py_ssize_t top = rows.row * job.band.h.source.stride + h.source
    cdef Py_ssize_t left = rows.column * job.band.w.source.stride + w.source
    cdef char *band = <char *>rows.band
    while first < rows.part.steps:
        last = smaller(first + job.chunk, rows.part.steps)
        for k in range(first, last):
            c, kh, kw = k // (h.taps * w.taps), k // w.taps % h.taps, k % w.taps
            load_padded_row(
                band + (k - first) * job.run * job.bytes,
                padded_row(
                    &job.band.source,
                    job.band.source.data + rows.n * job.band.source.stride_n
                    + (rows.g * job.band.channels + c) * job.band.source.stride_c,
                    &job.band.h.source, top + kh * h.source_step,
                ),
                left + kw * w.source_step, job.band.w.source.stride, rows.count,
                job.band.source.stride_w, &job.band.w.source, job.band.source.format, NULL,
            )
        multiply_run(job, rows, band, rows.count, first, last)
        first = last
    job.tiles.unpack(
        rows.sums, job.sums_pitch, rows.tile, rows.count, rows.lanes // job.tiles.lanes
    )


cdef void correlate_rows(const Job *job, const Rows *rows, Py_ssize_t row_pitch) noexcept nogil:
    """Lanes are pixels. Rows of outputs share rows of the band if these lie next to each other."""
    cdef const Phase *h = rows.h
    cdef Py_ssize_t step = job.band.h.rests * job.band.pitch  # from one output row's source on
    cdef bint share = job.band.h.source.stride == 1 and h.source_step == 1
    cdef Py_ssize_t lanes = job.tiles.lanes, vectors = ceil_div(rows.count, lanes)
    cdef Py_ssize_t i, n, v, wide, f, c, kh, kw, done, r, to_pitch
    cdef Py_ssize_t most_rows = larger(1, PLANE_BLOCK // rows.w.taps) if share else 1
    cdef Py_ssize_t filter_bytes = rows.part.steps * job.bytes
    cdef Py_ssize_t tap_bytes = rows.w.taps * job.bytes
    cdef const char *source
    cdef const char *filter
    cdef char *to
    cdef char *sums
    i = rows.first
    while i < rows.last:
        n = PLANE_ROWS if rows.last - i >= PLANE_ROWS else 1
        v = 0
        while v < vectors:
            wide = vectors - v
            wide = PLANE_VECTORS if wide >= PLANE_VECTORS else 2 if wide >= 2 else 1
            for f in range(rows.filters):
                sums = rows.sums + job.bytes * (
                    f * job.sums_pitch + (i - rows.first) * row_pitch + v * lanes
                )
                to, to_pitch = sums, row_pitch
                if job.band.channels > PLANE_CHANNELS:
                    to, to_pitch = rows.tile, wide * lanes
                    memset(to, 0, n * to_pitch * job.bytes)
                filter = rows.packed + f * filter_bytes
                for c in range(job.band.channels):
                    source = row_in_band(job, rows, i) + job.bytes * (
                        c * job.band.channel_rows * job.band.pitch + v * lanes
                    )
                    kh = kw = 0
                    while kh < h.taps:
                        # A filter's row that is longer than a block is cut, too.
                        done = job.tiles.correlate(
                            to, to_pitch, n, wide,
                            source + job.bytes * job.band.pitch * stored_row(
                                &job.band.h, h.source - job.band.h.base + kh * h.source_step
                            ),
                            job.band.pitch if share else step,
                            filter + kh * tap_bytes + kw * job.bytes,
                            smaller(h.taps - kh, most_rows),
                            smaller(rows.w.taps - kw, PLANE_BLOCK), rows.part.offsets + kw,
                        )
                        kw += PLANE_BLOCK
                        if kw >= rows.w.taps:
                            kh += done
                            kw = 0
                    filter += h.taps * tap_bytes
                    if to != sums and (
                        (c + 1) % PLANE_CHANNELS == 0 or c + 1 == job.band.channels
                    ):
                        for r in range(n):
                            job.sums.add_row(
                                sums + r * row_pitch * job.bytes, to + r * to_pitch * job.bytes,
                                to_pitch,
                            )
                        memset(to, 0, n * to_pitch * job.bytes)
            v += wide
        i += n


cdef void store_sums(const Job *job, const Rows *rows, Py_ssize_t row_pitch) noexcept nogil:
    """Write rows of sums to the outputs they belong to."""
    cdef const Axis *h = &job.band.h.target
    cdef const Axis *w = &job.band.w.target
    cdef Py_ssize_t bytes = job.out_format.bytes
    cdef Py_ssize_t f, i, n, y, run, plane
    cdef Py_ssize_t x = rows.w.position + rows.column_j * job.band.w.step - w.before
    cdef const char *sums
    cdef char *to
    for f in range(rows.filters):
        i = rows.first
        while i < rows.last:
            n = rows.n + i // rows.per_image
            y = rows.h.position + (rows.row_j + i % rows.per_image) * job.band.h.step
            plane = (n * job.groups + rows.g) * job.filters + rows.f + f
            sums = rows.sums + (f * job.sums_pitch + (i - rows.first) * row_pitch) * job.bytes
            if job.folds:
                fold_row(job, plane, y, rows, sums)
                i += 1
                continue
            to = job.out + ((plane * h.size + y - h.before) * w.size + x) * bytes
            run = 1
            if row_pitch == rows.count == w.size and job.band.h.step == job.band.w.step == 1:
                run = smaller(rows.last - i, rows.per_image - i % rows.per_image)
            if job.band.w.step > 1:
                spread_row(to, job.band.w.step * bytes, sums, rows.count, job.out_format)
            elif job.past_caches and job.out_format.conversion == AS_IS:
                stream_copy(to, sums, run * rows.count * bytes)
            else:
                store_row(to, sums, run * rows.count, job.out_format)
            i += run


cdef inline void fold_row(
    const Job *job, Py_ssize_t plane, Py_ssize_t y, const Rows *rows, const char *sums
) noexcept nogil:
    """Add a row of gradients in the padding to the pixels shown there."""
    cdef const Axis *w = &job.band.w.target
    cdef Py_ssize_t i
    cdef char *to = job.out + (
        (plane * job.band.h.target.size + source_index(&job.band.h.target, y)) * w.size * job.bytes
    )
    for i in range(rows.count):
        job.sums.add_element(
            to, source_index(w, rows.w.position + (rows.column_j + i) * job.band.w.step), sums, i
        )


cdef void convolve_band(
    const Job *job, Py_ssize_t n, Py_ssize_t g, Py_ssize_t split, Py_ssize_t item_h,
    Py_ssize_t item_w, Py_ssize_t which, char *scratch,
) noexcept nogil:
    cdef Py_ssize_t top = job.band.h.first + item_h * job.band.h.size
    cdef Py_ssize_t bottom = smaller(top + job.band.h.size, job.band.h.last)
    cdef Py_ssize_t left = job.band.w.first + item_w * job.band.w.size
    cdef Py_ssize_t right = smaller(left + job.band.w.size, job.band.w.last)
    cdef Py_ssize_t images = smaller(job.images, job.batch - n)
    cdef Py_ssize_t lanes = FEW_FILTERS if job.planes else job.block
    cdef Py_ssize_t block, i, j, k, all_rows, row_pitch
    cdef bint sees
    cdef Py_ssize_t *held = <Py_ssize_t *>scratch  # the band that an earlier item has left
    cdef char *band
    cdef char *packed
    cdef Rows rows
    rows.n, rows.g = n, g
    rows.tile = scratch + LINE
    rows.sums = rows.tile + TILE_BYTES
    band = rows.sums + smaller(lanes, larger(job.padded_filters, 1)) * job.sums_pitch * job.bytes
    packed = band + ceil_div(job.source_bytes, LINE) * LINE
    rows.band = band
    if job.reading == IN_BAND and held[0] != which:
        held[0] = which
        for i in range(images):
            load_band(
                &job.band, n + i, g * job.band.channels, job.band.channels, top, bottom - top, left,
                right - left,
                band + i * job.image_bytes,
            )
        memset(
            band + job.source_bytes - PLANE_VECTORS * VECTOR_BYTES, 0,
            PLANE_VECTORS * VECTOR_BYTES,
        )
    elif job.reading == IN_PLACE:
        rows.band = (
            job.band.source.data + n * job.band.source.stride_n
            + g * job.band.channels * job.band.source.stride_c
            + left * job.bytes
        )
    for block in range(split * job.split, smaller((split + 1) * job.split, job.blocks)):
        rows.f = block * lanes
        rows.start = job.bias + (g * job.padded_filters + rows.f) * job.bytes
        rows.lanes = smaller(lanes, job.padded_filters - rows.f)
        rows.filters = smaller(lanes, job.filters - rows.f)
        if job.packing == LATE:
            pack_block(job, g, rows.f, packed)
        for i in range(job.band.h.n_phases):
            rows.h = job.band.h.phases + i
            rows.row_j = larger(top, rows.h.first)
            rows.per_image = smaller(bottom, rows.h.last) - rows.row_j
            rows.row = rows.row_j - (0 if job.reading == GATHERED else top)
            all_rows = rows.per_image * images
            rows.first = 0
            while rows.first < all_rows:
                rows.last = smaller(rows.first + job.group_rows, all_rows)
                for j in range(job.band.w.n_phases):
                    rows.w = job.band.w.phases + j
                    rows.column_j = larger(left, rows.w.first)
                    rows.count = smaller(right, rows.w.last) - rows.column_j
                    rows.column = rows.column_j - (0 if job.reading == GATHERED else left)
                    if rows.count <= 0:
                        continue
                    sees = rows.h.taps > 0 and rows.w.taps > 0
                    if sees:
                        rows.part = (
                            job.parts + rows.h.index * job.band.w.n_seeing + rows.w.index
                        )
                        if job.packing == LATE:
                            rows.packed = packed + rows.part.steps_before * rows.lanes * job.bytes
                        else:
                            rows.packed = rows.part.packed + (
                                (g * job.padded_filters + rows.f) * rows.part.steps * job.bytes
                            )
                    row_pitch = rows.count
                    if job.planes:
                        row_pitch = ceil_div(rows.count, job.tiles.lanes) * job.tiles.lanes
                    if job.planes or not sees:
                        for k in range(rows.filters):
                            fill_row(
                                rows.sums + k * job.sums_pitch * job.bytes,
                                rows.start + k * job.bytes,
                                (rows.last - rows.first) * row_pitch, job.bytes,
                            )
                    if not sees:
                        pass
                    elif job.planes:
                        correlate_rows(job, &rows, row_pitch)
                    elif job.reading == GATHERED:
                        gather_row(job, &rows)
                    else:
                        multiply_rows(job, &rows)
                    store_sums(job, &rows, row_pitch)
                rows.first = rows.last


cdef void correlate_phases(
    const Job *job, Py_ssize_t f, const char *band, char *sums, char *out
) noexcept nogil:
    """Lanes are pixels; a filter's outputs of a channel of its own."""
    cdef const Side *h = &job.band.h
    cdef const Side *w = &job.band.w
    cdef const Part *part
    cdef const char *source
    cdef const char *phases[2]  # in the order of their columns
    cdef char *to = out
    cdef Py_ssize_t bytes = job.bytes, i, j, y, rows, columns
    cdef Py_ssize_t row_bytes = w.target.size * bytes
    for i in range(h.n_phases):
        rows = h.phases[i].last - h.phases[i].first
        for j in range(w.n_phases):
            part = job.parts + h.phases[i].index * w.n_seeing + w.phases[j].index
            columns = w.phases[j].last - w.phases[j].first
            source = band + bytes * (
                job.band.pitch * (
                    (h.phases[i].first - h.first) * h.rests
                    + stored_row(h, h.phases[i].source - h.base)
                )
                + w.phases[j].first - w.first
            )
            if w.step == 2:
                y = w.phases[j].position + w.phases[j].first * 2 - w.target.before
                to = sums + y * job.sums_pitch * bytes
                phases[y] = to
            job.tiles.correlate_plane(
                to, rows, columns, source, job.band.pitch, h.source.stride,
                part.packed + f * part.steps * bytes, part.h.taps, part.w.taps, part.offsets,
                job.bias + f * bytes,
            )
        if w.step == 2:
            to = out + row_bytes * (
                h.phases[i].position + h.phases[i].first * 2 - h.target.before
            )
            for y in range(rows):
                zip_rows(
                    to + 2 * y * row_bytes,
                    phases[0] + y * ((w.target.size + 1) // 2) * bytes,
                    phases[1] + y * (w.target.size // 2) * bytes, w.target.size, bytes,
                )


cdef void convolve_plane(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    """All outputs of an input channel that has filters of its own."""
    cdef const Job *job = <const Job *>data
    cdef Py_ssize_t n = item // job.groups, g = item % job.groups, f
    cdef Py_ssize_t plane_bytes = (
        job.band.h.target.size * job.band.w.target.size * job.bytes
    )
    cdef Py_ssize_t *held = <Py_ssize_t *>scratch  # whether an earlier item has left the padding
    cdef char *band = scratch + LINE
    cdef char *sums = band + ceil_div(job.source_bytes, LINE) * LINE
    cdef char *staged = sums + 2 * job.sums_pitch * job.bytes
    cdef char *out = job.out + item * job.filters * plane_bytes
    if not job.framed:
        load_band(
            &job.band, n, g, 1, job.band.h.first, job.band.h.size, job.band.w.first,
            job.band.w.size, band,
        )
    else:
        if not held[0]:
            memset(band, 0, job.source_bytes)
            held[0] = True
        load_inside(&job.band, n, g, band)
    for f in range(g * job.filters, (g + 1) * job.filters):
        correlate_phases(job, f, band, sums, staged if job.past_caches else out)
        if job.past_caches:
            stream_copy(out, staged, plane_bytes)
        out += plane_bytes
    if job.past_caches:
        stream_fence()


cdef void convolve(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    cdef const Job *job = <const Job *>data
    cdef Py_ssize_t split = item % job.splits, i, j, which
    item //= job.splits
    which = 1 + item
    if job.folds:  # several positions are added to one pixel, in this order
        for i in range(job.band.h.items):
            for j in range(job.band.w.items):
                convolve_band(
                    job, item // job.groups * job.images, item % job.groups, split, i, j,
                    1 + (item * job.band.h.items + i) * job.band.w.items + j, scratch
                )
        return
    i, j = item // job.band.w.items % job.band.h.items, item % job.band.w.items
    item //= job.band.h.items * job.band.w.items
    convolve_band(
        job, item // job.groups * job.images, item % job.groups, split, i, j, which, scratch
    )
    if job.past_caches:
        stream_fence()


# ---- forward and transposed --------------------------------------------------------------------

cdef void describe(
    Job *job, cnp.ndarray source, cnp.ndarray weight, cnp.ndarray out, Py_ssize_t groups,
    bint transposed,
) noexcept:
    job.out_format = computed_format(out)
    job.bytes = job.out_format.scratch_bytes
    job.out = <char *>cnp.PyArray_DATA(out)
    job.tiles = tiles_of(job.bytes)
    job.sums = sums_of(True, job.bytes)
    job.band.source = planes_of(source, converted_format(source, job.bytes))
    job.weights = weights_of(weight, groups, transposed, job.bytes, job.tiles)
    job.filters = job.weights.filters
    job.batch = cnp.PyArray_DIM(source, 0)
    job.groups = groups
    job.band.channels = cnp.PyArray_DIM(source, 1) // groups
    job.planes = job.filters <= FEW_FILTERS
    job.reading = IN_BAND
    job.folds = job.only_planned = False
    job.adjoint = transposed
    job.past_caches = cnp.PyArray_NBYTES(out) >= STREAM_BYTES


cdef Py_ssize_t taken_taps(const Side *side) noexcept:
    """All pairs of an output and a tap, along one axis."""
    cdef Py_ssize_t i, total = 0
    for i in range(side.n_phases):
        total += (side.phases[i].last - side.phases[i].first) * side.phases[i].taps
    return total


cdef int run(Job *job, object bias, Py_ssize_t out_bytes, int threads) except -1:
    """Compute all outputs of the two sides; `job` holds everything else."""
    cdef Py_ssize_t n_parts = job.band.h.n_seeing * job.band.w.n_seeing, i, j, items, steps = 0
    cdef double tables = 0, packed = 0, packed_bytes, flops, moved
    cdef size_t pack_bytes, scratch_bytes
    cdef char *memory
    cdef char *at
    cdef cnp.ndarray bias_array
    cdef Part *part
    cdef const Phase *h
    cdef const Phase *w
    flops = (
        2.0 * job.batch * job.groups * job.filters * job.band.channels
        * taken_taps(&job.band.h) * taken_taps(&job.band.w)
    )
    moved = flops / FLOPS_PER_BYTE + out_bytes
    threads = useful_threads(moved, threads)
    plan_sizes(job, threads)

    job.parts = <Part *>malloc((n_parts + 1) * sizeof(Part))
    if job.parts == NULL:
        raise MemoryError(f"no memory for {n_parts} pairs of phases")
    for i in range(job.band.h.n_phases):
        for j in range(job.band.w.n_phases):
            h, w = job.band.h.phases + i, job.band.w.phases + j
            if h.taps == 0 or w.taps == 0:
                continue
            part = job.parts + h.index * job.band.w.n_seeing + w.index
            part.h, part.w = h, w
            part.steps = job.band.channels * h.taps * w.taps
            part.sum_block = SUM_BLOCK
            if job.adjoint:
                part.sum_block = adjoint_block(job.band.channels, h.taps * w.taps)
            tables += table_length(job, part) * <double>sizeof(int32_t)
            if job.packing == BEFORE:
                packed += <double>job.groups * job.padded_filters * part.steps * job.bytes
    packed_bytes = (
        packed + job.groups * job.padded_filters * job.bytes + VECTOR_BYTES * (3 + n_parts)
    )
    pack_bytes = PACK_TAPS * job.block * job.bytes
    scratch_bytes = (
        LINE + TILE_BYTES + ceil_div(job.source_bytes, LINE) * LINE
        + smaller(FEW_FILTERS if job.planes else job.block, job.padded_filters)
        * job.sums_pitch * job.bytes
    )
    if job.packing == LATE:
        scratch_bytes += job.packed_bytes + pack_bytes
    if job.whole_planes:
        scratch_bytes += job.bytes * (
            2 * job.sums_pitch + job.band.h.target.size * job.band.w.target.size
        )
    job.workspace = tables + packed_bytes + <double>scratch_bytes * threads
    if job.only_planned:
        free(job.parts)
        return 0
    memory = NULL
    if tables + packed_bytes < <double>PY_SSIZE_T_MAX / 2:
        memory = <char *>malloc(<size_t>tables + <size_t>packed_bytes)
    try:
        if memory == NULL:
            raise MemoryError(f"no memory for {tables + packed_bytes:.0f} bytes of packed weights")
        at = memory + (-<uintptr_t>memory) % VECTOR_BYTES
        for i in range(n_parts):
            part = job.parts + i
            part.packed = job.weights.planes.data if job.packing == NEVER else at
            part.steps_before = steps
            steps += part.steps
            if job.packing == BEFORE:
                at += job.groups * job.padded_filters * part.steps * job.bytes
                at += (-<uintptr_t>at) % VECTOR_BYTES
        job.bias = at
        memset(at, 0, job.groups * job.padded_filters * job.bytes)
        if bias is not None:
            bias_array = bias
            for i in range(job.groups):
                load_row(
                    at + i * job.padded_filters * job.bytes,
                    <const char *>cnp.PyArray_DATA(bias_array)
                    + i * job.filters * cnp.PyArray_STRIDE(bias_array, 0),
                    job.filters, cnp.PyArray_STRIDE(bias_array, 0),
                    converted_format(bias_array, job.bytes),
                )
        at += job.groups * job.padded_filters * job.bytes
        for i in range(n_parts):
            part = job.parts + i
            part.offsets = <int32_t *>at
            plan_part(job, part)
            at += table_length(job, part) * sizeof(int32_t)
        items = (
            n_parts * job.groups * ceil_div(job.padded_filters, job.block)
            * ceil_div(job.band.channels, PACK_CHANNELS)
        )
        if job.packing == BEFORE:
            for_each(pack, job, items, pack_bytes, packed, useful_threads(packed, threads))
        items = ceil_div(job.batch, job.images) * job.groups * job.splits
        if not job.folds:
            items *= job.band.h.items * job.band.w.items
        for_each(
            convolve_plane if job.whole_planes else convolve, job, items, scratch_bytes, moved,
            threads,
        )
    finally:
        free(memory)
        free(job.parts)
    return 0


cdef int run_folds(
    Job *job, const Axis *h, const Axis *w, Py_ssize_t out_bytes, int threads
) except -1:
    """Compute the padding of the target, and add it to what it shows."""
    cdef Py_ssize_t top = h.before, bottom = top + h.size, end = padded_size(h)
    cdef Py_ssize_t left = w.before, right = left + w.size, all_columns = padded_size(w)
    if h.pad_mode == PAD_CONSTANT:
        return 0
    job.folds = True
    run_transposed(job, h, w, 0, top, 0, all_columns, None, out_bytes, threads)
    run_transposed(job, h, w, bottom, end, 0, all_columns, None, out_bytes, threads)
    run_transposed(job, h, w, top, bottom, 0, left, None, out_bytes, threads)
    run_transposed(job, h, w, top, bottom, right, all_columns, None, out_bytes, threads)
    return 0


def forward(
    cnp.ndarray image, cnp.ndarray weight, bias, cnp.ndarray out, cnp.ndarray window,
    Py_ssize_t groups, int threads,
):
    """Write the convolution of images (n, c, h, w) with weight (f, c/groups, kh, kw)."""
    cdef Job job
    if cnp.PyArray_DIM(image, 0) == 0:
        return
    describe(&job, image, weight, out, groups, False)
    run_forward(&job, window_of(window)[0], bias, cnp.PyArray_NBYTES(out), threads)


def workspace(
    cnp.ndarray image, cnp.ndarray weight, cnp.ndarray out, cnp.ndarray window,
    Py_ssize_t groups, int threads,
):
    """The bytes that `forward` allocates for arrays of such shapes, which are not read."""
    cdef Job job
    describe(&job, image, weight, out, groups, False)
    job.only_planned = True
    run_forward(&job, window_of(window)[0], None, cnp.PyArray_NBYTES(out), threads)
    return int(job.workspace)


def transposed(
    cnp.ndarray source, cnp.ndarray weight, bias, cnp.ndarray out, cnp.ndarray window,
    Py_ssize_t groups, int threads,
):
    """Write the adjoint of the convolution that brings `out` (n, f, h, w) to `source`."""
    cdef Job job
    cdef const Axis *h = &window_of(window).h
    cdef const Axis *w = &window_of(window).w
    cdef Py_ssize_t bytes = cnp.PyArray_NBYTES(out)
    cdef Py_ssize_t bottom = h.before + h.size, right = w.before + w.size
    cdef Axis pixel = Axis(1, 1, 1, 1, 1, 0, 0, PAD_CONSTANT)
    cdef Planes *planes
    cdef Window one
    if cnp.PyArray_DIM(source, 0) == 0:
        return
    describe(&job, source, weight, out, groups, True)
    if is_pointwise(h) and is_pointwise(w):
        run_forward(&job, window_of(window)[0], bias, bytes, threads)
        return
    if bias is None and is_whole(h) and is_whole(w) and cnp.PyArray_IS_C_CONTIGUOUS(weight):
        # A window as large as the image: every tap is a filter of its own, on one pixel.
        job.filters *= h.kernel * w.kernel
        job.planes = job.filters <= FEW_FILTERS
        job.weights.filters = job.filters
        job.weights.kernel_h = job.weights.kernel_w = 1
        planes = &job.weights.planes
        planes.stride_n = planes.stride_h = planes.stride_w = planes.format.bytes
        one.h = one.w = pixel
        run_forward(&job, one, None, bytes, threads)
        return
    run_transposed(&job, h, w, h.before, bottom, w.before, right, bias, bytes, threads)
    run_folds(&job, h, w, bytes, threads)


def fold(
    cnp.ndarray source, cnp.ndarray weight, cnp.ndarray out, cnp.ndarray window,
    Py_ssize_t groups, int threads,
):
    """Add what the adjoint has in the padding to the pixels of `out` that it shows."""
    cdef Job job
    if cnp.PyArray_DIM(source, 0) == 0:
        return
    describe(&job, source, weight, out, groups, True)
    run_folds(
        &job, &window_of(window).h, &window_of(window).w, cnp.PyArray_NBYTES(out), threads
    )


cdef inline bint is_pointwise(const Axis *axis) noexcept:
    """Does every output see the one pixel in its place?"""
    return axis.kernel == axis.stride == 1 and axis.before == 0 and axis.out == axis.size


cdef inline bint is_whole(const Axis *axis) noexcept:
    """Is there one window, of all pixels and no padding?"""
    return axis.out == axis.dilation == 1 and axis.kernel == axis.size and axis.before == 0


cdef inline bint reads_in_place(
    const Planes *source, const Axis *h, const Axis *w, bint planes
) noexcept:
    """Can tiles read the image where it lies, a plane as one row?"""
    cdef Py_ssize_t bytes = source.format.bytes
    return (
        not planes and is_pointwise(h) and is_pointwise(w)
        and is_plain(source.format, source.stride_w, source.data)
        and source.stride_h == w.size * bytes
        and source.stride_n % bytes == 0 and source.stride_c % bytes == 0
        and fabs(<double>source.stride_c) * source.channels < INT32_MAX
    )


cdef int run_forward(
    Job *job, Window window, object bias, Py_ssize_t out_bytes, int threads
) except -1:
    cdef Phase phases[2]
    cdef Axis *h = &window.h
    cdef Axis *w = &window.w
    if reads_in_place(&job.band.source, h, w, job.planes):
        job.reading = IN_PLACE
        w.size = w.out = h.size * w.size
        h.size = h.out = 1
    job.band.h.phases, job.band.w.phases = phases, phases + 1
    plan_forward(&job.band.h, h)
    plan_forward(&job.band.w, w)
    return run(job, bias, out_bytes, threads)


cdef int run_transposed(
    Job *job, const Axis *h, const Axis *w, Py_ssize_t top, Py_ssize_t bottom, Py_ssize_t left,
    Py_ssize_t right, object bias, Py_ssize_t out_bytes, int threads,
) except -1:
    """Compute a rectangle of the padded target."""
    cdef Phase *phases
    cdef Py_ssize_t n_h, n_w
    if job.folds:  # what no window reaches has no gradient
        bottom, right = smaller(bottom, reach(h, h.out)), smaller(right, reach(w, w.out))
        if bottom <= top or right <= left:
            return 0
    n_h, n_w = smaller(h.stride, bottom - top), smaller(w.stride, right - left)
    phases = <Phase *>malloc((n_h + n_w) * sizeof(Phase))
    if phases == NULL:
        raise MemoryError(f"no memory for {n_h} + {n_w} phases")
    job.band.h.phases, job.band.w.phases = phases, phases + n_h
    job.planes, job.reading = job.filters <= FEW_FILTERS, IN_BAND
    plan_transposed(&job.band.h, h, top, bottom)
    plan_transposed(&job.band.w, w, left, right)
    try:
        run(job, bias, out_bytes, threads)
    finally:
        free(phases)
    return 0


# ---- gradients of weight and bias --------------------------------------------------------------

cdef struct WeightJob:
    Band band  # of the image
    Planes grad
    Format out_format
    char *out
    Py_ssize_t filters, groups, batch, bytes
    Py_ssize_t kernel_h, kernel_w, steps  # steps: of a filter
    Source reading
    bint planes
    Py_ssize_t images, bands  # images of a band; bands in all
    bint framed  # the padding of all channels is the same zeros
    Py_ssize_t block, padded_filters
    Py_ssize_t split_filters, split_channels, splits_f, splits_c  # of an item
    Py_ssize_t slices, slice_bytes
    Py_ssize_t pixels, image_bytes, row_bytes, grad_pitch  # of a band in scratch
    Py_ssize_t chunk  # steps that are gathered
    int32_t *offsets  # of every output in the band or, where lanes are pixels, of every tap
    char *sums  # [slice][group][block][step][filter] or, where lanes are pixels, as the weight
    const Tiles *tiles
    const Sums *add


cdef double grad_bytes(const WeightJob *job, Py_ssize_t rows, Py_ssize_t columns) noexcept nogil:
    """Bytes of the gradients of so many outputs, with room to pack a block of them."""
    cdef Py_ssize_t filters = job.filters
    if not job.planes:
        filters += 3 * TILE_VECTORS * job.tiles.lanes
    return <double>job.bytes * filters * rows * columns


cdef inline Py_ssize_t rows_of_block(const WeightJob *job, Py_ssize_t columns) noexcept nogil:
    """Rows of gradients that are summed in one register where lanes are pixels."""
    return larger(1, SUM_BLOCK // ceil_div(columns, job.tiles.lanes))


cdef void plan_slices(WeightJob *job, int threads) noexcept:
    """Cut the outputs, and then the weight, into items. Sums run over the outputs of a band, the
    bands of a slice and the slices, none of which may depend on the number of threads."""
    cdef Band *band = &job.band
    cdef Py_ssize_t rows = band.h.last - band.h.first, columns = band.w.last - band.w.first
    cdef Py_ssize_t wanted = wanted_items(threads)
    cdef Py_ssize_t lanes = job.tiles.lanes, pieces, blocks
    cdef double size, more

    band.w.size = smaller(columns, MOST_PIXELS if job.planes else MOST_COLUMNS)
    while band.w.size > 1 and (
        band_bytes(band, 1, band.w.size) + grad_bytes(job, 1, band.w.size) > LIMIT_BYTES
    ):
        band.w.size = (band.w.size + 1) // 2
    if job.reading == IN_BAND and band_bytes(band, 1, band.w.size) > LIMIT_BYTES / 2:
        job.reading = GATHERED
        job.planes = False
        band.w.size = smaller(columns, RUN_PIXELS)
        while band.w.size > 1 and grad_bytes(job, 1, band.w.size) > LIMIT_BYTES / 4:
            band.w.size = (band.w.size + 1) // 2
    job.block = 1 if job.planes else TILE_VECTORS * lanes
    job.padded_filters = job.filters
    if not job.planes:
        job.padded_filters = ceil_div(job.filters, lanes) * lanes
    band.h.size = 1
    if job.reading == IN_BAND and band.w.size == columns and rows > 1:
        size = band_bytes(band, 1, columns) + grad_bytes(job, 1, columns)
        more = band_bytes(band, 2, columns) + grad_bytes(job, 2, columns) - size
        band.h.size += <Py_ssize_t>min(max(0.0, (BAND_BYTES - size) / more), <double>(rows - 1))
    job.images = 1
    if job.reading == IN_BAND and not job.planes and band.h.size == rows:
        size = band_bytes(band, rows, columns) + grad_bytes(job, rows, columns)
        job.images = smaller(
            smaller(job.batch, ceil_div(STEP_PIXELS, rows * columns)),
            larger(1, <Py_ssize_t>(BAND_BYTES / size)),
        )
    band.h.size, band.w.size = even_size(rows, band.h.size, 1), even_size(columns, band.w.size, 1)
    band.h.items, band.w.items = ceil_div(rows, band.h.size), ceil_div(columns, band.w.size)
    lay_out(band)
    job.framed = False
    if job.planes and band.channels == band.h.items == band.w.items == 1:
        # As many small planes as are summed in one register.
        job.images = smaller(job.batch, larger(1, rows_of_block(job, columns) // rows))
        job.framed = has_frame(band)
    job.bands = ceil_div(job.batch, job.images) * band.h.items * band.w.items
    size = <double>job.groups * job.padded_filters * job.steps * job.bytes
    job.slices = smaller(
        smaller(SLICES, job.bands), larger(1, <Py_ssize_t>(SLICE_BYTES / size))
    )

    # A part of the filters needs all of the image, a part of the channels all gradients.
    job.splits_f = job.splits_c = 1
    blocks = ceil_div(job.filters, job.block)
    while job.slices * job.groups * job.splits_f * job.splits_c < wanted and (
        job.splits_f < blocks or job.splits_c < band.channels
    ):
        if job.splits_f < blocks and (
            job.splits_f <= job.splits_c or job.splits_c >= band.channels
        ):
            job.splits_f = smaller(2 * job.splits_f, blocks)
        else:
            job.splits_c = smaller(2 * job.splits_c, band.channels)
    pieces = ceil_div(blocks, job.splits_f)
    job.split_filters, job.splits_f = pieces * job.block, ceil_div(blocks, pieces)
    job.split_channels = ceil_div(band.channels, job.splits_c)
    job.splits_c = ceil_div(band.channels, job.split_channels)

    job.pixels = job.images * band.h.size * band.w.size
    job.grad_pitch = ceil_div(band.w.size, lanes) * lanes
    job.image_bytes = 0
    if job.reading == IN_BAND:
        job.image_bytes = job.split_channels * band.channel_rows * band.pitch * job.bytes
    elif job.reading == GATHERED:
        job.chunk = smaller(job.steps, LIMIT_BYTES // 2 // (band.w.size * job.bytes))
        job.image_bytes = job.chunk * band.w.size * job.bytes


cdef void pack_grads(
    const WeightJob *job, Py_ssize_t n, Py_ssize_t first, Py_ssize_t filters, Py_ssize_t top,
    Py_ssize_t rows, Py_ssize_t left, Py_ssize_t columns, Py_ssize_t lanes, char *to, char *scratch
) noexcept nogil:
    """Turn a block of filters' gradients to [pixel][filter]."""
    cdef const Planes *grad = &job.grad
    cdef Py_ssize_t vectors = lanes // job.tiles.lanes, f, y
    cdef const char *source = (
        grad.data + n * grad.stride_n + first * grad.stride_c + top * grad.stride_h
        + left * grad.stride_w
    )
    if (
        is_plain(grad.format, grad.stride_w, source) and grad.stride_c % job.bytes == 0
        and (rows == 1 or grad.stride_h == columns * job.bytes)
    ):
        job.tiles.pack(
            to, source, grad.stride_c // job.bytes, filters, rows * columns, vectors, 0
        )
        return
    for f in range(filters):
        for y in range(rows):
            load_row(
                scratch + (f * job.pixels + y * columns) * job.bytes,
                source + f * grad.stride_c + y * grad.stride_h, columns, grad.stride_w,
                grad.format,
            )
    job.tiles.pack(to, scratch, job.pixels, filters, rows * columns, vectors, 0)


cdef void multiply_grads(
    const WeightJob *job, const char *packed, Py_ssize_t pixels, Py_ssize_t first_pixel,
    const char *source, Py_ssize_t row_bytes, Py_ssize_t kernel_h, Py_ssize_t kernel_w,
    Py_ssize_t rows, Py_ssize_t vectors, char *sums,
) noexcept nogil:
    """Add the products of one block of gradients with `rows` rows (c, kh) of the source."""
    cdef const void *sources[TILE_ROWS]
    cdef Py_ssize_t pieces = ceil_div(kernel_w, TILE_PIXELS), piece, kw, end, n, r, i = 0
    cdef Py_ssize_t tap_bytes = vectors * VECTOR_BYTES
    cdef Py_ssize_t channel_bytes = job.band.channel_rows * job.band.pitch * job.bytes
    n = smaller(TILE_ROWS, larger(1, TILE_PIXELS // kernel_w))
    while i < rows:
        n = smaller(n, rows - i)
        kw = 0
        for piece in range(pieces):
            end = (piece + 1) * kernel_w // pieces
            for r in range(n):
                sources[r] = source + (i + r) // kernel_h * channel_bytes + (
                    (i + r) % kernel_h * row_bytes + kw * job.bytes
                )
            job.tiles.multiply(
                sums + (i * kernel_w + kw) * tap_bytes, NULL, packed, sources,
                job.offsets + first_pixel, pixels, SUM_BLOCK, n, end - kw, vectors, 0,
            )
            kw = end
        i += n

cdef void sum_band(
    const WeightJob *job, Py_ssize_t band, Py_ssize_t g, Py_ssize_t f0, Py_ssize_t f1,
    Py_ssize_t c0, Py_ssize_t c1, char *sums, char *scratch,
) noexcept nogil:
    """Add what the outputs of one band give to the gradients of the filters f0 to f1, channels c0
    to c1; `sums` are those of the group."""
    cdef const Side *h = &job.band.h
    cdef const Side *w = &job.band.w
    cdef Py_ssize_t left = band % w.items * w.size, columns = smaller(w.size, w.last - left)
    cdef Py_ssize_t top = band // w.items % h.items * h.size, rows = smaller(h.size, h.last - top)
    cdef Py_ssize_t n = band // (w.items * h.items) * job.images
    cdef Py_ssize_t images = smaller(job.images, job.batch - n)
    cdef Py_ssize_t channels = c1 - c0, taps = job.kernel_h * job.kernel_w
    cdef Py_ssize_t pixels = images * rows * columns, i, f, p, end, piece, pieces, lanes
    cdef Py_ssize_t block, blocks = ceil_div(f1 - f0, job.block)
    cdef const char *packed
    cdef char *grads = scratch + ceil_div(
        job.images * job.image_bytes + PLANE_VECTORS * VECTOR_BYTES, VECTOR_BYTES
    ) * VECTOR_BYTES
    cdef char *spare = grads + (
        (job.split_filters + job.block) * job.pixels * job.bytes
    )
    cdef Py_ssize_t *held = <Py_ssize_t *>scratch  # whether an earlier item has left the padding
    scratch += LINE
    grads += LINE
    spare += LINE
    if job.framed and not held[0]:
        memset(scratch, 0, job.images * job.image_bytes)
        held[0] = True
    if job.reading == IN_BAND:
        for i in range(images):
            if job.framed:
                load_inside(&job.band, n + i, g, scratch + i * job.image_bytes)
                continue
            load_band(
                &job.band, n + i, g * job.band.channels + c0, channels, top, rows, left, columns,
                scratch + i * job.image_bytes,
            )
    if job.planes:
        correlate_grads(
            job, n, images, g, f0, f1, c0, c1, top, rows, left, columns, sums, scratch, grads
        )
        return
    for block in range(blocks):
        f = f0 + block * job.block
        lanes = smaller(job.block, job.padded_filters - f)
        for i in range(images):
            pack_grads(
                job, n + i, g * job.filters + f, smaller(lanes, job.filters - f), top, rows, left,
                columns, lanes,
                grads + ((f - f0) * job.pixels + i * rows * columns * lanes) * job.bytes, spare,
            )
    if job.reading == GATHERED:
        gather_grads(job, n, g, f0, f1, c0, c1, top, left, columns, sums, scratch, grads)
        return
    pieces = ceil_div(pixels, STEP_PIXELS)
    p = 0
    for piece in range(pieces):
        end = (piece + 1) * pixels // pieces
        for block in range(blocks):
            f = f0 + block * job.block
            lanes = smaller(job.block, job.padded_filters - f)
            packed = grads + ((f - f0) * job.pixels + p * lanes) * job.bytes
            if job.reading == IN_PLACE:
                multiply_grads(
                    job, packed, end - p, p,
                    job.band.source.data + n * job.band.source.stride_n
                    + (g * job.band.channels + c0) * job.band.source.stride_c + left * job.bytes,
                    job.band.source.stride_c, channels, 1, channels, lanes // job.tiles.lanes,
                    sums + (f * job.steps + c0 * lanes) * job.bytes,
                )
            else:
                multiply_grads(
                    job, packed, end - p, p, scratch, job.row_bytes, job.kernel_h, job.kernel_w,
                    channels * job.kernel_h, lanes // job.tiles.lanes,
                    sums + (f * job.steps + c0 * taps * lanes) * job.bytes,
                )
        p = end


cdef void gather_grads(
    const WeightJob *job, Py_ssize_t n, Py_ssize_t g, Py_ssize_t f0, Py_ssize_t f1,
    Py_ssize_t c0, Py_ssize_t c1, Py_ssize_t oh, Py_ssize_t left, Py_ssize_t columns, char *sums,
    char *scratch, const char *grads,
) noexcept nogil:
    """The same for windows too large for a band: each tap's run of pixels is copied."""
    cdef const Axis *h = &job.band.h.source
    cdef const Axis *w = &job.band.w.source
    cdef Py_ssize_t taps = job.kernel_h * job.kernel_w, run_bytes = job.band.w.size * job.bytes
    cdef Py_ssize_t first = c0 * taps, last, k, f, block, lanes
    while first < c1 * taps:
        last = smaller(first + job.chunk, c1 * taps)
        for k in range(first, last):
            load_padded_row(
                scratch + (k - first) * run_bytes,
                padded_row(
                    &job.band.source,
                    job.band.source.data + n * job.band.source.stride_n
                    + (g * job.band.channels + k // taps) * job.band.source.stride_c,
                    h, oh * h.stride + k % taps // job.kernel_w * h.dilation,
                ),
                left * w.stride + k % job.kernel_w * w.dilation, w.stride, columns,
                job.band.source.stride_w, w, job.band.source.format, NULL,
            )
        for block in range(ceil_div(f1 - f0, job.block)):
            f = f0 + block * job.block
            lanes = smaller(job.block, job.padded_filters - f)
            multiply_grads(
                job, grads + (f - f0) * job.pixels * job.bytes, columns, 0, scratch, run_bytes,
                last - first, 1, last - first, lanes // job.tiles.lanes,
                sums + (f * job.steps + first * lanes) * job.bytes,
            )
        first = last


cdef void correlate_grads(
    const WeightJob *job, Py_ssize_t n, Py_ssize_t images, Py_ssize_t g, Py_ssize_t f0,
    Py_ssize_t f1, Py_ssize_t c0, Py_ssize_t c1, Py_ssize_t top, Py_ssize_t rows,
    Py_ssize_t left, Py_ssize_t columns, char *sums, const char *band_data, char *grads,
) noexcept nogil:
    """The same where lanes are pixels."""
    cdef const Band *band = &job.band
    cdef const Planes *grad = &job.grad
    cdef Py_ssize_t taps = job.kernel_h * job.kernel_w, f, c, y, t, end
    cdef Py_ssize_t row_step = band.h.rests * band.pitch
    cdef Py_ssize_t block = rows_of_block(job, columns), i
    cdef const char *source
    cdef char *to
    for f in range(f0, f1):
        to = grads
        for i in range(images):
            source = (
                grad.data + (n + i) * grad.stride_n + (g * job.filters + f) * grad.stride_c
                + top * grad.stride_h + left * grad.stride_w
            )
            for y in range(rows):
                if is_plain(grad.format, grad.stride_w, source) and job.bytes % 4 == 0:
                    copy_bytes(to, source, columns * job.bytes)
                else:
                    load_row(to, source, columns, grad.stride_w, grad.format)
                source += grad.stride_h
                to += job.grad_pitch * job.bytes
        for c in range(c0, c1):
            source = band_data + (c - c0) * band.channel_rows * band.pitch * job.bytes
            y = 0
            while y < rows:
                t = 0
                while t < taps:
                    end = smaller(t + PLANE_TAPS, taps)
                    job.tiles.correlate_taps(
                        sums + (f * job.steps + c * taps + t) * job.bytes,
                        grads + y * job.grad_pitch * job.bytes, job.grad_pitch,
                        source + y * row_step * job.bytes, row_step, smaller(block, rows - y),
                        columns, images, job.image_bytes // job.bytes, job.offsets + t, end - t,
                    )
                    t = end
                y += block


cdef void sum_slice(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    cdef const WeightJob *job = <const WeightJob *>data
    cdef Py_ssize_t c0 = item % job.splits_c * job.split_channels
    cdef Py_ssize_t c1 = smaller(c0 + job.split_channels, job.band.channels)
    cdef Py_ssize_t f0 = item // job.splits_c % job.splits_f * job.split_filters
    cdef Py_ssize_t f1 = smaller(f0 + job.split_filters, job.filters)
    cdef Py_ssize_t g, slice, band, f, block, lanes, taps = job.kernel_h * job.kernel_w
    cdef char *sums
    item //= job.splits_c * job.splits_f
    g, slice = item % job.groups, item // job.groups
    sums = (
        job.sums + slice * job.slice_bytes + g * job.padded_filters * job.steps * job.bytes
    )
    for block in range(ceil_div(f1 - f0, job.block)):
        f = f0 + block * job.block
        lanes = smaller(job.block, job.padded_filters - f)
        memset(
            sums + (f * job.steps + c0 * taps * lanes) * job.bytes, 0,
            (c1 - c0) * taps * lanes * job.bytes,
        )
    for band in range(slice * job.bands // job.slices, (slice + 1) * job.bands // job.slices):
        sum_band(job, band, g, f0, f1, c0, c1, sums, scratch)


cdef void join_slices(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    """Add the slices of a block of filters pairwise, and write its gradient."""
    cdef const WeightJob *job = <const WeightJob *>data
    cdef Py_ssize_t blocks = ceil_div(job.filters, job.block)
    cdef Py_ssize_t g = item // blocks, f = item % blocks * job.block
    cdef Py_ssize_t lanes = smaller(job.block, job.padded_filters - f)
    cdef Py_ssize_t filters = smaller(lanes, job.filters - f)
    cdef Py_ssize_t piece, k, i, count, pitch = STEP_PIXELS + job.tiles.lanes
    cdef char *sums = job.sums + (g * job.padded_filters + f) * job.steps * job.bytes
    cdef char *to = job.out + (
        (g * job.filters + f) * job.steps * job.out_format.bytes
    )
    add_slices(job.add, sums, job.slices, job.slice_bytes, lanes * job.steps)
    if job.planes:
        store_row(to, sums, job.steps, job.out_format)
        return
    for piece in range(ceil_div(job.steps, STEP_PIXELS)):
        k = piece * STEP_PIXELS
        count = smaller(STEP_PIXELS, job.steps - k)
        job.tiles.unpack(
            scratch, pitch, sums + k * lanes * job.bytes, count, lanes // job.tiles.lanes
        )
        for i in range(filters):
            store_row(
                to + (i * job.steps + k) * job.out_format.bytes, scratch + i * pitch * job.bytes,
                count, job.out_format,
            )


cdef void plan_offsets(WeightJob *job) noexcept:
    cdef const Band *band = &job.band
    cdef Py_ssize_t i, n, y, x, rows, image
    if job.planes:
        for i in range(job.kernel_h * job.kernel_w):
            y = stored_row(&band.h, i // job.kernel_w * band.h.source.dilation)
            x = column(band, i % job.kernel_w * band.w.source.dilation)
            job.offsets[i] = <int32_t>(y * band.pitch + x)
        return
    if job.reading != IN_BAND:
        for i in range(job.pixels):
            job.offsets[i] = <int32_t>i
        return
    i = 0
    for n in range(job.images):
        image = n * (job.image_bytes // job.bytes)
        for y in range(band.h.size):
            for x in range(band.w.size):
                job.offsets[i] = <int32_t>(
                    image + y * band.h.rests * band.pitch + column(band, x * band.w.source.stride)
                )
                i += 1


def weight_gradient(
    cnp.ndarray grad, cnp.ndarray image, cnp.ndarray out, cnp.ndarray window, Py_ssize_t groups,
    int threads,
):
    """Write the gradient of the weight (f, c/groups, kh, kw), given that of the output."""
    cdef WeightJob job
    cdef Window win = window_of(window)[0]
    cdef Phase phases[2]
    cdef Axis *h = &win.h
    cdef Axis *w = &win.w
    cdef double flops, moved, sums_bytes
    cdef Py_ssize_t scratch, items, n_offsets
    cdef char *memory
    job.batch = cnp.PyArray_DIM(image, 0)
    job.out = <char *>cnp.PyArray_DATA(out)
    if job.batch == 0:
        memset(job.out, 0, cnp.PyArray_NBYTES(out))
        return
    job.out_format = computed_format(out)
    job.bytes = job.out_format.scratch_bytes
    job.tiles, job.add = tiles_of(job.bytes), sums_of(True, job.bytes)
    job.groups = groups
    job.filters = cnp.PyArray_DIM(out, 0) // groups
    job.kernel_h, job.kernel_w = h.kernel, w.kernel
    job.band.channels = cnp.PyArray_DIM(out, 1)
    job.steps = job.band.channels * job.kernel_h * job.kernel_w
    job.grad = planes_of(grad, converted_format(grad, job.bytes))
    job.band.source = planes_of(image, converted_format(image, job.bytes))
    job.planes = job.filters <= FEW_FILTERS
    job.reading = IN_BAND
    flops = (
        2.0 * job.batch * groups * job.filters * job.steps * <double>h.out * w.out
    )
    if (
        reads_in_place(&job.band.source, h, w, job.planes)
        and job.grad.stride_h == w.out * job.grad.stride_w
    ):
        job.reading = IN_PLACE
        w.size = w.out = h.size * w.size
        h.size = h.out = 1
    job.band.h.phases, job.band.w.phases = phases, phases + 1
    plan_forward(&job.band.h, h)
    plan_forward(&job.band.w, w)
    if not job.planes:  # neighbouring taps lie side by side
        job.band.w.deal = w.dilation if w.kernel > 1 else w.stride
        job.band.w.rests = w.dilation if w.kernel > 1 else 1
    plan_slices(&job, threads)
    moved = flops / FLOPS_PER_BYTE + cnp.PyArray_NBYTES(grad)
    threads = useful_threads(moved, threads)

    job.row_bytes = (
        stored_row(&job.band.h, h.dilation) * job.band.pitch * job.bytes
    )
    job.slice_bytes = groups * job.padded_filters * job.steps * job.bytes
    n_offsets = job.kernel_h * job.kernel_w if job.planes else job.pixels
    sums_bytes = <double>job.slices * groups * job.padded_filters * job.steps * job.bytes
    memory = NULL
    if sums_bytes < <double>PY_SSIZE_T_MAX / 2:
        memory = <char *>malloc(
            job.slices * job.slice_bytes + n_offsets * sizeof(int32_t) + VECTOR_BYTES
        )
    if memory == NULL:
        raise MemoryError(f"no memory for {sums_bytes:.0f} bytes of sums")
    try:
        job.sums = memory + (-<uintptr_t>memory) % VECTOR_BYTES
        job.offsets = <int32_t *>(job.sums + job.slices * job.slice_bytes)
        plan_offsets(&job)
        scratch = LINE + job.images * job.image_bytes + (PLANE_VECTORS + 1) * VECTOR_BYTES
        if job.planes:
            scratch += job.bytes * (
                job.images * job.band.h.size * job.grad_pitch + job.tiles.lanes
            )
        else:
            scratch += (job.split_filters + 2 * job.block) * job.pixels * job.bytes
        for_each(
            sum_slice, &job, job.slices * groups * job.splits_f * job.splits_c, scratch, moved,
            threads,
        )
        for_each(
            join_slices, &job, groups * ceil_div(job.filters, job.block),
            job.block * (STEP_PIXELS + job.tiles.lanes) * job.bytes, sums_bytes,
            useful_threads(sums_bytes, threads),
        )
    finally:
        free(memory)


cdef struct BiasJob:
    Planes grad
    Py_ssize_t height, width, filters, rows, slices  # rows: of all images
    double *sums
    const Tiles *tiles


cdef void sum_grads(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    """Sum a slice of the rows of one filter."""
    cdef const BiasJob *job = <const BiasJob *>data
    cdef const Planes *grad = &job.grad
    cdef Py_ssize_t slice = item // job.filters, f = item % job.filters
    cdef Py_ssize_t row = slice * job.rows // job.slices, piece, x, count, run = 1
    cdef Py_ssize_t end = (slice + 1) * job.rows // job.slices
    cdef const char *source
    cdef double sum = 0
    while row < end:
        source = (
            grad.data + row // job.height * grad.stride_n + f * grad.stride_c
            + row % job.height * grad.stride_h
        )
        if is_plain(grad.format, grad.stride_w, source):
            if grad.stride_h == job.width * grad.stride_w:
                run = smaller(end - row, job.height - row % job.height)
            sum += job.tiles.sum(source, run * job.width)
            row += run
            continue
        for piece in range(ceil_div(job.width, STEP_PIXELS)):
            x = piece * STEP_PIXELS
            count = smaller(STEP_PIXELS, job.width - x)
            load_row(scratch, source + x * grad.stride_w, count, grad.stride_w, grad.format)
            sum += job.tiles.sum(scratch, count)
        row += 1
    job.sums[item] = sum


def bias_gradient(cnp.ndarray grad, cnp.ndarray out, int threads):
    """Write the sum of gradients (n, f, oh, ow) for every f."""
    cdef BiasJob job
    cdef Format format = computed_format(out)
    cdef char *to = <char *>cnp.PyArray_DATA(out)
    cdef Py_ssize_t f, slice
    cdef double sum
    cdef double moved = <double>cnp.PyArray_NBYTES(grad)
    cdef float rounded
    job.grad = planes_of(grad, converted_format(grad, format.scratch_bytes))
    job.filters = cnp.PyArray_DIM(grad, 1)
    job.height, job.width = cnp.PyArray_DIM(grad, 2), cnp.PyArray_DIM(grad, 3)
    job.rows = cnp.PyArray_DIM(grad, 0) * job.height
    job.slices = smaller(
        smaller(SLICES, job.rows), larger(1, job.rows * job.width // SLICE_PIXELS)
    )
    job.tiles = tiles_of(format.scratch_bytes)
    job.sums = <double *>malloc((job.slices + 1) * job.filters * sizeof(double))
    if job.sums == NULL:
        raise MemoryError(f"no memory for {job.slices} x {job.filters} sums")
    try:
        for_each(
            sum_grads, &job, job.slices * job.filters, STEP_PIXELS * 8, moved,
            useful_threads(moved, threads),
        )
        for f in range(job.filters):
            sum = 0
            for slice in range(job.slices):
                sum += job.sums[slice * job.filters + f]
            rounded = <float>sum
            store_row(
                to + f * format.bytes,
                <void *>&rounded if format.scratch_bytes == 4 else <void *>&sum, 1, format,
            )
    finally:
        free(job.sums)
