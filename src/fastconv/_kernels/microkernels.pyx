"""The microkernels of a CPU level, which its kernels share, as tables in a capsule."""

from cpython.pycapsule cimport PyCapsule_New

from fastconv._kernels.level cimport LEVEL
from fastconv._kernels.microkernels cimport MICROKERNELS
from fastconv._kernels.vectors cimport VECTOR_BYTES

cdef extern from "tables.c":
    ctypedef struct Microkernels:
        pass

    const Microkernels tables_of_level

level = LEVEL.decode()
vector_bytes = VECTOR_BYTES
tables = PyCapsule_New(<void *>&tables_of_level, MICROKERNELS, NULL)
