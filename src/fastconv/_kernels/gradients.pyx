"""The gradients of a convolution's weight and bias.

    grad_weight[f, c, kh, kw] = sum over (n, oh, ow) of
        grad[n, f, oh, ow] * padded(image[n, c])[oh*SH + kh*DH, ow*SW + kw*DW]
    grad_bias[f] = sum over (n, oh, ow) of grad[n, f, oh, ow]

a. Lanes of the register tile are filters, its "pixels" are taps, and its steps are the pixels of
   outputs. The gradients of some outputs are packed to [block][pixel][filter]. The image is copied
   to scratch as for the convolution itself (band.pxd), read where it lies, or gathered tap by tap.
b. For few filters per group, lanes are pixels, which are summed over.
c. An item is a slice of the outputs, for a range of filters and channels. Slices are summed
   separately and added pairwise, so that no sum is long enough to lose digits. Their number depends
   on the shape alone; therefore results do not depend on the number of threads.
"""

from libc.stdint cimport int32_t
from libc.string cimport memset

cimport numpy as cnp

from fastconv._kernels.band cimport (
    Band, Phase, Region, Side, band_bytes, column, even_size, has_frame, lay_out, load_band,
    load_inside, plan_forward, stored_row,
)
from fastconv._kernels.depthwise_gradient cimport (
    FlatGradient, execute_flat_gradient, make_flat_gradient,
)
from fastconv._kernels.level cimport LEVEL
from fastconv._kernels.microkernels cimport import_microkernels, sums_of, tiles_of
from fastconv._kernels.number cimport FLOAT32
from fastconv._kernels.parallel cimport for_each, useful_threads, wanted_items
from fastconv._kernels.plan cimport (
    BAND_BYTES, FEW_FILTERS, GATHERED, IN_BAND, IN_PLACE, LIMIT_BYTES, MOST_COLUMNS,
    MOST_PIXELS, RUN_PIXELS, Source, reads_in_place,
)
from fastconv._kernels.planes cimport (
    Planes, computed_format, converted_format, padded_row, planes_of,
)
from fastconv._kernels.rows cimport (
    Format, copy_bytes, is_plain, load_padded_row, load_row, store_row,
)
from fastconv._kernels.scratch cimport Layout, allocate, release, take
from fastconv._kernels.stream cimport LINE_BYTES
from fastconv._kernels.sums cimport Sums, add_slices
from fastconv._kernels.tile cimport (
    FLOPS_PER_BYTE, PLANAR_TAPS, PLANAR_VECTORS, SUM_TERMS, TILE_PIXELS, TILE_ROWS, TILE_VECTORS,
    Tiles,
)
from fastconv._kernels.vectors cimport VECTOR_BYTES
from fastconv._kernels.window cimport Axis, Window, ceil_div, larger, smaller, window_of

cnp.import_array()
import_microkernels()

level = LEVEL.decode()

cdef enum:
    # The largest number of outputs per call of the register tile: their packed gradients fit into
    # L1.
    STEP_PIXELS = 256
    # The largest numbers of slices of the outputs, and of bytes of their sums.
    SLICES = 32
    SLICE_BYTES = 2 << 20
    # The smallest number of gradients of a slice of the bias.
    SLICE_PIXELS = 4096


# ---- the plan ----------------------------------------------------------------------------------

cdef struct Scratch:
    # Offsets in an item's scratch, which begins with a line that tells what the thread has left.
    size_t band  # The image's pixels.
    size_t grads  # Gradients, packed or in rows of whole vectors.
    size_t rows  # Rows of gradients that are converted before they are packed.


