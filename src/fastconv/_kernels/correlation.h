/* Correlation along one axis: the inner loops of separable.pyx. This file is a template (see
 * number.h).
 *
 * The unsigned integers are for integers and integer weights: modulo 2 ** 16 or 2 ** 32, sums are the
 * same in any order, and whether the numbers are signed or not.
 *
 * float64 is what SciPy computes with, and the loops of double add the same products in the same
 * order, each rounded by itself: the results are SciPy's to the last bit. Loops of float are free to
 * fuse a product with its sum.
 *
 * A symmetric filter of 2r + 1 taps adds, or subtracts, the two elements that have the same weight
 * before it multiplies. It begins with the centre, and goes from the outermost pair inwards. Any other
 * filter begins with its last tap, and then goes on from the first one. A second difference (1, -2, 1)
 * may be computed as the sum of two differences, in which large offsets cancel before they are
 * rounded.
 */
#ifndef T
#ifndef FASTCONV_CORRELATION_H
#define FASTCONV_CORRELATION_H

#include <stdint.h>
#include <string.h>

#include "number.h"
#include "vectors.h"

typedef enum { ANTISYMMETRIC = -1, GENERAL = 0, SYMMETRIC = 1, SECOND_DIFFERENCE = 2 } Symmetry;

/* Convert results, and store them. */
typedef void (*Store)(void *to, const void *results, Index count);

/* Combine results, which have the output's type, with what is in the output. */
typedef void (*Combine)(void *to, const void *results, Index count);

typedef struct {
    Index size, step;
    Symmetry symmetry;
    const void *weights; /* Of the type that is computed with. */
    const double *exact; /* The weights in float64. */
    float margin;        /* See certified.h. */
    Store store;         /* NULL if results need no conversion. */
    Combine combine;     /* NULL if results replace what is in the output. */
    Index store_bytes;
} Taps;

enum {
    /* The rows that are computed at a time, and the columns of results that are converted at a time:
     * together they stay in L1. */
    ROWS_TOGETHER = 8,
    COLUMNS_TOGETHER = 256,
    /* The sums that are in registers: a row's element is loaded once for TILE_ROWS results, and a
     * weight once for TILE_VECTORS vectors. */
    TILE_ROWS = 4,
    /* Where converted results are in a callback's stage, behind those that are not converted. */
    CONVERTED_AT = 40 << 10,
    TILE_VECTORS = 4,
};

/* Keep the compiler from fusing a product with the sum that it becomes a part of. */
#if defined(__AVX512F__)
#define ROUNDED(x) __asm__("" : "+v"(x))
#elif defined(__SSE2__)
#define ROUNDED(x) __asm__("" : "+x"(x))
#elif defined(__aarch64__)
#define ROUNDED(x) __asm__("" : "+w"(x))
#else
#define ROUNDED(x) __asm__("" : "+m"(x))
#endif
#define FUSED_float(product)
#define FUSED_uint16_t(product)
#define FUSED_uint32_t(product)
#define FUSED_double(product) ROUNDED(product)

#define INTEGERS(T)                                                     \
    typedef T Vec_##T __attribute__((vector_size(VECTOR_BYTES)));       \
    typedef T Loose_##T __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(T)), may_alias));
INTEGERS(uint16_t)
INTEGERS(uint32_t)
#undef INTEGERS

/* Convert results, and store them or combine them with what is there. `converted` is a stage. */
static void put_results(const Taps *taps, void *to, const void *results, Index count,
                        void *converted) {
    if (taps->store) {
        taps->store(taps->combine ? converted : to, results, count);
        results = converted;
    }
    if (taps->combine) {
        taps->combine(to, results, count);
    } else if (!taps->store) {
        memcpy(to, results, (size_t)(count * taps->store_bytes));
    }
}

#define TEMPLATE "correlation.h"
#include "number.h"
#define T uint16_t
#include "correlation.h"
#undef T
#define T uint32_t
#include "correlation.h"
#undef T

/* Conversions as C compilers for x86-64 make them, also of numbers out of range. */
#define LOAD(T, FROM)                                                                       \
    static void load_##T##_##FROM(void *to, const void *from, Index count) {                \
        for (Index i = 0; i < count; i++) ((T *restrict)to)[i] = (T)((const FROM *)from)[i]; \
    }
