"""Values that are placed by indices: the gradient of max pooling, and max-unpooling.

Work is cut into planes: zeros, then one addition or one store per value, in row-major order. The
indices of a plane are checked just before, while they enter the cache. An item owns its plane.
"""

from libc.stdint cimport int64_t
from libc.string cimport memset

cimport numpy as cnp

from fastconv._kernels.level cimport LEVEL
from fastconv._kernels.microkernels cimport import_microkernels, sums_of
from fastconv._kernels.parallel cimport for_each, useful_threads
from fastconv._kernels.planes cimport (
    Planes, array_kind, computed_format, moved_format, plane_at, plane_count, planes_of,
)
from fastconv._kernels.rows cimport FROM_HALF, Format, is_plain, load_row
from fastconv._kernels.scratch cimport Layout, take
from fastconv._kernels.stream cimport STREAM_FROM_BYTES, stream_fence
from fastconv._kernels.sums cimport Sums
from fastconv._kernels.target cimport Target, store_run, target_of
from fastconv._kernels.window cimport ceil_div, smaller

cnp.import_array()
import_microkernels()

level = LEVEL.decode()

cdef extern from "unpooling.h":
    void widen_row(
        int64_t *to, const void *source, int is_unsigned, Py_ssize_t bytes, Py_ssize_t count
    ) noexcept nogil
    bint all_within(const int64_t *index, Py_ssize_t size, Py_ssize_t count) noexcept nogil
    void put_at(
        void *to, const int64_t *at, Py_ssize_t size, const void *source, Py_ssize_t bytes,
        Py_ssize_t count,
    ) noexcept nogil

cdef extern from *:
    """
    static void set_flag(int *flag) { __atomic_store_n(flag, 1, __ATOMIC_RELAXED); }
    """
    void set_flag(int *flag) noexcept nogil

cdef enum:
    # The largest number of bytes of a plane that is made in scratch.
    PLANE_BYTES = 768 << 10
    # The largest number of values that are converted together.
    CHUNK = 2048


cdef struct PlaceScratch:
    # Offsets in an item's scratch.
    size_t indices, narrow_indices, values  # A chunk of a row; indices before they are widened.
    size_t pixels


cdef struct PlacePlan:
    Planes values, indices
    bint index_unsigned
    Py_ssize_t rows, columns  # A plane of values has these, or one row if rows have no gaps.
    Target target
    Py_ssize_t planes
    Py_ssize_t size  # Pixels of a plane of the target.
    Py_ssize_t chunk  # Pixels that are made in scratch at a time; 0 if they are made in place.
    const Sums *sums  # NULL if the last of several values counts, instead of their sum.
    bint check_only
    int *outside  # Set to 1 if an index lies outside its plane.
    Layout scratch
    PlaceScratch at
    double moved
    int threads


cdef inline const int64_t *load_indices(
    const PlacePlan *plan, const char *source, Py_ssize_t count, char *scratch
) noexcept nogil:
    """Return the address of a chunk of indices as int64, in place or in scratch."""
    cdef Format format = plan.indices.format
    cdef int64_t *widened = <int64_t *>(scratch + plan.at.indices)
    if format.bytes == 8 and is_plain(format, plan.indices.stride_w, source):
        return <const int64_t *>source
    load_row(
        scratch + plan.at.narrow_indices, source, count, plan.indices.stride_w, format
    )
    widen_row(
        widened, scratch + plan.at.narrow_indices, plan.index_unsigned, format.bytes, count
    )
    return widened


cdef inline const char *load_values(
    const PlacePlan *plan, const char *source, Py_ssize_t count, char *scratch
) noexcept nogil:
    """Return the address of a chunk of values as they are added, in place or in scratch."""
    if is_plain(plan.values.format, plan.values.stride_w, source):
        return source
    load_row(
        scratch + plan.at.values, source, count, plan.values.stride_w, plan.values.format
    )
    return scratch + plan.at.values


cdef inline bint lies_within(
    const PlacePlan *plan, Py_ssize_t plane, char *scratch
) noexcept nogil:
    """Return whether all indices name pixels of their plane."""
    cdef const char *indices = plane_at(&plan.indices, plane)
    cdef Py_ssize_t chunks = ceil_div(plan.columns, CHUNK), row, i, count
    for row in range(plan.rows):
        for i in range(chunks):
            count = smaller(CHUNK, plan.columns - i * CHUNK)
            if not all_within(
                load_indices(
                    plan, indices + row * plan.indices.stride_h + i * CHUNK * plan.indices.stride_w,
                    count, scratch,
                ),
                plan.size, count,
            ):
                return False
    return True


cdef inline void place_values(
    const PlacePlan *plan, Py_ssize_t plane, Py_ssize_t first, Py_ssize_t last, char *pixels,
    char *scratch,
) noexcept nogil:
    """Add each value to, or put it at, its pixel if that is one of first <= pixel < last."""
    cdef const char *indices = plane_at(&plan.indices, plane)
    cdef const char *values = plane_at(&plan.values, plane)
    cdef const char *source
    cdef const int64_t *at
    cdef Py_ssize_t chunks = ceil_div(plan.columns, CHUNK), row, column, i, count
    for row in range(plan.rows):
        for i in range(chunks):
            column = i * CHUNK
            count = smaller(CHUNK, plan.columns - column)
            at = load_indices(
                plan, indices + row * plan.indices.stride_h + column * plan.indices.stride_w, count,
                scratch,
            )
            source = load_values(
                plan, values + row * plan.values.stride_h + column * plan.values.stride_w, count,
                scratch,
            )
            if plan.sums != NULL:
                plan.sums.add_at(pixels, at, first, last, source, count)
            else:
                put_at(pixels, at, plan.size, source, plan.values.format.bytes, count)


