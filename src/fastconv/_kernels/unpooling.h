/* Indices of any type, and values that are put at them. */
#ifndef FASTCONV_UNPOOLING_H
#define FASTCONV_UNPOOLING_H

#include <stdint.h>

#include "window.h"

/* Convert a row of integers of any type to int64; larger unsigned values become negative. */
#define WIDEN(TYPE) \
    for (Index i = 0; i < count; i++) to[i] = (int64_t)((const TYPE *)from)[i]
static void widen_row(int64_t *restrict to, const void *restrict from, int is_unsigned, Index bytes,
                      Index count) {
    switch (bytes) {
        case 1:
            if (is_unsigned)
                WIDEN(uint8_t);
            else
                WIDEN(int8_t);
            break;
        case 2:
            if (is_unsigned)
                WIDEN(uint16_t);
            else
                WIDEN(int16_t);
            break;
        case 4:
            if (is_unsigned)
                WIDEN(uint32_t);
            else
                WIDEN(int32_t);
            break;
        default: WIDEN(int64_t);
    }
}
#undef WIDEN

static inline int all_within(const int64_t *index, Index size, Index count) {
    uint64_t outside = 0;
    for (Index i = 0; i < count; i++) outside |= (uint64_t)((uint64_t)index[i] >= (uint64_t)size);
    return !outside;
}

/* Set to[at[i]] = from[i]; the last of several values for an index counts. The indices are checked
 * again, because another thread may have changed them after the first check. */
#define PUT(TYPE)                                  \
    for (Index i = 0; i < count; i++)              \
        if ((uint64_t)at[i] < (uint64_t)size) ((TYPE *)to)[at[i]] = ((const TYPE *)from)[i]
static void put_at(void *restrict to, const int64_t *restrict at, Index size,
                   const void *restrict from, Index bytes, Index count) {
    switch (bytes) {
        case 1: PUT(uint8_t); break;
        case 2: PUT(uint16_t); break;
        case 4: PUT(uint32_t); break;
        default: PUT(uint64_t);
    }
}
#undef PUT

#endif
