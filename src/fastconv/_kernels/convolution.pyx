"""Convolution and its adjoint (`forward`, `transposed`), computed directly.

    out[n, f, oh, ow] = activation(bias[f] + residual[n, f, oh, ow] + sum over (c, kh, kw) of
        weight[f, c, kh, kw] * padded(image[n, c])[oh*SH + kh*DH, ow*SW + kw*DW])

a. Everything is a sum over steps k = (c, kh, kw) of packed weights times source pixels, which the
   register tiles of tile.c compute. The transposed convolution, which is also the gradient of the
   input, is the same sum. Its outputs y with y % SH == r (a *phase*) depend only on the taps kh
   with (r - kh*DH) % SH == 0. They lie SH apart, and their sources lie next to each other. A
   forward convolution is one phase with all taps; a transposed one has SH x SW phases.
b. An item is a band of output rows of one image (or a few whole small images), of one group, for a
   range of its filters. The band's source is copied to scratch with its padding, so that every pad
   mode, layout and dtype costs the same. Rows are de-interleaved into SW phases, so that a tap of
   neighbouring outputs is contiguous. A table contains each step's offset in the band. Windows of
   1x1 without padding read the image where it lies, with H*W as one row. Windows that are too
   large for a band in scratch are gathered: the pixels of one run of outputs are copied for a
   chunk of steps at a time.
c. The loops inside an item are over blocks of filters, over rows whose sums fit into L1 together,
   and over pixels. One call of the register tile takes all steps. Weights are packed once per
   call, to [pair of phases][group][block][step][filter]. If only one item uses a block, that item
   packs it into its own scratch, where it stays in the cache. Weights that are kept from call to
   call (packs.pxd) are packed by the first one. The sums of a block of filters for
   some rows lie in scratch as [filter][pixel], and are written in whole rows. A thread keeps its
   band for the next item that needs the same.
d. Lanes of vectors are filters (direct.pxd) or, for few filters per group and for short sums,
   pixels (planar.pxd, written.pxd). Where register tiles can write the outputs themselves, sums
   need no scratch (written.pxd). Small planes of depthwise convolutions have a plan of their own
   (depthwise.pxd).
e. If the padding is not zeros, the adjoint adds the gradient of each padded position to the pixel
   that is shown there. A second pass computes the positions in the padding alone and adds them.
f. An item owns what it writes, and the shape determines the order of each sum. Therefore results do
   not depend on the number of threads.
g. Layout and blocking follow E. Georganas et al., "Anatomy of High-Performance Deep Learning
   Convolutions on SIMD Architectures", SC18.
"""

from libc.stdint cimport int32_t
from libc.string cimport memset

cimport numpy as cnp

from fastconv._kernels.band cimport Band, Phase, Region, even_size, load_band
from fastconv._kernels.depthwise cimport FlatPlan, execute_flat, make_flat
from fastconv._kernels.direct cimport gather_row, multiply_rows
from fastconv._kernels.level cimport LEVEL
from fastconv._kernels.microkernels cimport import_microkernels
from fastconv._kernels.outputs cimport Rows, ask_for_residual, store_sums
from fastconv._kernels.packs cimport first_line, new_block, weights_key
from fastconv._kernels.parallel cimport for_each, useful_threads
from fastconv._kernels.plan cimport (
    BEFORE, COMPUTED, FEW_FILTERS, GATHERED, IN_BAND, IN_PLACE, KEPT, LATE, Part, Plan, Rectangle,
    fill_offsets, is_pointwise, make_adjoint, make_forward, make_fused, packed_of, row_pitch,
)
from fastconv._kernels.planar cimport convolve_plane, correlate_rows, correlate_rows_as_plane
from fastconv._kernels.planes cimport Planes
from fastconv._kernels.preceding cimport Preceding, compute_preceding, describe_preceding
from fastconv._kernels.problem cimport (
    ANY_WAY, IN_BANDS, IN_PLANE_TILES, Problem, describe, is_wanted, load_bias,
)
from fastconv._kernels.rows cimport fill_row
from fastconv._kernels.scratch cimport allocate, release
from fastconv._kernels.stream cimport stream_fence
from fastconv._kernels.tile cimport PLANAR_VECTORS, TILE_PIXELS
from fastconv._kernels.vectors cimport VECTOR_BYTES
from fastconv._kernels.weights cimport PACK_CHANNELS, PACK_TAPS, PackedWeights, pack_channels
from fastconv._kernels.window cimport (
    PAD_CONSTANT, Axis, Window, ceil_div, larger, padded_size, reach, smaller, window_of,
)
from fastconv._kernels.written cimport (
    has_strips, multiply_and_write_rows, multiply_strips, sum_strips, writes_from_tiles,
    writes_strips,
)

