/* The inner loops of max pooling: maxima of a row of windows, tap by tap.
 *
 * These are plain loops over rows in L1. Compilers vectorise them, and they are the same for every
 * dtype and CPU level; float32 has faster ones for many windows in max_vectors.h. The first NaN of a
 * window is its maximum. This file is a template (see number.h).
 */
#ifndef T
#ifndef FASTCONV_MAXIMUM_H
#define FASTCONV_MAXIMUM_H

#include <math.h>
#include <stdint.h>

#include "max_vectors.h"
#include "number.h"
#include "window.h"

/* For each tap t in turn, set best[i] to the larger of best[i] and taps[t][i]. Where that is tap t,
 * set index[i] = offsets[t]. `start` says what is in `best` and `index` before. */
typedef void (*MaxTaps)(void *best, void *index, const char *const *taps, const Index *offsets,
                        Index n_taps, Index count, MaxStart start);

typedef struct {
    MaxTaps values;       /* This function does not use index. */
    MaxTaps indexed;      /* Here index contains int32_t. */
    MaxTaps indexed_wide; /* Here index contains int64_t. */
    const void *lowest;   /* The lowest value of the type, which padding has. */
} Maximum;

#define LOWEST_float -INFINITY
#define LOWEST_double -INFINITY
#define LOWEST_int8_t INT8_MIN
#define LOWEST_int16_t INT16_MIN
#define LOWEST_int32_t INT32_MIN
#define LOWEST_int64_t INT64_MIN
#define LOWEST_uint8_t 0
#define LOWEST_uint16_t 0
#define LOWEST_uint32_t 0
#define LOWEST_uint64_t 0

#define TEMPLATE "maximum.h"
#define WITH_UNSIGNED
#define WITH_SIGNED
#include "number.h"

static void max_floats(void *best, void *index, const char *const *taps, const Index *offsets,
                       Index n_taps, Index count, MaxStart start) {
    if (count < FEWEST_FLOATS)
        max_values_float(best, index, taps, offsets, n_taps, count, start);
    else
        max_in_vectors(best, index, taps, offsets, n_taps, count, start, 0);
}
static void max_floats_indexed(void *best, void *index, const char *const *taps,
                               const Index *offsets, Index n_taps, Index count, MaxStart start) {
    if (count < FEWEST_FLOATS)
        max_indexed_float(best, index, taps, offsets, n_taps, count, start);
    else
        max_in_vectors(best, index, taps, offsets, n_taps, count, start, 1);
}
static const Maximum maximum_of_floats = {max_floats, max_floats_indexed, max_indexed_wide_float,
                                          &lowest_float};

static inline const Maximum *maximum_of(Number number) {
    static const Maximum *const table[NUMBERS] = {
        [FLOAT32] = &maximum_of_floats, [FLOAT64] = &maximum_double,  [INT8] = &maximum_int8_t,
        [INT16] = &maximum_int16_t,     [INT32] = &maximum_int32_t,   [INT64] = &maximum_int64_t,
        [UINT8] = &maximum_uint8_t,     [UINT16] = &maximum_uint16_t, [UINT32] = &maximum_uint32_t,
        [UINT64] = &maximum_uint64_t,
    };
    return table[number];
}

#endif
#else /* the template */

#define MAX_TAPS(NAME, INDEX, KEEP_INDEX)                                                      \
    static void NAMED(NAME)(void *best_row, void *index_row, const char *const *taps,          \
                            const Index *offsets, Index n_taps, Index count, MaxStart start) { \
        T *restrict best = (T *)best_row;                                                      \
        INDEX *restrict index = (INDEX *)index_row;                                            \
        const Index before = start == FROM_FIRST_TAP;                                          \
        if (before) memcpy(best, taps[0], (size_t)count * sizeof(T));                          \
        for (Index i = 0; i < count && start == FROM_LOWEST; i++) best[i] = NAMED(LOWEST);     \
        for (Index i = 0; i < count && before && KEEP_INDEX; i++)                              \
            index[i] = (INDEX)offsets[0];                                                      \
        for (Index i = 0; i < count && count < FEW; i++) {                                     \
            T top = best[i];                                                                   \
            for (Index t = before; t < n_taps; t++) {                                          \
                T value = ((const T *)taps[t])[i];                                             \
                if (!(value <= top) & (top == top)) {                                          \
                    top = value;                                                               \
                    if (KEEP_INDEX) index[i] = (INDEX)offsets[t];                              \
                }                                                                              \
            }                                                                                  \
            best[i] = top;                                                                     \
        }                                                                                      \
        for (Index t = before; t < n_taps && count >= FEW; t++) {                              \
            const T *restrict tap = (const T *)taps[t];                                        \
            const INDEX offset = KEEP_INDEX ? (INDEX)offsets[t] : 0;                           \
            for (Index i = 0; i < count; i++) {                                                \
                T value = tap[i], old = best[i];                                               \
                int take = !(value <= old) & (old == old);                                     \
                best[i] = take ? value : old;                                                  \
                if (KEEP_INDEX) index[i] = take ? offset : index[i];                           \
            }                                                                                  \
        }                                                                                      \
    }

MAX_TAPS(max_values, int32_t, 0)
MAX_TAPS(max_indexed, int32_t, 1)
MAX_TAPS(max_indexed_wide, int64_t, 1)
#undef MAX_TAPS

static const T NAMED(lowest) = NAMED(LOWEST);
static const Maximum NAMED(maximum) = {NAMED(max_values), NAMED(max_indexed),
                                       NAMED(max_indexed_wide), &NAMED(lowest)};

#endif
