"""Correlation with a dense kernel.

    out[p, y, x] = sum over (o, kh, kw) of
        weight[o, kh, kw] * input[lead[p, o], rows[y + kh], columns[x + kw * step]]

`rows` and `columns` are tables that say which element each position of an axis with its borders
shows, and -1 stands for a constant. So kernels know nothing about borders. All axes but the last
two are flattened: a plane p of outputs depends on planes of inputs, which `lead` lists.

a. An item is a band of rows of a plane, or of a part of its columns, so that the inputs of an item
   stay in L2. They are copied to scratch with their borders, and converted to the type that is
   computed with. Rows of few taps that need neither are read where they are.
b. Register tiles (dense.h) compute TILE_HEIGHT rows of outputs at a time. The last tile of a row
   overlaps its neighbour, and computes the same numbers again.
c. Long sums in floating point are added up in parts of about SUM_TERMS products, which bounds their
   rounding errors. Sums in SciPy's order have one part.
d. 8-bit images with arbitrary weights: SciPy truncates a sum in float64 to an integer. float32 is
   four times as fast (twice as many lanes, and fused multiply-adds), and its error has a bound that
   the weights determine. Only where a sum lies that close to an integer, it is computed again as
   SciPy does: few pixels one by one, many as a whole tile.
"""

from libc.math cimport fabs, trunc
from libc.stdint cimport int32_t, uint64_t
from libc.string cimport memcpy, memset

cimport numpy as cnp
from cpython.pyport cimport PY_SSIZE_T_MAX

from fastconv._kernels.level cimport LEVEL
from fastconv._kernels.number cimport FLOAT32, FLOAT64, Number
from fastconv._kernels.parallel cimport for_each, useful_threads, wanted_items
from fastconv._kernels.planes cimport number_of
from fastconv._kernels.rows cimport fill_row
from fastconv._kernels.scratch cimport Layout, allocate, release, take
from fastconv._kernels.stream cimport LINE_BYTES, STREAM_FROM_BYTES, stream_copy, stream_fence
from fastconv._kernels.vectors cimport VECTOR_BYTES
from fastconv._kernels.window cimport ceil_div, larger, smaller

cnp.import_array()

level = LEVEL.decode()

cdef extern from "dense.h":
    enum:
        TILE_HEIGHT
        TILE_WIDTH

    ctypedef enum Arithmetic:
        IN_FLOAT
        IN_DOUBLE
        IN_ORDER
        IN_INTEGER

    const double FLOAT_ROUNDING

    ctypedef struct Run:
        int32_t row, count, range
        Py_ssize_t column, weights

    ctypedef struct Schedule:
        const Run *runs
        Py_ssize_t count
        const void *weights
        Py_ssize_t step

    ctypedef void (*Tile)(
        const Schedule *schedule, Py_ssize_t first, Py_ssize_t last, const void *const *rows,
        Py_ssize_t column, void *result, Py_ssize_t pitch, int height, int adds,
    ) noexcept nogil
    ctypedef void (*Conversion)(void *to, const void *source, Py_ssize_t count) noexcept nogil

    int RANGE(int a, int b) noexcept nogil
    Tile tile_of(Arithmetic arithmetic, int is_wide) noexcept nogil
    Py_ssize_t bytes_in(Arithmetic arithmetic) noexcept nogil
    Conversion loader_of(Arithmetic arithmetic, Number number) noexcept nogil
    Conversion storer_of(Arithmetic arithmetic, Number number, int wraps) noexcept nogil
    int find_near_integers(
        const float *sums, Py_ssize_t count, float bound, int32_t *found, int most
    ) noexcept nogil
    double sum_in_order(
        const Schedule *schedule, const void *const *rows, Py_ssize_t column, int r
    ) noexcept nogil

ARITHMETICS = {"float": IN_FLOAT, "double": IN_DOUBLE, "order": IN_ORDER, "integer": IN_INTEGER}

cdef enum:
    # Shorter parts have smaller errors, and longer ones add fewer sums to memory.
    SUM_TERMS = 48
    # The rows of outputs of an item, unless there would be too few items.
    BAND_HEIGHT = 16
    # What the inputs of an item may take of L2.
    BAND_BYTES = 256 << 10
    # Rows that are read in place may be a power of two apart, and then share the sets of L1, which
    # has 8 to 12 lines in each.
    MOST_IN_PLACE = 8
    # As many pixels of a tile are computed again one by one.
    FEW_PIXELS = 6
    # Time of as many products is that of moving a byte.
    PRODUCTS_PER_BYTE = 4

