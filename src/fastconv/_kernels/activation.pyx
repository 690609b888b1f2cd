"""Functions of single numbers and their gradients.

    relu:           out[i] = 0 if mask[i] else x[i], mask[i] = x[i] <= 0
    relu_backward:  out[i] = 0 if mask[i] else grad[i]
    finish:         out[i] = f(x[i] + residual[i]), mask[i] = out[i] <= low or out[i] >= high
    differentiate:  out[i] = grad[i] * f'(saved[i])
    scale:          out[i] = x[i] * (marked if mask[i] else others)
    drop:           the same, and mask[i] = whether a random number exceeds a limit

f is an activation of epilogue.h.

a. A mask has a byte per number. That is a quarter of what the gradient would read if it looked at
   the result, which users may also have changed by then.
b. Arrays are contiguous. An item is a run of numbers, long enough to be worth taking from the
   counter of items, and short enough that all threads end at about the same time.
c. Float16 is computed in float32. What is computed in several steps passes through blocks, which
   stay in L1. Only relu, which moves numbers and does not compute, takes float16 as it is.
d. Results are written to the caches, however large they are. With blocks that were copied past the
   caches (stream.h), relu of 51 MB took 1.9 ms instead of 1.8, and its gradient 2.7 instead of 2.2
   (2 cores, AMD Zen 5).
"""

from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memset

cimport numpy as cnp

from fastconv._kernels.epilogue cimport Activation, Finish
from fastconv._kernels.level cimport LEVEL
from fastconv._kernels.microkernels cimport (
    Differentiate, differentiate_of, finish_of, import_microkernels,
)
from fastconv._kernels.number cimport Number
from fastconv._kernels.parallel cimport Task, for_each, useful_threads
from fastconv._kernels.planes cimport computed_format, number_of
from fastconv._kernels.rows cimport AS_IS, Format, load_row, store_row
from fastconv._kernels.window cimport ceil_div, smaller

cnp.import_array()
import_microkernels()

level = LEVEL.decode()

cdef extern from "activation.h":
    ctypedef struct Activations:
        void (*rectify)(void *to, const void *x, Py_ssize_t count) noexcept nogil
        void (*rectify_masked)(
            void *to, uint8_t *mask, const void *x, Py_ssize_t count
        ) noexcept nogil
        void (*clear)(
            void *to, const void *grad, const uint8_t *mask, Py_ssize_t count
        ) noexcept nogil

    ctypedef struct Masks:
        void (*mark)(
            uint8_t *mask, const void *y, Py_ssize_t count, double low, double high
        ) noexcept nogil
        void (*scale)(
            void *to, const void *x, const uint8_t *mask, Py_ssize_t count, double marked,
            double others,
        ) noexcept nogil

    const Activations *activations_of(Number number) noexcept nogil
    const Masks *masks_of(Number number) noexcept nogil

cdef extern from "pcg64.h":
    const int HAS_PCG64

    ctypedef struct Wide:
        pass

    ctypedef struct Step:
        pass

    Wide wide(uint64_t high, uint64_t low) noexcept nogil
    uint64_t high_half(Wide x) noexcept nogil
    uint64_t low_half(Wide x) noexcept nogil
    Step pcg64_step(Wide increment) noexcept nogil
    Step steps(Step step, uint64_t count) noexcept nogil
    Wide stepped(Wide state, Step step) noexcept nogil
    void pcg64_larger(
        uint8_t *mask, Py_ssize_t count, Wide state, Step step, uint64_t limit
    ) noexcept nogil

draws_pcg64 = bool(HAS_PCG64)

cdef enum:
    # The largest count of numbers of an item.
    RUN = 8 << 10
    # The count of numbers of a block, which is 8 KiB of float32.
    BLOCK = 2 << 10


cdef struct Draw:
    # The random numbers of a mask: the generator's state before the first, and what is exceeded.
    Wide state
    Step step
    uint64_t limit


cdef struct Plan:
    const Activations *activations
    const Masks *masks
    Finish finish
    Differentiate differentiate
    Activation activation
    const char *source
    const char *other  # What is added, or what the derivative depends on. May be NULL.
    uint8_t *mask  # May be NULL where it would be written.
    char *out
    Format format
    Py_ssize_t bytes  # Bytes of a number.
    Py_ssize_t count  # The number of numbers.
    double low, high  # The bounds of what is not marked.
    double marked, others  # The factors of what is marked, and of what is not.
    Draw draw
    double moved
    int threads


