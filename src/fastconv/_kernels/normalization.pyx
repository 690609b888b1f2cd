"""Batch normalisation and its gradients.

    forward:   out[n, c, p] = (x[n, c, p] - mean[c]) / std[c] * gamma[c] + beta[c]
    backward:  dbeta[c] = sum of dout[n, c, p], dgamma[c] = sum of dout * normalized,
               grad[n, c, p] = (dout - (dbeta[c] + normalized * dgamma[c]) / count) / std * gamma,
               where normalized = (x - mean) / std is computed again; the quotient of the terms with
               dbeta and dgamma is left out if mean and variance did not depend on x

Arrays are contiguous: n images, c channels, p pixels. Mean and variance, and what is computed per
channel, are float64.

a. A pass over a channel computes sums, the next one writes results. An item does both for one
   channel: what it read for the sums is still in L2 when it writes, if the channel is no larger.
   The second pass goes backwards, so that of a larger channel it finds at least what was read last.
b. If there are too few channels for all threads, each of the two passes is divided into slices.
c. A channel is summed up in chunks that fit into L1 (normalization.h), and those in slices, whose
   sums are added in order. All of these depend on the shape alone, and so do all bits of results.
d. Where a channel has few pixels in a row, an item has several channels, and each pixel is a
   column with sums of its own. The sums of a channel's columns are added at the end.
"""

from libc.math cimport isfinite, sqrt
from libc.string cimport memset

cimport numpy as cnp

from fastconv._kernels.level cimport LEVEL
from fastconv._kernels.number cimport Number
from fastconv._kernels.parallel cimport Task, for_each, useful_threads
from fastconv._kernels.planes cimport computed_format, number_of
from fastconv._kernels.rows cimport AS_IS, Format, load_row, store_row
from fastconv._kernels.scratch cimport Layout, allocate, release, take
from fastconv._kernels.stream cimport STREAM_FROM_BYTES, stream_fence
from fastconv._kernels.window cimport ceil_div, larger, smaller

cnp.import_array()

level = LEVEL.decode()

cdef extern from "normalization.h":
    enum:
        MOST_COLUMNS
        LEAST_PIXELS

    ctypedef struct Sums:
        double count, mean, squares, dout, product

    ctypedef struct ChunkLoops:
        void (*add_moments)(
            Sums *sums, const void *x, Py_ssize_t pitch, Py_ssize_t rows, Py_ssize_t columns,
            Py_ssize_t ahead,
        ) noexcept nogil
        void (*add_products)(
            Sums *sums, const void *x, const void *dout, Py_ssize_t pitch, Py_ssize_t rows,
            Py_ssize_t columns, Py_ssize_t ahead, const void *terms,
        ) noexcept nogil
        void (*normalize)(
            void *to, Py_ssize_t to_pitch, const void *x, Py_ssize_t pitch, Py_ssize_t rows,
            Py_ssize_t columns, Py_ssize_t ahead, const void *terms, int past_caches,
        ) noexcept nogil
        void (*gradient)(
            void *to, Py_ssize_t to_pitch, const void *x, const void *dout, Py_ssize_t pitch,
            Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t ahead, const void *terms,
            int past_caches,
        ) noexcept nogil

    ctypedef struct Normalizations:
        ChunkLoops planar, columns
        size_t terms_bytes
        void (*set_terms)(
            void *terms, Py_ssize_t entry, double mean, double by_x, double by_dout,
            double constant,
        ) noexcept nogil
        double (*center_of)(double mean) noexcept nogil

    const Normalizations *normalizations_of(Number number) noexcept nogil
    void merge_moments(Sums *sums, double count, double mean, double squares) noexcept nogil