cdef void place(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    """Make one plane: zeros, then each value added to, or put at, its pixel."""
    cdef const PlacePlan *plan = <const PlacePlan *>data
    cdef const Target *target = &plan.target
    cdef Py_ssize_t bytes = target.format.bytes, plane = item * plan.size * bytes, first = 0, last
    cdef char *pixels = scratch + plan.at.pixels
    if not lies_within(plan, item, scratch):
        set_flag(plan.outside)
        return
    if plan.check_only:
        return
    if not plan.chunk:
        memset(target.data + plane, 0, plan.size * bytes)
        place_values(plan, item, 0, plan.size, target.data + plane, scratch)
        return
    while first < plan.size:
        last = smaller(first + plan.chunk, plan.size)
        memset(pixels, 0, (last - first) * target.format.scratch_bytes)
        place_values(plan, item, first, last, pixels, scratch)
        store_run(target, plane + first * bytes, bytes, pixels, last - first)
        first = last
    if target.past_caches:
        stream_fence()


cdef inline bint rows_join(const Planes *planes, Py_ssize_t columns) noexcept:
    return planes.stride_h == columns * planes.stride_w


cdef void describe_places(
    PlacePlan *plan, cnp.ndarray values, Format format, cnp.ndarray indices, cnp.ndarray out,
    Py_ssize_t size,
) noexcept:
    """Read values and their indices (n, c, h, w); `out` has `size` pixels per plane, or is None."""
    memset(plan, 0, sizeof(plan[0]))
    plan.values = planes_of(values, format)
    plan.indices = planes_of(indices, computed_format(indices))
    plan.index_unsigned = array_kind(indices) == b"u"
    plan.planes, plan.size = plane_count(values), size
    plan.rows, plan.columns = cnp.PyArray_DIM(values, 2), cnp.PyArray_DIM(values, 3)
    if rows_join(&plan.values, plan.columns) and rows_join(&plan.indices, plan.columns):
        plan.rows, plan.columns = 1, plan.rows * plan.columns
    plan.check_only = out is None
    if out is not None:
        plan.target = target_of(out)
    plan.target.format = format
    plan.moved = (
        <double>cnp.PyArray_NBYTES(indices) + <double>plan.planes * size * format.bytes
    )


cdef void plan_places(PlacePlan *plan, int threads) noexcept:
    """Decide where planes are made, and lay out the scratch."""
    cdef Format format = plan.values.format
    # Float16 is summed in float32, a chunk in scratch; so is what is then written past the caches.
    if format.conversion == FROM_HALF:
        plan.chunk = smaller(plan.size, PLANE_BYTES // 4)
    elif (
        <double>plan.planes * plan.size * format.bytes >= STREAM_FROM_BYTES
        and plan.size * format.bytes <= PLANE_BYTES
    ):
        plan.chunk = plan.size
        plan.target.past_caches = True
    plan.at.indices = take(&plan.scratch, CHUNK * sizeof(int64_t))
    plan.at.narrow_indices = take(&plan.scratch, CHUNK * sizeof(int64_t))
    plan.at.values = take(&plan.scratch, CHUNK * sizeof(double))
    plan.at.pixels = take(&plan.scratch, <double>plan.chunk * format.scratch_bytes)
    plan.threads = useful_threads(plan.moved, threads)


cdef bint run_places(PlacePlan *plan, int threads) except -1:
    """Make all planes; return whether an index lies outside its plane."""
    cdef int outside = 0
    plan.outside = &outside
    plan_places(plan, threads)
    for_each(place, plan, plan.planes, <size_t>plan.scratch.bytes, plan.moved, plan.threads)
    return outside


def max_pool_backward(
    cnp.ndarray grad_output, cnp.ndarray indices, cnp.ndarray grad_input, Py_ssize_t size,
    int threads,
):
    """Write the sums of the gradients (n, c, oh, ow) that name a pixel, to planes of `size` pixels.

    Return whether an index lies outside its plane; such planes are left alone. With None for
    `grad_input` only look.
    """
    cdef PlacePlan plan
    describe_places(&plan, grad_output, computed_format(grad_output), indices, grad_input, size)
    plan.sums = sums_of(plan.values.format.number)
    return run_places(&plan, threads)


def max_unpool(
    cnp.ndarray values, cnp.ndarray indices, cnp.ndarray out, Py_ssize_t size, int threads
):
    """Put the values (n, c, h, w) into zeroed planes; return as `max_pool_backward` does."""
    cdef PlacePlan plan
    cdef Format format = moved_format(values)
    format.swapped = not cnp.PyArray_ISNOTSWAPPED(values)
    describe_places(&plan, values, format, indices, out, size)
    return run_places(&plan, threads)
