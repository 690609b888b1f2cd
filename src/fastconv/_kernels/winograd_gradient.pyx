"""The gradient of the weight of a 3x3 convolution, in fewer multiplications.

    grad_weight[f, c] = G' [sum over all tiles of (A grad[f] A') * (B' pixels[c] B)] G

The matrices and their vectors are in transforms.c.

a. An item is a block of filters and channels, whose planes are the lanes, and a slice of all tiles,
   which it transforms a rectangle at a time, [position][tile][plane]; the register tile's lanes are
   filters, its steps tiles.
b. Sums of some rectangles join the others, because a long sum loses digits; slices, whose number
   follows from the shape, are added pairwise.
c. An item owns what it writes, and no sum's order depends on the number of threads.
"""

from libc.stdint cimport int32_t
from libc.string cimport memset

cimport numpy as cnp

from fastconv._kernels.band cimport (
    Band, Phase, Side, even_size, lay_out, padding_before, padding_behind, stored_columns,
)
from fastconv._kernels.level cimport LEVEL
from fastconv._kernels.microkernels cimport import_microkernels, sums_of, tiles_of, transforms_of
from fastconv._kernels.number cimport Number
from fastconv._kernels.parallel cimport for_each, useful_threads
from fastconv._kernels.planes cimport (
    Planes, computed_format, converted_format, padded_row, planes_of, readable_end,
)
from fastconv._kernels.rows cimport Format, is_plain, load_padded_row, store_row
from fastconv._kernels.scratch cimport Layout, allocate, release, take
from fastconv._kernels.sums cimport Sums, add_slices
from fastconv._kernels.tile cimport FLOPS_PER_BYTE, TILE_PIXELS, TILE_VECTORS, Tiles
from fastconv._kernels.transforms cimport (
    MOST_POSITIONS, WINOGRAD_TAPS, Spread, Transforms, axis_of_outputs, axis_of_tiles, is_bad,
    plan_band,
)
from fastconv._kernels.vectors cimport VECTOR_BYTES
from fastconv._kernels.window cimport (
    PAD_CONSTANT, Axis, Window, ceil_div, larger, smaller, window_of,
)

cnp.import_array()
import_microkernels()

level = LEVEL.decode()

cdef enum:
    # Terms that are summed in one register. 64 err a tenth more, 16 a twentieth less.
    TERMS = 32
    # Tiles that are added up before they join the others.
    PART_TILES = 2048
    # Filters and channels of an item, at most, and bytes of its sums.
    BLOCK_FILTERS = 128
    BLOCK_CHANNELS = 64
    BLOCK_BYTES = 1200 << 10
    # Blocks are halved if there are fewer items per thread, down to LEAST_PLANES filters.
    ITEMS_OF_THREAD = 4
    LEAST_PLANES = 16
    # Tiles that are transformed together: bytes of a rectangle, columns, and number.
    RECTANGLE_BYTES = 1 << 20
    RECTANGLE_COLUMNS = 32
    RECTANGLE_TILES = 128
    # Channels whose gradients are joined and written together.
    PIECE_CHANNELS = 16
    # Slices of all tiles that are summed apart, times blocks, and bytes of their sums.
    SLICES = 32
    SLICE_BYTES = 12 << 20


cdef struct Factor:
    # What the image's channels, or the gradient's filters, are transformed to: for an item's planes
    # [position][run of vectors][tile][vector].
    Band band
    Spread transform
    const char *end  # All bytes up to here may be read.
    Py_ssize_t planes  # Of a group.
    Py_ssize_t block, splits  # Planes of an item; items along the planes.
    Py_ssize_t run, pitch  # Vectors that lie side by side; vectors from one tile to the next.
    bint shrinks  # The pitch of a run that is not full is its length.
    Py_ssize_t position_stride  # From one position to the next.


cdef struct Rectangle:
    # Tiles of some images that are transformed and multiplied together.
    Py_ssize_t n, images, top, rows, left, columns


cdef struct Block:
    # The filters and channels of an item.
    Py_ssize_t g, f, filters, c, channels


cdef struct Piece:
    # The part of a block that is joined and written together.
    Py_ssize_t f, filters, c, channels, vectors
    Py_ssize_t sums  # Bytes from a position's sums of the block to its own.


cdef struct Scratch:
    # Offsets in an item's scratch.
    size_t stage  # A row of planes.
    size_t packed  # The last rows of the image, in turn.
    size_t pixels, grads  # The transformed factors.
    size_t part_sums, sums
    size_t piece  # A layout of its own, in which lie
    size_t taps, bad, rows  # the gradients of a piece, and the same transposed.


