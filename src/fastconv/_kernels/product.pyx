"""The product of two matrices, as a layer that sees all its inputs needs it.

    out[m, n] = bias[n] + sum over k of a[m, k] * b[k, n]

a. An item is a block of columns n, as wide as the tile's lanes, and a range of rows m. Terms k come
   in blocks, as in convolution.pyx: the block's part of b is copied to scratch (L1) as the tile
   wants it, [k][lane], from either layout of b; then all of the item's rows use it. Their sums lie
   in scratch (L2) until the last block.
b. The tile reads a where it lies. If its rows are contiguous, the tile has TILE_ROWS of them; if
   its columns are, TILE_PIXELS neighbours in one. So a transposed matrix costs no copy, and the
   layer's three products (x @ W, x.T @ grad, grad @ W.T) are one function.
c. One row (a network that is given one image) or one column leaves a tile mostly empty, and b would
   be copied to be used once. Then the matrix is read where it lies, once (product.h): an item is a
   range of its columns with all terms. Sums run in the same order as on the tile.
d. Why not NumPy's BLAS: after a product its threads wait busily for 30 ms (OpenBLAS), which makes
   the next parallel kernel 20 times slower (0.35 to 7 ms for a small convolution); and its results
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
    ctypedef void Combine(
        void *to, void *sums, const void *x, const void *matrix, Py_ssize_t pitch, Py_ssize_t terms,
        Py_ssize_t columns,
    ) noexcept nogil
    ctypedef struct Thin:
        Combine *by_rows
        Combine *by_columns

    const Thin *thin_of(Py_ssize_t bytes) noexcept nogil

cdef enum:
    # Columns of an item of one row: at least two lines of each row, so that reading them is not
    # all starts; at most what leaves their sums in L1.
    LEAST_COLUMNS = 32
    MOST_COLUMNS = 1024
    MOST_ROWS = 512  # of an item: 64 KiB of sums of two vectors
    LEAST_ROWS = 28  # that an item is not cut below: each copies its part of b
    ROW_TERMS = 4096  # of an item of one row at a time: 32 KiB of copied factors at most
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
    Combine *combine
    Py_ssize_t bytes  # of a number
    const char *x
    Py_ssize_t x_step
    Matrix matrix
    Py_ssize_t pitch  # of its rows or columns
    const char *bias  # or NULL
    Py_ssize_t bias_step
    char *out
    Py_ssize_t k, n, items


cdef void multiply_row(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    cdef const ThinJob *job = <const ThinJob *>data
    cdef Py_ssize_t bytes = job.bytes
    cdef Py_ssize_t first = item * job.n // job.items
    cdef Py_ssize_t columns = (item + 1) * job.n // job.items - first
    cdef Py_ssize_t k0 = 0, terms
    cdef const char *matrix
    cdef const char *x
    cdef char *out = job.out + first * bytes
    memset(out, 0, columns * bytes)
    if job.bias != NULL:
        copy_rows(
            out, bytes, job.bias + first * job.bias_step * bytes, job.bias_step * bytes, columns,
            bytes,
        )
    while k0 < job.k:
        terms = smaller(ROW_TERMS, job.k - k0)
        matrix = job.matrix.data + (k0 * job.matrix.row + first * job.matrix.column) * bytes
        x = job.x + k0 * job.x_step * bytes
        if job.x_step != 1:
            copy_rows(scratch, bytes, x, job.x_step * bytes, terms, bytes)
            x = scratch
        job.combine(out, scratch + ROW_TERMS * bytes, x, matrix, job.pitch, terms, columns)
        k0 += terms


cdef int multiply_thin(
    Py_ssize_t bytes, Matrix a, Matrix b, const char *bias, char *out, Py_ssize_t m, Py_ssize_t k,
    Py_ssize_t n, int threads
) except -1:
    """Multiply where m or n is 1: out = x @ matrix, of which the columns are the larger of both."""
    cdef ThinJob job
    cdef double moved = <double>bytes * k * m * n
    job.bytes, job.k, job.out, job.bias = bytes, k, out, bias
    if m == 1:
        job.x, job.x_step, job.matrix, job.n = a.data, a.column, b, n
        job.bias_step = 1
    else:
        job.x, job.x_step, job.n = b.data, b.row, m
        job.matrix.data, job.matrix.row, job.matrix.column = a.data, a.column, a.row
        job.bias_step = 0
    if job.matrix.row == 1:
        job.combine, job.pitch = thin_of(bytes).by_columns, job.matrix.column
    else:
        job.combine, job.pitch = thin_of(bytes).by_rows, job.matrix.row
    threads = useful_threads(moved, threads)
    job.items = larger(
        ceil_div(job.n, MOST_COLUMNS),
        1 if threads == 1 else smaller(SHARES * threads, ceil_div(job.n, LEAST_COLUMNS)),
    )
    for_each(
        multiply_row, &job, job.items,
        (ROW_TERMS + ceil_div(job.n, job.items)) * bytes + 2 * VECTOR_BYTES, moved, threads,
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
    if job.m == 1 or job.n == 1:
        multiply_thin(
            job.bytes, job.a, job.b, job.bias, job.out, job.m, job.k, job.n, threads
        )
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
