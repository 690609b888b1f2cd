"""Softmax of rows, and the gradient of its mean cross entropy.

    softmax:   out[r, i] = exp(x[r, i] - max of x[r]) / sum of these
    gradient:  out[r, i] = (y[r, i] - (1 if i == labels[r] else 0)) * factor

An item is as many rows as make a run of numbers, so that small rows do not cost a call each. Sums
are those of a row, so that they do not depend on the number of threads.
"""

from libc.string cimport memset

cimport numpy as cnp

from fastconv._kernels.level cimport LEVEL
from fastconv._kernels.microkernels cimport Softmax, import_microkernels, softmax_of
from fastconv._kernels.number cimport Number
from fastconv._kernels.parallel cimport for_each, useful_threads
from fastconv._kernels.planes cimport number_of
from fastconv._kernels.window cimport ceil_div, larger, smaller

cnp.import_array()
import_microkernels()

level = LEVEL.decode()

cdef extern from "loss.h":
    ctypedef void (*LossGradient)(
        void *to, const void *y, const Py_ssize_t *labels, Py_ssize_t rows, Py_ssize_t count,
        double factor,
    ) noexcept nogil
    LossGradient loss_gradient_of(Number number) noexcept nogil

cdef enum:
    # An item has about this many numbers.
    RUN = 8 << 10


cdef struct Plan:
    Softmax softmax
    LossGradient gradient
    const char *source
    const Py_ssize_t *labels
    char *out
    Py_ssize_t rows, columns
    Py_ssize_t item_rows
    Py_ssize_t row_bytes
    double factor
    double moved
    int threads


cdef void softmax_rows(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    """Make probabilities of some rows."""
    cdef const Plan *plan = <const Plan *>data
    cdef Py_ssize_t first = item * plan.item_rows
    plan.softmax(
        plan.out + first * plan.row_bytes,
        plan.source + first * plan.row_bytes,
        smaller(plan.item_rows, plan.rows - first),
        plan.columns,
    )


cdef void gradient_rows(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    """Compute the gradients of some rows."""
    cdef const Plan *plan = <const Plan *>data
    cdef Py_ssize_t first = item * plan.item_rows
    plan.gradient(
        plan.out + first * plan.row_bytes,
        plan.source + first * plan.row_bytes,
        plan.labels + first,
        smaller(plan.item_rows, plan.rows - first),
        plan.columns,
        plan.factor,
    )


cdef Plan make_plan(cnp.ndarray source, cnp.ndarray out, int threads):
    cdef Plan plan
    memset(&plan, 0, sizeof(plan))
    plan.source, plan.out = <char *>cnp.PyArray_DATA(source), <char *>cnp.PyArray_DATA(out)
    plan.rows, plan.columns = cnp.PyArray_DIMS(out)[0], cnp.PyArray_DIMS(out)[1]
    plan.row_bytes = plan.columns * cnp.PyArray_ITEMSIZE(out)
    plan.item_rows = larger(1, RUN // larger(1, plan.columns))
    plan.moved = 2.0 * plan.rows * plan.row_bytes
    plan.threads = useful_threads(plan.moved, threads)
    return plan


def softmax(cnp.ndarray x, cnp.ndarray out, int threads):
    """Write the probabilities of rows (rows, columns) of one or more scores.

    All arrays here are contiguous and native, and those of numbers float32 or float64.
    """
    cdef Plan plan = make_plan(x, out, threads)
    plan.softmax = softmax_of(number_of(out))
    for_each(
        softmax_rows, &plan, ceil_div(plan.rows, plan.item_rows), 0, plan.moved, plan.threads
    )


def gradient(cnp.ndarray y, cnp.ndarray labels, double factor, cnp.ndarray out, int threads):
    """Write the gradient of scores from probabilities; `labels` are intp, and below the columns."""
    cdef Plan plan = make_plan(y, out, threads)
    plan.labels = <const Py_ssize_t *>cnp.PyArray_DATA(labels)
    plan.gradient = loss_gradient_of(number_of(out))
    plan.factor = factor
    for_each(
        gradient_rows, &plan, ceil_div(plan.rows, plan.item_rows), 0, plan.moved, plan.threads
    )
