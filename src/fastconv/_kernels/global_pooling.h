/* The inner loops of global pooling: sums of runs of pixels, where their maximum is, and copies of
 * one number. This file is a template (see number.h). */
#ifndef T
#ifndef FASTCONV_GLOBAL_POOLING_H
#define FASTCONV_GLOBAL_POOLING_H

#include <math.h>
#include <string.h>

#include "max_vectors.h"
#include "number.h"
#include "window.h"

/* A sum of float64 with the digits that its additions have lost. */
typedef struct {
    double sum, lost;
} Total;

/* Sums of this many pixels are added to a Total; their own additions lose few digits. */
enum { SUM_BLOCK = 512 };

static inline void add_to_total(Total *total, double x) {
    const double sum = total->sum + x;
    total->lost += fabs(total->sum) >= fabs(x) ? total->sum - sum + x : x - sum + total->sum;
    total->sum = sum;
}
static inline double mean_of_total(Total total, Index count) {
    /* The lost digits of a sum that is not finite are NaN. */
    return (isfinite(total.sum) ? total.sum + total.lost : total.sum) / (double)count;
}

typedef double Eight __attribute__((vector_size(64)));
typedef float Eight_float __attribute__((vector_size(32), aligned(4), may_alias));
typedef double Eight_double __attribute__((vector_size(64), aligned(8), may_alias));

static inline double sum_of_eight(const Eight *all) {
    const Eight x = *all;
#if defined(__AVX512F__)
    return _mm512_reduce_add_pd((__m512d)x);
#else
    return ((x[0] + x[4]) + (x[2] + x[6])) + ((x[1] + x[5]) + (x[3] + x[7]));
#endif
}

#define TEMPLATE "global_pooling.h"
#include "number.h"

/* Return whether a is a better maximum than b: larger, or a NaN, or as good and before b. */
static inline int wins(float a, Index a_at, float b, Index b_at) {
    if (a != a || b != b) return a != a && (b == b || a_at < b_at);
    return a > b || (a == b && a_at < b_at);
}

/* Return the first position among the best of the maxima of all lanes; lane j of vector v has the
 * maximum top[v][j] at position at[v][j] + j. */
#if defined(__AVX512F__)
static inline Index best_of_lanes(const Floats *top, const Offsets *at, int vectors) {
    const __m512i ramp = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    __m512 largest = top[0];
    __m512i first = _mm512_set1_epi32(INT32_MAX);
    __mmask16 nan = 0;
    for (int v = 0; v < vectors; v++) {
        nan |= _mm512_cmp_ps_mask(top[v], top[v], _CMP_UNORD_Q);
        largest = _mm512_max_ps(largest, top[v]);
    }
    largest = _mm512_set1_ps(_mm512_reduce_max_ps(largest));
    for (int v = 0; v < vectors; v++) {
        const __mmask16 best = nan ? _mm512_cmp_ps_mask(top[v], top[v], _CMP_UNORD_Q)
                                   : _mm512_cmp_ps_mask(top[v], largest, _CMP_EQ_OQ);
        first = _mm512_mask_min_epi32(first, best, first, _mm512_add_epi32(at[v], ramp));
    }
    return _mm512_reduce_min_epi32(first);
}
#else
static inline Index best_of_lanes(const Floats *top, const Offsets *at, int vectors) {
    Index best = at[0][0];
    float value = top[0][0];
    for (int v = 0; v < vectors; v++)
        for (Index j = 0; j < FLOATS; j++)
            if (wins(top[v][j], at[v][j] + j, value, best)) value = top[v][j], best = at[v][j] + j;
    return best;
}
#endif

/* Return the position of the first maximum, or of the first NaN, of a run of float32. */
static Index position_of_maximum(const float *run, Index count) {
    Index i = 1, best = 0;
    if (count >= FLOATS) {
        const int vectors = count >= 16 * FLOATS ? 4 : 1;
        Floats top[4];
        Offsets at[4];
        for (int v = 0; v < vectors; v++) {
            top[v] = load_floats(run + v * FLOATS, FLOATS);
            at[v] = all_offsets(v * FLOATS);
        }
        i = vectors * FLOATS;
        if (vectors == 4)
            for (; i + 4 * FLOATS <= count; i += 4 * FLOATS) UNROLL for (int v = 0; v < 4; v++)
                    take_larger(&top[v], &at[v], load_floats(run + i + v * FLOATS, FLOATS),
                                all_offsets((int32_t)(i + v * FLOATS)));
        for (; i + FLOATS <= count; i += FLOATS)
            take_larger(&top[0], &at[0], load_floats(run + i, FLOATS), all_offsets((int32_t)i));
        best = best_of_lanes(top, at, vectors);
    }
    for (; i < count; i++)
        if (wins(run[i], i, run[best], best)) best = i;
    return best;
}

/* Set `count` elements from `to` on to one element. Stores have a constant size; the next one
 * overwrites the surplus of one, and there is no surplus behind `end`. */
static inline void fill_run(char *to, const char *end, const void *element, Index count,
                            Index bytes) {
    char line[64];
    const Index total = count * bytes;
    Index at = 0;
    for (Index i = 0; i < 64; i += bytes) memcpy(line + i, element, (size_t)bytes);
    for (; at < total && end - (to + at) >= 64; at += 64) memcpy(to + at, line, 64);
    for (; at < total; at += bytes) memcpy(to + at, element, (size_t)bytes);
}

static inline void fill_runs(char *to, const char *elements, Index runs, Index count,
                             Index bytes) {
    const char *end = to + runs * count * bytes;
    for (Index i = 0; i < runs; i++, to += count * bytes, elements += bytes) {
        if (bytes == 4)
            fill_run(to, end, elements, count, 4);
        else if (bytes == 8)
            fill_run(to, end, elements, count, 8);
        else
            fill_run(to, end, elements, count, 2);
    }
}

#endif
#else /* the template */

#define EIGHT(x) __builtin_convertvector(*(const NAMED(Eight) *)(x), Eight)

/* Add a run of numbers to a total. */
static void NAMED(add_run)(Total *total, const T *run, Index count) {
    while (count > 0) {
        const Index n = smaller(count, SUM_BLOCK);
        Eight a = {0}, b = {0};
        double rest = 0;
        Index i = 0;
        for (; i + 16 <= n; i += 16) a += EIGHT(run + i), b += EIGHT(run + i + 8);
        if (i + 8 <= n) a += EIGHT(run + i), i += 8;
        for (; i < n; i++) rest += (double)run[i];
        a += b;
        add_to_total(total, sum_of_eight(&a) + rest);
        run += n, count -= n;
    }
}
#undef EIGHT

#endif
