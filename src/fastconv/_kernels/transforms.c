/* Winograd's transforms for windows of 3x3 taps, with one source for every vector width and type.
 *
 * A tile of m x m outputs depends on (m+2) x (m+2) pixels d. With a filter g,
 *
 *     outputs = A' [(G g G') * (B' d B)] A        (* is the elementwise product, ' the transpose)
 *
 * The matrices follow from m + 1 points p and one at infinity (Toom and Cook's interpolation of
 * polynomials; A. Lavin and S. Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR
 * 2016). Row j of G is (1, p, p^2) / N, where p is point j and N is the product of its distances to
 * the other points. Row j of B' contains the coefficients of the polynomial that is zero at all
 * other points. Column j of A' is (1, p, p^2, ...). The last rows and columns belong to the point
 * at infinity.
 *
 * a. For m = 2 the points are 0, 1, -1. This is about as exact as the direct sum. G is doubled and
 *    the outputs are divided by 4, because with halves in G products of the smallest numbers would
 *    vanish.
 * b. For m = 4 the points are 0, 3/4, -3/4, 3/2, -3/2. The error is half of that with 0, 1, -1, 2,
 *    -2.
 * c. For pixels and outputs, lanes are neighbouring tiles of a row. Shuffles de-interleave pixels
 *    when they are loaded and interleave outputs when they are stored. For filters, lanes are
 *    filters, which are transformed in float64 and rounded once.
 * d. The gradient of the filter follows from the gradient e of the outputs by the transposed map:
 *
 *        G' [sum over all tiles of (A e A') * (B' d B)] G
 *
 *    Its lanes are planes (filters of e, channels of d), so nothing is de-interleaved.
 */
#ifndef T

#include "transforms.h"

#include "vectors.h"

/* The points of b., their squares, and their 1 / N. */
#define NEAR 0.75
#define FAR 1.5
#define NEAR_2 (NEAR * NEAR)
#define FAR_2 (FAR * FAR)
#define AT_0 (1 / (NEAR_2 * FAR_2))
#define AT_NEAR (1 / (2 * NEAR_2 * (NEAR_2 - FAR_2)))
#define AT_FAR (1 / (2 * FAR_2 * (FAR_2 - NEAR_2)))

#define TEMPLATE "transforms.c"
#include "number.h"

#else /* the template */

/* This vector of T has as many lanes as Vec_double, to which it is converted. */
typedef T NAMED(Half)
    __attribute__((vector_size(VECTOR_BYTES / 8 * sizeof(T)), aligned(sizeof(T)), may_alias));

/* Set to[j] = from[j], from[j + M], from[j + 2*M] ..., which is column j of the tiles' pixels. */
ALWAYS_INLINE void NAMED(deinterleave)(NAMED(Vec) *to, const T *from, const int M) {
    typedef NAMED(Vec) Vec;
    typedef NAMED(Loose) Loose;
    UNROLL for (int first = 0; first < M + 2; first += M) {
        Vec pixels[LARGEST_TILE];
        UNROLL for (int i = 0; i < M; i++)
            pixels[i] = *(const Loose *)(from + first + i * LANES);
        Vec even = SHUFFLE(pixels[0], pixels[1], EVEN), odd = SHUFFLE(pixels[0], pixels[1], ODD);
        if (M == 2) {
            to[first] = even, to[first + 1] = odd;
        } else {
            Vec even_2 = SHUFFLE(pixels[2], pixels[3], EVEN);
            Vec odd_2 = SHUFFLE(pixels[2], pixels[3], ODD);
            to[first] = SHUFFLE(even, even_2, EVEN);
            to[first + 1] = SHUFFLE(odd, odd_2, EVEN);
            if (first == 0) {
                to[2] = SHUFFLE(even, even_2, ODD);
                to[3] = SHUFFLE(odd, odd_2, ODD);
            }
        }
    }
}

/* Set v = B' v. */
ALWAYS_INLINE void NAMED(transform_pixels)(NAMED(Vec) *v, const int M) {
    typedef NAMED(Vec) Vec;
    if (M == 2) {
        Vec sum = v[1] + v[2], difference = v[2] - v[1];
        v[0] -= v[2];
        v[3] = v[1] - v[3];
        v[1] = sum, v[2] = difference;
    } else {
        const T near = (T)NEAR, far = (T)FAR, near_2 = (T)NEAR_2, far_2 = (T)FAR_2;
        Vec even_near = v[4] - far_2 * v[2], odd_near = v[3] - far_2 * v[1];
        Vec even_far = v[4] - near_2 * v[2], odd_far = v[3] - near_2 * v[1];
        v[0] = near_2 * (far_2 * v[0] - v[2]) + even_near;
        v[5] = near_2 * (far_2 * v[1] - v[3]) + (v[5] - far_2 * v[3]);
        v[1] = even_near + near * odd_near, v[2] = even_near - near * odd_near;
        v[3] = even_far + far * odd_far, v[4] = even_far - far * odd_far;
    }
}

