"""The transforms of transforms.c, which explains them, and Winograd's tiles as windows."""

from fastconv._kernels.band cimport Band, Phase, plan_forward
from fastconv._kernels.number cimport FLOAT32, Number
from fastconv._kernels.window cimport PAD_CONSTANT, Axis, ceil_div

cdef extern from "transforms.h":
    enum:
        WINOGRAD_TAPS
        MOST_POSITIONS

    ctypedef void (*PlaneTransform)(
        void *to, Py_ssize_t pitch, Py_ssize_t position_stride, const void **rows, Py_ssize_t tiles
    ) noexcept nogil

    ctypedef struct Transforms:
        void (*pixels)(
            void *to, Py_ssize_t position_stride, const void *source, Py_ssize_t pitch,
            Py_ssize_t tiles,
        ) noexcept nogil
        void (*filters)(
            void *to, Py_ssize_t position_stride, const void *source, Py_ssize_t lanes
        ) noexcept nogil
        void (*outputs)(
            void *to, Py_ssize_t pitch, const void *source, Py_ssize_t position_stride,
            Py_ssize_t vectors, const void *start, void *bad,
        ) noexcept nogil
        PlaneTransform plane_pixels
        PlaneTransform plane_grads
        void (*taps)(
            void *to, const void *source, Py_ssize_t position_stride, Py_ssize_t count,
            Py_ssize_t vectors, void *bad,
        ) noexcept nogil


cdef inline bint is_bad(const char *bad, Py_ssize_t lane, Number number) noexcept nogil:
    """Return whether a transform of outputs or taps has found a number that is not finite."""
    return (<float *>bad)[lane] != 0 if number == FLOAT32 else (<double *>bad)[lane] != 0


cdef inline Axis axis_of_tiles(const Axis *axis, Py_ssize_t tile, bint transposed) noexcept:
    """Return the axis of tiles as windows over what their outputs depend on."""
    cdef inline Axis tiles = axis[0]
    cdef Py_ssize_t outputs = axis.out
    if transposed:
        outputs = axis.size
        tiles.size = axis.out
        tiles.before = WINOGRAD_TAPS - 1 - axis.before
        tiles.pad_mode = PAD_CONSTANT
    tiles.out = ceil_div(outputs, tile)
    tiles.kernel, tiles.stride, tiles.dilation = tile + WINOGRAD_TAPS - 1, tile, 1
    return tiles


cdef inline Axis axis_of_outputs(const Axis *axis, Py_ssize_t tile) noexcept:
    """Return the axis of tiles as windows over the outputs themselves, with zeros behind the
    last."""
    cdef inline Axis tiles
    tiles.size, tiles.out, tiles.pad_mode = axis.out, ceil_div(axis.out, tile), PAD_CONSTANT
    tiles.kernel, tiles.stride, tiles.dilation = tile, tile, 1
    tiles.before = tiles.after = 0
    return tiles


cdef inline void plan_band(Band *band, Axis h, Axis w, Phase *phases) noexcept:
    """Plan bands that contain all pixels of some rows of tiles."""
    band.h.phases, band.w.phases = phases, phases + 1
    plan_forward(&band.h, &h)
    plan_forward(&band.w, &w)
    band.w.column_phases = band.w.kept_phases = 1  # Rows are not de-interleaved.
