"""The outputs of a convolution, their source positions, and bands of source in scratch.

Along each axis the outputs fall into phases. A forward convolution has one phase: output j depends
on the padded positions j*stride + t*dilation. In its adjoint, the outputs y with y % stride == r
are a phase for each r. They lie `stride` apart, depend only on the taps k with (r - k*dilation) %
stride == 0, and their sources lie next to each other.
"""

from fastconv._kernels.planes cimport Planes, padded_row
from fastconv._kernels.rows cimport (
    Format, copy_bytes, deinterleave_row, is_plain, load_padded_phases, load_padded_row,
    load_plain_rows,
)
from fastconv._kernels.window cimport PAD_CONSTANT, Axis, ceil_div, larger, reach, smaller


cdef struct Phase:
    # The outputs position + j*output_stride of one axis, first <= j < last, and their taps. Output
    # j finds tap + t*tap_stride, for 0 <= t < taps, at the source position source + j*stride +
    # t*source_stride.
    Py_ssize_t position, first, last
    Py_ssize_t taps, tap, tap_stride, source, source_stride
    Py_ssize_t index  # The number of phases before this one that have taps.


cdef struct Side:
    # One axis of a convolution, from its source to its outputs.
    Axis source
    Axis target  # Positions of outputs count from the begin of its padding.
    Py_ssize_t output_stride  # The distance from one output of a phase to the next.
    Phase *phases
    Py_ssize_t n_phases, n_active  # The numbers of all phases, and of those that have taps.
    Py_ssize_t first, last  # The outputs first <= j < last of all phases.
    Py_ssize_t base  # The least source position for j = 0.
    Py_ssize_t span  # The number of positions from there to the last tap of all phases.
    Py_ssize_t column_phases  # The stride by which rows are de-interleaved.
    Py_ssize_t kept_phases  # The number of residues of that stride that outputs depend on.
    Py_ssize_t size, items  # The number of outputs j of an item, and of items along the axis.


cdef struct Band:
    # The source of `size` outputs of each axis, copied to scratch with its padding. Every channel
    # has channel_rows rows of `pitch` numbers. Each row is de-interleaved into w.kept_phases
    # phases of phase_length.
    Side h, w
    Planes source
    Py_ssize_t channels
    Py_ssize_t channel_rows, pitch, phase_length


cdef inline void plan_forward(Side *side, const Axis *axis) noexcept:
    """Plan one axis of a forward convolution: one phase with all taps."""
    cdef Phase *phase = side.phases
    side.source = axis[0]
    side.target.size = axis.out
    side.target.before = 0
    side.output_stride = 1
    side.n_phases = 1
    phase.position, phase.first, phase.last = 0, 0, axis.out
    phase.taps, phase.tap, phase.tap_stride = axis.kernel, 0, 1
    phase.source, phase.source_stride = 0, axis.dilation
    finish_side(side)