ALWAYS_INLINE void NAMED(pixels_of)(T *restrict to, Index position_stride, const T *restrict from,
                                    Index pitch, Index tiles, const int M) {
    typedef NAMED(Vec) Vec;
    for (Index t = 0; t < tiles; t += LANES) {
        Vec rows[MOST_POSITIONS][MOST_POSITIONS], column[MOST_POSITIONS];
        UNROLL for (int i = 0; i < M + 2; i++) {
            NAMED(deinterleave)(rows[i], from + i * pitch + t * M, M);
            NAMED(transform_pixels)(rows[i], M);
        }
        UNROLL for (int j = 0; j < M + 2; j++) {
            UNROLL for (int i = 0; i < M + 2; i++) column[i] = rows[i][j];
            NAMED(transform_pixels)(column, M);
            UNROLL for (int i = 0; i < M + 2; i++)
                *(NAMED(Loose) *)(to + (i * (M + 2) + j) * position_stride + t) = column[i];
        }
    }
}

/* Set v = G g. */
ALWAYS_INLINE void NAMED(transform_filters)(Vec_double *v, const Vec_double *g, const int M) {
    if (M == 2) {
        Vec_double outer = g[0] + g[2];
        v[0] = 2 * g[0], v[3] = 2 * g[2];
        v[1] = outer + g[1], v[2] = outer - g[1];
    } else {
        Vec_double near = AT_NEAR * (g[0] + NEAR_2 * g[2]), far = AT_FAR * (g[0] + FAR_2 * g[2]);
        v[0] = AT_0 * g[0];
        v[1] = near + AT_NEAR * NEAR * g[1], v[2] = near - AT_NEAR * NEAR * g[1];
        v[3] = far + AT_FAR * FAR * g[1], v[4] = far - AT_FAR * FAR * g[1];
        v[5] = g[2];
    }
}

ALWAYS_INLINE void NAMED(filters_of)(T *restrict to, Index position_stride, const T *restrict from,
                                     Index lanes, const int M) {
    typedef NAMED(Half) Half;
    for (Index f = 0; f < lanes; f += VECTOR_BYTES / 8) {
        Vec_double rows[WINOGRAD_TAPS][MOST_POSITIONS], column[WINOGRAD_TAPS];
        Vec_double positions[MOST_POSITIONS];
        UNROLL for (int i = 0; i < WINOGRAD_TAPS; i++) {
            UNROLL for (int j = 0; j < WINOGRAD_TAPS; j++)
                column[j] = __builtin_convertvector(
                    *(const Half *)(from + (i * WINOGRAD_TAPS + j) * lanes + f), Vec_double);
            NAMED(transform_filters)(rows[i], column, M);
        }
        UNROLL for (int j = 0; j < M + 2; j++) {
            UNROLL for (int i = 0; i < WINOGRAD_TAPS; i++) column[i] = rows[i][j];
            NAMED(transform_filters)(positions, column, M);
            UNROLL for (int i = 0; i < M + 2; i++)
                *(Half *)(to + (i * (M + 2) + j) * position_stride + f) =
                    __builtin_convertvector(positions[i], Half);
        }
    }
}

/* Set v = A' v. */
ALWAYS_INLINE void NAMED(transform_outputs)(NAMED(Vec) *v, const int M) {
    typedef NAMED(Vec) Vec;
    Vec sum = v[1] + v[2], difference = v[1] - v[2];
    if (M == 2) {
        v[0] += sum;
        v[1] = difference - v[3];
    } else {
        const T near = (T)NEAR, far = (T)FAR, near_2 = (T)NEAR_2, far_2 = (T)FAR_2;
        Vec far_sum = v[3] + v[4], far_difference = v[3] - v[4];
        v[0] = v[0] + sum + far_sum;
        v[1] = near * difference + far * far_difference;
        v[2] = near_2 * sum + far_2 * far_sum;
        v[3] = near_2 * near * difference + far_2 * far * far_difference + v[5];
    }
}

