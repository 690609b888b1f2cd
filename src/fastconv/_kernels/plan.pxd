"""How a convolution is cut into items, and how the scratch and the tables of a call are laid out.

A plan is made once, from shapes and addresses, and is const afterwards. It contains which of three
ways reads the source (`Source`), and whether lanes are filters (direct.pxd) or pixels (planar.pxd).
"""

from libc.math cimport fabs, sqrt
from libc.stdint cimport INT32_MAX, int32_t
from libc.string cimport memset

from fastconv._kernels.band cimport (
    Band, Phase, Side, band_bytes, column, even_size, fitting_rows, has_frame, lay_out,
    plan_forward, plan_transposed, stored_row,
)
from fastconv._kernels.parallel cimport useful_threads, wanted_items
from fastconv._kernels.planes cimport Planes
from fastconv._kernels.preceding cimport Preceding
from fastconv._kernels.problem cimport IN_BANDS, Problem
from fastconv._kernels.rows cimport AS_IS, is_plain
from fastconv._kernels.scratch cimport Layout, allocate, release, take
from fastconv._kernels.stream cimport LINE_BYTES
from fastconv._kernels.target cimport joins_rows
from fastconv._kernels.tile cimport (
    FLOPS_PER_BYTE, PLANAR_VECTORS, SUM_TERMS, TILE_PIXELS, TILE_ROWS, TILE_VECTORS,
)
from fastconv._kernels.vectors cimport VECTOR_BYTES
from fastconv._kernels.weights cimport PACK_TAPS
from fastconv._kernels.window cimport PAD_CONSTANT, Axis, Window, ceil_div, larger, reach, smaller

cdef extern from *:
    """
    #include <stddef.h>
    #define ALL_STEPS (PTRDIFF_MAX / 2) /* a chunk of steps that is never full */
    """
    const Py_ssize_t ALL_STEPS

cdef enum:
    # Lanes are pixels for at most this many filters per group, because vectors of filters would be
    # mostly empty.
    FEW_FILTERS = 4
    # Results of at least this many bytes are written past the caches. The next layer finds smaller
    # ones there: depthwise layers with results of 13 MB take 0.7 times as long. Those of 51 MB take
    # 1.3 times as long if they are not written past the caches (32 MiB of L3).
    STREAM_BYTES = 20 << 20
    # The largest number of bytes of a band, which fits an L2 cache of 1 MiB with a block of
    # weights.
    BAND_BYTES = 768 << 10
    # If a band cannot be smaller than this number of bytes, source pixels are gathered.
    LIMIT_BYTES = 3 << 20
    # The largest number of bytes of an item's images if they are read where they lie, once for
    # every block of weights.
    IMAGES_BYTES = 1536 << 10
    # The largest number of outputs whose sums lie in scratch (L1) together. With 224, one channel
    # takes 1.11 times as long.
    SUM_PIXELS = 112
    # The same number where lanes are pixels and filters are few.
    MOST_PIXELS = 4096
    # The largest number of columns of outputs of an item.
    MOST_COLUMNS = 1024
    # An item is not cut to fewer columns than this for the sake of more rows.
    FEW_COLUMNS = 56
    # An item is not cut to fewer rows than this: the rows around them are copied as well.
    FEW_ROWS = 4
    # The largest number of outputs of a row that register tiles sum, or that are gathered,
    # together.
    RUN_PIXELS = 56
    # The number of bytes of the sums of these outputs.
    TILE_BYTES = RUN_PIXELS * TILE_VECTORS * VECTOR_BYTES
    # If the image is read where it lies, the pixels of RUN_PIXELS outputs stay in L1 for this
    # number of channels.
    CHUNK_CHANNELS = 64
    # If the image is read where it lies, register tiles prefetch this number of pixels ahead.
    AHEAD_PIXELS = 56
    # The largest number of bytes of the source of an item if it is computed.
    COMPUTED_BYTES = 512 << 10
    # Such an item has at least this many rows, because neighbouring items read some rows twice.
    COMPUTED_ROWS = 7
    # The number of outputs for which all weights are taken before the next outputs, where weights
    # take less room than a plane.
    COMPUTED_RUN = 112
    # If packed weights are kept, and have at least this many bytes, they come from beyond L2.
    FAR_BYTES = 1 << 20


