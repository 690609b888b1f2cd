"""The CPU level that a module is compiled for, as setup.py defines it."""

cdef extern from *:
    const char *LEVEL "FASTCONV_LEVEL"