ALWAYS_INLINE void NAMED(outputs_of)(T *restrict to, Index pitch, const T *restrict from,
                                     Index position_stride, Index vectors, T start,
                                     NAMED(Vec) *restrict bad, const int M) {
    typedef NAMED(Vec) Vec;
    typedef NAMED(Loose) Loose;
    for (Index i = 0; i < vectors; i++) {
        Vec columns[MOST_POSITIONS][MOST_POSITIONS], row[MOST_POSITIONS];
        UNROLL for (int x = 0; x < M + 2; x++) {
            UNROLL for (int y = 0; y < M + 2; y++)
                columns[x][y] = *(const Vec *)(from + (y * (M + 2) + x) * position_stride + i * LANES);
            NAMED(transform_outputs)(columns[x], M);
        }
        UNROLL for (int y = 0; y < M; y++) {
            T *line = to + y * pitch + i * M * LANES;
            UNROLL for (int x = 0; x < M + 2; x++) row[x] = columns[x][y];
            NAMED(transform_outputs)(row, M);
            UNROLL for (int x = 0; x < M; x++) {
                row[x] = start + (M == 2 ? (T)0.25 : (T)1) * row[x];
                bad[i] += (T)0 * row[x];
            }
            if (M == 4) {
                Vec even = SHUFFLE(row[0], row[2], ZIP_FIRST);
                Vec even_2 = SHUFFLE(row[0], row[2], ZIP_SECOND);
                Vec odd = SHUFFLE(row[1], row[3], ZIP_FIRST);
                Vec odd_2 = SHUFFLE(row[1], row[3], ZIP_SECOND);
                *(Loose *)(line + 2 * LANES) = SHUFFLE(even_2, odd_2, ZIP_FIRST);
                *(Loose *)(line + 3 * LANES) = SHUFFLE(even_2, odd_2, ZIP_SECOND);
                row[0] = even, row[1] = odd;
            }
            *(Loose *)line = SHUFFLE(row[0], row[1], ZIP_FIRST);
            *(Loose *)(line + LANES) = SHUFFLE(row[0], row[1], ZIP_SECOND);
        }
    }
}

ALWAYS_INLINE void NAMED(plane_pixels_of)(T *restrict to, Index pitch, Index position_stride,
                                          const void *const *rows, Index tiles,
                                          const int M) {
    typedef NAMED(Vec) Vec;
    const Vec *pixels[MOST_POSITIONS];
    Vec columns[MOST_POSITIONS][MOST_POSITIONS], line[MOST_POSITIONS];
    UNROLL for (int y = 0; y < M + 2; y++) pixels[y] = (const Vec *)rows[y];
    UNROLL for (int x = 0; x < 2; x++) { /* Neighbouring tiles share two columns. */
        UNROLL for (int y = 0; y < M + 2; y++) columns[M + x][y] = pixels[y][x];
        NAMED(transform_pixels)(columns[M + x], M);
    }
    for (Index t = 0; t < tiles; t++, to += pitch) {
        UNROLL for (int x = 0; x < M + 2; x++) {
            UNROLL for (int y = 0; y < M + 2; y++)
                columns[x][y] = x < 2 ? columns[M + x][y] : pixels[y][t * M + x];
            if (x >= 2) NAMED(transform_pixels)(columns[x], M);
        }
        UNROLL for (int y = 0; y < M + 2; y++) {
            UNROLL for (int x = 0; x < M + 2; x++) line[x] = columns[x][y];
            NAMED(transform_pixels)(line, M);
            UNROLL for (int x = 0; x < M + 2; x++)
                *(Vec *)(to + (y * (M + 2) + x) * position_stride) = line[x];
        }
    }
}

/* Set v = A v. */
ALWAYS_INLINE void NAMED(transform_grads)(NAMED(Vec) *v, const int M) {
    typedef NAMED(Vec) Vec;
    if (M == 2) {
        Vec last = v[1];
        v[1] = v[0] + last, v[2] = v[0] - last;
        v[3] = -last;
    } else {
        const T near = (T)NEAR, far = (T)FAR, near_2 = (T)NEAR_2, far_2 = (T)FAR_2;
        Vec even_near = v[0] + near_2 * v[2], odd_near = near * (v[1] + near_2 * v[3]);
        Vec even_far = v[0] + far_2 * v[2], odd_far = far * (v[1] + far_2 * v[3]);
        v[5] = v[3];
        v[1] = even_near + odd_near, v[2] = even_near - odd_near;
        v[3] = even_far + odd_far, v[4] = even_far - odd_far;
    }
}

ALWAYS_INLINE void NAMED(plane_grads_of)(T *restrict to, Index pitch, Index position_stride,
                                         const void *const *rows, Index tiles,
                                         const int M) {
    typedef NAMED(Vec) Vec;
    const Vec *grads[LARGEST_TILE];
    UNROLL for (int y = 0; y < M; y++) grads[y] = (const Vec *)rows[y];
    for (Index t = 0; t < tiles; t++, to += pitch) {
        Vec columns[LARGEST_TILE][MOST_POSITIONS], line[MOST_POSITIONS];
        UNROLL for (int x = 0; x < M; x++) {
            UNROLL for (int y = 0; y < M; y++) columns[x][y] = grads[y][t * M + x];
            NAMED(transform_grads)(columns[x], M);
        }
        UNROLL for (int y = 0; y < M + 2; y++) {
            UNROLL for (int x = 0; x < M; x++) line[x] = columns[x][y];
            NAMED(transform_grads)(line, M);
            UNROLL for (int x = 0; x < M + 2; x++)
                *(Vec *)(to + (y * (M + 2) + x) * position_stride) = line[x];
        }
    }
}

