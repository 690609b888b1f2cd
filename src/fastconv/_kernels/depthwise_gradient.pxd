"""The gradient of the weight of depthwise convolutions of small planes.

Lanes are outputs, which are summed over, and the padding is never copied (flat.c). An item is a
filter. The gradients of PLANES images are summed in registers, and these sums in float64.
"""

from libc.string cimport memset

cimport numpy as cnp

from fastconv._kernels.depthwise cimport (
    SPLIT_PIXELS, Flat, describe_flat_forward, fill_flat_taps, flat_bytes, is_flat, load_flat,
)
from fastconv._kernels.flat cimport FlatTap, FlatTaps
from fastconv._kernels.microkernels cimport flats_of
from fastconv._kernels.number cimport FLOAT32
from fastconv._kernels.parallel cimport for_each, useful_threads
from fastconv._kernels.plan cimport FEW_FILTERS
from fastconv._kernels.planes cimport Planes, computed_format, converted_format, planes_of
from fastconv._kernels.rows cimport Format, load_row, store_row
from fastconv._kernels.scratch cimport Layout, allocate, release, take
from fastconv._kernels.tile cimport FLOPS_PER_BYTE, SUM_TERMS
from fastconv._kernels.vectors cimport VECTOR_BYTES
from fastconv._kernels.window cimport Window, ceil_div, larger, smaller

cdef enum:
    PLANES = 16  # The largest number of images whose gradients are summed in a register.
    # With fewer filters than this, threads have better work if images are divided as well.
    LEAST_FILTERS = 16


cdef struct FlatGradient:
    Flat flat
    FlatTaps taps
    Planes grad, source
    Format out_format
    char *out
    Py_ssize_t batch, filters, per_group  # The numbers of images, of filters, and of a group's.
    Py_ssize_t pixels, planes  # The numbers of outputs of a plane, and of planes summed together.
    Py_ssize_t source_numbers  # The numbers from one plane of the source to the next in scratch.
    Layout scratch
    size_t sums, rounded, grads, sources  # Offsets in the scratch.


