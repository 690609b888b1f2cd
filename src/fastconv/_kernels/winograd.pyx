"""3x3 convolution in fewer multiplications, its adjoint, and the gradient of the weight.

    outputs of a tile = A' [sum over c of (G weight[f, c] G') * (B' pixels[c] B)] A

The matrices and their vectors are in winograd.h. For every position of the transformed tiles, the
sum over channels is a product of two matrices, [filter][channel] and [channel][tile], done by the
register tiles of tile.c: here their lanes are tiles, and the "pixels" that they broadcast are
filters.

a. Tiles are counted through all rows and images, so that no lane is empty but at the very end. An
   item is some blocks of tiles, which fill two vectors each, and a range of filters. A block consists
   of segments, tiles of one row.
b. An item's pixels are copied to scratch (L1) with their padding, some channels at a time, as for any
   other convolution (`band`), transformed to scratch (L2), [position][channel][tile], and multiplied;
   the sums, in scratch too, are transformed to outputs. A thread keeps what it has transformed for
   the next item of the same tiles. If that does not fit, it is done for some channels after the
   other, and the sums stay.
c. Filters are transformed first: [strip][position][channel][filter], where a strip is what one call
   of the tile broadcasts. If all of them need more than WEIGHT_BYTES, some strips follow the others.
d. Sums over channels are taken in short blocks: a long one in a register loses digits.
e. An output that is not finite (a NaN or infinity in the tile, or an overflow on the way) marks its
   image; the caller computes marked images directly. A tile's outputs depend on its own pixels
   alone, so nothing else is affected.
f. An item owns what it writes, and no sum's order depends on the lane, the item or the thread.
g. The gradient of the weight is a sum over tiles instead of channels. An item is a block of filters
   and channels, whose planes are the lanes, and a slice of all tiles, which it transforms a
   rectangle at a time, [position][tile][plane]; the register tile's lanes are filters, its steps
   tiles. Sums of some rectangles join the others, because a long sum loses digits; slices, whose
   number follows from the shape, are added pairwise.
"""

from libc.stdint cimport int32_t, uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

cimport numpy as cnp

from fastconv._kernels.band cimport *
from fastconv._kernels.common cimport *
from fastconv._kernels.parallel cimport LINE, for_each, useful_threads
from fastconv._kernels.tile cimport *
from fastconv._kernels.transforms cimport *
from fastconv._kernels.weights cimport *

cnp.import_array()

level = LEVEL.decode()

cdef enum:
    # Terms that are summed in one register: as many as keep the error, which is mostly that of the
    # transforms for large tiles, below what `set_precision` promises; the adjoint's is compared with
    # NumPy's, which sums taps apart. 64, 32 and 16 differ by 3 % of the time each.
    SMALL_TILE_TERMS = 32
    SMALL_TILE_ADJOINT_TERMS = 16
    LARGE_TILE_TERMS = 64
    WEIGHT_BYTES = 12 << 20  # of transformed filters
    PIXEL_BYTES = 1280 << 10  # of transformed pixels of an item
    SUM_BYTES = 768 << 10  # of an item's sums
    ITEM_TILES = 128
    STAGED_BYTES = 24 << 10  # of pixels that are copied to L1 together
    STAGE_CHANNELS = 8  # of them at most
    AHEAD_BYTES = 1024  # that are asked for in front of a strip's filters
    PIXEL_COST = 10  # a tile's pixels take as long to transform as so many filters a row to multiply
    FILTER_COST = 40  # filters from beyond L2 take as long to read as to multiply with so many tiles
    NEAR_BYTES = 1 << 20  # of filters that lie in L2
    # Of the gradient of the weight:
    GRADIENT_TERMS = 32  # as above; 64 err a tenth more, 16 a twentieth less
    PART_TILES = 2048  # that are added up before they join the others
    BLOCK_FILTERS = 128  # of an item, at most
    BLOCK_CHANNELS = 64
    BLOCK_BYTES = 1200 << 10  # of its sums
    ITEMS_OF_THREAD = 4  # for fewer, blocks are halved
    LEAST_PLANES = 16  # of a block
    RECTANGLE_BYTES = 1 << 20  # of tiles that are transformed together
    RECTANGLE_COLUMNS = 32
    PIECE_CHANNELS = 16  # whose gradients are joined and written together
    SLICES = 32  # of all tiles that are summed apart, times blocks
    SLICE_BYTES = 12 << 20  # of their sums


cdef struct Segment:
    Py_ssize_t n, row, column, tiles  # tiles in a row of an image
    Py_ssize_t lane  # of the first, in the block
    Py_ssize_t stage  # bytes from the first channel's pixels in the stage to the segment's


cdef struct Run:
    # Rows of tiles of one image whose pixels are copied together.
    Py_ssize_t n, row, rows, column, columns


cdef struct Tiling:
    # Where an item's tiles lie.
    Run runs[ITEM_TILES]
    Segment segments[ITEM_TILES]
    Py_ssize_t n_runs, blocks
    Py_ssize_t first[ITEM_TILES + 1]  # segment of every block, and behind the last
    Py_ssize_t vectors[ITEM_TILES]  # of every block


cdef struct Job:
    Band band  # a tile is a window: tile + 2 pixels wide, `tile` apart
    Weights weights
    Phase taps  # of either axis
    const Transforms *transforms
    const Tiles *tiles
    Py_ssize_t tile, positions, terms
    Py_ssize_t bytes
    Py_ssize_t batch, groups, filters, channels  # filters, channels: of a group
    Py_ssize_t out_h, out_w
    Format out_format
    char *out
    char *bias  # of all filters
    char *marks  # of images with an output that is not finite
    Py_ssize_t row_tiles, image_tiles, all_tiles
    Py_ssize_t block, blocks  # tiles of a block; blocks of an item
    Py_ssize_t chunk  # of channels that are transformed together
    Py_ssize_t stage  # of channels that are copied together
    Py_ssize_t strips, strip, strip_lanes  # of a group; filters of one, and room for so many
    Py_ssize_t strip_step  # from one position of a strip to the next
    Py_ssize_t first_strip, last_strip  # that are transformed
    Py_ssize_t split, splits  # strips of an item; items along the strips
    Py_ssize_t channel_bytes  # of the stage
    Py_ssize_t stage_bytes, pixel_bytes, sum_bytes  # in scratch; the last two of a block
    char *packed
    int32_t *offsets  # of channels in a strip


