"""Depthwise convolution of small planes, whose padding is never copied (flat.c).

A group has one channel and a few filters. The rows of the source that the register tiles read are
as long as the rows of a phase of the outputs. With stride 1 that is the image where it lies. With
stride 2 the rows and columns of the image are split by their residues into four planes in scratch,
and the outputs of the adjoint are computed in phases, whose columns are merged.
"""

from libc.stdint cimport int32_t
from libc.string cimport memcpy, memset

from fastconv._kernels.band cimport Phase, Side, plan_forward, plan_transposed
from fastconv._kernels.epilogue cimport CLIP
from fastconv._kernels.flat cimport FLAT_TAPS, FlatPlane, Flats, FlatTap, FlatTaps
from fastconv._kernels.parallel cimport for_each, useful_threads
from fastconv._kernels.planar cimport finishes_in_tile
from fastconv._kernels.plan cimport FEW_FILTERS, STREAM_BYTES
from fastconv._kernels.planes cimport Planes
from fastconv._kernels.problem cimport Problem, is_wanted, load_bias
from fastconv._kernels.rows cimport AS_IS, is_plain, load_row
from fastconv._kernels.scratch cimport Layout, allocate, release, take
from fastconv._kernels.stream cimport stream_fence
from fastconv._kernels.target cimport (
    Target, finish_run, joins_rows, place_of, write_run,
)
from fastconv._kernels.tile cimport FLOPS_PER_BYTE
from fastconv._kernels.vectors cimport VECTOR_BYTES
from fastconv._kernels.window cimport PAD_CONSTANT, Axis, Window, ceil_div, larger, smaller

cdef enum:
    # The largest number of pixels of a plane. In larger ones of stride 1, sharing what is loaded
    # among rows of outputs saves more time than the copy with the padding takes.
    FLAT_PIXELS = 256
    # The same number for windows of more taps than weights stay in registers.
    MANY_TAPS_PIXELS = 64
    # The same number for strides of 2, where the larger of source and outputs counts.
    SPLIT_PIXELS = 1000
    # The largest number of taps, which are summed in one register.
    MOST_TAPS = 64
    # The outputs of an item take about this number of bytes.
    ITEM_BYTES = 16 << 10
    STRIDES = 2  # Windows lie at most this many pixels apart.


cdef struct Flat:
    # The geometry of flat planes. The source of each pair of residues of the stride is a plane with
    # rows of `pitch` numbers, and these planes lie plane_numbers apart.
    Side h, w
    Phase phases_h[STRIDES]
    Phase phases_w[STRIDES]
    Py_ssize_t stride  # That of the source: 1 for an adjoint.
    Py_ssize_t pitch, plane_numbers
    Py_ssize_t bytes, taps
    const Flats *flats


cdef inline bint fits_axis(const Side *side) noexcept nogil:
    """Return whether outputs and strides of an axis are such as flat planes can have."""
    cdef Py_ssize_t i
    if (
        side.source.pad_mode != PAD_CONSTANT or side.source.stride > STRIDES
        or side.output_stride > STRIDES or side.n_phases != side.output_stride
    ):
        return False
    for i in range(side.n_phases):
        if side.phases[i].taps == 0 or side.phases[i].last <= side.phases[i].first:
            return False
    return True


cdef inline Py_ssize_t residues(const Side *side, Py_ssize_t residue) noexcept nogil:
    """Return the number of source positions with a residue of the stride."""
    return ceil_div(side.source.size - residue, side.source.stride)


cdef inline bint finish_flat(Flat *flat, Py_ssize_t most) noexcept:
    """Set the layout of planes of the two sides; return False if they do not fit.

    Planes of stride 1 have at most this number of pixels.
    """
    cdef const Side *h = &flat.h
    cdef const Side *w = &flat.w
    cdef Py_ssize_t i
    if h.source.stride != h.output_stride:
        most = SPLIT_PIXELS
    if flat.taps > FLAT_TAPS:
        most = MANY_TAPS_PIXELS
    if not (
        fits_axis(h) and fits_axis(w) and h.source.stride == w.source.stride
        and h.output_stride == w.output_stride
    ):
        return False
    flat.stride = h.source.stride
    flat.pitch = residues(w, 0)
    for i in range(w.n_phases):
        if w.phases[i].last - w.phases[i].first > flat.pitch:
            return False
    if flat.stride > 1:
        # Vectors are stored behind the last row.
        flat.plane_numbers = residues(h, 0) * flat.pitch + 2 * VECTOR_BYTES // flat.bytes
    return (
        larger(h.target.size * w.target.size, h.source.size * w.source.size) <= most
        and (w.output_stride > 1 or w.phases[0].last - w.phases[0].first == flat.pitch)
    )


