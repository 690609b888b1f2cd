/* Loops that reach the peak of a processor: multiply-adds in registers, memory reads and writes. */
#ifndef FASTCONV_ROOFLINE_H
#define FASTCONV_ROOFLINE_H

#include "number.h"
#include "stream.h"

/* This many accumulators hide a latency of 4 or 5 cycles on 2 units. */
enum { CHAINS = 12 };

#define DEFINE(T)                                                                                \
    /* Return the number of multiply-adds. */                                                    \
    static double multiply_add_##T(Index rounds) {                                               \
        typedef T Vec __attribute__((vector_size(__BIGGEST_ALIGNMENT__)));                       \
        Vec acc[CHAINS], x = (Vec){0} + (T)0.5;                                                  \
        volatile T sink;                                                                         \
        _Pragma("GCC unroll 16") for (int i = 0; i < CHAINS; i++) acc[i] = (Vec){0} + (T)(i + 2);\
        for (Index k = 0; k < rounds; k++)                                                       \
            _Pragma("GCC unroll 16") for (int i = 0; i < CHAINS; i++) acc[i] = acc[i] * x + x;   \
        _Pragma("GCC unroll 16") for (int i = 0; i < CHAINS; i++) sink = acc[i][0];              \
        (void)sink;                                                                              \
        return (double)rounds * CHAINS * (double)(sizeof(Vec) / sizeof(T));                      \
    }
DEFINE(float)
DEFINE(double)
#undef DEFINE

typedef double (*MultiplyAdd)(Index rounds);

static inline MultiplyAdd multiply_add_of(Number number) {
    static const MultiplyAdd table[NUMBERS] = {
        [FLOAT32] = multiply_add_float,
        [FLOAT64] = multiply_add_double,
    };
    return table[number];
}

typedef uint64_t Words __attribute__((vector_size(LINE_BYTES), aligned(1), may_alias));

/* Read all cache lines in order, and return a number that depends on all of them. */
static uint64_t read_lines(const char *from, Index bytes) {
    Words sums[4] = {{0}};
    for (Index i = 0; i + 4 * LINE_BYTES <= bytes; i += 4 * LINE_BYTES)
        _Pragma("GCC unroll 4") for (int v = 0; v < 4; v++)
            sums[v] += *(const Words *)(from + i + v * LINE_BYTES);
    return (sums[0] + sums[1] + sums[2] + sums[3])[0];
}

/* Without this the compiler would replace the loops by calls of memset and memcpy, which decide
 * themselves whether they write past the caches. */
#if defined(__GNUC__) && !defined(__clang__)
#define AS_WRITTEN __attribute__((optimize("no-tree-loop-distribute-patterns")))
#else
#define AS_WRITTEN
#endif

/* Fill memory with copies of one cache line, through the caches or past them. */
AS_WRITTEN static void write_lines(char *to, Index bytes, int past_caches) {
    static const char line[LINE_BYTES] = {0};
    Index i = (Index)(-(uintptr_t)to % LINE_BYTES);
    if (past_caches)
        for (; i + LINE_BYTES <= bytes; i += LINE_BYTES) stream_line(to + i, line);
    else
        for (; i + LINE_BYTES <= bytes; i += LINE_BYTES) *(Words *)(to + i) = *(const Words *)line;
}

AS_WRITTEN static void copy_lines(char *to, const char *from, Index bytes, int past_caches) {
    if (past_caches)
        stream_copy(to, from, bytes);
    else
        for (Index i = 0; i + LINE_BYTES <= bytes; i += LINE_BYTES)
            *(Words *)(to + i) = *(const Words *)(from + i);
}

#endif
