"""Rank filters: out[p] is the element of a given rank among the neighbours of p, sorted.

Arrays are contiguous and native, and have any number of axes. A window is a box of `extents`
positions, of which the taps are looked at. What positions beyond an axis show is told by a table of
its ends, so kernels know no modes.

a. An item is a block of neighbouring pixels. The part of the array that their windows cover is
   copied to scratch, where borders are filled in, and where numbers become keys: integers of the
   same order (see `convert` in rank.h). So there are kernels for four types and not for eleven, NaN
   has a place in the order, and the results are exact.
b. All methods but one compute rows of pixels, whose lanes are vectors of neighbouring pixels.
   Sorting networks serve the common medians. Other small windows are served by forgetful selection,
   and keys of 8 and 16 bits by bisection.
c. The method for all other windows sorts the keys of a block once. A window is then a set of places
   in that order, kept as bits, from which a step to the next pixel removes what leaves the window
   and to which it adds what enters. The wanted place is close to the last one. So a pixel costs
   about as much as the surface of the window, plus its share of the sort (Suomela, "Median
   filtering is equivalent to sorting", 2014; Huang, Yang and Tang, "A fast two-dimensional median
   filtering algorithm", 1979).
"""

cimport numpy as cnp
from libc.stdint cimport int32_t, uint64_t
from libc.string cimport memcpy, memset

from fastconv._kernels.level cimport LEVEL
from fastconv._kernels.number cimport FLOAT32, FLOAT64, INT8, UINT8, Number
from fastconv._kernels.parallel cimport Task, for_each, useful_threads, wanted_items
from fastconv._kernels.planes cimport number_of
from fastconv._kernels.scratch cimport Layout, take
from fastconv._kernels.stream cimport STREAM_FROM_BYTES, stream_copy, stream_fence
from fastconv._kernels.window cimport ceil_div, larger, smaller

cnp.import_array()

level = LEVEL.decode()

cdef extern from "rank.h":
    enum:
        MOST_AXES
        MOST_LINES
        MOST_HELD
        VECTOR_BYTES

    ctypedef enum KeyKind:
        AS_THEY_ARE
        SIGN_FLIPPED
        FLOATING

    ctypedef struct Neighbours:
        const Py_ssize_t *offsets
        Py_ssize_t taps, rank, span, pitch
        void *lines

    ctypedef void (*RankRow)(
        void *to, const void *at, const Neighbours *neighbours, Py_ssize_t count
    ) noexcept nogil

    ctypedef struct Move:
        const Py_ssize_t *back
        const Py_ssize_t *front
        Py_ssize_t count, step, out_step, pixels

    ctypedef struct Sorted:
        void *keys
        void *spare
        int32_t *order
        int32_t *ordinals
        uint64_t *present
        Py_ssize_t count

    ctypedef struct RankKernels:
        void (*gather)(
            void *to, const void *source, const Py_ssize_t *indices, Py_ssize_t count,
            const void *constant,
        ) noexcept nogil
        void (*convert)(
            void *to, const void *source, Py_ssize_t count, KeyKind kind, bint to_keys
        ) noexcept nogil
        RankRow median_of_3, median_of_5, median_of_3x3, median_of_5x5, median_of_27
        RankRow select, bisect
        Sorted (*sort)(Sorted sorted, KeyKind kind) noexcept nogil
        void (*slide)(
            void *out, const Sorted *sorted, Py_ssize_t first, const Neighbours *neighbours,
            const Move *moves, int axes,
        ) noexcept nogil

    const RankKernels *rank_kernels(Py_ssize_t bytes) noexcept nogil

cdef extern from "histograms.h":
    enum:
        BINS
        TALLEST_COLUMN
        MOST_COUNTED

    ctypedef struct Boxes:
        const unsigned char *keys
        Py_ssize_t step, rows, columns, height, width, rank
        unsigned char *coarse
        unsigned char *fine

    void rank_boxes(const Boxes *boxes, unsigned char *to, Py_ssize_t stride) noexcept nogil

