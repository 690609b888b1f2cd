/* Register tiles for short sums of many pixels: the first layers of networks.
 *
 * A layer of three channels has sums of 27 or 147 terms. Where lanes are filters (tile.c), transposing
 * the sums and copying them to their rows then takes as long as the sums themselves. Here lanes are
 * pixels: a step multiplies the broadcast weights of several filters with several vectors of pixels,
 * and the sums are written from registers. With AVX-512 and NEON, 8 filters x 3 vectors and 3 vectors of pixels
 * use 28 of 32 registers, and a step has 24 multiply-adds for 11 loads. With AVX2, 4 filters use all 16
 * registers. A sum has the same terms in the same order as in tile.c.
 */
#ifndef T

#include "strip.h"
#include "clip.h"
#include "lanes.h"

enum {
#if VECTOR_REGISTERS == 32
    STRIP_FILTERS = 8,
#elif defined(__AVX2__)
    STRIP_FILTERS = 4,
#else
    STRIP_FILTERS = 2,
#endif
    STRIP_VECTORS = 3,
};

#define TEMPLATE "strip.c"
#include "number.h"

#else /* the template */

/* Write an aligned vector past the caches. */
ALWAYS_INLINE void NAMED(stream_vector)(T *to, NAMED(Vec) x) {
#if defined(__AVX512F__)
    _mm512_stream_si512((void *)to, (__m512i)x);
#elif defined(__AVX2__)
    _mm256_stream_si256((__m256i *)(void *)to, (__m256i)x);
#elif defined(__SSE2__)
    _mm_stream_si128((__m128i *)(void *)to, (__m128i)x);
#else
    *(NAMED(Vec) *)to = x;
#endif
}

/* Finish and write the outputs of V vectors of one filter. */
ALWAYS_INLINE void NAMED(write_strip)(const Strip *strip, Index at, Index left, NAMED(Vec) *sums,
                                      const int V) {
    T *to = (T *)strip->to + at;
    const T *residual = strip->residual ? (const T *)strip->residual + at : NULL;
    UNROLL for (int v = 0; v < V; v++) {
        const Index count = left - v * LANES;
        if (residual) sums[v] += NAMED(load_some)(residual + v * LANES, count);
        if (strip->clips)
            sums[v] = NAMED(clip)(sums[v], NAMED(all)(strip->low), NAMED(all)(strip->high));
        if (strip->past_caches)
            NAMED(stream_vector)(to + v * LANES, sums[v]);
        else if (count >= LANES)
            *(NAMED(Loose) *)(to + v * LANES) = sums[v];
        else
            NAMED(store_some)(to + v * LANES, sums[v], count);
    }
}

/* Compute V vectors of outputs from x on, of STRIP_FILTERS filters from f on. */
ALWAYS_INLINE void NAMED(strip_of)(const Strip *strip, Index f, Index x, const int V) {
    const T *restrict packed = (const T *)strip->packed + f;
    const T *restrict source = (const T *)strip->source + x;
    const T *start = (const T *)strip->start + f;
    const int32_t *restrict offsets = strip->offsets;
    const Index steps = strip->steps, lanes = strip->lanes, filters = strip->filters - f;
    NAMED(Vec) sums[STRIP_FILTERS][STRIP_VECTORS];
    UNROLL for (int i = 0; i < STRIP_FILTERS; i++)
        UNROLL for (int v = 0; v < V; v++) sums[i][v] = (NAMED(Vec)){0};
    for (Index k = 0; k < steps; k++, packed += lanes) {
        NAMED(Vec) pixels[STRIP_VECTORS];
        UNROLL for (int v = 0; v < V; v++)
            pixels[v] = *(const NAMED(Loose) *)(source + offsets[k] + v * LANES);
        UNROLL for (int i = 0; i < STRIP_FILTERS; i++)
            UNROLL for (int v = 0; v < V; v++) sums[i][v] += packed[i] * pixels[v];
    }
    UNROLL for (int i = 0; i < STRIP_FILTERS; i++)
        if (i < filters) {
            UNROLL for (int v = 0; v < V; v++) sums[i][v] += start[i];
            NAMED(write_strip)(strip, (f + i) * strip->pitch + x, strip->pixels - x, sums[i], V);
        }
}

static void NAMED(multiply_strip)(const Strip *strip) {
    const Index vectors = ceil_div(strip->pixels, LANES);
    const Index pieces = ceil_div(vectors, STRIP_VECTORS);
    Index first = 0;
    for (Index piece = 1; piece <= pieces; piece++) {
        const Index end = piece * vectors / pieces;
        for (Index f = 0; f < strip->filters; f += STRIP_FILTERS) {
            if (end - first == STRIP_VECTORS)
                NAMED(strip_of)(strip, f, first * LANES, STRIP_VECTORS);
            else if (end - first == 2)
                NAMED(strip_of)(strip, f, first * LANES, 2);
            else
                NAMED(strip_of)(strip, f, first * LANES, 1);
        }
        first = end;
    }
}

#endif
