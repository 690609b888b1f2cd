/* Statistics of chunks of numbers, and their normalisation: the inner loops of batch normalisation.
 * This file is a template (see number.h).
 *
 * A chunk consists of rows of contiguous numbers. It is small enough to stay in L1, so it is read
 * from memory once although the mean is computed before the squares. Entries are what has a mean of
 * its own. In a planar chunk all numbers belong to one entry; in a chunk of columns each column is
 * an entry. Sums within a chunk are of type T in several vectors, and sums of chunks are float64.
 */
#ifndef T
#ifndef FASTCONV_NORMALIZATION_H
#define FASTCONV_NORMALIZATION_H

#include <math.h>

#include "number.h"
#include "stream.h"
#include "vectors.h"

enum {
    MOST_COLUMNS = 64, /* The largest number of columns of a chunk of columns. */
    LEAST_PIXELS = 16, /* The shortest row of a planar chunk: a vector of any level. */
    CHAINS = 4,        /* The vectors of a sum, which hide the latency of additions. */
};

/* What is summed up of the numbers of an entry. */
typedef struct {
    double count, mean, squares; /* The squares are those of the distances from the mean. */
    double dout, product;        /* The sums of dout and of dout * (x - center). */
} Sums;

/* Add the moments of other numbers: T. F. Chan, G. H. Golub, R. J. LeVeque, "Algorithms for
 * computing the sample variance", The American Statistician 37 (1983). */
static inline void merge_moments(Sums *sums, double count, double mean, double squares) {
    double all = sums->count + count, distance = mean - sums->mean, merged;
    if (sums->count == 0) {
        sums->count = count, sums->mean = mean, sums->squares = squares;
    } else if (count != 0) {
        merged = sums->mean + distance * (count / all);
        /* Two infinite means have no distance, but they have a mean. */
        if (!isfinite(merged)) merged = (sums->mean * sums->count + mean * count) / all;
        sums->squares += squares + distance * distance * (sums->count * count / all);
        sums->mean = merged, sums->count = all;
    }
}

/* Moments of numbers whose distances from `center`, which is close to their mean, and the squares
 * of these are summed up. */
static inline void merge_distances(Sums *sums, double count, double center, double distances,
                                   double squares) {
    double mean = center + distances / count;
    /* Infinite numbers have an infinite mean, to which they have no distance. */
    if (!isfinite(center)) mean = center;
    merge_moments(sums, count, mean, squares - distances * (distances / count));
}

typedef struct {
    /* Add the moments of a chunk to those of its entries. The next chunk, which lies `ahead` numbers
     * ahead, is fetched meanwhile. */
    void (*add_moments)(Sums *sums, const void *x, Index pitch, Index rows, Index columns,
                        Index ahead);
    /* Add the sums of dout and of dout * (x - center). */
    void (*add_products)(Sums *sums, const void *x, const void *dout, Index pitch, Index rows,
                         Index columns, Index ahead, const void *terms);
    /* Write by_x * (x - center) + constant, and fetch the next chunk as above. */
    void (*normalize)(void *to, Index to_pitch, const void *x, Index pitch, Index rows,
                      Index columns, Index ahead, const void *terms, int past_caches);
    /* Write by_dout * (dout + by_x * (x - center) + constant). */
    void (*gradient)(void *to, Index to_pitch, const void *x, const void *dout, Index pitch,
                     Index rows, Index columns, Index ahead, const void *terms, int past_caches);
} ChunkLoops;

typedef struct {
    ChunkLoops planar, columns;
    size_t terms_bytes;
    /* Set the terms of an entry such that normalize and gradient compute with x - mean. */
    void (*set_terms)(void *terms, Index entry, double mean, double by_x, double by_dout,
                      double constant);
    /* Return the center of the terms of a mean: the closest T. */
    double (*center_of)(double mean);
} Normalizations;

/* Write a vector past the caches, to an address that is aligned to it. */
ALWAYS_INLINE void stream_vector(void *to, const void *vector) {
#if defined(__AVX512F__)
    _mm512_stream_si512((void *)to, _mm512_loadu_si512(vector));
#elif defined(__AVX2__)
    _mm256_stream_si256((__m256i *)to, _mm256_loadu_si256((const __m256i *)vector));
#elif defined(__SSE2__)
    _mm_stream_si128((__m128i *)to, _mm_loadu_si128((const __m128i *)vector));
#else
    memcpy(to, vector, VECTOR_BYTES);
#endif
}

