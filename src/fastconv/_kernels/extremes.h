/* Maxima and minima of all windows of `size` neighbours, along columns and along rows.
 *
 * A window along a row (`line`) grows from pass to pass: an element of a pass combines four of the
 * pass before, so that the number of passes is the logarithm of the size. A window along columns
 * (`rows`) is put together from the end of one block of `size` rows and the beginning of the next
 * (van Herk 1992, Gil and Werman 1993), which takes three operations whatever the size.
 *
 * Operands are always combined in the order in which they lie in the window. Then results do not
 * depend on how a filter is cut into blocks, also where equal numbers differ (0.0 and -0.0): the
 * result is the last of the largest numbers or, if there is one, the first NaN.
 * This file is a template (see number.h).
 */
#ifndef T
#ifndef FASTCONV_EXTREMES_H
#define FASTCONV_EXTREMES_H

#include <stdint.h>
#include <string.h>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "number.h"
#include "vectors.h"
#include "window.h"

/* What is compared: `size` rows, or `size` elements of a row that lie `step` apart. */
typedef struct {
    Index size, step;
} Neighbours;

/* Functions for maxima, and those for minima. Results overlap no source. The first two are the
 * callbacks of separable.pxd, with Neighbours as the filter; `line` needs extreme_line_stage bytes. */
typedef struct {
    void (*rows)(const void *filter, char *to, Index pitch, const char *const *rows, Index outs,
                 Index count, char *stage);
    void (*line)(const void *filter, char *to, const char *line, Index count, char *stage);
    /* Set to[x] to the larger of line[x] and line[x + distance]. */
    void (*pairs)(char *to, const char *line, Index distance, Index count);
    /* Set to[x] to the largest of taps[0 .. n - 1][x]. */
    void (*taps)(char *to, const char *const *taps, Index n, Index count);
} Extreme;

static inline Index extreme_line_stage(Index size, Index step, Index count, Index bytes) {
    return 2 * (count + size * step) * bytes;
}

/* The larger or the smaller one of two numbers, and a if it is a NaN. Comparisons with a NaN are
 * false, so that the result is b, too, if that is one. */
#define LARGER(a, b) ((((a) > (b)) | ((a) != (a))) ? (a) : (b))
#define LESS(a, b) ((((a) < (b)) | ((a) != (a))) ? (a) : (b))

/* Define max_lanes and min_lanes, which do so with all lanes of vectors. */
#define COMPARED(T, NAME, COMPARE)                                                 \
    ALWAYS_INLINE Vec_##T NAME##_##T(Vec_##T a, Vec_##T b) {                       \
        const Mask_##T take = (Mask_##T)(a COMPARE b) | (Mask_##T)(a != a);        \
        return (Vec_##T)((take & (Mask_##T)a) | (~take & (Mask_##T)b));            \
    }
#define BY_COMPARISON(T) COMPARED(T, max_lanes, >) COMPARED(T, min_lanes, <)
#define INSTRUCTION(T, NAME, INTRINSIC, TYPE)                                      \
    ALWAYS_INLINE Vec_##T NAME##_##T(Vec_##T a, Vec_##T b) {                       \
        return (Vec_##T)INTRINSIC((TYPE)a, (TYPE)b);                               \
    }
