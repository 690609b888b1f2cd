"""OpenMP's own numbers of threads, and how many threads of a team are worth their start.

a. libgomp ends the process when it cannot start a thread, because of `ulimit -v` or a container's
   limit of processes. So the first time that a caller wants a larger team than it has, as many
   threads are started and ended here, where a failure only makes the team smaller. That costs about
   as much as libgomp's own start of the team, which then finds the stacks in the C library's cache.
b. Where other programs have the processors, a team may take many times as long as one thread, as
   each call waits until all members have had their turn. A caller whose teams have lost time in
   this way computes alone for a while, which doubles each time that it happens again.
"""

cdef extern from "threads.h":
    const int OPENMP_DATE
    int omp_get_max_threads() noexcept nogil
    int omp_get_num_procs() noexcept nogil
    int omp_get_thread_limit() noexcept nogil
    int useful_team(int wanted) noexcept nogil
    void note_team(double lost) noexcept nogil
    void pause_teams() noexcept nogil
    int adaptive "adaptive_teams"
    size_t stack_bytes

openmp_date = OPENMP_DATE
"""Date (yyyymm) of the OpenMP specification that the kernels were built with; 0 without OpenMP."""

cdef int unlimited = 1 << 30  # OpenMP's number of threads while nobody has lowered it.


cdef int team_size(int wanted) noexcept nogil:
    """Return the number of threads for a parallel region of the calling thread; at least 1."""
    return useful_team(wanted)


cdef void report_team(double lost) noexcept nogil:
    """Note how many seconds longer the calling thread's last team took than one thread."""
    note_team(lost)


def team(int wanted):
    """Return what `team_size` does, for tests."""
    return useful_team(wanted)


def report(double lost):
    """Do what `report_team` does, for tests."""
    note_team(lost)


def adapt(bint teams):
    """Set whether callers whose teams are slow compute alone; tests always want whole teams."""
    global adaptive
    adaptive = teams


def processors():
    """Return the number of processors that OpenMP may use."""
    return omp_get_num_procs()


def set_unlimited(int n):
    """Set the number of threads that OpenMP has by itself; a smaller one is a limit."""
    global unlimited
    unlimited = n


def set_stack(size_t n_bytes):
    """Set the bytes of the stacks of OpenMP's threads, 0 for the size that other threads have."""
    global stack_bytes
    stack_bytes = n_bytes


cdef int allowed_now() noexcept:
    """The number of threads that OpenMP allows the calling thread now."""
    cdef int most = omp_get_thread_limit(), now = omp_get_max_threads()
    return now if now < unlimited and now < most else most


def allowed(int n):
    """Return the smaller of `n` and of what OpenMP allows the calling thread now.

    `omp_set_num_threads`, which threadpoolctl calls, lowers the number of the thread that calls
    it; OMP_THREAD_LIMIT is a limit for all.
    """
    cdef int most = allowed_now()
    return n if n < most else most


def pause():
    """End OpenMP's idle threads; the next parallel region starts new ones.

    A child forked while they exist would wait for them for ever.
    """
    pause_teams()