cdef enum:
    # A third of an L1 of 48 KiB: a chunk is read a second time from there.
    CHUNK_BYTES = 16 << 10
    # The largest number of slices of a channel. More would only cost more sums.
    MOST_SLICES = 8
    # Shorter rows are not written past the caches, because the ends of rows are parts of lines.
    STREAMED_ROW_BYTES = 4 << 10
    # The size of an item where nothing is summed up.
    RUN_BYTES = 64 << 10
    # Shorter rows take longer one by one than in chunks of a channel, whose terms are set once.
    RUN_ROW_BYTES = 512
    # Fewer items than this per thread leave a thread idle at the end for too long.
    CHANNELS_PER_THREAD = 4


cdef struct Plan:
    const Normalizations *functions
    ChunkLoops loops
    const char *x
    const char *dout  # NULL unless gradients are computed.
    char *out
    Format format
    Py_ssize_t images, channels, pixels
    double count  # The numbers of a channel.
    bint of_batch  # Whether mean and variance are those of x.
    # How the work is divided.
    Py_ssize_t item_channels, entries_of_channel, chunk_images, pieces, chunks, slices
    Py_ssize_t item_runs  # How many pieces of rows are an item where nothing is summed up.
    Sums *sums  # (channels, slices)
    bint past_caches
    double moved
    int threads
    # What there is of each channel.
    const double *gamma
    const double *beta
    double eps
    double *mean
    double *var
    double *std
    double *dgamma
    double *dbeta
    # Parts of scratch.
    Layout scratch
    size_t terms, entries, of_x, of_dout, of_out


cdef struct Chunk:
    # A part of the channels of an item: `columns` numbers of each of some images.
    Py_ssize_t first, pitch, rows, columns  # In numbers.


cdef inline Py_ssize_t split(Py_ssize_t whole, Py_ssize_t parts, Py_ssize_t part) noexcept nogil:
    """Return where one of near-equal parts begins."""
    return whole * part // parts


cdef inline Chunk chunk_of(const Plan *plan, Py_ssize_t item, Py_ssize_t index) noexcept nogil:
    cdef Chunk chunk
    cdef Py_ssize_t image = index // plan.pieces * plan.chunk_images, piece = index % plan.pieces
    cdef Py_ssize_t channel = item * plan.item_channels
    cdef Py_ssize_t channels = smaller(plan.item_channels, plan.channels - channel)
    cdef Py_ssize_t first = split(plan.pixels, plan.pieces, piece)
    chunk.pitch = plan.channels * plan.pixels
    chunk.first = image * chunk.pitch + channel * plan.pixels + first
    chunk.rows = smaller(plan.chunk_images, plan.images - image)
    chunk.columns = channels * (split(plan.pixels, plan.pieces, piece + 1) - first)
    return chunk


cdef inline bint is_converted(const Plan *plan) noexcept nogil:
    return plan.format.conversion != AS_IS


cdef inline Py_ssize_t pitch_of(const Plan *plan, const Chunk *chunk) noexcept nogil:
    """Return the distance of the rows that `rows_of` returns, in numbers."""
    return chunk.columns if is_converted(plan) else chunk.pitch


cdef inline Py_ssize_t distance(
    const Plan *plan, const Chunk *chunk, Py_ssize_t item, Py_ssize_t index
) noexcept nogil:
    """Return how many numbers ahead of a chunk lies what is to be fetched: another chunk.

    It may be one before the first or after the last, where a prefetch does nothing.
    """
    return 0 if is_converted(plan) else chunk_of(plan, item, index).first - chunk.first


cdef inline const void *rows_of(
    const Plan *plan, const char *array, const Chunk *chunk, char *stage
) noexcept nogil:
    """Return a chunk's first number; convert float16 to float32 on the stage."""
    cdef Py_ssize_t row, bytes = plan.format.bytes
    if not is_converted(plan):
        return array + chunk.first * bytes
    for row in range(chunk.rows):
        load_row(
            stage + row * chunk.columns * plan.format.scratch_bytes,
            array + (chunk.first + row * chunk.pitch) * bytes, chunk.columns, bytes, plan.format,
        )
    return stage


