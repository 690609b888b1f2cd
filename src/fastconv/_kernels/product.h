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
} ThinProduct;

typedef struct {
    void (*by_rows)(const ThinProduct *product);
    void (*by_columns)(const ThinProduct *product);
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
ALWAYS_INLINE void NAMED(add_terms)(const ThinProduct *product, Index room, Index k, const int K,
                                    const int R) {
    typedef NAMED(Vec) Vec;
    typedef NAMED(Loose) Loose;
    T *restrict sums = (T *)product->sums;
    const T *restrict matrix = (const T *)product->matrix + k * product->pitch;
    Index columns = product->columns, pitch = product->pitch;
    const T *x[THIN_ROWS];
    UNROLL for (int r = 0; r < R; r++) x[r] = (const T *)product->x[r] + k;
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

ALWAYS_INLINE void NAMED(by_rows_of)(const ThinProduct *product, const int R) {
    Index columns = product->columns;
    Index whole = columns < LANES ? columns : columns / LANES * LANES, rest = columns - whole;
    Index room = whole + LANES;
    for (Index k = 0, end; k < product->terms; k = end) {
        end = smaller(k + THIN_TERMS, product->terms);
        memset(product->sums, 0, (size_t)(R * room) * sizeof(T));
        for (; k + AT_ONCE <= end; k += AT_ONCE) NAMED(add_terms)(product, room, k, AT_ONCE, R);
        for (; k < end; k++) NAMED(add_terms)(product, room, k, 1, R);
        for (int r = 0; r < R; r++) {
            T *restrict to = (T *)product->to + r * product->to_pitch;
            const T *restrict sums = (const T *)product->sums + r * room;
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

ALWAYS_INLINE void NAMED(by_columns_of)(const ThinProduct *product, const int R) {
    typedef NAMED(Vec) Vec;
    for (Index c = 0; c < product->columns; c += LANES) {
        const T *matrix = (const T *)product->matrix + c * product->pitch;
        T *to = (T *)product->to + c;
        Index columns = product->columns - c;
        size_t bytes = (size_t)smaller(columns, LANES) * sizeof(T);
        Vec total[THIN_ROWS] = {{0}};
        UNROLL for (int r = 0; r < R; r++) memcpy(&total[r], to + r * product->to_pitch, bytes);
        for (Index k = 0, end; k < product->terms; k = end) {
            Vec rows[LANES], sums[THIN_ROWS] = {{0}};
            end = smaller(k + THIN_TERMS, product->terms);
            for (; k + LANES <= end; k += LANES) {
                NAMED(load_square)(rows, matrix + k, product->pitch, columns, LANES);
                NAMED(transpose)(rows);
                UNROLL for (int r = 0; r < R; r++)
                    UNROLL for (int i = 0; i < LANES; i++)
                        sums[r] += rows[i] * ((const T *)product->x[r])[k + i];
            }
            if (k < end) {
                NAMED(load_square)(rows, matrix + k, product->pitch, columns, end - k);
                NAMED(transpose)(rows);
                for (int r = 0; r < R; r++)
                    for (Index i = 0; k + i < end; i++)
                        sums[r] += rows[i] * ((const T *)product->x[r])[k + i];
            }
            UNROLL for (int r = 0; r < R; r++) total[r] += sums[r];
        }
        UNROLL for (int r = 0; r < R; r++) memcpy(to + r * product->to_pitch, &total[r], bytes);
    }
}

#define FOR_EACH_NUMBER_OF_ROWS(name)                             \
    static void NAMED(name)(const ThinProduct *product) {         \
        switch (product->rows) {                                  \
            case 1: NAMED(name##_of)(product, 1); break;          \
            case 2: NAMED(name##_of)(product, 2); break;          \
            case 3: NAMED(name##_of)(product, 3); break;          \
            default: NAMED(name##_of)(product, THIN_ROWS); break; \
        }                                                         \
    }
FOR_EACH_NUMBER_OF_ROWS(by_rows)
FOR_EACH_NUMBER_OF_ROWS(by_columns)
#undef FOR_EACH_NUMBER_OF_ROWS

static const Thin NAMED(thin) = {NAMED(by_rows), NAMED(by_columns)};

#endif
