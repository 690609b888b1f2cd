"""The CPU level that a module is compiled for."""

cdef extern from *:
    """
    #if defined(__AVX512F__)
    #define LEVEL "v4"
    #elif defined(__AVX2__)
    #define LEVEL "v3"
    #else
    #define LEVEL "base"
    #endif
    """
    const char *LEVEL
