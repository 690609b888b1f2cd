"""What outputs a convolution has, which source positions each sees, and bands of source in scratch.

Along each axis the outputs fall into phases. A forward convolution is one: output j sees the
padded positions j*stride + t*dilation. In its adjoint, the outputs y with y % stride == r are a
phase for each r: they lie `stride` apart, see only the taps k with (r - k*dilation) % stride == 0,
and their sources lie next to each other.
"""

from fastconv._kernels.planes cimport Planes, padded_row
from fastconv._kernels.rows cimport (
    Format, copy_bytes, deal_row, is_plain, load_padded_phases, load_padded_row,
    load_plain_rows,
)
from fastconv._kernels.window cimport PAD_CONSTANT, Axis, ceil_div, larger, reach, smaller


cdef struct Phase:
    # The outputs position + j*step of one axis, first <= j < last, and the taps that reach them:
    # tap + t*tap_step sees the source at source + j*stride + t*source_step.
    Py_ssize_t position, first, last
    Py_ssize_t taps, tap, tap_step, source, source_step
    Py_ssize_t index  # among the phases that have taps


cdef struct Side:
    # One axis of a convolution: source -> outputs.
    Axis source
    Axis target  # in which positions count from the padding's begin
    Py_ssize_t step  # from one output of a phase to the next
    Phase *phases
    Py_ssize_t n_phases, n_seeing  # of which so many have taps
    Py_ssize_t first, last  # j of all phases
    Py_ssize_t base, extent  # the least source position for j = 0; how far one output sees
    Py_ssize_t deal, rests  # columns are dealt to so many rows, of which so many are of use
    Py_ssize_t size, items  # of j in an item; items along the axis


cdef struct Band:
    # The source of `size` outputs of each axis, copied to scratch with its padding: of every
    # channel channel_rows rows, each dealt to w.rests rows of phase_length.
    Side h, w
    Planes source
    Py_ssize_t channels
    Py_ssize_t channel_rows, pitch, phase_length


