/* The product of few rows and a matrix, which is read only once and in place. product.pyx has the
 * rest.
 *
 *     to[r, c] += sum over k of x[r, k] * matrix[k, c]
 *
 * Both functions add the same terms in the same order as `multiply` in tile.c: one after the other,
 * with a new sum every THIN_TERMS. So the result of a row depends neither on the layout of the
 * matrix nor on the other rows that are multiplied with it.
 *
 * a. `by_rows` is for a matrix with contiguous rows. AT_ONCE rows at a time are multiplied and
 *    added to sums in L1. So the sums are read and written once for every AT_ONCE rows of the
 *    matrix.
 * b. `by_columns` is for a matrix with contiguous columns. It transposes squares of the matrix in
 *    registers.
 */
#ifndef T
#ifndef FASTCONV_PRODUCT_H
#define FASTCONV_PRODUCT_H

#include <string.h>

#include "vectors.h"
#include "window.h"

enum {
    THIN_ROWS = 4,    /* x has at most this many rows. */
    AT_ONCE = 8,      /* This many rows of the matrix are multiplied together. */
    THIN_TERMS = 256, /* This many terms are added up before they are added to the result. */
};

typedef struct {
    Index rows, terms, columns;
    const void *x[THIN_ROWS]; /* Each row is contiguous. */
    const void *matrix;
    Index pitch; /* matrix[k, c] lies at k*pitch + c (by_rows) or at c*pitch + k (by_columns). */
    void *to;
    Index to_pitch; /* to[r, c] lies at r*to_pitch + c. */
    void *sums;     /* For each row, this has room for the columns and two more vectors. */
} Strip;

typedef struct {
    void (*by_rows)(const Strip *strip);
    void (*by_columns)(const Strip *strip);
} Thin;

#define TEMPLATE "transpose.h"
#include "number.h"
#define TEMPLATE "product.h"
#include "number.h"

static inline const Thin *thin_of(Number number) {
    static const Thin *const table[NUMBERS] = {[FLOAT32] = &thin_float, [FLOAT64] = &thin_double};
    return table[number];
}

#endif
#else /* the template */

/* Add the terms k to k + K to sums[r*room + c]. The last vector of columns overlaps the one
 * before it, so its sums have a separate place, after those of the whole vectors. */
ALWAYS_INLINE void NAMED(add_terms)(const Strip *strip, Index room, Index k, const int K,
                                    const int R) {
    typedef NAMED(Vec) Vec;
    typedef NAMED(Loose) Loose;
    T *restrict sums = (T *)strip->sums;
    const T *restrict matrix = (const T *)strip->matrix + k * strip->pitch;
    Index columns = strip->columns, pitch = strip->pitch;
    const T *x[THIN_ROWS];
    UNROLL for (int r = 0; r < R; r++) x[r] = (const T *)strip->x[r] + k;
    for (Index c = 0; columns < LANES && c < columns; c++)
        UNROLL for (int r = 0; r < R; r++)
            UNROLL for (int i = 0; i < K; i++)
                sums[r * room + c] += matrix[i * pitch + c] * x[r][i];
    for (Index c = 0; columns >= LANES && c < columns; c += LANES) {
        Index from = smaller(c, columns - LANES);
        Vec rows[AT_ONCE];
        UNROLL for (int i = 0; i < K; i++) rows[i] = *(const Loose *)(matrix + i * pitch + from);
        UNROLL for (int r = 0; r < R; r++) {
            Vec sum = *(Loose *)(sums + r * room + c);
            UNROLL for (int i = 0; i < K; i++) sum += rows[i] * x[r][i];
            *(Loose *)(sums + r * room + c) = sum;
        }
    }
}