cdef void sum_slice(
    const Plan *plan, Py_ssize_t item, Py_ssize_t slice_, char *scratch
) noexcept nogil:
    """Compute the sums of a slice of the channels of an item."""
    cdef Sums *entries = <Sums *>(scratch + plan.entries)
    cdef Sums *sums
    cdef const void *x
    cdef const void *dout
    cdef Chunk chunk
    cdef Py_ssize_t entry, ahead, channel = item * plan.item_channels
    cdef Py_ssize_t last = smaller(plan.channels, channel + plan.item_channels)
    cdef Py_ssize_t index = split(plan.chunks, plan.slices, slice_)
    cdef Py_ssize_t end = split(plan.chunks, plan.slices, slice_ + 1)
    memset(entries, 0, MOST_COLUMNS * sizeof(Sums))
    while index < end:
        chunk = chunk_of(plan, item, index)
        index += 1
        ahead = distance(plan, &chunk, item, index)
        x = rows_of(plan, plan.x, &chunk, scratch + plan.of_x)
        if plan.dout == NULL:
            plan.loops.add_moments(
                entries, x, pitch_of(plan, &chunk), chunk.rows, chunk.columns, ahead
            )
        else:
            dout = rows_of(plan, plan.dout, &chunk, scratch + plan.of_dout)
            plan.loops.add_products(
                entries, x, dout, pitch_of(plan, &chunk), chunk.rows, chunk.columns, ahead,
                scratch + plan.terms,
            )
    for channel in range(channel, last):
        sums = plan.sums + channel * plan.slices + slice_
        sums[0] = entries[0]
        for entry in range(1, plan.entries_of_channel):
            add_sums(sums, entries + entry)
        entries += plan.entries_of_channel


cdef inline void add_sums(Sums *sums, const Sums *other) noexcept nogil:
    merge_moments(sums, other.count, other.mean, other.squares)
    sums.dout += other.dout
    sums.product += other.product


cdef inline Sums sums_of(const Plan *plan, Py_ssize_t channel) noexcept nogil:
    """Add up the slices of a channel."""
    cdef Sums sums = plan.sums[channel * plan.slices]
    cdef Py_ssize_t slice_
    for slice_ in range(1, plan.slices):
        add_sums(&sums, plan.sums + channel * plan.slices + slice_)
    return sums


cdef inline void set_terms(
    const Plan *plan, Py_ssize_t item, Py_ssize_t channel, double mean, double by_x,
    double by_dout, double constant, char *scratch,
) noexcept nogil:
    """Set the terms of all entries of a channel."""
    cdef Py_ssize_t i, first = (channel - item * plan.item_channels) * plan.entries_of_channel
    for i in range(plan.entries_of_channel):
        plan.functions.set_terms(
            scratch + plan.terms, first + i, mean, by_x, by_dout, constant
        )


cdef void set_centers_of_item(const Plan *plan, Py_ssize_t item, char *scratch) noexcept nogil:
    """Set what is needed of the terms for the sums of the backward pass: the means."""
    cdef Py_ssize_t channel = item * plan.item_channels
    cdef Py_ssize_t last = smaller(plan.channels, channel + plan.item_channels)
    for channel in range(channel, last):
        set_terms(plan, item, channel, plan.mean[channel], 0, 0, 0, scratch)


cdef void set_terms_of_item(const Plan *plan, Py_ssize_t item, char *scratch) noexcept nogil:
    """Set the terms of the channels of an item for its results. Its statistics are known."""
    cdef Py_ssize_t channel = item * plan.item_channels
    cdef Py_ssize_t last = smaller(plan.channels, channel + plan.item_channels)
    cdef double mean, rstd, scale
    for channel in range(channel, last):
        mean, rstd = plan.mean[channel], 1 / plan.std[channel]
        scale = plan.gamma[channel] * rstd
        if plan.dout == NULL:
            set_terms(plan, item, channel, mean, scale, 0, plan.beta[channel], scratch)
        elif plan.of_batch:
            set_terms(
                plan, item, channel, mean, -plan.dgamma[channel] * rstd / plan.count, scale,
                -plan.dbeta[channel] / plan.count, scratch,
            )
        else:
            # The gradient is that of a product: dout takes the place of x, and a sum with -0 keeps
            # the sign of zeros.
            set_terms(plan, item, channel, 0, scale, 0, -0.0, scratch)


