"""What this processor can do, and which compiler built the kernels.

This module is built without flags of a level and asked before a level is chosen: a module of a
level that the processor lacks may execute an unknown instruction as soon as it is imported.
"""

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    #if defined(__x86_64__)
    #include <cpuid.h>
    #endif

    /* The registers that the instruction CPUID writes. */
    enum { EAX, EBX, ECX, EDX };

    /* Where a processor tells a feature: a bit of what CPUID returns for `leaf`. The operating
     * system must save the registers that the feature uses: these bits of XCR0 are set. */
    typedef struct {
        const char *name;
        unsigned leaf;
        int word, bit;
        unsigned saved;
    } Feature;

    enum { SAVED_YMM = 0x06, SAVED_ZMM = 0xE6 };

    /* Features by the names that the compiler's -m flags have. */
    static const Feature features[] = {
        {"avx2", 7, EBX, 5, SAVED_YMM},      {"fma", 1, ECX, 12, SAVED_YMM},
        {"avx512f", 7, EBX, 16, SAVED_ZMM},  {"avx512bw", 7, EBX, 30, SAVED_ZMM},
        {"avx512dq", 7, EBX, 17, SAVED_ZMM}, {"avx512vl", 7, EBX, 31, SAVED_ZMM},
    };

    #if defined(__x86_64__)
    /* Return the low half of XCR0, or 0 if the system does not let processes read it. */
    static unsigned saved_registers(void) {
        unsigned a, b, c, d;
        if (!__get_cpuid(1, &a, &b, &c, &d) || !(c >> 27 & 1)) return 0;
        __asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
        return a;
    }

    /* __builtin_cpu_supports would do it, but needs a library that Clang on Windows does not
     * link. */
    static int has(const Feature *feature) {
        unsigned words[4] = {0, 0, 0, 0};
        if ((saved_registers() & feature->saved) != feature->saved) return 0;
        if (!__get_cpuid_count(feature->leaf, 0, words + EAX, words + EBX, words + ECX,
                               words + EDX))
            return 0;
        return words[feature->word] >> feature->bit & 1;
    }
    #else
    static int has(const Feature *feature) {
        (void)feature;
        return 0;
    }
    #endif

    /* Return whether the processor has a feature, or -1 for an unknown name. */
    static int has_feature(const char *name) {
        size_t i;
        for (i = 0; i < sizeof features / sizeof *features; i++)
            if (!strcmp(name, features[i].name)) return has(&features[i]);
        return -1;
    }

    #if defined(__clang__)
    #define BUILT_BY __VERSION__
    #elif defined(__GNUC__)
    #define BUILT_BY "GCC " __VERSION__
    #else
    #define BUILT_BY "unknown"
    #endif
    """
    int has_feature(const char *name)
    const char *BUILT_BY

compiler = BUILT_BY.decode()


def has(str feature):
    """Return whether this processor has a feature, which the compiler's flag `-m<feature>` uses."""
    cdef bytes name = feature.encode()
    cdef int found = has_feature(name)
    if found < 0:
        raise ValueError(f"unknown feature of processors: {feature!r}")
    return found == 1
