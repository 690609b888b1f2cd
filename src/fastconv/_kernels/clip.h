/* Vectors clipped to two bounds. This file is a template (see number.h).
 *
 * NaN stays NaN, because x86's minimum and maximum return their second operand if one is NaN. These
 * instructions are called by name: compilers unroll a loop over lanes to scalars when it is inlined
 * into other functions, which takes twice the time.
 */
#ifndef T
#ifndef FASTCONV_CLIP_H
#define FASTCONV_CLIP_H

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "vectors.h"

#if defined(__AVX512F__)
#define CLIP_float(x, low, high) _mm512_min_ps(high, _mm512_max_ps(low, x))
#define CLIP_double(x, low, high) _mm512_min_pd(high, _mm512_max_pd(low, x))
#elif defined(__AVX2__)
#define CLIP_float(x, low, high) _mm256_min_ps(high, _mm256_max_ps(low, x))
#define CLIP_double(x, low, high) _mm256_min_pd(high, _mm256_max_pd(low, x))
#elif defined(__SSE2__)
#define CLIP_float(x, low, high) _mm_min_ps(high, _mm_max_ps(low, x))
#define CLIP_double(x, low, high) _mm_min_pd(high, _mm_max_pd(low, x))
#else
#define CLIP_float(x, low, high) clip_lanes_float(x, low, high)
#define CLIP_double(x, low, high) clip_lanes_double(x, low, high)
#endif

#define TEMPLATE "clip.h"
#include "number.h"

#endif
#else /* the template */

ALWAYS_INLINE NAMED(Vec) NAMED(all)(double x) { return (NAMED(Vec)){0} + (T)x; }

ALWAYS_INLINE NAMED(Vec) NAMED(select)(NAMED(Mask) which, NAMED(Vec) yes, NAMED(Vec) no) {
    return (NAMED(Vec))(((NAMED(Mask))yes & which) | ((NAMED(Mask))no & ~which));
}

ALWAYS_INLINE NAMED(Vec) NAMED(clip_lanes)(NAMED(Vec) x, NAMED(Vec) low, NAMED(Vec) high) {
    x = NAMED(select)(x < low, low, x);
    return NAMED(select)(x > high, high, x);
}

ALWAYS_INLINE NAMED(Vec) NAMED(clip)(NAMED(Vec) x, NAMED(Vec) low, NAMED(Vec) high) {
    return NAMED(CLIP)(x, low, high);
}

#endif
