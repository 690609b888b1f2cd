/* Loads and stores of some lanes of a vector, which touch no other memory. This file is a template (see
 * number.h).
 */
#ifndef T
#ifndef FASTCONV_LANES_H
#define FASTCONV_LANES_H

#include <stdint.h>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "vectors.h"

#if defined(__AVX512F__)
typedef __mmask16 Lanes_float;
typedef __mmask8 Lanes_double;
#define LOAD_LANES_float(lanes, from) _mm512_maskz_loadu_ps(lanes, from)
#define LOAD_LANES_double(lanes, from) _mm512_maskz_loadu_pd(lanes, from)
#define KEEP_LANES_float(lanes, x) _mm512_maskz_mov_ps(lanes, x)
#define KEEP_LANES_double(lanes, x) _mm512_maskz_mov_pd(lanes, x)
#define STORE_LANES_float(to, lanes, x) _mm512_mask_storeu_ps(to, lanes, x)
#define STORE_LANES_double(to, lanes, x) _mm512_mask_storeu_pd(to, lanes, x)
#elif defined(__AVX2__)
typedef __m256i Lanes_float;
typedef __m256i Lanes_double;
#define LOAD_LANES_float(lanes, from) _mm256_maskload_ps(from, lanes)
#define LOAD_LANES_double(lanes, from) _mm256_maskload_pd(from, lanes)
#define KEEP_LANES_float(lanes, x) _mm256_and_ps((__m256)(lanes), x)
#define KEEP_LANES_double(lanes, x) _mm256_and_pd((__m256d)(lanes), x)
#define STORE_LANES_float(to, lanes, x) _mm256_maskstore_ps(to, lanes, x)
#define STORE_LANES_double(to, lanes, x) _mm256_maskstore_pd(to, lanes, x)
#endif

#define TEMPLATE "lanes.h"
#include "number.h"

#endif
#else /* the template */

#if defined(__AVX2__)
/* Return a mask of the lanes whose bits are set. */
ALWAYS_INLINE NAMED(Lanes) NAMED(lanes_of)(uint32_t bits) {
#if defined(__AVX512F__)
    return (NAMED(Lanes))bits;
#else
    NAMED(Mask) lanes;
    for (Index i = 0; i < LANES; i++) lanes[i] = bits >> i & 1 ? -1 : 0;
    return (NAMED(Lanes))lanes;
#endif
}

/* Return a mask of the first lanes. */
ALWAYS_INLINE NAMED(Lanes) NAMED(first_lanes)(Index count) {
    return NAMED(lanes_of)(count >= LANES ? ~0u : ((uint32_t)1 << larger(count, 0)) - 1);
}

/* Return a vector with zeros in all other lanes. */
ALWAYS_INLINE NAMED(Vec) NAMED(keep_lanes)(NAMED(Lanes) lanes, NAMED(Vec) x) {
    return (NAMED(Vec))NAMED(KEEP_LANES)(lanes, x);
}

ALWAYS_INLINE NAMED(Vec) NAMED(load_lanes)(NAMED(Lanes) lanes, const T *from) {
    return (NAMED(Vec))NAMED(LOAD_LANES)(lanes, from);
}

ALWAYS_INLINE void NAMED(store_lanes)(T *to, NAMED(Lanes) lanes, NAMED(Vec) x) {
    NAMED(STORE_LANES)(to, lanes, x);
}
#endif

/* Load the first numbers of a vector, and zeros behind them. */
ALWAYS_INLINE NAMED(Vec) NAMED(load_some)(const T *from, Index count) {
#if defined(__AVX2__)
    return NAMED(load_lanes)(NAMED(first_lanes)(count), from);
#else
    NAMED(Vec) x = {0};
    for (Index i = 0; i < smaller(count, LANES); i++) x[i] = from[i];
    return x;
#endif
}

/* Store the first numbers of a vector. */
ALWAYS_INLINE void NAMED(store_some)(T *to, NAMED(Vec) x, Index count) {
#if defined(__AVX2__)
    NAMED(store_lanes)(to, NAMED(first_lanes)(count), x);
#else
    for (Index i = 0; i < smaller(count, LANES); i++) to[i] = x[i];
#endif
}

#endif
