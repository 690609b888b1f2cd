"""3x3 convolution in fewer multiplications, and its adjoint.

    outputs of a tile = A' [sum over c of (G weight[f, c] G') * (B' pixels[c] B)] A

The matrices and their vectors are in transforms.c. For every position of the transformed tiles, the
sum over channels is a product of two matrices, [filter][channel] and [channel][tile]. The register
tiles of tile.c compute it. Their lanes are tiles here, and the "pixels" that they broadcast are
filters.

a. Tiles are numbered through all rows and images, so that lanes are empty only at the very end. An
   item is a number of blocks of tiles, which fill two vectors each, and a range of filters. A block
   consists of segments; a segment is tiles of one row.
b. An item's pixels are copied to scratch (L1) with their padding, some channels at a time, as for
   any other convolution (band.pxd). They are transformed to scratch (L2) as
   [position][channel][tile], and multiplied. The sums, which lie in scratch too, are transformed
   to outputs. A thread keeps what it has transformed for the next item of the same tiles. If the
   transformed pixels of all channels do not fit, chunks of channels follow each other, and the
   sums stay in scratch.
c. Filters are transformed first, to [strip][position][channel][filter], where a strip is what one
   call of the register tile broadcasts. If all strips need more than WEIGHT_BYTES, several passes
   transform and use some strips each. If what is transformed is kept from call to call
   (packs.pxd), the first call transforms all strips, and there is one pass.
d. Sums over channels are cut into short sums of `terms` terms, because a long sum in a register
   loses digits.
e. An output that is not finite (a NaN or infinity in the tile, or an overflow on the way) marks its
   tile, and the caller computes marked tiles directly. A tile's outputs depend on its own pixels
   alone, so nothing else is affected.
f. An item owns what it writes, and the order of a sum depends neither on the lane nor on the item
   nor on the thread.
"""

from libc.stdint cimport int32_t
from libc.string cimport memset

cimport numpy as cnp

from fastconv._kernels.band cimport Band, Phase, Region, lay_out, load_band
from fastconv._kernels.level cimport LEVEL
from fastconv._kernels.microkernels cimport import_microkernels, transforms_of
from fastconv._kernels.packs cimport first_line, new_block, weights_key
from fastconv._kernels.parallel cimport for_each, useful_threads
from fastconv._kernels.problem cimport Problem, describe, load_bias
from fastconv._kernels.scratch cimport Layout, allocate, release, take
from fastconv._kernels.stream cimport LINE_BYTES
from fastconv._kernels.target cimport Target, place_of, prefetch_residual, store_rows
from fastconv._kernels.tile cimport FLOPS_PER_BYTE, TILE_PIXELS, TILE_VECTORS
from fastconv._kernels.transforms cimport (
    WINOGRAD_TAPS, Transforms, axis_of_tiles, is_bad, plan_band,
)
from fastconv._kernels.vectors cimport VECTOR_BYTES
from fastconv._kernels.weights cimport PACK_CHANNELS, PACK_TAPS, PackedWeights, pack_channels
from fastconv._kernels.window cimport Window, ceil_div, larger, smaller, window_of

cnp.import_array()
import_microkernels()

level = LEVEL.decode()

cdef enum:
    # The number of terms that are summed in one register keeps the error below what `set_precision`
    # promises. With large tiles most of the error comes from the transforms. The adjoint's error is
    # compared with NumPy's, which sums taps apart. From 64 to 32, and from 32 to 16 terms, the time
    # grows by 3 %.
    SMALL_TILE_TERMS = 32
    SMALL_TILE_ADJOINT_TERMS = 16
    LARGE_TILE_TERMS = 64
    # These are the largest numbers of bytes of the transformed filters of a pass, of the
    # transformed pixels of an item, and of its sums.
    WEIGHT_BYTES = 12 << 20
    PIXEL_BYTES = 1280 << 10
    SUM_BYTES = 768 << 10
    # The largest number of tiles of an item.
    ITEM_TILES = 128
    # The largest numbers of bytes and channels of pixels that are copied to L1 together.
    STAGED_BYTES = 24 << 10
    STAGE_CHANNELS = 8
    # The register tile prefetches a strip's filters this far ahead.
    AHEAD_BYTES = 1024
    # To transform a row of a tile's pixels takes as long as to multiply the tile with this many
    # filters.
    PIXEL_COST = 10
    # If an item's filters have more than NEAR_BYTES, they come from beyond L2. To read one then
    # takes as long as to multiply it with this many tiles.
    FILTER_COST = 40
    NEAR_BYTES = 1 << 20


