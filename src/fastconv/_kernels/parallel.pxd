"""Independent items of work, on one thread or many: the only parallel loop there is."""

from libc.string cimport memset

from fastconv._kernels.scratch cimport release, try_allocate
from fastconv._kernels.stream cimport LINE_BYTES
from fastconv._kernels.threads cimport report_team, team_size
from fastconv._kernels.window cimport ceil_div

cdef extern from "parallel.h":
    ctypedef void (*Task)(const void *job, Py_ssize_t item, char *scratch) noexcept nogil
    ctypedef struct Team:
        Py_ssize_t items, shares

    void run_items(Task task, const void *job, Team *team, char *scratch) noexcept nogil
    double run_team(
        Task task, const void *job, Team *team, char *scratch, size_t scratch_bytes, int threads
    ) noexcept nogil

cdef enum:
    # A parallel region costs some microseconds, as long as it takes to move this much.
    BYTES_PER_THREAD = 96 << 10
    # Releasing the GIL costs as much as moving this much.
    BYTES_WITHOUT_GIL = 8 << 10
    ITEMS_PER_THREAD = 8
    # A thread takes 1 / (SHARES_PER_THREAD * threads) of the items that are left at a time.
    SHARES_PER_THREAD = 4


cdef inline int useful_threads(double moved_bytes, int threads) noexcept:
    """Return `threads`, or 1 for work that is not worth a team.

    There is nothing in between, because libgomp ends the threads that a smaller team does not need,
    and starting them again takes 80 us.
    """
    return threads if moved_bytes > BYTES_PER_THREAD else 1


cdef inline Py_ssize_t wanted_items(int threads) noexcept:
    """Return the least number of items that work is cut into: several per thread even out ends."""
    return 1 if threads == 1 else ITEMS_PER_THREAD * threads


cdef inline Py_ssize_t rows_per_item(Py_ssize_t rows, Py_ssize_t planes, int threads) noexcept:
    """Return the rows of an item where planes of `rows` rows are cut into the wanted items."""
    return ceil_div(rows, ceil_div(wanted_items(threads), planes))


cdef inline int for_each(
    Task task, const void *job, Py_ssize_t items, size_t scratch_bytes, double moved_bytes,
    int threads,
) except -1:
    """Run `task` on every item, in any order, each with scratch memory aligned to a line. A thread
    finds there what its last item has left, and at first a line of zeros.

    `threads` comes from `useful_threads`. An item's result must depend on nothing but the item:
    that is what makes results the same for every number of threads.
    """
    cdef Team team
    cdef int thread
    cdef double lost
    cdef char *scratch
    if items <= 0:
        return 0
    if items == 1:
        threads = 1
    scratch_bytes = (scratch_bytes + LINE_BYTES - 1) // LINE_BYTES * LINE_BYTES
    scratch = try_allocate(<double>scratch_bytes * threads)
    while scratch == NULL and threads > 1:  # Fewer threads need less.
        threads //= 2
        scratch = try_allocate(<double>scratch_bytes * threads)
    if scratch == NULL:
        raise MemoryError(f"no memory for {scratch_bytes} bytes of scratch")
    if threads > 1:
        # Asked for behind the allocation, which may take what the threads would need.
        threads = team_size(threads)
    for thread in range(threads if scratch_bytes else 0):
        memset(scratch + thread * scratch_bytes, 0, LINE_BYTES)
    memset(&team, 0, sizeof(team))
    team.items = items
    # Several items are taken at a time, fewer and fewer: neighbours share what lies in the caches,
    # and the counter's cache line travels between cores.
    team.shares = SHARES_PER_THREAD * threads if threads > 1 else 1
    if threads > 1:
        with nogil:
            lost = run_team(task, job, &team, scratch, scratch_bytes, threads)
        report_team(lost)
    elif moved_bytes > BYTES_WITHOUT_GIL:
        with nogil:
            run_items(task, job, &team, scratch)
    else:
        run_items(task, job, &team, scratch)
    release(scratch)
    return 0
