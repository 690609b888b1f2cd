"""The register tiles of tile.c, which explains them."""

from libc.stdint cimport int32_t

cdef extern from "tile.h":
    enum:
        TILE_PIXELS
        TILE_ROWS
        TILE_VECTORS
        PLANAR_ROWS
        PLANAR_VECTORS
        PLANAR_TAPS

    ctypedef struct PlaneOutputs:
        void *to
        Py_ssize_t out_h, out_w
        const void *image
        Py_ssize_t pitch, stride
        const void *filter
        Py_ssize_t kernel_h, kernel_w
        const int32_t *columns
        const void *start
        const void *residual
        bint clips
        double low, high

    ctypedef struct TileOutputs:
        void *to
        const void *residual
        Py_ssize_t pitch, filters, spare
        bint clips
        double low, high

    ctypedef struct Tiles:
        Py_ssize_t lanes
        void (*multiply)(
            void *sums, const void *start, const void *packed, const void **rows,
            const int32_t *offsets, Py_ssize_t steps, Py_ssize_t terms, Py_ssize_t n_rows,
            Py_ssize_t pixels, Py_ssize_t vectors, const void *soon, Py_ssize_t soon_stride,
        ) noexcept nogil
        void (*unpack)(
            void *to, Py_ssize_t pitch, const void *sums, Py_ssize_t pixels, Py_ssize_t vectors
        ) noexcept nogil
        Py_ssize_t (*correlate)(
            void *to, Py_ssize_t to_pitch, Py_ssize_t out_rows, Py_ssize_t vectors,
            const void *image, Py_ssize_t pitch, const void *filter, Py_ssize_t kernel_h,
            Py_ssize_t kernel_w, const int32_t *columns,
        ) noexcept nogil
        void (*correlate_plane)(const PlaneOutputs *plane) noexcept nogil
        bint (*has_plane_tile)(Py_ssize_t kernel_h, Py_ssize_t stride) noexcept nogil
        void (*pack)(
            void *to, const void *source, Py_ssize_t pitch, Py_ssize_t filters, Py_ssize_t pixels,
            Py_ssize_t vectors, Py_ssize_t readable,
        ) noexcept nogil
        void (*correlate_taps)(
            void *to, const void *grad, Py_ssize_t grad_pitch, const void *image, Py_ssize_t pitch,
            Py_ssize_t rows, Py_ssize_t count, Py_ssize_t planes, Py_ssize_t plane_stride,
            const int32_t *taps, Py_ssize_t n_taps,
        ) noexcept nogil
        double (*sum)(const void *numbers, Py_ssize_t count) noexcept nogil
        void (*write)(
            const TileOutputs *outputs, const void *sums, Py_ssize_t pixels, Py_ssize_t vectors
        ) noexcept nogil


cdef enum:
    SUM_TERMS = 256  # This many terms are added up in a register before they are added to memory.
    FLOPS_PER_BYTE = 8  # This much arithmetic takes as long as moving a byte.
