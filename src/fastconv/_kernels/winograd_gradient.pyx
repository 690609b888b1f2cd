"""The gradient of the weight of a 3x3 convolution, in fewer multiplications.

    grad_weight[f, c] = G' [sum over all tiles of (A grad[f] A') * (B' pixels[c] B)] G

The matrices and their vectors are in transforms.c.

a. An item is a panel of filters and channels, and a slice of all tiles. It transforms the tiles of
   one rectangle at a time, to [position][tile][plane]; lanes are planes. Then register tiles
   multiply them: their lanes are filters, and their steps are tiles.
b. The sums of some rectangles are added up before they are added to those of the slice, because a
   long sum loses digits. The number of slices follows from the shape, and slices are added
   pairwise.
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
    MOST_POSITIONS, WINOGRAD_TAPS, PlaneTransform, Transforms, axis_of_outputs, axis_of_tiles,
    is_bad, plan_band,
)
from fastconv._kernels.vectors cimport VECTOR_BYTES
from fastconv._kernels.window cimport (
    PAD_CONSTANT, Axis, Window, ceil_div, larger, smaller, window_of,
)

cnp.import_array()
import_microkernels()

level = LEVEL.decode()

cdef enum:
    # The number of terms that are summed in one register. With 64 the error is a tenth larger, with
    # 16 a twentieth smaller.
    TERMS = 32
    # The number of tiles whose sums are added up before they are added to those of the slice.
    PARTIAL_TILES = 2048
    # The largest numbers of filters and channels of a panel, and of bytes of its sums.
    PANEL_FILTERS = 128
    PANEL_CHANNELS = 64
    PANEL_BYTES = 1200 << 10
    # Panels are halved while there are fewer items per thread, down to LEAST_PLANES filters.
    ITEMS_PER_THREAD = 4
    LEAST_PLANES = 16
    # The largest numbers of bytes, columns and tiles of a rectangle.
    RECTANGLE_BYTES = 1 << 20
    RECTANGLE_COLUMNS = 32
    RECTANGLE_TILES = 128
    # The number of channels whose gradients are joined and written together.
    STORE_CHANNELS = 16
    # The largest number of slices of all panels, and of bytes of their sums.
    SLICES = 32
    SLICE_BYTES = 12 << 20


cdef struct Factor:
    # One factor of the products: the image's channels or the gradient's filters. The planes of a
    # panel are transformed to [position][interleaved vectors][tile][vector].
    Band band
    PlaneTransform transform
    const char *end  # All bytes up to here may be read.
    Py_ssize_t planes  # The number of planes of a group.
    Py_ssize_t panel_planes, splits  # The number of planes of a panel, and of panels along them.
    Py_ssize_t interleaved  # The number of vectors that lie side by side for each tile.
    Py_ssize_t pitch  # The number of vectors from one tile to the next.
    bint shrinks  # Where fewer vectors are left to interleave, their number is the pitch.
    Py_ssize_t position_stride  # Numbers from one position to the next.


cdef struct Rectangle:
    # The tiles of some images that are transformed and multiplied together.
    Py_ssize_t n, images, top, rows, left, columns


cdef struct Panel:
    # The filters and channels of an item.
    Py_ssize_t g, f, filters, c, channels


cdef struct StoreChunk:
    # The filters and channels of a panel whose gradients are joined and written together.
    Py_ssize_t f, filters, c, channels, vectors
    Py_ssize_t sums  # Bytes from a position's first sum of the panel to the first of the chunk.


cdef struct Scratch:
    # Offsets in an item's scratch.
    size_t stage  # A row of planes.
    size_t packed  # The rows that a row of tiles depends on, each in the place of an older one.
    size_t pixels, grads  # The transformed factors.
    size_t partial_sums, sums
    size_t store  # What storing a chunk needs; the offsets below count from here.
    size_t taps, rows  # The gradients of a chunk, and their transpose.
    size_t bad  # A vector that becomes NaN in the lanes of gradients that are not finite.


cdef struct Plan:
    Factor pixels, grads
    Phase phases[4]  # The phases of the bands of both factors.
    const Transforms *transforms
    const Tiles *tiles
    const Sums *add
    Py_ssize_t tile, positions, bytes
    Py_ssize_t batch, groups
    Py_ssize_t panels  # The number of panels of all groups.
    Py_ssize_t images, rectangle_tiles  # The numbers of images and of tiles of a rectangle.
    Py_ssize_t rectangles, slices  # The numbers of rectangles, and of slices of them.
    Py_ssize_t partial_rectangles  # The number of rectangles whose sums are added up first.
    bint has_partials  # A slice has more rectangles than these.
    Py_ssize_t sum_stride  # Bytes from one position's sums to the next.
    size_t sum_bytes, stage_bytes  # Bytes of a panel's sums, and of the stage.
    Format out_format
    char *out
    Layout tables, scratch, store
    size_t sums, offsets  # Offsets in the tables.
    Scratch at
    double moved
    int threads


cdef struct Call:
    # A plan and its tables. Sums [panel][slice] exist if there are several slices. Offsets are
    # those of tiles, from the first of a rectangle.
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


cdef inline Panel panel_of(const Plan *plan, Py_ssize_t index) noexcept nogil:
    cdef const Factor *pixels = &plan.pixels
    cdef const Factor *grads = &plan.grads
    cdef Panel it
    it.g = index // (pixels.splits * grads.splits)
    it.f = index // pixels.splits % grads.splits * grads.panel_planes
    it.c = index % pixels.splits * pixels.panel_planes
    it.filters = smaller(grads.panel_planes, grads.planes - it.f)
    it.channels = smaller(pixels.panel_planes, pixels.planes - it.c)
    return it


cdef void pack_row(
    const Plan *plan, const Factor *factor, const Rectangle *tiles, const char *plane,
    Py_ssize_t planes, Py_ssize_t y, char *stage, char *to,
) noexcept nogil:
    """Transpose what a row of tiles needs of a padded row to [column][plane].

    There are at most as many planes as a vector has lanes.
    """
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
    """Transform some tiles of at most a vector of planes; tiles of `to` lie `pitch` vectors
    apart."""
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
    """Transform some tiles of the planes from `first` on."""
    cdef Py_ssize_t lanes = plan.tiles.lanes, vectors = ceil_div(planes, lanes)
    cdef Py_ssize_t v, first_vector, pitch
    for v in range(vectors):
        first_vector = v // factor.interleaved * factor.interleaved
        pitch = factor.pitch
        if factor.shrinks:
            pitch = smaller(pitch, vectors - first_vector)
        transform_vector(
            plan, factor, tiles, first + v * lanes, smaller(lanes, planes - v * lanes), pitch,
            scratch, to + (first_vector * plan.rectangle_tiles + v - first_vector) * VECTOR_BYTES,
        )


cdef void multiply_planes(
    const Call *call, const Panel *panel, Py_ssize_t tiles, const char *scratch, char *sums
) noexcept nogil:
    """Add the products of a panel's filters and channels over some tiles."""
    cdef const Plan *plan = call.plan
    cdef const char *pixels = scratch + plan.at.pixels
    cdef const char *grads = scratch + plan.at.grads
    cdef Py_ssize_t channels = panel.channels, filters = panel.filters
    cdef Py_ssize_t strips = ceil_div(channels, TILE_PIXELS), strip, c, position, pair, v, count
    cdef Py_ssize_t vectors = ceil_div(filters, plan.tiles.lanes)
    cdef const void *row[1]
    for position in range(plan.positions):
        for pair in range(ceil_div(vectors, TILE_VECTORS)):
            v = pair * TILE_VECTORS
            count = smaller(TILE_VECTORS, vectors - v)
            for strip in range(strips):
                c = strip * channels // strips
                row[0] = pixels + (position * plan.pixels.position_stride + c) * plan.bytes
                plan.tiles.multiply(
                    sums + position * plan.sum_stride + (v * channels + c * count) * VECTOR_BYTES,
                    NULL,
                    grads + position * plan.grads.position_stride * plan.bytes
                    + v * plan.rectangle_tiles * VECTOR_BYTES,
                    row, call.offsets, tiles, TERMS, 1,
                    (strip + 1) * channels // strips - c, count, row[0], 0,
                )