ALWAYS_INLINE void NAMED(by_rows_of)(const Strip *strip, const int R) {
    Index columns = strip->columns;
    Index whole = columns < LANES ? columns : columns / LANES * LANES, rest = columns - whole;
    Index room = whole + LANES;
    for (Index k = 0, end; k < strip->terms; k = end) {
        end = smaller(k + THIN_TERMS, strip->terms);
        memset(strip->sums, 0, (size_t)(R * room) * sizeof(T));
        for (; k + AT_ONCE <= end; k += AT_ONCE) NAMED(add_terms)(strip, room, k, AT_ONCE, R);
        for (; k < end; k++) NAMED(add_terms)(strip, room, k, 1, R);
        for (int r = 0; r < R; r++) {
            T *restrict to = (T *)strip->to + r * strip->to_pitch;
            const T *restrict sums = (const T *)strip->sums + r * room;
            for (Index c = 0; c < whole; c++) to[c] += sums[c];
            for (Index c = 0; c < rest; c++) to[whole + c] += sums[room - rest + c];
        }
    }
}

/* Set rows[i] to `count` terms of column i, and to zero beyond `columns` and `count`. */
ALWAYS_INLINE void NAMED(load_square)(NAMED(Vec) *rows, const T *matrix, Index pitch, Index columns,
                                      Index count) {
    if (columns >= LANES && count >= LANES) {
        UNROLL for (int i = 0; i < LANES; i++)
            rows[i] = *(const NAMED(Loose) *)(matrix + i * pitch);
        return;
    }
    memset(rows, 0, LANES * sizeof *rows);
    for (Index i = 0; i < smaller(columns, LANES); i++)
        memcpy(&rows[i], matrix + i * pitch, (size_t)smaller(count, LANES) * sizeof(T));
}

ALWAYS_INLINE void NAMED(by_columns_of)(const Strip *strip, const int R) {
    typedef NAMED(Vec) Vec;
    for (Index c = 0; c < strip->columns; c += LANES) {
        const T *matrix = (const T *)strip->matrix + c * strip->pitch;
        T *to = (T *)strip->to + c;
        Index columns = strip->columns - c;
        size_t bytes = (size_t)smaller(columns, LANES) * sizeof(T);
        Vec total[THIN_ROWS] = {{0}};
        UNROLL for (int r = 0; r < R; r++) memcpy(&total[r], to + r * strip->to_pitch, bytes);
        for (Index k = 0, end; k < strip->terms; k = end) {
            Vec rows[LANES], sums[THIN_ROWS] = {{0}};
            end = smaller(k + THIN_TERMS, strip->terms);
            for (; k + LANES <= end; k += LANES) {
                NAMED(load_square)(rows, matrix + k, strip->pitch, columns, LANES);
                NAMED(transpose)(rows);
                UNROLL for (int r = 0; r < R; r++)
                    UNROLL for (int i = 0; i < LANES; i++)
                        sums[r] += rows[i] * ((const T *)strip->x[r])[k + i];
            }
            if (k < end) {
                NAMED(load_square)(rows, matrix + k, strip->pitch, columns, end - k);
                NAMED(transpose)(rows);
                for (int r = 0; r < R; r++)
                    for (Index i = 0; k + i < end; i++)
                        sums[r] += rows[i] * ((const T *)strip->x[r])[k + i];
            }
            UNROLL for (int r = 0; r < R; r++) total[r] += sums[r];
        }
        UNROLL for (int r = 0; r < R; r++) memcpy(to + r * strip->to_pitch, &total[r], bytes);
    }
}

#define FOR_EACH_NUMBER_OF_ROWS(name)                            \
    static void NAMED(name)(const Strip *strip) {                \
        switch (strip->rows) {                                   \
            case 1: NAMED(name##_of)(strip, 1); break;           \
            case 2: NAMED(name##_of)(strip, 2); break;           \
            case 3: NAMED(name##_of)(strip, 3); break;           \
            default: NAMED(name##_of)(strip, THIN_ROWS); break;  \
        }                                                        \
    }
FOR_EACH_NUMBER_OF_ROWS(by_rows)
FOR_EACH_NUMBER_OF_ROWS(by_columns)
#undef FOR_EACH_NUMBER_OF_ROWS

static const Thin NAMED(thin) = {NAMED(by_rows), NAMED(by_columns)};

#endif