cdef inline bint make_flat_gradient(
    FlatGradient *plan, cnp.ndarray grad, cnp.ndarray image, cnp.ndarray out, const Window *window,
    Py_ssize_t groups,
) noexcept:
    """Plan the gradient of the weight, and return True; return False if planes do not fit."""
    cdef Flat *flat = &plan.flat
    memset(plan, 0, sizeof(plan[0]))
    plan.out, plan.out_format = <char *>cnp.PyArray_DATA(out), computed_format(out)
    flat.bytes, flat.flats = plan.out_format.scratch_bytes, flats_of(plan.out_format.number)
    plan.batch, plan.filters = cnp.PyArray_DIM(image, 0), cnp.PyArray_DIM(out, 0)
    plan.per_group = plan.filters // groups
    if (
        flat.flats == NULL or cnp.PyArray_DIM(out, 1) != 1 or plan.per_group > FEW_FILTERS
        or plan.filters < LEAST_FILTERS or not describe_flat_forward(flat, window, SPLIT_PIXELS)
    ):
        return False
    plan.grad = planes_of(grad, converted_format(grad, plan.out_format.number))
    plan.source = planes_of(image, converted_format(image, plan.out_format.number))
    plan.pixels = plan.taps.pixels = flat.h.target.size * flat.w.target.size
    plan.taps.count = flat.taps
    plan.planes = larger(
        1, smaller(PLANES, SUM_TERMS // ceil_div(plan.pixels * flat.bytes, VECTOR_BYTES))
    )
    if (
        plan.grad.stride_n % plan.grad.format.bytes != 0
        or plan.source.stride_n % plan.source.format.bytes != 0
    ):
        plan.planes = 1  # If one image is aligned, and read in place, others are not.
    plan.source_numbers = ceil_div(<Py_ssize_t>flat_bytes(flat), flat.bytes)
    plan.sums = take(&plan.scratch, flat.taps * sizeof(double))
    plan.rounded = take(&plan.scratch, flat.taps * flat.bytes)
    plan.grads = take(&plan.scratch, <double>plan.planes * plan.pixels * flat.bytes)
    plan.sources = take(&plan.scratch, <double>plan.planes * plan.source_numbers * flat.bytes)
    return True


cdef inline const char *load_flat_grad(
    const FlatGradient *plan, Py_ssize_t n, Py_ssize_t f, char *to
) noexcept nogil:
    """Return the gradients of a plane of outputs as one row, in place or copied to scratch."""
    cdef const Planes *grad = &plan.grad
    cdef const char *plane = grad.data + n * grad.stride_n + f * grad.stride_c
    cdef Py_ssize_t columns = plan.flat.w.target.size, y
    if is_flat(grad, plane, columns):
        return plane
    for y in range(plan.flat.h.target.size):
        load_row(
            to + y * columns * plan.flat.bytes, plane + y * grad.stride_h, columns, grad.stride_w,
            grad.format,
        )
    return to


cdef inline void sum_planes(
    const FlatGradient *plan, Py_ssize_t n, Py_ssize_t planes, Py_ssize_t f, char *scratch
) noexcept nogil:
    """Add the products of some images to the sums of a filter."""
    cdef Py_ssize_t bytes = plan.flat.bytes, i
    cdef Py_ssize_t grad_stride = plan.grad.stride_n, source_stride = plan.source.stride_n
    cdef char *grads = scratch + plan.grads
    cdef char *sources = scratch + plan.sources
    cdef const char *grad = load_flat_grad(plan, n, f, grads)
    cdef const char *source = load_flat(&plan.flat, &plan.source, n, f // plan.per_group, sources)
    if grad == grads:
        grad_stride = plan.pixels * bytes
    if source == sources:
        source_stride = plan.source_numbers * bytes
    for i in range(1, planes):
        if grad == grads:
            load_flat_grad(plan, n + i, f, grads + i * grad_stride)
        if source == sources:
            load_flat(
                &plan.flat, &plan.source, n + i, f // plan.per_group, sources + i * source_stride
            )
    plan.flat.flats.correlate_grads(
        <double *>(scratch + plan.sums), &plan.taps, grad, grad_stride // bytes, source,
        source_stride // bytes, planes,
    )


cdef inline void sum_filter(const void *data, Py_ssize_t f, char *scratch) noexcept nogil:
    """Compute the gradient of a filter."""
    cdef const FlatGradient *plan = <const FlatGradient *>data
    cdef Py_ssize_t n = 0, t
    cdef double *sums = <double *>(scratch + plan.sums)
    cdef float *rounded = <float *>(scratch + plan.rounded)
    memset(sums, 0, plan.taps.count * sizeof(double))
    while n < plan.batch:
        sum_planes(plan, n, smaller(plan.planes, plan.batch - n), f, scratch)
        n += plan.planes
    if plan.out_format.number == FLOAT32:
        for t in range(plan.taps.count):
            rounded[t] = <float>sums[t]
    store_row(
        plan.out + f * plan.taps.count * plan.out_format.bytes,
        <char *>rounded if plan.out_format.number == FLOAT32 else <char *>sums, plan.taps.count,
        plan.out_format,
    )


cdef inline int execute_flat_gradient(FlatGradient *plan, int threads) except -1:
    """Compute the gradients of all filters."""
    cdef Flat *flat = &plan.flat
    cdef double moved = (1 + 2.0 * flat.taps / FLOPS_PER_BYTE) * (
        <double>plan.batch * plan.filters * plan.pixels
    )
    cdef Py_ssize_t vectors = ceil_div(plan.pixels * flat.bytes, VECTOR_BYTES)
    cdef size_t masks
    cdef Layout layout
    cdef char *memory
    layout.bytes = 0
    take(&layout, flat.taps * sizeof(FlatTap))
    masks = take(&layout, <double>vectors * flat.taps * flat.flats.mask_bytes)
    memory = allocate(layout.bytes, "taps")
    try:
        fill_flat_taps(flat, flat.h.phases, flat.w.phases, <FlatTap *>memory)
        plan.taps.taps, plan.taps.masks = <FlatTap *>memory, memory + masks
        flat.flats.fill_masks(memory + masks, flat.pitch, &plan.taps)
        for_each(
            sum_filter, plan, plan.filters, <size_t>plan.scratch.bytes, moved,
            useful_threads(moved, threads),
        )
    finally:
        release(memory)
    return 0
