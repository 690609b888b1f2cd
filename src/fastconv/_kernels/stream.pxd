"""The sequential writer of stream.h, which explains it."""

cdef extern from "stream.h":
    enum:
        STAGE_BYTES
        STREAM_FROM_BYTES
        LINE_BYTES

    ctypedef struct Stream:
        char *stage
        Py_ssize_t end

    Stream stream_to(char *to, char *stage, int past_caches) noexcept nogil
    Py_ssize_t stream_room(const Stream *stream) noexcept nogil
    void stream_flush(Stream *stream) noexcept nogil
    void stream_finish(Stream *stream) noexcept nogil
    void stream_fence() noexcept nogil
    void stream_copy(char *to, const char *source, Py_ssize_t bytes) noexcept nogil
