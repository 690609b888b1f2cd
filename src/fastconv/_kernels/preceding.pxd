"""A depthwise convolution that computes the source of a 1x1 convolution, band by band.

Its outputs never lie in an array: those that an item needs are computed to the item's scratch, from
where they are multiplied while they are in L2.
"""

cimport numpy as cnp

from fastconv._kernels.epilogue cimport CLIP, IDENTITY, Activation
from fastconv._kernels.microkernels cimport rowwise_of
from fastconv._kernels.number cimport Number, bytes_of
from fastconv._kernels.planes cimport Planes
from fastconv._kernels.rows cimport is_plain
from fastconv._kernels.rowwise cimport ROWWISE_KERNEL, ROWWISE_STRIDES, Rowwise, RowwiseRows
from fastconv._kernels.window cimport PAD_CONSTANT, Axis, Window


cdef struct Preceding:
    # Channel c of its outputs is the convolution of the source's channel c with filter c.
    Window window
    const char *filters  # Contiguous.
    const char *bias  # A number per channel, or NULL for zeros.
    Activation activation
    Rowwise compute


cdef inline bint fits_axis(const Axis *axis) noexcept:
    """Return whether the microkernel knows windows like these."""
    return (
        axis.kernel == ROWWISE_KERNEL and axis.dilation == 1 and axis.stride <= ROWWISE_STRIDES
        and axis.pad_mode == PAD_CONSTANT
    )


cdef inline int describe_preceding(
    Preceding *preceding, Window window, Number number, cnp.ndarray weight, cnp.ndarray bias,
    activation,
) except -1:
    """Read weights (c, 1, 3, 3) and a bias (c,) of a number's type, both contiguous."""
    preceding.window = window
    preceding.filters = <const char *>cnp.PyArray_DATA(weight)
    preceding.bias = NULL if bias is None else <const char *>cnp.PyArray_DATA(bias)
    preceding.activation.kind = IDENTITY
    if activation is not None:
        preceding.activation.kind, preceding.activation.a, preceding.activation.b = activation
    preceding.compute = rowwise_of(number)
    if (
        not (fits_axis(&window.h) and fits_axis(&window.w))
        or window.h.stride != window.w.stride
        or preceding.activation.kind not in (IDENTITY, CLIP)
    ):
        raise ValueError("no microkernel computes such a convolution row by row")
    return 0


cdef inline void compute_preceding(
    const Preceding *preceding, const Planes *source, Py_ssize_t n, Py_ssize_t channels,
    Py_ssize_t first_row, Py_ssize_t n_rows, char *to, Py_ssize_t pitch,
) noexcept nogil:
    """Compute rows of all channels of an image, each channel `pitch` numbers behind the last."""
    cdef const Axis *h = &preceding.window.h
    cdef const Axis *w = &preceding.window.w
    cdef Py_ssize_t bytes = source.format.bytes
    cdef RowwiseRows rows
    rows.to, rows.to_stride, rows.channels = to, pitch, channels
    rows.first, rows.rows, rows.columns = first_row, n_rows, w.out
    rows.image = source.data + n * source.stride_n
    rows.image_stride, rows.pitch = source.stride_c // bytes, source.stride_h // bytes
    rows.height, rows.width = h.size, w.size
    rows.stride, rows.top, rows.left = h.stride, h.before, w.before
    rows.filters, rows.bias = preceding.filters, preceding.bias
    rows.clips = preceding.activation.kind == CLIP
    rows.low, rows.high = preceding.activation.a, preceding.activation.b
    preceding.compute(&rows)