cdef inline Py_ssize_t pairs_of(const Plan *plan, Py_ssize_t filters) noexcept nogil:
    """Return the number of pairs of vectors, which register tiles have, of some filters."""
    return ceil_div(filters, TILE_VECTORS * plan.tiles.lanes)


cdef inline Py_ssize_t store_chunks_of(Py_ssize_t channels) noexcept nogil:
    return ceil_div(channels, STORE_CHANNELS)


cdef inline StoreChunk store_chunk_of(
    const Plan *plan, const Panel *panel, Py_ssize_t pair, Py_ssize_t index
) noexcept nogil:
    cdef Py_ssize_t lanes = plan.tiles.lanes
    cdef StoreChunk it
    it.f, it.c = pair * TILE_VECTORS * lanes, index * STORE_CHANNELS
    it.filters = smaller(TILE_VECTORS * lanes, panel.filters - it.f)
    it.channels = smaller(STORE_CHANNELS, panel.channels - it.c)
    it.vectors = ceil_div(it.filters, lanes)
    it.sums = (it.f // lanes * panel.channels + it.c * it.vectors) * VECTOR_BYTES
    it.f += panel.f
    it.c += panel.c
    return it


cdef void store_taps(
    const Call *call, Py_ssize_t g, const StoreChunk *chunk, const char *sums, char *scratch
) noexcept nogil:
    """Write the gradients of a chunk of a panel, which has these sums."""
    cdef const Plan *plan = call.plan
    cdef Py_ssize_t lanes = plan.tiles.lanes, lane, taps = WINOGRAD_TAPS * WINOGRAD_TAPS
    cdef Py_ssize_t count = chunk.channels * taps, pitch = count + lanes
    cdef char *bad = scratch + plan.at.bad
    cdef char *rows = scratch + plan.at.rows
    cdef char *to = plan.out + plan.out_format.bytes * taps * (
        (g * plan.grads.planes + chunk.f) * plan.pixels.planes + chunk.c
    )
    memset(bad, 0, VECTOR_BYTES)
    plan.transforms.taps(
        scratch + plan.at.taps, sums + chunk.sums, plan.sum_stride // plan.bytes, chunk.channels,
        chunk.vectors, bad,
    )
    for lane in range(lanes):
        if is_bad(bad, lane, plan.out_format.number):
            call.not_finite[0] = True
    plan.tiles.unpack(rows, pitch, scratch + plan.at.taps, count, chunk.vectors)
    for lane in range(chunk.filters):
        store_row(to, rows + lane * pitch * plan.bytes, count, plan.out_format)
        to += plan.pixels.planes * taps * plan.out_format.bytes


cdef inline void store_panel(
    const Call *call, const Panel *panel, const char *sums, char *scratch
) noexcept nogil:
    """Write the gradients of a panel, which has these sums."""
    cdef Py_ssize_t pair, i
    cdef StoreChunk chunk
    for pair in range(pairs_of(call.plan, panel.filters)):
        for i in range(store_chunks_of(panel.channels)):
            chunk = store_chunk_of(call.plan, panel, pair, i)
            store_taps(call, panel.g, &chunk, sums, scratch + call.plan.at.store)


cdef void sum_tiles(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    """Sum a slice of the tiles for a panel."""
    cdef const Call *call = <const Call *>data
    cdef const Plan *plan = call.plan
    cdef Py_ssize_t slice = item % plan.slices, begin = slice * plan.rectangles // plan.slices
    cdef Py_ssize_t end = (slice + 1) * plan.rectangles // plan.slices, i
    cdef Panel panel = panel_of(plan, item // plan.slices)
    cdef char *sums = scratch + plan.at.sums
    cdef char *partial_sums
    cdef Rectangle tiles
    if plan.slices > 1:
        sums = call.sums + item * plan.sum_bytes
    memset(sums, 0, plan.sum_bytes)
    partial_sums = sums
    if plan.has_partials:
        partial_sums = scratch + plan.at.partial_sums
        memset(partial_sums, 0, plan.sum_bytes)
    for i in range(begin, end):
        tiles = rectangle_of(plan, i)
        transform_planes(
            plan, &plan.pixels, &tiles, panel.g * plan.pixels.planes + panel.c, panel.channels,
            scratch, scratch + plan.at.pixels,
        )
        transform_planes(
            plan, &plan.grads, &tiles, panel.g * plan.grads.planes + panel.f, panel.filters,
            scratch, scratch + plan.at.grads,
        )
        multiply_planes(
            call, &panel, tiles.images * tiles.rows * tiles.columns, scratch, partial_sums
        )
        if plan.has_partials and ((i + 1 - begin) % plan.partial_rectangles == 0 or i + 1 == end):
            plan.add.add_row(sums, partial_sums, plan.sum_bytes // plan.bytes)
            memset(partial_sums, 0, plan.sum_bytes)
    if plan.slices == 1:
        store_panel(call, &panel, sums, scratch)


cdef void join_slices(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    """Add the slices of a chunk of a panel pairwise, and write its gradients."""
    cdef const Call *call = <const Call *>data
    cdef const Plan *plan = call.plan
    cdef Py_ssize_t pairs = pairs_of(plan, plan.grads.panel_planes)
    cdef Py_ssize_t chunks = store_chunks_of(plan.pixels.panel_planes)
    cdef Py_ssize_t index = item // (chunks * pairs), position
    cdef Panel panel = panel_of(plan, index)
    cdef StoreChunk chunk = store_chunk_of(plan, &panel, item // chunks % pairs, item % chunks)
    cdef char *sums = call.sums + index * plan.slices * plan.sum_bytes
    if chunk.filters <= 0 or chunk.channels <= 0:
        return
    for position in range(plan.positions):
        add_slices(
            plan.add, sums + position * plan.sum_stride + chunk.sums, plan.slices, plan.sum_bytes,
            chunk.channels * chunk.vectors * plan.tiles.lanes,
        )
    store_taps(call, panel.g, &chunk, sums, scratch)


# ---- the plan ----------------------------------------------------------------------------------

cdef void read_from(Factor *factor, cnp.ndarray array, Number number) noexcept:
    factor.band.source = planes_of(array, converted_format(array, number))
    factor.end = readable_end(array)


cdef void plan_factor(
    const Plan *plan, Factor *factor, Py_ssize_t planes, Py_ssize_t most,
    Py_ssize_t together,
) noexcept:
    """Cut planes into panels of at most `most`, a multiple of `together` vectors if that fits."""
    cdef Py_ssize_t lanes = plan.tiles.lanes
    cdef Py_ssize_t vectors = even_size(ceil_div(planes, lanes), most // lanes, together)
    factor.planes, factor.panel_planes = planes, vectors * lanes
    factor.splits = ceil_div(planes, factor.panel_planes)
    # With an odd pitch, tiles do not collide in a few sets of the cache.
    factor.interleaved, factor.pitch, factor.shrinks = vectors, vectors | 1, False


cdef void plan_panels(Plan *plan, Py_ssize_t filters, Py_ssize_t channels) noexcept:
    """Cut filters and channels into panels of at most `filters` and `channels`."""
    plan_factor(plan, &plan.pixels, plan.pixels.band.channels, channels, 1)
    plan_factor(plan, &plan.grads, plan.grads.band.channels, filters, TILE_VECTORS)
    plan.grads.interleaved = plan.grads.pitch = TILE_VECTORS  # The register tile reads pairs.
    plan.grads.shrinks = True
    plan.panels = plan.groups * plan.grads.splits * plan.pixels.splits
    plan.sum_stride = VECTOR_BYTES * (
        plan.grads.panel_planes // plan.tiles.lanes * plan.pixels.panel_planes + 1
    )
    plan.sum_bytes = plan.positions * plan.sum_stride


cdef void plan_rectangles(Plan *plan) noexcept:
    """Cut the tiles into rectangles that fit into scratch, and these into slices."""
    cdef Side *h = &plan.pixels.band.h
    cdef Side *w = &plan.pixels.band.w
    cdef Py_ssize_t tile_bytes = (
        plan.positions * plan.bytes * (plan.pixels.panel_planes + plan.grads.panel_planes)
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
    plan.rectangle_tiles = plan.images * h.size * w.size
    plan.partial_rectangles = larger(1, PARTIAL_TILES // plan.rectangle_tiles)
    plan.rectangles = ceil_div(plan.batch, plan.images) * h.items * w.items
    most = smaller(SLICES, SLICE_BYTES // <Py_ssize_t>plan.sum_bytes) // plan.panels
    most = smaller(most, plan.rectangles)
    plan.slices = 1
    while 2 * plan.slices <= most:  # With a power of two, threads have equal shares.
        plan.slices *= 2
    plan.has_partials = ceil_div(plan.rectangles, plan.slices) > plan.partial_rectangles


cdef void cut_planes(Plan *plan, int threads) noexcept:
    """Cut everything into items.

    Rectangles and slices determine the order of sums, so they follow from the shape alone. Only the
    panels are smaller for more threads.
    """
    cdef Py_ssize_t filters = PANEL_FILTERS, channels = PANEL_CHANNELS
    while filters * channels * plan.positions * plan.bytes > PANEL_BYTES:
        filters //= 2
    plan_panels(plan, filters, channels)
    plan_rectangles(plan)
    while plan.panels * plan.slices < ITEMS_PER_THREAD * threads and filters > LEAST_PLANES:
        if filters > channels:
            filters //= 2
        else:
            channels //= 2
        plan_panels(plan, filters, channels)


cdef void lay_out_memory(Plan *plan) noexcept:
    cdef Py_ssize_t taps = STORE_CHANNELS * WINOGRAD_TAPS * WINOGRAD_TAPS
    cdef double packed_bytes = <double>VECTOR_BYTES * (
        plan.pixels.band.h.span * plan.pixels.band.pitch
    )
    # One vector more keeps the positions of a tile from sharing one set of the cache.
    plan.pixels.position_stride = (plan.pixels.pitch * plan.rectangle_tiles + 1) * plan.tiles.lanes
    plan.grads.position_stride = plan.grads.panel_planes * plan.rectangle_tiles + plan.tiles.lanes
    plan.stage_bytes = VECTOR_BYTES * (plan.pixels.band.pitch + 1)
    plan.scratch.bytes = plan.tables.bytes = plan.store.bytes = 0
    plan.at.taps = take(&plan.store, taps * TILE_VECTORS * VECTOR_BYTES)
    plan.at.bad = take(&plan.store, VECTOR_BYTES)
    plan.at.rows = take(&plan.store, (taps + plan.tiles.lanes) * TILE_VECTORS * VECTOR_BYTES)
    plan.at.stage = take(&plan.scratch, plan.stage_bytes)
    plan.at.packed = take(&plan.scratch, packed_bytes)
    plan.at.pixels = take(&plan.scratch, plan.positions * plan.pixels.position_stride * plan.bytes)
    plan.at.grads = take(&plan.scratch, plan.positions * plan.grads.position_stride * plan.bytes)
    if plan.has_partials:
        plan.at.partial_sums = take(&plan.scratch, plan.sum_bytes)
    if plan.slices == 1:
        plan.at.sums = take(&plan.scratch, plan.sum_bytes)
        plan.at.store = take(&plan.scratch, plan.store.bytes)
    else:
        plan.sums = take(
            &plan.tables, <double>plan.panels * plan.slices * plan.sum_bytes
        )
    plan.offsets = take(&plan.tables, plan.rectangle_tiles * sizeof(int32_t))


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
    """Write the gradient of the weight (f, c/groups, 3, 3), given that of the output.

    Return whether all of it is finite; if not, it is not right.
    """
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
        for i in range(plan.rectangle_tiles):
            call.offsets[i] = <int32_t>(i * plan.pixels.pitch * plan.tiles.lanes)
        for_each(
            sum_tiles, &call, plan.panels * plan.slices, <size_t>plan.scratch.bytes, plan.moved,
            plan.threads,
        )
        if plan.slices > 1:
            for_each(
                join_slices, &call,
                plan.panels * pairs_of(&plan, plan.grads.panel_planes)
                * store_chunks_of(plan.pixels.panel_planes),
                <size_t>plan.store.bytes, plan.tables.bytes,
                useful_threads(plan.tables.bytes, plan.threads),
            )
    finally:
        release(tables)
    return not not_finite