cdef struct Kernel:
    # The weights [outer][height][width], of the type that `arithmetic` computes with.
    const void *data
    Arithmetic arithmetic
    Py_ssize_t outer, height, width, step
    bint skips_zeros


cdef struct Scratch:
    size_t rows  # Pointers to the rows of the band.
    size_t band  # The rows.
    size_t constant  # A row of the constant.
    size_t sums  # A tile of sums.
    size_t stored  # A row of a tile, of the output's type.
    size_t double_rows, double_band, double_sums  # The same of a tile in float64.


cdef struct Plan:
    const char *input
    const char *input_end
    char *out
    Number in_number, out_number
    Py_ssize_t in_bytes, out_bytes, bytes
    Py_ssize_t in_h, in_w, planes, out_h, out_w
    const Py_ssize_t *lead
    const Py_ssize_t *rows
    const Py_ssize_t *columns
    Py_ssize_t before  # The position in `columns` of element 0.
    Kernel kernel
    Py_ssize_t reach  # How many inputs the kernel covers, minus one.
    const char *constant
    Conversion load, store
    Schedule full, rest, full_in_order, rest_in_order
    const Py_ssize_t *full_parts  # Where the parts of a schedule end, and how many they are.
    const Py_ssize_t *rest_parts
    Py_ssize_t full_count, rest_count
    double bound  # The error of a sum that is checked, or 0 if none is.
    Py_ssize_t band_height, strip, row_splits, column_splits, band_rows, pitch
    bint stores_in_place, past_caches, may_read_in_place
    Tile tiles[2]
    Tile tiles_in_order[2]
    Layout scratch
    Scratch at


# ---- schedules -----------------------------------------------------------------------------------

cdef inline bint is_used(const Kernel *kernel, Py_ssize_t o, Py_ssize_t kh, Py_ssize_t kw) noexcept:
    """Whether products with a weight are added."""
    cdef Py_ssize_t i = (o * kernel.height + kh) * kernel.width + kw
    if not 0 <= kh < kernel.height:
        return False
    if not kernel.skips_zeros:
        return True
    if kernel.arithmetic == IN_FLOAT:
        return (<const float *>kernel.data)[i] != 0
    if kernel.arithmetic == IN_INTEGER:
        return (<const uint64_t *>kernel.data)[i] != 0
    return (<const double *>kernel.data)[i] != 0


cdef inline int used_rows(
    const Kernel *kernel, Py_ssize_t o, Py_ssize_t j, Py_ssize_t kw, int height
) noexcept:
    """The rows of a tile, as bits, that add a product with column kw of the kernel and row j."""
    cdef int bits = 0, r
    for r in range(height):
        bits |= is_used(kernel, o, j - r, kw) << r
    return bits


cdef struct Building:
    # A schedule that is being made.
    Run *runs
    char *weights
    Py_ssize_t count, weight_count
    Py_ssize_t *parts
    Py_ssize_t part_count
    Py_ssize_t terms  # Columns of the part that is being made.
    # For each row of the tile: the sums of weights of this part and of all parts, and the bound of
    # the rounding error, where inputs are at most 1.
    double partial[8]
    double total[8]
    double error[8]


cdef void end_part(Building *building) noexcept:
    cdef int r
    if building.terms == 0:
        return
    building.parts[building.part_count] = building.count
    building.part_count += 1
    building.terms = 0
    for r in range(TILE_HEIGHT):
        building.total[r] += building.partial[r]
        building.error[r] += building.total[r]
        building.partial[r] = 0


cdef void add_run(
    Building *building, const Kernel *kernel, Py_ssize_t o, Py_ssize_t j, Py_ssize_t band_rows,
    Py_ssize_t kw, Py_ssize_t count, int a, int b,
) noexcept:
    """Add a run for columns of the kernel from kw on and the rows a to b - 1 of the tile."""
    cdef Run *run = &building.runs[building.count]
    cdef Py_ssize_t bytes = bytes_in(kernel.arithmetic), k, i
    cdef int r
    run.row, run.count, run.range = <int32_t>(o * band_rows + j), <int32_t>count, RANGE(a, b)
    run.column, run.weights = kw * kernel.step, building.weight_count
    for k in range(count):
        for r in range(a, b):
            i = (o * kernel.height + j - r) * kernel.width + kw + k
            memcpy(
                building.weights + building.weight_count * bytes,
                <const char *>kernel.data + i * bytes, bytes,
            )
            building.weight_count += 1
            if kernel.arithmetic == IN_FLOAT:
                building.partial[r] += fabs((<const float *>kernel.data)[i])
                building.error[r] += building.partial[r]
    building.count += 1
    building.terms += count