cdef void conclude(const Plan *plan, Py_ssize_t item) noexcept nogil:
    """Write down what the sums of the channels of an item tell."""
    cdef Py_ssize_t channel = item * plan.item_channels
    cdef Py_ssize_t last = smaller(plan.channels, channel + plan.item_channels)
    cdef Sums sums
    cdef double rest
    for channel in range(channel, last):
        sums = sums_of(plan, channel)
        if plan.dout == NULL:
            # Without numbers, both are NaN.
            plan.mean[channel] = sums.mean if sums.count else sums.mean / sums.count
            plan.var[channel] = sums.squares / sums.count
            plan.std[channel] = sqrt(plan.var[channel] + plan.eps)
            continue
        rest = plan.mean[channel] - plan.functions.center_of(plan.mean[channel])
        if isfinite(rest * sums.dout):  # Infinities have no rest.
            sums.product -= rest * sums.dout
        plan.dgamma[channel] = sums.product / plan.std[channel]
        plan.dbeta[channel] = sums.dout


cdef void write_chunk(
    const Plan *plan, const Chunk *chunk, Py_ssize_t ahead, char *scratch
) noexcept nogil:
    """Compute the results of a chunk."""
    cdef const void *x = NULL
    cdef const void *dout = NULL
    cdef const void *terms = scratch + plan.terms
    cdef Py_ssize_t _row, pitch = pitch_of(plan, chunk)
    cdef char *out = plan.out + chunk.first * plan.format.bytes
    cdef char *to = scratch + plan.of_out if is_converted(plan) else out
    if plan.dout != NULL:
        dout = rows_of(plan, plan.dout, chunk, scratch + plan.of_dout)
    if plan.dout == NULL or plan.of_batch:
        x = rows_of(plan, plan.x, chunk, scratch + plan.of_x)
    if x != NULL and dout != NULL:
        plan.loops.gradient(
            to, pitch, x, dout, pitch, chunk.rows, chunk.columns, ahead, terms, plan.past_caches
        )
    else:
        plan.loops.normalize(
            to, pitch, x if dout == NULL else dout, pitch, chunk.rows, chunk.columns, ahead,
            terms, plan.past_caches,
        )
    for _row in range(chunk.rows if is_converted(plan) else 0):
        store_row(out, to, chunk.columns, plan.format)
        out += chunk.pitch * plan.format.bytes
        to += pitch * plan.format.scratch_bytes


cdef void write_slice(
    const Plan *plan, Py_ssize_t item, Py_ssize_t slice_, char *scratch
) noexcept nogil:
    """Compute the results of a slice of the channels of an item, from the last chunk on."""
    cdef Py_ssize_t first = split(plan.chunks, plan.slices, slice_)
    cdef Py_ssize_t index = split(plan.chunks, plan.slices, slice_ + 1)
    cdef Chunk chunk
    while index > first:
        index -= 1
        chunk = chunk_of(plan, item, index)
        write_chunk(plan, &chunk, distance(plan, &chunk, item, index - 1), scratch)
    if plan.past_caches:
        stream_fence()