/* Run STEP(at, chain, mask) for every vector of a row of at least LANES numbers: its place, the sums
 * that it belongs to, and the lanes that no vector before it has. The last vector overlaps. */
#define OVER_ROW(STEP) OVER_ROW_FROM(0, STEP, STEP)

/* Do this from a place on, and run LAST for the last vector if it overlaps. */
#define OVER_ROW_FROM(start, STEP, LAST)                                                         \
    do {                                                                                         \
        Index at = start;                                                                        \
        for (; at + CHAINS * LANES <= columns; at += CHAINS * LANES)                             \
            UNROLL for (int chain = 0; chain < CHAINS; chain++)                                  \
                STEP(at + chain * LANES, chain, NAMED(last_lanes)(LANES));                       \
        for (; at + LANES <= columns; at += LANES) STEP(at, 0, NAMED(last_lanes)(LANES));        \
        if (at < columns) LAST(columns - LANES, 1, NAMED(last_lanes)(columns - at));             \
    } while (0)

#define TEMPLATE "normalization.h"
#include "number.h"

/* Half-precision numbers come as float32. */
static inline const Normalizations *normalizations_of(Number number) {
    static const Normalizations *const table[NUMBERS] = {
        [FLOAT16] = &normalizations_float,
        [FLOAT32] = &normalizations_float,
        [FLOAT64] = &normalizations_double,
    };
    return table[number];
}

#endif
#else /* the template */

typedef struct {
    T center[MOST_COLUMNS], by_x[MOST_COLUMNS], by_dout[MOST_COLUMNS], constant[MOST_COLUMNS];
} NAMED(Terms);

static double NAMED(center_of)(double mean) { return (double)(T)mean; }

static void NAMED(set_terms)(void *terms, Index entry, double mean, double by_x, double by_dout,
                             double constant) {
    NAMED(Terms) *to = (NAMED(Terms) *)terms;
    double rest = mean - NAMED(center_of)(mean);
    to->center[entry] = (T)mean;
    to->by_x[entry] = (T)by_x;
    to->by_dout[entry] = (T)by_dout;
    /* Infinities have no rest. */
    to->constant[entry] = (T)(isfinite(rest * by_x) ? constant - rest * by_x : constant);
}

/* ---- planar chunks ---- */

ALWAYS_INLINE NAMED(Vec) NAMED(load)(const T *from) { return *(const NAMED(Loose) *)from; }

ALWAYS_INLINE NAMED(Mask) NAMED(last_lanes)(Index count) {
    typedef __typeof__(((NAMED(Mask)){0})[0]) Lane;
    NAMED(Mask) lanes;
    UNROLL for (int i = 0; i < LANES; i++) lanes[i] = (Lane)i;
    return lanes >= (NAMED(Mask)){0} + (Lane)(LANES - count);
}

ALWAYS_INLINE NAMED(Vec) NAMED(masked)(NAMED(Vec) x, NAMED(Mask) mask) {
    return (NAMED(Vec))((NAMED(Mask))x & mask);
}

ALWAYS_INLINE double NAMED(total)(const NAMED(Vec) *chains) {
    NAMED(Vec) sum = (chains[0] + chains[1]) + (chains[2] + chains[3]);
    double total = 0;
    for (int i = 0; i < LANES; i++) total += (double)sum[i];
    return total;
}

static void NAMED(add_moments)(Sums *sums, const void *from, Index pitch, Index rows,
                               Index columns, Index ahead) {
    NAMED(Vec) values[CHAINS] = {{0}}, squares[CHAINS] = {{0}};
    double count = (double)rows * (double)columns;
    T center;
#define STEP(at, chain, mask) values[chain] += NAMED(masked)(NAMED(load)(x + (at)), mask)
    for (Index row = 0; row < rows; row++) {
        const T *x = (const T *)from + row * pitch;
        OVER_ROW(STEP);
    }
#undef STEP
    center = (T)(NAMED(total)(values) / count);
    for (int chain = 0; chain < CHAINS; chain++) values[chain] = (NAMED(Vec)){0};
#define STEP(at, chain, mask)                                                      \
    do {                                                                           \
        NAMED(Vec) distance = NAMED(masked)(NAMED(load)(x + (at)) - center, mask); \
        __builtin_prefetch(x + (at) + ahead);                                      \
        values[chain] += distance;                                                 \
        squares[chain] += distance * distance;                                     \
    } while (0)
    for (Index row = 0; row < rows; row++) {
        const T *x = (const T *)from + row * pitch;
        OVER_ROW(STEP);
    }
#undef STEP
    merge_distances(sums, count, (double)center, NAMED(total)(values), NAMED(total)(squares));
}

