"""The product of two matrices, which fully connected layers need.

    out[m, n] = bias[n] + sum over k of a[m, k] * b[k, n]

a. An item is a block of columns n, as wide as the tile's lanes, and a range of rows m. Terms k are
   taken SUM_TERMS at a time, as in convolution.pyx. The rows of b for these terms are copied to
   scratch (L1) as [k][lane], from either layout of b, and all of the item's rows use them. The sums
   lie in scratch (L2) until the last term.
b. The register tile reads a where it lies. If the rows of a are contiguous, it takes TILE_ROWS of
   them; if its columns are, it takes TILE_PIXELS neighbours in one. So a transposed matrix costs no
   copy, and the layer's three products (x @ W, x.T @ grad, grad @ W.T) are one function.
c. Few rows (a network that is given few images) or one column leave a register tile mostly empty,
   and a copy of b would hardly be used. Then the matrix is read once, where it lies (product.h).
   An item is a range of its columns with all terms. The order of each sum is that of the register
   tile.
d. NumPy's BLAS is not used: after a product its threads wait busily for 30 ms (OpenBLAS), which
   leaves one thread to the next parallel kernel, or makes it 20 times slower (see threads.h); and
   its results may depend on the number of threads. Here k alone determines the order of each sum.
"""

from libc.stdint cimport INT32_MAX, int32_t
from libc.string cimport memcpy, memset

cimport numpy as cnp

from fastconv._kernels.level cimport LEVEL
from fastconv._kernels.microkernels cimport import_microkernels, tiles_of
from fastconv._kernels.number cimport Number
from fastconv._kernels.parallel cimport for_each, useful_threads
from fastconv._kernels.planes cimport number_of
from fastconv._kernels.scratch cimport Layout, take
from fastconv._kernels.tile cimport (
    FLOPS_PER_BYTE, SUM_TERMS, TILE_PIXELS, TILE_ROWS, TILE_VECTORS, Tiles,
)
from fastconv._kernels.vectors cimport VECTOR_BYTES
from fastconv._kernels.window cimport ceil_div, larger, smaller

cnp.import_array()
import_microkernels()

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

    const Thin *thin_of(Number number) noexcept nogil

cdef enum:
    # An item of few rows has at least two lines of each row of the matrix, so that prefetching
    # pays, and at most as many columns as leave their sums in L1.
    LEAST_COLUMNS = 32
    MOST_COLUMNS = 1024
    # If the numbers of each of few rows lie apart, this many are copied at a time: 64 KiB in all.
    COPIED_TERMS = 2048
    # Few rows take a byte of the matrix from the caches in a quarter of the time that
    # `useful_threads` reckons with.
    BYTES_FROM_CACHES = 4
    # The largest number of rows of an item: their sums of two vectors have 64 KiB.
    MOST_ROWS = 512
    # The smallest number of rows that an item is cut to, because each item copies its columns of b.
    LEAST_ROWS = 28
    # Rows of 14 to 56 and 2 to 8 items per thread differ by less than noise.
    ITEMS_PER_THREAD = 4


cdef struct Matrix:
    # Strides are in numbers; one of them is 1.
    const char *data
    Py_ssize_t row, column


cdef struct Product:
    # out[m, n] = bias[n] + sum over k of a[m, k] * b[k, n]
    Number number
    Py_ssize_t bytes  # Bytes of a number.
    Matrix a, b
    const char *bias  # NULL for zeros.
    Py_ssize_t bias_stride  # A number of numbers, 0 if all columns have the same bias.
    char *out  # Contiguous.
    Py_ssize_t m, n, k


cdef inline Matrix matrix_of(cnp.ndarray array, Py_ssize_t bytes) noexcept:
    cdef Matrix matrix
    matrix.data = <const char *>cnp.PyArray_DATA(array)
    matrix.row = cnp.PyArray_STRIDE(array, 0) // bytes
    matrix.column = cnp.PyArray_STRIDE(array, 1) // bytes
    return matrix


cdef inline Matrix transposed(Matrix matrix) noexcept:
    matrix.row, matrix.column = matrix.column, matrix.row
    return matrix


cdef inline const char *number_at(
    const Product *product, const Matrix *matrix, Py_ssize_t row, Py_ssize_t column
) noexcept nogil:
    return matrix.data + (row * matrix.row + column * matrix.column) * product.bytes


