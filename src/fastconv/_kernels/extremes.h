/* Maxima and minima of all windows of `size` neighbours, along columns and along rows.
 *
 * Everything here is a plain loop over rows in L1, which compilers vectorise for every type and CPU
 * level. A window along rows (`line`) grows from pass to pass: an element of a pass combines four of
 * the pass before, so that the number of passes is the logarithm of the size. A window along columns
 * (`rows`) is put together from the end of one block of `size` rows and the beginning of the next
 * (van Herk 1992, Gil and Werman 1993), which takes three operations whatever the size.
 *
 * Operands are always combined in the order in which they lie in the window. Then results do not
 * depend on how a filter is cut into blocks, also where equal numbers differ (0.0 and -0.0): the
 * result is the last of the largest numbers or, if there is one, the first NaN.
 * This file is a template (see number.h).
 */
#ifndef T
#ifndef FASTCONV_EXTREMES_H
#define FASTCONV_EXTREMES_H

#include <stdint.h>
#include <string.h>

#include "number.h"
#include "window.h"

enum {
    /* The rows of a block that are combined at a time stay in L1. */
    BLOCK_BYTES = 24 << 10,
    LEAST_STRIP_BYTES = 512,
    LARGEST_STRIP_BYTES = 4 << 10,
};

/* Return how many bytes of the rows of a block are combined at a time. */
static inline Index strip_bytes(Index rows) {
    return smaller(larger(BLOCK_BYTES / rows / 64 * 64, LEAST_STRIP_BYTES), LARGEST_STRIP_BYTES);
}

/* What is compared: `size` rows, or `size` elements of a row that lie `step` apart. */
typedef struct {
    Index size, step;
} Neighbours;

/* Functions for maxima, and those for minima. Results overlap no source. The first two are the
 * callbacks of separable.pxd, with Neighbours as the filter; `line` needs extreme_line_stage bytes. */
typedef struct {
    void (*rows)(const void *filter, char *to, Index pitch, const char *const *rows, Index outs,
                 Index count, char *stage);
    void (*line)(const void *filter, char *to, const char *line, Index count, char *stage);
    /* Set to[x] to the larger of line[x] and line[x + distance]. */
    void (*pairs)(char *to, const char *line, Index distance, Index count);
    /* Set to[x] to the largest of taps[0 .. n - 1][x]. */
    void (*taps)(char *to, const char *const *taps, Index n, Index count);
} Extreme;

static inline Index extreme_line_stage(Index size, Index step, Index count, Index bytes) {
    return 2 * (count + size * step) * bytes;
}

#define LARGER(a, b) ((a) > (b) ? (a) : (b))
#define LESS(a, b) ((a) < (b) ? (a) : (b))
/* Comparisons with a NaN are false, so that LARGER(a, NaN) is NaN anyway. */
#define LARGER_OR_NAN(a, b) (((a) > (b)) | ((a) != (a)) ? (a) : (b))
#define LESS_OR_NAN(a, b) (((a) < (b)) | ((a) != (a)) ? (a) : (b))

#define MAX_float LARGER_OR_NAN
#define MAX_double LARGER_OR_NAN
#define MAX_int8_t LARGER
#define MAX_int16_t LARGER
#define MAX_int32_t LARGER
#define MAX_int64_t LARGER
#define MAX_uint8_t LARGER
#define MAX_uint16_t LARGER
#define MAX_uint32_t LARGER
#define MAX_uint64_t LARGER
#define MIN_float LESS_OR_NAN
#define MIN_double LESS_OR_NAN
#define MIN_int8_t LESS
#define MIN_int16_t LESS
#define MIN_int32_t LESS
#define MIN_int64_t LESS
#define MIN_uint8_t LESS
#define MIN_uint16_t LESS
#define MIN_uint32_t LESS
#define MIN_uint64_t LESS

#define TEMPLATE "extremes.h"
#define WITH_UNSIGNED
#define WITH_SIGNED
#include "number.h"

static inline const Extreme *extreme_of(Number number, int is_minimum) {
#define BOTH(T) {&maximum_##T, &minimum_##T}
    static const Extreme *const table[NUMBERS][2] = {
        [FLOAT32] = BOTH(float),    [FLOAT64] = BOTH(double),   [INT8] = BOTH(int8_t),
        [INT16] = BOTH(int16_t),    [INT32] = BOTH(int32_t),    [INT64] = BOTH(int64_t),
        [UINT8] = BOTH(uint8_t),    [UINT16] = BOTH(uint16_t),  [UINT32] = BOTH(uint32_t),
        [UINT64] = BOTH(uint64_t),
    };
#undef BOTH
    return table[number][is_minimum];
}

#endif
#else /* the template */

#define EXTREME maximum
#define BETTER NAMED(MAX)
#include "extreme_loops.h"
#undef EXTREME
#undef BETTER
#define EXTREME minimum
#define BETTER NAMED(MIN)
#include "extreme_loops.h"
#undef EXTREME
#undef BETTER

#endif