cdef struct Segment:
    # Neighbouring tiles of a row of an image, in one block.
    Py_ssize_t n, row, column, tiles
    Py_ssize_t lane  # The lane of the first tile in its block.
    Py_ssize_t stage  # Bytes from the first channel's pixels in the stage to the segment's.


cdef struct TileRows:
    # Rows of tiles of one image whose pixels are copied together.
    Py_ssize_t n, row, rows, column, columns


cdef struct Tiling:
    # Where an item's tiles lie.
    TileRows loads[ITEM_TILES]  # The rows of tiles that are copied together, one after the other.
    Segment segments[ITEM_TILES]
    Py_ssize_t n_loads, blocks
    Py_ssize_t first[ITEM_TILES + 1]  # The first segment of every block, and the end of the last.
    Py_ssize_t vectors[ITEM_TILES]  # The number of vectors of every block.


cdef struct Scratch:
    # Offsets in an item's scratch, which begins with a line that tells what the thread has left.
    size_t zeros  # What sums start from.
    size_t bad  # A lane per tile, which becomes NaN if an output is not finite.
    size_t staged  # The outputs of a block of tiles for one filter.
    size_t stage  # Pixels with their padding.
    size_t pixels, sums  # Transformed pixels, and their products with transformed filters.


cdef struct Plan:
    Problem problem
    Band band  # A tile is a window of tile + 2 pixels; windows lie `tile` apart.
    Phase phases[2]  # The phases of the band.
    Phase tap_phase  # The taps of a filter along either axis.
    const Transforms *transforms
    Py_ssize_t tile  # The number of rows, and of columns, of outputs of a tile.
    Py_ssize_t positions, terms  # Positions of a transformed tile; terms summed in a register.
    Py_ssize_t out_h, out_w
    char *marks  # A byte per tile, set if an output is not finite.
    Py_ssize_t row_tiles, image_tiles, all_tiles
    Py_ssize_t block_tiles, blocks  # The numbers of tiles of a block, and of blocks of an item.
    Py_ssize_t chunk  # The number of channels that are transformed together.
    Py_ssize_t stage_channels  # The number of channels that are copied together.
    Py_ssize_t strips, strip_filters  # The numbers of strips of a group, and of filters of a strip.
    Py_ssize_t strip_lanes  # The number of lanes of the vectors that a strip's filters fill.
    Py_ssize_t position_stride  # Numbers from one position of a strip to the next.
    Py_ssize_t strips_at_once  # The number of strips that a pass transforms.
    Py_ssize_t first_strip, last_strip  # The strips of the present pass.
    Py_ssize_t split_strips, splits  # The numbers of strips of an item, and of items along them.
    Py_ssize_t channel_bytes  # Bytes of a channel in the stage.
    Py_ssize_t pixel_bytes, sum_bytes  # Bytes of a block's transformed pixels, and of its sums.
    Layout tables, scratch, kept
    size_t packed, bias, offsets  # Offsets in the tables; that of filters that are kept, in `kept`.
    Scratch at
    int threads


cdef struct Call:
    # A plan and its tables.
    const Plan *plan
    char *packed
    const char *bias  # The bias of all filters.
    int32_t *offsets  # The offsets of channels in a strip.


cdef inline Py_ssize_t strip_begin(const Plan *plan, Py_ssize_t strip) noexcept nogil:
    return strip * plan.problem.filters // plan.strips


# ---- filters -----------------------------------------------------------------------------------

