"""Where results go, what is done to them on the way, and the one way to write a run of them."""

from libc.string cimport memset

cimport numpy as cnp

from fastconv._kernels.common cimport (
    AS_IS, Format, computed_format, copy_bytes, load_row, smaller, spread_row,
    store_row, stream_copy,
)

cdef extern from "epilogue.h":
    enum:
        IDENTITY

    ctypedef struct Activation:
        int kind
        double a, b

    ctypedef void (*Finish)(
        void *to, const void *sums, const void *residual, Py_ssize_t count,
        const Activation *activation,
    ) noexcept nogil

    Finish finish_of(Py_ssize_t bytes) noexcept nogil

cdef enum:
    PIECE = 128  # Numbers of a residual that are converted together, on the stack.
    SHORT_BYTES = 512  # Up to here, a call of memcpy takes longer than the copy itself.


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
    bint past_caches  # Whole lines are written past the caches, in which they would not be found.


cdef inline Target target_of(cnp.ndarray out) noexcept:
    """An array that takes results as they are."""
    cdef Target target
    cdef cnp.npy_intp *strides = cnp.PyArray_STRIDES(out)
    memset(&target, 0, sizeof(target))
    target.data = <char *>cnp.PyArray_DATA(out)
    target.all_bytes = cnp.PyArray_NBYTES(out)
    target.format = computed_format(out)
    target.stride_n, target.stride_c = strides[0], strides[1]
    target.stride_h, target.stride_w = strides[2], strides[3]
    return target


cdef inline int finish_with(Target *target, residual, activation) except -1:
    """Read the residual, an array of the target's layout and dtype or None, and the activation, a
    kind with its two parameters or None."""
    if residual is not None:
        target.residual = <const char *>cnp.PyArray_DATA(<cnp.ndarray?>residual)
    if activation is not None:
        target.activation.kind, target.activation.a, target.activation.b = activation
    if residual is not None or activation is not None:
        target.finish = finish_of(target.format.scratch_bytes)
    return 0


cdef inline Py_ssize_t place_of(
    const Target *target, Py_ssize_t n, Py_ssize_t c, Py_ssize_t h, Py_ssize_t w
) noexcept nogil:
    """Bytes from the first result to one of them."""
    return n * target.stride_n + c * target.stride_c + h * target.stride_h + w * target.stride_w


cdef inline bint joins_rows(const Target *target, Py_ssize_t columns) noexcept nogil:
    """Do rows of so many results follow each other without a gap?"""
    return (
        target.stride_w == target.format.bytes and target.stride_h == columns * target.stride_w
    )


cdef inline void store_run(
    const Target *target, Py_ssize_t place, Py_ssize_t step, char *results, Py_ssize_t count
) noexcept nogil:
    """Write results, which are finished in place, to every `step`-th byte from a place on."""
    cdef Format format = target.format
    cdef char *to = target.data + place
    cdef const char *residual = NULL
    cdef bint plain = step == format.bytes and format.conversion == AS_IS
    if target.finish != NULL:
        if not plain:
            finish_pieces(target, place, step, results, count)
        else:
            if target.residual != NULL:
                residual = target.residual + place
            target.finish(
                results if target.past_caches else to, results, residual, count,
                &target.activation,
            )
            if not target.past_caches:
                return
    if step != format.bytes:
        spread_row(to, step, results, count, format)
    elif plain and target.past_caches:
        stream_copy(to, results, count * format.bytes)
    elif plain and count * format.bytes <= SHORT_BYTES and format.bytes % 4 == 0:
        copy_bytes(to, results, count * format.bytes)
    else:
        store_row(to, results, count, format)


cdef inline void finish_pieces(
    const Target *target, Py_ssize_t place, Py_ssize_t step, char *results, Py_ssize_t count
) noexcept nogil:
    """Finish results in place; the residual is converted or lies apart."""
    cdef double piece[PIECE]
    cdef const void *residual = NULL
    cdef Py_ssize_t i = 0, some
    while i < count:
        some = smaller(PIECE, count - i)
        if target.residual != NULL:
            load_row(piece, target.residual + place + i * step, some, step, target.format)
            residual = piece
        target.finish(results, results, residual, some, &target.activation)
        results += some * target.format.scratch_bytes
        i += some
