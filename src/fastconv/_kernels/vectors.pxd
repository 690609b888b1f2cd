"""The width of vectors, which vectors.h sets."""

cdef extern from "vectors.h":
    enum:
        VECTOR_BYTES