#define STORE(TO, FROM, VIA)                                                       \
    static void store_##TO##_##FROM(void *to, const void *from, Index count) {     \
        for (Index i = 0; i < count; i++)                                          \
            ((TO *restrict)to)[i] = (TO)(VIA)((const FROM *restrict)from)[i];      \
    }
LOAD(double, int8_t)
LOAD(double, uint8_t)
LOAD(double, int16_t)
LOAD(double, uint16_t)
LOAD(double, int32_t)
LOAD(double, uint32_t)
LOAD(double, int64_t)
LOAD(double, uint64_t)
LOAD(double, float)
STORE(int8_t, double, int32_t)
STORE(uint8_t, double, int32_t)
STORE(int16_t, double, int32_t)
STORE(uint16_t, double, int32_t)
STORE(int32_t, double, int32_t)
STORE(uint32_t, double, int64_t)
STORE(int64_t, double, int64_t)
STORE(float, double, float)
LOAD(float, int8_t)
LOAD(float, uint8_t)
LOAD(float, int16_t)
LOAD(float, uint16_t)
LOAD(uint16_t, int8_t)
LOAD(uint16_t, uint8_t)
LOAD(uint32_t, int8_t)
LOAD(uint32_t, uint8_t)
LOAD(uint32_t, int16_t)
LOAD(uint32_t, uint16_t)
STORE(uint8_t, uint16_t, uint16_t)
#undef LOAD
#undef STORE

static void store_uint64_t_double(void *to, const void *from, Index count) {
    const double half = 9223372036854775808.0; /* 2 ** 63 */
    for (Index i = 0; i < count; i++) {
        double x = ((const double *)from)[i];
        ((uint64_t *)to)[i] = x >= half ? (uint64_t)(int64_t)(x - half) ^ 1ull << 63
                                        : (uint64_t)(int64_t)x;
    }
}

#endif
#else /* the template */

#define V NAMED(Vec)
#define AT(from) ((V) * (const NAMED(Loose) *)(from))
#define PUT(to, x) (*(NAMED(Loose) *)(to) = (NAMED(Loose))(x))
#define ROW(t) AT((const T *)rows[t] + offset)
#define ELEMENTS(t) ((rows ? (const T *)rows[t] : line + (t) * taps->step) + offset)
#define ADD_PRODUCT(sum, x, w)   \
    do {                         \
        V product_ = (x) * (w);  \
        NAMED(FUSED)(product_);  \
        sum += product_;         \
    } while (0)

/* Compute a vector of results of a filter of three taps. */
ALWAYS_INLINE V NAMED(sum_of_three)(V low, V middle, V high, T first, T centre, T last,
                                    Symmetry symmetry) {
    if (symmetry == SECOND_DIFFERENCE) return ((low - middle) + (high - middle)) * first;
    V sum = symmetry == GENERAL ? high * last : middle * centre;
    NAMED(FUSED)(sum);
    if (symmetry == GENERAL) {
        ADD_PRODUCT(sum, low, first);
        ADD_PRODUCT(sum, middle, centre);
    } else {
        ADD_PRODUCT(sum, symmetry == SYMMETRIC ? low + high : low - high, first);
    }
    return sum;
}

/* Compute a vector of results in each of TILE_ROWS neighbouring rows. A row's element is loaded once
 * for all of them: from tap to tap, elements move on to the neighbour's register. */
ALWAYS_INLINE void NAMED(tile_of_rows)(V *sums, const Taps *taps, const char *const *rows,
                                       Index offset, Symmetry symmetry) {
    const T *w = (const T *)taps->weights;
    Index last = taps->size - 1, centre = symmetry == GENERAL ? last : last / 2;
    V low[TILE_ROWS], high[TILE_ROWS];
    if (symmetry == SECOND_DIFFERENCE) {
    UNROLL for (Index r = 0; r < TILE_ROWS; r++) {
            sums[r] = ((ROW(r) - ROW(r + 1)) + (ROW(r + 2) - ROW(r + 1))) * w[0];
        }
        return;
    }
    UNROLL for (Index r = 0; r < TILE_ROWS; r++) {
        sums[r] = ROW(centre + r) * w[centre];
        NAMED(FUSED)(sums[r]);
        if (r > 0) low[r] = ROW(r - 1);
        if (r > 0 && symmetry != GENERAL) high[r - 1] = ROW(last + r);
    }
    for (Index t = 0; t < centre; t++) {
        UNROLL for (Index r = 1; r < TILE_ROWS; r++) low[r - 1] = low[r];
        low[TILE_ROWS - 1] = ROW(t + TILE_ROWS - 1);
        if (symmetry != GENERAL) {
            UNROLL for (Index r = TILE_ROWS - 1; r > 0; r--) high[r] = high[r - 1];
            high[0] = ROW(last - t);
        }
        UNROLL for (Index r = 0; r < TILE_ROWS; r++) {
            V x = symmetry == GENERAL     ? low[r]
                  : symmetry == SYMMETRIC ? low[r] + high[r]
                                          : low[r] - high[r];
            ADD_PRODUCT(sums[r], x, w[t]);
        }
    }
}

