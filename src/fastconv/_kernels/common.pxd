"""What the kernels' C headers hold, and how an array's layout becomes theirs."""

from libc.stdint cimport int64_t

cimport numpy as cnp


cdef extern from "window.h":
    ctypedef struct Axis:
        Py_ssize_t size, out, kernel, stride, dilation, before, after, pad_mode

    ctypedef struct Window:
        Axis h, w

    int PAD_CONSTANT
    Py_ssize_t source_index(const Axis *axis, Py_ssize_t padded) noexcept nogil
    Py_ssize_t padded_size(const Axis *axis) noexcept nogil
    Py_ssize_t window_span(const Axis *axis) noexcept nogil
    Py_ssize_t reach(const Axis *axis, Py_ssize_t outputs) noexcept nogil
    Py_ssize_t ceil_div(Py_ssize_t a, Py_ssize_t b) noexcept nogil
    Py_ssize_t smaller(Py_ssize_t a, Py_ssize_t b) noexcept nogil
    Py_ssize_t larger(Py_ssize_t a, Py_ssize_t b) noexcept nogil


cdef extern from "rows.h":
    ctypedef struct Format:
        Py_ssize_t bytes, scratch_bytes
        int conversion, swapped

    int AS_IS
    int FROM_HALF
    int FROM_FLOAT
    int FROM_SIGNED
    int FROM_UNSIGNED

    bint is_plain(Format format, Py_ssize_t stride, const char *data) noexcept nogil
    void load_row(
        void *to, const char *source, Py_ssize_t count, Py_ssize_t stride, Format format
    ) noexcept nogil
    void store_row(char *to, const void *source, Py_ssize_t count, Format format) noexcept nogil
    void spread_row(
        char *to, Py_ssize_t step, const void *source, Py_ssize_t count, Format format
    ) noexcept nogil
    void deal_row(
        void *even, void *odd, const void *source, Py_ssize_t count, Py_ssize_t bytes
    ) noexcept nogil
    void zip_rows(
        void *to, const void *even, const void *odd, Py_ssize_t count, Py_ssize_t bytes
    ) noexcept nogil
    void fill_row(
        void *to, const void *element, Py_ssize_t count, Py_ssize_t bytes
    ) noexcept nogil
    void load_padded_row(
        void *to, const char *source, Py_ssize_t first, Py_ssize_t step, Py_ssize_t count,
        Py_ssize_t stride, const Axis *axis, Format format, const void *outside,
    ) noexcept nogil
    void copy_bytes(char *to, const char *source, Py_ssize_t bytes) noexcept nogil
    void load_plain_rows(
        char *to, Py_ssize_t pitch, const char *source, Py_ssize_t stride, Py_ssize_t above,
        Py_ssize_t rows, Py_ssize_t below, Py_ssize_t before, Py_ssize_t inner, Py_ssize_t behind,
    ) noexcept nogil
    void load_padded_phases(
        char *to, Py_ssize_t phase_stride, Py_ssize_t phases, const char *source,
        Py_ssize_t first, Py_ssize_t count, Py_ssize_t stride, const Axis *axis, Format format,
        const void *outside,
    ) noexcept nogil


cdef extern from "sums.h":
    ctypedef struct Sums:
        void (*add_row)(void *to, const void *source, Py_ssize_t count) noexcept nogil
        void (*add_element)(
            void *to, Py_ssize_t at, const void *source, Py_ssize_t index
        ) noexcept nogil
        void (*add_at)(
            void *to, const int64_t *at, Py_ssize_t first, Py_ssize_t last, const void *source,
            Py_ssize_t count,
        ) noexcept nogil
        void (*add_taps)(
            void *to, const void *source, Py_ssize_t channels, Py_ssize_t to_channel,
            Py_ssize_t from_channel, Py_ssize_t rows, Py_ssize_t to_row, Py_ssize_t kernel_w,
        ) noexcept nogil
        void (*add_sums)(
            void *to, const char **taps, Py_ssize_t n_taps, Py_ssize_t count
        ) noexcept nogil
        void (*divide)(
            void *to, Py_ssize_t rows, const Py_ssize_t *columns, Py_ssize_t count
        ) noexcept nogil
        void (*interleave_phases)(
            void *to, const void *source, Py_ssize_t count, Py_ssize_t first, Py_ssize_t phases,
            Py_ssize_t phase_length,
        ) noexcept nogil

    const Sums *sums_of(int is_float, Py_ssize_t bytes) noexcept nogil


cdef extern from "stream.h":
    enum:
        STAGE_BYTES
        STREAM_FROM_BYTES
        LINE_BYTES

    ctypedef struct Stream:
        char *stage
        Py_ssize_t end

    Stream stream_to(char *to, char *stage, int past_caches) noexcept nogil
    Py_ssize_t stream_room(const Stream *stream) noexcept nogil
    void stream_flush(Stream *stream) noexcept nogil
    void stream_finish(Stream *stream) noexcept nogil
    void stream_fence() noexcept nogil
    void stream_copy(char *to, const char *source, Py_ssize_t bytes) noexcept nogil


