"""The driver of separable filters: a pass along one axis, or two passes at once.

An array is seen as (planes, height, width, step), C-contiguous. A *vertical* pass filters along the
height; its vectors' lanes are the neighbouring elements of a row. A *horizontal* pass filters along
the width: the elements that it adds up are `step` apart, such as the 3 channels of a pixel. Columns
are counted in elements, `columns` of them in a row.

A kernel fills in a `Separable`, with the callbacks of its arithmetic, and calls `filter_planes` or,
if both passes run and the horizontal one is the first, `filter_lines_first`. If the results of both
passes are added up, it calls `add_passes`. The driver knows borders, memory and threads, and no
arithmetic:

a. An item is a run of rows, and of columns unless both passes run. It is computed in chunks of a
   few rows. The first pass of a chunk writes to scratch, where the second one finds its rows in L1
   or L2. So an array is read and written once.
b. What lies beyond the borders is in a table per axis, `Pass.sources`: the element that each
   position of the extended axis shows, or -1 for the constant. The vertical callback gets a pointer
   to each row that it needs, and the horizontal one a line of elements that includes those beyond
   the borders.
c. Callbacks may compute with another type than the one in memory: `Pass.load` converts elements.
   The vertical pass converts the rows of a chunk strip by strip, so that they fit into L2.
d. Chunks begin at multiples of `rows_together`, whatever the number of threads. So a vertical
   callback may group the neighbours of an output by the place of a row in its chunk, as sums of
   floats do. Other outputs depend on nothing but their own neighbours.
e. If the horizontal pass is the first one, each chunk filters the rows that its vertical pass
   needs. Those that two chunks need are filtered twice.
"""

from libc.string cimport memcpy

from fastconv._kernels.parallel cimport Task, for_each, useful_threads, wanted_items
from fastconv._kernels.scratch cimport Layout, take
from fastconv._kernels.stream cimport LINE_BYTES
from fastconv._kernels.window cimport ceil_div, larger, smaller

# Convert neighbouring elements to the type that a pass computes with.
ctypedef void (*Load)(void *to, const void *elements, Py_ssize_t count) noexcept nogil

# Compute `outs` neighbouring output rows of `count` elements, which begin `pitch` bytes apart, from
# outs + size - 1 rows. `stage` is the callback's own scratch memory.
ctypedef void (*FilterRows)(
    const void *filter, char *to, Py_ssize_t pitch, const char *const *rows, Py_ssize_t outs,
    Py_ssize_t count, char *stage,
) noexcept nogil

# Compute `count` outputs of a line from its count + (size - 1) * step elements. If there are fewer
# outputs than LINE_BYTES, as many bytes may be read behind the line.
ctypedef void (*FilterLine)(
    const void *filter, char *to, const char *line, Py_ssize_t count, char *stage
) noexcept nogil

cdef enum:
    # The converted rows of a strip: together with the outputs, half of an L2 of 1 MiB.
    STRIP_BYTES = 256 << 10
    # A strip has at least this many columns, if there are as many: several vectors.
    LEAST_COLUMNS = 64
    # The rows between the two passes.
    BETWEEN_BYTES = 512 << 10
    # The columns of a line that are filtered at a time: float64 lines fill a third of L1.
    LINE_COLUMNS = 2048


cdef struct Pass:
    Py_ssize_t size  # The number of taps.
    Py_ssize_t before  # The positions in front of the first element.
    const Py_ssize_t *sources  # One for each of length + size - 1 positions.
    const void *filter  # What the callback computes with.
    Load load  # NULL if the callback computes with elements as they are in memory.
    Py_ssize_t bytes  # The size of an element that the pass reads,
    Py_ssize_t loaded_bytes  # and when it is converted.
    const char *constant  # What lies beyond the border in the mode "constant", converted.