/* Compute `vectors` neighbouring vectors of results of a line, or of a row if `rows` are given. */
ALWAYS_INLINE void NAMED(tile_of_line)(V *sums, const Taps *taps, const T *line,
                                       const char *const *rows, Index offset, Index vectors,
                                       Symmetry symmetry) {
    const T *w = (const T *)taps->weights;
    Index last = taps->size - 1, centre = symmetry == GENERAL ? last : last / 2;
    const T *at = ELEMENTS(centre);
    if (taps->size == 3) {
        const T *low = ELEMENTS(0), *middle = ELEMENTS(1), *high = ELEMENTS(2);
        UNROLL for (Index v = 0; v < vectors; v++) {
            sums[v] = NAMED(sum_of_three)(AT(low + v * LANES), AT(middle + v * LANES),
                                          AT(high + v * LANES), w[0], w[1], w[2], symmetry);
        }
        return;
    }
    UNROLL for (Index v = 0; v < vectors; v++) {
        sums[v] = AT(at + v * LANES) * w[centre];
        NAMED(FUSED)(sums[v]);
    }
    for (Index t = 0; t < centre; t++) {
        const T *low = ELEMENTS(t), *high = ELEMENTS(last - t);
        UNROLL for (Index v = 0; v < vectors; v++) {
            V x = AT(low + v * LANES);
            if (symmetry == SYMMETRIC) x += AT(high + v * LANES);
            if (symmetry == ANTISYMMETRIC) x -= AT(high + v * LANES);
            ADD_PRODUCT(sums[v], x, w[t]);
        }
    }
}

/* Compute `count` results, at least as many as a vector has. The last vector ends where they end. */
ALWAYS_INLINE void NAMED(line)(const Taps *taps, T *to, const T *line, const char *const *rows,
                               Index offset, Index count, Symmetry symmetry) {
    V sums[TILE_VECTORS];
    Index i = 0;
    for (; i + TILE_VECTORS * LANES <= count; i += TILE_VECTORS * LANES) {
        NAMED(tile_of_line)(sums, taps, line, rows, offset + i, TILE_VECTORS, symmetry);
        UNROLL for (Index v = 0; v < TILE_VECTORS; v++) PUT(to + i + v * LANES, sums[v]);
    }
    for (; i < count; i += LANES) {
        Index at = smaller(i, count - LANES);
        NAMED(tile_of_line)(sums, taps, line, rows, offset + at, 1, symmetry);
        PUT(to + at, sums[0]);
    }
}

/* Compute results of three taps in TILE_ROWS rows, whose addresses stay in registers. */
ALWAYS_INLINE void NAMED(rows_of_three)(const Taps *taps, char *to, Index pitch,
                                        const char *const *rows, Index offset, Index count,
                                        Symmetry symmetry) {
    const T *w = (const T *)taps->weights, outer = w[0], centre = w[1], last = w[2];
    const T *from[TILE_ROWS + 2];
    UNROLL for (Index r = 0; r < TILE_ROWS + 2; r++) from[r] = (const T *)rows[r] + offset;
    for (Index i = 0; i < count; i += LANES) {
        Index at = smaller(i, count - LANES);
        V x[TILE_ROWS + 2];
        UNROLL for (Index r = 0; r < TILE_ROWS + 2; r++) x[r] = AT(from[r] + at);
        UNROLL for (Index r = 0; r < TILE_ROWS; r++) {
            V sum = NAMED(sum_of_three)(x[r], x[r + 1], x[r + 2], outer, centre, last, symmetry);
            PUT((T *)(to + r * pitch) + at, sum);
        }
    }
}