/* Set v = G' v. */
ALWAYS_INLINE void NAMED(transform_taps)(NAMED(Vec) *v, const int M) {
    typedef NAMED(Vec) Vec;
    Vec sum = v[1] + v[2], difference = v[1] - v[2];
    if (M == 2) {
        v[0] = 2 * v[0] + sum;
        v[1] = difference;
        v[2] = sum + 2 * v[3];
    } else {
        const T at_0 = (T)AT_0, at_near = (T)AT_NEAR, at_far = (T)AT_FAR;
        const T near = (T)NEAR, far = (T)FAR, near_2 = (T)NEAR_2, far_2 = (T)FAR_2;
        Vec near_sum = at_near * sum, far_sum = at_far * (v[3] + v[4]);
        v[0] = at_0 * v[0] + (near_sum + far_sum);
        v[1] = at_near * near * difference + at_far * far * (v[3] - v[4]);
        v[2] = (near_2 * near_sum + far_2 * far_sum) + v[5];
    }
}

ALWAYS_INLINE void NAMED(taps_of)(T *restrict to, const T *restrict from, Index position_stride, Index count,
                                  Index vectors, NAMED(Vec) *restrict bad, const int M) {
    typedef NAMED(Vec) Vec;
    for (Index i = 0; i < count * vectors; i++) {
        Vec columns[MOST_POSITIONS][MOST_POSITIONS], row[MOST_POSITIONS];
        Vec *taps = (Vec *)to + i / vectors * (WINOGRAD_TAPS * WINOGRAD_TAPS * vectors) + i % vectors;
        UNROLL for (int x = 0; x < M + 2; x++) {
            UNROLL for (int y = 0; y < M + 2; y++)
                columns[x][y] = *(const Vec *)(from + (y * (M + 2) + x) * position_stride + i * LANES);
            NAMED(transform_taps)(columns[x], M);
        }
        UNROLL for (int y = 0; y < WINOGRAD_TAPS; y++) {
            UNROLL for (int x = 0; x < M + 2; x++) row[x] = columns[x][y];
            NAMED(transform_taps)(row, M);
            UNROLL for (int x = 0; x < WINOGRAD_TAPS; x++, taps += vectors) {
                *taps = (M == 2 ? (T)0.25 : (T)1) * row[x];
                *bad += (T)0 * *taps;
            }
        }
    }
}

#define DEFINE(M)                                                                               \
    static void NAMED(pixels_##M)(void *to, Index position_stride, const void *from, Index pitch,          \
                                  Index tiles) {                                                \
        NAMED(pixels_of)((T *)to, position_stride, (const T *)from, pitch, tiles, M);                      \
    }                                                                                           \
    static void NAMED(filters_##M)(void *to, Index position_stride, const void *from, Index lanes) {       \
        NAMED(filters_of)((T *)to, position_stride, (const T *)from, lanes, M);                            \
    }                                                                                           \
    static void NAMED(outputs_##M)(void *to, Index pitch, const void *from, Index position_stride,         \
                                   Index vectors, const void *start, void *bad) {               \
        NAMED(outputs_of)((T *)to, pitch, (const T *)from, position_stride, vectors, *(const T *)start,    \
                          (NAMED(Vec) *)bad, M);                                                \
    }                                                                                           \
    static void NAMED(plane_pixels_##M)(void *to, Index pitch, Index position_stride,                      \
                                        const void *const *rows, Index tiles) {                 \
        NAMED(plane_pixels_of)((T *)to, pitch, position_stride, rows, tiles, M);                           \
    }                                                                                           \
    static void NAMED(plane_grads_##M)(void *to, Index pitch, Index position_stride,                       \
                                       const void *const *rows, Index tiles) {                  \
        NAMED(plane_grads_of)((T *)to, pitch, position_stride, rows, tiles, M);                            \
    }                                                                                           \
    static void NAMED(taps_##M)(void *to, const void *from, Index position_stride, Index count,            \
                                Index vectors, void *bad) {                                     \
        NAMED(taps_of)((T *)to, (const T *)from, position_stride, count, vectors, (NAMED(Vec) *)bad, M);   \
    }                                                                                           \
    static const Transforms NAMED(transforms_##M) = {                                           \
        NAMED(pixels_##M),       NAMED(filters_##M),     NAMED(outputs_##M),                    \
        NAMED(plane_pixels_##M), NAMED(plane_grads_##M), NAMED(taps_##M)};
DEFINE(2)
DEFINE(4)
#undef DEFINE

#endif