cdef struct Plan:
    Band band  # A band of the image.
    Planes grad
    Format out_format
    char *out
    Py_ssize_t batch, groups
    Py_ssize_t filters  # The number of filters of a group.
    Py_ssize_t bytes  # Bytes of a number in scratch.
    Py_ssize_t kernel_h, kernel_w
    Py_ssize_t steps  # The number of weights of a filter.
    Source reading
    bint planar  # Lanes are pixels.
    bint framed  # The padding of all planes is the same zeros, which a thread writes once.
    Py_ssize_t images, bands  # The numbers of images of a band, and of all bands.
    Py_ssize_t block_filters  # The number of filters of a block.
    Py_ssize_t padded_filters  # The number of lanes of a group's filters, empty ones included.
    Py_ssize_t split_filters, split_channels  # The numbers of filters and channels of an item.
    Py_ssize_t splits_f, splits_c  # The numbers of items along filters and along channels.
    Py_ssize_t slices, slice_bytes
    Py_ssize_t pixels  # The number of outputs of a band.
    Py_ssize_t image_bytes  # Bytes of an image in scratch.
    Py_ssize_t row_bytes  # Bytes from a tap (kh, kw) to the tap (kh + 1, kw).
    Py_ssize_t grad_pitch  # The number of gradients from one row to the next, if lanes are pixels.
    Py_ssize_t chunk  # The number of taps that are gathered together.
    Py_ssize_t n_offsets
    Layout tables, scratch
    size_t sums, offsets  # Offsets in the tables.
    Scratch at
    double moved
    int threads
    const Tiles *tiles
    const Sums *add


cdef struct Call:
    # A plan and its tables. The sums lie as [slice][group][block][step][filter] or, where lanes are
    # pixels, as [slice] and then as the weight. There is an offset of every output in the band or,
    # where lanes are pixels, of every tap.
    const Plan *plan
    char *sums
    int32_t *offsets


cdef inline double grad_bytes(const Plan *plan, Py_ssize_t rows, Py_ssize_t columns) noexcept:
    """Return the bytes of a rectangle's gradients, with room to pack a block of them."""
    cdef Py_ssize_t filters = plan.filters
    if not plan.planar:
        filters += 3 * TILE_VECTORS * plan.tiles.lanes
    return <double>plan.bytes * filters * rows * columns


