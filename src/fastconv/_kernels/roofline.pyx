"""What the machine can do at most, for benchmarks to measure the kernels against.

Every thread goes over its own part again and again, so that handing out the work does not count.
"""

from libc.stdint cimport uint64_t

cimport numpy as cnp

from fastconv._kernels.level cimport LEVEL
from fastconv._kernels.number cimport Number, number_of_kind
from fastconv._kernels.parallel cimport for_each
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


cdef struct Job:
    int threads
    Py_ssize_t rounds
    MultiplyAdd multiply_add
    const char *source
    char *target
    Py_ssize_t read, written  # bytes
    int past_caches


cdef void run_multiply_adds(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    cdef const Job *job = <const Job *>data
    job.multiply_add(job.rounds)


cdef Py_ssize_t start_of(Py_ssize_t part, int parts, Py_ssize_t bytes) noexcept nogil:
    """Where a thread's part of memory begins: at a line."""
    return bytes if part == parts else bytes // parts * part // LINE_BYTES * LINE_BYTES


cdef void run_moves(const void *data, Py_ssize_t item, char *scratch) noexcept nogil:
    cdef const Job *job = <const Job *>data
    cdef Py_ssize_t first_read = start_of(item, job.threads, job.read)
    cdef Py_ssize_t first_written = start_of(item, job.threads, job.written)
    cdef Py_ssize_t read = start_of(item + 1, job.threads, job.read) - first_read
    cdef Py_ssize_t written = start_of(item + 1, job.threads, job.written) - first_written
    cdef Py_ssize_t both = smaller(read, written) // LINE_BYTES * LINE_BYTES
    cdef const char *source = job.source + first_read
    cdef char *target = job.target + first_written
    cdef Py_ssize_t i
    cdef uint64_t seen = 0
    for i in range(job.rounds):
        copy_lines(target, source, both, job.past_caches)
        seen += read_lines(source + both, read - both)
        write_lines(target + both, written - both, job.past_caches)
    stream_fence()
    (<uint64_t *>scratch)[0] = seen  # or the compiler would read nothing


def fma_peak(dtype, int threads, Py_ssize_t rounds):
    """Keep every thread's multiply-add units busy; return the number of operations done."""
    cdef Job job
    cdef cnp.dtype number = cnp.dtype(dtype)
    job.multiply_add = multiply_add_of(number_of_kind(number.kind, cnp.PyDataType_ELSIZE(number)))
    job.rounds = rounds
    for_each(run_multiply_adds, &job, threads, 0, 1e9, threads)
    return 2 * threads * job.multiply_add(1) * rounds


def move(cnp.ndarray source, cnp.ndarray target, int threads, Py_ssize_t rounds, past_caches):
    """Read all of one array of bytes and write all of another, so many times."""
    cdef Job job
    job.threads, job.rounds, job.past_caches = threads, rounds, past_caches
    job.source = <const char *>cnp.PyArray_DATA(source)
    job.target = <char *>cnp.PyArray_DATA(target)
    job.read, job.written = cnp.PyArray_NBYTES(source), cnp.PyArray_NBYTES(target)
    for_each(run_moves, &job, threads, LINE_BYTES, 1e9, threads)
