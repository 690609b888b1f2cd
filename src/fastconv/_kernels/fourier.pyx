"""Correlation with a large dense kernel, by fast Fourier transforms of overlapping tiles.

    out[p, y, x] = sum over (o, kh, kw) of
        weight[o, kh, kw] * input[lead[p, o], rows[y + kh], columns[x + kw]]

The tables are those of dense.pyx.

a. A tile of tile_h x tile_w inputs gives (tile_h - kernel_h + 1) x (tile_w - kernel_w + 1) outputs:
   the product of its spectrum and the conjugate spectrum of the kernel is the spectrum of the
   circular correlation, of which the other outputs wrap around ("overlap-save").
b. Two tiles are transformed at once, as the real and the imaginary part of one complex tile. The
   kernel is real, so the two results are the real and the imaginary part again.
c. An item is such a pair. It transforms the columns, transposes, and transforms the columns again
   (fourier.h). So tiles lie in L2, and memory beyond the result's is a tile a thread.
d. Everything is computed in float64. Results of integers are rounded to the nearest, if they are
   integral, and the caller has made sure that errors are less than 1/2. Else they are truncated;
   those within the error's bound of an integer are computed again, in SciPy's order. Tiles with
   many of them, and those with infinities, NaNs or huge numbers, which would spread over the whole
   tile, are reported: the caller computes them in another way.
"""

from libc.stdint cimport uint8_t
from libc.string cimport memcpy, memset

cimport numpy as cnp

from fastconv._kernels.extended cimport (
    IN_DOUBLE, Conversion, Extended, extended, extended_row, load_extended, storer_of,
)
from fastconv._kernels.level cimport LEVEL
from fastconv._kernels.parallel cimport for_each, useful_threads
from fastconv._kernels.planes cimport number_of
from fastconv._kernels.scratch cimport Layout, allocate, release, take
from fastconv._kernels.window cimport ceil_div, smaller

cnp.import_array()

level = LEVEL.decode()

cdef extern from "fourier.h":
    enum:
        COLUMNS

    void transform_columns(
        double *re, double *im, Py_ssize_t rows, Py_ssize_t pitch, Py_ssize_t count,
        const double *roots,
    ) noexcept nogil
    void invert_columns(
        double *re, double *im, Py_ssize_t rows, Py_ssize_t pitch, Py_ssize_t count,
        const double *roots,
    ) noexcept nogil
    void transpose_matrix(
        double *to, Py_ssize_t to_pitch, const double *source, Py_ssize_t pitch, Py_ssize_t rows,
        Py_ssize_t columns,
    ) noexcept nogil
    void multiply_spectra(
        double *to_re, double *to_im, const double *re, const double *im, Py_ssize_t pitch,
        const double *by_re, const double *by_im, Py_ssize_t rows, Py_ssize_t columns, int adds,
    ) noexcept nogil
    bint is_moderate(const double *row, Py_ssize_t count, double limit) noexcept nogil
    void round_row(double *row, Py_ssize_t count) noexcept nogil
    Py_ssize_t find_near_integer(
        const double *row, Py_ssize_t first, Py_ssize_t count, double bound
    ) noexcept nogil
    double add_in_order(
        double sum, const double *x, const double *w, Py_ssize_t count
    ) noexcept nogil

cdef enum:
    # As many pixels of a tile are computed again one by one.
    FEW_PIXELS = 64

# Larger inputs are not transformed, because the sums of their products might overflow.
cdef double MODERATE = 1e100


cdef struct Grid:
    # A matrix of complex numbers in an item's scratch.
    double *re
    double *im
    Py_ssize_t pitch


cdef struct Plan:
    Extended view
    Py_ssize_t lead_count  # Planes of the kernel.
    const Py_ssize_t *lead
    const double *weights
    Py_ssize_t kernel_h, kernel_w
    Py_ssize_t h, w  # The size of a tile of inputs.
    Py_ssize_t out_tile_h, out_tile_w, tiles_h, tiles_w, tiles
    const double *roots_h
    const double *roots_w
    double *spectra  # Of each plane of the kernel: [w][h] real, then imaginary parts.
    char *out
    Py_ssize_t out_bytes, planes, out_h, out_w
    Conversion store
    bint rounds  # Whether results are rounded to integers.
    double bound  # The error of results that are truncated, or 0.
    uint8_t *failed  # Set for tiles that have to be computed in another way.
    Layout scratch
    size_t at_tile, at_turned, at_sums