cdef void rectify_run(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    """Rectify a run of numbers."""
    cdef const Plan *plan = <const Plan *>data
    cdef Py_ssize_t first = item * RUN, count = smaller(RUN, plan.count - first)
    cdef char *out = plan.out + first * plan.bytes
    cdef const char *source = plan.source + first * plan.bytes
    if plan.mask == NULL:
        plan.activations.rectify(out, source, count)
    else:
        plan.activations.rectify_masked(out, plan.mask + first, source, count)


cdef void clear_run(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    """Copy a run of a gradient without what the mask marks."""
    cdef const Plan *plan = <const Plan *>data
    cdef Py_ssize_t first = item * RUN, count = smaller(RUN, plan.count - first)
    plan.activations.clear(
        plan.out + first * plan.bytes, plan.source + first * plan.bytes, plan.mask + first, count
    )


cdef inline const char *loaded(
    const Plan *plan, const char *array, Py_ssize_t first, Py_ssize_t count, char *room
) noexcept nogil:
    """Return a block of an array, which is in `room` if it had to be converted."""
    if plan.format.conversion == AS_IS:
        return array + first * plan.bytes
    load_row(room, array + first * plan.bytes, count, plan.bytes, plan.format)
    return room


cdef inline char *destination(const Plan *plan, Py_ssize_t first, char *room) noexcept nogil:
    """Return where a block of results is computed, which is `room` if they are converted then."""
    return plan.out + first * plan.bytes if plan.format.conversion == AS_IS else room


cdef inline void store(
    const Plan *plan, Py_ssize_t first, Py_ssize_t count, const char *results
) noexcept nogil:
    """Write a block of results, unless they were computed in their place."""
    if plan.format.conversion != AS_IS:
        store_row(plan.out + first * plan.bytes, results, count, plan.format)


cdef void finish_run(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    """Apply an activation to a run of sums."""
    cdef const Plan *plan = <const Plan *>data
    cdef Py_ssize_t first = item * RUN, end = smaller(first + RUN, plan.count), count
    cdef const char *source
    cdef const char *added = NULL
    cdef char *out
    while first < end:
        count = smaller(BLOCK, end - first)
        source = loaded(plan, plan.source, first, count, scratch)
        if plan.other != NULL:
            added = loaded(plan, plan.other, first, count, scratch + BLOCK * sizeof(float))
        out = destination(plan, first, scratch)
        plan.finish(out, 0, source, 0, added, 1, count, &plan.activation)
        if plan.mask != NULL:
            plan.masks.mark(plan.mask + first, out, count, plan.low, plan.high)
        store(plan, first, count, out)
        first += count


cdef void differentiate_run(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    """Multiply a run of a gradient by the derivative of an activation."""
    cdef const Plan *plan = <const Plan *>data
    cdef Py_ssize_t first = item * RUN, end = smaller(first + RUN, plan.count), count
    cdef const char *grad
    cdef const char *kept
    cdef char *out
    while first < end:
        count = smaller(BLOCK, end - first)
        grad = loaded(plan, plan.source, first, count, scratch)
        kept = loaded(plan, plan.other, first, count, scratch + BLOCK * sizeof(float))
        out = destination(plan, first, scratch)
        plan.differentiate(out, grad, kept, count, &plan.activation)
        store(plan, first, count, out)
        first += count


cdef void scale_run(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    """Multiply a run of numbers by one of two factors."""
    cdef const Plan *plan = <const Plan *>data
    cdef Py_ssize_t first = item * RUN, end = smaller(first + RUN, plan.count), count
    cdef char *out
    while first < end:
        count = smaller(BLOCK, end - first)
        out = destination(plan, first, scratch)
        plan.masks.scale(
            out,
            loaded(plan, plan.source, first, count, scratch + BLOCK * sizeof(float)),
            plan.mask + first,
            count,
            plan.marked,
            plan.others,
        )
        store(plan, first, count, out)
        first += count


cdef void drop_run(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    """Draw a run of a mask, and multiply."""
    cdef const Plan *plan = <const Plan *>data
    cdef const Draw *draw = &plan.draw
    cdef Py_ssize_t first = item * RUN, count = smaller(RUN, plan.count - first)
    cdef Wide state = stepped(draw.state, steps(draw.step, first))
    pcg64_larger(plan.mask + first, count, state, draw.step, draw.limit)
    scale_run(data, item, scratch)


cdef Plan make_plan(cnp.ndarray source, other, mask, cnp.ndarray out, int threads):
    cdef Plan plan
    memset(&plan, 0, sizeof(plan))
    plan.source = <char *>cnp.PyArray_DATA(source)
    if other is not None:
        plan.other = <char *>cnp.PyArray_DATA(<cnp.ndarray?>other)
    if mask is not None:
        plan.mask = <uint8_t *>cnp.PyArray_DATA(<cnp.ndarray?>mask)
    plan.out = <char *>cnp.PyArray_DATA(out)
    plan.bytes, plan.count = cnp.PyArray_ITEMSIZE(out), cnp.PyArray_SIZE(out)
    plan.activations = activations_of(number_of(out))
    plan.format = computed_format(out)
    plan.masks = masks_of(plan.format.number)
    plan.moved = <double>plan.count * ((2 if other is None else 3) * plan.bytes + 1)
    plan.threads = useful_threads(plan.moved, threads)
    return plan


cdef int run(const Plan *plan, Task task) except -1:
    cdef size_t scratch = 0 if plan.format.conversion == AS_IS else 2 * BLOCK * sizeof(float)
    return for_each(task, plan, ceil_div(plan.count, RUN), scratch, plan.moved, plan.threads)


cdef int read_wide(Wide *to, x) except -1:
    """Read an integer of 128 bits."""
    to[0] = wide(<uint64_t>(x >> 64), <uint64_t>(x & 0xFFFFFFFFFFFFFFFF))
    return 0


def relu(cnp.ndarray x, mask, cnp.ndarray out, int threads):
    """Write max(x, 0) and, unless `mask` is None, where x is not positive.

    All arrays here are contiguous and native; those of numbers are of one float dtype.
    """
    cdef Plan plan = make_plan(x, None, mask, out, threads)
    plan.format.conversion = AS_IS
    run(&plan, rectify_run)


def relu_backward(cnp.ndarray grad, mask, cnp.ndarray out, int threads):
    """Write `grad` where `mask` is not set, and zeros where it is."""
    cdef Plan plan = make_plan(grad, None, mask, out, threads)
    plan.format.conversion = AS_IS
    run(&plan, clear_run)


def finish(
    cnp.ndarray x, residual, activation, mask, double low, double high, cnp.ndarray out,
    int threads,
):
    """Write the activation (kind, a, b) of x + residual, and mark results that are not in bounds.

    `residual` and `mask` may be None, and `out` may be `x` or `residual`. A bound of NaN is none.
    """
    cdef Plan plan = make_plan(x, residual, mask, out, threads)
    plan.activation.kind, plan.activation.a, plan.activation.b = activation
    plan.finish = finish_of(plan.format.number)
    plan.low, plan.high = low, high
    run(&plan, finish_run)


def differentiate(cnp.ndarray grad, saved, activation, cnp.ndarray out, int threads):
    """Write `grad` times the derivative of an activation (kind, a, b), see derivatives.h."""
    cdef Plan plan = make_plan(grad, saved, None, out, threads)
    plan.activation.kind, plan.activation.a, plan.activation.b = activation
    plan.differentiate = differentiate_of(plan.format.number)
    run(&plan, differentiate_run)


def scale(
    cnp.ndarray x, cnp.ndarray mask, double marked, double others, cnp.ndarray out, int threads
):
    """Write x times one of two factors, depending on the mask."""
    cdef Plan plan = make_plan(x, None, mask, out, threads)
    plan.marked, plan.others = marked, others
    run(&plan, scale_run)


def drop(
    cnp.ndarray x, cnp.ndarray mask, double ratio, double factor, state, increment,
    cnp.ndarray out, int threads,
):
    """Mark the numbers whose random number exceeds `ratio`, and write x times `factor` or 0.

    The random numbers are those that `random` of a generator of PCG64 would return. The state and
    increment of PCG64 are integers of 128 bits; return the state after the last number.
    """
    cdef Plan plan = make_plan(x, None, mask, out, threads)
    plan.marked, plan.others = factor, 0
    cdef Wide term
    read_wide(&plan.draw.state, state)
    read_wide(&term, increment)
    plan.draw.step = pcg64_step(term)
    plan.draw.limit = <uint64_t>(ratio * (<uint64_t>1 << 53))
    run(&plan, drop_run)
    cdef Wide end = stepped(plan.draw.state, steps(plan.draw.step, plan.count))
    return <object>high_half(end) << 64 | low_half(end)