cdef inline bint describe_flat_forward(
    Flat *flat, const Window *window, Py_ssize_t most
) noexcept:
    """Describe the geometry of a convolution; return False if planes do not fit.

    Planes of stride 1 have at most this number of pixels.
    """
    flat.taps = window.h.kernel * window.w.kernel
    if flat.taps > MOST_TAPS:
        return False
    flat.h.phases, flat.w.phases = flat.phases_h, flat.phases_w
    plan_forward(&flat.h, &window.h)
    plan_forward(&flat.w, &window.w)
    return finish_flat(flat, most)


cdef inline bint describe_flat_adjoint(Flat *flat, const Window *window) noexcept:
    """Describe the geometry of an adjoint; return False if planes do not fit."""
    cdef const Axis *h = &window.h
    cdef const Axis *w = &window.w
    flat.taps = h.kernel * w.kernel
    if (
        flat.taps > MOST_TAPS or larger(h.stride, w.stride) > STRIDES
        or h.pad_mode != PAD_CONSTANT or w.pad_mode != PAD_CONSTANT
    ):
        return False
    flat.h.phases, flat.w.phases = flat.phases_h, flat.phases_w
    plan_transposed(&flat.h, h, h.before, h.before + h.size)
    plan_transposed(&flat.w, w, w.before, w.before + w.size)
    return finish_flat(flat, FLAT_PIXELS)


cdef inline Py_ssize_t tap_source(
    const Side *side, const Phase *phase, Py_ssize_t tap
) noexcept nogil:
    """Return the pixel where the first output of a phase finds a tap; it may be negative."""
    return (
        phase.first * side.source.stride + phase.source + tap * phase.source_stride
        - side.source.before
    )


cdef inline Py_ssize_t residue_of(Py_ssize_t position, Py_ssize_t stride) noexcept nogil:
    """Return a residue that is not negative."""
    return (position % stride + stride) % stride


cdef inline Py_ssize_t near_plane(Py_ssize_t position) noexcept nogil:
    """Return a position as a number of 32 bits; a far one is moved to where no output reads either.
    """
    return larger(-SPLIT_PIXELS, smaller(position, SPLIT_PIXELS))