cdef extern from *:
    """
    static inline char array_kind(PyArrayObject *array) { return PyArray_DESCR(array)->kind; }

    #if defined(__AVX512F__)
    #define LEVEL "v4"
    #elif defined(__AVX2__)
    #define LEVEL "v3"
    #else
    #define LEVEL "base"
    #endif
    """
    const char *LEVEL  # which a module is built for, told by the compiler
    char array_kind(cnp.ndarray array) noexcept  # as `numpy.dtype.kind`


cdef struct Planes:
    # The planes (h, w) of an array (n, c, h, w): strides in bytes, any layout.
    char *data
    Py_ssize_t channels, stride_n, stride_c, stride_h, stride_w
    Format format


cdef inline Format moved_format(cnp.ndarray array) noexcept:
    """The format of elements that are moved and not looked at."""
    cdef Format format
    format.bytes = format.scratch_bytes = cnp.PyArray_ITEMSIZE(array)
    format.swapped = False
    format.conversion = AS_IS
    return format


cdef inline Format computed_format(cnp.ndarray array) noexcept:
    """The format of numbers that are computed with."""
    cdef Format format = moved_format(array)
    format.swapped = not cnp.PyArray_ISNOTSWAPPED(array)
    if array_kind(array) == b"f" and format.bytes == 2:
        format.conversion = FROM_HALF
        format.scratch_bytes = 4
    return format


cdef inline Format converted_format(cnp.ndarray array, Py_ssize_t scratch_bytes) noexcept:
    """The format of numbers that become float32 (4 scratch bytes) or float64 (8)."""
    cdef Format format = computed_format(array)
    cdef char kind = array_kind(array)
    if kind != b"f":
        format.conversion = FROM_SIGNED if kind == b"i" else FROM_UNSIGNED
    elif format.scratch_bytes != scratch_bytes and format.conversion == AS_IS:
        format.conversion = FROM_FLOAT
    format.scratch_bytes = scratch_bytes
    return format


cdef inline Format averaged_format(cnp.ndarray array) noexcept:
    """The format of numbers whose means are taken: those of integers and bool are float64."""
    if array_kind(array) == b"f":
        return computed_format(array)
    return converted_format(array, 8)


cdef inline Planes planes_of(cnp.ndarray array, Format format) noexcept:
    cdef Planes planes
    cdef cnp.npy_intp *strides = cnp.PyArray_STRIDES(array)
    planes.data = <char *>cnp.PyArray_DATA(array)
    planes.channels = cnp.PyArray_DIM(array, 1)
    planes.stride_n, planes.stride_c = strides[0], strides[1]
    planes.stride_h, planes.stride_w = strides[2], strides[3]
    planes.format = format
    return planes


cdef inline const char *readable_end(cnp.ndarray array) noexcept:
    """Up to where everything from the first element on may be read; that itself if unknown."""
    cdef const char *data = <const char *>cnp.PyArray_DATA(array)
    return data + cnp.PyArray_NBYTES(array) if cnp.PyArray_IS_C_CONTIGUOUS(array) else data


cdef inline Py_ssize_t plane_count(cnp.ndarray array) noexcept:
    return cnp.PyArray_DIM(array, 0) * cnp.PyArray_DIM(array, 1)


cdef inline void add_slices(
    const Sums *add, char *sums, Py_ssize_t slices, Py_ssize_t slice_bytes, Py_ssize_t count
) noexcept nogil:
    """Add `count` sums of all slices to the first one's, pairwise: fewer digits are lost."""
    cdef Py_ssize_t distance = 1, slice
    while distance < slices:
        slice = 0
        while slice < slices - distance:
            add.add_row(
                sums + slice * slice_bytes, sums + (slice + distance) * slice_bytes, count
            )
            slice += 2 * distance
        distance *= 2


cdef inline char *plane_at(const Planes *planes, Py_ssize_t plane) noexcept nogil:
    """The first pixel of a plane, counted through all images."""
    return (
        planes.data
        + plane // planes.channels * planes.stride_n
        + plane % planes.channels * planes.stride_c
    )


cdef inline const char *padded_row(
    const Planes *image, const char *plane, const Axis *axis, Py_ssize_t y
) noexcept nogil:
    """Pixel 0 of the row that a padded position shows, NULL for constant padding."""
    cdef Py_ssize_t h = source_index(axis, y)
    if h < 0:
        return NULL
    return plane + h * image.stride_h


cdef inline const Window *window_of(cnp.ndarray packed) noexcept:
    return <const Window *>cnp.PyArray_DATA(packed)