cdef struct Separable:
    # To be filled in.
    const char *input
    char *output
    Py_ssize_t planes, height, width, step
    FilterRows rows  # NULL if there is no vertical pass.
    FilterLine line  # NULL if there is no horizontal pass.
    Pass vertical, horizontal  # The second one reads what the first one writes.
    Py_ssize_t output_bytes  # The size of an element of the output.
    Py_ssize_t rows_together  # The rows of a chunk; the callback is called for as many.
    Py_ssize_t columns_together  # The columns of a line that are filtered at a time, or 0.
    size_t stage_bytes  # The callbacks' own scratch memory.
    # Set and laid out by `filter_planes`, `filter_lines_first` or `add_passes`.
    bint lines_first, are_added
    Py_ssize_t columns  # The elements of a row.
    Py_ssize_t item_rows, bands, item_columns, pieces, strip
    Py_ssize_t pitch  # The bytes of a row between the passes.
    Layout scratch
    Py_ssize_t margin  # The bytes in front of such a row for what lies beyond its borders, or 0.
    size_t pointers, constants, loaded, between, line_buffer, stage


cdef inline bint shows_constant(const Pass *filtered, Py_ssize_t length) noexcept nogil:
    """Tell whether any position of an axis is beyond a border in the mode "constant"."""
    cdef Py_ssize_t p
    for p in range(filtered.before):
        if filtered.sources[p] < 0:
            return True
    for p in range(filtered.before + length, length + filtered.size - 1):
        if filtered.sources[p] < 0:
            return True
    return False


cdef inline void repeat(
    char *to, const char *element, Py_ssize_t bytes, Py_ssize_t count
) noexcept nogil:
    """Write an element `count` times."""
    cdef Py_ssize_t i
    for i in range(count):
        copy_element(to + i * bytes, element, bytes)


cdef inline void copy_element(char *to, const char *element, Py_ssize_t bytes) noexcept nogil:
    """Copy one element. With a size that the compiler knows, this is no call of a function."""
    if bytes == 4:
        memcpy(to, element, 4)
    elif bytes == 8:
        memcpy(to, element, 8)
    elif bytes == 1:
        to[0] = element[0]
    elif bytes == 2:
        memcpy(to, element, 2)
    else:
        memcpy(to, element, bytes)


cdef inline void load_elements(
    const Pass *filtered, char *to, const char *elements, Py_ssize_t count
) noexcept nogil:
    if filtered.load != NULL:
        filtered.load(to, elements, count)
    else:
        memcpy(to, elements, count * filtered.bytes)


cdef inline void load_beyond(
    const Pass *along, char *line, const char *row, Py_ssize_t step, Py_ssize_t first,
    Py_ssize_t begin, Py_ssize_t end, Py_ssize_t inside, Py_ssize_t inside_end,
) noexcept nogil:
    """Load the positions [begin, end), which lie beyond a border, to a line that begins at position
    `first`, and where the positions [inside, inside_end) are loaded already."""
    cdef Py_ssize_t bytes = along.loaded_bytes * step, p, source, shown
    for p in range(begin, end):
        source = along.sources[p]
        shown = source + along.before
        if source < 0:
            repeat(line + (p - first) * bytes, along.constant, along.loaded_bytes, step)
        elif inside <= shown < inside_end:
            copy_element(line + (p - first) * bytes, line + (shown - first) * bytes, bytes)
        else:
            load_elements(
                along, line + (p - first) * bytes, row + source * step * along.bytes, step
            )


cdef inline void filter_line(
    const Separable *job, const char *row, Py_ssize_t x, Py_ssize_t count, char *to, char *scratch
) noexcept nogil:
    """Filter `count` outputs of a row horizontally, from column x on: both are whole positions."""
    cdef const Pass *along = &job.horizontal
    cdef Py_ssize_t step = job.step, first = x // step
    cdef Py_ssize_t end = first + count // step + along.size - 1
    cdef Py_ssize_t inside = smaller(larger(first, along.before), end)
    cdef Py_ssize_t inside_end = larger(inside, smaller(end, along.before + job.width))
    cdef char *line = scratch + job.line_buffer
    cdef const char *elements = row + (inside - along.before) * step * along.bytes
    if (
        along.load == NULL and inside == first and inside_end == end
        and count >= LINE_BYTES
    ):
        job.line(along.filter, to, elements, count, scratch + job.stage)
        return
    load_elements(
        along, line + (inside - first) * step * along.loaded_bytes, elements,
        (inside_end - inside) * step,
    )
    load_beyond(along, line, row, step, first, first, inside, inside, inside_end)
    load_beyond(along, line, row, step, first, inside_end, end, inside, inside_end)
    job.line(along.filter, to, line, count, scratch + job.stage)