most_held, tallest_column, most_counted = MOST_HELD, TALLEST_COLUMN, MOST_COUNTED

cdef enum:
    # The bytes of a row of pixels, so that the sorted columns of a row stay in L1.
    ROW_BYTES = 4 << 10
    # The bytes of a block, so that it stays in L2.
    BLOCK_BYTES = 256 << 10
    # More pixels than a block's row has.
    LONGEST_ROW = 1 << 30
    # The keys of a block that is sorted, unless its windows are larger.
    SORTED_KEYS = 40 << 10
    # The columns whose histograms, of 272 bytes each, an item keeps in L2.
    COUNTED_COLUMNS = 1 << 10
    COUNTED_KEYS = 512 << 10


cdef struct Axis:
    Py_ssize_t length, before, extent
    const Py_ssize_t *ends  # What the positions before and behind the axis show.
    Py_ssize_t block, blocks  # The pixels of an item's block, and the number of blocks.
    Py_ssize_t step, stride  # The distance to the next position in a block, and in the arrays.


cdef struct Plan:
    const RankKernels *kernels
    RankRow row  # NULL if blocks are sorted, or counted in histograms.
    bint has_histograms
    const char *source
    char *out
    const char *constant
    Py_ssize_t bytes
    KeyKind kind
    bint past_caches
    Py_ssize_t vector  # Whole vectors of as many results are written where they belong.
    Axis axes[MOST_AXES]
    int n_axes
    Neighbours neighbours
    Move moves[MOST_AXES]
    int moved_axes[MOST_AXES]  # The axis of each of the moves.
    # Parts of scratch.
    Layout scratch
    size_t block, spare, order, ordinals, present, lines, line, coarse, fine


cdef struct Block:
    Py_ssize_t first[MOST_AXES]
    Py_ssize_t pixels[MOST_AXES]


cdef inline Block block_of(const Plan *plan, Py_ssize_t item) noexcept nogil:
    cdef Block block
    cdef const Axis *axis
    cdef int a
    for a in range(plan.n_axes - 1, -1, -1):
        axis = &plan.axes[a]
        block.first[a] = item % axis.blocks * axis.block
        block.pixels[a] = smaller(axis.block, axis.length - block.first[a])
        item //= axis.blocks
    return block


cdef inline Py_ssize_t shown(const Axis *axis, Py_ssize_t position) noexcept nogil:
    """Return the element that a position of an extended axis shows, or -1 for the constant."""
    cdef Py_ssize_t index = position - axis.before
    if index < 0:
        return axis.ends[position]
    return index if index < axis.length else axis.ends[position - axis.length]


cdef void load_row(
    const Plan *plan, char *to, const char *source, Py_ssize_t first, Py_ssize_t count
) noexcept nogil:
    """Load keys of the last axis; a `source` of NULL shows the constant everywhere."""
    cdef const Axis *axis = &plan.axes[plan.n_axes - 1]
    cdef Py_ssize_t bytes = plan.bytes, head, inner, i
    if source == NULL:
        for i in range(count):
            memcpy(to + i * bytes, plan.constant, bytes)
        plan.kernels.convert(to, to, count, plan.kind, True)
        return
    head = smaller(larger(axis.before - first, 0), count)
    inner = larger(smaller(axis.before + axis.length - first, count) - head, 0)
    if head > 0:
        plan.kernels.gather(to, source, axis.ends + first, head, plan.constant)
        plan.kernels.convert(to, to, head, plan.kind, True)
    if inner > 0:
        plan.kernels.convert(
            to + head * bytes, source + (first + head - axis.before) * bytes, inner, plan.kind, True
        )
    count -= head + inner
    if count > 0:
        first += head + inner
        to += (head + inner) * bytes
        plan.kernels.gather(to, source, axis.ends + first - axis.length, count, plan.constant)
        plan.kernels.convert(to, to, count, plan.kind, True)