cdef struct Plan:
    Factor pixels, grads
    Phase phases[4]  # Of the bands of both factors.
    const Transforms *transforms
    const Tiles *tiles
    const Sums *add
    Py_ssize_t tile, positions, bytes
    Py_ssize_t batch, groups, blocks  # Blocks of filters and channels, of all groups.
    Py_ssize_t images, chunk  # Images of a rectangle; its tiles.
    Py_ssize_t rectangles, slices  # Slices of the rectangles that are summed apart.
    Py_ssize_t part  # Rectangles whose sums are added up before they join the others,
    bint in_parts  # if a slice has more.
    Py_ssize_t sum_stride  # Bytes from one position's sums to the next.
    size_t sum_bytes, stage_bytes  # Of an item.
    Format out_format
    char *out
    Layout tables, scratch, piece
    size_t sums, offsets  # Where they lie in the tables.
    Scratch at
    double moved
    int threads


cdef struct Call:
    # A plan and its tables. Sums [block][slice] exist if there are several slices. Offsets are
    # those of the tiles, from the first of a rectangle.
    const Plan *plan
    char *sums
    int32_t *offsets
    char *not_finite


cdef inline Rectangle rectangle_of(const Plan *plan, Py_ssize_t index) noexcept nogil:
    cdef const Side *h = &plan.pixels.band.h
    cdef const Side *w = &plan.pixels.band.w
    cdef Rectangle it
    it.left, it.top = index % w.items * w.size, index // w.items % h.items * h.size
    it.n = index // (w.items * h.items) * plan.images
    it.columns, it.rows = smaller(w.size, w.last - it.left), smaller(h.size, h.last - it.top)
    it.images = smaller(plan.images, plan.batch - it.n)
    return it


cdef inline Block block_of(const Plan *plan, Py_ssize_t index) noexcept nogil:
    cdef const Factor *pixels = &plan.pixels
    cdef const Factor *grads = &plan.grads
    cdef Block it
    it.g = index // (pixels.splits * grads.splits)
    it.f = index // pixels.splits % grads.splits * grads.block
    it.c = index % pixels.splits * pixels.block
    it.filters = smaller(grads.block, grads.planes - it.f)
    it.channels = smaller(pixels.block, pixels.planes - it.c)
    return it