cdef struct Tile:
    # Where a tile of outputs is, and how many rows and columns of it.
    Py_ssize_t number, plane, y, x, rows, columns


cdef inline Grid tile_grid(const Plan *plan, char *scratch) noexcept nogil:
    """A tile [h][w]."""
    cdef Grid grid
    grid.pitch = plan.w + COLUMNS  # Columns of a power of two would share a set of L1.
    grid.re = <double *>(scratch + plan.at_tile)
    grid.im = grid.re + plan.h * grid.pitch
    return grid


cdef inline Grid turned_grid(const Plan *plan, char *scratch, size_t place) noexcept nogil:
    """A transposed tile [w][h]."""
    cdef Grid grid
    grid.pitch = plan.h + COLUMNS
    grid.re = <double *>(scratch + place)
    grid.im = grid.re + plan.w * grid.pitch
    return grid


cdef void transform(const Plan *plan, const Grid *tile, const Grid *turned) noexcept nogil:
    """Write the spectrum of a tile to `turned`."""
    transform_columns(tile.re, tile.im, plan.h, tile.pitch, plan.w, plan.roots_h)
    transpose_matrix(turned.re, turned.pitch, tile.re, tile.pitch, plan.h, plan.w)
    transpose_matrix(turned.im, turned.pitch, tile.im, tile.pitch, plan.h, plan.w)
    transform_columns(turned.re, turned.im, plan.w, turned.pitch, plan.h, plan.roots_w)


cdef void invert(const Plan *plan, const Grid *turned, const Grid *tile) noexcept nogil:
    """Write the columns of a tile that are outputs, from its spectrum."""
    cdef Py_ssize_t columns = ceil_div(plan.out_tile_w, COLUMNS) * COLUMNS
    invert_columns(turned.re, turned.im, plan.w, turned.pitch, plan.h, plan.roots_w)
    transpose_matrix(tile.re, tile.pitch, turned.re, turned.pitch, columns, plan.h)
    transpose_matrix(tile.im, tile.pitch, turned.im, turned.pitch, columns, plan.h)
    invert_columns(tile.re, tile.im, plan.h, tile.pitch, columns, plan.roots_h)


