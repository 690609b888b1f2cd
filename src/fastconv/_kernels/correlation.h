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
 * filter begins with its last tap, and then goes on from the first one.
 */
#ifndef T
#ifndef FASTCONV_CORRELATION_H
#define FASTCONV_CORRELATION_H

#include <stdint.h>
#include <string.h>

#include "number.h"
#include "vectors.h"

typedef enum { ANTISYMMETRIC = -1, GENERAL = 0, SYMMETRIC = 1 } Symmetry;

/* Convert results, and store them. */
typedef void (*Store)(void *to, const void *results, Index count);

typedef struct {
    Index size, step;
    Symmetry symmetry;
    const void *weights; /* Of the type that is computed with. */
    Store store;         /* NULL if results need no conversion. */
    Index store_bytes;
} Taps;

enum {
    /* The rows that are computed at a time, and the columns of results that are converted at a time:
     * together they stay in L1. */
    ROWS_TOGETHER = 8,
    COLUMNS_TOGETHER = 256,
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

/* What computes with one type of lanes. Conversions that are NULL are not needed. */
typedef struct {
    Index bytes;
    void (*rows)(const void *filter, char *to, Index pitch, const char *const *rows, Index outs,
                 Index count, char *stage);
    void (*line)(const void *filter, char *to, const char *line, Index count, char *stage);
    void (*load[NUMBERS])(void *to, const void *from, Index count);
    Store store[NUMBERS];
} Lanes;

/* Return what computes in float32, float64, or modulo 2 ** 16 or 2 ** 32. */
static inline const Lanes *lanes_of(Number number) {
    static const Lanes of_float = {
        sizeof(float), correlate_rows_float, correlate_line_float, {NULL}, {NULL}};
    static const Lanes of_double = {
        sizeof(double),
        correlate_rows_double,
        correlate_line_double,
        {
            [INT8] = load_double_int8_t,
            [UINT8] = load_double_uint8_t,
            [INT16] = load_double_int16_t,
            [UINT16] = load_double_uint16_t,
            [INT32] = load_double_int32_t,
            [UINT32] = load_double_uint32_t,
            [INT64] = load_double_int64_t,
            [UINT64] = load_double_uint64_t,
            [FLOAT32] = load_double_float,
        },
        {
            [INT8] = store_int8_t_double,
            [UINT8] = store_uint8_t_double,
            [INT16] = store_int16_t_double,
            [UINT16] = store_uint16_t_double,
            [INT32] = store_int32_t_double,
            [UINT32] = store_uint32_t_double,
            [INT64] = store_int64_t_double,
            [UINT64] = store_uint64_t_double,
            [FLOAT32] = store_float_double,
        },
    };
    static const Lanes of_16_bits = {
        sizeof(uint16_t),
        correlate_rows_uint16_t,
        correlate_line_uint16_t,
        {[INT8] = load_uint16_t_int8_t, [UINT8] = load_uint16_t_uint8_t},
        {[INT8] = store_uint8_t_uint16_t, [UINT8] = store_uint8_t_uint16_t},
    };
    static const Lanes of_32_bits = {
        sizeof(uint32_t),
        correlate_rows_uint32_t,
        correlate_line_uint32_t,
        {
            [INT8] = load_uint32_t_int8_t,
            [UINT8] = load_uint32_t_uint8_t,
            [INT16] = load_uint32_t_int16_t,
            [UINT16] = load_uint32_t_uint16_t,
        },
        {NULL},
    };
    return number == FLOAT32  ? &of_float
           : number == UINT16 ? &of_16_bits
           : number == UINT32 ? &of_32_bits
                              : &of_double;
}

#endif
#else /* the template */

#define V NAMED(Vec)
#define AT(from) ((V) * (const NAMED(Loose) *)(from))
#define ADD_PRODUCT(sum, x, w)   \
    do {                         \
        V product_ = (x) * (w);  \
        NAMED(FUSED)(product_);  \
        sum += product_;         \
    } while (0)

/* Compute a vector of results from the elements of tap t at taps[t] + offset. */
#define SUM_OF_TAPS(NAME, POINTER, ADDRESS)                                                   \
    ALWAYS_INLINE V NAMED(NAME)(const Taps *taps, POINTER, Index offset, Symmetry symmetry) { \
        const T *w = (const T *)taps->weights;                                                \
        Index last = taps->size - 1, centre = last / 2;                                       \
        V sum;                                                                                \
        if (symmetry == GENERAL) {                                                            \
            sum = AT(ADDRESS(last)) * w[last];                                                \
            NAMED(FUSED)(sum);                                                                \
            for (Index t = 0; t < last; t++) ADD_PRODUCT(sum, AT(ADDRESS(t)), w[t]);          \
            return sum;                                                                       \
        }                                                                                     \
        sum = AT(ADDRESS(centre)) * w[centre];                                                \
        NAMED(FUSED)(sum);                                                                    \
        for (Index t = 0; t < centre; t++) {                                                  \
            V low = AT(ADDRESS(t)), high = AT(ADDRESS(last - t));                             \
            ADD_PRODUCT(sum, symmetry == SYMMETRIC ? low + high : low - high, w[t]);          \
        }                                                                                     \
        return sum;                                                                           \
    }
#define ROW_OF(t) ((const T *)rows[t] + offset)
#define ELEMENT_OF(t) (line + offset + (t)*taps->step)
SUM_OF_TAPS(sum_of_rows, const char *const *rows, ROW_OF)
SUM_OF_TAPS(sum_of_elements, const T *line, ELEMENT_OF)
#undef ROW_OF
#undef ELEMENT_OF
#undef SUM_OF_TAPS

/* Compute `count` results. The last vector of a row ends where the row ends; a row that is shorter
 * than a vector is copied. */
#define ALL_VECTORS(SUM)                                                   \
    for (Index i = 0; i < count; i += LANES) {                             \
        Index at = smaller(i, count - LANES);                              \
        V sum = SUM;                                                       \
        *(NAMED(Loose) *)(to + at) = (NAMED(Loose))sum;                    \
    }

ALWAYS_INLINE void NAMED(row)(const Taps *taps, T *to, const char *const *rows, Index offset,
                              Index count, Symmetry symmetry){
    ALL_VECTORS(NAMED(sum_of_rows)(taps, rows, offset + at, symmetry))}

ALWAYS_INLINE
    void NAMED(line)(const Taps *taps, T *to, const T *line, Index count, Symmetry symmetry) {
    ALL_VECTORS(NAMED(sum_of_elements)(taps, line, at, symmetry))
}

static void NAMED(any_row)(const Taps *taps, T *to, const char *const *rows, Index offset,
                           Index count) {
    if (taps->symmetry == SYMMETRIC) {
        NAMED(row)(taps, to, rows, offset, count, SYMMETRIC);
    } else if (taps->symmetry == ANTISYMMETRIC) {
        NAMED(row)(taps, to, rows, offset, count, ANTISYMMETRIC);
    } else {
        NAMED(row)(taps, to, rows, offset, count, GENERAL);
    }
}

static void NAMED(any_line)(const Taps *taps, T *to, const T *line, Index count) {
    if (taps->symmetry == SYMMETRIC) {
        NAMED(line)(taps, to, line, count, SYMMETRIC);
    } else if (taps->symmetry == ANTISYMMETRIC) {
        NAMED(line)(taps, to, line, count, ANTISYMMETRIC);
    } else {
        NAMED(line)(taps, to, line, count, GENERAL);
    }
}

/* A FilterRows of the driver, for rows that have at least the lanes of a vector. */
static void NAMED(correlate_rows)(const void *filter, char *to, Index pitch,
                                  const char *const *rows, Index outs, Index count, char *stage) {
    const Taps *taps = (const Taps *)filter;
    for (Index r = 0; r < outs; r++) {
        if (!taps->store) {
            NAMED(any_row)(taps, (T *)(to + r * pitch), rows + r, 0, count);
            continue;
        }
        for (Index first = 0, some; first < count; first += some) {
            some = count - first < 2 * COLUMNS_TOGETHER ? count - first : COLUMNS_TOGETHER;
            NAMED(any_row)(taps, (T *)stage, rows + r, first, some);
            taps->store(to + r * pitch + first * taps->store_bytes, stage, some);
        }
    }
}

/* A FilterLine of the driver. */
static void NAMED(correlate_line)(const void *filter, char *to, const char *line, Index count,
                                  char *stage) {
    const Taps *taps = (const Taps *)filter;
    if (taps->store || count < LANES) {
        NAMED(any_line)(taps, (T *)stage, (const T *)line, larger(count, LANES));
        if (taps->store) {
            taps->store(to, stage, count);
        } else {
            memcpy(to, stage, (size_t)count * sizeof(T));
        }
        return;
    }
    NAMED(any_line)(taps, (T *)to, (const T *)line, count);
}

#undef V
#undef AT
#undef ADD_PRODUCT
#undef ALL_VECTORS

#endif
