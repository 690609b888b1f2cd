"""What every parallel loop asks before it starts a team of threads."""


cdef int startable(int wanted) noexcept nogil
