"""What this processor can do, and which compiler built the kernels.

This module is built without flags of a level and asked before a level is chosen: a module of a
level that the processor lacks may execute an unknown instruction as soon as it is imported.
"""

cdef extern from *:
    """
    #include <string.h>

    /* Features of processors, by the names that the compiler's -m flags have. */
    #define EACH_FEATURE(X)                                                                    \\
        X("avx2") X("fma") X("avx512f") X("avx512bw") X("avx512dq") X("avx512vl")

    #if defined(__x86_64__)
    /* This builtin also checks that the operating system saves the wider registers. */
    #define ASK(feature) if (!strcmp(name, feature)) return !!__builtin_cpu_supports(feature);
    #else
    #define ASK(feature) if (!strcmp(name, feature)) return 0;
    #endif

    /* Return whether the processor has a feature, or -1 for an unknown name. */
    static int has_feature(const char *name) {
    #if defined(__x86_64__)
        __builtin_cpu_init();
    #endif
        EACH_FEATURE(ASK)
        return -1;
    }

    #if defined(__clang__)
    #define COMPILER __VERSION__
    #elif defined(__GNUC__)
    #define COMPILER "GCC " __VERSION__
    #else
    #define COMPILER "unknown"
    #endif
    """
    int has_feature(const char *name)
    const char *COMPILER

compiler = COMPILER.decode()


def has(str feature):
    """Return whether this processor has a feature, which the compiler's flag `-m<feature>` uses."""
    cdef bytes name = feature.encode()
    cdef int found = has_feature(name)
    if found < 0:
        raise ValueError(f"unknown feature of processors: {feature!r}")
    return found == 1