static void NAMED(add_products)(Sums *sums, const void *from, const void *douts, Index pitch,
                                Index rows, Index columns, Index ahead, const void *terms) {
    NAMED(Vec) values[CHAINS] = {{0}}, products[CHAINS] = {{0}};
    T center = ((const NAMED(Terms) *)terms)->center[0];
#define STEP(at, chain, mask)                                                      \
    do {                                                                           \
        NAMED(Vec) value = NAMED(masked)(NAMED(load)(dout + (at)), mask);          \
        NAMED(Vec) distance = NAMED(masked)(NAMED(load)(x + (at)) - center, mask); \
        __builtin_prefetch(x + (at) + ahead);                                      \
        __builtin_prefetch(dout + (at) + ahead);                                   \
        values[chain] += value;                                                    \
        products[chain] += value * distance;                                       \
    } while (0)
    for (Index row = 0; row < rows; row++) {
        const T *x = (const T *)from + row * pitch, *dout = (const T *)douts + row * pitch;
        OVER_ROW(STEP);
    }
#undef STEP
    sums->dout += NAMED(total)(values);
    sums->product += NAMED(total)(products);
}

/* Write the RESULT(at) of all places of a row `out`. Past the caches go those vectors that are
 * aligned; vectors at both ends may overlap them. */
#define STORE(at, chain, mask)                        \
    do {                                              \
        FETCH(at);                                    \
        *(NAMED(Loose) *)(out + (at)) = RESULT(at);   \
    } while (0)
#define STREAM(at, chain, mask)                                                \
    do {                                                                       \
        NAMED(Vec) result = RESULT(at);                                        \
        FETCH(at);                                        \
        stream_vector(out + (at), &result);                                    \
    } while (0)
#define WRITE_ROW                                                                            \
    do {                                                                                     \
        if (past_caches) {                                                                   \
            Index head = (Index)(-(uintptr_t)out % VECTOR_BYTES / sizeof(T));                \
            if (head) STORE(0, 0, 0);                                                        \
            OVER_ROW_FROM(head, STREAM, STORE);                                              \
        } else {                                                                             \
            OVER_ROW(STORE);                                                                 \
        }                                                                                    \
    } while (0)

static void NAMED(normalize)(void *to, Index to_pitch, const void *from, Index pitch, Index rows,
                             Index columns, Index ahead, const void *terms, int past_caches) {
    const NAMED(Terms) *of = (const NAMED(Terms) *)terms;
    T center = of->center[0], by_x = of->by_x[0], constant = of->constant[0];
#define FETCH(at) __builtin_prefetch(x + (at) + ahead)
#define RESULT(at) ((NAMED(load)(x + (at)) - center) * by_x + constant)
    for (Index row = 0; row < rows; row++) {
        const T *x = (const T *)from + row * pitch;
        T *out = (T *)to + row * to_pitch;
        WRITE_ROW;
    }
#undef RESULT
#undef FETCH
}

static void NAMED(gradient)(void *to, Index to_pitch, const void *from, const void *douts,
                            Index pitch, Index rows, Index columns, Index ahead,
                            const void *terms, int past_caches) {
    const NAMED(Terms) *of = (const NAMED(Terms) *)terms;
    T center = of->center[0], by_x = of->by_x[0], by_dout = of->by_dout[0];
    T constant = of->constant[0];
#define FETCH(at) (__builtin_prefetch(x + (at) + ahead), __builtin_prefetch(dout + (at) + ahead))
#define RESULT(at)                      \
    (by_dout * (NAMED(load)(dout + (at)) + \
                ((NAMED(load)(x + (at)) - center) * by_x + constant)))
    for (Index row = 0; row < rows; row++) {
        const T *x = (const T *)from + row * pitch, *dout = (const T *)douts + row * pitch;
        T *out = (T *)to + row * to_pitch;
        WRITE_ROW;
    }
#undef RESULT
#undef FETCH
}
#undef WRITE_ROW
#undef STREAM
#undef STORE

