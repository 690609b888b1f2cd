/* Fast Fourier transforms of the columns of a matrix of complex numbers.
 *
 * Real and imaginary parts are two matrices of float64. Lanes are neighbouring columns, so that no
 * step moves numbers between lanes, and a block of columns stays in L1 for all steps. A forward
 * transform leaves its results in the order that its steps make (decimation in frequency), and the
 * inverse one begins with this order (decimation in time). So nothing is ever put in order: products
 * of two spectra do not need it. Steps have radix 4; a last one of radix 2 is there if the length is
 * no power of 4.
 *
 * J. W. Cooley and J. W. Tukey, "An algorithm for the machine calculation of complex Fourier
 * series", 1965.
 */
#ifndef FASTCONV_FOURIER_H
#define FASTCONV_FOURIER_H

#include <math.h>
#include <string.h>

#include "conversions.h"
#include "vectors.h"

#define TEMPLATE "transpose.h"
#include "number.h"

typedef Vec_double Vec;
typedef Loose_double Loose;
enum { COLUMNS = VECTOR_BYTES / sizeof(double) };

/* Some columns of a matrix, whose rows are `pitch` numbers apart. */
typedef struct {
    double *re, *im;
    Index pitch, rows;
} Columns;

typedef struct {
    Vec re, im;
} Complex;

#define COMPLEX_AT(columns, row)                              \
    ((Complex){*(Loose *)((columns)->re + (row) * (columns)->pitch), \
               *(Loose *)((columns)->im + (row) * (columns)->pitch)})

ALWAYS_INLINE void put(const Columns *columns, Index row, Complex x) {
    *(Loose *)(columns->re + row * columns->pitch) = x.re;
    *(Loose *)(columns->im + row * columns->pitch) = x.im;
}

