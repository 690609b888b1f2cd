/* Conversions between the buffers of pooling and the arrays of its callers. */
#ifndef FASTCONV_POOLING_H
#define FASTCONV_POOLING_H

#include <stdint.h>
#include <string.h>

#include "window.h"

/* Copy rows that lie `pitch` bytes apart to contiguous memory. Copies have a constant size; the
 * next copy overwrites the surplus of one, and there is no surplus at the end. */
static void store_rows(char *restrict to, const char *restrict from, Index rows, Index bytes,
                       Index pitch) {
    const char *end = to + rows * bytes;
    for (Index r = 0; r < rows; r++, to += bytes, from += pitch) {
        Index at = 0;
        for (; at < bytes && end - (to + at) >= 64; at += 64) memcpy(to + at, from + at, 64);
        if (at < bytes) memcpy(to + at, from + at, (size_t)(bytes - at));
    }
}

/* The indices of neighbouring outputs of max_pool2d. */
typedef struct {
    Index rows, columns;
    Index first;              /* The position of the first window's first tap in its plane. */
    Index row_stride, stride; /* Positions from one window to the next, along both axes. */
    Index pitch, to_pitch;    /* Elements from one row to the next: of offsets, and of indices. */
} Positions;

/* Write the position of each window's first tap plus the offset of the tap that is the maximum. */
#define STORE_INDICES(OFFSET)                                                           \
    for (Index r = 0; r < at.rows; r++, to += at.to_pitch, at.first += at.row_stride) { \
        Index position = at.first;                                                      \
        for (Index i = 0; i < at.columns; i++, position += at.stride)                   \
            to[i] = position + ((const OFFSET *)offsets)[r * at.pitch + i];             \
    }
static void store_indices(int64_t *restrict to, const void *restrict offsets, int wide,
                          Positions at) {
    if (wide)
        STORE_INDICES(int64_t)
    else
        STORE_INDICES(int32_t)
}
#undef STORE_INDICES

/* Set offsets[i] = base + firsts[i]. */
static inline void start_indices(void *offsets, int wide, Index base, const Index *firsts,
                                 Index count) {
    if (wide)
        for (Index i = 0; i < count; i++) ((int64_t *)offsets)[i] = base + firsts[i];
    else
        for (Index i = 0; i < count; i++) ((int32_t *)offsets)[i] = (int32_t)(base + firsts[i]);
}

#endif
