"""Local response normalisation and its gradient.

    forward:   out[n, c, p] = x[n, c, p] * scale[n, c, p] ** -beta,
               scale[n, c, p] = k + alpha * (sum of x[n, c', p] ** 2)
    backward:  grad[n, c, p] = dout * scale ** -beta
               - 2 * alpha * beta * x * (sum of weight[n, c', p]),
               weight[n, c, p] = dout * x * scale ** (-beta - 1)

Arrays are contiguous: n images, c channels, p pixels. The first sum is over `size` channels from
c - size // 2 on. The second one is over those channels whose first sum contains channel c.

a. An item is a run of pixels of an image, and all of its channels. A run is so short that what is
   known of the channels around stays in the caches.
b. The backward pass computes scales again, in less time than it would take to read them.
"""

cimport numpy as cnp

from fastconv._kernels.level cimport LEVEL
from fastconv._kernels.number cimport Number
from fastconv._kernels.parallel cimport Task, for_each, useful_threads
from fastconv._kernels.planes cimport computed_format, number_of
from fastconv._kernels.rows cimport AS_IS, Format, load_row, store_row
from fastconv._kernels.scratch cimport Layout, take
from fastconv._kernels.window cimport ceil_div, larger, smaller

cnp.import_array()

level = LEVEL.decode()

cdef extern from "local_response.h":
    ctypedef struct Response:
        double alpha, beta, k

    ctypedef struct Responses:
        void (*scale)(
            void *scales, const void *around, Py_ssize_t pitch, Py_ssize_t channels,
            Py_ssize_t count, const Response *response,
        ) noexcept nogil
        void (*power)(void *scales, Py_ssize_t count, const Response *response) noexcept nogil
        void (*multiply)(
            void *to, const void *x, const void *factors, Py_ssize_t count
        ) noexcept nogil
        void (*weigh)(
            void *weights, void *scales, const void *x, const void *dout, Py_ssize_t count,
            const Response *response,
        ) noexcept nogil
        void (*gradient)(
            void *to, const void *x, const void *dout, const void *factors, const void *around,
            Py_ssize_t pitch, Py_ssize_t channels, Py_ssize_t count, const Response *response,
        ) noexcept nogil

    const Responses *responses_of(Number number) noexcept nogil

cdef enum:
    # The rows of all channels that an item keeps in scratch: half of an L2 of 1 MiB.
    SCRATCH_BYTES = 512 << 10
    # The longest run of pixels: several rows of float32 stay in L1.
    MOST_PIXELS = 1024


cdef struct Plan:
    const Responses *functions
    Response response
    const char *x
    const char *dout  # NULL in the forward pass.
    char *out
    Format format
    Py_ssize_t images, channels, pixels, size
    Py_ssize_t run  # The pixels of an item.
    Py_ssize_t runs  # The runs of an image.
    double moved
    int threads
    # Parts of scratch: rows of all channels, and one row.
    Layout scratch
    size_t of_x, of_dout, factors, weights, row


cdef struct Rows:
    # The rows of the channels of an item, contiguous and native.
    const char *data
    Py_ssize_t pitch  # In numbers.


cdef inline Rows rows_of(
    const Plan *plan, const char *array, Py_ssize_t first, Py_ssize_t count, char *stage
) noexcept nogil:
    """Give the rows that begin at a number of the array; convert float16 to float32."""
    cdef Rows rows
    cdef Py_ssize_t c, bytes = plan.format.bytes
    array += first * bytes
    rows.data, rows.pitch = array, plan.pixels
    if plan.format.conversion != AS_IS:
        rows.data, rows.pitch = stage, plan.run
        for c in range(plan.channels):
            load_row(
                stage + c * plan.run * plan.format.scratch_bytes, array + c * plan.pixels * bytes,
                count, bytes, plan.format,
            )
    return rows


cdef inline const char *row_at(const Plan *plan, Rows rows, Py_ssize_t c) noexcept nogil:
    return rows.data + c * rows.pitch * plan.format.scratch_bytes