ALWAYS_INLINE Complex sum(Complex a, Complex b) { return (Complex){a.re + b.re, a.im + b.im}; }
ALWAYS_INLINE Complex difference(Complex a, Complex b) {
    return (Complex){a.re - b.re, a.im - b.im};
}
ALWAYS_INLINE Complex product(Complex a, Complex b) {
    return (Complex){a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}

/* Return exp(sign * 2 pi i * index / n), where `roots` has n cosines and then n sines. */
ALWAYS_INLINE Complex root(const double *roots, Index n, Index index, double sign) {
    return (Complex){roots[index] - (Vec){0}, sign * roots[n + index] - (Vec){0}};
}

/* Combine rows first + k, first + k + quarter, ... of parts of 4 * quarter rows. */
ALWAYS_INLINE void forward_four(const Columns *x, Index quarter, const double *roots, Index k) {
    Index n = x->rows, spacing = n / (4 * quarter);
    Complex w1 = root(roots, n, k * spacing, -1), w2 = root(roots, n, 2 * k * spacing, -1),
            w3 = root(roots, n, 3 * k * spacing, -1);
    for (Index row = k; row < n; row += 4 * quarter) {
        Complex a = COMPLEX_AT(x, row), b = COMPLEX_AT(x, row + quarter),
                c = COMPLEX_AT(x, row + 2 * quarter), d = COMPLEX_AT(x, row + 3 * quarter);
        Complex s = sum(a, c), t = difference(a, c), u = sum(b, d), v = difference(b, d);
        Complex turned = {v.im, -v.re};
        put(x, row, sum(s, u));
        put(x, row + quarter, product(sum(t, turned), w1));
        put(x, row + 2 * quarter, product(difference(s, u), w2));
        put(x, row + 3 * quarter, product(difference(t, turned), w3));
    }
}

ALWAYS_INLINE void inverse_four(const Columns *x, Index quarter, const double *roots, Index k) {
    Index n = x->rows, spacing = n / (4 * quarter);
    Complex w1 = root(roots, n, k * spacing, 1), w2 = root(roots, n, 2 * k * spacing, 1),
            w3 = root(roots, n, 3 * k * spacing, 1);
    for (Index row = k; row < n; row += 4 * quarter) {
        Complex a = COMPLEX_AT(x, row), b = product(COMPLEX_AT(x, row + quarter), w1),
                c = product(COMPLEX_AT(x, row + 2 * quarter), w2),
                d = product(COMPLEX_AT(x, row + 3 * quarter), w3);
        Complex s = sum(a, c), t = difference(a, c), u = sum(b, d), v = difference(b, d);
        Complex turned = {-v.im, v.re};
        put(x, row, sum(s, u));
        put(x, row + quarter, sum(t, turned));
        put(x, row + 2 * quarter, difference(s, u));
        put(x, row + 3 * quarter, difference(t, turned));
    }
}

ALWAYS_INLINE void combine_two(const Columns *x) {
    for (Index row = 0; row < x->rows; row += 2) {
        Complex a = COMPLEX_AT(x, row), b = COMPLEX_AT(x, row + 1);
        put(x, row, sum(a, b));
        put(x, row + 1, difference(a, b));
    }
}

/* Transform `count` columns. Columns up to the next multiple of a vector's lanes are changed, too. */
static void transform_columns(double *re, double *im, Index rows, Index pitch, Index count,
                              const double *roots) {
    for (Index column = 0; column < count; column += COLUMNS) {
        Columns x = {re + column, im + column, pitch, rows};
        Index quarter = rows / 4;
        for (; quarter >= 1; quarter /= 4)
            for (Index k = 0; k < quarter; k++) forward_four(&x, quarter, roots, k);
        if (rows > 1 && (rows & 0x55555555) == 0) combine_two(&x);
    }
}

/* Undo transform_columns, but for a factor of `rows`. */
static void invert_columns(double *re, double *im, Index rows, Index pitch, Index count,
                           const double *roots) {
    int has_two = rows > 1 && (rows & 0x55555555) == 0;
    for (Index column = 0; column < count; column += COLUMNS) {
        Columns x = {re + column, im + column, pitch, rows};
        if (has_two) combine_two(&x);
        for (Index quarter = has_two ? 2 : 1; quarter <= rows / 4; quarter *= 4)
            for (Index k = 0; k < quarter; k++) inverse_four(&x, quarter, roots, k);
    }
}

/* Write the transpose of a matrix whose dimensions are multiples of a vector's lanes. */
static void transpose_matrix(double *to, Index to_pitch, const double *from, Index pitch,
                             Index rows, Index columns) {
    Vec square[COLUMNS];
    for (Index r = 0; r < rows; r += COLUMNS)
        for (Index c = 0; c < columns; c += COLUMNS) {
    UNROLL for (int i = 0; i < COLUMNS; i++)
                square[i] = *(const Loose *)(from + (r + i) * pitch + c);
            transpose_double(square);
            UNROLL for (int i = 0; i < COLUMNS; i++)
                *(Loose *)(to + (c + i) * to_pitch + r) = square[i];
        }
}

/* Multiply a spectrum by another, whose rows are contiguous; the result is set, or added to. */
static void multiply_spectra(double *to_re, double *to_im, const double *re, const double *im,
                             Index pitch, const double *by_re, const double *by_im, Index rows,
                             Index columns, int adds) {
    for (Index r = 0; r < rows; r++)
        for (Index c = 0; c < columns; c += COLUMNS) {
            Index i = r * pitch + c, j = r * columns + c;
            Complex x = {*(const Loose *)(re + i), *(const Loose *)(im + i)};
            Complex w = {*(const Loose *)(by_re + j), *(const Loose *)(by_im + j)};
            Complex y = product(x, w);
            if (adds) y = sum(y, (Complex){*(const Loose *)(to_re + i), *(const Loose *)(to_im + i)});
            *(Loose *)(to_re + i) = y.re;
            *(Loose *)(to_im + i) = y.im;
        }
}

/* Whether all numbers of a row are finite and of moderate size. */
static int is_moderate(const double *row, Index count, double limit) {
    int outside = 0;
    for (Index i = 0; i < count; i++) outside |= !(fabs(row[i]) < limit);
    return !outside;
}

static void round_row(double *row, Index count) {
    for (Index i = 0; i < count; i++) row[i] = rint(row[i]);
}

/* Return the place of the first number from `first` on that is within `bound` of an integer but 0, or
 * `count`. */
static Index find_near_integer(const double *row, Index first, Index count, double bound) {
    for (; first < count; first += COLUMNS) {
        Index end = smaller(first + COLUMNS, count);
        int near = 0;
        for (Index i = first; i < end; i++)
            near |= (fabs(row[i] - rint(row[i])) <= bound) & (fabs(row[i]) > 0.5);
        if (!near) continue;
        for (Index i = first; i < end; i++)
            if (fabs(row[i] - rint(row[i])) <= bound && fabs(row[i]) > 0.5) return i;
    }
    return count;
}

/* Add products one after the other to a sum, each product and each sum rounded, as SciPy does. */
static double add_in_order(double sum, const double *x, const double *w, Index count) {
    for (Index i = 0; i < count; i++) {
        double product = x[i] * w[i];
        HIDE(product);
        sum += product;
    }
    return sum;
}

#endif