cdef inline void copy_rows(
    char *to, Py_ssize_t to_pitch, const char *source, Py_ssize_t pitch, Py_ssize_t rows,
    Py_ssize_t row_bytes,
) noexcept nogil:
    cdef Py_ssize_t i
    if row_bytes == TILE_VECTORS * VECTOR_BYTES:  # The compiler knows this length: no calls.
        for i in range(rows):
            memcpy(to + i * to_pitch, source + i * pitch, TILE_VECTORS * VECTOR_BYTES)
    else:
        for i in range(rows):
            memcpy(to + i * to_pitch, source + i * pitch, row_bytes)


# ---- many rows, on register tiles --------------------------------------------------------------

cdef struct Scratch:
    # Offsets in an item's scratch.
    size_t start  # The bias of the block's columns.
    size_t packed  # SUM_TERMS terms of b for the block's columns.
    size_t sums  # The sums of all rows of the item.


cdef struct Plan:
    Product product
    const Tiles *tiles
    Py_ssize_t width, blocks  # The numbers of columns of a block, and of blocks.
    Py_ssize_t row_splits  # The number of ranges of rows; each item has one.
    Layout scratch
    Scratch at
    double flops
    int threads


cdef struct Block:
    # The columns n and rows m of an item.
    Py_ssize_t n, columns, vectors, m, rows


cdef inline void pack_block(
    const Plan *plan, const Block *block, Py_ssize_t k, Py_ssize_t steps, char *to
) noexcept nogil:
    """Copy terms of b, from k on, to [k][lane]; lanes behind the columns are zero."""
    cdef const Product *product = &plan.product
    cdef Py_ssize_t bytes = product.bytes, row_bytes = block.vectors * VECTOR_BYTES
    cdef const char *source = number_at(product, &product.b, k, block.n)
    if product.b.column == 1:
        if block.columns < plan.width:
            memset(to, 0, steps * row_bytes)
        copy_rows(to, row_bytes, source, product.b.row * bytes, steps, block.columns * bytes)
        return
    plan.tiles.pack(
        to, source, product.b.column, block.columns, steps, block.vectors,
        (product.n - 1 - block.n) * product.b.column + product.k - k,
    )


cdef inline void add_terms(
    const Plan *plan, const Block *block, Py_ssize_t k, Py_ssize_t steps, const int32_t *offsets,
    char *scratch,
) noexcept nogil:
    """Add packed terms, from k on, to the sums of all rows, which are stored behind the last."""
    cdef const Product *product = &plan.product
    cdef bint by_rows = product.a.column == 1, is_last = k + steps == product.k
    cdef Py_ssize_t bytes = product.bytes, row_bytes = block.vectors * VECTOR_BYTES
    cdef Py_ssize_t at_once = TILE_ROWS if by_rows else TILE_PIXELS, m = 0, count, r
    cdef const char *start = scratch + plan.at.start if k == 0 else NULL
    cdef const char *a
    cdef char *sums = scratch + plan.at.sums
    cdef const void *rows[TILE_ROWS]
    while m < block.rows:
        count = (block.rows - m) // ceil_div(block.rows - m, at_once)  # Tiles are even.
        a = number_at(product, &product.a, block.m + m, k)
        for r in range(count if by_rows else 1):
            rows[r] = a + r * product.a.row * bytes
        plan.tiles.multiply(
            sums, start, scratch + plan.at.packed, rows, offsets, steps, SUM_TERMS,
            count if by_rows else 1, 1 if by_rows else count, block.vectors,
            scratch + plan.at.packed, 0,
        )
        if is_last:
            copy_rows(
                product.out + ((block.m + m) * product.n + block.n) * bytes, product.n * bytes,
                sums, row_bytes, count, block.columns * bytes,
            )
        sums += count * row_bytes
        m += count