#define BY_INSTRUCTION(T, PREFIX, SUFFIX, TYPE)               \
    INSTRUCTION(T, max_lanes, PREFIX##_max_##SUFFIX, TYPE)    \
    INSTRUCTION(T, min_lanes, PREFIX##_min_##SUFFIX, TYPE)

#if defined(__AVX512F__)
/* The instruction returns b if there is a NaN, so lanes in which a is one are left out. */
#define WITHOUT_NAN(T, NAME, OPERATION, SUFFIX)                                          \
    ALWAYS_INLINE Vec_##T NAME##_##T(Vec_##T a, Vec_##T b) {                             \
        return (Vec_##T)_mm512_mask_##OPERATION##_##SUFFIX(                              \
            a, _mm512_cmp_##SUFFIX##_mask(a, a, _CMP_ORD_Q), a, b);                      \
    }
WITHOUT_NAN(float, max_lanes, max, ps)
WITHOUT_NAN(float, min_lanes, min, ps)
WITHOUT_NAN(double, max_lanes, max, pd)
WITHOUT_NAN(double, min_lanes, min, pd)
BY_INSTRUCTION(int8_t, _mm512, epi8, __m512i)
BY_INSTRUCTION(uint8_t, _mm512, epu8, __m512i)
BY_INSTRUCTION(int16_t, _mm512, epi16, __m512i)
BY_INSTRUCTION(uint16_t, _mm512, epu16, __m512i)
BY_INSTRUCTION(int32_t, _mm512, epi32, __m512i)
BY_INSTRUCTION(uint32_t, _mm512, epu32, __m512i)
BY_INSTRUCTION(int64_t, _mm512, epi64, __m512i)
BY_INSTRUCTION(uint64_t, _mm512, epu64, __m512i)
#else
BY_COMPARISON(float)
BY_COMPARISON(double)
BY_COMPARISON(int64_t)
BY_COMPARISON(uint64_t)
#if defined(__AVX2__)
BY_INSTRUCTION(int8_t, _mm256, epi8, __m256i)
BY_INSTRUCTION(uint8_t, _mm256, epu8, __m256i)
BY_INSTRUCTION(int16_t, _mm256, epi16, __m256i)
BY_INSTRUCTION(uint16_t, _mm256, epu16, __m256i)
BY_INSTRUCTION(int32_t, _mm256, epi32, __m256i)
BY_INSTRUCTION(uint32_t, _mm256, epu32, __m256i)
#else
BY_COMPARISON(int8_t)
BY_COMPARISON(uint16_t)
BY_COMPARISON(int32_t)
BY_COMPARISON(uint32_t)
#if defined(__SSE2__)
BY_INSTRUCTION(uint8_t, _mm, epu8, __m128i)
BY_INSTRUCTION(int16_t, _mm, epi16, __m128i)
#else
BY_COMPARISON(uint8_t)
BY_COMPARISON(int16_t)
#endif
#endif
#endif

/* The vectors of neighbouring columns that are compared together, row by row. */
enum { VECTORS_TOGETHER = 4 };

#define TEMPLATE "extremes.h"
#define WITH_UNSIGNED
#define WITH_SIGNED
#include "number.h"

static inline const Extreme *extreme_of(Number number, int is_minimum) {
#define BOTH(T) {&maximum_##T, &minimum_##T}
    static const Extreme *const table[NUMBERS][2] = {
        [FLOAT32] = BOTH(float),   [FLOAT64] = BOTH(double),  [INT8] = BOTH(int8_t),
        [INT16] = BOTH(int16_t),   [INT32] = BOTH(int32_t),   [INT64] = BOTH(int64_t),
        [UINT8] = BOTH(uint8_t),   [UINT16] = BOTH(uint16_t), [UINT32] = BOTH(uint32_t),
        [UINT64] = BOTH(uint64_t),
    };
#undef BOTH
    return table[number][is_minimum];
}

#endif
#else /* the template */

#define V NAMED(Vec)
#define LOAD(from) ((V) * (const NAMED(Loose) *)(from))
#define STORE(to, x) (*(NAMED(Loose) *)(to) = (NAMED(Loose))(x))

#define EXTREME maximum
#define BEST LARGER
#define BEST_LANES NAMED(max_lanes)
#include "extreme_loops.h"
#undef EXTREME
#undef BEST
#undef BEST_LANES
#define EXTREME minimum
#define BEST LESS
#define BEST_LANES NAMED(min_lanes)
#include "extreme_loops.h"
#undef EXTREME
#undef BEST
#undef BEST_LANES

#undef V
#undef LOAD
#undef STORE

#endif
