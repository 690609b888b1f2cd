/* The inner loops of max pooling: maxima of a row of windows, tap by tap.
 *
 * These are plain loops over rows in L1. Compilers vectorise them, and they are the same for every
 * dtype and CPU level. The first NaN of a window is its maximum. This file includes itself once per
 * type.
 */
#ifndef T
#ifndef FASTCONV_MAXIMUM_H
#define FASTCONV_MAXIMUM_H

#include <math.h>
#include <stdint.h>

#include "window.h"

/* For each tap t in turn, set best[i] to the larger of best[i] and taps[t][i]. Where that is tap t,
 * set index[i] = offsets[t]. */
typedef void (*MaxTaps)(void *best, void *index, const char *const *taps, const Index *offsets,
                        Index n_taps, Index count);

typedef struct {
    MaxTaps values;       /* This function does not use index. */
    MaxTaps indexed;      /* Here index contains int32_t. */
    MaxTaps indexed_wide; /* Here index contains int64_t. */
    const void *lowest;   /* The lowest value of the type, which padding has. */
} Maximum;

#define MAXIMUM_JOIN_(a, b) a##_##b
#define MAXIMUM_JOIN(a, b) MAXIMUM_JOIN_(a, b)
#define NAMED(name) MAXIMUM_JOIN(name, T)

#define T float
#define LOWEST -INFINITY
#include "maximum.h"
#define T double
#define LOWEST -INFINITY
#include "maximum.h"
#define T int8_t
#define LOWEST INT8_MIN
#include "maximum.h"
#define T int16_t
#define LOWEST INT16_MIN
#include "maximum.h"
#define T int32_t
#define LOWEST INT32_MIN
#include "maximum.h"
#define T int64_t
#define LOWEST INT64_MIN
#include "maximum.h"
#define T uint8_t
#define LOWEST 0
#include "maximum.h"
#define T uint16_t
#define LOWEST 0
#include "maximum.h"
#define T uint32_t
#define LOWEST 0
#include "maximum.h"
#define T uint64_t
#define LOWEST 0
#include "maximum.h"
#undef NAMED

/* Return the functions for NumPy's `kind` ('f', 'i' or 'u') of numbers of this size. */
static const Maximum *maximum_of(char kind, Index bytes) {
    static const Maximum *const integers[2][4] = {
        {&maximum_int8_t, &maximum_int16_t, &maximum_int32_t, &maximum_int64_t},
        {&maximum_uint8_t, &maximum_uint16_t, &maximum_uint32_t, &maximum_uint64_t},
    };
    if (kind == 'f') return bytes == 4 ? &maximum_float : &maximum_double;
    return integers[kind == 'u'][bytes == 1 ? 0 : bytes == 2 ? 1 : bytes == 4 ? 2 : 3];
}

#endif
#else /* the template */

#define MAX_TAPS(NAME, INDEX, KEEP_INDEX)                                             \
    static void NAMED(NAME)(void *best_row, void *index_row, const char *const *taps, \
                            const Index *offsets, Index n_taps, Index count) {        \
        T *restrict best = (T *)best_row;                                             \
        INDEX *restrict index = (INDEX *)index_row;                                   \
        for (Index i = 0; i < count && count < FEW; i++) {                            \
            T top = best[i];                                                          \
            for (Index t = 0; t < n_taps; t++) {                                      \
                T value = ((const T *)taps[t])[i];                                    \
                if (!(value <= top) & (top == top)) {                                 \
                    top = value;                                                      \
                    if (KEEP_INDEX) index[i] = (INDEX)offsets[t];                     \
                }                                                                     \
            }                                                                         \
            best[i] = top;                                                            \
        }                                                                             \
        for (Index t = 0; t < n_taps && count >= FEW; t++) {                          \
            const T *restrict tap = (const T *)taps[t];                               \
            const INDEX offset = KEEP_INDEX ? (INDEX)offsets[t] : 0;                  \
            for (Index i = 0; i < count; i++) {                                       \
                T value = tap[i], old = best[i];                                      \
                int take = !(value <= old) & (old == old);                            \
                best[i] = take ? value : old;                                         \
                if (KEEP_INDEX) index[i] = take ? offset : index[i];                  \
            }                                                                         \
        }                                                                             \
    }

MAX_TAPS(max_values, int32_t, 0)
MAX_TAPS(max_indexed, int32_t, 1)
MAX_TAPS(max_indexed_wide, int64_t, 1)
#undef MAX_TAPS

static const T NAMED(lowest) = LOWEST;
static const Maximum NAMED(maximum) = {NAMED(max_values), NAMED(max_indexed),
                                       NAMED(max_indexed_wide), &NAMED(lowest)};
#undef LOWEST
#undef T

#endif