cdef inline Py_ssize_t strip_begin(const Job *job, Py_ssize_t strip) noexcept nogil:
    return strip * job.filters // job.strips


# ---- filters -----------------------------------------------------------------------------------

cdef void transform_filters(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    """Transform PACK_CHANNELS channels of a strip."""
    cdef const Job *job = <const Job *>data
    cdef Py_ssize_t pieces = ceil_div(job.channels, PACK_CHANNELS)
    cdef Py_ssize_t first = item % pieces * PACK_CHANNELS
    cdef Py_ssize_t last = smaller(first + PACK_CHANNELS, job.channels), c
    cdef Py_ssize_t strip = (
        job.first_strip + item // pieces % (job.last_strip - job.first_strip)
    )
    cdef Py_ssize_t g = item // (pieces * (job.last_strip - job.first_strip))
    cdef Py_ssize_t row_bytes = job.strip_lanes * job.bytes
    cdef Py_ssize_t taps_bytes = WINOGRAD_TAPS * WINOGRAD_TAPS * row_bytes
    cdef char *to = strip_of(job, g, strip) + first * row_bytes
    pack_channels(
        &job.weights, &job.taps, &job.taps, g, strip_begin(job, strip), job.strip_lanes, first,
        last, scratch, scratch + PACK_CHANNELS * taps_bytes,
    )
    for c in range(last - first):
        job.transforms.filters(
            to + c * row_bytes, job.strip_step, scratch + c * taps_bytes, job.strip_lanes
        )


cdef inline char *strip_of(const Job *job, Py_ssize_t g, Py_ssize_t strip) noexcept nogil:
    """A strip's transformed filters."""
    return job.packed + (
        (g * (job.last_strip - job.first_strip) + strip - job.first_strip)
        * job.positions * job.strip_step * job.bytes
    )


# ---- one item ----------------------------------------------------------------------------------

cdef void find_tiles(
    const Job *job, Py_ssize_t first, Py_ssize_t last, Tiling *tiling
) noexcept nogil:
    """Cut the tiles first to last into blocks of segments, and say what pixels they need."""
    cdef Py_ssize_t tile = first, lane = 0, s = 0
    cdef bint whole = job.row_tiles <= job.blocks * job.block  # rows are copied whole
    cdef Run *run = NULL
    cdef Segment *segment
    tiling.n_runs = tiling.blocks = 0
    while tile < last:
        if lane == 0:
            tiling.first[tiling.blocks] = s
            tiling.blocks += 1
        segment = tiling.segments + s
        segment.n, segment.row = tile // job.image_tiles, tile % job.image_tiles // job.row_tiles
        segment.column = tile % job.row_tiles
        segment.tiles = smaller(
            smaller(job.row_tiles - segment.column, last - tile), job.block - lane
        )
        segment.lane = lane
        if run == NULL or not whole or run.n != segment.n:
            run = tiling.runs + tiling.n_runs
            tiling.n_runs += 1
            run.n, run.row, run.column, run.columns = segment.n, segment.row, 0, job.row_tiles
            if not whole:
                run.column, run.columns = segment.column, segment.tiles
        run.rows = segment.row - run.row + 1
        segment.stage = (
            (tiling.n_runs - 1) * job.stage * job.channel_bytes
            + job.tile * job.bytes * (
                (segment.row - run.row) * job.band.pitch + segment.column - run.column
            )
        )
        lane += segment.tiles
        tiling.vectors[tiling.blocks - 1] = ceil_div(lane, job.tiles.lanes)
        if lane == job.block:
            lane = 0
        tile += segment.tiles
        s += 1
    tiling.first[tiling.blocks] = s


cdef void transform_pixels(
    const Job *job, Py_ssize_t g, const Tiling *tiling, Py_ssize_t first, Py_ssize_t last,
    char *stage, char *pixels,
) noexcept nogil:
    """Transform the channels first to last of all blocks: [block][position][channel][tile]."""
    cdef Py_ssize_t c = first, channels, i, b, s, step, lanes = job.tiles.lanes
    cdef const Run *run
    cdef const Segment *segment
    cdef char *to
    while c < last:
        channels = smaller(job.stage, last - c)
        for i in range(tiling.n_runs):
            run = tiling.runs + i
            load_band(
                &job.band, run.n, g * job.channels + c, channels, run.row, run.rows,
                run.column, run.columns, stage + i * job.stage * job.channel_bytes,
            )
        for b in range(tiling.blocks):
            step = ((last - first) * tiling.vectors[b] + 1) * lanes
            to = pixels + b * job.pixel_bytes + (c - first) * tiling.vectors[b] * VECTOR_BYTES
            # In ascending order: what is overwritten behind a segment is written again.
            for i in range(channels):
                for s in range(tiling.first[b], tiling.first[b + 1]):
                    segment = tiling.segments + s
                    job.transforms.pixels(
                        to + segment.lane * job.bytes, step,
                        stage + segment.stage + i * job.channel_bytes, job.band.pitch,
                        segment.tiles,
                    )
                to += tiling.vectors[b] * VECTOR_BYTES
        c += channels


cdef void multiply(
    const Job *job, Py_ssize_t g, Py_ssize_t split, const Tiling *tiling, Py_ssize_t first,
    Py_ssize_t last, const char *zeros, const char *pixels, char *sums,
) noexcept nogil:
    """Add the products of some channels at all positions of all blocks."""
    cdef Py_ssize_t position, b, s, begin, vectors
    cdef Py_ssize_t from_strip = job.first_strip + split * job.split
    cdef Py_ssize_t to_strip = smaller(from_strip + job.split, job.last_strip)
    cdef Py_ssize_t before = strip_begin(job, from_strip)
    cdef const void *row[1]
    for position in range(job.positions):
        for b in range(tiling.blocks):
            vectors = tiling.vectors[b]
            for s in range(from_strip, to_strip):
                begin = strip_begin(job, s)
                row[0] = strip_of(job, g, s) + (
                    position * job.strip_step + first * job.strip_lanes
                ) * job.bytes
                job.tiles.multiply(
                    sums + b * job.sum_bytes + position * sums_step(job, vectors)
                    + (begin - before) * vectors * VECTOR_BYTES,
                    zeros if first == 0 else NULL,
                    pixels + b * job.pixel_bytes
                    + position * ((last - first) * vectors + 1) * VECTOR_BYTES,
                    row, job.offsets, last - first, job.terms, 1, strip_begin(job, s + 1) - begin,
                    vectors, AHEAD_BYTES // job.bytes,
                )


cdef inline Py_ssize_t sums_step(const Job *job, Py_ssize_t vectors) noexcept nogil:
    """Bytes from one position's sums to the next."""
    return job.split * job.strip * vectors * VECTOR_BYTES + VECTOR_BYTES


cdef void store_outputs(
    const Job *job, Py_ssize_t g, Py_ssize_t f, const Segment *segments, Py_ssize_t count,
    Py_ssize_t pitch, const char *staged,
) noexcept nogil:
    """Write a filter's outputs of a block to the rows they belong to."""
    cdef Py_ssize_t s, y, top, left, columns
    cdef const Segment *segment
    cdef const char *source
    cdef char *to
    for s in range(count):
        segment = segments + s
        top, left = segment.row * job.tile, segment.column * job.tile
        columns = smaller(segment.tiles * job.tile, job.out_w - left)
        source = staged + segment.lane * job.tile * job.bytes
        to = job.out + job.out_format.bytes * (
            (((segment.n * job.groups + g) * job.filters + f) * job.out_h + top) * job.out_w + left
        )
        for y in range(smaller(job.tile, job.out_h - top)):
            if job.out_format.conversion == AS_IS:
                copy_bytes(to, source, columns * job.bytes)
            else:
                store_row(to, source, columns, job.out_format)
            source += pitch * job.bytes
            to += job.out_w * job.out_format.bytes


cdef inline bint is_bad(const char *bad, Py_ssize_t lane, Py_ssize_t bytes) noexcept nogil:
    return (<float *>bad)[lane] != 0 if bytes == 4 else (<double *>bad)[lane] != 0


cdef void transform_outputs(
    const Job *job, Py_ssize_t g, Py_ssize_t split, const Segment *segments, Py_ssize_t count,
    Py_ssize_t vectors, const char *sums, char *staged, char *bad,
) noexcept nogil:
    """Write all outputs of a block of tiles for the item's filters."""
    cdef Py_ssize_t first = strip_begin(job, job.first_strip + split * job.split), f, i, lane
    cdef Py_ssize_t last = strip_begin(
        job, smaller(job.first_strip + (split + 1) * job.split, job.last_strip)
    )
    cdef Py_ssize_t pitch = vectors * job.tiles.lanes * job.tile
    cdef Py_ssize_t step = sums_step(job, vectors) // job.bytes
    memset(bad, 0, vectors * VECTOR_BYTES)
    for f in range(first, last):
        job.transforms.outputs(
            staged, pitch, sums + (f - first) * vectors * VECTOR_BYTES, step, vectors,
            job.bias + (g * job.filters + f) * job.bytes, bad,
        )
        store_outputs(job, g, f, segments, count, pitch, staged)
    for i in range(count):
        for lane in range(segments[i].lane, segments[i].lane + segments[i].tiles):
            if is_bad(bad, lane, job.bytes):
                job.marks[segments[i].n] = True


cdef void convolve(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    cdef const Job *job = <const Job *>data
    cdef Py_ssize_t split = item % job.splits, g = item // job.splits % job.groups
    cdef Py_ssize_t *held = <Py_ssize_t *>scratch  # whose pixels an earlier item has transformed
    cdef Py_ssize_t which = 1 + item // job.splits, b, c = 0, last
    cdef char *zeros = scratch + LINE
    cdef char *bad = zeros + TILE_VECTORS * VECTOR_BYTES
    cdef char *staged = bad + TILE_VECTORS * VECTOR_BYTES
    cdef char *stage = staged + job.tile * job.tile * TILE_VECTORS * VECTOR_BYTES
    cdef char *pixels = stage + job.stage_bytes
    cdef Tiling tiling
    cdef char *sums
    item = item // (job.splits * job.groups) * job.blocks * job.block
    find_tiles(job, item, smaller(item + job.blocks * job.block, job.all_tiles), &tiling)
    sums = pixels + job.blocks * job.pixel_bytes
    memset(zeros, 0, TILE_VECTORS * VECTOR_BYTES)
    while c < job.channels:
        last = smaller(c + job.chunk, job.channels)
        if held[0] != which or job.chunk < job.channels:
            held[0] = which
            transform_pixels(job, g, &tiling, c, last, stage, pixels)
        multiply(job, g, split, &tiling, c, last, zeros, pixels, sums)
        c = last
    for b in range(tiling.blocks):
        transform_outputs(
            job, g, split, tiling.segments + tiling.first[b],
            tiling.first[b + 1] - tiling.first[b], tiling.vectors[b], sums + b * job.sum_bytes,
            staged, bad,
        )


# ---- the plan ----------------------------------------------------------------------------------

cdef Axis axis_of_tiles(const Axis *axis, Py_ssize_t tile, bint transposed) noexcept:
    """Tiles are windows over what the outputs see."""
    cdef Axis tiles = axis[0]
    cdef Py_ssize_t outputs = axis.out
    if transposed:
        outputs = axis.size
        tiles.size = axis.out
        tiles.before = WINOGRAD_TAPS - 1 - axis.before
        tiles.pad_mode = PAD_CONSTANT
    tiles.out = ceil_div(outputs, tile)
    tiles.kernel, tiles.stride, tiles.dilation = tile + WINOGRAD_TAPS - 1, tile, 1
    return tiles


cdef Axis axis_of_outputs(const Axis *axis, Py_ssize_t tile) noexcept:
    """Tiles of the outputs themselves, zeros behind the last one."""
    cdef Axis tiles
    tiles.size, tiles.out, tiles.pad_mode = axis.out, ceil_div(axis.out, tile), PAD_CONSTANT
    tiles.kernel, tiles.stride, tiles.dilation = tile, tile, 1
    tiles.before = tiles.after = 0
    return tiles


cdef void plan_band(Band *band, Axis h, Axis w, Phase *phases) noexcept:
    band.h.phases, band.w.phases = phases, phases + 1
    plan_forward(&band.h, &h)
    plan_forward(&band.w, &w)
    band.w.deal = band.w.rests = 1  # all that a tile sees of a row lies side by side


cdef double items_cost(
    const Job *job, Py_ssize_t blocks, Py_ssize_t split, int threads
) noexcept:
    """What the items of a thread take, in products of a tile with a filter."""
    cdef Py_ssize_t filters = split * job.strip, tiles = blocks * job.block
    cdef Py_ssize_t items = (
        ceil_div(job.all_tiles, tiles) * job.groups
        * ceil_div(job.last_strip - job.first_strip, split)
    )
    cdef bint far = filters * job.positions * job.channels * job.bytes > NEAR_BYTES
    return <double>ceil_div(items, threads) * (
        tiles * job.tile * PIXEL_COST + filters * larger(tiles, FILTER_COST if far else 0)
    )


cdef size_t plan_sizes(Job *job, int threads) noexcept:
    """Cut tiles and filters into items; return the bytes of scratch that one takes."""
    cdef Py_ssize_t row_bytes = TILE_VECTORS * VECTOR_BYTES, strips, blocks, split, runs, rows
    cdef Py_ssize_t position_bytes = job.positions * row_bytes
    cdef double cost, least = -1
    job.block = TILE_VECTORS * job.tiles.lanes
    job.row_tiles, job.image_tiles = job.band.w.last, job.band.h.last * job.band.w.last
    job.all_tiles = job.batch * job.image_tiles
    job.chunk = ceil_div(
        job.channels, ceil_div(job.channels * position_bytes, PIXEL_BYTES)
    )
    strips = job.last_strip - job.first_strip
    blocks = smaller(
        smaller(ITEM_TILES // job.block, ceil_div(job.all_tiles, job.block)),
        larger(1, PIXEL_BYTES // (job.chunk * position_bytes)),
    )
    while blocks:
        split = smaller(
            strips, larger(1, SUM_BYTES // (blocks * position_bytes * job.strip))
        )
        while split:
            cost = items_cost(job, blocks, split, threads)
            if least < 0 or cost < least:
                least, job.blocks, job.split = cost, blocks, split
            split //= 2
        blocks -= 1
    job.splits = ceil_div(strips, job.split)

    if job.row_tiles <= job.blocks * job.block:
        # Rows that an item of so many tiles can touch, of one image, and of how many images.
        rows = smaller((job.blocks * job.block - 2) // job.row_tiles + 2, job.band.h.last)
        runs = (job.blocks * job.block - 2) // job.image_tiles + 2
        job.band.h.size, job.band.w.size = rows, job.row_tiles
    else:
        runs = job.blocks + 1
        job.band.h.size, job.band.w.size = 1, job.block
    lay_out(&job.band)
    job.channel_bytes = job.band.channel_rows * job.band.pitch * job.bytes
    job.stage = larger(1, smaller(STAGE_CHANNELS, STAGED_BYTES // (runs * job.channel_bytes)))
    job.stage_bytes = ceil_div(
        runs * job.stage * job.channel_bytes + (job.tile + 1) * VECTOR_BYTES, LINE
    ) * LINE
    job.pixel_bytes = job.chunk * position_bytes + job.positions * VECTOR_BYTES
    job.sum_bytes = job.positions * (job.split * job.strip * row_bytes + VECTOR_BYTES)
    return (
        LINE + (2 + job.tile * job.tile) * row_bytes + job.stage_bytes
        + job.blocks * (job.pixel_bytes + job.sum_bytes)
    )


cdef size_t plan_strips(Job *job) noexcept:
    """Cut filters into strips, and as many of these as are transformed together; return the bytes
    that they take."""
    cdef Py_ssize_t lanes = job.tiles.lanes, strips
    job.strips = ceil_div(job.filters, TILE_PIXELS)
    job.strip = ceil_div(job.filters, job.strips)
    job.strip_lanes = ceil_div(job.strip, lanes) * lanes
    job.strip_step = job.channels * job.strip_lanes + lanes
    strips = WEIGHT_BYTES // (job.groups * job.positions * job.strip_step * job.bytes)
    strips = smaller(job.strips, larger(1, strips))
    job.first_strip, job.last_strip = 0, ceil_div(job.strips, ceil_div(job.strips, strips))
    return <size_t>(
        job.groups * job.last_strip * job.positions * job.strip_step * job.bytes
    )


cdef inline size_t table_bytes(const Job *job) noexcept nogil:
    """Bytes of the bias and of the table of offsets."""
    return (
        job.groups * job.filters * job.bytes + job.channels * sizeof(int32_t) + 3 * VECTOR_BYTES
    )


cdef inline double flops_of(const Job *job) noexcept nogil:
    return (
        2.0 * job.batch * job.groups * job.filters * job.channels * job.positions
        * job.band.h.last * job.band.w.last
    )


cdef void describe(
    Job *job, cnp.ndarray source, cnp.ndarray weight, cnp.ndarray out, const Window *window,
    Py_ssize_t groups, Py_ssize_t tile, bint transposed, Phase *phases,
) noexcept:
    job.out_format = computed_format(out)
    job.bytes = job.out_format.scratch_bytes
    job.out = <char *>cnp.PyArray_DATA(out)
    job.tiles, job.transforms = tiles_of(job.bytes), transforms_of(job.bytes, tile)
    job.tile, job.positions = tile, (tile + WINOGRAD_TAPS - 1) * (tile + WINOGRAD_TAPS - 1)
    job.band.source = planes_of(source, converted_format(source, job.bytes))
    job.weights = weights_of(weight, groups, transposed, job.bytes, job.tiles)
    job.batch, job.groups = cnp.PyArray_DIM(source, 0), groups
    job.filters = job.weights.filters
    job.channels = job.band.channels = cnp.PyArray_DIM(source, 1) // groups
    job.out_h, job.out_w = cnp.PyArray_DIM(out, 2), cnp.PyArray_DIM(out, 3)
    job.taps.taps = WINOGRAD_TAPS
    job.taps.tap, job.taps.tap_step = 0, 1
    job.terms = SMALL_TILE_TERMS if tile == 2 else LARGE_TILE_TERMS
    if transposed:
        job.taps.tap, job.taps.tap_step = WINOGRAD_TAPS - 1, -1
        job.terms = SMALL_TILE_ADJOINT_TERMS if tile == 2 else LARGE_TILE_TERMS
    plan_band(
        &job.band, axis_of_tiles(&window.h, tile, transposed),
        axis_of_tiles(&window.w, tile, transposed), phases,
    )


cdef int run(Job *job, object bias, int threads) except -1:
    cdef size_t bytes = plan_strips(job), scratch_bytes
    cdef double flops = flops_of(job)
    cdef Py_ssize_t strips = job.last_strip, pieces = ceil_div(job.channels, PACK_CHANNELS), c
    cdef char *memory = <char *>malloc(bytes + table_bytes(job))
    cdef cnp.ndarray bias_array
    threads = useful_threads(flops / FLOPS_PER_BYTE, threads)
    if memory == NULL:
        raise MemoryError(f"no memory for {bytes} bytes of transformed weights")
    try:
        job.packed = memory + (-<uintptr_t>memory) % VECTOR_BYTES
        job.bias = job.packed + bytes
        job.offsets = <int32_t *>(job.bias + job.groups * job.filters * job.bytes)
        memset(job.bias, 0, job.groups * job.filters * job.bytes)
        if bias is not None:
            bias_array = bias
            load_row(
                job.bias, <const char *>cnp.PyArray_DATA(bias_array), job.groups * job.filters,
                cnp.PyArray_STRIDE(bias_array, 0), converted_format(bias_array, job.bytes),
            )
        for c in range(job.channels):
            job.offsets[c] = <int32_t>(c * job.strip_lanes)
        while job.first_strip < job.strips:
            job.last_strip = smaller(job.first_strip + strips, job.strips)
            for_each(
                transform_filters, job, job.groups * (job.last_strip - job.first_strip) * pieces,
                (PACK_CHANNELS * WINOGRAD_TAPS * WINOGRAD_TAPS + PACK_TAPS)
                * job.strip_lanes * job.bytes,
                bytes, useful_threads(bytes, threads),
            )
            scratch_bytes = plan_sizes(job, threads)
            for_each(
                convolve, job,
                job.splits * job.groups * ceil_div(job.all_tiles, job.blocks * job.block),
                scratch_bytes, flops / FLOPS_PER_BYTE, threads,
            )
            job.first_strip = job.last_strip
    finally:
        free(memory)
    return 0


def convolve_tiles(
    cnp.ndarray source, cnp.ndarray weight, bias, cnp.ndarray out, cnp.ndarray window,
    Py_ssize_t groups, Py_ssize_t tile, bint transposed, cnp.ndarray marks, int threads,
):
    """Write the convolution of images (n, c, h, w) with weight (f, c/groups, 3, 3) or, transposed,
    the adjoint of the one that brings `out` to `source`, its padding taken for zeros.

    Tiles are of 2 x 2 or 4 x 4 outputs. What is not finite is not right: `marks` of the images
    where that occurs, bytes, become 1."""
    cdef Job job
    cdef Phase phases[2]
    if cnp.PyArray_DIM(source, 0) == 0:
        return
    job.marks = <char *>cnp.PyArray_DATA(marks)
    describe(&job, source, weight, out, window_of(window), groups, tile, transposed, phases)
    run(&job, bias, threads)


def plan(
    cnp.ndarray source, cnp.ndarray weight, cnp.ndarray out, cnp.ndarray window,
    Py_ssize_t groups, Py_ssize_t tile, int threads,
):
    """The bytes that `convolve_tiles` allocates for arrays of such shapes, which are not read, and
    the FLOPs of its products."""
    cdef Job job
    cdef Phase phases[2]
    cdef size_t bytes
    describe(&job, source, weight, out, window_of(window), groups, tile, False, phases)
    bytes = plan_strips(&job) + table_bytes(&job)
    threads = useful_threads(flops_of(&job) / FLOPS_PER_BYTE, threads)
    return bytes + threads * plan_sizes(&job, threads), int(flops_of(&job))


# ---- the gradient of the weight ----------------------------------------------------------------

cdef struct Factor:
    # What the image's channels, or the gradient's filters, are transformed to: for an item's planes
    # [position][run of vectors][tile][vector].
    Band band
    Spread transform
    const char *end  # up to which all may be read
    Py_ssize_t planes  # of a group
    Py_ssize_t block, splits  # planes of an item; items along the planes
    Py_ssize_t run, pitch  # vectors that lie side by side; from one tile to the next
    bint shrinks  # the pitch of a run that is not full
    Py_ssize_t step  # from one position to the next


cdef struct Rectangle:
    # Tiles of some images that are transformed and multiplied together.
    Py_ssize_t n, images, top, rows, left, columns


cdef struct Block:
    # The filters and channels of an item.
    Py_ssize_t g, f, filters, c, channels


cdef struct Piece:
    # Of a block, what is joined and written together.
    Py_ssize_t f, filters, c, channels, vectors
    Py_ssize_t sums  # bytes from a position's sums of the block to its


cdef struct GradientJob:
    Factor pixels, grads
    const Transforms *transforms
    const Tiles *tiles
    const Sums *add
    Py_ssize_t tile, positions, bytes
    Py_ssize_t batch, groups, blocks  # blocks: of filters and channels, of all groups
    Py_ssize_t images, chunk  # of a rectangle; its tiles
    Py_ssize_t rectangles, slices  # of which so many are summed apart
    Py_ssize_t part  # rectangles whose sums are added up before they join the others,
    bint in_parts  # if a slice has more
    Py_ssize_t sum_step  # from one position's sums to the next, in bytes
    size_t stage_bytes, packed_bytes, sum_bytes, scratch_bytes  # sum_bytes: of an item
    size_t slices_bytes  # of the sums of all items, if there are several slices
    Format out_format
    char *out
    char *sums  # [block][slice], if there are several slices
    char *not_finite
    int32_t *offsets  # of the tiles in a run of channels


cdef inline Rectangle rectangle_of(const GradientJob *job, Py_ssize_t index) noexcept nogil:
    cdef const Side *h = &job.pixels.band.h
    cdef const Side *w = &job.pixels.band.w
    cdef Rectangle it
    it.left, it.top = index % w.items * w.size, index // w.items % h.items * h.size
    it.n = index // (w.items * h.items) * job.images
    it.columns, it.rows = smaller(w.size, w.last - it.left), smaller(h.size, h.last - it.top)
    it.images = smaller(job.images, job.batch - it.n)
    return it


cdef inline Block block_of(const GradientJob *job, Py_ssize_t index) noexcept nogil:
    cdef const Factor *pixels = &job.pixels
    cdef const Factor *grads = &job.grads
    cdef Block it
    it.g = index // (pixels.splits * grads.splits)
    it.f = index // pixels.splits % grads.splits * grads.block
    it.c = index % pixels.splits * pixels.block
    it.filters = smaller(grads.block, grads.planes - it.f)
    it.channels = smaller(pixels.block, pixels.planes - it.c)
    return it


cdef void pack_row(
    const GradientJob *job, const Factor *factor, const char *plane, Py_ssize_t planes,
    Py_ssize_t y, Py_ssize_t left, Py_ssize_t columns, char *stage, char *to,
) noexcept nogil:
    """Turn what some tiles see of a padded row to [column][plane]."""
    cdef const Planes *source = &factor.band.source
    cdef const Axis *w = &factor.band.w.source
    cdef Py_ssize_t bytes = job.bytes, x = left * w.stride, c
    cdef Py_ssize_t length = stored_columns(&factor.band.w, columns)
    cdef Py_ssize_t before = padding_before(w, x, length)
    cdef Py_ssize_t behind = padding_behind(w, x, length)
    cdef Py_ssize_t inner = length - before - behind
    cdef const char *row = padded_row(source, plane, &factor.band.h.source, y)
    if row == NULL:
        memset(to, 0, length * VECTOR_BYTES)
    elif (
        is_plain(source.format, source.stride_w, row) and source.stride_c % bytes == 0
        and (w.pad_mode == PAD_CONSTANT or inner == length)
    ):
        row += (x - w.before + before) * bytes
        memset(to, 0, before * VECTOR_BYTES)
        job.tiles.pack(
            to + before * VECTOR_BYTES, row, source.stride_c // bytes, planes, inner, 1,
            (factor.end - row) // bytes,
        )
        memset(to + (before + inner) * VECTOR_BYTES, 0, behind * VECTOR_BYTES)
    else:
        for c in range(planes):
            load_padded_row(
                stage + c * factor.band.pitch * bytes, row + c * source.stride_c, x, 1, length,
                source.stride_w, w, source.format, NULL,
            )
        job.tiles.pack(
            to, stage, factor.band.pitch, planes, length, 1, job.stage_bytes // bytes
        )


cdef void transform_planes(
    const GradientJob *job, const Factor *factor, const Rectangle *tiles, Py_ssize_t first,
    Py_ssize_t planes, char *stage, char *to,
) noexcept nogil:
    """Transform so many planes of some tiles."""
    cdef const Band *band = &factor.band
    cdef Py_ssize_t lanes = job.tiles.lanes, vectors = ceil_div(planes, lanes)
    cdef Py_ssize_t extent = band.h.extent, row_bytes = band.pitch * VECTOR_BYTES
    cdef Py_ssize_t v, i, t, y, end, first_of_run, pitch
    cdef char *packed = stage + job.stage_bytes  # the last rows, in turn
    cdef char *target
    cdef const char *plane
    cdef const void *rows[MOST_POSITIONS]
    for v in range(vectors):
        first_of_run = v // factor.run * factor.run
        pitch = factor.pitch
        if factor.shrinks:
            pitch = smaller(pitch, vectors - first_of_run)
        target = to + (first_of_run * job.chunk + v - first_of_run) * VECTOR_BYTES
        for i in range(tiles.images):
            plane = band.source.data + (tiles.n + i) * band.source.stride_n + (
                (first + v * lanes) * band.source.stride_c
            )
            end = 0
            for t in range(tiles.rows):
                for y in range(end, t * job.tile + extent):
                    pack_row(
                        job, factor, plane, smaller(lanes, planes - v * lanes),
                        tiles.top * job.tile + y, tiles.left, tiles.columns, stage,
                        packed + y % extent * row_bytes,
                    )
                end = t * job.tile + extent
                for y in range(extent):
                    rows[y] = packed + (t * job.tile + y) % extent * row_bytes
                factor.transform(target, pitch * lanes, factor.step, rows, tiles.columns)
                target += tiles.columns * pitch * VECTOR_BYTES


cdef void multiply_planes(
    const GradientJob *job, const Block *block, Py_ssize_t tiles, const char *pixels,
    const char *grads, char *sums,
) noexcept nogil:
    """Add the products of an item's filters and channels over some tiles."""
    cdef Py_ssize_t channels = block.channels, filters = block.filters
    cdef Py_ssize_t strips = ceil_div(channels, TILE_PIXELS), strip, c, position, run, v, count
    cdef Py_ssize_t vectors = ceil_div(filters, job.tiles.lanes)
    cdef const void *row[1]
    for position in range(job.positions):
        for run in range(ceil_div(vectors, TILE_VECTORS)):
            v = run * TILE_VECTORS
            count = smaller(TILE_VECTORS, vectors - v)
            for strip in range(strips):
                c = strip * channels // strips
                row[0] = pixels + (position * job.pixels.step + c) * job.bytes
                job.tiles.multiply(
                    sums + position * job.sum_step + (v * channels + c * count) * VECTOR_BYTES,
                    NULL,
                    grads + position * job.grads.step * job.bytes + v * job.chunk * VECTOR_BYTES,
                    row, job.offsets, tiles, GRADIENT_TERMS, 1,
                    (strip + 1) * channels // strips - c, count, 0,
                )


cdef inline Py_ssize_t runs_of(const GradientJob *job, Py_ssize_t filters) noexcept nogil:
    return ceil_div(filters, TILE_VECTORS * job.tiles.lanes)


cdef inline Py_ssize_t pieces_of(Py_ssize_t channels) noexcept nogil:
    return ceil_div(channels, PIECE_CHANNELS)


cdef inline Piece piece_of(
    const GradientJob *job, const Block *block, Py_ssize_t run, Py_ssize_t piece
) noexcept nogil:
    cdef Py_ssize_t lanes = job.tiles.lanes
    cdef Piece it
    it.f, it.c = run * TILE_VECTORS * lanes, piece * PIECE_CHANNELS
    it.filters = smaller(TILE_VECTORS * lanes, block.filters - it.f)
    it.channels = smaller(PIECE_CHANNELS, block.channels - it.c)
    it.vectors = ceil_div(it.filters, lanes)
    it.sums = (it.f // lanes * block.channels + it.c * it.vectors) * VECTOR_BYTES
    it.f += block.f
    it.c += block.c
    return it


cdef inline size_t piece_bytes(const GradientJob *job) noexcept nogil:
    """Bytes of scratch to write a piece: its gradients, `bad`, and the same transposed."""
    cdef Py_ssize_t rows = PIECE_CHANNELS * WINOGRAD_TAPS * WINOGRAD_TAPS
    return <size_t>((2 * rows + job.tiles.lanes) * TILE_VECTORS * VECTOR_BYTES + VECTOR_BYTES)


cdef void store_taps(
    const GradientJob *job, Py_ssize_t g, const Piece *piece, const char *sums, char *scratch
) noexcept nogil:
    """Write the gradients of a piece of a block that has these sums."""
    cdef Py_ssize_t lanes = job.tiles.lanes, lane, taps = WINOGRAD_TAPS * WINOGRAD_TAPS
    cdef Py_ssize_t count = piece.channels * taps, pitch = count + lanes
    cdef char *bad = scratch + PIECE_CHANNELS * taps * TILE_VECTORS * VECTOR_BYTES
    cdef char *rows = bad + VECTOR_BYTES
    cdef char *to = job.out + job.out_format.bytes * taps * (
        (g * job.grads.planes + piece.f) * job.pixels.planes + piece.c
    )
    memset(bad, 0, VECTOR_BYTES)
    job.transforms.taps(
        scratch, sums + piece.sums, job.sum_step // job.bytes, piece.channels, piece.vectors, bad
    )
    for lane in range(lanes):
        if is_bad(bad, lane, job.bytes):
            job.not_finite[0] = True
    job.tiles.unpack(rows, pitch, scratch, count, piece.vectors)
    for lane in range(piece.filters):
        store_row(to, rows + lane * pitch * job.bytes, count, job.out_format)
        to += job.pixels.planes * taps * job.out_format.bytes


cdef void sum_tiles(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    """Sum a slice of the tiles for a block."""
    cdef const GradientJob *job = <const GradientJob *>data
    cdef Py_ssize_t slice = item % job.slices, begin = slice * job.rectangles // job.slices
    cdef Py_ssize_t end = (slice + 1) * job.rectangles // job.slices, run, i
    cdef Piece piece
    cdef Block block = block_of(job, item // job.slices)
    cdef char *pixels = scratch + job.stage_bytes + job.packed_bytes
    cdef char *grads = pixels + job.positions * job.pixels.step * job.bytes
    cdef char *part_sums = grads + job.positions * job.grads.step * job.bytes
    cdef char *sums = part_sums + job.in_parts * job.sum_bytes
    cdef Rectangle tiles
    if job.slices > 1:
        sums = job.sums + item * job.sum_bytes
    memset(sums, 0, job.sum_bytes)
    if job.in_parts:
        memset(part_sums, 0, job.sum_bytes)
    else:
        part_sums = sums
    for i in range(begin, end):
        tiles = rectangle_of(job, i)
        transform_planes(
            job, &job.pixels, &tiles, block.g * job.pixels.planes + block.c, block.channels,
            scratch, pixels,
        )
        transform_planes(
            job, &job.grads, &tiles, block.g * job.grads.planes + block.f, block.filters, scratch,
            grads,
        )
        multiply_planes(
            job, &block, tiles.images * tiles.rows * tiles.columns, pixels, grads, part_sums
        )
        if job.in_parts and ((i + 1 - begin) % job.part == 0 or i + 1 == end):
            job.add.add_row(sums, part_sums, job.sum_bytes // job.bytes)
            memset(part_sums, 0, job.sum_bytes)
    if job.slices > 1:
        return
    for run in range(runs_of(job, block.filters)):
        for i in range(pieces_of(block.channels)):
            piece = piece_of(job, &block, run, i)
            store_taps(job, block.g, &piece, sums, scratch)


cdef void join_slices(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    """Add the slices of a piece of a block pairwise, and write its gradient."""
    cdef const GradientJob *job = <const GradientJob *>data
    cdef Py_ssize_t runs = runs_of(job, job.grads.block), pieces = pieces_of(job.pixels.block)
    cdef Py_ssize_t index = item // (pieces * runs), position
    cdef Block block = block_of(job, index)
    cdef Piece piece = piece_of(job, &block, item // pieces % runs, item % pieces)
    cdef char *sums = job.sums + index * job.slices * job.sum_bytes
    if piece.filters <= 0 or piece.channels <= 0:
        return
    for position in range(job.positions):
        add_slices(
            job.add, sums + position * job.sum_step + piece.sums, job.slices, job.sum_bytes,
            piece.channels * piece.vectors * job.tiles.lanes,
        )
    store_taps(job, block.g, &piece, sums, scratch)


cdef void read_from(Factor *factor, cnp.ndarray array, Py_ssize_t bytes) noexcept:
    factor.band.source = planes_of(array, converted_format(array, bytes))
    factor.end = readable_end(array)


cdef void plan_factor(
    const GradientJob *job, Factor *factor, Py_ssize_t planes, Py_ssize_t most,
    Py_ssize_t together,
) noexcept:
    """Cut planes into blocks of at most so many, a multiple of `together` vectors if that fits."""
    cdef Py_ssize_t lanes = job.tiles.lanes
    cdef Py_ssize_t vectors = even_size(ceil_div(planes, lanes), most // lanes, together)
    factor.planes, factor.block = planes, vectors * lanes
    factor.splits = ceil_div(planes, factor.block)
    factor.run, factor.pitch, factor.shrinks = vectors, vectors | 1, False  # odd: no sets collide


cdef void plan_blocks(GradientJob *job, Py_ssize_t filters, Py_ssize_t channels) noexcept:
    """Cut filters and channels into blocks of at most so many."""
    plan_factor(job, &job.pixels, job.pixels.band.channels, channels, 1)
    plan_factor(job, &job.grads, job.grads.band.channels, filters, TILE_VECTORS)
    job.grads.run = job.grads.pitch = TILE_VECTORS  # as the register tile wants it
    job.grads.shrinks = True
    job.blocks = job.groups * job.grads.splits * job.pixels.splits
    job.sum_step = VECTOR_BYTES * (job.grads.block // job.tiles.lanes * job.pixels.block + 1)
    job.sum_bytes = job.positions * job.sum_step


cdef void plan_rectangles(GradientJob *job) noexcept:
    """Cut the tiles into rectangles that fit into scratch, and these into slices."""
    cdef Side *h = &job.pixels.band.h
    cdef Side *w = &job.pixels.band.w
    cdef Py_ssize_t tile_bytes = job.positions * job.bytes * (job.pixels.block + job.grads.block)
    cdef Py_ssize_t chunk = smaller(ITEM_TILES, larger(1, RECTANGLE_BYTES // tile_bytes)), most
    w.size = even_size(w.last, smaller(RECTANGLE_COLUMNS, chunk), 1)
    h.size = even_size(h.last, chunk // w.size, 1)
    h.items, w.items = ceil_div(h.last, h.size), ceil_div(w.last, w.size)
    job.images = 1
    if h.items == w.items == 1:
        job.images = smaller(job.batch, chunk // (h.last * w.last))
    lay_out(&job.pixels.band)
    job.grads.band.h.size, job.grads.band.w.size = h.size, w.size
    lay_out(&job.grads.band)
    job.chunk = job.images * h.size * w.size
    job.part = larger(1, PART_TILES // job.chunk)
    job.rectangles = ceil_div(job.batch, job.images) * h.items * w.items
    most = smaller(SLICES, SLICE_BYTES // <Py_ssize_t>job.sum_bytes) // job.blocks
    most = smaller(most, job.rectangles)
    job.slices = 1
    while 2 * job.slices <= most:  # a power of two: threads have equal shares
        job.slices *= 2
    job.in_parts = ceil_div(job.rectangles, job.slices) > job.part


cdef void plan_gradient(GradientJob *job, int threads) noexcept:
    """Cut everything into items. A sum's order, that of rectangles and slices, follows from the
    shape; the blocks are smaller for more threads."""
    cdef Py_ssize_t filters = BLOCK_FILTERS, channels = BLOCK_CHANNELS
    while filters * channels * job.positions * job.bytes > BLOCK_BYTES:
        filters //= 2
    plan_blocks(job, filters, channels)
    plan_rectangles(job)
    while job.blocks * job.slices < ITEMS_OF_THREAD * threads and filters > LEAST_PLANES:
        if filters > channels:
            filters //= 2
        else:
            channels //= 2
        plan_blocks(job, filters, channels)

    # A vector more: else the transforms would write to one set of the cache.
    job.pixels.step = (job.pixels.pitch * job.chunk + 1) * job.tiles.lanes
    job.grads.step = job.grads.block * job.chunk + job.tiles.lanes
    job.packed_bytes = VECTOR_BYTES * job.pixels.band.h.extent * job.pixels.band.pitch
    # A row of planes, and in the end a piece.
    job.stage_bytes = max(piece_bytes(job), <size_t>(VECTOR_BYTES * (job.pixels.band.pitch + 1)))
    job.scratch_bytes = (
        job.stage_bytes + job.packed_bytes
        + job.positions * (job.pixels.step + job.grads.step) * job.bytes
        + (job.in_parts + (job.slices == 1)) * job.sum_bytes
    )
    job.slices_bytes = 0
    if job.slices > 1:
        job.slices_bytes = job.blocks * job.slices * job.sum_bytes


def weight_gradient(
    cnp.ndarray grad, cnp.ndarray image, cnp.ndarray out, cnp.ndarray window, Py_ssize_t groups,
    Py_ssize_t tile, int threads,
):
    """Write the gradient of the weight (f, c/groups, 3, 3), given that of the output, and return
    whether all of it is finite; if not, it is not right."""
    cdef GradientJob job
    cdef const Window *win = window_of(window)
    cdef Phase phases[4]
    cdef char not_finite = False
    cdef Py_ssize_t i
    cdef double moved
    cdef char *memory
    if cnp.PyArray_DIM(image, 0) == 0:
        memset(cnp.PyArray_DATA(out), 0, cnp.PyArray_NBYTES(out))
        return True
    job.out_format = computed_format(out)
    job.bytes = job.out_format.scratch_bytes
    job.out, job.not_finite = <char *>cnp.PyArray_DATA(out), &not_finite
    job.tiles, job.transforms = tiles_of(job.bytes), transforms_of(job.bytes, tile)
    job.add = sums_of(True, job.bytes)
    job.tile, job.positions = tile, (tile + WINOGRAD_TAPS - 1) * (tile + WINOGRAD_TAPS - 1)
    job.batch, job.groups = cnp.PyArray_DIM(image, 0), groups
    job.pixels.transform = job.transforms.plane_pixels
    job.grads.transform = job.transforms.plane_grads
    read_from(&job.pixels, image, job.bytes)
    read_from(&job.grads, grad, job.bytes)
    job.pixels.band.channels = cnp.PyArray_DIM(out, 1)
    job.grads.band.channels = cnp.PyArray_DIM(out, 0) // groups
    plan_band(
        &job.pixels.band, axis_of_tiles(&win.h, tile, False), axis_of_tiles(&win.w, tile, False),
        phases,
    )
    plan_band(
        &job.grads.band, axis_of_outputs(&win.h, tile), axis_of_outputs(&win.w, tile), phases + 2
    )
    moved = (
        2.0 / FLOPS_PER_BYTE * job.positions * cnp.PyArray_DIM(out, 0) * cnp.PyArray_DIM(out, 1)
        * <double>job.batch * job.pixels.band.h.last * job.pixels.band.w.last
    )
    threads = useful_threads(moved, threads)
    plan_gradient(&job, threads)
    memory = <char *>malloc(job.slices_bytes + job.chunk * sizeof(int32_t) + VECTOR_BYTES)
    if memory == NULL:
        raise MemoryError(f"no memory for {job.slices_bytes} bytes of sums")
    try:
        job.sums = memory + (-<uintptr_t>memory) % VECTOR_BYTES
        job.offsets = <int32_t *>(job.sums + job.slices_bytes)
        for i in range(job.chunk):
            job.offsets[i] = <int32_t>(i * job.pixels.pitch * job.tiles.lanes)
        for_each(sum_tiles, &job, job.blocks * job.slices, job.scratch_bytes, moved, threads)
        if job.slices > 1:
            for_each(
                join_slices, &job,
                job.blocks * runs_of(&job, job.grads.block) * pieces_of(job.pixels.block),
                piece_bytes(&job), job.slices_bytes, useful_threads(job.slices_bytes, threads),
            )
    finally:
        free(memory)
    return not not_finite