cdef void transform_kernel(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    """Compute the spectrum of a plane of the kernel: conjugate, and divided by the tile's size."""
    cdef const Plan *plan = <const Plan *>data
    cdef Grid tile = tile_grid(plan, scratch)
    cdef Grid turned = turned_grid(plan, scratch, plan.at_turned)
    cdef const double *weights = plan.weights + item * plan.kernel_h * plan.kernel_w
    cdef double *re = plan.spectra + 2 * item * plan.h * plan.w
    cdef double *im = re + plan.h * plan.w
    cdef double scale = 1.0 / <double>(plan.h * plan.w)
    cdef Py_ssize_t i, j
    memset(tile.re, 0, 2 * plan.h * tile.pitch * sizeof(double))
    for i in range(plan.kernel_h):
        memcpy(tile.re + i * tile.pitch, weights + i * plan.kernel_w,
               plan.kernel_w * sizeof(double))
    transform(plan, &tile, &turned)
    for i in range(plan.w):
        for j in range(plan.h):
            re[i * plan.h + j] = turned.re[i * turned.pitch + j] * scale
            im[i * plan.h + j] = -turned.im[i * turned.pitch + j] * scale


cdef Tile tile_at(const Plan *plan, Py_ssize_t number) noexcept nogil:
    """The tile of a number; that behind the last has no rows."""
    cdef Tile tile
    cdef Py_ssize_t in_plane = plan.tiles_h * plan.tiles_w, place = number % in_plane
    tile.number, tile.plane = number, number // in_plane
    tile.y = place // plan.tiles_w * plan.out_tile_h
    tile.x = place % plan.tiles_w * plan.out_tile_w
    tile.rows = smaller(plan.out_tile_h, plan.out_h - tile.y) if number < plan.tiles else 0
    tile.columns = smaller(plan.out_tile_w, plan.out_w - tile.x)
    return tile


cdef void load_tile(
    const Plan *plan, const Tile *tile, Py_ssize_t o, double *to, Py_ssize_t pitch
) noexcept nogil:
    """Copy the inputs of a tile, with zeros behind those that its outputs need."""
    cdef Py_ssize_t rows = tile.rows + plan.kernel_h - 1, y, plane
    cdef Py_ssize_t columns = tile.columns + plan.kernel_w - 1
    cdef double *row
    for y in range(plan.h):
        row = to + y * pitch
        if tile.rows == 0 or y >= rows:
            memset(row, 0, plan.w * sizeof(double))
            continue
        plane = plan.lead[tile.plane * plan.lead_count + o]
        load_extended(
            &plan.view, <char *>row, extended_row(&plan.view, plane, tile.y + y), tile.x, columns
        )
        memset(row + columns, 0, (plan.w - columns) * sizeof(double))
        if not is_moderate(row, columns, MODERATE):
            plan.failed[tile.number] = True
            memset(row, 0, columns * sizeof(double))


cdef double sum_in_order(
    const Plan *plan, const Tile *tile, Py_ssize_t y, Py_ssize_t x, double *row
) noexcept nogil:
    """Compute an output as SciPy does. `row` has room for a row of the kernel."""
    cdef double total = 0
    cdef const double *weights = plan.weights
    cdef Py_ssize_t o, kh, plane
    for o in range(plan.lead_count):
        plane = plan.lead[tile.plane * plan.lead_count + o]
        for kh in range(plan.kernel_h):
            load_extended(
                &plan.view, <char *>row, extended_row(&plan.view, plane, tile.y + y + kh),
                tile.x + x, plan.kernel_w,
            )
            total = add_in_order(total, row, weights, plan.kernel_w)
            weights += plan.kernel_w
    return total


cdef void check_row(
    const Plan *plan, const Tile *tile, Py_ssize_t y, double *sums, double *row, int *count
) noexcept nogil:
    """Compute outputs again as SciPy does that may be truncated to another integer."""
    cdef Py_ssize_t x = find_near_integer(sums, 0, tile.columns, plan.bound)
    while x < tile.columns and count[0] < FEW_PIXELS:
        sums[x] = sum_in_order(plan, tile, y, x, row)
        count[0] += 1
        x = find_near_integer(sums, x + 1, tile.columns, plan.bound)
    if x < tile.columns:
        plan.failed[tile.number] = True


cdef void store_tile(
    const Plan *plan, const Tile *tile, double *sums, Py_ssize_t pitch, double *row
) noexcept nogil:
    """Write the outputs of a tile. `row` has room for a row of the kernel."""
    cdef Py_ssize_t y
    cdef int checked = 0
    cdef char *to = plan.out + (
        (tile.plane * plan.out_h + tile.y) * plan.out_w + tile.x
    ) * plan.out_bytes
    for y in range(tile.rows):
        if plan.rounds:
            round_row(sums + y * pitch, tile.columns)
        elif plan.bound > 0 and not plan.failed[tile.number]:
            check_row(plan, tile, y, sums + y * pitch, row, &checked)
        plan.store(to + y * plan.out_w * plan.out_bytes, sums + y * pitch, tile.columns)


cdef void correlate_tiles(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    """Compute a pair of tiles."""
    cdef const Plan *plan = <const Plan *>data
    cdef Grid tile = tile_grid(plan, scratch)
    cdef Grid turned = turned_grid(plan, scratch, plan.at_turned)
    cdef Grid sums = turned_grid(plan, scratch, plan.at_sums)
    cdef Tile first = tile_at(plan, 2 * item), second = tile_at(plan, 2 * item + 1)
    cdef const double *spectrum
    cdef Py_ssize_t o
    for o in range(plan.lead_count):
        load_tile(plan, &first, o, tile.re, tile.pitch)
        load_tile(plan, &second, o, tile.im, tile.pitch)
        transform(plan, &tile, &turned)
        spectrum = plan.spectra + 2 * o * plan.h * plan.w
        multiply_spectra(
            sums.re, sums.im, turned.re, turned.im, turned.pitch, spectrum,
            spectrum + plan.h * plan.w, plan.w, plan.h, o > 0,
        )
    invert(plan, &sums, &tile)
    store_tile(plan, &first, tile.re, tile.pitch, turned.re)
    store_tile(plan, &second, tile.im, tile.pitch, turned.re)


cdef void lay_out(Plan *plan) noexcept:
    """Lay out the tile, the transposed one and, if several planes are added, their sum."""
    cdef double turned = 2.0 * plan.w * (plan.h + COLUMNS) * sizeof(double)
    plan.at_tile = take(&plan.scratch, 2.0 * plan.h * (plan.w + COLUMNS) * sizeof(double))
    plan.at_turned = plan.at_sums = take(&plan.scratch, turned)
    if plan.lead_count > 1:
        plan.at_sums = take(&plan.scratch, turned)


def correlate(
    cnp.ndarray input, cnp.ndarray out, cnp.ndarray lead, cnp.ndarray rows, cnp.ndarray columns,
    Py_ssize_t before, cnp.ndarray weights, cnp.ndarray constant, cnp.ndarray roots_h,
    cnp.ndarray roots_w, bint wraps, bint rounds, double bound, cnp.ndarray failed, int threads,
):
    """Correlate `input` (planes, h, w) with `weights` (o, kh, kw), as the formula above says.

    The arrays are those of `dense.correlate`; `weights` and `constant` are of float64. `roots_h`
    and `roots_w` have the cosines and then the sines of the multiples of a circle's n-th part, for
    tiles of n rows or columns: powers of two from 8 on. With `rounds`, results are rounded to
    integers. If `bound` is not 0, results must not be that close to an integer. `failed`, an array
    of zeros of uint8 (planes, tiles in a column, tiles in a row), is set for tiles to compute in
    another way.
    """
    cdef Plan plan
    cdef double moved
    memset(&plan, 0, sizeof(plan))
    plan.view = extended(input, rows, columns, before, constant, IN_DOUBLE)
    plan.lead, plan.lead_count = <const Py_ssize_t *>cnp.PyArray_DATA(lead), lead.shape[1]
    plan.weights = <const double *>cnp.PyArray_DATA(weights)
    plan.kernel_h, plan.kernel_w = weights.shape[1], weights.shape[2]
    plan.h, plan.w = roots_h.shape[0] // 2, roots_w.shape[0] // 2
    plan.roots_h = <const double *>cnp.PyArray_DATA(roots_h)
    plan.roots_w = <const double *>cnp.PyArray_DATA(roots_w)
    plan.out, plan.out_bytes = <char *>cnp.PyArray_DATA(out), cnp.PyArray_ITEMSIZE(out)
    plan.planes, plan.out_h, plan.out_w = out.shape[0], out.shape[1], out.shape[2]
    plan.out_tile_h, plan.out_tile_w = plan.h - plan.kernel_h + 1, plan.w - plan.kernel_w + 1
    plan.tiles_h, plan.tiles_w = failed.shape[1], failed.shape[2]
    plan.tiles = plan.planes * plan.tiles_h * plan.tiles_w
    plan.store = storer_of(IN_DOUBLE, number_of(out), wraps)
    plan.rounds, plan.bound = rounds, bound
    plan.failed = <uint8_t *>cnp.PyArray_DATA(failed)
    lay_out(&plan)
    moved = <double>plan.tiles * plan.lead_count * plan.h * plan.w * sizeof(double)
    threads = useful_threads(moved, threads)
    plan.spectra = <double *>allocate(
        2.0 * plan.lead_count * plan.h * plan.w * sizeof(double), "spectra"
    )
    try:
        for_each(
            transform_kernel, &plan, plan.lead_count, <size_t>plan.scratch.bytes, moved, threads
        )
        for_each(
            correlate_tiles, &plan, ceil_div(plan.tiles, 2), <size_t>plan.scratch.bytes, moved,
            threads,
        )
    finally:
        release(<char *>plan.spectra)