/* ---- chunks of columns ---- */

static void NAMED(add_column_moments)(Sums *sums, const void *from, Index pitch, Index rows,
                                      Index columns, Index ahead) {
    T center[MOST_COLUMNS] = {0}, distances[MOST_COLUMNS] = {0}, squares[MOST_COLUMNS] = {0};
    for (Index row = 0; row < rows; row++) {
        const T *restrict x = (const T *)from + row * pitch;
        for (Index i = 0; i < columns; i++) center[i] += x[i];
    }
    for (Index i = 0; i < columns; i++) center[i] /= (T)rows;
    for (Index row = 0; row < rows; row++) {
        const T *restrict x = (const T *)from + row * pitch;
        __builtin_prefetch(x + ahead);
        for (Index i = 0; i < columns; i++) {
            T distance = x[i] - center[i];
            distances[i] += distance;
            squares[i] += distance * distance;
        }
    }
    for (Index i = 0; i < columns; i++)
        merge_distances(sums + i, (double)rows, (double)center[i], (double)distances[i],
                        (double)squares[i]);
}

static void NAMED(add_column_products)(Sums *sums, const void *from, const void *douts,
                                       Index pitch, Index rows, Index columns, Index ahead,
                                       const void *terms) {
    const NAMED(Terms) *of = (const NAMED(Terms) *)terms;
    T values[MOST_COLUMNS] = {0}, products[MOST_COLUMNS] = {0};
    for (Index row = 0; row < rows; row++) {
        const T *restrict x = (const T *)from + row * pitch;
        const T *restrict dout = (const T *)douts + row * pitch;
        __builtin_prefetch(x + ahead);
        __builtin_prefetch(dout + ahead);
        for (Index i = 0; i < columns; i++) {
            values[i] += dout[i];
            products[i] += dout[i] * (x[i] - of->center[i]);
        }
    }
    for (Index i = 0; i < columns; i++) {
        sums[i].dout += (double)values[i];
        sums[i].product += (double)products[i];
    }
}

static void NAMED(normalize_columns)(void *to, Index to_pitch, const void *from, Index pitch,
                                     Index rows, Index columns, Index ahead,
                                     const void *terms, int past_caches) {
    const NAMED(Terms) *restrict of = (const NAMED(Terms) *)terms;
    (void)past_caches, (void)ahead; /* These rows are too short for that. */
    for (Index row = 0; row < rows; row++) {
        const T *restrict x = (const T *)from + row * pitch;
        T *restrict out = (T *)to + row * to_pitch;
        for (Index i = 0; i < columns; i++)
            out[i] = (x[i] - of->center[i]) * of->by_x[i] + of->constant[i];
    }
}

static void NAMED(gradient_of_columns)(void *to, Index to_pitch, const void *from,
                                       const void *douts, Index pitch, Index rows, Index columns,
                                       Index ahead, const void *terms, int past_caches) {
    const NAMED(Terms) *restrict of = (const NAMED(Terms) *)terms;
    (void)past_caches, (void)ahead;
    for (Index row = 0; row < rows; row++) {
        const T *restrict x = (const T *)from + row * pitch;
        const T *restrict dout = (const T *)douts + row * pitch;
        T *restrict out = (T *)to + row * to_pitch;
        for (Index i = 0; i < columns; i++)
            out[i] = of->by_dout[i] *
                     (dout[i] + ((x[i] - of->center[i]) * of->by_x[i] + of->constant[i]));
    }
}

static const Normalizations NAMED(normalizations) = {
    {NAMED(add_moments), NAMED(add_products), NAMED(normalize), NAMED(gradient)},
    {NAMED(add_column_moments), NAMED(add_column_products), NAMED(normalize_columns),
     NAMED(gradient_of_columns)},
    sizeof(NAMED(Terms)),
    NAMED(set_terms),
    NAMED(center_of),
};

#endif