cdef enum Source:
    IN_BAND  # Copied to scratch with its padding.
    IN_PLACE  # Read where it lies, a plane as one row.
    GATHERED  # Copied to scratch for RUN_PIXELS outputs and a chunk of steps at a time.
    COMPUTED  # Computed to scratch by a depthwise convolution, a plane as one row.


cdef enum Packing:
    BEFORE  # All weights are packed before the first item.
    LATE  # A block is packed by the only item that uses it, into its scratch.
    KEPT  # All weights are packed by the first call, into memory that further calls share.
    NEVER  # The weights lie as they are needed.


cdef struct Part:
    # A pair of phases that have taps. It has an offset for every step in the band or, where lanes
    # are pixels, for every column of the window.
    const Phase *h
    const Phase *w
    Py_ssize_t steps
    Py_ssize_t terms  # The number of steps that are summed in a register.
    Py_ssize_t steps_before  # The number of steps of all parts before this one.
    Py_ssize_t n_offsets
    size_t packed, offsets  # Offsets in the tables; that of weights that are kept, in `kept`.


cdef struct Rectangle:
    # A rectangle of outputs: rows top <= y < bottom and columns left <= x < right.
    Py_ssize_t top, bottom, left, right


cdef struct Scratch:
    # Offsets in an item's scratch, which begins with a line that tells what the thread has left.
    size_t tile  # The sums of register tiles, before they are transposed or added up.
    size_t sums  # The sums of a block of filters.
    size_t band  # The source.
    size_t packed, spare  # A block of weights that is packed late, and what packing it needs.
    size_t staged  # A plane of outputs that is not written where it is computed.


cdef struct Plan:
    Problem problem
    Band band
    Part *parts
    Source reading
    const Preceding *preceding  # What computes the source, or NULL.
    Py_ssize_t computed_run  # The number of computed outputs for which all weights are taken.
    bint planar  # Lanes are pixels.
    # `correlate_plane` computes all outputs of the only channel of a group, or some rows of them.
    bint plane_tiles
    bint whole_planes  # An item is all outputs of one channel.
    bint framed  # The padding of all planes is the same zeros, which a thread writes once.
    bint folds_padding  # Outputs lie in the padding, and are added to the pixels shown there.
    Py_ssize_t images  # The number of images of an item.
    Py_ssize_t block_filters, blocks  # The numbers of filters of a block, and of blocks of a group.
    Py_ssize_t padded_filters  # The number of lanes of a group's filters, empty ones included.
    Py_ssize_t split_blocks, splits  # The numbers of blocks of an item, and of items along them.
    Packing packing
    Py_ssize_t sum_rows  # The number of rows of outputs whose sums lie in scratch together.
    Py_ssize_t sums_pitch  # The number of sums from one filter to the next.
    Py_ssize_t run_pixels  # The number of outputs whose source is gathered together.
    Py_ssize_t chunk  # The number of steps that are taken together.
    bint far_filters  # Register tiles prefetch filters, which come from beyond L2, and no pixels.
    Py_ssize_t source_bytes  # Bytes of scratch for the band, or for what is gathered.
    Py_ssize_t image_bytes  # Bytes from one image of an item to the next.
    size_t bias  # The offset of the bias in the tables: padded_filters numbers per group.
    Layout tables, scratch, kept
    Scratch at
    char *kept_weights  # The packed weights, if they are kept; whoever runs the plan finds them.
    double moved  # The cost of the call, in bytes that could be moved in the same time.
    int threads
    char *memory  # Holds the phases and the parts.


# ---- questions about a problem -----------------------------------------------------------------

cdef inline bint is_pointwise(const Axis *axis) noexcept:
    """Return whether every output depends on the one pixel in its place."""
    return axis.kernel == axis.stride == 1 and axis.before == 0 and axis.out == axis.size


cdef inline bint reads_in_place(
    const Planes *source, const Axis *h, const Axis *w, bint planar
) noexcept:
    """Return whether register tiles can read the image where it lies, a plane as one row."""
    cdef Py_ssize_t bytes = source.format.bytes
    return (
        not planar and is_pointwise(h) and is_pointwise(w)
        and is_plain(source.format, source.stride_w, source.data)
        and source.stride_h == w.size * bytes
        and source.stride_n % bytes == 0 and source.stride_c % bytes == 0
        and fabs(<double>source.stride_c) * source.channels < INT32_MAX
    )