cdef inline void filter_strip(
    const Separable *job, const char *plane, Py_ssize_t y, Py_ssize_t outs, Py_ssize_t x,
    Py_ssize_t count, char *to, Py_ssize_t pitch, char *scratch,
) noexcept nogil:
    """Filter `outs` rows from y on vertically, in `count` columns from x on."""
    cdef const Pass *down = &job.vertical
    cdef const char **rows = <const char **>(scratch + job.pointers)
    cdef Py_ssize_t needed = outs + down.size - 1, row_bytes = job.columns * down.bytes
    cdef Py_ssize_t loaded_pitch = job.strip * down.loaded_bytes, p, source
    cdef bint whole = needed > job.height  # Then each row of the plane is converted once.
    cdef char *loaded = scratch + job.loaded
    plane += x * down.bytes
    if down.load != NULL and whole:
        for source in range(job.height):
            down.load(loaded + source * loaded_pitch, plane + source * row_bytes, count)
    for p in range(needed):
        source = down.sources[y + p]
        if source < 0:
            rows[p] = scratch + job.constants
        elif down.load == NULL:
            rows[p] = plane + source * row_bytes
        elif whole:
            rows[p] = loaded + source * loaded_pitch
        else:
            rows[p] = loaded + p * loaded_pitch
            down.load(loaded + p * loaded_pitch, plane + source * row_bytes, count)
    job.rows(down.filter, to, pitch, rows, outs, count, scratch + job.stage)


cdef inline void filter_row(
    const Separable *job, const char *row, Py_ssize_t x, Py_ssize_t count, char *to,
    Py_ssize_t bytes, char *scratch,
) noexcept nogil:
    """Filter `count` columns of a row horizontally, from x on, to elements of a size in bytes."""
    cdef Py_ssize_t end = x + count, some
    while x < end:
        some = smaller(job.columns_together, end - x)
        filter_line(job, row, x, some, to + x * bytes, scratch)
        x += some


cdef inline void filter_within_margins(
    const Separable *job, char *row, char *to, char *scratch
) noexcept nogil:
    """Filter a row horizontally that has room for its borders at both ends."""
    cdef const Pass *along = &job.horizontal
    cdef Py_ssize_t step = job.step, inside = along.before, inside_end = inside + job.width
    cdef Py_ssize_t x = 0, some
    cdef char *line = row - along.before * step * along.bytes
    load_beyond(along, line, row, step, 0, 0, inside, inside, inside_end)
    load_beyond(
        along, line, row, step, 0, inside_end, job.width + along.size - 1, inside, inside_end
    )
    while x < job.columns:
        some = smaller(job.columns_together, job.columns - x)
        job.line(
            along.filter, to + x * job.output_bytes, line + x * along.bytes, some,
            scratch + job.stage,
        )
        x += some


cdef inline void filter_strips(
    const Separable *job, const char *plane, Py_ssize_t y, Py_ssize_t outs, Py_ssize_t x,
    Py_ssize_t count, char *to, Py_ssize_t pitch, Py_ssize_t bytes, char *scratch,
) noexcept nogil:
    """Filter `outs` rows vertically in `count` columns from x on, strip by strip."""
    cdef Py_ssize_t end = x + count, some
    while x < end:
        some = smaller(job.strip, end - x)
        if some < end - x < some + LEAST_COLUMNS:
            some = end - x - LEAST_COLUMNS  # The last strip is no narrower than a vector.
        filter_strip(job, plane, y, outs, x, some, to + x * bytes, pitch, scratch)
        x += some


cdef inline void filter_lines_of_chunk(
    const Separable *job, const char *plane, Py_ssize_t y, Py_ssize_t outs, char *scratch
) noexcept nogil:
    """Filter the rows horizontally that `outs` rows from y on need; `rows` will point to them."""
    cdef const Pass *down = &job.vertical
    cdef const char **rows = <const char **>(scratch + job.pointers)
    cdef Py_ssize_t needed = outs + down.size - 1, p, source, slot
    cdef bint whole = needed > job.height
    cdef char *line
    for p in range(needed):
        source = down.sources[y + p]
        if source < 0:
            rows[p] = scratch + job.constants
            continue
        slot = source if whole else p
        rows[p] = scratch + job.loaded + slot * job.columns * down.loaded_bytes
        if not whole:
            filter_and_load(job, plane, source, <char *>rows[p], scratch)
    for source in range(job.height if whole else 0):
        line = scratch + job.loaded + source * job.columns * down.loaded_bytes
        filter_and_load(job, plane, source, line, scratch)


