"""The product of two matrices, as a layer that sees all its inputs needs it.

    out[m, n] = bias[n] + sum over k of a[m, k] * b[k, n]

a. An item is a block of columns n, as wide as the tile's lanes, and a range of rows m. Terms k come
   in blocks, as in convolution.pyx: the block's part of b is copied to scratch (L1) as the tile
   wants it, [k][lane], from either layout of b; then all of the item's rows use it. Their sums lie
   in scratch (L2) until the last block.
b. The tile reads a where it lies. If its rows are contiguous, the tile has TILE_ROWS of them; if
   its columns are, TILE_PIXELS neighbours in one. So a transposed matrix costs no copy, and the
   layer's three products (x @ W, x.T @ grad, grad @ W.T) are one function.
c. Few rows (a network that is given few images) or one column leave a tile mostly empty, and b would
   be copied to be hardly used. Then the matrix is read where it lies, once (product.h): an item is a
   range of its columns with all terms. Sums run in the same order as on the tile.
d. Why not NumPy's BLAS: after a product its threads wait busily for 30 ms (OpenBLAS), which leaves
   one thread to the next parallel kernel (or makes it 20 times slower, see threads.h); and its results
   may depend on the number of threads. Here each sum runs in an order that k alone determines.
"""

from libc.stdint cimport INT32_MAX, int32_t
from libc.string cimport memcpy, memset

cimport numpy as cnp

from fastconv._kernels.common cimport LEVEL, ceil_div, larger, smaller
from fastconv._kernels.parallel cimport for_each, useful_threads
from fastconv._kernels.tile cimport *

cnp.import_array()

level = LEVEL.decode()

cdef extern from "product.h":
    enum:
        THIN_ROWS

    ctypedef struct ThinProduct:
        Py_ssize_t rows, terms, columns
        const void *x[THIN_ROWS]
        const void *matrix
        Py_ssize_t pitch
        void *to
        Py_ssize_t to_pitch
        void *sums

    ctypedef struct Thin:
        void (*by_rows)(const ThinProduct *product) noexcept nogil
        void (*by_columns)(const ThinProduct *product) noexcept nogil

    const Thin *thin_of(Py_ssize_t bytes) noexcept nogil

cdef enum:
    # An item of few rows has at least two lines of each row of the matrix, so that prefetching pays,
    # and at most as many columns as leave their sums in L1.
    LEAST_COLUMNS = 32
    MOST_COLUMNS = 1024
    # An item of few rows copies so many of their numbers at a time, 64 KiB, if they lie apart.
    STRIP_TERMS = 2048
    # Few rows take a byte of the matrix from the caches in a quarter of the time that
    # `useful_threads` reckons with.
    BYTES_FROM_CACHES = 4
    MOST_ROWS = 512  # of an item: 64 KiB of sums of two vectors
    LEAST_ROWS = 28  # that an item is not cut below: each copies its part of b
    SHARES = 4  # items a thread; rows of 14 to 56 and shares of 2 to 8 differ by less than noise


cdef struct Matrix:
    const char *data
    Py_ssize_t row, column  # steps in numbers, one of which is 1


cdef struct Job:
    const Tiles *tiles
    Py_ssize_t bytes  # of a number
    Matrix a, b
    const char *bias  # or NULL
    char *out
    Py_ssize_t m, n, k
    Py_ssize_t width, blocks  # of columns
    Py_ssize_t height, groups  # of rows


cdef inline void copy_rows(
    char *to, Py_ssize_t to_pitch, const char *source, Py_ssize_t pitch, Py_ssize_t rows,
    Py_ssize_t row_bytes,
) noexcept nogil:
    cdef Py_ssize_t i
    if row_bytes == TILE_VECTORS * VECTOR_BYTES:  # a length that the compiler knows: no calls
        for i in range(rows):
            memcpy(to + i * to_pitch, source + i * pitch, TILE_VECTORS * VECTOR_BYTES)
    else:
        for i in range(rows):
            memcpy(to + i * to_pitch, source + i * pitch, row_bytes)


cdef inline void pack_block(
    const Job *job, char *to, Py_ssize_t k0, Py_ssize_t steps, Py_ssize_t n0, Py_ssize_t columns,
    Py_ssize_t vectors,
) noexcept nogil:
    """Copy b[k0:k0+steps, n0:n0+columns] to [k][lane]; lanes behind the columns are zero."""
    cdef Py_ssize_t bytes = job.bytes
    cdef const char *source = job.b.data + (k0 * job.b.row + n0 * job.b.column) * bytes
    cdef Py_ssize_t row_bytes = vectors * VECTOR_BYTES
    if job.b.column == 1:
        if columns < job.width:
            memset(to, 0, steps * row_bytes)
        copy_rows(to, row_bytes, source, job.b.row * bytes, steps, columns * bytes)
        return
    job.tiles.pack(
        to, source, job.b.column, columns, steps, vectors,
        (job.n - 1 - n0) * job.b.column + job.k - k0,
    )