cnp.import_array()
import_microkernels()

level = LEVEL.decode()


# How a call computes rows is chosen once. Where each call of `compute_rows` chose, the compiler
# made one function of all ways, in which 1x1 windows took 5 % more time.
ctypedef void (*Compute)(const Plan *plan, const Rows *rows) noexcept nogil


cdef struct Call:
    # A plan, its tables, and what adds the steps of rows to their sums.
    const Plan *plan
    char *tables
    Compute compute
    bint writes  # `compute` writes the outputs.


# ---- packing weights ---------------------------------------------------------------------------

cdef inline Py_ssize_t lanes_of_block(const Plan *plan, Py_ssize_t f) noexcept nogil:
    """Return the number of lanes, empty ones included, of the block that begins with filter f."""
    return smaller(plan.block_filters, plan.padded_filters - f)


cdef void pack_block(
    const Plan *plan, Py_ssize_t g, Py_ssize_t f, char *packed, char *spare
) noexcept nogil:
    """Pack a block of filters for all parts, one after the other."""
    cdef Py_ssize_t lanes = lanes_of_block(plan, f), i
    cdef const Part *part
    for i in range(plan.band.h.n_active * plan.band.w.n_active):
        part = plan.parts + i
        pack_channels(
            &plan.problem.weights, part.h, part.w,
            PackedWeights(g, f, lanes, 0, plan.band.channels),
            packed + part.steps_before * lanes * plan.problem.bytes, spare,
        )