cdef void transform_filters(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    """Transform PACK_CHANNELS channels of a strip."""
    cdef const Call *call = <const Call *>data
    cdef const Plan *plan = call.plan
    cdef Py_ssize_t pieces = ceil_div(plan.problem.channels, PACK_CHANNELS)
    cdef Py_ssize_t first = item % pieces * PACK_CHANNELS
    cdef Py_ssize_t last = smaller(first + PACK_CHANNELS, plan.problem.channels), c
    cdef Py_ssize_t strip = (
        plan.first_strip + item // pieces % (plan.last_strip - plan.first_strip)
    )
    cdef Py_ssize_t g = item // (pieces * (plan.last_strip - plan.first_strip))
    cdef Py_ssize_t row_bytes = plan.strip_lanes * plan.problem.bytes
    cdef Py_ssize_t taps_bytes = WINOGRAD_TAPS * WINOGRAD_TAPS * row_bytes
    cdef char *to = strip_of(call, g, strip) + first * row_bytes
    pack_channels(
        &plan.problem.weights, &plan.tap_phase, &plan.tap_phase,
        PackedWeights(g, strip_begin(plan, strip), plan.strip_lanes, first, last),
        scratch, scratch + PACK_CHANNELS * taps_bytes,
    )
    for c in range(last - first):
        plan.transforms.filters(
            to + c * row_bytes, plan.position_stride, scratch + c * taps_bytes, plan.strip_lanes
        )


cdef inline char *strip_of(const Call *call, Py_ssize_t g, Py_ssize_t strip) noexcept nogil:
    """Return where a strip's transformed filters lie."""
    cdef const Plan *plan = call.plan
    return call.packed + (
        (g * (plan.last_strip - plan.first_strip) + strip - plan.first_strip)
        * plan.positions * plan.position_stride * plan.problem.bytes
    )


# ---- one item ----------------------------------------------------------------------------------

cdef struct Share:
    # The strips of filters of an item.
    Py_ssize_t g, first, last


cdef void find_tiles(
    const Plan *plan, Py_ssize_t first, Py_ssize_t last, Tiling *tiling
) noexcept nogil:
    """Cut the tiles first to last into blocks of segments, and find the pixels that they need."""
    cdef Py_ssize_t tile = first, lane = 0, s = 0
    cdef bint whole = plan.row_tiles <= plan.blocks * plan.block_tiles  # Rows are copied whole.
    cdef TileRows *load = NULL
    cdef Segment *segment
    tiling.n_loads = tiling.blocks = 0
    while tile < last:
        if lane == 0:
            tiling.first[tiling.blocks] = s
            tiling.blocks += 1
        segment = tiling.segments + s
        segment.n, segment.row = tile // plan.image_tiles, tile % plan.image_tiles // plan.row_tiles
        segment.column = tile % plan.row_tiles
        segment.tiles = smaller(
            smaller(plan.row_tiles - segment.column, last - tile), plan.block_tiles - lane
        )
        segment.lane = lane
        if load == NULL or not whole or load.n != segment.n:
            load = tiling.loads + tiling.n_loads
            tiling.n_loads += 1
            load.n, load.row, load.column, load.columns = segment.n, segment.row, 0, plan.row_tiles
            if not whole:
                load.column, load.columns = segment.column, segment.tiles
        load.rows = segment.row - load.row + 1
        segment.stage = (
            (tiling.n_loads - 1) * plan.stage_channels * plan.channel_bytes
            + plan.tile * plan.problem.bytes * (
                (segment.row - load.row) * plan.band.pitch + segment.column - load.column
            )
        )
        lane += segment.tiles
        tiling.vectors[tiling.blocks - 1] = ceil_div(lane, plan.problem.tiles.lanes)
        if lane == plan.block_tiles:
            lane = 0
        tile += segment.tiles
        s += 1
    tiling.first[tiling.blocks] = s


cdef void transform_pixels(
    const Plan *plan, Py_ssize_t g, const Tiling *tiling, Py_ssize_t first, Py_ssize_t last,
    char *stage, char *pixels,
) noexcept nogil:
    """Transform the channels first to last of all blocks: [block][position][channel][tile]."""
    cdef Py_ssize_t c = first, channels, i, b, s, position_stride, lanes = plan.problem.tiles.lanes
    cdef const TileRows *load
    cdef const Segment *segment
    cdef char *to
    while c < last:
        channels = smaller(plan.stage_channels, last - c)
        for i in range(tiling.n_loads):
            load = tiling.loads + i
            load_band(
                &plan.band,
                Region(
                    load.n, g * plan.problem.channels + c, channels, load.row, load.rows,
                    load.column, load.columns,
                ),
                stage + i * plan.stage_channels * plan.channel_bytes,
            )
        for b in range(tiling.blocks):
            position_stride = ((last - first) * tiling.vectors[b] + 1) * lanes
            to = pixels + b * plan.pixel_bytes + (c - first) * tiling.vectors[b] * VECTOR_BYTES
            # Segments ascend, so numbers that are overwritten after one are written again.
            for i in range(channels):
                for s in range(tiling.first[b], tiling.first[b + 1]):
                    segment = tiling.segments + s
                    plan.transforms.pixels(
                        to + segment.lane * plan.problem.bytes, position_stride,
                        stage + segment.stage + i * plan.channel_bytes, plan.band.pitch,
                        segment.tiles,
                    )
                to += tiling.vectors[b] * VECTOR_BYTES
        c += channels


cdef struct Outputs:
    # A rectangle of outputs, and the place of the first one in the target.
    Py_ssize_t place, rows, columns


cdef inline Outputs outputs_of(
    const Plan *plan, Py_ssize_t c, const Segment *segment
) noexcept nogil:
    """Return the outputs of a segment in channel c of the target."""
    cdef Py_ssize_t top = segment.row * plan.tile, left = segment.column * plan.tile
    cdef Outputs it
    it.rows = smaller(plan.tile, plan.out_h - top)
    it.columns = smaller(segment.tiles * plan.tile, plan.out_w - left)
    it.place = place_of(&plan.problem.target, segment.n, c, top, left)
    return it


cdef void ask_for_residual(
    const Plan *plan, const Share *share, const Tiling *tiling, Py_ssize_t position
) noexcept nogil:
    """Prefetch the residual of the filters that fall to a position.

    Asking for the residual of all filters when the outputs are written would be too much at a time.
    """
    cdef Py_ssize_t begin = strip_begin(plan, share.first), f, s
    cdef Py_ssize_t filters = strip_begin(plan, share.last) - begin
    cdef Outputs it
    for f in range(
        position * filters // plan.positions, (position + 1) * filters // plan.positions
    ):
        for s in range(tiling.first[tiling.blocks]):
            it = outputs_of(
                plan, share.g * plan.problem.filters + begin + f, tiling.segments + s
            )
            prefetch_residual(
                &plan.problem.target, it.place, plan.problem.target.stride_h, it.rows, it.columns
            )


cdef void multiply(
    const Call *call, const Share *share, const Tiling *tiling, Py_ssize_t first, Py_ssize_t last,
    char *scratch,
) noexcept nogil:
    """Add the products of some channels at all positions of all blocks."""
    cdef const Plan *plan = call.plan
    cdef Py_ssize_t bytes = plan.problem.bytes, position, b, s, begin, vectors
    cdef Py_ssize_t before = strip_begin(plan, share.first)
    cdef const char *zeros = scratch + plan.at.zeros if first == 0 else NULL
    cdef const void *row[1]
    for position in range(plan.positions):
        if last == plan.problem.channels and plan.problem.target.residual != NULL:
            ask_for_residual(plan, share, tiling, position)
        for b in range(tiling.blocks):
            vectors = tiling.vectors[b]
            for s in range(share.first, share.last):
                begin = strip_begin(plan, s)
                row[0] = strip_of(call, share.g, s) + (
                    position * plan.position_stride + first * plan.strip_lanes
                ) * bytes
                plan.problem.tiles.multiply(
                    scratch + plan.at.sums + b * plan.sum_bytes
                    + position * sums_stride(plan, vectors)
                    + (begin - before) * vectors * VECTOR_BYTES,
                    zeros,
                    scratch + plan.at.pixels + b * plan.pixel_bytes
                    + position * ((last - first) * vectors + 1) * VECTOR_BYTES,
                    row, call.offsets, last - first, plan.terms, 1,
                    strip_begin(plan, s + 1) - begin, vectors,
                    <const char *>row[0] + AHEAD_BYTES, plan.strip_lanes * bytes,
                )


cdef inline Py_ssize_t sums_stride(const Plan *plan, Py_ssize_t vectors) noexcept nogil:
    """Return the bytes from one position's sums to the next."""
    return plan.split_strips * plan.strip_filters * vectors * VECTOR_BYTES + VECTOR_BYTES


cdef void store_outputs(
    const Plan *plan, Py_ssize_t c, const Segment *segments, Py_ssize_t count, Py_ssize_t pitch,
    char *staged,
) noexcept nogil:
    """Write a filter's outputs of a block, channel c of the target, to the rows they belong to."""
    cdef const Target *target = &plan.problem.target
    cdef Py_ssize_t bytes = plan.problem.bytes, s
    cdef Outputs it
    for s in range(count):
        it = outputs_of(plan, c, segments + s)
        store_rows(
            target, it.place, target.stride_h, target.stride_w,
            staged + segments[s].lane * plan.tile * bytes, pitch * bytes, it.rows, it.columns,
        )


cdef void transform_outputs(
    const Call *call, const Share *share, const Tiling *tiling, Py_ssize_t b, char *scratch
) noexcept nogil:
    """Write all outputs of a block of tiles for the item's filters."""
    cdef const Plan *plan = call.plan
    cdef const Segment *segments = tiling.segments + tiling.first[b]
    cdef Py_ssize_t count = tiling.first[b + 1] - tiling.first[b], vectors = tiling.vectors[b]
    cdef Py_ssize_t pitch = vectors * plan.problem.tiles.lanes * plan.tile, f, c, i, lane
    cdef Py_ssize_t position_stride = sums_stride(plan, vectors) // plan.problem.bytes
    cdef char *sums = scratch + plan.at.sums + b * plan.sum_bytes
    cdef char *bad = scratch + plan.at.bad
    memset(bad, 0, vectors * VECTOR_BYTES)
    for f in range(strip_begin(plan, share.first), strip_begin(plan, share.last)):
        c = share.g * plan.problem.filters + f
        plan.transforms.outputs(
            scratch + plan.at.staged, pitch, sums, position_stride, vectors,
            call.bias + c * plan.problem.bytes, bad,
        )
        store_outputs(plan, c, segments, count, pitch, scratch + plan.at.staged)
        sums += vectors * VECTOR_BYTES
    for i in range(count):
        for lane in range(segments[i].lane, segments[i].lane + segments[i].tiles):
            if is_bad(bad, lane, plan.problem.number):
                plan.marks[
                    segments[i].n * plan.image_tiles + segments[i].row * plan.row_tiles
                    + segments[i].column + lane - segments[i].lane
                ] = True


cdef void convolve(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    """Compute one item: some tiles, a group and a range of filters."""
    cdef const Call *call = <const Call *>data
    cdef const Plan *plan = call.plan
    cdef Py_ssize_t *held = <Py_ssize_t *>scratch  # The item whose pixels are transformed already.
    cdef Py_ssize_t which = 1 + item // plan.splits, b, c = 0, last, first_tile
    cdef Tiling tiling
    cdef Share share
    share.g = item // plan.splits % plan.problem.groups
    share.first = plan.first_strip + item % plan.splits * plan.split_strips
    share.last = smaller(share.first + plan.split_strips, plan.last_strip)
    first_tile = item // (plan.splits * plan.problem.groups) * plan.blocks * plan.block_tiles
    find_tiles(
        plan, first_tile, smaller(first_tile + plan.blocks * plan.block_tiles, plan.all_tiles),
        &tiling,
    )
    memset(scratch + plan.at.zeros, 0, TILE_VECTORS * VECTOR_BYTES)
    while c < plan.problem.channels:
        last = smaller(c + plan.chunk, plan.problem.channels)
        if held[0] != which or plan.chunk < plan.problem.channels:
            held[0] = which
            transform_pixels(
                plan, share.g, &tiling, c, last, scratch + plan.at.stage, scratch + plan.at.pixels
            )
        multiply(call, &share, &tiling, c, last, scratch)
        c = last
    for b in range(tiling.blocks):
        transform_outputs(call, &share, &tiling, b, scratch)


# ---- the plan ----------------------------------------------------------------------------------

cdef double items_cost(
    const Plan *plan, Py_ssize_t blocks, Py_ssize_t split, int threads
) noexcept:
    """Return the time of a thread's items, in products of a tile with a filter."""
    cdef Py_ssize_t filters = split * plan.strip_filters, tiles = blocks * plan.block_tiles
    cdef Py_ssize_t items = (
        ceil_div(plan.all_tiles, tiles) * plan.problem.groups
        * ceil_div(plan.last_strip - plan.first_strip, split)
    )
    cdef bint far = (
        filters * plan.positions * plan.problem.channels * plan.problem.bytes > NEAR_BYTES
    )
    return <double>ceil_div(items, threads) * (
        tiles * plan.tile * PIXEL_COST + filters * larger(tiles, FILTER_COST if far else 0)
    )


cdef void choose_blocks(Plan *plan) noexcept:
    """Choose how many blocks of tiles and strips of filters an item has, by their cost."""
    cdef Py_ssize_t position_bytes = plan.positions * TILE_VECTORS * VECTOR_BYTES
    cdef Py_ssize_t strips = plan.last_strip - plan.first_strip, blocks, split
    cdef double cost, least = -1
    blocks = smaller(
        smaller(ITEM_TILES // plan.block_tiles, ceil_div(plan.all_tiles, plan.block_tiles)),
        larger(1, PIXEL_BYTES // (plan.chunk * position_bytes)),
    )
    while blocks:
        split = smaller(
            strips, larger(1, SUM_BYTES // (blocks * position_bytes * plan.strip_filters))
        )
        while split:
            cost = items_cost(plan, blocks, split, plan.threads)
            if least < 0 or cost < least:
                least, plan.blocks, plan.split_strips = cost, blocks, split
            split //= 2
        blocks -= 1
    plan.splits = ceil_div(strips, plan.split_strips)


cdef void plan_items(Plan *plan, Py_ssize_t first_strip) noexcept:
    """Cut the tiles, and the strips of a pass, into items, and lay out the scratch."""
    cdef Py_ssize_t row_bytes = TILE_VECTORS * VECTOR_BYTES, loads, tiles
    cdef Py_ssize_t position_bytes = plan.positions * row_bytes
    plan.first_strip = first_strip
    plan.last_strip = smaller(first_strip + plan.strips_at_once, plan.strips)
    plan.chunk = ceil_div(
        plan.problem.channels, ceil_div(plan.problem.channels * position_bytes, PIXEL_BYTES)
    )
    choose_blocks(plan)
    tiles = plan.blocks * plan.block_tiles
    if plan.row_tiles <= tiles:
        # An item's tiles touch at most h.size rows of an image, and rows of at most `loads` images.
        plan.band.h.size = smaller((tiles - 2) // plan.row_tiles + 2, plan.band.h.last)
        plan.band.w.size = plan.row_tiles
        loads = (tiles - 2) // plan.image_tiles + 2
    else:
        plan.band.h.size, plan.band.w.size = 1, plan.block_tiles
        loads = plan.blocks + 1
    lay_out(&plan.band)
    plan.channel_bytes = plan.band.channel_rows * plan.band.pitch * plan.problem.bytes
    plan.stage_channels = larger(
        1, smaller(STAGE_CHANNELS, STAGED_BYTES // (loads * plan.channel_bytes))
    )
    plan.pixel_bytes = plan.chunk * position_bytes + plan.positions * VECTOR_BYTES
    plan.sum_bytes = plan.positions * (
        plan.split_strips * plan.strip_filters * row_bytes + VECTOR_BYTES
    )
    plan.scratch.bytes = 0
    take(&plan.scratch, LINE_BYTES)
    plan.at.zeros = take(&plan.scratch, row_bytes)
    plan.at.bad = take(&plan.scratch, row_bytes)
    plan.at.staged = take(&plan.scratch, plan.tile * plan.tile * row_bytes)
    plan.at.stage = take(
        &plan.scratch,
        loads * plan.stage_channels * plan.channel_bytes + (plan.tile + 1) * VECTOR_BYTES,
    )
    plan.at.pixels = take(&plan.scratch, <double>plan.blocks * plan.pixel_bytes)
    plan.at.sums = take(&plan.scratch, <double>plan.blocks * plan.sum_bytes)


cdef void plan_strips(Plan *plan) noexcept:
    """Cut filters into strips, decide how many are transformed together, and lay out the tables."""
    cdef const Problem *problem = &plan.problem
    cdef Py_ssize_t lanes = problem.tiles.lanes, strips
    plan.strips = ceil_div(problem.filters, TILE_PIXELS)
    plan.strip_filters = ceil_div(problem.filters, plan.strips)
    plan.strip_lanes = ceil_div(plan.strip_filters, lanes) * lanes
    plan.position_stride = problem.channels * plan.strip_lanes + lanes
    strips = WEIGHT_BYTES // (
        problem.groups * plan.positions * plan.position_stride * problem.bytes
    )
    strips = smaller(plan.strips, larger(1, strips))
    if problem.keeps_packed:
        strips = plan.strips
    plan.strips_at_once = ceil_div(plan.strips, ceil_div(plan.strips, strips))
    plan.tables.bytes = plan.kept.bytes = 0
    plan.packed = take(
        &plan.kept if problem.keeps_packed else &plan.tables,
        <double>problem.groups * plan.strips_at_once * plan.positions * plan.position_stride
        * problem.bytes,
    )
    plan.bias = take(&plan.tables, <double>problem.groups * problem.filters * problem.bytes)
    plan.offsets = take(&plan.tables, <double>problem.channels * sizeof(int32_t))


cdef inline double flops_of(const Plan *plan) noexcept:
    cdef const Problem *problem = &plan.problem
    return (
        2.0 * problem.batch * problem.groups * problem.filters * problem.channels
        * plan.positions * plan.band.h.last * plan.band.w.last
    )


cdef void make_plan(
    Plan *plan, const Problem *problem, cnp.ndarray out, const Window *window, Py_ssize_t tile,
    int threads,
) noexcept:
    """Plan tiles of `tile` rows and columns of outputs, and the first pass over the strips."""
    memset(plan, 0, sizeof(plan[0]))
    plan.problem, plan.transforms = problem[0], transforms_of(problem.number, tile)
    plan.tile, plan.positions = tile, (tile + WINOGRAD_TAPS - 1) * (tile + WINOGRAD_TAPS - 1)
    plan.out_h, plan.out_w = cnp.PyArray_DIM(out, 2), cnp.PyArray_DIM(out, 3)
    plan.band.source, plan.band.channels = problem.source, problem.channels
    plan.tap_phase.taps, plan.tap_phase.tap, plan.tap_phase.tap_stride = WINOGRAD_TAPS, 0, 1
    plan.terms = SMALL_TILE_TERMS if tile == 2 else LARGE_TILE_TERMS
    if problem.adjoint:
        plan.tap_phase.tap, plan.tap_phase.tap_stride = WINOGRAD_TAPS - 1, -1
        plan.terms = SMALL_TILE_ADJOINT_TERMS if tile == 2 else LARGE_TILE_TERMS
    plan_band(
        &plan.band, axis_of_tiles(&window.h, tile, problem.adjoint),
        axis_of_tiles(&window.w, tile, problem.adjoint), plan.phases,
    )
    plan.block_tiles = TILE_VECTORS * problem.tiles.lanes
    plan.row_tiles, plan.image_tiles = plan.band.w.last, plan.band.h.last * plan.band.w.last
    plan.all_tiles = problem.batch * plan.image_tiles
    plan.threads = useful_threads(flops_of(plan) / FLOPS_PER_BYTE, threads)
    plan_strips(plan)
    plan_items(plan, 0)


# ---- one call ----------------------------------------------------------------------------------

cdef int transform_strips(const Call *call) except -1:
    """Transform the strips of a pass."""
    cdef const Plan *plan = call.plan
    cdef Py_ssize_t pieces = ceil_div(plan.problem.channels, PACK_CHANNELS)
    cdef double moved = plan.tables.bytes + plan.kept.bytes
    for_each(
        transform_filters, call,
        plan.problem.groups * (plan.last_strip - plan.first_strip) * pieces,
        (PACK_CHANNELS * WINOGRAD_TAPS * WINOGRAD_TAPS + PACK_TAPS)
        * plan.strip_lanes * plan.problem.bytes,
        moved, useful_threads(moved, plan.threads),
    )
    return 0


cdef int convolve_strips(const Call *call) except -1:
    """Compute all outputs of the strips of a pass."""
    cdef const Plan *plan = call.plan
    for_each(
        convolve, call,
        plan.splits * plan.problem.groups
        * ceil_div(plan.all_tiles, plan.blocks * plan.block_tiles),
        <size_t>plan.scratch.bytes, flops_of(plan) / FLOPS_PER_BYTE, plan.threads,
    )
    return 0


cdef object find_or_transform(Call *call, packs):
    """Return the memory of transformed filters that are kept, which the first call fills."""
    cdef const Plan *plan = call.plan
    cdef tuple layout = (
        "winograd", level, plan.tile, plan.strips, plan.strip_lanes, plan.tap_phase.tap_stride
    )
    cdef tuple key = layout + weights_key(&plan.problem, plan.kept.bytes)
    cdef object block = packs.find(key)
    cdef bint is_new = block is None
    if is_new:
        block = new_block(packs, plan.kept.bytes)
    call.packed = first_line(block) + plan.packed
    if is_new:
        transform_strips(call)
        packs.keep(key, block)
    return block


cdef int execute(const Plan *plan, packs) except -1:
    """Compute all outputs of a plan. `packs` is where transformed filters are kept, or None."""
    cdef char *tables = allocate(plan.tables.bytes, "transformed weights")
    cdef Plan strips = plan[0]
    cdef Call call
    cdef Py_ssize_t c
    cdef object _block = None  # While it is referenced here, another thread may drop it.
    try:
        call.plan, call.packed, call.bias = &strips, tables + plan.packed, tables + plan.bias
        call.offsets = <int32_t *>(tables + plan.offsets)
        load_bias(
            &plan.problem, 0, plan.problem.groups * plan.problem.filters, tables + plan.bias
        )
        for c in range(plan.problem.channels):
            call.offsets[c] = <int32_t>(c * plan.strip_lanes)
        if plan.problem.keeps_packed:
            _block = find_or_transform(&call, packs)
            convolve_strips(&call)
            return 0
        transform_strips(&call)
        convolve_strips(&call)
        while strips.last_strip < strips.strips:
            plan_items(&strips, strips.last_strip)
            transform_strips(&call)
            convolve_strips(&call)
    finally:
        release(tables)
    return 0


# This function has eleven parameters because Python passes the facts of a call one by one.
def convolve_tiles(
    cnp.ndarray source, cnp.ndarray weight, cnp.ndarray out, cnp.ndarray window, Py_ssize_t groups,
    epilogue, packs, Py_ssize_t tile, bint transposed, cnp.ndarray marks, int threads,
):
    """Write the convolution of images (n, c, h, w) with weight (f, c/groups, 3, 3).

    If `transposed`, write the adjoint of the convolution that brings `out` to `source`, as if its
    padding were zeros. `epilogue` is (bias, residual, activation) or None. `packs`
    (`fastconv.packing`) keeps transformed filters, or is None. A tile has `tile` x `tile` outputs,
    2 x 2 or 4 x 4. Outputs that are not finite are not right: the byte in `marks`,
    an array (n, rows of tiles, tiles of a row), of each tile that has one becomes 1.
    """
    cdef Problem problem
    cdef Plan plan
    if cnp.PyArray_DIM(source, 0) == 0:
        return
    describe(&problem, source, weight, out, groups, transposed, epilogue)
    problem.keeps_packed = packs is not None
    make_plan(&plan, &problem, out, window_of(window), tile, threads)
    plan.marks = <char *>cnp.PyArray_DATA(marks)
    execute(&plan, packs)


def plan(
    cnp.ndarray source, cnp.ndarray weight, cnp.ndarray out, cnp.ndarray window, Py_ssize_t groups,
    Py_ssize_t tile, int threads,
):
    """Return the bytes that `convolve_tiles` allocates, and the FLOPs of its products.

    Only the shapes of the arrays matter; their elements are not read.
    """
    cdef Problem problem
    cdef Plan plan
    describe(&problem, source, weight, out, groups, False, None)
    make_plan(&plan, &problem, out, window_of(window), tile, threads)
    return int(plan.tables.bytes + plan.threads * plan.scratch.bytes), int(flops_of(&plan))
