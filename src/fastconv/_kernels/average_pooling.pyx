"""Average pooling and its gradient.

    out[oh, ow] = sum over (kh, kw) of image[oh*SH + kh - top, ow*SW + kw - left],
                  divided by the number of positions

pooling.pxd explains how taps are read. The rows of a window are added up apart, because sums of
short sums lose fewer digits.

The gradient of a pixel is the sum of the shares of the outputs whose windows contain it. Pixels of
one phase, (y % SH, x % SW), are sums of the same taps: the pixel in row Q and column q of its phase
adds up shares[Q - i, q - j] for i < KH / SH and j < KW / SW, rounded up for the first KH % SH (or
KW % SW) phases and down for the others. So there are at most four different sums, whatever the
strides are. An item is a band of pixel rows of one plane: shares with zeros around them are in
scratch, and lanes of vectors are pixels of a phase, which run on from row to row. If rows are too
long or windows too large for that, rows are made one by one, as `scatter_rows` in columns.pyx does.
"""

from libc.string cimport memcpy, memset

cimport numpy as cnp

from fastconv._kernels.average cimport Averages, averages_of
from fastconv._kernels.level cimport LEVEL
from fastconv._kernels.microkernels cimport import_microkernels, sums_of
from fastconv._kernels.parallel cimport for_each, rows_per_item, useful_threads
from fastconv._kernels.planes cimport Planes, averaged_format, plane_at, plane_count, planes_of
from fastconv._kernels.pooling cimport (
    BAND_BYTES, SCRATCH_BYTES, TAPS, Outputs, PoolPlan, Pooling, describe_pooling, find_outputs,
    run_pool, store_best, take_all_taps,
)
from fastconv._kernels.rows cimport AS_IS, interleave_rows, load_row
from fastconv._kernels.scratch cimport Layout, take
from fastconv._kernels.stream cimport STREAM_FROM_BYTES, stream_fence
from fastconv._kernels.sums cimport Sums
from fastconv._kernels.target cimport Target, store_run, target_of
from fastconv._kernels.window cimport (
    Axis, Window, ceil_div, larger, padded_size, reach, smaller, window_of,
)

cnp.import_array()
import_microkernels()

level = LEVEL.decode()


cdef inline Py_ssize_t positions(
    const Axis *axis, Py_ssize_t out, bint with_padding
) noexcept nogil:
    """The number of positions that an average is taken over: not those beyond the padding."""
    cdef Py_ssize_t first = out * axis.stride
    if with_padding:
        return smaller(axis.kernel, padded_size(axis) - first)
    return smaller(first + axis.kernel, axis.before + axis.size) - larger(first, axis.before)


cdef inline bint all_alike(const Axis *axis, bint with_padding) noexcept nogil:
    """Return whether all outputs have `kernel` positions."""
    return reach(axis, axis.out) <= padded_size(axis) and (
        with_padding or not axis.before + axis.after
    )


cdef inline Py_ssize_t positions_of_all(const Window *window, bint with_padding) noexcept nogil:
    """Return the number of positions of each window, or 0 if windows differ."""
    if all_alike(&window.h, with_padding) and all_alike(&window.w, with_padding):
        return window.h.kernel * window.w.kernel
    return 0


# ---- means -------------------------------------------------------------------------------------

cdef struct Means:
    const Averages *averages
    bint count_include_pad
    Py_ssize_t all_positions  # What all sums are divided by; 0 if windows differ.


cdef inline const Means *means_of(const PoolPlan *plan) noexcept nogil:
    return <const Means *>plan.pooling.job


cdef inline void start_averages(const PoolPlan *plan, Outputs *outputs) noexcept nogil:
    """Count the positions of each column of outputs."""
    cdef const Axis *w = &plan.pooling.window.w
    cdef Py_ssize_t i
    if not means_of(plan).all_positions:
        for i in range(outputs.columns):
            outputs.per_column[i] = positions(w, outputs.left + i, means_of(plan).count_include_pad)


cdef void update_sums(const PoolPlan *plan, Outputs *outputs) noexcept nogil:
    means_of(plan).averages.add_taps(
        outputs.best, outputs.taps, outputs.n_taps, smaller(outputs.row_taps, outputs.n_taps),
        outputs.slots, outputs.begun,
    )