cdef bint next_row(Py_ssize_t *index, const Py_ssize_t *sizes, int axes) noexcept nogil:
    """Count the last of the indices up, with carry; tell whether there is a further row."""
    cdef int a
    for a in range(axes - 1, -1, -1):
        index[a] += 1
        if index[a] < sizes[a]:
            return True
        index[a] = 0
    return False


cdef void load_block(const Plan *plan, const Block *block, char *to) noexcept nogil:
    """Copy what the windows of a block cover, as keys."""
    cdef int outer = plan.n_axes - 1, a
    cdef const Axis *last = &plan.axes[outer]
    cdef Py_ssize_t index[MOST_AXES]
    cdef Py_ssize_t sizes[MOST_AXES]
    cdef Py_ssize_t count = block.pixels[outer] + last.extent - 1, element, step
    cdef const char *source
    for a in range(outer):
        index[a] = 0
        sizes[a] = block.pixels[a] + plan.axes[a].extent - 1
    while True:
        source, step = plan.source, 0
        for a in range(outer):
            element = shown(&plan.axes[a], block.first[a] + index[a])
            step += index[a] * plan.axes[a].step
            if element < 0:
                source = NULL
                break
            source += element * plan.axes[a].stride * plan.bytes
        if source == NULL:
            step = 0
            for a in range(outer):
                step += index[a] * plan.axes[a].step
        load_row(plan, to + step * plan.bytes, source, block.first[outer], count)
        if not next_row(index, sizes, outer):
            return


cdef inline char *out_at(const Plan *plan, const Block *block) noexcept nogil:
    cdef char *out = plan.out
    cdef int a
    for a in range(plan.n_axes):
        out += block.first[a] * plan.axes[a].stride * plan.bytes
    return out


cdef inline void compute_row(
    const Plan *plan, const Neighbours *neighbours, char *out, const char *at, Py_ssize_t count,
    char *line
) noexcept nogil:
    """Compute a row of pixels. Those that are no whole vector go through a line in scratch."""
    cdef Py_ssize_t direct = count - count % plan.vector
    if direct > 0:
        plan.row(out, at, neighbours, direct)
        out += direct * plan.bytes
        at += direct * plan.bytes
        count -= direct
    if count == 0:
        return
    plan.row(line, at, neighbours, count)
    if plan.past_caches:
        plan.kernels.convert(line, line, count, plan.kind, False)
        stream_copy(out, line, count * plan.bytes)
    else:
        plan.kernels.convert(out, line, count, plan.kind, False)


