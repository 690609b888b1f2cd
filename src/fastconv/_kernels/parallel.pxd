"""Independent items of work, on one thread or many: the only parallel loop there is."""

from cython.parallel cimport prange
from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

cdef extern from *:
    """
    static inline ptrdiff_t take_items(ptrdiff_t *next, ptrdiff_t count) {
        return __atomic_fetch_add(next, count, __ATOMIC_RELAXED);
    }
    """
    Py_ssize_t take_items(Py_ssize_t *next, Py_ssize_t count) noexcept nogil

ctypedef void (*Task)(const void *job, Py_ssize_t item, char *scratch) noexcept nogil

cdef enum:
    # A parallel region costs some microseconds, as long as it takes to move this much.
    BYTES_PER_THREAD = 96 << 10
    # Releasing the GIL costs as much as moving this much.
    BYTES_WITHOUT_GIL = 8 << 10
    ITEMS_PER_THREAD = 8
    CHUNKS_PER_THREAD = 16
    LINE = 64


cdef inline int useful_threads(double moved_bytes, int threads) noexcept:
    """All threads or, for work that is not worth it, one: libgomp ends the threads that a smaller
    team does not need, and starting them again takes 80 us."""
    return threads if moved_bytes > BYTES_PER_THREAD else 1


cdef inline Py_ssize_t wanted_items(int threads) noexcept:
    """Into how many items to cut work at least: several a thread even out their ends."""
    return 1 if threads == 1 else ITEMS_PER_THREAD * threads


cdef inline void run_items(
    Task task, const void *job, Py_ssize_t items, Py_ssize_t chunk, Py_ssize_t *next, char *scratch
) noexcept nogil:
    cdef Py_ssize_t item = take_items(next, chunk), end
    while item < items:
        end = min(item + chunk, items)
        while item < end:
            task(job, item, scratch)
            item += 1
        item = take_items(next, chunk)


cdef inline int for_each(
    Task task, const void *job, Py_ssize_t items, size_t scratch_bytes, double moved_bytes,
    int threads,
) except -1:
    """Run `task` on every item, in any order, each with scratch memory aligned to a line. A thread
    finds there what its last item has left, and at first a line of zeros.

    `threads` comes from `useful_threads`. An item's result must depend on nothing but the item:
    that is what makes results the same for every number of threads.
    """
    cdef Py_ssize_t next = 0, chunk
    cdef int thread
    cdef char *memory
    cdef char *scratch
    if items <= 0:
        return 0
    if items == 1:
        threads = 1
    scratch_bytes = (scratch_bytes + LINE - 1) // LINE * LINE
    memory = <char *>malloc(threads * scratch_bytes + LINE)
    if memory == NULL:
        raise MemoryError(f"no memory for {threads} x {scratch_bytes} bytes of scratch")
    scratch = memory + (LINE - <uintptr_t>memory % LINE)
    for thread in range(threads if scratch_bytes else 0):
        memset(scratch + thread * scratch_bytes, 0, LINE)
    # Small items are taken several at a time: the counter's cache line travels between cores.
    chunk = max(1, items // (CHUNKS_PER_THREAD * threads))
    if threads > 1:
        for thread in prange(
            threads, nogil=True, num_threads=threads, schedule="static", chunksize=1
        ):
            run_items(task, job, items, chunk, &next, scratch + thread * scratch_bytes)
    elif moved_bytes > BYTES_WITHOUT_GIL:
        with nogil:
            run_items(task, job, items, chunk, &next, scratch)
    else:
        run_items(task, job, items, chunk, &next, scratch)
    free(memory)
    return 0