cdef inline Py_ssize_t rows_per_sum(const Plan *plan, Py_ssize_t columns) noexcept nogil:
    """Return the number of rows that are summed in one register where lanes are pixels."""
    return larger(1, SUM_TERMS // ceil_div(columns, plan.tiles.lanes))


cdef void cut_columns(Plan *plan) noexcept:
    """Decide how the image is read, and how many columns of outputs a band has."""
    cdef Band *band = &plan.band
    cdef Py_ssize_t columns = band.w.last - band.w.first
    band.w.size = smaller(columns, MOST_PIXELS if plan.planar else MOST_COLUMNS)
    while band.w.size > 1 and (
        band_bytes(band, 1, band.w.size) + grad_bytes(plan, 1, band.w.size) > LIMIT_BYTES
    ):
        band.w.size = (band.w.size + 1) // 2
    if plan.reading == IN_BAND and band_bytes(band, 1, band.w.size) > LIMIT_BYTES / 2:
        plan.reading = GATHERED
        plan.planar = False
        band.w.size = smaller(columns, RUN_PIXELS)
        while band.w.size > 1 and grad_bytes(plan, 1, band.w.size) > LIMIT_BYTES / 4:
            band.w.size = (band.w.size + 1) // 2


cdef void cut_bands(Plan *plan) noexcept:
    """Cut the outputs into bands."""
    cdef Band *band = &plan.band
    cdef Py_ssize_t rows = band.h.last - band.h.first, columns = band.w.last - band.w.first
    cdef double size, more
    cut_columns(plan)
    band.h.size = 1
    if plan.reading == IN_BAND and band.w.size == columns and rows > 1:
        size = band_bytes(band, 1, columns) + grad_bytes(plan, 1, columns)
        more = band_bytes(band, 2, columns) + grad_bytes(plan, 2, columns) - size
        band.h.size += <Py_ssize_t>min(max(0.0, (BAND_BYTES - size) / more), <double>(rows - 1))
    plan.images = 1
    if plan.reading == IN_BAND and not plan.planar and band.h.size == rows:
        size = band_bytes(band, rows, columns) + grad_bytes(plan, rows, columns)
        plan.images = smaller(
            smaller(plan.batch, ceil_div(STEP_PIXELS, rows * columns)),
            larger(1, <Py_ssize_t>(BAND_BYTES / size)),
        )
    band.h.size, band.w.size = even_size(rows, band.h.size, 1), even_size(columns, band.w.size, 1)
    band.h.items, band.w.items = ceil_div(rows, band.h.size), ceil_div(columns, band.w.size)
    lay_out(band)
    plan.framed = False
    if plan.planar and band.channels == band.h.items == band.w.items == 1:
        # Small planes are summed in one register together.
        plan.images = smaller(plan.batch, larger(1, rows_per_sum(plan, columns) // rows))
        plan.framed = has_frame(band)
    plan.bands = ceil_div(plan.batch, plan.images) * band.h.items * band.w.items


cdef void cut_weight(Plan *plan) noexcept:
    """Cut the bands into slices and then, for more items, the filters and channels.

    Each range of filters reads the whole image, and each range of channels reads all gradients.
    """
    cdef Py_ssize_t wanted = wanted_items(plan.threads), channels = plan.band.channels
    cdef Py_ssize_t lanes = plan.tiles.lanes, blocks, pieces
    cdef double size
    plan.block_filters, plan.padded_filters = 1, plan.filters
    if not plan.planar:
        plan.block_filters = TILE_VECTORS * lanes
        plan.padded_filters = ceil_div(plan.filters, lanes) * lanes
    size = <double>plan.groups * plan.padded_filters * plan.steps * plan.bytes
    plan.slices = smaller(
        smaller(SLICES, plan.bands), larger(1, <Py_ssize_t>(SLICE_BYTES / size))
    )
    plan.splits_f = plan.splits_c = 1
    blocks = ceil_div(plan.filters, plan.block_filters)
    while plan.slices * plan.groups * plan.splits_f * plan.splits_c < wanted and (
        plan.splits_f < blocks or plan.splits_c < channels
    ):
        if plan.splits_f < blocks and (
            plan.splits_f <= plan.splits_c or plan.splits_c >= channels
        ):
            plan.splits_f = smaller(2 * plan.splits_f, blocks)
        else:
            plan.splits_c = smaller(2 * plan.splits_c, channels)
    pieces = ceil_div(blocks, plan.splits_f)
    plan.split_filters, plan.splits_f = pieces * plan.block_filters, ceil_div(blocks, pieces)
    plan.split_channels = ceil_div(channels, plan.splits_c)
    plan.splits_c = ceil_div(channels, plan.split_channels)


cdef void lay_out_memory(Plan *plan) noexcept:
    """Lay out the tables, and the scratch of an item."""
    cdef Band *band = &plan.band
    cdef Py_ssize_t lanes = plan.tiles.lanes
    cdef double slice_bytes = <double>plan.groups * plan.padded_filters * plan.steps * plan.bytes
    plan.pixels = plan.images * band.h.size * band.w.size
    plan.grad_pitch = ceil_div(band.w.size, lanes) * lanes
    plan.row_bytes = stored_row(&band.h, band.h.source.dilation) * band.pitch * plan.bytes
    plan.image_bytes = 0
    if plan.reading == IN_BAND:
        plan.image_bytes = plan.split_channels * band.channel_rows * band.pitch * plan.bytes
    elif plan.reading == GATHERED:
        plan.chunk = smaller(plan.steps, LIMIT_BYTES // 2 // (band.w.size * plan.bytes))
        plan.image_bytes = plan.chunk * band.w.size * plan.bytes
    plan.slice_bytes = <Py_ssize_t>min(slice_bytes, 1e18)
    plan.n_offsets = plan.kernel_h * plan.kernel_w if plan.planar else plan.pixels
    plan.tables.bytes = plan.scratch.bytes = 0
    plan.sums = take(&plan.tables, plan.slices * slice_bytes)
    plan.offsets = take(&plan.tables, plan.n_offsets * sizeof(int32_t))
    take(&plan.scratch, LINE_BYTES)
    # Vectors of pixels are read beyond the last row.
    plan.at.band = take(
        &plan.scratch, plan.images * plan.image_bytes + PLANAR_VECTORS * VECTOR_BYTES
    )
    if plan.planar:
        plan.at.grads = take(
            &plan.scratch,
            plan.bytes * (plan.images * band.h.size * plan.grad_pitch + lanes),
        )
    else:
        plan.at.grads = take(&plan.scratch, plan.split_filters * plan.pixels * plan.bytes)
        plan.at.rows = take(&plan.scratch, plan.block_filters * plan.pixels * plan.bytes)


cdef void fill_offsets(const Plan *plan, int32_t *offsets) noexcept:
    """Compute the offsets of outputs in the band or, where lanes are pixels, of taps."""
    cdef const Band *band = &plan.band
    cdef Py_ssize_t i = 0, n, y, x, image
    if plan.planar:
        for i in range(plan.n_offsets):
            y = stored_row(&band.h, i // plan.kernel_w * band.h.source.dilation)
            x = column(band, i % plan.kernel_w * band.w.source.dilation)
            offsets[i] = <int32_t>(y * band.pitch + x)
        return
    if plan.reading != IN_BAND:
        for i in range(plan.n_offsets):
            offsets[i] = <int32_t>i
        return
    for n in range(plan.images):
        image = n * (plan.image_bytes // plan.bytes)
        for y in range(band.h.size):
            for x in range(band.w.size):
                offsets[i] = <int32_t>(
                    image + y * band.h.kept_phases * band.pitch
                    + column(band, x * band.w.source.stride)
                )
                i += 1


# ---- one item ----------------------------------------------------------------------------------

cdef struct Outputs:
    # The outputs of a band.
    Py_ssize_t n, images, top, rows, left, columns


cdef struct Share:
    # The filters and channels of an item, and the sums of its slice and group.
    Py_ssize_t g, f0, f1, c0, c1
    char *sums


cdef struct Rows:
    # Source pixels: `count` rows of `kernel_w` taps, `kernel_h` of them for every channel.
    const char *data
    Py_ssize_t channel_bytes, row_bytes, kernel_h, kernel_w, count


cdef struct Steps:
    # Packed gradients of a block of filters, and the first of their offsets.
    const char *packed
    const int32_t *offsets
    Py_ssize_t count, vectors


cdef inline Outputs outputs_of(const Plan *plan, Py_ssize_t band) noexcept nogil:
    cdef const Side *h = &plan.band.h
    cdef const Side *w = &plan.band.w
    cdef Outputs it
    it.left, it.top = band % w.items * w.size, band // w.items % h.items * h.size
    it.columns, it.rows = smaller(w.size, w.last - it.left), smaller(h.size, h.last - it.top)
    it.n = band // (w.items * h.items) * plan.images
    it.images = smaller(plan.images, plan.batch - it.n)
    return it


cdef inline Py_ssize_t lanes_of_block(const Plan *plan, Py_ssize_t f) noexcept nogil:
    return smaller(plan.block_filters, plan.padded_filters - f)


cdef void pack_grads(
    const Plan *plan, const Outputs *it, Py_ssize_t image, Py_ssize_t g, Py_ssize_t f, char *to,
    char *scratch,
) noexcept nogil:
    """Transpose an image's gradients of a block of filters to [pixel][filter]."""
    cdef const Planes *grad = &plan.grad
    cdef Py_ssize_t vectors = lanes_of_block(plan, f) // plan.tiles.lanes, i, y
    cdef Py_ssize_t filters = smaller(plan.block_filters, plan.filters - f)
    cdef Py_ssize_t pixels = it.rows * it.columns
    cdef const char *source = (
        grad.data + (it.n + image) * grad.stride_n + (g * plan.filters + f) * grad.stride_c
        + it.top * grad.stride_h + it.left * grad.stride_w
    )
    if (
        is_plain(grad.format, grad.stride_w, source) and grad.stride_c % plan.bytes == 0
        and (it.rows == 1 or grad.stride_h == it.columns * plan.bytes)
    ):
        plan.tiles.pack(to, source, grad.stride_c // plan.bytes, filters, pixels, vectors, 0)
        return
    for i in range(filters):
        for y in range(it.rows):
            load_row(
                scratch + (i * plan.pixels + y * it.columns) * plan.bytes,
                source + i * grad.stride_c + y * grad.stride_h, it.columns, grad.stride_w,
                grad.format,
            )
    plan.tiles.pack(to, scratch, plan.pixels, filters, pixels, vectors, 0)


cdef void multiply_grads(
    const Plan *plan, const Steps *steps, const Rows *rows, char *sums
) noexcept nogil:
    """Add the products of a block of gradients with rows (c, kh) of the source."""
    cdef const void *sources[TILE_ROWS]
    cdef Py_ssize_t pieces = ceil_div(rows.kernel_w, TILE_PIXELS), piece, kw, end, r, i = 0
    cdef Py_ssize_t n = smaller(TILE_ROWS, larger(1, TILE_PIXELS // rows.kernel_w))
    while i < rows.count:
        n = smaller(n, rows.count - i)
        kw = 0
        for piece in range(pieces):
            end = (piece + 1) * rows.kernel_w // pieces
            for r in range(n):
                sources[r] = rows.data + (i + r) // rows.kernel_h * rows.channel_bytes + (
                    (i + r) % rows.kernel_h * rows.row_bytes + kw * plan.bytes
                )
            plan.tiles.multiply(
                sums + (i * rows.kernel_w + kw) * steps.vectors * VECTOR_BYTES, NULL,
                steps.packed, sources, steps.offsets, steps.count, SUM_TERMS, n, end - kw,
                steps.vectors, steps.packed, 0,
            )
            kw = end
        i += n


cdef void multiply_blocks(
    const Call *call, const Share *share, const char *grads, Py_ssize_t pixels,
    Py_ssize_t first_step, const Rows *rows,
) noexcept nogil:
    """Add the products of all gradients of a band with the source's rows, for an item's filters.

    A call of the register tile takes at most STEP_PIXELS outputs, so that their gradients stay in
    L1.
    """
    cdef const Plan *plan = call.plan
    cdef Py_ssize_t pieces = ceil_div(pixels, STEP_PIXELS), p = 0, piece, end, f, lanes
    cdef Steps steps
    for piece in range(pieces):
        end = (piece + 1) * pixels // pieces
        f = share.f0
        while f < share.f1:
            lanes = lanes_of_block(plan, f)
            steps.packed = grads + ((f - share.f0) * plan.pixels + p * lanes) * plan.bytes
            steps.offsets, steps.count = call.offsets + p, end - p
            steps.vectors = lanes // plan.tiles.lanes
            multiply_grads(
                plan, &steps, rows,
                share.sums + (f * plan.steps + first_step * lanes) * plan.bytes,
            )
            f += plan.block_filters
        p = end


cdef void gather_grads(
    const Call *call, const Share *share, const Outputs *it, char *scratch, const char *grads
) noexcept nogil:
    """Add the products of a band whose windows are too large for scratch: each tap is copied."""
    cdef const Plan *plan = call.plan
    cdef const Axis *h = &plan.band.h.source
    cdef const Axis *w = &plan.band.w.source
    cdef Py_ssize_t taps = plan.kernel_h * plan.kernel_w, first = share.c0 * taps, last, k
    cdef Rows rows
    rows.data, rows.row_bytes, rows.channel_bytes = scratch, 0, plan.band.w.size * plan.bytes
    rows.kernel_h = rows.kernel_w = 1
    while first < share.c1 * taps:
        last = smaller(first + plan.chunk, share.c1 * taps)
        rows.count = last - first
        for k in range(first, last):
            load_padded_row(
                scratch + (k - first) * rows.channel_bytes,
                padded_row(
                    &plan.band.source,
                    plan.band.source.data + it.n * plan.band.source.stride_n
                    + (share.g * plan.band.channels + k // taps) * plan.band.source.stride_c,
                    h, it.top * h.stride + k % taps // plan.kernel_w * h.dilation,
                ),
                it.left * w.stride + k % plan.kernel_w * w.dilation, w.stride, it.columns,
                plan.band.source.stride_w, w, plan.band.source.format, NULL,
            )
        multiply_blocks(call, share, grads, it.columns, first, &rows)
        first = last


cdef void load_grads(
    const Plan *plan, const Outputs *it, Py_ssize_t plane, char *to
) noexcept nogil:
    """Copy a filter's gradients of a band to rows of whole vectors."""
    cdef const Planes *grad = &plan.grad
    cdef Py_ssize_t i, _y
    cdef const char *source
    for i in range(it.images):
        source = (
            grad.data + (it.n + i) * grad.stride_n + plane * grad.stride_c
            + it.top * grad.stride_h + it.left * grad.stride_w
        )
        for _y in range(it.rows):
            if is_plain(grad.format, grad.stride_w, source) and plan.bytes % 4 == 0:
                copy_bytes(to, source, it.columns * plan.bytes)
            else:
                load_row(to, source, it.columns, grad.stride_w, grad.format)
            source += grad.stride_h
            to += plan.grad_pitch * plan.bytes


cdef void correlate_grads(
    const Call *call, const Share *share, const Outputs *it, const char *band_data, char *grads
) noexcept nogil:
    """Add the products of a band where lanes are pixels."""
    cdef const Plan *plan = call.plan
    cdef const Band *band = &plan.band
    cdef Py_ssize_t taps = plan.kernel_h * plan.kernel_w, f, c, y, t, end, bytes = plan.bytes
    cdef Py_ssize_t source_pitch = band.h.kept_phases * band.pitch
    cdef Py_ssize_t sum_rows = rows_per_sum(plan, it.columns)
    cdef const char *source
    for f in range(share.f0, share.f1):
        load_grads(plan, it, share.g * plan.filters + f, grads)
        for c in range(share.c0, share.c1):
            source = band_data + (c - share.c0) * band.channel_rows * band.pitch * bytes
            y = 0
            while y < it.rows:
                t = 0
                while t < taps:
                    end = smaller(t + PLANAR_TAPS, taps)
                    plan.tiles.correlate_taps(
                        share.sums + (f * plan.steps + c * taps + t) * bytes,
                        grads + y * plan.grad_pitch * bytes, plan.grad_pitch,
                        source + y * source_pitch * bytes, source_pitch,
                        smaller(sum_rows, it.rows - y), it.columns, it.images,
                        plan.image_bytes // bytes, call.offsets + t, end - t,
                    )
                    t = end
                y += sum_rows


cdef void load_image(
    const Plan *plan, const Share *share, const Outputs *it, char *band, Py_ssize_t *held
) noexcept nogil:
    """Copy what the outputs of a band depend on.

    `held` tells whether an earlier item has left the padding in scratch.
    """
    cdef Py_ssize_t i
    if plan.framed and not held[0]:
        memset(band, 0, plan.images * plan.image_bytes)
        held[0] = True
    for i in range(it.images):
        if plan.framed:
            load_inside(&plan.band, it.n + i, share.g, band + i * plan.image_bytes)
        else:
            load_band(
                &plan.band,
                Region(
                    it.n + i, share.g * plan.band.channels + share.c0, share.c1 - share.c0, it.top,
                    it.rows, it.left, it.columns,
                ),
                band + i * plan.image_bytes,
            )


cdef void pack_share(
    const Plan *plan, const Share *share, const Outputs *it, char *grads, char *scratch
) noexcept nogil:
    """Pack the gradients of a band for all filters of an item."""
    cdef Py_ssize_t f = share.f0, i, pixels = it.rows * it.columns
    while f < share.f1:
        for i in range(it.images):
            pack_grads(
                plan, it, i, share.g, f,
                grads + plan.bytes * (
                    (f - share.f0) * plan.pixels + i * pixels * lanes_of_block(plan, f)
                ),
                scratch,
            )
        f += plan.block_filters


cdef void sum_band(
    const Call *call, const Share *share, Py_ssize_t band, char *scratch
) noexcept nogil:
    """Add the products of one band to the gradients of an item's filters and channels."""
    cdef const Plan *plan = call.plan
    cdef const Planes *source = &plan.band.source
    cdef Outputs it = outputs_of(plan, band)
    cdef Py_ssize_t channels = share.c1 - share.c0, pixels = it.images * it.rows * it.columns
    cdef char *copied = scratch + plan.at.band
    cdef char *grads = scratch + plan.at.grads
    cdef Rows rows
    if plan.reading == IN_BAND:
        load_image(plan, share, &it, copied, <Py_ssize_t *>scratch)
    if plan.planar:
        correlate_grads(call, share, &it, copied, grads)
        return
    pack_share(plan, share, &it, grads, scratch + plan.at.rows)
    if plan.reading == GATHERED:
        gather_grads(call, share, &it, copied, grads)
        return
    rows.data, rows.row_bytes = copied, plan.row_bytes
    rows.channel_bytes = plan.band.channel_rows * plan.band.pitch * plan.bytes
    rows.kernel_h, rows.kernel_w = plan.kernel_h, plan.kernel_w
    if plan.reading == IN_PLACE:
        rows.data = (
            source.data + it.n * source.stride_n
            + (share.g * plan.band.channels + share.c0) * source.stride_c + it.left * plan.bytes
        )
        rows.channel_bytes = source.stride_c
    rows.count = channels * rows.kernel_h
    multiply_blocks(
        call, share, grads, pixels, share.c0 * plan.kernel_h * plan.kernel_w, &rows
    )


cdef void sum_slice(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    """Sum a slice of the outputs for a range of filters and channels."""
    cdef const Call *call = <const Call *>data
    cdef const Plan *plan = call.plan
    cdef Py_ssize_t slice, band, f, lanes, taps = plan.kernel_h * plan.kernel_w
    cdef Share share
    share.c0 = item % plan.splits_c * plan.split_channels
    share.c1 = smaller(share.c0 + plan.split_channels, plan.band.channels)
    share.f0 = item // plan.splits_c % plan.splits_f * plan.split_filters
    share.f1 = smaller(share.f0 + plan.split_filters, plan.filters)
    item //= plan.splits_c * plan.splits_f
    share.g, slice = item % plan.groups, item // plan.groups
    share.sums = (
        call.sums + slice * plan.slice_bytes
        + share.g * plan.padded_filters * plan.steps * plan.bytes
    )
    f = share.f0
    while f < share.f1:
        lanes = lanes_of_block(plan, f)
        memset(
            share.sums + (f * plan.steps + share.c0 * taps * lanes) * plan.bytes, 0,
            (share.c1 - share.c0) * taps * lanes * plan.bytes,
        )
        f += plan.block_filters
    for band in range(
        slice * plan.bands // plan.slices, (slice + 1) * plan.bands // plan.slices
    ):
        sum_band(call, &share, band, scratch)


cdef void join_slices(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    """Add the slices of a block of filters pairwise, and write its gradient."""
    cdef const Call *call = <const Call *>data
    cdef const Plan *plan = call.plan
    cdef Py_ssize_t blocks = ceil_div(plan.filters, plan.block_filters)
    cdef Py_ssize_t g = item // blocks, f = item % blocks * plan.block_filters
    cdef Py_ssize_t lanes = lanes_of_block(plan, f), filters = smaller(lanes, plan.filters - f)
    cdef Py_ssize_t piece, k, i, count, pitch = STEP_PIXELS + plan.tiles.lanes
    cdef Py_ssize_t bytes = plan.bytes
    cdef char *sums = call.sums + (g * plan.padded_filters + f) * plan.steps * bytes
    cdef char *to = plan.out + (g * plan.filters + f) * plan.steps * plan.out_format.bytes
    add_slices(plan.add, sums, plan.slices, plan.slice_bytes, lanes * plan.steps)
    if plan.planar:
        store_row(to, sums, plan.steps, plan.out_format)
        return
    for piece in range(ceil_div(plan.steps, STEP_PIXELS)):
        k = piece * STEP_PIXELS
        count = smaller(STEP_PIXELS, plan.steps - k)
        plan.tiles.unpack(
            scratch, pitch, sums + k * lanes * bytes, count, lanes // plan.tiles.lanes
        )
        for i in range(filters):
            store_row(
                to + (i * plan.steps + k) * plan.out_format.bytes, scratch + i * pitch * bytes,
                count, plan.out_format,
            )


# ---- one call ----------------------------------------------------------------------------------

cdef void describe(
    Plan *plan, cnp.ndarray grad, cnp.ndarray image, cnp.ndarray out, const Window *window,
    Py_ssize_t groups,
) noexcept:
    memset(plan, 0, sizeof(plan[0]))
    plan.batch, plan.groups = cnp.PyArray_DIM(image, 0), groups
    plan.out, plan.out_format = <char *>cnp.PyArray_DATA(out), computed_format(out)
    plan.bytes = plan.out_format.scratch_bytes
    plan.tiles, plan.add = tiles_of(plan.out_format.number), sums_of(plan.out_format.number)
    plan.filters = cnp.PyArray_DIM(out, 0) // groups
    plan.kernel_h, plan.kernel_w = window.h.kernel, window.w.kernel
    plan.band.channels = cnp.PyArray_DIM(out, 1)
    plan.steps = plan.band.channels * plan.kernel_h * plan.kernel_w
    plan.grad = planes_of(grad, converted_format(grad, plan.out_format.number))
    plan.band.source = planes_of(image, converted_format(image, plan.out_format.number))
    plan.planar = plan.filters <= FEW_FILTERS


cdef void make_plan(Plan *plan, Window window, Phase *phases, int threads) noexcept:
    """Cut everything into items.

    Sums run over the outputs of a band, the bands of a slice, and the slices. None of these
    depends on the number of threads.
    """
    cdef Axis *h = &window.h
    cdef Axis *w = &window.w
    plan.moved += (
        2.0 / FLOPS_PER_BYTE * plan.batch * plan.groups * plan.filters * plan.steps
        * <double>h.out * w.out
    )
    plan.threads = useful_threads(plan.moved, threads)
    if (
        reads_in_place(&plan.band.source, h, w, plan.planar)
        and plan.grad.stride_h == w.out * plan.grad.stride_w
    ):
        plan.reading = IN_PLACE
        w.size = w.out = h.size * w.size
        h.size = h.out = 1
    plan.band.h.phases, plan.band.w.phases = phases, phases + 1
    plan_forward(&plan.band.h, h)
    plan_forward(&plan.band.w, w)
    if not plan.planar:  # Rows are de-interleaved so that neighbouring taps are contiguous.
        plan.band.w.column_phases = w.dilation if w.kernel > 1 else w.stride
        plan.band.w.kept_phases = w.dilation if w.kernel > 1 else 1
    cut_bands(plan)
    cut_weight(plan)
    lay_out_memory(plan)


def weight_gradient(
    cnp.ndarray grad, cnp.ndarray image, cnp.ndarray out, cnp.ndarray window, Py_ssize_t groups,
    int threads,
):
    """Write the gradient of the weight (f, c/groups, kh, kw), given that of the output."""
    cdef Plan plan
    cdef FlatGradient flat
    cdef Call call
    cdef Phase phases[2]
    cdef char *tables
    if cnp.PyArray_DIM(image, 0) == 0:
        memset(cnp.PyArray_DATA(out), 0, cnp.PyArray_NBYTES(out))
        return
    if make_flat_gradient(&flat, grad, image, out, window_of(window), groups):
        execute_flat_gradient(&flat, threads)
        return
    describe(&plan, grad, image, out, window_of(window), groups)
    plan.moved = cnp.PyArray_NBYTES(grad)
    make_plan(&plan, window_of(window)[0], phases, threads)
    tables = allocate(plan.tables.bytes, "sums")
    try:
        call.plan, call.sums = &plan, tables + plan.sums
        call.offsets = <int32_t *>(tables + plan.offsets)
        fill_offsets(&plan, call.offsets)
        for_each(
            sum_slice, &call, plan.slices * groups * plan.splits_f * plan.splits_c,
            <size_t>plan.scratch.bytes, plan.moved, plan.threads,
        )
        for_each(
            join_slices, &call, groups * ceil_div(plan.filters, plan.block_filters),
            plan.block_filters * (STEP_PIXELS + plan.tiles.lanes) * plan.bytes, plan.tables.bytes,
            useful_threads(plan.tables.bytes, plan.threads),
        )
    finally:
        release(tables)


# ---- the bias ----------------------------------------------------------------------------------

cdef struct BiasJob:
    Planes grad
    Py_ssize_t height, width, filters
    Py_ssize_t rows, slices  # The number of rows of all images, and of slices of them.
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
    job.grad = planes_of(grad, converted_format(grad, format.number))
    job.filters = cnp.PyArray_DIM(grad, 1)
    job.height, job.width = cnp.PyArray_DIM(grad, 2), cnp.PyArray_DIM(grad, 3)
    job.rows = cnp.PyArray_DIM(grad, 0) * job.height
    job.slices = smaller(
        smaller(SLICES, job.rows), larger(1, job.rows * job.width // SLICE_PIXELS)
    )
    job.tiles = tiles_of(format.number)
    job.sums = <double *>allocate(<double>job.slices * job.filters * sizeof(double), "sums")
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
                <void *>&rounded if format.number == FLOAT32 else <void *>&sum, 1, format,
            )
    finally:
        release(<char *>job.sums)
