"""Weights of a convolution, and how they are packed for lanes of filters."""

from libc.string cimport memcpy, memset

cimport numpy as cnp

from fastconv._kernels.band cimport Phase
from fastconv._kernels.number cimport Number, bytes_of
from fastconv._kernels.planes cimport Planes, converted_format, planes_of, readable_end
from fastconv._kernels.rows cimport is_plain, load_row
from fastconv._kernels.tile cimport Tiles
from fastconv._kernels.window cimport smaller

cdef enum:
    PACK_CHANNELS = 16  # The number of channels that are packed together.
    PACK_TAPS = 64  # Windows of at most this many taps are packed by transposing.


cdef struct Weights:
    # The weights of a convolution. In `planes`, index n counts what lanes hold (filters, or
    # channels of a transposed convolution), and c counts what is summed over.
    Planes planes
    Py_ssize_t group_stride  # Bytes from a group's weights to the next group's.
    const char *end  # All bytes up to here may be read.
    Py_ssize_t kernel_h, kernel_w
    Py_ssize_t filters  # The number of lanes' filters of a group.
    Py_ssize_t bytes  # Bytes of a number in scratch.
    const Tiles *tiles


cdef inline Weights weights_of(
    cnp.ndarray weight, Py_ssize_t groups, bint transposed, Number number, const Tiles *tiles
) noexcept:
    """Read weights (f, c/groups, kh, kw) of a convolution or of a transposed one."""
    cdef Weights weights
    cdef cnp.npy_intp *strides = cnp.PyArray_STRIDES(weight)
    weights.planes = planes_of(weight, converted_format(weight, number))
    weights.filters = cnp.PyArray_DIM(weight, 0) // groups
    if transposed:
        weights.planes.stride_n, weights.planes.stride_c = strides[1], strides[0]
        weights.filters = cnp.PyArray_DIM(weight, 1)
    weights.group_stride = strides[0] * cnp.PyArray_DIM(weight, 0) // groups
    weights.end = readable_end(weight)
    weights.kernel_h, weights.kernel_w = cnp.PyArray_DIM(weight, 2), cnp.PyArray_DIM(weight, 3)
    weights.bytes, weights.tiles = bytes_of(number), tiles
    return weights


cdef struct PackedWeights:
    # What is packed together: of group g, the filters of `lanes` lanes from f on, and the channels
    # first <= c < last.
    Py_ssize_t g, f, lanes, first, last


cdef inline void pack_channels(
    const Weights *weights, const Phase *h, const Phase *w, PackedWeights of, char *to,
    char *scratch,
) noexcept nogil:
    """Pack the taps of a pair of phases as [c][kh][kw][lane], with zeros behind the last filter.

    `scratch` has room for PACK_TAPS numbers per lane.
    """
    cdef const Planes *planes = &weights.planes
    cdef Py_ssize_t bytes = weights.bytes, lanes = of.lanes, first = of.first
    cdef Py_ssize_t filters = smaller(lanes, weights.filters - of.f)
    cdef Py_ssize_t c, i, j, kh, kw, taps = weights.kernel_h * weights.kernel_w
    cdef const char *source = planes.data + of.g * weights.group_stride + of.f * planes.stride_n
    cdef bint contiguous = (  # The taps of a window lie next to each other.
        lanes > 1 and taps <= PACK_TAPS
        and is_plain(planes.format, planes.stride_w, source + first * planes.stride_c)
        and planes.stride_h == weights.kernel_w * bytes
        and planes.stride_n % bytes == 0 and planes.stride_c % bytes == 0
    )
    if contiguous and planes.stride_c == taps * bytes and h.tap == w.tap == 0:
        if h.taps * w.taps == taps:
            weights.tiles.pack(
                to, source + first * planes.stride_c, planes.stride_n // bytes, filters,
                (of.last - first) * taps, lanes // weights.tiles.lanes, 0,
            )
            return
    for c in range(first, of.last):
        if contiguous:
            weights.tiles.pack(
                scratch, source + c * planes.stride_c, planes.stride_n // bytes, filters, taps,
                lanes // weights.tiles.lanes, (weights.end - source - c * planes.stride_c) // bytes,
            )
        for i in range(h.taps):
            for j in range(w.taps):
                kh, kw = h.tap + i * h.tap_stride, w.tap + j * w.tap_stride
                if contiguous:
                    memcpy(
                        to, scratch + (kh * weights.kernel_w + kw) * lanes * bytes, lanes * bytes
                    )
                else:
                    load_row(
                        to, source + c * planes.stride_c + kh * planes.stride_h
                        + kw * planes.stride_w, filters, planes.stride_n, planes.format,
                    )
                    memset(to + filters * bytes, 0, (lanes - filters) * bytes)
                to += lanes * bytes