cdef void add_runs(
    Building *building, const Kernel *kernel, Py_ssize_t o, Py_ssize_t j, Py_ssize_t band_rows,
    int height, Py_ssize_t most,
) noexcept:
    """Add the runs of row j of the inputs, whose products the tile's rows from 0 on add."""
    cdef Py_ssize_t kw = 0, end
    cdef int bits, a, b
    while kw < kernel.width:
        bits = used_rows(kernel, o, j, kw, height)
        end = kw + 1
        while (end < kernel.width and end - kw < most
               and used_rows(kernel, o, j, end, height) == bits):
            end += 1
        a = 0
        while a < height:
            b = a + 1
            if bits >> a & 1:
                while b < height and bits >> b & 1:
                    b += 1
                add_run(building, kernel, o, j, band_rows, kw, end - kw, a, b)
            a = b
        if building.terms >= most:
            end_part(building)
        kw = end


cdef int build(
    Building *building, const Kernel *kernel, Py_ssize_t band_rows, int height
) except -1:
    """Make the schedule of tiles of `height` rows. `destroy` frees its memory."""
    cdef Py_ssize_t o, j, most = SUM_TERMS
    cdef double columns = <double>kernel.outer * (height + kernel.height - 1) * kernel.width
    cdef double products = <double>kernel.outer * kernel.height * kernel.width * height
    memset(building, 0, sizeof(building[0]))
    if kernel.arithmetic == IN_ORDER or kernel.arithmetic == IN_INTEGER:
        most = PY_SSIZE_T_MAX
    # A column has at most two ranges of rows.
    building.runs = <Run *>allocate(2 * columns * sizeof(Run), "a schedule")
    building.parts = <Py_ssize_t *>allocate((columns + 1) * sizeof(Py_ssize_t), "a schedule")
    building.weights = allocate(products * bytes_in(kernel.arithmetic), "weights")
    for o in range(kernel.outer):
        for j in range(height + kernel.height - 1):
            add_runs(building, kernel, o, j, band_rows, height, most)
    end_part(building)
    if building.part_count == 0:  # All weights are zero.
        building.part_count, building.parts[0] = 1, 0
    return 0


cdef void destroy(Building *building) noexcept:
    release(<char *>building.runs)
    release(<char *>building.parts)
    release(building.weights)


cdef inline Schedule schedule_of(const Building *building, Py_ssize_t step) noexcept:
    cdef Schedule schedule
    schedule.runs, schedule.count = building.runs, building.count
    schedule.weights, schedule.step = building.weights, step
    return schedule


cdef double error_bound(const Building *building) noexcept:
    """Bound the rounding error of sums in float32 of inputs that are at most 1.

    That is the half of a unit in the last place of all partial sums and, for the rounding of the
    weights, of the whole sum.
    """
    cdef double most = 0
    cdef int r
    for r in range(TILE_HEIGHT):
        most = max(most, building.error[r] + building.total[r])
    return most * FLOAT_ROUNDING * 1.001


# ---- items ---------------------------------------------------------------------------------------

cdef struct Band:
    # Rows y and columns x of a plane of outputs, which an item computes.
    Py_ssize_t plane, y, height, x, width
    const void **rows
    char *scratch


cdef void load_padded(
    const Plan *plan, char *to, const char *source, Py_ssize_t x, Py_ssize_t count
) noexcept nogil:
    """Copy and convert a part of a row of the extended input, from position x on."""
    cdef Py_ssize_t bytes = plan.bytes, column, p = 0
    cdef Py_ssize_t first = smaller(larger(plan.before - x, 0), count)
    cdef Py_ssize_t last = larger(smaller(plan.before + plan.in_w - x, count), first)
    plan.load(to + first * bytes, source + (x + first - plan.before) * plan.in_bytes, last - first)
    while p < count:
        if p == first:
            p = last
            if last == count:
                break
        column = plan.columns[x + p]
        if column >= 0:
            plan.load(to + p * bytes, source + column * plan.in_bytes, 1)
        else:
            memcpy(to + p * bytes, plan.constant, bytes)
        p += 1