cdef void multiply_block(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    """Compute a block of columns of a range of rows."""
    cdef const Plan *plan = <const Plan *>data
    cdef const Product *product = &plan.product
    cdef Py_ssize_t split = item // plan.blocks, k = 0, steps, s
    cdef Block block
    cdef int32_t offsets[SUM_TERMS]
    block.n = item % plan.blocks * plan.width
    block.columns = smaller(plan.width, product.n - block.n)
    block.vectors = ceil_div(block.columns, plan.tiles.lanes)
    block.m = split * product.m // plan.row_splits
    block.rows = (split + 1) * product.m // plan.row_splits - block.m
    memset(scratch + plan.at.start, 0, TILE_VECTORS * VECTOR_BYTES)
    if product.bias != NULL:
        memcpy(
            scratch + plan.at.start, product.bias + block.n * product.bytes,
            block.columns * product.bytes,
        )
    for s in range(smaller(product.k, SUM_TERMS)):
        offsets[s] = <int32_t>(s * product.a.column)
    while k < product.k:
        steps = smaller(SUM_TERMS, product.k - k)
        pack_block(plan, &block, k, steps, scratch + plan.at.packed)
        add_terms(plan, &block, k, steps, offsets, scratch)
        k += steps


cdef void make_plan(Plan *plan, const Product *product, int threads) noexcept:
    cdef Py_ssize_t wanted = 1, m = product.m
    cdef double row_bytes = TILE_VECTORS * VECTOR_BYTES
    memset(plan, 0, sizeof(plan[0]))
    plan.product = product[0]
    plan.tiles = tiles_of(product.number)
    plan.flops = 2.0 * m * product.k * product.n
    plan.threads = useful_threads(
        plan.flops / FLOPS_PER_BYTE + <double>product.bytes * product.k * (m + product.n), threads
    )
    plan.width = TILE_VECTORS * plan.tiles.lanes
    plan.blocks = ceil_div(product.n, plan.width)
    if plan.threads > 1:
        wanted = ceil_div(ITEMS_PER_THREAD * plan.threads, plan.blocks)
    plan.row_splits = larger(ceil_div(m, MOST_ROWS), smaller(wanted, ceil_div(m, LEAST_ROWS)))
    plan.at.start = take(&plan.scratch, row_bytes)
    plan.at.packed = take(&plan.scratch, SUM_TERMS * row_bytes)
    plan.at.sums = take(&plan.scratch, ceil_div(m, plan.row_splits) * row_bytes)


cdef int run(const Product *product, int threads) except -1:
    cdef Plan plan
    make_plan(&plan, product, threads)
    return for_each(
        multiply_block, &plan, plan.blocks * plan.row_splits, <size_t>plan.scratch.bytes,
        plan.flops, plan.threads,
    )


# ---- few rows ----------------------------------------------------------------------------------

cdef struct ThinScratch:
    # Offsets in an item's scratch.
    size_t rows  # COPIED_TERMS of each row of a, if they lie apart.
    size_t sums  # What ThinProduct.sums needs.


cdef struct ThinPlan:
    Product product
    void (*multiply)(const ThinProduct *product) noexcept nogil
    Py_ssize_t pitch  # Numbers from one row of b to the next, or from one column.
    Py_ssize_t items  # Ranges of columns.
    Layout scratch
    ThinScratch at
    double moved
    int threads


cdef inline void start_columns(
    const Product *product, Py_ssize_t first, Py_ssize_t columns
) noexcept nogil:
    """Set all rows of some columns to the bias."""
    cdef Py_ssize_t bytes = product.bytes, r
    cdef char *to
    for r in range(product.m):
        to = product.out + (r * product.n + first) * bytes
        if product.bias == NULL:
            memset(to, 0, columns * bytes)
        else:
            copy_rows(
                to, bytes, product.bias + first * product.bias_stride * bytes,
                product.bias_stride * bytes, columns, bytes,
            )


cdef inline const char *load_terms(
    const Product *product, Py_ssize_t r, Py_ssize_t k, Py_ssize_t terms, char *copied
) noexcept nogil:
    """Where terms of a row of a lie side by side, from k on: where they are, or in scratch."""
    cdef Py_ssize_t bytes = product.bytes
    cdef const char *row = number_at(product, &product.a, r, k)
    if product.a.column == 1:
        return row
    copied += r * COPIED_TERMS * bytes
    copy_rows(copied, bytes, row, product.a.column * bytes, terms, bytes)
    return copied


cdef void multiply_columns(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    """Compute all rows of a range of columns."""
    cdef const ThinPlan *plan = <const ThinPlan *>data
    cdef const Product *product = &plan.product
    cdef Py_ssize_t first = item * product.n // plan.items, k = 0, r
    cdef ThinProduct thin
    thin.rows, thin.columns = product.m, (item + 1) * product.n // plan.items - first
    thin.pitch, thin.to_pitch = plan.pitch, product.n
    thin.to = product.out + first * product.bytes
    thin.sums = scratch + plan.at.sums
    start_columns(product, first, thin.columns)
    while k < product.k:
        thin.terms = smaller(COPIED_TERMS, product.k - k)
        thin.matrix = number_at(product, &product.b, k, first)
        for r in range(product.m):
            thin.x[r] = load_terms(product, r, k, thin.terms, scratch + plan.at.rows)
        plan.multiply(&thin)
        k += thin.terms


cdef void make_thin_plan(ThinPlan *plan, const Product *product, int threads) noexcept:
    cdef Py_ssize_t wanted = 1, bytes = product.bytes, n = product.n
    memset(plan, 0, sizeof(plan[0]))
    plan.product = product[0]
    if product.b.row == 1:
        plan.multiply, plan.pitch = thin_of(product.number).by_columns, product.b.column
    else:
        plan.multiply, plan.pitch = thin_of(product.number).by_rows, product.b.row
    plan.moved = <double>bytes * product.k * n
    plan.threads = useful_threads(plan.moved / BYTES_FROM_CACHES, threads)
    if plan.threads > 1:
        wanted = smaller(ITEMS_PER_THREAD * plan.threads, ceil_div(n, LEAST_COLUMNS))
    plan.items = larger(ceil_div(n, MOST_COLUMNS), wanted)
    plan.at.rows = take(&plan.scratch, THIN_ROWS * COPIED_TERMS * bytes)
    plan.at.sums = take(
        &plan.scratch, THIN_ROWS * (ceil_div(n, plan.items) * bytes + 2 * VECTOR_BYTES)
    )


cdef int run_thin(const Product *product, int threads) except -1:
    cdef ThinPlan plan
    make_thin_plan(&plan, product, threads)
    return for_each(
        multiply_columns, &plan, plan.items, <size_t>plan.scratch.bytes, plan.moved, plan.threads
    )


# ---- entry points ------------------------------------------------------------------------------

cdef inline Product product_of(cnp.ndarray a, cnp.ndarray b, bias, cnp.ndarray out):
    cdef Product product
    product.number, product.bytes = number_of(out), cnp.PyArray_ITEMSIZE(out)
    product.a, product.b = matrix_of(a, product.bytes), matrix_of(b, product.bytes)
    product.bias, product.bias_stride = NULL, 1
    if bias is not None:
        product.bias = <char *>cnp.PyArray_DATA(<cnp.ndarray?>bias)
    product.out = <char *>cnp.PyArray_DATA(out)
    product.m, product.k = cnp.PyArray_DIM(a, 0), cnp.PyArray_DIM(a, 1)
    product.n = cnp.PyArray_DIM(b, 1)
    return product


cdef inline Product turned(const Product *product) noexcept:
    """The transpose of a product of one column: one row, whose numbers have one bias."""
    cdef Product row = product[0]
    row.a, row.b = transposed(product.b), transposed(product.a)
    row.m, row.n = product.n, product.m
    row.bias_stride = 0
    return row


cpdef bint reads(cnp.ndarray array):
    """Whether `multiply` reads a matrix of its dtype where it lies."""
    cdef Py_ssize_t bytes = cnp.PyArray_ITEMSIZE(array)
    cdef Py_ssize_t row = cnp.PyArray_STRIDE(array, 0), column = cnp.PyArray_STRIDE(array, 1)
    if not cnp.PyArray_ISALIGNED(array) or not cnp.PyArray_ISNOTSWAPPED(array):
        return False
    if column == bytes:
        return row >= bytes and row % bytes == 0
    return (
        row == bytes and column >= bytes and column % bytes == 0
        and column // bytes <= INT32_MAX // SUM_TERMS  # The tile's offsets have 32 bits.
    )


def multiply(cnp.ndarray a, cnp.ndarray b, bias, cnp.ndarray out, int threads):
    """Write a @ b + bias, all of one dtype, float32 or float64; `bias` is contiguous or None.

    Return whether both matrices can be read where they lie; if not, nothing is written.
    """
    cdef Product product
    if not reads(a) or not reads(b):
        return False
    product = product_of(a, b, bias, out)
    if product.m == 0 or product.n == 0:
        return True
    if product.n == 1 and product.m > 1:
        product = turned(&product)
    if product.m <= THIN_ROWS:
        run_thin(&product, threads)
    else:
        run(&product, threads)
    return True
