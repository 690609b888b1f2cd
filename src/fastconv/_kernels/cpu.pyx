"""What this processor and this build can do.

Built with no level flags and asked before a level is chosen: importing a module of a level that
the processor lacks may already execute an instruction it does not know.
"""

cdef extern from *:
    """
    #if defined(__x86_64__)
    /* These builtins also check that the operating system saves the wider registers. */
    static int has_v3(void) {
        __builtin_cpu_init();
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    }
    static int has_v4(void) {
        return has_v3() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
            && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    }
    #else
    static int has_v3(void) { return 0; }
    static int has_v4(void) { return 0; }
    #endif

    #if defined(_OPENMP)
    #include <omp.h>
    #define OPENMP_DATE _OPENMP
    static void openmp_pause(void) { omp_pause_resource_all(omp_pause_soft); }
    #else
    #define OPENMP_DATE 0
    static int omp_get_max_threads(void) { return 1; }
    static void openmp_pause(void) {}
    #endif

    #if defined(__clang__)
    #define COMPILER __VERSION__
    #elif defined(__GNUC__)
    #define COMPILER "GCC " __VERSION__
    #else
    #define COMPILER "unknown"
    #endif
    """
    bint has_v3()
    bint has_v4()
    const int OPENMP_DATE
    int omp_get_max_threads()
    void openmp_pause()
    const char *COMPILER

compiler = COMPILER.decode()
openmp_date = OPENMP_DATE
"""Date (yyyymm) of the OpenMP specification the kernels were built with; 0: none."""


def supported_levels():
    """Return the CPU levels that this processor can run, best first."""
    return (("v4",) if has_v4() else ()) + (("v3",) if has_v3() else ()) + ("base",)


def max_threads():
    """Return the number of threads OpenMP would use: OMP_NUM_THREADS, affinity, cores."""
    return omp_get_max_threads()


def pause_threads():
    """End OpenMP's idle threads; the next parallel region starts new ones.

    A child forked while they exist would wait for them for ever.
    """
    openmp_pause()