cdef inline bint has_heavy_weights(const Plan *plan) noexcept:
    """Return whether one group has more weights per channel than pixels.

    Then it is better to divide the filters among items than the image.
    """
    return not plan.planar and (
        plan.problem.filters * plan.problem.weights.kernel_h * plan.problem.weights.kernel_w
        > plan.band.h.source.size * plan.band.w.source.size
    )


cdef inline bint lies_packed(const Plan *plan) noexcept:
    """Return whether a filter's weights are contiguous, and filters follow each other."""
    cdef const Planes *weight = &plan.problem.weights.planes
    cdef Py_ssize_t taps = plan.problem.weights.kernel_h * plan.problem.weights.kernel_w
    cdef Py_ssize_t filter_bytes = plan.band.channels * taps * plan.problem.bytes
    return (
        plan.problem.weights.end > weight.data and weight.stride_n == filter_bytes
        and is_plain(weight.format, weight.stride_w, weight.data)
    )


cdef inline bint fits_plane_tile(const Plan *plan) noexcept:
    """Return whether there is a register tile for whole planes of all phases."""
    cdef const Side *h = &plan.band.h
    cdef const Side *w = &plan.band.w
    cdef Py_ssize_t i
    for i in range(h.n_phases):
        if h.phases[i].source_stride != 1 or not plan.problem.tiles.has_plane_tile(
            h.phases[i].taps, h.source.stride
        ):
            return False
    return (
        plan.problem.target.format.conversion == AS_IS
        and joins_rows(&plan.problem.target, w.target.size)
        and h.output_stride == w.output_stride <= 2 and h.n_phases == h.n_active == h.output_stride
        and w.n_phases == w.n_active == w.output_stride
    )


cdef inline bint are_even(Py_ssize_t items, int threads) noexcept:
    """Return whether a number of items gives all threads about the same work."""
    return 8 * items >= 7 * threads * ceil_div(items, threads)


cdef inline Py_ssize_t adjoint_terms(Py_ssize_t channels, Py_ssize_t taps) noexcept:
    """Return the largest number of terms in a register that makes sums as exact as NumPy's.

    NumPy's are a dot product over the channels for each tap, of which col2im adds `taps`. Their
    squared error grows as channels + taps, and that of n terms, b in a register, as b + n/b.
    """
    cdef double error = 1.1 * (<double>channels + taps)
    return <Py_ssize_t>min(
        (error + sqrt(error * error - 4.0 * channels * taps)) / 2, <double>SUM_TERMS
    )


cdef inline Py_ssize_t taken_taps(const Side *side) noexcept:
    """Return the number of pairs of an output and one of its taps, along one axis."""
    cdef Py_ssize_t i, total = 0
    for i in range(side.n_phases):
        total += (side.phases[i].last - side.phases[i].first) * side.phases[i].taps
    return total


# ---- cutting -----------------------------------------------------------------------------------

cdef inline Py_ssize_t rows_of(const Plan *plan) noexcept:
    """Return the number of rows of outputs of each phase."""
    return plan.band.h.last - plan.band.h.first


cdef inline Py_ssize_t columns_of(const Plan *plan) noexcept:
    """Return the number of columns of outputs of each phase."""
    return plan.band.w.last - plan.band.w.first


cdef inline void cut_outputs(Plan *plan) noexcept:
    """Decide how the source is read, and how many rows and columns of outputs an item has."""
    cdef Band *band = &plan.band
    cdef Py_ssize_t rows = rows_of(plan), columns = columns_of(plan)
    band.w.size = smaller(columns, MOST_PIXELS if plan.planar else MOST_COLUMNS)
    band.h.size = 1
    if plan.reading == IN_BAND:
        band.h.size = fitting_rows(band, band.w.size, BAND_BYTES)
        while band.h.size < smaller(rows, FEW_ROWS) and band.w.size > FEW_COLUMNS:
            band.w.size = (band.w.size + 1) // 2
            band.h.size = fitting_rows(band, band.w.size, BAND_BYTES)
        band.h.size = larger(1, band.h.size)
        while band.w.size > 1 and band_bytes(band, 1, band.w.size) > LIMIT_BYTES:
            band.w.size = (band.w.size + 1) // 2
        if band_bytes(band, 1, band.w.size) > LIMIT_BYTES:
            plan.reading = GATHERED
            plan.planar = False
            band.w.size = smaller(columns, RUN_PIXELS)
    band.h.size = even_size(rows, band.h.size, 1)
    band.w.size = even_size(columns, band.w.size, TILE_PIXELS)


