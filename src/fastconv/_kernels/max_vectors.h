/* The maxima of float32 in registers: a vector of maxima stays there while all taps are compared
 * with it. One tap after the other over rows in L1, as for other types, took 2 to 3 times as long,
 * because each tap loaded and stored all maxima and offsets again. */
#ifndef FASTCONV_MAX_VECTORS_H
#define FASTCONV_MAX_VECTORS_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "vectors.h"
#include "window.h"

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

/* What maxima start from. */
typedef enum {
    FROM_FIRST_TAP, /* The first of the taps. */
    FROM_LOWEST,    /* The lowest value, and the offset of the first tap that is no padding. */
    FROM_BEST,      /* The maxima of the taps before. */
} MaxStart;

enum { FLOATS = VECTOR_BYTES / 4 };

/* Loads and stores touch the first n lanes. Those without AVX-512 need n >= FLOATS. `take_larger`
 * replaces `top` where `value` is larger or the first NaN, and there sets `at` to `offset`. */
#if defined(__AVX512F__)
typedef __m512 Floats;
typedef __m512i Offsets;

ALWAYS_INLINE __mmask16 first_lanes(Index n) {
    return n >= FLOATS ? 0xffff : n <= 0 ? 0 : (__mmask16)((1u << n) - 1);
}
ALWAYS_INLINE Floats load_floats(const void *from, Index n) {
    return _mm512_maskz_loadu_ps(first_lanes(n), from);
}
ALWAYS_INLINE void store_floats(void *to, Floats x, Index n) {
    _mm512_mask_storeu_ps(to, first_lanes(n), x);
}
ALWAYS_INLINE Offsets load_offsets(const int32_t *from, Index n) {
    return _mm512_maskz_loadu_epi32(first_lanes(n), from);
}
ALWAYS_INLINE void store_offsets_of(int32_t *to, Offsets x, Index n) {
    _mm512_mask_storeu_epi32(to, first_lanes(n), x);
}
ALWAYS_INLINE Floats all_floats(float x) { return _mm512_set1_ps(x); }
ALWAYS_INLINE Offsets all_offsets(int32_t x) { return _mm512_set1_epi32(x); }
ALWAYS_INLINE void take_larger(Floats *top, Offsets *at, Floats value, Offsets offset) {
    __mmask16 taken = _mm512_cmp_ps_mask(*top, *top, _CMP_ORD_Q);
    taken = _mm512_mask_cmp_ps_mask(taken, value, *top, _CMP_NLE_UQ);
    *top = _mm512_mask_mov_ps(*top, taken, value);
    *at = _mm512_mask_mov_epi32(*at, taken, offset);
}
#else
typedef Vec_float Floats;
typedef Mask_float Offsets;

ALWAYS_INLINE Floats load_floats(const void *from, Index n) {
    (void)n;
    return *(const Loose_float *)from;
}
ALWAYS_INLINE void store_floats(void *to, Floats x, Index n) {
    (void)n;
    *(Loose_float *)to = x;
}
ALWAYS_INLINE Offsets load_offsets(const int32_t *from, Index n) {
    Offsets offsets;
    (void)n;
    memcpy(&offsets, from, sizeof offsets);
    return offsets;
}
ALWAYS_INLINE void store_offsets_of(int32_t *to, Offsets x, Index n) {
    (void)n;
    memcpy(to, &x, sizeof x);
}
ALWAYS_INLINE Floats all_floats(float x) { return (Floats){0} + x; }
ALWAYS_INLINE Offsets all_offsets(int32_t x) { return (Offsets){0} + x; }
ALWAYS_INLINE void take_larger(Floats *top, Offsets *at, Floats value, Offsets offset) {
    const Offsets taken = ~(value <= *top) & (*top == *top);
    *top = (Floats)((taken & (Offsets)value) | (~taken & (Offsets)*top));
    *at = (taken & offset) | (~taken & *at);
}
#endif

/* Compute `vectors` vectors of windows from window i on, of which n windows count. */
ALWAYS_INLINE void max_block(float *best, int32_t *index, const char *const *taps,
                             const Index *offsets, Index n_taps, Index i, Index n, MaxStart start,
                             const int vectors, const int keep) {
    const Index first = i * (Index)sizeof(float), step = VECTOR_BYTES;
    const Index before = start == FROM_FIRST_TAP;
    Floats top[4];
    Offsets at[4];
    UNROLL for (int v = 0; v < vectors; v++) {
        at[v] = all_offsets(0);
        if (before) {
            top[v] = load_floats(taps[0] + first + v * step, n - v * FLOATS);
            if (keep) at[v] = all_offsets((int32_t)offsets[0]);
            continue;
        }
        top[v] = start == FROM_LOWEST ? all_floats(-INFINITY)
                                      : load_floats((char *)best + first + v * step, n - v * FLOATS);
        if (keep) at[v] = load_offsets(index + i + v * FLOATS, n - v * FLOATS);
    }
    for (Index t = before; t < n_taps; t++) {
        const char *tap = taps[t] + first;
        const Offsets offset = all_offsets(keep ? (int32_t)offsets[t] : 0);
        UNROLL for (int v = 0; v < vectors; v++)
            take_larger(&top[v], &at[v], load_floats(tap + v * step, n - v * FLOATS), offset);
    }
    UNROLL for (int v = 0; v < vectors; v++) {
        store_floats((char *)best + first + v * step, top[v], n - v * FLOATS);
        if (keep) store_offsets_of(index + i + v * FLOATS, at[v], n - v * FLOATS);
    }
}

/* See MaxTaps in maximum.h. There must be FEWEST_FLOATS windows. */
ALWAYS_INLINE void max_in_vectors(float *best, int32_t *index, const char *const *taps,
                                  const Index *offsets, Index n_taps, Index count, MaxStart start,
                                  const int keep) {
    Index i = 0, n;
    for (; i + 4 * FLOATS <= count; i += 4 * FLOATS)
        max_block(best, index, taps, offsets, n_taps, i, 4 * FLOATS, start, 4, keep);
#if !defined(__AVX512F__)
    for (; i + FLOATS <= count; i += FLOATS)
        max_block(best, index, taps, offsets, n_taps, i, FLOATS, start, 1, keep);
    if (i < count) i = count - FLOATS; /* A maximum that is computed twice is the same. */
#endif
    n = count - i;
    if (n > 2 * FLOATS)
        max_block(best, index, taps, offsets, n_taps, i, n, start, 4, keep);
    else if (n > FLOATS)
        max_block(best, index, taps, offsets, n_taps, i, n, start, 2, keep);
    else if (n > 0)
        max_block(best, index, taps, offsets, n_taps, i, n, start, 1, keep);
}

/* The number of windows from which on vectors are used. */
#if defined(__AVX512F__)
enum { FEWEST_FLOATS = 1 };
#else
enum { FEWEST_FLOATS = FLOATS };
#endif

#endif