cdef inline Py_ssize_t common_divisor(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    while b:
        a, b = b, a % b
    return a


cdef inline void plan_transposed(
    Side *side, const Axis *axis, Py_ssize_t begin, Py_ssize_t end
) noexcept:
    """Plan the positions begin to end of the padded target of a transposed convolution."""
    cdef Phase *phase
    cdef Py_ssize_t stride = axis.stride
    cdef Py_ssize_t divisor = common_divisor(stride, axis.dilation), i, k
    side.source.size, side.source.stride = axis.out, 1
    side.source.before = side.source.after = 0
    side.source.pad_mode = PAD_CONSTANT
    side.target = axis[0]
    side.output_stride = stride
    side.n_phases = smaller(stride, end - begin)
    for i in range(side.n_phases):
        phase = side.phases + i
        phase.position = (begin + i) % stride
        phase.first = (begin + i) // stride
        phase.last = ceil_div(end - phase.position, stride)
        phase.taps = 0
        for k in range(smaller(axis.kernel, stride // divisor)):
            if (phase.position - k * axis.dilation) % stride == 0:
                phase.taps = (axis.kernel - 1 - k) // (stride // divisor) + 1
                phase.tap_stride = -(stride // divisor)
                phase.tap = k - (phase.taps - 1) * phase.tap_stride
                phase.source = (phase.position - phase.tap * axis.dilation) // stride
                phase.source_stride = axis.dilation // divisor
                break
    finish_side(side)


cdef inline void finish_side(Side *side) noexcept:
    """Find what all phases together need."""
    cdef Phase *phase
    cdef Py_ssize_t i, end = 0, last
    side.base = side.n_active = 0
    for i in range(side.n_phases):
        phase = side.phases + i
        side.first = smaller(side.first, phase.first) if i else phase.first
        side.last = larger(side.last, phase.last) if i else phase.last
        if phase.taps == 0:
            continue
        last = phase.source + (phase.taps - 1) * phase.source_stride + 1
        side.base = smaller(side.base, phase.source) if side.n_active else phase.source
        end = larger(end, last) if side.n_active else last
        phase.index = side.n_active
        side.n_active += 1
    side.span = larger(1, end - side.base)
    side.column_phases = side.source.stride  # A tap of neighbouring outputs is contiguous.
    side.kept_phases = smaller(side.column_phases, side.span)


cdef inline Py_ssize_t stored_row(const Side *h, Py_ssize_t position) noexcept nogil:
    """Return the place of a position, which counts from the first output's, among the kept rows."""
    return position // h.source.stride * h.kept_phases + position % h.source.stride


cdef inline Py_ssize_t stored_rows(const Side *h, Py_ssize_t outputs) noexcept nogil:
    """Return the number of rows that are kept for a number of rows of outputs."""
    return (outputs - 1) * h.kept_phases + stored_row(h, h.span - 1) + 1


cdef inline Py_ssize_t stored_columns(const Side *w, Py_ssize_t outputs) noexcept nogil:
    """Return the length of a row's phases."""
    return ((outputs - 1) * w.source.stride + w.span - 1) // w.column_phases + 1


cdef inline Py_ssize_t column(const Band *band, Py_ssize_t position) noexcept nogil:
    """Return the place of a position, which counts from the first output's, in a row."""
    return position % band.w.column_phases * band.phase_length + position // band.w.column_phases


cdef inline double band_bytes(
    const Band *band, Py_ssize_t rows, Py_ssize_t columns
) noexcept nogil:
    """Return the bytes that the source of a number of outputs takes in scratch."""
    return (
        <double>band.source.format.scratch_bytes * band.channels * stored_rows(&band.h, rows)
        * band.w.kept_phases * stored_columns(&band.w, columns)
    )


cdef inline Py_ssize_t fitting_rows(const Band *band, Py_ssize_t columns, double bytes) noexcept:
    """Return the number of rows of outputs whose source fits into a number of bytes, maybe 0."""
    cdef double first = band_bytes(band, 1, columns)
    cdef double more = (bytes - first) / (band_bytes(band, 2, columns) - first)
    if more < 0:
        return 0
    return 1 + <Py_ssize_t>min(more, <double>(band.h.last - band.h.first - 1))


cdef inline Py_ssize_t even_size(
    Py_ssize_t total, Py_ssize_t most, Py_ssize_t multiple
) noexcept nogil:
    """Return the size of near-equal pieces of at most `most`, a multiple of `multiple` if it
    fits."""
    cdef Py_ssize_t size = ceil_div(total, ceil_div(total, most))
    cdef Py_ssize_t whole = ceil_div(size, multiple) * multiple
    return whole if whole <= most else size


cdef inline void lay_out(Band *band) noexcept:
    """Set the layout for items of h.size x w.size outputs."""
    band.channel_rows = stored_rows(&band.h, band.h.size)
    band.phase_length = stored_columns(&band.w, band.w.size)
    band.pitch = band.phase_length * band.w.kept_phases


cdef inline Py_ssize_t padding_before(
    const Axis *axis, Py_ssize_t first, Py_ssize_t count
) noexcept nogil:
    """Return how many of `count` padded positions, from `first` on, lie before the first pixel."""
    return smaller(count, larger(0, axis.before - first))


cdef inline Py_ssize_t padding_behind(
    const Axis *axis, Py_ssize_t first, Py_ssize_t count
) noexcept nogil:
    """Return how many of `count` padded positions, from `first` on, lie behind the last pixel."""
    return smaller(
        count - padding_before(axis, first, count),
        larger(0, first + count - axis.before - axis.size),
    )


cdef struct Region:
    # A rectangle of the outputs of image n, and some channels of its source.
    Py_ssize_t n, first_channel, channels, first_row, rows, first_column, columns


cdef inline void load_band(const Band *band, Region of, char *to) noexcept nogil:
    """Copy the source of a region to scratch, with its padding."""
    cdef const Axis *h = &band.h.source
    cdef const Axis *w = &band.w.source
    cdef Format format = band.source.format
    cdef Py_ssize_t bytes = format.scratch_bytes, phases = band.w.column_phases
    cdef Py_ssize_t pitch = band.pitch * bytes, kept_h = band.h.kept_phases
    cdef Py_ssize_t length = stored_columns(&band.w, of.columns)
    cdef Py_ssize_t all_rows = stored_rows(&band.h, of.rows)
    cdef Py_ssize_t top = of.first_row * h.stride + band.h.base
    cdef Py_ssize_t x = of.first_column * w.stride + band.w.base
    cdef Py_ssize_t c, y, phase, above, below, before, behind
    cdef const char *plane
    cdef const char *source
    cdef char *row
    above, below = padding_before(h, top, all_rows), padding_behind(h, top, all_rows)
    before, behind = padding_before(w, x, length), padding_behind(w, x, length)
    for c in range(of.channels):
        plane = (
            band.source.data + of.n * band.source.stride_n
            + (of.first_channel + c) * band.source.stride_c
        )
        row = to + c * band.channel_rows * pitch
        if (
            phases == 1 and kept_h == h.stride
            and (h.pad_mode == PAD_CONSTANT or above + below == 0)
            and (w.pad_mode == PAD_CONSTANT or before + behind == 0)
            and is_plain(format, band.source.stride_w, plane)
            and band.source.stride_h % bytes == 0
        ):
            load_plain_rows(
                row, pitch, plane + (top - h.before + above) * band.source.stride_h
                + (x - w.before + before) * bytes, band.source.stride_h, above,
                all_rows - above - below, below, before * bytes,
                (length - before - behind) * bytes, behind * bytes,
            )
            continue
        for y in range(all_rows):
            source = padded_row(
                &band.source, plane, h, top + y // kept_h * h.stride + y % kept_h
            )
            if band.w.kept_phases == phases:
                load_padded_phases(
                    row, band.phase_length * bytes, phases, source, x, length,
                    band.source.stride_w, w, format, NULL,
                )
            else:
                for phase in range(band.w.kept_phases):
                    load_padded_row(
                        row + phase * band.phase_length * bytes, source, x + phase, phases, length,
                        band.source.stride_w, w, format, NULL,
                    )
            row += pitch


cdef inline Py_ssize_t before_pixels(const Side *side) noexcept nogil:
    """Return how many positions of the band of all outputs lie before the first pixel.

    The number is negative if no output depends on the first pixels.
    """
    return side.source.before - side.first * side.source.stride - side.base


cdef inline bint has_frame(const Band *band) noexcept nogil:
    """Return whether a whole plane's padding is zeros around pixels that `load_inside` can copy."""
    cdef const Planes *source = &band.source
    return (
        band.h.source.pad_mode == PAD_CONSTANT and band.w.source.pad_mode == PAD_CONSTANT
        and before_pixels(&band.h) >= 0 and before_pixels(&band.w) >= 0
        and band.h.kept_phases == band.h.source.stride
        and band.w.kept_phases == band.w.column_phases <= 2
        and is_plain(source.format, source.stride_w, source.data)
        and source.stride_h % source.format.bytes == 0
        and source.stride_c % source.format.bytes == 0
        and source.stride_n % source.format.bytes == 0 and source.format.bytes % 4 == 0
    )


cdef inline void load_inside(
    const Band *band, Py_ssize_t n, Py_ssize_t c, char *to
) noexcept nogil:
    """Copy a plane to a band of all its outputs that contains the padding already."""
    cdef Py_ssize_t bytes = band.source.format.bytes, phase_bytes = band.phase_length * bytes, _y
    cdef Py_ssize_t above = before_pixels(&band.h), first = before_pixels(&band.w)
    cdef Py_ssize_t second = first + 1  # The position of a row's second pixel.
    cdef Py_ssize_t rows = smaller(band.h.source.size, band.channel_rows - above)
    cdef Py_ssize_t pixels = larger(
        0, smaller(band.w.source.size, band.phase_length * band.w.column_phases - first)
    )
    cdef const char *source = (
        band.source.data + n * band.source.stride_n + c * band.source.stride_c
    )
    to += above * band.pitch * bytes
    for _y in range(rows):
        if band.w.column_phases == 1:
            copy_bytes(to + first * bytes, source, pixels * bytes)
        else:
            deinterleave_row(
                to + first % 2 * phase_bytes + first // 2 * bytes,
                to + second % 2 * phase_bytes + second // 2 * bytes, source, pixels, bytes,
            )
        to += band.pitch * bytes
        source += band.source.stride_h