cdef void pack_row(
    const Plan *plan, const Factor *factor, const Rectangle *tiles, const char *plane,
    Py_ssize_t planes, Py_ssize_t y, char *stage, char *to,
) noexcept nogil:
    """Turn what a row of tiles sees of a padded row to [column][plane], for at most a vector of
    planes."""
    cdef const Planes *source = &factor.band.source
    cdef const Axis *w = &factor.band.w.source
    cdef Py_ssize_t bytes = plan.bytes, x = tiles.left * w.stride, c
    cdef Py_ssize_t length = stored_columns(&factor.band.w, tiles.columns)
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
        plan.tiles.pack(
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
        plan.tiles.pack(
            to, stage, factor.band.pitch, planes, length, 1, plan.stage_bytes // bytes
        )


cdef void transform_vector(
    const Plan *plan, const Factor *factor, const Rectangle *tiles, Py_ssize_t first,
    Py_ssize_t planes, Py_ssize_t pitch, char *scratch, char *to,
) noexcept nogil:
    """Transform at most a vector of planes of some tiles, which lie `pitch` vectors apart."""
    cdef const Band *band = &factor.band
    cdef Py_ssize_t span = band.h.span, row_bytes = band.pitch * VECTOR_BYTES
    cdef Py_ssize_t i, t, y, end
    cdef char *packed = scratch + plan.at.packed
    cdef const char *plane
    cdef const void *rows[MOST_POSITIONS]
    for i in range(tiles.images):
        plane = (
            band.source.data + (tiles.n + i) * band.source.stride_n + first * band.source.stride_c
        )
        end = 0
        for t in range(tiles.rows):
            for y in range(end, t * plan.tile + span):
                pack_row(
                    plan, factor, tiles, plane, planes, tiles.top * plan.tile + y,
                    scratch + plan.at.stage, packed + y % span * row_bytes,
                )
            end = t * plan.tile + span
            for y in range(span):
                rows[y] = packed + (t * plan.tile + y) % span * row_bytes
            factor.transform(
                to, pitch * plan.tiles.lanes, factor.position_stride, rows, tiles.columns
            )
            to += tiles.columns * pitch * VECTOR_BYTES


cdef void transform_planes(
    const Plan *plan, const Factor *factor, const Rectangle *tiles, Py_ssize_t first,
    Py_ssize_t planes, char *scratch, char *to,
) noexcept nogil:
    """Transform some planes, from one on, of some tiles."""
    cdef Py_ssize_t lanes = plan.tiles.lanes, vectors = ceil_div(planes, lanes)
    cdef Py_ssize_t v, first_of_run, pitch
    for v in range(vectors):
        first_of_run = v // factor.run * factor.run
        pitch = factor.pitch
        if factor.shrinks:
            pitch = smaller(pitch, vectors - first_of_run)
        transform_vector(
            plan, factor, tiles, first + v * lanes, smaller(lanes, planes - v * lanes), pitch,
            scratch, to + (first_of_run * plan.chunk + v - first_of_run) * VECTOR_BYTES,
        )


cdef void multiply_planes(
    const Call *call, const Block *block, Py_ssize_t tiles, const char *scratch, char *sums
) noexcept nogil:
    """Add the products of an item's filters and channels over some tiles."""
    cdef const Plan *plan = call.plan
    cdef const char *pixels = scratch + plan.at.pixels
    cdef const char *grads = scratch + plan.at.grads
    cdef Py_ssize_t channels = block.channels, filters = block.filters
    cdef Py_ssize_t strips = ceil_div(channels, TILE_PIXELS), strip, c, position, run, v, count
    cdef Py_ssize_t vectors = ceil_div(filters, plan.tiles.lanes)
    cdef const void *row[1]
    for position in range(plan.positions):
        for run in range(ceil_div(vectors, TILE_VECTORS)):
            v = run * TILE_VECTORS
            count = smaller(TILE_VECTORS, vectors - v)
            for strip in range(strips):
                c = strip * channels // strips
                row[0] = pixels + (position * plan.pixels.position_stride + c) * plan.bytes
                plan.tiles.multiply(
                    sums + position * plan.sum_stride + (v * channels + c * count) * VECTOR_BYTES,
                    NULL,
                    grads + position * plan.grads.position_stride * plan.bytes
                    + v * plan.chunk * VECTOR_BYTES,
                    row, call.offsets, tiles, TERMS, 1,
                    (strip + 1) * channels // strips - c, count, 0,
                )


cdef inline Py_ssize_t runs_of(const Plan *plan, Py_ssize_t filters) noexcept nogil:
    return ceil_div(filters, TILE_VECTORS * plan.tiles.lanes)


cdef inline Py_ssize_t pieces_of(Py_ssize_t channels) noexcept nogil:
    return ceil_div(channels, PIECE_CHANNELS)


cdef inline Piece piece_of(
    const Plan *plan, const Block *block, Py_ssize_t run, Py_ssize_t piece
) noexcept nogil:
    cdef Py_ssize_t lanes = plan.tiles.lanes
    cdef Piece it
    it.f, it.c = run * TILE_VECTORS * lanes, piece * PIECE_CHANNELS
    it.filters = smaller(TILE_VECTORS * lanes, block.filters - it.f)
    it.channels = smaller(PIECE_CHANNELS, block.channels - it.c)
    it.vectors = ceil_div(it.filters, lanes)
    it.sums = (it.f // lanes * block.channels + it.c * it.vectors) * VECTOR_BYTES
    it.f += block.f
    it.c += block.c
    return it


cdef void store_taps(
    const Call *call, Py_ssize_t g, const Piece *piece, const char *sums, char *scratch
) noexcept nogil:
    """Write the gradients of a piece of a block that has these sums."""
    cdef const Plan *plan = call.plan
    cdef Py_ssize_t lanes = plan.tiles.lanes, lane, taps = WINOGRAD_TAPS * WINOGRAD_TAPS
    cdef Py_ssize_t count = piece.channels * taps, pitch = count + lanes
    cdef char *bad = scratch + plan.at.bad
    cdef char *rows = scratch + plan.at.rows
    cdef char *to = plan.out + plan.out_format.bytes * taps * (
        (g * plan.grads.planes + piece.f) * plan.pixels.planes + piece.c
    )
    memset(bad, 0, VECTOR_BYTES)
    plan.transforms.taps(
        scratch + plan.at.taps, sums + piece.sums, plan.sum_stride // plan.bytes, piece.channels,
        piece.vectors, bad,
    )
    for lane in range(lanes):
        if is_bad(bad, lane, plan.out_format.number):
            call.not_finite[0] = True
    plan.tiles.unpack(rows, pitch, scratch + plan.at.taps, count, piece.vectors)
    for lane in range(piece.filters):
        store_row(to, rows + lane * pitch * plan.bytes, count, plan.out_format)
        to += plan.pixels.planes * taps * plan.out_format.bytes


cdef inline void store_block(
    const Call *call, const Block *block, const char *sums, char *scratch
) noexcept nogil:
    """Write the gradients of a block that has these sums."""
    cdef Py_ssize_t run, i
    cdef Piece piece
    for run in range(runs_of(call.plan, block.filters)):
        for i in range(pieces_of(block.channels)):
            piece = piece_of(call.plan, block, run, i)
            store_taps(call, block.g, &piece, sums, scratch + call.plan.at.piece)


cdef void sum_tiles(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    """Sum a slice of the tiles for a block."""
    cdef const Call *call = <const Call *>data
    cdef const Plan *plan = call.plan
    cdef Py_ssize_t slice = item % plan.slices, begin = slice * plan.rectangles // plan.slices
    cdef Py_ssize_t end = (slice + 1) * plan.rectangles // plan.slices, i
    cdef Block block = block_of(plan, item // plan.slices)
    cdef char *sums = scratch + plan.at.sums
    cdef char *part_sums
    cdef Rectangle tiles
    if plan.slices > 1:
        sums = call.sums + item * plan.sum_bytes
    memset(sums, 0, plan.sum_bytes)
    part_sums = sums
    if plan.in_parts:
        part_sums = scratch + plan.at.part_sums
        memset(part_sums, 0, plan.sum_bytes)
    for i in range(begin, end):
        tiles = rectangle_of(plan, i)
        transform_planes(
            plan, &plan.pixels, &tiles, block.g * plan.pixels.planes + block.c, block.channels,
            scratch, scratch + plan.at.pixels,
        )
        transform_planes(
            plan, &plan.grads, &tiles, block.g * plan.grads.planes + block.f, block.filters,
            scratch, scratch + plan.at.grads,
        )
        multiply_planes(
            call, &block, tiles.images * tiles.rows * tiles.columns, scratch, part_sums
        )
        if plan.in_parts and ((i + 1 - begin) % plan.part == 0 or i + 1 == end):
            plan.add.add_row(sums, part_sums, plan.sum_bytes // plan.bytes)
            memset(part_sums, 0, plan.sum_bytes)
    if plan.slices == 1:
        store_block(call, &block, sums, scratch)


cdef void join_slices(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    """Add the slices of a piece of a block pairwise, and write its gradient."""
    cdef const Call *call = <const Call *>data
    cdef const Plan *plan = call.plan
    cdef Py_ssize_t runs = runs_of(plan, plan.grads.block), pieces = pieces_of(plan.pixels.block)
    cdef Py_ssize_t index = item // (pieces * runs), position
    cdef Block block = block_of(plan, index)
    cdef Piece piece = piece_of(plan, &block, item // pieces % runs, item % pieces)
    cdef char *sums = call.sums + index * plan.slices * plan.sum_bytes
    if piece.filters <= 0 or piece.channels <= 0:
        return
    for position in range(plan.positions):
        add_slices(
            plan.add, sums + position * plan.sum_stride + piece.sums, plan.slices, plan.sum_bytes,
            piece.channels * piece.vectors * plan.tiles.lanes,
        )
    store_taps(call, block.g, &piece, sums, scratch)


# ---- the plan ----------------------------------------------------------------------------------

cdef void read_from(Factor *factor, cnp.ndarray array, Number number) noexcept:
    factor.band.source = planes_of(array, converted_format(array, number))
    factor.end = readable_end(array)


cdef void plan_factor(
    const Plan *plan, Factor *factor, Py_ssize_t planes, Py_ssize_t most,
    Py_ssize_t together,
) noexcept:
    """Cut planes into blocks of at most so many, a multiple of `together` vectors if that fits."""
    cdef Py_ssize_t lanes = plan.tiles.lanes
    cdef Py_ssize_t vectors = even_size(ceil_div(planes, lanes), most // lanes, together)
    factor.planes, factor.block = planes, vectors * lanes
    factor.splits = ceil_div(planes, factor.block)
    factor.run, factor.pitch, factor.shrinks = vectors, vectors | 1, False  # odd: no sets collide


cdef void plan_blocks(Plan *plan, Py_ssize_t filters, Py_ssize_t channels) noexcept:
    """Cut filters and channels into blocks of at most so many."""
    plan_factor(plan, &plan.pixels, plan.pixels.band.channels, channels, 1)
    plan_factor(plan, &plan.grads, plan.grads.band.channels, filters, TILE_VECTORS)
    plan.grads.run = plan.grads.pitch = TILE_VECTORS  # as the register tile wants it
    plan.grads.shrinks = True
    plan.blocks = plan.groups * plan.grads.splits * plan.pixels.splits
    plan.sum_stride = VECTOR_BYTES * (plan.grads.block // plan.tiles.lanes * plan.pixels.block + 1)
    plan.sum_bytes = plan.positions * plan.sum_stride


cdef void plan_rectangles(Plan *plan) noexcept:
    """Cut the tiles into rectangles that fit into scratch, and these into slices."""
    cdef Side *h = &plan.pixels.band.h
    cdef Side *w = &plan.pixels.band.w
    cdef Py_ssize_t tile_bytes = (
        plan.positions * plan.bytes * (plan.pixels.block + plan.grads.block)
    )
    cdef Py_ssize_t chunk = smaller(RECTANGLE_TILES, larger(1, RECTANGLE_BYTES // tile_bytes)), most
    w.size = even_size(w.last, smaller(RECTANGLE_COLUMNS, chunk), 1)
    h.size = even_size(h.last, chunk // w.size, 1)
    h.items, w.items = ceil_div(h.last, h.size), ceil_div(w.last, w.size)
    plan.images = 1
    if h.items == w.items == 1:
        plan.images = smaller(plan.batch, chunk // (h.last * w.last))
    lay_out(&plan.pixels.band)
    plan.grads.band.h.size, plan.grads.band.w.size = h.size, w.size
    lay_out(&plan.grads.band)
    plan.chunk = plan.images * h.size * w.size
    plan.part = larger(1, PART_TILES // plan.chunk)
    plan.rectangles = ceil_div(plan.batch, plan.images) * h.items * w.items
    most = smaller(SLICES, SLICE_BYTES // <Py_ssize_t>plan.sum_bytes) // plan.blocks
    most = smaller(most, plan.rectangles)
    plan.slices = 1
    while 2 * plan.slices <= most:  # a power of two: threads have equal shares
        plan.slices *= 2
    plan.in_parts = ceil_div(plan.rectangles, plan.slices) > plan.part


cdef void cut_planes(Plan *plan, int threads) noexcept:
    """Cut everything into items. A sum's order, that of rectangles and slices, follows from the
    shape; the blocks are smaller for more threads."""
    cdef Py_ssize_t filters = BLOCK_FILTERS, channels = BLOCK_CHANNELS
    while filters * channels * plan.positions * plan.bytes > BLOCK_BYTES:
        filters //= 2
    plan_blocks(plan, filters, channels)
    plan_rectangles(plan)
    while plan.blocks * plan.slices < ITEMS_OF_THREAD * threads and filters > LEAST_PLANES:
        if filters > channels:
            filters //= 2
        else:
            channels //= 2
        plan_blocks(plan, filters, channels)


cdef void lay_out_memory(Plan *plan) noexcept:
    cdef Py_ssize_t taps = PIECE_CHANNELS * WINOGRAD_TAPS * WINOGRAD_TAPS
    cdef double packed_bytes = <double>VECTOR_BYTES * (
        plan.pixels.band.h.span * plan.pixels.band.pitch
    )
    # A vector more, or else the transforms would write to one set of the cache.
    plan.pixels.position_stride = (plan.pixels.pitch * plan.chunk + 1) * plan.tiles.lanes
    plan.grads.position_stride = plan.grads.block * plan.chunk + plan.tiles.lanes
    plan.stage_bytes = VECTOR_BYTES * (plan.pixels.band.pitch + 1)
    plan.scratch.bytes = plan.tables.bytes = plan.piece.bytes = 0
    plan.at.taps = take(&plan.piece, taps * TILE_VECTORS * VECTOR_BYTES)
    plan.at.bad = take(&plan.piece, VECTOR_BYTES)
    plan.at.rows = take(&plan.piece, (taps + plan.tiles.lanes) * TILE_VECTORS * VECTOR_BYTES)
    plan.at.stage = take(&plan.scratch, plan.stage_bytes)
    plan.at.packed = take(&plan.scratch, packed_bytes)
    plan.at.pixels = take(&plan.scratch, plan.positions * plan.pixels.position_stride * plan.bytes)
    plan.at.grads = take(&plan.scratch, plan.positions * plan.grads.position_stride * plan.bytes)
    if plan.in_parts:
        plan.at.part_sums = take(&plan.scratch, plan.sum_bytes)
    if plan.slices == 1:
        plan.at.sums = take(&plan.scratch, plan.sum_bytes)
        plan.at.piece = take(&plan.scratch, plan.piece.bytes)
    else:
        plan.sums = take(
            &plan.tables, <double>plan.blocks * plan.slices * plan.sum_bytes
        )
    plan.offsets = take(&plan.tables, plan.chunk * sizeof(int32_t))


cdef void describe(
    Plan *plan, cnp.ndarray grad, cnp.ndarray image, cnp.ndarray out, const Window *window,
    Py_ssize_t groups, Py_ssize_t tile,
) noexcept:
    memset(plan, 0, sizeof(plan[0]))
    plan.out_format = computed_format(out)
    plan.bytes = plan.out_format.scratch_bytes
    plan.out = <char *>cnp.PyArray_DATA(out)
    plan.tiles, plan.add = tiles_of(plan.out_format.number), sums_of(plan.out_format.number)
    plan.transforms = transforms_of(plan.out_format.number, tile)
    plan.tile, plan.positions = tile, (tile + WINOGRAD_TAPS - 1) * (tile + WINOGRAD_TAPS - 1)
    plan.batch, plan.groups = cnp.PyArray_DIM(image, 0), groups
    plan.pixels.transform = plan.transforms.plane_pixels
    plan.grads.transform = plan.transforms.plane_grads
    read_from(&plan.pixels, image, plan.out_format.number)
    read_from(&plan.grads, grad, plan.out_format.number)
    plan.pixels.band.channels = cnp.PyArray_DIM(out, 1)
    plan.grads.band.channels = cnp.PyArray_DIM(out, 0) // groups
    plan_band(
        &plan.pixels.band, axis_of_tiles(&window.h, tile, False),
        axis_of_tiles(&window.w, tile, False), plan.phases,
    )
    plan_band(
        &plan.grads.band, axis_of_outputs(&window.h, tile), axis_of_outputs(&window.w, tile),
        plan.phases + 2,
    )


cdef void make_plan(Plan *plan, int threads) noexcept:
    """Cut everything into items, and lay out all memory."""
    plan.moved = (
        2.0 / FLOPS_PER_BYTE * plan.positions * plan.groups * plan.grads.band.channels
        * plan.pixels.band.channels * <double>plan.batch * plan.pixels.band.h.last
        * plan.pixels.band.w.last
    )
    plan.threads = useful_threads(plan.moved, threads)
    cut_planes(plan, plan.threads)
    lay_out_memory(plan)


def weight_gradient(
    cnp.ndarray grad, cnp.ndarray image, cnp.ndarray out, cnp.ndarray window, Py_ssize_t groups,
    Py_ssize_t tile, int threads,
):
    """Write the gradient of the weight (f, c/groups, 3, 3), given that of the output, and return
    whether all of it is finite; if not, it is not right."""
    cdef Plan plan
    cdef Call call
    cdef char not_finite = False
    cdef char *tables
    cdef Py_ssize_t i
    if cnp.PyArray_DIM(image, 0) == 0:
        memset(cnp.PyArray_DATA(out), 0, cnp.PyArray_NBYTES(out))
        return True
    describe(&plan, grad, image, out, window_of(window), groups, tile)
    make_plan(&plan, threads)
    tables = allocate(plan.tables.bytes, "sums")
    try:
        call.plan, call.sums, call.not_finite = &plan, tables + plan.sums, &not_finite
        call.offsets = <int32_t *>(tables + plan.offsets)
        for i in range(plan.chunk):
            call.offsets[i] = <int32_t>(i * plan.pixels.pitch * plan.tiles.lanes)
        for_each(
            sum_tiles, &call, plan.blocks * plan.slices, <size_t>plan.scratch.bytes, plan.moved,
            plan.threads,
        )
        if plan.slices > 1:
            for_each(
                join_slices, &call,
                plan.blocks * runs_of(&plan, plan.grads.block) * pieces_of(plan.pixels.block),
                <size_t>plan.piece.bytes, plan.tables.bytes,
                useful_threads(plan.tables.bytes, plan.threads),
            )
    finally:
        release(tables)
    return not not_finite