cdef void filter_rows(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    """Compute a block by rows."""
    cdef const Plan *plan = <const Plan *>data
    cdef Block block = block_of(plan, item)
    cdef Neighbours neighbours = plan.neighbours
    cdef int outer = plan.n_axes - 1, a
    cdef Py_ssize_t index[MOST_AXES]
    cdef Py_ssize_t count = block.pixels[outer], step, place
    cdef char *line = scratch + plan.line
    cdef char *out = out_at(plan, &block)
    neighbours.lines = scratch + plan.lines
    load_block(plan, &block, scratch + plan.block)
    for a in range(outer):
        index[a] = 0
    while True:
        step = place = 0
        for a in range(outer):
            step += index[a] * plan.axes[a].step
            place += index[a] * plan.axes[a].stride
        compute_row(
            plan, &neighbours, out + place * plan.bytes,
            scratch + plan.block + step * plan.bytes, count, line,
        )
        if not next_row(index, block.pixels, outer):
            break
    if plan.past_caches:
        stream_fence()


cdef void filter_sorted(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    """Compute a block whose keys are sorted."""
    cdef const Plan *plan = <const Plan *>data
    cdef Block block = block_of(plan, item)
    cdef Sorted keys
    cdef Move moves[MOST_AXES]
    cdef int axis = plan.n_axes - 1, a
    keys.keys, keys.spare = scratch + plan.block, scratch + plan.spare
    keys.order, keys.ordinals = (
        <int32_t *>(scratch + plan.order), <int32_t *>(scratch + plan.ordinals)
    )
    keys.present = <uint64_t *>(scratch + plan.present)
    # All keys up to the last one of the block's last row are sorted.
    keys.count = block.pixels[axis] + plan.axes[axis].extent - 1
    for a in range(axis):
        keys.count += (block.pixels[a] + plan.axes[a].extent - 2) * plan.axes[a].step
    memset(keys.keys, 0, keys.count * plan.bytes)
    load_block(plan, &block, scratch + plan.block)
    keys = plan.kernels.sort(keys, plan.kind)
    for a in range(plan.n_axes):
        moves[a] = plan.moves[a]
        moves[a].pixels = block.pixels[plan.moved_axes[a]]
    plan.kernels.slide(
        out_at(plan, &block), &keys, 0, &plan.neighbours, moves, plan.n_axes
    )


cdef void filter_counted(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    """Compute a block of bytes by the histograms of its columns."""
    cdef const Plan *plan = <const Plan *>data
    cdef Block block = block_of(plan, item)
    cdef const Axis *columns = &plan.axes[plan.n_axes - 1]
    cdef const Axis *rows = columns - 1
    cdef Boxes boxes
    cdef char *out = out_at(plan, &block)
    cdef Py_ssize_t y
    load_block(plan, &block, scratch + plan.block)
    boxes.keys, boxes.step = <unsigned char *>(scratch + plan.block), rows.step
    boxes.rows, boxes.columns = block.pixels[plan.n_axes - 2], block.pixels[plan.n_axes - 1]
    boxes.height, boxes.width, boxes.rank = rows.extent, columns.extent, plan.neighbours.rank
    boxes.coarse, boxes.fine = (
        <unsigned char *>(scratch + plan.coarse), <unsigned char *>(scratch + plan.fine)
    )
    rank_boxes(&boxes, <unsigned char *>out, rows.stride)
    for y in range(boxes.rows):
        plan.kernels.convert(
            out + y * rows.stride, out + y * rows.stride, boxes.columns, plan.kind, False
        )


cdef double padded_keys(const Plan *plan) noexcept:
    """Return the number of keys that the windows of a block cover."""
    cdef double keys = 1
    cdef int a
    for a in range(plan.n_axes):
        keys *= plan.axes[a].block + plan.axes[a].extent - 1
    return keys


cdef double block_count(const Plan *plan) noexcept:
    cdef double blocks = 1
    cdef int a
    for a in range(plan.n_axes):
        blocks *= ceil_div(plan.axes[a].length, plan.axes[a].block)
    return blocks


cdef bint grow(Plan *plan, double most_keys, double fewest_blocks) noexcept:
    """Double the blocks along the axis where they share least, and tell whether it was possible."""
    cdef Axis *axis
    cdef Py_ssize_t before
    cdef double share, least = 2
    cdef int a, grown = -1
    # A block that is counted is a part of one plane.
    for a in range(plan.n_axes - 2 if plan.has_histograms else 0, plan.n_axes):
        axis = &plan.axes[a]
        before = axis.block
        share = <double>before / (before + axis.extent - 1)
        axis.block = smaller(2 * before, axis.length)
        if axis.block > before and share < least and padded_keys(plan) <= most_keys:
            if block_count(plan) >= fewest_blocks:
                grown, least = a, share
        axis.block = before
    if grown >= 0:
        axis = &plan.axes[grown]
        axis.block = smaller(2 * axis.block, axis.length)
    return grown >= 0


cdef void lay_out(Plan *plan, double most_keys, int threads) noexcept:
    """Choose the blocks, and lay out the parts of scratch."""
    cdef Axis *axis
    cdef Py_ssize_t step = 1, lanes = VECTOR_BYTES // plan.bytes, row, keys_of_row
    cdef double keys
    cdef int a
    while grow(plan, most_keys, wanted_items(threads)):
        pass
    for a in range(plan.n_axes - 1, -1, -1):
        axis = &plan.axes[a]
        axis.blocks = ceil_div(axis.length, axis.block)
        axis.block = ceil_div(axis.length, axis.blocks)  # Blocks are made near-equal.
        axis.step = step
        step *= axis.block + axis.extent - 1
        if a == plan.n_axes - 1 and plan.row != NULL:
            step = ceil_div(step, lanes) * lanes  # Rows begin at whole vectors.
    keys = padded_keys(plan)
    plan.scratch.bytes = 0
    axis = &plan.axes[plan.n_axes - 1]
    if plan.has_histograms:
        keys_of_row = axis.block + axis.extent - 1
        plan.block = take(&plan.scratch, keys)
        plan.coarse = take(&plan.scratch, <double>keys_of_row * BINS)
        plan.fine = take(&plan.scratch, <double>keys_of_row * BINS * BINS)
        return
    if plan.row == NULL:
        plan.block = take(&plan.scratch, keys * plan.bytes)
        plan.spare = take(&plan.scratch, keys * plan.bytes)
        plan.order = take(&plan.scratch, keys * sizeof(int32_t))
        plan.ordinals = take(&plan.scratch, keys * sizeof(int32_t))
        plan.present = take(&plan.scratch, (keys // 64 + 1) * sizeof(uint64_t))
        return
    row = axis.block
    plan.neighbours.span = axis.extent - 1
    plan.neighbours.pitch = ceil_div(row + plan.neighbours.span + 2 * lanes, lanes) * lanes
    # Rows of pixels are computed in groups of up to four whole vectors.
    plan.block = take(&plan.scratch, (<double>step + 5 * lanes) * plan.bytes)
    plan.lines = take(&plan.scratch, <double>MOST_LINES * plan.neighbours.pitch * plan.bytes)
    plan.line = take(&plan.scratch, (row + 5 * lanes) * plan.bytes)


cdef const Py_ssize_t *offsets_of(cnp.ndarray offsets) noexcept:
    return <const Py_ssize_t *>cnp.PyArray_DATA(offsets)


cdef cnp.ndarray place_taps(const Plan *plan, cnp.ndarray taps):
    """Return the distances of taps from the first position of a window in a block."""
    cdef cnp.npy_intp count = cnp.PyArray_DIM(taps, 0)
    cdef cnp.ndarray offsets = cnp.PyArray_SimpleNew(1, &count, cnp.NPY_INTP)
    cdef Py_ssize_t *offset = <Py_ssize_t *>cnp.PyArray_DATA(offsets)
    cdef const Py_ssize_t *position = <const Py_ssize_t *>cnp.PyArray_DATA(taps)
    cdef Py_ssize_t t
    cdef int a
    for t in range(count):
        offset[t] = 0
        for a in range(plan.n_axes):
            offset[t] += position[a] * plan.axes[a].step
        position += plan.n_axes
    return offsets


cdef void place_moves(Plan *plan, tuple moves, list kept) except *:
    """Describe how a window moves; `kept` gets the arrays that this refers to."""
    cdef Move *move
    cdef int a, axis
    for a in range(plan.n_axes):
        axis, back, front = moves[a]
        kept += [place_taps(plan, back), place_taps(plan, front)]
        move = &plan.moves[a]
        move.back, move.front, move.count = (
            offsets_of(kept[2 * a + 1]), offsets_of(kept[2 * a + 2]), len(kept[2 * a + 1])
        )
        move.step, move.out_step = plan.axes[axis].step, plan.axes[axis].stride
        plan.moved_axes[a] = axis


cdef RankRow row_kernel(const RankKernels *kernels, str method):
    """Return the kernel of a method that computes rows, or NULL."""
    if method == "median_of_3":
        return kernels.median_of_3
    if method == "median_of_5":
        return kernels.median_of_5
    if method == "median_of_3x3":
        return kernels.median_of_3x3
    if method == "median_of_5x5":
        return kernels.median_of_5x5
    if method == "median_of_27":
        return kernels.median_of_27
    if method == "select":
        return kernels.select
    return kernels.bisect if method == "bisect" else NULL


cdef KeyKind kind_of(Number number) noexcept:
    if number == FLOAT32 or number == FLOAT64:
        return FLOATING
    # Keys of one byte are unsigned, all others signed.
    return AS_THEY_ARE if (number < UINT8) != (number == INT8) or number == UINT8 else SIGN_FLIPPED


cdef Task task_of(const Plan *plan) noexcept:
    if plan.has_histograms:
        return <Task>filter_counted
    return <Task>filter_sorted if plan.row == NULL else <Task>filter_rows


def filter(
    cnp.ndarray source, cnp.ndarray out, cnp.ndarray constant, geometry, int threads
):
    """Write to `out` the elements of a rank among the neighbours of each element.

    `source`, `out` and `constant`, one element that positions of index -1 show, are contiguous and
    native, and of one dtype. `geometry` describes them and the window (`_rank.Geometry`).
    """
    cdef Plan plan
    cdef Axis *axis
    cdef Py_ssize_t stride = 1
    cdef double box = 1, moved
    cdef str method = geometry.method
    cdef bint is_direct
    cdef int a
    if cnp.PyArray_SIZE(source) == 0:
        return
    plan.bytes = cnp.PyArray_ITEMSIZE(source)
    plan.kind = kind_of(number_of(source))
    plan.kernels = rank_kernels(plan.bytes)
    plan.row = row_kernel(plan.kernels, method)
    plan.source, plan.constant, plan.out = (
        <char *>cnp.PyArray_DATA(source), <char *>cnp.PyArray_DATA(constant),
        <char *>cnp.PyArray_DATA(out),
    )
    plan.past_caches = cnp.PyArray_NBYTES(out) >= STREAM_FROM_BYTES
    plan.n_axes = len(geometry.lengths)
    for a in range(plan.n_axes - 1, -1, -1):
        axis = &plan.axes[a]
        axis.length, axis.before, axis.extent = (
            geometry.lengths[a], geometry.befores[a], geometry.extents[a]
        )
        axis.ends = offsets_of(geometry.ends[a])
        axis.block = 1
        axis.stride = stride
        stride *= axis.length
        box *= axis.extent
    moved = <double>cnp.PyArray_NBYTES(out) * larger(1, len(geometry.taps) // 4)
    threads = useful_threads(moved, threads)
    plan.has_histograms = method == "histograms"
    if plan.has_histograms:
        axis = &plan.axes[plan.n_axes - 1]
        axis.block = smaller(axis.length, COUNTED_COLUMNS)
        lay_out(&plan, COUNTED_KEYS, threads)
    elif plan.row == NULL:
        lay_out(&plan, max(min(max(64 * box, 4096.0), <double>SORTED_KEYS), 8 * box), threads)
        if padded_keys(&plan) > 0x7fffffff:
            raise MemoryError(f"windows of {box:.0f} elements are too large")
    else:
        axis = &plan.axes[plan.n_axes - 1]
        axis.block = smaller(axis.length, ROW_BYTES // plan.bytes)
        lay_out(&plan, <double>BLOCK_BYTES / plan.bytes, threads)
        is_direct = plan.kind == AS_THEY_ARE and not plan.past_caches and method != "bisect"
        plan.vector = VECTOR_BYTES // plan.bytes if is_direct else LONGEST_ROW
    kept = [place_taps(&plan, geometry.taps)]
    plan.neighbours.offsets, plan.neighbours.taps = offsets_of(kept[0]), len(kept[0])
    plan.neighbours.rank = geometry.rank
    if method == "sort":
        place_moves(&plan, geometry.moves, kept)
    for_each(
        task_of(&plan), &plan,
        <Py_ssize_t>block_count(&plan), <size_t>plan.scratch.bytes, moved, threads,
    )