cdef inline bint lies_ready(
    const Plan *plan, const char *source, Py_ssize_t x, Py_ssize_t count
) noexcept nogil:
    """Whether tiles may read a part of a row where it is."""
    return (
        plan.may_read_in_place and x >= plan.before and x + count <= plan.before + plan.in_w
        and plan.input_end - source >= (x - plan.before + plan.pitch) * plan.in_bytes
    )


cdef void load_rows(
    const Plan *plan, Band *band, Py_ssize_t first, Py_ssize_t last
) noexcept nogil:
    """Fill in where some rows of an item's inputs are, and copy those that do not lie ready."""
    cdef Py_ssize_t bytes = plan.bytes, count = band.width + plan.reach, o, i, row, plane
    cdef char *to
    cdef const char *source
    for o in range(plan.kernel.outer):
        plane = plan.lead[band.plane * plan.kernel.outer + o]
        for i in range(first, last):
            row = plan.rows[band.y + i]
            to = band.scratch + plan.at.band + (o * plan.band_rows + i) * plan.pitch * bytes
            source = plan.input + (plane * plan.in_h + row) * plan.in_w * plan.in_bytes
            if plane < 0 or row < 0:
                to = band.scratch + plan.at.constant
            elif lies_ready(plan, source, band.x, count):
                to = <char *>source + (band.x - plan.before) * bytes
            else:
                load_padded(plan, to, source, band.x, count)
            band.rows[o * plan.band_rows + i] = to


cdef void add_tile(
    const Plan *plan, const Band *band, Py_ssize_t y, Py_ssize_t x, int height, bint is_wide,
    char *sums, Py_ssize_t pitch,
) noexcept nogil:
    """Compute the sums of a tile, part by part."""
    cdef bint is_full = height == TILE_HEIGHT
    cdef const Schedule *schedule = &plan.full if is_full else &plan.rest
    cdef const Py_ssize_t *parts = plan.full_parts if is_full else plan.rest_parts
    cdef Py_ssize_t i, first = 0, count = plan.full_count if is_full else plan.rest_count
    for i in range(count):
        plan.tiles[is_wide](
            schedule, first, parts[i], band.rows + y, x, sums, pitch, height, i > 0
        )
        first = parts[i]


cdef void add_tile_in_order(
    const Plan *plan, const Band *band, Py_ssize_t y, Py_ssize_t x, int height, bint is_wide,
    Py_ssize_t width, char *sums,
) noexcept nogil:
    """Replace float32 sums of a tile by those that SciPy computes, truncated to integers.

    An integer as small as these is a float32.
    """
    cdef const Schedule *schedule = (
        &plan.full_in_order if height == TILE_HEIGHT else &plan.rest_in_order
    )
    cdef const void **rows = <const void **>(band.scratch + plan.at.double_rows)
    cdef double *to = <double *>(band.scratch + plan.at.double_band)
    cdef double *in_order = <double *>(band.scratch + plan.at.double_sums)
    cdef const float *source
    cdef Py_ssize_t pitch = TILE_WIDTH * VECTOR_BYTES // sizeof(float) + plan.reach, o, i, p, half
    for o in range(plan.kernel.outer):
        for i in range(height + plan.kernel.height - 1):
            source = <const float *>band.rows[o * plan.band_rows + y + i] + x
            for p in range(width + plan.reach):
                to[p] = source[p]
            rows[o * plan.band_rows + i] = to
            to += pitch
    # A tile has half as many columns in float64.
    half = width // 2
    for i in range(2):
        plan.tiles_in_order[is_wide](
            schedule, 0, schedule.count, rows, i * half, in_order, half, height, False
        )
        for o in range(height):
            for p in range(half):
                (<float *>sums)[o * width + i * half + p] = <float>trunc(in_order[o * half + p])