cdef inline void plan_forward(Side *side, const Axis *axis) noexcept:
    cdef Phase *phase = side.phases
    side.source = axis[0]
    side.target.size = axis.out
    side.target.before = 0
    side.step = 1
    side.n_phases = 1
    phase.position, phase.first, phase.last = 0, 0, axis.out
    phase.taps, phase.tap, phase.tap_step = axis.kernel, 0, 1
    phase.source, phase.source_step = 0, axis.dilation
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
    side.step = stride
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
                phase.tap_step = -(stride // divisor)
                phase.tap = k - (phase.taps - 1) * phase.tap_step
                phase.source = (phase.position - phase.tap * axis.dilation) // stride
                phase.source_step = axis.dilation // divisor
                break
    finish_side(side)


cdef inline void finish_side(Side *side) noexcept:
    """Find what all phases together need."""
    cdef Phase *phase
    cdef Py_ssize_t i, end = 0, last
    side.base = side.n_seeing = 0
    for i in range(side.n_phases):
        phase = side.phases + i
        side.first = smaller(side.first, phase.first) if i else phase.first
        side.last = larger(side.last, phase.last) if i else phase.last
        if phase.taps == 0:
            continue
        last = phase.source + (phase.taps - 1) * phase.source_step + 1
        side.base = smaller(side.base, phase.source) if side.n_seeing else phase.source
        end = larger(end, last) if side.n_seeing else last
        phase.index = side.n_seeing
        side.n_seeing += 1
    side.extent = larger(1, end - side.base)
    side.deal = side.source.stride  # neighbouring outputs find a tap side by side
    side.rests = smaller(side.deal, side.extent)


cdef inline Py_ssize_t stored_row(const Side *h, Py_ssize_t position) noexcept nogil:
    """The place of a position, counted from the first output's, among the rows that are kept."""
    return position // h.source.stride * h.rests + position % h.source.stride


cdef inline Py_ssize_t stored_rows(const Side *h, Py_ssize_t outputs) noexcept nogil:
    return (outputs - 1) * h.rests + stored_row(h, h.extent - 1) + 1


cdef inline Py_ssize_t stored_columns(const Side *w, Py_ssize_t outputs) noexcept nogil:
    """The length of a row's phases."""
    return ((outputs - 1) * w.source.stride + w.extent - 1) // w.deal + 1


cdef inline Py_ssize_t column(const Band *band, Py_ssize_t position) noexcept nogil:
    """The place of a position, counted from the first output's, in a row."""
    return position % band.w.deal * band.phase_length + position // band.w.deal


cdef inline double band_bytes(
    const Band *band, Py_ssize_t rows, Py_ssize_t columns
) noexcept nogil:
    """Bytes of the source of so many outputs."""
    return (
        <double>band.source.format.scratch_bytes * band.channels * stored_rows(&band.h, rows)
        * band.w.rests * stored_columns(&band.w, columns)
    )


cdef inline Py_ssize_t fitting_rows(const Band *band, Py_ssize_t columns, double bytes) noexcept:
    """How many rows of outputs have their source in so many bytes; 0 if not one has."""
    cdef double first = band_bytes(band, 1, columns)
    cdef double more = (bytes - first) / (band_bytes(band, 2, columns) - first)
    if more < 0:
        return 0
    return 1 + <Py_ssize_t>min(more, <double>(band.h.last - band.h.first - 1))


cdef inline Py_ssize_t even_size(
    Py_ssize_t total, Py_ssize_t most, Py_ssize_t multiple
) noexcept nogil:
    """The size of near-equal pieces of at most `most`, a multiple of `multiple` if that fits."""
    cdef Py_ssize_t size = ceil_div(total, ceil_div(total, most))
    cdef Py_ssize_t whole = ceil_div(size, multiple) * multiple
    return whole if whole <= most else size


cdef inline void lay_out(Band *band) noexcept:
    """Fix the layout for items of h.size x w.size outputs."""
    band.channel_rows = stored_rows(&band.h, band.h.size)
    band.phase_length = stored_columns(&band.w, band.w.size)
    band.pitch = band.phase_length * band.w.rests


cdef inline Py_ssize_t padding_before(
    const Axis *axis, Py_ssize_t first, Py_ssize_t count
) noexcept nogil:
    """How many of `count` padded positions, from `first` on, lie before the first pixel."""
    return smaller(count, larger(0, axis.before - first))


cdef inline Py_ssize_t padding_behind(
    const Axis *axis, Py_ssize_t first, Py_ssize_t count
) noexcept nogil:
    """How many of them lie behind the last pixel."""
    return smaller(
        count - padding_before(axis, first, count),
        larger(0, first + count - axis.before - axis.size),
    )


cdef inline void load_band(
    const Band *band, Py_ssize_t n, Py_ssize_t first_channel, Py_ssize_t channels,
    Py_ssize_t first, Py_ssize_t rows, Py_ssize_t first_column, Py_ssize_t columns, char *to,
) noexcept nogil:
    """Copy what the outputs (rows, columns) of an image see to scratch."""
    cdef const Axis *h = &band.h.source
    cdef const Axis *w = &band.w.source
    cdef Format format = band.source.format
    cdef Py_ssize_t bytes = format.scratch_bytes, deal = band.w.deal, pitch = band.pitch * bytes
    cdef Py_ssize_t length = stored_columns(&band.w, columns), all_rows = stored_rows(&band.h, rows)
    cdef Py_ssize_t top = first * h.stride + band.h.base, x = first_column * w.stride + band.w.base
    cdef Py_ssize_t c, y, phase, above, below, before, behind
    cdef const char *plane
    cdef const char *source
    cdef char *row
    above, below = padding_before(h, top, all_rows), padding_behind(h, top, all_rows)
    before, behind = padding_before(w, x, length), padding_behind(w, x, length)
    for c in range(channels):
        plane = (
            band.source.data + n * band.source.stride_n
            + (first_channel + c) * band.source.stride_c
        )
        row = to + c * band.channel_rows * pitch
        if (
            deal == 1 and band.h.rests == h.stride
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
                &band.source, plane, h, top + y // band.h.rests * h.stride + y % band.h.rests
            )
            if band.w.rests == deal:
                load_padded_phases(
                    row, band.phase_length * bytes, deal, source, x, length,
                    band.source.stride_w, w, format, NULL,
                )
            else:
                for phase in range(band.w.rests):
                    load_padded_row(
                        row + phase * band.phase_length * bytes, source, x + phase, deal, length,
                        band.source.stride_w, w, format, NULL,
                    )
            row += pitch


cdef inline Py_ssize_t before_pixels(const Side *side) noexcept nogil:
    """How many positions of the band of all outputs lie before the first pixel; maybe fewer than
    none."""
    return side.source.before - side.first * side.source.stride - side.base


cdef inline bint has_frame(const Band *band) noexcept nogil:
    """Is a whole plane's padding zeros around pixels that `load_inside` can copy?"""
    cdef const Planes *source = &band.source
    return (
        band.h.source.pad_mode == PAD_CONSTANT and band.w.source.pad_mode == PAD_CONSTANT
        and before_pixels(&band.h) >= 0 and before_pixels(&band.w) >= 0
        and band.h.rests == band.h.source.stride and band.w.rests == band.w.deal <= 2
        and is_plain(source.format, source.stride_w, source.data)
        and source.stride_h % source.format.bytes == 0
        and source.stride_c % source.format.bytes == 0
        and source.stride_n % source.format.bytes == 0 and source.format.bytes % 4 == 0
    )


cdef inline void load_inside(
    const Band *band, Py_ssize_t n, Py_ssize_t c, char *to
) noexcept nogil:
    """Copy a plane to a band of all its outputs that holds the padding already."""
    cdef Py_ssize_t bytes = band.source.format.bytes, phase_bytes = band.phase_length * bytes, _y
    cdef Py_ssize_t above = before_pixels(&band.h), first = before_pixels(&band.w)
    cdef Py_ssize_t second = first + 1  # where the second pixel of a row lies
    cdef Py_ssize_t rows = smaller(band.h.source.size, band.channel_rows - above)
    cdef Py_ssize_t pixels = larger(
        0, smaller(band.w.source.size, band.phase_length * band.w.deal - first)
    )
    cdef const char *source = (
        band.source.data + n * band.source.stride_n + c * band.source.stride_c
    )
    to += above * band.pitch * bytes
    for _y in range(rows):
        if band.w.deal == 1:
            copy_bytes(to + first * bytes, source, pixels * bytes)
        else:
            deal_row(
                to + first % 2 * phase_bytes + first // 2 * bytes,
                to + second % 2 * phase_bytes + second // 2 * bytes, source, pixels, bytes,
            )
        to += band.pitch * bytes
        source += band.source.stride_h