cdef inline void fill_flat_taps(
    const Flat *flat, const Phase *h, const Phase *w, FlatTap *taps
) noexcept nogil:
    """Describe the taps of a pair of phases."""
    cdef Py_ssize_t i, j, y, x, rest_y, rest_x, n = 0
    for i in range(h.taps):
        for j in range(w.taps):
            y, x = tap_source(&flat.h, h, i), tap_source(&flat.w, w, j)
            rest_y, rest_x = residue_of(y, flat.stride), residue_of(x, flat.stride)
            y = near_plane((y - rest_y) // flat.stride)
            x = near_plane((x - rest_x) // flat.stride)
            taps[n].offset = <int32_t>(
                (rest_y * flat.stride + rest_x) * flat.plane_numbers + y * flat.pitch + x
            )
            taps[n].top, taps[n].bottom = <int32_t>-y, <int32_t>(residues(&flat.h, rest_y) - y)
            taps[n].left, taps[n].right = <int32_t>-x, <int32_t>(residues(&flat.w, rest_x) - x)
            n += 1


cdef inline bint are_centred(
    const FlatTap *taps, const Phase *h, const Phase *w, Py_ssize_t rows, Py_ssize_t columns
) noexcept nogil:
    """Return whether taps are 3 x 3 neighbours, of which the middle one is always in the image."""
    cdef Py_ssize_t i
    if h.taps != 3 or w.taps != 3:
        return False
    for i in range(9):
        if taps[i].offset != taps[i - i % 3].offset + i % 3:
            return False
    return (
        taps[4].top <= 0 and taps[4].bottom >= rows and taps[4].left <= 0
        and taps[4].right >= columns
    )


# ---- the source --------------------------------------------------------------------------------

cdef inline bint is_flat(
    const Planes *source, const char *plane, Py_ssize_t columns
) noexcept nogil:
    """Return whether a plane lies as one row of numbers."""
    return (
        is_plain(source.format, source.stride_w, plane)
        and source.stride_h == columns * source.format.bytes
    )


cdef inline double flat_bytes(const Flat *flat) noexcept nogil:
    """Return the bytes of scratch that `load_flat` needs for a plane."""
    cdef double row = flat.w.source.size
    if flat.stride == 1:
        return row * flat.h.source.size * flat.bytes
    return (4.0 * flat.plane_numbers + row) * flat.bytes


cdef inline void split_plane(
    const Flat *flat, const Planes *source, const char *plane, char *to
) noexcept nogil:
    """Copy the planes of all residues of the stride, which is 2."""
    cdef Py_ssize_t y, bytes = flat.bytes, stride = flat.plane_numbers * bytes
    cdef char *row = to + 4 * stride
    if is_plain(source.format, source.stride_w, plane) and source.stride_h % bytes == 0:
        for y in range(2):
            flat.flats.split(
                to + 2 * y * stride, to + (2 * y + 1) * stride, flat.pitch,
                plane + y * source.stride_h, 2 * source.stride_h // bytes,
                residues(&flat.h, y), flat.w.source.size,
            )
        return
    for y in range(flat.h.source.size):
        load_row(
            row, plane + y * source.stride_h, flat.w.source.size, source.stride_w, source.format
        )
        flat.flats.split(
            to + 2 * (y % 2) * stride + y // 2 * flat.pitch * bytes,
            to + (2 * (y % 2) + 1) * stride + y // 2 * flat.pitch * bytes,
            0, row, 0, 1, flat.w.source.size,
        )


cdef inline const char *load_flat(
    const Flat *flat, const Planes *source, Py_ssize_t n, Py_ssize_t c, char *to
) noexcept nogil:
    """Return a plane of the source as the register tiles read it, in place or copied to scratch."""
    cdef const char *plane = source.data + n * source.stride_n + c * source.stride_c
    cdef Py_ssize_t y
    if flat.stride == 1 and is_flat(source, plane, flat.w.source.size):
        return plane
    if flat.stride == 1:
        for y in range(flat.h.source.size):
            load_row(
                to + y * flat.pitch * flat.bytes, plane + y * source.stride_h, flat.pitch,
                source.stride_w, source.format,
            )
    else:
        split_plane(flat, source, plane, to)
    return to


# ---- convolution and its adjoint ---------------------------------------------------------------

cdef struct FlatPart:
    # A pair of phases, of which both have taps: its taps, and the byte offsets of their weights.
    const Phase *h
    const Phase *w
    FlatTaps taps
    const Py_ssize_t *weights


cdef struct FlatPlan:
    Flat flat
    Problem problem
    FlatPart parts[STRIDES * STRIDES]
    bint staged  # Outputs are computed in scratch, where they are finished, and then written.
    bint in_tile  # The register tiles finish outputs.
    bint packed  # The weights of a filter lie in the order of the taps.
    Py_ssize_t pixels, channels  # The numbers of outputs of a plane, and of channels of an item.
    Layout tables, scratch
    size_t source, weights, phases, stage  # Offsets in the scratch.
    double moved
    int threads
    char *memory


cdef inline bint fits_flat(const Problem *problem) noexcept:
    """Return whether there are such functions, and outputs lie such that they can write them."""
    return problem.flats != NULL and problem.channels == 1 and problem.filters <= FEW_FILTERS


cdef inline void fill_part(
    const FlatPlan *plan, FlatPart *part, char *taps, char *masks, char *weights
) noexcept:
    """Describe the taps of a pair of phases."""
    cdef const Planes *weight = &plan.problem.weights.planes
    cdef Py_ssize_t i, j
    cdef Py_ssize_t *offsets = <Py_ssize_t *>weights
    fill_flat_taps(&plan.flat, part.h, part.w, <FlatTap *>taps)
    part.taps.taps, part.taps.masks, part.weights = <FlatTap *>taps, masks, offsets
    part.taps.centred = are_centred(
        part.taps.taps, part.h, part.w, part.taps.pixels // plan.flat.pitch, plan.flat.pitch
    )
    plan.flat.flats.fill_masks(masks, plan.flat.pitch, &part.taps)
    for i in range(part.h.taps):
        for j in range(part.w.taps):
            offsets[i * part.w.taps + j] = (
                (part.h.tap + i * part.h.tap_stride) * weight.stride_h
                + (part.w.tap + j * part.w.tap_stride) * weight.stride_w
            )


cdef inline int fill_parts(FlatPlan *plan) except -1:
    """Describe the taps of all pairs of phases, in memory that `execute_flat` releases."""
    cdef Flat *flat = &plan.flat
    cdef Layout *layout = &plan.tables
    cdef size_t taps[4]
    cdef size_t masks[4]
    cdef size_t weights[4]
    cdef Py_ssize_t lanes = VECTOR_BYTES // flat.bytes, i, n = flat.h.n_phases * flat.w.n_phases
    cdef FlatPart *part
    for i in range(n):
        part = plan.parts + i
        part.h = flat.h.phases + i // flat.w.n_phases
        part.w = flat.w.phases + i % flat.w.n_phases
        part.taps.count = part.h.taps * part.w.taps
        part.taps.pixels = (part.h.last - part.h.first) * flat.pitch
        taps[i] = take(layout, part.taps.count * sizeof(FlatTap))
        weights[i] = take(layout, part.taps.count * sizeof(Py_ssize_t))
        masks[i] = take(
            layout, <double>ceil_div(part.taps.pixels, lanes) * part.taps.count
            * flat.flats.mask_bytes,
        )
    plan.memory = allocate(layout.bytes, "taps")
    for i in range(n):
        fill_part(
            plan, plan.parts + i, plan.memory + taps[i], plan.memory + masks[i],
            plan.memory + weights[i],
        )
    return 0


cdef inline Py_ssize_t phase_bytes(const Flat *flat) noexcept nogil:
    """Return the bytes of the outputs of a pair of phases."""
    return ceil_div(flat.h.target.size, flat.h.output_stride) * flat.pitch * flat.bytes


cdef inline void lay_out_flat(FlatPlan *plan, int threads) noexcept:
    """Cut the channels into items, and lay out their scratch."""
    cdef const Flat *flat = &plan.flat
    cdef const Problem *problem = &plan.problem
    cdef Py_ssize_t bytes = flat.bytes, filters = problem.filters, planes
    planes = problem.batch * problem.groups
    plan.moved = problem.target.all_bytes + 2.0 / FLOPS_PER_BYTE * (
        <double>planes * filters * plan.pixels
        * problem.weights.kernel_h * problem.weights.kernel_w
    )
    plan.threads = useful_threads(plan.moved, threads)
    plan.channels = smaller(
        larger(1, ITEM_BYTES // (filters * plan.pixels * bytes)),
        larger(1, ceil_div(planes, 8 * plan.threads)),
    )
    plan.channels = smaller(plan.channels, problem.groups)
    plan.scratch.bytes = 0
    plan.source = take(&plan.scratch, flat_bytes(flat))
    plan.weights = take(&plan.scratch, <double>(MOST_TAPS + 1) * bytes)
    plan.phases = take(
        &plan.scratch, <double>flat.w.output_stride * phase_bytes(flat)
    )
    plan.stage = take(
        &plan.scratch, <double>plan.channels * filters * plan.pixels * bytes if plan.staged else 0
    )


cdef inline bint make_flat(
    FlatPlan *plan, const Problem *problem, const Window *window, bint adjoint, int threads
) except -1:
    """Plan a convolution or an adjoint, and return True; return False if its planes do not fit."""
    cdef Flat *flat = &plan.flat
    cdef const Target *target = &problem.target
    cdef Planes *weight
    if not fits_flat(problem):
        return False
    memset(plan, 0, sizeof(plan[0]))
    plan.problem, flat.bytes, flat.flats = problem[0], problem.bytes, problem.flats
    if adjoint and not describe_flat_adjoint(flat, window):
        return False
    if not adjoint and not describe_flat_forward(flat, window, FLAT_PIXELS):
        return False
    if target.format.conversion != AS_IS or not joins_rows(target, flat.w.target.size):
        return False
    plan.problem.target.past_caches = target.all_bytes >= STREAM_BYTES
    plan.pixels = flat.h.target.size * flat.w.target.size
    plan.in_tile = finishes_in_tile(&plan.problem.target) and flat.w.output_stride == 1
    plan.staged = plan.problem.target.past_caches or (target.finish != NULL and not plan.in_tile)
    weight = &plan.problem.weights.planes
    plan.packed = (
        not adjoint and is_plain(weight.format, weight.stride_w, weight.data)
        and weight.stride_h == problem.weights.kernel_w * problem.bytes
    )
    lay_out_flat(plan, threads)
    fill_parts(plan)
    return True


cdef inline const char *load_weights(
    const FlatPlan *plan, const FlatPart *part, Py_ssize_t g, Py_ssize_t f, char *to
) noexcept nogil:
    """Return the weights of filter f of a group in the order of a part's taps."""
    cdef const Planes *weight = &plan.problem.weights.planes
    cdef Py_ssize_t t, bytes = plan.flat.bytes
    cdef const char *source = (
        weight.data + g * plan.problem.weights.group_stride + f * weight.stride_n
    )
    if plan.packed:
        return source
    for t in range(part.taps.count):
        if is_plain(weight.format, bytes, source):
            memcpy(to + t * bytes, source + part.weights[t], bytes)
        else:
            load_row(to + t * bytes, source + part.weights[t], 1, bytes, weight.format)
    return to


cdef inline void compute_flat(
    const FlatPlan *plan, const char *source, Py_ssize_t g, Py_ssize_t f, FlatPlane *plane,
    char *scratch,
) noexcept nogil:
    """Compute a plane of outputs, whose place, start and bounds are given."""
    cdef const Flat *flat = &plan.flat
    cdef const Side *h = &flat.h
    cdef const Side *w = &flat.w
    cdef Py_ssize_t i, _j, y, bytes = flat.bytes, columns = w.target.size
    cdef char *to = <char *>plane.to
    cdef char *phases[STRIDES]
    cdef const FlatPart *part = &plan.parts[0]
    plane.image = source
    for i in range(h.n_phases):
        for _j in range(w.n_phases):
            plane.filter = load_weights(plan, part, g, f, scratch + plan.weights)
            if w.output_stride > 1:
                y = part.w.position + part.w.first * 2 - w.target.before
                phases[y] = scratch + plan.phases + y * phase_bytes(flat)
                plane.to = phases[y]
            flat.flats.correlate(&part.taps, plane)
            part += 1
        if w.output_stride > 1:
            y = h.phases[i].position + h.phases[i].first * 2 - h.target.before
            flat.flats.merge(
                to + y * columns * bytes, 2 * columns, phases[0], phases[1], flat.pitch,
                h.phases[i].last - h.phases[i].first, columns,
            )


cdef inline void write_flat(
    const FlatPlan *plan, Py_ssize_t n, Py_ssize_t first, Py_ssize_t planes, char *stage
) noexcept nogil:
    """Finish planes in scratch and write them, as one run if they follow each other."""
    cdef const Target *target = &plan.problem.target
    cdef Py_ssize_t run = 1, i, place, pixels = plan.pixels
    if target.stride_c == pixels * plan.flat.bytes:
        run = planes
    for i in range(planes // run):
        place = place_of(target, n, first + i, 0, 0)
        if target.finish != NULL and not plan.in_tile:
            finish_run(target, place, target.stride_w, stage, run * pixels)
        write_run(target, place, target.stride_w, stage, run * pixels)
        stage += run * pixels * plan.flat.bytes
    if target.past_caches:
        stream_fence()


cdef inline void convolve_flat(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    """Compute all outputs of some channels of an image."""
    cdef const FlatPlan *plan = <const FlatPlan *>data
    cdef const Problem *problem = &plan.problem
    cdef const Target *target = &problem.target
    cdef Py_ssize_t items = ceil_div(problem.groups, plan.channels), bytes = plan.flat.bytes, g, i
    cdef Py_ssize_t n = item // items, first = item % items * plan.channels, f, place
    cdef Py_ssize_t last = smaller(first + plan.channels, problem.groups)
    cdef Py_ssize_t filters = problem.filters
    cdef const char *source
    cdef char *stage = scratch + plan.stage
    cdef char *start = scratch + plan.weights + MOST_TAPS * bytes
    cdef FlatPlane plane
    if not is_wanted(problem, n):
        return
    plane.clips = plan.in_tile and target.activation.kind == CLIP
    plane.low, plane.high = target.activation.a, target.activation.b
    plane.residual, plane.start = NULL, start
    for g in range(first, last):
        source = load_flat(&plan.flat, &problem.source, n, g, scratch + plan.source)
        for i in range(filters):
            f = g * filters + i
            place = place_of(target, n, f, 0, 0)
            load_bias(problem, f, 1, start)
            plane.to = target.data + place
            if plan.staged:
                plane.to = stage + (f - first * filters) * plan.pixels * bytes
            if plan.in_tile and target.residual != NULL:
                plane.residual = target.residual + place
            compute_flat(plan, source, g, i, &plane, scratch)
    if plan.staged:
        write_flat(plan, n, first * filters, (last - first) * filters, stage)


cdef inline int execute_flat(const FlatPlan *plan) except -1:
    """Compute all outputs of a plan, and release its memory."""
    cdef const Problem *problem = &plan.problem
    try:
        for_each(
            convolve_flat, plan, problem.batch * ceil_div(problem.groups, plan.channels),
            <size_t>plan.scratch.bytes, plan.moved, plan.threads,
        )
    finally:
        release(plan.memory)
    return 0