cdef inline void filter_and_load(
    const Separable *job, const char *plane, Py_ssize_t y, char *to, char *scratch
) noexcept nogil:
    """Filter row y horizontally, and convert the results for the vertical pass."""
    cdef const char *row = plane + y * job.columns * job.horizontal.bytes
    cdef const Pass *down = &job.vertical
    cdef char *filtered = to if down.load == NULL else scratch + job.between
    filter_row(job, row, 0, job.columns, filtered, down.bytes, scratch)
    if down.load != NULL:
        down.load(to, filtered, job.columns)


cdef inline void filter_chunk(
    const Separable *job, const char *plane, Py_ssize_t y, Py_ssize_t outs, Py_ssize_t x,
    Py_ssize_t count, char *to, char *scratch,
) noexcept nogil:
    """Filter `outs` rows from y on, in `count` columns from x on; `to` is where the rows go."""
    cdef Py_ssize_t bytes = job.output_bytes, pitch = job.columns * job.output_bytes, i
    cdef char *between = scratch + job.between
    if job.line == NULL:
        filter_strips(job, plane, y, outs, x, count, to, pitch, bytes, scratch)
    elif job.rows == NULL:
        for i in range(outs):
            filter_row(
                job, plane + (y + i) * job.columns * job.horizontal.bytes, x, count,
                to + i * pitch, bytes, scratch,
            )
    elif job.are_added:
        filter_strips(job, plane, y, outs, x, count, to, pitch, bytes, scratch)
        for i in range(outs):
            filter_row(
                job, plane + (y + i) * job.columns * job.horizontal.bytes, x, count,
                to + i * pitch, bytes, scratch,
            )
    elif job.lines_first:
        filter_lines_of_chunk(job, plane, y, outs, scratch)
        job.rows(
            job.vertical.filter, to, pitch, <const char *const *>(scratch + job.pointers), outs,
            job.columns, scratch + job.stage,
        )
    else:
        between += job.margin
        filter_strips(
            job, plane, y, outs, x, count, between, job.pitch, job.horizontal.bytes, scratch
        )
        for i in range(outs):
            if job.margin:
                filter_within_margins(job, between + i * job.pitch, to + i * pitch, scratch)
            else:
                filter_row(job, between + i * job.pitch, x, count, to + i * pitch, bytes, scratch)


