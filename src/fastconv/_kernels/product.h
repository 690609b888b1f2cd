/* The product of one row and a matrix, which is read once, where it lies; product.pyx has the rest.
 *
 *     to[c] += sum over k of x[k] * matrix[k, c], for LANES or more columns c at a time
 *
 * Both functions add the same terms in the same order, which is that of tile.h's `multiply`: one
 * after the other, and a new sum every THIN_TERMS. So a row's result does not depend on the layout
 * of the matrix, nor on whether other rows are multiplied with it.
 *
 * a. `by_rows`: the matrix's rows are contiguous. THIN_ROWS of them at a time are added to sums in
 *    L1, which are read and written THIN_ROWS times less often than the matrix is.
 * b. `by_columns`: its columns are contiguous. Squares of it are transposed in registers.
 */
#ifndef T
#ifndef FASTCONV_PRODUCT_H
#define FASTCONV_PRODUCT_H

#include <string.h>

#include "tile.h"
#include "window.h"

enum {
    THIN_ROWS = 8,
    THIN_TERMS = 256,
};

/* `sums` has room for the columns and two vectors more. */
typedef void Combine(void *to, void *sums, const void *x, const void *matrix, Index pitch,
                     Index terms, Index columns);

typedef struct {
    Combine *by_rows;    /* matrix[k, c] lies at k*pitch + c */
    Combine *by_columns; /* matrix[k, c] lies at c*pitch + k */
} Thin;

#define TEMPLATE "product.h"
#include "vectors.h"

static const Thin *thin_of(Index bytes) { return bytes == 4 ? &thin_float : &thin_double; }

#endif
#else /* the template */

/* sums[c] += the terms of R rows. What is left of the columns behind whole vectors is a vector that
 * ends with them; its sums lie behind those of the whole vectors. */
ALWAYS_INLINE void NAMED(add_rows)(T *restrict sums, const T *restrict x, const T *restrict matrix,
                                   Index pitch, Index columns, const int R) {
    Index c = 0;
    if (columns < LANES) {
        for (; c < columns; c++)
            UNROLL for (int r = 0; r < R; r++) sums[c] += matrix[r * pitch + c] * x[r];
        return;
    }
    for (; c < columns; c += LANES) {
        Index from = smaller(c, columns - LANES);
        NAMED(Vec) sum = *(NAMED(Loose) *)(sums + c);
        UNROLL for (int r = 0; r < R; r++)
            sum += *(const NAMED(Loose) *)(matrix + r * pitch + from) * x[r];
        *(NAMED(Loose) *)(sums + c) = sum;
    }
}

static void NAMED(by_rows)(void *to, void *sums, const void *x, const void *matrix, Index pitch,
                           Index terms, Index columns) {
    const T *row = (const T *)matrix, *factor = (const T *)x;
    T *restrict total = (T *)to, *restrict sum = (T *)sums;
    Index whole = columns < LANES ? columns : columns / LANES * LANES;
    Index rest = columns - whole;
    while (terms > 0) {
        Index block = smaller(THIN_TERMS, terms), k = 0;
        memset(sum, 0, (size_t)(whole + LANES) * sizeof(T));
        for (; k + THIN_ROWS <= block; k += THIN_ROWS)
            NAMED(add_rows)(sum, factor + k, row + k * pitch, pitch, columns, THIN_ROWS);
        for (; k < block; k++) NAMED(add_rows)(sum, factor + k, row + k * pitch, pitch, columns, 1);
        for (Index c = 0; c < whole; c++) total[c] += sum[c];
        for (Index c = 0; c < rest; c++) total[whole + c] += sum[whole + LANES - rest + c];
        row += block * pitch;
        factor += block;
        terms -= block;
    }
}

/* rows[i] = the terms k to k + count of column i; zero in what is beyond `columns` and `count`. */
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

static void NAMED(by_columns)(void *to, void *sums, const void *x, const void *matrix, Index pitch,
                              Index terms, Index columns) {
    for (Index c = 0; c < columns; c += LANES) {
        const T *from = (const T *)matrix + c * pitch;
        size_t bytes = (size_t)smaller(columns - c, LANES) * sizeof(T);
        NAMED(Vec) total = {0};
        memcpy(&total, (T *)to + c, bytes);
        for (Index first = 0; first < terms; first += THIN_TERMS) {
            const T *factor = (const T *)x + first;
            Index block = smaller(THIN_TERMS, terms - first), k = 0;
            NAMED(Vec) rows[LANES], sum = {0};
            for (; k + LANES <= block; k += LANES) {
                NAMED(load_square)(rows, from + first + k, pitch, columns - c, LANES);
                NAMED(transpose)(rows);
                UNROLL for (int i = 0; i < LANES; i++) sum += rows[i] * factor[k + i];
            }
            if (k < block) {
                NAMED(load_square)(rows, from + first + k, pitch, columns - c, block - k);
                NAMED(transpose)(rows);
                for (Index i = 0; k + i < block; i++) sum += rows[i] * factor[k + i];
            }
            total += sum;
        }
        memcpy((T *)to + c, &total, bytes);
    }
    (void)sums;
}

static const Thin NAMED(thin) = {NAMED(by_rows), NAMED(by_columns)};

#endif