cdef void pack(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    """Pack a block of filters and PACK_CHANNELS channels for one part."""
    cdef const Call *call = <const Call *>data
    cdef const Plan *plan = call.plan
    cdef Py_ssize_t pieces = ceil_div(plan.band.channels, PACK_CHANNELS)
    cdef Py_ssize_t blocks = ceil_div(plan.padded_filters, plan.block_filters)
    cdef Py_ssize_t first = item % pieces * PACK_CHANNELS
    cdef Py_ssize_t f = item // pieces % blocks * plan.block_filters
    cdef Py_ssize_t g = item // (pieces * blocks) % plan.problem.groups
    cdef const Part *part = plan.parts + item // (pieces * blocks * plan.problem.groups)
    cdef Py_ssize_t lanes = lanes_of_block(plan, f)
    pack_channels(
        &plan.problem.weights, part.h, part.w,
        PackedWeights(g, f, lanes, first, smaller(first + PACK_CHANNELS, plan.band.channels)),
        <char *>packed_of(plan, part, call.tables) + plan.problem.bytes * (
            (g * plan.padded_filters + f) * part.steps + first * part.h.taps * part.w.taps * lanes
        ),
        scratch,
    )


# ---- one item ----------------------------------------------------------------------------------

cdef inline const char *load_source(
    const Plan *plan, Rectangle outputs, Py_ssize_t n, Py_ssize_t g, Py_ssize_t which, char *scratch
) noexcept nogil:
    """Return where the source of an item lies.

    A band is copied to scratch, unless `held`, the number of the band there, is that of the item.
    """
    cdef const Band *band = &plan.band
    cdef Py_ssize_t *held = <Py_ssize_t *>scratch
    cdef char *copied = scratch + plan.at.band
    cdef Py_ssize_t i, row
    if plan.reading == IN_PLACE:
        return (
            band.source.data + n * band.source.stride_n
            + g * band.channels * band.source.stride_c + outputs.left * plan.problem.bytes
        )
    if plan.reading == COMPUTED and held[0] != which:
        held[0] = which
        row = plan.preceding.window.w.out
        for i in range(smaller(plan.images, plan.problem.batch - n)):
            compute_preceding(
                plan.preceding, &band.source, n + i, band.channels, outputs.left // row,
                (outputs.right - outputs.left) // row, copied + i * plan.image_bytes, band.pitch,
            )
    if plan.reading == IN_BAND and held[0] != which:
        held[0] = which
        for i in range(smaller(plan.images, plan.problem.batch - n)):
            load_band(
                band,
                Region(
                    n + i, g * band.channels, band.channels, outputs.top,
                    outputs.bottom - outputs.top, outputs.left, outputs.right - outputs.left,
                ),
                copied + i * plan.image_bytes,
            )
        memset(
            copied + plan.source_bytes - PLANAR_VECTORS * VECTOR_BYTES, 0,
            PLANAR_VECTORS * VECTOR_BYTES,
        )
    return copied


cdef inline void find_part(const Call *call, Rows *rows, const char *packed) noexcept nogil:
    """Find the weights and offsets that the phases of the rows need.

    `packed` are the weights of the block if they are packed late.
    """
    cdef const Plan *plan = call.plan
    rows.part, rows.offsets, rows.packed = NULL, NULL, NULL
    if rows.h.taps == 0 or rows.w.taps == 0:
        return
    rows.part = plan.parts + rows.h.index * plan.band.w.n_active + rows.w.index
    rows.offsets = <const int32_t *>(call.tables + rows.part.offsets)
    if plan.packing == LATE:
        rows.packed = packed + rows.part.steps_before * rows.lanes * plan.problem.bytes
    else:
        rows.packed = packed_of(plan, rows.part, call.tables) + plan.problem.bytes * (
            (rows.g * plan.padded_filters + rows.f) * rows.part.steps
        )


cdef Compute compute_of(const Plan *plan) noexcept:
    """Choose how rows are computed."""
    if plan.plane_tiles:
        return correlate_rows_as_plane
    if plan.planar:
        return correlate_rows
    if plan.reading == GATHERED:
        return gather_row
    if has_strips(plan):
        return multiply_strips if writes_strips(plan) else sum_strips
    if writes_from_tiles(plan):
        return multiply_and_write_rows
    return multiply_rows


cdef inline void compute_rows(const Call *call, const Rows *rows) noexcept nogil:
    """Compute and store the rows of a pair of phases."""
    cdef const Plan *plan = call.plan
    cdef Py_ssize_t bytes = plan.problem.bytes, f
    if plan.problem.target.residual != NULL:
        ask_for_residual(plan, rows)
    if (plan.planar and not plan.plane_tiles) or rows.part == NULL:
        for f in range(rows.filters):
            fill_row(
                rows.sums + f * plan.sums_pitch * bytes, rows.start + f * bytes,
                (rows.last - rows.first) * rows.pitch, bytes,
            )
    if rows.part != NULL:
        call.compute(plan, rows)
    if rows.part == NULL or not call.writes:
        store_sums(plan, rows)


cdef inline void compute_block(
    const Call *call, const Rectangle *outputs, Rows *rows, const char *packed
) noexcept nogil:
    """Compute the outputs of an item for one block of filters, some rows at a time."""
    cdef const Plan *plan = call.plan
    cdef Py_ssize_t top = outputs.top, left = outputs.left, i, j, all_rows
    if plan.reading == GATHERED:
        top = left = 0  # Without a band, positions count from the image's first output.
    for i in range(plan.band.h.n_phases):
        rows.h = plan.band.h.phases + i
        rows.row_j = larger(outputs.top, rows.h.first)
        rows.per_image = smaller(outputs.bottom, rows.h.last) - rows.row_j
        rows.row = rows.row_j - top
        all_rows = rows.per_image * smaller(plan.images, plan.problem.batch - rows.n)
        rows.first = 0
        while rows.first < all_rows:
            rows.last = smaller(rows.first + plan.sum_rows, all_rows)
            for j in range(plan.band.w.n_phases):
                rows.w = plan.band.w.phases + j
                rows.column_j = larger(outputs.left, rows.w.first)
                rows.count = smaller(outputs.right, rows.w.last) - rows.column_j
                rows.column = rows.column_j - left
                rows.pitch = row_pitch(plan, rows.count)
                if rows.count > 0:
                    find_part(call, rows, packed)
                    compute_rows(call, rows)
            rows.first = rows.last


cdef inline void compute_blocks(
    const Call *call, const Rectangle *outputs, Rows *rows, Py_ssize_t split, char *scratch
) noexcept nogil:
    """Compute outputs of an item for all of its filters, one block after the other."""
    cdef const Plan *plan = call.plan
    cdef Py_ssize_t filters = FEW_FILTERS if plan.planar else plan.block_filters, block
    for block in range(
        split * plan.split_blocks, smaller((split + 1) * plan.split_blocks, plan.blocks)
    ):
        rows.f = block * filters
        rows.start = call.tables + plan.bias + (rows.g * plan.padded_filters + rows.f) * (
            plan.problem.bytes
        )
        rows.lanes = smaller(filters, plan.padded_filters - rows.f)
        rows.filters = smaller(filters, plan.problem.filters - rows.f)
        if plan.packing == LATE:
            pack_block(plan, rows.g, rows.f, scratch + plan.at.packed, scratch + plan.at.spare)
        compute_block(call, outputs, rows, scratch + plan.at.packed)


cdef void convolve_band(
    const Call *call, Py_ssize_t n, Py_ssize_t g, Py_ssize_t split, Py_ssize_t item_h,
    Py_ssize_t item_w, Py_ssize_t which, char *scratch,
) noexcept nogil:
    """Compute a band of outputs, whose source is band number `which`, counted from 1."""
    cdef const Plan *plan = call.plan
    cdef Py_ssize_t right, run
    cdef Rectangle outputs
    cdef Rows rows
    outputs.top = plan.band.h.first + item_h * plan.band.h.size
    outputs.bottom = smaller(outputs.top + plan.band.h.size, plan.band.h.last)
    outputs.left = plan.band.w.first + item_w * plan.band.w.size
    outputs.right = smaller(outputs.left + plan.band.w.size, plan.band.w.last)
    rows.n, rows.g = n, g
    rows.tile, rows.sums = scratch + plan.at.tile, scratch + plan.at.sums
    rows.band = load_source(plan, outputs, n, g, which, scratch)
    if plan.reading != COMPUTED:
        compute_blocks(call, &outputs, &rows, split, scratch)
    else:
        right = outputs.right
        run = even_size(right - outputs.left, plan.computed_run, TILE_PIXELS)
        while outputs.left < right:
            outputs.right = smaller(outputs.left + run, right)
            compute_blocks(call, &outputs, &rows, split, scratch)
            rows.band += run * plan.problem.bytes
            outputs.left = outputs.right
    if plan.problem.target.past_caches:
        stream_fence()


cdef void convolve(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    """Compute one item: a band of outputs of some images, a group and a range of filters."""
    cdef const Call *call = <const Call *>data
    cdef const Band *band = &call.plan.band
    cdef Py_ssize_t groups = call.plan.problem.groups, split, which, i, j, n
    split, item = item % call.plan.splits, item // call.plan.splits
    which = 1 + item
    i, j = item // band.w.items % band.h.items, item % band.w.items
    item //= band.h.items * band.w.items
    n = item // groups * call.plan.images
    if is_wanted(&call.plan.problem, n):
        convolve_band(call, n, item % groups, split, i, j, which, scratch)


cdef void convolve_folded(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    """Compute all bands of an image and a group, one after the other, because several positions are
    added to one pixel, in this order."""
    cdef const Call *call = <const Call *>data
    cdef const Band *band = &call.plan.band
    cdef Py_ssize_t groups = call.plan.problem.groups, split, i, j
    split, item = item % call.plan.splits, item // call.plan.splits
    if not is_wanted(&call.plan.problem, item // groups * call.plan.images):
        return
    for i in range(band.h.items):
        for j in range(band.w.items):
            convolve_band(
                call, item // groups * call.plan.images, item % groups, split, i, j,
                1 + (item * band.h.items + i) * band.w.items + j, scratch,
            )


cdef void convolve_channel(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    """Compute all outputs of a channel of one image that has filters of its own."""
    cdef const Call *call = <const Call *>data
    cdef Py_ssize_t groups = call.plan.problem.groups
    if is_wanted(&call.plan.problem, item // groups):
        convolve_plane(call.plan, call.tables, item // groups, item % groups, scratch)


# ---- one call ----------------------------------------------------------------------------------

cdef void fill_tables(const Plan *plan, char *tables) noexcept:
    """Copy the bias, and compute the offsets of all parts."""
    cdef Py_ssize_t row_bytes = plan.padded_filters * plan.problem.bytes, g, i
    cdef char *bias = tables + plan.bias
    for g in range(plan.problem.groups):
        memset(bias + g * row_bytes, 0, row_bytes)
        load_bias(
            &plan.problem, g * plan.problem.filters, plan.problem.filters, bias + g * row_bytes
        )
    for i in range(plan.band.h.n_active * plan.band.w.n_active):
        fill_offsets(plan, plan.parts + i, <int32_t *>(tables + plan.parts[i].offsets))


cdef int pack_all(const Call *call) except -1:
    """Pack all weights."""
    cdef const Plan *plan = call.plan
    cdef double moved = plan.tables.bytes + plan.kept.bytes
    for_each(
        pack, call,
        plan.band.h.n_active * plan.band.w.n_active * plan.problem.groups
        * ceil_div(plan.padded_filters, plan.block_filters)
        * ceil_div(plan.band.channels, PACK_CHANNELS),
        PACK_TAPS * plan.block_filters * plan.problem.bytes, moved,
        useful_threads(moved, plan.threads),
    )
    return 0


cdef tuple pack_key(const Plan *plan):
    """Return all that decides what `pack` writes, besides the weights' own numbers."""
    cdef Py_ssize_t i
    cdef const Phase *h
    cdef const Phase *w
    cdef list taps = []
    cdef tuple layout
    for i in range(plan.band.h.n_active * plan.band.w.n_active):
        h = plan.parts[i].h
        w = plan.parts[i].w
        taps.append((h.tap, h.tap_stride, h.taps, w.tap, w.tap_stride, w.taps))
    layout = "direct", level, plan.block_filters, plan.padded_filters, tuple(taps)
    return layout + weights_key(&plan.problem, plan.kept.bytes)


cdef object find_or_pack(Plan *plan, Call *call, packs):
    """Return the memory of packed weights that are kept, which the first call fills."""
    cdef tuple key = pack_key(plan)
    cdef object block = packs.find(key)
    cdef bint is_new = block is None
    if is_new:
        block = new_block(packs, plan.kept.bytes)
    plan.kept_weights = first_line(block)
    if is_new:
        pack_all(call)
        packs.keep(key, block)
    return block


cdef int execute(Plan *plan, packs) except -1:
    """Pack the weights, and compute all outputs of a plan.

    `packs` is where packed weights are kept, or None.
    """
    cdef Py_ssize_t items
    cdef Call call
    cdef object _block = None  # While it is referenced here, another thread may drop it.
    call.plan, call.compute = plan, compute_of(plan)
    call.writes = call.compute == multiply_strips or call.compute == multiply_and_write_rows
    call.tables = allocate(plan.tables.bytes, "packed weights")
    try:
        fill_tables(plan, call.tables)
        if plan.packing == BEFORE:
            pack_all(&call)
        elif plan.packing == KEPT:
            _block = find_or_pack(plan, &call, packs)
        items = ceil_div(plan.problem.batch, plan.images) * plan.problem.groups * plan.splits
        if plan.folds_padding:
            for_each(
                convolve_folded, &call, items, <size_t>plan.scratch.bytes, plan.moved, plan.threads
            )
            return 0
        for_each(
            convolve_channel if plan.whole_planes else convolve, &call,
            items * plan.band.h.items * plan.band.w.items, <size_t>plan.scratch.bytes, plan.moved,
            plan.threads,
        )
    finally:
        release(call.tables)
    return 0


cdef int run_forward(const Problem *problem, Window window, packs, int threads) except -1:
    cdef Plan plan
    cdef FlatPlan flat
    if problem.way == ANY_WAY and make_flat(&flat, problem, &window, False, threads):
        return execute_flat(&flat)
    make_forward(&plan, problem, window, threads)
    try:
        execute(&plan, packs)
    finally:
        release(plan.memory)
    return 0


cdef int run_adjoint(
    const Problem *problem, const Window *window, Rectangle outputs, bint folds_padding, packs,
    int threads,
) except -1:
    """Compute a rectangle of the padded target, or add it to the pixels that it shows."""
    cdef Plan plan
    if folds_padding:  # Positions that no window reaches have no gradient.
        outputs.bottom = smaller(outputs.bottom, reach(&window.h, window.h.out))
        outputs.right = smaller(outputs.right, reach(&window.w, window.w.out))
    if outputs.bottom <= outputs.top or outputs.right <= outputs.left:
        return 0
    make_adjoint(&plan, problem, window, outputs, folds_padding, threads)
    try:
        execute(&plan, packs)
    finally:
        release(plan.memory)
    return 0


cdef int run_padding(const Problem *problem, const Window *window, int threads) except -1:
    """Compute the padding of the target, and add it to the pixels that it shows."""
    cdef const Axis *h = &window.h
    cdef const Axis *w = &window.w
    cdef Py_ssize_t top = h.before, bottom = top + h.size, end = padded_size(h)
    cdef Py_ssize_t left = w.before, right = left + w.size, all_columns = padded_size(w)
    if h.pad_mode == PAD_CONSTANT:
        return 0
    run_adjoint(problem, window, Rectangle(0, top, 0, all_columns), True, None, threads)
    run_adjoint(problem, window, Rectangle(bottom, end, 0, all_columns), True, None, threads)
    run_adjoint(problem, window, Rectangle(top, bottom, 0, left), True, None, threads)
    run_adjoint(
        problem, window, Rectangle(top, bottom, right, all_columns), True, None, threads
    )
    return 0


cdef inline bint is_whole(const Axis *axis) noexcept:
    """Return whether there is one window, of all pixels and no padding."""
    return axis.out == axis.dilation == 1 and axis.kernel == axis.size and axis.before == 0


cdef inline bint has_one_window(
    const Problem *problem, const Window *window, cnp.ndarray weight
) noexcept:
    """Return whether there is one window as large as the image, whose taps can be filters."""
    return (
        problem.bias == NULL and is_whole(&window.h) and is_whole(&window.w)
        and cnp.PyArray_IS_C_CONTIGUOUS(weight)
    )


cdef int run_one_window(
    const Problem *problem, const Window *window, packs, int threads
) except -1:
    """Compute the adjoint of one window as large as the image.

    Every tap is a filter of its own, which is applied to one pixel.
    """
    cdef Problem taps = problem[0]
    cdef Axis pixel = Axis(1, 1, 1, 1, 1, 0, 0, PAD_CONSTANT)
    cdef Planes *planes = &taps.weights.planes
    taps.filters *= window.h.kernel * window.w.kernel
    taps.weights.filters = taps.filters
    taps.weights.kernel_h = taps.weights.kernel_w = 1
    planes.stride_n = planes.stride_h = planes.stride_w = planes.format.bytes
    taps.target.stride_c = taps.target.stride_h = taps.target.stride_w
    return run_forward(&taps, Window(pixel, pixel), packs, threads)


# ---- entry points ------------------------------------------------------------------------------

def forward(
    cnp.ndarray image, cnp.ndarray weight, cnp.ndarray out, cnp.ndarray window, Py_ssize_t groups,
    epilogue, packs, cnp.ndarray marks, int threads, int way=ANY_WAY,
):
    """Write the convolution of images (n, c, h, w) with weight (f, c/groups, kh, kw).

    `epilogue` is (bias, residual, activation) or None. `packs` (`fastconv.packing`) keeps what is
    packed of the weight, or is None. Images whose byte in `marks` is 0 are left alone, unless
    `marks` is None. Of parts of images, `way` is what `way_of` returns for the whole ones.
    """
    cdef Problem problem
    if cnp.PyArray_DIM(image, 0) == 0:
        return
    describe(&problem, image, weight, out, groups, False, epilogue)
    problem.keeps_packed = packs is not None
    problem.way = way
    if marks is not None:
        problem.marks = <const char *>cnp.PyArray_DATA(marks)
    run_forward(&problem, window_of(window)[0], packs, threads)


def fused(
    cnp.ndarray image, cnp.ndarray first_weight, cnp.ndarray first_bias, first_activation,
    cnp.ndarray window, cnp.ndarray weight, cnp.ndarray out, epilogue, packs, int threads,
):
    """Write a 1x1 convolution, with weight (f, c, 1, 1), of a depthwise convolution of images.

    The depthwise one has weights (c, 1, 3, 3), a bias or None, and an activation or None. All
    arrays are of `out`'s dtype; images have contiguous rows, and these weights and the bias are
    contiguous. `epilogue` and `packs` are those of `forward`, for the 1x1 convolution.
    """
    cdef Problem problem
    cdef Preceding preceding
    cdef Plan plan
    if cnp.PyArray_DIM(image, 0) == 0:
        return
    describe(&problem, image, weight, out, 1, False, epilogue)
    problem.keeps_packed = packs is not None
    describe_preceding(
        &preceding, window_of(window)[0], problem.number, first_weight, first_bias,
        first_activation,
    )
    make_fused(&plan, &problem, &preceding, threads)
    try:
        execute(&plan, packs)
    finally:
        release(plan.memory)


def workspace(
    cnp.ndarray image, cnp.ndarray weight, cnp.ndarray out, cnp.ndarray window, Py_ssize_t groups,
    int threads,
):
    """Return the bytes that `forward` allocates for arrays of these shapes, which are not read."""
    cdef Problem problem
    cdef Plan plan
    cdef FlatPlan flat
    describe(&problem, image, weight, out, groups, False, None)
    if make_flat(&flat, &problem, window_of(window), False, threads):
        release(flat.memory)
        return int(flat.tables.bytes + flat.scratch.bytes * flat.threads)
    make_forward(&plan, &problem, window_of(window)[0], threads)
    release(plan.memory)
    return int(plan.tables.bytes + plan.scratch.bytes * plan.threads)


def way_of(
    cnp.ndarray image, cnp.ndarray weight, cnp.ndarray out, cnp.ndarray window, Py_ssize_t groups,
):
    """Return the way of `forward` for arrays of these shapes, which are not read.

    With this way, parts of the images give the numbers that they give within the whole.
    """
    cdef Problem problem
    cdef Plan plan
    cdef FlatPlan flat
    describe(&problem, image, weight, out, groups, False, None)
    if make_flat(&flat, &problem, window_of(window), False, 1):
        release(flat.memory)
        return ANY_WAY
    make_forward(&plan, &problem, window_of(window)[0], 1)
    release(plan.memory)
    return IN_PLANE_TILES if plan.plane_tiles else IN_BANDS


def transposed(
    cnp.ndarray source, cnp.ndarray weight, cnp.ndarray out, cnp.ndarray window, Py_ssize_t groups,
    epilogue, packs, cnp.ndarray marks, int threads,
):
    """Write the adjoint of the convolution that brings `out` (n, f, h, w) to `source`.

    `epilogue`, `packs` and `marks` are those of `forward`.
    """
    cdef Problem problem
    cdef FlatPlan flat
    cdef const Window *win = window_of(window)
    cdef const Axis *h = &win.h
    cdef const Axis *w = &win.w
    if cnp.PyArray_DIM(source, 0) == 0:
        return
    describe(&problem, source, weight, out, groups, True, epilogue)
    problem.keeps_packed = packs is not None
    if marks is not None:
        problem.marks = <const char *>cnp.PyArray_DATA(marks)
    if is_pointwise(h) and is_pointwise(w):
        run_forward(&problem, win[0], packs, threads)
        return
    if has_one_window(&problem, win, weight):
        run_one_window(&problem, win, packs, threads)
        return
    if make_flat(&flat, &problem, win, True, threads):
        execute_flat(&flat)
        return
    run_adjoint(
        &problem, win, Rectangle(h.before, h.before + h.size, w.before, w.before + w.size), False,
        packs, threads,
    )
    run_padding(&problem, win, threads)


def fold_padding(
    cnp.ndarray source, cnp.ndarray weight, cnp.ndarray out, cnp.ndarray window, Py_ssize_t groups,
    int threads,
):
    """Add the adjoint's values in the padding to the pixels of `out` that are shown there."""
    cdef Problem problem
    if cnp.PyArray_DIM(source, 0) == 0:
        return
    describe(&problem, source, weight, out, groups, True, None)
    run_padding(&problem, window_of(window), threads)
