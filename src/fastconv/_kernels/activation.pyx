"""Rectification and its gradient.

    relu:           out[i] = 0 if mask[i] else x[i], mask[i] = x[i] <= 0
    relu_backward:  out[i] = 0 if mask[i] else grad[i]

a. The mask has a byte per number. That is a quarter of what the gradient would read if it looked at
   the result, which users may also have changed by then.
b. Arrays are contiguous. An item is a run of numbers, long enough to be worth taking from the
   counter of items, and short enough that all threads end at about the same time.
"""

from libc.stdint cimport uint8_t

cimport numpy as cnp

from fastconv._kernels.level cimport LEVEL
from fastconv._kernels.number cimport Number
from fastconv._kernels.parallel cimport Task, for_each, useful_threads
from fastconv._kernels.planes cimport number_of
from fastconv._kernels.window cimport ceil_div, smaller

cnp.import_array()

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

    const Activations *activations_of(Number number) noexcept nogil

cdef enum:
    # The largest count of numbers of an item.
    RUN = 8 << 10


cdef struct Plan:
    const Activations *activations
    const char *source
    uint8_t *mask  # May be NULL where it would be written.
    char *out
    Py_ssize_t bytes  # Bytes of a number.
    Py_ssize_t count  # The number of numbers.
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


cdef Plan make_plan(cnp.ndarray source, mask, cnp.ndarray out, int threads):
    cdef Plan plan
    plan.source = <char *>cnp.PyArray_DATA(source)
    plan.mask = NULL
    if mask is not None:
        plan.mask = <uint8_t *>cnp.PyArray_DATA(<cnp.ndarray?>mask)
    plan.out = <char *>cnp.PyArray_DATA(out)
    plan.bytes, plan.count = cnp.PyArray_ITEMSIZE(out), cnp.PyArray_SIZE(out)
    plan.activations = activations_of(number_of(out))
    plan.moved = <double>plan.count * (2 * plan.bytes + 1)
    plan.threads = useful_threads(plan.moved, threads)
    return plan


cdef int run(const Plan *plan, Task task) except -1:
    return for_each(task, plan, ceil_div(plan.count, RUN), 0, plan.moved, plan.threads)


def relu(cnp.ndarray x, mask, cnp.ndarray out, int threads):
    """Write max(x, 0) and, unless `mask` is None, where x is not positive.

    All arrays here are contiguous and native; `x` and `out` are of one float dtype.
    """
    cdef Plan plan = make_plan(x, mask, out, threads)
    run(&plan, rectify_run)


def relu_backward(cnp.ndarray grad, mask, cnp.ndarray out, int threads):
    """Write `grad` where `mask` is not set, and zeros where it is."""
    cdef Plan plan = make_plan(grad, mask, out, threads)
    run(&plan, clear_run)