cdef void multiply_block(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    cdef const Job *job = <const Job *>data
    cdef Py_ssize_t n0 = item % job.blocks * job.width
    cdef Py_ssize_t columns = smaller(job.width, job.n - n0)
    cdef Py_ssize_t vectors = ceil_div(columns, job.tiles.lanes)
    cdef Py_ssize_t group = item // job.blocks
    cdef Py_ssize_t first = group * job.m // job.groups
    cdef Py_ssize_t rows = (group + 1) * job.m // job.groups - first
    cdef Py_ssize_t bytes = job.bytes, row_bytes = vectors * VECTOR_BYTES
    cdef Py_ssize_t k0, s, m, r, steps, count, at_once
    cdef bint by_rows = job.a.column == 1
    cdef const char *a
    cdef const void *pointers[TILE_ROWS]
    cdef int32_t offsets[SUM_BLOCK]
    cdef char *start = scratch  # what sums start from
    cdef char *packed = start + TILE_VECTORS * VECTOR_BYTES
    cdef char *sums = packed + SUM_BLOCK * row_bytes

    memset(start, 0, TILE_VECTORS * VECTOR_BYTES)
    if job.bias != NULL:
        memcpy(start, job.bias + n0 * bytes, columns * bytes)
    for s in range(smaller(job.k, SUM_BLOCK)):
        offsets[s] = <int32_t>(s * job.a.column)
    at_once = TILE_ROWS if by_rows else TILE_PIXELS

    k0 = 0
    while k0 < job.k:
        steps = smaller(SUM_BLOCK, job.k - k0)
        pack_block(job, packed, k0, steps, n0, columns, vectors)
        m = 0
        while m < rows:
            count = (rows - m) // ceil_div(rows - m, at_once)  # even tiles
            a = job.a.data + ((first + m) * job.a.row + k0 * job.a.column) * bytes
            for r in range(count if by_rows else 1):
                pointers[r] = a + r * job.a.row * bytes
            job.tiles.multiply(
                sums + m * row_bytes, start if k0 == 0 else NULL, packed, pointers, offsets, steps,
                SUM_BLOCK, count if by_rows else 1, 1 if by_rows else count, vectors, 0,
            )
            if k0 + steps == job.k:
                copy_rows(
                    job.out + ((first + m) * job.n + n0) * bytes, job.n * bytes,
                    sums + m * row_bytes, row_bytes, count, columns * bytes,
                )
            m += count
        k0 += steps


cdef struct ThinJob:
    void (*multiply)(const ThinProduct *product) noexcept nogil
    Py_ssize_t bytes  # of a number
    Matrix x, matrix
    Py_ssize_t pitch  # of the matrix's rows or columns
    const char *bias  # or NULL
    Py_ssize_t bias_step
    char *out
    Py_ssize_t m, k, n, items


cdef void multiply_strip(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    cdef const ThinJob *job = <const ThinJob *>data
    cdef Py_ssize_t bytes = job.bytes, r, k = 0
    cdef Py_ssize_t first = item * job.n // job.items
    cdef char *out = job.out + first * bytes
    cdef const char *x
    cdef ThinProduct strip
    strip.rows, strip.columns = job.m, (item + 1) * job.n // job.items - first
    strip.pitch, strip.to, strip.to_pitch = job.pitch, out, job.n
    strip.sums = scratch + THIN_ROWS * STRIP_TERMS * bytes
    for r in range(job.m):
        if job.bias == NULL:
            memset(out + r * job.n * bytes, 0, strip.columns * bytes)
        else:
            copy_rows(
                out + r * job.n * bytes, bytes, job.bias + first * job.bias_step * bytes,
                job.bias_step * bytes, strip.columns, bytes,
            )
    while k < job.k:
        strip.terms = smaller(STRIP_TERMS, job.k - k)
        strip.matrix = job.matrix.data + (k * job.matrix.row + first * job.matrix.column) * bytes
        for r in range(job.m):
            x = job.x.data + (r * job.x.row + k * job.x.column) * bytes
            if job.x.column != 1:
                copy_rows(
                    scratch + r * STRIP_TERMS * bytes, bytes, x, job.x.column * bytes, strip.terms,
                    bytes,
                )
                x = scratch + r * STRIP_TERMS * bytes
            strip.x[r] = x
        job.multiply(&strip)
        k += strip.terms


cdef inline Matrix transposed(Matrix matrix) noexcept:
    matrix.row, matrix.column = matrix.column, matrix.row
    return matrix


cdef int multiply_thin(ThinJob *job, int threads) except -1:
    """Multiply few rows x with a matrix, of which an item is a range of columns."""
    cdef double moved = <double>job.bytes * job.k * job.n
    if job.matrix.row == 1:
        job.multiply, job.pitch = thin_of(job.bytes).by_columns, job.matrix.column
    else:
        job.multiply, job.pitch = thin_of(job.bytes).by_rows, job.matrix.row
    threads = useful_threads(moved / BYTES_FROM_CACHES, threads)
    job.items = larger(
        ceil_div(job.n, MOST_COLUMNS),
        1 if threads == 1 else smaller(SHARES * threads, ceil_div(job.n, LEAST_COLUMNS)),
    )
    for_each(
        multiply_strip, job, job.items,
        THIN_ROWS * ((STRIP_TERMS + ceil_div(job.n, job.items)) * job.bytes + 2 * VECTOR_BYTES),
        moved, threads,
    )
    return 0


cdef inline Matrix matrix_of(cnp.ndarray array, Py_ssize_t bytes) noexcept:
    cdef Matrix matrix
    matrix.data = <const char *>cnp.PyArray_DATA(array)
    matrix.row = cnp.PyArray_STRIDE(array, 0) // bytes
    matrix.column = cnp.PyArray_STRIDE(array, 1) // bytes
    return matrix


def reads(cnp.ndarray array):
    """Whether `multiply` reads a matrix of its dtype where it lies."""
    cdef Py_ssize_t bytes = cnp.PyArray_ITEMSIZE(array)
    cdef Py_ssize_t row = cnp.PyArray_STRIDE(array, 0), column = cnp.PyArray_STRIDE(array, 1)
    if not cnp.PyArray_ISALIGNED(array) or not cnp.PyArray_ISNOTSWAPPED(array):
        return False
    if column == bytes:
        return row >= bytes and row % bytes == 0
    return (
        row == bytes and column >= bytes and column % bytes == 0
        and column // bytes <= INT32_MAX // SUM_BLOCK  # the tile's offsets are of 32 bits
    )


def multiply(cnp.ndarray a, cnp.ndarray b, bias, cnp.ndarray out, int threads):
    """Write a @ b + bias, all of one dtype, float32 or float64; `bias` is contiguous or None."""
    cdef Job job
    cdef ThinJob thin
    cdef double flops
    cdef Py_ssize_t wanted
    cdef size_t scratch_bytes
    job.bytes = cnp.PyArray_ITEMSIZE(out)
    job.tiles = tiles_of(job.bytes)
    job.a, job.b = matrix_of(a, job.bytes), matrix_of(b, job.bytes)
    job.bias = NULL
    if bias is not None:
        job.bias = <char *>cnp.PyArray_DATA(<cnp.ndarray?>bias)
    job.out = <char *>cnp.PyArray_DATA(out)
    job.m, job.k, job.n = cnp.PyArray_DIM(a, 0), cnp.PyArray_DIM(a, 1), cnp.PyArray_DIM(b, 1)
    if job.m == 0 or job.n == 0:
        return
    if job.m <= THIN_ROWS or job.n == 1:
        thin.bytes, thin.bias, thin.out, thin.k = job.bytes, job.bias, job.out, job.k
        if job.n > 1 or job.m == 1:
            thin.x, thin.matrix, thin.m, thin.n, thin.bias_step = job.a, job.b, job.m, job.n, 1
        else:  # Its transpose is one row, whose numbers have one bias.
            thin.x, thin.matrix, thin.m, thin.n = transposed(job.b), transposed(job.a), 1, job.m
            thin.bias_step = 0
        multiply_thin(&thin, threads)
        return
    flops = 2.0 * job.m * job.k * job.n
    threads = useful_threads(
        flops / FLOPS_PER_BYTE + <double>job.bytes * job.k * (job.m + job.n), threads
    )
    job.width = TILE_VECTORS * job.tiles.lanes
    job.blocks = ceil_div(job.n, job.width)
    wanted = 1 if threads == 1 else ceil_div(SHARES * threads, job.blocks)
    job.groups = larger(ceil_div(job.m, MOST_ROWS), smaller(wanted, ceil_div(job.m, LEAST_ROWS)))
    job.height = ceil_div(job.m, job.groups)
    scratch_bytes = (1 + SUM_BLOCK + job.height) * TILE_VECTORS * VECTOR_BYTES
    for_each(multiply_block, &job, job.blocks * job.groups, scratch_bytes, flops, threads)