cdef void check_tile(
    const Plan *plan, const Band *band, Py_ssize_t y, Py_ssize_t x, int height, bint is_wide,
    Py_ssize_t width, char *sums,
) noexcept nogil:
    """Compute sums again as SciPy does that may be truncated to another integer."""
    cdef int32_t found[FEW_PIXELS]
    cdef int count, i
    cdef Py_ssize_t r
    cdef const Schedule *schedule = (
        &plan.full_in_order if height == TILE_HEIGHT else &plan.rest_in_order
    )
    count = find_near_integers(
        <const float *>sums, height * width, <float>plan.bound, found, FEW_PIXELS
    )
    if count > FEW_PIXELS:
        add_tile_in_order(plan, band, y, x, height, is_wide, width, sums)
        return
    for i in range(count):
        r = found[i] // width
        (<float *>sums)[found[i]] = <float>trunc(
            sum_in_order(schedule, band.rows + y, x + found[i] % width, <int>r)
        )


cdef void store_tile(
    const Plan *plan, const Band *band, const char *sums, Py_ssize_t width, Py_ssize_t count,
    int height, char *to,
) noexcept nogil:
    """Convert the first columns of a tile of sums, and write them to the output."""
    cdef char *stored = band.scratch + plan.at.stored
    cdef Py_ssize_t r, row_bytes = plan.out_w * plan.out_bytes
    for r in range(height):
        if plan.past_caches:
            plan.store(stored, sums + r * width * plan.bytes, count)
            stream_copy(to + r * row_bytes, stored, count * plan.out_bytes)
        else:
            plan.store(to + r * row_bytes, sums + r * width * plan.bytes, count)


cdef void correlate_rows(
    const Plan *plan, const Band *band, Py_ssize_t y, int height
) noexcept nogil:
    """Compute a row of tiles."""
    cdef Py_ssize_t lanes = VECTOR_BYTES // plan.bytes
    cdef bint is_wide = band.width > 2 * lanes
    cdef Py_ssize_t width = TILE_WIDTH * lanes if is_wide else lanes, x = 0
    cdef char *sums = band.scratch + plan.at.sums
    cdef char *out = plan.out + (
        (band.plane * plan.out_h + band.y + y) * plan.out_w + band.x
    ) * plan.out_bytes
    while x < band.width:
        if x + width > band.width:
            x = larger(band.width - width, 0)
        if plan.stores_in_place and width <= band.width:
            add_tile(plan, band, y, x, height, is_wide, out + x * plan.out_bytes, plan.out_w)
        else:
            add_tile(plan, band, y, x, height, is_wide, sums, width)
            if plan.bound > 0:
                check_tile(plan, band, y, x, height, is_wide, width, sums)
            store_tile(
                plan, band, sums, width, smaller(width, band.width), height,
                out + x * plan.out_bytes,
            )
        x += width