/* Compute `count` results in each of `outs` rows, at least as many as a vector has. */
ALWAYS_INLINE void NAMED(rows)(const Taps *taps, char *to, Index pitch, const char *const *rows,
                               Index outs, Index offset, Index count, Symmetry symmetry) {
    V sums[TILE_ROWS];
    for (Index r = 0; outs < TILE_ROWS && r < outs; r++)
        NAMED(line)(taps, (T *)(to + r * pitch), NULL, rows + r, offset, count, symmetry);
    for (Index first = 0; outs >= TILE_ROWS && first < outs; first += TILE_ROWS) {
        Index y = smaller(first, outs - TILE_ROWS);
        if (taps->size == 3) {
            NAMED(rows_of_three)(taps, to + y * pitch, pitch, rows + y, offset, count, symmetry);
            continue;
        }
        for (Index i = 0; i < count; i += LANES) {
            Index at = smaller(i, count - LANES);
            NAMED(tile_of_rows)(sums, taps, rows + y, offset + at, symmetry);
            UNROLL for (Index r = 0; r < TILE_ROWS; r++) {
                PUT((T *)(to + (y + r) * pitch) + at, sums[r]);
            }
        }
    }
}

static void NAMED(any_rows)(const Taps *taps, char *to, Index pitch, const char *const *rows,
                            Index outs, Index offset, Index count) {
    if (taps->symmetry == SYMMETRIC) {
        NAMED(rows)(taps, to, pitch, rows, outs, offset, count, SYMMETRIC);
    } else if (taps->symmetry == ANTISYMMETRIC) {
        NAMED(rows)(taps, to, pitch, rows, outs, offset, count, ANTISYMMETRIC);
    } else if (taps->symmetry == SECOND_DIFFERENCE) {
        NAMED(rows)(taps, to, pitch, rows, outs, offset, count, SECOND_DIFFERENCE);
    } else {
        NAMED(rows)(taps, to, pitch, rows, outs, offset, count, GENERAL);
    }
}

static void NAMED(any_line)(const Taps *taps, T *to, const T *line, Index count) {
    if (taps->symmetry == SYMMETRIC) {
        NAMED(line)(taps, to, line, NULL, 0, count, SYMMETRIC);
    } else if (taps->symmetry == ANTISYMMETRIC) {
        NAMED(line)(taps, to, line, NULL, 0, count, ANTISYMMETRIC);
    } else if (taps->symmetry == SECOND_DIFFERENCE) {
        NAMED(line)(taps, to, line, NULL, 0, count, SECOND_DIFFERENCE);
    } else {
        NAMED(line)(taps, to, line, NULL, 0, count, GENERAL);
    }
}

/* A FilterRows of the driver, for rows that have at least the lanes of a vector. */
static void NAMED(correlate_rows)(const void *filter, char *to, Index pitch,
                                  const char *const *rows, Index outs, Index count, char *stage) {
    const Taps *taps = (const Taps *)filter;
    const Index stage_pitch = 2 * COLUMNS_TOGETHER * sizeof(T);
    if (!taps->store && !taps->combine) {
        NAMED(any_rows)(taps, to, pitch, rows, outs, 0, count);
        return;
    }
    for (Index y = 0, some_rows; y < outs; y += some_rows) {
        some_rows = smaller(outs - y, ROWS_TOGETHER);
        for (Index x = 0, some; x < count; x += some) {
            some = count - x < 2 * COLUMNS_TOGETHER ? count - x : COLUMNS_TOGETHER;
            NAMED(any_rows)(taps, stage, stage_pitch, rows + y, some_rows, x, some);
            for (Index r = 0; r < some_rows; r++)
                put_results(taps, to + (y + r) * pitch + x * taps->store_bytes,
                            stage + r * stage_pitch, some, stage + CONVERTED_AT);
        }
    }
}

/* A FilterLine of the driver. */
static void NAMED(correlate_line)(const void *filter, char *to, const char *line, Index count,
                                  char *stage) {
    const Taps *taps = (const Taps *)filter;
    if (!taps->store && !taps->combine && count >= LANES) {
        NAMED(any_line)(taps, (T *)to, (const T *)line, count);
        return;
    }
    NAMED(any_line)(taps, (T *)stage, (const T *)line, larger(count, LANES));
    put_results(taps, to, stage, count, stage + CONVERTED_AT);
}

#undef V
#undef AT
#undef PUT
#undef ROW
#undef ELEMENTS
#undef ADD_PRODUCT

#endif