cdef inline void cut_computed(Plan *plan) noexcept:
    """Decide how many rows of the preceding convolution an item has."""
    cdef Py_ssize_t row = plan.preceding.window.w.out, all_rows = plan.preceding.window.h.out
    cdef Py_ssize_t wanted = ceil_div(wanted_items(plan.threads), plan.problem.batch)
    cdef Py_ssize_t rows = larger(
        1, COMPUTED_BYTES // (plan.band.channels * row * plan.problem.bytes)
    )
    rows = even_size(all_rows, rows, 1)
    if ceil_div(all_rows, rows) < wanted:
        rows = smaller(rows, even_size(all_rows, larger(COMPUTED_ROWS, all_rows // wanted), 1))
    plan.band.h.size = 1
    plan.band.w.size = rows * row
    plan.computed_run = columns_of(plan) if has_heavy_weights(plan) else COMPUTED_RUN


cdef inline void choose_images(Plan *plan) noexcept:
    """Decide how many images an item has."""
    cdef Band *band = &plan.band
    cdef const Problem *problem = &plan.problem
    cdef Py_ssize_t rows = rows_of(plan), columns = columns_of(plan), side_by_side
    plan.images = 1
    if problem.marks != NULL:
        return  # Each image may be wanted or not.
    # Small images share a register tile, and read the weights together.
    if (
        plan.reading == IN_BAND and not plan.planar and not plan.folds_padding
        and band.h.size == rows and band.w.size == columns
        and band.h.output_stride == band.w.output_stride == 1 and 2 * columns <= TILE_PIXELS
    ):
        plan.images = smaller(
            smaller(problem.batch, ceil_div(SUM_PIXELS, rows * columns)),
            larger(1, BAND_BYTES // <Py_ssize_t>band_bytes(band, rows, columns)),
        )
        side_by_side = smaller(TILE_ROWS, TILE_PIXELS // columns)
        if plan.images > side_by_side:
            plan.images -= plan.images % side_by_side
    # A block of weights that comes from beyond L2 serves as many images as fit there.
    if plan.reading == IN_PLACE and band.w.size == columns and has_heavy_weights(plan):
        plan.images = even_size(
            problem.batch, larger(1, IMAGES_BYTES // (band.channels * columns * problem.bytes)), 1
        )
    if plan.reading == COMPUTED and band.w.size == columns:
        plan.images = even_size(
            problem.batch,
            larger(1, COMPUTED_BYTES // 2 // (band.channels * columns * problem.bytes)), 1,
        )


cdef inline void cut_filters(Plan *plan) noexcept:
    """Cut the filters of a group into blocks."""
    cdef Py_ssize_t lanes = plan.problem.tiles.lanes, filters = plan.problem.filters
    plan.block_filters, plan.padded_filters = 1, filters
    plan.blocks = ceil_div(filters, FEW_FILTERS)
    if not plan.planar:
        plan.block_filters = TILE_VECTORS * lanes
        plan.padded_filters = ceil_div(filters, lanes) * lanes
        plan.blocks = ceil_div(filters, plan.block_filters)


cdef inline void cut_items(Plan *plan) noexcept:
    """Cut rows and filters further, until there are enough items for all threads."""
    cdef Band *band = &plan.band
    cdef Py_ssize_t rows = rows_of(plan), columns = columns_of(plan)
    cdef Py_ssize_t wanted = wanted_items(plan.threads), items, in_all
    items = (
        ceil_div(plan.problem.batch, plan.images) * plan.problem.groups
        * ceil_div(columns, band.w.size)
    )
    in_all = items * ceil_div(rows, band.h.size)
    # The order in which a fold adds must not depend on the number of threads.
    if not (
        plan.folds_padding or plan.whole_planes or in_all >= wanted
        or (has_heavy_weights(plan) and are_even(in_all * plan.blocks, plan.threads))
    ):
        band.h.size = even_size(
            rows, larger(smaller(band.h.size, 2), ceil_div(rows, ceil_div(wanted, items))), 1
        )
    band.h.items = ceil_div(rows, band.h.size)
    band.w.items = ceil_div(columns, band.w.size)
    items *= band.h.items
    # Each thread that computes filters of a band computes its source, if that is computed.
    if plan.reading == COMPUTED and are_even(items, plan.threads):
        wanted = 1
    plan.split_blocks = ceil_div(plan.blocks, smaller(plan.blocks, ceil_div(wanted, 2 * items)))
    plan.splits = ceil_div(plan.blocks, plan.split_blocks)
    plan.packing = BEFORE
    if plan.planar and not plan.problem.adjoint and lies_packed(plan):
        plan.packing = NEVER
    elif plan.problem.keeps_packed:
        plan.packing = KEPT
    elif (
        items == plan.problem.groups and not (plan.planar or plan.folds_padding)
        and block_bytes(plan) <= LIMIT_BYTES
    ):
        plan.packing = LATE


cdef inline double block_bytes(const Plan *plan) noexcept nogil:
    """Return the bytes of a block's packed weights of all parts."""
    return (
        <double>plan.block_filters * plan.band.channels * plan.problem.weights.kernel_h
        * plan.problem.weights.kernel_w * plan.problem.bytes
    )


# ---- layouts -----------------------------------------------------------------------------------

cdef inline Py_ssize_t row_pitch(const Plan *plan, Py_ssize_t columns) noexcept nogil:
    """Return the number of sums from one row of outputs to the next.

    Rows have whole vectors if `correlate` computes them.
    """
    cdef Py_ssize_t lanes = plan.problem.tiles.lanes
    return ceil_div(columns, lanes) * lanes if plan.planar and not plan.plane_tiles else columns


cdef inline void lay_out_source(Plan *plan) noexcept:
    """Lay out what an item copies of the source, and choose the steps that are taken together."""
    cdef Band *band = &plan.band
    cdef Py_ssize_t bytes = plan.problem.bytes, lanes
    lay_out(band)
    plan.source_bytes, plan.chunk = 0, ALL_STEPS
    plan.image_bytes = band.source.stride_n
    if plan.reading == IN_PLACE:
        plan.chunk = CHUNK_CHANNELS
    elif plan.reading != GATHERED:
        if plan.reading == COMPUTED:  # Vectors of outputs are stored, also behind the last one.
            lanes = plan.problem.tiles.lanes
            band.pitch = ceil_div(band.pitch, lanes) * lanes
            plan.chunk = CHUNK_CHANNELS
        plan.image_bytes = band.channels * band.channel_rows * band.pitch * bytes
        # Vectors of pixels are read beyond the last row.
        plan.source_bytes = plan.images * plan.image_bytes + PLANAR_VECTORS * VECTOR_BYTES
    else:
        plan.run_pixels = band.w.size
        plan.chunk = LIMIT_BYTES // (plan.run_pixels * bytes)
        plan.source_bytes = plan.chunk * plan.run_pixels * bytes


cdef inline void lay_out_scratch(Plan *plan) noexcept:
    """Lay out the scratch of an item."""
    cdef Band *band = &plan.band
    cdef Py_ssize_t bytes = plan.problem.bytes, lanes = plan.problem.tiles.lanes
    cdef Py_ssize_t pitch = row_pitch(plan, band.w.size), filters
    plan.sum_rows = smaller(
        plan.images * band.h.size,
        larger(1, (MOST_PIXELS if plan.planar else SUM_PIXELS) // pitch),
    )
    if plan.whole_planes:
        plan.sum_rows = band.h.size
    plan.sums_pitch = ceil_div(plan.sum_rows * pitch + lanes, lanes) * lanes
    filters = smaller(
        FEW_FILTERS if plan.planar else plan.block_filters, larger(1, plan.padded_filters)
    )
    plan.scratch.bytes = 0
    take(&plan.scratch, LINE_BYTES)
    plan.at.tile = take(&plan.scratch, TILE_BYTES)
    plan.at.sums = take(&plan.scratch, <double>filters * plan.sums_pitch * bytes)
    plan.at.band = take(&plan.scratch, plan.source_bytes)
    if plan.packing == LATE:
        plan.at.packed = take(&plan.scratch, block_bytes(plan))
        plan.at.spare = take(&plan.scratch, <double>PACK_TAPS * plan.block_filters * bytes)
    if plan.whole_planes:
        plan.at.sums = take(&plan.scratch, 2.0 * plan.sums_pitch * bytes)
        plan.at.staged = take(
            &plan.scratch, <double>bytes * band.h.target.size * band.w.target.size
        )


cdef inline void lay_out_tables(Plan *plan) noexcept:
    """Lay out what all items read: packed weights, the bias, and the offsets of steps."""
    cdef Py_ssize_t bytes = plan.problem.bytes, i, steps = 0
    cdef double filters = <double>plan.problem.groups * plan.padded_filters
    cdef Part *part
    plan.tables.bytes = plan.kept.bytes = 0
    plan.bias = take(&plan.tables, filters * bytes)
    for i in range(plan.band.h.n_active * plan.band.w.n_active):
        part = plan.parts + i
        part.steps_before = steps
        steps += part.steps
        if plan.packing == BEFORE:
            part.packed = take(&plan.tables, filters * part.steps * bytes)
        elif plan.packing == KEPT:
            part.packed = take(&plan.kept, filters * part.steps * bytes)
        part.offsets = take(&plan.tables, part.n_offsets * sizeof(int32_t))


# ---- parts -------------------------------------------------------------------------------------

cdef inline void find_parts(Plan *plan) noexcept:
    """Pair the phases of both axes."""
    cdef Py_ssize_t i, j
    cdef Part *part
    cdef const Phase *h
    cdef const Phase *w
    for i in range(plan.band.h.n_phases):
        for j in range(plan.band.w.n_phases):
            h, w = plan.band.h.phases + i, plan.band.w.phases + j
            if h.taps == 0 or w.taps == 0:
                continue
            part = plan.parts + h.index * plan.band.w.n_active + w.index
            part.h, part.w = h, w
            part.steps = part.n_offsets = plan.band.channels * h.taps * w.taps
            part.terms = SUM_TERMS
            if plan.problem.adjoint:
                part.terms = adjoint_terms(plan.band.channels, h.taps * w.taps)
            if plan.reading == GATHERED:
                part.n_offsets = smaller(part.steps, plan.chunk)
            elif plan.planar:
                part.n_offsets = w.taps


cdef inline void fill_offsets(const Plan *plan, const Part *part, int32_t *offsets) noexcept nogil:
    """Fill the table of a part's offsets."""
    cdef const Band *band = &plan.band
    cdef const Phase *h = part.h
    cdef const Phase *w = part.w
    cdef Py_ssize_t c, kh, kw, i = 0, row
    cdef Py_ssize_t y = h.source - band.h.base, x = w.source - band.w.base
    if plan.reading == GATHERED:
        for i in range(part.n_offsets):
            offsets[i] = <int32_t>(i * plan.run_pixels)
        return
    if plan.reading == IN_PLACE:
        for c in range(band.channels):
            offsets[c] = <int32_t>(c * (band.source.stride_c // plan.problem.bytes))
        return
    if plan.planar:
        for kw in range(w.taps):
            offsets[kw] = <int32_t>column(band, x + kw * w.source_stride)
        return
    for c in range(band.channels):
        for kh in range(h.taps):
            row = c * band.channel_rows + stored_row(&band.h, y + kh * h.source_stride)
            for kw in range(w.taps):
                offsets[i] = <int32_t>(row * band.pitch + column(band, x + kw * w.source_stride))
                i += 1


cdef inline const char *packed_of(
    const Plan *plan, const Part *part, const char *tables
) noexcept nogil:
    """Return where the weights of all filters of a part lie as they are needed."""
    if plan.packing == NEVER:
        return plan.problem.weights.planes.data
    return (plan.kept_weights if plan.packing == KEPT else tables) + part.packed


# ---- making a plan -----------------------------------------------------------------------------

cdef inline int begin_plan(
    Plan *plan, const Problem *problem, Py_ssize_t phases_h, Py_ssize_t phases_w
) except -1:
    """Allocate room for the phases of each axis and for their pairs."""
    cdef Layout layout
    cdef size_t phases, parts
    layout.bytes = 0
    phases = take(&layout, (<double>phases_h + phases_w) * sizeof(Phase))
    # Each tap belongs to one phase, so no more phases than taps have any.
    parts = take(
        &layout, <double>smaller(phases_h, problem.weights.kernel_h)
        * smaller(phases_w, problem.weights.kernel_w) * sizeof(Part),
    )
    memset(plan, 0, sizeof(plan[0]))
    plan.problem = problem[0]
    plan.band.source, plan.band.channels = problem.source, problem.channels
    plan.planar = problem.filters <= FEW_FILTERS
    plan.memory = allocate(layout.bytes, "phases")
    plan.band.h.phases = <Phase *>(plan.memory + phases)
    plan.band.w.phases = plan.band.h.phases + phases_h
    plan.parts = <Part *>(plan.memory + parts)
    return 0


cdef inline void finish_plan(Plan *plan, int threads) noexcept:
    """Cut the outputs of the two sides into items, and lay out all memory."""
    cdef const Problem *problem = &plan.problem
    plan.problem.target.past_caches = problem.target.all_bytes >= STREAM_BYTES
    plan.moved = problem.target.all_bytes + (
        2.0 / FLOPS_PER_BYTE * problem.batch * problem.groups * problem.filters
        * plan.band.channels * taken_taps(&plan.band.h) * taken_taps(&plan.band.w)
    )
    plan.threads = useful_threads(plan.moved, threads)
    if plan.reading == COMPUTED:
        cut_computed(plan)
    else:
        cut_outputs(plan)
    choose_images(plan)
    # The number of threads decides whether planes are cut, but not in which order sums are taken.
    plan.plane_tiles = (
        plan.planar and plan.reading == IN_BAND and not plan.folds_padding
        and problem.way != IN_BANDS and plan.band.channels == 1
        and plan.band.h.size == rows_of(plan) and plan.band.w.size == columns_of(plan)
        and fits_plane_tile(plan)
    )
    plan.whole_planes = (
        plan.plane_tiles and problem.batch * problem.groups >= 2 * plan.threads
    )
    plan.framed = plan.whole_planes and has_frame(&plan.band)
    cut_filters(plan)
    cut_items(plan)
    lay_out_source(plan)
    find_parts(plan)
    lay_out_scratch(plan)
    lay_out_tables(plan)
    # Several images that are read in place come from beyond L2 themselves.
    plan.far_filters = (
        plan.kept.bytes >= FAR_BYTES and has_heavy_weights(plan)
        and (plan.images == 1 or plan.reading != IN_PLACE)
    )


cdef inline int make_forward(
    Plan *plan, const Problem *problem, Window window, int threads
) except -1:
    """Plan a forward convolution."""
    cdef Axis *h = &window.h
    cdef Axis *w = &window.w
    begin_plan(plan, problem, 1, 1)
    if (
        reads_in_place(&problem.source, h, w, plan.planar)
        and joins_rows(&problem.target, w.out)
    ):
        plan.reading = IN_PLACE
        w.size = w.out = h.size * w.size
        h.size = h.out = 1
    plan_forward(&plan.band.h, h)
    plan_forward(&plan.band.w, w)
    finish_plan(plan, threads)
    return 0


cdef inline int make_fused(
    Plan *plan, const Problem *problem, const Preceding *preceding, int threads
) except -1:
    """Plan a 1x1 convolution of what another convolution computes, a plane as one row."""
    cdef Window window
    cdef Axis *w = &window.w
    w.kernel = w.stride = w.dilation = 1
    w.before = w.after = 0
    w.pad_mode = PAD_CONSTANT
    window.h = w[0]
    window.h.size = window.h.out = 1
    w.size = w.out = preceding.window.h.out * preceding.window.w.out
    begin_plan(plan, problem, 1, 1)
    plan.reading, plan.preceding, plan.planar = COMPUTED, preceding, False
    plan_forward(&plan.band.h, &window.h)
    plan_forward(&plan.band.w, w)
    finish_plan(plan, threads)
    return 0


cdef inline int make_adjoint(
    Plan *plan, const Problem *problem, const Window *window, Rectangle outputs, bint folds_padding,
    int threads,
) except -1:
    """Plan a rectangle of the padded target of a transposed convolution."""
    begin_plan(
        plan, problem, smaller(window.h.stride, outputs.bottom - outputs.top),
        smaller(window.w.stride, outputs.right - outputs.left),
    )
    plan.folds_padding = folds_padding
    plan_transposed(&plan.band.h, &window.h, outputs.top, outputs.bottom)
    plan_transposed(&plan.band.w, &window.w, outputs.left, outputs.right)
    finish_plan(plan, threads)
    return 0