cdef void correlate_band(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    """Compute an item."""
    cdef const Plan *plan = <const Plan *>data
    cdef Py_ssize_t y = 0, split = item % plan.column_splits, loaded = 0, last
    cdef Band band
    item //= plan.column_splits
    band.scratch, band.rows = scratch, <const void **>(scratch + plan.at.rows)
    band.plane, band.y = item // plan.row_splits, item % plan.row_splits * plan.band_height
    band.height = smaller(plan.band_height, plan.out_h - band.y)
    band.x = split * plan.strip
    band.width = smaller(plan.strip, plan.out_w - band.x)
    fill_row(
        scratch + plan.at.constant, plan.constant, band.width + plan.reach, plan.bytes
    )
    while y < band.height:
        # Rows are copied just before the tiles that read them first, which find them in L1.
        last = smaller(y + TILE_HEIGHT, band.height) + plan.kernel.height - 1
        load_rows(plan, &band, loaded, last)
        loaded = last
        correlate_rows(plan, &band, y, <int>smaller(TILE_HEIGHT, band.height - y))
        y += TILE_HEIGHT
    if plan.past_caches:
        stream_fence()


# ---- plans ---------------------------------------------------------------------------------------

cdef Py_ssize_t odd_lines(Py_ssize_t numbers, Py_ssize_t bytes) noexcept:
    """Round a row up to an odd number of lines: rows then begin in different sets of L1."""
    return (ceil_div(numbers * bytes, LINE_BYTES) | 1) * LINE_BYTES // bytes


cdef void cut(Plan *plan, int threads) noexcept:
    """Cut the work into items."""
    cdef const Kernel *kernel = &plan.kernel
    cdef Py_ssize_t tile = TILE_WIDTH * VECTOR_BYTES // plan.bytes, most, rows
    plan.band_height = larger(BAND_HEIGHT, kernel.height)
    rows = plan.planes * plan.out_h // (wanted_items(threads) if threads > 1 else 1)
    plan.band_height = larger(smaller(plan.band_height, rows), 1)
    plan.band_height = ceil_div(plan.band_height, TILE_HEIGHT) * TILE_HEIGHT
    plan.band_rows = plan.band_height + kernel.height - 1
    most = BAND_BYTES // (kernel.outer * plan.band_rows * plan.bytes) - plan.reach
    most = larger(most // tile, 2) * tile
    plan.column_splits = ceil_div(plan.out_w, most)
    plan.strip = ceil_div(ceil_div(plan.out_w, plan.column_splits), tile) * tile
    plan.column_splits = ceil_div(plan.out_w, plan.strip)
    plan.strip = smaller(plan.strip, plan.out_w)
    plan.row_splits = ceil_div(plan.out_h, plan.band_height)
    # A tile that is wider than its band reads behind it.
    plan.pitch = odd_lines(larger(plan.strip, tile) + plan.reach, plan.bytes)


cdef void lay_out(Plan *plan) noexcept:
    """Lay out scratch memory."""
    cdef double rows = <double>plan.kernel.outer * plan.band_rows
    cdef double pitch_bytes = plan.pitch * plan.bytes
    cdef double tile_bytes = TILE_HEIGHT * TILE_WIDTH * VECTOR_BYTES
    cdef double columns = TILE_WIDTH * VECTOR_BYTES // sizeof(float) + plan.reach
    plan.at.rows = take(&plan.scratch, rows * sizeof(void *))
    plan.at.constant = take(&plan.scratch, pitch_bytes)
    plan.at.sums = take(&plan.scratch, tile_bytes)
    plan.at.stored = take(&plan.scratch, TILE_WIDTH * VECTOR_BYTES * sizeof(double))
    plan.at.band = take(&plan.scratch, rows * pitch_bytes)
    if plan.bound > 0:
        plan.at.double_rows = take(&plan.scratch, rows * sizeof(void *))
        plan.at.double_sums = take(&plan.scratch, tile_bytes)
        plan.at.double_band = take(
            &plan.scratch,
            plan.kernel.outer * (TILE_HEIGHT + plan.kernel.height - 1) * columns * sizeof(double),
        )


cdef void fill_plan(
    Plan *plan, cnp.ndarray input, cnp.ndarray out, cnp.ndarray lead, cnp.ndarray rows,
    cnp.ndarray columns, cnp.ndarray constant,
) noexcept:
    """Fill in the arrays of a call."""
    plan.input = <const char *>cnp.PyArray_DATA(input)
    plan.input_end = plan.input + cnp.PyArray_NBYTES(input)
    plan.in_h, plan.in_w = cnp.PyArray_DIM(input, 1), cnp.PyArray_DIM(input, 2)
    plan.in_number, plan.in_bytes = number_of(input), cnp.PyArray_ITEMSIZE(input)
    plan.out = <char *>cnp.PyArray_DATA(out)
    plan.planes = cnp.PyArray_DIM(out, 0)
    plan.out_h, plan.out_w = cnp.PyArray_DIM(out, 1), cnp.PyArray_DIM(out, 2)
    plan.out_number, plan.out_bytes = number_of(out), cnp.PyArray_ITEMSIZE(out)
    plan.lead = <const Py_ssize_t *>cnp.PyArray_DATA(lead)
    plan.rows = <const Py_ssize_t *>cnp.PyArray_DATA(rows)
    plan.columns = <const Py_ssize_t *>cnp.PyArray_DATA(columns)
    plan.constant = <const char *>cnp.PyArray_DATA(constant)


cdef void choose(Plan *plan, bint wraps) noexcept:
    """Choose the functions of the types, and what is read and written in place."""
    cdef Arithmetic arithmetic = plan.kernel.arithmetic
    cdef Number number = FLOAT32 if arithmetic == IN_FLOAT else FLOAT64
    cdef bint is_float = arithmetic != IN_INTEGER
    cdef double out_bytes = <double>plan.planes * plan.out_h * plan.out_w * plan.out_bytes
    plan.load = loader_of(arithmetic, plan.in_number)
    plan.store = storer_of(arithmetic, plan.out_number, wraps)
    plan.tiles[0], plan.tiles[1] = tile_of(arithmetic, False), tile_of(arithmetic, True)
    plan.tiles_in_order[0] = tile_of(IN_ORDER, False)
    plan.tiles_in_order[1] = tile_of(IN_ORDER, True)
    plan.past_caches = out_bytes >= STREAM_FROM_BYTES
    plan.stores_in_place = is_float and plan.out_number == number and not plan.past_caches
    plan.may_read_in_place = (
        is_float and plan.in_number == number
        and plan.kernel.outer * (plan.kernel.height + TILE_HEIGHT - 1) <= MOST_IN_PLACE
    )


cdef Kernel kernel_of(
    cnp.ndarray weights, Arithmetic arithmetic, Py_ssize_t step, bint skips_zeros
) noexcept:
    cdef Kernel kernel
    kernel.data, kernel.arithmetic = cnp.PyArray_DATA(weights), arithmetic
    kernel.outer, kernel.height = cnp.PyArray_DIM(weights, 0), cnp.PyArray_DIM(weights, 1)
    kernel.width, kernel.step = cnp.PyArray_DIM(weights, 2), step
    kernel.skips_zeros = skips_zeros
    return kernel


def correlate(
    cnp.ndarray input, cnp.ndarray out, cnp.ndarray lead, cnp.ndarray rows, cnp.ndarray columns,
    Py_ssize_t before, cnp.ndarray weights, cnp.ndarray weights_in_order, Py_ssize_t step,
    cnp.ndarray constant, str arithmetic, bint skips_zeros, bint wraps, double largest,
    int threads,
):
    """Correlate `input` (planes, h, w) with `weights` (o, kh, kw), as the formula above says.

    All arrays are C-contiguous, aligned and native. The tables `lead` (output planes, o), `rows`
    and `columns` are of intp; element 0 of a row is at position `before` of `columns`. `weights`
    and `constant`, which has one element, are of the type that `arithmetic` names. With
    `skips_zeros`, no products with weights of zero are added. With `wraps`, integral sums are taken
    modulo the range of the output. If `largest` is not 0, sums in "float" of integers up to
    `largest` are checked to be truncated as SciPy's: `weights_in_order` are those of float64.
    """
    cdef Plan plan
    cdef Kernel kernel_in_order
    cdef Building full, rest, full_in_order, rest_in_order
    cdef double moved
    memset(&plan, 0, sizeof(plan))
    memset(&full, 0, sizeof(full))
    memset(&rest, 0, sizeof(rest))
    memset(&full_in_order, 0, sizeof(full_in_order))
    memset(&rest_in_order, 0, sizeof(rest_in_order))
    fill_plan(&plan, input, out, lead, rows, columns, constant)
    plan.before = before
    plan.kernel = kernel_of(weights, ARITHMETICS[arithmetic], step, skips_zeros)
    plan.bytes = bytes_in(plan.kernel.arithmetic)
    plan.reach = (plan.kernel.width - 1) * step
    choose(&plan, wraps)
    moved = (
        cnp.PyArray_NBYTES(input) + cnp.PyArray_NBYTES(out)
        + <double>cnp.PyArray_SIZE(out) * cnp.PyArray_SIZE(weights) / PRODUCTS_PER_BYTE
    )
    threads = useful_threads(moved, threads)
    cut(&plan, threads)
    try:
        build(&full, &plan.kernel, plan.band_rows, TILE_HEIGHT)
        build(&rest, &plan.kernel, plan.band_rows, plan.out_h % TILE_HEIGHT)
        if largest > 0:
            plan.bound = error_bound(&full) * largest
            kernel_in_order = kernel_of(weights_in_order, IN_ORDER, step, skips_zeros)
            build(&full_in_order, &kernel_in_order, plan.band_rows, TILE_HEIGHT)
            build(&rest_in_order, &kernel_in_order, plan.band_rows, plan.out_h % TILE_HEIGHT)
        plan.full, plan.rest = schedule_of(&full, step), schedule_of(&rest, step)
        plan.full_in_order = schedule_of(&full_in_order, step)
        plan.rest_in_order = schedule_of(&rest_in_order, step)
        plan.full_parts, plan.full_count = full.parts, full.part_count
        plan.rest_parts, plan.rest_count = rest.parts, rest.part_count
        lay_out(&plan)
        for_each(
            correlate_band, &plan, plan.planes * plan.row_splits * plan.column_splits,
            <size_t>plan.scratch.bytes, moved, threads,
        )
    finally:
        destroy(&full)
        destroy(&rest)
        destroy(&full_in_order)
        destroy(&rest_in_order)
