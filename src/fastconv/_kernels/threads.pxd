"""What every parallel loop asks before it starts a team of threads, and reports after it."""


cdef int team_size(int wanted) noexcept nogil
cdef void report_team(double lost) noexcept nogil
