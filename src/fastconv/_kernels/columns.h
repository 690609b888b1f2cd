/* Copying the taps of an output pixel, the inner loop of im2col. */
#ifndef FASTCONV_COLUMNS_H
#define FASTCONV_COLUMNS_H

#include <stdint.h>
#include <string.h>

#include "window.h"

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

enum { OVERRUN_BYTES = 64 }; /* how far copy_taps reads and writes beyond its last byte */

/* Copy the rows of a window, of `bytes`, one behind the other, in pieces of constant size CHUNK >=
 * bytes: each overruns into what the next copy overwrites. */
#define COPY_SEGMENTS(CHUNK)                                         \
    do {                                                             \
        for (Index c = 0; c < channels; c++, from += channel_stride) \
            for (Index kh = 0; kh < kernel_h; kh++, to += bytes)     \
                memcpy(to, from + kh * row_stride, CHUNK);           \
    } while (0)

static inline void copy_segments(char *restrict to, const char *restrict from, Index channels,
                                 Index channel_stride, Index kernel_h, Index row_stride,
                                 Index bytes) {
    if (bytes == 1) COPY_SEGMENTS(1);
    else if (bytes == 2) COPY_SEGMENTS(2);
    else if (bytes <= 4) COPY_SEGMENTS(4);
    else if (bytes <= 8) COPY_SEGMENTS(8);
    else if (bytes <= 16) COPY_SEGMENTS(16);
    else if (bytes <= 32) COPY_SEGMENTS(32);
    else if (bytes <= 64) COPY_SEGMENTS(64);
    else COPY_SEGMENTS((size_t)bytes);
}
#undef COPY_SEGMENTS

#if defined(__AVX512F__)
/* Windows of 2 to 4 rows of up to 16 bytes, in units of 4: the rows go to the quarters of a
 * register, one permutation closes their ranks, one store writes them (3x3 float32: 2.3 times as
 * fast as nine short copies). */
static inline void copy_windows(char *restrict to, const char *restrict from, Index channels,
                                Index channel_stride, Index kernel_h, Index row_stride,
                                Index bytes) {
    static const int32_t closed_ranks[4][16] = {
        {0, 4, 8, 12},
        {0, 1, 4, 5, 8, 9, 12, 13},
        {0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14},
        {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
    };
    __m512i ranks = _mm512_loadu_si512(closed_ranks[bytes / 4 - 1]), window;
    for (Index c = 0; c < channels; c++, from += channel_stride, to += kernel_h * bytes) {
#define ROW(KH) _mm_loadu_si128((const __m128i *)(from + (KH) * row_stride))
        window = _mm512_inserti32x4(_mm512_castsi128_si512(ROW(0)), ROW(1), 1);
        if (kernel_h > 2) window = _mm512_inserti32x4(window, ROW(2), 2);
        if (kernel_h > 3) window = _mm512_inserti32x4(window, ROW(3), 3);
#undef ROW
        _mm512_storeu_si512(to, _mm512_permutexvar_epi32(ranks, window));
    }
}
#endif

/* Fetch the next lines of every period-th channel's window, from the first on: called for adjacent
 * pixels with first = 0, 1, ... it fetches every line once. */
static inline void prefetch_windows(const char *from, Index first, Index period, Index channels,
                                    Index channel_stride, Index kernel_h, Index row_stride) {
    for (Index c = first; c < channels; c += period)
        for (Index kh = 0; kh < kernel_h; kh++)
            __builtin_prefetch(from + c * channel_stride + kh * row_stride + 128);
}

static inline void copy_taps(char *restrict to, const char *restrict from, Index channels,
                             Index channel_stride, Index kernel_h, Index row_stride,
                             Index bytes) {
#if defined(__AVX512F__)
    if (bytes <= 16 && bytes % 4 == 0 && kernel_h >= 2 && kernel_h <= 4) {
        if (kernel_h == 2) copy_windows(to, from, channels, channel_stride, 2, row_stride, bytes);
        if (kernel_h == 3) copy_windows(to, from, channels, channel_stride, 3, row_stride, bytes);
        if (kernel_h == 4) copy_windows(to, from, channels, channel_stride, 4, row_stride, bytes);
        return;
    }
#endif
    copy_segments(to, from, channels, channel_stride, kernel_h, row_stride, bytes);
}

#endif
