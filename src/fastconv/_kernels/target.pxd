"""Targets: the arrays that results go to, what is done to results on the way, and how they are
written."""

from libc.string cimport memcpy, memset

cimport numpy as cnp

from fastconv._kernels.epilogue cimport Activation, Finish, prefetch
from fastconv._kernels.microkernels cimport finish_of
from fastconv._kernels.planes cimport computed_format
from fastconv._kernels.rows cimport (
    AS_IS, Format, copy_bytes, load_row, store_row, store_strided_row,
)
from fastconv._kernels.stream cimport stream_copy
from fastconv._kernels.window cimport smaller

cdef enum:
    CHUNK = 128  # This many numbers of a residual are converted together, on the stack.
    SHORT_BYTES = 512  # A call of memcpy takes longer than the copy of at most this many bytes.


cdef struct Target:
    # An array (n, c, h, w) of any strides, in bytes. `residual` is NULL or lies in the same layout;
    # it may be the array itself.
    char *data
    const char *residual
    Py_ssize_t stride_n, stride_c, stride_h, stride_w
    Py_ssize_t all_bytes
    Format format
    Activation activation
    Finish finish  # NULL if there is neither a residual nor an activation.
    bint past_caches  # Whole lines are written past the caches, which are too small for the array.


cdef inline Target target_of(cnp.ndarray out) noexcept:
    """Return the target of results that are written as they are."""
    cdef Target target
    cdef cnp.npy_intp *strides = cnp.PyArray_STRIDES(out)
    cdef cnp.npy_intp *sizes = cnp.PyArray_DIMS(out)
    memset(&target, 0, sizeof(target))
    target.data = <char *>cnp.PyArray_DATA(out)
    target.all_bytes = cnp.PyArray_NBYTES(out)
    target.format = computed_format(out)
    # NumPy calls an array contiguous whatever the stride of an axis of one element is.
    target.stride_w = strides[3] if sizes[3] > 1 else target.format.bytes
    target.stride_h = strides[2] if sizes[2] > 1 else sizes[3] * target.stride_w
    target.stride_c = strides[1] if sizes[1] > 1 else sizes[2] * target.stride_h
    target.stride_n = strides[0]
    return target


cdef inline int finish_with(Target *target, residual, activation) except -1:
    """Read what is done to results.

    The residual is an array of the target's layout and dtype, or None. The activation is a kind
    with its two parameters, or None.
    """
    if residual is not None:
        target.residual = <const char *>cnp.PyArray_DATA(<cnp.ndarray?>residual)
    if activation is not None:
        target.activation.kind, target.activation.a, target.activation.b = activation
    if residual is not None or activation is not None:
        target.finish = finish_of(target.format.number)
    return 0


cdef inline Py_ssize_t place_of(
    const Target *target, Py_ssize_t n, Py_ssize_t c, Py_ssize_t h, Py_ssize_t w
) noexcept nogil:
    """Return the number of bytes from the first result to one of them."""
    return n * target.stride_n + c * target.stride_c + h * target.stride_h + w * target.stride_w


cdef inline bint joins_rows(const Target *target, Py_ssize_t columns) noexcept nogil:
    """Return whether rows of this number of results follow each other without gaps."""
    return (
        target.stride_w == target.format.bytes and target.stride_h == columns * target.stride_w
    )


cdef inline void store_rows(
    const Target *target, Py_ssize_t place, Py_ssize_t row_stride, Py_ssize_t stride,
    char *results, Py_ssize_t pitch, Py_ssize_t rows, Py_ssize_t count,
) noexcept nogil:
    """Finish rows of results, which may be overwritten, and write them.

    Rows of results lie `pitch` bytes apart. The first goes to `place` in the target, and the others
    row_stride bytes after each other. Neighbouring results of a row go to addresses `stride` bytes
    apart.
    """
    cdef const char *residual = target.residual
    cdef char *to = target.data + place
    cdef Py_ssize_t r
    if target.past_caches or not is_plain_run(target, stride):
        for r in range(rows):
            store_run(target, place + r * row_stride, stride, results + r * pitch, count)
    elif target.finish == NULL:
        for r in range(rows):
            copy_run(to + r * row_stride, results + r * pitch, count * target.format.bytes)
    else:
        if residual != NULL:
            residual += place
        target.finish(
            to, row_stride, results, pitch, residual, rows, count, &target.activation
        )


cdef inline void copy_run(char *to, const char *results, Py_ssize_t bytes) noexcept nogil:
    """Copy memory of native numbers; a call of memcpy takes longer than to copy a few of them."""
    if bytes <= SHORT_BYTES and bytes % 4 == 0:
        copy_bytes(to, results, bytes)
    else:
        memcpy(to, results, bytes)


cdef inline void store_run(
    const Target *target, Py_ssize_t place, Py_ssize_t stride, char *results, Py_ssize_t count
) noexcept nogil:
    """Finish results, which may be overwritten, and write them `stride` bytes apart."""
    if target.finish != NULL:
        finish_run(target, place, stride, results, count)
    write_run(target, place, stride, results, count)


cdef inline void prefetch_residual(
    const Target *target, Py_ssize_t place, Py_ssize_t row_stride, Py_ssize_t rows,
    Py_ssize_t count,
) noexcept nogil:
    """Prefetch the residual of rows that `store_rows` will write.

    Rows of several planes lie too far apart for the processor's own prefetching, and waiting for
    them takes as long as computing a tile.
    """
    cdef Py_ssize_t r
    if target.residual != NULL:
        for r in range(rows):
            prefetch(target.residual + place + r * row_stride, count * target.format.bytes)


cdef inline bint is_plain_run(const Target *target, Py_ssize_t stride) noexcept nogil:
    """Return whether results are written side by side, without a conversion."""
    return stride == target.format.bytes and target.format.conversion == AS_IS


cdef inline void write_run(
    const Target *target, Py_ssize_t place, Py_ssize_t stride, const char *results, Py_ssize_t count
) noexcept nogil:
    """Write finished results `stride` bytes apart, from a place on."""
    cdef Format format = target.format
    cdef char *to = target.data + place
    if stride != format.bytes:
        store_strided_row(to, stride, results, count, format)
    elif format.conversion != AS_IS:
        store_row(to, results, count, format)
    elif target.past_caches:
        stream_copy(to, results, count * format.bytes)
    else:
        copy_run(to, results, count * format.bytes)


cdef inline void finish_run(
    const Target *target, Py_ssize_t place, Py_ssize_t stride, char *results, Py_ssize_t count
) noexcept nogil:
    """Finish results in place.

    A residual of another type, or with gaps between its numbers, is copied to `chunk` first.
    """
    cdef double chunk[CHUNK]
    cdef const char *residual = target.residual
    cdef Py_ssize_t i = 0, some = count
    if residual != NULL:
        residual += place
        if not is_plain_run(target, stride):
            some = CHUNK
    while i < count:
        some = smaller(some, count - i)
        if target.residual != NULL and not is_plain_run(target, stride):
            load_row(chunk, target.residual + place + i * stride, some, stride, target.format)
            residual = <const char *>chunk
        target.finish(results, 0, results, 0, residual, 1, some, &target.activation)
        results += some * target.format.scratch_bytes
        i += some
