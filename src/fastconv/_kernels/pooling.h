/* Small conversions between what pooling computes in and what arrays hold. */
#ifndef FASTCONV_POOLING_H
#define FASTCONV_POOLING_H

#include <stdint.h>
#include <string.h>

#include "window.h"

/* A row of max_pool2d's indices: the position of a window's first tap plus the taken offset. */
static inline void store_indices(int64_t *to, const void *offsets, int wide, Index first,
                                 Index step, Index count) {
    if (wide)
        for (Index i = 0; i < count; i++) to[i] = first + i * step + ((const int64_t *)offsets)[i];
    else
        for (Index i = 0; i < count; i++) to[i] = first + i * step + ((const int32_t *)offsets)[i];
}

/* offsets[i] = base + firsts[i] */
static inline void start_indices(void *offsets, int wide, Index base, const Index *firsts,
                                 Index count) {
    if (wide)
        for (Index i = 0; i < count; i++) ((int64_t *)offsets)[i] = base + firsts[i];
    else
        for (Index i = 0; i < count; i++) ((int32_t *)offsets)[i] = (int32_t)(base + firsts[i]);
}

/* A row of integers of any type as int64; unsigned values beyond it become negative. */
#define WIDEN(TYPE) \
    for (Index i = 0; i < count; i++) to[i] = (int64_t)((const TYPE *)from)[i]
static void widen_row(int64_t *restrict to, const void *restrict from, int is_unsigned,
                      Index bytes, Index count) {
    switch (bytes) {
        case 1: if (is_unsigned) WIDEN(uint8_t); else WIDEN(int8_t); break;
        case 2: if (is_unsigned) WIDEN(uint16_t); else WIDEN(int16_t); break;
        case 4: if (is_unsigned) WIDEN(uint32_t); else WIDEN(int32_t); break;
        default: WIDEN(int64_t);
    }
}
#undef WIDEN

static inline int all_within(const int64_t *index, Index size, Index count) {
    uint64_t outside = 0;
    for (Index i = 0; i < count; i++) outside |= (uint64_t)((uint64_t)index[i] >= (uint64_t)size);
    return !outside;
}

/* to[at[i]] = from[i]: the last of several wins. */
#define PUT(TYPE) \
    for (Index i = 0; i < count; i++) ((TYPE *)to)[at[i]] = ((const TYPE *)from)[i]
static void put_at(void *restrict to, const int64_t *restrict at, const void *restrict from,
                   Index bytes, Index count) {
    switch (bytes) {
        case 1: PUT(uint8_t); break;
        case 2: PUT(uint16_t); break;
        case 4: PUT(uint32_t); break;
        default: PUT(uint64_t);
    }
}
#undef PUT

#endif
