/* Copying the taps of an output pixel, the inner loop of im2col. */
#ifndef FASTCONV_COLUMNS_H
#define FASTCONV_COLUMNS_H

#include <stdint.h>
#include <string.h>

#include "window.h"


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

/* The windows of one output pixel, channel by channel. That the number of rows is known to the
 * compiler is worth a factor for the common sizes. */
static inline void copy_taps(char *restrict to, const char *restrict from, Index channels,
                             Index channel_stride, Index kernel_h, Index row_stride,
                             Index bytes) {
    switch (kernel_h) {
        case 2: copy_segments(to, from, channels, channel_stride, 2, row_stride, bytes); break;
        case 3: copy_segments(to, from, channels, channel_stride, 3, row_stride, bytes); break;
        case 5: copy_segments(to, from, channels, channel_stride, 5, row_stride, bytes); break;
        case 7: copy_segments(to, from, channels, channel_stride, 7, row_stride, bytes); break;
        default:
            copy_segments(to, from, channels, channel_stride, kernel_h, row_stride, bytes);
    }
}

#endif
