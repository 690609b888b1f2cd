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
    const char *COMPILER

compiler = COMPILER.decode()


def supported_levels():
    """Return the CPU levels that this processor can run, best first."""
    return (("v4",) if has_v4() else ()) + (("v3",) if has_v3() else ()) + ("base",)