cdef void compute_item(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    """Compute the sums of an item, and its results."""
    cdef const Plan *plan = <const Plan *>data
    cdef Py_ssize_t slice_
    if plan.dout != NULL:
        set_centers_of_item(plan, item, scratch)
    for slice_ in range(plan.slices):
        sum_slice(plan, item, slice_, scratch)
    conclude(plan, item)
    set_terms_of_item(plan, item, scratch)
    for slice_ in range(plan.slices):
        write_slice(plan, item, plan.slices - 1 - slice_, scratch)


cdef void sum_one_slice(const void *data, Py_ssize_t index, char *scratch) noexcept nogil:
    cdef const Plan *plan = <const Plan *>data
    if plan.dout != NULL:
        set_centers_of_item(plan, index // plan.slices, scratch)
    sum_slice(plan, index // plan.slices, index % plan.slices, scratch)


cdef void write_one_slice(const void *data, Py_ssize_t index, char *scratch) noexcept nogil:
    cdef const Plan *plan = <const Plan *>data
    set_terms_of_item(plan, index // plan.slices, scratch)
    write_slice(plan, index // plan.slices, index % plan.slices, scratch)


cdef void normalize_rows(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    """Normalise neighbouring rows (n, c) with statistics that are known."""
    cdef const Plan *plan = <const Plan *>data
    cdef Chunk chunk
    cdef Py_ssize_t run = item * plan.item_runs, row, piece, channel
    cdef Py_ssize_t last = smaller(
        run + plan.item_runs, plan.images * plan.channels * plan.pieces
    )
    chunk.rows = 1
    for run in range(run, last):
        row, piece = run // plan.pieces, run % plan.pieces
        channel = row % plan.channels
        set_terms_of_item(plan, channel, scratch)
        chunk.first = split(plan.pixels, plan.pieces, piece)
        chunk.columns = split(plan.pixels, plan.pieces, piece + 1) - chunk.first
        chunk.first += row * plan.pixels
        chunk.pitch = chunk.columns
        write_chunk(plan, &chunk, 0, scratch)
    if plan.past_caches:
        stream_fence()


cdef Plan make_plan(cnp.ndarray x, dout, cnp.ndarray out, int threads):
    """Cut the work into chunks and slices; what there is of channels is not set yet."""
    cdef Plan plan
    cdef Py_ssize_t most, all_bytes = cnp.PyArray_NBYTES(out)
    memset(&plan, 0, sizeof(plan))
    plan.functions = normalizations_of(number_of(x))
    plan.format = computed_format(x)
    plan.x, plan.out = <char *>cnp.PyArray_DATA(x), <char *>cnp.PyArray_DATA(out)
    if dout is not None:
        plan.dout = <char *>cnp.PyArray_DATA(<cnp.ndarray?>dout)
    plan.images, plan.channels, plan.pixels = (
        cnp.PyArray_DIM(x, 0), cnp.PyArray_DIM(x, 1), cnp.PyArray_DIM(x, 2)
    )
    plan.count = <double>plan.images * <double>plan.pixels
    most = CHUNK_BYTES // plan.format.scratch_bytes
    plan.pieces = 1
    if plan.pixels < LEAST_PIXELS:
        plan.loops = plan.functions.columns
        plan.item_channels = MOST_COLUMNS // larger(plan.pixels, 1)
        plan.entries_of_channel = plan.pixels
        plan.chunk_images = most // MOST_COLUMNS
    else:
        plan.loops = plan.functions.planar
        plan.item_channels = plan.entries_of_channel = 1
        plan.pieces = ceil_div(plan.pixels, most)
        plan.chunk_images = larger(1, most // plan.pixels)
        if plan.pixels * plan.format.bytes >= RUN_ROW_BYTES:
            plan.item_runs = ceil_div(RUN_BYTES * plan.pieces, plan.pixels * plan.format.bytes)
        plan.past_caches = (
            all_bytes >= STREAM_FROM_BYTES
            and not is_converted(&plan)
            and plan.pixels * plan.format.bytes >= STREAMED_ROW_BYTES
        )
    plan.chunks = ceil_div(plan.images, plan.chunk_images) * plan.pieces
    plan.slices = smaller(larger(plan.chunks, 1), MOST_SLICES)
    plan.moved = <double>all_bytes * (2 if dout is None else 3)
    plan.threads = useful_threads(plan.moved, threads)
    plan.terms = take(&plan.scratch, plan.functions.terms_bytes)
    plan.entries = take(&plan.scratch, MOST_COLUMNS * sizeof(Sums))
    plan.of_x = take(&plan.scratch, CHUNK_BYTES)
    plan.of_dout = take(&plan.scratch, CHUNK_BYTES)
    plan.of_out = take(&plan.scratch, CHUNK_BYTES)
    return plan


cdef int run(const Plan *plan, Task task, Py_ssize_t items) except -1:
    return for_each(
        task, plan, items, <size_t>plan.scratch.bytes, plan.moved, plan.threads
    )


cdef int compute(Plan *plan) except -1:
    """Compute sums, and what depends on them."""
    cdef Py_ssize_t item, items = ceil_div(plan.channels, plan.item_channels)
    plan.sums = <Sums *>allocate(
        <double>plan.channels * plan.slices * sizeof(Sums), "sums of channels"
    )
    try:
        if plan.threads == 1 or items >= CHANNELS_PER_THREAD * plan.threads:
            return run(plan, compute_item, items)
        run(plan, sum_one_slice, items * plan.slices)
        for item in range(items):
            conclude(plan, item)
        return run(plan, write_one_slice, items * plan.slices)
    finally:
        release(<char *>plan.sums)


cdef inline double *row_of(cnp.ndarray numbers, Py_ssize_t row) noexcept:
    """Return a row of a contiguous matrix of float64."""
    return <double *>cnp.PyArray_DATA(numbers) + row * cnp.PyArray_DIM(numbers, 1)


def forward(
    cnp.ndarray x, cnp.ndarray parameters, cnp.ndarray statistics, double eps, of_batch,
    cnp.ndarray out, int threads,
):
    """Normalise x, of shape (n, c, p).

    The rows of `parameters` are gamma and beta; those of `statistics` are the mean, the variance,
    and sqrt(variance + eps). Those of the batch are written if `of_batch` is true. If not, the
    last row is written, and the others are read.

    All arrays here are contiguous and native; x and out are of one float dtype, others of float64.
    """
    cdef Plan plan = make_plan(x, None, out, threads)
    cdef Py_ssize_t channel, items
    plan.of_batch, plan.eps = of_batch, eps
    plan.gamma, plan.beta = row_of(parameters, 0), row_of(parameters, 1)
    plan.mean, plan.var, plan.std = (
        row_of(statistics, 0), row_of(statistics, 1), row_of(statistics, 2)
    )
    if of_batch:
        compute(&plan)
        return
    for channel in range(plan.channels):
        plan.std[channel] = sqrt(plan.var[channel] + eps)
    if plan.item_runs:
        items = ceil_div(plan.images * plan.channels * plan.pieces, plan.item_runs)
        run(&plan, normalize_rows, items)
    else:
        items = ceil_div(plan.channels, plan.item_channels)
        run(&plan, write_one_slice, items * plan.slices)


def backward(
    cnp.ndarray x, cnp.ndarray dout, cnp.ndarray parameters, cnp.ndarray statistics, of_batch,
    cnp.ndarray gradients, cnp.ndarray out, int threads,
):
    """Write the gradient of x; the rows of `gradients` become dgamma and dbeta.

    `statistics` are those that the forward pass left, and `of_batch` tells whether they are x's.
    """
    cdef Plan plan = make_plan(x, dout, out, threads)
    plan.of_batch = of_batch
    plan.gamma = row_of(parameters, 0)
    plan.mean, plan.std = row_of(statistics, 0), row_of(statistics, 2)
    plan.dgamma, plan.dbeta = row_of(gradients, 0), row_of(gradients, 1)
    compute(&plan)