cdef inline void compute_scale(
    const Plan *plan, void *scales, Rows x, Py_ssize_t c, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t low = larger(0, c - plan.size // 2)
    cdef Py_ssize_t high = smaller(plan.channels, c - plan.size // 2 + plan.size)
    plan.functions.scale(
        scales, row_at(plan, x, low), x.pitch, high - low, count, &plan.response
    )


cdef void compute_run(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    """Compute the results of a run of pixels."""
    cdef const Plan *plan = <const Plan *>data
    cdef Py_ssize_t pixel = item % plan.runs * plan.run
    cdef Py_ssize_t count = smaller(plan.run, plan.pixels - pixel)
    cdef Py_ssize_t first = item // plan.runs * plan.channels * plan.pixels + pixel
    cdef Rows x = rows_of(plan, plan.x, first, count, scratch + plan.of_x)
    cdef Rows dout = x, weights, factors
    cdef Py_ssize_t c, low, high
    cdef bint is_converted = plan.format.conversion != AS_IS
    cdef char *out = plan.out + first * plan.format.bytes
    cdef char *to
    factors.data, weights.data = scratch + plan.factors, scratch + plan.weights
    factors.pitch = weights.pitch = plan.run
    if plan.dout != NULL:
        dout = rows_of(plan, plan.dout, first, count, scratch + plan.of_dout)
        for c in range(plan.channels):
            compute_scale(plan, <void *>row_at(plan, factors, c), x, c, count)
            plan.functions.weigh(
                <void *>row_at(plan, weights, c), <void *>row_at(plan, factors, c),
                row_at(plan, x, c), row_at(plan, dout, c), count, &plan.response,
            )
    for c in range(plan.channels):
        to = scratch + plan.row if is_converted else out
        if plan.dout == NULL:
            compute_scale(plan, scratch + plan.factors, x, c, count)
            plan.functions.power(scratch + plan.factors, count, &plan.response)
            plan.functions.multiply(to, row_at(plan, x, c), scratch + plan.factors, count)
        else:
            low = larger(0, c - (plan.size - 1) // 2)
            high = smaller(plan.channels, c - (plan.size - 1) // 2 + plan.size)
            plan.functions.gradient(
                to, row_at(plan, x, c), row_at(plan, dout, c), row_at(plan, factors, c),
                row_at(plan, weights, low), plan.run, high - low, count, &plan.response,
            )
        if is_converted:
            store_row(out, to, count, plan.format)
        out += plan.pixels * plan.format.bytes


def normalize(
    cnp.ndarray x, dout, Py_ssize_t size, double alpha, double beta, double k, cnp.ndarray out,
    int threads,
):
    """Normalise x, of shape (n, c, p), or write the gradient of x unless `dout` is None.

    All arrays here are contiguous and native, and of one float dtype.
    """
    cdef Plan plan
    cdef Py_ssize_t kept, rows, longest
    plan.functions, plan.format = responses_of(number_of(x)), computed_format(x)
    plan.response.alpha, plan.response.beta, plan.response.k = alpha, beta, k
    plan.x, plan.out, plan.dout = (
        <char *>cnp.PyArray_DATA(x), <char *>cnp.PyArray_DATA(out), NULL
    )
    if dout is not None:
        plan.dout = <char *>cnp.PyArray_DATA(<cnp.ndarray?>dout)
    plan.images, plan.channels, plan.pixels = (
        cnp.PyArray_DIM(x, 0), cnp.PyArray_DIM(x, 1), cnp.PyArray_DIM(x, 2)
    )
    plan.size = size
    # These many rows of each channel are kept: those that are converted, factors and weights.
    kept = (0 if dout is None else 2) + (
        0 if plan.format.conversion == AS_IS else 1 if dout is None else 2
    )
    rows = plan.channels * kept
    longest = SCRATCH_BYTES // (larger(rows, 1) * plan.format.scratch_bytes)
    plan.run = smaller(larger(1, smaller(longest, MOST_PIXELS)), larger(1, plan.pixels))
    plan.runs = ceil_div(plan.pixels, plan.run)
    # Runs are made near-equal.
    plan.run = larger(1, ceil_div(plan.pixels, larger(1, plan.runs)))
    plan.scratch.bytes = 0
    plan.of_x = take_rows(&plan, plan.format.conversion != AS_IS)
    plan.of_dout = take_rows(&plan, plan.format.conversion != AS_IS and dout is not None)
    plan.factors = take_rows(&plan, dout is not None)
    plan.weights = take_rows(&plan, dout is not None)
    plan.row = take(&plan.scratch, <double>plan.run * plan.format.scratch_bytes)
    plan.moved = <double>cnp.PyArray_NBYTES(out) * (2 if dout is None else 3)
    plan.threads = useful_threads(plan.moved, threads)
    for_each(
        <Task>compute_run, &plan, plan.images * plan.runs, <size_t>plan.scratch.bytes, plan.moved,
        plan.threads,
    )


cdef size_t take_rows(Plan *plan, bint of_all):
    """Take a row of every channel from scratch, or one row."""
    cdef double rows = plan.channels if of_all else 1
    return take(&plan.scratch, rows * plan.run * plan.format.scratch_bytes)
