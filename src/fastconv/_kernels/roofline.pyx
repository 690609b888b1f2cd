"""What the machine can do at most, for benchmarks to measure the kernels against.

Every thread goes over its own share again and again, so that handing out the work does not count.
"""

from libc.stdint cimport uint64_t

cimport numpy as cnp

from fastconv._kernels.level cimport LEVEL
from fastconv._kernels.number cimport Number, number_of_kind
from fastconv._kernels.parallel cimport for_each
from fastconv._kernels.scratch cimport Layout, take
from fastconv._kernels.stream cimport LINE_BYTES, stream_fence
from fastconv._kernels.window cimport smaller

cnp.import_array()

level = LEVEL.decode()

cdef extern from "roofline.h":
    ctypedef double (*MultiplyAdd)(Py_ssize_t rounds) noexcept nogil

    MultiplyAdd multiply_add_of(Number number) noexcept nogil
    uint64_t read_lines(const char *source, Py_ssize_t bytes) noexcept nogil
    void write_lines(char *to, Py_ssize_t bytes, int past_caches) noexcept nogil
    void copy_lines(char *to, const char *source, Py_ssize_t bytes, int past_caches) noexcept nogil


cdef enum:
    # What a loop is said to move, as `for_each` asks: more than enough to release the GIL.
    MUCH = 1 << 30


cdef struct Plan:
    # Either multiply-adds, or memory that is read and written.
    int threads
    Py_ssize_t rounds
    MultiplyAdd multiply_add
    const char *source
    char *target
    Py_ssize_t bytes_read, bytes_written
    int past_caches
    Layout scratch
    size_t seen  # Where a thread leaves a number that depends on all that it read.


cdef void run_multiply_adds(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    """Do a thread's multiply-adds."""
    cdef const Plan *plan = <const Plan *>data
    plan.multiply_add(plan.rounds)


cdef Py_ssize_t start_of(Py_ssize_t thread, int threads, Py_ssize_t bytes) noexcept nogil:
    """Where a thread's share of memory begins: at a line."""
    return bytes if thread == threads else bytes // threads * thread // LINE_BYTES * LINE_BYTES


cdef void run_moves(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    """Read and write a thread's shares of memory."""
    cdef const Plan *plan = <const Plan *>data
    cdef Py_ssize_t first_read = start_of(item, plan.threads, plan.bytes_read)
    cdef Py_ssize_t first_written = start_of(item, plan.threads, plan.bytes_written)
    cdef Py_ssize_t read = start_of(item + 1, plan.threads, plan.bytes_read) - first_read
    cdef Py_ssize_t written = start_of(item + 1, plan.threads, plan.bytes_written) - first_written
    cdef Py_ssize_t both = smaller(read, written) // LINE_BYTES * LINE_BYTES
    cdef const char *source = plan.source + first_read
    cdef char *target = plan.target + first_written
    cdef Py_ssize_t _round
    cdef uint64_t seen = 0
    for _round in range(plan.rounds):
        copy_lines(target, source, both, plan.past_caches)
        seen += read_lines(source + both, read - both)
        write_lines(target + both, written - both, plan.past_caches)
    stream_fence()
    # The compiler would leave out what has no effect.
    (<uint64_t *>(scratch + plan.seen))[0] = seen


def fma_peak(dtype, int threads, Py_ssize_t rounds):
    """Keep every thread's multiply-add units busy; return the number of operations done."""
    cdef Plan plan
    cdef cnp.dtype number = cnp.dtype(dtype)
    plan.multiply_add = multiply_add_of(number_of_kind(number.kind, cnp.PyDataType_ELSIZE(number)))
    plan.rounds = rounds
    for_each(run_multiply_adds, &plan, threads, 0, MUCH, threads)
    return 2 * threads * plan.multiply_add(1) * rounds


def move(cnp.ndarray source, cnp.ndarray target, int threads, Py_ssize_t rounds, past_caches):
    """Read all of one array of bytes and write all of another, `rounds` times."""
    cdef Plan plan
    plan.threads, plan.rounds, plan.past_caches = threads, rounds, past_caches
    plan.source = <const char *>cnp.PyArray_DATA(source)
    plan.target = <char *>cnp.PyArray_DATA(target)
    plan.bytes_read, plan.bytes_written = cnp.PyArray_NBYTES(source), cnp.PyArray_NBYTES(target)
    plan.scratch.bytes = 0
    plan.seen = take(&plan.scratch, sizeof(uint64_t))
    for_each(run_moves, &plan, threads, <size_t>plan.scratch.bytes, MUCH, threads)
