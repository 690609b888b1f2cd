/* The inner loop of im2col: it copies the taps of output pixels. */
#ifndef FASTCONV_COLUMNS_H
#define FASTCONV_COLUMNS_H

#include <stdint.h>
#include <string.h>

#include "window.h"

/* copy_pixels reads and writes up to this many bytes beyond its last byte. */
enum { OVERRUN_BYTES = 64 };

/* The layout of the windows that copy_pixels copies; strides are in bytes. */
typedef struct {
    Index channels, channel_stride;
    Index rows, row_stride; /* The rows of a window. */
    Index bytes;            /* The length of a row of a window. */
    Index pixel_stride;     /* The distance from a window to the next. */
} WindowLayout;

/* Copy the rows of windows one after the other. Each copy has the constant size CHUNK >= bytes, so
 * that the compiler makes it a few instructions; the next copy overwrites the surplus. */
#define COPY_ROWS(CHUNK)                                                          \
    for (Index pixel = 0; pixel < pixels; pixel++, from += windows->pixel_stride) \
        for (Index c = 0; c < windows->channels; c++)                             \
            for (Index kh = 0; kh < rows; kh++, to += bytes)                      \
                memcpy(to, from + c * windows->channel_stride + kh * windows->row_stride, CHUNK)

static inline void copy_rows(char *restrict to, const char *restrict from, Index pixels,
                             const WindowLayout *restrict windows, Index rows) {
    Index bytes = windows->bytes;
    if (bytes == 1)
        COPY_ROWS(1);
    else if (bytes == 2)
        COPY_ROWS(2);
    else if (bytes <= 4)
        COPY_ROWS(4);
    else if (bytes <= 8)
        COPY_ROWS(8);
    else if (bytes <= 16)
        COPY_ROWS(16);
    else if (bytes <= 32)
        COPY_ROWS(32);
    else if (bytes <= 64)
        COPY_ROWS(64);
    else
        COPY_ROWS((size_t)bytes);
}
#undef COPY_ROWS

/* Copy the windows of adjacent output pixels, each channel by channel. For the common sizes of
 * windows this is several times as fast if the compiler knows the number of rows. */
static void copy_pixels(char *restrict to, const char *restrict from, Index pixels,
                        const WindowLayout *restrict windows) {
    switch (windows->rows) {
        case 2: copy_rows(to, from, pixels, windows, 2); break;
        case 3: copy_rows(to, from, pixels, windows, 3); break;
        case 5: copy_rows(to, from, pixels, windows, 5); break;
        case 7: copy_rows(to, from, pixels, windows, 7); break;
        default: copy_rows(to, from, pixels, windows, windows->rows);
    }
}

#endif