cdef inline void divide_sums(const PoolPlan *plan, const Outputs *outputs) noexcept nogil:
    cdef Py_ssize_t row_bytes = plan.pitch * plan.pooling.image.format.scratch_bytes, i, r, count
    cdef Py_ssize_t plane_bytes = plan.plane_slots * plan.pooling.image.format.scratch_bytes
    if means_of(plan).all_positions:
        means_of(plan).averages.divide_all(
            outputs.best, means_of(plan).all_positions, outputs.slots
        )
        return
    for r in range(outputs.rows):
        count = positions(
            &plan.pooling.window.h, outputs.top + r, means_of(plan).count_include_pad
        )
        for i in range(outputs.planes):
            means_of(plan).averages.divide(
                outputs.best + i * plane_bytes + r * row_bytes, count, outputs.per_column,
                outputs.columns,
            )


cdef void average(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    """Compute the means of an item."""
    cdef const PoolPlan *plan = <const PoolPlan *>data
    cdef Outputs outputs
    find_outputs(plan, item, scratch, &outputs)
    start_averages(plan, &outputs)
    take_all_taps(plan, &outputs)
    divide_sums(plan, &outputs)
    store_best(plan, &outputs)
    if plan.pooling.target.past_caches:
        stream_fence()


def avg_pool(
    cnp.ndarray image, cnp.ndarray out, cnp.ndarray window, bint count_include_pad, int threads
):
    """Write the averages of images (n, c, h, w) to `out` (C-contiguous)."""
    cdef Pooling pooling
    cdef Means means
    if plane_count(image) == 0:
        return
    memset(&pooling, 0, sizeof(pooling))
    describe_pooling(&pooling, image, averaged_format(image), out, window)
    means.averages = averages_of(pooling.image.format.number)
    means.count_include_pad = count_include_pad
    means.all_positions = positions_of_all(&pooling.window, count_include_pad)
    pooling.job, pooling.update, pooling.by_rows = &means, update_sums, True
    run_pool(average, &pooling, threads)


# ---- the gradient ------------------------------------------------------------------------------

cdef struct AverageGradientScratch:
    # Offsets in an item's scratch.
    size_t columns  # The number of positions of each column of outputs.
    size_t share  # What each output of a row gives to each of its pixels.
    size_t row  # A row of the result.
    size_t sums  # The sums of a padded row, in phases, or `row` itself; in bands, the four sums.
    size_t band  # The shares of a band, with zeros around them.


cdef struct AverageGradientPlan:
    Window window
    Planes grad  # The gradient of the output.
    Target target
    Py_ssize_t planes
    Py_ssize_t band_h, bands_h  # Rows of an item; items of a plane.
    Py_ssize_t phase_length  # 0 if a padded row in phases would be too long.
    Py_ssize_t sums_bytes
    bint count_include_pad
    Py_ssize_t all_positions  # As in Means.
    const Sums *sums
    const Averages *averages
    bint in_bands
    Py_ssize_t pitch  # Elements from one row of shares, or of sums, to the next.
    Py_ssize_t band_sums_bytes  # From one of the four sums to the next.
    Layout scratch
    AverageGradientScratch at
    double moved
    int threads


cdef inline void add_shares(
    const AverageGradientPlan *plan, const char *grads, Py_ssize_t oh, char *scratch
) noexcept nogil:
    """Add the shares of a row of outputs to the sums of a row of pixels in their windows."""
    cdef const Axis *w = &plan.window.w
    cdef Py_ssize_t bytes = plan.grad.format.scratch_bytes, kw, ow, iw, x
    cdef char *share = scratch + plan.at.share
    cdef char *sums = scratch + plan.at.sums
    load_row(
        share, grads + oh * plan.grad.stride_h, w.out, plan.grad.stride_w, plan.grad.format
    )
    plan.averages.divide(
        share, positions(&plan.window.h, oh, plan.count_include_pad),
        <Py_ssize_t *>(scratch + plan.at.columns), w.out,
    )
    if plan.phase_length:
        for kw in range(w.kernel):
            plan.sums.add_row(
                sums + (kw % w.stride * plan.phase_length + kw // w.stride) * bytes, share, w.out
            )
        return
    for ow in range(w.out):
        x = ow * w.stride - w.before
        for iw in range(larger(x, 0), smaller(x + w.kernel, w.size)):
            plan.sums.add_element(sums, iw, share, ow)


cdef void average_gradient(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    """Compute rows of one plane: each output's share is added to each pixel of its window."""
    cdef const AverageGradientPlan *plan = <const AverageGradientPlan *>data
    cdef const Axis *h = &plan.window.h
    cdef const Axis *w = &plan.window.w
    cdef Py_ssize_t plane = item // plan.bands_h, top = item % plan.bands_h * plan.band_h
    cdef Py_ssize_t row_bytes = w.size * plan.target.format.bytes
    cdef const char *grads = plane_at(&plan.grad, plane)
    cdef Py_ssize_t *columns = <Py_ssize_t *>(scratch + plan.at.columns)
    cdef char *row = scratch + plan.at.row
    cdef char *sums = scratch + plan.at.sums
    cdef Py_ssize_t ih, oh, ow, y, first, last, first_before = 0, last_before = -2
    for ow in range(w.out):
        columns[ow] = positions(w, ow, plan.count_include_pad)
    for ih in range(top, smaller(top + plan.band_h, h.size)):
        y = h.before + ih
        first, last = ceil_div(y - h.kernel + 1, h.stride), smaller(h.out - 1, y // h.stride)
        # A row of pixels in the same windows as the row before has the same gradient.
        if first != first_before or last != last_before:
            memset(sums, 0, plan.sums_bytes)
            for oh in range(last, first - 1, -1):
                add_shares(plan, grads, oh, scratch)
            if plan.phase_length:
                plan.sums.interleave_phases(
                    row, sums, w.size, w.before, w.stride, plan.phase_length
                )
            first_before, last_before = first, last
        store_run(
            &plan.target, (plane * h.size + ih) * row_bytes, plan.target.format.bytes, row, w.size
        )


cdef inline Py_ssize_t taps_along(const Axis *axis, bint fewer) noexcept nogil:
    """Return how many windows contain a pixel along an axis: in the first phases, or in others."""
    return axis.kernel // axis.stride if fewer else ceil_div(axis.kernel, axis.stride)


cdef inline bint has_fewer(const Axis *axis, Py_ssize_t position) noexcept nogil:
    """Return whether a padded position is of a phase whose pixels are in fewer windows."""
    return position % axis.stride >= axis.kernel % axis.stride and axis.kernel % axis.stride > 0


cdef inline void load_shares(
    const AverageGradientPlan *plan, const char *grads, Py_ssize_t first, Py_ssize_t rows,
    char *scratch,
) noexcept nogil:
    """Make rows of shares: what each output gives to each pixel of its window, and zeros around."""
    cdef const Axis *w = &plan.window.w
    cdef Py_ssize_t bytes = plan.grad.format.scratch_bytes, r, oh
    cdef char *band = scratch + plan.at.band
    cdef char *row = band + (taps_along(w, False) - 1) * bytes
    memset(band, 0, rows * plan.pitch * bytes)
    for r in range(rows):
        oh = first + r
        if 0 <= oh < plan.window.h.out:
            load_row(
                row + r * plan.pitch * bytes, grads + oh * plan.grad.stride_h, w.out,
                plan.grad.stride_w, plan.grad.format,
            )
            if not plan.all_positions:
                plan.averages.divide(
                    row + r * plan.pitch * bytes,
                    positions(&plan.window.h, oh, plan.count_include_pad),
                    <Py_ssize_t *>(scratch + plan.at.columns), w.out,
                )
    if plan.all_positions:
        plan.averages.divide_all(band, plan.all_positions, rows * plan.pitch)


cdef inline void sum_shares(
    const AverageGradientPlan *plan, Py_ssize_t slots, Py_ssize_t taps_h, Py_ssize_t taps_w,
    const char *band, char *sums,
) noexcept nogil:
    """Add up taps_h x taps_w shares for all pixels of a phase."""
    cdef Py_ssize_t bytes = plan.grad.format.scratch_bytes, n = 0, i, j
    cdef Py_ssize_t last_row = taps_along(&plan.window.h, False) - 1
    cdef Py_ssize_t last_column = taps_along(&plan.window.w, False) - 1
    cdef const char *taps[TAPS]
    cdef bint begun = False
    for i in range(taps_h):
        for j in range(taps_w):
            taps[n] = band + ((last_row - i) * plan.pitch + last_column - j) * bytes
            n += 1
            if n == TAPS:
                # All are added one by one, whatever TAPS is: further ones are short sums of one.
                plan.averages.add_taps(sums, taps, n, 1 if begun else n, slots, begun)
                n, begun = 0, True
    if n or not begun:
        plan.averages.add_taps(sums, taps, n, 1 if begun else n, slots, begun)


cdef inline void merge_phases(
    const AverageGradientPlan *plan, char *to, const char *more, const char *fewer
) noexcept nogil:
    """Write a row of pixels from the sums of its phases."""
    cdef const Axis *w = &plan.window.w
    cdef Py_ssize_t bytes = plan.grad.format.scratch_bytes
    cdef Py_ssize_t left = w.before, right = w.before + 1
    if w.stride == 1:
        memcpy(to, more + left * bytes, w.size * bytes)
    elif w.stride == 2:
        interleave_rows(
            to, (fewer if has_fewer(w, left) else more) + left // 2 * bytes,
            (fewer if has_fewer(w, right) else more) + right // 2 * bytes, w.size, bytes,
        )
    else:
        plan.averages.merge(
            to, more, fewer, w.size, w.before, w.stride, w.kernel % w.stride or w.stride
        )


cdef void average_gradient_band(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    """Compute rows of one plane from sums of shares."""
    cdef const AverageGradientPlan *plan = <const AverageGradientPlan *>data
    cdef const Axis *h = &plan.window.h
    cdef const Axis *w = &plan.window.w
    cdef Py_ssize_t plane = item // plan.bands_h, top = item % plan.bands_h * plan.band_h
    cdef Py_ssize_t rows = smaller(plan.band_h, h.size - top)
    cdef Py_ssize_t bytes = plan.grad.format.scratch_bytes, taps_h, taps_w, ih, ow, q
    cdef Py_ssize_t place = (plane * h.size + top) * w.size * plan.target.format.bytes
    cdef Py_ssize_t first_q = (h.before + top) // h.stride
    cdef Py_ssize_t q_rows = (h.before + top + rows - 1) // h.stride - first_q + 1
    cdef char *sums = scratch + plan.at.sums
    cdef bint in_place = plan.target.format.conversion == AS_IS and not plan.target.past_caches
    cdef char *to = plan.target.data + place if in_place else scratch + plan.at.row
    cdef bint fewer_h, fewer_w
    if not plan.all_positions:
        for ow in range(w.out):
            (<Py_ssize_t *>(scratch + plan.at.columns))[ow] = positions(
                w, ow, plan.count_include_pad
            )
    taps_h = taps_along(h, False)
    load_shares(
        plan, plane_at(&plan.grad, plane), first_q - taps_h + 1, q_rows + taps_h - 1, scratch
    )
    for fewer_h in range(2):
        for fewer_w in range(2):
            taps_h, taps_w = taps_along(h, fewer_h), taps_along(w, fewer_w)
            if (fewer_h and not h.kernel % h.stride) or (fewer_w and not w.kernel % w.stride):
                continue  # All phases are alike.
            sum_shares(
                plan, q_rows * plan.pitch - taps_along(w, False) + 1, taps_h, taps_w,
                scratch + plan.at.band, sums + (2 * fewer_h + fewer_w) * plan.band_sums_bytes,
            )
    for ih in range(top, top + rows):
        q = (h.before + ih) // h.stride - first_q
        sums = scratch + plan.at.sums + q * plan.pitch * bytes
        if has_fewer(h, h.before + ih):
            sums += 2 * plan.band_sums_bytes
        merge_phases(plan, to + (ih - top) * w.size * bytes, sums, sums + plan.band_sums_bytes)
    if not in_place:
        store_run(&plan.target, place, plan.target.format.bytes, to, rows * w.size)
    if plan.target.past_caches:
        stream_fence()


cdef inline double lay_out_bands(AverageGradientPlan *plan, Py_ssize_t band_h) noexcept:
    """Lay out the scratch of bands of so many rows, and return its size."""
    cdef const Axis *h = &plan.window.h
    cdef const Axis *w = &plan.window.w
    cdef double bytes = plan.grad.format.scratch_bytes
    cdef Py_ssize_t q_rows = (band_h + h.stride - 2) // h.stride + 1
    plan.scratch.bytes = 0
    plan.band_h, plan.bands_h = band_h, ceil_div(h.size, band_h)
    plan.pitch = (w.before + w.size - 1) // w.stride + taps_along(w, False)
    plan.at.columns = take(&plan.scratch, <double>w.out * sizeof(Py_ssize_t))
    plan.at.row = take(&plan.scratch, bytes * band_h * w.size)
    plan.at.band = take(
        &plan.scratch, bytes * (q_rows + taps_along(h, False) - 1) * plan.pitch
    )
    plan.at.sums = take(&plan.scratch, 0)
    plan.band_sums_bytes = <Py_ssize_t>min(bytes * q_rows * plan.pitch, <double>(1 << 30))
    take(&plan.scratch, 4 * bytes * q_rows * plan.pitch)
    return plan.scratch.bytes


cdef bint plan_bands(AverageGradientPlan *plan) noexcept:
    """Cut planes into bands, unless a band of one row needs too much scratch."""
    cdef Py_ssize_t band_h = rows_per_item(plan.window.h.size, plan.planes, plan.threads)
    while lay_out_bands(plan, band_h) > BAND_BYTES and band_h > 1:
        band_h = (band_h + 1) // 2
    plan.in_bands = plan.scratch.bytes <= SCRATCH_BYTES
    plan.target.past_caches = (
        plan.in_bands and plan.moved >= STREAM_FROM_BYTES
        and plan.target.format.conversion == AS_IS
    )
    return plan.in_bands


cdef void plan_average_gradient(AverageGradientPlan *plan, int threads) noexcept:
    """Cut planes into items, and lay out the scratch."""
    cdef const Axis *h = &plan.window.h
    cdef const Axis *w = &plan.window.w
    cdef double bytes = plan.grad.format.scratch_bytes
    plan.threads = useful_threads(plan.moved, threads)
    if plan_bands(plan):
        return
    plan.scratch.bytes = 0
    plan.band_h = rows_per_item(h.size, plan.planes, plan.threads)
    plan.bands_h = ceil_div(h.size, plan.band_h)
    plan.phase_length = ceil_div(larger(reach(w, w.out), padded_size(w)), w.stride)
    if bytes * plan.phase_length * w.stride > SCRATCH_BYTES // 2:
        plan.phase_length = 0
    plan.at.columns = take(&plan.scratch, <double>w.out * sizeof(Py_ssize_t))
    plan.at.share = take(&plan.scratch, bytes * w.out)
    plan.at.row = plan.at.sums = take(&plan.scratch, bytes * w.size)
    plan.sums_bytes = <Py_ssize_t>(bytes * w.size)
    if plan.phase_length:
        plan.sums_bytes = <Py_ssize_t>(bytes * w.stride * plan.phase_length)
        plan.at.sums = take(&plan.scratch, plan.sums_bytes)


def avg_pool_backward(
    cnp.ndarray grad_output, cnp.ndarray grad_input, cnp.ndarray window, bint count_include_pad,
    int threads,
):
    """Write avg_pool's adjoint of the gradients (n, c, oh, ow) to `grad_input` (C-contiguous)."""
    cdef AverageGradientPlan plan
    if plane_count(grad_input) == 0:
        return
    memset(&plan, 0, sizeof(plan))
    plan.window = window_of(window)[0]
    plan.grad = planes_of(grad_output, averaged_format(grad_output))
    plan.target = target_of(grad_input)
    plan.planes = plane_count(grad_input)
    plan.sums = sums_of(plan.grad.format.number)
    plan.averages = averages_of(plan.grad.format.number)
    plan.count_include_pad = count_include_pad
    plan.all_positions = positions_of_all(&plan.window, count_include_pad)
    plan.moved = (
        <double>cnp.PyArray_NBYTES(grad_input) + <double>cnp.PyArray_NBYTES(grad_output)
    )
    plan_average_gradient(&plan, threads)
    for_each(
        average_gradient_band if plan.in_bands else average_gradient, &plan,
        plan.planes * plan.bands_h, <size_t>plan.scratch.bytes, plan.moved, plan.threads,
    )
