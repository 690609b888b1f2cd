"""Rectification and its gradient.

    relu:           out[i] = 0 if mask[i] else x[i], mask[i] = x[i] <= 0
    relu_backward:  out[i] = 0 if mask[i] else grad[i]

a. The mask is a byte a number: a quarter of what the gradient would read if it looked at the result
   (which users may also have changed by then).
b. Arrays are contiguous; an item is a run of them, large enough to be worth the counter, small
   enough to even out the threads' ends.
"""

from libc.stdint cimport uint8_t

cimport numpy as cnp

from fastconv._kernels.level cimport LEVEL
from fastconv._kernels.number cimport Number
from fastconv._kernels.parallel cimport for_each, useful_threads
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
    RUN = 8 << 10  # numbers of an item


cdef struct Job:
    const Activations *activations
    const char *source
    uint8_t *mask  # or NULL
    char *out
    Py_ssize_t bytes, count  # of a number; of numbers


cdef void rectify_run(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    cdef const Job *job = <const Job *>data
    cdef Py_ssize_t first = item * RUN, count = smaller(RUN, job.count - first)
    cdef char *out = job.out + first * job.bytes
    cdef const char *source = job.source + first * job.bytes
    if job.mask == NULL:
        job.activations.rectify(out, source, count)
    else:
        job.activations.rectify_masked(out, job.mask + first, source, count)


cdef void clear_run(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    cdef const Job *job = <const Job *>data
    cdef Py_ssize_t first = item * RUN, count = smaller(RUN, job.count - first)
    job.activations.clear(
        job.out + first * job.bytes, job.source + first * job.bytes, job.mask + first, count
    )


cdef Job job_of(cnp.ndarray source, mask, cnp.ndarray out):
    cdef Job job
    job.source = <char *>cnp.PyArray_DATA(source)
    job.mask = NULL
    if mask is not None:
        job.mask = <uint8_t *>cnp.PyArray_DATA(<cnp.ndarray?>mask)
    job.out = <char *>cnp.PyArray_DATA(out)
    job.bytes, job.count = cnp.PyArray_ITEMSIZE(out), cnp.PyArray_SIZE(out)
    job.activations = activations_of(number_of(out))
    return job


def relu(cnp.ndarray x, mask, cnp.ndarray out, int threads):
    """Write max(x, 0) and, unless `mask` is None, where x is not positive.

    All arrays here are contiguous and native; `x` and `out` are of one float dtype.
    """
    cdef Job job = job_of(x, mask, out)
    cdef double moved = <double>job.count * (2 * job.bytes + 1)
    for_each(rectify_run, &job, ceil_div(job.count, RUN), 0, moved, useful_threads(moved, threads))


def relu_backward(cnp.ndarray grad, mask, cnp.ndarray out, int threads):
    """Write `grad` where `mask` is not set, and zeros where it is."""
    cdef Job job = job_of(grad, mask, out)
    cdef double moved = <double>job.count * (2 * job.bytes + 1)
    for_each(clear_run, &job, ceil_div(job.count, RUN), 0, moved, useful_threads(moved, threads))
