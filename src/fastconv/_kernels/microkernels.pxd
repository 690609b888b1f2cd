"""The microkernels of a module's CPU level, which lie in another module (microkernels.pyx)."""

from cpython.module cimport PyImport_ImportModule
from cpython.pycapsule cimport PyCapsule_GetPointer

from fastconv._kernels.epilogue cimport Activation, Finish
from fastconv._kernels.flat cimport Flats
from fastconv._kernels.number cimport Number
from fastconv._kernels.rowwise cimport Rowwise
from fastconv._kernels.strip cimport MultiplyStrip
from fastconv._kernels.sums cimport Sums
from fastconv._kernels.tile cimport Tiles
from fastconv._kernels.transforms cimport Transforms

cdef extern from "microkernels.h":
    ctypedef void (*Differentiate)(
        void *to, const void *grad, const void *saved, Py_ssize_t count,
        const Activation *activation,
    ) noexcept nogil
    ctypedef void (*Softmax)(
        void *to, const void *x, Py_ssize_t rows, Py_ssize_t count
    ) noexcept nogil

    const char *MICROKERNELS "FASTCONV_MICROKERNELS"  # setup.py defines this name of the module.

    void use_microkernels(const void *tables) noexcept
    const Tiles *tiles_of(Number number) noexcept nogil
    const Flats *flats_of(Number number) noexcept nogil
    MultiplyStrip multiply_strip_of(Number number) noexcept nogil
    Rowwise rowwise_of(Number number) noexcept nogil
    Finish finish_of(Number number) noexcept nogil
    Differentiate differentiate_of(Number number) noexcept nogil
    Softmax softmax_of(Number number) noexcept nogil
    const Sums *sums_of(Number number) noexcept nogil
    const Transforms *transforms_of(Number number, Py_ssize_t tile) noexcept nogil


cdef inline int import_microkernels() except -1:
    """Get the tables. A module calls this, like `import_array`, before it asks for functions."""
    module = PyImport_ImportModule(MICROKERNELS)
    use_microkernels(PyCapsule_GetPointer(module.tables, MICROKERNELS))
    return 0