cdef inline void filter_item(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    cdef const Separable *job = <const Separable *>data
    cdef Py_ssize_t x = item % job.pieces * job.item_columns
    cdef Py_ssize_t y = item // job.pieces % job.bands * job.item_rows
    cdef Py_ssize_t plane = item // job.pieces // job.bands * job.height * job.columns
    cdef Py_ssize_t end = smaller(y + job.item_rows, job.height)
    cdef Py_ssize_t count = (
        job.columns - x if item % job.pieces == job.pieces - 1 else job.item_columns
    )
    cdef Py_ssize_t bytes = (
        job.horizontal.bytes if job.rows == NULL or job.lines_first else job.vertical.bytes
    )
    if job.rows != NULL and shows_constant(&job.vertical, job.height):
        repeat(
            scratch + job.constants, job.vertical.constant, job.vertical.loaded_bytes, job.strip
        )
    while y < end:
        filter_chunk(
            job, job.input + plane * bytes, y, smaller(job.rows_together, end - y), x, count,
            job.output + (plane + y * job.columns) * job.output_bytes, scratch,
        )
        y += job.rows_together


cdef inline void cut(Separable *job, int threads) noexcept:
    """Cut the work into items."""
    cdef Py_ssize_t chunks, items = ceil_div(wanted_items(threads), job.planes)
    cdef Py_ssize_t rows = larger(1, job.rows_together), least
    # A band reads size - 1 rows more than it writes, so that the least is as many rows.
    if job.rows != NULL:
        rows = larger(rows, smaller(job.vertical.size - 1, job.height))
    job.bands = smaller(items, ceil_div(job.height, rows))
    chunks = ceil_div(ceil_div(job.height, job.bands), job.rows_together)
    job.item_rows = chunks * job.rows_together
    job.bands = ceil_div(job.height, job.item_rows)
    job.item_columns, job.pieces = job.columns, 1
    if job.rows == NULL:
        job.pieces = smaller(
            ceil_div(items, job.bands), ceil_div(job.columns, job.columns_together)
        )
    elif job.line == NULL:
        job.pieces = smaller(ceil_div(items, job.bands), ceil_div(job.columns, job.strip))
    least = LINE_BYTES * (job.step if job.rows == NULL else 1)
    job.item_columns = ceil_div(ceil_div(job.columns, job.pieces), least) * least
    job.pieces = larger(1, job.columns // job.item_columns)


cdef inline void lay_out(Separable *job) noexcept:
    """Lay out the scratch memory of an item."""
    cdef Pass *down = &job.vertical
    cdef Pass *along = &job.horizontal
    cdef double needed, columns
    job.scratch.bytes = job.margin = 0
    job.columns = job.width * job.step
    job.strip = larger(1, job.columns)
    if job.columns_together == 0:
        job.columns_together = ceil_div(LINE_COLUMNS, job.step) * job.step
    job.rows_together = larger(1, smaller(job.rows_together, job.height))
    if job.rows != NULL:
        needed = job.rows_together + down.size - 1
        job.pointers = take(&job.scratch, needed * sizeof(char *))
        needed = min(needed, <double>job.height)
        if job.lines_first:
            job.loaded = take(&job.scratch, needed * job.columns * down.loaded_bytes)
        elif down.load != NULL:
            columns = max(2.0 * LEAST_COLUMNS, STRIP_BYTES // (needed * down.loaded_bytes))
            job.strip = smaller(job.strip, <Py_ssize_t>columns // LEAST_COLUMNS * LEAST_COLUMNS)
            job.loaded = take(&job.scratch, needed * job.strip * down.loaded_bytes)
        elif job.line == NULL:
            job.strip = smaller(job.strip, LINE_COLUMNS)
        job.constants = take(
            &job.scratch,
            job.strip * down.loaded_bytes if shows_constant(down, job.height) else 0,
        )
    if job.rows != NULL and job.line != NULL and not job.are_added:
        job.pitch = larger(along.bytes, down.bytes) * job.columns
        if not job.lines_first and along.load == NULL and along.size <= job.width:
            # Then no row is copied to a line. Vectors may read some bytes behind the last one.
            job.margin = ceil_div(along.before * job.step * along.bytes + 1, LINE_BYTES)
            job.margin *= LINE_BYTES
            job.pitch += job.margin + along.size * job.step * along.bytes + LINE_BYTES
        job.pitch = ceil_div(job.pitch, LINE_BYTES) * LINE_BYTES
        needed = 1 if job.lines_first else job.rows_together
        job.between = take(&job.scratch, needed * job.pitch)
    if job.line != NULL:
        columns = smaller(job.columns_together, job.columns) + (along.size - 1.0) * job.step
        job.line_buffer = take(&job.scratch, columns * along.loaded_bytes + LINE_BYTES)
    job.stage = take(&job.scratch, job.stage_bytes)


cdef inline bint passes_fit(
    Py_ssize_t columns, Py_ssize_t bytes, Py_ssize_t rows
) noexcept nogil:
    """Tell whether rows fit into the caches between two passes; if not, run one after the other."""
    return <double>columns * bytes * rows <= BETWEEN_BYTES


cdef inline int run_passes(
    Separable *job, bint lines_first, bint are_added, int threads
) except -1:
    cdef double moved = 2.0 * job.output_bytes * job.planes * job.height * job.width * job.step
    if moved == 0:
        return 0
    threads = useful_threads(moved, threads)
    job.lines_first, job.are_added = lines_first, are_added
    lay_out(job)
    cut(job, threads)
    return for_each(
        <Task>filter_item, job, job.planes * job.bands * job.pieces, <size_t>job.scratch.bytes,
        moved, threads,
    )


cdef inline int filter_planes(Separable *job, int threads) except -1:
    """Run the passes on all planes, the vertical one first."""
    return run_passes(job, False, False, threads)


cdef inline int filter_lines_first(Separable *job, int threads) except -1:
    """Run both passes on all planes, the horizontal one first."""
    return run_passes(job, True, False, threads)


cdef inline int add_passes(Separable *job, int threads) except -1:
    """Run both passes on the input; the callback of the horizontal one adds to the output."""
    return run_passes(job, False, True, threads)
